//! Leases of one container: every step repeated, and `create` interrupted at every call of the cache.

use std::time::Duration;

use keywheel_core::name::StoreName;
use keywheel_core::store::{
    Backend, CredentialRef, NamedStore, OldVersions, Source, StoreSpec, VaultAuth, VaultSpec,
};
use keywheel_testkit::conformance::leases::{Lender, check};
use keywheel_testkit::fake::{Cut, FakeStore, FakeVault};

use super::*;
use crate::testing::{SECRET, TOKEN, VERSION, always};

struct Bench {
    vault: Arc<FakeVault>,
    store: Arc<FakeStore>,
    rotator: LeaseRotator,
}

fn bench() -> Bench {
    let (vault, store) = (
        Arc::new(FakeVault::default()),
        Arc::new(FakeStore::default()),
    );
    let rotator = LeaseRotator::new(store.clone(), vault.clone());
    Bench {
        vault,
        store,
        rotator,
    }
}

fn role() -> Source {
    Source {
        path: "database/creds/app".to_owned(),
        field: String::new(),
    }
}

fn outside(retire: &[RemoteVersion]) -> Outside {
    let backend = Backend::Vault(VaultSpec {
        address: "https://bao:8200".to_owned(),
        namespace: String::new(),
        mount: "kv".to_owned(),
        ca_file: String::new(),
        old_versions: OldVersions::Destroy,
        auth: VaultAuth::Token {
            token: CredentialRef::File("/token".to_owned()),
        },
    });
    assert!(role().is_role(&backend) && role().lease_fault(&backend).is_none());
    Outside {
        store: NamedStore {
            name: StoreName::parse("bao").unwrap(),
            spec: StoreSpec {
                backend,
                poll: Duration::ZERO,
                timeout: Duration::ZERO,
            },
        },
        source: role(),
        known: None,
        fetch: None,
        retire: retire.to_vec(),
        unstage: None,
        probe: None,
    }
}

fn work(step: Step) -> StepWork {
    StepWork {
        rotation: TOKEN,
        secret: SECRET,
        step,
        attempt: 1,
        versions: vec![VERSION],
        generator: None,
        provided: false,
        outside: Some(Box::new(outside(&[]))),
        resource: None,
        mark: None,
    }
}

/// `create`, as the worker asks for it when it may have been attempted before.
async fn create(bench: &Bench) -> Result<Option<RemoteVersion>, PortError> {
    let (work, until) = (work(Step::Create), always());
    if let Probed::Done(lease) = bench.rotator.probe(&work, &until).await? {
        return Ok(lease);
    }
    bench.rotator.create(&work, &until).await?;
    bench.rotator.lease(&work).await
}

#[tokio::test]
async fn a_lease_is_minted_once_however_often_its_steps_come() {
    let bench = bench();
    let lease = create(&bench).await.unwrap();
    assert_eq!(create(&bench).await.unwrap(), lease);
    for step in [Step::Test, Step::Set, Step::Test] {
        let (work, until) = (work(step), always());
        match step {
            Step::Set => bench.rotator.set(&work, &until).await.unwrap(),
            _ => bench.rotator.test(&work, &until).await.unwrap(),
        }
    }
    let finished = bench.rotator.finish(&work(Step::Finish), &always()).await;
    assert_eq!(finished.unwrap(), None);
    assert_eq!(bench.store.lender.minted(), 1);
    assert_eq!(bench.store.lender.alive(), Vec::from_iter(lease));
    let value = bench.vault.value(SECRET, VERSION).unwrap();
    assert!(bench.store.lender.admits(&value));
}

#[tokio::test]
async fn a_create_that_is_cut_off_anywhere_leaves_no_orphan() {
    let whole = bench();
    create(&whole).await.unwrap();
    for call in 0..whole.vault.calls() {
        for cut in [Cut::Before, Cut::After] {
            let bench = bench();
            bench.vault.cut_off(call, cut);
            let cut_off = create(&bench).await;
            bench.vault.heal();
            // Nobody comes for it in time: what is on record stays, all else ends.
            let lease = match cut_off {
                Ok(lease) => lease,
                Err(_) => create(&bench).await.unwrap(),
            };
            bench.store.lender.pass_mint_span();
            let alive = bench.store.lender.alive();
            assert_eq!(alive, Vec::from_iter(lease), "call {call}, {cut:?}");
            let value = bench.vault.value(SECRET, VERSION).unwrap();
            assert!(bench.store.lender.admits(&value), "call {call}, {cut:?}");
        }
    }
}

#[tokio::test]
async fn what_was_minted_and_is_not_on_record_ends_by_itself() {
    let bench = bench();
    // Two looks, and then its record is put down.
    bench.vault.cut_off(2, Cut::Before);
    create(&bench).await.unwrap_err();
    assert_eq!(bench.store.lender.alive().len(), 1);
    bench.store.lender.pass_mint_span();
    assert_eq!(bench.store.lender.alive(), []);
    create(&bench).await.unwrap();
    assert_eq!(bench.store.lender.alive().len(), 1);
}

#[tokio::test]
async fn a_revocation_ends_the_lease_also_when_the_log_does_not_know_it() {
    let bench = bench();
    create(&bench).await.unwrap();
    let outside = outside(&[]);
    let revoke = || {
        let until = always();
        let (rotator, outside) = (&bench.rotator, &outside);
        async move {
            rotator
                .revoke(SECRET, &[VERSION], Some(outside), &until)
                .await
        }
    };
    bench.store.lender.set_down(true);
    assert_eq!(revoke().await.unwrap_err().kind, ErrorKind::Unavailable);
    assert!(
        bench.vault.value(SECRET, VERSION).is_none(),
        "nobody gets it from us"
    );
    bench.store.lender.set_down(false);
    for _ in 0..2 {
        revoke().await.unwrap();
    }
    assert_eq!(bench.store.lender.alive(), []);
    // A create that comes late finds the version destroyed, and what it minted ends at once.
    create(&bench).await.unwrap_err();
    assert_eq!(bench.store.lender.alive(), []);
}

#[tokio::test]
async fn a_create_whose_version_a_revocation_destroyed_meanwhile_leaves_no_extended_lease() {
    let bench = bench();
    // It looked before the lease was on record: of what is on record nothing is gone.
    bench.vault.destroy(SECRET, VERSION).await.unwrap();
    let refused = create(&bench).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
    assert_eq!(bench.store.lender.minted(), 1);
    assert_eq!(bench.store.lender.alive(), []);
}

#[tokio::test]
async fn leases_that_the_log_names_end_though_nothing_is_on_record_here() {
    let bench = bench();
    let minted = bench.store.lender.mint(&role(), &always()).await.unwrap();
    let outside = outside(&[minted.lease]);
    bench
        .rotator
        .retire(SECRET, &[VERSION], Some(&outside), &always())
        .await
        .unwrap();
    assert_eq!(bench.store.lender.alive(), []);
}

struct Fake(FakeStore);

#[async_trait]
impl Lender for Fake {
    fn leases(&self) -> &dyn Leases {
        &self.0.lender
    }
    fn role(&self) -> Source {
        role()
    }
    async fn admits(&self, value: &SecretBytes) -> bool {
        // EXPOSE: the fake keeps values in the clear.
        self.0.lender.admits(value.expose())
    }
}

#[tokio::test]
async fn the_fake_keeps_the_laws() {
    check(&Fake(FakeStore::default())).await;
}

#[tokio::test]
async fn of_a_login_that_was_lent_sessions_are_told_to_be_untold() {
    let bench = bench();
    create(&bench).await.unwrap();
    let told = bench
        .rotator
        .sessions(&work(Step::Drain), &always())
        .await
        .unwrap();
    assert_eq!(told, None);
}
