//! The seal: nothing is opened before the right people came, work waits for them, and nothing is left after it
//! was closed.

mod told;

use std::sync::Weak;

use keywheel_cache::PostgresCache;
use keywheel_engine::presence::{Health, Look as _, ROOT_KEY_FACT, SEAL_FACT};
use keywheel_engine::unseal::{self, Given, RootKey, SealState, Shares};
use keywheel_seal::unseal::{Cost, MIN_MEMORY_KIB, SealedRoot, Share};
use keywheel_testkit::fake::FakeClock;
use keywheel_testkit::server::postgres::PostgresServer;

use super::*;
use crate::seal::{
    Custody, KeyCustodian, LOOK_AGAIN, MAX_REFUSED, Opened, REFUSED_SPAN, SHARES_KEPT_FOR, Seal,
    replace_keys,
};

const PASSPHRASE: &[u8] = b"correct horse battery staple";

/// A cache in a directory, opened anew each time.
pub(super) struct Custodian {
    directory: tempfile::TempDir,
    key_file: SecretBytes,
    opened: Mutex<Vec<Weak<Cache>>>,
    /// Whether the cache does not open the next time.
    pub(super) is_busy: AtomicBool,
}

impl Custodian {
    pub(super) fn new() -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Arc::new(Self {
            directory,
            key_file: UnsealKey::generate(&OsEntropy).to_file(),
            opened: Mutex::default(),
            is_busy: AtomicBool::new(false),
        })
    }

    /// Caches that somebody still has.
    pub(super) fn held(&self) -> usize {
        let opened = self.opened.lock().unwrap();
        opened
            .iter()
            .filter(|cache| cache.strong_count() > 0)
            .count()
    }
}

#[async_trait]
impl KeyCustodian for Custodian {
    fn key_file(&self) -> Result<UnsealKey, PortError> {
        Ok(UnsealKey::from_file(&self.key_file).unwrap())
    }

    async fn open(&self, root: UnsealKey) -> Result<Opened, PortError> {
        if self.is_busy.swap(false, Ordering::SeqCst) {
            return Err(PortError::new(ErrorKind::Unavailable, "the disk is full"));
        }
        let path = self.directory.path().join("cache.db");
        let (entropy, clock) = (Arc::new(OsEntropy), Arc::new(SystemClock::new()));
        let opened = Cache::open(&path, *DEPLOYMENT.bytes(), root, entropy, clock).await;
        let cache = Arc::new(opened.map_err(|error| {
            PortError::caused(ErrorKind::Denied, "the cache does not open", error)
        })?);
        self.opened.lock().unwrap().push(Arc::downgrade(&cache));
        Ok(Opened {
            vault: cache.clone(),
            keys: Some(cache.clone()),
            cache: Some(cache),
        })
    }
}

/// A seal whose time a test moves.
struct Sealed {
    seal: Seal,
    custodian: Arc<Custodian>,
    clock: Arc<FakeClock>,
}

impl Sealed {
    fn with(root: Option<SealedRoot>) -> Self {
        let (custodian, clock) = (Custodian::new(), Arc::new(FakeClock::default()));
        let custody = Custody {
            deployment: DEPLOYMENT,
            root,
            custodian: custodian.clone(),
            service: None,
            clock: clock.clone(),
            entropy: Arc::new(OsEntropy),
        };
        Self {
            seal: Seal::begin(custody, None),
            custodian,
            clock,
        }
    }

    /// Sealed by shares, and those.
    fn by_shares(threshold: u8, shares: u8) -> (Self, Vec<SecretBytes>) {
        let (root, texts) = shares_of(threshold, shares);
        (Self::with(Some(root)), texts)
    }

    async fn offer(&self, offer: &SecretBytes) -> Result<SealState, PortError> {
        let key = self.seal.state().await.unwrap().key;
        self.seal.offer(&encrypt(key, offer)).await
    }

    async fn have(&self) -> u8 {
        self.seal.state().await.unwrap().shares.unwrap().have
    }
}

fn shares_of(threshold: u8, shares: u8) -> (SealedRoot, Vec<SecretBytes>) {
    let root = UnsealKey::generate(&OsEntropy);
    let wanted = (threshold, shares);
    let (sealed, made) =
        SealedRoot::by_shares(*DEPLOYMENT.bytes(), &root, wanted, &OsEntropy).unwrap();
    (sealed, made.iter().map(Share::to_text).collect())
}

pub(super) fn encrypt(key: [u8; 32], offer: &SecretBytes) -> Vec<u8> {
    let (info, aad) = (unseal::info(DEPLOYMENT), unseal::aad(&key));
    let to = PublicKey::from_bytes(key);
    let envelope = hpke::seal(&to, &info, &aad, offer, &OsEntropy).unwrap();
    envelope.to_bytes()
}

fn bytes(text: &[u8]) -> SecretBytes {
    SecretBytes::from(text.to_vec())
}

#[tokio::test]
async fn what_is_wrong_with_a_share_is_not_told_and_changes_nothing() {
    let (sealed, shares) = Sealed::by_shares(3, 4);
    let (_, foreign) = shares_of(3, 4);
    assert_eq!(
        sealed.offer(&shares[0]).await.unwrap().shares.unwrap().have,
        1
    );
    let mut said = Vec::new();
    for wrong in [&shares[0], &foreign[1], &bytes(b"KWS1-00000"), &bytes(b"")] {
        let error = sealed.offer(wrong).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied);
        said.push(error.text);
        assert_eq!(sealed.have().await, 1);
    }
    let other_key = HostKeyPair::generate(&OsEntropy).public().to_bytes();
    let unread = sealed.seal.offer(&encrypt(other_key, &shares[1])).await;
    said.push(unread.unwrap_err().text);
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(sealed.seal.is_sealed());
}

#[tokio::test]
async fn after_too_many_wrong_ones_a_right_one_is_not_looked_at_for_a_while() {
    let (sealed, shares) = Sealed::by_shares(2, 2);
    for _ in 0..MAX_REFUSED {
        let error = sealed.offer(&bytes(b"wrong")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied);
    }
    for offer in [&bytes(b"wrong"), &shares[0]] {
        let error = sealed.offer(offer).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(!unseal::is_sealed(error.kind, &error.text), "{error}");
    }
    assert_eq!(sealed.have().await, 0);
    sealed.clock.advance(REFUSED_SPAN);
    assert!(sealed.offer(&shares[0]).await.is_ok());
    assert!(!sealed.offer(&shares[1]).await.unwrap().sealed);
}

#[tokio::test]
async fn shares_are_forgotten_when_the_others_do_not_come_in_time() {
    let (sealed, shares) = Sealed::by_shares(2, 3);
    assert!(sealed.offer(&shares[0]).await.is_ok());
    sealed
        .clock
        .advance(SHARES_KEPT_FOR - Duration::from_secs(1));
    assert_eq!(sealed.have().await, 1);
    let key = sealed.seal.state().await.unwrap().key;
    sealed.clock.advance(Duration::from_secs(1));
    assert_eq!(sealed.have().await, 0);
    let next = sealed.seal.state().await.unwrap().key;
    assert_ne!(next, key, "it is another unsealing");
    assert!(sealed.offer(&shares[1]).await.unwrap().sealed);
    assert!(
        !sealed.offer(&shares[0]).await.unwrap().sealed,
        "given anew"
    );
}

#[tokio::test]
async fn where_the_cache_does_not_open_just_now_only_the_last_share_is_given_again() {
    let (sealed, shares) = Sealed::by_shares(3, 3);
    for share in &shares[..2] {
        sealed.offer(share).await.unwrap();
    }
    sealed.custodian.is_busy.store(true, Ordering::SeqCst);
    let error = sealed.offer(&shares[2]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(sealed.have().await, 2);
    assert!(!sealed.offer(&shares[2]).await.unwrap().sealed);
    sealed.seal.close().await.unwrap();
    assert_eq!(sealed.have().await, 0, "none is left of those before");
}

#[tokio::test]
async fn an_offer_that_was_kept_opens_nothing_after_it_was_sealed_again() {
    let (sealed, shares) = Sealed::by_shares(2, 2);
    let key = sealed.seal.state().await.unwrap().key;
    let kept = [encrypt(key, &shares[0]), encrypt(key, &shares[1])];
    for offer in &kept {
        sealed.seal.offer(offer).await.unwrap();
    }
    assert!(!sealed.seal.is_sealed());
    let again = sealed.seal.offer(&kept[0]).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::Conflict, "unsealed already");
    assert!(sealed.seal.close().await.unwrap().sealed);
    for offer in &kept {
        let error = sealed.seal.offer(offer).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied);
    }
    assert_eq!(sealed.have().await, 0);
}

#[tokio::test]
async fn a_passphrase_opens_it_and_another_one_does_not() {
    let root = UnsealKey::generate(&OsEntropy);
    let cheap = Cost::new(MIN_MEMORY_KIB, 1, 1).unwrap();
    let by = (&bytes(PASSPHRASE), cheap);
    let root = SealedRoot::by_passphrase(*DEPLOYMENT.bytes(), &root, by, &OsEntropy).unwrap();
    let sealed = Sealed::with(Some(root));
    let wrong = sealed.offer(&bytes(b"incorrect horse battery")).await;
    assert_eq!(wrong.unwrap_err().kind, ErrorKind::Denied);
    let state = sealed.offer(&bytes(PASSPHRASE)).await.unwrap();
    assert!(!state.sealed && state.shares.is_none() && state.provider == "passphrase");
}

#[tokio::test]
async fn a_key_file_is_read_again_when_somebody_says_so() {
    let sealed = Sealed::with(None);
    assert_eq!(sealed.seal.state().await.unwrap().provider, "key-file");
    assert!(!sealed.offer(&bytes(b"")).await.unwrap().sealed);
    let vault = sealed.seal.as_vault();
    vault.stash(ROTATION, &bytes(CANARY)).await.unwrap();
    sealed.seal.close().await.unwrap();
    let error = vault.stashed(ROTATION).await.unwrap_err();
    assert!(unseal::is_sealed(error.kind, &error.text), "{error}");
    assert_eq!(sealed.custodian.held(), 0, "every key went with the cache");
    sealed.offer(&bytes(b"")).await.unwrap();
    let kept = vault.stashed(ROTATION).await.unwrap().unwrap();
    assert!(kept.ct_eq(&bytes(CANARY)));
}

#[tokio::test]
async fn a_vault_without_a_seal_is_neither_sealed_nor_unsealed() {
    let world = World::new().await;
    let (shutdown, task) = world.start();
    for body in [
        Body::ReadSeal,
        Body::Seal,
        Body::Unseal {
            offered: Vec::new(),
        },
    ] {
        let answer = world.ask(&world.gateway, body).await;
        let Body::Failed { kind, text } = answer else {
            panic!("{answer:?}");
        };
        assert!(
            kind == ErrorKind::Denied && text.contains("shares its cache"),
            "{text}"
        );
    }
    shutdown.request();
    task.await.unwrap();
}

impl World {
    /// The service under a seal, its local store on the same vault.
    pub(super) fn start_under(&self, seal: &Seal) -> (crate::Handle, Shutdown, JoinHandle<()>) {
        let ports = Ports {
            vault: seal.as_vault(),
            rotator: Arc::new(LocalStore::new(seal.as_vault(), Arc::new(OsEntropy))),
            ..self.ports()
        };
        let service = StoreSync::under_seal(options(), ports, seal.clone());
        let (handle, shutdown) = (service.handle(), Shutdown::new());
        let told = shutdown.clone();
        let task = tokio::spawn(async move { service.run(told).await.unwrap() });
        (handle, shutdown, task)
    }

    async fn state(&self, body: Body) -> SealState {
        match self.ask(&self.gateway, body).await {
            Body::SealState(state) => state,
            other => panic!("no state: {other:?}"),
        }
    }

    async fn give(&self, share: &SecretBytes) -> Body {
        let key = self.state(Body::ReadSeal).await.key;
        let offered = encrypt(key, share);
        self.ask(&self.gateway, Body::Unseal { offered }).await
    }
}

pub(super) async fn seal_fact(handle: &crate::Handle) -> (Health, String) {
    let facts = handle.look().await.facts;
    let fact = facts.into_iter().find(|fact| fact.name == SEAL_FACT);
    let fact = fact.unwrap();
    (fact.health, fact.note)
}

async fn root_key(handle: &crate::Handle) -> Option<RootKey> {
    let facts = handle.look().await.facts;
    let fact = facts.into_iter().find(|fact| fact.name == ROOT_KEY_FACT)?;
    Some(RootKey::parse(&fact.note).unwrap())
}

#[tokio::test]
async fn once_it_is_open_it_says_which_root_key_opened_it_and_how_its_cache_came_by_it() {
    let world = World::new().await;
    let (root, made) = (
        UnsealKey::generate(&OsEntropy),
        UnsealKey::generate(&OsEntropy),
    );
    let known = made.to_file();
    let by_passphrase = |root: &UnsealKey| {
        let cheap = Cost::new(MIN_MEMORY_KIB, 1, 1).unwrap();
        let by = (&bytes(PASSPHRASE), cheap);
        SealedRoot::by_passphrase(*DEPLOYMENT.bytes(), root, by, &OsEntropy).unwrap()
    };
    let (first, next) = (by_passphrase(&made), by_passphrase(&root));
    let hexadecimal = |sealed: &SealedRoot| -> String {
        let id = sealed.root.bytes();
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let sealed = Sealed::with(Some(first.clone()));
    let (handle, shutdown, task) = world.start_under(&sealed.seal);
    assert_eq!(root_key(&handle).await, None, "nothing opened it yet");
    sealed.offer(&bytes(PASSPHRASE)).await.unwrap();
    let told = root_key(&handle).await.unwrap();
    assert_eq!(
        (told.given, told.id),
        (Given::Init, Some(hexadecimal(&first)))
    );
    assert_eq!(told.provider, "passphrase");
    shutdown.request();
    task.await.unwrap();
    sealed.seal.close().await.unwrap();
    let opened = sealed.custodian.open(UnsealKey::from_file(&known).unwrap());
    let cache = opened.await.unwrap().cache.unwrap();
    cache.reseal(root, 7).await.unwrap();
    drop(cache);
    let custody = Custody {
        deployment: DEPLOYMENT,
        root: Some(next.clone()),
        custodian: sealed.custodian.clone(),
        service: None,
        clock: sealed.clock.clone(),
        entropy: Arc::new(OsEntropy),
    };
    let resealed = Seal::begin(custody, None);
    let key = resealed.state().await.unwrap().key;
    let offered = encrypt(key, &bytes(PASSPHRASE));
    resealed.offer(&offered).await.unwrap();
    let world = World::new().await;
    let (handle, shutdown, task) = world.start_under(&resealed);
    let told = root_key(&handle).await.unwrap();
    assert_eq!(
        (told.given, told.id),
        (Given::Reseal, Some(hexadecimal(&next)))
    );
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn sealed_it_answers_for_its_seal_alone_and_work_waits_until_enough_came() {
    let mut world = World::new().await;
    let (sealed, shares) = Sealed::by_shares(2, 3);
    let (handle, shutdown, task) = world.start_under(&sealed.seal);
    world.send(Work::Step(step(Step::Create, 1))).await;
    let state = world.state(Body::ReadSeal).await;
    let none = Shares { have: 0, need: 2 };
    assert!(state.sealed && state.shares == Some(none), "{state:?}");
    let asked = [
        Body::ReadStoreKey,
        Body::LookNow { secret: None },
        Body::DropStash { token: ROTATION },
    ];
    for body in asked {
        let answer = world.ask(&world.gateway, body).await;
        let Body::Failed { kind, text } = answer else {
            panic!("{answer:?}");
        };
        assert!(
            unseal::is_sealed(kind, &text) && text.contains("keywheel unseal"),
            "{text}"
        );
    }
    world.assert_no_outcome(Duration::from_millis(300)).await;
    assert!(matches!(world.give(&shares[2]).await, Body::SealState(state) if state.sealed));
    let (health, note) = seal_fact(&handle).await;
    assert!(
        health == Health::Problem && note.contains("1 of 2 shares"),
        "{note}"
    );
    assert!(matches!(
        world.give(&shares[2]).await,
        Body::Failed {
            kind: ErrorKind::Denied,
            ..
        }
    ));
    assert!(matches!(world.give(&shares[0]).await, Body::SealState(state) if !state.sealed));
    assert_eq!(failure(&world.outcome().await), None, "what waited is done");
    assert_eq!(seal_fact(&handle).await.0, Health::Ok);
    assert!(matches!(
        world.ask(&world.gateway, Body::ReadStoreKey).await,
        Body::StoreKey(_)
    ));
    for said in world.said.lock().unwrap().iter() {
        assert!(!said.contains("KWS1"), "{said}");
    }
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn what_is_sealed_midway_has_no_outcome_and_is_done_once_it_is_unsealed() {
    let mut world = World::new().await;
    let (sealed, shares) = Sealed::by_shares(2, 2);
    let (handle, shutdown, task) = world.start_under(&sealed.seal);
    for share in &shares {
        world.give(share).await;
    }
    world.send(Work::Step(step(Step::Create, 1))).await;
    assert_eq!(failure(&world.outcome().await), None);
    assert!(world.state(Body::Seal).await.sealed);
    assert_eq!(sealed.custodian.held(), 0, "every key went with the cache");
    assert_eq!(seal_fact(&handle).await.0, Health::Problem);
    world.send(Work::Step(step(Step::Set, 1))).await;
    world.assert_no_outcome(Duration::from_millis(300)).await;
    for share in &shares {
        world.give(share).await;
    }
    assert_eq!(failure(&world.outcome().await), None);
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn a_fresh_key_wraps_everything_anew_while_values_are_used() {
    let world = World::new().await;
    let sealed = Sealed::with(None);
    sealed.offer(&bytes(b"")).await.unwrap();
    let (_, shutdown, task) = world.start_under(&sealed.seal);
    let vault = sealed.seal.as_vault();
    for version in 1..=300 {
        let mut token = [9; 16];
        token[..8].copy_from_slice(&u64::to_be_bytes(version));
        let token = RotationId::from_bytes(token);
        vault
            .insert(SECRET, version, token, &bytes(CANARY))
            .await
            .unwrap();
    }
    let begun = world.state(Body::RotateKek).await;
    assert!(begun.kek_rows_left.is_some(), "{begun:?}");
    let done = async {
        loop {
            assert!(vault.open(SECRET, 7).await.unwrap().ct_eq(&bytes(CANARY)));
            if world.state(Body::ReadSeal).await.kek_rows_left.is_none() {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, done).await.unwrap();
    assert!(vault.open(SECRET, 300).await.unwrap().ct_eq(&bytes(CANARY)));
    world.state(Body::Seal).await;
    let Body::Failed { kind, text } = world.ask(&world.gateway, Body::RotateKek).await else {
        panic!("a sealed cache has no key to replace");
    };
    assert!(unseal::is_sealed(kind, &text), "{text}");
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn the_key_of_a_shared_cache_is_replaced_by_command_at_one_of_those_that_share_it() {
    let world = World::new().await;
    let server = PostgresServer::start();
    let address = keywheel_cache::Address::parse(&server.database("cache"), None).unwrap();
    let key = UnsealKey::generate(&OsEntropy).to_file();
    let open = || {
        let key = UnsealKey::from_file(&key).unwrap();
        let entropy = Arc::new(OsEntropy);
        let of = *DEPLOYMENT.bytes();
        PostgresCache::open_shared(&address, of, key, entropy, world.clock.clone())
    };
    // Another store-sync, of which nothing is asked.
    let other = open().await.unwrap();
    let seal = Seal::shared(open().await.unwrap());
    let (_, shutdown, task) = world.start_under(&seal);
    for version in 1..=300 {
        let mut token = [9; 16];
        token[..8].copy_from_slice(&u64::to_be_bytes(version));
        let token = RotationId::from_bytes(token);
        let value = bytes(CANARY);
        let made = other.insert_pending(SECRET, version, token, &value).await;
        made.unwrap();
    }
    let before = world.state(Body::ReadSeal).await;
    assert!(
        !before.sealed && before.kek_rows_left.is_none(),
        "{before:?}"
    );
    let begun = world.state(Body::RotateKek).await;
    assert!(begun.kek_rows_left.is_some(), "{begun:?}");
    let done = async {
        while world.state(Body::ReadSeal).await.kek_rows_left.is_some() {
            let opened = other.open_version(SECRET, 7).await.unwrap();
            assert!(opened.ct_eq(&bytes(CANARY)));
        }
    };
    tokio::time::timeout(SOON, done).await.unwrap();
    assert_eq!(other.rekeying().await.unwrap().old_keks, 0);
    let opened = other.open_version(SECRET, 300).await.unwrap();
    assert!(opened.ct_eq(&bytes(CANARY)));
    // It is open for good all the same.
    let Body::Failed { kind, .. } = world.ask(&world.gateway, Body::Seal).await else {
        panic!("a share would reach one of those that share it");
    };
    assert_eq!(kind, ErrorKind::Denied);
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_that_a_wrap_replaced_is_found_without_a_word_while_it_runs() {
    let sealed = Sealed::with(None);
    sealed.offer(&bytes(b"")).await.unwrap();
    let cache = sealed.custodian.opened.lock().unwrap()[0].upgrade();
    let cache = cache.unwrap();
    let (seal, shutdown) = (sealed.seal.clone(), Shutdown::new());
    let told = shutdown.clone();
    let task = tokio::spawn(async move { replace_keys(&seal, &told).await });
    // It has the cache now, finds one key, and waits; what follows comes after that.
    tokio::task::yield_now().await;
    assert_eq!(cache.begin_rekey().await.unwrap().old_keks, 1);
    let mut looks = 0;
    while cache.rekeying().await.unwrap().old_keks > 0 {
        assert!(looks < 100, "nobody looks");
        tokio::time::sleep(LOOK_AGAIN).await;
        looks += 1;
    }
    shutdown.request();
    task.await.unwrap();
}
