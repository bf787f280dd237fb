//! Rotations by a receiver: the two examples of `deploy/examples`, started as a person starts them, keep
//! the laws of every rotator; and what is sent, repeated and believed when something goes wrong between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at once"
)]

mod bench;
mod crashes;
mod tls;

use keywheel_core::effect::StepWork;
use keywheel_core::id::RotationId;
use keywheel_core::resource::Strategy;
use keywheel_core::revocation::Answer;
use keywheel_core::rotation::Step;
use keywheel_engine::port::rotator::Rotator as _;
use keywheel_engine::port::store::LoginRefused;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_rotators::webhook::MAX_ANSWER_BYTES;
use keywheel_seal::SecretBytes;
use keywheel_testkit::conformance::rotator;
use keywheel_testkit::conformance::store::{CANARY, plenty, refused, value};
use keywheel_testkit::server::fault::Fault;

use bench::{Bench, EXAMPLES, KEY, SECRET, work};

const MAKING: [Step; 4] = [Step::Create, Step::Set, Step::Test, Step::Finish];
const STRATEGIES: [Strategy; 2] = [Strategy::DualPassword, Strategy::SingleUser];
/// How long a receiver asks us to stay away that a call does not wait for.
const LONG: u32 = 60;
/// Lines of an example, as the documentation says: it is read before a receiver is written.
const EXAMPLE_LINES: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_examples_keep_the_laws_of_every_rotator() {
    for example in EXAMPLES {
        for strategy in STRATEGIES {
            let bench = Bench::start(example, strategy).await;
            rotator::check(&bench).await;
            assert_eq!(bench.proxy.asked(CANARY), 0, "a value stands in a head");
        }
    }
}

#[test]
fn an_example_is_as_short_as_the_documentation_says() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    for (_, name) in EXAMPLES {
        let text = std::fs::read_to_string(folder.join("examples").join(name)).unwrap();
        let lines = text.lines().count();
        assert!(lines <= EXAMPLE_LINES, "{name} has {lines} lines");
    }
    let said = std::fs::read_to_string(folder.join("docs/rotators.md")).unwrap();
    let promise = format!("Two receivers of {EXAMPLE_LINES} lines");
    assert!(said.contains(&promise), "`{promise}` is not said");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_value_is_good_as_long_as_the_receiver_promised() {
    for example in EXAMPLES {
        for strategy in STRATEGIES {
            let bench = Bench::start(example, strategy).await;
            let overlaps = strategy.overlaps();
            bench.make(1, None, &[]).await;
            bench.make(2, Some(1), &[]).await;
            let (old, new) = (bench.value(1), bench.value(2));
            assert_eq!(bench.accepts(&old).await, overlaps, "{strategy:?}");
            assert!(bench.accepts(&new).await);
            let until = plenty();
            for _ in 0..2 {
                let rotator = bench.over(Some(2), &[1]);
                rotator.retire(SECRET, &[1], None, &until).await.unwrap();
                assert!(!bench.accepts(&old).await && bench.accepts(&new).await);
            }
            bench.make(3, Some(2), &[]).await;
            let undone = bench.value(3);
            for _ in 0..2 {
                let rotator = bench.over(Some(2), &[]);
                let work = work(Step::RollBack, 3);
                rotator.roll_back(&work, &until).await.unwrap();
                assert!(bench.accepts(&new).await, "{strategy:?}: it is given back");
                assert!(!bench.accepts(&undone).await);
            }
            let rotator = bench.over(Some(2), &[]);
            for answer in [Answer::Accepted, Answer::Refused] {
                let proof = rotator.prove(SECRET, &[2], &until).await.unwrap();
                let answers: Vec<Answer> = proof.evidence.iter().map(|one| one.answer).collect();
                assert_eq!((answers, proof.lacking), (vec![answer], None));
                rotator.disable(SECRET, &[2], None, &until).await.unwrap();
                assert!(bench.value(2).ct_eq(&new), "it stays until the proof");
            }
            for status in [302, 404, 422] {
                bench.proxy.on("_asked_", Fault::Status(status, None), 1);
                let asked = rotator.prove(SECRET, &[2], &until).await;
                assert_eq!(
                    refused(asked).kind,
                    ErrorKind::Denied,
                    "{status}: asked again"
                );
            }
            bench.proxy.on("_asked_", Fault::Lie("{}".to_owned()), 1);
            let told = rotator.prove(SECRET, &[2], &until).await.unwrap();
            assert!(
                told.evidence.is_empty() && told.lacking.is_some(),
                "{told:?}"
            );
            rotator.revoke(SECRET, &[2], None, &until).await.unwrap();
            assert!(!bench.accepts(&new).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_done_is_sent_again_under_its_id_and_done_once() {
    let bench = Bench::start(EXAMPLES[0], Strategy::DualPassword).await;
    bench.make(1, None, &[]).await;
    for (number, fault) in (2..).zip([
        Fault::DropAnswer,
        Fault::HalfAnswer,
        Fault::Reset,
        Fault::Status(500, None),
        Fault::Status(503, Some(0)),
        Fault::Status(429, Some(0)),
    ]) {
        let old = number - 1;
        let rotator = bench.over(Some(old), &[]);
        let until = plenty();
        let create = work(Step::Create, number);
        rotator.create(&create, &until).await.unwrap();
        bench.proxy.forget();
        bench.proxy.on("_set\r\n", fault.clone(), 1);
        let set = work(Step::Set, number);
        rotator.set(&set, &until).await.unwrap();
        let id = format!("webhook-id: kw_{}_set\r\n", set.rotation);
        assert_eq!(bench.proxy.asked(&id), 2, "{fault:?}");
        assert!(bench.accepts(&bench.value(old)).await, "{fault:?}");
        rotator
            .test(&work(Step::Test, number), &until)
            .await
            .unwrap();
        let rotator = bench.over(Some(number), &[old]);
        rotator.retire(SECRET, &[old], None, &until).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_away_is_asked_again_and_one_that_refuses_is_not() {
    let mut bench = Bench::start(EXAMPLES[0], Strategy::SingleUser).await;
    let until = plenty();
    let rotator = bench.over(None, &[]);
    let provided = bench.provided(1, &value("given")).await;
    rotator.create(&provided, &until).await.unwrap();
    let secret = value("given");
    let quoted = String::from_utf8(secret.expose().to_vec()).unwrap();
    let large = "x".repeat(MAX_ANSWER_BYTES + 1);
    for (fault, times, kind, words) in [
        (
            Fault::Status(429, Some(LONG)),
            1,
            ErrorKind::Unavailable,
            "come again in 60 s",
        ),
        (
            Fault::Status(500, None),
            4,
            ErrorKind::Unavailable,
            "status 500",
        ),
        (
            Fault::Status(302, None),
            1,
            ErrorKind::Denied,
            "sends elsewhere",
        ),
        (
            Fault::Status(404, None),
            1,
            ErrorKind::Denied,
            "no receiver at that path",
        ),
        (
            Fault::Lie(large),
            4,
            ErrorKind::Unavailable,
            "more than the",
        ),
        (
            Fault::Answer(422, "{\"reason\":\"locked\"}".to_owned()),
            1,
            ErrorKind::Denied,
            "refuses (locked)",
        ),
        (
            Fault::Answer(400, format!("{{\"reason\":\"not {quoted}\"}}")),
            1,
            ErrorKind::Denied,
            "refuses; see its log",
        ),
    ] {
        bench.proxy.forget();
        bench.proxy.on("_set\r\n", fault, times);
        let error = refused(rotator.set(&work(Step::Set, 1), &until).await);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        let asked = usize::try_from(times).unwrap();
        assert_eq!(bench.proxy.asked("_set\r\n"), asked, "{error}");
        assert!(!LoginRefused::is_beneath(&error));
    }
    bench.proxy.refuse().await;
    let error = refused(rotator.set(&work(Step::Set, 1), &until).await);
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    bench.proxy.listen().await;
    rotator.set(&work(Step::Set, 1), &until).await.unwrap();
    assert!(bench.accepts(&secret).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn success_alone_proves_nothing_and_a_value_that_is_still_accepted_is_kept() {
    let bench = Bench::start(EXAMPLES[0], Strategy::DualPassword).await;
    let until = plenty();
    let rotator = bench.over(None, &[]);
    let lie = |text: &str| Fault::Lie(text.to_owned());
    bench
        .proxy
        .on("_create\r\n", lie("{\"value\":\"made there\"}"), 1);
    rotator
        .create(&work(Step::Create, 1), &until)
        .await
        .unwrap();
    assert!(
        bench
            .value(1)
            .ct_eq(&SecretBytes::from(b"made there".to_vec()))
    );
    for (text, words) in [
        ("", "does not say whether"),
        ("{\"accepted\":false}", "does not accept the new value"),
        ("<html>", "something else than rotator.webhook_answer.v1"),
    ] {
        bench.proxy.on("_asked_", lie(text), 1);
        let error = refused(rotator.test(&work(Step::Test, 1), &until).await);
        assert_eq!(error.kind, ErrorKind::Denied, "{text}");
        assert!(error.to_string().contains(words), "{error}");
    }
    rotator.set(&work(Step::Set, 1), &until).await.unwrap();
    let value = bench.value(1);
    bench.proxy.on("_revoked", lie("{}"), 2);
    let error = refused(rotator.revoke(SECRET, &[1], None, &until).await);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("still accepts"), "{error}");
    assert!(
        bench.value(1).ct_eq(&value),
        "a value that is alive is not forgotten"
    );
    bench.proxy.forget();
    bench.proxy.on("_revoked\r\n", lie("{}"), 1);
    rotator.revoke(SECRET, &[1], None, &until).await.unwrap();
    assert!(!bench.accepts(&value).await);
    let told = bench.proxy.asked("_revoked");
    assert_eq!(told, 2, "what was taken for done is told under another id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_is_a_refused_login_and_two_keys_sign_while_one_changes() {
    let bench = Bench::start(EXAMPLES[1], Strategy::SingleUser).await;
    let (until, rotator) = (plenty(), bench.over(None, &[]));
    let other = KEY.replace("AAEC", "AAED");
    for key in [other.as_str(), "no key at all", ""] {
        bench.key(key);
        let error: PortError = refused(rotator.create(&work(Step::Create, 1), &until).await);
        assert!(
            LoginRefused::is_beneath(&error),
            "work waits for it: {error}"
        );
        assert!(error.to_string().contains("shop/hook-key"), "{error}");
    }
    bench.key(&format!("{other} {KEY}"));
    for step in MAKING {
        bench.perform(&rotator, step, 1).await;
    }
    assert!(bench.accepts(&bench.value(1)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_value_waits_for_the_second_and_a_shared_one_outlives_the_older_version() {
    let bench = Bench::start(EXAMPLES[0], Strategy::DualPassword).await;
    let until = plenty();
    bench.make(1, None, &[]).await;
    bench.make(2, Some(1), &[]).await;
    let third = bench.over(Some(2), &[1]);
    let error = refused(third.create(&work(Step::Create, 3), &until).await);
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("version 1 is not retired"),
        "{error}"
    );
    third.retire(SECRET, &[1], None, &until).await.unwrap();
    let again = bench.provided(3, &bench.value(2)).await;
    let rotator = bench.over(Some(2), &[]);
    rotator.create(&again, &until).await.unwrap();
    rotator.set(&again, &until).await.unwrap();
    let rotator = bench.over(Some(3), &[2]);
    rotator.retire(SECRET, &[2], None, &until).await.unwrap();
    assert!(
        bench.accepts(&bench.value(3)).await,
        "it is the current one's, too"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_forgot_what_it_did_keeps_the_old_value_all_the_same() {
    for example in EXAMPLES {
        let bench = Bench::start(example, Strategy::DualPassword).await;
        bench.make(1, None, &[]).await;
        bench.make(2, Some(1), &[]).await;
        // Under another id it is done once more, as after a restart that lost the ids.
        let again = StepWork {
            rotation: RotationId::from_bytes([77; 16]),
            ..work(Step::Set, 2)
        };
        let (rotator, until) = (bench.over(Some(1), &[]), plenty());
        rotator.set(&again, &until).await.unwrap();
        rotator.test(&again, &until).await.unwrap();
        for version in [1, 2] {
            assert!(bench.accepts(&bench.value(version)).await, "{version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_was_given_back_is_asked_for_and_one_that_was_promised_is_missed() {
    for example in EXAMPLES {
        let bench = Bench::start(example, Strategy::SingleUser).await;
        let until = plenty();
        bench.make(1, None, &[]).await;
        bench.make(2, Some(1), &[]).await;
        let rotator = bench.over(Some(1), &[]);
        bench
            .proxy
            .on("_rolledback\r\n", Fault::Lie("{}".to_owned()), 1);
        let undo = work(Step::RollBack, 2);
        rotator.roll_back(&undo, &until).await.unwrap();
        let old = bench.value(1);
        assert!(bench.accepts(&old).await, "it is told again");
        // A revocation of what was set over it gives it back, too.
        bench.make(3, Some(1), &[]).await;
        let new = bench.value(3);
        rotator.revoke(SECRET, &[3], None, &until).await.unwrap();
        assert!(bench.accepts(&old).await && !bench.accepts(&new).await);
        bench.make(4, Some(1), &[]).await;
        bench
            .proxy
            .on("_rolledback", Fault::Lie("{}".to_owned()), 2);
        bench
            .proxy
            .on("_asked_", Fault::Lie("{\"accepted\":false}".to_owned()), 4);
        let error = refused(rotator.roll_back(&work(Step::RollBack, 4), &until).await);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.to_string().contains("give back"), "{error}");
        assert!(!bench.value(4).is_empty(), "it goes on until that is so");
    }
    let bench = Bench::start(EXAMPLES[0], Strategy::DualPassword).await;
    bench.make(1, None, &[]).await;
    bench.make(2, Some(1), &[]).await;
    bench.make(3, Some(2), &[]).await;
    let (test, until) = (work(Step::Test, 3), plenty());
    bench.over(Some(2), &[]).test(&test, &until).await.unwrap();
    // The receiver keeps two values, and the first is none of them.
    let error = refused(bench.over(Some(1), &[]).test(&test, &until).await);
    assert!(error.to_string().contains("dualPassword"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_value_that_was_put_again_gives_way_to_the_current_one() {
    let bench = Bench::start(EXAMPLES[0], Strategy::SingleUser).await;
    let until = plenty();
    bench.make(1, None, &[]).await;
    bench.make(2, Some(1), &[]).await;
    let (older, current) = (bench.value(1), bench.value(2));
    let rotator = bench.over(Some(2), &[1]);
    for (version, value, is_undone) in [(3, &older, true), (4, &current, false)] {
        let again = bench.provided(version, value).await;
        rotator.create(&again, &until).await.unwrap();
        rotator.set(&again, &until).await.unwrap();
        assert_eq!(bench.accepts(&current).await, !is_undone);
        bench.proxy.forget();
        let undo = StepWork {
            step: Step::RollBack,
            ..again
        };
        for _ in 0..2 {
            rotator.roll_back(&undo, &until).await.unwrap();
            assert!(bench.accepts(&current).await, "it is given back");
            assert!(!bench.accepts(&older).await);
        }
        let told = bench.proxy.asked("_rolledback");
        assert_eq!(told, usize::from(is_undone), "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_cannot_be_read_holds_no_revocation_back() {
    let bench = Bench::start(EXAMPLES[0], Strategy::SingleUser).await;
    let until = plenty();
    bench.make(1, None, &[]).await;
    bench.make(2, Some(1), &[]).await;
    bench.make(3, Some(1), &[2]).await;
    let old = bench.value(1);
    let rotator = bench.over(Some(1), &[2]);
    bench.damage(3);
    let kept = rotator.retire(SECRET, &[3], None, &until).await;
    assert_eq!(
        refused(kept).kind,
        ErrorKind::Corrupt,
        "only who must insists"
    );
    rotator.revoke(SECRET, &[3], None, &until).await.unwrap();
    assert!(bench.is_destroyed(3).await && bench.accepts(&old).await);
    // What cannot be read cannot be given back either; the other value dies all the same.
    bench.damage(1);
    let second = bench.value(2);
    rotator.revoke(SECRET, &[2], None, &until).await.unwrap();
    assert!(bench.is_destroyed(2).await && !bench.accepts(&second).await);
    assert_eq!(bench.proxy.asked("_revoked\r\n"), 2, "each is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_path_made_nothing_and_a_wrong_key_proves_nothing() {
    let bench = Bench::start(EXAMPLES[0], Strategy::SingleUser).await;
    let (until, rotator) = (plenty(), bench.over(None, &[]));
    let undo = work(Step::RollBack, 1);
    for (status, is_nothing) in [(401, false), (403, false), (302, false), (404, true)] {
        let told = Fault::Status(status, None);
        bench.proxy.on("_rolledback\r\n", told, 1);
        let undone = rotator.roll_back(&undo, &until).await;
        assert_eq!(undone.is_ok(), is_nothing, "{status}: {undone:?}");
    }
    for (version, status) in [(2, 405), (3, 410), (4, 422)] {
        let told = Fault::Status(status, None);
        bench.proxy.on("_rolledback\r\n", told, 1);
        let undo = work(Step::RollBack, version);
        rotator.roll_back(&undo, &until).await.unwrap();
    }
    let create = work(Step::Create, 5);
    rotator.create(&create, &until).await.unwrap();
    bench
        .proxy
        .on("_rolledback\r\n", Fault::Status(404, None), 1);
    let kept = rotator.roll_back(&work(Step::RollBack, 5), &until).await;
    assert_eq!(
        refused(kept).kind,
        ErrorKind::Denied,
        "a value may be there"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_listens_on_this_machine_is_asked_only_where_it_was_named() {
    let bench = Bench::start(EXAMPLES[0], Strategy::SingleUser).await;
    let (until, port) = (plenty(), bench.server.port());
    for place in ["http://127.0.0.1", "http://localhost", "https://localhost"] {
        let stranger = bench.stranger_at(&format!("{place}:{port}/stripe"));
        let error = refused(stranger.create(&work(Step::Create, 1), &until).await);
        assert_eq!(error.kind, ErrorKind::Denied, "{place}");
        let text = error.to_string();
        assert!(text.contains("rotators.webhook_allow"), "{text}");
    }
}
