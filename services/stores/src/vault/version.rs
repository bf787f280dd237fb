//! What a version of a path is called: its number, and when it was made.
//!
//! The number alone says too little: a path whose metadata was deleted counts from 1 again, and a
//! standby that lags tells an old one. Invariants: requests name the number, comparisons both; a name
//! without a time, as it was made before, is a number of any time. Pure.

use keywheel_core::store::RemoteVersion;
use keywheel_core::time::Timestamp;

/// A version, as it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) number: u64,
    /// As the server writes it; empty when it is not known.
    created: String,
}

impl Version {
    pub(super) fn new(number: u64, created: &str) -> Self {
        Self {
            number,
            created: created.to_owned(),
        }
    }

    /// `NUMBER@TIME`, or `NUMBER`; anything else is no version of a KV engine.
    pub(super) fn parse(version: &RemoteVersion) -> Option<Self> {
        let (number, created) = version.0.split_once('@').unwrap_or((&version.0, ""));
        let number = number.parse().ok().filter(|number| *number > 0)?;
        Some(Self::new(number, created))
    }

    pub(super) fn name(&self) -> RemoteVersion {
        match self.created.as_str() {
            "" => RemoteVersion(self.number.to_string()),
            created => RemoteVersion(format!("{}@{created}", self.number)),
        }
    }

    /// Whether both are one version, as far as is known.
    pub(super) fn is(&self, other: &Self) -> bool {
        let is_unknown = self.created.is_empty() || other.created.is_empty();
        self.number == other.number && (is_unknown || self.created == other.created)
    }

    /// Whether this was current before that one: a server that tells it knows less than we do.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        let (Some(this), Some(that)) = (self.instant(), other.instant()) else {
            return false;
        };
        !self.is(other) && self.number <= other.number && this <= that
    }

    /// When it was made, if that is known.
    pub(super) fn time(&self) -> Option<Timestamp> {
        let instant = self.instant()?;
        Some(Timestamp::from_micros(instant.as_microsecond()))
    }

    fn instant(&self) -> Option<jiff::Timestamp> {
        self.created.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(&RemoteVersion(text.to_owned())).unwrap()
    }

    #[test]
    fn a_number_with_its_time_is_a_version_and_one_without_is_an_old_name() {
        for text in ["7", "7@2026-11-28T01:02:03.123456789Z"] {
            assert_eq!(version(text).number, 7);
            assert_eq!(version(text).name().0, text);
        }
        for text in ["", "0", "0@2026-11-28T00:00:00Z", "x", "@", "-1", "1.5"] {
            assert!(
                Version::parse(&RemoteVersion(text.to_owned())).is_none(),
                "{text}"
            );
        }
        assert!(version("7").is(&version("7@2026-11-28T01:00:00Z")));
        assert!(!version("7@2026-11-28T01:00:00Z").is(&version("7@2026-11-28T02:00:00Z")));
        assert!(!version("7").is(&version("8")));
    }

    #[test]
    fn what_lags_is_older_in_number_and_time_and_a_path_made_anew_is_not() {
        let known = version("8@2026-11-28T08:00:00Z");
        for (found, is_before) in [
            ("7@2026-11-28T07:00:00Z", true),
            // A standby that has not heard of the path that was made anew.
            ("8@2026-11-28T07:00:00.5Z", true),
            ("8@2026-11-28T08:00:00Z", false),
            ("9@2026-11-28T09:00:00Z", false),
            ("1@2026-11-28T09:00:00Z", false),
            ("8@2026-11-28T09:00:00Z", false),
            // The server's clock was set back.
            ("9@2026-11-28T07:00:00Z", false),
            ("7", false),
            ("7@then", false),
        ] {
            assert_eq!(version(found).is_before(&known), is_before, "{found}");
        }
        assert!(!version("7@2026-11-28T07:00:00Z").is_before(&version("8")));
    }
}
