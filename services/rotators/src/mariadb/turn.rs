//! One of us at a time at an account: what is read of it and what is changed then belong together.
//!
//! The lock is the server's (`GET_LOCK`) and ends with its session, which the server ends itself when
//! it goes quiet. Invariant: who can sign in could hold that lock, too, but cannot put off a revocation
//! by it: only a holder that is the admin itself is waited for. A cluster has one such lock per node.

use keywheel_engine::port::{ErrorKind, PortError};
use sha1::{Digest as _, Sha1};

use super::account::Who;
use super::session::{Session, explain};

/// Seconds after which the server ends a session of ours that went quiet, and its lock with it.
const QUIET: &str = "SET SESSION wait_timeout = 30";
const TAKE: &str = "SELECT CAST(COALESCE(GET_LOCK(?, 3), 0) AS CHAR)";
const ADMIN_HOLDS: &str = "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.PROCESSLIST \
     WHERE ID = IS_USED_LOCK(?) AND BINARY USER = ?";

/// What wants the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Accept,
    Refuse,
}

/// Takes an account's lock, which ends with the session.
pub(super) async fn take(
    session: &mut Session<'_>,
    who: &Who,
    (admin, name): (&str, &str),
    purpose: Purpose,
) -> Result<(), PortError> {
    let lock = lock_of(who);
    let ran = session.run(QUIET.to_owned()).await;
    ran.map_err(|failure| explain(failure, name))?;
    if super::first(session.rows(TAKE, &[&lock]).await?).as_deref() == Some("1") {
        return Ok(());
    }
    let held = session.rows(ADMIN_HOLDS, &[&lock, admin]).await?;
    let is_admin = super::first(held).is_some_and(|count| count != "0");
    let holder = match (is_admin, purpose) {
        (true, _) => "another store-sync is at work on it",
        (false, Purpose::Accept) => "another login holds its lock (GET_LOCK); end that session",
        (false, Purpose::Refuse) => {
            tracing::warn!(
                account = who.user,
                "another login holds the lock of an account at its server; it is revoked all the same"
            );
            return Ok(());
        }
    };
    let text = format!("{who} at {name} cannot be changed now: {holder}; it is tried again");
    Err(PortError::new(ErrorKind::Unavailable, text))
}

/// The name of an account's lock.
fn lock_of(who: &Who) -> String {
    let digest = Sha1::digest(who.to_string());
    let mut name = "keywheel-".to_owned();
    for byte in digest {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}
