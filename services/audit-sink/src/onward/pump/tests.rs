//! The task of a sink, with one that a test writes.

use std::sync::Mutex;

use async_trait::async_trait;
use keywheel_daemon::SystemClock;
use keywheel_engine::port::journal::AuditLeaf;
use tokio::sync::watch;

use super::super::line::tests::leaf;
use super::*;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(120);
/// A sink here is waited for in milliseconds.
const PACE: Pace = Pace {
    send: Duration::from_millis(200),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(8),
};

/// What a receiver does with the next records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Takes,
    /// Takes them, and breaks off before it says so.
    LosesItsWord,
    Fails,
    Hangs,
    /// Takes all but the record of this number, and then says that it did not take all.
    Leaves(u64),
}

/// A receiver, as everybody sees it.
#[derive(Clone)]
struct Receiver {
    mood: Arc<Mutex<Mood>>,
    had: watch::Sender<Vec<u64>>,
    asked: watch::Sender<u64>,
    known: Option<Known>,
}

impl Receiver {
    fn new(mood: Mood) -> Self {
        Self {
            mood: Arc::new(Mutex::new(mood)),
            had: watch::Sender::new(Vec::new()),
            asked: watch::Sender::new(0),
            known: None,
        }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn has(&self, count: usize) -> Vec<u64> {
        let mut had = self.had.subscribe();
        let waited = tokio::time::timeout(SOON, had.wait_for(|had| had.len() >= count)).await;
        waited.unwrap().unwrap().clone()
    }

    async fn has_record(&self, number: u64) -> Vec<u64> {
        let mut had = self.had.subscribe();
        let waited = tokio::time::timeout(SOON, had.wait_for(|had| had.contains(&number))).await;
        waited.unwrap().unwrap().clone()
    }

    async fn was_asked(&self, times: u64) {
        let mut asked = self.asked.subscribe();
        let waited = tokio::time::timeout(SOON, asked.wait_for(|asked| *asked >= times)).await;
        waited.unwrap().unwrap();
    }
}

#[async_trait]
impl Target for Receiver {
    async fn known(&mut self) -> Result<Option<Known>, PortError> {
        Ok(self.known)
    }

    async fn tell(&mut self, lines: &[Line]) -> Result<(), PortError> {
        self.asked.send_modify(|asked| *asked += 1);
        let mood = *self.mood.lock().unwrap();
        if mood == Mood::Hangs {
            std::future::pending::<()>().await;
        }
        let mut numbers: Vec<u64> = lines.iter().map(|line| line.sequence).collect();
        let count = numbers.len();
        numbers.retain(|number| match mood {
            Mood::Takes | Mood::LosesItsWord => true,
            Mood::Leaves(left) => *number != left,
            Mood::Fails | Mood::Hangs => false,
        });
        let has_all = numbers.len() == count;
        self.had.send_modify(|had| had.extend(numbers));
        match mood {
            Mood::Takes => Ok(()),
            Mood::Leaves(_) if has_all => Ok(()),
            _ => Err(PortError::new(ErrorKind::Unavailable, "it does not work")),
        }
    }

    fn reset(&mut self) {}
}

struct World {
    _directory: tempfile::TempDir,
    copy: File,
    stop: CancellationToken,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let copy = File::open(&directory.path().join("audit-sink.db"))
            .await
            .unwrap();
        Self {
            _directory: directory,
            copy,
            stop: CancellationToken::new(),
        }
    }

    async fn grow(&self, size: u64) {
        let leaves: Vec<AuditLeaf> = (self.copy.size()..size).map(leaf).collect();
        self.copy.append(&leaves).await.unwrap();
    }

    fn start(&self, name: &str, receiver: &Receiver) -> (Arc<State>, tokio::task::JoinHandle<()>) {
        let pump = Pump {
            copy: self.copy.clone(),
            target: Box::new(receiver.clone()),
            format: SinkFormat::Native,
            state: Arc::new(State::new(name, "test")),
            clock: Arc::new(SystemClock::new()),
            pace: PACE,
        };
        let state = pump.state();
        (state, tokio::spawn(pump.run(self.stop.clone())))
    }
}

#[tokio::test]
async fn a_sink_is_told_what_there_is_and_what_comes() {
    let world = World::new().await;
    world.grow(3 * MAX_BATCH as u64).await;
    let receiver = Receiver::new(Mood::Takes);
    let (state, task) = world.start("a", &receiver);
    receiver.has(3 * MAX_BATCH).await;
    world.grow(3 * MAX_BATCH as u64 + 5).await;
    let had = receiver.has(3 * MAX_BATCH + 5).await;
    assert_eq!(had, (0..3 * MAX_BATCH as u64 + 5).collect::<Vec<_>>());
    world.stop.cancel();
    task.await.unwrap();
    let standing = state.standing(world.copy.size(), Duration::ZERO);
    assert_eq!((standing.failures, standing.fault), (0, None));
}

#[tokio::test]
async fn a_sink_that_was_away_goes_on_without_a_gap_after_a_restart() {
    let world = World::new().await;
    world.grow(4).await;
    let receiver = Receiver::new(Mood::Takes);
    let (_, task) = world.start("a", &receiver);
    receiver.has(4).await;
    // The place is noted right after; a kill between the two tells some again, and loses none.
    task.abort();
    let _gone = task.await;
    world.grow(9).await;
    let (_, task) = world.start("a", &receiver);
    receiver.has(9).await;
    world.stop.cancel();
    task.await.unwrap();
    let mut had = receiver.has(9).await;
    assert!(had.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{had:?}");
    had.sort_unstable();
    had.dedup();
    assert_eq!(had, (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_sink_that_hangs_is_given_up_at_its_deadline_healed_later_and_delays_no_other() {
    let world = World::new().await;
    world.grow(2).await;
    let (hung, well) = (Receiver::new(Mood::Hangs), Receiver::new(Mood::Takes));
    let (hung_state, hung_task) = world.start("hung", &hung);
    let (_, well_task) = world.start("well", &well);
    hung.was_asked(1).await;
    well.has(2).await;
    world.grow(5).await;
    assert_eq!(well.has(5).await, [0, 1, 2, 3, 4]);
    assert_eq!(*hung.had.borrow(), Vec::<u64>::new());
    hung.was_asked(2).await;
    let standing = hung_state.standing(5, Duration::ZERO);
    let fault = standing.fault.unwrap();
    assert!(fault.contains("within 200ms"), "{fault}");
    hung.is(Mood::Takes);
    assert_eq!(hung.has(5).await, [0, 1, 2, 3, 4]);
    let healed = async {
        while hung_state.standing(5, Duration::ZERO).fault.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, healed).await.unwrap();
    world.stop.cancel();
    hung_task.await.unwrap();
    well_task.await.unwrap();
}

#[tokio::test]
async fn what_was_taken_without_a_word_is_told_again() {
    let world = World::new().await;
    world.grow(2).await;
    let receiver = Receiver::new(Mood::LosesItsWord);
    let (_, task) = world.start("a", &receiver);
    // It may lose its word more often than once before this goes on.
    receiver.has(4).await;
    receiver.is(Mood::Takes);
    world.grow(3).await;
    let mut had = receiver.has_record(2).await;
    assert_eq!(had[..3], [0, 1, 0], "told again from where it stood");
    had.dedup();
    assert!(had.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{had:?}");
    world.stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_record_that_a_sink_never_takes_has_no_others_told_with_it_without_end() {
    let world = World::new().await;
    world.grow(9).await;
    let receiver = Receiver::new(Mood::Leaves(4));
    let (state, task) = world.start("a", &receiver);
    // So many failures make one record of the largest batch; a few more come of those that go well between.
    let halvings = u64::from(MAX_BATCH.ilog2()) + 1;
    receiver.was_asked(4 * halvings).await;
    let before = receiver.had.borrow().len();
    receiver.was_asked(8 * halvings).await;
    assert_eq!(receiver.had.borrow().len(), before, "told without end");
    let standing = state.standing(9, Duration::ZERO);
    assert_eq!((standing.told, standing.waiting), (4, 5));
    receiver.is(Mood::Takes);
    let had = receiver.has_record(4).await;
    let told = |number| had.iter().filter(|one| **one == number).count();
    assert!((0..9).all(|number| told(number) > 0), "{had:?}");
    assert_eq!(told(4), 1, "{had:?}");
    world.stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_sink_that_fails_is_tried_less_and_less_often_and_never_given_up_for_good() {
    let world = World::new().await;
    world.grow(1).await;
    let receiver = Receiver::new(Mood::Fails);
    let (state, task) = world.start("a", &receiver);
    let clock = SystemClock::new();
    let began = clock.monotonic();
    receiver.was_asked(20).await;
    // 1, 2, 4, and then 8 milliseconds each.
    let spent = clock.monotonic().saturating_sub(began);
    assert!(spent > Duration::from_millis(120), "{spent:?}");
    assert!(state.standing(1, Duration::ZERO).failures >= 19);
    receiver.is(Mood::Takes);
    assert_eq!(receiver.has(1).await, [0]);
    world.stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_sink_with_other_records_than_the_copy_is_told_nothing() {
    for (next, leaf, word) in [
        (9, None, "cut or put back"),
        (2, Some([1; 32]), "record 1 is another one"),
    ] {
        let world = World::new().await;
        world.grow(5).await;
        let mut receiver = Receiver::new(Mood::Takes);
        receiver.known = Some(Known { next, leaf });
        let (state, task) = world.start("a", &receiver);
        let told = async {
            loop {
                if let Some(conflict) = state.standing(5, Duration::ZERO).conflict {
                    break conflict;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let conflict = tokio::time::timeout(SOON, told).await.unwrap();
        assert!(conflict.contains(word), "{conflict}");
        assert_eq!(*receiver.asked.borrow(), 0);
        world.stop.cancel();
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_sink_that_knows_where_it_is_goes_on_there() {
    let world = World::new().await;
    world.grow(5).await;
    let mut receiver = Receiver::new(Mood::Takes);
    receiver.known = Some(Known {
        next: 3,
        leaf: Some(leaf_hash(&leaf(2).bytes)),
    });
    let (_, task) = world.start("a", &receiver);
    assert_eq!(receiver.has(2).await, [3, 4]);
    world.stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn of_a_copy_that_began_later_a_sink_is_told_from_its_first_record_on() {
    let world = World::new().await;
    let receiver = Receiver::new(Mood::Takes);
    // It waits before there is anything, and is told once there is.
    let (state, task) = world.start("siem", &receiver);
    world.copy.begin_at(512).await.unwrap();
    world.grow(516).await;
    assert_eq!(receiver.has(4).await, [512, 513, 514, 515]);
    // The place is noted right after, unless it is stopped between the two.
    let noted = async {
        while state.standing(516, Duration::ZERO).told < 516 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, noted).await.unwrap();
    world.stop.cancel();
    task.await.unwrap();
    assert_eq!(world.copy.place("siem").await.unwrap(), 516);
}
