//! `token …` as clap reads it.

use std::time::Duration;

use clap::{Args, Subcommand};

/// `token …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Print a new token that stands for you, within a scope, until a time. It is shown this once.
    Issue(IssueTokenArgs),
    /// List tokens that are not revoked: yours, and everybody's if you may `grant`, `revoke` or `audit`.
    #[command(after_help = "Example:\n  keywheel token list -o json")]
    List,
    /// Have a token, or every one of a person, open nothing any more, at once.
    Revoke(RevokeTokenArgs),
}

/// `token issue`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keywheel token issue nightly --verb rotate --on path/prod/payments --for 30d > /etc/ci/keywheel.token\n  keywheel token issue drill --verb list,revoke --on secret/prod/db --for 1h --uses 10\n  keywheel --bearer-token-file /etc/ci/keywheel.token rotate prod/payments/db\n\nWhoever has the token may do this in your name: hand it over like a password. It may never do more than\nyou may; what you lose, it loses. Verbs and resources are those of policies; `keywheel policy --help`."
)]
pub(crate) struct IssueTokenArgs {
    /// Its name, which no other token has.
    pub(crate) name: String,
    /// What it may do: list, write, delete, rotate, revoke, bind or audit; several with commas.
    #[arg(
        long = "verb",
        value_name = "VERB",
        required = true,
        value_delimiter = ','
    )]
    pub(crate) verbs: Vec<String>,
    /// Of what: secret/NAME, path/NAME and all below it, store/NAME, host/NAME, playbook/NAME, …, or environment.
    #[arg(
        long = "on",
        value_name = "RESOURCE",
        required = true,
        value_delimiter = ','
    )]
    pub(crate) resources: Vec<String>,
    /// How long it lives: from a minute to 366 days.
    #[arg(long = "for", value_name = "SPAN", default_value = "30d", value_parser = crate::span::parse_long)]
    pub(crate) lifetime: Duration,
    /// How often it may be used; as often as it lives without it.
    #[arg(long, value_name = "COUNT")]
    pub(crate) uses: Option<u64>,
}

/// `token revoke`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keywheel token revoke nightly --reason \"in a build log\"\n  keywheel token revoke --owner certificate:bob --reason \"bob left\"\n\nYour own tokens are yours to revoke; others' take the right to `grant` or `revoke`."
)]
pub(crate) struct RevokeTokenArgs {
    /// Which.
    #[arg(required_unless_present = "owner", conflicts_with = "owner")]
    pub(crate) name: Option<String>,
    /// Every token of this person: certificate:NAME, unix:UID or oidc:NAME.
    #[arg(long, value_name = "PERSON")]
    pub(crate) owner: Option<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}
