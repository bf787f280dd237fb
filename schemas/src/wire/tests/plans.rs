//! A plan of a host that has each form of whatever may be in one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keywheel_core::binding::{ImageSelector, OnRevoke, Reload, Rollout, Selector, SetFile, Target};
use keywheel_core::id::{DeliveryId, SecretId};
use keywheel_core::name::{BindingName, Directory, EnvName, FileName, HostName, SecretName};
use keywheel_core::plan::{
    Grant, HostPlan, Leave, Order, PlannedBinding, PlannedPrevious, PlannedSecret, Staged, Task,
};

use super::{AT, BINDING, HOST, SECRET, container};
use crate::examples;

fn planned(
    target: Target,
    reload: Reload,
    image: ImageSelector,
    current: Option<Grant>,
) -> PlannedBinding {
    PlannedBinding {
        binding: BINDING,
        name: BindingName::parse("payments").unwrap(),
        secret: SECRET,
        secret_name: SecretName::parse("prod/db").unwrap(),
        also: Vec::new(),
        previous: Vec::new(),
        selector: Selector {
            host: Some(HostName::parse("web-1").unwrap()),
            image: Some(image),
            labels: BTreeMap::from([("app".to_owned(), "payments".to_owned())]),
            insecure: true,
            container: None,
            name: None,
            user: None,
        },
        target,
        reload,
        current,
        floor: 3,
        dead: BTreeSet::from([5, 7]),
        traceparent: Some(examples::TRACE.to_owned()),
        leases: false,
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    }
}

fn of_template(template: &str) -> Target {
    Target::File {
        directory: Directory::parse("/etc/app").unwrap(),
        name: FileName::parse("app.conf").unwrap(),
        uid: 0,
        gid: 0,
        mode: 0o400,
        template: Some(template.to_owned()),
    }
}

/// A binding whose template names two secrets, one without a version.
fn of_several(image: ImageSelector, grant: Grant) -> PlannedBinding {
    let form = of_template("{{ secret(\"prod/db\") }}{{ secret(\"prod/api\") }}");
    let further = |number: u8, name: &str, current| PlannedSecret {
        secret: SecretId::from_bytes([number; 16]),
        name: SecretName::parse(name).unwrap(),
        current,
        floor: 1,
        dead: BTreeSet::from([4]),
        traceparent: current.map(|_| examples::TRACE.to_owned()),
    };
    let mut several = planned(form, Reload::None, image, Some(grant));
    several.also = vec![
        further(7, "prod/api", Some(grant)),
        further(8, "prod/mail", None),
    ];
    several.previous = vec![PlannedPrevious {
        secret: SECRET,
        grant,
    }];
    several
}

pub(super) fn plan() -> HostPlan {
    let file = Target::File {
        directory: Directory::parse("/run/secrets").unwrap(),
        name: FileName::parse("db_password").unwrap(),
        uid: 1000,
        gid: 0,
        mode: 0o440,
        template: None,
    };
    let set = Target::Files {
        directory: Directory::parse("/run/secrets").unwrap(),
        name: FileName::parse("db").unwrap(),
        uid: 1000,
        gid: 0,
        mode: 0o440,
        files: vec![SetFile {
            name: FileName::parse("user").unwrap(),
            template: "{{ secret(\"prod/db\").user }}".to_owned(),
        }],
    };
    let form = of_template("url = \"{{ secret(\"prod/db\").url }}\"\n");
    let bare = of_template("{{ secret(\"prod/db\") }}");
    let command = Reload::Command {
        argv: ["nginx", "-s", "reload \"now\"", ""]
            .map(str::to_owned)
            .into(),
        timeout: Duration::from_millis(2500),
    };
    let env = Target::Env {
        name: EnvName::parse("DB_PASSWORD").unwrap(),
    };
    let restart = Reload::Restart {
        settle: Duration::from_millis(1500),
        health_timeout: Duration::from_secs(120),
        rollout: Some(Rollout {
            max_parallel: 2,
            max_unavailable: 3,
            delay: Duration::from_secs(30),
            monitor: Duration::from_millis(1),
        }),
    };
    let grant = Grant {
        version: 8,
        delivery: DeliveryId::from_bytes([6; 16]),
    };
    let digest = ImageSelector::Digest(format!("sha256:{}", "0".repeat(64)));
    let repository = ImageSelector::Repository("shop/payments".to_owned());
    HostPlan {
        host: HOST,
        host_name: HostName::parse("web-1").unwrap(),
        generation: u64::MAX,
        bindings: vec![
            planned(file.clone(), Reload::Signal(1), digest.clone(), Some(grant)),
            planned(env, restart, repository, None),
            planned(file, Reload::None, digest.clone(), None),
            planned(form, command, digest.clone(), Some(grant)),
            planned(set, Reload::None, digest.clone(), Some(grant)),
            planned(bare, Reload::Label, digest.clone(), Some(grant)),
            of_several(digest, grant),
        ],
        leaves: vec![Leave {
            container: container(),
            number: u64::MAX,
            not_before: Some(AT),
        }],
        staged: vec![staged(grant)],
        orders: orders(),
    }
}

fn orders() -> Vec<Order> {
    let order = |task| Order {
        container: container(),
        number: 7,
        task,
    };
    let action = OnRevoke::Pause;
    let not_before = Some(AT);
    vec![
        order(Task::Quarantine { action }),
        order(Task::Restart { not_before }),
        order(Task::Restart { not_before: None }),
    ]
}

fn staged(grant: Grant) -> Staged {
    let secret = SECRET;
    Staged {
        secret,
        grant,
        canaries: vec![container()],
    }
}
