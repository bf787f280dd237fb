//! Rotations at two API servers that fail, wait, are cut off or killed at each failpoint: the stages move to the
//! letter. One version is made and is current in the end, the one before until then, and no label stays behind.

use std::path::Path;
use std::sync::Arc;

use keywheel_core::effect::Outside as Lies;
use keywheel_core::name::StoreName;
use keywheel_core::store::{Backend, DEFAULT_POLL, NamedStore, Source, StoreSpec};
use keywheel_engine::port::rotator::Rotator;
use keywheel_engine::port::store::Connect as _;
use keywheel_seal::OsEntropy;
use keywheel_stores::{Connector, FAILPOINTS, RemoteRotator};
use keywheel_testkit::conformance::rotator::traps::{self, Kept, Through, killed};
use keywheel_testkit::conformance::store::FIELD;
use keywheel_testkit::fake::{Child, FakeClock, FakeVault, Trap, TrapFault};
use keywheel_testkit::server::aws::{AwsServer, Maker};
use tempfile::TempDir;

use crate::hand::{AtAws, Key, SECRET_KEY, TIMEOUT, spec};

/// What is done only where there is no secret yet.
const CREATES: [&str; 2] = ["store.aws.before_create", "store.aws.after_create"];
/// What takes back a label that was given before the promotion.
const TAKES_BACK: [&str; 2] = ["store.aws.before_unlabel", "store.aws.after_unlabel"];

fn declared(endpoint: &str) -> NamedStore {
    NamedStore {
        name: StoreName::parse("prod").unwrap(),
        spec: StoreSpec {
            backend: Backend::Aws(spec(endpoint)),
            poll: DEFAULT_POLL,
            timeout: TIMEOUT,
        },
    }
}

fn lies(store: &NamedStore, source: Source) -> Lies {
    Lies {
        store: store.clone(),
        source,
        known: None,
        fetch: None,
        retire: Vec::new(),
        unstage: None,
        probe: None,
    }
}

/// Performs steps there through a trap, over this cache.
fn rotator(store: &NamedStore, trap: Arc<Trap>, vault: &Arc<FakeVault>) -> RemoteRotator {
    let clock = Arc::new(FakeClock::default());
    let connector = Connector::new(clock, Arc::new(OsEntropy)).passing(trap);
    let key = Arc::new(Key(Ok(SECRET_KEY)));
    let live = connector.connect(&store.name, &store.spec, key).unwrap();
    RemoteRotator::new(live, Arc::clone(vault) as _, Arc::new(OsEntropy))
}

/// Whether this program is one that was started to be killed within a step; then it is, or the step is done.
async fn is_child() -> bool {
    let Some(order) = killed::order(FAILPOINTS) else {
        return false;
    };
    let [endpoint, cache, path, field] = order.words.as_slice() else {
        panic!("an order has four words");
    };
    let store = declared(endpoint);
    let vault = Arc::new(FakeVault::in_file(Path::new(cache)));
    let rotator = rotator(&store, Arc::new(Trap::deadly(order.at)), &vault);
    let source = Source {
        path: path.clone(),
        field: field.clone(),
    };
    order.perform(&rotator, Some(lies(&store, source))).await;
    true
}

/// A server of AWS's API, and where caches lie.
struct Scene {
    test: &'static str,
    store: NamedStore,
    endpoint: String,
    at_aws: AtAws,
    files: TempDir,
}

impl Scene {
    fn set(maker: Maker, test: &'static str) -> Self {
        let server = Arc::new(AwsServer::start(maker));
        let endpoint = server.url();
        Self {
            test,
            store: declared(&endpoint),
            at_aws: AtAws::by_way_of(server, &endpoint),
            endpoint,
            files: tempfile::tempdir().unwrap(),
        }
    }

    /// A secret at a place where nothing lies yet.
    fn fresh<'a>(&'a self, through: &'a Through<'a>) -> (Kept<'a>, Source) {
        let source = self.at_aws.place(FIELD);
        let cache = self.files.path().join(source.path.replace('/', "-"));
        let words = vec![
            self.endpoint.clone(),
            cache.display().to_string(),
            source.path.clone(),
            source.field.clone(),
        ];
        let child = Child {
            test: self.test,
            words,
        };
        let vault = Arc::new(FakeVault::in_file(&cache));
        let place = lies(&self.store, source.clone());
        let kept = Kept::at(&self.at_aws, through, (vault, child), place);
        (kept, source)
    }

    /// One rotation through a trap; whether it came by.
    async fn rotate(&self, kept: &mut Kept<'_>, at: &Source, trap: Trap) -> bool {
        let came = kept.rotate(trap).await;
        check_labels(&self.at_aws, at).await;
        came
    }

    /// One that is rolled back through a trap before its promotion; whether it came by.
    async fn roll_back(&self, kept: &mut Kept<'_>, at: &Source, trap: Trap) -> bool {
        let came = kept.roll_back(trap).await;
        check_labels(&self.at_aws, at).await;
        came
    }

    /// The first one of a secret, through a trap.
    async fn create<'a>(&'a self, through: &'a Through<'a>, trap: Trap) -> bool {
        let (mut kept, at) = self.fresh(through);
        self.rotate(&mut kept, &at, trap).await
    }
}

/// One version has a label, and one label.
async fn check_labels(at_aws: &AtAws, at: &Source) {
    let labels: Vec<_> = at_aws.labels(&at.path).await.into_values().collect();
    assert_eq!(labels, [["AWSCURRENT"]], "{at:?}");
}

async fn survives(maker: Maker, test: &'static str) {
    if is_child().await {
        return;
    }
    let scene = Scene::set(maker, test);
    let made = |trap: Arc<Trap>, vault: &Arc<FakeVault>| {
        Arc::new(rotator(&scene.store, trap, vault)) as Arc<dyn Rotator>
    };
    let through: &Through<'_> = &made;
    let (mut kept, at) = scene.fresh(through);
    kept.rotate(Trap::new("", TrapFault::Error, 1)).await;
    for point in FAILPOINTS.iter().copied() {
        if !point.starts_with("store.aws.") {
            continue;
        }
        let came = if CREATES.contains(&point) {
            let came = traps::walk(point, async |trap| scene.create(through, trap).await).await;
            traps::kill(point, async |trap| scene.create(through, trap).await).await;
            came
        } else {
            let came = traps::walk(point, async |trap| scene.rotate(&mut kept, &at, trap).await);
            let came = came.await;
            traps::kill(point, async |trap| scene.rotate(&mut kept, &at, trap).await).await;
            came
        };
        assert!(came, "{point} is not reached");
    }
    for point in TAKES_BACK {
        let came = traps::walk(point, async |trap| {
            scene.roll_back(&mut kept, &at, trap).await
        });
        assert!(came.await, "{point} is not reached by what goes back");
        traps::kill(point, async |trap| {
            scene.roll_back(&mut kept, &at, trap).await
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_at_moto_survives_every_failpoint() {
    let own = "crashes::a_rotation_at_moto_survives_every_failpoint";
    survives(Maker::Moto, own).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_at_ministack_survives_every_failpoint() {
    let own = "crashes::a_rotation_at_ministack_survives_every_failpoint";
    survives(Maker::Ministack, own).await;
}
