//! Rotations at a real OpenBao that fail, wait, are cut off or killed at each failpoint: values of ours in a KV
//! engine, a static role at a real PostgreSQL, and logins by lease there. One new credential is good in the end,
//! the old one for as long as it was promised, and what nobody knows of ends by itself.

use std::path::Path;
use std::sync::Arc;

use keywheel_core::effect::Outside as Lies;
use keywheel_core::id::SecretId;
use keywheel_core::name::StoreName;
use keywheel_core::rotation::Step;
use keywheel_core::store::{
    Backend, CredentialRef, DEFAULT_POLL, DEFAULT_TIMEOUT, NamedStore, OldVersions, RemoteVersion,
    Source, StoreSpec, VaultAuth, VaultSpec,
};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::leases::MINT_SPAN;
use keywheel_engine::port::rotator::Rotator;
use keywheel_engine::port::store::{Connect as _, Store};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_stores::{Connector, FAILPOINTS, LeaseRotator, RemoteRotator};
use keywheel_testkit::conformance::leases::Lender as _;
use keywheel_testkit::conformance::rotator::traps::{self, Kept, killed};
use keywheel_testkit::conformance::store::{Outside as _, current, plenty};
use keywheel_testkit::fake::{Child, FakeClock, FakeVault, Trap, TrapFault};
use keywheel_testkit::server::openbao::ROOT;
use tempfile::TempDir;

use super::bench::{self, Bench, MOUNT, NOW};
use super::leases::{Bank, role};
use super::static_roles::Shop;

const MAKING: [Step; 4] = [Step::Create, Step::Set, Step::Test, Step::Finish];

/// Those of one kind of place.
fn points(kind: &str) -> Vec<&'static str> {
    let all = FAILPOINTS.iter().copied();
    let own: Vec<&str> = all.filter(|name| name.starts_with(kind)).collect();
    assert!(!own.is_empty(), "{kind} has none");
    own
}

/// How the server is declared, with a token that lies at this path.
fn declared(bench: &Bench, token: &str) -> NamedStore {
    let token = CredentialRef::File(token.to_owned());
    NamedStore {
        name: StoreName::parse("elsewhere").unwrap(),
        spec: StoreSpec {
            backend: Backend::Vault(bench.spec(VaultAuth::Token { token })),
            poll: DEFAULT_POLL,
            timeout: DEFAULT_TIMEOUT,
        },
    }
}

fn lies(bench: &Bench, token: &str, source: Source) -> Lies {
    Lies {
        store: declared(bench, token),
        source,
        known: None,
        fetch: None,
        retire: Vec::new(),
        unstage: None,
        probe: None,
    }
}

/// The server by way of a trap.
fn through(bench: &Bench, token: &str, trap: &Arc<Trap>) -> Arc<dyn Store> {
    let clock = Arc::clone(&bench.clock);
    let connector = Connector::new(clock, Arc::new(OsEntropy));
    let connector = connector.passing(Arc::clone(trap) as _);
    let NamedStore { name, spec } = declared(bench, token);
    let kept = Arc::clone(&bench.kept);
    connector.connect(&name, &spec, kept).unwrap()
}

/// The file of a cache, in a directory that goes with its value.
struct Files(TempDir);

impl Files {
    fn make() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn cache(&self) -> Arc<FakeVault> {
        Arc::new(FakeVault::in_file(&self.0.path().join("cache")))
    }

    /// What a program has to know that performs a step there, by this token.
    fn child(&self, test: &'static str, bench: &Bench, token: &str, source: &Source) -> Child {
        let cache = self.0.path().join("cache");
        let words = vec![
            bench.proxy.url(),
            token.to_owned(),
            cache.display().to_string(),
            source.path.clone(),
            source.field.clone(),
        ];
        Child { test, words }
    }
}

/// Whether this program is one that was started to be killed within a step; then it is, or the step is done.
async fn is_child() -> bool {
    let Some(order) = killed::order(FAILPOINTS) else {
        return false;
    };
    let [address, token, cache, path, field] = order.words.as_slice() else {
        panic!("an order has five words");
    };
    let given = Arc::new(bench::Kept::default());
    let spec = VaultSpec {
        address: address.clone(),
        namespace: String::new(),
        mount: MOUNT.to_owned(),
        ca_file: String::new(),
        old_versions: OldVersions::Destroy,
        auth: VaultAuth::Token {
            token: given.put("/token", token.as_str()),
        },
    };
    let store = NamedStore {
        name: StoreName::parse("elsewhere").unwrap(),
        spec: StoreSpec {
            backend: Backend::Vault(spec),
            poll: DEFAULT_POLL,
            timeout: DEFAULT_TIMEOUT,
        },
    };
    let deadly = Arc::new(Trap::deadly(order.at));
    let clock = Arc::new(FakeClock::at(Timestamp::from_micros(NOW)));
    let connector = Connector::new(clock, Arc::new(OsEntropy));
    let connector = connector.passing(Arc::clone(&deadly) as _);
    let live = connector.connect(&store.name, &store.spec, given).unwrap();
    let vault = Arc::new(FakeVault::in_file(Path::new(cache)));
    let place = Lies {
        store,
        source: Source {
            path: path.clone(),
            field: field.clone(),
        },
        known: None,
        fetch: None,
        retire: Vec::new(),
        unstage: None,
        probe: None,
    };
    if order.at.starts_with("store.lease.") {
        let rotator = LeaseRotator::new(live, vault).passing(deadly);
        order.perform(&rotator, Some(place)).await;
    } else {
        let rotator = RemoteRotator::new(live, vault, Arc::new(OsEntropy));
        order.perform(&rotator, Some(place)).await;
    }
    true
}

/// A trap that nothing meets.
fn never() -> Trap {
    Trap::new("", TrapFault::Error, 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_in_a_kv_engine_survives_every_failpoint() {
    if is_child().await {
        return;
    }
    let own = "crashes::a_rotation_in_a_kv_engine_survives_every_failpoint";
    let bench = Bench::start().await;
    let rotator = |trap: Arc<Trap>, vault: &Arc<FakeVault>| {
        let store = through(&bench, "/root-token", &trap);
        let vault = Arc::clone(vault) as _;
        let rotator = RemoteRotator::new(store, vault, Arc::new(OsEntropy));
        Arc::new(rotator) as Arc<dyn Rotator>
    };
    let (place, files) = (lies(&bench, "/root-token", bench.fresh()), Files::make());
    let child = files.child(own, &bench, ROOT, &place.source);
    let mut kept = Kept::at(&bench, &rotator, (files.cache(), child), place);
    kept.rotate(never()).await;
    for point in points("store.kv.") {
        let came = traps::walk(point, async |trap| kept.rotate(trap).await).await;
        assert!(came, "{point} is not reached");
        traps::kill(point, async |trap| kept.rotate(trap).await).await;
    }
}

/// One secret at a static role.
struct AtRole<'a> {
    shop: &'a Shop,
    files: Files,
    vault: Arc<FakeVault>,
    secret: SecretId,
    at: Lies,
    version: u64,
}

impl<'a> AtRole<'a> {
    async fn begin(shop: &'a Shop) -> Self {
        let files = Files::make();
        let mut secret = Self {
            shop,
            vault: files.cache(),
            files,
            secret: traps::fresh().0,
            at: lies(&shop.bench, "/root-token", Shop::at()),
            version: 0,
        };
        secret.rotate(never()).await;
        secret
    }

    fn rotator(&self, trap: &Arc<Trap>) -> RemoteRotator {
        let store = through(&self.shop.bench, "/root-token", trap);
        let vault = Arc::clone(&self.vault) as _;
        RemoteRotator::new(store, vault, Arc::new(OsEntropy))
    }

    fn value(&self, version: u64) -> Option<SecretBytes> {
        let value = self.vault.value(self.secret, version);
        value.map(SecretBytes::from)
    }

    fn by(&self, trap: Trap) -> Arc<Trap> {
        let own = "crashes::a_rotation_of_a_static_role_survives_every_failpoint";
        let (bench, source) = (&self.shop.bench, &self.at.source);
        Arc::new(trap.by(self.files.child(own, bench, ROOT, source)))
    }

    /// The account has one password at every time: that which its server tells.
    async fn check_open(&self, trap: &Trap) {
        let now = current(&self.shop.bench, &self.at.source).await;
        let store = self.shop.bench.store();
        let fetched = store.fetch(&self.at.source, &now, &plenty()).await;
        assert!(self.shop.signs_in(&fetched.unwrap()), "{trap}: nobody may");
    }

    /// One rotation through a trap; whether it came by. The server makes one password.
    async fn rotate(&mut self, trap: Trap) -> bool {
        let trap = self.by(trap);
        let rotator = self.rotator(&trap);
        let (token, old, new) = (traps::fresh().1, self.version, self.version + 1);
        let known = current(&self.shop.bench, &self.at.source).await;
        self.at.known = Some(known.clone());
        let told = self.shop.told();
        let mut made = None;
        for step in MAKING {
            let work = traps::work(self.secret, token, step, new, &self.at);
            let holds = async || self.check_open(&trap).await;
            made = traps::perform(&trap, &rotator, (&work, false), holds).await;
        }
        let value = self.value(new).expect("it is kept");
        assert!(self.shop.signs_in(&value), "{trap}: the new one");
        assert_eq!(self.shop.told(), told + 1, "{trap}: it is rotated once");
        let now = current(&self.shop.bench, &self.at.source).await;
        assert_eq!(made.as_ref(), Some(&now), "{trap}");
        if old > 0 {
            let before = self.value(old).expect("it is kept until it is retired");
            self.end(&trap, &rotator, (old, known), false).await;
            assert!(!self.shop.signs_in(&before), "{trap}: the old one");
            assert!(self.shop.signs_in(&value), "{trap}: the new one");
        }
        self.version = new;
        trap.has_fired()
    }

    /// A secret whose only version is revoked through a trap.
    async fn revoked(shop: &'a Shop, trap: Trap) -> bool {
        Self::begin(shop).await.revoke(trap).await
    }

    /// What is current is revoked through a trap: the server makes another password, which nobody has.
    async fn revoke(self, trap: Trap) -> bool {
        let trap = self.by(trap);
        let value = self.value(self.version).expect("it is kept");
        let known = current(&self.shop.bench, &self.at.source).await;
        let (rotator, told) = (self.rotator(&trap), self.shop.told());
        self.end(&trap, &rotator, (self.version, known), true).await;
        assert!(!self.shop.signs_in(&value), "{trap}: what is revoked");
        assert_eq!(self.shop.told(), told + 1, "{trap}: it is rotated once");
        trap.has_fired()
    }

    async fn end(
        &self,
        trap: &Trap,
        rotator: &dyn Rotator,
        (version, remote): (u64, RemoteVersion),
        is_revocation: bool,
    ) {
        let at = Lies {
            retire: vec![remote],
            ..self.at.clone()
        };
        let token = traps::fresh().1;
        let work = traps::work(self.secret, token, Step::RevokeOld, version, &at);
        let holds = async || self.check_open(trap).await;
        traps::perform(trap, rotator, (&work, is_revocation), holds).await;
        assert!(self.value(version).is_none(), "{trap}: it is kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_of_a_static_role_survives_every_failpoint() {
    if is_child().await {
        return;
    }
    let shop = Shop::open().await;
    let mut secret = AtRole::begin(&shop).await;
    for point in points("store.role.") {
        let came = traps::walk(point, async |trap| secret.rotate(trap).await).await;
        assert!(came, "{point} is not reached");
        traps::kill(point, async |trap| secret.rotate(trap).await).await;
    }
    for point in ["store.role.before_rotate", "store.role.after_rotate"] {
        let came = traps::walk(point, async |trap| AtRole::revoked(&shop, trap).await).await;
        assert!(came, "{point} is not reached");
        traps::kill(point, async |trap| AtRole::revoked(&shop, trap).await).await;
    }
}

/// Logins that one container had, one after the other.
struct AtBank<'a> {
    bank: &'a Bank,
    files: Files,
    vault: Arc<FakeVault>,
    secret: SecretId,
    at: Lies,
    version: u64,
    /// What the lease of the current version is called.
    lease: Option<RemoteVersion>,
}

impl<'a> AtBank<'a> {
    async fn begin(bank: &'a Bank) -> Self {
        let files = Files::make();
        let mut secret = Self {
            bank,
            vault: files.cache(),
            files,
            secret: traps::fresh().0,
            at: lies(&bank.bench, "/token", role("app")),
            version: 0,
            lease: None,
        };
        secret.swap(never()).await;
        secret
    }

    fn rotator(&self, trap: &Arc<Trap>) -> LeaseRotator {
        let store = through(&self.bank.bench, "/token", trap);
        let rotator = LeaseRotator::new(store, Arc::clone(&self.vault) as _);
        rotator.passing(Arc::clone(trap) as _)
    }

    async fn is_good(&self, value: Option<&SecretBytes>) -> bool {
        match value {
            Some(value) => self.bank.admits(value).await,
            None => true,
        }
    }

    fn value(&self, version: u64) -> Option<SecretBytes> {
        let value = self.vault.value(self.secret, version);
        value.map(SecretBytes::from)
    }

    /// A login gives way to another one through a trap; whether it came by. The one before is good until that
    /// is at hand, and one is left in the end: what nobody knows of has little time.
    async fn swap(&mut self, trap: Trap) -> bool {
        let own = "crashes::a_swap_of_a_lease_survives_every_failpoint_and_leaves_no_orphan";
        let (bench, token) = (&self.bank.bench, &self.bank.token);
        let child = self.files.child(own, bench, token, &self.at.source);
        let trap = Arc::new(trap.by(child));
        let rotator = self.rotator(&trap);
        let (token, old, new) = (traps::fresh().1, self.version, self.version + 1);
        let before = self.value(old);
        for step in MAKING {
            let work = traps::work(self.secret, token, step, new, &self.at);
            let holds = async || {
                let is_good = self.is_good(before.as_ref()).await;
                assert!(is_good, "{trap}: the old one at {step:?}");
            };
            traps::perform(&trap, &rotator, (&work, false), holds).await;
        }
        let create = traps::work(self.secret, token, Step::Create, new, &self.at);
        let lease = rotator.lease(&create).await.unwrap();
        let value = self.value(new).expect("it is kept");
        self.at.retire = Vec::from_iter(self.lease.take());
        if old > 0 {
            let end = traps::work(self.secret, token, Step::RevokeOld, old, &self.at);
            let holds = async || {
                let is_good = self.is_good(Some(&value)).await;
                assert!(is_good, "{trap}: the new one");
            };
            traps::perform(&trap, &rotator, (&end, false), holds).await;
            assert!(self.value(old).is_none(), "{trap}: it is kept");
        }
        (self.version, self.lease) = (new, lease);
        assert!(self.bank.admits(&value).await, "{trap}: the new one");
        let one = async || self.bank.extended() == 1 && self.bank.logins() == "1";
        traps::wait(&format!("{trap}: one login"), one).await;
        assert!(self.bank.admits(&value).await, "{trap}: it is another one");
        trap.has_fired()
    }
}

impl Bank {
    /// How many leases have their whole time. The little time of those that were minted and never extended is
    /// over: somebody ends them, as their server would.
    fn extended(&self) -> usize {
        let (server, headers) = (&self.bench.server, self.bench.headers());
        let listed = self.bench.must("LIST", "auth/token/accessors", "");
        let mut extended = 0;
        for accessor in listed["data"]["keys"].as_array().unwrap() {
            let body = format!("{{\"accessor\":{accessor}}}");
            let place = "auth/token/lookup-accessor";
            let (status, found) = server.ask("POST", place, &headers, &body);
            // One that was listed may have ended since.
            if status != 200 {
                continue;
            }
            let found: serde_json::Value = serde_json::from_str(&found).unwrap();
            let found = &found["data"];
            let name = found["display_name"].as_str().unwrap();
            if !name.contains("keywheel-lease") {
                continue;
            }
            if found["ttl"].as_u64().unwrap() > MINT_SPAN.as_secs() {
                extended += 1;
                continue;
            }
            let place = "auth/token/revoke-accessor";
            let _ended = server.ask("POST", place, &headers, &body);
        }
        extended
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_of_a_lease_survives_every_failpoint_and_leaves_no_orphan() {
    if is_child().await {
        return;
    }
    let bank = Bank::open().await;
    let mut secret = AtBank::begin(&bank).await;
    for point in points("store.lease.") {
        let came = traps::walk(point, async |trap| secret.swap(trap).await).await;
        assert!(came, "{point} is not reached");
        traps::kill(point, async |trap| secret.swap(trap).await).await;
    }
}
