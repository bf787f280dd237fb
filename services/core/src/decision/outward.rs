//! Decisions about notifications, sources of signals, and signals that came.

use super::Rejection;
use crate::command::Outward;
use crate::event::Event;
use crate::id::{NotificationId, SignalSourceId};
use crate::name::{NotificationName, SignalSourceName};
use crate::notification::{self, MAX_NOTIFICATIONS};
use crate::signal::{self, MAX_SIGNAL_SOURCES, Signal};
use crate::world::World;

pub(super) fn decide(world: &World, wish: &Outward) -> Result<Vec<Event>, Rejection> {
    match wish {
        Outward::RemoveNotification(name) => remove_notification(world, name),
        Outward::RemoveSignalSource(name) => remove_source(world, name),
        Outward::TakeSignal(signal) => take(world, signal),
    }
}

pub(super) fn declare_notification(
    world: &World,
    id: NotificationId,
    name: &NotificationName,
    spec: &notification::Spec,
) -> Result<Vec<Event>, Rejection> {
    let Some(known) = world.notification_named(name) else {
        if world.notifications.len() >= MAX_NOTIFICATIONS {
            return Err(notification::Rejection::TooMany(name.clone()).into());
        }
        let declared = notification::Event::Declared {
            name: name.clone(),
            spec: spec.clone(),
        };
        return Ok(vec![Event::Notification(id, declared)]);
    };
    if known.spec == *spec {
        return Ok(Vec::new());
    }
    let changed = notification::Event::Changed { spec: spec.clone() };
    Ok(vec![Event::Notification(known.id, changed)])
}

fn remove_notification(world: &World, name: &NotificationName) -> Result<Vec<Event>, Rejection> {
    let known = world.notification_named(name);
    let known = known.ok_or_else(|| notification::Rejection::Unknown(name.clone()))?;
    let removed = notification::Event::Removed;
    Ok(vec![Event::Notification(known.id, removed)])
}

pub(super) fn declare_source(
    world: &World,
    id: SignalSourceId,
    name: &SignalSourceName,
    spec: &signal::Spec,
) -> Result<Vec<Event>, Rejection> {
    let Some(known) = world.signal_source_named(name) else {
        if world.signal_sources.len() >= MAX_SIGNAL_SOURCES {
            return Err(signal::Rejection::TooMany(name.clone()).into());
        }
        let declared = signal::Event::SourceDeclared {
            name: name.clone(),
            spec: spec.clone(),
        };
        return Ok(vec![Event::Signal(id, declared)]);
    };
    if known.spec == *spec {
        return Ok(Vec::new());
    }
    let changed = signal::Event::SourceChanged { spec: spec.clone() };
    Ok(vec![Event::Signal(known.id, changed)])
}

fn remove_source(world: &World, name: &SignalSourceName) -> Result<Vec<Event>, Rejection> {
    let known = source(world, name)?;
    let removed = signal::Event::SourceRemoved;
    Ok(vec![Event::Signal(known.id, removed)])
}

/// Takes a signal. That a second one of the same source and id is the first one again, its command's id says.
fn take(world: &World, signal: &Signal) -> Result<Vec<Event>, Rejection> {
    let known = source(world, &signal.via)?;
    if !signal.is_bounded() {
        return Err(signal::Rejection::OutOfBounds.into());
    }
    if !signal.is_text() {
        return Err(signal::Rejection::NoText.into());
    }
    let received = signal::Event::Received {
        via: signal.via.clone(),
        source: signal.source.clone(),
        id: signal.id.clone(),
        kind: signal.kind.clone(),
        subject: signal.subject.clone(),
        fields: signal.fields.clone(),
        compared: signal.compared,
        matched: signal.matched.clone(),
        first: signal.first,
    };
    Ok(vec![Event::Signal(known.id, received)])
}

fn source<'w>(
    world: &'w World,
    name: &SignalSourceName,
) -> Result<&'w signal::Source, signal::Rejection> {
    let known = world.signal_source_named(name);
    known.ok_or_else(|| signal::Rejection::Unknown(name.clone()))
}
