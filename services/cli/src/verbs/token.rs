//! `token …` and `whoami`.
//!
//! Invariant: a token goes to stdout alone, once, on a person's or program's demand.

use keywheel_schemas::api::{
    IssueTokenAnswer, IssueTokenRequest, RevokeTokenRequest, RevokeTokensAnswer,
    RevokeTokensRequest, TokenView, WhoamiView,
};

use super::Desk;
use crate::args::{IssueTokenArgs, RevokeTokenArgs, TokenVerb};
use crate::exit::Failure;
use crate::http::escape;
use crate::output::tokens as texts;

pub(super) async fn run(desk: &Desk, verb: &TokenVerb) -> Result<(), Failure> {
    match verb {
        TokenVerb::Issue(args) => issue(desk, args).await,
        TokenVerb::List => {
            let all: Vec<TokenView> = desk.client.read_all("/v1/tokens").await?;
            desk.screen
                .show(&all, |all| texts::tokens(all, desk.screen.color))
        }
        TokenVerb::Revoke(args) => revoke(desk, args).await,
    }
}

pub(super) async fn whoami(desk: &Desk) -> Result<(), Failure> {
    let told: WhoamiView = desk.client.read("/v1/whoami").await?;
    desk.screen.show(&told, texts::whoami)
}

async fn issue(desk: &Desk, args: &IssueTokenArgs) -> Result<(), Failure> {
    let request = IssueTokenRequest {
        name: args.name.clone(),
        verbs: args.verbs.clone(),
        resources: args.resources.clone(),
        lifetime_seconds: args.lifetime.as_secs(),
        limit: args.uses,
    };
    let answer: IssueTokenAnswer = desk.client.change("/v1/tokens", &request).await?;
    if !desk.screen.is_json() {
        desk.screen.note(&texts::issue_note(&answer.issued));
    }
    desk.screen.show(&answer, |answer| answer.token.clone())
}

async fn revoke(desk: &Desk, args: &RevokeTokenArgs) -> Result<(), Failure> {
    let Some(name) = &args.name else {
        let owner = args.owner.as_deref().unwrap_or_default();
        return revoke_of(desk, owner, &args.reason).await;
    };
    let path = format!("/v1/tokens/{}/revoke", escape(name));
    let request = RevokeTokenRequest {
        reason: args.reason.clone(),
    };
    let answer: RevokeTokensAnswer = desk.client.change(&path, &request).await?;
    desk.screen.show(&answer, texts::revoked)
}

/// Every token of a person.
pub(super) async fn revoke_of(desk: &Desk, owner: &str, reason: &str) -> Result<(), Failure> {
    let request = RevokeTokensRequest {
        owner: owner.to_owned(),
        reason: reason.to_owned(),
    };
    let answer: RevokeTokensAnswer = desk.client.change("/v1/revoke-tokens", &request).await?;
    desk.screen.show(&answer, texts::revoked)
}
