//! Tests of the steps over accounts in memory: the laws of every rotator, accounts that alternate, and
//! every step interrupted before and after every call.

use std::sync::Arc;

use keywheel_core::id::RotationId;
use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, Resource};
use keywheel_core::store::Source;
use keywheel_seal::OsEntropy;
use keywheel_testkit::conformance::rotator::{self, Home};
use keywheel_testkit::conformance::store::{kind, plenty, refused, value};
use keywheel_testkit::fake::{Cut, FakeAccounts, FakeVault};

use super::*;

mod endings;
mod proving;
mod unclear;

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const STRATEGIES: [Strategy; 3] = [
    Strategy::AlternatingUsers,
    Strategy::DualPassword,
    Strategy::SingleUser,
];
const MAKING: [Step; 4] = [Step::Create, Step::Set, Step::Test, Step::Finish];
/// More calls than any step makes.
const MAX_CALLS: u32 = 30;

/// A resource and a cache in memory.
struct Fakes {
    accounts: FakeAccounts,
    vault: Arc<FakeVault>,
    strategy: Strategy,
}

impl Fakes {
    fn of(strategy: Strategy) -> Self {
        let accounts = match strategy {
            Strategy::DualPassword => FakeAccounts::overlapping(),
            Strategy::AlternatingUsers | Strategy::SingleUser => FakeAccounts::single(),
        };
        accounts.make("app");
        Self {
            accounts,
            vault: Arc::default(),
            strategy,
        }
    }

    fn rotator(&self, current: Option<u64>, kept: &[u64]) -> AccountRotator {
        let names = ["app", "app_b"];
        let names = names.iter().take(self.strategy.accounts());
        let resource = Resource {
            kind: Kind::Mariadb,
            connection: "mariadb://admin@db.example:3306/shop".to_owned(),
            accounts: names.map(ToString::to_string).collect(),
            admin: SecretName::parse("shop/admin").unwrap(),
            strategy: self.strategy,
            ca: None,
        };
        let plan = AtResource {
            resource,
            admin: None,
            current,
            kept: kept.to_vec(),
            unclear: true,
        };
        let accounts = Arc::new(self.accounts.clone());
        let vault = Arc::clone(&self.vault);
        AccountRotator::new(accounts, plan, vault, Arc::new(OsEntropy))
    }

    /// All steps that make a version over the one before.
    async fn make(&self, version: u64) {
        let rotator = self.rotator((version > 1).then(|| version - 1), &[]);
        for step in MAKING {
            perform(&rotator, &work(step, version)).await.unwrap();
        }
    }

    /// Account and password of a version.
    fn opened(&self, version: u64) -> form::Opened {
        let value = self.vault.value(SECRET, version).expect("it is kept");
        form::decode(self.strategy, &SecretBytes::from(value)).unwrap()
    }

    fn accepts(&self, opened: &form::Opened) -> bool {
        let account = opened.account.as_deref().unwrap_or("app");
        self.accounts.accepts(account, &opened.password)
    }
}

fn work(step: Step, version: u64) -> StepWork {
    StepWork {
        rotation: RotationId::from_bytes([u8::try_from(version).unwrap(); 16]),
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

async fn counted(rotator: &AccountRotator, asks: &StepWork) -> Option<Sessions> {
    rotator.sessions(asks, &plenty()).await.unwrap()
}

/// One step as the worker asks for it when it may have been attempted before.
async fn perform(rotator: &AccountRotator, work: &StepWork) -> Result<(), PortError> {
    let until = plenty();
    if let Probed::Done(_) = rotator.probe(work, &until).await? {
        return Ok(());
    }
    match work.step {
        Step::Create => rotator.create(work, &until).await,
        Step::Set => rotator.set(work, &until).await,
        Step::Test => rotator.test(work, &until).await,
        Step::Finish => rotator.finish(work, &until).await.map(drop),
        Step::RollBack => rotator.roll_back(work, &until).await,
        Step::RevokeOld => {
            rotator
                .retire(work.secret, &work.versions, None, &until)
                .await
        }
        Step::Drain => rotator.sessions(work, &until).await.map(drop),
    }
}

#[async_trait]
impl Home for Fakes {
    fn rotator(&self) -> Arc<dyn Rotator> {
        Arc::new(Fakes::rotator(self, None, &[]))
    }

    fn vault(&self) -> Arc<dyn VersionVault> {
        Arc::clone(&self.vault) as _
    }

    fn place(&self) -> Option<Outside> {
        None
    }

    async fn there(&self, _: &Source) -> Option<(RemoteVersion, SecretBytes)> {
        None
    }

    async fn write(&self, _: &Source, _: &SecretBytes) {}
}

/// Where the value is the password alone; who alternates has the cases below.
#[tokio::test]
async fn it_keeps_the_laws_of_every_rotator() {
    for strategy in [Strategy::DualPassword, Strategy::SingleUser] {
        rotator::check(&Fakes::of(strategy)).await;
    }
}

#[tokio::test]
async fn a_password_from_before_the_first_version_is_not_kept_beside_those_of_versions() {
    let fakes = Fakes::of(Strategy::DualPassword);
    let before = SecretBytes::from(b"by hand".to_vec());
    fakes.accounts.change("app", &before);
    fakes.make(1).await;
    assert!(!fakes.accounts.accepts("app", &before));
    fakes.make(2).await;
    for version in [1, 2] {
        assert!(fakes.accepts(&fakes.opened(version)), "{version}");
    }
}

#[tokio::test]
async fn two_accounts_take_turns_and_both_are_good_until_the_old_one_is_retired() {
    let fakes = Fakes::of(Strategy::AlternatingUsers);
    fakes.make(1).await;
    let mut before = fakes.opened(1);
    assert_eq!(before.account.as_deref(), Some("app"));
    for version in 2..=4 {
        fakes.make(version).await;
        let after = fakes.opened(version);
        assert_ne!(after.account, before.account);
        assert!(fakes.accepts(&before) && fakes.accepts(&after));
        let rotator = fakes.rotator(Some(version), &[]);
        let retire = work(Step::RevokeOld, version - 1);
        for _ in 0..2 {
            perform(&rotator, &retire).await.unwrap();
            assert!(!fakes.accepts(&before) && fakes.accepts(&after));
        }
        before = after;
    }
}

#[tokio::test]
async fn an_account_that_an_older_version_still_opens_is_never_given_away() {
    let fakes = Fakes::of(Strategy::AlternatingUsers);
    fakes.make(1).await;
    fakes.make(2).await;
    let (first, second) = (fakes.opened(1), fakes.opened(2));
    let rotator = fakes.rotator(Some(2), &[1]);
    let third = perform(&rotator, &work(Step::Create, 3)).await;
    let error = refused(third);
    assert_eq!(error.kind, ErrorKind::Unavailable, "it is waited for");
    assert!(error.to_string().contains("app and app_b"), "{error}");
    assert!(fakes.accepts(&first) && fakes.accepts(&second));
    perform(&rotator, &work(Step::RevokeOld, 1)).await.unwrap();
    for step in MAKING {
        perform(&rotator, &work(step, 3)).await.unwrap();
    }
    assert_eq!(fakes.opened(3).account, first.account);
}

#[tokio::test]
async fn a_standby_account_with_sessions_is_waited_for_and_one_that_cannot_be_told_is_not() {
    let fakes = Fakes::of(Strategy::AlternatingUsers);
    fakes.make(1).await;
    let first = fakes.opened(1);
    let held = fakes.accounts.session("app", &first.password).unwrap();
    fakes.make(2).await;
    let rotator = fakes.rotator(Some(2), &[]);
    perform(&rotator, &work(Step::RevokeOld, 1)).await.unwrap();
    assert!(fakes.accounts.is_open(held), "sessions end by themselves");
    perform(&rotator, &work(Step::Create, 3)).await.unwrap();
    let set = work(Step::Set, 3);
    assert_eq!(kind(perform(&rotator, &set).await), ErrorKind::Unavailable);
    assert!(!fakes.accepts(&fakes.opened(3)));
    fakes.accounts.hide("app");
    perform(&rotator, &set).await.unwrap();
    assert!(fakes.accepts(&fakes.opened(3)));
}

#[tokio::test]
async fn sessions_from_before_the_line_are_counted_and_what_cannot_be_told_is_not_guessed() {
    for strategy in STRATEGIES {
        let fakes = Fakes::of(strategy);
        fakes.make(1).await;
        let first = fakes.opened(1);
        let held = fakes.accounts.session("app", &first.password).unwrap();
        fakes.make(2).await;
        let rotator = fakes.rotator(Some(2), &[]);
        let mut asks = work(Step::Drain, 1);
        let line = counted(&rotator, &asks).await.unwrap();
        assert_eq!(line.left, 1, "{strategy:?}");
        asks.mark = Some(line.mark);
        if let Some(later) = fakes.accounts.session("app", &first.password) {
            let told = counted(&rotator, &asks).await.unwrap();
            // Whoever connects to the account that dies uses what dies; of one account that is not told.
            let alternates = strategy == Strategy::AlternatingUsers;
            assert_eq!(told.left, 1 + u64::from(alternates), "{strategy:?}");
            fakes.accounts.close(later);
        }
        fakes.accounts.close(held);
        assert_eq!(
            counted(&rotator, &asks).await.unwrap().left,
            0,
            "{strategy:?}"
        );
        fakes.accounts.hide("app");
        assert_eq!(counted(&rotator, &asks).await, None, "{strategy:?}");
    }
}

#[tokio::test]
async fn another_server_process_draws_another_line_and_what_is_open_there_counts() {
    for strategy in STRATEGIES {
        let fakes = Fakes::of(strategy);
        fakes.make(1).await;
        let rotator = fakes.rotator(Some(1), &[]);
        let mut asks = work(Step::Drain, 1);
        let line = counted(&rotator, &asks).await.unwrap();
        asks.mark = Some(line.mark);
        fakes.accounts.restart();
        let password = fakes.opened(1).password;
        let again = fakes.accounts.session("app", &password).unwrap();
        let told = counted(&rotator, &asks).await.unwrap();
        assert_eq!(told.left, 1, "{strategy:?}");
        assert_ne!(told.mark, line.mark, "{strategy:?}");
        fakes.accounts.close(again);
        asks.mark = Some(told.mark);
        let told = counted(&rotator, &asks).await.unwrap();
        assert_eq!(told.left, 0, "{strategy:?}");
    }
}

#[tokio::test]
async fn sessions_of_a_version_whose_account_is_not_known_are_not_guessed() {
    let fakes = Fakes::of(Strategy::AlternatingUsers);
    fakes.make(1).await;
    let rotator = fakes.rotator(Some(1), &[]);
    let until = plenty();
    let told = rotator.sessions(&work(Step::Drain, 9), &until).await;
    assert_eq!(told.unwrap(), None, "nobody ever made it");
    perform(&rotator, &work(Step::RevokeOld, 1)).await.unwrap();
    let told = rotator.sessions(&work(Step::Drain, 1), &until).await;
    assert_eq!(told.unwrap().map(|told| told.left), Some(0), "it is over");
}

#[tokio::test]
async fn what_is_rolled_back_is_refused_and_the_current_one_is_good() {
    for strategy in STRATEGIES {
        for steps in 0..=MAKING.len() {
            let fakes = Fakes::of(strategy);
            fakes.make(1).await;
            let rotator = fakes.rotator(Some(1), &[]);
            for step in MAKING.iter().take(steps) {
                perform(&rotator, &work(*step, 2)).await.unwrap();
            }
            let undone = (steps > 0).then(|| fakes.opened(2));
            for _ in 0..2 {
                perform(&rotator, &work(Step::RollBack, 2)).await.unwrap();
            }
            assert!(fakes.accepts(&fakes.opened(1)), "{strategy:?}, {steps}");
            let is_accepted = undone.is_some_and(|undone| fakes.accepts(&undone));
            assert!(!is_accepted, "{strategy:?}, {steps}");
        }
    }
}

#[tokio::test]
async fn a_revoked_version_is_refused_and_all_sessions_of_its_account_end() {
    for strategy in STRATEGIES {
        let fakes = Fakes::of(strategy);
        fakes.make(1).await;
        let leaked = fakes.opened(1);
        let thief = fakes.accounts.session("app", &leaked.password).unwrap();
        let rotator = fakes.rotator(None, &[1]);
        for _ in 0..2 {
            let revoked = rotator.revoke(SECRET, &[1], None, &plenty()).await;
            revoked.unwrap();
            assert!(!fakes.accepts(&leaked) && !fakes.accounts.is_open(thief));
        }
        assert!(fakes.vault.value(SECRET, 1).is_none());
    }
}

#[tokio::test]
async fn a_server_that_lets_everybody_in_fails_the_test() {
    for strategy in STRATEGIES {
        let fakes = Fakes::of(strategy);
        let rotator = fakes.rotator(None, &[]);
        for step in [Step::Create, Step::Set] {
            perform(&rotator, &work(step, 1)).await.unwrap();
        }
        fakes.accounts.open_the_door();
        let error = refused(perform(&rotator, &work(Step::Test, 1)).await);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.to_string().contains("any password"), "{error}");
    }
}

#[tokio::test]
async fn a_password_that_somebody_gave_meanwhile_is_left_alone() {
    let fakes = Fakes::of(Strategy::SingleUser);
    fakes.make(1).await;
    let first = fakes.opened(1);
    fakes.make(2).await;
    assert!(!fakes.accepts(&first), "the new one took its place");
    fakes.accounts.change("app", &first.password);
    let rotator = fakes.rotator(Some(2), &[1]);
    let retired = perform(&rotator, &work(Step::RevokeOld, 1)).await;
    assert_eq!(kind(retired), ErrorKind::Conflict);
    assert!(fakes.accepts(&first));
    assert!(fakes.vault.value(SECRET, 1).is_none());
    let theirs = value("theirs");
    fakes.accounts.change("app", &theirs);
    perform(&rotator, &work(Step::RevokeOld, 1)).await.unwrap();
    let revoked = rotator.revoke(SECRET, &[2], None, &plenty()).await;
    revoked.unwrap();
    assert!(fakes.accounts.accepts("app", &theirs));
}

/// Whatever call is lost, before or after it was done, a repeat ends in the same: one new credential that
/// is good, and an old one that was good until it was retired.
#[tokio::test]
async fn every_step_survives_every_lost_call() {
    for strategy in STRATEGIES {
        for cut in [Cut::Before, Cut::After] {
            for at in 0..MAX_CALLS {
                let fakes = Fakes::of(strategy);
                fakes.make(1).await;
                let first = fakes.opened(1);
                fakes.accounts.cut_off(at, cut);
                let rotator = fakes.rotator(Some(1), &[]);
                for step in MAKING {
                    repeated(&rotator, &work(step, 2)).await;
                    assert!(!strategy.overlaps() || fakes.accepts(&first));
                }
                let second = fakes.opened(2);
                assert!(fakes.accepts(&second), "{strategy:?} {cut:?} {at}");
                let rotator = fakes.rotator(Some(2), &[1]);
                repeated(&rotator, &work(Step::RevokeOld, 1)).await;
                assert!(!fakes.accepts(&first), "{strategy:?} {cut:?} {at}");
                assert!(fakes.accepts(&second), "{strategy:?} {cut:?} {at}");
                assert_eq!(fakes.vault.inserts(), 2, "one value for each version");
            }
        }
    }
}

/// One call may be lost, and then it is done once more.
async fn repeated(rotator: &AccountRotator, work: &StepWork) {
    if let Err(error) = perform(rotator, work).await {
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        perform(rotator, work).await.unwrap();
    }
}
