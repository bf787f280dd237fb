//! Tests of a cut-over whose answer is lost: the account itself is asked, the new password first.

use super::*;

/// Version 1 is current, and version 2 is made.
async fn made() -> (Fakes, AccountRotator) {
    let fakes = Fakes::of(Strategy::SingleUser);
    fakes.make(1).await;
    let rotator = fakes.rotator(Some(1), &[]);
    perform(&rotator, &work(Step::Create, 2)).await.unwrap();
    (fakes, rotator)
}

fn later(attempt: u32) -> StepWork {
    StepWork {
        attempt,
        ..work(Step::Set, 2)
    }
}

#[tokio::test]
async fn what_was_done_and_not_answered_is_not_done_twice() {
    let (fakes, rotator) = made().await;
    let changes = fakes.accounts.changes();
    fakes.accounts.cut_off(0, Cut::After);
    rotator.set(&later(1), &plenty()).await.unwrap();
    assert_eq!(fakes.accounts.changes(), changes + 1);
    assert!(fakes.accepts(&fakes.opened(2)) && !fakes.accepts(&fakes.opened(1)));
    // Whoever comes after a crash sees it, too.
    let probed = rotator.probe(&later(2), &plenty()).await.unwrap();
    assert_eq!(probed, Probed::Done(None));
}

#[tokio::test]
async fn what_was_lost_before_it_was_done_is_done_then() {
    let (fakes, rotator) = made().await;
    let probed = rotator.probe(&later(2), &plenty()).await.unwrap();
    assert_eq!(probed, Probed::NotDone, "the old one is taken");
    fakes.accounts.cut_off(0, Cut::Before);
    rotator.set(&later(1), &plenty()).await.unwrap();
    assert!(fakes.accepts(&fakes.opened(2)) && !fakes.accepts(&fakes.opened(1)));
}

#[tokio::test]
async fn an_account_that_takes_neither_is_left_to_a_person() {
    let (fakes, rotator) = made().await;
    let (first, theirs) = (fakes.opened(1), value("theirs"));
    fakes.accounts.change("app", &theirs);
    fakes.accounts.cut_off(0, Cut::Before);
    let unclear = rotator.set(&later(1), &plenty()).await;
    let probed = rotator.probe(&later(2), &plenty()).await.map(drop);
    for told in [unclear, probed] {
        let error = told.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "it waits: {error}");
        assert!(error.text.contains("neither"), "{error}");
        assert!(error.text.contains("rotation abort"), "{error}");
    }
    assert!(fakes.accounts.accepts("app", &theirs), "nothing is changed");
    fakes.accounts.change("app", &first.password);
    perform(&rotator, &later(3)).await.unwrap();
    assert!(fakes.accepts(&fakes.opened(2)));
}

#[tokio::test]
async fn an_account_that_takes_neither_is_set_where_every_attempt_before_was_answered() {
    let (fakes, mut rotator) = made().await;
    rotator.plan.unclear = false;
    fakes.accounts.change("app", &value("theirs"));
    perform(&rotator, &later(2)).await.unwrap();
    assert!(fakes.accepts(&fakes.opened(2)), "as the first would have");
}

#[tokio::test]
async fn an_account_that_tells_nothing_is_left_alone_until_it_does() {
    let (fakes, rotator) = made().await;
    fakes.accounts.veil("app");
    fakes.accounts.cut_off(0, Cut::After);
    let changes = fakes.accounts.changes();
    let unclear = rotator.set(&later(1), &plenty()).await;
    let probed = rotator.probe(&later(2), &plenty()).await.map(drop);
    for told in [unclear, probed] {
        let error = told.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "it waits: {error}");
        assert!(error.text.contains("locked, expired"), "{error}");
    }
    assert_eq!(fakes.accounts.changes(), changes + 1, "it was done once");
    fakes.accounts.unveil("app");
    let probed = rotator.probe(&later(3), &plenty()).await.unwrap();
    assert_eq!(probed, Probed::Done(None));
}

#[tokio::test]
async fn an_answer_is_believed_and_the_account_is_not_asked() {
    let (fakes, rotator) = made().await;
    fakes.accounts.forget_calls();
    rotator.set(&later(1), &plenty()).await.unwrap();
    assert_eq!(fakes.accounts.calls(), 1);
}

#[tokio::test]
async fn an_account_that_is_locked_when_it_goes_back_has_the_password_of_its_consumers() {
    let (fakes, rotator) = made().await;
    rotator.set(&later(1), &plenty()).await.unwrap();
    let (first, second) = (fakes.opened(1), fakes.opened(2));
    fakes.accounts.veil("app");
    fakes.accounts.bar("app");
    perform(&rotator, &work(Step::RollBack, 2)).await.unwrap();
    fakes.accounts.unveil("app");
    fakes.accounts.unbar("app");
    assert!(fakes.accepts(&first) && !fakes.accepts(&second));
}
