//! Which audit records are wanted: by who, what, when, container, decision, and the run that they belong to.

use keywheel_core::audit::{Outcome, Principal, Record};
use keywheel_core::id::{RevocationId, RotationId, RunId};
use keywheel_core::time::Timestamp;
use keywheel_engine::state::Committed;
use keywheel_engine::trace::Context;
use keywheel_schemas::subject::role_word;

use super::super::Failure;
use super::filter::read_time;

/// Longest word of a filter, in bytes.
const MAX_WORD_BYTES: usize = 512;
/// How a record begins to name the policies that forbade.
const FORBIDDEN: &str = "forbidden by ";
/// How it begins to name the set whose policies permitted.
const SET: &str = "policies version ";
/// How somebody's own words end that speak of policies where none decided.
const OWN_WORDS: &str = "(in their own words)";
/// Digits of a container's id that are enough.
const MIN_ID_DIGITS: usize = 12;

/// What is asked for, as it stands in a query; nothing asked for is everything.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// A name, a user id, a role, an address, or a person as policies name them.
    pub(super) who: Option<String>,
    /// A verb.
    pub(super) verb: Option<String>,
    /// An object, or the beginning of one up to a slash.
    pub(super) object: Option<String>,
    /// A container by name or id.
    pub(super) container: Option<String>,
    /// `allowed`, `denied`, `rejected` or `malformed`.
    pub(super) outcome: Option<String>,
    /// A policy by name.
    pub(super) policy: Option<String>,
    /// RFC 3339.
    pub(super) since: Option<String>,
    /// RFC 3339.
    pub(super) until: Option<String>,
    /// A rotation's id.
    pub(super) rotation: Option<String>,
    /// A revocation's id.
    pub(super) revocation: Option<String>,
    /// The id of a playbook's run.
    pub(super) run: Option<String>,
    /// A trace's id.
    pub(super) trace: Option<String>,
}

/// What is wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    who: Option<String>,
    verb: Option<String>,
    object: Option<String>,
    container: Option<String>,
    outcome: Option<Outcome>,
    policy: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// Each that is asked for.
    traces: Vec<String>,
}

impl Wanted {
    /// Reads the words; nothing when nothing is left out.
    pub(super) fn new(committed: &Committed, asked: Asked) -> Result<Option<Self>, Failure> {
        let words = [
            &asked.who,
            &asked.verb,
            &asked.object,
            &asked.container,
            &asked.policy,
        ];
        let is_long = |word: &String| word.len() > MAX_WORD_BYTES;
        if words.into_iter().flatten().any(is_long) {
            let text = format!("a filter has more than {MAX_WORD_BYTES} bytes; shorten it");
            return Err(Failure::invalid(text));
        }
        let mut traces = Vec::new();
        if let Some(id) = &asked.rotation {
            let rotation = RotationId::parse(id).map_err(|e| Failure::invalid(e.to_string()))?;
            traces.push(found("rotation", id, committed.rotation_trace(rotation))?);
        }
        if let Some(id) = &asked.revocation {
            let run = RevocationId::parse(id).map_err(|e| Failure::invalid(e.to_string()))?;
            traces.push(found("revocation", id, committed.revocation_trace(run))?);
        }
        if let Some(id) = &asked.run {
            let run = RunId::parse(id).map_err(|e| Failure::invalid(e.to_string()))?;
            traces.push(found("run", id, committed.run_trace(run))?);
        }
        traces.extend(asked.trace.map(|trace| trace.to_ascii_lowercase()));
        let wanted = Self {
            who: asked.who,
            verb: asked.verb,
            object: asked.object,
            container: asked.container,
            outcome: asked.outcome.as_deref().map(outcome).transpose()?,
            policy: asked.policy,
            since: asked.since.as_deref().map(read_time).transpose()?,
            until: asked.until.as_deref().map(read_time).transpose()?,
            traces,
        };
        Ok((!wanted.is_all()).then_some(wanted))
    }

    const fn is_all(&self) -> bool {
        self.who.is_none()
            && self.verb.is_none()
            && self.object.is_none()
            && self.container.is_none()
            && self.outcome.is_none()
            && self.policy.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.traces.is_empty()
    }

    /// Whether a record is wanted.
    pub(super) fn wants(&self, record: &Record) -> bool {
        let is =
            |asked: &Option<String>, fits: &dyn Fn(&str) -> bool| asked.as_deref().is_none_or(fits);
        is(&self.who, &|who| is_who(&record.principal, who))
            && is(&self.verb, &|verb| record.verb == verb)
            && is(&self.object, &|object| is_object(&record.object, object))
            && is(&self.container, &|asked| is_container(record, asked))
            && self.outcome.is_none_or(|outcome| record.outcome == outcome)
            && is(&self.policy, &|policy| is_decided_by(record, policy))
            && self.since.is_none_or(|since| record.time >= since)
            && self.until.is_none_or(|until| record.time < until)
            && self.traces.iter().all(|trace| record.trace == *trace)
    }
}

/// The trace that all records of a run have.
fn found(kind: &str, id: &str, trace: Option<Context>) -> Result<String, Failure> {
    let trace = trace.ok_or_else(|| {
        let id: String = id.chars().take(64).collect();
        Failure::not_found(format!(
            "nothing is known of the {kind} `{id}` any more; its events and records have a trace, ask by that"
        ))
    })?;
    Ok(trace
        .trace
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn outcome(word: &str) -> Result<Outcome, Failure> {
    Ok(match word {
        "allowed" => Outcome::Allowed,
        "denied" => Outcome::Denied,
        "rejected" => Outcome::Rejected,
        "malformed" => Outcome::Malformed,
        _ => {
            let word: String = word.chars().take(80).collect();
            return Err(Failure::invalid(format!(
                "`{word}` is no outcome; ask for `allowed`, `denied`, `rejected` or `malformed`"
            )));
        }
    })
}

fn is_who(principal: &Principal, asked: &str) -> bool {
    match principal {
        Principal::User { uid, name } => {
            let uid = uid.to_string();
            name == asked || uid == asked || asked.strip_prefix("unix:") == Some(uid.as_str())
        }
        Principal::Operator { name } => {
            name == asked || asked.strip_prefix("certificate:") == Some(name.as_str())
        }
        Principal::Stranger { address } => {
            let place = address.rsplit_once(':').map(|(place, _)| place);
            address == asked || place == Some(asked)
        }
        Principal::Service(role) => role_word(*role) == asked,
        Principal::Token { name, owner } => {
            let person = owner.split_once(':').map(|(_, person)| person);
            name == asked || owner == asked || person == Some(asked)
        }
        Principal::Login { name } => {
            name == asked || asked.strip_prefix("oidc:") == Some(name.as_str())
        }
    }
}

fn is_object(object: &str, asked: &str) -> bool {
    object == asked || (asked.ends_with('/') && object.starts_with(asked))
}

fn is_container(record: &Record, asked: &str) -> bool {
    record.container.as_ref().is_some_and(|container| {
        container.name == asked || (asked.len() >= MIN_ID_DIGITS && container.id.starts_with(asked))
    })
}

/// Whether one of the policies that a record names is this one.
fn is_decided_by(record: &Record, policy: &str) -> bool {
    decided(record).is_some_and(|names| names.split(", ").any(|name| name == policy))
}

/// The policies that forbade what was denied, else those that permitted; a person's own words before them are none.
fn decided(record: &Record) -> Option<&str> {
    let reason = record.reason.as_str();
    if record.outcome == Outcome::Denied {
        let (_, names) = reason.split_once(FORBIDDEN)?;
        let end = names.find([':', '(']).unwrap_or(names.len());
        return names.get(..end).map(str::trim_end);
    }
    if reason.ends_with(OWN_WORDS) {
        return None;
    }
    let (_, set) = reason.rsplit_once(SET)?;
    let (_, names) = set.split_once(": ")?;
    Some(names.trim_end_matches(')'))
}

#[cfg(test)]
mod tests {
    use keywheel_core::audit::{Category, ContainerRef, Role};
    use keywheel_core::id::CommandId;

    use super::*;
    use crate::testing::Bench;

    fn record() -> Record {
        Record {
            time: Timestamp::from_micros(5_000_000),
            category: Category::Usage,
            principal: Principal::Service(Role::StoreSync),
            verb: "inject".to_owned(),
            object: "secret/prod/db".to_owned(),
            version: Some(2),
            outcome: Outcome::Allowed,
            reason: String::new(),
            container: Some(ContainerRef {
                id: "ab".repeat(32),
                name: "web".to_owned(),
                image_digest: "sha256:1".to_owned(),
                host: "one".to_owned(),
            }),
            command: CommandId::from_bytes([1; 16]),
            trace: "0a".repeat(16),
        }
    }

    fn wanted(bench: &Bench, change: impl FnOnce(&mut Asked)) -> Option<Wanted> {
        let mut asked = Asked::default();
        change(&mut asked);
        let committed = bench.api.view.read();
        Wanted::new(&committed, asked).map_err(drop).unwrap()
    }

    #[tokio::test]
    async fn nothing_asked_for_is_everything() {
        assert!(wanted(&Bench::start().await, |_| ()).is_none());
    }

    #[tokio::test]
    async fn each_filter_takes_what_fits_it_and_nothing_else() {
        let bench = Bench::start().await;
        let is_wanted = |change: &dyn Fn(&mut Asked), record: &Record| {
            wanted(&bench, change).unwrap().wants(record)
        };
        type Case = (fn(&mut Asked, String), &'static str, &'static str);
        let cases: [Case; 8] = [
            (|a, w| a.who = Some(w), "store-sync", "gateway"),
            (|a, w| a.verb = Some(w), "inject", "injec"),
            (|a, w| a.object = Some(w), "secret/prod/", "secret/prod"),
            (|a, w| a.container = Some(w), "abababababab", "ababababab"),
            (|a, w| a.outcome = Some(w), "allowed", "denied"),
            (
                |a, w| a.since = Some(w),
                "1970-01-01T00:00:05Z",
                "1970-01-01T00:00:06Z",
            ),
            (
                |a, w| a.until = Some(w),
                "1970-01-01T00:00:06Z",
                "1970-01-01T00:00:05Z",
            ),
            (
                |a, w| a.trace = Some(w),
                "0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A",
                "00",
            ),
        ];
        for (set, fits, other) in cases {
            assert!(
                is_wanted(&|asked| set(asked, fits.to_owned()), &record()),
                "{fits}"
            );
            assert!(
                !is_wanted(&|asked| set(asked, other.to_owned()), &record()),
                "{other}"
            );
        }
        let both = |asked: &mut Asked| {
            asked.verb = Some("inject".to_owned());
            asked.outcome = Some("denied".to_owned());
        };
        assert!(!is_wanted(&both, &record()), "all have to fit");
    }

    #[test]
    fn who_is_a_name_a_user_id_a_role_or_an_address() {
        let user = Principal::User {
            uid: 1000,
            name: "ada".to_owned(),
        };
        let stranger = Principal::Stranger {
            address: "192.0.2.7:4711".to_owned(),
        };
        let operator = Principal::Operator {
            name: "ops".to_owned(),
        };
        let program = Principal::Token {
            name: "ci".to_owned(),
            owner: "certificate:bob".to_owned(),
        };
        let login = Principal::Login {
            name: "cy".to_owned(),
        };
        for (principal, fits) in [
            (&program, "ci"),
            (&program, "bob"),
            (&program, "certificate:bob"),
            (&user, "ada"),
            (&user, "1000"),
            (&user, "unix:1000"),
            (&operator, "certificate:ops"),
            (&login, "cy"),
            (&login, "oidc:cy"),
            (&stranger, "192.0.2.7"),
            (&stranger, "192.0.2.7:4711"),
            (&operator, "ops"),
        ] {
            assert!(is_who(principal, fits), "{fits}");
            assert!(!is_who(principal, "eve"), "{fits}");
        }
        // Of another sort it is somebody else.
        for (principal, other) in [
            (&user, "unix:100"),
            (&user, "unix:ada"),
            (&user, "certificate:ada"),
            (&operator, "oidc:ops"),
            (&login, "certificate:cy"),
        ] {
            assert!(!is_who(principal, other), "{other}");
        }
    }

    #[test]
    fn a_policy_is_one_that_the_record_names_and_none_that_somebody_speaks_of() {
        let decided = |outcome, reason: &str, policy: &str| {
            let reason = reason.to_owned();
            let record = Record {
                outcome,
                reason,
                ..record()
            };
            is_decided_by(&record, policy)
        };
        let (allowed, denied) = (Outcome::Allowed, Outcome::Denied);
        for (outcome, reason) in [
            (allowed, "policies version 7: team"),
            (allowed, "policies version 7: other, team"),
            (allowed, "stolen (policies version 7: team)"),
            (
                allowed,
                "policies version 1: x (policies version 7: team, other)",
            ),
            (
                Outcome::Rejected,
                "failed: no answer (policies version 7: team)",
            ),
            (
                denied,
                "forbidden by other, team: needs `rotate` (policies version 7)",
            ),
            (
                denied,
                "service `web` may not read secret/a: forbidden by team (policies version 7)",
            ),
        ] {
            assert!(decided(outcome, reason, "team"), "{reason}");
            for other in ["tea", "eam", "policies", ""] {
                assert!(!decided(outcome, reason, other), "{other}: {reason}");
            }
        }
        for (outcome, reason) in [
            (allowed, "team"),
            (allowed, "policies version 7"),
            (allowed, "policies version 7: team, x (in their own words)"),
            (allowed, "policies version 7: team (policies version 8)"),
            (allowed, "forbidden by team"),
            (denied, "default deny: needs `rotate` (policies version 7)"),
        ] {
            assert!(!decided(outcome, reason, "team"), "{reason}");
        }
    }

    #[tokio::test]
    async fn what_is_no_filter_is_refused() {
        let bench = Bench::start().await;
        let committed = bench.api.view.read();
        let refused: [fn(&mut Asked); 6] = [
            |asked| asked.outcome = Some("maybe".to_owned()),
            |asked| asked.since = Some("yesterday".to_owned()),
            |asked| asked.rotation = Some("no uuid".to_owned()),
            |asked| asked.run = Some("00000000-0000-4000-8000-000000000001".to_owned()),
            |asked| asked.who = Some("x".repeat(MAX_WORD_BYTES + 1)),
            |asked| asked.policy = Some("x".repeat(MAX_WORD_BYTES + 1)),
        ];
        for (n, change) in refused.into_iter().enumerate() {
            let mut asked = Asked::default();
            change(&mut asked);
            assert!(Wanted::new(&committed, asked).is_err(), "{n}");
        }
    }
}
