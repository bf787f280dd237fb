//! `events …` and `history` as clap reads them.

use clap::{Args, Subcommand};

use super::PageArgs;

/// `events …`.
#[derive(Debug, Subcommand)]
pub(crate) enum EventsVerb {
    /// List what happened, oldest first.
    #[command(
        after_help = "Examples:\n  keywheel events list --limit 50\n  keywheel events list --secret prod/db --since 24h\n  keywheel events list --type dev.keywheel.revocation. --since 2026-11-01T00:00:00Z\n\nA filter looks through the whole log, and shows all that it finds, or the first --limit of them, which are the OLDEST."
    )]
    List(ListEventsArgs),
    /// Follow what happens; Ctrl-C ends it.
    #[command(
        after_help = "Examples:\n  keywheel events tail -o json | jq .type\n  keywheel events tail --secret prod/db --since 1h\n\nWith a filter and neither --since nor --after it begins with what happens next."
    )]
    Tail(EventsArgs),
    /// Make a subscription: a place in the log that the gateway keeps for one client.
    #[command(
        after_help = "Examples:\n  keywheel events subscribe siem                begin with what happens next\n  keywheel events subscribe siem --after 0      begin with the first event\n  keywheel events list --subscription siem --acknowledge -o json\n\nOne that is there stays where it is. There may be 64."
    )]
    Subscribe {
        /// Its name.
        name: String,
        /// Begin after this event; without it, with what happens next.
        #[arg(long, value_name = "N")]
        after: Option<u64>,
    },
    /// List the subscriptions: how far each client came, and how much is left.
    #[command(after_help = "Example:\n  keywheel events subscriptions")]
    Subscriptions,
    /// Say that all events up to one were dealt with; a subscription never goes back.
    #[command(after_help = "Example:\n  keywheel events acknowledge siem 4711")]
    Acknowledge {
        /// The subscription.
        name: String,
        /// Number of the last event that was dealt with.
        #[arg(value_name = "N")]
        number: u64,
    },
    /// Forget a subscription.
    #[command(after_help = "Example:\n  keywheel events unsubscribe siem")]
    Unsubscribe {
        /// The subscription.
        name: String,
    },
}

/// `events list`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListEventsArgs {
    #[command(flatten)]
    pub(crate) events: EventsArgs,
    /// When all is written, acknowledge the last event to the subscription.
    #[arg(long, requires = "subscription")]
    pub(crate) acknowledge: bool,
}

/// Which events.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) page: PageArgs,
    /// Only this type; with a dot at its end, all types that begin so.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// Only of this secret: its own, and those of its rotations, revocations, bindings, containers.
    #[arg(long, value_name = "NAME")]
    pub(crate) secret: Option<String>,
    /// Only with this subject, as `-o json` shows it.
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: Option<String>,
    /// Only from then on: a time (2026-11-28T14:02:00Z), or how long ago (30m, 24h).
    #[arg(long, value_name = "TIME|SPAN")]
    pub(crate) since: Option<String>,
    /// Only what this subscription did not acknowledge.
    #[arg(long, value_name = "NAME")]
    pub(crate) subscription: Option<String>,
}

/// `audit list`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) page: PageArgs,
    /// Only of this principal: certificate:ada, unix:1001, a name, a user id, a role such as store-sync, or an address.
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) who: Option<String>,
    /// Only this verb, such as rotate or inject.
    #[arg(long, value_name = "VERB")]
    pub(crate) verb: Option<String>,
    /// Only on this object; with a slash at its end, on all that begin so.
    #[arg(long, value_name = "OBJECT")]
    pub(crate) object: Option<String>,
    /// Only of this container: its name, or at least twelve digits of its id.
    #[arg(long, value_name = "CONTAINER")]
    pub(crate) container: Option<String>,
    /// Only with this outcome: allowed, denied, rejected or malformed.
    #[arg(long, value_name = "OUTCOME")]
    pub(crate) outcome: Option<String>,
    /// Only what this policy permitted or forbade, by its name.
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<String>,
    /// Only from then on: a time (2026-11-28T14:02:00Z), or how long ago (30m, 24h).
    #[arg(long, value_name = "TIME|SPAN")]
    pub(crate) since: Option<String>,
    /// Only before then.
    #[arg(long, value_name = "TIME|SPAN")]
    pub(crate) until: Option<String>,
    /// Only of this rotation, by its id.
    #[arg(long, value_name = "ID")]
    pub(crate) rotation: Option<String>,
    /// Only of this revocation, by its id.
    #[arg(long, value_name = "ID")]
    pub(crate) revocation: Option<String>,
    /// Only of this run of a playbook, by its id.
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    /// Only of this trace: 32 hexadecimal digits.
    #[arg(long, value_name = "TRACE")]
    pub(crate) trace: Option<String>,
}

/// `history`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keywheel history prod/db --at 2026-11-28T14:02:00Z\n  keywheel history prod/db --at 24h\n\nThe log is folded up to that time: it tells what Keywheel knew then."
)]
pub(crate) struct HistoryArgs {
    /// The secret.
    pub(crate) name: String,
    /// When: a time (2026-11-28T14:02:00Z), or how long ago (30m, 24h); without it, now.
    #[arg(long, value_name = "TIME|SPAN")]
    pub(crate) at: Option<String>,
}
