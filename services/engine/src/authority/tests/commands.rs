//! Each command, beside the role that may submit it.

use keywheel_core::audit::Principal;
use keywheel_core::binding::{Reload, Selector, Target};
use keywheel_core::command::{Declaration, Observation, Outward, ProofTaken, Replacing};
use keywheel_core::id::{BindingId, JoinTokenId, RunId, SlotId, StoreId};
use keywheel_core::name::{BindingName, BusKey, EnvName, NotificationName, SecretName};
use keywheel_core::report::HostReport;
use keywheel_core::revocation::Proof;
use keywheel_core::rotation::{Intervention, Step};
use keywheel_core::secret;

use super::*;

fn name() -> SecretName {
    SecretName::parse("prod/db").unwrap()
}

fn people_commands() -> Vec<Command> {
    let spec = secret::Spec::default();
    let apply = Command::Apply(vec![Declaration::Secret {
        id: SECRET,
        rotation: ROTATION,
        name: name(),
        spec,
    }]);
    let bind = Command::Apply(vec![Declaration::Binding {
        id: BindingId::default(),
        name: BindingName::parse("b").unwrap(),
        secret: name(),
        also: std::collections::BTreeSet::new(),
        previous: std::collections::BTreeSet::new(),
        selector: Selector::default(),
        target: Target::Env {
            name: EnvName::parse("A").unwrap(),
        },
        reload: Reload::None,
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    }]);
    let unbind = Command::Unbind {
        name: BindingName::parse("b").unwrap(),
    };
    let put = Command::Put {
        id: SECRET,
        rotation: ROTATION,
        name: name(),
        provided: true,
    };
    let rotate = Command::Rotate {
        rotation: ROTATION,
        secret: name(),
    };
    let revoke = Command::Revoke {
        revocation: REVOCATION,
        secret: name(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    };
    let name = StoreName::parse("aws").unwrap();
    let remove = Command::RemoveStore { name };
    let forget = Command::ForgetRevocation {
        revocation: REVOCATION,
        by: Principal::Service(Role::Gateway),
        reason: "gone".to_owned(),
    };
    let soc = NotificationName::parse("soc").unwrap();
    let silence = Command::Outward(Outward::RemoveNotification(soc));
    let mut commands = vec![
        apply, bind, unbind, put, rotate, revoke, remove, forget, silence,
    ];
    commands.extend(interventions());
    commands.extend(host_commands());
    commands
}

fn interventions() -> [Command; 2] {
    let (rotation, reason) = (ROTATION, "leaked".to_owned());
    let abort = Command::Intervene {
        rotation,
        intervention: Intervention::Abort,
        reason: reason.clone(),
    };
    let replace = Command::Replace(Replacing {
        revocation: REVOCATION,
        rotation,
        secret: name(),
        version: None,
        reason,
        is_emergency: false,
    });
    [abort, replace]
}

fn host_commands() -> Vec<Command> {
    let (host, token) = (HOST, JoinTokenId::default());
    let name = HostName::parse("h").unwrap();
    let (signing_key, sealing_key, secret_hash) = ([1; 32], [2; 32], [3; 32]);
    let issue = Command::IssueJoinToken(host::TokenRequest {
        host,
        name: name.clone(),
        token,
        secret_hash,
        expires_at: Timestamp::default(),
    });
    let join = Command::JoinHost(host::JoinRequest {
        host,
        name,
        token,
        secret_hash,
        signing_key,
        sealing_key,
    });
    let rotate = Command::RotateHostKey(host::KeyRequest {
        host,
        signing_key,
        sealing_key,
        generation: 2,
    });
    let evict = Command::EvictHost {
        host,
        reason: "stolen".to_owned(),
    };
    let permit = Command::NotePermit(host::PermitRequest {
        host,
        key: BusKey::parse(&"U".repeat(56)).unwrap(),
        expires_at: Timestamp::default(),
    });
    vec![issue, join, rotate, permit, evict, playbook_advance()]
}

fn empty_report() -> HostReport {
    HostReport {
        generation: 1,
        complete: true,
        ..HostReport::empty(HOST)
    }
}

fn playbook_due() -> Command {
    Command::Playbook(Request::Due {
        run: RunId::default(),
        step: "ask".to_owned(),
    })
}

fn playbook_advance() -> Command {
    Command::Playbook(Request::Advance {
        run: RunId::default(),
    })
}

pub(super) fn worker_commands() -> Vec<(Role, Command)> {
    let rotation = ROTATION;
    let due = Command::Due {
        rotation,
        secret: SECRET,
        slot: SlotId::default(),
        scheduled: Timestamp::default(),
        after: None,
        tzdata: None,
    };
    let step = Command::StepOutcome {
        rotation,
        step: Step::Create,
        attempt: 1,
        failure: None,
        is_away: false,
        remote: None,
        sessions: None,
    };
    let revoked = Command::RevokeOutcome {
        revocation: REVOCATION,
        attempt: 1,
        failure: None,
    };
    let proven = Command::ProofOutcome(ProofTaken {
        revocation: REVOCATION,
        attempt: 1,
        proof: Proof::default(),
    });
    let seen = Observation {
        secret: SECRET,
        rotation: ROTATION,
        known: None,
        found: None,
        is_unchanged: false,
        is_gone: false,
    };
    let enrol = Command::EnrolHost {
        host: HOST,
        name: HostName::parse("h").unwrap(),
        sealing_key: [0; 32],
    };
    let contact = Command::StoreContact {
        store: StoreId::from_bytes([0x77; 16]),
        failure: None,
    };
    vec![
        (Role::Scheduler, due),
        (Role::Scheduler, Command::DeadlinePassed { rotation }),
        (Role::Scheduler, Command::RetryStep { rotation }),
        (
            Role::Scheduler,
            Command::RetryRevoke {
                revocation: REVOCATION,
            },
        ),
        (Role::Scheduler, Command::LingerEnded { secret: SECRET }),
        (Role::Scheduler, playbook_due()),
        (Role::StoreSync, step),
        (Role::StoreSync, revoked),
        (Role::StoreSync, proven),
        (Role::StoreSync, Command::Observed(seen)),
        (Role::StoreSync, contact),
        (Role::Injector, enrol),
        (Role::Injector, Command::Report(empty_report())),
    ]
}

pub(super) fn all_commands() -> Vec<(Role, Command)> {
    let people = people_commands();
    let mut all: Vec<_> = people
        .into_iter()
        .map(|command| (Role::Gateway, command))
        .collect();
    all.extend(worker_commands());
    all
}
