//! Every command, every fact and every way to be refused, and the record it leaves.

use std::collections::BTreeMap;

use keywheel_core::approval;
use keywheel_core::audit::Role;
use keywheel_core::binding::{Reload, Selector, Target};
use keywheel_core::command::{Observation, ProofTaken, Replacing};
use keywheel_core::decision::Rejection;
use keywheel_core::id::{
    BindingId, ContainerId, JoinTokenId, RevocationId, RotationId, RunId, SlotId, StoreId,
};
use keywheel_core::name::{
    BindingName, BusKey, EnvName, HostName, SecretName, SignalSourceName, StoreName,
};
use keywheel_core::report::{Executed, HostReport, StalePlan};
use keywheel_core::revocation::Proof;
use keywheel_core::rotation::{Intervention, Step};
use keywheel_core::signal::Signal;
use keywheel_core::{binding, host, rotation, secret};

use super::*;

mod notes;

const HOST: HostId = HostId::from_bytes([1; 16]);
const SECRET: SecretId = SecretId::from_bytes([3; 16]);
const ROTATION: RotationId = RotationId::from_bytes([4; 16]);
const REVOCATION: RevocationId = RevocationId::from_bytes([5; 16]);

fn secret_name() -> SecretName {
    SecretName::parse("prod/db").unwrap()
}

fn host_name() -> HostName {
    HostName::parse("web-1").unwrap()
}

fn deed(principal: &Principal) -> Deed<'_> {
    Deed {
        principal,
        id: CommandId::from_bytes([2; 16]),
        time: Timestamp::default(),
        traceparent: Some("00-abc-def-01"),
    }
}

fn report() -> Command {
    Command::Report(HostReport {
        host: HOST,
        generation: 1,
        items: Vec::new(),
        holds: Vec::new(),
        complete: true,
        containers: Vec::new(),
        denied: Vec::new(),
        stale: Vec::new(),
        executed: Vec::new(),
        notes: Vec::new(),
        restarts: Vec::new(),
        staged: Vec::new(),
        knows_staged: false,
        orders: None,
    })
}

fn declarations() -> Command {
    let secret = Declaration::Secret {
        id: SECRET,
        rotation: ROTATION,
        name: secret_name(),
        spec: secret::Spec::default(),
    };
    let name = EnvName::parse("A").unwrap();
    let binding = Declaration::Binding {
        id: BindingId::default(),
        name: BindingName::parse("b").unwrap(),
        secret: secret_name(),
        also: std::collections::BTreeSet::new(),
        previous: std::collections::BTreeSet::new(),
        selector: Selector::default(),
        target: Target::Env { name },
        reload: Reload::None,
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    };
    Command::Apply(vec![secret, binding])
}

/// What people ask for, and what they have it called.
fn people_s_commands() -> Vec<(&'static [&'static str], Command)> {
    let (secret, rotation, revocation) = (secret_name(), ROTATION, REVOCATION);
    let token = host::TokenRequest {
        host: HOST,
        name: host_name(),
        token: JoinTokenId::default(),
        secret_hash: [0; 32],
        expires_at: Timestamp::default(),
    };
    let name = BindingName::parse("b").unwrap();
    let store = StoreName::parse("vault").unwrap();
    let put = Command::Put {
        id: SECRET,
        rotation,
        name: secret.clone(),
        provided: true,
    };
    let revoke = Command::Revoke {
        revocation,
        secret: secret.clone(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    };
    let replace = Command::Replace(Replacing {
        revocation,
        rotation,
        secret: secret.clone(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    });
    let evict = Command::EvictHost {
        host: HOST,
        reason: "stolen".to_owned(),
    };
    let forget = Command::ForgetRevocation {
        revocation,
        by: Principal::Operator {
            name: "ann".to_owned(),
        },
        reason: "switched off".to_owned(),
    };
    let force = Command::Intervene {
        rotation,
        intervention: Intervention::Force,
        reason: "switched off".to_owned(),
    };
    vec![
        (&["apply", "bind"], declarations()),
        (&["unbind"], Command::Unbind { name }),
        (&["put"], put),
        (&["rotate"], Command::Rotate { rotation, secret }),
        (&["force-rotation"], force),
        (&["revoke"], revoke),
        (&["revoke-and-replace"], replace),
        (&["issue-join-token"], Command::IssueJoinToken(token)),
        (&["remove-store"], Command::RemoveStore { name: store }),
        (&["evict"], evict),
        (&["forget-revocation"], forget),
        (&["take-signal"], take_signal()),
        (&["apply-policies"], apply_policies()),
        (&["issue-token"], issue_token()),
        (&["bury-lost-versions"], bury_lost()),
        (&["ask-policy-change"], ask_for_policies()),
    ]
}

fn issue_token() -> Command {
    Command::Token(token::Request::Issue(token::Issue {
        id: keywheel_core::id::TokenId::default(),
        name: keywheel_core::name::TokenName::parse("ci").unwrap(),
        hash: [7; 32],
        owner: "unix:0".to_owned(),
        scope: token::Scope {
            verbs: vec!["list".to_owned()],
            resources: vec!["environment".to_owned()],
        },
        lifetime: std::time::Duration::from_secs(60),
        limit: None,
        login: None,
    }))
}

#[test]
fn each_deed_about_tokens_has_its_verb_and_a_program_s_record_names_token_and_owner() {
    let principal = Principal::Token {
        name: "ci".to_owned(),
        owner: "certificate:ada".to_owned(),
    };
    let revoke = |which| token::Request::Revoke {
        which,
        by: "unix:0".to_owned(),
        reason: "leaked".to_owned(),
    };
    let named = token::Which::Named(keywheel_core::name::TokenName::parse("ci").unwrap());
    let taken = token::Request::Take {
        token: keywheel_core::id::TokenId::default(),
        uses: 3,
    };
    for (request, verb, reason) in [
        (revoke(named), "revoke-token", "leaked"),
        (
            revoke(token::Which::Of("unix:1".to_owned())),
            "revoke-tokens",
            "leaked",
        ),
        (taken, "count-token-uses", "token"),
    ] {
        let command = Command::Token(request);
        let left = records(
            &World::default(),
            &deed(&principal),
            &command,
            &Ok(Vec::new()),
        );
        assert_eq!(left.len(), 1);
        let found = (left[0].verb.as_str(), left[0].reason.as_str());
        assert_eq!(found, (verb, reason));
        assert_eq!(left[0].principal, principal);
    }
}

fn apply_policies() -> Command {
    Command::ApplyPolicies(keywheel_core::policy::Request {
        id: keywheel_core::id::PolicySetId::default(),
        expected: None,
        policies: keywheel_core::policy::Policies {
            text: String::new(),
            groups: Vec::new(),
        },
        by: "unix:0".to_owned(),
    })
}

#[test]
fn a_person_s_record_names_the_policies_that_let_it_in_beside_their_own_words() {
    let principal = Principal::Operator {
        name: "ada".to_owned(),
    };
    let named = |command: &Command| {
        let mut left = records(
            &World::default(),
            &deed(&principal),
            command,
            &Ok(Vec::new()),
        );
        note_admission(&mut left, "policies version 7: payments-team");
        left.into_iter().map(|record| record.reason).next()
    };
    let rotate = Command::Rotate {
        rotation: ROTATION,
        secret: secret_name(),
    };
    let named_alone = named(&rotate).unwrap();
    assert_eq!(named_alone, "policies version 7: payments-team");
    let evict = Command::EvictHost {
        host: HOST,
        reason: "stolen".to_owned(),
    };
    assert_eq!(
        named(&evict).unwrap(),
        "stolen (policies version 7: payments-team)"
    );
}

#[test]
fn nobody_s_own_words_pass_for_policies_where_none_decided() {
    let principal = Principal::Operator {
        name: "ada".to_owned(),
    };
    let said = |reason: &str| {
        let evict = Command::EvictHost {
            host: HOST,
            reason: reason.to_owned(),
        };
        let mut left = records(
            &World::default(),
            &deed(&principal),
            &evict,
            &Ok(Vec::new()),
        );
        note_own_words(&mut left);
        left[0].reason.clone()
    };
    assert_eq!(said("stolen"), "stolen");
    for forged in ["policies version 7: root", "no (Policies Version 7: root)"] {
        assert_eq!(said(forged), format!("{forged} (in their own words)"));
    }
}

const APPROVAL: keywheel_core::id::ApprovalId =
    keywheel_core::id::ApprovalId::from_bytes([0x1a; 16]);

fn ask_for_policies() -> Command {
    Command::Approval(approval::Request::Ask(approval::Ask {
        id: APPROVAL,
        operation: approval::Operation::PolicyChange,
        object: "policies".to_owned(),
        digest: [7; 32],
        plan: "one line more".to_owned(),
        by: "unix:0".to_owned(),
        reason: "bob joined".to_owned(),
        needed: 2,
    }))
}

/// Each word about a request, with the verb and the reason of its record.
fn words_about_a_request() -> Vec<(approval::Request, &'static str, String)> {
    use approval::Request as R;

    let (approval, why) = (APPROVAL, || "seen".to_owned());
    let by = || "certificate:ada".to_owned();
    let (reason, of) = (why(), by());
    let approve = R::Approve {
        approval,
        by: of,
        reason,
    };
    let (reason, of) = (why(), by());
    let deny = R::Deny {
        approval,
        by: of,
        reason,
    };
    let (reason, of) = (why(), by());
    let broken = R::BreakGlass {
        approval,
        by: of,
        reason,
    };
    let (reason, of) = (why(), by());
    let review = R::Review {
        approval,
        by: of,
        reason,
    };
    let withdraw = R::Withdraw { approval, by: by() };
    let perform = R::Perform(approval::Perform {
        approval,
        digest: [7; 32],
        by: by(),
        command: Box::new(apply_policies()),
    });
    let named = format!("approved: request {APPROVAL}");
    vec![
        (approve, "approve", why()),
        (deny, "deny", why()),
        (broken, "break-glass", why()),
        (review, "review-break-glass", why()),
        (
            withdraw,
            "withdraw-approval",
            "takes a word back".to_owned(),
        ),
        (perform, "apply-policies", named),
    ]
}

#[test]
fn each_word_about_a_request_has_its_verb_and_what_was_approved_names_its_request() {
    let principal = Principal::Operator {
        name: "ada".to_owned(),
    };
    for (request, verb, reason) in words_about_a_request() {
        let command = Command::Approval(request);
        let left = records(
            &World::default(),
            &deed(&principal),
            &command,
            &Ok(Vec::new()),
        );
        assert_eq!(left.len(), 1);
        let found = (left[0].verb.as_str(), &left[0].reason);
        assert_eq!(found, (verb, &reason));
    }
}

fn bury_lost() -> Command {
    Command::BuryLost(keywheel_core::command::BuryLost {
        secret: SecretName::parse("prod/db").unwrap(),
        up_to: 7,
        reason: "the log was put back".to_owned(),
    })
}

fn take_signal() -> Command {
    Command::Outward(Outward::TakeSignal(Signal {
        via: SignalSourceName::parse("pager").unwrap(),
        source: "s".to_owned(),
        id: "1".to_owned(),
        kind: "k".to_owned(),
        subject: String::new(),
        fields: std::collections::BTreeMap::new(),
        compared: None,
        matched: None,
        first: None,
    }))
}

fn host_s_commands() -> Vec<(&'static [&'static str], Command)> {
    let joining = host::JoinRequest {
        host: HOST,
        name: host_name(),
        token: JoinTokenId::default(),
        secret_hash: [0; 32],
        signing_key: [0; 32],
        sealing_key: [0; 32],
    };
    let keys = host::KeyRequest {
        host: HOST,
        signing_key: [0; 32],
        sealing_key: [0; 32],
        generation: 2,
    };
    let enrol = Command::EnrolHost {
        host: HOST,
        name: host_name(),
        sealing_key: [0; 32],
    };
    let permit = host::PermitRequest {
        host: HOST,
        key: BusKey::parse(&"U".repeat(56)).unwrap(),
        expires_at: Timestamp::default(),
    };
    vec![
        (&["enrol"], enrol),
        (&["join"], Command::JoinHost(joining)),
        (&["rotate-host-key"], Command::RotateHostKey(keys)),
        (&["issue-permit"], Command::NotePermit(permit)),
        // Facts are recorded one by one, and here are none.
        (&[], report()),
    ]
}

fn workers_commands() -> Vec<(&'static [&'static str], Command)> {
    let (rotation, revocation, attempt) = (ROTATION, REVOCATION, 1);
    let due = Command::Due {
        rotation,
        secret: SECRET,
        slot: SlotId::default(),
        scheduled: Timestamp::default(),
        after: None,
        tzdata: None,
    };
    let stepped = Command::StepOutcome {
        rotation,
        step: Step::Create,
        attempt,
        failure: None,
        is_away: false,
        remote: None,
        sessions: None,
    };
    let revoked = Command::RevokeOutcome {
        revocation,
        attempt,
        failure: None,
    };
    let proven = Command::ProofOutcome(ProofTaken {
        revocation,
        attempt,
        proof: Proof::default(),
    });
    let seen = Observation {
        secret: SECRET,
        rotation,
        known: None,
        found: None,
        is_unchanged: false,
        is_gone: false,
    };
    let contact = Command::StoreContact {
        store: StoreId::from_bytes([0x77; 16]),
        failure: None,
    };
    vec![
        (&["rotate-by-schedule"], due),
        (&["create-version"], stepped),
        (&["observe"], Command::Observed(seen)),
        (&["note-store"], contact),
        (&["revoke-at-store"], revoked),
        (&["prove-dead"], proven),
        (&["retry-step"], Command::RetryStep { rotation }),
        (&["retry-revoke"], Command::RetryRevoke { revocation }),
        (&["deadline"], Command::DeadlinePassed { rotation }),
        (&["end-lease"], Command::LingerEnded { secret: SECRET }),
        (&["judge-bindings"], Command::JudgeBindings),
        (
            &["advance-playbook"],
            Command::Playbook(playbook_run::Request::Advance {
                run: RunId::default(),
            }),
        ),
    ]
}

/// One for each kind of command; a new kind does not compile until it has its place here.
const fn kind_of(command: &Command) -> usize {
    match command {
        Command::Apply(_) => 0,
        Command::Unbind { .. } => 1,
        Command::Put { .. } => 2,
        Command::Rotate { .. } => 3,
        Command::Due { .. } => 4,
        Command::Revoke { .. } => 5,
        Command::EnrolHost { .. } => 6,
        Command::IssueJoinToken(_) => 7,
        Command::JoinHost(_) => 8,
        Command::RotateHostKey(_) => 9,
        Command::EvictHost { .. } => 10,
        Command::StepOutcome { .. } => 11,
        Command::RevokeOutcome { .. } => 12,
        Command::RetryStep { .. } => 13,
        Command::RetryRevoke { .. } => 14,
        Command::DeadlinePassed { .. } => 15,
        Command::Report(_) => 16,
        Command::NotePermit(_) => 17,
        Command::RemoveStore { .. } => 18,
        Command::Observed(_) => 19,
        Command::StoreContact { .. } => 20,
        Command::Intervene { .. } => 21,
        Command::LingerEnded { .. } => 22,
        Command::ProofOutcome { .. } => 23,
        Command::ForgetRevocation { .. } => 24,
        Command::Outward(_) => 25,
        Command::Replace(_) => 26,
        Command::Playbook(_) => 27,
        Command::ApplyPolicies(_) => 28,
        Command::Token(_) => 29,
        Command::BuryLost(_) => 30,
        Command::JudgeBindings => 31,
        Command::Approval(_) => 32,
    }
}

#[test]
fn every_command_leaves_one_record_whether_it_is_allowed_or_refused() {
    let commands = [people_s_commands(), host_s_commands(), workers_commands()].concat();
    let mut kinds: Vec<usize> = commands.iter().map(|(_, c)| kind_of(c)).collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        Vec::from_iter(0..=32),
        "a kind of command is missing"
    );
    let principal = Principal::Service(Role::Gateway);
    let no = || Err(Rejection::BindingUnknown(BindingName::parse("b").unwrap()).into());
    for (verbs, command) in commands {
        let left = |decided| records(&World::default(), &deed(&principal), &command, &decided);
        let allowed = left(Ok(Vec::new()));
        let given: Vec<&str> = allowed.iter().map(|record| record.verb.as_str()).collect();
        assert_eq!(given, verbs, "{command:?}");
        assert!(allowed.iter().all(|r| r.outcome == Outcome::Allowed));
        let refused = left(no());
        assert_eq!(refused.len(), verbs.len().max(1), "{command:?}");
        for record in refused {
            assert_eq!(record.outcome, Outcome::Rejected);
            assert!(record.reason.contains("no binding"), "{}", record.reason);
            assert_eq!(record.trace, "abc");
        }
    }
}

fn key() -> assignment::Key {
    assignment::Key {
        host: HOST,
        container: ContainerId::parse(&"a".repeat(64)).unwrap(),
        binding: BindingId::default(),
        also: None,
    }
}

/// A consumer that is assigned version 2 and holds this one; 0 for none.
fn consumer_that_holds(version: u64) -> World {
    let registered = secret::Event::Registered {
        name: secret_name(),
        spec: secret::Spec::default(),
    };
    let enrolled = host::Event::Enrolled {
        name: host_name(),
        sealing_key: [0; 32],
        signing_key: None,
    };
    let assigned = assignment::Event::Assigned {
        secret: SECRET,
        version: 2,
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
    };
    let mut log = vec![
        Event::Secret(SECRET, registered),
        Event::Host(HOST, enrolled),
        Event::Assignment(key(), assigned),
    ];
    let at = Timestamp::default();
    let holds = assignment::Event::Swapped { version, at };
    log.extend((version > 0).then_some(Event::Assignment(key(), holds)));
    let mut world = World::default();
    for (number, event) in (1..).zip(&log) {
        world.apply(number, event);
    }
    world
}

#[test]
fn every_usage_fact_leaves_the_record_of_its_verb() {
    let (version, at) = (2, Timestamp::default());
    let swapped = || assignment::Event::Swapped { version, at };
    let refused = assignment::Event::Refused {
        version,
        reason: "no runtime".to_owned(),
    };
    let allowed = Outcome::Allowed;
    let rows = [
        (0, swapped(), "inject", Some(2), allowed),
        (1, swapped(), "replace", Some(2), allowed),
        (
            2,
            assignment::Event::Reloaded { version, at },
            "reload",
            Some(2),
            allowed,
        ),
        (1, assignment::Event::Withdrawn, "remove", Some(1), allowed),
        (1, assignment::Event::Vanished, "vanish", Some(1), allowed),
        (0, assignment::Event::Vanished, "vanish", None, allowed),
        (1, refused, "refuse", Some(2), Outcome::Rejected),
    ];
    for (held, fact, verb, version, outcome) in rows {
        let principal = Principal::Service(Role::Injector);
        let decided = Ok(vec![Event::Assignment(key(), fact)]);
        let before = consumer_that_holds(held);
        let left = records(&before, &deed(&principal), &report(), &decided);
        let [record] = left.as_slice() else {
            panic!("{verb}: {left:?}");
        };
        assert_eq!((record.verb.as_str(), record.version), (verb, version));
        assert_eq!(
            (record.category, record.outcome),
            (Category::Usage, outcome)
        );
        assert_eq!(record.object, "secret/prod/db");
        let container = record.container.as_ref().unwrap();
        let named = [&container.name, &container.image_digest, &container.host];
        assert_eq!(named, ["web", "sha256:1", "web-1"], "{verb}");
    }
}

/// What a binding of this reload leaves of a consumer that shows that it uses version 2.
fn left_by(reload: Reload, is_waited_for: bool) -> Record {
    let mut world = consumer_that_holds(2);
    let bound = binding::Event::Bound {
        name: BindingName::parse("web-db").unwrap(),
        spec: binding::Spec {
            secret: SECRET,
            also: std::collections::BTreeSet::new(),
            previous: std::collections::BTreeSet::new(),
            selector: Selector::default(),
            target: Target::Env {
                name: EnvName::parse("A").unwrap(),
            },
            reload,
            on_revoke: keywheel_core::binding::OnRevoke::Remove,
        },
    };
    let started = rotation::Event::Started {
        secret: SECRET,
        version: 2,
        trigger: rotation::Trigger::Initial,
    };
    let distributing = rotation::Event::DistributionStarted {
        consumers: Vec::from_iter(is_waited_for.then(key)),
        hosts: vec![HOST],
        old: vec![1],
        deadline: Timestamp::default(),
    };
    let events = [
        Event::Binding(BindingId::default(), bound),
        Event::Rotation(ROTATION, started),
        Event::Rotation(ROTATION, distributing),
    ];
    for (number, event) in (10..).zip(&events) {
        world.apply(number, event);
    }
    let at = Timestamp::default();
    let fact = assignment::Event::Reloaded { version: 2, at };
    let principal = Principal::Service(Role::Injector);
    let decided = Ok(vec![Event::Assignment(key(), fact)]);
    let left = records(&world, &deed(&principal), &report(), &decided);
    assert_eq!(left.len(), 1, "{left:?}");
    left.into_iter().next().unwrap()
}

#[test]
fn a_restart_for_a_rotation_is_told_from_a_reload_and_from_a_person_s_start() {
    let restart = Reload::Restart {
        settle: std::time::Duration::from_secs(1),
        health_timeout: std::time::Duration::from_secs(1),
        rollout: None,
    };
    for (reload, is_waited_for, verb) in [
        (restart.clone(), true, "restart"),
        (restart, false, "reload"),
        (Reload::Signal(1), true, "reload"),
    ] {
        let record = left_by(reload, is_waited_for);
        assert_eq!(record.verb, verb);
        assert_eq!(record.reason, "binding/web-db");
    }
}

#[test]
fn a_usage_record_names_its_binding_also_beside_another_reason() {
    let mut world = consumer_that_holds(0);
    let name = BindingName::parse("web-db").unwrap();
    let known = binding::Binding::new(BindingId::default(), name);
    world.bindings.insert(BindingId::default(), known);
    let refused = assignment::Event::Refused {
        version: 2,
        reason: "no runtime".to_owned(),
    };
    let principal = Principal::Service(Role::Injector);
    let decided = Ok(vec![Event::Assignment(key(), refused)]);
    let left = records(&world, &deed(&principal), &report(), &decided);
    assert_eq!(left[0].reason, "binding/web-db: no runtime");
}

#[test]
fn a_wish_is_no_usage_and_a_new_consumer_s_fact_is_named_by_it() {
    let assigned = assignment::Event::Assigned {
        secret: SECRET,
        version: 1,
        container_name: "new".to_owned(),
        image_digest: "sha256:2".to_owned(),
    };
    let at = Timestamp::default();
    let swapped = assignment::Event::Swapped { version: 1, at };
    let decided = Ok(Vec::from(
        [assigned, swapped].map(|e| Event::Assignment(key(), e)),
    ));
    let mut before = consumer_that_holds(0);
    before.assignments = BTreeMap::new();
    let principal = Principal::Service(Role::Injector);
    let left = records(&before, &deed(&principal), &report(), &decided);
    assert_eq!((left.len(), left[0].verb.as_str()), (1, "inject"));
    assert_eq!(left[0].object, "secret/prod/db");
    assert_eq!(left[0].container.as_ref().unwrap().name, "new");
}

#[test]
fn a_report_that_is_refused_leaves_a_denial() {
    let host = HostId::from_bytes([1; 16]);
    let command = Command::Report(HostReport {
        host,
        generation: 1,
        items: Vec::new(),
        holds: Vec::new(),
        complete: true,
        containers: Vec::new(),
        denied: Vec::new(),
        stale: Vec::new(),
        executed: Vec::new(),
        notes: Vec::new(),
        restarts: Vec::new(),
        staged: Vec::new(),
        knows_staged: false,
        orders: None,
    });
    let deed = Deed {
        principal: &Principal::Service(Role::Injector),
        id: CommandId::from_bytes([2; 16]),
        time: Timestamp::default(),
        traceparent: None,
    };
    let evicted = host::Rejection::Evicted {
        host,
        name: HostName::parse("web-1").unwrap(),
    };
    let refused = Err(Rejection::from(evicted).into());
    let left = records(&World::default(), &deed, &command, &refused);
    assert_eq!((left.len(), left[0].outcome), (1, Outcome::Denied));
    assert_eq!(left[0].object, format!("host/{host}"));
    assert!(left[0].reason.contains("evicted"), "{}", left[0].reason);
    assert!(records(&World::default(), &deed, &command, &Ok(Vec::new())).is_empty());
}

#[test]
fn an_instant_that_no_calendar_has_is_told_all_the_same() {
    assert_eq!(
        utc(Timestamp::from_micros(951_782_400_000_007)),
        "2000-02-29T00:00:00Z"
    );
    for extreme in [i64::MIN, i64::MAX] {
        assert!(utc(Timestamp::from_micros(extreme)).contains(&extreme.to_string()));
    }
}

#[test]
fn a_refused_request_keeps_the_reason_a_person_gave() {
    let principal = Principal::User {
        uid: 0,
        name: "root".to_owned(),
    };
    let no = Rejection::BindingUnknown(BindingName::parse("b").unwrap());
    let refused = Err(no.clone().into());
    let force = |reason: &str| Command::Intervene {
        rotation: ROTATION,
        intervention: Intervention::Force,
        reason: reason.to_owned(),
    };
    let left = |reason: &str| {
        let command = force(reason);
        let left = records(&World::default(), &deed(&principal), &command, &refused);
        left[0].reason.clone()
    };
    let said = left(" the machine is gone ");
    assert_eq!(
        said,
        format!("{no} (asked for because: the machine is gone)")
    );
    assert_eq!(left(" "), no.to_string());
    let long = left(&"ä".repeat(MAX_REASON_CHARS + 1));
    assert_eq!(long.matches('ä').count(), MAX_REASON_CHARS);
}

#[test]
fn the_record_of_a_deadline_says_what_came_of_it() {
    let principal = Principal::Service(Role::Scheduler);
    let deadline = Timestamp::default();
    let outcome = rotation::Outcome::Parked;
    for (event, words) in [
        (rotation::Event::Forced, "forced"),
        (rotation::Event::Closed { outcome }, "held"),
        (rotation::Event::DeadlineMoved { deadline }, "put off"),
        (
            rotation::Event::StepCompleted { step: Step::Drain },
            "the grace is over",
        ),
        (
            rotation::Event::StagingEnded {
                missing: Vec::new(),
            },
            "the server is told",
        ),
        (rotation::Event::CanaryPassed, "the canaries ran well"),
        (
            rotation::Event::TurnedBack {
                version: 1,
                consumers: Vec::new(),
                hosts: Vec::new(),
                deadline,
            },
            "the canaries did not show in time",
        ),
    ] {
        let command = Command::DeadlinePassed { rotation: ROTATION };
        let decided = Ok(vec![
            Event::Rotation(ROTATION, rotation::Event::DeadlinePassed),
            Event::Rotation(ROTATION, event),
        ]);
        let left = records(&World::default(), &deed(&principal), &command, &decided);
        let [record] = left.as_slice() else {
            panic!("{words}: {left:?}");
        };
        let reason = &record.reason;
        assert!(
            reason.starts_with(&format!("role-table: {words}")),
            "{reason}"
        );
    }
}

#[test]
fn a_revocation_in_an_emergency_has_a_verb_of_its_own() {
    let principal = Principal::Service(Role::Gateway);
    let mut verbs = Vec::new();
    for (_, mut command) in people_s_commands() {
        if let Command::Revoke { is_emergency, .. }
        | Command::Replace(Replacing { is_emergency, .. }) = &mut command
        {
            *is_emergency = true;
            let allowed = Ok(Vec::new());
            let left = records(&World::default(), &deed(&principal), &command, &allowed);
            verbs.extend(left.into_iter().map(|record| record.verb));
        }
    }
    let wanted = ["revoke-in-emergency", "revoke-and-replace-in-emergency"];
    assert_eq!(verbs, wanted);
}
