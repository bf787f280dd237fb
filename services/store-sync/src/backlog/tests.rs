//! What runs when, and what finds no place.

use keywheel_core::effect::{Outside, Part};
use keywheel_core::id::{RevocationId, RotationId};
use keywheel_core::rotation::Step;
use keywheel_core::store::{
    AwsAuth, AwsSpec, Backend, DEFAULT_POLL, DEFAULT_TIMEOUT, NamedStore, Source, StoreSpec,
};

use super::*;

fn job(secret: u8, attempt: u32) -> Job {
    let work = RevokeWork {
        revocation: RevocationId::from_bytes([secret; 16]),
        secret: SecretId::from_bytes([secret; 16]),
        versions: vec![1],
        attempt,
        outside: None,
        resource: None,
        part: Part::Whole,
        is_emergency: false,
    };
    Job {
        effect: Effect {
            work: Work::Revoke(work),
        },
        deadline: Timestamp::default(),
        is_first: true,
        traceparent: None,
    }
}

#[test]
fn one_secret_goes_in_order_and_others_do_not_wait_for_it() {
    let mut backlog = Backlog::default();
    for (number, (secret, attempt)) in [(1, 1), (1, 2), (2, 1)].into_iter().enumerate() {
        backlog.admit(job(secret, attempt), number as u64);
    }
    assert_eq!(backlog.start(), Some(job(1, 1)));
    assert_eq!(backlog.start(), Some(job(2, 1)));
    assert_eq!(
        backlog.start(),
        None,
        "the second of secret 1 waits for the first"
    );
    assert_eq!(backlog.finish(&job(1, 1).effect), [0]);
    assert_eq!(backlog.start(), Some(job(1, 2)));
    assert_eq!(backlog.finish(&job(1, 2).effect), [1]);
    assert_eq!(backlog.finish(&job(2, 1).effect), [2]);
    assert_eq!(backlog.start(), None);
}

fn step_at(secret: u8, store: &str) -> Job {
    let work = StepWork {
        rotation: RotationId::from_bytes([secret; 16]),
        secret: SecretId::from_bytes([secret; 16]),
        step: Step::Set,
        attempt: 1,
        versions: vec![1],
        generator: None,
        provided: false,
        outside: Some(Box::new(at(store))),
        resource: None,
        mark: None,
    };
    Job {
        effect: Effect {
            work: Work::Step(work),
        },
        ..job(secret, 1)
    }
}

fn at(store: &str) -> Outside {
    let auth = AwsAuth::Chain {
        profile: String::new(),
    };
    let spec = StoreSpec {
        backend: Backend::Aws(AwsSpec {
            region: String::new(),
            endpoint: String::new(),
            auth,
        }),
        poll: DEFAULT_POLL,
        timeout: DEFAULT_TIMEOUT,
    };
    let name = StoreName::parse(store).unwrap();
    Outside {
        store: NamedStore { name, spec },
        source: Source::default(),
        known: None,
        fetch: None,
        retire: Vec::new(),
        unstage: None,
        probe: None,
    }
}

#[test]
fn all_stores_outside_together_leave_places_to_ours() {
    let mut backlog = Backlog::default();
    let stores = ["a", "b", "c", "d"];
    for secret in 0..16_u8 {
        let store = stores[usize::from(secret) % stores.len()];
        backlog.admit(step_at(secret, store), secret.into());
    }
    let started = std::iter::from_fn(|| backlog.start()).count();
    assert_eq!(started, MAX_RUNNING_OUTSIDE);
    backlog.admit(job(101, 1), 101);
    assert_eq!(backlog.start(), Some(job(101, 1)), "ours");
    // Nor do they keep a revocation elsewhere from its place.
    let mut revoked = job(102, 1);
    if let Work::Revoke(work) = &mut revoked.effect.work {
        work.outside = Some(Box::new(at("e")));
    }
    backlog.admit(revoked.clone(), 102);
    assert_eq!(backlog.start(), Some(revoked.clone()));
    backlog.finish(&revoked.effect);
    backlog.finish(&step_at(0, "a").effect);
    assert_eq!(backlog.start(), Some(step_at(12, "a")));
}

#[test]
fn a_store_has_so_many_places_and_the_rest_is_for_others() {
    let mut backlog = Backlog::default();
    let many = u8::try_from(MAX_RUNNING_PER_STORE).unwrap() + 2;
    for secret in 1..=many {
        backlog.admit(step_at(secret, "slow"), secret.into());
    }
    backlog.admit(step_at(100, "other"), 100);
    backlog.admit(job(101, 1), 101);
    assert_eq!(
        backlog.start(),
        Some(job(101, 1)),
        "a revocation goes first"
    );
    for secret in 1..=many - 2 {
        assert_eq!(backlog.start(), Some(step_at(secret, "slow")));
    }
    assert_eq!(backlog.start(), Some(step_at(100, "other")));
    assert_eq!(backlog.start(), None);
    backlog.finish(&step_at(2, "slow").effect);
    assert_eq!(backlog.start(), Some(step_at(many - 1, "slow")));
    assert_eq!(backlog.start(), None);
    backlog.finish(&step_at(1, "slow").effect);
    let mut revokes = job(102, 1);
    let Work::Revoke(work) = &mut revokes.effect.work else {
        panic!("it revokes");
    };
    work.outside = Some(Box::new(at("slow")));
    backlog.admit(revokes.clone(), 102);
    assert_eq!(
        backlog.start(),
        Some(revokes),
        "before the step that waits longer"
    );
    assert_eq!(
        backlog.start(),
        None,
        "a revocation takes one of the places"
    );
}

/// A step of its own secret.
fn numbered(number: u16, store: &str) -> Job {
    let mut job = step_at(0, store);
    let Work::Step(step) = &mut job.effect.work else {
        panic!("it is a step");
    };
    let mut id = [0; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    (step.secret, step.rotation) = (SecretId::from_bytes(id), RotationId::from_bytes(id));
    job
}

#[test]
fn the_line_before_a_store_is_bounded_and_its_revocations_have_their_own() {
    let mut backlog = Backlog::default();
    let limit = u16::try_from(MAX_TAKEN_PER_STORE).unwrap();
    for number in 0..limit {
        assert!(backlog.admit(numbered(number, "hung"), number.into()));
    }
    assert!(!backlog.admit(numbered(limit, "hung"), 7000));
    assert!(backlog.admit(numbered(0, "hung"), 7001), "one more copy");
    assert!(backlog.admit(numbered(limit + 1, "other"), 7002));
    let revocation = |secret: u8| {
        let mut job = job(secret, 1);
        if let Work::Revoke(work) = &mut job.effect.work {
            work.outside = Some(Box::new(at("hung")));
        }
        job
    };
    for secret in 0..u8::try_from(limit).unwrap() {
        assert!(backlog.admit(revocation(secret), 8000 + u64::from(secret)));
    }
    assert!(!backlog.admit(revocation(200), 9000));
    assert_eq!(backlog.len(), 2 * MAX_TAKEN_PER_STORE + 3, "two are parked");
    assert!(backlog.admit(numbered(limit, "hung"), 7003), "it is known");
    let ended = std::iter::from_fn(|| backlog.start())
        .find(|job| matches!(job.effect.work, Work::Revoke(_)))
        .unwrap();
    assert_eq!(backlog.finish(&ended.effect).len(), 1);
    assert!(backlog.admit(revocation(201), 9001), "one place is free");
    assert!(!backlog.admit(numbered(limit + 2, "hung"), 7004));
}

#[test]
fn what_is_parked_runs_in_its_turn_and_is_bounded() {
    let mut backlog = Backlog::default();
    let all = u16::try_from(MAX_TAKEN_PER_STORE + MAX_PARKED + 1).unwrap();
    for number in 0..all {
        backlog.admit(numbered(number, "slow"), number.into());
    }
    assert_eq!(backlog.len(), MAX_TAKEN_PER_STORE + MAX_PARKED);
    assert!(backlog.has_room(), "it takes nobody's place");
    let (mut ended, mut copies) = (0, 0);
    while let Some(job) = backlog.start() {
        copies += backlog.finish(&job.effect).len();
        ended += 1;
    }
    assert_eq!(ended, MAX_TAKEN_PER_STORE + MAX_PARKED);
    assert_eq!(
        copies, MAX_TAKEN_PER_STORE,
        "of the others the bus has none"
    );
    assert_eq!(backlog.len(), 0);
}

#[test]
fn all_stores_outside_together_leave_room_to_ours() {
    let mut backlog = Backlog::default();
    let stores = MAX_QUEUED / MAX_TAKEN_PER_STORE;
    let mut taken = 0;
    for number in 0..u16::try_from(MAX_QUEUED).unwrap() {
        let store = format!("s{}", usize::from(number) % stores);
        taken += usize::from(backlog.admit(numbered(number, &store), number.into()));
    }
    assert_eq!(taken, MAX_TAKEN_OUTSIDE);
    assert!(backlog.has_room());
    assert!(backlog.admit(job(1, 1), 5000), "ours");
    let first = std::iter::from_fn(|| backlog.start())
        .find(|job| outside(&job.effect).is_some())
        .unwrap();
    assert!(!backlog.admit(numbered(6000, "new"), 6000));
    backlog.finish(&first.effect);
    assert!(backlog.admit(numbered(6001, "new"), 6001), "one is free");
    assert!(!backlog.admit(numbered(6002, "new"), 6002));
}

#[test]
fn copies_of_one_effect_run_once_and_finish_together() {
    let mut backlog = Backlog::default();
    backlog.admit(job(1, 1), 7);
    backlog.admit(job(1, 1), 8);
    let running = backlog.start().unwrap();
    backlog.admit(job(1, 1), 7);
    backlog.admit(job(1, 1), 9);
    assert_eq!(backlog.start(), None);
    assert_eq!(backlog.finish(&running.effect), [7, 8, 9]);
    assert_eq!(backlog.start(), None);
    backlog.admit(job(1, 1), 10);
    assert!(
        backlog.start().is_some(),
        "what comes after the end runs again"
    );
}

#[test]
fn the_latest_deadline_of_what_waits_counts_and_a_second_copy_makes_it_a_repeat() {
    let mut backlog = Backlog::default();
    let until = |micros| Job {
        deadline: Timestamp::from_micros(micros),
        ..job(1, 1)
    };
    for (sequence, micros) in [(1, 5), (2, 9), (3, 7)] {
        backlog.admit(until(micros), sequence);
    }
    let repeat = Job {
        is_first: false,
        ..until(9)
    };
    assert_eq!(backlog.start(), Some(repeat));
    backlog.admit(until(20), 4);
    assert_eq!(backlog.finish(&job(1, 1).effect), [1, 2, 3, 4]);
}

#[test]
fn what_waits_is_bounded() {
    let mut backlog = Backlog::default();
    for attempt in 0..u32::try_from(MAX_QUEUED).unwrap() {
        assert!(backlog.has_room());
        backlog.admit(job(1, attempt), attempt.into());
    }
    assert!(!backlog.has_room());
    let first = backlog.start().unwrap();
    assert!(!backlog.has_room());
    backlog.finish(&first.effect);
    assert!(backlog.has_room());
}

/// A revocation of a secret at this store, which a person called an emergency.
fn emergency(secret: u8, store: &str) -> Job {
    let mut job = job(secret, 1);
    if let Work::Revoke(work) = &mut job.effect.work {
        work.outside = Some(Box::new(at(store)));
        work.is_emergency = true;
    }
    job
}

#[test]
fn an_emergency_goes_before_other_revocations_and_takes_nobody_s_place() {
    let mut backlog = Backlog::default();
    let revocation = |secret: u8| {
        let mut job = emergency(secret, "hung");
        if let Work::Revoke(work) = &mut job.effect.work {
            work.is_emergency = false;
        }
        job
    };
    let places = u8::try_from(MAX_RUNNING_PER_STORE).unwrap();
    for secret in 0..places {
        backlog.admit(revocation(secret), secret.into());
        assert!(backlog.start().is_some());
    }
    backlog.admit(revocation(100), 100);
    assert_eq!(backlog.start(), None, "the store has no place");
    let many = u8::try_from(MAX_EMERGENCIES_PER_STORE).unwrap();
    for secret in 101..=101 + many {
        backlog.admit(emergency(secret, "hung"), secret.into());
    }
    for secret in 101..101 + many {
        assert_eq!(backlog.start(), Some(emergency(secret, "hung")));
    }
    assert_eq!(backlog.start(), None, "so many at once, and no more");
    backlog.finish(&emergency(101, "hung").effect);
    assert_eq!(backlog.start(), Some(emergency(101 + many, "hung")));
    // Of others' places none is taken, and none is freed.
    backlog.finish(&revocation(0).effect);
    assert_eq!(backlog.start(), Some(revocation(100)));
}

#[test]
fn what_an_emergency_waits_behind_is_as_urgent_as_it_is_and_goes_before_it() {
    let mut backlog = Backlog::default();
    let places = u8::try_from(MAX_RUNNING_PER_STORE).unwrap();
    for secret in 1..=places {
        backlog.admit(step_at(secret, "slow"), secret.into());
        assert!(backlog.start().is_some());
    }
    backlog.admit(step_at(100, "slow"), 100);
    assert_eq!(backlog.start(), None);
    backlog.admit(emergency(100, "slow"), 101);
    assert_eq!(backlog.start(), Some(step_at(100, "slow")));
    assert_eq!(backlog.start(), None, "of one secret one at a time");
    backlog.finish(&step_at(100, "slow").effect);
    assert_eq!(backlog.start(), Some(emergency(100, "slow")));
}

#[test]
fn the_line_before_all_stores_together_holds_up_no_emergency() {
    let mut backlog = Backlog::default();
    let stores = MAX_QUEUED / MAX_TAKEN_PER_STORE;
    for number in 0..u16::try_from(MAX_QUEUED).unwrap() {
        let store = format!("s{}", usize::from(number) % stores);
        backlog.admit(numbered(number, &store), number.into());
    }
    assert!(!backlog.admit(numbered(6000, "new"), 6000));
    assert!(backlog.admit(emergency(200, "s0"), 6001));
    assert_eq!(backlog.start(), Some(emergency(200, "s0")));
}

#[test]
fn an_emergency_is_started_where_nothing_else_is() {
    let mut backlog = Backlog::default();
    backlog.admit(job(1, 1), 1);
    backlog.admit(step_at(2, "slow"), 2);
    assert_eq!(backlog.start_emergency(), None);
    backlog.admit(emergency(3, "slow"), 3);
    assert_eq!(backlog.start_emergency(), Some(emergency(3, "slow")));
    assert_eq!(backlog.start_emergency(), None);
    assert_eq!(backlog.start(), Some(job(1, 1)));
}
