//! Which audit records a command leaves. Every command leaves exactly one, and an apply one for each of its
//! declarations, whether it was allowed, rejected or changed nothing; every usage fact, and every end of an order about
//! a container, leaves one per container instance. A person's repeat leaves the same ones as the command itself, which
//! say that it was one.

use keywheel_core::assignment;
use keywheel_core::audit::{Category, ContainerRef, Outcome, Principal, Record};
use keywheel_core::binding::Reload;
use keywheel_core::command::{BuryLost, Command, Declaration, Outward, Replacing};
use keywheel_core::decision::Refusal;
use keywheel_core::event::Event;
use keywheel_core::id::{BindingId, CommandId, HostId, RotationId, SecretId};
use keywheel_core::playbook_run;
use keywheel_core::report::{DeniedStart, Executed, StalePlan, UsageKind, UsageNote};
use keywheel_core::rotation::{self, MAX_REASON_CHARS};
use keywheel_core::time::Timestamp;
use keywheel_core::token;
use keywheel_core::world::World;

mod approvals;
mod entitlement;
mod outward;
mod playbooks;
mod revocations;
mod rules;
mod tokens;

pub use rules::{as_own_words, note_own_words};

/// Who asks, by what command, when.
pub struct Deed<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// The command's id.
    pub id: CommandId,
    /// When.
    pub time: Timestamp,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
}

/// Records of a command that was decided on `before`.
#[must_use]
pub fn records(
    before: &World,
    deed: &Deed<'_>,
    command: &Command,
    decided: &Result<Vec<Event>, Refusal>,
) -> Vec<Record> {
    let mut records = Vec::new();
    records.extend(own_records(before, deed, command, decided));
    if let (Command::Report(report), Err(refusal)) = (command, decided) {
        let mut record = blank(deed, Category::System, "report");
        record.object = host_object(before, report.host);
        refuse(&mut record, refusal);
        records.push(record);
    }
    if let (Command::Report(report), Ok(_)) = (command, decided) {
        let refused = |start| denied_record(before, deed, report.host, start);
        records.extend(report.denied.iter().map(refused));
        let stale = |plan| stale_record(before, deed, report.host, plan);
        records.extend(report.stale.iter().map(stale));
        let executed = |note| executed_record(before, deed, report.host, note);
        records.extend(report.executed.iter().map(executed));
        let noted = |note| note_record(before, deed, report.host, note);
        records.extend(report.notes.iter().map(noted));
    }
    let mut named = None;
    for event in decided.iter().flatten() {
        let Event::Assignment(key, event) = event else {
            continue;
        };
        if let assignment::Event::Assigned {
            secret,
            container_name,
            image_digest,
            ..
        } = event
        {
            named = Some((key, secret, container_name, image_digest));
        }
        let Some(mut record) = usage_record(before, deed, key, event) else {
            continue;
        };
        if matches!(command, Command::EvictHost { .. }) {
            record.reason = by_binding(before, key.binding, "its host was evicted");
        }
        if let (Some((of, secret, name, digest)), Some(container)) = (named, &mut record.container)
            && of == key
        {
            record.object = secret_object(before, *secret);
            container.name.clone_from(name);
            container.image_digest.clone_from(digest);
        }
        records.push(record);
    }
    let events = decided.iter().flatten();
    records.extend(events.filter_map(|event| playbooks::order_record(before, deed, event)));
    let events = decided.iter().flatten();
    records.extend(events.filter_map(|event| playbooks::evicted(before, deed, (command, event))));
    records.extend(entitlement::records(before, deed, command, decided));
    records
}

/// Records of a person's command that was decided before, and got the answer of then.
#[must_use]
pub fn repeat_records(
    now: &World,
    deed: &Deed<'_>,
    command: &Command,
    is_accepted: bool,
) -> Vec<Record> {
    let outcome = match is_accepted {
        true => Outcome::Allowed,
        false => Outcome::Rejected,
    };
    let record = |(verb, object, version)| Record {
        object,
        version,
        outcome,
        reason: "a repeat: it changed nothing, and the first answer was given again".to_owned(),
        ..blank(deed, Category::Administration, verb)
    };
    described(now, command).into_iter().map(record).collect()
}

/// Names in a person's records the policies that let the command in.
pub fn note_admission(records: &mut [Record], by: &str) {
    let own = records.iter_mut();
    for record in own.filter(|record| record.category == Category::Administration) {
        record.reason = match rules::is_of_people(&record.reason) {
            true => by.to_owned(),
            false => format!("{} ({by})", record.reason),
        };
    }
}

fn blank(deed: &Deed<'_>, category: Category, verb: &str) -> Record {
    Record {
        time: deed.time,
        category,
        principal: deed.principal.clone(),
        verb: verb.to_owned(),
        object: String::new(),
        version: None,
        outcome: Outcome::Allowed,
        reason: String::new(),
        container: None,
        command: deed.id,
        trace: deed
            .traceparent
            .and_then(|t| t.split('-').nth(1))
            .unwrap_or_default()
            .to_owned(),
    }
}

fn own_records(
    before: &World,
    deed: &Deed<'_>,
    command: &Command,
    decided: &Result<Vec<Event>, Refusal>,
) -> Vec<Record> {
    let category = match deed.principal {
        Principal::Service(_) => Category::System,
        _ => Category::Administration,
    };
    let record = |(verb, object, version)| {
        let mut record = blank(deed, category, verb);
        record.object = object;
        record.version = version;
        match decided {
            Ok(events) => {
                record.reason = reason_given(deed.principal, command);
                if let (Command::DeadlinePassed { .. }, Some(end)) = (command, end_of(events)) {
                    record.reason = format!("{}: {end}", record.reason);
                }
                if let Some(told) = playbooks::told(before, events) {
                    record.reason = told;
                }
            }
            Err(refusal) => {
                refuse(&mut record, refusal);
                if let Some(why) = own_words(command) {
                    record.reason = format!("{} (asked for because: {why})", record.reason);
                }
            }
        }
        record
    };
    described(before, command).into_iter().map(record).collect()
}

/// Verb, object and version of a record.
type Described = (&'static str, String, Option<u64>);

/// What a command's own records are about.
fn described(world: &World, command: &Command) -> Vec<Described> {
    match command {
        Command::Apply(declarations) => declarations.iter().map(declared).collect(),
        other => Vec::from_iter(describe(world, other)),
    }
}

fn declared(declaration: &Declaration) -> Described {
    match declaration {
        Declaration::Secret { name, .. } => ("apply", format!("secret/{name}"), None),
        Declaration::Binding { name, .. } => ("bind", format!("binding/{name}"), None),
        Declaration::Store { name, .. } => ("apply", format!("store/{name}"), None),
        Declaration::Notification { name, .. } => ("apply", format!("notification/{name}"), None),
        Declaration::SignalSource { name, .. } => ("apply", format!("signal-source/{name}"), None),
        Declaration::Playbook { name, .. } => ("apply", format!("playbook/{name}"), None),
    }
}

fn refuse(record: &mut Record, refusal: &Refusal) {
    record.outcome = match refusal.reason.is_denial() {
        true => Outcome::Denied,
        false => Outcome::Rejected,
    };
    record.reason = refusal.reason.to_string();
}

/// What came of a deadline that passed.
fn end_of(events: &[Event]) -> Option<&'static str> {
    let is_named = |event: &Event| {
        matches!(
            event,
            Event::Rotation(_, rotation::Event::StragglersNamed { .. })
        )
    };
    let ended = events.iter().find_map(|event| {
        let Event::Rotation(_, event) = event else {
            return None;
        };
        match event {
            rotation::Event::Forced => Some("forced, without those who are missing"),
            rotation::Event::StepCompleted {
                step: rotation::Step::Drain,
            } => Some("the grace is over, the old version dies"),
            rotation::Event::Closed { .. } => Some("held, a person decides"),
            rotation::Event::DeadlineMoved { .. } => {
                Some("put off, those who are missing have to wait for leave to restart")
            }
            rotation::Event::StagingEnded { .. } => {
                Some("the server is told, hosts that are missing take the version later")
            }
            rotation::Event::CanaryPassed => {
                Some("the canaries ran well, the version is promoted next")
            }
            rotation::Event::TurnedBack { .. } => {
                Some("the canaries did not show in time that they run on it, and go back")
            }
            _ => None,
        }
    });
    ended.or_else(|| {
        let is_held = events.iter().any(is_named);
        is_held.then_some("held, what uses the version that is to die is waited for on")
    })
}

/// Why a person asked for it, as far as a record has room.
fn own_words(command: &Command) -> Option<String> {
    let (Command::Revoke { reason, .. }
    | Command::EvictHost { reason, .. }
    | Command::ForgetRevocation { reason, .. }
    | Command::Intervene { reason, .. }
    | Command::Replace(Replacing { reason, .. })) = command
    else {
        return playbooks::own_words(command);
    };
    let words: String = reason.trim().chars().take(MAX_REASON_CHARS).collect();
    (!words.is_empty()).then_some(words)
}

/// A person's or worker's own words; without any, the rule by which it was allowed.
fn reason_given(principal: &Principal, command: &Command) -> String {
    match command {
        Command::Revoke { reason, .. }
        | Command::EvictHost { reason, .. }
        | Command::ForgetRevocation { reason, .. }
        | Command::Intervene { reason, .. }
        | Command::BuryLost(BuryLost { reason, .. })
        | Command::Replace(Replacing { reason, .. })
        | Command::Playbook(
            playbook_run::Request::Start { reason, .. }
            | playbook_run::Request::Approve { reason, .. }
            | playbook_run::Request::Intervene { reason, .. }
            | playbook_run::Request::Lift { reason, .. },
        )
        | Command::Token(token::Request::Revoke { reason, .. }) => reason.clone(),
        Command::Approval(request) => approvals::reason(request),
        Command::StepOutcome {
            failure: Some(failure),
            ..
        }
        | Command::RevokeOutcome {
            failure: Some(failure),
            ..
        }
        | Command::StoreContact {
            failure: Some(failure),
            ..
        } => failure.clone(),
        Command::Outward(Outward::TakeSignal(_))
            if !matches!(principal, Principal::Stranger { .. }) =>
        {
            "a letter that was retried".to_owned()
        }
        _ => rules::of(principal, command).to_owned(),
    }
}

/// A command in a record; `None` where facts or declarations are recorded one by one.
fn describe(world: &World, command: &Command) -> Option<Described> {
    let version_of = |id| world.rotations.get(id).map(|rotation| rotation.version);
    Some(match command {
        Command::Unbind { name } => ("unbind", format!("binding/{name}"), None),
        Command::RemoveStore { name } => ("remove-store", format!("store/{name}"), None),
        Command::Observed(seen) => ("observe", secret_object(world, seen.secret), None),
        Command::StoreContact { store, .. } => {
            let name = world.stores.get(store).map(|known| &known.store.name);
            let name = name.map_or_else(|| store.to_string(), ToString::to_string);
            ("note-store", format!("store/{name}"), None)
        }
        Command::Put { name, .. } => ("put", format!("secret/{name}"), None),
        Command::Rotate { secret, .. } => ("rotate", format!("secret/{secret}"), None),
        Command::Intervene {
            rotation,
            intervention,
            ..
        } => (
            intervention_verb(*intervention),
            rotated(world, rotation),
            version_of(rotation),
        ),
        Command::Due { secret, .. } => {
            let name = world.secrets.get(secret).map(|s| s.name.to_string());
            (
                "rotate-by-schedule",
                format!("secret/{}", name.unwrap_or_default()),
                None,
            )
        }
        Command::EnrolHost { name, .. } => ("enrol", format!("host/{name}"), None),
        Command::IssueJoinToken(wish) => ("issue-join-token", format!("host/{}", wish.name), None),
        Command::JoinHost(joining) => ("join", format!("host/{}", joining.name), None),
        Command::RotateHostKey(next) => ("rotate-host-key", host_object(world, next.host), None),
        Command::NotePermit(wish) => ("issue-permit", host_object(world, wish.host), None),
        Command::EvictHost { host, .. } => ("evict", host_object(world, *host), None),
        Command::StepOutcome { rotation, step, .. } => (
            step_verb(*step),
            rotated(world, rotation),
            version_of(rotation),
        ),
        Command::RetryStep { rotation } => {
            ("retry-step", rotated(world, rotation), version_of(rotation))
        }
        Command::DeadlinePassed { rotation } => {
            ("deadline", rotated(world, rotation), version_of(rotation))
        }
        Command::LingerEnded { secret } => ("end-lease", secret_object(world, *secret), None),
        Command::Outward(wish) => outward::described(wish),
        Command::Token(request) => tokens::described(request),
        Command::Approval(request) => return approvals::described(world, request),
        Command::Playbook(request) => playbooks::described(world, request),
        Command::ApplyPolicies(_) => ("apply-policies", "policies".to_owned(), None),
        Command::JudgeBindings => ("judge-bindings", "bindings".to_owned(), None),
        Command::Revoke { .. }
        | Command::Replace(_)
        | Command::RevokeOutcome { .. }
        | Command::RetryRevoke { .. }
        | Command::ProofOutcome(_)
        | Command::BuryLost(_)
        | Command::ForgetRevocation { .. } => return revocations::described(world, command),
        Command::Apply(_) | Command::Report(_) => return None,
    })
}

/// The secret of a rotation.
fn rotated(world: &World, id: &RotationId) -> String {
    let known = world.rotations.get(id);
    let secret = known.and_then(|known| world.secrets.get(&known.secret));
    secret.map_or_else(
        || format!("rotation/{id}"),
        |secret| format!("secret/{}", secret.name),
    )
}

fn intervention_verb(intervention: rotation::Intervention) -> &'static str {
    use rotation::Intervention;
    match intervention {
        Intervention::Abort => "abort-rotation",
        Intervention::Retry => "retry-rotation",
        Intervention::Force => "force-rotation",
    }
}

fn step_verb(step: rotation::Step) -> &'static str {
    use rotation::Step;
    match step {
        Step::Create => "create-version",
        Step::Set => "set-version",
        Step::Test => "test-version",
        Step::Finish => "promote-version",
        Step::RevokeOld => "revoke-old-version",
        Step::RollBack => "roll-back-version",
        Step::Drain => "ask-for-sessions",
    }
}

/// A container that was not allowed to start: it has no assignment, and is recorded all the same.
fn denied_record(before: &World, deed: &Deed<'_>, host: HostId, start: &DeniedStart) -> Record {
    let mut record = blank(deed, Category::Usage, "refuse");
    if !start.secret.is_empty() {
        record.object = format!("secret/{}", start.secret);
    }
    record.outcome = Outcome::Denied;
    record.reason.clone_from(&start.reason);
    record.container = Some(ContainerRef {
        id: start.container.to_string(),
        name: start.container_name.clone(),
        image_digest: start.image_digest.clone(),
        host: host_name(before, host),
    });
    record
}

/// Programs that somebody ran in a consumer: that it was done, never what was run.
fn executed_record(before: &World, deed: &Deed<'_>, host: HostId, note: &Executed) -> Record {
    let mut record = blank(deed, Category::Usage, "exec");
    let at = utc(note.at);
    record.reason = match (note.exec.as_str(), note.count) {
        ("", count) => format!("{count} in all, from {at} on"),
        (exec, count @ ..=1) => format!("exec {exec}, {count} in all, at {at}"),
        (exec, count) => format!("exec {exec} was the first, {count} in all, from {at} on"),
    };
    record.container = Some(ContainerRef {
        id: note.container.to_string(),
        name: note.container_name.clone(),
        image_digest: note.image_digest.clone(),
        host: host_name(before, host),
    });
    record
}

/// For people: the second in UTC, as RFC 3339 writes it. A host may say any instant: one that no calendar
/// has stays a number.
fn utc(at: Timestamp) -> String {
    let known = jiff::Timestamp::from_microsecond(at.micros());
    known.map_or_else(|_| at.to_string(), |known| format!("{known:.0}"))
}

/// A start that was served while nobody could be asked, the first use of a file, or a version before that
/// came into one.
fn note_record(before: &World, deed: &Deed<'_>, host: HostId, note: &UsageNote) -> Record {
    let at = utc(note.at);
    let (verb, why) = match note.kind {
        UsageKind::ServedFromCache => (
            "serve-from-cache",
            format!("the gateway did not answer, at {at}"),
        ),
        UsageKind::FirstUse => ("use", format!("the file was opened first at {at}")),
        UsageKind::GivenBeside => (
            "inject-previous",
            format!("beside the current version, as the one before, at {at}"),
        ),
    };
    let mut record = blank(deed, Category::Usage, verb);
    record.object = secret_object(before, note.secret);
    record.version = Some(note.version);
    let binding = before.own_binding(note.binding, note.secret);
    record.reason = by_binding(before, binding, &why);
    record.container = Some(ContainerRef {
        id: note.container.to_string(),
        name: note.container_name.clone(),
        image_digest: note.image_digest.clone(),
        host: host_name(before, host),
    });
    record
}

/// Plans that a host refused because it has had a newer one for long.
fn stale_record(before: &World, deed: &Deed<'_>, host: HostId, plan: &StalePlan) -> Record {
    let mut record = blank(deed, Category::System, "refuse-plan");
    record.object = host_object(before, host);
    record.outcome = Outcome::Rejected;
    let StalePlan {
        generation,
        held,
        count,
        ..
    } = plan;
    record.reason = format!(
        "stale: plan {generation} came while the host had plan {held} for long, {count} in all; when no journal was put back and no gateway slept, somebody replays what the bus carried"
    );
    record
}

fn secret_object(before: &World, secret: SecretId) -> String {
    let name = before.secrets.get(&secret).map(|s| s.name.to_string());
    format!("secret/{}", name.unwrap_or_default())
}

fn host_object(world: &World, host: HostId) -> String {
    let known = world.hosts.get(&host);
    known.map_or_else(
        || format!("host/{host}"),
        |known| format!("host/{}", known.name),
    )
}

fn host_name(before: &World, host: HostId) -> String {
    let host = before.hosts.get(&host);
    host.map(|host| host.name.to_string()).unwrap_or_default()
}

fn usage_record(
    before: &World,
    deed: &Deed<'_>,
    key: &assignment::Key,
    event: &assignment::Event,
) -> Option<Record> {
    let known = before.assignments.get(key);
    let held = known.map_or(0, |assignment| assignment.holds);
    let (verb, version, outcome, reason) = match event {
        // The wish is in the log; only deeds are usage.
        assignment::Event::Assigned { .. } | assignment::Event::ServiceNoted { .. } => return None,
        assignment::Event::Swapped { version, .. } if held == 0 => {
            ("inject", *version, Outcome::Allowed, "")
        }
        assignment::Event::Swapped { version, .. } => ("replace", *version, Outcome::Allowed, ""),
        assignment::Event::Reloaded { version, .. } => {
            let verb = taken_by(before, key, *version);
            (verb, *version, Outcome::Allowed, "")
        }
        assignment::Event::Withdrawn => ("remove", held, Outcome::Allowed, ""),
        assignment::Event::Vanished => ("vanish", held, Outcome::Allowed, ""),
        assignment::Event::Refused { version, reason } => {
            ("refuse", *version, Outcome::Rejected, reason.as_str())
        }
    };
    let mut record = blank(deed, Category::Usage, verb);
    // What it held, which its binding may not mean any more.
    record.object = known.map_or_else(String::new, |known| secret_object(before, known.secret));
    record.version = (version > 0).then_some(version);
    record.outcome = outcome;
    record.reason = by_binding(before, key.binding, reason);
    record.container = Some(ContainerRef {
        id: key.container.to_string(),
        name: known.map(|a| a.container_name.clone()).unwrap_or_default(),
        image_digest: known.map(|a| a.image_digest.clone()).unwrap_or_default(),
        host: host_name(before, key.host),
    });
    Some(record)
}

/// How a container came to use a version: it was restarted for it when its binding says so and a rotation waits
/// for it; a person's start is none of ours.
fn taken_by(before: &World, key: &assignment::Key, version: u64) -> &'static str {
    let binding = before.bindings.get(&key.binding);
    let spec = binding.and_then(|binding| binding.spec.as_ref());
    let by_restart = spec.is_some_and(|spec| matches!(spec.reload, Reload::Restart { .. }));
    let is_waited_for = before
        .open_rotations()
        .any(|open| open.version == version && open.waiting.contains(key));
    match by_restart && is_waited_for {
        true => "restart",
        false => "reload",
    }
}

/// The rule by which it was: the binding, and what else there is to say.
fn by_binding(before: &World, binding: BindingId, reason: &str) -> String {
    let Some(binding) = before.bindings.get(&binding) else {
        return reason.to_owned();
    };
    match reason {
        "" => format!("binding/{}", binding.name),
        reason => format!("binding/{}: {reason}", binding.name),
    }
}

#[cfg(test)]
mod tests;
