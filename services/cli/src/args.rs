//! The command line as clap reads it: verbs, flags, help. No behaviour.
//!
//! Written for a tired person at night: each verb says in one line what it does and shows an example.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod approval;
mod backup;
mod explain;
mod host;
mod import;
mod internal;
mod log;
mod login;
mod migrate;
mod outward;
mod playbook;
mod policy;
mod report;
mod revocation;
mod rotation;
mod rotator;
mod serve;
mod setup;
mod store;
mod token;
mod unseal;

pub(crate) use approval::{ApprovalVerb, WordArgs};
pub(crate) use backup::{
    BackupArgs, BackupVerb, KeyArgs, RestoreArgs, RestoreVerb, VerifyBackupArgs,
};
pub(crate) use explain::ExplainArgs;
pub(crate) use host::{EvictArgs, HostVerb};
pub(crate) use import::{ImportAwsArgs, ImportVaultArgs, ImportVerb};
pub(crate) use internal::{InternalVerb, Shell};
pub(crate) use log::{AuditArgs, EventsArgs, EventsVerb, HistoryArgs, ListEventsArgs};
pub(crate) use login::LoginArgs;
pub(crate) use migrate::MigrateArgs;
pub(crate) use outward::{LetterVerb, NotificationVerb, SignalVerb};
pub(crate) use playbook::{ApproveArgs, PlanArgs, PlaybookVerb, RunArgs, StepInArgs};
pub(crate) use policy::{ApplyPoliciesArgs, PolicyVerb, SetArgs};
pub(crate) use report::{ReportArgs, ReportVerb};
pub(crate) use revocation::{ForgetArgs, RevocationVerb, RevokeArgs};
pub(crate) use rotation::{ForceArgs, InterveneArgs, RotateArgs, RotationVerb};
pub(crate) use rotator::RotatorVerb;
pub(crate) use serve::{
    CaArgs, CaVerb, CredentialsVerb, DoctorArgs, DoctorRole, FinishArgs, HomeArgs, InitArgs,
    NatsConfigArgs, NatsVerb, OwnCa, RefreshArgs, ResealArgs, ServerArgs,
};
pub(crate) use setup::{SetupDockerArgs, SetupPodmanArgs, SetupVerb};
pub(crate) use store::{RefreshStoresArgs, StoreVerb};
pub(crate) use token::{IssueTokenArgs, RevokeTokenArgs, TokenVerb};
pub(crate) use unseal::UnsealArgs;

use crate::{address, exit};

/// Keywheel rotates secrets inside running containers and accounts for who holds which version.
#[derive(Debug, Parser)]
#[command(
    name = "keywheel",
    version,
    propagate_version = false,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Start here:\n  keywheel up                      serve, in the foreground\n  keywheel status                  is everything well?\n  keywheel apply -f secrets.yaml   say which secrets go to which containers\n  keywheel rotate prod/db --wait   replace a value everywhere, now\n  keywheel consumers               who holds which version\n\n`keywheel help VERB` explains a verb; `keywheel help exit-codes` lists the exit codes.\nNo verb ever prints a value of a secret."
)]
pub(crate) struct Cli {
    /// Where keywheel serves, as unix:///PATH or https://HOST:PORT.
    #[arg(long, global = true, env = "KEYWHEEL_ADDRESS", hide_env_values = true, value_name = "ADDRESS", default_value = address::DEFAULT)]
    pub(crate) address: String,
    /// Directory of an operator's credentials, for https://.
    #[arg(
        long,
        global = true,
        env = "KEYWHEEL_IDENTITY_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub(crate) identity: Option<PathBuf>,
    /// File of a token that says who asks; `-` reads it from stdin.
    #[arg(
        long,
        global = true,
        env = "KEYWHEEL_BEARER_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) bearer_token_file: Option<PathBuf>,
    /// Roots by which a gateway is known, for https:// with a token and without credentials.
    #[arg(
        long,
        global = true,
        env = "KEYWHEEL_GATEWAY_CA_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) gateway_ca_file: Option<PathBuf>,
    /// Go on without others' approval, in an emergency, for this reason; somebody else has to review it.
    #[arg(long, global = true, value_name = "TEXT", value_parser = approval::parse_reason)]
    pub(crate) break_glass: Option<String>,
    /// How answers look; `tail` prints one JSON object a line.
    #[arg(
        short,
        long,
        global = true,
        env = "KEYWHEEL_OUTPUT",
        hide_env_values = true,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Format,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  keywheel status\n  keywheel status --check >/dev/null || page-somebody\n\nIt ends with 0 when it could ask; with --check also with 4 when something is a problem."
)]
pub(crate) struct StatusArgs {
    /// End with code 4 when something is a problem; warnings do not count.
    #[arg(long)]
    pub(crate) check: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Serve: gateway, scheduler, store-sync, injector and audit in one process, in the foreground.
    Up(UpArgs),
    /// Serve one role by itself, over NATS; for set-ups with several machines.
    Server(ServerArgs),
    /// Make keys, certificates and bus configuration for services that run apart.
    Init(InitArgs),
    /// Give store-sync what opens its cache: one share, or the passphrase. Typed, or on stdin.
    #[command(
        after_help = "Examples:\n  keywheel unseal                      asks, and shows nothing of what is typed\n  keywheel unseal < /mnt/usb/share     reads it from there\n\nShares are given one by one, each by whoever has it, from any terminal (of stdin the first line is taken); they are forgotten when the\nothers do not come in time. What is wrong is refused without a reason, and on record."
    )]
    Unseal(UnsealArgs),
    /// Make store-sync drop every key: no value is opened until it is unsealed. What runs goes on.
    #[command(
        after_help = "Example:\n  keywheel seal --yes\n\nA store-sync with a key file is unsealed again by its next start, too."
    )]
    Seal {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Wrap every data key of the cache anew, while it is used, and drop the keys before.
    #[command(
        after_help = "Example:\n  keywheel rotate-kek --wait\n\nNo value changes and no container notices. Stopped or killed, store-sync goes on at its next start."
    )]
    RotateKek {
        /// Wait until one key is left.
        #[arg(long)]
        wait: bool,
    },
    /// Have something else open store-sync's cache: key file, passphrase or shares. While it is stopped.
    Reseal(ResealArgs),
    /// Make credentials of services that run apart fresh, by hand.
    #[command(subcommand)]
    Credentials(CredentialsVerb),
    /// Make the configuration of bus servers. For the gateway's machine.
    #[command(subcommand)]
    Nats(NatsVerb),
    /// Roll the certificate authority over, without a connection lost. For the gateway's machine.
    #[command(subcommand)]
    Ca(CaVerb),
    /// Show whether everything is well: every service, host, store, bus and journal, what is wrong
    /// first.
    Status(StatusArgs),
    /// Check a set-up from here: files, credentials, clocks, bus servers, gateway, Docker, disk.
    Doctor(DoctorArgs),
    /// Make secrets and bindings as a manifest says; what is as it says already is left alone.
    Apply(ApplyArgs),
    /// Propose manifests for what lies in a store already. Names only; nothing is changed.
    #[command(subcommand)]
    Import(ImportVerb),
    /// List what there is, or show one.
    Get(GetArgs),
    /// Show one thing with everything around it: versions, consumers, what it waits for.
    Describe(DescribeArgs),
    /// Say whether a container gets a secret, and which rule decides.
    Explain(ExplainArgs),
    /// Put a value, list secrets, list the versions of one. No verb prints a value.
    #[command(subcommand)]
    Secret(SecretVerb),
    /// Show when a secret rotates by itself.
    #[command(subcommand)]
    Schedule(ScheduleVerb),
    /// Replace a secret's value everywhere, now.
    Rotate(RotateArgs),
    /// List rotations, show one; abort, retry or force one, with a reason for the record.
    #[command(subcommand)]
    Rotation(RotationVerb),
    /// Look at stores outside now, and take over what was changed there.
    Refresh(RefreshStoresArgs),
    /// List stores outside, show or remove one, print the rights that one needs.
    #[command(subcommand)]
    Store(StoreVerb),
    /// Print what the admin of a rotator needs at its server.
    #[command(subcommand)]
    Rotator(RotatorVerb),
    /// Make versions unusable: taken out of every container, destroyed in the store, for ever.
    Revoke(RevokeArgs),
    /// List revocations, show how far one is; have one forgotten, which takes two.
    #[command(subcommand)]
    Revocation(RevocationVerb),
    /// Run what was prepared for an incident or a drill; approve, pause or cancel a run.
    #[command(subcommand)]
    Playbook(PlaybookVerb),
    /// Say who may do what: apply, check, test, explain and show policies.
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Issue, list and revoke tokens, with which programs come in your name.
    #[command(subcommand)]
    Token(TokenVerb),
    /// List what takes several people; approve, deny or review it, or break the glass.
    #[command(subcommand)]
    Approval(ApprovalVerb),
    /// Show who the server takes you for, by which proof, until when, and what you may do.
    #[command(
        after_help = "Example:\n  keywheel whoami\n  keywheel --bearer-token-file /etc/ci/keywheel.token whoami"
    )]
    Whoami,
    /// Log in at the deployment's provider of identities (OpenID Connect), by a browser.
    Login(LoginArgs),
    /// End the login at this address, at once and everywhere.
    #[command(after_help = "Example:\n  keywheel logout")]
    Logout,
    /// Remove a binding: its containers lose the secret.
    Unbind(UnbindArgs),
    /// Show who holds which version.
    Consumers(ConsumersArgs),
    /// List hosts, let a machine join, evict one.
    #[command(subcommand)]
    Host(HostVerb),
    /// Show what happened, as the journal has it.
    #[command(subcommand)]
    Events(EventsVerb),
    /// List who outside is told which events; test, replay or remove one.
    #[command(subcommand)]
    Notification(NotificationVerb),
    /// List who outside may say that something happened, or remove one.
    #[command(subcommand)]
    Signal(SignalVerb),
    /// List what could not be delivered outside or read of what came; retry it or throw it away.
    #[command(subcommand)]
    Letter(LetterVerb),
    /// Show who held which version of a secret at a time.
    History(HistoryArgs),
    /// Show, export and verify who did what.
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Check the journal.
    #[command(subcommand)]
    Journal(JournalVerb),
    /// Make a sealed backup of everything this machine keeps, while it runs; verify one.
    Backup(BackupArgs),
    /// Restore a backup into an empty directory; accept one that is older than what is known.
    Restore(RestoreArgs),
    /// Write the evidence of a revocation, rotation or eviction; verify it without a server.
    #[command(subcommand)]
    Report(ReportVerb),
    /// Prepare this machine.
    #[command(subcommand)]
    Setup(SetupVerb),
    /// Recreate a container once under the runtime, its plaintext variables replaced by secrets.
    Migrate(MigrateArgs),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Examples:\n  keywheel completion bash > /etc/bash_completion.d/keywheel\n  keywheel completion zsh > ~/.zfunc/_keywheel\n  keywheel completion fish > ~/.config/fish/completions/keywheel.fish"
    )]
    Completion {
        /// Which shell.
        shell: Shell,
    },
    /// Print the version of this program.
    #[command(after_help = "Example:\n  keywheel version -o json")]
    Version,
    /// List the exit codes.
    #[command(long_about = exit::TABLE, after_help = exit::TABLE)]
    ExitCodes,
    /// For tests of keywheel itself.
    #[command(subcommand, hide = true)]
    Internal(InternalVerb),
}

/// `up`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example:\n  sudo keywheel up --unseal-key-file /etc/keywheel/unseal.key\n\nThe unseal key file is created (mode 0600) only when the data directory is empty. Keep a copy of it\nelsewhere: without it the values in the data directory cannot be read, by anyone."
)]
pub(crate) struct UpArgs {
    /// Directory of journal and sealed cache [default: /var/lib/keywheel].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Socket to serve; the injector's socket and the bundles live beside it [default:
    /// /run/keywheel/keywheel.sock].
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// File of the unseal key; never inside the data directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) unseal_key_file: Option<PathBuf>,
    /// Configuration, TOML; flags win over it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Name of this host as bindings write it; else the system's.
    #[arg(long, value_name = "NAME")]
    pub(crate) host_name: Option<String>,
    /// Serve metrics for Prometheus there, on this machine only: 127.0.0.1:PORT or unix:/PATH.
    #[arg(long, value_name = "PLACE")]
    pub(crate) metrics_listen: Option<String>,
    /// Tell spans to the OpenTelemetry collector there, by OTLP over HTTP: http://127.0.0.1:4318.
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    /// How log lines look: text, json or journald; else journald where systemd's journal reads them.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
}

/// `apply`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keywheel apply -f secrets.yaml\n  keywheel apply -f secrets.yaml --dry-run\n  cat secrets.yaml | keywheel apply -f -\n\nA store outside is tried before anything is applied; --no-check declares one that is down."
)]
pub(crate) struct ApplyArgs {
    /// The manifest, YAML, several documents; `-` reads stdin.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Only say what would happen, or why nothing would.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Declare stores without trying them first.
    #[arg(long)]
    pub(crate) no_check: bool,
}

/// What `get` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Secrets.
    #[value(alias = "secret")]
    Secrets,
    /// Bindings of secrets to containers.
    #[value(alias = "binding")]
    Bindings,
    /// Rotations, newest first.
    #[value(alias = "rotation")]
    Rotations,
    /// Revocations, newest first.
    #[value(alias = "revocation")]
    Revocations,
    /// Hosts.
    #[value(alias = "host")]
    Hosts,
    /// Stores outside.
    #[value(alias = "store")]
    Stores,
}

/// `get`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keywheel get secrets\n  keywheel get secret prod/db -o json\n  keywheel get rotations"
)]
pub(crate) struct GetArgs {
    /// What.
    pub(crate) kind: Kind,
    /// Only this one, by name or id.
    pub(crate) name: Option<String>,
}

/// What `describe` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DescribeKind {
    /// A secret, by name.
    #[value(alias = "secrets")]
    Secret,
    /// A binding, by name.
    #[value(alias = "bindings")]
    Binding,
    /// A rotation, by id, or the newest of a secret, by its name.
    #[value(alias = "rotations")]
    Rotation,
    /// A revocation, by id, or the newest of a secret, by its name.
    #[value(alias = "revocations")]
    Revocation,
    /// A host, by name or id.
    #[value(alias = "hosts")]
    Host,
    /// A store outside, by name.
    #[value(alias = "stores")]
    Store,
}

/// `describe`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keywheel describe secret prod/db\n  keywheel describe rotation prod/db      the newest of this secret"
)]
pub(crate) struct DescribeArgs {
    /// What.
    pub(crate) kind: DescribeKind,
    /// Its name or id.
    #[arg(value_name = "NAME|ID")]
    pub(crate) name: String,
}

/// `secret …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretVerb {
    /// Make the next version of a secret, from a file or generated; an unknown name is registered.
    #[command(
        after_help = "Examples:\n  keywheel secret put prod/db                        a generated value\n  keywheel secret put prod/db --value-file pw.txt    this value\n  printf %s \"$PW\" | keywheel secret put prod/db --value-file -\n\nA file is taken byte by byte: a newline at its end is part of the value (`printf %s` writes none).\nThe value is sealed here, to store-sync's key; nothing between can read it."
    )]
    Put(PutArgs),
    /// List the secrets.
    #[command(after_help = "Example:\n  keywheel secret list -o json")]
    List,
    /// List the versions of a secret: stage, state, which hosts may hold them.
    #[command(after_help = "Example:\n  keywheel secret versions prod/db")]
    Versions {
        /// The secret.
        name: String,
    },
}

/// `schedule …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleVerb {
    /// Say the rules and the next fires in words and times; where a clock skips or repeats an hour, too.
    #[command(
        after_help = "Examples:\n  keywheel schedule next prod/db\n  keywheel schedule next prod/db --count 30 -o json\n\nEach fire is told as if the one before it led to a new version at once. Jitter comes on top."
    )]
    Next {
        /// The secret.
        name: String,
        /// So many fires.
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
        count: u8,
    },
}

/// `secret put`.
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The secret.
    pub(crate) name: String,
    /// File with the value, byte by byte; `-` reads stdin. Without it the value is generated.
    #[arg(long, value_name = "FILE|-")]
    pub(crate) value_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// Whether and how long to wait.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitArgs {
    /// Wait until it is done everywhere.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait: 30s, 5m, 1h. What was begun goes on afterwards.
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = crate::span::parse)]
    pub(crate) timeout: std::time::Duration,
}

/// `unbind`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keywheel unbind payments --yes")]
pub(crate) struct UnbindArgs {
    /// The binding.
    pub(crate) name: String,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `consumers`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keywheel consumers --secret prod/db")]
pub(crate) struct ConsumersArgs {
    /// Only of this secret.
    #[arg(long, value_name = "NAME")]
    pub(crate) secret: Option<String>,
}

/// Which part of a stream.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PageArgs {
    /// Begin after this number; without it `list` shows the latest (with a filter, the first that fit), `tail` the last few.
    #[arg(long, value_name = "N")]
    pub(crate) after: Option<u64>,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
}

/// `audit …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// List the records, oldest first: the latest of them, or those that were asked for.
    #[command(
        visible_alias = "query",
        after_help = "Examples:\n  keywheel audit list --limit 50\n  keywheel audit list --outcome denied --since 24h\n  keywheel audit list --object secret/prod/ --who ada --until 2026-11-28T14:02:00Z\n\nWithout a filter it shows the latest records, or the latest --limit of them. A filter looks through the\nwhole log, and shows all that it finds, or the first --limit of them, which are the OLDEST; for the latest\nsay --since, and no --limit."
    )]
    List(Box<AuditArgs>),
    /// Follow the records as they come; Ctrl-C ends it.
    #[command(after_help = "Example:\n  keywheel audit tail -o json | jq .verb")]
    Tail(PageArgs),
    /// Prove one record, to somebody who is to see that one and no other.
    #[command(
        after_help = "Example:\n  keywheel audit list --after 41 --limit 1     record 41; the first is 0\n  keywheel audit prove 41 --file proof.json\n  keywheel audit verify --proof proof.json --public-key BASE64"
    )]
    Prove {
        /// Number of the record; the first is 0.
        #[arg(value_name = "N")]
        index: u64,
        /// Where to, by a name that is not taken; without it to stdout.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Show which old records were removed from the journal, and which would be next. It removes nothing.
    #[command(
        after_help = "Example:\n  keywheel audit retention -o json\n\nWhat is removed when says `audit.keep_records` in the gateway's configuration, and nothing else."
    )]
    Retention,
    /// Write everything that is needed to verify the audit without a server.
    #[command(
        after_help = "Examples:\n  keywheel audit export --file audit.json\n  keywheel audit export --from 100 --to 200 --file part.json     records 100 to 199, with their proof"
    )]
    Export {
        /// Where to, by a name that is not taken; without it to stdout.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Only from this record on; the first is 0.
        #[arg(long, value_name = "N")]
        from: Option<u64>,
        /// Only before this record.
        #[arg(long, value_name = "N")]
        to: Option<u64>,
    },
    /// Verify the audit here, not in the server: every record, the tree over them, its signature.
    #[command(
        after_help = "Examples:\n  keywheel audit verify\n  keywheel audit verify --file audit.json --public-key BASE64\n  keywheel audit verify --against /var/lib/keywheel/audit-sink/audit.jsonl\n  keywheel audit verify --since checkpoint.txt     one that you kept: the log now begins with the one of then\n\nWithout --public-key the key inside the export is used: that shows that the records fit together,\nnot that they are of your installation. Write the key down once and give it here."
    )]
    Verify {
        /// An export; without it the running server is asked for its checkpoint and every record.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// The proof of one record, as `audit prove` writes it.
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        proof: Option<PathBuf>,
        /// The key that must have signed, base64.
        #[arg(long, value_name = "BASE64")]
        public_key: Option<String>,
        /// What a sink was told, one record a line, or an export of before, to be compared: a log that was put
        /// back has fewer records or others. Several files of one sink in their order.
        #[arg(long, value_name = "FILE", conflicts_with = "proof")]
        against: Vec<PathBuf>,
        /// A checkpoint that you kept, or JSON with one as `audit export` and `audit prove` write it: the log has to go on
        /// from it. A running server is asked for the proof alone, and no record is fetched.
        #[arg(long, value_name = "FILE", conflicts_with = "proof")]
        since: Option<PathBuf>,
    },
}

/// `journal …`.
#[derive(Debug, Subcommand)]
pub(crate) enum JournalVerb {
    /// Check every event's hash and signature, every audit record and the tree over them.
    #[command(after_help = "Example:\n  keywheel journal verify")]
    Verify,
}

#[cfg(test)]
mod tests;
