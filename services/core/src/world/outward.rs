//! Notifications and sources of signals that are declared. Of signals themselves nothing is kept.

use super::World;
use crate::id::{NotificationId, SignalSourceId};
use crate::name::{NotificationName, SignalSourceName};
use crate::notification;
use crate::signal;

impl World {
    /// A notification by name.
    #[must_use]
    pub fn notification_named(&self, name: &NotificationName) -> Option<&notification::Declared> {
        let mut known = self.notifications.values();
        known.find(|known| known.name == *name)
    }

    /// A source of signals by name.
    #[must_use]
    pub fn signal_source_named(&self, name: &SignalSourceName) -> Option<&signal::Source> {
        let mut known = self.signal_sources.values();
        known.find(|known| known.name == *name)
    }

    pub(super) fn apply_notification(
        &mut self,
        number: u64,
        id: NotificationId,
        event: &notification::Event,
    ) {
        match event {
            notification::Event::Declared { name, spec } => {
                let known = notification::Declared {
                    id,
                    name: name.clone(),
                    spec: spec.clone(),
                    since: number,
                };
                self.notifications.insert(id, known);
            }
            notification::Event::Changed { spec } => {
                if let Some(known) = self.notifications.get_mut(&id) {
                    known.spec = spec.clone();
                }
            }
            notification::Event::Removed => {
                self.notifications.remove(&id);
            }
        }
    }

    pub(super) fn apply_signal(&mut self, id: SignalSourceId, event: &signal::Event) {
        match event {
            signal::Event::SourceDeclared { name, spec } => {
                let known = signal::Source {
                    id,
                    name: name.clone(),
                    spec: spec.clone(),
                };
                self.signal_sources.insert(id, known);
            }
            signal::Event::SourceChanged { spec } => {
                if let Some(known) = self.signal_sources.get_mut(&id) {
                    known.spec = spec.clone();
                }
            }
            signal::Event::SourceRemoved => {
                self.signal_sources.remove(&id);
            }
            signal::Event::Received { .. } => {}
        }
    }
}
