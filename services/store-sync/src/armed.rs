//! Failpoints of rotators and stores, as this program was armed: an adapter arms nothing itself.
//!
//! Invariant: every failpoint of a rotator and of a store can be named in the program's environment.

use async_trait::async_trait;
use keywheel_daemon::failpoint;
use keywheel_engine::port::failpoint::Failpoint;
use keywheel_engine::port::{ErrorKind, PortError};

/// Passes them as the program's environment says.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArmedFailpoints;

#[async_trait]
impl Failpoint for ArmedFailpoints {
    async fn pass(&self, name: &'static str) -> Result<(), PortError> {
        let passed = failpoint::hit_async(name).await;
        passed.map_err(|error| {
            PortError::caused(
                ErrorKind::Unavailable,
                "the server was not asked further",
                error,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_program_knows_every_failpoint_of_rotators_and_stores_and_no_other_one() {
        for (prefix, own) in [
            ("rotator.", keywheel_rotators::FAILPOINTS),
            ("store.", keywheel_stores::FAILPOINTS),
        ] {
            let known = failpoint::registry().iter().copied();
            let known: BTreeSet<&str> = known.filter(|name| name.starts_with(prefix)).collect();
            let named: BTreeSet<&str> = own.iter().copied().collect();
            assert_eq!(known, named);
        }
    }

    #[tokio::test]
    async fn what_is_not_armed_is_passed() {
        let passed = ArmedFailpoints.pass("rotator.redis.before_set").await;
        assert!(passed.is_ok());
    }
}
