//! Who is who in a report: names of secrets, hosts and bindings, out of its own events.
//!
//! Invariant: a name that no event of the report says is never shown; its id stands instead.

use std::collections::BTreeMap;

use keywheel_core::event::Event;
use keywheel_core::id::{BindingId, HostId, SecretId};
use keywheel_core::{binding, host, secret};

/// Names by ids.
#[derive(Debug, Default)]
pub(super) struct Names {
    secrets: BTreeMap<SecretId, String>,
    resources: BTreeMap<SecretId, String>,
    hosts: BTreeMap<HostId, String>,
    bindings: BTreeMap<BindingId, String>,
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
            Event::Binding(id, binding::Event::Bound { name, .. }) => {
                self.bindings.insert(*id, name.to_string());
            }
            _ => {}
        }
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

    /// A binding's name.
    pub(super) fn binding(&self, id: BindingId) -> String {
        let known = self.bindings.get(&id).cloned();
        known.unwrap_or_else(|| format!("binding {id}"))
    }
}
