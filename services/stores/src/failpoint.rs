//! Names of the places before and after each effect at a store outside, at which a test can end, delay or fail it.
//!
//! Owns the names alone; what passes them is the engine's port `failpoint`. Invariant: each is passed under its
//! own name once per effect, and no effect is between two of them but the one that they are named for. The
//! places of `local` are the cache's.

/// Every failpoint of the stores outside, as the program that arms them lists them, too.
pub const FAILPOINTS: &[&str] = &[
    "store.aws.before_create",
    "store.aws.after_create",
    "store.aws.before_put",
    "store.aws.after_put",
    "store.aws.before_current",
    "store.aws.after_current",
    "store.aws.before_unlabel",
    "store.aws.after_unlabel",
    "store.kv.before_write",
    "store.kv.after_write",
    "store.kv.after_note",
    "store.kv.before_end",
    "store.kv.after_end",
    "store.role.before_rotate",
    "store.role.after_rotate",
    "store.role.after_make",
    "store.lease.before_token",
    "store.lease.after_token",
    "store.lease.after_mint",
    "store.lease.after_record",
    "store.lease.before_extend",
    "store.lease.after_token_extend",
    "store.lease.after_extend",
    "store.lease.before_end",
    "store.lease.after_lease_end",
    "store.lease.after_end",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_each_is_one_kind_of_place() {
        let names: BTreeSet<&str> = FAILPOINTS.iter().copied().collect();
        assert_eq!(names.len(), FAILPOINTS.len());
        let kinds = ["aws", "kv", "role", "lease"];
        for name in FAILPOINTS {
            let kind = name.strip_prefix("store.");
            let kind = kind.and_then(|rest| rest.split('.').next());
            assert!(kind.is_some_and(|kind| kinds.contains(&kind)), "{name}");
        }
    }
}
