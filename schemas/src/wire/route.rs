//! Which body goes where, as a table: the bus's authority decides by code, and its tests hold both
//! against each other. The AsyncAPI document is made from this one.

use keywheel_core::audit::Role;

use super::message::Kind;

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Every event.
    Events,
    /// Every audit record.
    Audit,
    /// Effects for store-sync.
    Work,
    /// One host's plan; the host's own, if a host speaks of one.
    Plan,
    /// Whose key speaks for which host.
    Hosts,
    /// What instances tell about themselves.
    Presence,
    /// A request to the role that serves.
    Ask(Role),
    /// An answer of the role that serves.
    Answer(Role),
}

/// One row: who may say what where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// What.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// Who.
    pub from: &'static [Role],
}

const ALL: &[Role] = &[
    Role::Gateway,
    Role::Scheduler,
    Role::StoreSync,
    Role::Injector,
    Role::AuditSink,
];
const GATEWAY: &[Role] = &[Role::Gateway];
const SCHEDULER_STORE_SYNC_INJECTOR: &[Role] = &[Role::Scheduler, Role::StoreSync, Role::Injector];
const STORE_SYNC: &[Role] = &[Role::StoreSync];
const INJECTOR: &[Role] = &[Role::Injector];

const fn row(kind: Kind, place: Place, from: &'static [Role]) -> Route {
    Route { kind, place, from }
}

/// Every row; what is in none may not be said.
pub const ROUTES: &[Route] = &[
    row(Kind::Event, Place::Events, GATEWAY),
    row(Kind::Audit, Place::Audit, GATEWAY),
    row(Kind::Work, Place::Work, GATEWAY),
    row(Kind::Plan, Place::Plan, GATEWAY),
    row(Kind::Hosts, Place::Hosts, GATEWAY),
    row(Kind::Presence, Place::Presence, ALL),
    row(
        Kind::Submit,
        Place::Ask(Role::Gateway),
        SCHEDULER_STORE_SYNC_INJECTOR,
    ),
    row(
        Kind::ReadEvents,
        Place::Ask(Role::Gateway),
        &[Role::Scheduler, Role::StoreSync, Role::AuditSink],
    ),
    row(
        Kind::ReadAudit,
        Place::Ask(Role::Gateway),
        &[Role::AuditSink],
    ),
    row(Kind::ReadPlan, Place::Ask(Role::Gateway), INJECTOR),
    row(Kind::ReadHosts, Place::Ask(Role::Gateway), STORE_SYNC),
    row(
        Kind::Renew,
        Place::Ask(Role::Gateway),
        &[
            Role::Scheduler,
            Role::StoreSync,
            Role::Injector,
            Role::AuditSink,
        ],
    ),
    row(Kind::ReadStores, Place::Ask(Role::Gateway), STORE_SYNC),
    row(Kind::OpenValue, Place::Ask(Role::Gateway), STORE_SYNC),
    row(Kind::OpenValue, Place::Ask(Role::StoreSync), INJECTOR),
    row(Kind::ReadStoreKey, Place::Ask(Role::StoreSync), GATEWAY),
    row(Kind::Stash, Place::Ask(Role::StoreSync), GATEWAY),
    row(Kind::DropStash, Place::Ask(Role::StoreSync), GATEWAY),
    row(Kind::CheckStore, Place::Ask(Role::StoreSync), GATEWAY),
    row(Kind::LookNow, Place::Ask(Role::StoreSync), GATEWAY),
    row(Kind::Compare, Place::Ask(Role::StoreSync), GATEWAY),
    row(Kind::ReadSeal, Place::Ask(Role::StoreSync), GATEWAY),
    row(Kind::Unseal, Place::Ask(Role::StoreSync), GATEWAY),
    row(Kind::Seal, Place::Ask(Role::StoreSync), GATEWAY),
    row(Kind::RotateKek, Place::Ask(Role::StoreSync), GATEWAY),
    row(Kind::Verdict, Place::Answer(Role::Gateway), GATEWAY),
    row(Kind::Events, Place::Answer(Role::Gateway), GATEWAY),
    row(Kind::AuditLeaves, Place::Answer(Role::Gateway), GATEWAY),
    row(Kind::Plan, Place::Answer(Role::Gateway), GATEWAY),
    row(Kind::Hosts, Place::Answer(Role::Gateway), GATEWAY),
    row(Kind::Stores, Place::Answer(Role::Gateway), GATEWAY),
    row(Kind::Renewed, Place::Answer(Role::Gateway), GATEWAY),
    row(Kind::Granted, Place::Answer(Role::Gateway), GATEWAY),
    row(
        Kind::SealedValue,
        Place::Answer(Role::StoreSync),
        STORE_SYNC,
    ),
    row(Kind::StoreKey, Place::Answer(Role::StoreSync), STORE_SYNC),
    row(Kind::Tried, Place::Answer(Role::StoreSync), STORE_SYNC),
    row(Kind::Looked, Place::Answer(Role::StoreSync), STORE_SYNC),
    row(Kind::Compared, Place::Answer(Role::StoreSync), STORE_SYNC),
    row(Kind::SealState, Place::Answer(Role::StoreSync), STORE_SYNC),
    row(Kind::Done, Place::Answer(Role::Gateway), GATEWAY),
    row(Kind::Done, Place::Answer(Role::StoreSync), STORE_SYNC),
    row(Kind::Failed, Place::Answer(Role::Gateway), GATEWAY),
    row(Kind::Failed, Place::Answer(Role::StoreSync), STORE_SYNC),
];

/// What answers a request that went well; `Failed` answers any.
#[must_use]
pub const fn answer_to(asked: Kind, server: Role) -> Option<Kind> {
    Some(match (asked, server) {
        (Kind::Submit, _) => Kind::Verdict,
        (Kind::ReadEvents, _) => Kind::Events,
        (Kind::ReadAudit, _) => Kind::AuditLeaves,
        (Kind::ReadPlan, _) => Kind::Plan,
        (Kind::ReadHosts, _) => Kind::Hosts,
        (Kind::Renew, _) => Kind::Renewed,
        (Kind::OpenValue, Role::StoreSync) => Kind::SealedValue,
        (Kind::OpenValue, _) => Kind::Granted,
        (Kind::ReadStoreKey, _) => Kind::StoreKey,
        (Kind::ReadStores, _) => Kind::Stores,
        (Kind::LookNow, _) => Kind::Looked,
        (Kind::Compare, _) => Kind::Compared,
        (Kind::ReadSeal | Kind::Unseal | Kind::Seal | Kind::RotateKek, _) => Kind::SealState,
        (Kind::CheckStore, _) => Kind::Tried,
        (Kind::Stash | Kind::DropStash, _) => Kind::Done,
        _ => return None,
    })
}
