//! Rotations at two API servers that fail, wait or are cut off at each failpoint: the stages move to the letter.
//! One version is made and is current in the end, the one before until then, and no label stays behind.

use std::sync::Arc;

use keywheel_core::effect::Outside as Lies;
use keywheel_core::name::StoreName;
use keywheel_core::store::{Backend, DEFAULT_POLL, NamedStore, Source, StoreSpec};
use keywheel_engine::port::rotator::Rotator;
use keywheel_engine::port::store::Connect as _;
use keywheel_seal::OsEntropy;
use keywheel_stores::{Connector, FAILPOINTS, RemoteRotator};
use keywheel_testkit::conformance::rotator::traps::{self, Kept, Through};
use keywheel_testkit::conformance::store::FIELD;
use keywheel_testkit::fake::{FakeClock, FakeVault, Trap, TrapFault};
use keywheel_testkit::server::aws::{AwsServer, Maker};

use crate::hand::{AtAws, Key, SECRET_KEY, TIMEOUT, spec};

/// What is done only where there is no secret yet.
const CREATES: [&str; 2] = ["store.aws.before_create", "store.aws.after_create"];

/// A place where nothing lies yet.
fn place(at_aws: &AtAws, spec: &StoreSpec) -> Lies {
    Lies {
        store: NamedStore {
            name: StoreName::parse("prod").unwrap(),
            spec: spec.clone(),
        },
        source: at_aws.place(FIELD),
        known: None,
        fetch: None,
        retire: Vec::new(),
    }
}

/// One version has a label, and one label.
async fn check_labels(at_aws: &AtAws, at: &Source) {
    let labels: Vec<_> = at_aws.labels(&at.path).await.into_values().collect();
    assert_eq!(labels, [["AWSCURRENT"]], "{at:?}");
}

async fn survives(maker: Maker) {
    let server = Arc::new(AwsServer::start(maker));
    let spec = StoreSpec {
        backend: Backend::Aws(spec(&server.url())),
        poll: DEFAULT_POLL,
        timeout: TIMEOUT,
    };
    let endpoint = server.url();
    let at_aws = AtAws::by_way_of(server, &endpoint);
    let rotator = |trap: Arc<Trap>, vault: &Arc<FakeVault>| {
        let clock = Arc::new(FakeClock::default());
        let connector = Connector::new(clock, Arc::new(OsEntropy)).passing(trap);
        let name = StoreName::parse("prod").unwrap();
        let store = connector.connect(&name, &spec, Arc::new(Key(Ok(SECRET_KEY))));
        let vault = Arc::clone(vault) as _;
        let rotator = RemoteRotator::new(store.unwrap(), vault, Arc::new(OsEntropy));
        Arc::new(rotator) as Arc<dyn Rotator>
    };
    let through: &Through<'_> = &rotator;
    let first = place(&at_aws, &spec);
    let at = first.source.clone();
    let mut kept = Kept::at(&at_aws, through, first);
    kept.rotate(Trap::new("", TrapFault::Error, 1)).await;
    for point in FAILPOINTS.iter().copied() {
        if !point.starts_with("store.aws.") {
            continue;
        }
        let came = if CREATES.contains(&point) {
            let create = async |trap: Trap| {
                let nowhere = place(&at_aws, &spec);
                let at = nowhere.source.clone();
                let came = Kept::at(&at_aws, through, nowhere).rotate(trap).await;
                check_labels(&at_aws, &at).await;
                came
            };
            traps::walk(point, create).await
        } else {
            let rotate = async |trap: Trap| {
                let came = kept.rotate(trap).await;
                check_labels(&at_aws, &at).await;
                came
            };
            traps::walk(point, rotate).await
        };
        assert!(came, "{point} is not reached");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_at_moto_survives_every_failpoint() {
    survives(Maker::Moto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_at_ministack_survives_every_failpoint() {
    survives(Maker::Ministack).await;
}
