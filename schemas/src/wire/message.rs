//! What is said on the bus: every kind of body with its word, and the shapes of those that are not a
//! document of their own. Ids are uuids, bytes standard base64, unknown members are refused.
//!
//! The bus writes and reads these; the AsyncAPI document is made from them.

use keywheel_core::id::{CommandId, DeliveryId, HostId, RotationId, SecretId};
use keywheel_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::store::{CredentialNow, Looked, PlannedUse};
use crate::event::store::NamedStore;
use crate::leaf::Octets;
use crate::mirror::Text;
use crate::subject::MAX_FRAME_BYTES;

/// Writes every kind of body with its word and what it says.
macro_rules! kinds {
    ($($kind:ident = $word:literal, $says:literal;)*) => {
        /// Which body.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $(#[doc = $says] $kind),* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Its word in a message's type.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$kind => $word),* }
            }

            /// What it says, for people.
            #[must_use]
            pub const fn says(self) -> &'static str {
                match self { $(Self::$kind => $says),* }
            }
        }
    };
}

kinds! {
    Event = "event", "An event was appended to the log.";
    Audit = "audit", "An audit record was appended to the tree.";
    Work = "work", "An effect waits to be performed.";
    Plan = "plan", "A host's plan, whole.";
    Submit = "submit", "A worker submits a command.";
    Verdict = "verdict", "What became of a command.";
    ReadEvents = "read-events", "Asks for events after a number.";
    Events = "events", "Events.";
    ReadAudit = "read-audit", "Asks for audit records from an index on.";
    AuditLeaves = "audit-leaves", "Audit records.";
    ReadPlan = "read-plan", "A host asks for its plan.";
    ReadHosts = "read-hosts", "Asks whose key speaks for which host.";
    Hosts = "hosts", "Every host that ever joined, with its key; no names.";
    Renew = "renew", "Asks for fresh credentials for the sender.";
    Renewed = "renewed", "Those credentials; no private key.";
    OpenValue = "open-value", "A host asks for a value it was granted; store-sync asks whether the grant holds.";
    Granted = "granted", "The grant holds at the log's head; the value goes to this key.";
    SealedValue = "sealed-value", "A value, sealed to one host's key (HPKE).";
    ReadStoreKey = "read-store-key", "Asks for the key to which provided values are sealed.";
    StoreKey = "store-key", "That key (X25519).";
    Stash = "stash", "Keep a provided, sealed value until its rotation takes it.";
    DropStash = "drop-stash", "Drop a kept value.";
    ReadStores = "read-stores", "Asks what changed about stores outside after an event; answered when something did.";
    Stores = "stores", "What changed about stores outside, and about what lies in them; no values.";
    CheckStore = "check-store", "Try a store that is about to be declared.";
    Tried = "tried", "That store works; what could not be tried there, in words.";
    LookNow = "look-now", "Look at places outside now.";
    Looked = "looked", "What those looks gave; no values.";
    Compare = "compare", "Asks which versions hold tokens that were reported, by their digests under a key of this one comparison.";
    Compared = "compared", "The versions that hold them; no values.";
    ReadSeal = "read-seal", "Asks how store-sync is sealed.";
    SealState = "seal-state", "How it is: whether it opens values, and how many shares are there.";
    Unseal = "unseal", "A share or a passphrase, sealed to one run of store-sync (HPKE).";
    Seal = "seal", "Drop every key.";
    RotateKek = "rotate-kek", "Wrap every data key anew.";
    Presence = "presence", "What one running instance tells about itself.";
    Done = "done", "Done, nothing to tell.";
    Failed = "failed", "It did not work, and why.";
}

/// First words of a message's type.
const TYPE_PREFIX: &str = "dev.keywheel.bus.";
/// Last word of a message's type.
const TYPE_SUFFIX: &str = ".v1";

impl Kind {
    /// The CloudEvents type.
    #[must_use]
    pub fn type_name(self) -> String {
        format!("{TYPE_PREFIX}{}{TYPE_SUFFIX}", self.word())
    }

    /// The kind of a CloudEvents type.
    #[must_use]
    pub fn of_type(name: &str) -> Option<Self> {
        let word = name.strip_prefix(TYPE_PREFIX)?.strip_suffix(TYPE_SUFFIX)?;
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }
}

/// Bytes as base64, bounded by a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Octet(Text<Octets<MAX_FRAME_BYTES>>);

impl Octet {
    /// Of these.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Text(Octets(bytes.to_vec())))
    }

    /// Those bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.0.0
    }
}

/// Writes shapes of bodies: structs whose unknown members are refused.
macro_rules! shapes {
    ($($(#[$meta:meta])* $name:ident {
        $($(#[$fmeta:meta])* $field:ident: $type:ty),* $(,)?
    })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type),* }
    )*};
}

shapes! {
    /// A body that says all by its type.
    Nothing {}
    /// An event as it is in the log.
    EventShape {
        /// Its place in the log.
        number: u64,
        /// Chain hash up to it.
        hash: Text<[u8; 32]>,
        /// The gateway's signature over the hash.
        signature: Octet,
        /// The event: the very JSON text that was hashed.
        #[schemars(with = "Value")]
        event: Box<RawValue>,
    }
    /// Events.
    EventsShape {
        /// In log order.
        events: Vec<EventShape>,
    }
    /// An audit record as it is in the tree.
    RecordShape {
        /// Its index in the tree.
        index: u64,
        /// The record: the very JSON text that was hashed.
        #[schemars(with = "Value")]
        record: Box<RawValue>,
    }
    /// Audit records.
    RecordsShape {
        /// In tree order.
        records: Vec<RecordShape>,
    }
    /// An effect, and from when on nobody begins a call for it.
    WorkShape {
        /// The effect.
        #[schemars(with = "Value")]
        effect: Box<RawValue>,
        /// After this no call of a store begins.
        deadline: Text<Timestamp>,
        /// Whether it was never sent before; else whoever performs it looks first whether it was done.
        first: bool,
    }
    /// A command and its id.
    SubmitShape {
        /// A repeat gets the first answer.
        id: Text<CommandId>,
        /// The command.
        #[schemars(with = "Value")]
        command: Box<RawValue>,
    }
    /// Which events.
    ReadEventsShape {
        /// Those with greater numbers.
        after: u64,
        /// At most so many.
        limit: u64,
    }
    /// After which event.
    ReadStoresShape {
        /// Its number.
        after: u64,
        /// Whether to answer only when something did change, or after a while.
        wait: bool,
    }
    /// A store to try.
    CheckStoreShape {
        /// The store.
        store: NamedStore,
        /// Secrets with its credentials.
        credentials: Vec<CredentialNow>,
        /// Places in it that secrets are about to have.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        places: Vec<PlannedUse>,
    }
    /// What trying a store gave.
    TriedShape {
        /// What could not be tried, in words.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        untried: Vec<String>,
    }
    /// Where to look.
    LookNowShape {
        /// At one secret's place; absent for all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<Text<SecretId>>,
    }
    /// What looks gave.
    LookedShape {
        /// One for each place.
        looks: Vec<Looked>,
    }
    /// What to compare.
    CompareShape {
        /// The key, made for this comparison alone: HPKE envelope to store-sync's key.
        sealed_key: Octet,
        /// HMAC-SHA-256 of each token under it.
        digests: Vec<Text<[u8; 32]>>,
        /// Versions whose values are compared.
        among: Vec<VersionShape>,
    }
    /// A version of a secret.
    VersionShape {
        /// The secret.
        secret: Text<SecretId>,
        /// The version.
        version: u64,
    }
    /// What holds a token.
    ComparedShape {
        /// Versions.
        held: Vec<HeldShape>,
    }
    /// A version that holds a token.
    HeldShape {
        /// Which of the tokens, from 0 on.
        token: u32,
        /// The secret.
        secret: Text<SecretId>,
        /// The version.
        version: u64,
    }
    /// How store-sync is sealed.
    SealStateShape {
        /// Whether values cannot be opened.
        sealed: bool,
        /// Who gives the key: `key-file`, `passphrase`, `shamir`, `kms` or `transit`.
        provider: String,
        /// What shares and passphrases are sealed to (X25519).
        key: Text<[u8; 32]>,
        /// How many shares are there; absent where none are taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shares: Option<SharesShape>,
        /// Rows of the cache under a key that goes; absent when there is one key alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kek_rows_left: Option<u64>,
    }
    /// How many shares are there.
    SharesShape {
        /// So many.
        have: u8,
        /// So many are needed.
        need: u8,
    }
    /// What may unseal store-sync.
    UnsealShape {
        /// HPKE envelope.
        offered: Octet,
    }
    /// Which audit records.
    ReadAuditShape {
        /// The first index.
        from: u64,
        /// At most so many.
        limit: u64,
    }
    /// Which host.
    HostShape {
        /// The host.
        host: Text<HostId>,
    }
    /// A host's key.
    HostKeysShape {
        /// The host.
        host: Text<HostId>,
        /// It signs with the other half of this key (Ed25519).
        signing_key: Text<[u8; 32]>,
        /// Counts its keys.
        generation: u64,
        /// It is trusted with nothing any more.
        evicted: bool,
    }
    /// Every host's key.
    HostsShape {
        /// In no order.
        hosts: Vec<HostKeysShape>,
    }
    /// What a member asks for its credentials, or what it gets.
    RenewalShape {
        /// JSON, without any private key.
        text: Octet,
    }
    /// Which value under which grant.
    ValueShape {
        /// For which host.
        host: Text<HostId>,
        /// Of which secret.
        secret: Text<SecretId>,
        /// The version.
        version: u64,
        /// The grant.
        delivery: Text<DeliveryId>,
    }
    /// To which key a value goes.
    GrantedShape {
        /// The host's sealing key (X25519).
        sealing_key: Text<[u8; 32]>,
    }
    /// A sealed value.
    SealedShape {
        /// HPKE envelope.
        sealed: Octet,
    }
    /// A public key.
    KeyShape {
        /// X25519.
        key: Text<[u8; 32]>,
    }
    /// A provided value, sealed.
    StashShape {
        /// For which rotation.
        rotation: Text<RotationId>,
        /// HPKE envelope.
        sealed: Octet,
    }
    /// Which rotation.
    RotationShape {
        /// The rotation.
        rotation: Text<RotationId>,
    }
    /// What did not work.
    FailedShape {
        /// What sort.
        kind: ErrorWord,
        /// What and why, without a value.
        text: String,
    }
}

/// The answer to a submit.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum VerdictShape {
    /// It is in the log.
    Accepted {
        /// Its last event's number.
        number: u64,
    },
    /// It is not.
    Rejected {
        /// What sort.
        kind: RejectionWord,
        /// Why.
        text: String,
    },
}

/// Sorts of "no".
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectionWord {
    /// The thing does not exist.
    NotFound,
    /// It conflicts with what is there.
    Conflict,
    /// It makes no sense.
    Invalid,
}

/// Sorts of failure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorWord {
    /// Somebody else was first.
    Conflict,
    /// The thing does not exist.
    NotFound,
    /// The other side says no.
    Denied,
    /// It may work later.
    Unavailable,
    /// What was read is not what was written.
    Corrupt,
}
