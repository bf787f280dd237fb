//! How a rotation begins: by a slot, by a person, with a value or without, and what refuses it.

use super::*;
use crate::schedule::OnEvent;

/// What an event leads to.
const LED: RotationId = RotationId::from_bytes([9; 16]);

#[test]
fn a_provided_value_asks_the_shell_to_take_it_from_the_stash() {
    let put = Command::Put {
        id: SECRET,
        rotation: FIRST,
        name: secret_name(),
        provided: true,
    };
    let given = Given::nothing().and(put);
    let rotation = &given.world().rotations[&FIRST];
    let create = Event::StepStarted {
        step: Step::Create,
        attempt: 1,
    };
    let work = StepWork {
        rotation: FIRST,
        secret: SECRET,
        step: Step::Create,
        attempt: 1,
        versions: vec![1],
        generator: None,
        provided: true,
        outside: None,
        resource: None,
        mark: None,
    };
    let effects = react(given.world(), rotation, &create);
    assert_eq!(
        effects,
        [Effect {
            work: Work::Step(work)
        }]
    );
}

#[test]
fn a_put_without_a_value_registers_an_unknown_name_with_the_default_generator() {
    let put = |rotation| Command::Put {
        id: SECRET,
        rotation,
        name: secret_name(),
        provided: false,
    };
    let given = Given::nothing().and(put(FIRST));
    assert_eq!(given.secret().spec.generator, Some(Generator::default()));
    let finished = given.finished(FIRST).and(put(SECOND));
    assert_eq!(finished.secret().pending, Some(2));
}

#[test]
fn a_put_without_a_value_gives_a_secret_without_a_generator_the_default_one() {
    let put = Command::Put {
        id: SECRET,
        rotation: SECOND,
        name: secret_name(),
        provided: false,
    };
    let given = Given::nothing().and(apply_secret(Spec::default()));
    let changed = of_secret(secret::Event::SpecChanged { spec: generated() });
    let after = given
        .when(put)
        .then_among_others([changed, step(Step::Create, 1)]);
    assert_eq!(after.secret().spec, generated());
}

/// The secret rotates every minute and it is late enough for the slots of these tests.
fn scheduled(given: Given) -> Given {
    let mut spec = given.secret().spec.clone();
    spec.rotation.schedule = Schedule::Interval(Duration::from_secs(60));
    given.and(apply_secret(spec)).at(later(60))
}

#[test]
fn a_slot_starts_a_rotation_and_is_remembered() {
    let after = scheduled(Given::serving())
        .when(due(later(60)))
        .then_among_others([own(Event::Started {
            secret: SECRET,
            version: 2,
            trigger: Trigger::Slot {
                slot: SlotId::from_bytes([1; 16]),
                scheduled: later(60),
                tzdata: None,
            },
        })]);
    assert_eq!(after.world().last_slot(SECRET), Some(later(60)));
}

#[test]
fn a_slot_is_recorded_with_the_time_zone_rules_that_it_was_due_by() {
    let release = || Some("2026a".to_owned());
    let slot = SlotId::from_bytes([1; 16]);
    let by_release = Command::Due {
        rotation: SECOND,
        secret: SECRET,
        slot,
        scheduled: later(60),
        after: None,
        tzdata: release(),
    };
    let given = scheduled(Given::serving()).when(by_release);
    given.then_among_others([own(Event::Started {
        secret: SECRET,
        version: 2,
        trigger: Trigger::Slot {
            slot,
            scheduled: later(60),
            tzdata: release(),
        },
    })]);
}

#[test]
fn a_slot_is_served_once_and_an_earlier_one_not_at_all() {
    let given = scheduled(Given::first_version())
        .and(due(later(60)))
        .finished(SECOND);
    let given = given.and(done(SECOND, Step::RevokeOld));
    for scheduled in [later(60), later(59)] {
        let rejection = Rejection::SlotServed {
            secret: secret_name(),
        };
        given.clone().when(due(scheduled)).then_rejected(rejection);
    }
}

#[test]
fn a_slot_that_is_still_to_come_is_refused_and_bars_no_other() {
    let given = scheduled(Given::serving());
    let latest = later(60).plus(MAX_SLOT_SKEW);
    for early in [
        latest.plus(Duration::from_micros(1)),
        Timestamp::from_micros(i64::MAX),
    ] {
        let rejection = Rejection::SlotEarly {
            secret: secret_name(),
        };
        given.clone().when(due(early)).then_rejected(rejection);
    }
    let after = given.and(due(latest));
    assert_eq!(after.world().last_slot(SECRET), Some(latest));
}

#[test]
fn a_secret_without_a_schedule_has_no_slots() {
    let rejection = Rejection::NotScheduled {
        secret: secret_name(),
    };
    let given = Given::serving().at(later(60));
    given.when(due(later(60))).then_rejected(rejection);
}

#[test]
fn a_largest_age_or_a_lifetime_alone_makes_slots() {
    let hour = Some(Duration::from_secs(3600));
    for policy in [
        RotationPolicy {
            max_age: hour,
            ..RotationPolicy::default()
        },
        RotationPolicy {
            lifetime: hour,
            ..RotationPolicy::default()
        },
    ] {
        let mut spec = Given::serving().secret().spec.clone();
        spec.rotation = policy;
        let given = Given::serving().and(apply_secret(spec)).at(later(60));
        let after = given.and(due(later(60)));
        assert_eq!(after.world().last_slot(SECRET), Some(later(60)));
    }
}

#[test]
fn a_secret_has_one_open_rotation() {
    let open = || Rejection::AlreadyOpen {
        secret: secret_name(),
        rotation: SECOND,
    };
    let given = scheduled(Given::serving()).and(rotate(SECOND));
    given.clone().when(rotate(THIRD)).then_rejected(open());
    given.when(due(later(60))).then_rejected(open());
}

#[test]
fn a_secret_without_a_generator_does_not_rotate_by_itself() {
    let rejection = Rejection::NoGenerator {
        secret: secret_name(),
    };
    let given = Given::nothing().and(apply_secret(Spec::default()));
    given
        .clone()
        .when(rotate(SECOND))
        .then_rejected(rejection.clone());
    let given = scheduled(given);
    given.when(due(later(60))).then_rejected(rejection);
}

#[test]
fn a_name_much_like_a_known_one_is_suggested() {
    let name = SecretName::parse("prod/dv").unwrap();
    let rotate = Command::Rotate {
        rotation: SECOND,
        secret: name.clone(),
    };
    let unknown = crate::decision::Rejection::SecretUnknown {
        name,
        nearest: Some(secret_name()),
    };
    Given::serving().when(rotate).then_rejected(unknown);
}

#[test]
fn an_id_belongs_to_one_rotation() {
    let other = SecretName::parse("other").unwrap();
    let put = Command::Put {
        id: SecretId::from_bytes([0x77; 16]),
        rotation: FIRST,
        name: other,
        provided: false,
    };
    let taken = Rejection::IdTaken(FIRST);
    let open = Given::nothing().and(apply_secret(generated()));
    open.when(put.clone()).then_rejected(taken.clone());
    let closed = Given::first_version();
    closed.clone().when(put).then_rejected(taken.clone());
    closed.when(rotate(FIRST)).then_rejected(taken);
}

/// The secret rotates after evictions; rotation `SECOND` began and ended since.
fn led() -> Given {
    let mut spec = Given::first_version().secret().spec.clone();
    spec.rotation.on_event = vec![OnEvent {
        event: "dev.keywheel.host.evicted.v1".to_owned(),
        when: None,
        hold_off: None,
    }];
    let given = Given::first_version().and(apply_secret(spec)).at(later(60));
    let given = given.and(rotate(SECOND)).finished(SECOND);
    given.and(done(SECOND, Step::RevokeOld))
}

fn due_after(event: u64, scheduled: Timestamp) -> Command {
    Command::Due {
        rotation: LED,
        secret: SECRET,
        slot: SlotId::from_bytes([3; 16]),
        scheduled,
        after: Some(event),
        tzdata: None,
    }
}

#[test]
fn an_event_before_the_last_start_is_served_by_it_whatever_began_it() {
    let given = led();
    let start = given.world().last_start(SECRET).unwrap();
    for event in [1, start - 1, start] {
        let rejection = Rejection::SlotServed {
            secret: secret_name(),
        };
        let late = due_after(event, later(60));
        given.clone().when(late).then_rejected(rejection);
    }
}

#[test]
fn an_event_after_the_last_start_begins_a_rotation_whatever_the_clocks_say() {
    let start = led().world().last_start(SECRET).unwrap();
    let hour = Duration::from_secs(3600);
    // The clock was set back since the last slot, went ahead of ours, or says the same.
    for (scheduled, written) in [
        (later(1), later(1)),
        (later(60), later(60)),
        (later(60).plus(hour), later(60)),
    ] {
        let given = led();
        let after = given
            .when(due_after(start + 1, scheduled))
            .then_among_others([of_rotation(
                LED,
                Event::Started {
                    secret: SECRET,
                    version: 3,
                    trigger: Trigger::Slot {
                        slot: SlotId::from_bytes([3; 16]),
                        scheduled: written,
                        tzdata: None,
                    },
                },
            )]);
        assert!(after.world().last_start(SECRET).unwrap() > start);
    }
}

#[test]
fn what_is_led_to_by_an_event_takes_no_slot_back_and_needs_a_rule() {
    let slot = Command::Due {
        rotation: THIRD,
        secret: SECRET,
        slot: SlotId::from_bytes([4; 16]),
        scheduled: later(60),
        after: None,
        tzdata: None,
    };
    let given = scheduled(led()).and(slot).finished(THIRD);
    let given = given.and(done(THIRD, Step::RevokeOld));
    let given = given.and(due_after(u64::MAX, later(30)));
    assert_eq!(given.world().last_slot(SECRET), Some(later(60)));
    let rejection = Rejection::NotScheduled {
        secret: secret_name(),
    };
    let given = scheduled(Given::serving());
    let led = due_after(u64::MAX, later(60));
    given.when(led).then_rejected(rejection);
}
