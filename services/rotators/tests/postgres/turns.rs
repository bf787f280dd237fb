//! Rotations over two accounts that alternate, and every call to the server lost once.

use std::sync::Arc;

use keywheel_core::effect::{AtResource, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::resource::{Resource, Strategy};
use keywheel_core::rotation::Step;
use keywheel_core::secret::Generator;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::accounts::{Accounts, Login};
use keywheel_engine::port::rotator::Rotator as _;
use keywheel_rotators::{AccountRotator, form};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::accounts;
use keywheel_testkit::conformance::rotator::traps::perform_losing_a_call;
use keywheel_testkit::conformance::store::{plenty, refused};
use keywheel_testkit::fake::{Cut, CuttingAccounts, FakeVault};

use crate::shop::Shop;

/// How often it is looked whether a session is gone; each look takes several logins.
const MAX_TRIES: u32 = 2000;
const SECRET: SecretId = SecretId::from_bytes([1; 16]);

fn work(step: Step, rotation: u64, version: u64) -> StepWork {
    StepWork {
        rotation: RotationId::from_bytes([u8::try_from(rotation).unwrap(); 16]),
        secret: SECRET,
        step,
        attempt: 1,
        versions: vec![version],
        generator: Some(Generator::default()),
        provided: false,
        outside: None,
        resource: None,
        mark: None,
    }
}

/// One secret whose two accounts alternate.
struct Alternating<'s> {
    shop: &'s Shop,
    vault: Arc<FakeVault>,
    resource: Resource,
}

impl<'s> Alternating<'s> {
    /// Of two accounts, for which the admin was granted what it needs.
    fn at(shop: &'s Shop) -> Self {
        let resource = shop.resource(Strategy::AlternatingUsers, &["app", "app_b"]);
        shop.grant(&resource);
        Self {
            shop,
            vault: Arc::default(),
            resource,
        }
    }

    fn rotator(&self, current: Option<u64>, kept: &[u64]) -> AccountRotator {
        self.over(Arc::new(self.shop.of(&self.resource)), current, kept)
    }

    fn over(
        &self,
        accounts: Arc<dyn Accounts>,
        current: Option<u64>,
        kept: &[u64],
    ) -> AccountRotator {
        let plan = AtResource {
            resource: self.resource.clone(),
            admin: None,
            current,
            kept: kept.to_vec(),
            unclear: true,
        };
        AccountRotator::new(
            accounts,
            plan,
            Arc::clone(&self.vault) as _,
            Arc::new(OsEntropy),
        )
    }

    /// What a version opens.
    fn opened(&self, version: u64) -> form::Opened {
        let value = SecretBytes::from(self.vault.value(SECRET, version).unwrap());
        form::decode(Strategy::AlternatingUsers, &value).unwrap()
    }

    /// A version is made and proven; gives its account and its password.
    async fn make(&self, version: u64, current: Option<u64>) -> form::Opened {
        let rotator = self.rotator(current, &[]);
        let mut work = work(Step::Create, version, version);
        let until = plenty();
        rotator.create(&work, &until).await.unwrap();
        work.step = Step::Set;
        rotator.set(&work, &until).await.unwrap();
        work.step = Step::Test;
        rotator.test(&work, &until).await.unwrap();
        work.step = Step::Finish;
        rotator.finish(&work, &until).await.unwrap();
        self.opened(version)
    }

    async fn admits(&self, opened: &form::Opened) -> bool {
        let login = Login::of(opened.account.clone().unwrap());
        let hand = self.shop.of(&self.resource);
        hand.admits(&login, &opened.password, &plenty())
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn two_accounts_take_turns_and_the_old_one_is_locked_with_each() {
    let shop = Shop::open();
    let secret = Alternating::at(&shop);
    let mut before = secret.make(1, None).await;
    for version in 2..=4 {
        let after = secret.make(version, Some(version - 1)).await;
        assert_ne!(before.account, after.account);
        assert!(secret.admits(&before).await && secret.admits(&after).await);
        let rotator = secret.rotator(Some(version), &[version - 1]);
        for _ in 0..2 {
            let (old, until) = ([version - 1], plenty());
            rotator.retire(SECRET, &old, None, &until).await.unwrap();
        }
        assert!(!secret.admits(&before).await && secret.admits(&after).await);
        before = after;
    }
    let locked = shop.psql(
        "SELECT rolname FROM pg_authid WHERE rolname LIKE 'app%' AND rolcanlogin AND rolpassword IS NOT NULL",
    );
    assert_eq!(locked, before.account.unwrap());
}

#[tokio::test]
async fn a_standby_account_is_not_reused_while_a_session_of_it_is_open() {
    let shop = Shop::open();
    let secret = Alternating::at(&shop);
    let first = secret.make(1, None).await;
    let login = Login::of(first.account.clone().unwrap());
    let held = accounts::Resource::session(&shop, &login, &first.password).await;
    secret.make(2, Some(1)).await;
    let rotator = secret.rotator(Some(2), &[1]);
    rotator.retire(SECRET, &[1], None, &plenty()).await.unwrap();
    let work = work(Step::Set, 3, 3);
    let rotator = secret.rotator(Some(2), &[]);
    rotator.create(&work, &plenty()).await.unwrap();
    let set = rotator.set(&work, &plenty()).await;
    let error = refused(set);
    assert_eq!(error.kind, ErrorKind::Unavailable, "it is waited for");
    assert!(error.to_string().contains("1 sessions"), "{error}");
    drop(held);
    // The server notices the end of a session on its own.
    let mut tries = 0;
    while let Err(error) = rotator.set(&work, &plenty()).await {
        tries += 1;
        assert!(tries < MAX_TRIES, "{error}");
    }
    rotator.test(&work, &plenty()).await.unwrap();
}

#[tokio::test]
async fn sessions_of_the_old_account_are_told_until_they_end() {
    let shop = Shop::open();
    let secret = Alternating::at(&shop);
    let first = secret.make(1, None).await;
    let login = Login::of(first.account.clone().unwrap());
    let held = accounts::Resource::session(&shop, &login, &first.password).await;
    secret.make(2, Some(1)).await;
    let rotator = secret.rotator(Some(2), &[1]);
    let mut asks = work(Step::Drain, 2, 1);
    let line = rotator.sessions(&asks, &plenty()).await.unwrap().unwrap();
    assert_eq!(line.left, 1);
    asks.mark = Some(line.mark);
    let mut later = accounts::Resource::session(&shop, &login, &first.password).await;
    assert!(later.works().await);
    let told = rotator.sessions(&asks, &plenty()).await.unwrap().unwrap();
    assert_eq!(
        told.left, 2,
        "whoever is on the old account counts, also who came later"
    );
    drop((held, later));
    // The server notices the end of a session on its own.
    let mut tries = 0;
    loop {
        let told = rotator.sessions(&asks, &plenty()).await.unwrap().unwrap();
        if told.left == 0 {
            break;
        }
        tries += 1;
        assert!(tries < MAX_TRIES, "{told:?}");
    }
    assert!(secret.admits(&first).await, "asking ends nothing");
}

#[tokio::test]
async fn a_revoked_version_is_refused_and_its_sessions_end() {
    let shop = Shop::open();
    let secret = Alternating::at(&shop);
    let leaked = secret.make(1, None).await;
    let login = Login::of(leaked.account.clone().unwrap());
    let mut thief = accounts::Resource::session(&shop, &login, &leaked.password).await;
    let rotator = secret.rotator(None, &[1]);
    rotator.revoke(SECRET, &[1], None, &plenty()).await.unwrap();
    assert!(!thief.works().await);
    assert!(!secret.admits(&leaked).await);
    assert!(secret.vault.value(SECRET, 1).is_none());
}

/// Each rotation loses another call, until one is through without: the old credential is good as long as
/// the new one is not retired for, and then refused.
#[tokio::test]
async fn whatever_call_is_lost_one_new_credential_is_good_and_the_old_one_dies() {
    let shop = Shop::open();
    let secret = Alternating::at(&shop);
    let mut before = secret.make(1, None).await;
    let mut version = 1;
    for cut in [Cut::Before, Cut::After] {
        let mut at = 0;
        loop {
            let accounts = Arc::new(shop.of(&secret.resource));
            let cutting = Arc::new(CuttingAccounts::new(accounts, at, cut));
            version += 1;
            let rotator = secret.over(Arc::clone(&cutting) as _, Some(version - 1), &[]);
            for step in [Step::Create, Step::Set, Step::Test, Step::Finish] {
                perform_losing_a_call(&rotator, &work(step, version, version)).await;
                assert!(secret.admits(&before).await, "{cut:?} {at} {step:?}");
            }
            let after = secret.opened(version);
            let rotator = secret.over(Arc::clone(&cutting) as _, Some(version), &[]);
            perform_losing_a_call(&rotator, &work(Step::RevokeOld, version, version - 1)).await;
            assert!(secret.admits(&after).await, "{cut:?} {at}");
            assert!(!secret.admits(&before).await, "{cut:?} {at}");
            before = after;
            if cutting.begun() <= at {
                break;
            }
            at += 1;
        }
        assert!(at > 5, "so few calls cannot be all of a rotation: {at}");
    }
}
