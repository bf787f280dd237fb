//! What every keeper of places and letters has to keep: the laws of `port::deliveries`.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::id::{LetterId, NotificationId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::deliveries::{Deliveries, Letter, MAX_LETTERS};

const RECEIVER: NotificationId = NotificationId::from_bytes([7; 16]);
const OTHER: NotificationId = NotificationId::from_bytes([8; 16]);
/// Longer than any case of one process takes.
const LONG: Duration = Duration::from_secs(600);
/// Soon over where a turn is to end.
const SHORT: Duration = Duration::from_millis(500);

type Ends = [Arc<dyn Deliveries>; 2];

/// Runs every case, each on an empty log. `fresh` gives two ends of it: those of two processes where an
/// adapter can be shared, else the same one twice.
///
/// # Panics
/// When a law is broken.
pub async fn check<F, R>(fresh: F)
where
    F: Fn() -> R,
    R: Future<Output = Ends>,
{
    a_place_moves_only_from_where_it_was_seen(&fresh().await).await;
    a_letter_is_kept_until_it_is_thrown_away(&fresh().await).await;
    an_owner_s_oldest_letters_go_and_no_other_s(&fresh().await).await;
    letters_end_by_age_and_with_their_owner(&fresh().await).await;
}

/// Whose turn it is, for two ends of two processes; `end` ends the turns of that span.
///
/// # Panics
/// When a law is broken.
pub async fn check_turns(ends: &Ends, end: impl Fn(Duration)) {
    let [one, other] = ends;
    assert_eq!(one.claim(RECEIVER, 4, LONG).await.unwrap(), Some(4));
    assert_eq!(other.claim(RECEIVER, 9, LONG).await.unwrap(), None);
    assert_eq!(
        other.claim(OTHER, 1, LONG).await.unwrap(),
        Some(1),
        "each receiver's turn is one of its own"
    );
    assert_eq!(one.claim(RECEIVER, 9, SHORT).await.unwrap(), Some(4));
    end(SHORT);
    assert_eq!(other.claim(RECEIVER, 9, LONG).await.unwrap(), Some(4));
    assert_eq!(one.claim(RECEIVER, 9, LONG).await.unwrap(), None);
}

async fn a_place_moves_only_from_where_it_was_seen([one, other]: &Ends) {
    assert_eq!(one.places().await.unwrap(), BTreeMap::new());
    assert!(!one.advance(RECEIVER, 0, 1).await.unwrap(), "there is none");
    assert_eq!(one.claim(RECEIVER, 4, LONG).await.unwrap(), Some(4));
    assert!(one.advance(RECEIVER, 4, 7).await.unwrap());
    assert!(!other.advance(RECEIVER, 4, 9).await.unwrap(), "overtaken");
    assert!(!other.rewind(RECEIVER, 7).await.unwrap());
    assert!(!other.rewind(RECEIVER, 8).await.unwrap());
    assert!(other.rewind(RECEIVER, 2).await.unwrap());
    assert!(
        !one.advance(RECEIVER, 7, 8).await.unwrap(),
        "it was put back"
    );
    assert_eq!(one.claim(RECEIVER, 4, LONG).await.unwrap(), Some(2));
    let places = BTreeMap::from([(RECEIVER, 2)]);
    assert_eq!(other.places().await.unwrap(), places);
    other.forget(RECEIVER).await.unwrap();
    other.forget(RECEIVER).await.unwrap();
    assert_eq!(one.places().await.unwrap(), BTreeMap::new());
}

fn letter(owner: &str, number: u64) -> Letter {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id[8] = owner.len() as u8;
    Letter {
        id: LetterId::from_bytes(id),
        owner: owner.to_owned(),
        heading: format!("event {number}"),
        time: Timestamp::from_micros(i64::try_from(number).unwrap()),
        reason: "refused".to_owned(),
        body: vec![0, 255, 7],
    }
}

async fn a_letter_is_kept_until_it_is_thrown_away([one, other]: &Ends) {
    let (first, second) = (letter("notification/a", 1), letter("notification/a", 2));
    for made in [&second, &first] {
        one.keep(made).await.unwrap();
    }
    let bare = |letter: &Letter| Letter {
        body: Vec::new(),
        ..letter.clone()
    };
    let all = other.letters().await.unwrap();
    assert_eq!(all, [bare(&first), bare(&second)], "oldest first");
    let whole = other.letter(first.id).await.unwrap();
    assert_eq!(whole, Some(first.clone()));
    let later = Letter {
        reason: "refused again".to_owned(),
        ..first.clone()
    };
    other.keep(&later).await.unwrap();
    assert_eq!(one.letter(first.id).await.unwrap(), Some(later));
    assert!(one.discard(first.id).await.unwrap());
    assert!(!other.discard(first.id).await.unwrap());
    assert_eq!(one.letter(first.id).await.unwrap(), None);
    assert_eq!(one.letters().await.unwrap().len(), 1);
}

async fn an_owner_s_oldest_letters_go_and_no_other_s([one, other]: &Ends) {
    let most = u64::try_from(MAX_LETTERS).unwrap();
    one.keep(&letter("signal-source/b", 1)).await.unwrap();
    for number in 1..=most {
        let gone = one.keep(&letter("notification/a", number)).await.unwrap();
        assert_eq!(gone, 0, "{number}");
    }
    assert_eq!(other.letters().await.unwrap().len(), MAX_LETTERS + 1);
    let again = other.keep(&letter("notification/a", most)).await.unwrap();
    assert_eq!(again, 0, "it takes the place of the one with its id");
    let gone = other.keep(&letter("notification/a", most + 1)).await;
    assert_eq!(gone.unwrap(), 1);
    let left = one.letters().await.unwrap();
    assert_eq!(left.len(), MAX_LETTERS + 1);
    let has = |owner: &str, number| left.iter().any(|one| one.id == letter(owner, number).id);
    assert!(!has("notification/a", 1) && has("notification/a", 2));
    assert!(has("notification/a", most + 1) && has("signal-source/b", 1));
}

async fn letters_end_by_age_and_with_their_owner([one, other]: &Ends) {
    let owners = ["signal-source/a", "signal-source/bc", "notification/defg"];
    for owner in owners {
        for number in 1..=3 {
            one.keep(&letter(owner, number)).await.unwrap();
        }
    }
    let at = |number| Timestamp::from_micros(number);
    assert_eq!(other.expire("signal-source/", at(1)).await.unwrap(), 0);
    assert_eq!(other.expire("signal-source/", at(3)).await.unwrap(), 4);
    assert_eq!(one.expire("signal-source/", at(3)).await.unwrap(), 0);
    let mut left = one.letters().await.unwrap();
    assert_eq!(left.len(), 5, "that of the time itself stays");
    left.retain(|one| one.owner.starts_with("signal-source/"));
    assert!(left.iter().all(|one| one.time == at(3)), "{left:?}");
    assert_eq!(one.discard_all("signal-source/b").await.unwrap(), 0);
    assert_eq!(one.discard_all("signal-source/bc").await.unwrap(), 1);
    assert_eq!(other.discard_all("notification/defg").await.unwrap(), 3);
    let left = other.letters().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].owner, "signal-source/a");
}
