//! What people ask for, with and without others, and the words that their records keep.

use keywheel_core::approval;
use keywheel_core::binding::{Selector, Target};
use keywheel_core::id::{ApprovalId, JoinTokenId};
use keywheel_core::name::{EnvName, SignalSourceName, StoreName};
use keywheel_core::rotation::Intervention;
use keywheel_core::signal::Signal;

use super::*;

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
pub(super) fn commands() -> Vec<(&'static [&'static str], Command)> {
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

const APPROVAL: ApprovalId = ApprovalId::from_bytes([0x1a; 16]);

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

/// A word about a request that has a reason, with the verb and the reason of its record.
fn said_with_a_reason(
    verb: &'static str,
    word: fn(ApprovalId, String, String) -> approval::Request,
) -> (approval::Request, &'static str, String) {
    let why = || "seen".to_owned();
    (
        word(APPROVAL, "certificate:ada".to_owned(), why()),
        verb,
        why(),
    )
}

/// Each word about a request, with the verb and the reason of its record.
fn words_about_a_request() -> Vec<(approval::Request, &'static str, String)> {
    use approval::Request as R;

    let by = || "certificate:ada".to_owned();
    let withdraw = R::Withdraw {
        approval: APPROVAL,
        by: by(),
    };
    let perform = R::Perform(approval::Perform {
        approval: APPROVAL,
        digest: [7; 32],
        by: by(),
        command: Box::new(apply_policies()),
    });
    let takes_back = "takes a word back".to_owned();
    let named = format!("approved: request {APPROVAL}");
    vec![
        said_with_a_reason("approve", |approval, by, reason| R::Approve {
            approval,
            by,
            reason,
        }),
        said_with_a_reason("deny", |approval, by, reason| R::Deny {
            approval,
            by,
            reason,
        }),
        said_with_a_reason("break-glass", |approval, by, reason| R::BreakGlass {
            approval,
            by,
            reason,
        }),
        said_with_a_reason("review-break-glass", |approval, by, reason| R::Review {
            approval,
            by,
            reason,
        }),
        (withdraw, "withdraw-approval", takes_back),
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
fn a_revocation_in_an_emergency_has_a_verb_of_its_own() {
    let principal = Principal::Service(Role::Gateway);
    let mut verbs = Vec::new();
    for (_, mut command) in commands() {
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
