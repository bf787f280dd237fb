//! What has to be known of a key service outside that wraps the wrapping key: whose it is, where its settings lie,
//! which key of it was used, and what it made of ours.
//!
//! Nothing of it is secret. Where the service is reached, and by which login, is in the file of settings and not
//! here: an address that changed must not lock the root key out. It asks nobody.

/// Longest path of a file of settings, in bytes.
pub const MAX_SETTINGS_BYTES: usize = 1024;
/// Longest name of a key, in bytes: as long as AWS KMS allows.
pub const MAX_KEY_NAME_BYTES: usize = 2048;
/// Longest wrapped key, in bytes: every service stays far below.
pub const MAX_WRAPPED_BYTES: usize = 4096;

/// Whose service it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceKind {
    /// AWS KMS.
    Kms,
    /// The transit engine of Vault or OpenBao.
    Transit,
}

impl ServiceKind {
    /// Its word in settings, files and views.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::Transit => "transit",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Kms => 1,
            Self::Transit => 2,
        }
    }
}

/// It cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadService {
    /// The path of its settings.
    #[error(
        "the settings of a key service lie in a file that is named by an absolute path of at most {MAX_SETTINGS_BYTES} plain bytes"
    )]
    Settings,
    /// The name of its key.
    #[error("a key of a key service has a name of 1 to {MAX_KEY_NAME_BYTES} plain bytes")]
    Key,
    /// What it answered.
    #[error("a key service gives a wrapped key of 1 to {MAX_WRAPPED_BYTES} bytes")]
    Wrapped,
}

/// A key service that wrapped the wrapping key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    kind: ServiceKind,
    settings: String,
    key: String,
    wrapped: Vec<u8>,
}

impl Service {
    /// What is kept of one.
    ///
    /// # Errors
    /// [`BadService`] when a part is out of bounds.
    pub fn new(
        kind: ServiceKind,
        settings: &str,
        key: &str,
        wrapped: Vec<u8>,
    ) -> Result<Self, BadService> {
        let fits = |text: &str, most: usize| {
            (1..=most).contains(&text.len())
                && text
                    .chars()
                    .all(|c| !c.is_control() && c != '"' && c != '\\')
        };
        if !settings.starts_with('/') || !fits(settings, MAX_SETTINGS_BYTES) {
            return Err(BadService::Settings);
        }
        if !fits(key, MAX_KEY_NAME_BYTES) {
            return Err(BadService::Key);
        }
        if !(1..=MAX_WRAPPED_BYTES).contains(&wrapped.len()) {
            return Err(BadService::Wrapped);
        }
        Ok(Self {
            kind,
            settings: settings.to_owned(),
            key: key.to_owned(),
            wrapped,
        })
    }

    /// Whose it is.
    #[must_use]
    pub const fn kind(&self) -> ServiceKind {
        self.kind
    }

    /// The file of its settings.
    #[must_use]
    pub fn settings(&self) -> &str {
        &self.settings
    }

    /// What its key was called when it wrapped.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What it made of the wrapping key.
    #[must_use]
    pub fn wrapped(&self) -> &[u8] {
        &self.wrapped
    }

    /// Everything about it, in one way only.
    pub(super) fn bind(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[4, self.kind.number()]);
        let parts = [self.settings.as_bytes(), self.key.as_bytes(), &self.wrapped];
        for part in parts {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/etc/keywheel/unseal.toml";

    #[test]
    fn every_part_is_as_long_as_its_limit_and_not_longer() {
        let path = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
        let make = |settings: &str, key: &str, wrapped: usize| {
            Service::new(ServiceKind::Kms, settings, key, vec![7; wrapped]).map(drop)
        };
        let longest = (path(MAX_SETTINGS_BYTES), "k".repeat(MAX_KEY_NAME_BYTES));
        assert_eq!(make(&longest.0, &longest.1, MAX_WRAPPED_BYTES), Ok(()));
        for settings in [
            "",
            "unseal.toml",
            "/a\"b",
            "/a\nb",
            &path(MAX_SETTINGS_BYTES + 1),
        ] {
            assert_eq!(make(settings, "k", 1), Err(BadService::Settings));
        }
        for key in ["", "a\tb", "a\\b", &"k".repeat(MAX_KEY_NAME_BYTES + 1)] {
            assert_eq!(make(FILE, key, 1), Err(BadService::Key), "{key}");
        }
        for wrapped in [0, MAX_WRAPPED_BYTES + 1] {
            assert_eq!(make(FILE, "k", wrapped), Err(BadService::Wrapped));
        }
    }

    #[test]
    fn every_part_changes_what_is_bound() {
        let bound = |kind, settings: &str, key: &str, wrapped: &[u8]| {
            let mut out = Vec::new();
            let service = Service::new(kind, settings, key, wrapped.to_vec()).unwrap();
            service.bind(&mut out);
            out
        };
        let one = bound(ServiceKind::Kms, "/a", "b", b"c");
        let others = [
            bound(ServiceKind::Transit, "/a", "b", b"c"),
            bound(ServiceKind::Kms, "/ab", "b", b"c"),
            bound(ServiceKind::Kms, "/a", "bc", b"c"),
            bound(ServiceKind::Kms, "/a", "b", b"cc"),
        ];
        for other in others {
            assert_ne!(one, other);
        }
    }
}
