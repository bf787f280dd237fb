//! Which events of a stream are wanted.

use std::collections::{BTreeSet, VecDeque};

use keywheel_core::event::Event;
use keywheel_core::id::SecretId;
use keywheel_core::name::SecretName;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_core::{assignment, revocation, rotation};
use keywheel_engine::port::journal::RecordedEvent;
use keywheel_schemas::event;
use keywheel_schemas::mirror::TextForm as _;

use super::super::Failure;

/// Most runs and consumers of a secret that one stream remembers at once; those that ended are forgotten.
const MAX_RUNS: usize = 4096;
/// Longest part of a filter that a person's words are put into, in bytes.
const MAX_WORDS_BYTES: usize = 512;

/// What is asked for; nothing asked for is everything.
#[derive(Debug, Default)]
pub(super) struct Filter {
    kind: Option<String>,
    subject: Option<String>,
    since: Option<Timestamp>,
    secret: Option<SecretId>,
    /// Rotations, revocations and consumers of the secret, as far as they were seen and did not end.
    runs: BTreeSet<String>,
    /// The same in the order in which they were seen first.
    order: VecDeque<String>,
}

impl Filter {
    /// Reads the words; a secret has to be known.
    pub(super) fn new(
        world: &World,
        kind: Option<String>,
        subject: Option<String>,
        secret: Option<&str>,
        since: Option<&str>,
    ) -> Result<Self, Failure> {
        for words in [&kind, &subject].into_iter().flatten() {
            if words.len() > MAX_WORDS_BYTES {
                let text = format!("a filter has more than {MAX_WORDS_BYTES} bytes; shorten it");
                return Err(Failure::invalid(text));
            }
        }
        let since = since.map(read_time).transpose()?;
        let secret = secret.map(|name| find(world, name)).transpose()?;
        Ok(Self {
            kind,
            subject,
            since,
            secret,
            runs: BTreeSet::new(),
            order: VecDeque::new(),
        })
    }

    /// Whether nothing is left out.
    pub(super) const fn is_all(&self) -> bool {
        self.kind.is_none()
            && self.subject.is_none()
            && self.since.is_none()
            && self.secret.is_none()
    }

    /// Whether the event is wanted.
    pub(super) fn wants(&mut self, world: &World, recorded: &RecordedEvent) -> bool {
        let subject = event::subject(&recorded.event);
        let about = self.secret.is_none_or(|secret| {
            let belongs = self.belongs(world, secret, recorded, &subject);
            if belongs {
                self.note(&recorded.event, &subject);
            }
            belongs
        });
        let name = event::type_name(&recorded.event);
        about
            && self.kind.as_deref().is_none_or(|kind| is_kind(name, kind))
            && self.subject.as_deref().is_none_or(|asked| asked == subject)
            && self.since.is_none_or(|since| recorded.time >= since)
    }

    /// Remembers a run or consumer of the secret until it ends; beyond the bound the oldest is forgotten,
    /// and only what the committed state does not know of it either is missed.
    fn note(&mut self, event: &Event, subject: &str) {
        match event {
            Event::Rotation(_, rotation::Event::Closed { .. })
            | Event::Revocation(_, revocation::Event::Closed)
            | Event::Assignment(_, assignment::Event::Vanished) => {
                self.runs.remove(subject);
                self.order.retain(|seen| seen != subject);
            }
            Event::Rotation(..) | Event::Revocation(..) | Event::Assignment(..) => {
                if self.runs.insert(subject.to_owned()) {
                    self.order.push_back(subject.to_owned());
                }
            }
            // Its own events, and those that name it, need no memory.
            Event::Secret(..)
            | Event::Binding(..)
            | Event::Host(..)
            | Event::Store(..)
            | Event::Rollout(..)
            | Event::Notification(..)
            | Event::Signal(..)
            | Event::Playbook(..)
            | Event::PlaybookRun(..)
            | Event::Policy(..)
            | Event::Token(..)
            | Event::Approval(..) => {}
        }
        if self.order.len() > MAX_RUNS
            && let Some(oldest) = self.order.pop_front()
        {
            self.runs.remove(&oldest);
        }
    }

    /// Whether an event is about the secret: it is its own, names it, or is of a run or a consumer of
    /// it that this stream or the committed state knows.
    fn belongs(
        &self,
        world: &World,
        secret: SecretId,
        recorded: &RecordedEvent,
        subject: &str,
    ) -> bool {
        let known = match &recorded.event {
            Event::Secret(id, _) => return *id == secret,
            Event::Rotation(id, _) => world.rotations.get(id).map(|run| run.secret),
            Event::Revocation(id, _) => world.revocations.get(id).map(|run| run.secret),
            Event::Assignment(key, _) => world.assignments.get(key).map(|one| one.secret),
            Event::Binding(..)
            | Event::Host(..)
            | Event::Store(..)
            | Event::Rollout(..)
            | Event::Notification(..)
            | Event::Signal(..)
            | Event::Playbook(..)
            | Event::PlaybookRun(..)
            | Event::Policy(..)
            | Event::Token(..)
            | Event::Approval(..) => None,
        };
        let name = secret.to_string();
        known == Some(secret)
            || self.runs.contains(subject)
            || recorded
                .bytes
                .windows(name.len())
                .any(|part| part == name.as_bytes())
    }
}

fn is_kind(name: &str, asked: &str) -> bool {
    name == asked || (asked.ends_with('.') && name.starts_with(asked))
}

fn find(world: &World, name: &str) -> Result<SecretId, Failure> {
    let name = SecretName::parse(name).map_err(|error| Failure::invalid(error.to_string()))?;
    let secret = world.secret_named(&name).ok_or_else(|| {
        Failure::not_found(format!(
            "no secret is named `{name}`; `keywheel get secrets` lists them"
        ))
    })?;
    Ok(secret.id)
}

/// A time as people write it for machines.
pub(in super::super) fn read_time(words: &str) -> Result<Timestamp, Failure> {
    Timestamp::parse_text(words).map_err(|_| {
        let words: String = words.chars().take(80).collect();
        Failure::invalid(format!(
            "`{words}` is no time; write it like 2026-11-28T14:02:00Z"
        ))
    })
}

#[cfg(test)]
mod tests {
    use keywheel_core::id::RotationId;
    use keywheel_core::rotation::Outcome;

    use super::*;

    fn of(event: rotation::Event) -> Event {
        Event::Rotation(RotationId::default(), event)
    }

    #[test]
    fn so_many_runs_are_remembered_and_those_that_ended_are_not() {
        let mut filter = Filter::default();
        let goes_on = of(rotation::Event::StepCompleted {
            step: rotation::Step::Create,
        });
        let ends = of(rotation::Event::Closed {
            outcome: Outcome::Completed,
        });
        for n in 0..MAX_RUNS {
            filter.note(&goes_on, &format!("rotation/{n}"));
            filter.note(&goes_on, &format!("rotation/{n}"));
        }
        assert_eq!(
            (filter.runs.len(), filter.order.len()),
            (MAX_RUNS, MAX_RUNS)
        );
        assert!(filter.runs.contains("rotation/0"));
        filter.note(&goes_on, "rotation/one-more");
        assert_eq!(
            (filter.runs.len(), filter.order.len()),
            (MAX_RUNS, MAX_RUNS)
        );
        assert!(!filter.runs.contains("rotation/0"), "the oldest went");
        filter.note(&ends, "rotation/one-more");
        assert_eq!(
            (filter.runs.len(), filter.order.len()),
            (MAX_RUNS - 1, MAX_RUNS - 1)
        );
    }
}
