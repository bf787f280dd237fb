//! Who is who in a report: names of secrets, hosts, bindings, playbooks and receivers, out of its own events.
//!
//! Invariant: a name that no event of the report says is never shown; its id stands instead.

use std::collections::BTreeMap;

use keywheel_core::event::Event;
use keywheel_core::id::{BindingId, HostId, RunId, SecretId};
use keywheel_core::playbook::{Deed, Step};
use keywheel_core::playbook_run::{self, Target};
use keywheel_core::{binding, host, secret};

/// Names by ids.
#[derive(Debug, Default)]
pub(super) struct Names {
    secrets: BTreeMap<SecretId, String>,
    resources: BTreeMap<SecretId, String>,
    hosts: BTreeMap<HostId, String>,
    bindings: BTreeMap<BindingId, String>,
    /// Playbooks, by their runs.
    playbooks: BTreeMap<RunId, String>,
    /// Notifications that the steps of runs name: events say where a receiver is, which may be a secret.
    receivers: BTreeMap<(RunId, String), Vec<String>>,
    /// What the steps of runs did something to.
    targets: BTreeMap<(RunId, String), Vec<Target>>,
}

impl Names {
    /// Out of events, in order.
    pub(super) fn of<'e>(events: impl Iterator<Item = &'e Event>) -> Self {
        let mut names = Self::default();
        events.for_each(|event| names.note(event));
        names
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Secret(id, secret::Event::Registered { name, spec }) => {
                self.secrets.insert(*id, name.to_string());
                self.spec(*id, spec);
            }
            Event::Secret(id, secret::Event::SpecChanged { spec }) => self.spec(*id, spec),
            Event::Host(id, host::Event::Enrolled { name, .. }) => {
                self.hosts.insert(*id, name.to_string());
            }
            Event::Binding(
                id,
                binding::Event::Bound { name, .. } | binding::Event::Withheld { name, .. },
            ) => {
                self.bindings.insert(*id, name.to_string());
            }
            Event::PlaybookRun(id, playbook_run::Event::Triggered { name, steps, .. }) => {
                self.playbooks.insert(*id, name.to_string());
                steps.iter().for_each(|step| self.receivers(*id, step));
            }
            Event::PlaybookRun(id, playbook_run::Event::StepStarted { step, targets, .. }) => {
                self.targets.insert((*id, step.clone()), targets.clone());
            }
            _ => {}
        }
    }

    fn receivers(&mut self, run: RunId, step: &Step) {
        let names: Vec<String> = match &step.deed {
            Deed::Notify { notifications, .. } => {
                notifications.iter().map(ToString::to_string).collect()
            }
            Deed::Call { notification, .. } => vec![notification.to_string()],
            _ => return,
        };
        self.receivers.insert((run, step.name.clone()), names);
    }

    fn spec(&mut self, id: SecretId, spec: &secret::Spec) {
        match &spec.rotator {
            Some(resource) => self.resources.insert(id, resource.to_string()),
            None => self.resources.remove(&id),
        };
    }

    /// A secret's name.
    pub(super) fn secret(&self, id: SecretId) -> String {
        let known = self.secrets.get(&id).cloned();
        known.unwrap_or_else(|| format!("secret {id}"))
    }

    /// The accounts that a secret opens; empty for none.
    pub(super) fn resource(&self, id: SecretId) -> String {
        self.resources.get(&id).cloned().unwrap_or_default()
    }

    /// A host's name.
    pub(super) fn host(&self, id: HostId) -> String {
        let known = self.hosts.get(&id).cloned();
        known.unwrap_or_else(|| format!("host {id}"))
    }

    /// The name of a run's playbook.
    pub(super) fn playbook(&self, id: RunId) -> String {
        let known = self.playbooks.get(&id).cloned();
        known.unwrap_or_else(|| format!("run {id}"))
    }

    /// What a step does something to, by its place; the first is 0.
    pub(super) fn target(&self, run: RunId, step: &str, place: u32) -> String {
        let key = (run, step.to_owned());
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let target = self.targets.get(&key).and_then(|all| all.get(place));
        match target {
            None => "what it means".to_owned(),
            Some(Target::Secret { secret, version }) => {
                let name = self.secret(*secret);
                match version {
                    Some(version) => format!("{name} version {version}"),
                    None => name,
                }
            }
            Some(Target::Host { host }) => format!("host {}", self.host(*host)),
            Some(Target::Container { host, name, .. }) => {
                format!("container {name} on {}", self.host(*host))
            }
            Some(Target::Playbook { name }) => format!("playbook {name}"),
            Some(Target::Notification { notification }) => {
                let named = self.receivers.get(&key).and_then(|all| all.get(place));
                let name = named.cloned();
                let name = name.unwrap_or_else(|| notification.to_string());
                format!("notification {name}")
            }
        }
    }

    /// A binding's name.
    pub(super) fn binding(&self, id: BindingId) -> String {
        let known = self.bindings.get(&id).cloned();
        known.unwrap_or_else(|| format!("binding {id}"))
    }
}
