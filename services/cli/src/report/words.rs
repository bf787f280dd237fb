//! What happened, in words for people: one line for each event of a report's timeline.
//!
//! Invariant: pure, and the same event always has the same words, for whoever verifies a report makes them anew.

use keywheel_core::audit::{Outcome, Principal};
use keywheel_core::event::Event;
use keywheel_core::revocation::Answer;
use keywheel_core::{host, revocation, rotation, secret};
use keywheel_schemas::event;
use keywheel_schemas::mirror::TextForm as _;

use super::names::Names;
use super::playbook;

/// One line; `None` for what has a table of its own, or only says who is who.
pub(super) fn line(event: &Event, names: &Names) -> Option<String> {
    Some(match event {
        Event::Assignment(..) | Event::Binding(..) => return None,
        Event::Secret(id, fact) => secret_line(fact, &names.secret(*id), names)?,
        Event::Host(id, fact) => host_line(fact, &names.host(*id))?,
        Event::Revocation(_, fact) => revocation_line(fact, names),
        Event::Rotation(_, fact) => rotation_line(fact, names)?,
        Event::PlaybookRun(id, fact) => playbook::words::line(*id, fact, names),
        other => type_words(other),
    })
}

/// An event that has no words of its own: its type.
pub(super) fn type_words(event: &Event) -> String {
    let name = event::type_name(event);
    let name = name.strip_prefix("dev.keywheel.").unwrap_or(name);
    name.strip_suffix(".v1")
        .unwrap_or(name)
        .replace(['.', '_'], " ")
}

fn secret_line(fact: &secret::Event, name: &str, names: &Names) -> Option<String> {
    Some(match fact {
        secret::Event::VersionStaged { version, .. } => {
            format!("version {version} of {name} is being made")
        }
        secret::Event::Delivered { host, version, .. } => {
            format!(
                "host {} may hold version {version} of {name} from now on",
                names.host(*host)
            )
        }
        secret::Event::VersionPromoted { version } => {
            format!("version {version} of {name} is current")
        }
        secret::Event::VersionRevoked { version } => {
            format!("version {version} of {name} is dead: no host gets it any more")
        }
        secret::Event::VersionDestroyed { version } => {
            format!("the data key of version {version} of {name} is destroyed")
        }
        _ => return None,
    })
}

fn host_line(fact: &host::Event, name: &str) -> Option<String> {
    match fact {
        host::Event::Evicted { reason } => Some(format!("host {name} was evicted: {reason}")),
        host::Event::RestartOrdered { subject, .. } => Some(format!(
            "container {} on host {name} is to restart",
            subject.name
        )),
        host::Event::QuarantineOrdered {
            subject,
            action,
            reason,
            ..
        } => Some(format!(
            "container {} on host {name} is put into quarantine ({}): {reason}",
            subject.name,
            action.word()
        )),
        host::Event::QuarantineLifted {
            container,
            by,
            reason,
        } => Some(format!(
            "{by} lifted the quarantine of container {} on host {name}: {reason}",
            container.short()
        )),
        _ => None,
    }
}

fn revocation_line(fact: &revocation::Event, names: &Names) -> String {
    use revocation::Event;
    match fact {
        Event::Requested {
            versions,
            hosts,
            reason,
            is_emergency,
            ..
        } => format!(
            "revocation of {} begun{}, for {} hosts: {reason}",
            versions_of(versions),
            urgency(*is_emergency),
            hosts.len()
        ),
        Event::WithdrawnOnHost { host } => {
            format!("host {} holds none of it any more", names.host(*host))
        }
        Event::HostReleased { host } => format!(
            "host {} was evicted and is not waited for",
            names.host(*host)
        ),
        Event::BackendConfirmed => "the store confirmed that it is unusable there".to_owned(),
        Event::BackendFailed { attempt, reason } => {
            format!("the store did not do it, attempt {attempt}: {reason}")
        }
        Event::BackendRetried { attempt } => {
            format!("the store is asked again, attempt {attempt}")
        }
        Event::Closed => "the revocation is closed".to_owned(),
        Event::WithdrawnEverywhere => "no host holds any of it any more".to_owned(),
        Event::ProvenDead { evidence } => format!(
            "proven dead: a login with each was refused, {} in all",
            evidence.len()
        ),
        Event::NotProvable { reason, .. } => format!("it cannot be proven dead: {reason}"),
        Event::StillAccepted { .. } => {
            "NOT dead: a login was let in, or its store has its lease still; it is asked once more"
                .to_owned()
        }
        Event::Destroyed => "its data keys are destroyed".to_owned(),
        Event::ForgetAsked { by, reason, .. } => {
            format!("{} would have the store asked no more: {reason}", who(by))
        }
        Event::Forgotten { by, reason } => format!(
            "{} is the second to say so, the store is asked no more: {reason}",
            who(by)
        ),
        Event::ReplacementAwaited {
            versions,
            reason,
            rotation,
            is_emergency,
            ..
        } => format!(
            "revocation of {} wished for{}, once rotation {rotation} has replaced them: {reason}",
            versions_of(versions),
            urgency(*is_emergency)
        ),
        Event::ReplacementGivenUp { reason } => format!("nothing takes their place: {reason}"),
    }
}

const fn urgency(is_emergency: bool) -> &'static str {
    match is_emergency {
        true => " in an emergency",
        false => "",
    }
}

fn rotation_line(fact: &rotation::Event, names: &Names) -> Option<String> {
    use rotation::Event;
    Some(match fact {
        // Containers have a table of their own.
        Event::ConsumerAcknowledged { .. } => return None,
        Event::Started {
            secret,
            version,
            trigger,
        } => format!(
            "rotation of {} to version {version} begun: {}",
            names.secret(*secret),
            trigger_words(trigger)
        ),
        Event::StepStarted { step, attempt } => {
            format!("step {} begun, attempt {attempt}", step_word(*step))
        }
        Event::StepCompleted { step } => format!("step {} done", step_word(*step)),
        Event::StepFailed {
            step,
            attempt,
            reason,
        } => format!(
            "step {} failed, attempt {attempt}: {reason}",
            step_word(*step)
        ),
        Event::DistributionStarted {
            consumers, hosts, ..
        } => format!(
            "given out to {} containers on {} hosts",
            consumers.len(),
            hosts.len()
        ),
        Event::HostBarrierAcknowledged { host } => {
            format!("host {} holds no older version", names.host(*host))
        }
        Event::HostReleased { host } => format!("host {} is not waited for", names.host(*host)),
        Event::Halted { reason, .. } => format!("halted, a container did not run well: {reason}"),
        Event::TurnedBack { version, .. } => format!("turned back to version {version}"),
        Event::DeadlinePassed => "the deadline passed".to_owned(),
        Event::StragglersNamed { consumers, hosts } => format!(
            "missing: {} containers, {} hosts",
            consumers.len(),
            hosts.len()
        ),
        Event::Forced => "nobody is waited for any more: the old version dies".to_owned(),
        Event::Intervened {
            intervention,
            reason,
        } => format!("a person stepped in ({}): {reason}", step_in(*intervention)),
        Event::Closed { outcome } => format!("the rotation ended: {}", outcome_word(outcome)),
        Event::SessionsLeft { sessions, .. } => format!("{sessions} old sessions are open"),
        Event::CanarySkipped { reason } => format!("no canaries: {reason}"),
        Event::CutOver { at } => format!("cut over at {}", at.text()),
        Event::GapMeasured { since, until } => {
            format!("gap from {} to {}", since.text(), until.text())
        }
        other => plain_words(other).to_owned(),
    })
}

/// What needs no more said than that it was.
const fn plain_words(fact: &rotation::Event) -> &'static str {
    use rotation::Event;
    match fact {
        Event::DeadlineMoved { .. } => "the deadline was moved",
        Event::Reopened { .. } => "reopened: consumers are waited for again",
        Event::SessionsUntold { .. } => "the server tells no sessions: a grace is waited instead",
        Event::StagingStarted { .. } => "hosts take the version beforehand",
        Event::HostStaged { .. } => "a host has the version at hand",
        Event::StagingEnded { .. } => "hosts are waited for no more, the server is told",
        Event::CanaryStarted { .. } => "a few containers try the version first",
        Event::CanaryWatched { .. } => "the canaries are watched",
        Event::CanaryPassed => "the canaries ran well",
        _ => "a step of the rotation",
    }
}

/// Why a rotation began.
pub(super) fn trigger_words(trigger: &rotation::Trigger) -> String {
    use rotation::Trigger;
    match trigger {
        Trigger::Initial => "the secret is new".to_owned(),
        Trigger::OnDemand => "somebody asked for it".to_owned(),
        Trigger::Provided => "somebody provided a value".to_owned(),
        Trigger::External { .. } => "it was changed at the store outside".to_owned(),
        Trigger::Slot { scheduled, .. } => format!("it was due at {}", scheduled.text()),
        Trigger::Playbook { run } => format!("a step of playbook run {run} asked for it"),
    }
}

/// How a rotation ended.
pub(super) const fn outcome_word(outcome: &rotation::Outcome) -> &'static str {
    use rotation::Outcome;
    match outcome {
        Outcome::Completed => "completed",
        Outcome::RolledBack => "rolled back",
        Outcome::Parked => "parked",
        Outcome::Cancelled => "cancelled",
    }
}

const fn step_word(step: rotation::Step) -> &'static str {
    use rotation::Step;
    match step {
        Step::Create => "create",
        Step::Set => "set",
        Step::Test => "test",
        Step::Finish => "finish",
        Step::RevokeOld => "revoke old",
        Step::RollBack => "roll back",
        Step::Drain => "drain",
    }
}

const fn step_in(intervention: rotation::Intervention) -> &'static str {
    use rotation::Intervention;
    match intervention {
        Intervention::Abort => "abort",
        Intervention::Retry => "retry",
        Intervention::Force => "force",
    }
}

/// A principal.
pub(super) fn who(principal: &Principal) -> String {
    match principal {
        Principal::User { uid, name } => format!("user {name} (uid {uid})"),
        Principal::Operator { name } => format!("certificate {name}"),
        Principal::Stranger { address } => format!("stranger at {address}"),
        Principal::Service(role) => format!("service {role:?}"),
        Principal::Token { name, owner } => format!("token {name} of {owner}"),
        Principal::Login { name } => format!("login {name}"),
    }
}

/// How a request ended.
pub(super) const fn ended(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "allowed",
        Outcome::Denied => "denied",
        Outcome::Rejected => "rejected",
        Outcome::Malformed => "malformed",
    }
}

/// What a server answered, or the store of a lease, as the API says it.
pub(super) const fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::WrongPassword => "wrong_password",
        Answer::NoLogin => "no_login",
        Answer::Refused => "refused",
        Answer::Accepted => "accepted",
        Answer::LeaseGone => "lease_gone",
        Answer::LeaseAlive => "lease_alive",
    }
}

/// `version 3`, `versions 1, 2`.
pub(super) fn versions_of(versions: &[u64]) -> String {
    let all: Vec<String> = versions.iter().map(ToString::to_string).collect();
    match versions.len() {
        1 => format!("version {}", all.concat()),
        _ => format!("versions {}", all.join(", ")),
    }
}
