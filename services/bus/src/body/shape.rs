//! The port's types and the shapes of bodies, one way and back.

use keywheel_core::decision::RejectionKind;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::bus::{Body, HostKeys, ValueRequest};
use keywheel_engine::port::journal::Verdict;
use keywheel_schemas::mirror::Text;
use keywheel_schemas::wire::message::{
    ErrorWord, FailedShape, HostKeysShape, HostsShape, RejectionWord, ValueShape, VerdictShape,
};

pub(super) fn wide(limit: usize) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}

pub(super) fn narrow(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

pub(super) fn hosts(hosts: &[HostKeys]) -> HostsShape {
    let of = |keys: &HostKeys| HostKeysShape {
        host: Text(keys.host),
        signing_key: Text(keys.signing_key),
        generation: keys.generation,
        evicted: keys.evicted,
    };
    HostsShape {
        hosts: hosts.iter().map(of).collect(),
    }
}

pub(super) fn to_hosts(shape: HostsShape) -> Vec<HostKeys> {
    let keys = |shape: HostKeysShape| HostKeys {
        host: shape.host.0,
        signing_key: shape.signing_key.0,
        generation: shape.generation,
        evicted: shape.evicted,
    };
    shape.hosts.into_iter().map(keys).collect()
}

pub(super) const fn value(request: &ValueRequest) -> ValueShape {
    ValueShape {
        host: Text(request.host),
        secret: Text(request.secret),
        version: request.version,
        delivery: Text(request.delivery),
    }
}

pub(super) const fn to_value(shape: &ValueShape) -> ValueRequest {
    ValueRequest {
        host: shape.host.0,
        secret: shape.secret.0,
        version: shape.version,
        delivery: shape.delivery.0,
    }
}

pub(super) fn verdict(verdict: &Verdict) -> VerdictShape {
    match verdict {
        Verdict::Accepted { number } => VerdictShape::Accepted { number: *number },
        Verdict::Rejected { kind, text } => VerdictShape::Rejected {
            kind: match kind {
                RejectionKind::NotFound => RejectionWord::NotFound,
                RejectionKind::Conflict => RejectionWord::Conflict,
                RejectionKind::Invalid => RejectionWord::Invalid,
            },
            text: text.clone(),
        },
    }
}

pub(super) fn to_verdict(shape: VerdictShape) -> Verdict {
    match shape {
        VerdictShape::Accepted { number } => Verdict::Accepted { number },
        VerdictShape::Rejected { kind, text } => Verdict::Rejected {
            kind: match kind {
                RejectionWord::NotFound => RejectionKind::NotFound,
                RejectionWord::Conflict => RejectionKind::Conflict,
                RejectionWord::Invalid => RejectionKind::Invalid,
            },
            text,
        },
    }
}

pub(super) fn failed(kind: ErrorKind, text: &str) -> FailedShape {
    let kind = match kind {
        ErrorKind::Conflict => ErrorWord::Conflict,
        ErrorKind::NotFound => ErrorWord::NotFound,
        ErrorKind::Denied => ErrorWord::Denied,
        ErrorKind::Unavailable => ErrorWord::Unavailable,
        ErrorKind::Corrupt => ErrorWord::Corrupt,
    };
    let text = text.to_owned();
    FailedShape { kind, text }
}

pub(super) fn to_failed(shape: FailedShape) -> Body {
    let kind = match shape.kind {
        ErrorWord::Conflict => ErrorKind::Conflict,
        ErrorWord::NotFound => ErrorKind::NotFound,
        ErrorWord::Denied => ErrorKind::Denied,
        ErrorWord::Unavailable => ErrorKind::Unavailable,
        ErrorWord::Corrupt => ErrorKind::Corrupt,
    };
    let text = shape.text;
    Body::Failed { kind, text }
}
