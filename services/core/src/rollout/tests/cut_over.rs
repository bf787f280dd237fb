//! A version that cut its account over: there is no way back.

use super::*;
use crate::testing::{apply_admin, apply_secret, one_account, opening};

#[test]
fn after_a_cut_over_a_failure_only_halts_for_the_version_before_opens_nothing_any_more() {
    let admin = apply_admin(&one_account(), OTHER_SECRET, FOURTH);
    let failed = says(HOST, vec![broken(1, 2)], Vec::new(), &[2]);
    let given = rolled()
        .and(admin)
        .and(apply_secret(opening(one_account())))
        .and(failed);
    let open = &given.world().rotations[&SECOND];
    assert!(open.halted.is_some() && open.returning.is_none());
    assert_eq!(given.secret().current, Some(2));
    assert!(given.secret().is_deliverable(1), "nothing dies of itself");
}
