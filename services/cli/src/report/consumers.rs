//! What became of each container: what it had when the run began, and when it lost it or got another. Pure.
//!
//! Invariant: times are those at which the gateway had the host's word on disk, so they can be compared with the
//! run's beginning; a host's own clock counts for nothing.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::assignment::{self, Key};
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, SecretId};
use keywheel_core::time::Timestamp;
use keywheel_core::{host, revocation, rotation};
use keywheel_schemas::api::ReportConsumer;
use keywheel_schemas::event::EventMeta;
use keywheel_schemas::mirror::TextForm as _;

use super::summary::{Case, micros};
use super::{Kind, marks};

/// A container that is no consumer any more because its host is none: nobody heard that it gave anything up.
const EVICTED: &str = "its host was evicted, and it may still have it";

/// A container of a playbook's run whose secret none of its steps got to replace or revoke.
const UNTOUCHED: &str = "keeps it: nothing of it was replaced or revoked";

/// One container, as far as it was read.
#[derive(Debug, Default)]
struct Seen<'r> {
    secret: SecretId,
    name: &'r str,
    image: &'r str,
    had: u64,
    end: Option<(String, &'r EventMeta)>,
    refused: Option<&'r str>,
    is_evicted: bool,
    /// Whether it ran on what it came to.
    runs: bool,
}

/// What decides whether a container is through with it.
struct Rule {
    kind: Kind,
    /// Versions that die.
    dying: BTreeSet<(SecretId, u64)>,
    /// The version that a rotation makes.
    made: Option<u64>,
    /// Commands that evicted a host.
    evictions: BTreeSet<CommandId>,
}

impl Rule {
    fn of(case: &Case<'_>) -> Self {
        let dying = match case.kind {
            Kind::Revocation | Kind::PlaybookRun => dying(case),
            Kind::Rotation | Kind::Host => BTreeSet::new(),
        };
        let evicting = |(meta, event): &(EventMeta, Event)| match event {
            Event::Host(_, host::Event::Evicted { .. }) => Some(meta.causation),
            _ => None,
        };
        Self {
            kind: case.kind,
            dying,
            made: marks::made(case).map(|(_, version)| version),
            evictions: case.events.iter().filter_map(evicting).collect(),
        }
    }

    /// Whether a playbook's run makes nothing of a secret die.
    fn leaves(&self, secret: SecretId) -> bool {
        let all = (secret, 0)..=(secret, u64::MAX);
        self.kind == Kind::PlaybookRun && self.dying.range(all).next().is_none()
    }

    /// In words, what a fact ends; `None` when it ends nothing.
    fn end(&self, secret: SecretId, fact: &assignment::Event) -> Option<String> {
        let is_new = |version: &u64| match self.kind {
            Kind::Revocation | Kind::PlaybookRun => !self.dying.contains(&(secret, *version)),
            Kind::Rotation => self.made == Some(*version),
            Kind::Host => false,
        };
        match fact {
            assignment::Event::Swapped { version, .. } if is_new(version) => {
                Some(format!("swapped to version {version}"))
            }
            assignment::Event::Reloaded { version, .. } if is_new(version) => {
                Some(format!("runs on version {version}"))
            }
            assignment::Event::Withdrawn => Some("withdrawn".to_owned()),
            assignment::Event::Vanished => Some("vanished".to_owned()),
            _ => None,
        }
    }
}

/// Versions that a run makes die: what it revokes, and what its rotations replace.
pub(super) fn dying(case: &Case<'_>) -> BTreeSet<(SecretId, u64)> {
    let (mut rotated, mut found) = (BTreeMap::new(), BTreeSet::new());
    for (_, event) in case.parts() {
        match event {
            Event::Revocation(
                _,
                revocation::Event::Requested {
                    secret, versions, ..
                }
                | revocation::Event::ReplacementAwaited {
                    secret, versions, ..
                },
            ) => found.extend(versions.iter().map(|version| (*secret, *version))),
            Event::Rotation(id, rotation::Event::Started { secret, .. }) => {
                rotated.insert(*id, *secret);
            }
            Event::Rotation(id, rotation::Event::DistributionStarted { old, .. }) => {
                let secret = rotated.get(id).copied();
                let old = secret.map(|secret| old.iter().map(move |version| (secret, *version)));
                found.extend(old.into_iter().flatten());
            }
            _ => {}
        }
    }
    found
}

/// Every container, by host and name.
pub(super) fn consumers(case: &Case<'_>) -> Vec<ReportConsumer> {
    let rule = Rule::of(case);
    let mut seen: BTreeMap<&Key, Seen<'_>> = BTreeMap::new();
    for (meta, event) in case.events {
        if let Event::Assignment(key, fact) = event {
            let is_since = meta.number >= case.from;
            note(&rule, seen.entry(key).or_default(), (meta, is_since), fact);
        }
    }
    let from = match case.kind {
        Kind::Rotation => marks::promoted(case).map(|meta| meta.time),
        Kind::Revocation | Kind::Host | Kind::PlaybookRun => None,
    };
    let from = from.unwrap_or(case.begun);
    let view = |(key, seen): (&Key, Seen<'_>)| {
        let untouched = rule.leaves(seen.secret).then_some(UNTOUCHED);
        view(case, (key, untouched), seen, from)
    };
    let mut all: Vec<ReportConsumer> = seen.into_iter().map(view).collect();
    all.sort_by(|one, other| order(one).cmp(&order(other)));
    all
}

fn note<'r>(
    rule: &Rule,
    seen: &mut Seen<'r>,
    (meta, is_since): (&'r EventMeta, bool),
    fact: &'r assignment::Event,
) {
    if let assignment::Event::Assigned {
        secret,
        container_name,
        image_digest,
        ..
    } = fact
    {
        seen.secret = *secret;
        seen.name = container_name.as_str();
        seen.image = image_digest.as_str();
        return;
    }
    if !is_since {
        if let assignment::Event::Swapped { version, .. }
        | assignment::Event::Reloaded { version, .. } = fact
        {
            seen.had = *version;
        }
        return;
    }
    if let assignment::Event::Refused { reason, .. } = fact {
        seen.refused = Some(reason.as_str());
    }
    if rule.evictions.contains(&meta.causation) {
        seen.is_evicted = true;
        return;
    }
    // What dies is gone when it first is; a rotation counts what its container came to last, and a playbook's run
    // when its container ran on what it has.
    let runs = matches!(fact, assignment::Event::Reloaded { .. });
    let is_open = match rule.kind {
        Kind::Rotation => true,
        Kind::PlaybookRun => seen.end.is_none() || (runs && !seen.runs),
        Kind::Revocation | Kind::Host => seen.end.is_none(),
    };
    if let Some(end) = rule.end(seen.secret, fact).filter(|_| is_open) {
        seen.runs |= runs;
        seen.end = Some((end, meta));
    }
}

fn view(
    case: &Case<'_>,
    (key, untouched): (&Key, Option<&str>),
    seen: Seen<'_>,
    from: Timestamp,
) -> ReportConsumer {
    let open = match seen.refused {
        _ if seen.is_evicted => EVICTED.to_owned(),
        Some(reason) => format!("refused: {reason}"),
        None => untouched.unwrap_or("not told").to_owned(),
    };
    let meta = seen.end.as_ref().map(|(_, meta)| *meta);
    ReportConsumer {
        container: key.container.to_string(),
        name: seen.name.to_owned(),
        host: case.names.host(key.host),
        image: seen.image.to_owned(),
        binding: case.names.binding(key.binding),
        secret: case.names.secret(seen.secret),
        version: Some(seen.had).filter(|version| *version > 0),
        outcome: seen.end.map_or(open, |(words, _)| words),
        at: meta.map(|meta| meta.time.text()),
        after_us: meta.map(|meta| micros(meta.time, from)),
        event: meta.map(|meta| meta.number),
    }
}

fn order(one: &ReportConsumer) -> [&str; 5] {
    [
        &one.host,
        &one.name,
        &one.container,
        &one.binding,
        &one.secret,
    ]
}
