//! Manifests: YAML in, wishes of the core out, or every fault at once with its position.
//!
//! Invariants: unknown fields are refused; what comes out is on every grammar and within every
//! limit; a fault's text never quotes the content of a field that is unknown, since people put
//! values there. Schedules are checked by whoever knows calendars, through a function passed in.

mod binding;
mod canary;
mod dynamic;
mod notification;
mod on_event;
mod playbook;
mod probe;
pub mod proposal;
mod reader;
mod reload;
mod rotation;
mod rotator;
mod scalar;
mod secret;
mod selector;
pub mod shape;
mod signal_source;
mod store;
mod tree;

#[cfg(test)]
mod tests;

pub use reload::parse_reload;
pub use scalar::{MAX_SIGNAL, signal_number};
pub use signal_source::{MAX_FIELD_NAME_BYTES, REPORTED_TOKEN};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use keywheel_core::binding::{OnRevoke, Reload, Selector, Target};
use keywheel_core::name::{
    BindingName, NotificationName, PlaybookName, SecretName, SignalSourceName, StoreName,
};
use keywheel_core::playbook::Spec as PlaybookSpec;
use keywheel_core::secret::Spec;
use keywheel_core::store::StoreSpec;
use keywheel_core::{notification as told, signal};

use reader::{Faults, Fields};

/// The one `apiVersion`.
pub const API_VERSION: &str = "keywheel.dev/v1";
/// Longest text with manifests, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;
/// Most documents in one text.
pub const MAX_DOCUMENTS: usize = 1000;
/// Deepest nesting of a document.
pub const MAX_DEPTH: usize = 32;
/// Most faults reported for one text; the rest is counted.
pub const MAX_FAULTS: usize = 100;
/// Longest cron line or zone name, in bytes.
pub const MAX_SCHEDULE_BYTES: usize = 128;
/// Shortest interval between rotations: below it a rotation would meet the one before.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Longest interval between rotations: ten years; longer means `on demand`.
pub const MAX_INTERVAL: Duration = Duration::from_secs(10 * 366 * 86_400);
/// Largest jitter: a day, or slots of daily schedules would overtake each other.
pub const MAX_JITTER: Duration = Duration::from_secs(86_400);
/// Shortest time that consumers of a secret are given: below it a reload has hardly begun.
pub const MIN_DEADLINE: Duration = Duration::from_secs(10);
/// Longest time that consumers of a secret are given: a week.
pub const MAX_DEADLINE: Duration = Duration::from_secs(7 * 86_400);
/// Shortest time for which canaries of a secret are watched: below it a container has hardly used the value.
pub const MIN_CANARY_WATCH: Duration = Duration::from_secs(1);
/// Longest time for which canaries of a secret are watched: a day, or a rotation a day would never end.
pub const MAX_CANARY_WATCH: Duration = Duration::from_secs(86_400);
/// Shortest largest age and lifetime of a version: what a rotation may take has to fit well within it.
pub const MIN_AGE: Duration = Duration::from_secs(60);
/// Most windows of one secret.
pub const MAX_WINDOWS: usize = 8;
/// Shortest time that a window stays open: below it a pause of the scheduler would miss it.
pub const MIN_WINDOW: Duration = Duration::from_secs(60);
/// Longest time that a window stays open: a month; longer is better said as a freeze.
pub const MAX_WINDOW: Duration = Duration::from_secs(31 * 86_400);
/// Most freezes of one secret.
pub const MAX_FREEZES: usize = 32;
/// Longest reason of a freeze, in bytes.
pub const MAX_REASON_BYTES: usize = 256;
/// Longest name of a group of secrets, in bytes.
pub const MAX_GROUP_BYTES: usize = 64;
/// Largest offset within a group: a month.
pub const MAX_OFFSET: Duration = Duration::from_secs(31 * 86_400);
/// Most rules on events of one secret.
pub const MAX_EVENT_RULES: usize = 8;
/// Longest settle or health timeout of a restart: an hour, well beyond the rotation's own deadline.
pub const MAX_RESTART_WAIT: Duration = Duration::from_secs(3600);
/// Most containers of a service that a rollout may restart, or let be unavailable, at the same time.
pub const MAX_ROLLOUT_CONTAINERS: u32 = 1000;
/// Longest time that a reload command may take.
pub const MAX_COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// Most words of a reload command, the program among them.
pub const MAX_COMMAND_WORDS: usize = 64;
/// Longest word of a reload command, in bytes.
pub const MAX_COMMAND_WORD_BYTES: usize = 4096;
/// Shortest request timeout of a store.
pub const MIN_STORE_TIMEOUT: Duration = Duration::from_millis(100);
/// Most labels in one selector.
pub const MAX_LABELS: usize = 64;
/// Longest label key or value, in bytes.
pub const MAX_LABEL_BYTES: usize = 4096;
/// Longest image name, in bytes.
pub const MAX_IMAGE_BYTES: usize = 512;
/// Longest name of a container in a selector, in bytes, a `*` at its end with it.
pub const MAX_CONTAINER_NAME_BYTES: usize = 128;
/// Longest user in a selector, in bytes.
pub const MAX_USER_BYTES: usize = 64;

/// Checks a cron line and its time zone; the text of a fault names what is wrong with which.
pub type CheckSchedule<'a> = &'a dyn Fn(&str, &str) -> Result<(), String>;

/// Line and column in the text, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

/// One document's wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// A secret.
    Secret {
        /// Its name.
        name: SecretName,
        /// What is asked of it.
        spec: Spec,
        /// Where the document begins.
        position: Position,
    },
    /// A store outside.
    Store {
        /// Its name.
        name: StoreName,
        /// What is declared.
        spec: StoreSpec,
        /// Where the document begins.
        position: Position,
    },
    /// A binding.
    Binding {
        /// Its name.
        name: BindingName,
        /// The secret, by name.
        secret: SecretName,
        /// Further secrets that its templates name.
        also: BTreeSet<SecretName>,
        /// Which containers.
        selector: Selector,
        /// In what form.
        target: Target,
        /// What happens on change.
        reload: Reload,
        /// Those whose version before the current one its templates name, too.
        previous: BTreeSet<SecretName>,
        /// What befalls a container that loses a revoked value.
        on_revoke: OnRevoke,
        /// Where the document begins.
        position: Position,
    },
    /// A notification.
    Notification {
        /// Its name.
        name: NotificationName,
        /// What is declared.
        spec: told::Spec,
        /// Where the document begins.
        position: Position,
    },
    /// A source of signals.
    SignalSource {
        /// Its name.
        name: SignalSourceName,
        /// What is declared.
        spec: signal::Spec,
        /// Where the document begins.
        position: Position,
    },
    /// A playbook.
    Playbook {
        /// Its name.
        name: PlaybookName,
        /// What is declared.
        spec: PlaybookSpec,
        /// Where the document begins.
        position: Position,
    },
}

impl Manifest {
    /// `Secret`, `Store`, `Binding`, `Notification`, `SignalSource` or `Playbook`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Secret { .. } => "Secret",
            Self::Store { .. } => "Store",
            Self::Binding { .. } => "Binding",
            Self::Notification { .. } => "Notification",
            Self::SignalSource { .. } => "SignalSource",
            Self::Playbook { .. } => "Playbook",
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Secret { name, .. } => name.as_str(),
            Self::Store { name, .. } => name.as_str(),
            Self::Binding { name, .. } => name.as_str(),
            Self::Notification { name, .. } => name.as_str(),
            Self::SignalSource { name, .. } => name.as_str(),
            Self::Playbook { name, .. } => name.as_str(),
        }
    }

    /// Where its document begins.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Self::Secret { position, .. }
            | Self::Store { position, .. }
            | Self::Binding { position, .. }
            | Self::Notification { position, .. }
            | Self::SignalSource { position, .. }
            | Self::Playbook { position, .. } => *position,
        }
    }
}

/// One fault, with the place to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The file, or whatever the text came from.
    pub file: String,
    /// The place in it.
    pub position: Position,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            position,
            message,
        } = self;
        write!(f, "{file}:{}:{}: {message}", position.line, position.column)
    }
}

impl std::error::Error for ManifestError {}

/// Reads manifests.
///
/// # Errors
/// With every fault of every document.
pub fn parse(
    text: &str,
    source_name: &str,
    check_schedule: CheckSchedule<'_>,
) -> Result<Vec<Manifest>, Vec<ManifestError>> {
    let mut faults = Faults::new(source_name);
    if text.len() > MAX_MANIFEST_BYTES {
        let message = format!(
            "the text has {} bytes; at most {MAX_MANIFEST_BYTES} are allowed; split it",
            text.len()
        );
        faults.add(Position::default(), message);
        return Err(faults.finish());
    }
    let documents = match tree::read_documents(text) {
        Ok(documents) => documents,
        Err((position, message)) => {
            faults.add(position, message);
            return Err(faults.finish());
        }
    };
    if documents.is_empty() {
        faults.add(Position { line: 1, column: 1 }, "there is no document in it; a manifest has `apiVersion`, `kind`, `metadata` and `spec`".to_owned());
    }
    let manifests: Vec<_> = documents
        .iter()
        .filter_map(|document| read_manifest(document, check_schedule, &mut faults))
        .collect();
    refuse_repeats(&manifests, &mut faults);
    if faults.is_empty() {
        Ok(manifests)
    } else {
        Err(faults.finish())
    }
}

/// The kinds and what each declares, for the text about an unknown one.
const KINDS: [&str; 6] = [
    "Secret",
    "Binding",
    "Store",
    "Notification",
    "SignalSource",
    "Playbook",
];

fn read_manifest(
    document: &tree::Located,
    check: CheckSchedule<'_>,
    faults: &mut Faults,
) -> Option<Manifest> {
    let known = ["apiVersion", "kind", "metadata", "spec"];
    let fields = Fields::of(document, "the document", &known, faults)?;
    read_version(&fields, faults);
    let kind = fields.required_text("kind", faults);
    let name = fields
        .required("metadata", faults)
        .and_then(|node| Fields::of(node, "metadata", &["name"], faults))
        .and_then(|metadata| metadata.required_text("name", faults));
    let spec = fields.required("spec", faults);
    let (kind, kind_at) = kind?;
    match kind {
        "Secret" => secret::read(name, spec?, fields.position, check, faults),
        "Binding" => binding::read(name, spec?, fields.position, faults),
        "Store" => store::read(name, spec?, fields.position, faults),
        "Notification" => notification::read(name, spec?, fields.position, faults),
        "SignalSource" => signal_source::read(name, spec?, fields.position, faults),
        "Playbook" => playbook::read(name, spec?, fields.position, check, faults),
        other => {
            let near = crate::near::nearest(other, &KINDS);
            let message = format!(
                "`{}` is not a kind{near}; known kinds: {}",
                crate::leaf::shorten(other),
                KINDS.join(", ")
            );
            faults.add(kind_at, message);
            None
        }
    }
}

fn read_version(fields: &Fields<'_>, faults: &mut Faults) {
    let Some((version, at)) = fields.required_text("apiVersion", faults) else {
        return;
    };
    if version != API_VERSION {
        let found = crate::leaf::shorten(version);
        faults.add(
            at,
            format!("apiVersion `{found}` is not known; write `{API_VERSION}`"),
        );
    }
}

fn refuse_repeats(manifests: &[Manifest], faults: &mut Faults) {
    let mut seen: BTreeMap<(&str, &str), Position> = BTreeMap::new();
    for manifest in manifests {
        let key = (manifest.kind(), manifest.name());
        if let Some(first) = seen.get(&key) {
            let message = format!(
                "{} `{}` is declared twice, first in line {}; keep one of them",
                manifest.kind(),
                manifest.name(),
                first.line
            );
            faults.add(manifest.position(), message);
        } else {
            seen.insert(key, manifest.position());
        }
    }
}
