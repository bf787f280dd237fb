//! Rotations through traps: one fault at one hit of one failpoint, and each step asked for until it is done.
//!
//! A step is asked for as the worker does: what may have been attempted before is probed first. What has to hold
//! is looked at after every attempt, whatever became of it, and at the end of the rotation. The next rotation
//! begins on what the one before left, so what a trap left would be found by both. A program that is killed is
//! this very test once more, which performs one step ([`killed`]).

pub mod killed;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keywheel_core::effect::{Outside as Lies, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::rotation::Step;
use keywheel_core::secret::Generator;
use keywheel_core::store::RemoteVersion;
use keywheel_engine::port::rotator::{Probed, Rotator};
use keywheel_engine::port::{ErrorKind, PortError};

use super::super::journal::id;
use super::super::store::{FIELD, Outside, plenty};
use super::{MAKING, NEXT};
use crate::fake::{Child, FakeVault, Trap, TrapFault};

/// How often a step is asked for, or a server looked at, and the time between: a server notices by itself
/// that who asked is gone.
const MAX_TRIES: u32 = 1500;
const PAUSE: Duration = Duration::from_millis(10);
/// More hits than any failpoint has in one rotation.
const MAX_HITS: u32 = 20;

/// Walks a failpoint with every fault, and cut off at each of its hits; `rotate` is one rotation through a trap,
/// and says whether it came by. Gives false where none does.
///
/// # Panics
/// When it is hit without end, or by some rotations only.
pub async fn walk(point: &'static str, mut rotate: impl AsyncFnMut(Trap) -> bool) -> bool {
    if !rotate(Trap::new(point, TrapFault::Error, 1)).await {
        return false;
    }
    let delayed = rotate(Trap::new(point, TrapFault::Delay, 1)).await;
    assert!(delayed, "{point} delays nothing");
    let mut hit = 1;
    while rotate(Trap::new(point, TrapFault::Cut, hit)).await {
        hit += 1;
        assert!(hit < MAX_HITS, "{point} is hit without end");
    }
    assert!(hit > 1, "{point} cuts nothing");
    true
}

/// One rotation whose program is killed at a failpoint.
///
/// # Panics
/// When it does not come by.
pub async fn kill(point: &'static str, mut rotate: impl AsyncFnMut(Trap) -> bool) {
    let killed = rotate(Trap::new(point, TrapFault::Kill, 1)).await;
    assert!(killed, "{point} kills nothing");
}

/// Waits until this is so; `what` names it.
///
/// # Panics
/// When it never is.
pub async fn wait(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..MAX_TRIES {
        if is_so().await {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("waited in vain: {what}");
}

/// One step, asked for until it is done, with what a success told; `RevokeOld` as a revocation where that is
/// said. After every attempt `holds` is looked at.
///
/// # Panics
/// When it fails otherwise than for a while, or does not end.
pub async fn perform(
    trap: &Trap,
    rotator: &dyn Rotator,
    (work, is_revocation): (&StepWork, bool),
    holds: impl AsyncFn(),
) -> Option<RemoteVersion> {
    for attempt in 0..MAX_TRIES {
        if attempt == 0
            && let Some(child) = trap.victim()
        {
            if killed::is_killed(trap, child, work, is_revocation).await {
                trap.note_killed();
            }
            // Whether it was done nobody knows.
            holds().await;
            continue;
        }
        let step = once(rotator, work, attempt > 0, is_revocation);
        let ended = trap.perform(step).await;
        holds().await;
        match ended {
            Some(Ok(told)) => return told,
            Some(Err(error)) => {
                assert_eq!(error.kind, ErrorKind::Unavailable, "{trap}: {error}");
            }
            None => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{trap}: {:?} does not end", work.step);
}

/// One step while any one call of it may be lost: asked for, and once more if it was, after the probe.
///
/// # Panics
/// When it fails otherwise, or twice.
pub async fn perform_losing_a_call(rotator: &dyn Rotator, work: &StepWork) {
    if let Err(error) = once(rotator, work, false, false).await {
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        once(rotator, work, true, false).await.unwrap();
    }
}

async fn once(
    rotator: &dyn Rotator,
    work: &StepWork,
    is_repeat: bool,
    is_revocation: bool,
) -> Result<Option<RemoteVersion>, PortError> {
    let until = plenty();
    if is_repeat && let Probed::Done(told) = rotator.probe(work, &until).await? {
        return Ok(told);
    }
    let (secret, versions) = (work.secret, work.versions.as_slice());
    let outside = work.outside.as_deref();
    let done = match work.step {
        Step::Create => rotator.create(work, &until).await,
        Step::Set => rotator.set(work, &until).await,
        Step::Test => rotator.test(work, &until).await,
        Step::Finish => return rotator.finish(work, &until).await,
        Step::RollBack => rotator.roll_back(work, &until).await,
        Step::RevokeOld if is_revocation => rotator.revoke(secret, versions, outside, &until).await,
        Step::RevokeOld => rotator.retire(secret, versions, outside, &until).await,
        Step::Drain => rotator.sessions(work, &until).await.map(drop),
    };
    done.map(|()| None)
}

/// One step of the rotation that makes a version, at a place outside.
#[must_use]
pub fn work(secret: SecretId, token: RotationId, step: Step, version: u64, at: &Lies) -> StepWork {
    StepWork {
        rotation: token,
        secret,
        step,
        attempt: 1,
        versions: vec![version],
        generator: Some(Generator::default()),
        provided: false,
        outside: Some(Box::new(at.clone())),
        resource: None,
        mark: None,
    }
}

/// A secret and a rotation that no other case has.
#[must_use]
pub fn fresh() -> (SecretId, RotationId) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (secret, token) = (id(1, number), id(7, number));
    (SecretId::from_bytes(secret), RotationId::from_bytes(token))
}

/// Makes who performs the steps through a trap, over this cache.
pub type Through<'a> = dyn Fn(Arc<Trap>, &Arc<FakeVault>) -> Arc<dyn Rotator> + 'a;

/// One secret of ours at a store outside, whose versions another hand counts there.
pub struct Kept<'a> {
    hand: &'a dyn Outside,
    through: &'a Through<'a>,
    vault: Arc<FakeVault>,
    /// What is killed where a trap says so.
    child: Child,
    secret: SecretId,
    at: Lies,
    current: u64,
    /// The last number of a version, rolled back or not: none is used twice.
    last: u64,
}

impl<'a> Kept<'a> {
    /// At a place where nothing lies yet, over a cache that the child knows, too.
    #[must_use]
    pub fn at(
        hand: &'a dyn Outside,
        through: &'a Through<'a>,
        (vault, child): (Arc<FakeVault>, Child),
        place: Lies,
    ) -> Self {
        Self {
            hand,
            through,
            vault,
            child,
            secret: fresh().0,
            at: place,
            current: 0,
            last: 0,
        }
    }

    /// One rotation through a trap; whether it came by. Exactly one version is made there, and the one before
    /// is current until it is.
    pub async fn rotate(&mut self, trap: Trap) -> bool {
        let trap = Arc::new(trap.by(self.child.clone()));
        let rotator = (self.through)(Arc::clone(&trap), &self.vault);
        self.last += 1;
        let (token, old, new) = (fresh().1, self.current, self.last);
        let before = match old {
            0 => 0,
            _ => self.hand.versions(&self.at.source.path).await,
        };
        let mut told = None;
        for step in MAKING {
            let work = work(self.secret, token, step, new, &self.at);
            let holds = async || self.check_current(&trap, step, old, new).await;
            told = perform(&trap, &*rotator, (&work, false), holds).await;
        }
        let known = told.expect("it is told what is current there");
        let path = &self.at.source.path;
        let there = self.hand.fields(path).await;
        let there = there.get(FIELD).map(String::as_bytes);
        assert_eq!(there, self.value(new).as_deref(), "{trap}");
        let after = self.hand.versions(path).await;
        assert_eq!(after, before + 1, "{trap}: one version is made");
        let retire = self.at.known.replace(known);
        if old > 0 {
            self.at.retire = Vec::from_iter(retire);
            let work = work(self.secret, token, Step::RevokeOld, old, &self.at);
            let holds = async || self.check_current(&trap, Step::RevokeOld, old, new).await;
            perform(&trap, &*rotator, (&work, false), holds).await;
            self.at.retire.clear();
            assert!(self.value(old).is_none(), "{trap}: the old one is kept");
        }
        self.current = new;
        trap.has_fired()
    }

    /// One rotation that is rolled back through a trap before it is promoted; whether it came by. What is current
    /// there stays so, and nothing of the other value is kept.
    pub async fn roll_back(&mut self, trap: Trap) -> bool {
        self.last += 1;
        let (token, old, new) = (fresh().1, self.current, self.last);
        let never = Arc::new(Trap::new("", TrapFault::Error, 1));
        let rotator = (self.through)(Arc::clone(&never), &self.vault);
        for step in [Step::Create, Step::Set, Step::Test] {
            let work = work(self.secret, token, step, new, &self.at);
            let holds = async || self.check_current(&never, step, old, new).await;
            perform(&never, &*rotator, (&work, false), holds).await;
        }
        let trap = Arc::new(trap.by(self.child.clone()));
        let rotator = (self.through)(Arc::clone(&trap), &self.vault);
        let work = work(self.secret, token, Step::RollBack, new, &self.at);
        let holds = async || self.check_current(&trap, Step::RollBack, old, new).await;
        perform(&trap, &*rotator, (&work, false), holds).await;
        assert!(self.value(new).is_none(), "{trap}: it is kept");
        trap.has_fired()
    }

    /// What is current there: the old value before `finish` begins, and the new one once it is done.
    async fn check_current(&self, trap: &Trap, step: Step, old: u64, new: u64) {
        // Where there was none, nobody is promised any.
        if old == 0 {
            return;
        }
        let fields = self.hand.fields(&self.at.source.path).await;
        let there = fields.get(FIELD).map(|value| value.as_bytes().to_vec());
        let is_new = there == self.value(new) && there.is_some();
        let is_old = there == self.value(old) && there.is_some();
        let is_good = match step {
            Step::Finish => is_old || is_new,
            Step::RevokeOld => is_new,
            _ => is_old,
        };
        assert!(is_good, "{trap}: another value is current at {step:?}");
    }

    fn value(&self, version: u64) -> Option<Vec<u8>> {
        self.vault.value(self.secret, version)
    }
}
