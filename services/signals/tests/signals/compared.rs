//! Reported tokens: which versions hold one, what becomes of a signal while store-sync is away and once it is back, and
//! that nothing of a token is kept.

use std::collections::BTreeMap;

use keywheel_core::audit::{Principal, Role};
use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::signal::{self, Format, Match, Proof};
use keywheel_engine::port::deliveries::Deliveries as _;
use keywheel_engine::port::ids::Ids as _;
use keywheel_engine::port::journal::{Journal as _, RecordedEvent};
use keywheel_engine::port::outside::Outside as _;
use keywheel_signals::Later;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, until};
use crate::incoming::{CANARY, Door, TOKEN, door, door_of, hub_signature, spec};
use crate::store_sync::Mood;

/// What the log keeps of a signal.
#[derive(Debug)]
struct Kept {
    fields: BTreeMap<String, String>,
    compared: Option<bool>,
    matched: Option<Vec<Match>>,
    first: Option<u64>,
}

/// A secret with a version that store-sync is said to hold as a value.
async fn put(bench: &Bench, name: &str, value: &str) -> SecretId {
    let id = SecretId::from_bytes(bench.ids.draw());
    let put = Command::Put {
        id,
        rotation: RotationId::from_bytes(bench.ids.draw()),
        name: SecretName::parse(name).unwrap(),
        provided: true,
    };
    bench.submit(put).await;
    let mut values = bench.bus.values.lock().unwrap();
    values.push((id, 1, value.to_owned()));
    id
}

async fn pager(bench: &Bench) {
    let map = [
        ("id", "body.id"),
        ("type", "\"leak\""),
        ("token", "body.value"),
    ];
    let spec = spec(bench, Format::Webhook, Proof::Bearer, &map);
    bench.hear("pager", spec).await;
}

/// Reports a token; what the event in the log says.
async fn report(bench: &Bench, door: &Door, id: &str, value: Option<&str>) -> Kept {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let mut body = json!({ "id": id });
    if let Some(value) = value {
        body["value"] = value.into();
    }
    let body = body.to_string();
    let (status, answer) = door.send("/signals/pager", &headers, body.as_bytes()).await;
    assert_eq!(status, 202, "{answer}");
    assert!(!answer.contains("matched"), "the sender is told: {answer}");
    newest(bench).await
}

async fn newest(bench: &Bench) -> Kept {
    let events = bench.events(0).await;
    kept(events.into_iter().last().unwrap())
}

fn kept(recorded: RecordedEvent) -> Kept {
    let Event::Signal(
        _,
        signal::Event::Received {
            fields,
            compared,
            matched,
            first,
            ..
        },
    ) = recorded.event.clone()
    else {
        panic!("it is no signal: {recorded:?}");
    };
    Kept {
        fields,
        compared,
        matched,
        first,
    }
}

/// Nothing of what was reported or asked is in log, audit or letters, in any way that a person would read.
async fn nothing_is_kept(bench: &Bench) {
    use base64::Engine as _;
    let engine = &base64::engine::general_purpose::STANDARD;
    let asked = bench.bus.asked.lock().unwrap().clone();
    assert!(!asked.is_empty());
    let mut secrets = vec![
        CANARY.as_bytes().to_vec(),
        engine.encode(CANARY).into_bytes(),
    ];
    for one in &asked {
        let key = bench.bus.key_of(one);
        let is_in_the_clear = one.sealed_key.windows(32).any(|part| part == key);
        assert!(!is_in_the_clear, "whoever carries it has the key");
        for bytes in one.digests.iter().chain([&key]) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            secrets.push(bytes.to_vec());
            secrets.push(engine.encode(bytes).into_bytes());
            secrets.push(hex.into_bytes());
        }
    }
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let events = bench.events(0).await;
    kept.extend(events.iter().map(|event| event.bytes.to_vec()));
    let leaves = bench.journal.read_audit(0, 1000).await.unwrap();
    kept.extend(leaves.iter().map(|leaf| leaf.bytes.to_vec()));
    let letters = bench.journal.letters().await.unwrap();
    kept.extend(letters.iter().map(|one| format!("{one:?}").into_bytes()));
    for one in kept {
        for secret in &secrets {
            let is_there = one.windows(secret.len()).any(|part| part == secret);
            assert!(!is_there, "{}", String::from_utf8_lossy(&one));
        }
    }
}

#[tokio::test]
async fn a_signal_says_which_versions_hold_the_token_that_it_reports() {
    let bench = Bench::start(&[]).await;
    let db = put(&bench, "prod/db", CANARY).await;
    put(&bench, "prod/ca", "another value").await;
    pager(&bench).await;
    let door = door(&bench).await;
    *bench.bus.mood.lock().unwrap() = Mood::Compares;
    let data = report(&bench, &door, "1", Some(CANARY)).await;
    let matched = vec![Match {
        secret: db,
        version: 1,
    }];
    assert_eq!((data.compared, data.matched), (Some(true), Some(matched)));
    assert_eq!(data.fields, BTreeMap::new(), "the token is no field");
    let data = report(&bench, &door, "2", Some("nobody's token")).await;
    assert_eq!((data.compared, data.matched), (Some(true), Some(vec![])));
    let data = report(&bench, &door, "3", None).await;
    assert_eq!((data.compared, data.matched), (None, None));
    let keys: Vec<[u8; 32]> = {
        let asked = bench.bus.asked.lock().unwrap();
        asked.iter().map(|one| bench.bus.key_of(one)).collect()
    };
    assert_eq!(keys.len(), 2, "without a token nobody is asked");
    assert_ne!(keys[0], keys[1], "a key is of one comparison");
    nothing_is_kept(&bench).await;
}

#[tokio::test]
async fn a_signal_is_taken_without_a_comparison_while_store_sync_is_away_or_hangs() {
    let bench = Bench::start(&[]).await;
    let db = put(&bench, "prod/db", CANARY).await;
    pager(&bench).await;
    let door = door(&bench).await;
    let mut taken = 0;
    for mood in [Mood::Away, Mood::Hangs] {
        *bench.bus.mood.lock().unwrap() = mood;
        let data = report(&bench, &door, &format!("{mood:?}"), Some(CANARY)).await;
        assert_eq!(
            (data.compared, data.matched),
            (Some(false), None),
            "{mood:?}"
        );
        // A person is called, for the log has it and nothing begins by the secret's name.
        let letters = bench.journal.letters().await.unwrap();
        let last = letters.last().expect("a letter");
        assert_eq!(last.owner, "signal-source/pager");
        assert_eq!(last.heading, format!("signal {mood:?}"));
        assert!(last.reason.contains("not compared") && last.body.is_empty());
        taken = bench.view.read().number;
    }
    // A repeat meanwhile is the first one.
    *bench.bus.mood.lock().unwrap() = Mood::Away;
    let data = report(&bench, &door, "Hangs", Some(CANARY)).await;
    assert_eq!((data.compared, data.first), (Some(false), None));
    assert_eq!(bench.view.read().number, taken);
    // With one that comes later it is compared, and said once; nobody has to act any more.
    *bench.bus.mood.lock().unwrap() = Mood::Compares;
    for _again in 0..2 {
        let data = report(&bench, &door, "Hangs", Some(CANARY)).await;
        let matched = vec![held(db)];
        assert_eq!((data.compared, data.matched), (Some(true), Some(matched)));
        assert_eq!(data.first, Some(taken));
        assert_eq!(bench.view.read().number, taken + 1);
        let asked = bench.bus.asked.lock().unwrap().len();
        assert_eq!(asked, 2, "the one that hung, and the one that was answered");
        let letters = bench.journal.letters().await.unwrap();
        let headings: Vec<&str> = letters.iter().map(|one| one.heading.as_str()).collect();
        assert_eq!(headings, ["signal Away"]);
    }
    nothing_is_kept(&bench).await;
}

fn held(secret: SecretId) -> Match {
    Match { secret, version: 1 }
}

#[tokio::test]
async fn what_was_not_compared_is_when_store_sync_is_heard_again_and_once() {
    let bench = Bench::start(&[]).await;
    let db = put(&bench, "prod/db", CANARY).await;
    pager(&bench).await;
    let desk = bench.desk();
    let door = door_of(&desk).await;
    let stop = CancellationToken::new();
    tokio::spawn(Later::new(&desk).run(stop.clone()));
    let _stopped = stop.drop_guard();
    until("somebody to listen", || bench.bus.is_listened_to()).await;
    for (id, token) in [("1", CANARY), ("2", "nobody's token")] {
        let data = report(&bench, &door, id, Some(token)).await;
        assert_eq!((data.compared, data.matched), (Some(false), None));
    }
    let taken = bench.view.read().number;
    assert_eq!(bench.journal.letters().await.unwrap().len(), 2);
    let asked = || bench.bus.asked.lock().unwrap().len();
    // Still away, or about to be; and who else is there says nothing.
    bench.bus.say(Role::StoreSync, false).await;
    *bench.bus.mood.lock().unwrap() = Mood::Compares;
    bench.bus.say(Role::StoreSync, true).await;
    bench.bus.say(Role::Scheduler, false).await;
    assert_eq!((asked(), bench.view.read().number), (0, taken));
    // One of them was tried in vain, and waits for a word more.
    for _word in 0..2 {
        bench.bus.say(Role::StoreSync, false).await;
    }
    assert_eq!(asked(), 2);
    assert_eq!(bench.view.read().number, taken + 2);
    let told: Vec<Kept> = bench.events(taken).await.into_iter().map(kept).collect();
    let of = |first: u64| told.iter().find(|one| one.first == Some(first)).unwrap();
    let (ours, other) = (of(taken - 1), of(taken));
    assert_eq!(ours.matched, Some(vec![held(db)]));
    assert_eq!(other.matched, Some(Vec::new()));
    assert!(told.iter().all(|one| one.compared == Some(true)));
    assert!(bench.journal.letters().await.unwrap().is_empty());
    // It is over with both.
    bench.bus.say(Role::StoreSync, false).await;
    let _repeat = report(&bench, &door, "1", Some(CANARY)).await;
    assert_eq!((asked(), bench.view.read().number), (2, taken + 2));
    nothing_is_kept(&bench).await;
}

#[tokio::test]
async fn an_alert_of_github_is_compared_and_its_token_is_nowhere() {
    let bench = Bench::start(&[]).await;
    let db = put(&bench, "prod/db", CANARY).await;
    let github = spec(&bench, Format::GithubAlert, Proof::HubSignature, &[]);
    bench.hear("github", github).await;
    let door = door(&bench).await;
    *bench.bus.mood.lock().unwrap() = Mood::Compares;
    let alert = json!({
        "action": "created",
        "alert": { "number": 42, "secret": CANARY, "secret_type": "postgres" },
        "repository": { "full_name": "o/r" },
    });
    let body = alert.to_string();
    let signature = hub_signature(&body);
    let headers = [
        ("x-github-event", "secret_scanning_alert"),
        ("x-hub-signature-256", signature.as_str()),
    ];
    let (status, answer) = door
        .send("/signals/github", &headers, body.as_bytes())
        .await;
    assert_eq!(status, 202, "{answer}");
    let data = newest(&bench).await;
    let matched = vec![Match {
        secret: db,
        version: 1,
    }];
    assert_eq!((data.compared, data.matched), (Some(true), Some(matched)));
    nothing_is_kept(&bench).await;
}

/// Its mapping was mended meanwhile, and names a token now.
#[tokio::test]
async fn a_letter_that_is_read_anew_while_store_sync_is_away_leaves_another_one() {
    let bench = Bench::start(&[]).await;
    put(&bench, "prod/db", CANARY).await;
    let map = [("id", "body.nothing"), ("type", "\"leak\"")];
    let wrong = signal::Spec {
        keeps_letters: true,
        ..spec(&bench, Format::Webhook, Proof::Bearer, &map)
    };
    bench.hear("pager", wrong).await;
    let door = door(&bench).await;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let body = json!({ "id": "1", "value": CANARY }).to_string();
    let (status, answer) = door.send("/signals/pager", &headers, body.as_bytes()).await;
    assert_eq!(status, 422, "{answer}");
    let unread = bench.journal.letters().await.unwrap().remove(0);
    let unread = bench.journal.letter(unread.id).await.unwrap().unwrap();
    pager(&bench).await;
    *bench.bus.mood.lock().unwrap() = Mood::Away;
    let ann = Principal::Operator {
        name: "ann".to_owned(),
    };
    bench.desk().retry(&unread, &ann).await.unwrap();
    assert_eq!(newest(&bench).await.compared, Some(false));
    let letters = bench.journal.letters().await.unwrap();
    let told = letters.iter().find(|letter| letter.id != unread.id);
    assert!(told.unwrap().reason.contains("not compared"), "{letters:?}");
}
