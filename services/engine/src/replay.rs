//! Reads the whole log: for a start, and to compare its fold with what the gateway decides on (rule
//! E8, invariant I5).
//!
//! It reads in pages and changes nothing. For a comparison the committed world is copied first, so the
//! log may grow meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use keywheel_core::world::World;
use tokio::task::JoinHandle;

use crate::port::journal::{Journal, MAX_READ, RecordedEvent};
use crate::port::{ErrorKind, PortError};
use crate::state::View;

/// Pages that are read while one is folded.
pub const PAGES_AHEAD: usize = 3;

type Page = JoinHandle<Result<Vec<RecordedEvent>, PortError>>;

/// Hands on every event of the log in order; the number of the last one.
///
/// # Errors
/// When the log cannot be read.
pub(crate) async fn read_all(
    journal: &Arc<dyn Journal>,
    take: impl FnMut(&[RecordedEvent]),
) -> Result<u64, PortError> {
    let read = |after| {
        let journal = Arc::clone(journal);
        async move { journal.read(after, MAX_READ).await }
    };
    read_pages(read, take).await
}

async fn read_pages<F>(
    read: impl Fn(u64) -> F,
    mut take: impl FnMut(&[RecordedEvent]),
) -> Result<u64, PortError>
where
    F: Future<Output = Result<Vec<RecordedEvent>, PortError>> + Send + 'static,
{
    let mut number = 0;
    let mut asked = 0;
    let mut ahead: VecDeque<Page> = VecDeque::with_capacity(PAGES_AHEAD);
    loop {
        while ahead.len() < PAGES_AHEAD {
            ahead.push_back(tokio::spawn(read(asked)));
            asked += MAX_READ as u64;
        }
        let Some(page) = ahead.pop_front() else {
            return Ok(number);
        };
        let events = page.await.map_err(|source| {
            PortError::caused(ErrorKind::Corrupt, "reading the log broke off", source)
        })??;
        let Some(last) = events.last() else {
            return Ok(number);
        };
        number = last.number;
        take(&events);
        if events.len() < MAX_READ {
            // The log may have grown: what was asked for behind a short page leaves a hole.
            ahead.clear();
            asked = number;
        }
    }
}

/// What folding the log anew showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// How many events were folded.
    pub events: u64,
    /// In what it differs from the live state; `None` when it is the same.
    pub difference: Option<String>,
}

/// Folds the log up to where the view stands, and compares.
///
/// # Errors
/// When the log cannot be read.
pub async fn replay(journal: &dyn Journal, view: &View) -> Result<Replayed, PortError> {
    let (live, number) = {
        let committed = view.read();
        (committed.world.clone(), committed.number)
    };
    let (mut folded, mut last) = (World::default(), 0);
    while last < number {
        let page = journal.read(last, MAX_READ).await?;
        let before = last;
        for event in page.iter().take_while(|event| event.number <= number) {
            folded.note_time(event.time);
            folded.apply(event.number, &event.event);
            last = event.number;
        }
        if last == before {
            let difference =
                format!("the log ends at event {last}, and the gateway stands at {number}");
            return Ok(Replayed {
                events: last,
                difference: Some(difference),
            });
        }
    }
    let difference = live
        .difference(&folded)
        .map(|what| format!("{what} is not what the log says after event {number}"));
    Ok(Replayed {
        events: number,
        difference,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use keywheel_core::event::Event;
    use keywheel_core::id::{EventId, SecretId};
    use keywheel_core::secret;
    use keywheel_core::time::Timestamp;

    use super::*;

    fn event(number: u64) -> RecordedEvent {
        let promoted = secret::Event::VersionPromoted { version: number };
        RecordedEvent {
            number,
            id: EventId::default(),
            time: Timestamp::default(),
            traceparent: None,
            event: Event::Secret(SecretId::default(), promoted),
            bytes: Arc::from(Vec::new()),
            hash: [0; 32],
            signature: [0; 64],
        }
    }

    /// Reads a log of `length` events that becomes longer by `growth` once its end was read.
    async fn numbers(length: u64, growth: u64) -> (u64, Vec<u64>) {
        let log = Arc::new(Mutex::new((length, growth)));
        let read = |after: u64| {
            let log = Arc::clone(&log);
            async move {
                let (length, growth) = &mut *log.lock().unwrap();
                let whole = after + MAX_READ as u64;
                let page: Vec<_> = (after + 1..=whole.min(*length)).map(event).collect();
                if *length < whole {
                    *length += std::mem::take(growth);
                }
                Ok(page)
            }
        };
        let mut taken = Vec::new();
        let take = |events: &[RecordedEvent]| taken.extend(events.iter().map(|e| e.number));
        let last = read_pages(read, take).await.unwrap();
        (last, taken)
    }

    #[tokio::test]
    async fn every_event_is_handed_on_once_and_in_order() {
        let page = MAX_READ as u64;
        let ahead = PAGES_AHEAD as u64;
        for length in [
            0,
            1,
            page - 1,
            page,
            page + 1,
            page * ahead,
            page * (ahead + 2) + 7,
        ] {
            let (last, taken) = numbers(length, 0).await;
            assert_eq!(last, length);
            assert_eq!(taken, (1..=length).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_log_that_grows_meanwhile_leaves_no_hole() {
        let (last, taken) = numbers(2500, 900).await;
        assert_eq!(last, 3400);
        assert_eq!(taken, (1..=last).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_page_that_cannot_be_read_is_told() {
        let broken = |_| async { Err(PortError::new(ErrorKind::Corrupt, "event 7 is missing")) };
        let told = read_pages(broken, |_| ()).await.unwrap_err();
        assert_eq!(told.text, "event 7 is missing");
    }
}
