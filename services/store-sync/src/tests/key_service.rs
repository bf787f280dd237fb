//! A seal that a key service opens: by itself when it answers, again and again when it does not, and not at all once
//! a person sealed.
#![expect(
    clippy::disallowed_methods,
    reason = "pauses are measured in the time of the runtime, which these tests hold still"
)]

use keywheel_engine::port::key_service::{Binding, KeyService};
use keywheel_engine::presence::{Health, SEAL_FACT};
use keywheel_engine::unseal;
use keywheel_seal::unseal::{Provider, SealedRoot, ServiceKind};
use keywheel_testkit::fake::{FakeClock, FakeKeyService};

use super::seal::{Custodian, encrypt, seal_fact};
use super::*;
use crate::seal::{
    Custody, START_PATIENCE, Seal, UNSEAL_PAUSE, UNSEAL_PAUSE_LIMIT, root_by_service,
    seal_by_service, unseal_by_service,
};

const SETTINGS: &str = "/etc/keywheel/unseal.toml";
const AWAY: (ErrorKind, &str) = (ErrorKind::Unavailable, "no answer; check the network");

struct Kept {
    seal: Seal,
    service: Arc<FakeKeyService>,
    custodian: Arc<Custodian>,
}

fn clock() -> Arc<dyn keywheel_engine::port::clock::Clock> {
    Arc::new(FakeClock::default())
}

async fn sealed_by(service: &FakeKeyService) -> SealedRoot {
    let root = UnsealKey::generate(&OsEntropy);
    let clock = clock();
    let of = (*DEPLOYMENT.bytes(), &root);
    let made = (ServiceKind::Transit, SETTINGS);
    let sealed = seal_by_service(service, made, of, (&clock, &OsEntropy)).await;
    sealed.unwrap()
}

fn begin(root: SealedRoot, custodian: &Arc<Custodian>, service: Arc<dyn KeyService>) -> Seal {
    let custody = Custody {
        deployment: DEPLOYMENT,
        root: Some(root),
        custodian: custodian.clone(),
        service: Some(service),
        clock: clock(),
        entropy: Arc::new(OsEntropy),
    };
    Seal::begin(custody, None)
}

/// A service that never answers.
struct Silent;

#[async_trait]
impl KeyService for Silent {
    fn key(&self) -> &str {
        "kw"
    }

    async fn wrap(&self, _: &SecretBytes, _: &Binding, _: &Until) -> Result<Vec<u8>, PortError> {
        std::future::pending().await
    }

    async fn unwrap(&self, _: &[u8], _: &Binding, _: &Until) -> Result<SecretBytes, PortError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_a_silent_service_as_long_as_its_patience_and_no_longer() {
    let root = sealed_by(&FakeKeyService::new("kw")).await;
    let seal = begin(root, &Custodian::new(), Arc::new(Silent));
    let before = tokio::time::Instant::now();
    seal.unseal_at_start().await;
    let waited = before.elapsed();
    let late = Duration::from_millis(20);
    assert!(
        (START_PATIENCE..START_PATIENCE + late).contains(&waited),
        "{waited:?}"
    );
    assert!(seal.is_sealed());
    let note = seal.fact().note;
    assert!(note.contains("it is being asked"), "{note}");
}

/// A service that wraps nothing.
struct Echo;

#[async_trait]
impl KeyService for Echo {
    fn key(&self) -> &str {
        "kw"
    }

    async fn wrap(
        &self,
        plain: &SecretBytes,
        _: &Binding,
        _: &Until,
    ) -> Result<Vec<u8>, PortError> {
        // EXPOSE: what must not be kept.
        Ok([b"v1:", plain.expose()].concat())
    }

    async fn unwrap(
        &self,
        wrapped: &[u8],
        _: &Binding,
        _: &Until,
    ) -> Result<SecretBytes, PortError> {
        Ok(SecretBytes::from(wrapped[3..].to_vec()))
    }
}

/// A service that takes its time, and counts the questions that are under way.
struct Slow {
    service: FakeKeyService,
    asked: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl KeyService for Slow {
    fn key(&self) -> &str {
        self.service.key()
    }

    async fn wrap(
        &self,
        plain: &SecretBytes,
        binding: &Binding,
        until: &Until,
    ) -> Result<Vec<u8>, PortError> {
        self.service.wrap(plain, binding, until).await
    }

    async fn unwrap(
        &self,
        wrapped: &[u8],
        binding: &Binding,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        let now = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.asked.fetch_sub(1, Ordering::SeqCst);
        self.service.unwrap(wrapped, binding, until).await
    }
}

#[tokio::test]
async fn however_many_want_it_open_one_question_is_under_way() {
    let service = FakeKeyService::new("kw");
    let root = sealed_by(&service).await;
    service.fail(Some(AWAY));
    let slow = Arc::new(Slow {
        service,
        asked: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let seal = begin(root, &Custodian::new(), slow.clone());
    let key = seal.state().await.unwrap().key;
    let offer = || async {
        let nothing = SecretBytes::from(Vec::new());
        seal.offer(&encrypt(key, &nothing)).await
    };
    let refused = tokio::join!(offer(), offer(), offer());
    assert!(refused.0.is_err() && refused.1.is_err() && refused.2.is_err());
    slow.service.fail(None);
    let before = slow.service.asked();
    let opened = tokio::join!(offer(), offer(), offer());
    assert!(opened.0.is_ok() && opened.1.is_ok() && opened.2.is_ok());
    assert!(!seal.is_sealed());
    assert_eq!(slow.service.asked(), before + 1, "one answer was enough");
    assert_eq!(slow.most.load(Ordering::SeqCst), 1);
}

impl Kept {
    async fn new() -> Self {
        let service = Arc::new(FakeKeyService::new("kw"));
        let root = sealed_by(&service).await;
        Self::of(root, service)
    }

    /// A root key that one key wrapped, and the key that is asked.
    fn of(root: SealedRoot, service: Arc<FakeKeyService>) -> Self {
        let custodian = Custodian::new();
        Self {
            seal: begin(root, &custodian, service.clone()),
            service,
            custodian,
        }
    }

    fn note(&self) -> (Health, String, String) {
        let fact = self.seal.fact();
        assert_eq!(fact.name, SEAL_FACT);
        (fact.health, fact.note, fact.next.unwrap_or_default())
    }

    async fn offer(&self) -> Result<unseal::SealState, PortError> {
        let key = self.seal.state().await.unwrap().key;
        let nothing = SecretBytes::from(Vec::new());
        self.seal.offer(&encrypt(key, &nothing)).await
    }
}

#[tokio::test]
async fn a_service_that_answers_opens_it_at_the_start() {
    let kept = Kept::new().await;
    kept.seal.unseal_at_start().await;
    assert!(!kept.seal.is_sealed());
    let state = kept.seal.state().await.unwrap();
    assert!(state.provider == "transit" && state.shares.is_none());
    let (health, note, _) = kept.note();
    assert_eq!(
        (health, note.as_str()),
        (Health::Ok, "unsealed, by transit")
    );
}

#[tokio::test]
async fn nothing_rests_on_a_service_that_does_not_give_back_what_it_wrapped() {
    let service = FakeKeyService::new("kw");
    service.fail(Some((ErrorKind::Denied, "only `encrypt` is allowed")));
    let root = UnsealKey::generate(&OsEntropy);
    let clock = clock();
    let of = (*DEPLOYMENT.bytes(), &root);
    let made = (ServiceKind::Kms, SETTINGS);
    let refused = seal_by_service(&service, made, of, (&clock, &OsEntropy)).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Denied);
    let echoed = seal_by_service(&Echo, made, of, (&clock, &OsEntropy)).await;
    let echoed = echoed.unwrap_err();
    assert!(
        echoed.kind == ErrorKind::Denied && echoed.text.contains("nothing was wrapped"),
        "{echoed}"
    );
    service.fail(None);
    let sealed = sealed_by(&service).await;
    let Provider::Service(kept) = &sealed.provider else {
        panic!("a service");
    };
    assert_eq!((kept.settings(), kept.key()), (SETTINGS, "kw"));
    assert_eq!(service.asked(), 1, "it was asked to give it back");
}

#[tokio::test]
async fn another_key_and_another_deployment_open_nothing_and_the_right_key_is_named() {
    let root = sealed_by(&FakeKeyService::new("kw")).await;
    let clock = clock();
    let other = FakeKeyService::new("other");
    let refused = root_by_service(&other, &root, &clock).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
    assert!(
        refused.text.contains("fake key `other`") && refused.text.contains("wrapped by `kw`"),
        "{refused}"
    );
    let moved = SealedRoot {
        deployment: [9; 16],
        ..root.clone()
    };
    let own = FakeKeyService::new("kw");
    let refused = root_by_service(&own, &moved, &clock).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
    let kept = Kept::of(root, Arc::new(other));
    kept.seal.unseal_at_start().await;
    assert!(kept.seal.is_sealed());
    assert_eq!(kept.custodian.held(), 0, "no cache was opened");
    let (health, note, next) = kept.note();
    assert_eq!(health, Health::Problem);
    assert!(
        note.starts_with("sealed, by transit: fake key `other`") && note.contains("`kw`"),
        "{note}"
    );
    assert!(next.contains("keywheel unseal"), "{next}");
}

/// Waits by the runtime's clock, which a test may have paused: then it moves on by itself.
async fn until(is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, waited).await.unwrap();
}

#[tokio::test]
async fn one_that_is_away_at_the_start_is_asked_again_and_opens_it_without_a_word() {
    let mut world = World::new().await;
    let kept = Kept::new().await;
    kept.service.fail(Some(AWAY));
    kept.seal.unseal_at_start().await;
    let (handle, shutdown, task) = world.start_under(&kept.seal);
    world.send(Work::Step(step(Step::Create, 1))).await;
    let (health, note) = seal_fact(&handle).await;
    assert!(
        health == Health::Problem && note.contains("transit") && note.contains("no answer"),
        "{note}"
    );
    let before = kept.service.asked();
    until(|| kept.service.asked() > before).await;
    assert!(kept.seal.is_sealed());
    kept.service.fail(None);
    let done = world.outcome().await;
    assert_eq!(failure(&done), None, "what waited is done");
    assert!(!kept.seal.is_sealed());
    assert_eq!(seal_fact(&handle).await.0, Health::Ok);
    assert_eq!(kept.service.asked_anew(), 0, "nobody said a word");
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_pause_grows_to_its_limit_and_not_beyond() {
    let kept = Kept::new().await;
    kept.service.fail(Some(AWAY));
    kept.seal.unseal_at_start().await;
    let (seal, shutdown) = (kept.seal.clone(), Shutdown::new());
    let told = shutdown.clone();
    let task = tokio::spawn(async move { unseal_by_service(&seal, &told).await });
    let mut asked = kept.service.asked();
    let mut pauses = Vec::new();
    let mut last = tokio::time::Instant::now();
    while pauses.len() < 12 {
        until(|| kept.service.asked() > asked).await;
        asked = kept.service.asked();
        pauses.push(last.elapsed());
        last = tokio::time::Instant::now();
    }
    // Half of each is fixed; each look of this test comes ten milliseconds late at most.
    let late = Duration::from_millis(20);
    let mut whole = UNSEAL_PAUSE;
    for pause in pauses {
        let bounds = whole / 2 - late..=whole + late;
        assert!(bounds.contains(&pause), "{pause:?} of {whole:?}");
        whole = (whole * 2).min(UNSEAL_PAUSE_LIMIT);
    }
    assert_eq!(whole, UNSEAL_PAUSE_LIMIT);
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn what_a_person_sealed_stays_sealed_until_a_person_unseals_it() {
    let kept = Kept::new().await;
    kept.seal.unseal_at_start().await;
    let (seal, shutdown) = (kept.seal.clone(), Shutdown::new());
    let told = shutdown.clone();
    let task = tokio::spawn(async move { unseal_by_service(&seal, &told).await });
    assert!(kept.seal.close().await.unwrap().sealed);
    assert_eq!(kept.custodian.held(), 0, "every key went with the cache");
    let asked = kept.service.asked();
    tokio::time::pause();
    tokio::time::sleep(10 * UNSEAL_PAUSE_LIMIT).await;
    tokio::time::resume();
    assert!(kept.seal.is_sealed() && kept.service.asked() == asked);
    let (_, note, next) = kept.note();
    assert!(note.starts_with("sealed, by transit:"), "{note}");
    assert_eq!(next, "`keywheel unseal`");
    let foreign = HostKeyPair::generate(&OsEntropy).public().to_bytes();
    let nothing = SecretBytes::from(Vec::new());
    let unread = kept.seal.offer(&encrypt(foreign, &nothing)).await;
    assert_eq!(unread.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(
        kept.service.asked(),
        asked,
        "who cannot be read asks nobody"
    );
    kept.service.fail(Some(AWAY));
    let refused = kept.offer().await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    assert!(refused.text.contains("check the network"), "{refused}");
    assert_eq!(kept.service.asked_anew(), 1, "a person asked");
    // From then on it is wanted: the service is asked until it answers.
    kept.service.fail(None);
    until(|| !kept.seal.is_sealed()).await;
    let again = kept.offer().await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::Conflict, "unsealed already");
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn a_cache_that_does_not_open_just_now_is_tried_again_with_the_key() {
    let kept = Kept::new().await;
    kept.custodian.is_busy.store(true, Ordering::SeqCst);
    kept.seal.unseal_at_start().await;
    let (_, note, _) = kept.note();
    assert!(note.contains("the disk is full"), "{note}");
    let (seal, shutdown) = (kept.seal.clone(), Shutdown::new());
    let told = shutdown.clone();
    let task = tokio::spawn(async move { unseal_by_service(&seal, &told).await });
    until(|| !kept.seal.is_sealed()).await;
    shutdown.request();
    task.await.unwrap();
}
