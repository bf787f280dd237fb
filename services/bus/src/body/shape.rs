//! Shapes of bodies that the core does not know: ids as uuids, bytes as standard base64, unknown
//! members refused.

use keywheel_core::decision::RejectionKind;
use keywheel_core::id::{CommandId, DeliveryId, HostId, RotationId, SecretId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::bus::{Body, HostKeys, ValueRequest};
use keywheel_engine::port::journal::Verdict;
use keywheel_schemas::leaf::Octets;
use keywheel_schemas::mirror::Text;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::envelope::MAX_MESSAGE_BYTES;

/// Bytes as base64, bounded by a message.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Octet(Text<Octets<MAX_MESSAGE_BYTES>>);

impl Octet {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Text(Octets(bytes.to_vec())))
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.0.0
    }
}

/// Writes a shape of a body: a struct whose unknown members are refused.
macro_rules! shapes {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name { $(pub(crate) $field: $type),* }
    )*};
}

shapes! {
    /// A body that says all by its type.
    Nothing {}
    /// An event as it is in the log.
    EventShape { number: u64, hash: Text<[u8; 32]>, signature: Octet, event: Box<RawValue> }
    /// Events.
    EventsShape { events: Vec<EventShape> }
    /// An audit record as it is in the tree.
    RecordShape { index: u64, record: Box<RawValue> }
    /// Audit records.
    RecordsShape { records: Vec<RecordShape> }
    /// An effect, and from when on nobody begins a call for it.
    WorkShape { effect: Box<RawValue>, deadline: Text<Timestamp> }
    /// A command and its id.
    SubmitShape { id: Text<CommandId>, command: Box<RawValue> }
    /// Which events.
    ReadEventsShape { after: u64, limit: u64 }
    /// Which audit records.
    ReadAuditShape { from: u64, limit: u64 }
    /// Which host.
    HostShape { host: Text<HostId> }
    /// A host's key.
    HostKeysShape { host: Text<HostId>, signing_key: Text<[u8; 32]>, generation: u64, evicted: bool }
    /// Every host's key.
    HostsShape { hosts: Vec<HostKeysShape> }
    /// What a member asks for its credentials, or what it gets.
    RenewalShape { text: Octet }
    /// Which value under which grant.
    ValueShape {
        host: Text<HostId>,
        secret: Text<SecretId>,
        version: u64,
        delivery: Text<DeliveryId>,
    }
    /// To which key a value goes.
    GrantedShape { sealing_key: Text<[u8; 32]> }
    /// A sealed value.
    SealedShape { sealed: Octet }
    /// A public key.
    KeyShape { key: Text<[u8; 32]> }
    /// A provided value, sealed.
    StashShape { rotation: Text<RotationId>, sealed: Octet }
    /// Which rotation.
    RotationShape { rotation: Text<RotationId> }
    /// What did not work.
    FailedShape { kind: ErrorWord, text: String }
}

/// The answer to a submit.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum VerdictShape {
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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RejectionWord {
    NotFound,
    Conflict,
    Invalid,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorWord {
    Conflict,
    NotFound,
    Denied,
    Unavailable,
    Corrupt,
}

fn wide(limit: usize) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}

fn narrow(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl ReadEventsShape {
    pub(crate) fn of(after: u64, limit: usize) -> Self {
        let limit = wide(limit);
        Self { after, limit }
    }

    pub(crate) fn parts(self) -> (u64, usize) {
        (self.after, narrow(self.limit))
    }
}

impl ReadAuditShape {
    pub(crate) fn of(from: u64, limit: usize) -> Self {
        let limit = wide(limit);
        Self { from, limit }
    }

    pub(crate) fn parts(self) -> (u64, usize) {
        (self.from, narrow(self.limit))
    }
}

impl HostsShape {
    pub(crate) fn of(hosts: &[HostKeys]) -> Self {
        let of = |keys: &HostKeys| HostKeysShape {
            host: Text(keys.host),
            signing_key: Text(keys.signing_key),
            generation: keys.generation,
            evicted: keys.evicted,
        };
        Self {
            hosts: hosts.iter().map(of).collect(),
        }
    }

    pub(crate) fn into_port(self) -> Vec<HostKeys> {
        let keys = |shape: HostKeysShape| HostKeys {
            host: shape.host.0,
            signing_key: shape.signing_key.0,
            generation: shape.generation,
            evicted: shape.evicted,
        };
        self.hosts.into_iter().map(keys).collect()
    }
}

impl ValueShape {
    pub(crate) const fn of(request: &ValueRequest) -> Self {
        Self {
            host: Text(request.host),
            secret: Text(request.secret),
            version: request.version,
            delivery: Text(request.delivery),
        }
    }

    pub(crate) fn into_port(self) -> ValueRequest {
        ValueRequest {
            host: self.host.0,
            secret: self.secret.0,
            version: self.version,
            delivery: self.delivery.0,
        }
    }
}

impl VerdictShape {
    pub(crate) fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Accepted { number } => Self::Accepted { number: *number },
            Verdict::Rejected { kind, text } => Self::Rejected {
                kind: match kind {
                    RejectionKind::NotFound => RejectionWord::NotFound,
                    RejectionKind::Conflict => RejectionWord::Conflict,
                    RejectionKind::Invalid => RejectionWord::Invalid,
                },
                text: text.clone(),
            },
        }
    }

    pub(crate) fn into_port(self) -> Verdict {
        match self {
            Self::Accepted { number } => Verdict::Accepted { number },
            Self::Rejected { kind, text } => Verdict::Rejected {
                kind: match kind {
                    RejectionWord::NotFound => RejectionKind::NotFound,
                    RejectionWord::Conflict => RejectionKind::Conflict,
                    RejectionWord::Invalid => RejectionKind::Invalid,
                },
                text,
            },
        }
    }
}

impl FailedShape {
    pub(crate) fn of(kind: ErrorKind, text: &str) -> Self {
        let kind = match kind {
            ErrorKind::Conflict => ErrorWord::Conflict,
            ErrorKind::NotFound => ErrorWord::NotFound,
            ErrorKind::Denied => ErrorWord::Denied,
            ErrorKind::Unavailable => ErrorWord::Unavailable,
            ErrorKind::Corrupt => ErrorWord::Corrupt,
        };
        let text = text.to_owned();
        Self { kind, text }
    }

    pub(crate) fn into_port(self) -> Body {
        let kind = match self.kind {
            ErrorWord::Conflict => ErrorKind::Conflict,
            ErrorWord::NotFound => ErrorKind::NotFound,
            ErrorWord::Denied => ErrorKind::Denied,
            ErrorWord::Unavailable => ErrorKind::Unavailable,
            ErrorWord::Corrupt => ErrorKind::Corrupt,
        };
        let text = self.text;
        Body::Failed { kind, text }
    }
}
