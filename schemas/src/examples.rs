//! One real example of every event type: what is kept in `schemas/golden`, and what tests start from.
//!
//! Ids and instants are fixed, so that the files only change when the format does.

mod approval;
mod order;
mod outward;
mod playbook;
mod policy;
mod store;
mod token;

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::assignment::{self, Key};
use keywheel_core::audit::Principal;
use keywheel_core::binding::{self, ImageSelector, Reload, Selector, Target};
use keywheel_core::event::Event;
use keywheel_core::id::{
    BindingId, CommandId, ContainerId, DeliveryId, EventId, HostId, JoinTokenId, NotificationId,
    RevocationId, RotationId, SecretId, SignalSourceId, SlotId, StoreId,
};
use keywheel_core::lease::DEFAULT_LINGER;
use keywheel_core::name::{
    BindingName, BusKey, Directory, FileName, HostName, NameError, SecretName,
};
use keywheel_core::revocation::Answer;
use keywheel_core::rotation::{self, Outcome, Step, Trigger};
use keywheel_core::schedule::{CANARY_WATCH, MissedRun, RotationPolicy, Schedule};
use keywheel_core::secret::{self, Generator, Spec, Store};
use keywheel_core::store::RemoteVersion;
use keywheel_core::time::Timestamp;
use keywheel_core::{host, revocation, rollout};

use crate::event::EventMeta;

/// 2026-01-04 02:00:00 UTC.
const NIGHT: Timestamp = Timestamp::from_micros(1_767_492_000_000_000);

/// An example could not be made: a name in it is off the grammar.
#[derive(Debug, thiserror::Error)]
pub enum ExampleError {
    /// A name.
    #[error("an example's name is off the grammar")]
    Name(#[from] NameError),
    /// A container id.
    #[error("an example's container id is none")]
    Container(#[from] keywheel_core::id::ParseContainerIdError),
}

const fn id(first: u8) -> [u8; 16] {
    [
        first, 0x9a, 0x5c, 0x10, 0x3e, 0x77, 0x7d, 0x21, 0x8b, 0x44, 0x01, 0x02, 0x03, 0x04, 0x05,
        0x06,
    ]
}

const SECRET: SecretId = SecretId::from_bytes(id(0x01));
const BINDING: BindingId = BindingId::from_bytes(id(0x02));
const HOST: HostId = HostId::from_bytes(id(0x03));
const ROTATION: RotationId = RotationId::from_bytes(id(0x04));
const TOKEN: JoinTokenId = JoinTokenId::from_bytes(id(0x08));
const STORE: StoreId = StoreId::from_bytes(id(0x09));
const REVOCATION: RevocationId = RevocationId::from_bytes(id(0x05));
const NOTIFICATION: NotificationId = NotificationId::from_bytes(id(0x0a));
const SOURCE: SignalSourceId = SignalSourceId::from_bytes(id(0x0b));

/// The trace context of every example (W3C's own).
pub const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What the journal says about the n-th example.
#[must_use]
pub fn meta(number: u64) -> EventMeta {
    EventMeta {
        id: EventId::from_bytes(id(0x10)),
        number,
        aggregate_sequence: 1,
        time: NIGHT.plus(Duration::from_micros(number)),
        source: "keywheel/07a1b2c3-0000-7000-8000-000000000001/gateway".to_owned(),
        traceparent: Some(TRACE.to_owned()),
        causation: CommandId::from_bytes(id(0x11)),
        previous_hash: [0xab; 32],
    }
}

/// One event of every type, in the order of [`all_types`](crate::event::all_types).
///
/// # Errors
/// Never, unless a grammar of the core changed.
pub fn events() -> Result<Vec<Event>, ExampleError> {
    let mut events = Vec::new();
    events.extend(
        of_secret()?
            .into_iter()
            .map(|event| Event::Secret(SECRET, event)),
    );
    events.extend(
        of_binding()?
            .into_iter()
            .map(|event| Event::Binding(BINDING, event)),
    );
    let key = consumer()?;
    events.extend(
        of_assignment()
            .into_iter()
            .map(|event| Event::Assignment(key.clone(), event)),
    );
    let hosts = of_host()?.into_iter().chain(order::of_host(&key.container));
    events.extend(hosts.map(|event| Event::Host(HOST, event)));
    events.extend(
        of_rotation(&key)
            .into_iter()
            .chain(of_waiting(&key))
            .chain(of_cut_over())
            .chain(of_canaries(&key))
            .map(|event| Event::Rotation(ROTATION, event)),
    );
    events.extend(
        of_revocation()
            .into_iter()
            .chain(of_proof())
            .map(|event| Event::Revocation(REVOCATION, event)),
    );
    let stores = store::of_store()?.into_iter();
    events.extend(stores.map(|event| Event::Store(STORE, event)));
    let service = rollout::Service {
        image_digest: format!("sha256:{}", "4f".repeat(32)),
        name: String::new(),
    };
    events.extend(
        of_rollout(&key)
            .into_iter()
            .map(|event| Event::Rollout(service.clone(), event)),
    );
    let notifications = outward::of_notification()?.into_iter();
    events.extend(notifications.map(|event| Event::Notification(NOTIFICATION, event)));
    let signals = outward::of_signal()?.into_iter();
    events.extend(signals.map(|event| Event::Signal(SOURCE, event)));
    let playbooks = playbook::of_playbook()?.into_iter();
    events.extend(playbooks.map(|event| Event::Playbook(playbook::PLAYBOOK, event)));
    let runs = playbook::of_run()?.into_iter();
    events.extend(runs.map(|event| Event::PlaybookRun(playbook::RUN, event)));
    let policies = policy::of_policies().into_iter();
    events.extend(policies.map(|event| Event::Policy(policy::SET, event)));
    let tokens = token::of_token()?.into_iter();
    events.extend(tokens.map(|event| Event::Token(token::TOKEN, event)));
    let approvals = approval::of_approval().into_iter();
    events.extend(approvals.map(|event| Event::Approval(approval::APPROVAL, event)));
    Ok(events)
}

fn spec() -> Spec {
    Spec {
        store: Store::Local,
        generator: Some(Generator {
            length: 32,
            alphabet: String::new(),
            exclude: "/@\"'\\".to_owned(),
        }),
        rotation: RotationPolicy {
            schedule: Schedule::Cron {
                expression: "0 3 * * 0".to_owned(),
                timezone: "Europe/Berlin".to_owned(),
            },
            jitter: Duration::from_secs(300),
            missed_run: MissedRun::Once,
            ..RotationPolicy::default()
        },
        credential_for: None,
        rotator: None,
        lease: None,
    }
}

fn of_secret() -> Result<Vec<secret::Event>, NameError> {
    let every = Schedule::Interval(Duration::from_secs(43_200));
    let rotation = RotationPolicy {
        schedule: every,
        jitter: Duration::ZERO,
        missed_run: MissedRun::Skip,
        keep_previous: true,
        ..RotationPolicy::default()
    };
    let changed = Spec {
        store: Store::Local,
        generator: None,
        rotation,
        credential_for: None,
        rotator: None,
        lease: None,
    };
    Ok(vec![
        secret::Event::Registered {
            name: SecretName::parse("prod/payments/db-password")?,
            spec: spec(),
        },
        secret::Event::SpecChanged { spec: changed },
        secret::Event::VersionStaged {
            version: 2,
            rotation: ROTATION,
        },
        secret::Event::Delivered {
            host: HOST,
            version: 2,
            delivery: DeliveryId::from_bytes(id(0x06)),
        },
        secret::Event::VersionPromoted { version: 2 },
        secret::Event::VersionRevoked { version: 1 },
        secret::Event::VersionDestroyed { version: 1 },
        secret::Event::ExternalChangeDetected {
            remote: RemoteVersion("7".to_owned()),
            rotation: ROTATION,
        },
        secret::Event::RemoteVersionNoted {
            version: 2,
            remote: RemoteVersion("7".to_owned()),
            written: true,
        },
        secret::Event::RemoteVersionRetired {
            remote: RemoteVersion("6".to_owned()),
        },
        secret::Event::LeaseLingering {
            until: NIGHT.plus(DEFAULT_LINGER),
        },
        secret::Event::LeaseResumed,
        secret::Event::LeaseEnded,
    ])
}

fn of_binding() -> Result<Vec<binding::Event>, NameError> {
    let selector = Selector {
        host: Some(HostName::parse("web-1")?),
        image: Some(ImageSelector::Digest(image())),
        labels: BTreeMap::from([("app".to_owned(), "payments".to_owned())]),
        insecure: false,
        container: None,
        name: None,
        user: None,
    };
    let target = Target::File {
        directory: Directory::parse(binding::DEFAULT_DIRECTORY)?,
        name: FileName::parse("db_password")?,
        uid: 1000,
        gid: 1000,
        mode: 0o400,
        template: None,
    };
    let spec = binding::Spec {
        secret: SECRET,
        also: std::collections::BTreeSet::new(),
        previous: std::collections::BTreeSet::from([SECRET]),
        selector,
        target,
        reload: Reload::Signal(1),
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    };
    Ok(vec![
        binding::Event::Bound {
            name: BindingName::parse("payments")?,
            spec: spec.clone(),
        },
        binding::Event::Unbound,
        binding::Event::Withheld {
            name: BindingName::parse("payments")?,
            spec,
            denial: binding::Denial {
                service: "shop/web".to_owned(),
                secret: SECRET,
                reason: "default deny".to_owned(),
            },
        },
    ])
}

fn image() -> String {
    format!("sha256:{}", "5d".repeat(32))
}

fn consumer() -> Result<Key, ExampleError> {
    Ok(Key {
        host: HOST,
        container: ContainerId::parse(&"c0ffee12".repeat(8))?,
        binding: BINDING,
        also: None,
    })
}

fn of_assignment() -> Vec<assignment::Event> {
    vec![
        assignment::Event::Assigned {
            secret: SECRET,
            version: 2,
            container_name: "payments-1".to_owned(),
            image_digest: image(),
        },
        assignment::Event::Swapped { version: 2, at: NIGHT },
        assignment::Event::Reloaded { version: 2, at: NIGHT },
        assignment::Event::Withdrawn,
        assignment::Event::Vanished,
        assignment::Event::Refused {
            version: 2,
            reason: "the container does not run under the keywheel runtime; recreate it with --runtime keywheel"
                .to_owned(),
        },
        assignment::Event::ServiceNoted {
            service: "shop/payments".to_owned(),
        },
    ]
}

fn of_host() -> Result<Vec<host::Event>, NameError> {
    Ok(vec![
        host::Event::JoinTokenIssued {
            name: HostName::parse("web-1")?,
            token: TOKEN,
            secret_hash: [9; 32],
            expires_at: NIGHT.plus(host::JOIN_TOKEN_LIFETIME),
        },
        host::Event::JoinTokenSpent { token: TOKEN },
        host::Event::Enrolled {
            name: HostName::parse("web-1")?,
            sealing_key: [7; 32],
            signing_key: Some([5; 32]),
        },
        host::Event::KeyReplaced {
            sealing_key: [8; 32],
            signing_key: Some([6; 32]),
            generation: 2,
        },
        host::Event::PermitIssued {
            key: BusKey::parse(&"U".repeat(56))?,
            issued_at: NIGHT,
            expires_at: NIGHT.plus(Duration::from_secs(24 * 3600)),
        },
        host::Event::Evicted {
            reason: "the machine was stolen".to_owned(),
        },
        host::Event::StagingKnown,
    ])
}

fn of_rotation(key: &Key) -> Vec<rotation::Event> {
    let trigger = Trigger::Slot {
        slot: SlotId::from_bytes(id(0x07)),
        scheduled: NIGHT,
        tzdata: None,
    };
    let reason = "the store did not answer within 10 seconds".to_owned();
    vec![
        rotation::Event::Started {
            secret: SECRET,
            version: 2,
            trigger,
        },
        rotation::Event::StepStarted {
            step: Step::Create,
            attempt: 1,
        },
        rotation::Event::StepCompleted {
            step: Step::RevokeOld,
        },
        rotation::Event::StepFailed {
            step: Step::Set,
            attempt: 1,
            reason,
        },
        rotation::Event::DistributionStarted {
            consumers: vec![key.clone()],
            hosts: vec![HOST],
            old: vec![1],
            deadline: NIGHT.plus(rotation::ACK_DEADLINE),
        },
        rotation::Event::ConsumerAcknowledged {
            consumer: key.clone(),
        },
        rotation::Event::HostBarrierAcknowledged { host: HOST },
        rotation::Event::HostReleased { host: HOST },
        rotation::Event::DeadlineMoved {
            deadline: NIGHT.plus(rotation::ACK_DEADLINE),
        },
        rotation::Event::Halted {
            consumer: key.clone(),
            reason: "its health check fails since the restart".to_owned(),
        },
        rotation::Event::TurnedBack {
            version: 1,
            consumers: vec![key.clone()],
            hosts: vec![HOST],
            deadline: NIGHT.plus(rotation::ACK_DEADLINE),
        },
        rotation::Event::DeadlinePassed,
    ]
}

/// What a deadline leads to, a person who steps in, and the end.
fn of_waiting(key: &Key) -> Vec<rotation::Event> {
    vec![
        rotation::Event::StragglersNamed {
            consumers: vec![rotation::Straggler {
                consumer: key.clone(),
                reason: "new value not in place yet".to_owned(),
            }],
            hosts: vec![HOST],
        },
        rotation::Event::Forced,
        rotation::Event::Intervened {
            intervention: rotation::Intervention::Force,
            reason: "the machine behind it is switched off for good".to_owned(),
        },
        rotation::Event::Reopened {
            secret: SECRET,
            consumers: vec![key.clone()],
            hosts: vec![HOST],
            deadline: NIGHT.plus(rotation::ACK_DEADLINE),
        },
        rotation::Event::Closed {
            outcome: Outcome::Completed,
        },
        rotation::Event::SessionsLeft {
            attempt: 3,
            mark: 1_782_090_012_345_678,
            sessions: 2,
            since: NIGHT,
        },
        rotation::Event::SessionsUntold {
            attempt: 1,
            until: NIGHT.plus(rotation::GRACE),
        },
    ]
}

/// Before and after a server refuses the version before.
fn of_cut_over() -> Vec<rotation::Event> {
    vec![
        rotation::Event::StagingStarted {
            hosts: vec![HOST],
            deadline: NIGHT.plus(rotation::STAGING_DEADLINE),
        },
        rotation::Event::HostStaged { host: HOST },
        rotation::Event::StagingEnded {
            missing: vec![HOST],
        },
        rotation::Event::CutOver { at: NIGHT },
        rotation::Event::GapMeasured {
            since: NIGHT,
            until: NIGHT.plus(Duration::from_millis(42)),
        },
    ]
}

/// Containers that have a version before it is promoted.
fn of_canaries(key: &Key) -> Vec<rotation::Event> {
    vec![
        rotation::Event::CanaryStarted {
            consumers: vec![key.clone()],
            hosts: vec![HOST],
            deadline: NIGHT.plus(rotation::ACK_DEADLINE),
        },
        rotation::Event::CanaryWatched {
            until: NIGHT.plus(CANARY_WATCH),
        },
        rotation::Event::CanaryPassed,
        rotation::Event::CanarySkipped {
            reason: "no container has the version before".to_owned(),
        },
    ]
}

fn of_rollout(key: &Key) -> Vec<rollout::Event> {
    let instance = rollout::Instance {
        host: key.host,
        container: key.container.clone(),
    };
    let container_name = "payments-1".to_owned();
    let due = vec![rollout::Due {
        binding: BINDING,
        secret: SECRET,
        version: 2,
    }];
    vec![
        rollout::Event::Asked {
            instance: instance.clone(),
            container_name: container_name.clone(),
            due: due.clone(),
        },
        rollout::Event::LeaveGiven {
            instance: instance.clone(),
            not_before: Some(NIGHT),
        },
        rollout::Event::Unwell {
            instance: instance.clone(),
            container_name: container_name.clone(),
        },
        rollout::Event::Failed {
            instance: instance.clone(),
            container_name,
            due,
            reason: "its health check fails since the restart".to_owned(),
        },
        rollout::Event::Settled {
            instance,
            at: NIGHT,
        },
    ]
}

fn of_revocation() -> Vec<revocation::Event> {
    vec![
        revocation::Event::Requested {
            secret: SECRET,
            versions: vec![1, 2],
            hosts: vec![HOST],
            reason: "leaked in a build log".to_owned(),
            is_to_prove: false,
            is_emergency: false,
        },
        revocation::Event::WithdrawnOnHost { host: HOST },
        revocation::Event::HostReleased { host: HOST },
        revocation::Event::BackendConfirmed,
        revocation::Event::BackendFailed {
            attempt: 1,
            reason: "the store is sealed".to_owned(),
        },
        revocation::Event::BackendRetried { attempt: 2 },
        revocation::Event::Closed,
    ]
}

fn of_proof() -> Vec<revocation::Event> {
    let evidence = |answer| {
        vec![revocation::Evidence {
            version: 1,
            at: NIGHT,
            place: "account app of postgres at db.example:5432".to_owned(),
            answer,
        }]
    };
    let first = Principal::User {
        uid: 1000,
        name: "ann".to_owned(),
    };
    let second = Principal::Operator {
        name: "bob".to_owned(),
    };
    vec![
        revocation::Event::WithdrawnEverywhere,
        revocation::Event::ProvenDead {
            evidence: evidence(Answer::WrongPassword),
        },
        revocation::Event::NotProvable {
            evidence: Vec::new(),
            reason: revocation::NOTHING_TO_ASK.to_owned(),
        },
        revocation::Event::StillAccepted {
            attempt: 3,
            evidence: evidence(Answer::Accepted),
        },
        revocation::Event::Destroyed,
        revocation::Event::ForgetAsked {
            by: first,
            reason: "the server was switched off".to_owned(),
            // As builds before wrote it.
            at: None,
        },
        revocation::Event::Forgotten {
            by: second,
            reason: "seen: it is gone".to_owned(),
        },
        revocation::Event::ReplacementAwaited {
            secret: SECRET,
            versions: vec![1],
            reason: "leaked in a build log".to_owned(),
            rotation: ROTATION,
            is_emergency: false,
        },
        revocation::Event::ReplacementGivenUp {
            reason:
                "rotation 049a5c10-3e77-7d21-8b44-010203040506 was rolled back, and brought none"
                    .to_owned(),
        },
    ]
}
