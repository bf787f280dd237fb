//! Who holds a rotation up, and what each of them lacks. Pure; for the log and for people alike.

use super::{Rotation, Straggler};
use crate::assignment::{Key, Progress};
use crate::rollout::Stage;
use crate::world::World;

/// Everyone who did not acknowledge yet, with what they lack.
#[must_use]
pub fn stragglers(world: &World, open: &Rotation) -> Vec<Straggler> {
    let straggler = |consumer: &Key| Straggler {
        consumer: consumer.clone(),
        reason: lack_of(world, consumer),
    };
    open.waiting.iter().map(straggler).collect()
}

/// What a consumer lacks that is waited for, in one of few words: what is counted has no room for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// Its injector could not or would not serve it.
    Refused,
    /// It did not run well after its restart.
    Failed,
    /// It waits for leave to restart.
    NoLeave,
    /// It may restart, and did not show it yet.
    Restarting,
    /// It restarted, and is not well yet.
    Unwell,
    /// It has the new value, and did not show that it uses it.
    NotReloaded,
    /// It has not got the new value yet.
    NotInPlace,
}

impl Lack {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::Failed,
        Self::NoLeave,
        Self::Restarting,
        Self::Unwell,
        Self::NotReloaded,
        Self::NotInPlace,
    ];

    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::NoLeave => "no_leave",
            Self::Restarting => "restarting",
            Self::Unwell => "unwell",
            Self::NotReloaded => "not_reloaded",
            Self::NotInPlace => "not_in_place",
        }
    }
}

/// What a consumer lacks that is waited for, for people.
#[must_use]
pub fn lack_of(world: &World, consumer: &Key) -> String {
    judged(world, consumer).1
}

/// The same as one of few words.
#[must_use]
pub fn lack(world: &World, consumer: &Key) -> Lack {
    judged(world, consumer).0
}

fn judged(world: &World, consumer: &Key) -> (Lack, String) {
    let known = world.assignments.get(consumer);
    if let Some(Progress::Refused(reason)) = known.map(|known| &known.progress) {
        return (Lack::Refused, reason.clone());
    }
    let member = world.rollout_member(consumer.host, &consumer.container);
    let stage = member
        .filter(|member| member.due.iter().any(|due| due.binding == consumer.binding))
        .map(|member| &member.stage);
    let (lack, words) = match (stage, known.map(|known| &known.progress)) {
        (Some(Stage::Failed(reason)), _) => {
            let words = format!("did not run well after its restart: {reason}");
            return (Lack::Failed, words);
        }
        (Some(Stage::Waiting), _) => (Lack::NoLeave, "waits for leave to restart"),
        (Some(Stage::Leave { .. }), _) => {
            (Lack::Restarting, "may restart, and did not show it yet")
        }
        (Some(Stage::Unwell), _) => (Lack::Unwell, "restarted, and is not well yet"),
        (None, Some(Progress::Swapped)) => (
            Lack::NotReloaded,
            "has the new value, reload not confirmed yet",
        ),
        (None, _) => (Lack::NotInPlace, "new value not in place yet"),
    };
    (lack, words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::Event as Of;
    use crate::event::Event;
    use crate::rollout::{self, Due, Instance, Service};
    use crate::testing::{Given, HOST, NOW, SECOND, SECRET, consumer};

    /// What consumer 1 lacks after this, as a word and for people.
    fn after(events: impl IntoIterator<Item = Event>) -> (Lack, String) {
        let given = Given::distributing();
        assert!(
            given.world().rotations[&SECOND]
                .waiting
                .contains(&consumer(1))
        );
        let all = given.log().iter().cloned().chain(events);
        let given = Given::events(all);
        let key = consumer(1);
        (lack(given.world(), &key), lack_of(given.world(), &key))
    }

    fn of_rollout(event: rollout::Event) -> Event {
        Event::Rollout(Service::of("sha256:1", "web"), event)
    }

    #[test]
    fn every_lack_has_a_word_of_its_own_and_says_more_to_people() {
        let instance = || Instance {
            host: HOST,
            container: consumer(1).container,
        };
        let container_name = || "web".to_owned();
        let due = || {
            vec![Due {
                binding: consumer(1).binding,
                secret: SECRET,
                version: 2,
            }]
        };
        let asked = || {
            of_rollout(rollout::Event::Asked {
                instance: instance(),
                container_name: container_name(),
                due: due(),
            })
        };
        let leave = of_rollout(rollout::Event::LeaveGiven {
            instance: instance(),
            not_before: None,
        });
        let unwell = of_rollout(rollout::Event::Unwell {
            instance: instance(),
            container_name: container_name(),
        });
        let failed = of_rollout(rollout::Event::Failed {
            instance: instance(),
            container_name: container_name(),
            due: due(),
            reason: "its health check fails".to_owned(),
        });
        let refused = Of::Refused {
            version: 2,
            reason: "its mount is covered".to_owned(),
        };
        let swapped = Of::Swapped {
            version: 2,
            at: NOW,
        };
        let own = |event| Event::Assignment(consumer(1), event);
        let cases = [
            (vec![own(refused)], Lack::Refused, "mount is covered"),
            (vec![failed], Lack::Failed, "its health check fails"),
            (vec![asked()], Lack::NoLeave, "waits for leave"),
            (vec![asked(), leave], Lack::Restarting, "may restart"),
            (vec![asked(), unwell], Lack::Unwell, "not well yet"),
            (vec![own(swapped)], Lack::NotReloaded, "not confirmed"),
            (Vec::new(), Lack::NotInPlace, "not in place"),
        ];
        let judged = cases.each_ref().map(|(_, lack, _)| *lack);
        assert_eq!(judged, Lack::ALL);
        for (events, lack, words) in cases {
            let (found, said) = after(events);
            assert_eq!(found, lack, "{said}");
            assert!(said.contains(words), "{said}");
        }
        let mut words = Lack::ALL.map(Lack::word).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Lack::ALL.len());
    }
}
