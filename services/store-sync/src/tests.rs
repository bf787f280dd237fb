//! The service on a real bus, cache and local store, against a gateway that a test writes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_bus::{Identity, InProcess, Trust};
use keywheel_cache::Cache;
use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::effect::{AtResource, Effect, Outside, Part, RevokeWork, StepWork, Work};
use keywheel_core::id::{
    CommandId, DeliveryId, DeploymentId, HostId, RevocationId, RotationId, SecretId,
};
use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::rotation::Step;
use keywheel_core::secret::Generator;
use keywheel_core::store::{News, RemoteVersion};
use keywheel_core::time::Timestamp;
use keywheel_daemon::{Shutdown, SystemClock, SystemIds};
use keywheel_engine::port::bus::{Address, Body, Bus, Request, Topic, ValueRequest};
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::port::rotator::{Probed, Rotator};
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::publisher::WORK_SPAN;
use keywheel_engine::until::Until;
use keywheel_engine::{authority, delivery, stash};
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::hpke::{self, Envelope, HostKeyPair, PublicKey};
use keywheel_seal::sign::SigningKey;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_stores::LocalStore;
use keywheel_testkit::fake::FakeAccounts;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::presence::Counts;
use crate::{Ports, StoreSync, StoreSyncOptions};

mod accounts;
mod key_service;
mod outside;
mod seal;
mod servers;
mod silent;
mod steps;
mod values;

const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([4; 16]);
const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const ROTATION: RotationId = RotationId::from_bytes([2; 16]);
const HOST: HostId = HostId::from_bytes([7; 16]);
const DELIVERY: DeliveryId = DeliveryId::from_bytes([8; 16]);
const CANARY: &[u8] = b"canary-5f1d7c0a9be24f6e8d3311aa44cc77ee";
const SOON: Duration = Duration::from_secs(120);

/// An outcome as the gateway saw it.
type Outcome = (CommandId, Command);

/// Everything around one store-sync.
struct World {
    hub: InProcess,
    keys: BTreeMap<Role, SecretBytes>,
    vault: Arc<Cache>,
    clock: Arc<SystemClock>,
    rotator: Arc<SlowStore>,
    gateway: Arc<dyn Bus>,
    injector: Arc<dyn Bus>,
    outcomes: mpsc::Receiver<Outcome>,
    script: Arc<Script>,
    fakes: Arc<outside::Fakes>,
    /// Accounts at every resource.
    accounts: FakeAccounts,
    /// Instead of the fakes.
    connect: Option<Arc<dyn keywheel_engine::port::store::Connect>>,
    host: HostKeyPair,
    said: Arc<Mutex<Vec<String>>>,
    work: Cell<u64>,
    /// What the store-sync that was made last says of itself.
    counts: RefCell<Arc<Counts>>,
    directory: tempfile::TempDir,
}

/// What the gateway does, and what it counts.
#[derive(Default)]
struct Script {
    /// Outcomes that get no answer before any does.
    silent: AtomicUsize,
    rejects: AtomicBool,
    /// What was observed is not taken now.
    fails: AtomicBool,
    /// Who waits for news gets none; who asks does.
    tells_nobody_who_waits: AtomicBool,
    granted: Mutex<Option<[u8; 32]>>,
    asked_for_grants: AtomicUsize,
    /// Word about whether stores answer, as it came.
    contacts: Mutex<Vec<(keywheel_core::id::StoreId, Option<String>)>>,
    /// What there is to know about stores.
    news: tokio::sync::watch::Sender<News>,
}

/// The local store, slowed down and counted.
struct SlowStore {
    inner: LocalStore,
    begun: Mutex<Vec<(Step, u32)>>,
    probed: Mutex<Vec<(Step, u32)>>,
    hold: tokio::sync::Semaphore,
    /// Steps of this secret panic.
    poisoned: Mutex<Option<SecretId>>,
}

impl SlowStore {
    async fn note(&self, work: &StepWork) {
        self.begun.lock().unwrap().push((work.step, work.attempt));
        let is_poisoned = *self.poisoned.lock().unwrap() == Some(work.secret);
        assert!(!is_poisoned, "a test has it panic here");
        self.hold.acquire().await.unwrap().forget();
    }
}

#[async_trait]
impl Rotator for SlowStore {
    async fn create(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        self.note(work).await;
        self.inner.create(work, until).await
    }
    async fn set(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        self.note(work).await;
        self.inner.set(work, until).await
    }
    async fn test(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        self.note(work).await;
        self.inner.test(work, until).await
    }
    async fn finish(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        self.note(work).await;
        self.inner.finish(work, until).await
    }
    async fn revoke(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.inner.revoke(secret, versions, outside, until).await
    }
    async fn probe(&self, work: &StepWork, until: &Until) -> Result<Probed, PortError> {
        let probed = self.inner.probe(work, until).await;
        self.probed.lock().unwrap().push((work.step, work.attempt));
        probed
    }
}

/// A bus that writes down every body its owner sends.
struct Tapped {
    inner: Arc<dyn Bus>,
    said: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Bus for Tapped {
    async fn publish(
        &self,
        topic: Topic,
        id: [u8; 16],
        trace: Option<String>,
        body: Body,
    ) -> Result<(), PortError> {
        self.said.lock().unwrap().push(format!("{body:?}"));
        self.inner.publish(topic, id, trace, body).await
    }
    async fn subscribe(
        &self,
        topic: Topic,
        consumer: &str,
    ) -> Result<Box<dyn keywheel_engine::port::bus::Subscription>, PortError> {
        self.inner.subscribe(topic, consumer).await
    }
    async fn request(
        &self,
        to: Address,
        trace: Option<String>,
        body: Body,
        timeout: Duration,
    ) -> Result<Body, PortError> {
        self.said.lock().unwrap().push(format!("{body:?}"));
        self.inner.request(to, trace, body, timeout).await
    }
    fn refuse_stale(&self, from: keywheel_engine::port::bus::Source) {
        self.inner.refuse_stale(from);
    }
    async fn serve(
        &self,
        at: Address,
    ) -> Result<Box<dyn keywheel_engine::port::bus::Requests>, PortError> {
        self.inner.serve(at).await
    }
}

impl Script {
    async fn answer(&self, request: Box<dyn Request>, outcomes: &mpsc::Sender<Outcome>) {
        let body = match request.message().body.clone() {
            Body::Submit {
                command: Command::StoreContact { store, failure },
                ..
            } => {
                self.contacts.lock().unwrap().push((store, failure));
                Body::Verdict(Verdict::Accepted { number: 1 })
            }
            Body::Submit {
                command: Command::Observed(_),
                ..
            } if self.fails.load(Ordering::SeqCst) => Body::Failed {
                kind: ErrorKind::Unavailable,
                text: "the journal does not answer".to_owned(),
            },
            Body::Submit { id, command } => {
                outcomes.send((id, command)).await.unwrap();
                if self.silent.load(Ordering::SeqCst) > 0 {
                    self.silent.fetch_sub(1, Ordering::SeqCst);
                    return;
                }
                Body::Verdict(if self.rejects.load(Ordering::SeqCst) {
                    Verdict::Rejected {
                        kind: keywheel_core::decision::RejectionKind::Conflict,
                        text: "the step is not open".to_owned(),
                    }
                } else {
                    Verdict::Accepted { number: 1 }
                })
            }
            Body::OpenValue(wanted) => {
                self.asked_for_grants.fetch_add(1, Ordering::SeqCst);
                match *self.granted.lock().unwrap() {
                    Some(sealing_key) if wanted.delivery == DELIVERY => {
                        Body::Granted { sealing_key }
                    }
                    _ => Body::Failed {
                        kind: ErrorKind::Denied,
                        text: "not granted to this host".to_owned(),
                    },
                }
            }
            Body::ReadStores { after, wait } => {
                if wait && self.tells_nobody_who_waits.load(Ordering::SeqCst) {
                    return;
                }
                let mut news = self.news.subscribe();
                let told = async move {
                    let newer = |news: &News| !wait || news.through > after;
                    let told = news.wait_for(newer).await.unwrap().clone();
                    request.answer(Body::Stores(Box::new(told))).await.unwrap();
                };
                tokio::spawn(told);
                return;
            }
            other => panic!("store-sync does not ask {other:?}"),
        };
        request.answer(body).await.unwrap();
    }
}

impl World {
    async fn new() -> Self {
        let keys: BTreeMap<_, _> = authority::ROLES
            .map(|role| (role, SigningKey::generate(&OsEntropy).seed()))
            .into();
        let known = authority::ROLES.map(|role| (role, identity(&keys, role).verifying_key()));
        let trust = Trust::new(DEPLOYMENT, known);
        let injector = identity(&keys, Role::Injector).verifying_key();
        trust.set_hosts([(HOST, injector)].into());
        let hub = InProcess::new(trust, Arc::new(SystemClock::new()), Arc::new(SystemIds));
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = directory.path().join("cache.db");
        let vault = Cache::open(
            &path,
            *DEPLOYMENT.bytes(),
            UnsealKey::generate(&OsEntropy),
            Arc::new(OsEntropy),
            Arc::new(SystemClock::new()),
        );
        let vault = Arc::new(vault.await.unwrap());
        let port: Arc<dyn VersionVault> = Arc::clone(&vault) as _;
        let rotator = Arc::new(SlowStore {
            inner: LocalStore::new(port, Arc::new(OsEntropy)),
            begun: Mutex::default(),
            probed: Mutex::default(),
            hold: tokio::sync::Semaphore::new(1000),
            poisoned: Mutex::default(),
        });
        let (sender, outcomes) = mpsc::channel(100);
        let script = Arc::new(Script::default());
        let gateway = hub.endpoint(identity(&keys, Role::Gateway));
        let mut requests = gateway.serve(Address::Gateway).await.unwrap();
        let answering = Arc::clone(&script);
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                answering.answer(request, &sender).await;
            }
        });
        Self {
            injector: hub.endpoint(identity(&keys, Role::Injector)),
            hub,
            keys,
            vault,
            clock: Arc::new(SystemClock::new()),
            rotator,
            gateway,
            outcomes,
            script,
            fakes: Arc::default(),
            accounts: FakeAccounts::single(),
            connect: None,
            host: HostKeyPair::generate(&OsEntropy),
            said: Arc::default(),
            work: Cell::new(0),
            counts: RefCell::default(),
            directory,
        }
    }

    fn start(&self) -> (Shutdown, JoinHandle<()>) {
        self.start_with(options())
    }

    fn start_with(&self, options: StoreSyncOptions) -> (Shutdown, JoinHandle<()>) {
        let service = self.service(options);
        let shutdown = Shutdown::new();
        let told = shutdown.clone();
        let task = tokio::spawn(async move { service.run(told).await.unwrap() });
        (shutdown, task)
    }

    fn service(&self, options: StoreSyncOptions) -> StoreSync {
        let service = StoreSync::new(options, self.ports());
        *self.counts.borrow_mut() = Arc::clone(&service.shared.counts);
        service
    }

    fn ports(&self) -> Ports {
        let bus = Arc::new(Tapped {
            inner: self.hub.endpoint(identity(&self.keys, Role::StoreSync)),
            said: Arc::clone(&self.said),
        });
        Ports {
            bus,
            vault: Arc::clone(&self.vault) as _,
            rotator: Arc::clone(&self.rotator) as _,
            connect: match &self.connect {
                Some(connect) => Arc::clone(connect),
                None => Arc::clone(&self.fakes) as _,
            },
            accounts: Arc::new(self.accounts.clone()),
            metrics: crate::Metrics::new(self.clock.clone()),
            clock: self.clock.clone(),
            entropy: Arc::new(OsEntropy),
        }
    }

    async fn send(&self, work: Work) {
        let deadline = self.clock.now().plus(WORK_SPAN);
        self.send_until(work, deadline).await;
    }

    async fn send_until(&self, work: Work, deadline: Timestamp) {
        self.publish(work, deadline, true).await;
    }

    /// Waits until nothing that was taken waits or runs. Whoever has heard an outcome is ahead of the worker that told
    /// it: a copy that comes before it is done goes with the first one, and is not performed.
    async fn settled(&self) {
        let counts = Arc::clone(&self.counts.borrow());
        let waiting = async {
            while counts.taken.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, waiting).await.unwrap();
    }

    /// As the gateway sends what is still open.
    async fn resend(&self, work: Work) {
        self.settled().await;
        let deadline = self.clock.now().plus(WORK_SPAN);
        self.publish(work, deadline, false).await;
    }

    async fn publish(&self, work: Work, deadline: Timestamp, first: bool) {
        self.work.set(self.work.get() + 1);
        let id = u128::from(self.work.get()).to_be_bytes();
        let effect = Effect { work };
        let body = Body::Work {
            effect,
            deadline,
            first,
        };
        self.gateway
            .publish(Topic::Work(Role::StoreSync), id, None, body)
            .await
            .unwrap();
    }

    async fn outcome(&mut self) -> Outcome {
        tokio::time::timeout(SOON, self.outcomes.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn assert_no_outcome(&mut self, span: Duration) {
        let outcome = tokio::time::timeout(span, self.outcomes.recv()).await;
        assert!(outcome.is_err(), "{outcome:?}");
    }

    /// Asks until store-sync serves.
    async fn ask(&self, of: &Arc<dyn Bus>, body: Body) -> Body {
        for _ in 0..12_000 {
            match of
                .request(Address::StoreSync, None, body.clone(), SOON)
                .await
            {
                Err(error) if error.kind == ErrorKind::Unavailable => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                answer => return answer.unwrap(),
            }
        }
        panic!("store-sync does not serve");
    }
}

fn options() -> StoreSyncOptions {
    StoreSyncOptions::new(DEPLOYMENT, "/nowhere/stores".into())
}

fn identity(keys: &BTreeMap<Role, SecretBytes>, role: Role) -> Identity {
    let key = SigningKey::from_seed_bytes(&keys[&role]).unwrap();
    match role {
        Role::Injector => Identity::injector(DEPLOYMENT, HOST, key),
        role => Identity::service(DEPLOYMENT, role, key),
    }
}

fn step(step: Step, attempt: u32) -> StepWork {
    StepWork {
        rotation: ROTATION,
        secret: SECRET,
        step,
        attempt,
        versions: vec![1],
        generator: Some(Generator::default()),
        provided: false,
        outside: None,
        resource: None,
        mark: None,
    }
}

/// At the one account of a database, with this version current.
fn at_the_shop(current: Option<u64>) -> Option<Box<AtResource>> {
    Some(Box::new(AtResource {
        resource: Resource {
            kind: Kind::Postgres,
            connection: "postgres://admin@db.example:5432/shop".to_owned(),
            accounts: vec!["app".to_owned()],
            admin: SecretName::parse("shop/admin").unwrap(),
            strategy: Strategy::SingleUser,
            ca: None,
        },
        admin: None,
        current,
        kept: Vec::new(),
        unclear: false,
    }))
}

fn failure(outcome: &Outcome) -> Option<String> {
    match &outcome.1 {
        Command::StepOutcome { failure, .. } | Command::RevokeOutcome { failure, .. } => {
            failure.clone()
        }
        other => panic!("no outcome: {other:?}"),
    }
}

fn exposed(value: &SecretBytes) -> Vec<u8> {
    // EXPOSE: tests compare values.
    value.expose().to_vec()
}
