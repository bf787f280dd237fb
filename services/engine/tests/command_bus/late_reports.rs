//! Reports that come again long after they were answered.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::binding::{DEFAULT_DIRECTORY, Reload, Selector, Target};
use keywheel_core::id::{BindingId, ContainerId};
use keywheel_core::name::{BindingName, Directory, FileName};
use keywheel_core::report::{Fact, Item};

use super::*;

const HOST: HostId = HostId::from_bytes([5; 16]);
const BINDING: BindingId = BindingId::from_bytes([6; 16]);

fn enrol() -> Command {
    Command::EnrolHost {
        host: HOST,
        name: HostName::parse("web-1").unwrap(),
        sealing_key: [1; 32],
    }
}

fn bind() -> Command {
    Command::Apply(vec![Declaration::Binding {
        id: BINDING,
        name: BindingName::parse("payments").unwrap(),
        secret: name(),
        also: BTreeSet::new(),
        previous: BTreeSet::new(),
        selector: Selector {
            labels: BTreeMap::from([("app".to_owned(), "payments".to_owned())]),
            insecure: true,
            ..Selector::default()
        },
        target: Target::File {
            directory: Directory::parse(DEFAULT_DIRECTORY).unwrap(),
            name: FileName::parse("password").unwrap(),
            uid: 0,
            gid: 0,
            mode: 0o400,
            template: None,
        },
        reload: Reload::None,
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    }])
}

fn report(items: Vec<Item>) -> Command {
    Command::Report(HostReport {
        generation: 1,
        containers: items.iter().map(|item| item.container.clone()).collect(),
        items,
        complete: true,
        ..HostReport::empty(HOST)
    })
}

fn started(at: keywheel_core::time::Timestamp) -> Item {
    Item {
        container: ContainerId::parse(&format!("{:064x}", 1)).unwrap(),
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        binding: BINDING,
        secret: SecretId::from_bytes([1; 16]),
        fact: Fact::Swapped { version: 1, at },
        service: String::new(),
    }
}

#[tokio::test]
async fn a_report_that_changed_nothing_takes_nothing_back_when_it_comes_again() {
    let mut bench = start(Arc::default(), 1).await;
    let injector = || Principal::Service(Role::Injector);
    bench.submit(1, user(), apply()).await;
    bench.work(10).await;
    bench.submit(2, injector(), enrol()).await;
    bench.submit(3, user(), bind()).await;
    let before = bench.view.read().number;
    bench.submit(4, injector(), report(Vec::new())).await;
    assert_eq!(bench.view.read().number, before, "nothing is new");
    let began = started(bench.clock.now());
    bench.submit(5, injector(), report(vec![began])).await;
    let known = |bench: &Bench| bench.view.read().world.assignments.len();
    assert_eq!(known(&bench), 1);
    bench.submit(4, injector(), report(Vec::new())).await;
    assert_eq!(known(&bench), 1);
}
