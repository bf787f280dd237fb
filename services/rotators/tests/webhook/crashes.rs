//! A rotation by a receiver that fails, waits or is cut off at each failpoint: one new value is accepted in the
//! end, the old one for as long as the receiver promised, and what is rolled back is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use keywheel_core::resource::Strategy;
use keywheel_core::rotation::Step;
use keywheel_rotators::FAILPOINTS;
use keywheel_seal::SecretBytes;
use keywheel_testkit::conformance::rotator::traps;
use keywheel_testkit::fake::{Trap, TrapFault};

use super::bench::{Bench, EXAMPLES, work};
use super::{MAKING, STRATEGIES};

/// One secret at a receiver.
struct Secret {
    bench: Bench,
    strategy: Strategy,
    current: u64,
    /// The last number of a version, rolled back or not: none is used twice.
    last: u64,
}

impl Secret {
    /// With its first version.
    async fn begin(example: (&str, &str), strategy: Strategy) -> Self {
        let bench = Bench::start(example, strategy).await;
        bench.make(1, None, &[]).await;
        Self {
            bench,
            strategy,
            current: 1,
            last: 1,
        }
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
        let trap = Arc::new(trap);
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
        let trap = Arc::new(trap);
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
            }
            let ends = points.iter().copied();
            for point in ends.filter(|point| point.ends_with("_revoke")) {
                let came = traps::walk(point, async |trap| secret.roll_back(trap).await).await;
                assert!(came, "{point} is not reached");
            }
        }
    }
}
