//! Receivers that listen, hang, fail, refuse and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keywheel_core::audit::Principal;
use keywheel_core::command::{Command, Outward};
use keywheel_core::name::NotificationName;
use keywheel_core::notification::Receiver;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::deliveries::Deliveries as _;
use keywheel_engine::port::outside::Outside as _;
use keywheel_rotators::webhook::Keys;
use keywheel_seal::SecretBytes;
use keywheel_signals::{GIVE_UP_AFTER, GIVE_UP_PATIENCE};
use keywheel_testkit::server::port::closed;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::bench::{Bench, KEY, until};
use crate::hook::{Got, Hook};

fn is_signed(got: &Got) -> bool {
    let keys = Keys::parse(&SecretBytes::from(KEY.as_bytes().to_vec())).unwrap();
    let timestamp = got.timestamp.parse().unwrap();
    keys.is_signed(&got.id, timestamp, &got.body, &got.signature)
}

fn ids(all: &[Got]) -> Vec<String> {
    all.iter().map(|got| got.id.clone()).collect()
}

#[tokio::test]
async fn each_event_is_told_once_in_order_and_signed_also_across_a_restart() {
    let hook = Hook::start().await;
    let bench = Bench::start(&[hook.at]).await;
    bench.happen("before/it").await;
    let id = bench.declare("soc", bench.webhook(hook.url()), "").await;
    let running = bench.notify(&bench.desk());
    for n in 1..=3 {
        bench.happen(&format!("prod/{n}")).await;
    }
    let first = hook.wait_for(3).await;
    let events = bench.events(2).await;
    let known = |count: usize| -> Vec<String> {
        let all = events.iter().take(count);
        all.map(|event| event.id.to_string()).collect()
    };
    assert_eq!(ids(&first), known(3), "what was before it is not told");
    assert!(first.iter().all(is_signed));
    assert_eq!(
        first[0].body, &*events[0].bytes,
        "the very bytes of the log"
    );
    bench.until_place(id, Some(5)).await;
    drop(running);
    bench.happen("prod/4").await;
    let _running = bench.notify(&bench.desk());
    let all = hook.wait_for(4).await;
    assert_eq!(all.len(), 4, "nothing is told twice");
    assert_eq!(all[3].id, bench.events(5).await[0].id.to_string());
}

#[tokio::test]
async fn a_condition_says_which_events_are_told() {
    let hook = Hook::start().await;
    let bench = Bench::start(&[hook.at]).await;
    let when = "event.secret.startsWith(\"prod/\")";
    bench.declare("soc", bench.webhook(hook.url()), when).await;
    let _running = bench.notify(&bench.desk());
    for name in ["test/a", "prod/a", "test/b", "prod/b"] {
        bench.happen(name).await;
    }
    let all = hook.wait_for(2).await;
    let events = bench.events(1).await;
    let wanted = [1, 3].map(|n: usize| events[n].id.to_string());
    assert_eq!(ids(&all), wanted);
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_nobody_else() {
    // Connections are taken by the kernel, and nobody ever answers.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung = hanging.local_addr().unwrap();
    let hook = Hook::start().await;
    let bench = Bench::start(&[hook.at, hung]).await;
    let url = format!("http://{hung}/hook");
    let blocked = bench.declare("blocked", bench.webhook(url), "").await;
    let bystander = bench.declare("soc", bench.webhook(hook.url()), "").await;
    let _running = bench.notify(&bench.desk());
    for n in 0..20 {
        bench.happen(&format!("prod/{n}")).await;
    }
    hook.wait_for(20).await;
    bench.until_place(bystander, Some(22)).await;
    let place = bench.place(blocked).await;
    assert!(place.is_none_or(|place| place == 1), "{place:?}");
    assert!(bench.journal.letters().await.unwrap().is_empty());
}

/// Takes a request, says 200, and never ends what else it says.
async fn answer_half(mut stream: TcpStream, asked: Arc<AtomicUsize>) {
    let mut text = Vec::new();
    while !text.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut text).await.unwrap() == 0 {
            return;
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthank you";
    stream.write_all(half).await.unwrap();
    let mut rest = Vec::new();
    let _ended = stream.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_receiver_that_took_it_and_never_ends_its_answer_is_told_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_half(stream, Arc::clone(&count)));
        }
    });
    let bench = Bench::start(&[at]).await;
    let url = format!("http://{at}/hook");
    let id = bench.declare("soc", bench.webhook(url), "").await;
    let _running = bench.notify(&bench.desk());
    bench.happen("prod/a").await;
    bench.until_place(id, Some(2)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn who_fails_is_tried_again_under_the_same_id_and_nothing_overtakes_it() {
    let hook = Hook::start().await;
    let bench = Bench::start(&[hook.at]).await;
    hook.answer_with(&[503, 401]);
    let id = bench.declare("soc", bench.webhook(hook.url()), "").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    bench.happen("prod/a").await;
    bench.happen("prod/b").await;
    until("the trouble", || desk.troubles().contains_key(&id)).await;
    let reason = desk.troubles()[&id].reason.clone();
    assert!(reason.contains("status"), "{reason}");
    let all = ids(&hook.wait_for(4).await);
    assert_eq!((&all[0], &all[0]), (&all[1], &all[2]));
    assert_ne!(all[2], all[3]);
    until("the end of the trouble", || desk.troubles().is_empty()).await;
}

#[tokio::test]
async fn what_is_refused_is_a_letter_that_can_be_retried() {
    let hook = Hook::start().await;
    let bench = Bench::start(&[hook.at]).await;
    hook.answer_with(&[422]);
    bench.declare("soc", bench.webhook(hook.url()), "").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    bench.happen("prod/a").await;
    bench.happen("prod/b").await;
    let all = hook.wait_for(2).await;
    let letters = bench.journal.letters().await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].owner, "notification/soc");
    assert!(letters[0].heading.starts_with("event 2, "), "{letters:?}");
    assert!(letters[0].reason.contains("422"), "{letters:?}");
    let letter = bench.journal.letter(letters[0].id).await.unwrap().unwrap();
    let by = Principal::Operator {
        name: "ann".to_owned(),
    };
    hook.answer_with(&[503]);
    assert!(desk.retry(&letter, &by).await.is_err());
    desk.retry(&letter, &by).await.unwrap();
    let again = hook.wait_for(4).await;
    assert_eq!(again[3].id, all[0].id);
    // Whoever has the name later is not told what was another's.
    let name = NotificationName::parse("soc").unwrap();
    let removed = Outward::RemoveNotification(name);
    bench.submit(Command::Outward(removed)).await;
    bench.declare("soc", bench.webhook(hook.url()), "").await;
    let other = desk.retry(&letter, &by).await.unwrap_err();
    assert!(other.text.contains("declared anew"), "{other}");
}

#[tokio::test]
async fn what_was_not_delivered_for_a_day_is_a_letter() {
    let hook = Hook::start().await;
    let bench = Bench::start(&[hook.at]).await;
    hook.set_down(true);
    let id = bench.declare("soc", bench.webhook(hook.url()), "").await;
    bench.happen("prod/old").await;
    bench.clock.advance(GIVE_UP_AFTER);
    bench.happen("prod/new").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    until("the trouble", || desk.troubles().contains_key(&id)).await;
    let letters = bench.journal.letters().await.unwrap();
    assert_eq!(letters, [], "one failure gives nothing up, old as it is");
    bench.clock.advance(GIVE_UP_PATIENCE);
    desk.call();
    bench.until_place(id, Some(2)).await;
    let letters = bench.journal.letters().await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].heading.starts_with("event 2, "), "{letters:?}");
    assert!(
        letters[0].reason.contains("given up after 24 hours"),
        "{letters:?}"
    );
    assert!(
        desk.troubles().contains_key(&id),
        "what was given up is no success"
    );
    hook.set_down(false);
    desk.call();
    bench.until_place(id, Some(3)).await;
    let new = bench.events(2).await[0].id.to_string();
    assert_eq!(ids(&hook.got()).last(), Some(&new));
    assert_eq!(bench.journal.letters().await.unwrap().len(), 1);
    until("the end of the trouble", || desk.troubles().is_empty()).await;
}

#[tokio::test]
async fn a_key_that_is_missing_is_waited_for_and_no_file_elsewhere_is_read() {
    let hook = Hook::start().await;
    let bench = Bench::start(&[hook.at]).await;
    let receiver = |key_file: String| Receiver::Webhook {
        url: hook.url(),
        key_file,
        ca_file: String::new(),
    };
    let late = bench
        .declare("late", receiver(bench.key_path("late")), "")
        .await;
    let outside = bench
        .declare("outside", receiver("/etc/hostname".to_owned()), "")
        .await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    bench.happen("prod/a").await;
    until("both troubles", || desk.troubles().len() == 2).await;
    let reason = desk.troubles()[&outside].reason.clone();
    assert!(reason.contains("does not lie below"), "{reason}");
    assert!(hook.got().is_empty());
    bench.write_key("late", KEY);
    desk.call();
    until("the end of one", || !desk.troubles().contains_key(&late)).await;
    assert!(is_signed(&hook.wait_for(1).await[0]));
}

#[tokio::test]
async fn who_is_near_is_told_only_where_that_was_allowed() {
    let hook = Hook::start().await;
    let bench = Bench::start(&[]).await;
    let id = bench.declare("soc", bench.webhook(hook.url()), "").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    bench.happen("prod/a").await;
    until("the trouble", || desk.troubles().contains_key(&id)).await;
    let reason = desk.troubles()[&id].reason.clone();
    assert!(reason.contains("`signals.allow`"), "{reason}");
    assert!(hook.got().is_empty());
}

#[tokio::test]
async fn a_replay_tells_again_under_the_same_ids() {
    let hook = Hook::start().await;
    let bench = Bench::start(&[hook.at]).await;
    let id = bench.declare("soc", bench.webhook(hook.url()), "").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    bench.happen("prod/a").await;
    bench.happen("prod/b").await;
    let first = ids(&hook.wait_for(2).await);
    bench.until_place(id, Some(3)).await;
    assert!(bench.journal.rewind(id, 2).await.unwrap());
    desk.call();
    let all = ids(&hook.wait_for(3).await);
    assert_eq!(all[2], first[1]);
}

#[tokio::test]
async fn a_test_is_told_at_once_and_a_removal_ends_it_all() {
    let hook = Hook::start().await;
    let bench = Bench::start(&[hook.at]).await;
    let id = bench.declare("soc", bench.webhook(hook.url()), "").await;
    let name = NotificationName::parse("soc").unwrap();
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    desk.test(&name).await.unwrap();
    let got = hook.wait_for(1).await;
    let body = String::from_utf8(got[0].body.clone()).unwrap();
    assert!(body.contains("dev.keywheel.notification.test"), "{body}");
    hook.answer_with(&[500]);
    let failed = desk.test(&name).await.unwrap_err();
    assert!(failed.text.contains("status 500"), "{failed}");
    assert_eq!(failed.kind, ErrorKind::Conflict, "it was not taken");
    bench.until_place(id, Some(1)).await;
    let removal = Outward::RemoveNotification(name.clone());
    bench.submit(Command::Outward(removal)).await;
    bench.until_place(id, None).await;
    bench.happen("prod/a").await;
    assert!(desk.test(&name).await.is_err());
    assert_eq!(hook.got().len(), 2);
}

#[tokio::test]
async fn whether_a_test_arrived_nobody_knows_where_no_answer_came_once_it_was_sent() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap();
    let listening = tokio::spawn(async move {
        while let Ok((mut stream, _)) = silent.accept().await {
            let mut some = [0; 64];
            let _read = stream.read(&mut some).await;
        }
    });
    let bench = Bench::start(&[at]).await;
    let receiver = bench.webhook(format!("http://{at}/hook"));
    bench.declare("soc", receiver, "").await;
    let name = NotificationName::parse("soc").unwrap();
    let desk = bench.desk();
    let unheard = desk.test(&name).await.unwrap_err();
    assert_eq!(unheard.kind, ErrorKind::Unavailable, "{unheard}");
    listening.abort();
    assert!(listening.await.unwrap_err().is_cancelled());
    closed(at).await;
    let unopened = desk.test(&name).await.unwrap_err();
    assert_eq!(unopened.kind, ErrorKind::Conflict, "{unopened}");
    bench.write_key("key", "none");
    let unsent = desk.test(&name).await.unwrap_err();
    assert_eq!(unsent.kind, ErrorKind::Conflict, "{unsent}");
}

#[tokio::test]
async fn a_channel_is_told_in_words_at_the_url_of_its_file() {
    let hook = Hook::start().await;
    let bench = Bench::start(&[hook.at]).await;
    bench.write_key("slack", &format!("{}/T0/B0/canary\n", hook.url()));
    let receiver = Receiver::Slack {
        url_file: bench.key_path("slack"),
        ca_file: String::new(),
    };
    let id = bench.declare("ops", receiver, "").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    bench.happen("prod/db").await;
    let got = hook.wait_for(1).await;
    assert_eq!(got[0].path, "/hook/T0/B0/canary");
    let body = String::from_utf8(got[0].body.clone()).unwrap();
    assert!(
        body.starts_with("{\"text\":\"Keywheel: secret registered, secret `prod/db`"),
        "{body}"
    );
    hook.answer_with(&[503]);
    bench.happen("prod/ca").await;
    until("the trouble", || desk.troubles().contains_key(&id)).await;
    let reason = desk.troubles()[&id].reason.clone();
    assert!(!reason.contains("canary"), "{reason}");
}

#[tokio::test]
async fn status_warns_of_who_cannot_be_told() {
    use keywheel_engine::presence::{Health, Look as _};
    let hook = Hook::start().await;
    let bench = Bench::start(&[]).await;
    let id = bench.declare("soc", bench.webhook(hook.url()), "").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    assert!(desk.look().await.facts.is_empty());
    bench.happen("prod/a").await;
    until("the trouble", || desk.troubles().contains_key(&id)).await;
    let facts = desk.look().await.facts;
    assert_eq!((facts.len(), facts[0].health), (1, Health::Warning));
    assert!(facts[0].note.contains("`soc` cannot be told"), "{facts:?}");
}

#[tokio::test]
async fn what_cannot_be_read_as_a_condition_passes_nothing_over() {
    let hook = Hook::start().await;
    let bench = Bench::start(&[hook.at]).await;
    bench
        .declare("soc", bench.webhook(hook.url()), "no condition at all (")
        .await;
    bench.happen("prod/a").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    until("a trouble", || {
        let troubles = desk.troubles();
        troubles
            .values()
            .any(|one| one.reason.contains("cannot be read"))
    })
    .await;
    bench.declare("soc", bench.webhook(hook.url()), "").await;
    desk.call();
    let all = hook.wait_for(1).await;
    assert!(!all.is_empty());
}
