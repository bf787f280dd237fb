//! Named places before and after each effect at a server, at which a test can end, delay or fail a step.
//!
//! Owns their names and what passes them. Invariants: nobody passes them but by [`Failpoint`], which only
//! a program that was armed for it gives an answer other than yes; each is passed under its own name once
//! per effect. `create`, `finish` and `probe` have no effect at a server: their places are the cache's. It
//! arms nothing and reads no environment.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_engine::port::PortError;

/// Every failpoint of the rotators, as the program that arms them lists them, too.
pub const FAILPOINTS: &[&str] = &[
    "rotator.postgres.before_login",
    "rotator.postgres.after_login",
    "rotator.postgres.after_turn",
    "rotator.postgres.before_make",
    "rotator.postgres.after_make",
    "rotator.postgres.before_set",
    "rotator.postgres.after_set",
    "rotator.postgres.after_accept",
    "rotator.postgres.before_refuse",
    "rotator.postgres.after_lock",
    "rotator.postgres.after_refuse",
    "rotator.postgres.before_end",
    "rotator.postgres.after_end",
    "rotator.mariadb.before_login",
    "rotator.mariadb.after_login",
    "rotator.mariadb.after_turn",
    "rotator.mariadb.before_make",
    "rotator.mariadb.after_make",
    "rotator.mariadb.before_set",
    "rotator.mariadb.after_set",
    "rotator.mariadb.before_grant",
    "rotator.mariadb.after_grant",
    "rotator.mariadb.before_default_role",
    "rotator.mariadb.after_default_role",
    "rotator.mariadb.before_refuse",
    "rotator.mariadb.after_refuse",
    "rotator.mariadb.before_end",
    "rotator.mariadb.after_end",
    "rotator.redis.before_login",
    "rotator.redis.after_login",
    "rotator.redis.before_set",
    "rotator.redis.after_set_queued",
    "rotator.redis.after_set",
    "rotator.redis.before_refuse",
    "rotator.redis.after_refuse_queued",
    "rotator.redis.after_refuse",
    "rotator.redis.before_end",
    "rotator.redis.after_end",
];

/// Passes a failpoint.
#[async_trait]
pub trait Failpoint: Send + Sync {
    /// Goes on, late or at once; or fails, as `Unavailable`, where a test asked for it.
    async fn pass(&self, name: &'static str) -> Result<(), PortError>;
}

/// The failpoints of one server's accounts; where nobody watches them, they are passed at once.
#[derive(Clone, Default)]
pub(crate) struct Points(Option<Arc<dyn Failpoint>>);

impl Points {
    /// All of them are passed through this.
    pub(crate) fn watched(failpoint: Arc<dyn Failpoint>) -> Self {
        Self(Some(failpoint))
    }

    /// Passes one of [`FAILPOINTS`].
    pub(crate) async fn pass(&self, name: &'static str) -> Result<(), PortError> {
        match &self.0 {
            Some(failpoint) => failpoint.pass(name).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_each_is_one_kind_of_server() {
        let names: BTreeSet<&str> = FAILPOINTS.iter().copied().collect();
        assert_eq!(names.len(), FAILPOINTS.len());
        let kinds = ["postgres", "mariadb", "redis"];
        for name in FAILPOINTS {
            let kind = name.split('.').nth(1);
            assert!(kind.is_some_and(|kind| kinds.contains(&kind)), "{name}");
        }
    }

    #[tokio::test]
    async fn who_is_not_watched_passes() {
        let passed = Points::default().pass("rotator.redis.before_set").await;
        assert!(passed.is_ok());
    }
}
