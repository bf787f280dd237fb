//! A store that is away for an hour, of simulated time: rows 20 and 21 of the fault matrix from their
//! beginning to their end.
//!
//! Nothing here waits: tokio's clock goes on when nobody has anything to do, and ours goes with it. The
//! cache is in memory, because a file's thread would look as if nobody had.

use keywheel_engine::port::clock::Clock;
use keywheel_testkit::fake::FakeVault;
use tokio::time::Instant;

use super::super::values::{grant, request};
use super::*;
use crate::{BACKOFF_LIMIT, BEHIND_POLLS, MAX_LOOKS};

const HOUR: Duration = Duration::from_secs(3600);
const POLL: Duration = Duration::from_secs(60);
/// Secrets in the store; each is followed by containers.
const SECRETS: u8 = 40;
/// The one that somebody changes meanwhile.
const CHANGED: u8 = 7;
/// How old what is known of a store is.
const LAST_LOOK: &str = "keywheel_store_last_look_timestamp_seconds";
/// 2026-11-28, in microseconds.
const BEGUN: i64 = 1_795_824_000_000_000;

/// Wall and monotonic clock by tokio's own.
struct Simulated(Instant);

impl Clock for Simulated {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(BEGUN).plus(self.0.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// How a store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// It refuses every call at once.
    Down,
    /// It answers no call.
    Hangs,
}

impl Away {
    fn set(self, store: &FakeStore, is_away: bool) {
        match self {
            Self::Down => store.set_down(is_away),
            Self::Hangs => store.hold(is_away),
        }
    }
}

fn path(number: u8) -> String {
    format!("p{number}")
}

fn secret(number: u8, store: &str, version: u64) -> SecretNow {
    let mut now = secret_now(SecretId::from_bytes([number; 16]), store);
    now.place.as_mut().unwrap().source.path = path(number);
    now.known = Some(remote(&version.to_string()));
    now.current = Some(version);
    now
}

fn declared(name: &str) -> StoreNow {
    let mut now = store_now(name);
    now.store.as_mut().unwrap().spec.poll = POLL;
    now
}

/// store-sync in simulated time, and what is asked of it.
struct Scene {
    world: World,
    vault: Arc<FakeVault>,
    clock: Arc<Simulated>,
    handle: crate::Handle,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Scene {
    /// Both stores were looked at, and containers have what lies there.
    #[expect(clippy::disallowed_methods, reason = "simulated time begins")]
    async fn set() -> Self {
        let world = World::new().await;
        tokio::time::pause();
        let vault = Arc::<FakeVault>::default();
        let clock = Arc::new(Simulated(Instant::now()));
        let ports = Ports {
            vault: Arc::clone(&vault) as _,
            metrics: crate::Metrics::new(Arc::clone(&clock) as _),
            clock: Arc::clone(&clock) as _,
            ..world.ports()
        };
        let service = StoreSync::new(options(), ports);
        let handle = service.handle();
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { service.run(stop).await.unwrap() });
        let scene = Self {
            world,
            vault,
            clock,
            handle,
            shutdown,
            task,
        };
        for number in 1..=SECRETS {
            scene.keep(number, 1, b"first").await;
        }
        scene.write("one", "first", 1..=SECRETS);
        scene.write("two", "first", 200..=200);
        scene.keep(200, 1, b"first").await;
        let mut secrets: Vec<_> = (1..=SECRETS).map(|n| secret(n, "one", 1)).collect();
        secrets.push(secret(200, "two", 1));
        grant(&scene.world);
        scene
            .world
            .tell(vec![declared("one"), declared("two")], secrets);
        let is_ok = |fact: &Fact| fact.health == Health::Ok;
        wait_for(&scene.handle, "store one", is_ok).await;
        wait_for(&scene.handle, "store two", is_ok).await;
        scene
    }

    fn write(&self, store: &str, value: &str, numbers: std::ops::RangeInclusive<u8>) {
        let store = self.world.fakes.store(store);
        for number in numbers {
            store.write(&path(number), &[("password", value)]);
        }
    }

    async fn keep(&self, number: u8, version: u64, value: &[u8]) {
        let mut token = [number; 16];
        token[0] = u8::try_from(version).unwrap();
        let token = RotationId::from_bytes(token);
        let value = SecretBytes::from(value.to_vec());
        let secret = SecretId::from_bytes([number; 16]);
        let kept = self.vault.insert(secret, version, token, &value);
        kept.await.unwrap();
    }

    /// A host asks for what a container needs, and gets it.
    async fn serves(&self) {
        let answer = self
            .world
            .ask(&self.world.injector, request(DELIVERY, 1))
            .await;
        let Body::SealedValue(sealed) = answer else {
            panic!("not served: {answer:?}");
        };
        let envelope = Envelope::from_bytes(&sealed).unwrap();
        let info = delivery::info(DEPLOYMENT, HOST);
        let aad = delivery::aad(DELIVERY, SECRET, 1);
        let opened = self.world.host.open(&info, &aad, &envelope).unwrap();
        assert_eq!(exposed(&opened), b"first");
    }

    /// A number of the store on the page for Prometheus.
    async fn shown(&self, metric: &str) -> f64 {
        let mut page = Page::default();
        self.handle.read(&mut page).await;
        let text = page.text();
        let line = format!("{metric}{{store=\"one\"}} ");
        let found = text.lines().find_map(|shown| shown.strip_prefix(&line));
        let found = found.unwrap_or_else(|| panic!("no {line}: {text}"));
        found.parse().unwrap()
    }

    fn contacts(&self) -> Vec<Option<String>> {
        let all = self.world.script.contacts.lock().unwrap().clone();
        let id = store_now("one").id;
        let of_one = |(store, failure)| (store == id).then_some(failure);
        all.into_iter().filter_map(of_one).collect()
    }

    async fn end(self) {
        self.shutdown.request();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_is_away_for_an_hour_stops_nothing_is_told_and_reconciled_once() {
    away_for_an_hour(Away::Down).await;
}

#[tokio::test]
async fn a_store_that_hangs_for_an_hour_delays_no_other_and_is_reconciled_once() {
    away_for_an_hour(Away::Hangs).await;
}

async fn away_for_an_hour(away: Away) {
    let mut scene = Scene::set().await;
    let stores = ["one", "two"].map(|name| scene.world.fakes.store(name));
    let [one, two] = &stores;
    let answered = scene.shown(LAST_LOOK).await;
    away.set(one, true);
    let (before, looks) = (one.calls(), two.looks(&path(200)));
    scene.write("one", "second", CHANGED..=CHANGED);
    let begun = scene.clock.monotonic();
    while scene.clock.monotonic() - begun < HOUR {
        scene.serves().await;
        tokio::time::sleep(POLL).await;
    }
    is_told(&scene, answered).await;
    is_asked_seldom(one.calls() - before, away);
    let looks = two.looks(&path(200)) - looks;
    assert!(looks >= 50, "{away:?}: the other store: {looks} looks");
    assert!(scene.world.outcomes.try_recv().is_err(), "nothing was seen");

    away.set(one, false);
    is_reconciled_once(&mut scene, one).await;
    scene.end().await;
}

#[tokio::test]
async fn what_a_role_tells_after_its_server_s_clock_was_set_back_is_believed_when_it_lasts() {
    const NUMBER: u8 = 60;
    let role = "/shop/db/static-creds/app";
    let mut scene = Scene::set().await;
    let two = scene.world.fakes.store("two");
    for value in ["first", "second"] {
        two.write(role, &[("password", value)]);
    }
    scene.keep(NUMBER, 2, b"second").await;
    let mut follows = secret(NUMBER, "two", 2);
    role.clone_into(&mut follows.place.as_mut().unwrap().source.path);
    two.set_lag(true);
    scene.world.tell(Vec::new(), vec![follows]);
    let wait = POLL * (BEHIND_POLLS - 1);
    // Somebody who tells the known version in between shows that the other one lags.
    for lags in [true, false, true] {
        two.set_lag(lags);
        tokio::time::sleep(wait).await;
        assert!(scene.world.outcomes.try_recv().is_err(), "lags: {lags}");
    }
    let soon = POLL * (BEHIND_POLLS + 1);
    let seen = tokio::time::timeout(soon, scene.world.outcomes.recv()).await;
    let Some((_, Command::Observed(seen))) = seen.unwrap() else {
        panic!("it is a look");
    };
    assert_eq!(seen.secret, SecretId::from_bytes([NUMBER; 16]));
    assert_eq!(
        (seen.known, seen.found),
        (Some(remote("2")), Some(remote("1")))
    );
    scene.end().await;
}

/// Once to the log, and for as long as it lasts to people and to Prometheus.
async fn is_told(scene: &Scene, answered: f64) {
    let contacts = scene.contacts();
    assert!(matches!(&contacts[..], [None, Some(_)]), "{contacts:?}");
    let stale = |fact: &Fact| fact.health == Health::Problem;
    let fact = wait_for(&scene.handle, "store one", stale).await;
    for words in ["stale since", "containers keep what they have"] {
        assert!(fact.note.contains(words), "{}", fact.note);
    }
    assert!(scene.shown("keywheel_store_up").await.abs() < 0.5);
    let looked = scene.shown(LAST_LOOK).await;
    assert!(
        (looked - answered).abs() < 0.001,
        "{looked}, then {answered}"
    );
    let at = Timestamp::from_micros(0).plus(Duration::from_secs_f64(looked));
    let age = scene.clock.now().since(at);
    assert!(age >= HOUR && age < HOUR + 2 * POLL, "{age:?}");
}

/// As often as the longest pause says, and a few times more while the pause grows.
fn is_asked_seldom(calls: usize, away: Away) {
    let shortest = BACKOFF_LIMIT.mul_f64(0.9);
    let cycles = HOUR.as_secs().div_ceil(shortest.as_secs()) + 4;
    let most = usize::try_from(cycles).unwrap() * MAX_LOOKS;
    assert!(
        (MAX_LOOKS..=most).contains(&calls),
        "{away:?}: {calls} of {most}"
    );
}

/// One change was made meanwhile: it is seen once, one value is asked for, and nothing else is touched.
async fn is_reconciled_once(scene: &mut Scene, one: &FakeStore) {
    let seen = tokio::time::timeout(BACKOFF_LIMIT * 2, scene.world.outcomes.recv()).await;
    let Some((_, Command::Observed(seen))) = seen.unwrap() else {
        panic!("it is a look");
    };
    assert_eq!(seen.secret, SecretId::from_bytes([CHANGED; 16]));
    assert_eq!(
        (seen.known, seen.found),
        (Some(remote("1")), Some(remote("2")))
    );
    // The rotation that follows from it.
    scene.keep(CHANGED, 2, b"second").await;
    scene
        .world
        .tell(Vec::new(), vec![secret(CHANGED, "one", 2)]);
    tokio::time::sleep(POLL * 10).await;
    assert!(scene.world.outcomes.try_recv().is_err(), "seen once");
    assert_eq!(one.fetches(), 1, "one value");
    let contacts = scene.contacts();
    assert!(
        matches!(&contacts[..], [None, Some(_), None]),
        "{contacts:?}"
    );
    let is_ok = |fact: &Fact| fact.health == Health::Ok;
    wait_for(&scene.handle, "store one", is_ok).await;
    assert!(scene.shown("keywheel_store_up").await > 0.5);
    for number in 1..=SECRETS {
        assert!(one.looks(&path(number)) > 1, "{number} is looked at again");
    }
}
