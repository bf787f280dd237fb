//! The lines that a lifecycle leaves in the log: one per step, each with a field `event` that says which,
//! and `trace_id` where the step belongs to a trace. `deploy/docs/logs.md` lists them for people.

macro_rules! lines {
    ($($constant:ident = $event:literal, $what:literal;)*) => {
        $(#[doc = $what] pub const $constant: &str = $event;)*

        /// Every one, and what it says.
        pub const ALL: &[(&str, &str)] = &[$(($event, $what)),*];
    };
}

lines! {
    ROTATION_STARTED = "rotation.started", "A rotation began.";
    STEP_COMPLETED = "rotation.step_completed", "A step at the store is on record as done.";
    STEP_FAILED = "rotation.step_failed", "A step at the store failed; it is tried again or the rotation is rolled back.";
    STAGING_STARTED = "rotation.staging_started", "Before a cut-over hosts take the version; `count` says how many.";
    STAGING_ENDED = "rotation.staging_ended", "The server is told next; `count` says how many hosts did not say in time that they have the version.";
    CANARY_STARTED = "rotation.canary_started", "A few containers get the version before it is promoted; `count` says how many files and variables of theirs.";
    CANARY_WATCHED = "rotation.canary_watched", "All of them run on it, and are watched.";
    CANARY_PASSED = "rotation.canary_passed", "They ran well with it for as long as was asked; it is promoted next.";
    CANARY_SKIPPED = "rotation.canary_skipped", "No container gets the version before it is promoted, or is watched any longer, and why.";
    VERSION_PROMOTED = "secret.version_promoted", "From now on containers get this version.";
    DISTRIBUTION_STARTED = "rotation.distribution_started", "Consumers have to move; `count` says how many.";
    HOST_CLEARED = "rotation.host_barrier_acknowledged", "A host holds no older version any more.";
    HOST_RELEASED = "rotation.host_released", "A host was evicted, or before a cut-over is given the secret no more; the rotation does not wait for it.";
    LEAVE_GIVEN = "rollout.leave_given", "A container may restart; `count` says how many of its service are not through.";
    RESTART_FAILED = "rollout.failed", "A container did not run well after its restart, and why.";
    ROTATION_HALTED = "rotation.halted", "A container did not run well with what the rotation brings; nobody else is restarted for it.";
    ROTATION_TURNED_BACK = "rotation.turned_back", "The version before is current again, or still, and consumers have to move back.";
    GAP_MEASURED = "rotation.gap_measured", "In a cut-over the last consumer has the new password; `ms` says how long after the server took it.";
    DEADLINE_PASSED = "rotation.deadline_passed", "Consumers did not acknowledge in time.";
    STRAGGLERS_NAMED = "rotation.stragglers_named", "Consumers that did not acknowledge by then; `count` says how many, `reason` what the first of them lacks.";
    SESSIONS_LEFT = "rotation.sessions_left", "Sessions of the old credential are open from before the last acknowledgement; `count` says how many. It lives until they are gone, or the deadline.";
    SESSIONS_UNTOLD = "rotation.sessions_untold", "The server does not tell the sessions of the old credential; it lives on for a grace instead.";
    ROTATION_FORCED = "rotation.forced", "Nobody is waited for any more: the old version dies, on the way back the new one.";
    ROTATION_INTERVENED = "rotation.intervened", "A person aborted, retried or forced a rotation, and why.";
    ROTATION_REOPENED = "rotation.reopened", "A parked rotation waits for consumers again; `count` says for how many.";
    ROTATION_CLOSED = "rotation.closed", "A rotation ended, with this outcome.";
    CHANGED_OUTSIDE = "secret.external_change_detected", "Somebody changed the value at the store outside.";
    REVOCATION_REQUESTED = "revocation.requested", "Versions are dead from now on.";
    REVOCATION_AWAITS = "revocation.replacement_awaited", "Versions are revoked once another one is in use instead.";
    REVOCATION_UNREPLACED = "revocation.replacement_given_up", "Nothing takes the place of what is revoked, and why.";
    REVOCATION_WITHDRAWN = "revocation.withdrawn_on_host", "A host holds none of them any more.";
    REVOCATION_CONFIRMED = "revocation.backend_confirmed", "The store made them unusable.";
    REVOCATION_FAILED = "revocation.backend_failed", "The store could not yet; it is tried again.";
    REVOCATION_PROVEN = "revocation.proven_dead", "A login with each of the versions was refused.";
    REVOCATION_UNPROVEN = "revocation.not_provable", "No login can show that all versions are dead, and why.";
    REVOCATION_ALIVE = "revocation.still_accepted", "The store had confirmed, and a login was let in all the same; it is made unusable once more.";
    REVOCATION_FORGOTTEN = "revocation.forgotten", "Two principals had the store asked no more though it never confirmed, and why.";
    REVOCATION_CLOSED = "revocation.closed", "Withdrawn everywhere and confirmed.";
    SWAPPED = "assignment.swapped", "It is on record that a container has this version.";
    RELOADED = "assignment.reloaded", "It is on record that a container uses it.";
    WITHDRAWN = "assignment.withdrawn", "It is on record that a container has none any more.";
    VANISHED = "assignment.vanished", "A container is gone.";
    REFUSED = "assignment.refused", "A container was not served, and why.";
    HOST_ENROLLED = "host.enrolled", "A host is known.";
    HOST_EVICTED = "host.evicted", "A host is trusted with nothing any more.";
    RESTART_ORDERED = "host.restart_ordered", "A playbook has a container restarted.";
    QUARANTINE_ORDERED = "host.quarantine_ordered", "A playbook puts a container into quarantine, and why.";
    ORDER_ENDED = "host.order_ended", "A host told what came of that, with this outcome and why it failed; or it is withdrawn.";
    QUARANTINE_LIFTED = "host.quarantine_lifted", "A person lifted the quarantine of a container, and why.";
    PLAYBOOK_TRIGGERED = "playbook_run.triggered", "A run of a playbook began.";
    PLAYBOOK_STEP_FAILED = "playbook_run.step_failed", "A step of a run failed, and why.";
    PLAYBOOK_COMPLETED = "playbook_run.completed", "A run of a playbook ended, with this outcome.";
    GLASS_BROKEN = "approval.glass_broken", "What takes several people goes without the others, and why.";
    GLASS_REVIEWED = "approval.glass_reviewed", "Somebody else reviewed that, and what they found.";
    STEP_PERFORMED = "step.performed", "store-sync did a step at the store; `ms` says how long it took.";
    STEP_NOT_PERFORMED = "step.failed", "store-sync could not do a step at the store, and why.";
    FILE_REPLACED = "file.replaced", "The injector replaced a file in a running container, and read it back.";
    FILE_REMOVED = "file.removed", "The injector took a file out of a running container.";
    CONTAINER_SERVED = "container.served", "The injector put everything in place before a container starts.";
    CONTAINER_REFUSED = "container.refused", "The injector did not let a container start, and why.";
    CONTAINER_RESTARTED = "container.restarted", "The injector restarted a container, so that it takes a version.";
    CONTAINER_STARTED = "container.started", "The injector started a container whose start was refused before.";
    CONTAINER_STOPPED = "container.stopped", "The injector stopped a container whose variable may not be used any more.";
    CONTAINER_ON_REVOKE = "container.on_revoke", "The injector does to a container that lost a revoked value what its binding says.";
    TIMER_FIRED = "timer.fired", "The scheduler asks for what is due.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn people_find_every_line_in_the_documentation_and_no_other() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/docs/logs.md");
        let page = std::fs::read_to_string(page).unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let rows = rows.filter_map(|line| line.strip_suffix(" |")?.split_once("` | "));
        let told: BTreeSet<_> = rows.filter(|(name, _)| name.contains('.')).collect();
        let ours = ALL
            .iter()
            .map(|(event, what)| (*event, what.trim_end_matches('.')));
        assert_eq!(told, ours.collect());
    }
}
