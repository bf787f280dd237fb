//! The moves of a random history, and the things they are about.

use super::*;

/// One move; small numbers are taken modulo what exists.
#[derive(Debug, Clone)]
pub(super) enum Move {
    ApplySecret(u8, bool),
    ApplyBinding {
        binding: u8,
        secret: u8,
        /// Its templates name the other secret, too.
        also: bool,
        host: Option<u8>,
        form: u8,
    },
    Unbind(u8),
    Put(u8, bool),
    Rotate(u8),
    Due(u8, u8),
    Revoke(u8, Option<u8>),
    Enrol(u8),
    Token(u8),
    /// Someone comes with the first open token, and with the right secret or not.
    Join(bool),
    Evict(u8),
    Answer {
        fails: bool,
        late: bool,
    },
    AnswerRevoke {
        fails: bool,
        late: bool,
    },
    Retry,
    RetryRevoke,
    Deadline,
    /// A person steps into one of the rotations that are known.
    StepIn(u8, u8),
    Report {
        host: u8,
        items: Vec<(u8, u8, u8, u8)>,
        holds: Vec<(u8, u8)>,
        complete: bool,
        current_plan: bool,
    },
    HonestReport(u8),
    /// A container starts on what its host's plan gives.
    Start {
        host: u8,
        container: u8,
        binding: u8,
    },
}

pub(super) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let item = (0..CONTAINERS, 0..BINDINGS, 0..5_u8, 0..3_u8);
    let lie = (
        0..HOSTS,
        prop::collection::vec(item, 0..4),
        prop::collection::vec((0..SECRETS, 0..3_u8), 0..3),
        any::<bool>(),
        any::<bool>(),
    );
    let one = prop_oneof![
        2 => (0..SECRETS, any::<bool>()).prop_map(|(n, generated)| Move::ApplySecret(n, generated)),
        3 => (0..BINDINGS, 0..SECRETS, prop::bool::weighted(0.3), prop::option::of(0..HOSTS), 0..3_u8)
            .prop_map(|(binding, secret, also, host, form)| Move::ApplyBinding { binding, secret, also, host, form }),
        1 => (0..BINDINGS).prop_map(Move::Unbind),
        2 => (0..SECRETS, any::<bool>()).prop_map(|(n, provided)| Move::Put(n, provided)),
        4 => (0..SECRETS).prop_map(Move::Rotate),
        2 => (0..SECRETS, 0..4_u8).prop_map(|(n, slot)| Move::Due(n, slot)),
        2 => (0..SECRETS, prop::option::of(0..3_u8)).prop_map(|(n, version)| Move::Revoke(n, version)),
        2 => (0..HOSTS).prop_map(Move::Enrol),
        1 => (0..HOSTS).prop_map(Move::Token),
        1 => any::<bool>().prop_map(Move::Join),
        1 => (0..HOSTS).prop_map(Move::Evict),
        20 => (prop::bool::weighted(0.15), prop::bool::weighted(0.05)).prop_map(|(fails, late)| Move::Answer { fails, late }),
        3 => (any::<bool>(), prop::bool::weighted(0.1)).prop_map(|(fails, late)| Move::AnswerRevoke { fails, late }),
        4 => Just(Move::Retry),
        2 => Just(Move::RetryRevoke),
        1 => Just(Move::Deadline),
        3 => (any::<u8>(), 0..3_u8).prop_map(|(nth, how)| Move::StepIn(nth, how)),
        6 => lie.prop_map(|(host, items, holds, complete, current_plan)| Move::Report { host, items, holds, complete, current_plan }),
        6 => (0..HOSTS).prop_map(Move::HonestReport),
        5 => (0..HOSTS, 0..CONTAINERS, 0..BINDINGS).prop_map(|(host, container, binding)| Move::Start { host, container, binding }),
    ];
    prop::collection::vec(one, 1..80)
}

pub(super) fn secret_id(n: u8) -> SecretId {
    SecretId::from_bytes([n + 1; 16])
}

pub(super) fn secret_name(n: u8) -> SecretName {
    SecretName::parse(&format!("secret-{n}")).unwrap()
}

pub(super) fn binding_id(n: u8) -> BindingId {
    BindingId::from_bytes([n + 1; 16])
}

pub(super) fn binding_name(n: u8) -> BindingName {
    BindingName::parse(&format!("binding-{n}")).unwrap()
}

pub(super) fn target(binding: u8, form: u8) -> Target {
    let name = format!("NAME_{binding}");
    if form == 2 {
        return Target::Env {
            name: EnvName::parse(&name).unwrap(),
        };
    }
    let Target::File {
        directory,
        uid,
        gid,
        mode,
        ..
    } = file()
    else {
        return env();
    };
    Target::File {
        directory,
        name: FileName::parse(&name).unwrap(),
        uid,
        gid,
        mode,
        template: None,
    }
}

pub(super) fn host_id(n: u8) -> HostId {
    HostId::from_bytes([n + 1; 16])
}

pub(super) fn host_name(n: u8) -> HostName {
    HostName::parse(&format!("host-{n}")).unwrap()
}
