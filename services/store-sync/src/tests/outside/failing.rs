//! Stores that are slow, away, behind or refuse: what is about one store, or about us, holds up nothing
//! else, and a store is asked again as soon as that makes sense.

use crate::{MAX_ASKING_STORES, MAX_LOOKS, MAX_QUEUED, MAX_RUNNING, MAX_RUNNING_PER_STORE};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// A secret of its own path.
fn at(number: u8, store: &str) -> SecretNow {
    let mut now = secret_now(SecretId::from_bytes([number; 16]), store);
    now.place.as_mut().unwrap().source.path = path(number);
    now
}

fn path(number: u8) -> String {
    format!("p{number}")
}

/// A store that is looked at once, and then in an hour.
fn rarely(name: &str) -> StoreNow {
    let mut now = store_now(name);
    now.store.as_mut().unwrap().spec.poll = HOUR;
    now
}

async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap();
}

struct Running {
    handle: crate::Handle,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    fn of(world: &World) -> Self {
        Self::with(world, options())
    }

    fn with(world: &World, options: StoreSyncOptions) -> Self {
        let service = world.service(options);
        let handle = service.handle();
        let shutdown = Shutdown::new();
        let told = shutdown.clone();
        let task = tokio::spawn(async move { service.run(told).await.unwrap() });
        Self {
            handle,
            shutdown,
            task,
        }
    }

    async fn end(self) {
        self.shutdown.request();
        self.task.await.unwrap();
    }
}

fn roll_back(number: u16, store: &str) -> Work {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    let outside = Outside {
        store: named(store),
        source: source(),
        known: None,
        fetch: None,
        retire: Vec::new(),
        unstage: None,
        probe: None,
    };
    Work::Step(StepWork {
        secret: SecretId::from_bytes(id),
        rotation: RotationId::from_bytes(id),
        outside: Some(Box::new(outside)),
        ..super::super::step(Step::RollBack, 1)
    })
}

#[tokio::test]
async fn a_slow_store_has_a_few_places_and_work_elsewhere_goes_on() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    store.hold(true);
    let running = Running::of(&world);
    for number in 0..u16::try_from(MAX_RUNNING).unwrap() {
        world.send(roll_back(100 + number, "one")).await;
    }
    world.send(Work::Step(step(Step::Create, 1))).await;
    assert_eq!(failure(&world.outcome().await), None);
    until(|| store.calls() == MAX_RUNNING_PER_STORE).await;
    store.hold(false);
    for _ in 0..MAX_RUNNING {
        assert_eq!(failure(&world.outcome().await), None);
    }
    running.end().await;
}

#[tokio::test]
async fn a_store_that_hangs_fills_its_own_line_and_no_work_elsewhere_waits() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    store.hold(true);
    let patient = StoreSyncOptions {
        step_deadline: HOUR,
        ..options()
    };
    let running = Running::with(&world, patient);
    let late = world.clock.now().plus(HOUR);
    let many = u16::try_from(MAX_QUEUED).unwrap();
    for number in 0..many {
        world.send_until(roll_back(number, "one"), late).await;
    }
    world.send(roll_back(many, "two")).await;
    world.send(Work::Step(step(Step::Create, 1))).await;
    for _ in 0..2 {
        assert_eq!(failure(&world.outcome().await), None);
    }
    until(|| store.calls() == MAX_RUNNING_PER_STORE).await;
    store.hold(false);
    // What found the line full waited here.
    for _ in 0..many {
        assert_eq!(failure(&world.outcome().await), None);
    }
    running.end().await;
}

#[tokio::test]
async fn work_waits_for_a_login_that_is_refused_and_any_other_refusal_is_a_failure() {
    let mut world = World::new().await;
    let running = Running::of(&world);
    let store = world.fakes.store("one");
    let mut told = Vec::new();
    for (attempt, login) in [(1, true), (2, false)] {
        store.set_login_refused(login);
        let outside = Outside {
            store: named("one"),
            source: source(),
            known: None,
            fetch: Some(remote("1")),
            retire: Vec::new(),
            unstage: None,
            probe: None,
        };
        world
            .send(Work::Step(StepWork {
                outside: Some(Box::new(outside)),
                ..super::super::step(Step::Create, attempt)
            }))
            .await;
        let (_, outcome) = world.outcome().await;
        let Command::StepOutcome {
            failure, is_away, ..
        } = outcome
        else {
            panic!("{outcome:?}")
        };
        told.push((failure.unwrap(), is_away));
    }
    assert!(told[0].0.contains("refuses the login"), "{told:?}");
    assert_eq!([told[0].1, told[1].1], [true, false], "{told:?}");
    running.end().await;
}

#[tokio::test]
async fn requests_that_ask_stores_are_few_and_one_more_is_told_to_come_again() {
    let world = World::new().await;
    let store = world.fakes.store("new");
    store.hold(true);
    let running = Running::of(&world);
    let gateway = Arc::clone(&world.gateway);
    world.ask(&gateway, Body::ReadStoreKey).await;
    let ask = || {
        let gateway = Arc::clone(&gateway);
        let body = Body::CheckStore {
            store: Box::new(named("new")),
            credentials: Vec::new(),
            places: Vec::new(),
        };
        async move {
            gateway
                .request(Address::StoreSync, None, body, SOON)
                .await
                .unwrap()
        }
    };
    let asking: Vec<_> = (0..MAX_ASKING_STORES)
        .map(|_| tokio::spawn(ask()))
        .collect();
    until(|| store.calls() == MAX_ASKING_STORES).await;
    let Body::Failed { kind, text } = ask().await else {
        panic!("there is no place for it");
    };
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("try again"), "{text}");
    let key = world.ask(&gateway, Body::ReadStoreKey).await;
    assert!(matches!(key, Body::StoreKey(_)), "others are answered");
    store.hold(false);
    for asked in asking {
        assert!(matches!(asked.await.unwrap(), Body::Tried(_)));
    }
    running.end().await;
}

#[tokio::test]
async fn a_person_s_look_everywhere_waits_for_no_store_that_does_not_answer() {
    let mut world = World::new().await;
    let (one, two) = (world.fakes.store("one"), world.fakes.store("two"));
    let many = u8::try_from(MAX_LOOKS + 2).unwrap();
    let mut secrets: Vec<_> = (1..=many).map(|number| at(number, "one")).collect();
    secrets.push(at(200, "two"));
    let running = Running::of(&world);
    world.tell(vec![rarely("one"), rarely("two")], secrets);
    until(|| two.looks(&path(200)) == 1 && one.looks(&path(many)) == 1).await;
    one.hold(true);
    two.write(&path(200), &[("password", "x")]);
    let gateway = Arc::clone(&world.gateway);
    let body = Body::LookNow { secret: None };
    let asking = tokio::spawn(async move {
        let span = Duration::from_secs(60);
        gateway.request(Address::StoreSync, None, body, span).await
    });
    // Long before a look at the other store is given up.
    let span = crate::LOOK_SPAN * 2 / 3;
    let seen = tokio::time::timeout(span, world.observation()).await;
    assert_eq!(seen.unwrap().secret, at(200, "two").secret);
    one.hold(false);
    let Body::Looked(looks) = asking.await.unwrap().unwrap() else {
        panic!("it was looked");
    };
    assert_eq!(looks.len(), usize::from(many) + 1);
    running.end().await;
}

#[tokio::test]
async fn one_place_that_never_answers_hides_no_other() {
    let world = World::new().await;
    let store = world.fakes.store("one");
    let away = Some(ErrorKind::Unavailable);
    store.set_fault(&path(1), away);
    let running = Running::of(&world);
    let many = u8::try_from(3 * MAX_LOOKS).unwrap();
    let secrets: Vec<_> = (1..=many).map(|number| at(number, "one")).collect();
    world.tell(vec![rarely("one")], secrets);
    let faulty = |fact: &Fact| fact.note.contains("cannot be read");
    let fact = wait_for(&running.handle, "store one", faulty).await;
    assert_eq!(fact.health, Health::Warning);
    let mut page = Page::default();
    running.handle.read(&mut page).await;
    let shown = page.text();
    // Nothing lies at the others.
    for line in [
        format!(
            "keywheel_store_secrets{{store=\"one\"}} {many}
"
        ),
        format!(
            "keywheel_store_unreadable_secrets{{store=\"one\"}} {many}
"
        ),
        "keywheel_store_up{store=\"one\"} 1
"
        .to_owned(),
    ] {
        assert!(shown.contains(&line), "{line}: {shown}");
    }
    for number in 1..=many {
        assert_eq!(store.looks(&path(number)), 1, "in one sweep: {number}");
    }
    running.end().await;
    // Two of them: the store counts as silent, and the next sweep goes on where this one stopped.
    let world = World::new().await;
    let store = world.fakes.store("one");
    store.set_fault(&path(1), away);
    store.set_fault(&path(2), away);
    let running = Running::of(&world);
    let secrets: Vec<_> = (1..=many).map(|number| at(number, "one")).collect();
    world.tell(vec![store_now("one")], secrets);
    until(|| (1..=many).all(|number| store.looks(&path(number)) > 0)).await;
    running.end().await;
}

#[tokio::test]
async fn what_fails_on_our_side_is_no_silence_of_the_store() {
    let world = World::new().await;
    let store = world.fakes.store("one");
    store.write("db", &[("password", "x")]);
    world.script.fails.store(true, Ordering::SeqCst);
    let running = Running::of(&world);
    world.tell(vec![store_now("one")], vec![secret_now(SECRET, "one")]);
    let known = |fact: &Fact| fact.health != Health::Unknown;
    let fact = wait_for(&running.handle, "store one", known).await;
    assert_eq!(fact.health, Health::Ok, "{}", fact.note);
    running.end().await;
}

#[tokio::test]
async fn a_store_that_refuses_every_look_is_waited_with_until_it_is_mended() {
    let world = World::new().await;
    let store = world.fakes.store("one");
    store.set_refusal(Some(ErrorKind::Denied));
    let running = Running::of(&world);
    let secrets = vec![at(1, "one"), at(2, "one")];
    world.tell(vec![rarely("one")], secrets);
    let silent = |fact: &Fact| fact.note.contains("containers keep what they have");
    let fact = wait_for(&running.handle, "store one", silent).await;
    assert!(fact.note.contains("says Denied"), "why: {}", fact.note);
    let looks = |number| store.looks(&path(number));
    assert_eq!((looks(1), looks(2)), (1, 1));
    // A person looks at one of them, and with success: now all of them are, without the hour's wait.
    store.set_refusal(None);
    let gateway = Arc::clone(&world.gateway);
    let body = Body::LookNow {
        secret: Some(at(1, "one").secret),
    };
    world.ask(&gateway, body).await;
    until(|| looks(2) == 2).await;
    // So does a credential that was mended.
    let mended = CredentialNow {
        name: SecretName::parse("kw/token").unwrap(),
        secret: OTHER,
        version: Some(2),
    };
    let news = || StoreNow {
        credentials: vec![mended.clone()],
        ..rarely("one")
    };
    world.tell(vec![news()], Vec::new());
    until(|| looks(2) == 3).await;
    world.tell(vec![news()], Vec::new());
    let body = Body::LookNow {
        secret: Some(at(1, "one").secret),
    };
    world.ask(&gateway, body).await;
    assert_eq!(looks(2), 3, "what is no news wakes nobody");
    assert_eq!(world.fakes.made(), 1);
    running.end().await;
}

#[tokio::test]
async fn a_server_that_lags_behind_is_no_change() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    store.write("db", &[("password", "first")]);
    store.write("db", &[("password", "second")]);
    store.set_lag(true);
    let running = Running::of(&world);
    let follows = world.follows(b"second", 2, "2").await;
    world.tell(vec![store_now("one")], vec![follows]);
    let behind = |fact: &Fact| fact.note.contains("the server is behind");
    let fact = wait_for(&running.handle, "store one", behind).await;
    assert_eq!(fact.health, Health::Warning);
    store.set_lag(false);
    wait_for(&running.handle, "store one", |fact| {
        fact.health == Health::Ok
    })
    .await;
    assert_eq!(store.fetches(), 0);
    assert!(world.outcomes.try_recv().is_err(), "nothing was told");
    running.end().await;
}

#[tokio::test]
async fn what_a_role_s_server_made_after_its_clock_was_set_back_is_taken_when_a_person_asks() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    let role = "/shop/db/static-creds/app";
    for value in ["first", "second"] {
        store.write(role, &[("password", value)]);
        store.write("db", &[("password", value)]);
    }
    store.set_lag(true);
    let running = Running::of(&world);
    let mut follows = world.follows(b"second", 2, "2").await;
    if let Some(place) = &mut follows.place {
        role.clone_into(&mut place.source.path);
    }
    let beside = SecretNow {
        known: Some(remote("2")),
        ..secret_now(OTHER, "one")
    };
    world.tell(vec![store_now("one")], vec![follows, beside]);
    let behind = |fact: &Fact| fact.note.contains("the server is behind");
    wait_for(&running.handle, "store one", behind).await;
    assert!(world.outcomes.try_recv().is_err(), "no poll takes it");
    let gateway = Arc::clone(&world.gateway);
    let answer = world.ask(&gateway, Body::LookNow { secret: None }).await;
    let Body::Looked(looks) = answer else {
        panic!("it was looked");
    };
    let of = |secret| looks.iter().find(|looked| looked.secret == secret);
    assert_eq!(of(SECRET).unwrap().found, Found::Changed);
    let elsewhere = &of(OTHER).unwrap().found;
    let says = "put the value there anew";
    assert!(
        matches!(elsewhere, Found::Failed { reason } if reason.contains(says)),
        "{elsewhere:?}"
    );
    let seen = world.observation().await;
    assert_eq!(
        (seen.known, seen.found),
        (Some(remote("2")), Some(remote("1")))
    );
    running.end().await;
}

#[tokio::test]
async fn one_store_serves_the_trial_the_declaration_and_another_poll() {
    let mut world = World::new().await;
    let running = Running::of(&world);
    let gateway = Arc::clone(&world.gateway);
    let trial = Body::CheckStore {
        store: Box::new(named("one")),
        credentials: Vec::new(),
        places: Vec::new(),
    };
    assert!(matches!(world.ask(&gateway, trial).await, Body::Tried(_)));
    world.tell(vec![store_now("one")], Vec::new());
    wait_for(&running.handle, "store one", |fact| {
        fact.health == Health::Ok
    })
    .await;
    world.tell(vec![rarely("one")], Vec::new());
    // Decided before the poll changed.
    world.send(roll_back(100, "one")).await;
    assert_eq!(failure(&world.outcome().await), None);
    assert_eq!(world.fakes.made(), 1);
    let mut other = rarely("one");
    other.store.as_mut().unwrap().spec.timeout = DEFAULT_TIMEOUT / 2;
    world.tell(vec![other], Vec::new());
    until(|| world.fakes.made() == 2).await;
    running.end().await;
}

#[tokio::test]
async fn work_that_comes_before_the_news_has_the_store_s_credentials() {
    let mut world = World::new().await;
    world
        .script
        .tells_nobody_who_waits
        .store(true, Ordering::SeqCst);
    let value = SecretBytes::from(b"from-us".to_vec());
    let kept = world.vault.insert(OTHER, 1, ROTATION, &value).await;
    kept.unwrap();
    let name = SecretName::parse("kw/token").unwrap();
    let credentials = vec![CredentialNow {
        name: name.clone(),
        secret: OTHER,
        version: Some(1),
    }];
    let news = StoreNow {
        credentials,
        ..rarely("one")
    };
    world.tell(vec![news], Vec::new());
    let running = Running::of(&world);
    world.send(roll_back(100, "one")).await;
    assert_eq!(failure(&world.outcome().await), None);
    let book = Arc::clone(&world.fakes.made.lock().unwrap()[0]);
    let read = book.read(&CredentialRef::Secret(name)).await.unwrap();
    assert!(read.ct_eq(&value));
    running.end().await;
}

#[tokio::test]
async fn what_a_person_had_passed_over_is_told_when_a_person_names_it_and_at_no_poll() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    store.write("db", &[("password", "first")]);
    store.write("db", &[("password", "second")]);
    let running = Running::of(&world);
    let passed_over = SecretNow {
        is_passed_over: true,
        ..world.follows(b"first", 1, "2").await
    };
    world.tell(vec![store_now("one")], vec![passed_over]);
    // Polls in between told nothing, and read no value.
    let before = store.looks("db");
    until(|| store.looks("db") > before + 1).await;
    let gateway = Arc::clone(&world.gateway);
    // Nor did a look at everything.
    let answer = world.ask(&gateway, Body::LookNow { secret: None }).await;
    assert!(
        matches!(&answer, Body::Looked(looks) if looks[0].found == Found::Unchanged),
        "{answer:?}"
    );
    assert_eq!(store.fetches(), 0);
    let body = Body::LookNow {
        secret: Some(SECRET),
    };
    let answer = world.ask(&gateway, body).await;
    assert!(
        matches!(&answer, Body::Looked(looks) if looks[0].found == Found::Changed),
        "{answer:?}"
    );
    let seen = world.observation().await;
    assert_eq!(
        (seen.known, seen.found),
        (Some(remote("2")), Some(remote("2")))
    );
    assert!(!seen.is_unchanged);
    running.end().await;
}
