//! A rotation by a receiver that fails, waits, is cut off or killed at each failpoint: one new value is accepted
//! in the end, the old one for as long as the receiver promised, and what is rolled back is refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keywheel_core::resource::Strategy;
use keywheel_core::rotation::Step;
use keywheel_rotators::FAILPOINTS;
use keywheel_seal::SecretBytes;
use keywheel_testkit::conformance::rotator::traps::{self, killed};
use keywheel_testkit::fake::{Child, FakeVault, Trap, TrapFault};
use tempfile::TempDir;

use super::bench::{Bench, EXAMPLES, apart, work};
use super::{MAKING, STRATEGIES};

/// What starts itself once more to be killed.
const TEST: &str = "crashes::a_rotation_by_a_receiver_survives_every_failpoint";

/// Whether this program is one that was started to be killed within a step; then it is, or the step is done.
async fn is_child() -> bool {
    let Some(order) = killed::order(FAILPOINTS) else {
        return false;
    };
    let [url, strategy, file, old, new] = order.words.as_slice() else {
        panic!("an order has five words");
    };
    let strategy = Strategy::of(strategy).unwrap();
    let (old, new) = (old.parse().unwrap(), new.parse().unwrap());
    // What is rolled back never was the current one.
    let (current, kept) = match order.is_end() && order.version == old {
        true => (new, vec![old]),
        false => (old, Vec::new()),
    };
    let rotator = apart(url, strategy, Path::new(file), current, kept);
    let rotator = rotator.passing(Arc::new(Trap::deadly(order.at)));
    order.perform(&rotator, None).await;
    true
}

/// One secret at a receiver.
struct Secret {
    bench: Bench,
    strategy: Strategy,
    current: u64,
    /// The last number of a version, rolled back or not: none is used twice.
    last: u64,
    /// With the cache.
    files: TempDir,
}

impl Secret {
    /// With its first version.
    async fn begin(example: (&str, &str), strategy: Strategy) -> Self {
        let files = tempfile::tempdir().unwrap();
        let vault = FakeVault::in_file(&files.path().join("cache"));
        let bench = Bench::over_vault(example, strategy, Arc::new(vault)).await;
        bench.make(1, None, &[]).await;
        Self {
            bench,
            strategy,
            current: 1,
            last: 1,
            files,
        }
    }

    fn cache(&self) -> PathBuf {
        self.files.path().join("cache")
    }

    /// What a program has to know that performs a step of the next rotation.
    fn child(&self) -> Child {
        let words = vec![
            self.bench.proxy.url(),
            self.strategy.word().to_owned(),
            self.cache().display().to_string(),
            self.current.to_string(),
            (self.last + 1).to_string(),
        ];
        Child { test: TEST, words }
    }

    /// The steps of the next version, through a trap; gives its number.
    async fn make(&mut self, trap: &Arc<Trap>) -> u64 {
        let (old, new) = (self.current, self.last + 1);
        self.last = new;
        let rotator = self.bench.over(Some(old), &[]);
        let rotator = rotator.passing(Arc::clone(trap) as _);
        let before = self.bench.value(old);
        for step in MAKING {
            let work = work(step, new);
            let holds = async || self.check_promised(trap, step, &before, new).await;
            traps::perform(trap, &rotator, (&work, false), holds).await;
        }
        new
    }

    /// Where two values are accepted, the old one is until it is retired; else one of both is.
    async fn check_promised(&self, trap: &Trap, step: Step, before: &SecretBytes, new: u64) {
        let mut is_good = self.bench.accepts(before).await;
        if !self.strategy.overlaps() && step != Step::Create {
            let is_new = self.bench.accepts(&self.bench.value(new)).await;
            assert!(!(is_good && is_new), "{trap}: both are accepted");
            is_good |= is_new;
        }
        assert!(is_good, "{trap}: nothing is accepted at {step:?}");
    }

    /// One rotation through a trap; whether it came by.
    async fn rotate(&mut self, trap: Trap) -> bool {
        let trap = Arc::new(trap.by(self.child()));
        let old = self.current;
        let before = self.bench.value(old);
        let new = self.make(&trap).await;
        let after = self.bench.value(new);
        assert!(self.bench.accepts(&after).await, "{trap}: the new one");
        let rotator = self.bench.over(Some(new), &[old]);
        let rotator = rotator.passing(Arc::clone(&trap) as _);
        let retire = work(Step::RevokeOld, old);
        let holds = async || assert!(self.bench.accepts(&after).await, "{trap}: the new one");
        traps::perform(&trap, &rotator, (&retire, false), holds).await;
        assert!(!self.bench.accepts(&before).await, "{trap}: the old one");
        assert!(self.bench.is_destroyed(old).await, "{trap}: it is kept");
        self.current = new;
        trap.has_fired()
    }

    /// The same, rolled back: what was current is accepted, and what was made is not.
    async fn roll_back(&mut self, trap: Trap) -> bool {
        let trap = Arc::new(trap.by(self.child()));
        let never = Arc::new(Trap::new("", TrapFault::Error, 1));
        let new = self.make(&never).await;
        let (kept, undone) = (self.bench.value(self.current), self.bench.value(new));
        let rotator = self.bench.over(Some(self.current), &[]);
        let rotator = rotator.passing(Arc::clone(&trap) as _);
        let back = work(Step::RollBack, new);
        traps::perform(&trap, &rotator, (&back, false), async || ()).await;
        assert!(self.bench.accepts(&kept).await, "{trap}: what was current");
        assert!(!self.bench.accepts(&undone).await, "{trap}: what was made");
        assert!(self.bench.is_destroyed(new).await, "{trap}: it is kept");
        trap.has_fired()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_by_a_receiver_survives_every_failpoint() {
    if is_child().await {
        return;
    }
    let points = FAILPOINTS.iter().copied();
    let points: BTreeSet<&'static str> = points
        .filter(|name| name.starts_with("rotator.webhook."))
        .collect();
    for example in EXAMPLES {
        for strategy in STRATEGIES {
            let mut secret = Secret::begin(example, strategy).await;
            for point in points.iter().copied() {
                let came = traps::walk(point, async |trap| secret.rotate(trap).await).await;
                assert!(came, "{point} is not reached");
                traps::kill(point, async |trap| secret.rotate(trap).await).await;
            }
            let ends = points.iter().copied();
            for point in ends.filter(|point| point.ends_with("_revoke")) {
                let came = traps::walk(point, async |trap| secret.roll_back(trap).await).await;
                assert!(came, "{point} is not reached");
                traps::kill(point, async |trap| secret.roll_back(trap).await).await;
            }
        }
    }
}
