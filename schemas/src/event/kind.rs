//! Every event type by its full name, and the aggregate and variant it stands for.

use keywheel_core::event::Event;
use keywheel_core::{
    approval, assignment, binding, host, notification, playbook, playbook_run, policy, revocation,
    rollout, rotation, secret, signal, store, token,
};

/// One event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Full name: `dev.keywheel.<aggregate>.<event>.v1`.
    pub name: &'static str,
    /// The aggregate.
    pub aggregate: &'static str,
    /// The event within it.
    pub variant: &'static str,
}

macro_rules! kinds {
    ($($aggregate:ident { $($pattern:pat => $variant:literal),* $(,)? })*) => {
        /// Every type this build writes or reads, sorted by aggregate.
        pub const KINDS: &[Kind] = &[$($(Kind {
            name: concat!("dev.keywheel.", stringify!($aggregate), ".", $variant, ".v1"),
            aggregate: stringify!($aggregate),
            variant: $variant,
        }),*),*];

        const NAMES: &[&str] = &[$($(concat!("dev.keywheel.", stringify!($aggregate), ".", $variant, ".v1")),*),*];

        $(fn $aggregate(event: &$aggregate::Event) -> &'static str {
            use $aggregate::Event as E;
            match event {
                $($pattern => concat!("dev.keywheel.", stringify!($aggregate), ".", $variant, ".v1")),*
            }
        })*
    };
}

kinds! {
    secret {
        E::Registered { .. } => "registered",
        E::SpecChanged { .. } => "spec_changed",
        E::VersionStaged { .. } => "version_staged",
        E::Delivered { .. } => "delivered",
        E::VersionPromoted { .. } => "version_promoted",
        E::VersionRevoked { .. } => "version_revoked",
        E::VersionDestroyed { .. } => "version_destroyed",
        E::ExternalChangeDetected { .. } => "external_change_detected",
        E::RemoteVersionNoted { .. } => "remote_version_noted",
        E::RemoteVersionRetired { .. } => "remote_version_retired",
        E::LeaseLingering { .. } => "lease_lingering",
        E::LeaseResumed => "lease_resumed",
        E::LeaseEnded => "lease_ended",
    }
    binding {
        E::Bound { .. } => "bound",
        E::Unbound => "unbound",
        E::Withheld { .. } => "withheld",
    }
    assignment {
        E::Assigned { .. } => "assigned",
        E::Swapped { .. } => "swapped",
        E::Reloaded { .. } => "reloaded",
        E::Withdrawn => "withdrawn",
        E::Vanished => "vanished",
        E::Refused { .. } => "refused",
        E::ServiceNoted { .. } => "service_noted",
    }
    host {
        E::JoinTokenIssued { .. } => "join_token_issued",
        E::JoinTokenSpent { .. } => "join_token_spent",
        E::Enrolled { .. } => "enrolled",
        E::KeyReplaced { .. } => "key_replaced",
        E::PermitIssued { .. } => "permit_issued",
        E::Evicted { .. } => "evicted",
        E::StagingKnown => "staging_known",
        E::OrdersKnown => "orders_known",
        E::RestartOrdered { .. } => "restart_ordered",
        E::QuarantineOrdered { .. } => "quarantine_ordered",
        E::OrderEnded { .. } => "order_ended",
        E::QuarantineLifted { .. } => "quarantine_lifted",
    }
    rotation {
        E::Started { .. } => "started",
        E::StepStarted { .. } => "step_started",
        E::StepCompleted { .. } => "step_completed",
        E::StepFailed { .. } => "step_failed",
        E::DistributionStarted { .. } => "distribution_started",
        E::ConsumerAcknowledged { .. } => "consumer_acknowledged",
        E::HostBarrierAcknowledged { .. } => "host_barrier_acknowledged",
        E::HostReleased { .. } => "host_released",
        E::DeadlineMoved { .. } => "deadline_moved",
        E::Halted { .. } => "halted",
        E::TurnedBack { .. } => "turned_back",
        E::DeadlinePassed => "deadline_passed",
        E::StragglersNamed { .. } => "stragglers_named",
        E::Forced => "forced",
        E::Intervened { .. } => "intervened",
        E::Reopened { .. } => "reopened",
        E::Closed { .. } => "closed",
        E::SessionsLeft { .. } => "sessions_left",
        E::SessionsUntold { .. } => "sessions_untold",
        E::StagingStarted { .. } => "staging_started",
        E::HostStaged { .. } => "host_staged",
        E::StagingEnded { .. } => "staging_ended",
        E::CutOver { .. } => "cut_over",
        E::GapMeasured { .. } => "gap_measured",
        E::CanaryStarted { .. } => "canary_started",
        E::CanaryWatched { .. } => "canary_watched",
        E::CanaryPassed => "canary_passed",
        E::CanarySkipped { .. } => "canary_skipped",
    }
    revocation {
        E::Requested { .. } => "requested",
        E::WithdrawnOnHost { .. } => "withdrawn_on_host",
        E::HostReleased { .. } => "host_released",
        E::BackendConfirmed => "backend_confirmed",
        E::BackendFailed { .. } => "backend_failed",
        E::BackendRetried { .. } => "backend_retried",
        E::Closed => "closed",
        E::WithdrawnEverywhere => "withdrawn_everywhere",
        E::ProvenDead { .. } => "proven_dead",
        E::NotProvable { .. } => "not_provable",
        E::StillAccepted { .. } => "still_accepted",
        E::Destroyed => "destroyed",
        E::ForgetAsked { .. } => "forget_asked",
        E::Forgotten { .. } => "forgotten",
        E::ReplacementAwaited { .. } => "replacement_awaited",
        E::ReplacementGivenUp { .. } => "replacement_given_up",
    }
    store {
        E::Declared { .. } => "declared",
        E::Changed { .. } => "changed",
        E::Removed => "removed",
        E::WentStale { .. } => "went_stale",
        E::Recovered => "recovered",
    }
    rollout {
        E::Asked { .. } => "asked",
        E::LeaveGiven { .. } => "leave_given",
        E::Unwell { .. } => "unwell",
        E::Failed { .. } => "failed",
        E::Settled { .. } => "settled",
    }
    notification {
        E::Declared { .. } => "declared",
        E::Changed { .. } => "changed",
        E::Removed => "removed",
    }
    signal {
        E::SourceDeclared { .. } => "source_declared",
        E::SourceChanged { .. } => "source_changed",
        E::SourceRemoved => "source_removed",
        E::Received { .. } => "received",
    }
    playbook {
        E::Declared { .. } => "declared",
        E::Changed { .. } => "changed",
        E::Removed => "removed",
    }
    playbook_run {
        E::Triggered { .. } => "triggered",
        E::StepStarted { .. } => "step_started",
        E::Acted { .. } => "acted",
        E::ActRefused { .. } => "act_refused",
        E::Approved { .. } => "approved",
        E::StepCompleted { .. } => "step_completed",
        E::StepFailed { .. } => "step_failed",
        E::StepSkipped { .. } => "step_skipped",
        E::Intervened { .. } => "intervened",
        E::Completed { .. } => "completed",
        E::Notified { .. } => "notified",
        E::Answered { .. } => "answered",
    }
    policy {
        E::Applied { .. } => "applied",
    }
    token {
        E::Issued { .. } => "issued",
        E::UsesTaken { .. } => "uses_taken",
        E::Revoked { .. } => "revoked",
    }
    approval {
        E::Requested { .. } => "requested",
        E::Approved { .. } => "approved",
        E::Denied { .. } => "denied",
        E::Withdrawn { .. } => "withdrawn",
        E::Used => "used",
        E::GlassBroken { .. } => "glass_broken",
        E::GlassReviewed { .. } => "glass_reviewed",
    }
}

/// The full type name of an event.
#[must_use]
pub fn type_name(event: &Event) -> &'static str {
    match event {
        Event::Secret(_, event) => secret(event),
        Event::Binding(_, event) => binding(event),
        Event::Assignment(_, event) => assignment(event),
        Event::Host(_, event) => host(event),
        Event::Rotation(_, event) => rotation(event),
        Event::Revocation(_, event) => revocation(event),
        Event::Store(_, event) => store(event),
        Event::Rollout(_, event) => rollout(event),
        Event::Notification(_, event) => notification(event),
        Event::Signal(_, event) => signal(event),
        Event::Playbook(_, event) => playbook(event),
        Event::PlaybookRun(_, event) => playbook_run(event),
        Event::Policy(_, event) => policy(event),
        Event::Token(_, event) => token(event),
        Event::Approval(_, event) => approval(event),
    }
}

/// Every full type name.
#[must_use]
pub fn all_types() -> &'static [&'static str] {
    NAMES
}

/// Finds a type by its full name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}
