//! Which command is due, what its end means, and when it is tried again.

use std::collections::BTreeMap;

use keywheel_core::id::SecretId;
use keywheel_core::name::{Directory, FileName};

use super::*;
use crate::decide::tests::tracked as of_a_container;
use crate::model::{Holding, Place};

const LIMIT: Duration = Duration::from_secs(30);

fn id(number: u8) -> BindingId {
    BindingId::from_bytes([number; 16])
}

/// Numbers of contents that are no versions.
fn content_of(number: u8) -> u64 {
    100 + u64::from(number)
}

fn waiting(number: u8) -> Waiting {
    Waiting {
        binding: id(number),
        secret: secret(),
        version: 3,
        content: content_of(number),
    }
}

fn secret() -> SecretId {
    SecretId::from_bytes([7; 16])
}

/// A container that holds version 3 under the bindings 1 to 3, with this much to do.
fn tracked(ack: Ack) -> Tracked {
    let mut tracked = of_a_container("runc", &[]);
    for number in 1..=3 {
        let holding = Holding {
            secret: secret(),
            place: Place::File {
                directory: Directory::parse("/run/secrets").unwrap(),
                name: FileName::parse(&format!("f{number}")).unwrap(),
            },
            attr: None,
            form: None,
            further: BTreeMap::new(),
            previous: BTreeMap::new(),
            news: Vec::new(),
            version: Some(3),
            content: content_of(number),
            ack,
            remembered: None,
            kept: None,
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
        due: bindings.iter().map(|number| waiting(*number)).collect(),
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
        (Ok(ExecOutcome::Lost), "is not known"),
        (Err("the engine is away".to_owned()), "the engine is away"),
    ] {
        let reason = failure(&command, &result).unwrap();
        assert!(reason.starts_with("reload_failed: "), "{reason}");
        assert!(reason.contains(part), "{reason}");
    }
}

#[test]
fn a_command_that_fails_is_tried_so_often_ever_later_and_then_not_for_this_content() {
    for outcome in [ExecOutcome::Exited(1), ExecOutcome::Lost] {
        let mut tracked = tracked(Ack::Due);
        let reloads = &reloads()[..1];
        let mut now = Duration::ZERO;
        let mut begins = 0;
        while let (Some(found), None) = find_due(&tracked, reloads, now) {
            begins += 1;
            tracked.note_try(&found, waiting(1), &Ok(outcome), now);
            let Some(again) = tracked.tries[&id(1)].again else {
                break;
            };
            let wait = RETRY_AFTER * 2_u32.pow(begins - 1);
            assert_eq!(again, now + wait);
            let (found, next) = find_due(&tracked, reloads, again - Duration::from_millis(1));
            assert_eq!((found, next), (None, Some(again)));
            now = again;
        }
        assert_eq!(begins, MAX_COMMAND_TRIES);
        let (found, next) = find_due(&tracked, reloads, now + Duration::from_secs(86_400));
        assert_eq!((found, next), (None, None));
        // A corrected command is tried at once, for the same content,
        let corrected = [(id(1), command("/bin/c"))];
        let (found, _) = find_due(&tracked, &corrected, now);
        assert_eq!(found, Some(begun("/bin/c", &[1])));
        let longer = Reload::Command {
            argv: vec!["/bin/a".to_owned()],
            timeout: 2 * LIMIT,
        };
        assert!(find_due(&tracked, &[(id(1), longer)], now).0.is_some());
        // and the same command for another content of the same version.
        tracked.holdings.get_mut(&id(1)).unwrap().content = 200;
        assert!(find_due(&tracked, reloads, now).0.is_some());
    }
}

#[test]
fn what_was_tried_is_forgotten_with_the_content() {
    let mut tracked = tracked(Ack::Due);
    let failed = Ok(ExecOutcome::Exited(1));
    for number in 1..=3 {
        let command = begun("/bin/a", &[number]);
        tracked.note_try(&command, waiting(number), &failed, Duration::ZERO);
    }
    let same = tracked.holdings.get(&id(1)).cloned().unwrap();
    let other = Holding {
        content: 200,
        ..tracked.holdings.get(&id(2)).cloned().unwrap()
    };
    tracked.put(id(1), same);
    tracked.put(id(2), other);
    tracked.drop_holding(id(3));
    assert_eq!(tracked.tries.keys().collect::<Vec<_>>(), [&id(1)]);
}

#[test]
fn one_that_hangs_is_not_begun_again_and_what_did_not_begin_does_not_count() {
    let command = begun("/bin/a", &[1]);
    let hung = tried(
        None,
        &command,
        101,
        &Ok(ExecOutcome::TimedOut),
        Duration::ZERO,
    );
    assert_eq!((hung.failed, hung.again), (1, None));
    let away: Result<ExecOutcome, String> = Err("away".to_owned());
    let mut tries = None;
    for _ in 0..2 * MAX_COMMAND_TRIES {
        tries = Some(tried(tries.as_ref(), &command, 101, &away, Duration::ZERO));
    }
    let tries = tries.unwrap();
    assert_eq!((tries.failed, tries.again), (0, Some(RETRY_AFTER)));
}

/// What the end of `/bin/a` means, after a change of what is held, planned or alive.
fn judged(
    change: impl Fn(&mut Tracked),
    reload: Option<&Reload>,
    failed: Option<&str>,
    is_alive: bool,
) -> Verdict {
    let mut tracked = tracked(Ack::Due);
    change(&mut tracked);
    let ended = Ended {
        failed: failed.map(str::to_owned),
        pid: 1,
        is_alive,
    };
    judge(&tracked, &begun("/bin/a", &[1]), waiting(1), reload, &ended)
}

fn held(tracked: &mut Tracked) -> &mut Holding {
    tracked.holdings.get_mut(&id(1)).unwrap()
}

#[test]
fn an_end_tells_what_is_held_and_planned_as_when_it_began() {
    let same = command("/bin/a");
    assert_eq!(judged(|_| {}, Some(&same), None, true), Verdict::Done);
    let failed = judged(|_| {}, Some(&same), Some("no"), true);
    assert_eq!(failed, Verdict::Failed("no".to_owned()));
    // The process that was told has ended since.
    assert_eq!(judged(|_| {}, Some(&same), None, false), Verdict::Ended);
}

#[test]
fn an_end_says_nothing_of_what_changed_meanwhile() {
    let same = command("/bin/a");
    let changes: [fn(&mut Tracked); 6] = [
        |tracked| held(tracked).version = Some(4),
        // There and back, or another template for the same version.
        |tracked| held(tracked).content = 200,
        |tracked| held(tracked).secret = SecretId::from_bytes([8; 16]),
        |tracked| held(tracked).ack = Ack::Done,
        |tracked| tracked.drop_holding(id(1)),
        |tracked| tracked.record.pid = 2,
    ];
    let slower = Reload::Command {
        argv: vec!["/bin/a".to_owned()],
        timeout: 2 * LIMIT,
    };
    let reloads = [command("/bin/b"), slower, Reload::Signal(1)];
    for failed in [None, Some("no")] {
        for change in changes {
            assert_eq!(judged(change, Some(&same), failed, true), Verdict::Other);
        }
        for reload in reloads.iter().map(Some).chain([None]) {
            assert_eq!(judged(|_| {}, reload, failed, true), Verdict::Other);
        }
    }
}
