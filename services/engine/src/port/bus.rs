//! The bus: how services and hosts talk. One value of [`Bus`] is one service's end of it.
//!
//! Laws. Topics: at least once per consumer name, in order per topic, each message once per id
//! within the transport's window; a message not acknowledged comes again; a topic is bounded and
//! drops its oldest, and a consumer that missed something sees a hole in `sequence` and reads the
//! gateway's log instead. Work topics: each message goes to one of the consumers. Newest-only topics
//! (plans, hosts): whoever subscribes sees the newest first. Presence is kept by nobody: whoever
//! subscribes sees what is said from then on, at most once, if it is of now. Requests: at most one answer; silence is
//! `Unavailable` after the timeout. Every message is signed by its sender, a host's by that host's own
//! key, and names its receiver; one that fails the check or comes from a role or host that may not
//! send it is dropped and counted, never handed on; likewise a request that is a copy of an earlier
//! one, or is old; likewise what its receiver says is stale. Who may not read a topic gets no subscription. Transport is never the only copy of
//! anything.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::effect::Effect;
use keywheel_core::event::Event;
use keywheel_core::host;
use keywheel_core::id::{CommandId, DeliveryId, HostId, RotationId, SecretId};
use keywheel_core::plan::HostPlan;
use keywheel_core::store::{self, CredentialNow, Looked, NamedStore, PlannedUse};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;

use super::journal::{AuditLeaf, RecordedEvent, Verdict};
use super::{ErrorKind, PortError};
use crate::presence::Presence;
use crate::unseal::SealState;

/// Most tokens, and most versions, of one [`Comparison`].
pub const MAX_COMPARED_TOKENS: usize = 100;
/// See [`MAX_COMPARED_TOKENS`].
pub const MAX_COMPARED_AT_ONCE: usize = 1000;
/// How the text of [`Body::Failed`] begins that comes in the place of an answer that its server could not send, as one
/// that is too large: whoever asked was refused nothing.
pub const UNSENT: &str = "the answer cannot be sent";
/// Messages a topic keeps for a slow consumer.
pub const TOPIC_CAPACITY: usize = 4096;

/// A stream of messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Every event, in log order.
    Events,
    /// Every audit record, in tree order.
    Audit,
    /// Effects for one role; each goes to one consumer.
    Work(Role),
    /// One host's plans; only the newest matters.
    Plan(HostId),
    /// Whose key speaks for which host; only the newest list matters.
    Hosts,
    /// What running instances tell about themselves; every gateway hears all of it.
    Presence,
}

/// Where requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// Submits and reads.
    Gateway,
    /// Values.
    StoreSync,
}

/// A message: who sends it, and what it says.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id; a repeat within the transport's window is dropped.
    pub id: [u8; 16],
    /// The sender's role; the bus fills it in and checks it against the signature.
    pub sender: Role,
    /// The sender's host, likewise; an injector has one, nobody else.
    pub host: Option<HostId>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What it says.
    pub body: Body,
}

/// Everything that is ever said on the bus. No secret value is among it; a sealed one is.
#[derive(Debug, Clone)]
pub enum Body {
    /// An event was appended.
    Event(RecordedEvent),
    /// An audit record was appended.
    Audit(AuditLeaf),
    /// An effect waits to be performed.
    Work {
        /// The effect.
        effect: Effect,
        /// From then on nobody begins a call for it; it is sent again with another one.
        deadline: Timestamp,
        /// Whether it was never sent before; else an earlier copy may have been performed.
        first: bool,
    },
    /// A host's plan changed.
    Plan(HostPlan),
    /// A worker submits a command.
    Submit {
        /// Chosen by the sender; a repeat gets the first answer.
        id: CommandId,
        /// The command.
        command: Command,
    },
    /// The answer to a submit.
    Verdict(Verdict),
    /// Asks for events after a number.
    ReadEvents {
        /// The number.
        after: u64,
        /// At most so many.
        limit: usize,
    },
    /// Events.
    Events(Vec<RecordedEvent>),
    /// Asks for audit leaves from an index on.
    ReadAudit {
        /// The index.
        from: u64,
        /// At most so many.
        limit: usize,
    },
    /// Audit leaves.
    AuditLeaves(Vec<AuditLeaf>),
    /// A host asks for its plan.
    ReadPlan {
        /// The host.
        host: HostId,
    },
    /// Asks whose key speaks for which host.
    ReadHosts,
    /// Every host that ever joined, with its key: no names.
    Hosts(Vec<HostKeys>),
    /// A service or host asks for fresh credentials for itself (JSON with public keys, no value).
    Renew(Vec<u8>),
    /// Those credentials (JSON; certificates and permits, no private key).
    Renewed(Vec<u8>),
    /// A host asks for a value it was granted; store-sync asks the gateway with the same words.
    OpenValue(ValueRequest),
    /// The grant holds at the log's head; values go to this key.
    Granted {
        /// The host's sealing key.
        sealing_key: [u8; 32],
    },
    /// The value, sealed to the host's key (HPKE envelope bytes).
    SealedValue(Vec<u8>),
    /// Asks for the key to which provided values are sealed.
    ReadStoreKey,
    /// That key (X25519).
    StoreKey([u8; 32]),
    /// Keep a provided value until its rotation takes it (HPKE envelope bytes).
    Stash {
        /// The rotation.
        token: RotationId,
        /// The sealed value.
        sealed: Vec<u8>,
    },
    /// Drop a kept value: the command that would have taken it was refused.
    DropStash {
        /// The rotation.
        token: RotationId,
    },
    /// What one running instance tells about itself; role and host are the sender's.
    Presence(Box<Presence>),
    /// store-sync asks what changed about stores after an event; answered when something did, or
    /// after a while with nothing.
    ReadStores {
        /// The event's number.
        after: u64,
        /// Whether to answer only when something did change, or after a while.
        wait: bool,
    },
    /// What changed about stores.
    Stores(Box<store::News>),
    /// Try a store that is about to be declared.
    CheckStore {
        /// The store.
        store: Box<NamedStore>,
        /// Secrets with its credentials.
        credentials: Vec<CredentialNow>,
        /// Places in it that secrets are about to have.
        places: Vec<PlannedUse>,
    },
    /// That store works; what could not be tried there, in words.
    Tried(Vec<String>),
    /// Look at places outside now: of one secret, or of all.
    LookNow {
        /// The secret.
        secret: Option<SecretId>,
    },
    /// What those looks gave.
    Looked(Vec<Looked>),
    /// Asks which versions hold tokens that somebody outside reported.
    Compare(Comparison),
    /// Those that do.
    Compared(Vec<Held>),
    /// Asks how store-sync is sealed.
    ReadSeal,
    /// How it is.
    SealState(SealState),
    /// Something that may unseal it: a share, a passphrase, or nothing where a key file does (HPKE envelope
    /// bytes, to the key of [`Self::SealState`]).
    Unseal {
        /// The envelope.
        offered: Vec<u8>,
    },
    /// Drop every key: nothing is opened until it is unsealed.
    Seal,
    /// Wrap every data key anew, and drop the keys before.
    RotateKek,
    /// Done, nothing to tell.
    Done,
    /// It did not work.
    Failed {
        /// What sort of failure.
        kind: ErrorKind,
        /// What and why, without a value.
        text: String,
    },
}

/// Reported tokens, each as its digest under a key that is made for this comparison alone, and what they are compared
/// with. No token is in it, and nobody but store-sync has the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The key, sealed to store-sync's own ([`comparison`]).
    ///
    /// [`comparison`]: crate::comparison
    pub sealed_key: Vec<u8>,
    /// HMAC-SHA-256 of each token under it.
    pub digests: Vec<[u8; 32]>,
    /// Versions whose values are compared, [`MAX_COMPARED_AT_ONCE`] at most.
    pub among: Vec<(SecretId, u64)>,
}

impl fmt::Debug for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tokens, versions) = (self.digests.len(), self.among.len());
        write!(f, "Comparison({tokens} tokens, {versions} versions, …)")
    }
}

/// A version that holds a reported token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Which of the comparison's tokens, from 0 on.
    pub token: u32,
    /// The secret.
    pub secret: SecretId,
    /// Its version.
    pub version: u64,
}

/// Whose key speaks for a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostKeys {
    /// The host.
    pub host: HostId,
    /// It signs with the other half of this key (Ed25519).
    pub signing_key: [u8; 32],
    /// Counts its keys; an older one never comes back.
    pub generation: u64,
    /// It is trusted with nothing any more, for good.
    pub evicted: bool,
}

impl HostKeys {
    /// Those of every host that joined. A host that only lives in the gateway's own machine has none.
    #[must_use]
    pub fn of_all(world: &World) -> Vec<Self> {
        let keys = |keys: host::HostKeys| Self {
            host: keys.host,
            signing_key: keys.signing_key,
            generation: keys.generation,
            evicted: keys.evicted,
        };
        host::host_keys(world).into_iter().map(keys).collect()
    }

    /// Whether another key speaks for a host from this event on, or none.
    #[must_use]
    pub const fn are_changed_by(event: &Event) -> bool {
        matches!(
            event,
            Event::Host(
                _,
                host::Event::Enrolled { .. }
                    | host::Event::KeyReplaced { .. }
                    | host::Event::Evicted { .. }
            )
        )
    }
}

/// Which value, for whom, under which grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueRequest {
    /// The host.
    pub host: HostId,
    /// The secret.
    pub secret: SecretId,
    /// The version.
    pub version: u64,
    /// The grant.
    pub delivery: DeliveryId,
}

/// A message from a topic.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its place in the topic; a hole means something was missed.
    pub sequence: u64,
    /// Whether it was handed out before.
    pub redelivered: bool,
    /// The message.
    pub message: Message,
}

/// One consumer's view of a topic.
#[async_trait]
pub trait Subscription: Send {
    /// The next message; `None` when the bus is shut down.
    async fn next(&mut self) -> Option<Incoming>;
    /// Done with it; it does not come again.
    async fn ack(&mut self, sequence: u64) -> Result<(), PortError>;
    /// Not done; it comes again after the delay.
    async fn nak(&mut self, sequence: u64, delay: Duration) -> Result<(), PortError>;
}

/// A request that waits for its answer; dropping it lets the sender time out.
#[async_trait]
pub trait Request: Send {
    /// What is asked.
    fn message(&self) -> &Message;
    /// Answers.
    async fn answer(self: Box<Self>, body: Body) -> Result<(), PortError>;
}

/// Requests to one address.
#[async_trait]
pub trait Requests: Send {
    /// The next request; `None` when the bus is shut down.
    async fn next(&mut self) -> Option<Box<dyn Request>>;
}

/// Where a message came from that is stale: of a state that its reader left behind long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It was read from a topic.
    Topic(Topic),
    /// It answered a question.
    Answer(Address),
}

/// One service's end of the bus.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Sends to a topic. `id` makes a repeat harmless.
    async fn publish(
        &self,
        topic: Topic,
        id: [u8; 16],
        traceparent: Option<String>,
        body: Body,
    ) -> Result<(), PortError>;
    /// Reads a topic under a consumer name, from now on.
    async fn subscribe(
        &self,
        topic: Topic,
        consumer: &str,
    ) -> Result<Box<dyn Subscription>, PortError>;
    /// Asks and waits for the answer.
    async fn request(
        &self,
        to: Address,
        traceparent: Option<String>,
        body: Body,
        timeout: Duration,
    ) -> Result<Body, PortError>;
    /// Of several gateways one tells the topics: this end does until then, by the monotonic clock, or
    /// does not (zero). What it said before its turn ended it does not say again to a bus server that
    /// lost it: another one said newer things since. An end that is told nothing has the turn for good.
    fn set_turn(&self, _ends: Duration) {}
    /// A message was handed on, and is stale: counted and said like one that the bus refuses. The
    /// reader acts on nothing in it, and acknowledges it.
    fn refuse_stale(&self, from: Source);
    /// Serves an address.
    async fn serve(&self, at: Address) -> Result<Box<dyn Requests>, PortError>;
}
