//! The variables of the environment that begin with `KEYWHEEL_`: which there are, and what is said of one that is none.
//!
//! Invariants: this is the one list of them, which a test holds against the sources. Pure: names come in, and never what
//! a variable holds.

use std::collections::BTreeSet;

use super::sources::{SETTINGS, variable};
use crate::leaf::shorten;
use crate::near::nearest_of;

/// How each of them begins.
pub const PREFIX: &str = "KEYWHEEL_";
/// Of the command line, besides those of settings.
pub const OF_THE_COMMAND_LINE: [&str; 5] = [
    "KEYWHEEL_ADDRESS",
    "KEYWHEEL_BEARER_TOKEN_FILE",
    "KEYWHEEL_GATEWAY_CA_FILE",
    "KEYWHEEL_LOGIN_DIR",
    "KEYWHEEL_OUTPUT",
];
/// Of the shipped scripts and of tests: a program that they start has them in its environment, and nobody is led to them.
pub const OF_SCRIPTS: [&str; 13] = [
    "KEYWHEEL_ASYNCAPI_DIR",
    "KEYWHEEL_AWS_DIR",
    "KEYWHEEL_FAILPOINTS",
    "KEYWHEEL_GLEWLWYD_DIR",
    "KEYWHEEL_IMAGE",
    "KEYWHEEL_MYSQL_DIR",
    "KEYWHEEL_NATS_DIR",
    "KEYWHEEL_OPENBAO_DIR",
    "KEYWHEEL_QUICKSTART_DIR",
    "KEYWHEEL_ROOT",
    "KEYWHEEL_RSYSLOG_DIR",
    "KEYWHEEL_SCHEMATHESIS_DIR",
    "KEYWHEEL_VALKEY_DIR",
];
/// How others of tests begin.
pub const OF_TESTS: [&str; 2] = ["KEYWHEEL_SIM_", "KEYWHEEL_TEST_"];
/// Most that are named, each by itself.
pub const MAX_NAMED: usize = 8;

/// Whether a variable is one of ours.
#[must_use]
pub fn is_known(name: &str) -> bool {
    OF_TESTS.iter().any(|begin| name.starts_with(begin))
        || OF_SCRIPTS.contains(&name)
        || OF_THE_COMMAND_LINE.contains(&name)
        || SETTINGS.iter().any(|setting| variable(setting) == name)
}

/// What is said of variables that begin like ours and are none, by their names.
#[must_use]
pub fn unknown<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let ours = names.into_iter().filter(|name| name.starts_with(PREFIX));
    let strange: BTreeSet<&str> = ours.filter(|name| !is_known(name)).collect();
    let named = strange.iter().take(MAX_NAMED);
    let mut said: Vec<String> = named.map(|name| told(name)).collect();
    let others = strange.len().saturating_sub(MAX_NAMED);
    if others > 0 {
        said.push(format!(
            "{others} more variables that begin with {PREFIX} are not known, and nothing reads them"
        ));
    }
    said
}

fn told(name: &str) -> String {
    let name = shorten(name);
    let settings = SETTINGS.iter().map(|setting| variable(setting));
    let others = OF_THE_COMMAND_LINE.iter().map(|name| (*name).to_owned());
    let known: Vec<String> = settings.chain(others).collect();
    // The part that all have in common makes nothing near.
    let own = |name: &str| name.strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let endings: Vec<String> = known.iter().map(|name| own(name)).collect();
    let endings: Vec<&str> = endings.iter().map(String::as_str).collect();
    let near = nearest_of(&own(&name), &endings);
    let near = near.map(|ending| format!(" (did you mean `{PREFIX}{ending}`?)"));
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    let shown: String = name.chars().map(plain).collect();
    format!(
        "the environment variable `{shown}` is not known, and nothing reads it{}",
        near.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that begins like ours; in one word it would be one that the sources use.
    fn named(ending: &str) -> String {
        format!("{PREFIX}{ending}")
    }

    fn said_of(ending: &str) -> Vec<String> {
        unknown([named(ending).as_str()])
    }

    #[test]
    fn a_mistyped_variable_is_named_with_the_one_that_was_meant() {
        for (ending, meant) in [
            ("ADRESS", "ADDRESS"),
            ("OUTPTU", "OUTPUT"),
            ("AUDIT_MINSINKS", "AUDIT_MIN_SINKS"),
            ("DUAL_CONTROL_AUDIT_EXPROT", "DUAL_CONTROL_AUDIT_EXPORT"),
            ("Address", "ADDRESS"),
        ] {
            let said = said_of(ending);
            assert_eq!(said.len(), 1, "{ending}: {said:?}");
            for part in [
                format!("`KEYWHEEL_{ending}`"),
                format!("(did you mean `KEYWHEEL_{meant}`?)"),
            ] {
                assert!(said[0].contains(&part), "{part}: {}", said[0]);
            }
        }
        let far = said_of("COLOUR_OF_THE_SKY");
        assert!(
            far.len() == 1 && !far[0].contains("did you mean"),
            "{far:?}"
        );
    }

    #[test]
    fn nothing_is_said_of_what_is_ours_or_does_not_begin_like_it() {
        let settings = SETTINGS.iter().map(|setting| variable(setting));
        let others = OF_THE_COMMAND_LINE.iter().chain(&OF_SCRIPTS);
        let others = others.map(|name| (*name).to_owned());
        let tests = OF_TESTS.iter().map(|begin| format!("{begin}ANY"));
        let all: Vec<String> = settings.chain(others).chain(tests).collect();
        let all = all.iter().map(String::as_str).chain(["PATH", "KEYWHEELS"]);
        assert_eq!(unknown(all), Vec::<String>::new());
    }

    #[test]
    fn nobody_is_led_to_what_only_tests_set() {
        let said = said_of("FAILPOINT");
        assert!(
            said.len() == 1 && !said[0].contains("FAILPOINTS"),
            "{said:?}"
        );
    }

    #[test]
    fn many_are_counted_and_a_name_steers_no_terminal() {
        let names: Vec<String> = (0..MAX_NAMED + 3)
            .map(|n| named(&format!("QQQQ_{n:02}")))
            .collect();
        let said = unknown(names.iter().chain(&names).map(String::as_str));
        assert_eq!(said.len(), MAX_NAMED + 1, "{said:?}");
        assert!(said[MAX_NAMED].starts_with("3 more"), "{said:?}");
        let said = said_of(&format!("X\u{1b}[2J\n{}", "Y".repeat(300)));
        assert!(
            said[0].len() < 200 && said[0].contains("X?[2J?Y"),
            "{said:?}"
        );
    }
}
