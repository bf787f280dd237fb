//! Which command is due, what its end means, and when it is tried again.

use std::collections::BTreeMap;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::SecretId;
use keywheel_core::name::{Directory, FileName};
use keywheel_engine::port::container_host::{ContainerRecord, Health};

use super::*;
use crate::model::{Holding, Place};

const LIMIT: Duration = Duration::from_secs(30);

fn id(number: u8) -> BindingId {
    BindingId::from_bytes([number; 16])
}

fn secret() -> SecretId {
    SecretId::from_bytes([7; 16])
}

/// A container that holds version 3 under the bindings 1 to 3, with this much to do.
fn tracked(ack: Ack) -> Tracked {
    let facts = ContainerFacts {
        id: ContainerId::parse(&"a".repeat(64)).unwrap(),
        name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        image_name: "app".to_owned(),
        labels: BTreeMap::new(),
    };
    let record = ContainerRecord {
        facts,
        pid: 1,
        running: true,
        paused: false,
        started_at: String::new(),
        runtime: "runc".to_owned(),
        health: Health::None,
        placeholders: Vec::new(),
    };
    let mut tracked = Tracked::new(record, Duration::ZERO);
    for number in 1..=3 {
        let holding = Holding {
            secret: secret(),
            place: Place::File {
                directory: Directory::parse("/run/secrets").unwrap(),
                name: FileName::parse(&format!("f{number}")).unwrap(),
            },
            attr: None,
            form: None,
            version: Some(3),
            ack,
            remembered: None,
        };
        tracked.holdings.insert(id(number), holding);
    }
    tracked
}

fn command(program: &str) -> Reload {
    Reload::Command {
        argv: vec![program.to_owned()],
        timeout: LIMIT,
    }
}

fn reloads() -> Vec<(BindingId, Reload)> {
    vec![
        (id(1), command("/bin/a")),
        (id(2), command("/bin/b")),
        (id(3), command("/bin/a")),
    ]
}

fn begun(program: &str, bindings: &[u8]) -> Command {
    Command {
        argv: vec![program.to_owned()],
        timeout: LIMIT,
        due: bindings
            .iter()
            .map(|number| (id(*number), secret(), 3))
            .collect(),
    }
}

#[test]
fn bindings_with_one_command_wait_for_it_together_and_another_comes_after() {
    let mut tracked = tracked(Ack::Due);
    let (found, next) = find_due(&tracked, &reloads(), Duration::ZERO);
    assert_eq!((found, next), (Some(begun("/bin/a", &[1, 3])), None));
    for number in [1, 3] {
        tracked.holdings.get_mut(&id(number)).unwrap().ack = Ack::Done;
    }
    let (found, _) = find_due(&tracked, &reloads(), Duration::ZERO);
    assert_eq!(found, Some(begun("/bin/b", &[2])));
}

#[test]
fn nothing_runs_for_what_is_acknowledged_or_reloads_in_another_way() {
    let (found, next) = find_due(&self::tracked(Ack::Done), &reloads(), Duration::ZERO);
    assert_eq!((found, next), (None, None));
    let signals = [(id(1), Reload::Signal(1)), (id(2), Reload::None)];
    let (found, next) = find_due(&self::tracked(Ack::Due), &signals, Duration::ZERO);
    assert_eq!((found, next), (None, None));
}

#[test]
fn only_exit_code_zero_is_an_acknowledgement() {
    let command = begun("/bin/a", &[1]);
    assert_eq!(failure(&command, &Ok(ExecOutcome::Exited(0))), None);
    for (result, part) in [
        (Ok(ExecOutcome::Exited(3)), "exit code 3"),
        (Ok(ExecOutcome::Exited(-1)), "exit code -1"),
        (Ok(ExecOutcome::Exited(127)), "could not be begun"),
        (Ok(ExecOutcome::TimedOut), "longer than 30 s"),
        (Err("the engine is away".to_owned()), "the engine is away"),
    ] {
        let reason = failure(&command, &result).unwrap();
        assert!(reason.starts_with("reload_failed: "), "{reason}");
        assert!(reason.contains(part), "{reason}");
    }
}

#[test]
fn a_command_that_fails_is_tried_so_often_ever_later_and_then_not_for_this_version() {
    let mut tracked = tracked(Ack::Due);
    let reloads = &reloads()[..1];
    let mut now = Duration::ZERO;
    let mut begins = 0;
    while let (Some(_), None) = find_due(&tracked, reloads, now) {
        begins += 1;
        let before = tracked.tries.get(&id(1)).copied();
        let after = tried(
            before,
            (id(1), secret(), 3),
            &Ok(ExecOutcome::Exited(1)),
            now,
        );
        tracked.tries.insert(id(1), after);
        let Some(again) = after.again else { break };
        let wait = RETRY_AFTER * 2_u32.pow(begins - 1);
        assert_eq!(again, now + wait);
        let (found, next) = find_due(&tracked, reloads, again - Duration::from_millis(1));
        assert_eq!((found, next), (None, Some(again)));
        now = again;
    }
    assert_eq!(begins, MAX_COMMAND_TRIES);
    let (found, next) = find_due(&tracked, reloads, now + Duration::from_secs(86_400));
    assert_eq!((found, next), (None, None));
    // Another version is told anew.
    tracked.holdings.get_mut(&id(1)).unwrap().version = Some(4);
    assert!(find_due(&tracked, reloads, now).0.is_some());
}

#[test]
fn one_that_hangs_is_not_begun_again_and_the_engines_failures_do_not_count() {
    let due = (id(1), secret(), 3);
    let hung = tried(None, due, &Ok(ExecOutcome::TimedOut), Duration::ZERO);
    assert_eq!((hung.failed, hung.again), (1, None));
    let away: Result<ExecOutcome, String> = Err("away".to_owned());
    let mut tries = None;
    for _ in 0..2 * MAX_COMMAND_TRIES {
        tries = Some(tried(tries, due, &away, Duration::ZERO));
    }
    let tries = tries.unwrap();
    assert_eq!((tries.failed, tries.again), (0, Some(RETRY_AFTER)));
}
