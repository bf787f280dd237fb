//! Where what an injector does comes from: the trace of the rotation or revocation that changed the
//! plan, and of the container's start.
//!
//! For people only; nothing is decided by it. What is remembered is bounded, and what is too old to
//! belong together is forgotten.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
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
    let (_, trace) = traced(plan?).find(|(traced, _)| *traced == secret)?;
    Context::parse(trace)
}

/// Every secret that a plan gives out, with its trace, where there is one.
fn traced(plan: &HostPlan) -> impl Iterator<Item = (SecretId, &str)> {
    plan.bindings.iter().flat_map(|binding| {
        let own = binding.traceparent.as_deref();
        let own = own.map(|trace| (binding.secret, trace));
        let further = binding.also.iter();
        let further = further.filter_map(|one| Some((one.secret, one.traceparent.as_deref()?)));
        own.into_iter().chain(further)
    })
}

/// The same of every secret of a plan, for whoever asks about many.
pub(crate) struct Traces<'a>(HashMap<SecretId, &'a str>);

impl<'a> Traces<'a> {
    /// Of this plan.
    pub(crate) fn of(plan: &'a HostPlan) -> Self {
        let mut traces = HashMap::new();
        for (secret, trace) in traced(plan) {
            traces.entry(secret).or_insert(trace);
        }
        Self(traces)
    }

    /// The trace of what last changed what a secret's bindings give out.
    pub(crate) fn of_secret(&self, secret: SecretId) -> Option<Context> {
        Context::parse(self.0.get(&secret)?)
    }
}

/// As log lines have it.
pub(crate) fn trace_id(trace: Option<Context>) -> Option<String> {
    trace.map(|trace| trace.trace_id())
}

fn all(plan: &HostPlan) -> impl Iterator<Item = Context> {
    traced(plan).filter_map(|(_, trace)| Context::parse(trace))
}

impl Origins {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A plan takes another's place. Of the first one nothing is new.
    pub(crate) fn take(&self, before: Option<&HostPlan>, plan: &HostPlan, now: Duration) {
        let Some(before) = before else { return };
        let mut known: HashSet<Context> = all(before).collect();
        let news: Vec<Context> = all(plan).filter(|one| known.insert(*one)).collect();
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
        let traces = plan.map(Traces::of);
        let of_secret = |secret| traces.as_ref()?.of_secret(secret);
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
            Fact::Vanished | Fact::Wanted | Fact::Removed => None,
            Fact::Withdrawn => of_secret(item.secret),
            Fact::Swapped { version, .. }
            | Fact::Reloaded { version, .. }
            | Fact::Refused { version, .. } => {
                started(item, version).or_else(|| of_secret(item.secret))
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

    /// Every secret with a trace of its own.
    fn large(traces: std::ops::Range<u64>) -> HostPlan {
        let mut plan = plan(&[(1, 1)]);
        let one = plan.bindings.remove(0);
        let id = |n: u64| {
            let mut id = [1; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            id
        };
        let bindings = traces.enumerate().map(|(n, trace)| {
            let mut binding = one.clone();
            binding.secret = SecretId::from_bytes(id(u64::try_from(n).unwrap()));
            binding.traceparent = Some(Context::new(id(trace), [1; 8]).to_string());
            binding
        });
        plan.bindings = bindings.collect();
        plan
    }

    /// As many as a host may have; each pair compared would be a hundred million comparisons.
    #[test]
    fn a_plan_of_ten_thousand_bindings_is_taken_and_reported_on_binding_by_binding() {
        const MANY: u64 = 10_000;
        let (before, after) = (large(0..MANY), large(MANY / 2..MANY / 2 + MANY));
        let origins = Origins::default();
        origins.take(Some(&before), &after, Duration::ZERO);
        let mut gone = report(1, Vec::new());
        let one = about(1, Fact::Withdrawn).items.remove(0);
        gone.items.extend(after.bindings.iter().map(|binding| Item {
            secret: binding.secret,
            ..one.clone()
        }));
        let of = |report: &HostReport| {
            let traces = origins.of_report(report, Some(&after), Duration::ZERO);
            u64::try_from(traces.len()).unwrap()
        };
        assert_eq!(of(&report(1, Vec::new())), MANY / 2, "those that are new");
        assert_eq!(of(&gone), MANY, "each once");
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
            also: Vec::new(),
            previous: Vec::new(),
            selector: Selector::default(),
            target: Target::Env {
                name: EnvName::parse("A").unwrap(),
            },
            reload: Reload::None,
            current: None,
            floor: 0,
            dead: BTreeSet::new(),
            traceparent: Some(trace(*n).to_string()),
            leases: false,
            on_revoke: keywheel_core::binding::OnRevoke::Remove,
        });
        HostPlan {
            host: HostId::default(),
            host_name: HostName::parse("h").unwrap(),
            generation: 1,
            bindings: bindings.collect(),
            leaves: Vec::new(),
            staged: Vec::new(),
            orders: Vec::new(),
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
