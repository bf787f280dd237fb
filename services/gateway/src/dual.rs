//! What takes several people: what a request binds, and what those who approve are shown. Pure.
//!
//! Invariants: a digest is over all that would happen, and over what it happens to, so nothing that changes meanwhile is
//! approved; a plan shows all of it or there is none.

use std::collections::BTreeSet;

use keywheel_core::approval::{Digest, MAX_PLAN_BYTES, Operation};
use keywheel_core::command::Command;
use keywheel_core::host::Host;
use keywheel_core::name::HostName;
use keywheel_core::policy::{self, Group, Policies, Request};
use keywheel_core::world::World;
use keywheel_engine::presence::{Row, SINK_SET_FACT};
use keywheel_engine::state::View;
use keywheel_seal::digest;

use crate::admission::Admission;
use crate::presence::Presences;

/// What the digests are of.
const CONTEXT: &[u8] = b"keywheel/approval/v1";

/// What is asked for, that takes several people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What for.
    pub operation: Operation,
    /// What it is about, in the audit's words.
    pub object: String,
    /// SHA-256 of it.
    pub digest: Digest,
    /// What would happen.
    pub plan: String,
}

/// Why a plan cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "what would change has {0} bytes, and those who approve are shown {MAX_PLAN_BYTES} at most; change it in smaller steps"
)]
pub struct TooMuch(usize);

/// SHA-256 of an operation and its parts, each by its own digest: no part can end where another begins.
#[must_use]
pub fn digest_of(operation: Operation, parts: &[&[u8]]) -> Digest {
    let first = [CONTEXT, operation.word().as_bytes()];
    let all = first.into_iter().chain(parts.iter().copied());
    let each: Vec<u8> = all.flat_map(digest::sha256).collect();
    digest::sha256(&each)
}

/// What a command is, as the world is; `None` for one that takes nobody else.
///
/// # Errors
/// When nobody could be shown all of it.
pub fn wanted(world: &World, command: &Command) -> Result<Option<Wanted>, TooMuch> {
    match command {
        Command::ApplyPolicies(wish) => policies(world, wish),
        Command::IssueJoinToken(wish) => Ok(host_return(world, &wish.name)),
        _ => Ok(None),
    }
}

/// The same command, over exactly what its request was made over: a set that comes meanwhile is not replaced unseen.
#[must_use]
pub fn bound(world: &World, command: Command) -> Command {
    match command {
        Command::ApplyPolicies(mut wish) => {
            let version = world.policies().map_or(0, |known| known.version);
            wish.expected.get_or_insert(version);
            Command::ApplyPolicies(wish)
        }
        other => other,
    }
}

/// Why a command is not asked for, nor done as one that changes nothing: its sender counts on another set than the one in
/// force. That one may come before it is decided, and nobody approved anything over it.
#[must_use]
pub fn moved(world: &World, command: &Command) -> Option<policy::Rejection> {
    let Command::ApplyPolicies(wish) = command else {
        return None;
    };
    let found = world.policies().map_or(0, |known| known.version);
    let expected = wish.expected.filter(|expected| *expected != found)?;
    Some(policy::Rejection::Moved { expected, found })
}

/// Of what changes nothing nobody has to approve.
fn policies(world: &World, wish: &Request) -> Result<Option<Wanted>, TooMuch> {
    let known = world.policies();
    if known.is_some_and(|known| known.policies == wish.policies) {
        return Ok(None);
    }
    let version = known.map_or(0, |known| known.version);
    let empty = Policies {
        text: String::new(),
        groups: Vec::new(),
    };
    let old = known.map_or(&empty, |known| &known.policies);
    let changes = differences(&old.text, &wish.policies.text);
    let regrouped = regrouped(&old.groups, &wish.policies.groups);
    let lines = std::iter::once(format!(
        "version {} takes the place of version {version}",
        version + 1
    ));
    let lines: Vec<String> = lines.chain(changes).chain(regrouped).collect();
    let plan = lines.join("\n");
    if plan.len() > MAX_PLAN_BYTES {
        return Err(TooMuch(plan.len()));
    }
    let of_group = |group: &Group| {
        let name = std::iter::once(group.name.as_bytes());
        let members = group.members.iter().map(String::as_bytes);
        let parts: Vec<&[u8]> = name.chain(members).collect();
        digest_of(Operation::PolicyChange, &parts)
    };
    let groups: Vec<Digest> = wish.policies.groups.iter().map(of_group).collect();
    let base = version.to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![base.as_slice(), wish.policies.text.as_bytes()];
    parts.extend(groups.iter().map(Digest::as_slice));
    Ok(Some(Wanted {
        operation: Operation::PolicyChange,
        object: "policies".to_owned(),
        digest: digest_of(Operation::PolicyChange, &parts),
        plan,
    }))
}

/// Lines that go and come: all between the first and the last that differ.
fn differences(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let begin = old.iter().zip(&new).take_while(is_same).count();
    let (old, new) = (
        old.get(begin..).unwrap_or_default(),
        new.get(begin..).unwrap_or_default(),
    );
    let end = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(is_same)
        .count();
    let gone = old.iter().take(old.len().saturating_sub(end));
    let come = new.iter().take(new.len().saturating_sub(end));
    let gone = gone.map(|line| format!("- {line}"));
    gone.chain(come.map(|line| format!("+ {line}"))).collect()
}

fn is_same(lines: &(&&str, &&str)) -> bool {
    lines.0 == lines.1
}

fn regrouped(old: &[Group], new: &[Group]) -> Vec<String> {
    let pairs = |groups: &[Group]| -> BTreeSet<(String, String)> {
        let each = groups.iter().flat_map(|group| {
            // A group without members is told, too.
            let none = group.members.is_empty().then(String::new);
            let members = group.members.iter().cloned().chain(none);
            members.map(move |member| (group.name.clone(), member))
        });
        each.collect()
    };
    let (old, new) = (pairs(old), pairs(new));
    let line =
        |sign: &str, (group, member): &(String, String)| format!("{sign} group {group}: {member}");
    let gone = old.difference(&new).map(|one| line("-", one));
    let come = new.difference(&old).map(|one| line("+", one));
    gone.chain(come).collect()
}

/// A name that only evicted hosts had.
fn host_return(world: &World, name: &HostName) -> Option<Wanted> {
    if world.host_named(name).is_some() {
        return None;
    }
    let of_name = |host: &&Host| host.name == *name && host.evicted.is_some();
    let had: Vec<&Host> = world.hosts.values().filter(of_name).collect();
    if had.is_empty() {
        return None;
    }
    let reasons = had.iter().map(|host| {
        let why = host.evicted.as_deref().unwrap_or_default();
        format!("- {} was evicted: {why}", host.id)
    });
    let first = format!("a machine may join as `{name}`, and gets what bindings give that host");
    let lines: Vec<String> = std::iter::once(first).chain(reasons).collect();
    let ids: Vec<&[u8]> = had.iter().map(|host| host.id.bytes().as_slice()).collect();
    let parts: Vec<&[u8]> = std::iter::once(name.as_str().as_bytes())
        .chain(ids)
        .collect();
    Some(Wanted {
        operation: Operation::HostReturn,
        object: format!("host/{name}"),
        digest: digest_of(Operation::HostReturn, &parts),
        plan: cut(lines.join("\n")),
    })
}

/// Reasons of evictions may be many and long; they are for information.
fn cut(plan: String) -> String {
    if plan.len() <= MAX_PLAN_BYTES {
        return plan;
    }
    let mut end = MAX_PLAN_BYTES.saturating_sub("\n…".len());
    while !plan.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let kept = plan.get(..end).unwrap_or_default();
    format!("{kept}\n…")
}

/// Audit records from one number to another, as they were asked for.
#[must_use]
pub fn export(from: Option<u64>, to: Option<u64>) -> Wanted {
    let word = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let (first, last) = (word(from), word(to));
    let plan = match (from, to) {
        (None, None) => "all audit records that there are when it is made".to_owned(),
        (from, to) => {
            let end = to.map_or_else(
                || "the last one there is when it is made".to_owned(),
                |to| format!("{to}, without that one"),
            );
            format!("audit records from {} to {end}", from.unwrap_or(0))
        }
    };
    Wanted {
        operation: Operation::AuditExport,
        object: "audit".to_owned(),
        digest: digest_of(Operation::AuditExport, &[first.as_bytes(), last.as_bytes()]),
        plan,
    }
}

/// The sinks that audit sinks say they were given; `None` while none is heard.
#[must_use]
pub fn sinks(heard: &[Row]) -> Option<Wanted> {
    let told = heard.iter().map(|row| {
        let mut facts = row.presence.seen.facts.iter();
        let set = facts.find(|fact| fact.name == SINK_SET_FACT);
        // Of one that does not say it, nobody can confirm that it is another.
        set.map_or("an audit sink that does not say its sinks", |set| {
            set.note.as_str()
        })
    });
    let told: BTreeSet<&str> = told.collect();
    if told.is_empty() {
        return None;
    }
    let parts: Vec<&[u8]> = told.iter().map(|set| set.as_bytes()).collect();
    let lines: Vec<&str> = told.iter().copied().collect();
    Some(Wanted {
        operation: Operation::SinkChange,
        object: "audit/sinks".to_owned(),
        digest: digest_of(Operation::SinkChange, &parts),
        plan: cut(lines.join("\n")),
    })
}

/// Why no new work may begin before the sinks are confirmed; nothing where they are, or need not be.
#[must_use]
pub fn unconfirmed(admission: &Admission, view: &View, presences: &Presences) -> Option<String> {
    admission.people(Operation::SinkChange)?;
    let found = sinks(&presences.audit_sinks())?;
    let committed = view.read();
    if committed.world.approvals.sinks() == Some(&found.digest) {
        return None;
    }
    Some(
        "the audit is told to other sinks than those that were confirmed, so no new work begins; revocations go on"
            .to_owned(),
    )
}

/// What to do about that.
pub const CONFIRM_SINKS: &str = "look at the sinks that `keywheel status` names for audit-sink; `keywheel approval confirm-sinks --reason TEXT` by as many people as the configuration says, or put the file of sinks back and start the audit sink again";

#[cfg(test)]
mod tests;
