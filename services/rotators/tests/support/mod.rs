//! What the tests of several kinds of server share: the admin's password, and rotations of one account
//! that accepts two passwords.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keywheel_core::effect::{AtResource, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::rotation::{Sessions, Step};
use keywheel_core::secret::Generator;
use keywheel_core::store::CredentialRef;
use keywheel_engine::port::PortError;
use keywheel_engine::port::accounts::{Accounts, Login};
use keywheel_engine::port::rotator::Rotator as _;
use keywheel_engine::port::store::Credentials;
use keywheel_rotators::AccountRotator;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::accounts;
use keywheel_testkit::conformance::rotator::traps::perform_losing_a_call;
use keywheel_testkit::conformance::store::plenty;
use keywheel_testkit::fake::{Cut, CuttingAccounts, FakeVault};

pub(crate) const ADMIN: &str = "rotator";
pub(crate) const ADMIN_PASSWORD: &str = "pw-of-the-admin";
const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const ROTATIONS: u64 = 4;
/// How often it is looked whether a session is gone; each look takes a login.
const MAX_LOOKS: u32 = 2000;
/// More calls than this does a rotation make at a server.
const MIN_CALLS: u32 = 3;

/// The admin's password, as it is known now; files are read.
pub(crate) struct Known(pub(crate) Mutex<String>);

impl Known {
    pub(crate) fn admin() -> Arc<Self> {
        Arc::new(Self(Mutex::new(ADMIN_PASSWORD.to_owned())))
    }
}

#[async_trait]
impl Credentials for Known {
    async fn read(&self, credential: &CredentialRef) -> Result<SecretBytes, PortError> {
        if let CredentialRef::File(path) = credential {
            return Ok(SecretBytes::from(std::fs::read(path).unwrap()));
        }
        let known = self.0.lock().unwrap();
        Ok(SecretBytes::from(known.clone().into_bytes()))
    }
}

/// A resource with one account that accepts two passwords, or with two that alternate.
pub(crate) fn resource(kind: Kind, connection: &str, accounts: &[&str]) -> Resource {
    Resource {
        kind,
        connection: connection.to_owned(),
        accounts: accounts.iter().map(ToString::to_string).collect(),
        admin: SecretName::parse("shop/admin").unwrap(),
        strategy: match accounts.len() {
            1 => Strategy::DualPassword,
            _ => Strategy::AlternatingUsers,
        },
        ca: None,
    }
}

/// Rotations of the one account of a resource, each step twice: both passwords are good until the old
/// one is retired, and a version that is rolled back leaves the one before it.
pub(crate) async fn two_passwords_take_turns(accounts: Arc<dyn Accounts>, resource: &Resource) {
    let secret = Secret {
        accounts,
        resource: resource.clone(),
        vault: Arc::default(),
    };
    secret.make(1, None).await;
    for version in 2..=ROTATIONS {
        let old = version - 1;
        secret.make(version, Some(old)).await;
        let (before, after) = (secret.value(old), secret.value(version));
        assert!(secret.admits(&before).await && secret.admits(&after).await);
        let rotator = secret.rotator(Some(version), &[old]);
        for _ in 0..2 {
            let until = plenty();
            rotator.retire(SECRET, &[old], None, &until).await.unwrap();
            assert!(!secret.admits(&before).await && secret.admits(&after).await);
        }
    }
    let failed = ROTATIONS + 1;
    secret.make(failed, Some(ROTATIONS)).await;
    let (kept, taken_back) = (secret.value(ROTATIONS), secret.value(failed));
    let rotator = secret.rotator(Some(ROTATIONS), &[]);
    let work = work(Step::RollBack, failed);
    for _ in 0..2 {
        rotator.roll_back(&work, &plenty()).await.unwrap();
        assert!(secret.admits(&kept).await && !secret.admits(&taken_back).await);
    }
    rotator
        .revoke(SECRET, &[ROTATIONS], None, &plenty())
        .await
        .unwrap();
    assert!(
        !secret.admits(&kept).await,
        "a revocation takes the last one, too"
    );
}

/// Sessions of an account's old version are counted until they end, and who came later is not.
pub(crate) async fn sessions_of_an_old_version_are_told(
    shop: &dyn accounts::Resource,
    resource: &Resource,
) {
    let secret = Secret {
        accounts: shop.accounts(),
        resource: resource.clone(),
        vault: Arc::default(),
    };
    secret.make(1, None).await;
    let login = Login::of(resource.accounts[0].clone());
    let mut held = shop.session(&login, &secret.value(1)).await;
    assert!(held.works().await);
    secret.make(2, Some(1)).await;
    let rotator = secret.rotator(Some(2), &[1]);
    let mut asks = work(Step::Drain, 1);
    // The server notices the end of our own logins on its own.
    let line = left_of(&rotator, &asks, 1).await;
    asks.mark = Some(line.mark);
    let mut later = shop.session(&login, &secret.value(2)).await;
    assert!(later.works().await);
    let told = rotator.sessions(&asks, &plenty()).await.unwrap();
    assert_eq!(told, Some(line), "who came after the line does not count");
    drop(held);
    left_of(&rotator, &asks, 0).await;
    assert!(later.works().await);
}

/// Asks until so many sessions are left.
async fn left_of(rotator: &AccountRotator, asks: &StepWork, expected: u64) -> Sessions {
    let mut last = None;
    for _ in 0..MAX_LOOKS {
        last = rotator.sessions(asks, &plenty()).await.unwrap();
        match last {
            Some(told) if told.left == expected => return told,
            _ => {}
        }
    }
    panic!("{last:?} instead of {expected}")
}

/// Rotations of the one account of a resource, of which each loses another call, until one is through
/// without: the old password is good until the old version is retired, and refused then.
pub(crate) async fn whatever_call_is_lost_one_password_is_good_in_the_end(
    accounts: Arc<dyn Accounts>,
    resource: &Resource,
) {
    let secret = Secret {
        accounts,
        resource: resource.clone(),
        vault: Arc::default(),
    };
    secret.make(1, None).await;
    let mut version = 1;
    for cut in [Cut::Before, Cut::After] {
        let mut at = 0;
        loop {
            let cutting = CuttingAccounts::new(Arc::clone(&secret.accounts), at, cut);
            let cutting = Arc::new(cutting);
            let old = version;
            version += 1;
            let rotator = secret.over(Arc::clone(&cutting) as _, Some(old), &[]);
            let before = secret.value(old);
            for step in [Step::Create, Step::Set, Step::Test, Step::Finish] {
                perform_losing_a_call(&rotator, &work(step, version)).await;
                assert!(secret.admits(&before).await, "{cut:?} {at} {step:?}");
            }
            let after = secret.value(version);
            let rotator = secret.over(Arc::clone(&cutting) as _, Some(version), &[]);
            perform_losing_a_call(&rotator, &work(Step::RevokeOld, old)).await;
            assert!(secret.admits(&after).await, "{cut:?} {at}");
            assert!(!secret.admits(&before).await, "{cut:?} {at}");
            if cutting.begun() <= at {
                break;
            }
            at += 1;
        }
        assert!(
            at > MIN_CALLS,
            "so few calls cannot be all of a rotation: {at}"
        );
    }
}

/// A cut-over of the one account of a resource: `set` loses its call before it was done, then the answer
/// alone, and looks by itself what came of it.
pub(crate) async fn an_unclear_cut_over_is_looked_at(
    accounts: Arc<dyn Accounts>,
    resource: &Resource,
) {
    let secret = Secret {
        accounts,
        resource: Resource {
            strategy: Strategy::SingleUser,
            ..resource.clone()
        },
        vault: Arc::default(),
    };
    secret.make(1, None).await;
    for (version, cut) in [(2, Cut::Before), (3, Cut::After)] {
        let (old, until) = (version - 1, plenty());
        let cutting = Arc::new(CuttingAccounts::new(Arc::clone(&secret.accounts), 0, cut));
        let rotator = secret.over(Arc::clone(&cutting) as _, Some(old), &[]);
        let create = work(Step::Create, version);
        rotator.create(&create, &until).await.unwrap();
        let set = work(Step::Set, version);
        rotator.set(&set, &until).await.unwrap();
        assert!(cutting.begun() > 1, "{cut:?}: the account was asked");
        let (before, after) = (secret.value(old), secret.value(version));
        assert!(secret.admits(&after).await && !secret.admits(&before).await);
    }
}

struct Secret {
    accounts: Arc<dyn Accounts>,
    resource: Resource,
    vault: Arc<FakeVault>,
}

impl Secret {
    fn rotator(&self, current: Option<u64>, kept: &[u64]) -> AccountRotator {
        self.over(Arc::clone(&self.accounts), current, kept)
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
        let vault = Arc::clone(&self.vault);
        AccountRotator::new(accounts, plan, vault, Arc::new(OsEntropy))
    }

    async fn make(&self, version: u64, current: Option<u64>) {
        let (rotator, until) = (self.rotator(current, &[]), plenty());
        for _ in 0..2 {
            rotator
                .create(&work(Step::Create, version), &until)
                .await
                .unwrap();
        }
        for _ in 0..2 {
            rotator
                .set(&work(Step::Set, version), &until)
                .await
                .unwrap();
        }
        rotator
            .test(&work(Step::Test, version), &until)
            .await
            .unwrap();
        rotator
            .finish(&work(Step::Finish, version), &until)
            .await
            .unwrap();
    }

    fn value(&self, version: u64) -> SecretBytes {
        SecretBytes::from(self.vault.value(SECRET, version).unwrap())
    }

    async fn admits(&self, password: &SecretBytes) -> bool {
        let login = Login::of(self.resource.accounts[0].clone());
        let until = plenty();
        self.accounts
            .admits(&login, password, &until)
            .await
            .unwrap()
    }
}

/// A step of the rotation that makes a version, as the worker gets it.
pub(crate) fn work(step: Step, version: u64) -> StepWork {
    StepWork {
        rotation: RotationId::from_bytes(u128::from(version).to_be_bytes()),
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
