//! `keywheel import`: flags of its two kinds of store.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `import`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportVerb {
    /// Propose manifests for what lies in Vault or OpenBao, KV version 2.
    Vault(ImportVaultArgs),
    /// Propose manifests for what lies in AWS Secrets Manager.
    Aws(ImportAwsArgs),
}

/// What both kinds have.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Only what lies below this path; without it, everything there is.
    #[arg(long, value_name = "PATH", default_value = "")]
    pub(crate) path: String,
}

/// `import vault`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  vault login\n  keywheel import vault --server https://vault.example:8200 --path payments > payments.yaml\n\nIt asks Vault from here, with your own token, for names of paths and fields; never for a value.\nThe proposal names a token of store-sync's own: /etc/keywheel/stores/STORE-token on its machine, or what\n--store-token-file says. Give it the policy that `keywheel store policy STORE` prints."
)]
pub(crate) struct ImportVaultArgs {
    #[command(flatten)]
    pub(crate) common: ImportArgs,
    /// What the store is called in the manifests.
    #[arg(long, value_name = "NAME", default_value = "vault")]
    pub(crate) store: String,
    /// Where Vault serves.
    #[arg(long, env = "VAULT_ADDR", hide_env_values = true, value_name = "URL")]
    pub(crate) server: String,
    /// The namespace; without it the root one.
    #[arg(
        long,
        env = "VAULT_NAMESPACE",
        hide_env_values = true,
        value_name = "NAME",
        default_value = ""
    )]
    pub(crate) namespace: String,
    /// Where the KV engine is mounted.
    #[arg(long, value_name = "PATH", default_value = "secret")]
    pub(crate) mount: String,
    /// The authorities of Vault's certificate; without it the system's.
    #[arg(
        long,
        env = "VAULT_CACERT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) ca_file: Option<PathBuf>,
    /// Your own token; `vault login` writes ~/.vault-token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Where store-sync is to read its own token, on its machine; without it
    /// /etc/keywheel/stores/STORE-token.
    #[arg(long, value_name = "FILE")]
    pub(crate) store_token_file: Option<PathBuf>,
}

/// `import aws`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  keywheel import aws --region eu-central-1 --path prod/ > prod.yaml\n\nIt asks AWS from here, with your own credentials (the standard chain), for names; never for a value.\nIt needs the right `secretsmanager:ListSecrets`, which Keywheel itself does not."
)]
pub(crate) struct ImportAwsArgs {
    #[command(flatten)]
    pub(crate) common: ImportArgs,
    /// What the store is called in the manifests.
    #[arg(long, value_name = "NAME", default_value = "aws")]
    pub(crate) store: String,
    /// The region; without it the one of the environment or profile.
    #[arg(long, value_name = "REGION", default_value = "")]
    pub(crate) region: String,
    /// Another endpoint than the region's.
    #[arg(long, value_name = "URL", default_value = "")]
    pub(crate) endpoint: String,
    /// Your own profile; it is not part of the proposal.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) profile: String,
}
