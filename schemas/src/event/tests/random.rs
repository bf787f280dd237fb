//! Events that nobody wrote down, for the tests that take any.

use keywheel_core::event::Event;
use keywheel_core::id::{RevocationId, RotationId, SecretId};
use keywheel_core::lease::Lease;
use keywheel_core::name::SecretName;
use keywheel_core::resource::{self, Kind, Resource};
use keywheel_core::revocation;
use keywheel_core::rotation::{self, Trigger};
use keywheel_core::schedule::{
    Ack, Canary, Freeze, GroupOffset, MissedRun, OnDeadline, OnEvent, RotationPolicy, Schedule,
    Window,
};
use keywheel_core::secret::{self, Generator, Spec, Store};
use keywheel_core::time::Timestamp;
use proptest::prelude::*;

use crate::examples::events;

/// An event of an example, or one made up.
pub(super) fn any_event() -> impl Strategy<Value = Event> {
    let revocation =
        (any::<[u8; 16]>(), any::<Vec<u64>>(), ".{0,80}").prop_map(|(id, versions, reason)| {
            let secret = SecretId::from_bytes(id);
            let event = revocation::Event::Requested {
                secret,
                versions,
                hosts: Vec::new(),
                reason,
                is_to_prove: false,
                is_emergency: false,
            };
            Event::Revocation(RevocationId::from_bytes(id), event)
        });
    let rotation = (any::<[u8; 16]>(), any::<u64>()).prop_map(|(id, version)| {
        let secret = SecretId::from_bytes(id);
        let event = rotation::Event::Started {
            secret,
            version,
            trigger: Trigger::OnDemand,
        };
        Event::Rotation(RotationId::from_bytes(id), event)
    });
    let secret = (any::<[u8; 16]>(), any_spec()).prop_map(|(id, spec)| {
        Event::Secret(
            SecretId::from_bytes(id),
            secret::Event::SpecChanged { spec },
        )
    });
    prop_oneof![
        proptest::sample::select(events().unwrap()),
        revocation,
        rotation,
        secret
    ]
}

/// What limits and shifts a schedule, in a policy that has nothing else.
fn any_limits() -> impl Strategy<Value = RotationPolicy> {
    let span = || proptest::option::of(any::<std::time::Duration>());
    let window = (".{0,20}", ".{0,20}", any::<std::time::Duration>()).prop_map(
        |(expression, timezone, duration)| Window {
            expression,
            timezone,
            duration,
        },
    );
    let instant = || (0_i64..4_000_000_000_000_000).prop_map(Timestamp::from_micros);
    let freeze = (instant(), instant(), ".{0,20}").prop_map(|(from, until, reason)| Freeze {
        from,
        until,
        reason,
    });
    let phase = (".{0,20}", any::<std::time::Duration>())
        .prop_map(|(group, offset)| GroupOffset { group, offset });
    let rule =
        (".{0,20}", proptest::option::of(".{0,20}"), span()).prop_map(|(event, when, hold_off)| {
            OnEvent {
                event,
                when,
                hold_off,
            }
        });
    (
        (span(), span(), span()),
        proptest::collection::vec(rule, 0..3),
        proptest::collection::vec(window, 0..3),
        proptest::collection::vec(freeze, 0..3),
        proptest::option::of(phase),
    )
        .prop_map(
            |((max_age, lifetime, hold_off), on_event, windows, freezes, phase)| RotationPolicy {
                max_age,
                lifetime,
                hold_off,
                windows,
                freezes,
                phase,
                keep_previous: max_age.is_some(),
                on_event,
                ..RotationPolicy::default()
            },
        )
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let accounts = proptest::collection::vec(".{0,20}", 0..3);
    let ca = proptest::option::of(".{0,20}");
    let kinds = prop_oneof![
        Just(Kind::Postgres),
        Just(Kind::Mariadb),
        Just(Kind::Redis),
        Just(Kind::Webhook)
    ];
    let strategies = prop_oneof![
        Just(resource::Strategy::DualPassword),
        Just(resource::Strategy::AlternatingUsers),
        Just(resource::Strategy::SingleUser)
    ];
    (kinds, ".{0,40}", accounts, strategies, ca).prop_map(
        |(kind, connection, accounts, strategy, ca)| Resource {
            kind,
            connection,
            accounts,
            admin: SecretName::parse("shop/admin").unwrap(),
            strategy,
            ca,
        },
    )
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let schedule = prop_oneof![
        Just(Schedule::OnDemand),
        (".{0,20}", ".{0,20}").prop_map(|(expression, timezone)| Schedule::Cron {
            expression,
            timezone
        }),
        any::<std::time::Duration>().prop_map(Schedule::Interval),
    ];
    let generator =
        (any::<u32>(), ".{0,20}", ".{0,20}").prop_map(|(length, alphabet, exclude)| Generator {
            length,
            alphabet,
            exclude,
        });
    (
        schedule,
        any::<std::time::Duration>(),
        any::<bool>(),
        proptest::option::of(generator),
        proptest::option::of(".{0,40}"),
        (any_limits(), proptest::option::of(any_resource())),
    )
        .prop_map(
            |(schedule, jitter, skip, generator, credential_for, (limits, rotator))| {
                let missed_run = if skip {
                    MissedRun::Skip
                } else {
                    MissedRun::Once
                };
                Spec {
                    store: Store::Local,
                    generator,
                    rotation: RotationPolicy {
                        schedule,
                        jitter,
                        missed_run,
                        deadline: skip.then_some(jitter),
                        on_deadline: if skip {
                            OnDeadline::Force
                        } else {
                            OnDeadline::Hold
                        },
                        ack: skip.then_some(Ack::Drained),
                        canary: skip.then_some(Canary {
                            consumers: 2,
                            watch: jitter,
                        }),
                        ..limits
                    },
                    credential_for,
                    rotator: rotator.map(Box::new),
                    lease: skip.then(|| Box::new(probed(jitter))),
                }
            },
        )
}

fn probed(linger: std::time::Duration) -> Lease {
    let probe = resource::Probe {
        kind: Kind::Redis,
        connection: "rediss://cache.example".to_owned(),
        ca: None,
    };
    Lease::PerContainer {
        linger,
        probe: Some(Box::new(probe)),
    }
}
