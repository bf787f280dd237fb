//! What a backup says of itself, within its seal: one JSON object before its parts.
//!
//! Owns the text alone; how the bytes are sealed is `keywheel-seal`'s, and what the parts are is told here by name,
//! size and digest. Invariant: no part and no member holds a value.

use serde::{Deserialize, Serialize};

/// The form that this build writes and reads.
pub const FORM: u8 = 1;
/// Longest manifest, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 64 * 1024;

/// Parts by name, in the order in which they lie in a backup; those that are not always there are marked.
pub const PARTS: [(&str, bool); 4] = [
    ("identity.json", true),
    // Where something else than a key file unseals store-sync.
    ("seal.json", false),
    ("cache.db", true),
    ("journal.db", true),
];

/// The text is no manifest of this build.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or other members.
    #[error("it does not say what is in it as a backup does")]
    Shape(#[source] serde_json::Error),
    /// Of a newer build.
    #[error("it has form {found}, and this build reads form {FORM}; use a newer keywheel")]
    Form {
        /// What it says.
        found: u8,
    },
    /// A part that no backup has, or one that every backup has is missing, or they are out of order.
    #[error("its parts are not those of a backup")]
    Parts,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form.
    pub v: u8,
    /// Whose it is.
    pub deployment: String,
    /// When it was made, RFC 3339.
    pub made_at: String,
    /// Version of the program that made it.
    pub made_by: String,
    /// Number of the last event in it.
    pub head: u64,
    /// How many audit records are in it.
    pub records: u64,
    /// The signed checkpoint over them (C2SP).
    pub checkpoint: String,
    /// What is in it.
    pub parts: Vec<Part>,
}

/// One file of the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name there.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Writes it.
    ///
    /// # Errors
    /// [`ManifestError::Shape`] when it cannot be written, which never happens.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        serde_json::to_vec(self).map_err(ManifestError::Shape)
    }

    /// Reads one, and refuses what is none.
    ///
    /// # Errors
    /// [`ManifestError`], with what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Shape)?;
        if manifest.v != FORM {
            return Err(ManifestError::Form { found: manifest.v });
        }
        let mut named = manifest
            .parts
            .iter()
            .map(|part| part.name.as_str())
            .peekable();
        for (known, is_needed) in PARTS {
            if named.next_if_eq(&known).is_none() && is_needed {
                return Err(ManifestError::Parts);
            }
        }
        match named.next() {
            None => Ok(manifest),
            Some(_) => Err(ManifestError::Parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(names: &[&str]) -> Manifest {
        let part = |name: &&str| Part {
            name: (*name).to_owned(),
            bytes: 3,
            sha256: "00".repeat(32),
        };
        Manifest {
            v: FORM,
            deployment: "07070707-0707-0707-0707-070707070707".to_owned(),
            made_at: "2026-11-29T20:00:00Z".to_owned(),
            made_by: "0.1.0".to_owned(),
            head: 7,
            records: 9,
            checkpoint: "origin\n9\n…\n".to_owned(),
            parts: names.iter().map(part).collect(),
        }
    }

    #[test]
    fn a_manifest_is_read_back_and_parts_are_those_of_a_backup_in_their_order() {
        let all = ["identity.json", "seal.json", "cache.db", "journal.db"];
        let usual = ["identity.json", "cache.db", "journal.db"];
        for names in [&all[..], &usual] {
            let one = manifest(names);
            assert_eq!(Manifest::parse(&one.to_json().unwrap()).unwrap(), one);
        }
        for names in [
            &usual[..2],
            &["cache.db", "identity.json", "journal.db"],
            &[
                "identity.json",
                "cache.db",
                "journal.db",
                "../../etc/passwd",
            ],
            &["identity.json", "cache.db", "cache.db", "journal.db"],
        ] {
            let read = Manifest::parse(&manifest(names).to_json().unwrap());
            assert!(matches!(read, Err(ManifestError::Parts)), "{names:?}");
        }
    }

    #[test]
    fn a_newer_form_and_other_members_are_refused() {
        let newer = Manifest {
            v: FORM + 1,
            ..manifest(&["identity.json", "cache.db", "journal.db"])
        };
        let read = Manifest::parse(&newer.to_json().unwrap());
        assert!(matches!(read, Err(ManifestError::Form { found: 2 })));
        for bad in ["", "{}", "[]", "{\"v\":1,\"more\":2}"] {
            let read = Manifest::parse(bad.as_bytes());
            assert!(matches!(read, Err(ManifestError::Shape(_))), "{bad}");
        }
    }
}
