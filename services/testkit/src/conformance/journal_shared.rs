//! What a journal has to keep that several processes append to: two handles, one log.
//!
//! The laws of one handle are in `journal`; these are about what one sees of the other's appends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::journal::{Decision, Journal, MAX_READ, Mark, Turn, Verdict};

use super::journal::{decision, effect, waiting};

/// How long a bell may take.
const RING_TIMEOUT: Duration = Duration::from_secs(120);
/// Appends of each side of the race.
const RACE: u64 = 40;
/// How long a turn lasts in these cases: what is done within one takes milliseconds, and the machine may stand
/// still meanwhile.
const SPAN: Duration = Duration::from_secs(12);

/// Two handles of one empty log.
pub struct Pair {
    /// One process's.
    pub one: Arc<dyn Journal>,
    /// Another's.
    pub other: Arc<dyn Journal>,
    /// Lets a turn of this span end by itself.
    pub end_turns: Box<dyn Fn(Duration) + Send + Sync>,
}

/// Runs every case, each on a pair that `fresh` opens on an empty log.
///
/// # Panics
/// When a law is broken.
pub async fn check<F, R>(fresh: F)
where
    F: Fn() -> R,
    R: Future<Output = Pair>,
{
    what_one_appends_the_other_sees(&fresh().await).await;
    a_stale_append_changes_nothing(&fresh().await).await;
    a_command_is_answered_once_by_either(&fresh().await).await;
    of_two_at_once_one_wins(&fresh().await).await;
    a_race_loses_and_doubles_nothing(&fresh().await).await;
    an_append_rings_the_others_bell(&fresh().await).await;
    one_at_a_time_has_the_turn(&fresh().await).await;
}

async fn conflicts(journal: &dyn Journal, first: u64, decisions: &[Decision]) {
    let refused = journal.append(first, decisions).await;
    assert_eq!(
        refused.err().map(|error| error.kind),
        Some(ErrorKind::Conflict)
    );
}

async fn is_whole(pair: &Pair) {
    for journal in [&pair.one, &pair.other] {
        assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
    }
    assert_eq!(
        pair.one.head().await.unwrap(),
        pair.other.head().await.unwrap()
    );
}

async fn what_one_appends_the_other_sees(pair: &Pair) {
    let mut asking = decision(1);
    asking.effects = vec![effect(2)];
    let recorded = pair.one.append(1, &[asking]).await.unwrap();
    assert_eq!(pair.other.read(0, 10).await.unwrap(), recorded);
    assert_eq!(waiting(&*pair.other).await, [effect(2)]);
    let mut closing = decision(2);
    closing.closes = vec![effect(2).key()];
    let next = pair.other.append(2, &[closing]).await.unwrap();
    assert_eq!(next[0].number, 2);
    assert!(pair.one.open_effects().await.unwrap().is_empty());
    pair.one.append(3, &[decision(3)]).await.unwrap();
    is_whole(pair).await;
}

/// One is paused after it decided; meanwhile the other appends.
async fn a_stale_append_changes_nothing(pair: &Pair) {
    pair.one.append(1, &[decision(1)]).await.unwrap();
    let (stale, seen) = (2, pair.one.head().await.unwrap().number);
    assert_eq!(seen + 1, stale);
    pair.other
        .append(2, &[decision(2), decision(3)])
        .await
        .unwrap();
    let before = pair.other.head().await.unwrap();
    conflicts(&*pair.one, stale, &[decision(4)]).await;
    // Also when there is nothing to append: the answer would rest on an old head.
    conflicts(&*pair.one, stale, &[]).await;
    assert_eq!(pair.one.head().await.unwrap(), before);
    assert_eq!(pair.one.verdict(decision(4).command).await.unwrap(), None);
    assert!(pair.one.append(4, &[]).await.unwrap().is_empty());
    pair.one.append(4, &[decision(4)]).await.unwrap();
    is_whole(pair).await;
}

async fn a_command_is_answered_once_by_either(pair: &Pair) {
    let answer = Decision {
        events: Vec::new(),
        ..decision(1)
    };
    pair.one
        .append(1, std::slice::from_ref(&answer))
        .await
        .unwrap();
    // The head's number did not move, so only the command's id is in the way.
    conflicts(&*pair.other, 1, std::slice::from_ref(&answer)).await;
    let known = pair.other.verdict(answer.command).await.unwrap();
    assert_eq!(known, Some(Verdict::Accepted { number: 1 }));
    assert_eq!(pair.other.head().await.unwrap().audit_size, 1);
    is_whole(pair).await;
}

async fn of_two_at_once_one_wins(pair: &Pair) {
    let (a, b) = ([decision(1)], [decision(2)]);
    let (a, b) = tokio::join!(pair.one.append(1, &a), pair.other.append(1, &b));
    let lost: Vec<_> = [a.err(), b.err()].into_iter().flatten().collect();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].kind, ErrorKind::Conflict);
    assert_eq!(pair.one.head().await.unwrap().number, 1);
    is_whole(pair).await;
}

/// Appends its own decisions one by one, each until it is in the log.
async fn race(journal: Arc<dyn Journal>, own: impl Iterator<Item = u64>) -> u64 {
    let mut lost = 0;
    for n in own {
        loop {
            let first = journal.head().await.unwrap().number + 1;
            match journal.append(first, &[decision(n)]).await {
                Ok(recorded) => break assert_eq!(recorded[0].number, first),
                Err(error) => assert_eq!(error.kind, ErrorKind::Conflict, "{error:?}"),
            }
            lost += 1;
        }
    }
    lost
}

async fn a_race_loses_and_doubles_nothing(pair: &Pair) {
    let one = tokio::spawn(race(pair.one.clone(), (1..=RACE).map(|n| 2 * n)));
    let other = tokio::spawn(race(pair.other.clone(), (1..=RACE).map(|n| 2 * n + 1)));
    let _lost = one.await.unwrap() + other.await.unwrap();
    let events = pair.one.read(0, MAX_READ).await.unwrap();
    let mut ids: Vec<_> = events.iter().map(|event| event.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len() as u64, 2 * RACE);
    let head = pair.one.head().await.unwrap();
    assert_eq!((head.number, head.audit_size), (2 * RACE, 2 * RACE));
    is_whole(pair).await;
}

async fn an_append_rings_the_others_bell(pair: &Pair) {
    let mut bell = pair.other.bell().expect("a shared log has a bell");
    let answer = Decision {
        events: Vec::new(),
        ..decision(2)
    };
    pair.one.append(1, &[decision(1)]).await.unwrap();
    pair.one.append(2, &[answer]).await.unwrap();
    let wanted = Mark {
        number: 1,
        audit_size: 2,
    };
    let rung = bell.wait_for(|mark| *mark == wanted);
    let rung = tokio::time::timeout(RING_TIMEOUT, rung).await;
    assert_eq!(*rung.expect("the bell does not ring").unwrap(), wanted);
}

async fn one_at_a_time_has_the_turn(pair: &Pair) {
    let start = Mark::default();
    let at = |number, audit_size| Mark { number, audit_size };
    let turn = async |journal: &Arc<dyn Journal>, told| journal.turn(told, SPAN).await.unwrap();
    assert_eq!(turn(&pair.one, None).await, Turn::Ours(start));
    assert_eq!(turn(&pair.other, None).await, Turn::Theirs);
    assert_eq!(turn(&pair.one, Some(at(7, 9))).await, Turn::Ours(at(7, 9)));
    // Only the holder moves the mark, and never back.
    assert_eq!(turn(&pair.other, Some(at(50, 50))).await, Turn::Theirs);
    assert_eq!(turn(&pair.one, Some(at(3, 3))).await, Turn::Ours(at(7, 9)));
    (pair.end_turns)(SPAN);
    assert_eq!(turn(&pair.other, None).await, Turn::Ours(at(7, 9)));
    // The first one wakes: it is told that its turn is over, and marks nothing.
    assert_eq!(turn(&pair.one, Some(at(90, 90))).await, Turn::Theirs);
    assert_eq!(turn(&pair.other, None).await, Turn::Ours(at(7, 9)));
}
