//! Values: provided ones in, granted ones out, and never in the clear.

use keywheel_engine::comparison;
use keywheel_engine::port::bus::Message;
use keywheel_testkit::fake::Flood;

use super::*;
use crate::value;

async fn store_key(world: &World) -> PublicKey {
    match world.ask(&world.gateway, Body::ReadStoreKey).await {
        Body::StoreKey(key) => PublicKey::from_bytes(key),
        other => panic!("no key: {other:?}"),
    }
}

async fn provide(world: &World, sealed_for: RotationId, token: RotationId) -> Body {
    let value = SecretBytes::from(CANARY.to_vec());
    let key = store_key(world).await;
    let info = stash::info(DEPLOYMENT);
    let envelope = hpke::seal(&key, &info, &stash::aad(sealed_for), &value, &OsEntropy).unwrap();
    let sealed = envelope.to_bytes();
    world
        .ask(&world.gateway, Body::Stash { token, sealed })
        .await
}

/// Puts the canary through a whole provided rotation up to `finish`.
async fn put(world: &mut World) {
    assert!(matches!(
        provide(world, ROTATION, ROTATION).await,
        Body::Done
    ));
    for wanted in [Step::Create, Step::Set, Step::Test, Step::Finish] {
        let work = StepWork {
            provided: true,
            outside: None,
            ..step(wanted, 1)
        };
        world.send(Work::Step(work)).await;
        assert_eq!(failure(&world.outcome().await), None, "{wanted:?}");
    }
}

pub(super) fn request(delivery: DeliveryId, version: u64) -> Body {
    Body::OpenValue(ValueRequest {
        host: HOST,
        secret: SECRET,
        version,
        delivery,
    })
}

pub(super) fn grant(world: &World) {
    *world.script.granted.lock().unwrap() = Some(world.host.public().to_bytes());
}

#[tokio::test]
async fn a_granted_value_opens_with_the_hosts_key_for_its_delivery_only() {
    let mut world = World::new().await;
    let (_shutdown, _task) = world.start();
    put(&mut world).await;
    grant(&world);
    let Body::SealedValue(sealed) = world.ask(&world.injector, request(DELIVERY, 1)).await else {
        panic!("no value");
    };
    let envelope = Envelope::from_bytes(&sealed).unwrap();
    let info = delivery::info(DEPLOYMENT, HOST);
    let aad = delivery::aad(DELIVERY, SECRET, 1);
    let opened = world.host.open(&info, &aad, &envelope).unwrap();
    assert_eq!(exposed(&opened), CANARY);
    let other_version = delivery::aad(DELIVERY, SECRET, 2);
    assert!(world.host.open(&info, &other_version, &envelope).is_err());
    let other_host = delivery::info(DEPLOYMENT, HostId::from_bytes([1; 16]));
    assert!(world.host.open(&other_host, &aad, &envelope).is_err());
}

#[tokio::test]
async fn no_value_leaves_without_a_grant() {
    let mut world = World::new().await;
    let (_shutdown, _task) = world.start();
    put(&mut world).await;
    let refused = |body: &Body| {
        matches!(
            body,
            Body::Failed {
                kind: ErrorKind::Denied,
                ..
            }
        )
    };
    let answer = world.ask(&world.injector, request(DELIVERY, 1)).await;
    assert!(refused(&answer), "nothing is granted yet: {answer:?}");
    grant(&world);
    let wrong = DeliveryId::from_bytes([9; 16]);
    let answer = world.ask(&world.injector, request(wrong, 1)).await;
    assert!(refused(&answer), "another grant: {answer:?}");
    assert_eq!(
        world.script.asked_for_grants.load(Ordering::SeqCst),
        2,
        "asked each time"
    );
}

#[tokio::test]
async fn an_unknown_version_is_told_as_such() {
    let world = World::new().await;
    let (_shutdown, _task) = world.start();
    grant(&world);
    let answer = world.ask(&world.injector, request(DELIVERY, 7)).await;
    let Body::Failed { kind, text } = &answer else {
        panic!("{answer:?}")
    };
    assert_eq!(*kind, ErrorKind::NotFound);
    assert!(text.contains("version 7"), "{text}");
}

#[tokio::test]
async fn a_host_key_that_is_no_key_gets_no_value() {
    let mut world = World::new().await;
    let (_shutdown, _task) = world.start();
    put(&mut world).await;
    *world.script.granted.lock().unwrap() = Some([0; 32]);
    let answer = world.ask(&world.injector, request(DELIVERY, 1)).await;
    assert!(
        matches!(
            answer,
            Body::Failed {
                kind: ErrorKind::Denied,
                ..
            }
        ),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_provided_value_opens_only_under_its_own_rotation() {
    let world = World::new().await;
    let (_shutdown, _task) = world.start();
    let other = RotationId::from_bytes([5; 16]);
    let answer = provide(&world, ROTATION, other).await;
    assert!(
        matches!(
            answer,
            Body::Failed {
                kind: ErrorKind::Denied,
                ..
            }
        ),
        "{answer:?}"
    );
    assert!(
        VersionVault::stashed(&*world.vault, other)
            .await
            .unwrap()
            .is_none()
    );
    for sealed in [Vec::new(), vec![0; 100]] {
        let stash = Body::Stash {
            token: other,
            sealed,
        };
        let answer = world.ask(&world.gateway, stash).await;
        assert!(
            matches!(
                answer,
                Body::Failed {
                    kind: ErrorKind::Denied,
                    ..
                }
            ),
            "{answer:?}"
        );
    }
    assert!(matches!(provide(&world, other, other).await, Body::Done));
    assert!(
        matches!(provide(&world, other, other).await, Body::Done),
        "a repeat is harmless"
    );
    let kept = VersionVault::stashed(&*world.vault, other)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(exposed(&kept), CANARY);
}

#[tokio::test]
async fn a_provided_value_whose_command_was_refused_goes_at_once() {
    let world = World::new().await;
    let (_shutdown, _task) = world.start();
    let other = RotationId::from_bytes([5; 16]);
    for token in [ROTATION, other] {
        assert!(matches!(provide(&world, token, token).await, Body::Done));
    }
    for _repeat in 0..2 {
        let answer = world
            .ask(&world.gateway, Body::DropStash { token: ROTATION })
            .await;
        assert!(matches!(answer, Body::Done), "{answer:?}");
    }
    let kept = |token| VersionVault::stashed(&*world.vault, token);
    assert!(kept(ROTATION).await.unwrap().is_none());
    assert!(kept(other).await.unwrap().is_some(), "only the one named");
}

#[tokio::test]
async fn the_key_for_provided_values_outlives_who_told_it() {
    let world = World::new().await;
    let (shutdown, task) = world.start();
    let first = store_key(&world).await;
    assert_eq!(store_key(&world).await, first);
    shutdown.request();
    task.await.unwrap();
    let (_shutdown, _task) = world.start();
    assert_eq!(store_key(&world).await, first);
    let kept = provide(&world, ROTATION, ROTATION).await;
    assert!(matches!(kept, Body::Done), "{kept:?}");
}

#[tokio::test]
async fn nothing_store_sync_says_holds_the_value() {
    let mut world = World::new().await;
    let (_shutdown, _task) = world.start();
    put(&mut world).await;
    grant(&world);
    let answer = world.ask(&world.injector, request(DELIVERY, 1)).await;
    let broken = world.ask(&world.injector, request(DELIVERY, 2)).await;
    let mut said = world.said.lock().unwrap().clone();
    said.extend([format!("{answer:?}"), format!("{broken:?}")]);
    assert!(said.len() >= 6);
    let text = String::from_utf8(CANARY.to_vec()).unwrap();
    let decimal = format!("{CANARY:?}");
    let decimal = decimal.trim_matches(['[', ']']);
    for line in said {
        assert!(!line.contains(&text) && !line.contains(decimal), "{line}");
    }
}

#[tokio::test]
async fn a_roll_back_takes_the_provided_value_that_no_step_took() {
    let mut world = World::new().await;
    let (_shutdown, _task) = world.start();
    let kept = provide(&world, ROTATION, ROTATION).await;
    assert!(matches!(kept, Body::Done));
    assert!(is_stashed(&world).await);
    world.send(Work::Step(step(Step::RollBack, 1))).await;
    let outcome = world.outcome().await;
    assert_eq!(failure(&outcome), None);
    assert!(!is_stashed(&world).await);
}

async fn is_stashed(world: &World) -> bool {
    let found = VersionVault::stashed(&*world.vault, ROTATION).await;
    found.unwrap().is_some()
}

#[tokio::test]
async fn a_provided_value_that_no_rotation_takes_is_dropped_in_time() {
    let world = World::new().await;
    let mut options = options();
    assert_eq!(options.stash_age, keywheel_cache::MAX_STASH_AGE);
    options.stash_age = Duration::from_millis(300);
    let (_shutdown, _task) = world.start_with(options);
    let kept = provide(&world, ROTATION, ROTATION).await;
    assert!(matches!(kept, Body::Done));
    let gone = async {
        while is_stashed(&world).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
}

#[tokio::test]
async fn one_request_more_than_are_answered_at_once_waits_for_a_place() {
    let world = World::new().await;
    let service = world.service(options());
    // Not a question for store-sync, so nothing but the answers takes time.
    let message = Message {
        id: [1; 16],
        sender: Role::Injector,
        host: Some(HOST),
        traceparent: None,
        body: Body::ReadPlan { host: HOST },
    };
    let (flood, requests) = Flood::of(message, value::MAX_ANSWERING + 2);
    let shared = Arc::clone(&service.shared);
    let shutdown = Shutdown::new();
    let serving = tokio::spawn(async move { value::serve(shared, requests, &shutdown).await });
    assert_eq!(flood.settled().await, value::MAX_ANSWERING);
    flood.end(1);
    assert_eq!(flood.settled().await, value::MAX_ANSWERING + 1);
    flood.end(value::MAX_ANSWERING + 1);
    serving.await.unwrap();
    assert_eq!(flood.settled().await, value::MAX_ANSWERING + 2);
}

/// A comparison's key as the gateway sends it.
async fn sealed_key(world: &World, key: &[u8; 32], digests: &[[u8; 32]]) -> Vec<u8> {
    let to = store_key(world).await;
    let (info, aad) = (comparison::info(DEPLOYMENT), comparison::aad(digests));
    let key = SecretBytes::from(key.to_vec());
    let sealed = hpke::seal(&to, &info, &aad, &key, &OsEntropy).unwrap();
    sealed.to_bytes()
}

#[tokio::test]
async fn a_reported_token_is_known_by_its_digest_among_real_values() {
    use keywheel_engine::port::bus::{Comparison, Held, MAX_COMPARED_AT_ONCE};
    use keywheel_seal::digest;

    let mut world = World::new().await;
    let (_shutdown, _task) = world.start();
    put(&mut world).await;
    let login = format!(
        "{{\"username\":\"app\",\"password\":\"{}\"}}",
        String::from_utf8(CANARY.to_vec()).unwrap()
    );
    let other = SecretId::from_bytes([6; 16]);
    let token = RotationId::from_bytes([6; 16]);
    let login = SecretBytes::from(login.into_bytes());
    let vault: &dyn VersionVault = &*world.vault;
    vault.insert(other, 4, token, &login).await.unwrap();
    let key = [9; 32];
    let digests = [b"somebody else's".as_slice(), CANARY].map(|text| digest::keyed(&key, text));
    let sealed_key = sealed_key(&world, &key, &digests).await;
    let asked = |among: Vec<(SecretId, u64)>| {
        Body::Compare(Comparison {
            sealed_key: sealed_key.clone(),
            digests: digests.to_vec(),
            among,
        })
    };
    // The version after it has no value yet.
    let among = vec![(SECRET, 1), (SECRET, 2), (other, 4)];
    let held = |secret, version| Held {
        token: 1,
        secret,
        version,
    };
    let compared = world.ask(&world.gateway, asked(among.clone())).await;
    let Body::Compared(found) = compared else {
        panic!("{compared:?}");
    };
    assert_eq!(found, [held(SECRET, 1), held(other, 4)]);
    vault.destroy(other, 4).await.unwrap();
    let compared = world.ask(&world.gateway, asked(among)).await;
    let Body::Compared(found) = compared else {
        panic!("{compared:?}");
    };
    assert_eq!(found, [held(SECRET, 1)], "what was destroyed is in no use");
    let many = vec![(SECRET, 1); MAX_COMPARED_AT_ONCE + 1];
    let refused = world.ask(&world.gateway, asked(many)).await;
    assert!(
        matches!(
            &refused,
            Body::Failed {
                kind: ErrorKind::Denied,
                ..
            }
        ),
        "{refused:?}"
    );
    let in_the_clear = Body::Compare(Comparison {
        sealed_key: key.to_vec(),
        digests: digests.to_vec(),
        among: vec![(SECRET, 1)],
    });
    let refused = world.ask(&world.gateway, in_the_clear).await;
    assert!(matches!(refused, Body::Failed { .. }), "{refused:?}");
    let said = world.said.lock().unwrap().join(" ");
    assert!(!said.contains("canary"), "{said}");
}
