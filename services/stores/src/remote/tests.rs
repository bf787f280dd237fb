//! Tests of rotating at a store outside: every step repeated, and interrupted at every call of the
//! cache and at every answer of the store.

use std::time::Duration;

use keywheel_core::name::StoreName;
use keywheel_core::rotation::Step;
use keywheel_core::secret::Generator;
use keywheel_core::store::{AwsAuth, AwsSpec, Backend, NamedStore, Source, StoreSpec};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::fake::{Cut, FakeStore, FakeVault};

use super::*;
use crate::testing::{SECRET, TOKEN, VERSION, always};

const PATH: &str = "app/db";
const FIELD: &str = "password";

struct Bench {
    vault: Arc<FakeVault>,
    store: Arc<FakeStore>,
    rotator: RemoteRotator,
}

fn bench() -> Bench {
    let (vault, store) = (
        Arc::new(FakeVault::default()),
        Arc::new(FakeStore::default()),
    );
    let rotator = RemoteRotator::new(store.clone(), vault.clone(), Arc::new(OsEntropy));
    Bench {
        vault,
        store,
        rotator,
    }
}

fn outside(known: Option<&str>, fetch: Option<&str>, retire: &[&str]) -> Outside {
    let version = |text: &str| RemoteVersion(text.to_owned());
    // Nothing here looks at the declaration.
    let spec = StoreSpec {
        backend: Backend::Aws(AwsSpec {
            region: String::new(),
            endpoint: String::new(),
            auth: AwsAuth::Chain {
                profile: String::new(),
            },
        }),
        poll: Duration::ZERO,
        timeout: Duration::ZERO,
    };
    Outside {
        store: NamedStore {
            name: StoreName::parse("elsewhere").unwrap(),
            spec,
        },
        source: Source {
            path: PATH.to_owned(),
            field: FIELD.to_owned(),
        },
        known: known.map(version),
        fetch: fetch.map(version),
        retire: retire.iter().map(|text| version(text)).collect(),
        unstage: None,
        probe: None,
    }
}

fn work(step: Step, outside: Outside) -> StepWork {
    StepWork {
        rotation: TOKEN,
        secret: SECRET,
        step,
        attempt: 1,
        versions: vec![VERSION],
        generator: outside.fetch.is_none().then(Generator::default),
        provided: false,
        outside: Some(Box::new(outside)),
        resource: None,
        mark: None,
    }
}

type Done = Result<Option<RemoteVersion>, PortError>;

/// One step as the worker asks for it when it may have been attempted before.
async fn perform(rotator: &RemoteRotator, step: Step, outside: Outside) -> Done {
    let (work, until) = (work(step, outside), always());
    match rotator.probe(&work, &until).await? {
        Probed::Done(remote) => Ok(remote),
        Probed::NotDone => attempt(rotator, &work).await,
    }
}

/// One step as the worker asks for it first.
async fn attempt(rotator: &RemoteRotator, work: &StepWork) -> Done {
    let until = always();
    let none = |()| None;
    match work.step {
        Step::Create => rotator.create(work, &until).await.map(none),
        Step::Set => rotator.set(work, &until).await.map(none),
        Step::Test => rotator.test(work, &until).await.map(none),
        Step::Finish => rotator.finish(work, &until).await,
        Step::RollBack => rotator.roll_back(work, &until).await.map(none),
        Step::RevokeOld => {
            let outside = work.outside.as_deref();
            let done = rotator.retire(SECRET, &work.versions, outside, &until);
            done.await.map(none)
        }
        Step::Drain => rotator.sessions(work, &until).await.map(|_| None),
    }
}

fn there(bench: &Bench) -> Option<Vec<u8>> {
    bench.store.fields(PATH).remove(FIELD)
}

const STEPS: [Step; 4] = [Step::Create, Step::Set, Step::Test, Step::Finish];

#[tokio::test]
async fn a_value_of_ours_is_made_kept_and_written_once_however_often_a_step_comes() {
    let bench = bench();
    bench.store.write(PATH, &[(FIELD, "old"), ("user", "app")]);
    for step in STEPS {
        for _ in 0..3 {
            let done = perform(&bench.rotator, step, outside(Some("1"), None, &[]));
            let done = done.await.unwrap();
            let promoted = (step == Step::Finish).then(|| RemoteVersion("2".to_owned()));
            assert_eq!(done, promoted, "{step:?}");
        }
        if step != Step::Finish {
            assert_eq!(there(&bench).unwrap(), b"old", "{step:?}");
        }
    }
    assert_eq!(there(&bench), bench.vault.value(SECRET, VERSION));
    assert_eq!(bench.store.fields(PATH)["user"], b"app");
    assert_eq!((bench.store.writes(), bench.store.staged()), (1, 0));
}

#[tokio::test]
async fn every_step_survives_a_lost_call_and_a_lost_answer() {
    for crashed in STEPS {
        for cut in [Cut::Before, Cut::After] {
            for call in 0..4 {
                let bench = bench();
                for step in STEPS {
                    if step == crashed {
                        let first = work(step, outside(None, None, &[]));
                        bench.vault.cut_off(call, cut);
                        let _lost = attempt(&bench.rotator, &first).await;
                        bench.vault.heal();
                        bench.store.lose_answers(1);
                        let _lost = attempt(&bench.rotator, &first).await;
                        bench.store.lose_answers(1);
                        let _lost = perform(&bench.rotator, step, outside(None, None, &[])).await;
                        bench.store.lose_answers(0);
                    }
                    let done = perform(&bench.rotator, step, outside(None, None, &[])).await;
                    done.unwrap_or_else(|error| panic!("{crashed:?} {cut:?} {call}: {error}"));
                }
                assert_eq!(there(&bench), bench.vault.value(SECRET, VERSION));
                assert_eq!(bench.store.writes(), 1, "{crashed:?} {cut:?} {call}");
                assert_eq!(bench.vault.inserts(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_version_of_somebody_else_is_taken_as_it_is_and_nothing_is_written_there() {
    let bench = bench();
    bench.store.write(PATH, &[(FIELD, "one")]);
    bench.store.write(PATH, &[(FIELD, "two")]);
    // Newer than what was seen: the next look finds it.
    bench.store.write(PATH, &[(FIELD, "three")]);
    for step in STEPS {
        for _ in 0..2 {
            let done = perform(&bench.rotator, step, outside(Some("1"), Some("2"), &[]));
            let done = done.await.unwrap();
            let taken = (step == Step::Finish).then(|| RemoteVersion("2".to_owned()));
            assert_eq!(done, taken, "{step:?}");
        }
    }
    assert_eq!(bench.vault.value(SECRET, VERSION).unwrap(), b"two");
    assert_eq!(bench.store.fetches(), 1, "a repeat fetches nothing");
    assert_eq!((bench.store.writes(), bench.store.staged()), (0, 0));
    assert_eq!(there(&bench).unwrap(), b"three");
}

#[tokio::test]
async fn a_probe_finds_what_was_taken_staged_or_written_and_changes_nothing() {
    let bench = bench();
    bench.store.write(PATH, &[(FIELD, "old")]);
    let probe = async |step, outside| {
        let work = work(step, outside);
        let probed = bench.rotator.probe(&work, &always()).await;
        (probed.unwrap(), work)
    };
    let ours = || outside(Some("1"), None, &[]);
    for step in STEPS {
        let (before, first) = probe(step, ours()).await;
        assert_eq!(before, Probed::NotDone, "{step:?}");
        let done = attempt(&bench.rotator, &first).await.unwrap();
        let (calls, writes) = (bench.store.calls(), bench.store.writes());
        let after = probe(step, ours()).await.0;
        let expected = match step {
            // It leaves nothing to be found.
            Step::Test => Probed::NotDone,
            _ => Probed::Done(done),
        };
        assert_eq!(after, expected, "{step:?}");
        let asked = usize::from(matches!(step, Step::Set | Step::Finish));
        assert_eq!(bench.store.calls() - calls, asked, "{step:?}");
        assert_eq!(bench.store.writes(), writes);
    }
    let theirs = || outside(Some("1"), Some("1"), &[]);
    let calls = bench.store.calls();
    assert_eq!(probe(Step::Create, theirs()).await.0, Probed::Done(None));
    assert_eq!(probe(Step::Finish, theirs()).await.0, Probed::NotDone);
    assert_eq!(bench.store.calls(), calls);
    bench.vault.destroy(SECRET, VERSION).await.unwrap();
    let unclear = work(Step::Finish, ours());
    let unclear = bench.rotator.probe(&unclear, &always()).await;
    assert_eq!(unclear.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_version_that_cannot_be_taken_is_refused_with_its_reason() {
    let bench = bench();
    bench.store.write(PATH, &[("user", "app")]);
    let take = |version| {
        perform(
            &bench.rotator,
            Step::Create,
            outside(None, Some(version), &[]),
        )
    };
    assert_eq!(take("1").await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(take("9").await.unwrap_err().kind, ErrorKind::NotFound);
    bench.store.write(PATH, &[(FIELD, "")]);
    let empty = take("2").await.unwrap_err();
    assert_eq!(empty.kind, ErrorKind::Denied);
    assert!(empty.text.contains("empty"), "{empty}");
    assert!(bench.vault.value(SECRET, VERSION).is_none());
    let mut homeless = work(Step::Create, outside(None, None, &[]));
    homeless.outside = None;
    let homeless = bench.rotator.create(&homeless, &always()).await;
    assert_eq!(homeless.unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn somebody_elses_newer_version_stops_ours_and_rolling_back_leaves_nothing() {
    let bench = bench();
    bench.store.write(PATH, &[(FIELD, "old")]);
    for step in [Step::Create, Step::Set, Step::Test] {
        let done = perform(&bench.rotator, step, outside(Some("1"), None, &[]));
        done.await.unwrap();
    }
    assert_eq!(bench.store.staged(), 1);
    bench.store.write(PATH, &[(FIELD, "theirs")]);
    let late = perform(&bench.rotator, Step::Finish, outside(Some("1"), None, &[]));
    assert_eq!(late.await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(there(&bench).unwrap(), b"theirs");
    for _ in 0..2 {
        let back = perform(
            &bench.rotator,
            Step::RollBack,
            outside(Some("1"), None, &[]),
        );
        back.await.unwrap();
    }
    assert_eq!(bench.store.staged(), 0);
    assert!(bench.vault.value(SECRET, VERSION).is_none());
    assert_eq!(there(&bench).unwrap(), b"theirs");
}

#[tokio::test]
async fn old_versions_die_here_also_while_the_store_is_down_and_there_when_it_is_back() {
    let bench = bench();
    bench.store.write(PATH, &[(FIELD, "one")]);
    bench.store.write(PATH, &[(FIELD, "two")]);
    let create = perform(&bench.rotator, Step::Create, outside(None, Some("1"), &[]));
    create.await.unwrap();
    bench.store.set_down(true);
    let revoke = || perform(&bench.rotator, Step::RevokeOld, outside(None, None, &["1"]));
    assert_eq!(revoke().await.unwrap_err().kind, ErrorKind::Unavailable);
    assert!(
        bench.vault.value(SECRET, VERSION).is_none(),
        "nobody gets it from us"
    );
    bench.store.set_down(false);
    for _ in 0..2 {
        revoke().await.unwrap();
    }
    let old = outside(None, None, &[]).source;
    let (first, until) = (RemoteVersion("1".to_owned()), always());
    assert_eq!(bench.store.retired(), 2, "it ends as was declared");
    let here = outside(None, None, &["1"]);
    let revoked = bench
        .rotator
        .revoke(SECRET, &[VERSION], Some(&here), &until);
    revoked.await.unwrap();
    assert_eq!(bench.store.retired(), 2, "what is revoked ends for good");
    let gone = bench.store.fetch(&old, &first, &until);
    assert_eq!(gone.await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(there(&bench).unwrap(), b"two");
    let current = perform(&bench.rotator, Step::RevokeOld, outside(None, None, &["2"]));
    assert_eq!(current.await.unwrap_err().kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn a_provided_value_is_written_there_once() {
    let bench = bench();
    bench.store.write(PATH, &[(FIELD, "one")]);
    let taken = perform(&bench.rotator, Step::Test, outside(None, Some("1"), &[]));
    let taken = taken.await.unwrap_err();
    assert_eq!(
        taken.kind,
        ErrorKind::NotFound,
        "a test of what is not kept"
    );
    let value = SecretBytes::from(b"provided".to_vec());
    bench.vault.stash(TOKEN, &value).await.unwrap();
    let mut given = work(Step::Create, outside(Some("1"), None, &[]));
    (given.provided, given.generator) = (true, None);
    for _ in 0..2 {
        for step in STEPS {
            given.step = step;
            if bench.rotator.probe(&given, &always()).await.unwrap() == Probed::NotDone {
                attempt(&bench.rotator, &given).await.unwrap();
            }
        }
    }
    assert_eq!(there(&bench).unwrap(), b"provided");
    assert_eq!(bench.store.writes(), 1);
}

#[tokio::test]
async fn a_revocation_takes_back_what_a_rotation_staged_that_it_cancelled() {
    let bench = bench();
    bench.store.write(PATH, &[(FIELD, "old")]);
    for step in [Step::Create, Step::Set] {
        let done = perform(&bench.rotator, step, outside(Some("1"), None, &[]));
        done.await.unwrap();
    }
    assert_eq!(bench.store.staged(), 1);
    let cancelled = Outside {
        unstage: Some(TOKEN),
        ..outside(Some("1"), None, &[])
    };
    for _ in 0..2 {
        let valid = always();
        let revoked = bench
            .rotator
            .revoke(SECRET, &[VERSION], Some(&cancelled), &valid);
        revoked.await.unwrap();
    }
    assert_eq!(bench.store.staged(), 0);
    assert_eq!(there(&bench), Some(b"old".to_vec()));
}
