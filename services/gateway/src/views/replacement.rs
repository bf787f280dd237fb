//! What takes the place of what is revoked: what it waits for, and what a wish for one would lead to. Pure.

use keywheel_core::command::{Command, Replacing};
use keywheel_core::decision::scope::Hit;
use keywheel_core::decision::{Context, Enrolment, decide};
use keywheel_core::event::Event;
use keywheel_core::id::{RevocationId, RotationId};
use keywheel_core::revocation::{self, Revocation};
use keywheel_core::rotation::{self, Outcome, Phase, Rotation};
use keywheel_core::secret::Secret;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_schemas::api::ReplacementView;

use super::phase_word;

/// What a revocation waits for, or waited for; `None` where nobody asked for a replacement.
pub(super) fn view(world: &World, revocation: &Revocation) -> Option<ReplacementView> {
    let asked = revocation.replacement.as_ref();
    let rotation_id = asked.map(|asked| asked.rotation.to_string());
    if let Some(reason) = &revocation.given_up {
        return Some(ReplacementView {
            rotation_id,
            state: "none".to_owned(),
            because: Some(reason.clone()),
        });
    }
    let asked = asked?;
    let (state, because) = match revocation.is_awaiting() {
        true => (
            "awaited",
            Some(waits_for(world, revocation, asked.is_emergency)),
        ),
        false => ("made", None),
    };
    Some(ReplacementView {
        rotation_id,
        state: state.to_owned(),
        because,
    })
}

/// What has to happen before its versions die, and who makes it happen.
fn waits_for(world: &World, revocation: &Revocation, is_emergency: bool) -> String {
    if let Some(open) = world.open_rotation(revocation.secret) {
        return match open.returning {
            Some(back) => format!(
                "rotation {0} goes back to version {back}, and brings none: `keywheel describe rotation {0}` shows what it waits for",
                open.id
            ),
            None => on_its_way(open, is_emergency),
        };
    }
    let secret = world.secrets.get(&revocation.secret);
    let name = secret.map_or_else(String::new, |secret| secret.name.to_string());
    let last = revocation.replacement.as_ref();
    let last = last.and_then(|asked| world.rotations.get(&asked.rotation));
    let (how, retried) = match last {
        Some(run) if run.phase == Phase::Closed(Outcome::Parked) => (
            phase_word(&run.phase),
            format!(
                "mend what `keywheel describe rotation {0}` names and `keywheel rotation retry {0} --reason …` waits once more; ",
                run.id
            ),
        ),
        Some(run) => (phase_word(&run.phase), String::new()),
        None => ("over", String::new()),
    };
    format!(
        "its rotation is {how}, and nothing is in use instead of these versions, which live on: {retried}`keywheel rotate {name}` makes another version, and they die once that is in use; `keywheel revoke {name} --reason …` revokes them now, without a replacement"
    )
}

fn on_its_way(open: &Rotation, is_emergency: bool) -> String {
    let when = match is_emergency {
        true => "is promoted",
        false => "is promoted and every running container has acknowledged it",
    };
    format!(
        "rotation {0} makes version {1}; they die as soon as that {when}; `keywheel describe rotation {0}` shows how it stands",
        open.id, open.version
    )
}

/// What follows a rotation, where a revocation waits for what it brings.
pub(super) fn follows(world: &World, rotation: &Rotation) -> Option<String> {
    let secret = world.secrets.get(&rotation.secret)?;
    if secret.last_version != rotation.version || is_through(&rotation.phase) {
        return None;
    }
    let waiting = world.awaiting(rotation.secret).next()?;
    let versions = waiting.versions.iter().map(u64::to_string);
    let versions = versions.collect::<Vec<String>>().join(", ");
    Some(match rotation.is_open() && rotation.returning.is_none() {
        true => format!(
            "revocation {} of {versions} waits for version {} to be in use",
            waiting.id, rotation.version
        ),
        false => format!(
            "revocation {0} of {versions} still waits for a replacement; `keywheel describe revocation {0}` says what to do",
            waiting.id
        ),
    })
}

fn is_through(phase: &Phase) -> bool {
    *phase == Phase::Closed(Outcome::Completed)
}

/// What a wish to have a hit replaced would lead to.
pub(super) struct Planned {
    /// What would die; `None` where that is not told by the replacement.
    pub(super) versions: Option<Vec<u64>>,
    /// What takes its place.
    pub(super) next: Option<u64>,
    /// The same in words.
    pub(super) words: String,
    /// Whether nothing would be done.
    pub(super) is_refused: bool,
}

/// Decides the wish on the world as it is; nothing comes of it.
pub(super) fn planned(
    world: &World,
    (secret, hit): (&Secret, &Hit),
    is_emergency: bool,
    now: Timestamp,
) -> Planned {
    let wish = Replacing {
        revocation: RevocationId::default(),
        rotation: RotationId::default(),
        secret: secret.name.clone(),
        version: hit.versions.last().copied().filter(|_| !hit.is_whole),
        reason: "a plan".to_owned(),
        is_emergency,
    };
    let context = Context {
        now,
        seed: [0; 16],
        enrolment: Enrolment::default(),
    };
    match decide(world, &Command::Replace(wish), &context) {
        Ok(events) => of_events(world, secret, (hit, is_emergency), &events),
        Err(refusal) => Planned {
            versions: None,
            next: None,
            words: refusal.reason.to_string(),
            is_refused: true,
        },
    }
}

fn of_events(
    world: &World,
    secret: &Secret,
    (hit, is_emergency): (&Hit, bool),
    events: &[Event],
) -> Planned {
    let (mut versions, mut next, mut refused) = (None, None, None);
    for event in events {
        match event {
            Event::Revocation(
                _,
                revocation::Event::ReplacementAwaited {
                    versions: dying,
                    rotation,
                    ..
                },
            ) => {
                versions = Some(match hit.is_whole {
                    true => dying.clone(),
                    false => hit.versions.clone(),
                });
                next = world.rotations.get(rotation).map(|open| open.version);
            }
            Event::Rotation(_, rotation::Event::Started { version, .. }) => next = Some(*version),
            Event::Revocation(_, revocation::Event::ReplacementGivenUp { reason }) => {
                refused = Some(reason);
            }
            _ => {}
        }
    }
    if let Some(reason) = refused {
        return Planned {
            versions: None,
            next: None,
            words: format!("none, they die at once: {reason}"),
            is_refused: false,
        };
    }
    let next = next.or(secret.current);
    Planned {
        words: words(secret, next.unwrap_or_default(), is_emergency),
        versions,
        next,
        is_refused: false,
    }
}

fn words(secret: &Secret, next: u64, is_emergency: bool) -> String {
    let when = match is_emergency {
        true => "as soon as that is promoted, without waiting for stragglers",
        false => "once every running container has acknowledged it",
    };
    let gap = match secret.has_way_back() {
        true => "",
        false => {
            "; no overlap is possible there: from `set` on the old value is refused, until each container has the new one"
        }
    };
    format!("version {next} is made and promoted first, and they die {when}{gap}")
}
