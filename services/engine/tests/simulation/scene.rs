//! What a run is about: two secrets, three bindings of three forms, two hosts, some containers; and in some runs
//! a third secret, of which each container has a login of its own.
//!
//! Names and ids only; who has them and what becomes of them is elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keywheel_core::binding::{
    DEFAULT_DIRECTORY, DEFAULT_HEALTH_TIMEOUT, DEFAULT_SETTLE, Reload, Rollout, Selector, Target,
};
use keywheel_core::command::{Command, Declaration};
use keywheel_core::id::{BindingId, ContainerId, HostId, RotationId, SecretId, StoreId};
use keywheel_core::lease::Lease;
use keywheel_core::name::{
    BindingName, Directory, EnvName, FileName, HostName, SecretName, StoreName,
};
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::schedule::{Ack, Canary, OnDeadline, RotationPolicy, Schedule};
use keywheel_core::secret::{self, Generator, Place, Spec};
use keywheel_core::store::{
    Backend, CredentialRef, OldVersions, Source, StoreSpec, VaultAuth, VaultSpec,
};

/// Secrets of a run.
pub(crate) const SECRETS: usize = 2;
/// Bindings of a run: as many as there are forms.
pub(crate) const BINDINGS: usize = 3;
/// Hosts of a run.
pub(crate) const HOSTS: usize = 2;
/// Places for containers on a host.
pub(crate) const CONTAINERS: usize = 3;

/// The path below which all of them lie.
pub(crate) const FOLDER: &str = "shop";
/// The secret whose containers have logins of their own.
const LEASED: SecretId = SecretId::from_bytes([0x1e; 16]);
/// Its binding.
pub(crate) const LEASED_BINDING: usize = 3;
/// The binding that gives a variable.
const VARIABLE: usize = 2;
/// How long a login is kept for a container that does not run.
const LINGER: Duration = Duration::from_secs(60);

/// How much may happen in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// What could happen at first: seeds that found something then do it by the same run still.
    First,
    /// People step in, deadlines force, restarts have leaves.
    People,
    /// Canaries and leases, too.
    Logins,
    /// Incidents, too, and servers that are away for long or tell less than they should.
    Incidents,
    /// An account of two passwords, too, of whose sessions nothing is said.
    Defaults,
    /// Playbooks, too, whose steps order nothing about containers.
    Playbooks,
    /// All there is: orders about containers, too.
    Whole,
}

/// What people may change their mind about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wishes {
    /// Of which secrets a deadline that passes kills the old version.
    pub(crate) forces: [bool; SECRETS],
    /// Whether containers restart under a rollout.
    pub(crate) rolls: bool,
    /// How many containers get a version before it is promoted; 0 for none.
    pub(crate) canaries: u32,
    /// Whether containers have logins of their own. Nobody changes that.
    pub(crate) leases: bool,
    /// Whether old passwords of the account die only once their sessions are gone, too. Nobody changes that.
    pub(crate) drains_all: bool,
    /// Whether the first secret opens an account that takes two passwords, and nothing is said of sessions. Nobody
    /// changes that.
    pub(crate) unsaid: bool,
    /// Whether people have playbooks. Nobody changes that.
    pub(crate) plays: bool,
    /// Whether runs of playbooks go on at once until they wait. Nobody changes that.
    pub(crate) is_eager: bool,
    /// Whether people approve what waits for them when everybody behaves.
    pub(crate) approve: bool,
}

/// How a binding's containers come to use a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// They read the file again by themselves.
    Read,
    /// They are sent a signal.
    Signal,
    /// They are restarted, for a variable.
    Restart,
}

/// A binding's form never changes, so neither does what its consumers have to show.
pub(crate) const fn form_of(reload: &Reload) -> Form {
    match reload {
        Reload::Signal(_) => Form::Signal,
        Reload::Restart { .. } => Form::Restart,
        _ => Form::Read,
    }
}

fn byte(n: usize) -> u8 {
    u8::try_from(n + 1).unwrap()
}

pub(crate) fn secret_id(n: usize) -> SecretId {
    SecretId::from_bytes([byte(n); 16])
}

pub(crate) fn secret_name(n: usize) -> SecretName {
    SecretName::parse(&format!("{FOLDER}/secret-{n}")).unwrap()
}

pub(crate) fn leased_name() -> SecretName {
    SecretName::parse(&format!("{FOLDER}/logins")).unwrap()
}

/// The store that makes them.
pub(crate) fn store_name() -> StoreName {
    StoreName::parse("bao").unwrap()
}

fn binding_id(n: usize) -> BindingId {
    BindingId::from_bytes([byte(n); 16])
}

pub(crate) fn binding_name(n: usize) -> BindingName {
    BindingName::parse(&format!("binding-{n}")).unwrap()
}

/// Whether a binding gives a variable, which only its program's end takes away.
pub(crate) fn is_variable(binding: BindingId) -> bool {
    binding == binding_id(VARIABLE)
}

/// A machine that was evicted and comes back is another host.
pub(crate) fn host_id(n: usize, life: usize) -> HostId {
    let mut id = [byte(n); 16];
    id[15] = byte(life);
    HostId::from_bytes(id)
}

pub(crate) fn host_name(n: usize) -> HostName {
    HostName::parse(&format!("host-{n}")).unwrap()
}

/// The n-th container that was ever made; a container made again is another one.
pub(crate) fn container_id(nth: u64) -> ContainerId {
    ContainerId::parse(&format!("{nth:064x}")).unwrap()
}

/// The secret whose old versions die only once their sessions are gone: it says so, or says nothing and opens an
/// account that takes two passwords; then only where a container without reload has it.
pub(crate) const DRAINED: usize = 0;

/// Whether a binding's containers restart only with leave.
pub(crate) const fn rolls(reload: &Reload) -> bool {
    matches!(
        reload,
        Reload::Restart {
            rollout: Some(_),
            ..
        }
    )
}

/// Makes a secret whose values are generated, and which rotates by itself. The last one opens an account of
/// one password: its hosts have each version before the server is told. The first one may open one of two.
pub(crate) fn apply_secret(n: usize, rotation: RotationId, wishes: &Wishes) -> Command {
    let (admin_id, resource) = match n {
        DRAINED => (OTHER_ADMIN, wishes.unsaid.then(double_account)),
        _ => (ADMIN, (n + 1 == SECRETS).then(account)),
    };
    let is_drained = n == DRAINED && !wishes.unsaid;
    let admin = resource.iter().map(|resource| Declaration::Secret {
        id: admin_id,
        rotation: RotationId::from_bytes([0xad; 16]),
        name: resource.admin.clone(),
        spec: Spec {
            credential_for: Some(resource.credential_server()),
            ..Spec::default()
        },
    });
    let mut declared: Vec<Declaration> = admin.collect();
    declared.push(Declaration::Secret {
        id: secret_id(n),
        rotation,
        name: secret_name(n),
        spec: Spec {
            generator: Some(Generator::default()),
            rotation: RotationPolicy {
                schedule: Schedule::Interval(Duration::from_secs(3600)),
                ack: (is_drained || wishes.drains_all).then_some(Ack::Drained),
                canary: canary(n, wishes),
                on_deadline: match wishes.forces[n] {
                    true => OnDeadline::Force,
                    false => OnDeadline::Hold,
                },
                ..RotationPolicy::default()
            },
            rotator: resource.map(Box::new),
            ..Spec::default()
        },
    });
    Command::Apply(declared)
}

/// The one whose server takes both versions has canaries.
fn canary(n: usize, wishes: &Wishes) -> Option<Canary> {
    let consumers = wishes.canaries;
    (n == DRAINED && consumers > 0).then_some(Canary {
        consumers,
        watch: WATCH,
    })
}

/// How long canaries have to run well.
const WATCH: Duration = Duration::from_secs(60);

const ADMIN: SecretId = SecretId::from_bytes([0xad; 16]);
const OTHER_ADMIN: SecretId = SecretId::from_bytes([0xae; 16]);

fn account() -> Resource {
    Resource {
        kind: Kind::Postgres,
        connection: "postgres://admin@db.example/shop".to_owned(),
        accounts: vec!["app".to_owned()],
        admin: SecretName::parse("admin").unwrap(),
        strategy: Strategy::SingleUser,
        ca: None,
    }
}

fn double_account() -> Resource {
    Resource {
        kind: Kind::Mariadb,
        connection: "mariadb://admin@db.example/shop".to_owned(),
        admin: SecretName::parse("other-admin").unwrap(),
        strategy: Strategy::DualPassword,
        ..account()
    }
}

/// Gives a secret to the containers of one host, or of all.
pub(crate) fn apply_binding(
    n: usize,
    secret: usize,
    host: Option<usize>,
    wishes: &Wishes,
) -> Command {
    bind(n, secret_name(secret), host, wishes.rolls)
}

/// The secret of which each container has a login of its own; a server makes them.
pub(crate) fn apply_leased() -> Command {
    let store = store_name();
    let backend = Backend::Vault(VaultSpec {
        address: "https://vault:8200".to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        ca_file: String::new(),
        old_versions: OldVersions::Destroy,
        auth: VaultAuth::Token {
            token: CredentialRef::File("/etc/token".to_owned()),
        },
    });
    let source = Source {
        path: "database/creds/app".to_owned(),
        field: String::new(),
    };
    let declared = Declaration::Store {
        id: StoreId::from_bytes([0x31; 16]),
        name: store.clone(),
        spec: StoreSpec {
            backend,
            poll: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
        },
    };
    let leased = Declaration::Secret {
        id: LEASED,
        rotation: RotationId::from_bytes([0x1e; 16]),
        name: leased_name(),
        spec: Spec {
            store: secret::Store::Outside(Place { store, source }),
            lease: Some(Box::new(Lease::PerContainer {
                linger: LINGER,
                probe: None,
            })),
            ..Spec::default()
        },
    };
    Command::Apply(vec![declared, leased])
}

/// Gives logins to the containers of one host, or of all.
pub(crate) fn apply_leased_binding(host: Option<usize>) -> Command {
    bind(LEASED_BINDING, leased_name(), host, false)
}

fn bind(n: usize, secret: SecretName, host: Option<usize>, rolls: bool) -> Command {
    Command::Apply(vec![Declaration::Binding {
        id: binding_id(n),
        name: binding_name(n),
        secret,
        also: BTreeSet::new(),
        previous: BTreeSet::new(),
        selector: Selector {
            host: host.map(host_name),
            labels: BTreeMap::from([("app".to_owned(), "payments".to_owned())]),
            insecure: true,
            ..Selector::default()
        },
        target: target(n),
        reload: reload(n, rolls),
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    }])
}

fn target(n: usize) -> Target {
    if n == VARIABLE {
        let name = EnvName::parse("DB_PASSWORD").unwrap();
        return Target::Env { name };
    }
    Target::File {
        directory: Directory::parse(DEFAULT_DIRECTORY).unwrap(),
        name: FileName::parse(&format!("file_{n}")).unwrap(),
        uid: 1000,
        gid: 1000,
        mode: 0o400,
        template: None,
    }
}

fn reload(n: usize, rolls: bool) -> Reload {
    match n {
        0 => Reload::None,
        1 | LEASED_BINDING => Reload::Signal(1),
        _ => Reload::Restart {
            settle: DEFAULT_SETTLE,
            health_timeout: DEFAULT_HEALTH_TIMEOUT,
            rollout: rolls.then(Rollout::default),
        },
    }
}
