//! Rotation policies, each held once however many secrets have it.
//!
//! A million secrets are told apart by their ids; most share a schedule with others, and its text would
//! be the largest part of what is kept of a secret. Policies that no secret has any more go when as
//! many new ones have come.

use std::collections::BTreeSet;
use std::sync::Arc;

use keywheel_core::schedule::RotationPolicy;

/// Fewer than this are not looked through for unused ones.
const FEW: usize = 64;

#[derive(Debug, Clone, Default)]
pub(super) struct Policies {
    shared: BTreeSet<Arc<RotationPolicy>>,
    /// How many were in use when unused ones were last let go.
    kept: usize,
}

impl Policies {
    /// The one copy of a policy.
    pub(super) fn share(&mut self, wanted: &RotationPolicy) -> Arc<RotationPolicy> {
        if let Some(known) = self.shared.get(wanted) {
            return Arc::clone(known);
        }
        if self.shared.len() >= self.kept.saturating_mul(2).max(FEW) {
            self.shared.retain(|known| Arc::strong_count(known) > 1);
            self.kept = self.shared.len();
        }
        let fresh = Arc::new(wanted.clone());
        self.shared.insert(Arc::clone(&fresh));
        fresh
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy(seconds: usize) -> RotationPolicy {
        RotationPolicy {
            jitter: Duration::from_secs(seconds as u64),
            ..RotationPolicy::default()
        }
    }

    #[test]
    fn equal_policies_are_one() {
        let mut policies = Policies::default();
        let first = policies.share(&policy(1));
        assert!(Arc::ptr_eq(&first, &policies.share(&policy(1))));
        assert!(!Arc::ptr_eq(&first, &policies.share(&policy(2))));
    }

    #[test]
    fn what_nobody_has_any_more_goes_and_what_is_used_stays() {
        let mut policies = Policies::default();
        let used = policies.share(&policy(0));
        for seconds in 1..=FEW {
            policies.share(&policy(seconds));
        }
        assert_eq!(policies.shared.len(), 2, "the used one and the newest");
        assert!(Arc::ptr_eq(&used, &policies.share(&policy(0))));
    }
}
