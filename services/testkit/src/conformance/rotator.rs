//! What every rotator has to keep, at whatever kind of store: the laws of `port::rotator` as `local`,
//! Vault and OpenBao, and AWS Secrets Manager keep them alike.
//!
//! Each case works on a secret of its own. What is current afterwards is read past the adapter: in the
//! cache that containers are served from, and by another hand at the store. Every error that a case
//! provokes is searched for the values that were in play. What goes wrong at a store is in [`faults`].

pub mod faults;
pub mod traps;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use keywheel_core::effect::{Outside, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::rotation::Step;
use keywheel_core::secret::Generator;
use keywheel_core::store::{RemoteVersion, Source};
use keywheel_engine::port::rotator::{Probed, Rotator};
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

use super::journal::id;
use super::store::{kind, plenty, text, too_late, value};

/// Secrets and rotations of all cases of a run are told apart by number.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What a version is called at the store.
type Made = Result<Option<RemoteVersion>, PortError>;

/// The steps in which a version is made.
const MAKING: [Step; 4] = [Step::Create, Step::Set, Step::Test, Step::Finish];

/// A kind of store under test, with its cache.
#[async_trait]
pub trait Home: Send + Sync {
    /// The adapter.
    fn rotator(&self) -> Arc<dyn Rotator>;
    /// The cache that containers are served from.
    fn vault(&self) -> Arc<dyn VersionVault>;
    /// A place there where nothing ever lay; `None` where the cache is all there is.
    fn place(&self) -> Option<Outside>;
    /// What another hand finds current at a place, past all faults.
    async fn there(&self, at: &Source) -> Option<(RemoteVersion, SecretBytes)>;
    /// Another hand makes this current there, past all faults.
    async fn write(&self, at: &Source, value: &SecretBytes);
}

/// Runs every case.
///
/// # Panics
/// When a law is broken.
pub async fn check(home: &dyn Home) {
    every_step_repeats_and_makes_one_value(home).await;
    a_provided_value_is_taken_as_it_is(home).await;
    the_next_version_replaces_the_known_one_and_the_old_one_goes(home).await;
    what_is_rolled_back_leaves_nothing(home).await;
    revoking_what_never_was_succeeds_and_bars_it(home).await;
    after_the_deadline_nothing_is_done(home).await;
    nothing_is_written_over_somebody_elses_value_and_it_is_taken_over(home).await;
}

/// A rotation of one secret.
#[derive(Clone)]
struct Rotation {
    secret: SecretId,
    token: RotationId,
    version: u64,
    is_provided: bool,
    outside: Option<Outside>,
}

impl Rotation {
    /// The first one of a new secret.
    fn first(home: &dyn Home) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            secret: SecretId::from_bytes(id(1, number)),
            token: RotationId::from_bytes(id(7, number)),
            version: 1,
            is_provided: false,
            outside: home.place(),
        }
    }

    /// The next one of the same secret, over the version that is known.
    fn next(&self, known: Option<&RemoteVersion>) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut next = self.clone();
        next.token = RotationId::from_bytes(id(7, number));
        next.version += 1;
        if let Some(outside) = &mut next.outside {
            outside.known = known.cloned();
        }
        next
    }

    /// The same with a value that is given.
    async fn provided(mut self, home: &dyn Home, name: &str) -> Self {
        let given = value(name);
        home.vault().stash(self.token, &given).await.unwrap();
        self.is_provided = true;
        self
    }

    fn work(&self, step: Step) -> StepWork {
        StepWork {
            rotation: self.token,
            secret: self.secret,
            step,
            attempt: 1,
            versions: vec![self.version],
            generator: (!self.is_provided).then(Generator::default),
            provided: self.is_provided,
            outside: self.outside.clone().map(Box::new),
            resource: None,
            mark: None,
        }
    }

    /// One step, as the worker asks for it when it may have been attempted before: the probe's answer
    /// is the step's.
    async fn step(&self, home: &dyn Home, step: Step, until: &Until) -> Made {
        let probed = home.rotator().probe(&self.work(step), until).await?;
        match probed {
            Probed::Done(found) => Ok(found),
            Probed::NotDone => self.attempt(home, step, until).await,
        }
    }

    /// One step, as the worker asks for it the first time.
    async fn attempt(&self, home: &dyn Home, step: Step, until: &Until) -> Made {
        let (rotator, work) = (home.rotator(), self.work(step));
        let none = |()| None;
        match step {
            Step::Create => rotator.create(&work, until).await.map(none),
            Step::Set => rotator.set(&work, until).await.map(none),
            Step::Test => rotator.test(&work, until).await.map(none),
            Step::Finish => rotator.finish(&work, until).await,
            Step::RollBack => rotator.roll_back(&work, until).await.map(none),
            Step::RevokeOld => self.revoke(home, &[], until).await.map(none),
            Step::Drain => rotator.sessions(&work, until).await.map(|_| None),
        }
    }

    /// All that makes a version, up to the first step that fails.
    async fn make(&self, home: &dyn Home, until: &Until) -> Made {
        let mut made = None;
        for step in MAKING {
            made = self.step(home, step, until).await?;
        }
        Ok(made)
    }

    /// This version is revoked, and those at the store.
    async fn revoke(
        &self,
        home: &dyn Home,
        retire: &[RemoteVersion],
        until: &Until,
    ) -> Result<(), PortError> {
        let outside = self.outside.clone().map(|outside| Outside {
            retire: retire.to_vec(),
            ..outside
        });
        let (rotator, versions) = (home.rotator(), [self.version]);
        let revoked = rotator.revoke(self.secret, &versions, outside.as_ref(), until);
        revoked.await
    }

    /// What containers would get.
    async fn kept(&self, home: &dyn Home) -> SecretBytes {
        let opened = home.vault().open(self.secret, self.version).await;
        opened.expect("the version is in the cache")
    }

    async fn is_kept(&self, home: &dyn Home) -> bool {
        home.vault().has(self.secret, self.version).await.unwrap()
    }

    async fn there(&self, home: &dyn Home) -> Option<(RemoteVersion, SecretBytes)> {
        let outside = self.outside.as_ref()?;
        home.there(&outside.source).await
    }

    /// It is what containers get and what is current at the store, under the name that was told.
    async fn is_current(&self, home: &dyn Home, told: Option<&RemoteVersion>) {
        let kept = self.kept(home).await;
        let there = self.there(home).await;
        assert_eq!(there.is_some(), self.outside.is_some());
        if let Some((version, value)) = there {
            assert!(value.ct_eq(&kept), "another value is current there");
            assert_eq!(Some(&version), told);
        }
    }
}

/// A secret with a first version that is current; with what it is called at the store.
async fn begun(home: &dyn Home) -> (Rotation, Option<RemoteVersion>) {
    let first = Rotation::first(home).provided(home, "first").await;
    let made = first.make(home, &plenty()).await.unwrap();
    first.is_current(home, made.as_ref()).await;
    (first, made)
}

async fn every_step_repeats_and_makes_one_value(home: &dyn Home) {
    let rotation = Rotation::first(home);
    let (mut first, mut told) = (None, None);
    for step in MAKING {
        for count in 0..3 {
            let made = match count {
                0 => rotation.attempt(home, step, &plenty()).await.unwrap(),
                _ => rotation.step(home, step, &plenty()).await.unwrap(),
            };
            let is_there = step == Step::Finish && rotation.outside.is_some();
            assert_eq!(made.is_some(), is_there, "{step:?}");
            assert_eq!(rotation.there(home).await.is_some(), is_there, "{step:?}");
            let kept = rotation.kept(home).await;
            match &first {
                None => first = Some(kept),
                Some(first) => assert!(kept.ct_eq(first), "{step:?} made another value"),
            }
            if step == Step::Finish {
                let told = told.get_or_insert_with(|| made.clone());
                assert_eq!(*told, made, "one version there");
            }
        }
    }
    rotation.is_current(home, told.flatten().as_ref()).await;
}

async fn a_provided_value_is_taken_as_it_is(home: &dyn Home) {
    let rotation = Rotation::first(home).provided(home, "given").await;
    let made = rotation.make(home, &plenty()).await.unwrap();
    assert!(rotation.kept(home).await.ct_eq(&value("given")));
    rotation.is_current(home, made.as_ref()).await;
    let waits = home.vault().stashed(rotation.token).await.unwrap();
    assert!(waits.is_none(), "it waits no more");
    let again = rotation.make(home, &plenty()).await.unwrap();
    assert_eq!(again, made);
    let nothing = Rotation {
        is_provided: true,
        ..Rotation::first(home)
    };
    let missing = nothing.step(home, Step::Create, &plenty()).await;
    assert_eq!(kind(missing), ErrorKind::Denied, "nothing was given");
}

async fn the_next_version_replaces_the_known_one_and_the_old_one_goes(home: &dyn Home) {
    let (first, known) = begun(home).await;
    let next = first.next(known.as_ref()).provided(home, "next").await;
    let made = next.make(home, &plenty()).await.unwrap();
    next.is_current(home, made.as_ref()).await;
    assert!(first.is_kept(home).await, "it lives until it is revoked");
    let retire = Vec::from_iter(known);
    for _ in 0..2 {
        first.revoke(home, &retire, &plenty()).await.unwrap();
        assert!(!first.is_kept(home).await);
    }
    next.is_current(home, made.as_ref()).await;
    let late = first.provided(home, "late").await;
    let late = late.step(home, Step::Create, &plenty()).await;
    assert_eq!(kind(late), ErrorKind::Denied, "what was revoked stays so");
}

async fn what_is_rolled_back_leaves_nothing(home: &dyn Home) {
    let (first, known) = begun(home).await;
    for (n, steps) in (0..).zip(0..MAKING.len()) {
        let mut next = first.next(known.as_ref()).provided(home, "undone").await;
        // A number that was rolled back is never used again.
        next.version += n;
        for step in MAKING.iter().take(steps) {
            next.step(home, *step, &plenty()).await.unwrap();
        }
        for _ in 0..2 {
            next.step(home, Step::RollBack, &plenty()).await.unwrap();
        }
        assert!(!next.is_kept(home).await, "after {steps} steps");
        let late = next.step(home, Step::Create, &plenty()).await;
        assert_eq!(kind(late), ErrorKind::Denied, "after {steps} steps");
        first.is_current(home, known.as_ref()).await;
    }
}

async fn revoking_what_never_was_succeeds_and_bars_it(home: &dyn Home) {
    let rotation = Rotation::first(home).provided(home, "late").await;
    for _ in 0..2 {
        rotation.revoke(home, &[], &plenty()).await.unwrap();
    }
    let late = rotation.step(home, Step::Create, &plenty()).await;
    assert_eq!(kind(late), ErrorKind::Denied);
    assert!(rotation.there(home).await.is_none());
}

async fn after_the_deadline_nothing_is_done(home: &dyn Home) {
    let rotation = Rotation::first(home).provided(home, "late").await;
    for step in MAKING {
        let late = rotation.step(home, step, &too_late()).await;
        assert_eq!(kind(late), ErrorKind::Unavailable, "{step:?}");
        assert_eq!(
            rotation.is_kept(home).await,
            step != Step::Create,
            "{step:?}"
        );
        rotation.step(home, step, &plenty()).await.unwrap();
    }
    let late = rotation.attempt(home, Step::Drain, &too_late()).await;
    assert_eq!(kind(late), ErrorKind::Unavailable);
    let late = rotation.revoke(home, &[], &too_late()).await;
    assert_eq!(kind(late), ErrorKind::Unavailable);
    assert!(rotation.is_kept(home).await);
}

/// Where the cache is all there is, nobody else writes: its rows fit no other place and no other token.
async fn nothing_is_written_over_somebody_elses_value_and_it_is_taken_over(home: &dyn Home) {
    let (first, known) = begun(home).await;
    let Some(outside) = first.outside.clone() else {
        let other = first.next(None).provided(home, "theirs").await;
        let same_version = Rotation {
            version: first.version,
            ..other
        };
        let taken = same_version.step(home, Step::Create, &plenty()).await;
        assert_eq!(kind(taken), ErrorKind::Conflict);
        assert!(first.kept(home).await.ct_eq(&value("first")));
        return;
    };
    home.write(&outside.source, &value("theirs")).await;
    let ours = first.next(known.as_ref()).provided(home, "ours").await;
    let over = ours.make(home, &plenty()).await;
    assert_eq!(kind(over), ErrorKind::Conflict);
    ours.step(home, Step::RollBack, &plenty()).await.unwrap();
    takes_over(home, &ours, "theirs").await;
}

/// The rotation after one that failed takes what lies there.
async fn takes_over(home: &dyn Home, failed: &Rotation, name: &str) {
    let (seen, theirs) = failed.there(home).await.expect("something is there");
    assert!(theirs.ct_eq(&value(name)), "not {}", text(name));
    let mut taking = failed.next(None);
    taking.is_provided = false;
    if let Some(outside) = &mut taking.outside {
        outside.fetch = Some(seen.clone());
    }
    let told = taking.make(home, &plenty()).await.unwrap();
    assert_eq!(told.as_ref(), Some(&seen));
    assert!(taking.kept(home).await.ct_eq(&theirs));
    taking.is_current(home, told.as_ref()).await;
}
