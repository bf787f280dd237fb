//! Names of the places before and after each effect at a server, at which a test can end, delay or fail a step.
//!
//! Owns the names alone; what passes them is the engine's port `failpoint`. Invariant: each is passed under its
//! own name once per effect. `create`, `finish` and `probe` of accounts have no effect at a server: their places
//! are the cache's. A receiver is asked at every step, and a question (`test`, `probe`) has places, too.

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
    "rotator.webhook.before_create",
    "rotator.webhook.after_create",
    "rotator.webhook.before_set",
    "rotator.webhook.after_set",
    "rotator.webhook.before_question",
    "rotator.webhook.after_question",
    "rotator.webhook.before_finish",
    "rotator.webhook.after_finish",
    "rotator.webhook.before_revoke",
    "rotator.webhook.after_revoke",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_each_is_one_kind_of_server() {
        let names: BTreeSet<&str> = FAILPOINTS.iter().copied().collect();
        assert_eq!(names.len(), FAILPOINTS.len());
        let kinds = ["postgres", "mariadb", "redis", "webhook"];
        for name in FAILPOINTS {
            let kind = name.split('.').nth(1);
            assert!(kind.is_some_and(|kind| kinds.contains(&kind)), "{name}");
        }
    }
}
