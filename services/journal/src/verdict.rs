//! The stored form of a command's answer: small JSON.

use keywheel_core::decision::RejectionKind;
use keywheel_engine::port::journal::Verdict;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Stored {
    Accepted { number: u64 },
    Rejected { kind: Kind, text: String },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    NotFound,
    Conflict,
    Invalid,
}

/// Writes an answer.
pub(crate) fn encode(verdict: &Verdict) -> Result<String, serde_json::Error> {
    serde_json::to_string(&match verdict {
        Verdict::Accepted { number } => Stored::Accepted { number: *number },
        Verdict::Rejected { kind, text } => Stored::Rejected {
            kind: match kind {
                RejectionKind::NotFound => Kind::NotFound,
                RejectionKind::Conflict => Kind::Conflict,
                RejectionKind::Invalid => Kind::Invalid,
            },
            text: text.clone(),
        },
    })
}

/// Reads an answer back.
pub(crate) fn decode(text: &str) -> Result<Verdict, serde_json::Error> {
    Ok(match serde_json::from_str(text)? {
        Stored::Accepted { number } => Verdict::Accepted { number },
        Stored::Rejected { kind, text } => Verdict::Rejected {
            kind: match kind {
                Kind::NotFound => RejectionKind::NotFound,
                Kind::Conflict => RejectionKind::Conflict,
                Kind::Invalid => RejectionKind::Invalid,
            },
            text,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_back_and_what_is_none_is_refused() {
        let rejected = |kind| Verdict::Rejected {
            kind,
            text: "why \"so\"".to_owned(),
        };
        for verdict in [
            Verdict::Accepted { number: u64::MAX },
            rejected(RejectionKind::NotFound),
            rejected(RejectionKind::Conflict),
            rejected(RejectionKind::Invalid),
        ] {
            assert_eq!(decode(&encode(&verdict).unwrap()).unwrap(), verdict);
        }
        for bad in [
            "",
            "{}",
            r#"{"accepted":{}}"#,
            r#"{"accepted":{"number":1,"more":2}}"#,
        ] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }
}
