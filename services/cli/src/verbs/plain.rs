//! Verbs that need no daemon: completion, version, exit codes, and what tests of keywheel ask for.

use clap::CommandFactory as _;
use clap_complete::{Shell as Target, generate};
use serde_json::json;

use crate::args::{Cli, InternalVerb, Shell};
use crate::exit::{Exit, Failure, TABLE};
use crate::output::Screen;
use crate::output::table::columns;

pub(super) fn completion(screen: Screen, shell: Shell) -> Result<(), Failure> {
    screen.write(&script(shell))
}

fn script(shell: Shell) -> Vec<u8> {
    let target = match shell {
        Shell::Bash => Target::Bash,
        Shell::Zsh => Target::Zsh,
        Shell::Fish => Target::Fish,
    };
    let mut script = Vec::new();
    generate(target, &mut Cli::command(), "keywheel", &mut script);
    script
}

pub(super) fn version(screen: Screen) -> Result<(), Failure> {
    let version = json!({ "version": env!("CARGO_PKG_VERSION") });
    screen.show(&version, |_| {
        format!("keywheel {}", env!("CARGO_PKG_VERSION"))
    })
}

pub(super) fn exit_codes(screen: Screen) -> Result<(), Failure> {
    let rows: Vec<_> = Exit::ALL
        .iter()
        .map(|exit| json!({ "code": exit.code(), "meaning": exit.meaning() }))
        .collect();
    screen.show(&rows, |_| TABLE.replace('\t', "  "))
}

pub(super) fn internal(screen: Screen, verb: &InternalVerb) -> Result<(), Failure> {
    match verb {
        InternalVerb::Failpoints => {
            let names = keywheel_daemon::failpoint::registry();
            screen.show(&names, |names| names.join("\n"))
        }
        InternalVerb::CheckSchedule {
            expression,
            timezone,
        } => {
            keywheel_scheduler::schedule::check(expression, timezone)
                .map_err(|why| Failure::new(Exit::Input, why, "correct the schedule"))?;
            let row = json!({ "expression": expression, "timezone": timezone, "valid": true });
            screen.show(&row, |_| {
                columns(
                    &["SCHEDULE", "ZONE"],
                    vec![vec![expression.clone(), timezone.clone()]],
                    false,
                )
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_verbs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(script(shell)).unwrap();
            for word in ["rotate", "revoke", "consumers", "audit", "timeout"] {
                assert!(text.contains(word), "{shell:?} lacks {word}");
            }
        }
    }
}
