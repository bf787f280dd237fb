//! Which release of the time zone rules schedules are computed by (rule TM1).
//!
//! The rules are the machine's where it has them, and those that were built in where it has none. Reads one
//! line of one file; it changes nothing.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use keywheel_core::schedule::{RotationPolicy, Schedule};

/// Where a machine has its rules: the first of these that is there is used.
const PLACES: [&str; 3] = [
    "/usr/share/zoneinfo",
    "/usr/share/lib/zoneinfo",
    "/etc/zoneinfo",
];
/// A file that begins with `# version 2026a`, and one that has the version alone.
const FILES: [&str; 2] = ["tzdata.zi", "+VERSION"];
/// What stands before the version.
const BEFORE: &str = "# version ";
/// More than the longest version has.
const MAX_LINE_BYTES: u64 = 64;
/// What is said of rules that were built in.
const BUILT_IN: &str = "built in";
/// What is said of a machine's rules that do not say their version.
const UNKNOWN: &str = "unknown";

/// The release of the rules, such as `2026a`.
#[must_use]
pub fn tzdata() -> String {
    version_in(PLACES.map(Path::new))
}

/// The same, where a policy asks a zone for its times.
#[must_use]
pub fn tzdata_of(policy: &RotationPolicy) -> Option<String> {
    asks_zones(policy).then(tzdata)
}

/// The release by which a policy's slots were computed, where it asks a zone for its times; nothing while none is
/// known.
pub(crate) fn named(policy: &RotationPolicy, release: &str) -> Option<String> {
    let is_named = asks_zones(policy) && !release.is_empty();
    is_named.then(|| release.to_owned())
}

fn asks_zones(policy: &RotationPolicy) -> bool {
    matches!(policy.schedule, Schedule::Cron { .. }) || !policy.windows.is_empty()
}

/// Has zones read anew from now on: those that were read are kept for a while.
pub(crate) fn read_anew() {
    jiff::tz::db().reset();
}

fn version_in<'p>(places: impl IntoIterator<Item = &'p Path>) -> String {
    let mut there = places.into_iter().filter(|place| place.is_dir());
    let Some(place) = there.next() else {
        return BUILT_IN.to_owned();
    };
    let mut found = FILES.iter().filter_map(|file| read(&place.join(file)));
    found.next().unwrap_or_else(|| UNKNOWN.to_owned())
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(MAX_LINE_BYTES).read_to_string(&mut text).ok()?;
    let line = text.lines().next()?.trim();
    let version = line.strip_prefix(BEFORE).unwrap_or(line);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let is_one = !version.is_empty() && version.chars().all(is_plain);
    is_one.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A directory of its own, gone with the value.
    struct Place(PathBuf);

    impl Place {
        fn with(name: &str, files: &[(&str, &str)]) -> Self {
            let own = format!("keywheel-tzdata-{}-{name}", std::process::id());
            let place = std::env::temp_dir().join(own);
            std::fs::create_dir_all(&place).unwrap();
            for (file, text) in files {
                std::fs::write(place.join(file), text).unwrap();
            }
            Self(place)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _gone = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_version_is_that_of_the_first_place_that_is_there() {
        let long = format!("# version 2026a\n{}", "# rules\n".repeat(100));
        let debian = Place::with("debian", &[("tzdata.zi", &long)]);
        let plain = Place::with("plain", &[("+VERSION", "2025b\n")]);
        let silent = Place::with("silent", &[("tzdata.zi", "# what is this\n")]);
        let missing = debian.0.join("missing");
        for (places, version) in [
            (vec![&debian.0, &plain.0], "2026a"),
            (vec![&missing, &plain.0], "2025b"),
            (vec![&silent.0, &plain.0], UNKNOWN),
            (vec![&missing], BUILT_IN),
        ] {
            let places = places.into_iter().map(PathBuf::as_path);
            assert_eq!(version_in(places), version);
        }
    }

    #[test]
    fn only_a_policy_that_asks_a_zone_says_it() {
        let on_demand = RotationPolicy::default();
        assert_eq!(tzdata_of(&on_demand), None);
        let nightly = RotationPolicy {
            schedule: Schedule::Cron {
                expression: "30 2 * * *".to_owned(),
                timezone: "Europe/Berlin".to_owned(),
            },
            ..on_demand
        };
        assert_eq!(tzdata_of(&nightly), Some(tzdata()));
    }
}
