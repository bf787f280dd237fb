//! Where what an injector does comes from: the trace of the rotation or revocation that changed the
//! plan, and of the container's start.
//!
//! For people only; nothing is decided by it. What is remembered is bounded, and what is too old to
//! belong together is forgotten.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keywheel_core::id::{ContainerId, SecretId};
use keywheel_core::plan::HostPlan;
use keywheel_core::report::{Fact, HostReport, Item};
use keywheel_engine::trace::Context;

use crate::shared::VersionKey;

/// Starts whose reports are still to come.
const MAX_STARTS: usize = 256;
/// How long a report about the host as a whole counts as following from the last change of its plan.
const FOLLOWS: Duration = Duration::from_secs(300);

/// Whose spans an injector's are.
pub(crate) const SERVICE: &str = "injector";

/// See the file.
#[derive(Default)]
pub(crate) struct Origins(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// What last changed the plan, and when it was taken.
    changed: Option<(Duration, Vec<Context>)>,
    starts: VecDeque<Start>,
}

/// A container's start, and the versions that it began with.
struct Start {
    container: ContainerId,
    versions: Vec<VersionKey>,
    trace: Context,
}

/// The trace of what last changed what a secret's bindings give out.
pub(crate) fn of_secret(plan: Option<&HostPlan>, secret: SecretId) -> Option<Context> {
    let mut bindings = plan?.bindings.iter();
    let binding = bindings.find(|binding| binding.secret == secret)?;
    Context::parse(binding.traceparent.as_deref()?)
}

/// As log lines have it.
pub(crate) fn trace_id(trace: Option<Context>) -> Option<String> {
    trace.map(|trace| trace.trace_id())
}

fn all(plan: &HostPlan) -> impl Iterator<Item = Context> {
    let traces = plan.bindings.iter();
    traces.filter_map(|binding| Context::parse(binding.traceparent.as_deref()?))
}

impl Origins {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A plan takes another's place. Of the first one nothing is new.
    pub(crate) fn take(&self, before: Option<&HostPlan>, plan: &HostPlan, now: Duration) {
        let Some(before) = before else { return };
        let known: Vec<Context> = all(before).collect();
        let mut news: Vec<Context> = all(plan).filter(|one| !known.contains(one)).collect();
        news.dedup();
        if !news.is_empty() {
            self.lock().changed = Some((now, news));
        }
    }

    /// A container was created with these versions, and that is reported next.
    pub(crate) fn note_start(
        &self,
        container: &ContainerId,
        versions: Vec<VersionKey>,
        trace: Context,
    ) {
        let mut inner = self.lock();
        if inner.starts.len() == MAX_STARTS {
            inner.starts.pop_front();
        }
        inner.starts.push_back(Start {
            container: container.clone(),
            versions,
            trace,
        });
    }

    /// The traces that a report belongs to: of its facts, or of what it is the answer to.
    pub(crate) fn of_report(
        &self,
        report: &HostReport,
        plan: Option<&HostPlan>,
        now: Duration,
    ) -> Vec<Context> {
        let inner = self.lock();
        let started = |item: &Item, version| {
            let is_it = |start: &&Start| {
                start.container == item.container
                    && start.versions.contains(&(item.secret, version))
            };
            let newest = inner.starts.iter().rev().find(is_it);
            newest.map(|start| start.trace)
        };
        let facts = report.items.iter().filter_map(|item| match item.fact {
            Fact::Vanished => None,
            Fact::Withdrawn => of_secret(plan, item.secret),
            Fact::Swapped { version, .. }
            | Fact::Reloaded { version, .. }
            | Fact::Refused { version, .. } => {
                started(item, version).or_else(|| of_secret(plan, item.secret))
            }
        });
        let changed = inner.changed.iter();
        let changed = changed.filter(|(at, _)| now.saturating_sub(*at) < FOLLOWS);
        let changed = changed.flat_map(|(_, traces)| traces.iter().copied());
        let mut seen = BTreeSet::new();
        let key = |one: &Context| (one.trace, one.span);
        facts
            .chain(changed)
            .filter(|one| seen.insert(key(one)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::tests::report;

    fn trace(n: u8) -> Context {
        Context::new([n; 16], [n; 8])
    }

    fn plan(traces: &[(u8, u8)]) -> HostPlan {
        use keywheel_core::binding::{Reload, Selector, Target};
        use keywheel_core::id::{BindingId, HostId};
        use keywheel_core::name::{BindingName, EnvName, HostName, SecretName};
        use keywheel_core::plan::PlannedBinding;
        let bindings = traces.iter().map(|(secret, n)| PlannedBinding {
            binding: BindingId::from_bytes([*secret; 16]),
            name: BindingName::parse("b").unwrap(),
            secret: SecretId::from_bytes([*secret; 16]),
            secret_name: SecretName::parse("s").unwrap(),
            selector: Selector::default(),
            target: Target::Env {
                name: EnvName::parse("A").unwrap(),
            },
            reload: Reload::None,
            current: None,
            floor: 0,
            dead: BTreeSet::new(),
            traceparent: Some(trace(*n).to_string()),
        });
        HostPlan {
            host: HostId::default(),
            host_name: HostName::parse("h").unwrap(),
            generation: 1,
            bindings: bindings.collect(),
        }
    }

    fn about(secret: u8, fact: Fact) -> HostReport {
        let mut report = report(1, vec![fact]);
        for item in &mut report.items {
            item.secret = SecretId::from_bytes([secret; 16]);
        }
        report
    }

    #[test]
    fn a_report_belongs_to_what_its_facts_come_from_and_to_what_changed_the_plan_lately() {
        let origins = Origins::default();
        let (before, after) = (plan(&[(1, 1), (2, 2)]), plan(&[(1, 1), (2, 3)]));
        origins.take(None, &before, Duration::ZERO);
        assert_eq!(
            origins.of_report(&report(1, Vec::new()), Some(&before), Duration::ZERO),
            [],
            "of the first plan nothing is new"
        );
        origins.take(Some(&before), &after, Duration::ZERO);
        let of = |report: &HostReport, now| origins.of_report(report, Some(&after), now);
        assert_eq!(of(&report(1, Vec::new()), Duration::ZERO), [trace(3)]);
        assert_eq!(of(&report(1, Vec::new()), FOLLOWS), []);
        assert_eq!(of(&about(1, Fact::Withdrawn), FOLLOWS), [trace(1)]);
        assert_eq!(of(&about(1, Fact::Vanished), FOLLOWS), []);
    }

    #[test]
    fn a_start_is_its_own_trace_and_the_oldest_are_forgotten() {
        let origins = Origins::default();
        let swapped = about(
            1,
            Fact::Swapped {
                version: 1,
                at: keywheel_core::time::Timestamp::default(),
            },
        );
        let container = swapped.items[0].container.clone();
        let plan = plan(&[(1, 1)]);
        let given = vec![(SecretId::from_bytes([1; 16]), 1)];
        origins.note_start(&container, given, trace(9));
        let of = || origins.of_report(&swapped, Some(&plan), FOLLOWS);
        assert_eq!(of(), [trace(9)]);
        let later = about(
            1,
            Fact::Swapped {
                version: 2,
                at: keywheel_core::time::Timestamp::default(),
            },
        );
        let later = origins.of_report(&later, Some(&plan), FOLLOWS);
        assert_eq!(later, [trace(1)], "another version is no start's");
        for n in 0..MAX_STARTS {
            let other = ContainerId::parse(&format!("{n:064x}")).unwrap();
            assert_eq!(of(), [trace(9)], "{n}");
            origins.note_start(&other, Vec::new(), trace(8));
        }
        assert_eq!(of(), [trace(1)]);
    }
}
