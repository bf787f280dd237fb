//! Requests about people and programs: what policies let them do, and tokens.

use super::super::parameters::{EXPLAINED, KEPT, PAGE};
use super::super::route::{Answer, Route, get, post};

/// Every one of these.
pub(super) const PEOPLE: &[Route] = &[
    get(
        "/v1/policies",
        "show_policies",
        "The policies in force, or a set that was before them",
        Answer::One("PoliciesView"),
    )
    .asked(KEPT),
    get(
        "/v1/policies/explain",
        "explain_policies",
        "Whether somebody may do something, what decides that, and what was near it",
        Answer::One("PolicyExplanation"),
    )
    .asked(EXPLAINED),
    post(
        "/v1/policies",
        "apply_policies",
        "Puts a set of policies in force, whole; or only says what is wrong with it",
        Some("ApplyPoliciesRequest"),
        "PoliciesView",
    ),
    get(
        "/v1/approvals",
        "list_approvals",
        "Requests that take several people, of what the sender may do: those that are open, and the last others",
        Answer::Many("ApprovalView"),
    )
    .asked(PAGE),
    get(
        "/v1/approvals/{id}",
        "describe_approval",
        "One request that takes several people",
        Answer::One("ApprovalView"),
    ),
    post(
        "/v1/approvals/{id}/approve",
        "approve",
        "Is for a request; one person is one word",
        Some("ApprovalRequest"),
        "ApprovalView",
    ),
    post(
        "/v1/approvals/{id}/deny",
        "deny",
        "Is against a request, which ends it",
        Some("ApprovalRequest"),
        "ApprovalView",
    ),
    post(
        "/v1/approvals/{id}/withdraw",
        "withdraw_approval",
        "Takes the sender's word for a request back; of whoever asked this ends it",
        None,
        "ApprovalView",
    ),
    post(
        "/v1/approvals/{id}/break-glass",
        "break_glass",
        "Has a request go without the others, in an emergency; it stays open until somebody else has reviewed it",
        Some("ApprovalRequest"),
        "ApprovalView",
    ),
    post(
        "/v1/approvals/{id}/review",
        "review_break_glass",
        "Says what was found of a request that went without the others",
        Some("ApprovalRequest"),
        "ApprovalView",
    ),
    post(
        "/v1/audit/confirm-sinks",
        "confirm_sinks",
        "Is for the sinks that the audit is told to now, where that takes several people",
        Some("ApprovalRequest"),
        "ApprovalView",
    ),
    get(
        "/v1/whoami",
        "whoami",
        "Who the sender is taken for, by which proof, until when, and what they may do",
        Answer::One("WhoamiView"),
    ),
    get(
        "/v1/tokens",
        "list_tokens",
        "Tokens that were issued and not revoked: one's own, and everybody's for who may grant",
        Answer::Many("TokenView"),
    )
    .asked(PAGE),
    post(
        "/v1/tokens",
        "issue_token",
        "Issues a token that stands for the sender; it is shown this once",
        Some("IssueTokenRequest"),
        "IssueTokenAnswer",
    ),
    post(
        "/v1/tokens/{name}/revoke",
        "revoke_token",
        "Has a token open nothing any more",
        Some("RevokeTokenRequest"),
        "RevokeTokensAnswer",
    ),
    post(
        "/v1/revoke-tokens",
        "revoke_tokens",
        "Has every token of a person open nothing any more",
        Some("RevokeTokensRequest"),
        "RevokeTokensAnswer",
    ),
    get(
        "/v1/login",
        "login_settings",
        "Where and how people log in; anybody who can connect may ask",
        Answer::One("LoginSettings"),
    ),
    post(
        "/v1/login",
        "login",
        "Gives who proves it by the provider of identities a login: a token of a short life, shown this once",
        Some("LoginRequest"),
        "LoginAnswer",
    ),
    post(
        "/v1/login/device",
        "login_device",
        "Has the provider of identities make a code that is typed into a browser anywhere",
        None,
        "DeviceLogin",
    ),
    post(
        "/v1/logout",
        "logout",
        "Ends the login that the sender came with",
        Some("LogoutRequest"),
        "LogoutAnswer",
    ),
];
