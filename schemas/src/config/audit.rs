//! What the audit sink's process and the gateway are told of sinks. The sinks themselves are in a file of their own.

use std::path::PathBuf;
use std::time::Duration;

use super::sinks::MAX_SINKS;
use super::sources::Sources;
use crate::leaf::shorten;
use crate::span::span_words;

/// Name of the setting.
const MIN_SINKS: &str = "audit.min_sinks";
/// Most sinks that can be asked for: all that can be configured, and the copy.
pub const MOST_MIN_SINKS: usize = MAX_SINKS + 1;
/// How long a record may wait for a sink, by default: a restart of the receiver is no failure yet.
pub const DEFAULT_MAX_LAG: Duration = Duration::from_secs(60);
/// Shortest such time: below it the way to a receiver is a failure.
pub const MIN_MAX_LAG: Duration = Duration::from_secs(1);
/// Longest such time.
pub const MAX_MAX_LAG: Duration = Duration::from_secs(24 * 3600);

/// Youngest age at which audit records may leave the journal: what is asked about an incident is asked in that time.
pub const MIN_KEEP_RECORDS: Duration = Duration::from_secs(90 * 24 * 3600);
/// Oldest such age; beyond it leave it out, and all are kept.
pub const MAX_KEEP_RECORDS: Duration = Duration::from_secs(36_500 * 24 * 3600);

/// Sinks of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The file with the sinks; none but the copy by default.
    pub sinks_file: Option<PathBuf>,
    /// How many have to take records, the copy being one; 0 by default.
    pub min_sinks: usize,
    /// How long a record may wait for one; a minute by default.
    pub max_lag: Duration,
    /// At which age records leave the journal; never by default.
    pub keep_records: Option<Duration>,
}

/// An age as people write it.
#[must_use]
pub fn keep_words(age: Duration) -> String {
    span_words(age)
}

impl Audit {
    pub(super) fn take(sources: &mut Sources) -> Self {
        Self {
            sinks_file: sources.optional_path("audit.sinks_file"),
            min_sinks: min_sinks(sources),
            max_lag: sources.span("audit.max_lag", DEFAULT_MAX_LAG, MIN_MAX_LAG..=MAX_MAX_LAG),
            keep_records: sources
                .optional_span("audit.keep_records", MIN_KEEP_RECORDS..=MAX_KEEP_RECORDS),
        }
    }
}

fn min_sinks(sources: &mut Sources) -> usize {
    let Some(text) = sources.optional_text(MIN_SINKS) else {
        return 0;
    };
    match text.parse() {
        Ok(count) if count <= MOST_MIN_SINKS => count,
        _ => {
            let message = format!(
                "`{}` is not how many sinks have to take records; write \"0\" to \"{MOST_MIN_SINKS}\"",
                shorten(&text)
            );
            sources.fault(MIN_SINKS, message);
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigFlags};

    fn load(file: &str) -> Result<Audit, String> {
        let flags = ConfigFlags {
            machine_name: Some("one".to_owned()),
            ..ConfigFlags::default()
        };
        let loaded = Config::load(Some(("file", file)), &|_| None, flags);
        loaded.map(|config| config.audit).map_err(|faults| {
            let faults = faults.iter().map(ToString::to_string);
            faults.collect::<Vec<_>>().join("; ")
        })
    }

    #[test]
    fn nothing_is_asked_for_unless_it_is_said() {
        let audit = load("").unwrap();
        assert_eq!((audit.sinks_file, audit.min_sinks), (None, 0));
        assert_eq!(audit.max_lag, DEFAULT_MAX_LAG);
        assert_eq!(audit.keep_records, None, "every record is kept");
        let said = "[audit]\nsinks_file = \"/s.toml\"\nmin_sinks = \"2\"\nmax_lag = \"5m\"";
        let audit = load(said).unwrap();
        assert_eq!(audit.sinks_file, Some("/s.toml".into()));
        assert_eq!(
            (audit.min_sinks, audit.max_lag),
            (2, Duration::from_secs(300))
        );
    }

    #[test]
    fn limits_hold_and_the_limit_itself_is_allowed() {
        let of = |count: &str| load(&format!("[audit]\nmin_sinks = \"{count}\""));
        assert_eq!(of("17").unwrap().min_sinks, MOST_MIN_SINKS);
        for bad in ["18", "-1", "two"] {
            assert!(of(bad).unwrap_err().contains("\"17\""), "{bad}");
        }
        let lag = |span: &str| load(&format!("[audit]\nmax_lag = \"{span}\""));
        assert!(lag("1s").is_ok() && lag("24h").is_ok());
        assert!(lag("999ms").is_err() && lag("25h").is_err());
        let keep = |span: &str| load(&format!("[audit]\nkeep_records = \"{span}\""));
        assert_eq!(keep("90d").unwrap().keep_records, Some(MIN_KEEP_RECORDS));
        assert_eq!(keep("36500d").unwrap().keep_records, Some(MAX_KEEP_RECORDS));
        for bad in ["89d", "2159h59m", "36501d", "0s", "for ever"] {
            assert!(keep(bad).unwrap_err().contains("keep_records"), "{bad}");
        }
        assert_eq!(
            keep_words(keep("400d").unwrap().keep_records.unwrap()),
            "400d"
        );
    }
}
