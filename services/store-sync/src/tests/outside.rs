//! Stores outside: what is seen there is told once, one store delays no other, and who is away is
//! asked again.

use std::os::unix::fs::PermissionsExt as _;

use keywheel_core::command::Observation;
use keywheel_core::id::StoreId;
use keywheel_core::name::{SecretName, StoreName};
use keywheel_core::secret::Place;
use keywheel_core::store::{
    AwsAuth, AwsSpec, Backend, CredentialNow, CredentialRef, DEFAULT_TIMEOUT, Found, NamedStore,
    PlannedUse, SecretNow, Source, StoreNow, StoreSpec,
};
use keywheel_engine::port::store::{Connect, Credentials, Store};
use keywheel_engine::presence::{Fact, Health, Look as _};
use keywheel_telemetry::{Page, Source as _};
use keywheel_testkit::fake::FakeStore;

use super::*;
use crate::outside::Book;

const OTHER: SecretId = SecretId::from_bytes([0x21; 16]);

mod failing;
mod hour;
mod kept;
mod leases;
mod lent;
mod probe;

/// Stores by name, each in memory, and what each that was made reads credentials with.
#[derive(Default)]
pub(super) struct Fakes {
    stores: Mutex<BTreeMap<StoreName, Arc<FakeStore>>>,
    made: Mutex<Vec<Arc<dyn Credentials>>>,
}

impl Fakes {
    fn store(&self, name: &str) -> Arc<FakeStore> {
        let name = StoreName::parse(name).unwrap();
        Arc::clone(self.stores.lock().unwrap().entry(name).or_default())
    }

    fn made(&self) -> usize {
        self.made.lock().unwrap().len()
    }
}

impl Connect for Fakes {
    fn connect(
        &self,
        name: &StoreName,
        _: &StoreSpec,
        credentials: Arc<dyn Credentials>,
    ) -> Result<Arc<dyn Store>, PortError> {
        self.made.lock().unwrap().push(credentials);
        Ok(self.store(name.as_str()))
    }
}

fn named(name: &str) -> NamedStore {
    let auth = AwsAuth::Chain {
        profile: String::new(),
    };
    NamedStore {
        name: StoreName::parse(name).unwrap(),
        spec: StoreSpec {
            backend: Backend::Aws(AwsSpec {
                region: String::new(),
                endpoint: String::new(),
                auth,
            }),
            poll: Duration::from_millis(20),
            timeout: DEFAULT_TIMEOUT,
        },
    }
}

fn store_now(name: &str) -> StoreNow {
    let mut id = [0; 16];
    id[..name.len()].copy_from_slice(name.as_bytes());
    StoreNow {
        id: StoreId::from_bytes(id),
        store: Some(named(name)),
        is_stale: false,
        credentials: Vec::new(),
    }
}

fn source() -> Source {
    Source {
        path: "db".to_owned(),
        field: "password".to_owned(),
    }
}

fn secret_now(secret: SecretId, store: &str) -> SecretNow {
    SecretNow {
        secret,
        name: SecretName::parse("prod/db").unwrap(),
        place: Some(Place {
            store: StoreName::parse(store).unwrap(),
            source: source(),
        }),
        known: None,
        current: None,
        is_generated: false,
        is_rotating: false,
        is_passed_over: false,
        leases: Vec::new(),
    }
}

fn remote(text: &str) -> RemoteVersion {
    RemoteVersion(text.to_owned())
}

impl World {
    fn tell(&self, stores: Vec<StoreNow>, secrets: Vec<SecretNow>) {
        self.script.news.send_modify(|news| {
            *news = News {
                through: news.through + 1,
                more: false,
                stores,
                secrets,
            };
        });
    }

    async fn observation(&mut self) -> Observation {
        match self.outcome().await.1 {
            Command::Observed(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    /// A secret of the store `one` that is known with this version of ours and theirs.
    async fn follows(&self, value: &[u8], version: u64, theirs: &str) -> SecretNow {
        let value = SecretBytes::from(value.to_vec());
        let token = RotationId::from_bytes([0x30 + u8::try_from(version).unwrap(); 16]);
        let kept = self.vault.insert(SECRET, version, token, &value);
        kept.await.unwrap();
        SecretNow {
            known: Some(remote(theirs)),
            current: Some(version),
            ..secret_now(SECRET, "one")
        }
    }
}

async fn wait_for(handle: &crate::Handle, name: &str, is: impl Fn(&Fact) -> bool) -> Fact {
    let waiting = async {
        loop {
            let seen = handle.look().await;
            let fact = seen.facts.into_iter().find(|fact| fact.name == name);
            if let Some(fact) = fact.filter(|fact| is(fact)) {
                return fact;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap()
}

#[tokio::test]
async fn what_changes_outside_is_told_once_and_what_does_not_is_not_told() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    store.write("db", &[("password", "first")]);
    let (shutdown, task) = world.start();
    world.tell(vec![store_now("one")], vec![secret_now(SECRET, "one")]);
    let seen = world.observation().await;
    assert_eq!((seen.known, seen.found), (None, Some(remote("1"))));
    assert!(!seen.is_unchanged);
    let follows = world.follows(b"first", 1, "1").await;
    world.tell(Vec::new(), vec![follows]);
    // Polls in between told nothing of what is known: the next thing that is told is the next change.
    store.write("db", &[("password", "second")]);
    let mut seen = world.observation().await;
    // A poll that came before the answer was heard had told it once more.
    while seen.known.is_none() {
        seen = world.observation().await;
    }
    assert_eq!(
        (seen.known, seen.found),
        (Some(remote("1")), Some(remote("2")))
    );
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn a_version_with_the_same_value_is_told_as_that() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    store.write("db", &[("password", "first")]);
    store.write("db", &[("password", "first"), ("user", "else")]);
    let (shutdown, task) = world.start();
    let follows = world.follows(b"first", 1, "1").await;
    world.tell(vec![store_now("one")], vec![follows]);
    let seen = world.observation().await;
    assert_eq!(seen.found, Some(remote("2")));
    assert!(seen.is_unchanged);
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn the_version_that_is_known_costs_no_value() {
    let world = World::new().await;
    let store = world.fakes.store("one");
    store.write("db", &[("password", "first")]);
    let service = world.service(options());
    let handle = service.handle();
    let shutdown = Shutdown::new();
    let told = shutdown.clone();
    let task = tokio::spawn(async move { service.run(told).await.unwrap() });
    let follows = world.follows(b"first", 1, "1").await;
    world.tell(vec![store_now("one")], vec![follows]);
    wait_for(&handle, "store one", |fact| fact.health == Health::Ok).await;
    assert_eq!(store.fetches(), 0);
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_away_delays_no_other_and_its_return_is_no_change() {
    let mut world = World::new().await;
    let (one, two) = (world.fakes.store("one"), world.fakes.store("two"));
    one.write("db", &[("password", "first")]);
    one.set_down(true);
    let service = world.service(options());
    let handle = service.handle();
    let shutdown = Shutdown::new();
    let told = shutdown.clone();
    let task = tokio::spawn(async move { service.run(told).await.unwrap() });
    let follows = world.follows(b"first", 1, "1").await;
    let stores = vec![store_now("one"), store_now("two")];
    world.tell(stores, vec![follows, secret_now(OTHER, "two")]);
    let away = |fact: &Fact| matches!(fact.health, Health::Warning | Health::Problem);
    let fact = wait_for(&handle, "store one", away).await;
    assert!(
        fact.note.contains("containers keep what they have"),
        "{}",
        fact.note
    );
    assert!(fact.next.unwrap().contains("keywheel refresh"));
    two.write("db", &[("password", "x")]);
    assert_eq!(world.observation().await.secret, OTHER);
    let is_looked_at = |fact: &Fact| fact.health != Health::Unknown;
    wait_for(&handle, "store two", is_looked_at).await;
    let mut page = Page::default();
    handle.read(&mut page).await;
    let text = page.text();
    for line in [
        "keywheel_store_up{store=\"one\"} 0\n",
        "keywheel_store_secrets{store=\"one\"} 1\n",
        "keywheel_store_unreadable_secrets{store=\"one\"} 0\n",
        "keywheel_store_up{store=\"two\"} 1\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.contains("keywheel_store_last_look_timestamp_seconds{store=\"two\"}"));
    assert!(!text.contains("keywheel_store_last_look_timestamp_seconds{store=\"one\"}"));
    one.set_down(false);
    wait_for(&handle, "store one", |fact| fact.health == Health::Ok).await;
    assert_eq!(one.fetches(), 0, "nothing changed while it was away");
    // Each change is told once, however often it was asked meanwhile.
    let contacts = || -> Vec<Option<String>> {
        let all = world.script.contacts.lock().unwrap().clone();
        let of_one = |(id, failure)| (id == store_now("one").id).then_some(failure);
        all.into_iter().filter_map(of_one).collect()
    };
    while contacts().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let told = contacts();
    assert!(told[0].is_some() && told[1].is_none(), "{told:?}");
    assert_eq!(told.len(), 2, "{told:?}");
    shutdown.request();
    task.await.unwrap();
}

/// Another store-sync said that it does not answer, and is gone: whoever reaches it says that it does.
#[tokio::test]
async fn a_store_that_the_log_calls_stale_is_told_of_by_whoever_reaches_it_next() {
    let world = World::new().await;
    world
        .fakes
        .store("one")
        .write("db", &[("password", "first")]);
    let (shutdown, task) = world.start();
    let follows = world.follows(b"first", 1, "1").await;
    let contacts = || world.script.contacts.lock().unwrap().clone();
    let told = async |count| {
        let waiting = async {
            while contacts().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, waiting).await.unwrap();
    };
    world.tell(vec![store_now("one")], vec![follows]);
    told(1).await;
    let stale = StoreNow {
        is_stale: true,
        ..store_now("one")
    };
    world.tell(vec![stale], Vec::new());
    told(2).await;
    assert_eq!(contacts()[1], (store_now("one").id, None), "it answers");
    // As the log says now: that is told once.
    world.tell(vec![store_now("one")], Vec::new());
    let looks = || world.fakes.store("one").looks("db");
    let before = looks();
    while looks() < before + 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(contacts().len(), 2);
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn nothing_there_is_told_when_a_first_value_is_to_be_made() {
    let mut world = World::new().await;
    let (shutdown, task) = world.start();
    let made = SecretNow {
        is_generated: true,
        ..secret_now(SECRET, "one")
    };
    world.tell(vec![store_now("one")], vec![made]);
    let seen = world.observation().await;
    assert_eq!((seen.secret, seen.found), (SECRET, None));
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn a_person_s_look_is_answered_with_what_is_there() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    let gateway = Arc::clone(&world.gateway);
    let (shutdown, task) = world.start();
    world.tell(vec![store_now("one")], vec![secret_now(SECRET, "one")]);
    let ask = Body::LookNow {
        secret: Some(SECRET),
    };
    let found = |body: Body| match body {
        Body::Looked(looks) => looks
            .into_iter()
            .map(|looked| looked.found)
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        found(world.ask(&gateway, ask.clone()).await),
        [Found::Absent]
    );
    store.write("db", &[("password", "first")]);
    assert_eq!(
        found(world.ask(&gateway, ask.clone()).await),
        [Found::Changed]
    );
    world.observation().await;
    store.set_down(true);
    let failed = found(world.ask(&gateway, ask).await);
    assert!(
        matches!(&failed[..], [Found::Failed { reason }] if reason.contains("does not answer"))
    );
    let nobody = Body::LookNow {
        secret: Some(OTHER),
    };
    assert_eq!(found(world.ask(&gateway, nobody).await), []);
    shutdown.request();
    task.await.unwrap();
}

fn wants(path: &str) -> PlannedUse {
    let (path, field) = (path.to_owned(), "password".to_owned());
    PlannedUse {
        source: Source { path, field },
        writes: true,
    }
}

#[tokio::test]
async fn a_store_is_tried_before_it_is_declared() {
    let world = World::new().await;
    let gateway = Arc::clone(&world.gateway);
    let (shutdown, task) = world.start();
    let ask = || Body::CheckStore {
        store: Box::new(named("new")),
        credentials: Vec::new(),
        places: vec![PlannedUse {
            source: source(),
            writes: true,
        }],
    };
    assert!(matches!(world.ask(&gateway, ask()).await, Body::Tried(_)));
    // A login may be good for one time only: what was tried is what is declared, and tried again.
    assert!(matches!(world.ask(&gateway, ask()).await, Body::Tried(_)));
    world.tell(vec![store_now("new")], Vec::new());
    while world.script.contacts.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(world.ask(&gateway, ask()).await, Body::Tried(_)));
    assert_eq!(world.fakes.made(), 1);
    // All that is missing is told at once.
    let wants = |paths: &[&str]| Body::CheckStore {
        store: Box::new(named("new")),
        credentials: Vec::new(),
        places: paths.iter().map(|path| wants(path)).collect(),
    };
    let store = world.fakes.store("new");
    for path in ["b", "d"] {
        store.set_fault(path, Some(ErrorKind::Denied));
    }
    let told = world
        .gateway
        .request(Address::StoreSync, None, wants(&["a", "b", "c", "d"]), SOON);
    let Body::Failed { kind, text } = told.await.unwrap() else {
        panic!("it has to be refused")
    };
    assert_eq!(kind, ErrorKind::Denied);
    assert_eq!(text.matches("; and ").count(), 1, "{text}");
    store.set_down(true);
    let mut told = world.gateway.request(Address::StoreSync, None, ask(), SOON);
    let Body::Failed { kind, text } = (&mut told).await.unwrap() else {
        panic!("it has to be refused")
    };
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("does not answer"), "{text}");
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn work_outside_is_done_there_and_told_with_the_version() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    let (shutdown, task) = world.start();
    let outside = Outside {
        store: named("one"),
        source: source(),
        known: None,
        fetch: None,
        retire: Vec::new(),
        unstage: None,
        probe: None,
    };
    for step in [Step::Create, Step::Set, Step::Test, Step::Finish] {
        let work = StepWork {
            outside: Some(Box::new(outside.clone())),
            ..super::step(step, 1)
        };
        world.send(Work::Step(work)).await;
        let (_, told) = world.outcome().await;
        let Command::StepOutcome {
            failure,
            remote: at,
            ..
        } = told
        else {
            panic!("{told:?}")
        };
        assert_eq!(failure, None);
        assert_eq!(at, (step == Step::Finish).then(|| remote("1")));
    }
    assert_eq!((store.writes(), store.fields("db").len()), (1, 1));
    assert!(
        world.rotator.begun.lock().unwrap().is_empty(),
        "not the local store"
    );
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn credentials_come_from_closed_files_and_from_secrets_of_ours() {
    let world = World::new().await;
    let directory = world.directory.path().join("stores");
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("token");
    let at = || CredentialRef::File(path.to_str().unwrap().to_owned());
    let port: Arc<dyn VersionVault> = Arc::clone(&world.vault) as _;
    let name = SecretName::parse("kw/token").unwrap();
    let mut now = CredentialNow {
        name: name.clone(),
        secret: SECRET,
        version: None,
    };
    let book = Book::new(port, &directory);
    book.learn(std::slice::from_ref(&now));
    let refused = |error: PortError, words: &str| {
        assert!(error.to_string().contains(words), "{error}");
    };
    refused(book.read(&at()).await.unwrap_err(), "cannot be read");
    std::fs::write(&path, b"hvs.x\r\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(book.read(&at()).await.unwrap_err(), "chmod o-rwx");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(
        book.read(&at())
            .await
            .unwrap()
            .ct_eq(&SecretBytes::from(b"hvs.x".to_vec()))
    );
    std::fs::write(&path, b"\n").unwrap();
    refused(book.read(&at()).await.unwrap_err(), "is empty");
    std::fs::write(&path, vec![b'x'; 64 * 1024]).unwrap();
    assert!(book.read(&at()).await.is_ok());
    std::fs::write(&path, vec![b'x'; 64 * 1024 + 1]).unwrap();
    refused(
        book.read(&at()).await.unwrap_err(),
        "name the file that holds it",
    );
    // Whoever may declare a store makes no file of ours go out to it.
    let ours = world.directory.path().join("cache.db");
    std::os::unix::fs::symlink("../cache.db", directory.join("link")).unwrap();
    for other in [ours, directory.join("link"), directory.join("../cache.db")] {
        let other = CredentialRef::File(other.to_str().unwrap().to_owned());
        let told = book.read(&other).await.unwrap_err();
        assert_eq!(told.kind, ErrorKind::Denied);
        refused(told, "stores.credentials_dir");
    }
    let fifo = directory.join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let fifo = CredentialRef::File(fifo.to_str().unwrap().to_owned());
    let told = book.read(&fifo).await.unwrap_err();
    assert_eq!(told.kind, ErrorKind::Denied, "{told}");
    let secret = CredentialRef::Secret(name);
    refused(
        book.read(&secret).await.unwrap_err(),
        "keywheel secret put kw/token",
    );
    let value = SecretBytes::from(b"from-us".to_vec());
    world
        .vault
        .insert(SECRET, 1, ROTATION, &value)
        .await
        .unwrap();
    now.version = Some(1);
    assert!(book.learn(std::slice::from_ref(&now)));
    assert!(!book.learn(&[now]), "that is no news");
    assert!(book.read(&secret).await.unwrap().ct_eq(&value));
}

#[tokio::test]
async fn an_old_version_that_is_current_again_is_left_there_unless_it_is_revoked() {
    let mut world = World::new().await;
    world
        .fakes
        .store("one")
        .write("db", &[("password", "undone")]);
    let (shutdown, task) = world.start();
    let outside = Box::new(Outside {
        store: named("one"),
        source: source(),
        known: None,
        fetch: None,
        retire: vec![remote("1")],
        unstage: None,
        probe: None,
    });
    let retire = StepWork {
        outside: Some(outside.clone()),
        versions: Vec::new(),
        ..super::step(Step::RevokeOld, 1)
    };
    world.send(Work::Step(retire)).await;
    let (_, told) = world.outcome().await;
    let Command::StepOutcome { failure, .. } = told else {
        panic!("{told:?}")
    };
    assert_eq!(failure, None);
    assert_eq!(world.fakes.store("one").retired(), 1, "as was declared");
    let revoke = RevokeWork {
        outside: Some(outside),
        resource: None,
        revocation: RevocationId::from_bytes([3; 16]),
        secret: SECRET,
        versions: Vec::new(),
        attempt: 1,
        part: Part::Whole,
        is_emergency: false,
    };
    world.send(Work::Revoke(revoke)).await;
    let (_, told) = world.outcome().await;
    let Command::RevokeOutcome { failure, .. } = told else {
        panic!("{told:?}")
    };
    assert!(failure.is_some(), "an incident insists");
    assert_eq!(world.fakes.store("one").retired(), 1, "and ends for good");
    shutdown.request();
    task.await.unwrap();
}
