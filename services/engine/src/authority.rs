//! Who may submit which command, and who may say what to whom. Static tables, pure.
//!
//! Consumers check these, not only the transport (TH9): a valid signature of the wrong role is as
//! bad as none. Which principal may ask the gateway for what is not decided here.

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::HostId;
use keywheel_core::playbook_run::{Cause, Request};

use crate::port::bus::{Address, Body, Topic};

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// To everyone who reads a topic.
    Topic(&'a Topic),
    /// To whoever serves an address.
    Request(Address),
    /// Back from whoever serves an address.
    Answer(Address),
}

/// Every role there is.
pub const ROLES: [Role; 5] = [
    Role::Gateway,
    Role::Scheduler,
    Role::StoreSync,
    Role::Injector,
    Role::AuditSink,
];

/// The role that serves an address.
#[must_use]
pub const fn server_of(address: Address) -> Role {
    match address {
        Address::Gateway => Role::Gateway,
        Address::StoreSync => Role::StoreSync,
    }
}

/// The one role that submits a command. The gateway stands for the people and tools behind it.
#[must_use]
pub const fn submitter_of(command: &Command) -> Role {
    match command {
        Command::Apply(_)
        | Command::Unbind { .. }
        | Command::RemoveStore { .. }
        | Command::Put { .. }
        | Command::Rotate { .. }
        | Command::Intervene { .. }
        | Command::Revoke { .. }
        | Command::IssueJoinToken(_)
        | Command::JoinHost(_)
        | Command::RotateHostKey(_)
        | Command::NotePermit(_)
        | Command::EvictHost { .. }
        | Command::ForgetRevocation { .. }
        | Command::Replace(_)
        | Command::Outward(_)
        | Command::ApplyPolicies(_)
        | Command::Token(_)
        | Command::BuryLost(_)
        | Command::JudgeBindings
        | Command::Approval(_) => Role::Gateway,
        Command::Playbook(
            Request::Start {
                cause: Cause::Person,
                ..
            }
            | Request::Advance { .. }
            | Request::Approve { .. }
            | Request::Intervene { .. }
            | Request::Answer { .. }
            | Request::Lift { .. }
            | Request::Remove { .. },
        ) => Role::Gateway,
        Command::Playbook(Request::Start { .. } | Request::Due { .. }) => Role::Scheduler,
        Command::Due { .. }
        | Command::DeadlinePassed { .. }
        | Command::RetryStep { .. }
        | Command::RetryRevoke { .. }
        | Command::LingerEnded { .. } => Role::Scheduler,
        Command::StepOutcome { .. }
        | Command::RevokeOutcome { .. }
        | Command::ProofOutcome { .. }
        | Command::Observed(_)
        | Command::StoreContact { .. } => Role::StoreSync,
        Command::EnrolHost { .. } | Command::Report(_) => Role::Injector,
    }
}

/// Whether a sender may submit a command: an injector only what its own host has to say.
#[must_use]
pub fn may_submit(role: Role, host: Option<HostId>, command: &Command) -> bool {
    role == submitter_of(command)
        && match command {
            Command::EnrolHost { host: about, .. } => host == Some(*about),
            Command::Report(report) => host == Some(report.host),
            _ => true,
        }
}

/// Whether a role may send this body there; `host` is the sender's, if it is an injector.
#[must_use]
pub fn may_send(role: Role, host: Option<HostId>, body: &Body, to: Destination<'_>) -> bool {
    if host.is_some() != (role == Role::Injector) {
        return false;
    }
    match to {
        Destination::Topic(Topic::Presence) => {
            matches!(body, Body::Presence(said) if said.role == role && said.host == host)
        }
        Destination::Topic(topic) => role == Role::Gateway && belongs_in(body, topic),
        Destination::Request(address) => may_request(role, host, body, address),
        Destination::Answer(address) => role == server_of(address) && may_answer(body, address),
    }
}

/// Whether a role may read a topic; `host` is the reader's, if it is an injector.
#[must_use]
pub fn may_read(role: Role, host: Option<HostId>, topic: &Topic) -> bool {
    match topic {
        Topic::Events => role == Role::Scheduler,
        Topic::Audit => role == Role::AuditSink,
        Topic::Work(worker) => role == *worker,
        Topic::Plan(of) => role == Role::Injector && host == Some(*of),
        Topic::Hosts => role == Role::StoreSync,
        Topic::Presence => role == Role::Gateway,
    }
}

fn belongs_in(body: &Body, topic: &Topic) -> bool {
    match (body, topic) {
        (Body::Event(_), Topic::Events) | (Body::Audit(_), Topic::Audit) => true,
        (Body::Work { .. }, Topic::Work(role)) => *role == Role::StoreSync,
        (Body::Plan(plan), Topic::Plan(host)) => plan.host == *host,
        (Body::Hosts(_), Topic::Hosts) => true,
        _ => false,
    }
}

fn may_request(role: Role, host: Option<HostId>, body: &Body, to: Address) -> bool {
    match (to, body) {
        (Address::Gateway, Body::Submit { command, .. }) => may_submit(role, host, command),
        (Address::Gateway, Body::ReadEvents { .. }) => {
            matches!(role, Role::Scheduler | Role::StoreSync | Role::AuditSink)
        }
        (Address::Gateway, Body::ReadAudit { .. }) => role == Role::AuditSink,
        (Address::Gateway, Body::ReadPlan { host: about }) => {
            role == Role::Injector && host == Some(*about)
        }
        (Address::Gateway, Body::ReadHosts | Body::ReadStores { .. }) => role == Role::StoreSync,
        (Address::Gateway, Body::OpenValue(_)) => role == Role::StoreSync,
        (Address::Gateway, Body::Renew(_)) => role != Role::Gateway,
        (Address::StoreSync, Body::OpenValue(wanted)) => {
            role == Role::Injector && host == Some(wanted.host)
        }
        (
            Address::StoreSync,
            Body::ReadStoreKey
            | Body::Stash { .. }
            | Body::DropStash { .. }
            | Body::CheckStore { .. }
            | Body::LookNow { .. }
            | Body::Compare(_)
            | Body::ReadSeal
            | Body::Unseal { .. }
            | Body::Seal
            | Body::RotateKek,
        ) => role == Role::Gateway,
        _ => false,
    }
}

fn may_answer(body: &Body, from: Address) -> bool {
    match (from, body) {
        (_, Body::Done | Body::Failed { .. }) => true,
        (Address::Gateway, body) => matches!(
            body,
            Body::Verdict(_)
                | Body::Events(_)
                | Body::AuditLeaves(_)
                | Body::Plan(_)
                | Body::Hosts(_)
                | Body::Renewed(_)
                | Body::Stores(_)
                | Body::Granted { .. }
        ),
        (Address::StoreSync, body) => matches!(
            body,
            Body::SealedValue(_)
                | Body::StoreKey(_)
                | Body::Tried(_)
                | Body::Looked(_)
                | Body::Compared(_)
                | Body::SealState(_)
        ),
    }
}

#[cfg(test)]
mod tests;
