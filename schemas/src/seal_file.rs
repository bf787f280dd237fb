//! The file in which a sealed root key lies: one line of canonical JSON.
//!
//! Owns the text alone; what the parts mean, and whether they open, is `keywheel-seal`'s. Invariant: there is
//! one text for one content, and any other one is refused: a file that was edited by hand is not guessed at.

use serde::{Deserialize, Serialize};

/// The newest form that this build reads.
pub const FORM: u8 = 1;
/// Longest file, in bytes.
pub const MAX_SEAL_FILE_BYTES: usize = 16 * 1024;

/// The text is no seal file of this build.
#[derive(Debug, thiserror::Error)]
pub enum SealFileError {
    /// Not JSON, or other members.
    #[error("it is not a seal file")]
    Shape(#[source] serde_json::Error),
    /// Of a newer build.
    #[error("it has form {found}, and this build reads form {FORM}; use a newer keywheel")]
    Form {
        /// What the file says.
        found: u8,
    },
    /// The same content has another text.
    #[error("it was changed since it was written; restore it")]
    Changed,
}

/// The content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealFile {
    /// The form.
    pub v: u8,
    /// The deployment, 32 hex digits.
    pub deployment: String,
    /// Which root key, 32 hex digits.
    pub root: String,
    /// Who gives the key that seals it.
    pub provider: ProviderFile,
    /// The sealed root key, hex digits.
    pub sealed: String,
}

/// Who gives the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ProviderFile {
    /// A key file.
    KeyFile {},
    /// A passphrase, by Argon2id.
    Passphrase {
        /// Hex digits.
        salt: String,
        /// Memory, in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// Shares.
    Shamir {
        /// Which set, hex digits.
        set: String,
        /// So many are enough.
        threshold: u8,
        /// What each is known by, hex digits, in their order.
        checks: Vec<String>,
    },
    /// A key of AWS KMS.
    Kms {
        /// The file that says where it is reached.
        settings: String,
        /// What it was called when it wrapped.
        key: String,
        /// What it made of the wrapping key, hex digits.
        wrapped: String,
    },
    /// A key of a transit engine of Vault or OpenBao.
    Transit {
        /// The file that says where it is reached.
        settings: String,
        /// What it was called when it wrapped.
        key: String,
        /// What it made of the wrapping key, hex digits.
        wrapped: String,
    },
}

impl SealFile {
    /// The text.
    ///
    /// # Errors
    /// [`SealFileError::Shape`] when it cannot be written, which never happens.
    pub fn to_text(&self) -> Result<String, SealFileError> {
        let mut text = serde_json::to_string(self).map_err(SealFileError::Shape)?;
        text.push('\n');
        Ok(text)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// [`SealFileError`], with what is wrong.
    pub fn parse(text: &str) -> Result<Self, SealFileError> {
        let file: Self = serde_json::from_str(text).map_err(SealFileError::Shape)?;
        if file.v != FORM {
            return Err(SealFileError::Form { found: file.v });
        }
        match file.to_text()? == text {
            true => Ok(file),
            false => Err(SealFileError::Changed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(provider: ProviderFile) -> SealFile {
        SealFile {
            v: FORM,
            deployment: "07".repeat(16),
            root: "01".repeat(16),
            provider,
            sealed: "ab".repeat(90),
        }
    }

    fn shamir() -> SealFile {
        file(ProviderFile::Shamir {
            set: "0a0b0c0d".to_owned(),
            threshold: 2,
            checks: vec!["11".repeat(32), "22".repeat(32), "33".repeat(32)],
        })
    }

    #[test]
    fn every_provider_is_read_as_it_was_written() {
        let passphrase = ProviderFile::Passphrase {
            salt: "05".repeat(16),
            memory_kib: 65_536,
            passes: 3,
            lanes: 4,
        };
        // As long as `keywheel-seal` lets each part be.
        let (settings, key) = (format!("/{}", "a".repeat(1023)), "k".repeat(2048));
        let longest = ProviderFile::Kms {
            settings: settings.clone(),
            key: key.clone(),
            wrapped: "05".repeat(4096),
        };
        let transit = ProviderFile::Transit {
            settings,
            key,
            wrapped: "05".to_owned(),
        };
        for file in [
            file(ProviderFile::KeyFile {}),
            file(passphrase),
            shamir(),
            file(longest),
            file(transit),
        ] {
            let text = file.to_text().unwrap();
            assert_eq!(SealFile::parse(&text).unwrap(), file);
            assert!(text.len() < MAX_SEAL_FILE_BYTES);
        }
    }

    #[test]
    fn the_first_form_stays_readable() {
        let written = format!(
            "{{\"v\":1,\"deployment\":\"{}\",\"root\":\"{}\",\"provider\":{{\"kind\":\"passphrase\",\"salt\":\"{}\",\"memory_kib\":65536,\"passes\":3,\"lanes\":4}},\"sealed\":\"00\"}}\n",
            "07".repeat(16),
            "01".repeat(16),
            "05".repeat(16)
        );
        let read = SealFile::parse(&written).unwrap();
        assert!(matches!(
            read.provider,
            ProviderFile::Passphrase { passes: 3, .. }
        ));
    }

    #[test]
    fn another_text_a_newer_form_and_unknown_members_are_refused() {
        let text = shamir().to_text().unwrap();
        let newer = text.replace("\"v\":1", "\"v\":2");
        assert!(matches!(
            SealFile::parse(&newer),
            Err(SealFileError::Form { found: 2 })
        ));
        for changed in [text.trim_end().to_owned(), text.replace(',', ", ")] {
            assert!(matches!(
                SealFile::parse(&changed),
                Err(SealFileError::Changed)
            ));
        }
        let more = text.replace("\"v\":1", "\"v\":1,\"more\":1");
        let other = text.replace("shamir", "rot13");
        for strange in [more, other, String::new()] {
            assert!(matches!(
                SealFile::parse(&strange),
                Err(SealFileError::Shape(_))
            ));
        }
    }
}
