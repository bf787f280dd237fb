//! What a run reached and when: its milestones, what became of each version, and of each host. Pure.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::event::Event;
use keywheel_core::id::{HostId, SecretId};
use keywheel_core::{host, revocation, rotation, secret};
use keywheel_schemas::api::{ReportHost, ReportMark, ReportSecret};
use keywheel_schemas::event::{self, EventMeta};
use keywheel_schemas::mirror::TextForm as _;

use super::summary::Case;
use super::{Kind, playbook};

/// A version that nothing made unusable.
pub(super) const ALIVE: &str = "alive";
/// What an eviction comes to.
const ALL_DEAD: &str = "all that it may hold is dead";

pub(super) fn mark(case: &Case<'_>, what: &str, meta: Option<&EventMeta>) -> ReportMark {
    ReportMark {
        what: what.to_owned(),
        at: meta.map(|meta| meta.time.text()),
        after_us: meta.map(|meta| case.after(meta)),
        event: meta.map(|meta| meta.number),
    }
}

/// The last event since the beginning that is so.
pub(super) fn last<'r>(case: &Case<'r>, is_so: impl Fn(&Event) -> bool) -> Option<&'r EventMeta> {
    let found = case.since().filter(|(_, event)| is_so(event)).last();
    found.map(|(meta, _)| meta)
}

/// The last of a revocation's own.
fn own<'r>(case: &Case<'r>, is_so: impl Fn(&revocation::Event) -> bool) -> Option<&'r EventMeta> {
    let found = case.own().filter(|(_, event)| match event {
        Event::Revocation(_, fact) => is_so(fact),
        _ => false,
    });
    found.last().map(|(meta, _)| meta)
}

/// Milestones of a revocation.
pub(super) fn revocation(case: &Case<'_>) -> Vec<ReportMark> {
    use revocation::Event as Fact;
    let requested = own(case, |fact| matches!(fact, Fact::Requested { .. }));
    let had_no_hosts = own(
        case,
        |fact| matches!(fact, Fact::Requested { hosts, .. } if hosts.is_empty()),
    );
    let gone = own(case, |fact| matches!(fact, Fact::WithdrawnEverywhere));
    let confirmed = own(case, |fact| matches!(fact, Fact::BackendConfirmed));
    let alive = own(case, |fact| matches!(fact, Fact::StillAccepted { .. }));
    let confirmed = confirmed.filter(|meta| alive.is_none_or(|alive| alive.number < meta.number));
    let proven = own(case, |fact| matches!(fact, Fact::ProvenDead { .. }));
    let destroyed = own(case, |fact| matches!(fact, Fact::Destroyed));
    // Where nothing is proven, the data keys go with the store's confirmation.
    let whole = own(case, |fact| {
        matches!(
            fact,
            Fact::Requested {
                is_to_prove: false,
                ..
            }
        )
    });
    let destroyed = destroyed.or(confirmed.filter(|_| whole.is_some()));
    let wished = own(case, |fact| matches!(fact, Fact::ReplacementAwaited { .. }));
    let wished = wished.map(|meta| mark(case, "wished for, once it is replaced", Some(meta)));
    let mut marks = Vec::from_iter(wished);
    marks.extend([
        mark(case, "requested, no host gets it any more", requested),
        mark(
            case,
            "gone from every host that might hold it",
            gone.or(had_no_hosts),
        ),
        mark(case, "the store confirmed", confirmed),
    ]);
    if whole.is_none() {
        marks.push(mark(case, "proven dead by a login", proven));
    }
    let closed = own(case, |fact| matches!(fact, Fact::Closed));
    marks.extend([
        mark(case, "data keys destroyed", destroyed),
        mark(case, "closed", closed),
    ]);
    marks
}

/// The event that made a rotation's version current.
pub(super) fn promoted<'r>(case: &Case<'r>) -> Option<&'r EventMeta> {
    let made = made(case)?;
    let promoted = |(_, event): &&(EventMeta, Event)| match event {
        Event::Secret(id, secret::Event::VersionPromoted { version }) => (*id, *version) == made,
        _ => false,
    };
    case.since().find(promoted).map(|(meta, _)| meta)
}

/// The secret of a rotation, and the version that it makes.
pub(super) fn made(case: &Case<'_>) -> Option<(SecretId, u64)> {
    case.own().find_map(|(_, event)| match event {
        Event::Rotation(
            _,
            rotation::Event::Started {
                secret, version, ..
            },
        ) => Some((*secret, *version)),
        _ => None,
    })
}

/// Milestones of a rotation.
pub(super) fn rotation(case: &Case<'_>) -> Vec<ReportMark> {
    let is = |is_so: fn(&rotation::Event) -> bool| {
        let of_rotation =
            move |event: &Event| matches!(event, Event::Rotation(_, fact) if is_so(fact));
        let found = case.own().filter(|(_, event)| of_rotation(event)).last();
        found.map(|(meta, _)| meta)
    };
    let started = is(|fact| matches!(fact, rotation::Event::Started { .. }));
    let acknowledged = is(|fact| matches!(fact, rotation::Event::ConsumerAcknowledged { .. }));
    let barrier = is(|fact| matches!(fact, rotation::Event::HostBarrierAcknowledged { .. }));
    let closed = is(|fact| matches!(fact, rotation::Event::Closed { .. }));
    let dead = last(case, |event| {
        matches!(
            event,
            Event::Secret(_, secret::Event::VersionRevoked { .. })
        )
    });
    let unusable = unusable(case);
    let replaced = replaced(case).into_iter();
    let replaced = replaced.map(|version| unusable.get(&version).copied());
    let mut marks = vec![
        mark(case, "begun", started),
        mark(case, "the new version is current", promoted(case)),
        mark(case, "last container on it", acknowledged),
        mark(case, "last host without the old one", barrier),
        mark(case, "last version dead, no host gets it any more", dead),
    ];
    marks.extend(playbook::reached(case, "the store confirmed", replaced));
    marks.push(mark(case, "closed", closed));
    marks
}

/// Versions that a rotation replaces.
fn replaced(case: &Case<'_>) -> BTreeSet<(SecretId, u64)> {
    let mut all = versions(case);
    if let Some(made) = made(case) {
        all.remove(&made);
    }
    all
}

/// Whether what a rotation replaces dies by a revocation, and not with the rotation.
pub(super) fn dies_by_revocation(case: &Case<'_>) -> bool {
    let replaced = replaced(case);
    case.since().any(|(_, event)| match event {
        Event::Revocation(
            _,
            revocation::Event::Requested {
                secret, versions, ..
            },
        ) => versions
            .iter()
            .any(|version| replaced.contains(&(*secret, *version))),
        _ => false,
    })
}

/// Of each version that its store, or the end of the rotation that replaced it or took it back, made unusable there, the
/// event that says so. That no host gets one any more says nothing of its store, and what a revocation kills nobody
/// else confirms.
pub(super) fn unusable(case: &Case<'_>) -> BTreeMap<(SecretId, u64), u64> {
    use rotation::Outcome::{Completed, RolledBack};
    let (mut dead, mut asked, mut found) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for (meta, event) in case.events {
        let part = event::subject(event);
        match event {
            Event::Secret(id, secret::Event::VersionRevoked { version }) => {
                dead.insert((*id, *version));
            }
            Event::Revocation(
                _,
                revocation::Event::Requested {
                    secret, versions, ..
                },
            ) => {
                for version in versions {
                    found.remove(&(*secret, *version));
                    asked.insert((*secret, *version), part.clone());
                }
            }
            Event::Revocation(_, revocation::Event::BackendConfirmed) => {
                let own = asked.iter().filter(|(_, by)| **by == part);
                found.extend(own.map(|(version, _)| (*version, meta.number)));
            }
            Event::Revocation(_, revocation::Event::StillAccepted { .. }) => {
                found.retain(|version, _| asked.get(version) != Some(&part));
            }
            Event::Rotation(
                _,
                rotation::Event::Closed {
                    outcome: Completed | RolledBack,
                },
            ) => {
                let secret = case.secret_of(&part);
                let own = dead.iter().filter(|(id, _)| Some(*id) == secret);
                for version in own.filter(|version| !asked.contains_key(*version)) {
                    found.entry(*version).or_insert(meta.number);
                }
            }
            _ => {}
        }
    }
    found
}

/// Milestones of an eviction.
pub(super) fn host(case: &Case<'_>) -> Vec<ReportMark> {
    let evicted = last(case, |event| {
        matches!(event, Event::Host(_, host::Event::Evicted { .. }))
    });
    let unusable = unusable(case);
    let held = versions(case).into_iter();
    let held = held.map(|version| unusable.get(&version).copied());
    let dead = playbook::reached(case, ALL_DEAD, held);
    vec![
        mark(case, "evicted", evicted),
        dead.unwrap_or_else(|| mark(case, ALL_DEAD, None)),
    ]
}

/// Versions that the run is about.
pub(super) fn versions(case: &Case<'_>) -> BTreeSet<(SecretId, u64)> {
    let mut found = BTreeSet::new();
    let run = match case.kind {
        Kind::Rotation => made(case),
        Kind::Revocation | Kind::Host | Kind::PlaybookRun => None,
    };
    found.extend(run);
    if case.kind == Kind::PlaybookRun {
        found.extend(playbook::versions(case));
    }
    for (meta, event) in case.events {
        match (event, case.kind) {
            (
                Event::Revocation(
                    _,
                    revocation::Event::Requested {
                        secret, versions, ..
                    }
                    | revocation::Event::ReplacementAwaited {
                        secret, versions, ..
                    },
                ),
                Kind::Revocation,
            ) => found.extend(versions.iter().map(|version| (*secret, *version))),
            (
                Event::Rotation(_, rotation::Event::DistributionStarted { old, .. }),
                Kind::Rotation,
            ) => {
                let secret = run.map(|(secret, _)| secret);
                found.extend(
                    secret
                        .into_iter()
                        .flat_map(|id| old.iter().map(move |v| (id, *v))),
                );
            }
            (Event::Secret(id, secret::Event::Delivered { version, .. }), Kind::Host)
                if meta.number < case.from =>
            {
                found.insert((*id, *version));
            }
            _ => {}
        }
    }
    found
}

/// What became of each version.
pub(super) fn secrets(case: &Case<'_>) -> Vec<ReportSecret> {
    let mut fates: BTreeMap<(SecretId, u64), (&'static str, &EventMeta)> = BTreeMap::new();
    for (meta, event) in case.events {
        match event {
            Event::Secret(id, secret::Event::VersionRevoked { version }) => {
                fates.insert((*id, *version), ("revoked", meta));
            }
            Event::Secret(id, secret::Event::VersionDestroyed { version }) => {
                fates.insert((*id, *version), ("destroyed", meta));
            }
            _ => {}
        }
    }
    let view = |(id, version): (SecretId, u64)| {
        let fate = fates.get(&(id, version));
        let meta = fate.map(|(_, meta)| *meta);
        ReportSecret {
            secret: case.names.secret(id),
            version,
            resource: case.names.resource(id),
            outcome: fate.map_or(ALIVE, |(word, _)| *word).to_owned(),
            at: meta.map(|meta| meta.time.text()),
            after_us: meta.map(|meta| case.after(meta)),
            event: meta.map(|meta| meta.number),
        }
    };
    let mut all: Vec<ReportSecret> = versions(case).into_iter().map(view).collect();
    all.sort_by(|one, other| (&one.secret, one.version).cmp(&(&other.secret, other.version)));
    all
}

/// What a host said of one of a run's parts.
type Word<'r> = Option<(&'static str, &'r EventMeta)>;

/// Hosts that might hold something, and which of them said that they do not.
pub(super) fn hosts(case: &Case<'_>) -> Vec<ReportHost> {
    let mut all: BTreeMap<HostId, BTreeMap<String, Word<'_>>> = BTreeMap::new();
    for (meta, event) in case.parts() {
        let part = event::subject(event);
        match event {
            Event::Revocation(_, revocation::Event::Requested { hosts, .. })
            | Event::Rotation(_, rotation::Event::DistributionStarted { hosts, .. })
            | Event::Rotation(_, rotation::Event::TurnedBack { hosts, .. })
            | Event::Rotation(_, rotation::Event::Reopened { hosts, .. }) => {
                for host in hosts {
                    all.entry(*host).or_default().insert(part.clone(), None);
                }
            }
            Event::Revocation(_, revocation::Event::WithdrawnOnHost { host })
            | Event::Rotation(_, rotation::Event::HostBarrierAcknowledged { host }) => {
                all.entry(*host)
                    .or_default()
                    .insert(part, Some(("gone", meta)));
            }
            Event::Revocation(_, revocation::Event::HostReleased { host })
            | Event::Rotation(_, rotation::Event::HostReleased { host }) => {
                all.entry(*host)
                    .or_default()
                    .insert(part, Some(("evicted", meta)));
            }
            _ => {}
        }
    }
    let mut all: Vec<ReportHost> = all
        .into_iter()
        .map(|(id, words)| host_view(case, id, &words))
        .collect();
    all.sort_by(|one, other| one.host.cmp(&other.host));
    all
}

/// A host is through when it is with every part.
fn host_view(case: &Case<'_>, id: HostId, words: &BTreeMap<String, Word<'_>>) -> ReportHost {
    let told: Option<Vec<(&str, &EventMeta)>> = words.values().copied().collect();
    let last = told.and_then(|told| told.into_iter().max_by_key(|(_, meta)| meta.number));
    let meta = last.map(|(_, meta)| meta);
    ReportHost {
        host: case.names.host(id),
        outcome: last.map_or("not told", |(word, _)| word).to_owned(),
        at: meta.map(|meta| meta.time.text()),
        after_us: meta.map(|meta| case.after(meta)),
        event: meta.map(|meta| meta.number),
    }
}
