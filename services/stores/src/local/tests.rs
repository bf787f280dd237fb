//! Tests of the `local` store: every step repeated, and interrupted before and after every call.

use keywheel_core::rotation::Step;
use keywheel_core::secret::Generator;
use keywheel_seal::OsEntropy;

use super::*;
use keywheel_testkit::fake::{Cut, FakeVault};

use crate::testing::{SECRET, TOKEN, VERSION, always, for_calls};

fn setup() -> (Arc<FakeVault>, LocalStore) {
    let vault = Arc::new(FakeVault::default());
    (vault.clone(), LocalStore::new(vault, Arc::new(OsEntropy)))
}

fn work(step: Step, provided: bool) -> StepWork {
    StepWork {
        rotation: TOKEN,
        secret: SECRET,
        step,
        attempt: 1,
        versions: vec![VERSION],
        generator: (!provided).then(Generator::default),
        provided,
        outside: None,
        resource: None,
        mark: None,
    }
}

/// One step as the worker asks for it when it may have been attempted before.
async fn perform(store: &LocalStore, step: Step, provided: bool) -> Result<(), PortError> {
    let (work, until) = (work(step, provided), always());
    match store.probe(&work, &until).await? {
        Probed::Done(_) => Ok(()),
        Probed::NotDone => attempt(store, step, provided).await,
    }
}

/// One step as the worker asks for it first.
async fn attempt(store: &LocalStore, step: Step, provided: bool) -> Result<(), PortError> {
    let (work, until) = (work(step, provided), always());
    match step {
        Step::Create => store.create(&work, &until).await,
        Step::Set => store.set(&work, &until).await,
        Step::Test => store.test(&work, &until).await,
        Step::Finish => store.finish(&work, &until).await.map(drop),
        Step::RevokeOld | Step::RollBack => {
            store.revoke(SECRET, &work.versions, None, &until).await
        }
        Step::Drain => store.sessions(&work, &until).await.map(drop),
    }
}

const STEPS: [Step; 4] = [Step::Create, Step::Set, Step::Test, Step::Finish];

#[tokio::test]
async fn every_step_repeats_without_a_second_effect() {
    for provided in [false, true] {
        let (vault, store) = setup();
        if provided {
            vault
                .stash(TOKEN, &SecretBytes::from(b"given".to_vec()))
                .await
                .unwrap();
        }
        let mut first = None;
        for step in STEPS {
            for count in 0..3 {
                if count == 0 {
                    attempt(&store, step, provided).await.unwrap();
                }
                perform(&store, step, provided).await.unwrap();
                let value = vault.value(SECRET, VERSION).unwrap();
                assert_eq!(
                    *first.get_or_insert_with(|| value.clone()),
                    value,
                    "{step:?}"
                );
            }
        }
        assert_eq!(vault.inserts(), 1);
        assert!(vault.waiting() == 0);
    }
}

#[tokio::test]
async fn every_step_survives_a_crash_at_every_call() {
    for provided in [false, true] {
        for crashed in STEPS {
            for cut in [Cut::Before, Cut::After] {
                for call in 0..4 {
                    survives(provided, crashed, call, cut).await;
                }
            }
        }
    }
}

async fn survives(provided: bool, crashed: Step, call: u32, cut: Cut) {
    let (vault, store) = setup();
    if provided {
        vault
            .stash(TOKEN, &SecretBytes::from(b"given".to_vec()))
            .await
            .unwrap();
    }
    let case = format!("{crashed:?} cut {cut:?} call {call}, provided {provided}");
    for step in STEPS {
        if step == crashed {
            vault.cut_off(call, cut);
            let interrupted = attempt(&store, step, provided).await;
            vault.heal();
            if call == 0 && step != Step::Set {
                assert_eq!(
                    interrupted.unwrap_err().kind,
                    ErrorKind::Unavailable,
                    "{case}"
                );
            }
        }
        perform(&store, step, provided)
            .await
            .unwrap_or_else(|error| panic!("{case}: {error}"));
    }
    assert_eq!(vault.inserts(), 1, "{case}");
    assert!(vault.waiting() == 0, "{case}");
    if provided {
        assert_eq!(vault.value(SECRET, VERSION).unwrap(), b"given", "{case}");
    }
}

#[tokio::test]
async fn revoke_repeats_tries_every_version_and_bars_what_never_was() {
    let (vault, store) = setup();
    perform(&store, Step::Create, false).await.unwrap();
    vault.cut_off(0, Cut::Before);
    assert!(
        store
            .revoke(SECRET, &[3, VERSION], None, &always())
            .await
            .is_err()
    );
    assert!(
        vault.value(SECRET, VERSION).is_none(),
        "the second version is destroyed though the first failed"
    );
    for _ in 0..2 {
        store
            .revoke(SECRET, &[3, VERSION, 9], None, &always())
            .await
            .unwrap();
    }
    assert_eq!(found(&store, Step::Create, false).await, Probed::NotDone);
    let late = perform(&store, Step::Create, false).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::Denied);
    assert_eq!(
        perform(&store, Step::Finish, false).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(
        perform(&store, Step::Test, false).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn a_probe_finds_a_kept_version_and_asks_nothing_about_steps_that_keep_none() {
    for provided in [false, true] {
        let (vault, store) = setup();
        let given = SecretBytes::from(b"given".to_vec());
        if provided {
            vault.stash(TOKEN, &given).await.unwrap();
        }
        assert_eq!(found(&store, Step::Create, provided).await, Probed::NotDone);
        perform(&store, Step::Create, provided).await.unwrap();
        let done = Probed::Done(None);
        assert_eq!(found(&store, Step::Create, provided).await, done);
        vault.forget_calls();
        for step in [Step::Set, Step::Test, Step::Finish, Step::RevokeOld] {
            assert_eq!(found(&store, step, provided).await, Probed::NotDone);
        }
        assert_eq!(vault.calls(), 0);
        // Kept, and cut off before it left the stash.
        vault.stash(TOKEN, &given).await.unwrap();
        let half = found(&store, Step::Create, provided).await;
        assert_eq!(half == Probed::NotDone, provided);
        vault.cut_off(0, Cut::Before);
        let unclear = store.probe(&work(Step::Create, provided), &always()).await;
        assert_eq!(unclear.unwrap_err().kind, ErrorKind::Unavailable);
    }
}

async fn found(store: &LocalStore, step: Step, provided: bool) -> Probed {
    let probed = store.probe(&work(step, provided), &always()).await;
    probed.unwrap()
}

#[tokio::test]
async fn create_without_value_or_generator_is_refused_with_the_next_step() {
    let (_, store) = setup();
    let gone = perform(&store, Step::Create, true).await.unwrap_err();
    assert!(gone.to_string().contains("put the value again"), "{gone}");
    let neither = StepWork {
        generator: None,
        ..work(Step::Create, false)
    };
    assert_eq!(
        store.create(&neither, &always()).await.unwrap_err().kind,
        ErrorKind::Denied
    );
    let spec = Generator {
        length: 0,
        ..Generator::default()
    };
    let impossible = StepWork {
        generator: Some(spec),
        ..work(Step::Create, false)
    };
    assert!(
        store
            .create(&impossible, &always())
            .await
            .unwrap_err()
            .to_string()
            .contains("length")
    );
}

#[tokio::test]
async fn a_value_that_breaks_the_rules_fails_the_test() {
    let (vault, store) = setup();
    vault
        .insert(
            SECRET,
            VERSION,
            TOKEN,
            &SecretBytes::from(b"short".to_vec()),
        )
        .await
        .unwrap();
    let error = perform(&store, Step::Test, false).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(!error.to_string().contains("short"), "{error}");
    perform(&store, Step::Test, true).await.unwrap();
    let (vault, store) = setup();
    vault
        .insert(SECRET, VERSION, TOKEN, &SecretBytes::from(Vec::new()))
        .await
        .unwrap();
    assert!(perform(&store, Step::Test, true).await.is_err());
}

#[tokio::test]
async fn a_step_names_exactly_one_new_version() {
    let (_, store) = setup();
    for versions in [vec![], vec![1, 2]] {
        let work = StepWork {
            versions,
            ..work(Step::Create, false)
        };
        assert_eq!(
            store.create(&work, &always()).await.unwrap_err().kind,
            ErrorKind::Denied
        );
    }
}

#[tokio::test]
async fn a_provided_value_for_a_destroyed_version_does_not_stay() {
    let (vault, store) = setup();
    let given = SecretBytes::from(b"given".to_vec());
    vault.stash(TOKEN, &given).await.unwrap();
    vault.destroy(SECRET, VERSION).await.unwrap();
    let refused = perform(&store, Step::Create, true).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
    assert!(vault.waiting() == 0);
}

#[tokio::test]
async fn a_provided_value_waits_while_the_vault_is_away() {
    let (vault, store) = setup();
    let given = SecretBytes::from(b"given".to_vec());
    vault.stash(TOKEN, &given).await.unwrap();
    vault.cut_off(1, Cut::Before);
    let failed = perform(&store, Step::Create, true).await.unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Unavailable);
    assert_eq!(vault.waiting(), 1);
}

#[tokio::test]
async fn after_the_deadline_no_call_is_begun() {
    for calls in 0..3 {
        let (vault, store) = setup();
        let given = SecretBytes::from(b"given".to_vec());
        vault.stash(TOKEN, &given).await.unwrap();
        vault.forget_calls();
        let until = for_calls(calls);
        let late = store.create(&work(Step::Create, true), &until).await;
        assert_eq!(late.unwrap_err().kind, ErrorKind::Unavailable);
        assert_eq!(i64::from(vault.calls()), calls);
        perform(&store, Step::Create, true).await.unwrap();
        assert_eq!(vault.value(SECRET, VERSION).unwrap(), b"given");
        assert!(vault.waiting() == 0);
    }
    let (vault, store) = setup();
    perform(&store, Step::Create, false).await.unwrap();
    let two = store
        .revoke(SECRET, &[3, VERSION], None, &for_calls(1))
        .await;
    assert!(two.is_err());
    assert!(
        vault.value(SECRET, VERSION).is_some(),
        "the second was left alone"
    );
    vault.forget_calls();
    for step in [Step::Test, Step::Finish] {
        let (work, until) = (work(step, false), for_calls(0));
        let late = match step {
            Step::Test => store.test(&work, &until).await,
            _ => store.finish(&work, &until).await.map(drop),
        };
        assert!(late.is_err(), "{step:?}");
    }
    assert_eq!(vault.calls(), 0);
}
