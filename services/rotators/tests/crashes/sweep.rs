//! Rotations of one account after the other, each through another trap, and what has to hold at the
//! server meanwhile and afterwards: rotations that end well, that are rolled back through the trap, and that
//! are given up by what a trap left of `set`.
//!
//! The next rotation begins on what the one before left, so what a trap left would be found by both.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::effect::{AtResource, StepWork};
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::rotation::Step;
use keywheel_engine::port::accounts::{Accounts, ConnectAccounts as _, Login};
use keywheel_engine::port::rotator::Rotator as _;
use keywheel_rotators::{AccountRotator, Connector, FAILPOINTS, form};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::accounts::Session;
use keywheel_testkit::conformance::rotator::traps::{self, killed};
use keywheel_testkit::conformance::store::plenty;
use keywheel_testkit::fake::{Child, FakeVault, Trap, TrapFault};
use tempfile::TempDir;

use crate::support::{self, Known, work};

/// How often a step is asked for, or the server looked at, and the time between: a server notices that a
/// client is gone by itself.
const MAX_TRIES: u32 = 1500;
const PAUSE: Duration = Duration::from_millis(10);
/// More hits than any failpoint has in one rotation.
const MAX_HITS: u32 = 20;
const MAKING: [Step; 4] = [Step::Create, Step::Set, Step::Test, Step::Finish];

/// A server, and another hand there that may do everything.
#[async_trait]
pub(crate) trait Server: Send + Sync {
    /// The resource, after the first of its accounts was made and the admin was given what `grants` prints.
    async fn prepare(&self, strategy: Strategy, accounts: &[&str]) -> Resource;
    /// The accounts that some password opens, each as often as there are such passwords; neither the
    /// admin nor the other hand.
    async fn accepted(&self) -> Vec<String>;
    /// How many sessions, and locks, there are that are not the other hand's.
    async fn left(&self) -> u64;
    /// Whether a rotation makes an account that is missing.
    fn makes_missing(&self) -> bool {
        true
    }
    /// The account is gone, if it was there.
    async fn drop_account(&self, name: &str);
    /// A client opens a session.
    async fn session(&self, login: &Login, password: &SecretBytes) -> Box<dyn Session>;
}

/// Whether this program is one that was started to be killed within a step; then it is, or the step is done.
pub(crate) async fn is_child() -> bool {
    let Some(order) = killed::order(FAILPOINTS) else {
        return false;
    };
    let [kind, connection, strategy, accounts, file, old, new] = order.words.as_slice() else {
        panic!("an order has seven words");
    };
    let accounts: Vec<&str> = accounts.split(',').collect();
    let resource = Resource {
        strategy: Strategy::of(strategy).unwrap(),
        ..support::resource(Kind::of(kind).unwrap(), connection, &accounts)
    };
    let deadly = Arc::new(Trap::deadly(order.at));
    let connector = Connector::new(Arc::new(OsEntropy)).passing(deadly);
    let accounts = connector.connect(&resource, Known::admin()).unwrap();
    let (old, new) = (old.parse().unwrap(), new.parse().unwrap());
    // What is rolled back never was the current one.
    let (current, kept) = match order.is_end() && order.version == old {
        true => (new, vec![old]),
        false => (old, Vec::new()),
    };
    let plan = AtResource {
        resource,
        admin: None,
        current: Some(current),
        kept,
        unclear: true,
    };
    let vault = Arc::new(FakeVault::in_file(Path::new(file)));
    let rotator = AccountRotator::new(accounts, plan, vault, Arc::new(OsEntropy));
    order.perform(&rotator, None).await;
    true
}

/// How a rotation goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// To its end.
    Forth,
    /// The new version is made and tested, and rolled back through the trap.
    Back,
}

/// Failpoints, each by its name.
type Points = BTreeSet<&'static str>;

/// By which failpoints some rotation came: one that ended well, one that was rolled back, one that was given up.
#[derive(Default)]
pub(crate) struct Walked {
    forth: Points,
    back: Points,
    given_up: Points,
}

/// The failpoints whose name begins so, but those of making an account where none is made.
pub(crate) fn points(server: &dyn Server, prefix: &str) -> Points {
    let points = FAILPOINTS.iter().copied();
    let points = points.filter(|name| name.starts_with(prefix));
    let points = points.filter(|name| server.makes_missing() || !is_of_making(name));
    points.collect()
}

/// Walks every failpoint whose name begins so under each strategy, and judges that. `test` is who calls, and starts
/// itself once more to be killed.
pub(crate) async fn check(
    server: &dyn Server,
    test: &'static str,
    prefix: &str,
    strategies: &[Strategy],
) {
    let points = points(server, prefix);
    let walked = walk(server, test, &points, strategies).await;
    judge(&points, [walked]);
}

/// Walks these failpoints under each strategy.
pub(crate) async fn walk(
    server: &dyn Server,
    test: &'static str,
    points: &Points,
    strategies: &[Strategy],
) -> Walked {
    let mut walked = Walked::default();
    for strategy in strategies {
        let names: &[&str] = match strategy {
            Strategy::AlternatingUsers => &["turn", "turn_b"],
            Strategy::DualPassword => &["twin"],
            Strategy::SingleUser => &["single"],
        };
        let resource = server.prepare(*strategy, names).await;
        let mut secret = Secret::begin(server, test, resource).await;
        for point in points.iter().copied() {
            if secret.walk(Way::Forth, point).await {
                walked.forth.insert(point);
            }
            if secret.walk(Way::Back, point).await {
                walked.back.insert(point);
            }
            if secret.walk_given_up(point).await {
                walked.given_up.insert(point);
            }
        }
        secret.end().await;
    }
    walked
}

/// Each failpoint has to be reached under some strategy, and those around a change of an account by what goes back,
/// too.
pub(crate) fn judge(points: &Points, walked: impl IntoIterator<Item = Walked>) {
    let mut all = Walked::default();
    for walked in walked {
        all.forth.extend(walked.forth);
        all.back.extend(walked.back);
        all.given_up.extend(walked.given_up);
    }
    assert_eq!(all.forth, *points, "each is reached");
    for point in points {
        let sets = point.ends_with("_set");
        let refuses = point.ends_with("_refuse");
        assert!(
            all.back.contains(point) || !(sets || refuses),
            "{point}: nothing is rolled back by way of it"
        );
        assert!(
            all.given_up.contains(point) || !sets,
            "{point}: nothing is given up there"
        );
    }
}

/// A version's account and its password.
struct Credential {
    login: Login,
    password: SecretBytes,
}

/// One secret whose versions open accounts at a server.
struct Secret<'s> {
    server: &'s dyn Server,
    resource: Resource,
    /// Its accounts, with no trap in the way.
    hand: Arc<dyn Accounts>,
    vault: Arc<FakeVault>,
    current: u64,
    /// The last number of a version, rolled back or not: none is used twice.
    last: u64,
    test: &'static str,
    /// With the cache.
    files: TempDir,
}

impl<'s> Secret<'s> {
    /// With its first version.
    async fn begin(server: &'s dyn Server, test: &'static str, resource: Resource) -> Self {
        let files = tempfile::tempdir().unwrap();
        let hand = Connector::new(Arc::new(OsEntropy)).connect(&resource, Known::admin());
        let secret = Self {
            server,
            hand: hand.unwrap(),
            resource,
            vault: Arc::new(FakeVault::in_file(&files.path().join("cache"))),
            current: 1,
            last: 1,
            test,
            files,
        };
        let rotator = secret.over(Arc::clone(&secret.hand), None, &[]);
        for step in MAKING {
            let never = Trap::new("", TrapFault::Error, 1);
            traps::perform(&never, &rotator, (&work(step, 1), false), async || ()).await;
        }
        secret
    }

    /// A failpoint with every fault, and cut off at each of its hits, and killed at the first; false when no
    /// rotation of this secret comes by. A login changes nothing: one hit of it is enough.
    async fn walk(&mut self, way: Way, point: &'static str) -> bool {
        if !self.go(way, Trap::new(point, TrapFault::Error, 1)).await {
            return false;
        }
        let delayed = self.go(way, Trap::new(point, TrapFault::Delay, 1)).await;
        assert!(delayed, "{point} delays nothing");
        let is_login = point.ends_with("_login");
        let mut hit = 1;
        while self.go(way, Trap::new(point, TrapFault::Cut, hit)).await && !is_login {
            hit += 1;
            assert!(hit < MAX_HITS, "{point} is hit without end");
        }
        assert!(hit > 1 || is_login, "{point} cuts nothing");
        traps::kill(point, async |trap| self.go(way, trap).await).await;
        true
    }

    async fn go(&mut self, way: Way, trap: Trap) -> bool {
        match way {
            Way::Forth => self.rotate(trap).await,
            Way::Back => self.roll_back(trap).await,
        }
    }

    /// `set` is cut off at each hit of a failpoint, and asked for no more; false when it does not come by.
    async fn walk_given_up(&mut self, point: &'static str) -> bool {
        let mut hit = 1;
        while self.give_up(Trap::new(point, TrapFault::Cut, hit)).await {
            hit += 1;
            assert!(hit < MAX_HITS, "{point} is hit without end");
        }
        hit > 1
    }

    /// The version that is current, and the number of the next one.
    fn numbers(&mut self) -> (u64, u64) {
        self.last += 1;
        (self.current, self.last)
    }

    /// The account that stands by is gone, where a trap lies where it is made.
    async fn drop_standby(&self, trap: &Trap, before: &Credential) {
        if !is_of_making(trap.at()) {
            return;
        }
        let mut names = self.resource.accounts.iter();
        if let Some(standby) = names.find(|name| **name != before.login.name) {
            self.server.drop_account(standby).await;
        }
    }

    /// What a program has to know that performs a step of the rotation from one version to the next.
    fn child(&self, old: u64, new: u64) -> Child {
        let Resource {
            kind,
            connection,
            accounts,
            strategy,
            ..
        } = &self.resource;
        let file = self.files.path().join("cache");
        let words = vec![
            kind.word().to_owned(),
            connection.clone(),
            strategy.word().to_owned(),
            accounts.join(","),
            file.display().to_string(),
            old.to_string(),
            new.to_string(),
        ];
        Child {
            test: self.test,
            words,
        }
    }

    /// One rotation through a trap; whether it came by.
    async fn rotate(&mut self, trap: Trap) -> bool {
        let (old, new) = self.numbers();
        let trap = Arc::new(trap.by(self.child(old, new)));
        let before = self.credential(old);
        let mut thief = None;
        self.drop_standby(&trap, &before).await;
        if is_of_revoking(&trap) {
            let session = self.server.session(&before.login, &before.password);
            thief = Some(session.await);
        }
        let rotator = self.rotator(&trap, old, &[]);
        for step in MAKING {
            self.perform(&rotator, &work(step, new), &trap, &before)
                .await;
        }
        let after = self.credential(new);
        assert!(self.admits(&after).await, "{trap}: the new one is refused");
        let rotator = self.rotator(&trap, new, &[old]);
        self.perform(&rotator, &work(Step::RevokeOld, old), &trap, &before)
            .await;
        self.current = new;

        assert!(self.admits(&after).await, "{trap}: the new one is refused");
        assert!(!self.admits(&before).await, "{trap}: the old one is good");
        let accepted = self.server.accepted().await;
        assert_eq!(accepted, [after.login.name], "{trap}: nobody else");
        let secret = work(Step::RevokeOld, old).secret;
        assert!(self.vault.value(secret, old).is_none(), "{trap}: kept");
        if let Some(mut thief) = thief {
            assert!(!thief.works().await, "{trap}: a session goes on");
        }
        self.wait_quiet(&trap.to_string()).await;
        trap.has_fired()
    }

    /// One rotation that is rolled back through a trap after `test`; whether it came by.
    async fn roll_back(&mut self, trap: Trap) -> bool {
        let (old, new) = self.numbers();
        let trap = Arc::new(trap.by(self.child(old, new)));
        let before = self.credential(old);
        let making = [Step::Create, Step::Set, Step::Test];
        self.undisturbed(&making, new, &before).await;
        let after = self.credential(new);
        let rotator = self.rotator(&trap, old, &[]);
        self.perform(&rotator, &work(Step::RollBack, new), &trap, &before)
            .await;
        self.check_back(&trap, (&before, &after), new).await;
        trap.has_fired()
    }

    /// `set` is asked for once, through a trap, and then rolled back, whatever became of it; whether it came by.
    async fn give_up(&mut self, trap: Trap) -> bool {
        let (old, new) = self.numbers();
        let trap = Arc::new(trap);
        let before = self.credential(old);
        self.drop_standby(&trap, &before).await;
        self.undisturbed(&[Step::Create], new, &before).await;
        let after = self.credential(new);
        let rotator = self.rotator(&trap, old, &[]);
        let (set, until) = (work(Step::Set, new), plenty());
        let _nobody_hears = trap.perform(rotator.set(&set, &until)).await;
        self.undisturbed(&[Step::RollBack], new, &before).await;
        self.check_back(&trap, (&before, &after), new).await;
        trap.has_fired()
    }

    /// Steps with no trap in the way, asked for until they are done.
    async fn undisturbed(&self, steps: &[Step], new: u64, before: &Credential) {
        let never = Trap::new("", TrapFault::Error, 1);
        let rotator = self.over(Arc::clone(&self.hand), Some(self.current), &[]);
        for step in steps {
            self.perform(&rotator, &work(*step, new), &never, before)
                .await;
        }
    }

    /// What was current is good, and nobody else is let in; of what was made nothing is kept.
    async fn check_back(&self, trap: &Trap, (before, after): (&Credential, &Credential), new: u64) {
        let is_good = self.admits(before).await;
        assert!(is_good, "{trap}: what was current is refused");
        let is_left = self.admits(after).await;
        assert!(!is_left, "{trap}: what was rolled back is good");
        let accepted = self.server.accepted().await;
        assert_eq!(
            accepted,
            [before.login.name.as_str()],
            "{trap}: nobody else"
        );
        let secret = work(Step::RollBack, new).secret;
        assert!(self.vault.value(secret, new).is_none(), "{trap}: kept");
        self.wait_quiet(&trap.to_string()).await;
    }

    /// One step, asked for until it is done. Whatever became of it, what was promised holds.
    async fn perform(
        &self,
        rotator: &AccountRotator,
        work: &StepWork,
        trap: &Trap,
        before: &Credential,
    ) {
        let holds = async || self.check_promised(work.step, trap, before).await;
        traps::perform(trap, rotator, (work, is_of_revoking(trap)), holds).await;
    }

    /// The old credential is good until the new one is in use everywhere, where two are accepted; where
    /// one is, one is always.
    async fn check_promised(&self, step: Step, trap: &Trap, before: &Credential) {
        match self.resource.strategy {
            Strategy::SingleUser => {
                let accepted = self.server.accepted().await;
                assert_eq!(accepted, [before.login.name.as_str()], "{trap}: {step:?}");
            }
            Strategy::AlternatingUsers | Strategy::DualPassword => {
                let is_promised = step != Step::RevokeOld;
                let is_good = !is_promised || self.admits(before).await;
                assert!(is_good, "{trap}: the old one is refused at {step:?}");
            }
        }
    }

    /// Its last version is revoked: nobody is let in any more.
    async fn end(self) {
        let rotator = self.over(Arc::clone(&self.hand), Some(self.current), &[]);
        let secret = work(Step::RevokeOld, self.current).secret;
        rotator
            .revoke(secret, &[self.current], None, &plenty())
            .await
            .unwrap();
        let accepted = self.server.accepted().await;
        assert!(accepted.is_empty(), "{accepted:?}");
        self.wait_quiet("the end").await;
    }

    /// Waits until no session is left and no lock.
    async fn wait_quiet(&self, when: &str) {
        for _ in 0..MAX_TRIES {
            if self.server.left().await == 0 {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{when}: sessions or locks are left");
    }

    fn credential(&self, version: u64) -> Credential {
        let secret = work(Step::Set, version).secret;
        let value = SecretBytes::from(self.vault.value(secret, version).unwrap());
        let opened = form::decode(self.resource.strategy, &value).unwrap();
        let first = || self.resource.accounts[0].clone();
        Credential {
            login: Login::of(opened.account.unwrap_or_else(first)),
            password: opened.password,
        }
    }

    async fn admits(&self, of: &Credential) -> bool {
        let until = plenty();
        let admitted = self.hand.admits(&of.login, &of.password, &until);
        admitted.await.unwrap()
    }

    fn rotator(&self, trap: &Arc<Trap>, current: u64, kept: &[u64]) -> AccountRotator {
        let connector = Connector::new(Arc::new(OsEntropy)).passing(Arc::clone(trap) as _);
        let accounts = connector.connect(&self.resource, Known::admin()).unwrap();
        self.over(accounts, Some(current), kept)
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
}

/// Whether it lies where an account is made that is missing.
fn is_of_making(point: &str) -> bool {
    let parts = ["_make", "_grant", "_default_role"];
    parts.iter().any(|part| point.ends_with(part))
}

/// Whether it lies where sessions are ended, as only a revocation does.
fn is_of_revoking(trap: &Trap) -> bool {
    trap.at().ends_with("_end")
}
