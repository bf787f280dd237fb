//! How long a lease lives on that gave way: by what its container shows of the next one, by what its secret says, and
//! by its own time; and what ends that before.

use super::*;
use crate::decision::drain_cause;
use crate::id::RunId;
use crate::schedule::{Ack, RotationPolicy};
use crate::time::Timestamp;

/// The declared secret says this of `ack`.
fn saying(ack: Option<Ack>) -> Spec {
    Spec {
        rotation: RotationPolicy {
            ack,
            ..RotationPolicy::default()
        },
        ..dynamic()
    }
}

/// Container 1 has this version, as its binding has it show that.
fn shows(reload: &Reload, version: u64) -> Command {
    let fact = match reload {
        Reload::None => Fact::Swapped { version, at: NOW },
        _ => Fact::Reloaded { version, at: NOW },
    };
    let shown = Item {
        fact,
        ..leased(1, version)
    };
    Command::Report(HostReport {
        holds: vec![(lease(1), version)],
        ..report(vec![shown], &[])
    })
}

/// A lease is made that lives so long.
fn minted_for(given: Given, rotation: RotationId, seconds: u64) -> Given {
    let made = Command::StepOutcome {
        rotation,
        step: Step::Create,
        attempt: 1,
        failure: None,
        is_away: false,
        remote: Some(RemoteVersion(format!("{rotation}:suffix:{seconds}"))),
        sessions: None,
    };
    [Step::Set, Step::Test, Step::Finish]
        .into_iter()
        .fold(given.and(made), |given, step| {
            given.and(done(rotation, step))
        })
}

/// Container 1 runs on one lease and is to have another one, which a person asked for.
fn swapping(ack: Option<Ack>, reload: &Reload, [first, next]: [u64; 2]) -> Given {
    let bound = Given::nothing()
        .and(store())
        .and(apply_secret(saying(ack)))
        .and(enrol(HOST))
        .and(apply_binding(anywhere(), file(), reload.clone()));
    let served = minted_for(bound.and(wants(&[1])), mint(0), first);
    let served = served.and(shows(reload, 1));
    minted_for(served.and(another()), SECOND, next)
}

/// Container 1 has another lease, and its sessions of the one before are asked for.
fn asked() -> Given {
    swapping(None, &Reload::None, [3600; 2]).and(shows(&Reload::None, 2))
}

/// Container 1 has another lease, and the one before lives on for a while.
pub(crate) fn giving_way() -> Given {
    asked().and(done(SECOND, Step::Drain))
}

fn asks() -> Event {
    let step = Step::Drain;
    of_rotation(SECOND, rotation::Event::StepStarted { step, attempt: 1 })
}

fn untold(until: Timestamp) -> Event {
    let event = rotation::Event::SessionsUntold { attempt: 1, until };
    of_rotation(SECOND, event)
}

/// The lease before ends, and the swap with it.
fn ends() -> [Event; 2] {
    let outcome = Outcome::Completed;
    let revoked = secret::Event::VersionRevoked { version: 1 };
    let closed = rotation::Event::Closed { outcome };
    [of_lease(1, revoked), of_rotation(SECOND, closed)]
}

fn passed() -> Command {
    Command::DeadlinePassed { rotation: SECOND }
}

fn alive(given: &Given) -> Vec<u64> {
    given.world().secrets[&lease(1)].alive()
}

fn is_rotating(given: &Given) -> bool {
    let news = given.world().store_news(0, u64::MAX).secrets;
    let own = news.into_iter().find(|now| now.secret == lease(1));
    own.unwrap().is_rotating
}

/// Every cell, and that what is said beforehand is what comes.
#[test]
fn a_lease_that_gave_way_lives_on_where_nobody_knows_whether_its_container_uses_the_next_one() {
    let (none, told) = (Reload::None, Reload::Signal(1));
    for (ack, reload, times, grace) in [
        (None, &none, [3600, 3600], Some(300)),
        (None, &none, [900, 3600], Some(300)),
        (None, &none, [60, 60], Some(20)),
        // Neither is to need the next one meanwhile.
        (None, &none, [3600, 60], Some(20)),
        (None, &none, [60, 3600], Some(20)),
        (None, &told, [3600, 3600], None),
        (Some(Ack::Reloaded), &none, [3600, 3600], None),
        (Some(Ack::Reloaded), &told, [3600, 3600], None),
        (Some(Ack::Drained), &none, [3600, 3600], Some(300)),
        (Some(Ack::Drained), &told, [3600, 3600], Some(300)),
        (Some(Ack::Drained), &told, [60, 60], Some(20)),
    ] {
        let cell = format!("{ack:?} {reload:?} {times:?}");
        let given = swapping(ack, reload, times);
        let cause = drain_cause(given.world(), &given.world().secrets[&lease(1)]);
        assert_eq!(cause.is_some(), grace.is_some(), "{cell}");
        let shown = given.when(shows(reload, 2));
        let Some(grace) = grace else {
            shown.then_among_others(ends());
            continue;
        };
        let given = shown.then_among_others([asks()]);
        let until = later(grace);
        let given = given.when(done(SECOND, Step::Drain)).then([untold(until)]);
        assert_eq!(alive(&given), [1, 2], "{cell}");
        let early = given.clone().at(later(grace - 1)).when(passed());
        early.then_rejected(rotation::Rejection::NoDeadline(SECOND));
        let over = given.at(until).when(passed()).then_among_others(ends());
        let end = &over.world().revocations[&lease::end_of(SECOND)];
        assert_eq!(
            (&end.versions[..], end.retire.len()),
            (&[1][..], 1),
            "{cell}"
        );
    }
}

#[test]
fn what_the_declared_secret_says_of_it_counts_as_it_is_when_the_container_has_the_next_one() {
    let swapping = |ack| swapping(ack, &Reload::None, [3600; 2]);
    let given = swapping(None).and(apply_secret(saying(Some(Ack::Reloaded))));
    given
        .when(shows(&Reload::None, 2))
        .then_among_others(ends());
    let given = swapping(Some(Ack::Reloaded)).and(apply_secret(saying(None)));
    given
        .when(shows(&Reload::None, 2))
        .then_among_others([asks()]);
}

#[test]
fn the_grace_is_the_log_s_and_a_crash_in_it_makes_it_no_longer() {
    let given = giving_way();
    let until = later(300);
    let replayed = Given::events(given.log().iter().cloned()).at(later(299));
    assert_eq!(
        replayed.world().rotations[&SECOND],
        given.world().rotations[&SECOND]
    );
    // Asked once more, as after a crash of whoever was to answer, it ends when it was to end.
    let asked = replayed.and(Command::RetryStep { rotation: SECOND });
    let again = Command::StepOutcome {
        rotation: SECOND,
        step: Step::Drain,
        attempt: 2,
        failure: None,
        is_away: false,
        remote: None,
        sessions: None,
    };
    let event = rotation::Event::SessionsUntold { attempt: 2, until };
    let given = asked.when(again).then([of_rotation(SECOND, event)]);
    given.at(until).when(passed()).then_among_others(ends());
}

/// The log says what was decided, by whatever rule; folding decides nothing.
#[test]
fn a_swap_that_ended_the_lease_before_at_once_by_an_older_rule_has_ended_it() {
    let before = swapping(None, &Reload::None, [3600; 2]);
    let told = before.clone().and(shows(&Reload::None, 2));
    let as_now = told.log().iter().skip(before.log().len());
    let as_then = as_now.filter(|event| **event != asks()).cloned();
    let log = before.log().iter().cloned().chain(as_then).chain(ends());
    let given = Given::events(log.collect::<Vec<_>>());
    assert_eq!(alive(&given), [2]);
    assert!(given.world().open_rotation(lease(1)).is_none());
    given
        .when(passed())
        .then_rejected(rotation::Rejection::NoDeadline(SECOND));
}

#[test]
fn an_incident_waits_for_no_grace() {
    for given in [asked(), giving_way()] {
        let revoked = |version| of_lease(1, secret::Event::VersionRevoked { version });
        let outcome = Outcome::Cancelled;
        let cancelled = of_rotation(SECOND, rotation::Event::Closed { outcome });
        let all = given.clone().when(revoke(None));
        let all = all.then_among_others([revoked(1), revoked(2), cancelled]);
        assert_eq!(all.world().revocations[&REVOCATION].versions, [1, 2]);
        let old = Command::Revoke {
            revocation: REVOCATION,
            secret: hidden_name(),
            version: Some(1),
            reason: "leaked".to_owned(),
            is_emergency: false,
        };
        let old = given.when(old).then_among_others(ends());
        assert_eq!(alive(&old), [2]);
        assert!(!old.world().revocations.contains_key(&lease::end_of(SECOND)));
    }
}

#[test]
fn both_leases_of_a_container_that_goes_away_meanwhile_end_as_one_alone_does() {
    let removed = Item {
        fact: Fact::Removed,
        ..leased(1, 2)
    };
    let linger = giving_way().and(only(&[])).at(NOW.plus(DEFAULT_LINGER));
    for over in [
        giving_way().and(says(vec![removed])),
        giving_way().and(evict(HOST)),
        linger.and(Command::LingerEnded { secret: lease(1) }),
    ] {
        assert_eq!(alive(&over), Vec::<u64>::new());
        assert!(over.world().open_rotation(lease(1)).is_none());
        let ending = over.world().revocations.values();
        let ending: Vec<u64> = ending.flat_map(|end| end.versions.clone()).collect();
        assert_eq!(ending, [1, 2]);
    }
}

#[test]
fn a_lease_in_use_that_needs_another_one_waits_for_no_grace_of_the_one_before() {
    for given in [asked(), giving_way()] {
        assert!(!is_rotating(&given), "its store's word is asked for");
        let known = given.world().secrets[&lease(1)].known.clone();
        let word = Command::Observed(Observation {
            secret: lease(1),
            rotation: THIRD,
            known,
            found: None,
            is_unchanged: false,
            is_gone: true,
        });
        let started = rotation::Event::Started {
            secret: lease(1),
            version: 3,
            trigger: Trigger::OnDemand,
        };
        let [revoked, closed] = ends();
        let given =
            given
                .when(word)
                .then_among_others([revoked, closed, of_rotation(THIRD, started)]);
        assert_eq!(alive(&given), [2, 3]);
        assert!(is_rotating(&given));
        assert_eq!(given.world().open_rotation(lease(1)).unwrap().id, THIRD);
    }
    // A person's wish is no need.
    let again = Command::Rotate {
        rotation: THIRD,
        secret: hidden_name(),
    };
    let open = rotation::Rejection::AlreadyOpen {
        secret: hidden_name(),
        rotation: SECOND,
    };
    giving_way().when(again).then_rejected(open);
}

#[test]
fn what_goes_back_to_the_lease_before_is_waited_for_until_it_is_back() {
    let abort = Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Abort,
        reason: "it does not work".to_owned(),
    };
    let back = giving_way().and(abort).and(shows(&Reload::None, 1));
    let open = back.world().open_rotation(lease(1)).unwrap();
    assert!(open.is_draining() && open.returning == Some(1), "{open:?}");
    assert!(is_rotating(&back));
    assert_eq!(alive(&back), [1, 2]);
    let attempt = open.drain.asked;
    let untold = Command::StepOutcome {
        rotation: SECOND,
        step: Step::Drain,
        attempt,
        failure: None,
        is_away: false,
        remote: None,
        sessions: None,
    };
    let dying = of_lease(1, secret::Event::VersionRevoked { version: 2 });
    let over = back.and(untold).at(later(300));
    over.when(passed()).then_among_others([dying]);
}

#[test]
fn what_a_playbook_replaces_keeps_no_grace_unless_its_secret_asks_for_one() {
    let run = RunId::from_bytes([0x52; 16]);
    let replaced = |ack| {
        let served = swapping(ack, &Reload::None, [3600; 2]);
        let begun = served.log().iter().cloned().map(|event| match event {
            Event::Rotation(
                SECOND,
                rotation::Event::Started {
                    secret, version, ..
                },
            ) => {
                let trigger = Trigger::Playbook { run };
                let started = rotation::Event::Started {
                    secret,
                    version,
                    trigger,
                };
                of_rotation(SECOND, started)
            }
            other => other,
        });
        Given::events(begun.collect::<Vec<_>>()).when(shows(&Reload::None, 2))
    };
    replaced(None).then_among_others(ends());
    replaced(Some(Ack::Drained)).then_among_others([asks()]);
}
