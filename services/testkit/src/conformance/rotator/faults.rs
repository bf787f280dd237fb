//! A store at which something goes wrong in the middle of a rotation: rows 20 to 25 of the fault matrix.
//!
//! Each fault is met by a rotation and by a revocation. What is asked of an adapter, whatever its store:
//! an answer within its time, of the right kind; what containers have is served meanwhile; what was not
//! done is not called done; once the fault is gone, the repeat ends it with one value, or the rotation
//! is taken back and the next one goes through. Which faults a store can have is its own to say.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::rotation::Step;
use keywheel_core::store::{RemoteVersion, Source};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;

use super::super::store::{plenty, refused, value};
use super::{Home, Rotation, begun, takes_over};
use crate::fake::FakeClock;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Row 20: nothing can be done there at all.
    Down,
    /// Row 21: a request takes half a minute.
    Slow,
    /// Row 22: 429 and 5xx, again and again.
    Busy,
    /// Row 22: half of the next write's answer, or half of the write itself.
    Half,
    /// Row 22: the next write is done and nobody is told.
    Lost,
    /// Row 23: the next write is called done and was not.
    Lie,
    /// Row 24: what opens the store is good no more.
    Expired,
    /// Row 25: somebody else's version is there, newer than what we know.
    Newer,
}

/// All of them.
pub const ALL: [Fault; 8] = [
    Fault::Down,
    Fault::Slow,
    Fault::Busy,
    Fault::Half,
    Fault::Lost,
    Fault::Lie,
    Fault::Expired,
    Fault::Newer,
];

/// How long a slow server takes: longer than any call may.
pub const SLOW: Duration = Duration::from_secs(120);
/// What is left of a call's time where the server is slow.
const SHORT: Duration = Duration::from_secs(2);

/// A store at which things can go wrong.
#[async_trait]
pub trait Faulty: Home {
    /// From now on, or at the next write there, until [`Self::end`]. For [`Fault::Newer`] the other
    /// hand writes by itself.
    async fn begin(&mut self, fault: Fault);
    /// All is well again.
    async fn end(&mut self);
    /// Whether the cache can be read meanwhile: not where it is itself what is away.
    fn serves(&self, fault: Fault) -> bool;
}

/// Runs a rotation and a revocation into each of these.
///
/// # Panics
/// When a law is broken.
pub async fn check(home: &mut dyn Faulty, faults: &[Fault]) {
    for fault in faults {
        let case = Case::begin(home, *fault).await;
        match fault {
            Fault::Newer => case.is_taken_over(home).await,
            _ => {
                case.rotates(home).await;
                case.revokes(home).await;
            }
        }
    }
}

/// A secret with a first version, and what goes wrong next.
struct Case {
    fault: Fault,
    first: Rotation,
    known: Option<RemoteVersion>,
}

fn until(fault: Fault) -> Until {
    let now = Timestamp::from_micros(1);
    match fault {
        Fault::Slow => Until::new(now.plus(SHORT), Arc::new(FakeClock::at(now))),
        _ => plenty(),
    }
}

/// In less than one slow request.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(SLOW, call).await;
    ended.expect("it ends within its time")
}

impl Case {
    async fn begin(home: &dyn Home, fault: Fault) -> Self {
        let (first, known) = begun(home).await;
        Self {
            fault,
            first,
            known,
        }
    }

    fn source(&self) -> Source {
        let outside = self.first.outside.as_ref();
        outside.expect("a place of its own").source.clone()
    }

    /// The rotation meets the fault, and ends well after it.
    async fn rotates(&self, home: &mut dyn Faulty) {
        let next = self.first.next(self.known.as_ref());
        let next = next.provided(home, "next").await;
        home.begin(self.fault).await;
        let until = until(self.fault);
        let answer = in_time(next.make(home, &until)).await;
        self.is_of_its_kind(answer);
        if home.serves(self.fault) {
            let kept = self.first.kept(home).await;
            assert!(kept.ct_eq(&value("first")), "{:?}: served", self.fault);
        }
        home.end().await;
        let mut next = next;
        if self.fault == Fault::Lie {
            next.step(home, Step::RollBack, &plenty()).await.unwrap();
            assert!(!next.is_kept(home).await);
            self.first.is_current(home, self.known.as_ref()).await;
            next = next.next(self.known.as_ref()).provided(home, "next").await;
        }
        let made = next.make(home, &plenty()).await.unwrap();
        assert!(
            next.kept(home).await.ct_eq(&value("next")),
            "{:?}",
            self.fault
        );
        next.is_current(home, made.as_ref()).await;
        let again = next.make(home, &plenty()).await.unwrap();
        assert_eq!(again, made, "{:?}: one version", self.fault);
        next.is_current(home, made.as_ref()).await;
    }

    /// So does the revocation of the first version.
    async fn revokes(&self, home: &mut dyn Faulty) {
        let retire = Vec::from_iter(self.known.clone());
        home.begin(self.fault).await;
        let until = until(self.fault);
        let answer = in_time(self.first.revoke(home, &retire, &until)).await;
        if let Err(error) = answer {
            refused::<()>(Err(error));
        }
        home.end().await;
        for _ in 0..2 {
            self.first.revoke(home, &retire, &plenty()).await.unwrap();
            assert!(!self.first.is_kept(home).await, "{:?}", self.fault);
        }
    }

    fn is_of_its_kind(&self, answer: Result<Option<RemoteVersion>, PortError>) {
        use ErrorKind::{Corrupt, Denied, NotFound, Unavailable};
        let fault = self.fault;
        let allowed: &[ErrorKind] = match fault {
            Fault::Lie => &[Unavailable, NotFound, Corrupt],
            Fault::Expired => &[Denied, Unavailable],
            _ => &[Unavailable],
        };
        // What is only told half, or not at all, may be found done by the same call.
        if answer.is_ok() && matches!(fault, Fault::Half | Fault::Lost) {
            return;
        }
        let error = refused(answer);
        assert!(allowed.contains(&error.kind), "{fault:?}: {error:?}");
    }

    /// Theirs stays, ours is taken back, and the next rotation takes theirs.
    async fn is_taken_over(&self, home: &mut dyn Faulty) {
        let at = self.source();
        let next = self.first.next(self.known.as_ref());
        let next = next.provided(home, "ours").await;
        home.begin(self.fault).await;
        home.write(&at, &value("theirs")).await;
        let ours = next;
        let over = refused(in_time(ours.make(home, &plenty())).await);
        assert_eq!(over.kind, ErrorKind::Conflict, "{over:?}");
        ours.step(home, Step::RollBack, &plenty()).await.unwrap();
        takes_over(home, &ours, "theirs").await;
    }
}
