//! Every request the API takes, as a table: the gateway's router and the document are held to it.

mod people;

use self::people::PEOPLE;
use super::facts::FACTS;
use super::parameters::{AUDIT, CONSUMERS, EVENTS, EXPORT, PAGE, SCOPE, WAIT};
use super::route::{Answer, Route, flag, get, number, post, text};

/// Every request.
pub const ROUTES: &[Route] = &joined::<{ OTHERS.len() + PEOPLE.len() }>(OTHERS, PEOPLE);

const fn joined<const N: usize>(one: &[Route], other: &[Route]) -> [Route; N] {
    let mut all = [one[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = match at < one.len() {
            true => one[at],
            false => other[at - one.len()],
        };
        at += 1;
    }
    all
}

/// All that are not about what people may do.
const OTHERS: &[Route] = &[
    get(
        "/v1/openapi.json",
        "openapi",
        "This document",
        Answer::Document,
    ),
    get(
        "/v1/status",
        "status",
        "Health of every service, host, store, of bus and journal, with what to do next",
        Answer::One("Status"),
    ),
    get(
        "/v1/store-key",
        "store_key",
        "The key to which a client seals a value it provides",
        Answer::One("StoreKey"),
    ),
    get(
        "/v1/secrets",
        "list_secrets",
        "Secrets by name; never a value",
        Answer::Many("SecretView"),
    )
    .asked(PAGE),
    get(
        "/v1/secrets/{name}",
        "describe_secret",
        "One secret; never its value",
        Answer::One("SecretView"),
    )
    .asked(&[flag(
        "refused_starts",
        "Also the newest starts that were refused for want of it.",
    )]),
    get(
        "/v1/schedules/{name}",
        "describe_schedule",
        "When a secret rotates by itself: its rules and next fires in words",
        Answer::One("ScheduleView"),
    )
    .asked(&[number(
        "count",
        "So many fires; 1 to 100, and 5 without it.",
    )]),
    get(
        "/v1/versions/{name}",
        "list_versions",
        "Versions of a secret, newest first",
        Answer::Many("VersionView"),
    ),
    get(
        "/v1/bindings",
        "list_bindings",
        "Bindings by name",
        Answer::Many("BindingView"),
    )
    .asked(PAGE),
    get(
        "/v1/bindings/{name}",
        "describe_binding",
        "One binding",
        Answer::One("BindingView"),
    ),
    Route {
        method: "delete",
        path: "/v1/bindings/{name}",
        operation: "unbind",
        summary: "Takes a binding back: its containers lose their copies",
        query: &[],
        body: None,
        answer: Answer::One("ApplyAnswer"),
    },
    get(
        "/v1/rotations",
        "list_rotations",
        "Rotations, newest first",
        Answer::Many("RotationView"),
    )
    .asked(PAGE),
    get(
        "/v1/rotations/{id}",
        "describe_rotation",
        "One rotation, with its consumers",
        Answer::One("RotationView"),
    )
    .asked(WAIT),
    post(
        "/v1/rotations/{id}/abort",
        "abort_rotation",
        "Gives a rotation up: consumers keep, or get back, the version before",
        Some("InterveneRequest"),
        "RotationView",
    ),
    post(
        "/v1/rotations/{id}/retry",
        "retry_rotation",
        "Tries a failed step again, or lets a parked rotation wait for its consumers once more",
        Some("InterveneRequest"),
        "RotationView",
    ),
    post(
        "/v1/rotations/{id}/force",
        "force_rotation",
        "Waits for consumers no more: the old version is revoked, and who is left behind is on record",
        Some("InterveneRequest"),
        "RotationView",
    ),
    get(
        "/v1/rotation-plan/{name}",
        "plan_rotation",
        "What a rotation of a secret would do now; nothing is begun",
        Answer::One("RotationPlan"),
    ),
    get(
        "/v1/revocations",
        "list_revocations",
        "Revocations, newest first",
        Answer::Many("RevocationView"),
    )
    .asked(PAGE),
    get(
        "/v1/revocations/{id}",
        "describe_revocation",
        "One revocation",
        Answer::One("RevocationView"),
    )
    .asked(WAIT),
    post(
        "/v1/revocations/{id}/forget",
        "forget_revocation",
        "Has its store asked no more though it never confirmed; it takes two principals",
        Some("ForgetRequest"),
        "RevocationView",
    ),
    get(
        "/v1/revoke-plan",
        "plan_revocation",
        "The blast radius of a revocation; nothing is begun",
        Answer::One("RevokePlan"),
    )
    .asked(SCOPE),
    post(
        "/v1/revoke-by",
        "revoke_by",
        "Makes unusable what a path, a store, a container, an image or a service has, each secret by itself",
        Some("RevokeByRequest"),
        "RevokeByAnswer",
    ),
    get(
        "/v1/playbooks",
        "list_playbooks",
        "Playbooks by name",
        Answer::Many("PlaybookView"),
    )
    .asked(PAGE),
    get(
        "/v1/playbooks/{name}",
        "describe_playbook",
        "One playbook",
        Answer::One("PlaybookView"),
    ),
    Route {
        method: "delete",
        path: "/v1/playbooks/{name}",
        operation: "remove_playbook",
        summary: "Lets a playbook be run no more; runs that are open go on",
        query: &[],
        body: None,
        answer: Answer::One("ApplyAnswer"),
    },
    post(
        "/v1/playbooks/{name}/run",
        "run_playbook",
        "Begins a run of a playbook",
        Some("RunPlaybookRequest"),
        "PlaybookRunView",
    ),
    get(
        "/v1/playbook-plan/{name}",
        "plan_playbook",
        "What a run of a playbook would do now; nothing is begun",
        Answer::One("PlaybookPlan"),
    )
    .asked(&[text(
        "arguments",
        "What the run is told, as one JSON object of texts.",
    )]),
    get(
        "/v1/playbook-runs",
        "list_playbook_runs",
        "Runs of playbooks: open ones first, and of each sort the newest first",
        Answer::Many("PlaybookRunView"),
    )
    .asked(PAGE),
    get(
        "/v1/playbook-runs/{id}",
        "describe_playbook_run",
        "One run, with its steps and what they began",
        Answer::One("PlaybookRunView"),
    )
    .asked(WAIT),
    post(
        "/v1/playbook-runs/{id}/approve",
        "approve_playbook_run",
        "Approves what a run waits for; who started it may not",
        Some("ApproveRequest"),
        "PlaybookRunView",
    ),
    post(
        "/v1/playbook-runs/{id}/pause",
        "pause_playbook_run",
        "Begins nothing more of a run for now; deadlines go on",
        Some("InterveneRequest"),
        "PlaybookRunView",
    ),
    post(
        "/v1/playbook-runs/{id}/resume",
        "resume_playbook_run",
        "Lets a paused run go on",
        Some("InterveneRequest"),
        "PlaybookRunView",
    ),
    post(
        "/v1/playbook-runs/{id}/cancel",
        "cancel_playbook_run",
        "Ends a run; what it began goes on by itself",
        Some("InterveneRequest"),
        "PlaybookRunView",
    ),
    get(
        "/v1/quarantines",
        "list_quarantines",
        "Containers in quarantine",
        Answer::Many("QuarantineView"),
    )
    .asked(PAGE),
    post(
        "/v1/quarantines/{name}/lift",
        "lift_quarantine",
        "Lifts the quarantine of a container, by its name or id: it is given again what its bindings say",
        Some("InterveneRequest"),
        "ApplyAnswer",
    ),
    get(
        "/v1/hosts",
        "list_hosts",
        "Hosts that joined",
        Answer::Many("HostView"),
    )
    .asked(PAGE),
    get(
        "/v1/hosts/{name}",
        "describe_host",
        "One host by name or id, with what it may hold",
        Answer::One("HostPage"),
    ),
    post(
        "/v1/hosts/{name}/evict",
        "evict_host",
        "Evicts a host: its keys open nothing from now on",
        Some("EvictRequest"),
        "EvictAnswer",
    ),
    post(
        "/v1/hosts/{name}/join-token",
        "make_join_token",
        "Makes a token by which one machine may take this name, once, within ten minutes",
        None,
        "JoinTokenAnswer",
    ),
    get(
        "/v1/consumers",
        "list_consumers",
        "Containers, and the version each one holds",
        Answer::Many("ConsumerView"),
    )
    .asked(CONSUMERS),
    get(
        "/v1/stores",
        "list_stores",
        "Stores outside by name; `local`, which is always there, is none of them",
        Answer::Many("StoreView"),
    )
    .asked(PAGE),
    get(
        "/v1/stores/{name}",
        "describe_store",
        "One store, what was declared of it, and the secrets that lie in it",
        Answer::One("StorePage"),
    ),
    Route {
        method: "delete",
        path: "/v1/stores/{name}",
        operation: "remove_store",
        summary: "Asks a store nothing any more; no secret may lie in it",
        query: &[],
        body: None,
        answer: Answer::One("ApplyAnswer"),
    },
    post(
        "/v1/refresh",
        "refresh",
        "Looks at stores outside now, and takes over what changed there",
        Some("RefreshRequest"),
        "RefreshAnswer",
    ),
    get(
        "/v1/seal",
        "describe_seal",
        "Whether store-sync opens values, and what shares and passphrases are encrypted to",
        Answer::One("SealView"),
    ),
    post(
        "/v1/unseal",
        "unseal",
        "Gives store-sync a share, a passphrase, or leave to read its key file",
        Some("UnsealRequest"),
        "SealView",
    ),
    post(
        "/v1/seal",
        "seal",
        "Makes store-sync drop every key: no value is opened until it is unsealed",
        Some("SealRequest"),
        "SealView",
    ),
    post(
        "/v1/rotate-kek",
        "rotate_kek",
        "Wraps every data key of the cache anew, while it is used, and drops the keys before; an answer says how far it is",
        Some("SealRequest"),
        "SealView",
    ),
    get(
        "/v1/events",
        "events",
        "The log: what happened, as CloudEvents",
        Answer::Stream("Event"),
    )
    .asked(EVENTS),
    get(
        "/v1/subscriptions",
        "list_subscriptions",
        "Places in the log that are kept for clients, by name",
        Answer::Many("SubscriptionView"),
    )
    .asked(PAGE),
    post(
        "/v1/subscriptions",
        "subscribe",
        "Makes a subscription; one that is there stays where it is",
        Some("SubscribeRequest"),
        "SubscriptionView",
    ),
    get(
        "/v1/subscriptions/{name}",
        "describe_subscription",
        "One subscription",
        Answer::One("SubscriptionView"),
    ),
    post(
        "/v1/subscriptions/{name}/acknowledge",
        "acknowledge",
        "Moves a subscription on to an event; never back",
        Some("AcknowledgeRequest"),
        "SubscriptionView",
    ),
    Route {
        method: "delete",
        path: "/v1/subscriptions/{name}",
        operation: "unsubscribe",
        summary: "Forgets a subscription",
        query: &[],
        body: None,
        answer: Answer::One("SubscriptionView"),
    },
    get(
        "/v1/notifications",
        "list_notifications",
        "Who outside is told which events, by name",
        Answer::Many("NotificationView"),
    )
    .asked(PAGE),
    get(
        "/v1/notifications/{name}",
        "describe_notification",
        "One notification, and how far its receiver came",
        Answer::One("NotificationView"),
    ),
    Route {
        method: "delete",
        path: "/v1/notifications/{name}",
        operation: "remove_notification",
        summary: "Tells a receiver nothing any more",
        query: &[],
        body: None,
        answer: Answer::One("ApplyAnswer"),
    },
    post(
        "/v1/notifications/{name}/test",
        "test_notification",
        "Sends a receiver a message that says it is a test, and answers when it has it",
        None,
        "NotificationView",
    ),
    post(
        "/v1/notifications/{name}/replay",
        "replay_notification",
        "Tells a receiver again what happened after an event",
        Some("ReplayRequest"),
        "NotificationView",
    ),
    get(
        "/v1/signal-sources",
        "list_signal_sources",
        "Who outside may say that something happened, by name",
        Answer::Many("SignalSourceView"),
    )
    .asked(PAGE),
    Route {
        method: "delete",
        path: "/v1/signal-sources/{name}",
        operation: "remove_signal_source",
        summary: "Takes no signals of a source any more",
        query: &[],
        body: None,
        answer: Answer::One("ApplyAnswer"),
    },
    get(
        "/v1/letters",
        "list_letters",
        "What could not be delivered, or not be read of what came, oldest first",
        Answer::Many("LetterView"),
    )
    .asked(PAGE),
    post(
        "/v1/letters/{id}/retry",
        "retry_letter",
        "Delivers, or reads, a letter once more; it is gone when that goes well",
        None,
        "LetterView",
    ),
    Route {
        method: "delete",
        path: "/v1/letters/{id}",
        operation: "discard_letter",
        summary: "Throws a letter away",
        query: &[],
        body: None,
        answer: Answer::One("LetterView"),
    },
    get(
        "/v1/audit",
        "audit",
        "Audit records",
        Answer::Stream("AuditRecord"),
    )
    .asked(AUDIT),
    get(
        "/v1/audit/export",
        "export_audit",
        "Everything needed to verify the audit offline",
        Answer::One("AuditExport"),
    )
    .asked(EXPORT),
    get(
        "/v1/audit/proofs/{index}",
        "prove_audit",
        "Everything needed to show one record offline",
        Answer::One("AuditProof"),
    ),
    get(
        "/v1/audit/consistency/{size}",
        "continue_audit",
        "That the audit goes on from an earlier checkpoint over so many records",
        Answer::One("AuditConsistency"),
    ),
    get(
        "/v1/audit/retention",
        "audit_retention",
        "What became of old audit records, and what would become of them next",
        Answer::One("AuditRetentionView"),
    ),
    get(
        "/v1/reports/revocations/{id}",
        "report_revocation",
        "Signed evidence of a revocation: its events, its audit records, and the proofs of both",
        Answer::One("EvidenceReport"),
    ),
    get(
        "/v1/reports/rotations/{id}",
        "report_rotation",
        "Signed evidence of a rotation: its events, its audit records, and the proofs of both",
        Answer::One("EvidenceReport"),
    ),
    get(
        "/v1/reports/hosts/{id}",
        "report_host",
        "Signed evidence of the eviction of a host: its events, its audit records, and the proofs of both",
        Answer::One("EvidenceReport"),
    ),
    get(
        "/v1/reports/playbook-runs/{id}",
        "report_playbook_run",
        "Signed evidence of a run of a playbook and of all that its steps began, with the proofs of both",
        Answer::One("EvidenceReport"),
    ),
    get(
        "/v1/journal/verify",
        "verify_journal",
        "Checks the whole log against its hashes and signatures",
        Answer::One("VerifyReport"),
    ),
    get(
        "/v1/history/{name}",
        "history",
        "Who held which version of a secret at a time: the log, folded up to then",
        Answer::One("HistoryView"),
    )
    .asked(&[text("at", "The time, RFC 3339; without it, now.")]),
    get(
        "/v1/explain/{name}",
        "explain_entitlement",
        "Whether a container gets a secret, by which binding, and what of each means others; facts are taken as told",
        Answer::One("EntitlementView"),
    )
    .asked(FACTS),
    post(
        "/v1/apply",
        "apply",
        "Makes what manifests declare: all of it, or nothing",
        Some("ApplyRequest"),
        "ApplyAnswer",
    ),
    post(
        "/v1/put",
        "put",
        "Makes a new version, of a sealed value or a generated one",
        Some("PutRequest"),
        "RotationView",
    ),
    post(
        "/v1/rotate",
        "rotate",
        "Rotates a secret now",
        Some("RotateRequest"),
        "RotationView",
    ),
    post(
        "/v1/revoke",
        "revoke",
        "Makes versions unusable now",
        Some("RevokeRequest"),
        "RevocationView",
    ),
    post(
        "/v1/backup",
        "backup",
        "Makes a sealed backup of journal and cache, of one moment",
        None,
        "BackupView",
    ),
];
