//! What a sweep is about: the shipped playbooks and one that tells and runs others, and an estate for them: two
//! hosts with a container each, accounts that take turns, a value that its store keeps, one that a person gave.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::binding::{DEFAULT_DIRECTORY, OnRevoke, Reload, Selector, Target};
use keywheel_core::command::{Command, Declaration};
use keywheel_core::id::{
    BindingId, ContainerId, HostId, NotificationId, PlaybookId, RotationId, RunId, SecretId,
};
use keywheel_core::name::{BindingName, Directory, FileName, HostName, NotificationName};
use keywheel_core::name::{PlaybookName, SecretName};
use keywheel_core::notification::{self, Receiver};
use keywheel_core::playbook_run::{Cause, Outcome, Request, Run};
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::secret::{Generator, Spec};
use keywheel_core::world::World;
use keywheel_schemas::manifest::{self, Manifest};

const LEAKED: &str = include_str!("../../../../deploy/playbooks/leaked-credential.yaml");
const COMPROMISED: &str = include_str!("../../../../deploy/playbooks/compromised-host.yaml");
const DRILL: &str = include_str!("../../../../deploy/playbooks/quarterly-drill.yaml");
/// The steps that no shipped playbook has.
const TOLD: &str = "apiVersion: keywheel.dev/v1
kind: Playbook
metadata: { name: told }
spec:
  parameters: [{ name: secret }]
  steps:
    - name: say
      notify: { notifications: [soc], text: \"${secret} leaked\" }
    - name: ask
      call: { notification: soc, text: \"take the page down\" }
    - name: below
      run: { playbook: leaked-credential, with: { secret: \"${secret}\" } }
    - name: end
      call: { notification: soc, text: \"${secret} is replaced\" }
";

/// Its id, unless it is asked for anew.
pub(crate) const RUN: RunId = RunId::from_bytes([0x21; 16]);
/// Who is told.
pub(crate) const SOC: NotificationId = NotificationId::from_bytes([0x31; 16]);
/// Whoever is asked for an approval; the third began the run.
pub(crate) const PEOPLE: [&str; 2] = ["certificate:anna", "certificate:ben"];
const HOSTS: [&str; 2] = ["web-1", "web-2"];
const SERVER: &str = "postgres://db.example:5432";
const ADMIN: u8 = 0x10;

/// One playbook on the estate.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    playbook: &'static str,
    told: (&'static str, &'static str),
    /// A host that says nothing until a step is over.
    pub(crate) silent: Option<(&'static str, &'static str)>,
    /// A failed step fails its run, though what follows it is done, but for one that may fail.
    pub(crate) outcome: Outcome,
    /// Steps that are done in the end; all others but the failed ones are skipped.
    pub(crate) done: &'static [&'static str],
    pub(crate) failed: &'static [&'static str],
    /// Messages that receivers get.
    pub(crate) messages: usize,
}

pub(crate) static SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "leaked",
        playbook: "leaked-credential",
        told: ("secret", "prod/db"),
        silent: None,
        outcome: Outcome::Completed,
        done: &["replace", "converge", "prove"],
        failed: &[],
        messages: 0,
    },
    Scenario {
        name: "slow",
        playbook: "leaked-credential",
        told: ("secret", "prod/db"),
        silent: Some(("web-2", "revoke-old")),
        outcome: Outcome::Failed,
        done: &["replace", "revoke-old", "dead-everywhere", "prove-dead"],
        failed: &["converge"],
        messages: 0,
    },
    Scenario {
        name: "given",
        playbook: "leaked-credential",
        told: ("secret", "prod/given"),
        silent: None,
        outcome: Outcome::Failed,
        done: &[
            "approve-outage",
            "revoke-all",
            "gone-everywhere",
            "prove-gone",
        ],
        failed: &["replace"],
        messages: 0,
    },
    Scenario {
        name: "host",
        playbook: "compromised-host",
        told: ("host", "web-2"),
        silent: None,
        outcome: Outcome::Completed,
        done: &["evict", "converge", "prove"],
        failed: &["replace"],
        messages: 0,
    },
    Scenario {
        name: "slow-host",
        playbook: "compromised-host",
        told: ("host", "web-2"),
        silent: Some(("web-1", "revoke-old")),
        outcome: Outcome::Failed,
        done: &["evict", "revoke-old", "dead-everywhere", "prove-dead"],
        failed: &["replace", "converge"],
        messages: 0,
    },
    Scenario {
        name: "drill",
        playbook: "quarterly-drill",
        told: ("prefix", "drill"),
        silent: None,
        outcome: Outcome::Completed,
        done: &["agree", "replace", "converge", "prove"],
        failed: &[],
        messages: 0,
    },
    Scenario {
        name: "told",
        playbook: "told",
        told: ("secret", "prod/db"),
        silent: None,
        outcome: Outcome::Completed,
        done: &["say", "ask", "below", "end"],
        failed: &[],
        messages: 3,
    },
];

impl Scenario {
    /// A person begins it.
    pub(crate) fn start(&self, run: RunId) -> Command {
        let (parameter, argument) = self.told;
        Command::Playbook(Request::Start {
            run,
            playbook: PlaybookName::parse(self.playbook).unwrap(),
            arguments: BTreeMap::from([(parameter.to_owned(), argument.to_owned())]),
            by: "unix:0".to_owned(),
            reason: "a sweep".to_owned(),
            cause: Cause::Person,
        })
    }
}

/// The run that a person began.
pub(crate) fn begun(world: &World) -> Option<&Run> {
    world.runs.values().find(|run| run.parent.is_none())
}

/// The container of a host.
pub(crate) fn container(host: HostId) -> ContainerId {
    ContainerId::parse(&format!("{:064x}", host.bytes()[0])).unwrap()
}

fn secret_name(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

fn secret(n: u8, name: &str, spec: Spec) -> Declaration {
    Declaration::Secret {
        id: SecretId::from_bytes([n; 16]),
        rotation: RotationId::from_bytes([n + 0x40; 16]),
        name: secret_name(name),
        spec,
    }
}

fn generated(rotator: Option<Resource>) -> Spec {
    Spec {
        generator: Some(Generator::default()),
        rotator: rotator.map(Box::new),
        ..Spec::default()
    }
}

/// Two accounts of a server that take turns.
fn accounts(one: &str, other: &str) -> Resource {
    Resource {
        kind: Kind::Postgres,
        connection: "postgres://rotator@db.example:5432/shop".to_owned(),
        accounts: vec![one.to_owned(), other.to_owned()],
        admin: secret_name("shop/admin"),
        strategy: Strategy::AlternatingUsers,
        ca: None,
    }
}

fn put(n: u8, name: &str) -> Command {
    Command::Put {
        id: SecretId::from_bytes([n; 16]),
        rotation: RotationId::from_bytes([n + 0x40; 16]),
        name: secret_name(name),
        provided: true,
    }
}

/// A file in the containers of a host, or of each.
fn binding(n: u8, secret: &str, host: Option<&str>) -> Declaration {
    let name = secret.replace('/', "-");
    Declaration::Binding {
        id: BindingId::from_bytes([n; 16]),
        name: BindingName::parse(&name).unwrap(),
        secret: secret_name(secret),
        also: BTreeSet::new(),
        previous: BTreeSet::new(),
        selector: Selector {
            host: host.map(|host| HostName::parse(host).unwrap()),
            labels: BTreeMap::from([("app".to_owned(), "shop".to_owned())]),
            insecure: true,
            ..Selector::default()
        },
        target: Target::File {
            directory: Directory::parse(DEFAULT_DIRECTORY).unwrap(),
            name: FileName::parse(&name).unwrap(),
            uid: 1000,
            gid: 1000,
            mode: 0o400,
            template: None,
        },
        reload: Reload::None,
        on_revoke: OnRevoke::Remove,
    }
}

fn soc() -> Declaration {
    Declaration::Notification {
        id: SOC,
        name: NotificationName::parse("soc").unwrap(),
        spec: notification::Spec {
            receiver: Receiver::Slack {
                url_file: "/etc/keywheel/signals/slack".to_owned(),
                ca_file: String::new(),
            },
            when: "false".to_owned(),
        },
    }
}

/// As a person applies it.
fn playbook(n: u8, text: &str) -> Declaration {
    let mut manifests = manifest::parse(text, "a sweep", &|_, _| Ok(())).unwrap();
    match manifests.pop() {
        Some(Manifest::Playbook { name, spec, .. }) => Declaration::Playbook {
            id: PlaybookId::from_bytes([n; 16]),
            name,
            spec,
        },
        other => panic!("{other:?}"),
    }
}

/// What makes the estate, in this order; between two of them everybody does what there is to do.
pub(crate) fn estate() -> Vec<Command> {
    let admin = Spec {
        credential_for: Some(SERVER.to_owned()),
        ..Spec::default()
    };
    let mut commands = vec![
        Command::Apply(vec![secret(ADMIN, "shop/admin", admin)]),
        put(ADMIN, "shop/admin"),
        put(0x11, "prod/given"),
    ];
    for (n, name) in (0x01..).zip(HOSTS) {
        commands.push(Command::EnrolHost {
            host: HostId::from_bytes([n; 16]),
            name: HostName::parse(name).unwrap(),
            sealing_key: [n; 32],
        });
    }
    let db = generated(Some(accounts("app", "app_b")));
    let drilled = generated(Some(accounts("drill", "drill_b")));
    commands.push(Command::Apply(vec![
        secret(0x12, "prod/db", db),
        secret(0x13, "drill/db", drilled),
        secret(0x14, "drill/key", generated(None)),
        binding(0x22, "prod/db", None),
        binding(0x23, "drill/db", Some("web-1")),
        binding(0x24, "drill/key", None),
        binding(0x25, "prod/given", Some("web-2")),
        soc(),
        playbook(0x51, LEAKED),
        playbook(0x52, COMPROMISED),
        playbook(0x53, DRILL),
        playbook(0x54, TOLD),
    ]));
    commands
}
