//! The bounds of a topic, with time as a number.

use keywheel_core::audit::Role;
use keywheel_core::id::HostId;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(30);
const NOW: Duration = Duration::from_secs(100);
const WORK: Topic = Topic::Work(Role::StoreSync);

fn frame(bytes: usize) -> Arc<Frame> {
    let signature = [0; 64];
    let document = vec![0; bytes.saturating_sub(signature.len())];
    Arc::new(Frame {
        document,
        signature,
    })
}

fn id(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

fn with(topic: &Topic, numbers: std::ops::Range<u64>) -> TopicState {
    let mut state = TopicState::new(topic);
    state.join("a").unwrap();
    for number in numbers {
        state.publish(Some(id(number)), frame(1));
    }
    state
}

fn sequence(taken: &Taken) -> Option<(u64, bool)> {
    match taken {
        Taken::Frame {
            sequence,
            redelivered,
            ..
        } => Some((*sequence, *redelivered)),
        Taken::Wait(_) => None,
    }
}

fn take(state: &mut TopicState, group: &str, now: Duration) -> Option<(u64, bool)> {
    sequence(&state.take(group, 1, now, TIMEOUT))
}

#[test]
fn bytes_are_bounded_too() {
    let mut state = TopicState::new(&Topic::Audit);
    state.join("a").unwrap();
    for number in 0..9 {
        state.publish(Some(id(number)), frame(8 << 20));
    }
    assert_eq!(state.kept.len(), 8);
    assert!(state.kept_bytes <= TOPIC_BYTES);
    assert_eq!(
        take(&mut state, "a", NOW),
        Some((2, false)),
        "the oldest went"
    );
}

#[test]
fn what_every_consumer_is_done_with_is_not_kept() {
    let mut state = with(&Topic::Audit, 0..3);
    state.join("b").unwrap();
    for sequence in 1..4 {
        assert_eq!(take(&mut state, "a", NOW), Some((sequence, false)));
        state.ack("a", sequence);
    }
    assert_eq!((state.kept.len(), state.kept_bytes), (0, 0));
    let mut unread = TopicState::new(&Topic::Audit);
    unread.publish(Some(id(1)), frame(1));
    assert!(unread.kept.is_empty(), "nobody will ever ask for it");
}

#[test]
fn a_wait_ends_when_the_first_unacknowledged_one_is_due() {
    let mut state = with(&Topic::Audit, 0..2);
    take(&mut state, "a", NOW);
    take(&mut state, "a", NOW + Duration::from_secs(1));
    let waited = state.take("a", 1, NOW + Duration::from_secs(2), TIMEOUT);
    assert!(
        matches!(waited, Taken::Wait(Some(span)) if span == Duration::from_secs(28)),
        "{waited:?}"
    );
    assert_eq!(take(&mut state, "a", NOW + TIMEOUT), Some((1, true)));
    assert_eq!(take(&mut state, "a", NOW + TIMEOUT), None);
    state.ack("a", 1);
    assert_eq!(take(&mut state, "a", NOW + TIMEOUT * 2), Some((2, true)));
}

#[test]
fn one_group_holds_a_bounded_number_unacknowledged() {
    let many = u64::try_from(MAX_UNACKNOWLEDGED).unwrap();
    let mut state = with(&Topic::Audit, 0..many);
    for _ in 0..many {
        assert!(take(&mut state, "a", NOW).is_some());
    }
    state.publish(Some(id(many)), frame(1));
    assert_eq!(take(&mut state, "a", NOW), None);
    state.ack("a", 5);
    assert_eq!(take(&mut state, "a", NOW), Some((many + 1, false)));
}

#[test]
fn ids_are_remembered_in_a_bounded_window() {
    let window = u64::try_from(ID_WINDOW).unwrap();
    let mut state = with(&Topic::Audit, 0..window);
    let next = state.next_sequence;
    state.publish(Some(id(0)), frame(1));
    assert_eq!(state.next_sequence, next, "still remembered");
    state.publish(Some(id(window)), frame(1));
    state.publish(Some(id(0)), frame(1));
    assert_eq!(state.next_sequence, next + 2, "forgotten with the oldest");
    assert_eq!(state.seen.sizes(), (ID_WINDOW, ID_WINDOW));
}

#[test]
fn work_that_was_dropped_unseen_can_be_sent_again() {
    let capacity = u64::try_from(TOPIC_CAPACITY).unwrap();
    let mut state = with(&WORK, 0..capacity + 1);
    assert_eq!(state.kept.len(), TOPIC_CAPACITY);
    let next = state.next_sequence;
    state.publish(Some(id(0)), frame(1));
    assert_eq!(state.next_sequence, next + 1);
}

#[test]
fn work_of_a_consumer_that_left_is_due_at_once_for_the_others() {
    let mut state = with(&WORK, 0..2);
    let group = state.join("other name").unwrap();
    let mine = sequence(&state.take(&group, 1, NOW, TIMEOUT));
    let theirs = sequence(&state.take(&group, 2, NOW, TIMEOUT));
    assert_eq!((mine, theirs), (Some((1, false)), Some((2, false))));
    state.leave(&group, 1);
    assert_eq!(
        sequence(&state.take(&group, 2, NOW, TIMEOUT)),
        Some((1, true))
    );
    assert_eq!(sequence(&state.take(&group, 2, NOW, TIMEOUT)), None);
}

#[test]
fn consumer_names_are_bounded() {
    let mut state = TopicState::new(&Topic::Audit);
    for number in 0..MAX_GROUPS {
        state.join(&number.to_string()).unwrap();
    }
    assert!(state.join("one more").is_err());
    assert!(state.join("0").is_ok(), "a known name is no new one");
}

#[test]
fn only_the_newest_plan_is_kept() {
    let topic = Topic::Plan(HostId::from_bytes([1; 16]));
    let mut state = with(&topic, 0..5);
    assert_eq!((state.kept.len(), state.kept_bytes), (1, 64));
    assert_eq!(take(&mut state, "a", NOW), Some((5, false)));
    state.ack("a", 5);
    assert_eq!(state.kept.len(), 1, "for whoever comes late");
    state.nak("a", 5, NOW);
    assert_eq!(
        take(&mut state, "a", NOW),
        None,
        "an acknowledged one stays so"
    );
}
