//! Tests of how passwords die, and of what is left alone: accounts that were to be taken over, passwords
//! that two versions share, values that are gone, and accounts that were made by halves.

use super::*;

const ONE_ACCOUNT: [Strategy; 2] = [Strategy::DualPassword, Strategy::SingleUser];

fn of(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes().to_vec())
}

impl Fakes {
    /// The work on a version whose value somebody gives.
    async fn given(&self, step: Step, version: u64, given: &SecretBytes) -> StepWork {
        let work = StepWork {
            provided: true,
            ..work(step, version)
        };
        if step == Step::Create {
            self.vault.stash(work.rotation, given).await.unwrap();
        }
        work
    }

    /// A version is made of what somebody gives, over the one before, up to some step.
    async fn put(&self, version: u64, given: &SecretBytes, steps: usize) -> AccountRotator {
        let rotator = self.rotator((version > 1).then(|| version - 1), &[]);
        for step in MAKING.into_iter().take(steps) {
            let work = self.given(step, version, given).await;
            perform(&rotator, &work).await.unwrap();
        }
        rotator
    }

    /// A value that was kept before the secret had a rotator.
    async fn keep(&self, version: u64, value: &SecretBytes) {
        let token = work(Step::Create, version).rotation;
        let kept = self.vault.insert(SECRET, version, token, value).await;
        kept.unwrap();
    }
}

#[tokio::test]
async fn an_account_that_was_made_by_halves_gets_its_rights_before_it_is_promoted() {
    let fakes = Fakes::of(Strategy::AlternatingUsers);
    fakes.make(1).await;
    let rotator = fakes.rotator(Some(1), &[]);
    perform(&rotator, &work(Step::Create, 2)).await.unwrap();
    fakes.accounts.halve_the_making();
    let set = work(Step::Set, 2);
    assert_eq!(kind(perform(&rotator, &set).await), ErrorKind::Unavailable);
    let second = fakes.opened(2);
    assert!(fakes.accepts(&second) && !fakes.accounts.has_its_rights("app_b"));
    perform(&rotator, &set).await.unwrap();
    assert!(fakes.accepts(&second) && fakes.accounts.has_its_rights("app_b"));
}

#[tokio::test]
async fn a_take_over_that_is_rolled_back_leaves_the_account_to_its_password() {
    for strategy in STRATEGIES {
        for steps in 0..=MAKING.len() {
            for given in ["by hand", "another"] {
                let fakes = Fakes::of(strategy);
                fakes.accounts.change("app", &of("by hand"));
                let rotator = fakes.put(1, &of(given), steps).await;
                let back = fakes.given(Step::RollBack, 1, &of(given)).await;
                for _ in 0..2 {
                    perform(&rotator, &back).await.unwrap();
                }
                let is_set = steps >= 2;
                let good = if is_set { given } else { "by hand" };
                let is_good = fakes.accounts.accepts("app", &of(good));
                assert!(is_good, "{strategy:?} {steps} {given}");
                assert!(fakes.vault.value(SECRET, 1).is_none());
            }
        }
    }
}

#[tokio::test]
async fn what_is_generated_for_the_first_version_and_rolled_back_opens_nothing() {
    for strategy in STRATEGIES {
        let fakes = Fakes::of(strategy);
        fakes.make(1).await;
        let first = fakes.opened(1);
        let rotator = fakes.rotator(None, &[]);
        perform(&rotator, &work(Step::RollBack, 1)).await.unwrap();
        assert!(!fakes.accepts(&first), "{strategy:?}");
    }
}

#[tokio::test]
async fn sessions_end_also_where_it_is_not_known_whether_the_password_is_dead() {
    for strategy in STRATEGIES {
        // The lock is lost, or the login that shows that it works.
        for lost in [0, 1] {
            let fakes = Fakes::of(strategy);
            fakes.make(1).await;
            let leaked = fakes.opened(1);
            let thief = fakes.accounts.session("app", &leaked.password).unwrap();
            let rotator = fakes.rotator(None, &[]);
            fakes.accounts.cut_off(lost, Cut::Before);
            let revoked = rotator.revoke(SECRET, &[1], None, &plenty()).await;
            assert_eq!(kind(revoked), ErrorKind::Unavailable, "it is tried again");
            assert!(!fakes.accounts.is_open(thief), "{strategy:?} {lost}");
            assert!(fakes.vault.value(SECRET, 1).is_some());
            let revoked = rotator.revoke(SECRET, &[1], None, &plenty()).await;
            revoked.unwrap();
            assert!(!fakes.accepts(&leaked) && fakes.vault.value(SECRET, 1).is_none());
        }
    }
}

#[tokio::test]
async fn a_value_that_is_no_password_is_refused_before_it_is_kept_and_rolled_back() {
    let long = "a".repeat(password::MAX_PASSWORD_BYTES + 1);
    let unfit = [&b"\xff\xfe"[..], b"", "\u{e9}".as_bytes(), long.as_bytes()];
    for strategy in STRATEGIES {
        for value in unfit {
            let fakes = Fakes::of(strategy);
            let given = SecretBytes::from(value.to_vec());
            let rotator = fakes.rotator(None, &[]);
            let create = fakes.given(Step::Create, 1, &given).await;
            let error = refused(perform(&rotator, &create).await);
            assert_eq!(error.kind, ErrorKind::Denied);
            assert!(error.to_string().contains("put another value"), "{error}");
            assert!(fakes.vault.value(SECRET, 1).is_none());
            let back = fakes.given(Step::RollBack, 1, &given).await;
            perform(&rotator, &back).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_kept_value_that_nobody_can_sign_in_with_ends_without_asking_the_server() {
    let binary = SecretBytes::from(vec![0xff, 0xfe]);
    for strategy in ONE_ACCOUNT {
        for ends in 0..3 {
            let fakes = Fakes::of(strategy);
            fakes.accounts.change("app", &of("by hand"));
            fakes.keep(1, &binary).await;
            let rotator = fakes.rotator(None, &[]);
            let (until, back) = (plenty(), work(Step::RollBack, 1));
            match ends {
                0 => rotator.roll_back(&back, &until).await.unwrap(),
                1 => rotator.revoke(SECRET, &[1], None, &until).await.unwrap(),
                _ => rotator.retire(SECRET, &[1], None, &until).await.unwrap(),
            }
            assert_eq!(fakes.accounts.calls(), 0, "{strategy:?} {ends}");
            assert!(fakes.vault.value(SECRET, 1).is_none());
            assert!(fakes.accounts.accepts("app", &of("by hand")));
        }
    }
}

#[tokio::test]
async fn the_same_password_put_again_dies_with_its_last_version() {
    for strategy in ONE_ACCOUNT {
        let fakes = Fakes::of(strategy);
        fakes.put(1, &of("same"), MAKING.len()).await;
        let rotator = fakes.put(2, &of("same"), MAKING.len()).await;
        let back = fakes.given(Step::RollBack, 2, &of("same")).await;
        perform(&rotator, &back).await.unwrap();
        assert!(fakes.accounts.accepts("app", &of("same")), "{strategy:?}");
        let rotator = fakes.rotator(Some(1), &[]);
        for step in MAKING {
            let work = fakes.given(step, 3, &of("same")).await;
            perform(&rotator, &work).await.unwrap();
        }
        let rotator = fakes.rotator(Some(3), &[]);
        let retire = work(Step::RevokeOld, 1);
        perform(&rotator, &retire).await.unwrap();
        assert!(fakes.accounts.accepts("app", &of("same")), "{strategy:?}");
        assert!(fakes.vault.value(SECRET, 1).is_none());
    }
}

#[tokio::test]
async fn a_revoked_password_dies_also_for_another_version_that_has_it() {
    for strategy in ONE_ACCOUNT {
        let fakes = Fakes::of(strategy);
        for version in [1, 2] {
            fakes.put(version, &of("same"), MAKING.len()).await;
        }
        let rotator = fakes.rotator(Some(2), &[]);
        let revoked = rotator.revoke(SECRET, &[1], None, &plenty()).await;
        revoked.unwrap();
        assert!(!fakes.accounts.accepts("app", &of("same")), "{strategy:?}");
    }
}

#[tokio::test]
async fn an_old_password_is_taken_away_also_where_a_login_would_fail_anyway() {
    let fakes = Fakes::of(Strategy::DualPassword);
    fakes.make(1).await;
    fakes.make(2).await;
    let (first, second) = (fakes.opened(1), fakes.opened(2));
    fakes.accounts.bar("app");
    let rotator = fakes.rotator(Some(2), &[]);
    perform(&rotator, &work(Step::RevokeOld, 1)).await.unwrap();
    fakes.accounts.unbar("app");
    assert!(!fakes.accepts(&first) && fakes.accepts(&second));
}

#[tokio::test]
async fn a_third_password_waits_until_the_first_is_retired() {
    let fakes = Fakes::of(Strategy::DualPassword);
    fakes.make(1).await;
    fakes.make(2).await;
    let rotator = fakes.rotator(Some(2), &[1]);
    let create = work(Step::Create, 3);
    let error = refused(perform(&rotator, &create).await);
    assert_eq!(error.kind, ErrorKind::Unavailable, "it is waited for");
    assert!(error.to_string().contains("--version 1"), "{error}");
    perform(&rotator, &work(Step::RevokeOld, 1)).await.unwrap();
    for step in MAKING {
        perform(&rotator, &work(step, 3)).await.unwrap();
    }
    assert!(fakes.accepts(&fakes.opened(2)) && fakes.accepts(&fakes.opened(3)));
}

#[tokio::test]
async fn only_a_password_of_a_version_is_kept_beside_the_next_one() {
    let fakes = Fakes::of(Strategy::DualPassword);
    fakes.accounts.change("app", &of("by hand"));
    fakes.keep(1, &of("unrelated")).await;
    fakes.make(2).await;
    assert!(!fakes.accounts.accepts("app", &of("by hand")));
    assert!(fakes.accepts(&fakes.opened(2)));
}

#[tokio::test]
async fn an_account_that_lets_nobody_in_from_here_keeps_the_current_password() {
    let fakes = Fakes::of(Strategy::DualPassword);
    fakes.make(1).await;
    fakes.accounts.bar("app");
    let rotator = fakes.rotator(Some(1), &[]);
    for step in [Step::Create, Step::Set] {
        perform(&rotator, &work(step, 2)).await.unwrap();
    }
    let tested = perform(&rotator, &work(Step::Test, 2)).await;
    assert_eq!(kind(tested), ErrorKind::Denied);
    let second = fakes.opened(2);
    perform(&rotator, &work(Step::RollBack, 2)).await.unwrap();
    fakes.accounts.unbar("app");
    assert!(fakes.accepts(&fakes.opened(1)) && !fakes.accepts(&second));
}

#[tokio::test]
async fn a_password_that_somebody_added_stays_when_the_old_one_is_retired() {
    let fakes = Fakes::of(Strategy::DualPassword);
    fakes.make(1).await;
    fakes.make(2).await;
    fakes.accounts.add("app", &of("theirs"));
    let rotator = fakes.rotator(Some(2), &[]);
    let first = fakes.opened(1);
    perform(&rotator, &work(Step::RevokeOld, 1)).await.unwrap();
    assert!(!fakes.accepts(&first) && fakes.accepts(&fakes.opened(2)));
    assert!(fakes.accounts.accepts("app", &of("theirs")));
}

/// Versions 1 and 2, and a session of the first; its value is lost.
async fn lost(strategy: Strategy) -> (Fakes, form::Opened, i64) {
    let fakes = Fakes::of(strategy);
    fakes.make(1).await;
    let first = fakes.opened(1);
    let thief = fakes.accounts.session("app", &first.password).unwrap();
    fakes.make(2).await;
    fakes.vault.lose(SECRET, 1);
    (fakes, first, thief)
}

#[tokio::test]
async fn a_revoked_version_whose_value_is_lost_opens_nothing_more_either() {
    for strategy in STRATEGIES {
        let (fakes, first, thief) = lost(strategy).await;
        let rotator = fakes.rotator(Some(2), &[]);
        let revoked = rotator.revoke(SECRET, &[1], None, &plenty()).await;
        revoked.unwrap();
        assert!(!fakes.accepts(&first), "{strategy:?}");
        assert!(fakes.accepts(&fakes.opened(2)), "{strategy:?}");
        assert!(!fakes.accounts.is_open(thief), "{strategy:?}");
        // It is destroyed now, and that is no loss.
        fakes.accounts.forget_calls();
        let again = rotator.revoke(SECRET, &[1], None, &plenty()).await;
        again.unwrap();
        assert_eq!(fakes.accounts.calls(), 0);
    }
}

#[tokio::test]
async fn where_every_value_is_lost_all_versions_are_revoked_together_or_not_at_all() {
    for strategy in STRATEGIES {
        let (fakes, first, _) = lost(strategy).await;
        let second = fakes.opened(2);
        fakes.vault.lose(SECRET, 2);
        let one = fakes.rotator(Some(2), &[]);
        let error = refused(one.revoke(SECRET, &[1], None, &plenty()).await);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.to_string().contains("other versions, too"), "{error}");
        assert!(fakes.accepts(&second), "{strategy:?}");
        let both = fakes.rotator(None, &[]);
        let revoked = both.revoke(SECRET, &[1, 2], None, &plenty()).await;
        revoked.unwrap();
        assert!(!fakes.accepts(&first) && !fakes.accepts(&second));
    }
}
