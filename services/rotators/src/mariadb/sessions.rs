//! Sessions of an account: which are older than a mark, and their end.
//!
//! Invariants: names of users differ by their case, which the server's table of sessions does not look
//! at by itself; only sessions up to a connection's number are ended, for who comes later was let in
//! with what is good now, and would be ended again and again.

use std::time::Duration;

use keywheel_engine::port::{ErrorKind, PortError};

use super::account::Who;
use super::dialect::UP_TO;
use super::session::{Failure, Session, UNKNOWN_THREAD, explain};

/// How often sessions are listed until none is left, and the time between: a killed one ends by itself.
const ROUNDS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Ends the sessions of a user up to a connection's number; gives how many.
pub(super) async fn end(
    session: &mut Session<'_>,
    who: &Who,
    last: &str,
    name: &str,
) -> Result<u64, PortError> {
    let mut ended = 0;
    for _ in 0..ROUNDS {
        let ids = session.rows(UP_TO, &[last, &who.user]).await?;
        if ids.is_empty() {
            return Ok(ended);
        }
        for id in ids.iter().flatten().filter_map(|id| id.parse::<u64>().ok()) {
            match session.run(session.dialect().kill(id)).await {
                Ok(()) => ended += 1,
                Err(Failure::Code(UNKNOWN_THREAD)) => {}
                Err(failure) => return Err(explain(failure, name)),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    let text = format!(
        "sessions of {who} at {name} were told to end and are still there; it is tried again"
    );
    Err(PortError::new(ErrorKind::Unavailable, text))
}
