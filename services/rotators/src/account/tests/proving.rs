//! Tests of the proof: what was made unusable is refused, its value stays until then, and what no login tells
//! is said.

use keywheel_core::revocation::Answer;
use keywheel_engine::port::rotator::TellsNothing;

use super::*;

/// How a login with each version is answered, and what is lacking.
async fn proven(
    rotator: &AccountRotator,
    versions: &[u64],
) -> (Vec<(u64, Answer)>, Option<String>) {
    let proof = rotator.prove(SECRET, versions, &plenty()).await.unwrap();
    let answers = proof.evidence.iter();
    let answers = answers.map(|one| (one.version, one.answer)).collect();
    (answers, proof.lacking)
}

#[tokio::test]
async fn a_disabled_version_is_refused_and_its_value_stays_until_it_is_revoked() {
    for strategy in STRATEGIES {
        let fakes = Fakes::of(strategy);
        fakes.make(1).await;
        let rotator = fakes.rotator(None, &[]);
        let alive = (vec![(1, Answer::Accepted)], None);
        assert_eq!(proven(&rotator, &[1]).await, alive, "{strategy:?}");
        for _ in 0..2 {
            let disabled = rotator.disable(SECRET, &[1], None, &plenty()).await;
            disabled.unwrap();
        }
        assert!(fakes.vault.value(SECRET, 1).is_some(), "{strategy:?}");
        let calls = fakes.accounts.calls();
        let dead = (vec![(1, Answer::Refused)], None);
        assert_eq!(proven(&rotator, &[1]).await, dead, "{strategy:?}");
        assert_eq!(fakes.accounts.calls(), calls + 1, "one login, and no more");
        rotator.revoke(SECRET, &[1], None, &plenty()).await.unwrap();
        assert!(fakes.vault.value(SECRET, 1).is_none());
    }
}

#[tokio::test]
async fn what_was_made_unusable_is_not_set_however_late_the_step_comes() {
    for strategy in STRATEGIES {
        let fakes = Fakes::of(strategy);
        fakes.make(1).await;
        let rotator = fakes.rotator(None, &[]);
        let opened = fakes.opened(1);
        rotator
            .disable(SECRET, &[1], None, &plenty())
            .await
            .unwrap();
        let late = perform(&rotator, &work(Step::Set, 1)).await;
        assert_eq!(kind(late), ErrorKind::Denied, "{strategy:?}");
        assert!(!fakes.accepts(&opened), "{strategy:?}");
        // Another one was at it when the revocation came, and told the server after that.
        let Credential { login, password } = rotator
            .credential(SECRET, 1, &plenty())
            .await
            .unwrap()
            .expect("its value is kept");
        let time = plenty();
        let told = fakes
            .accounts
            .accept(&login, &password, Keep::Nothing, &time);
        told.await.unwrap();
        assert!(fakes.accepts(&opened), "{strategy:?}");
        let again = perform(&rotator, &work(Step::Set, 1)).await;
        assert_eq!(kind(again), ErrorKind::Denied, "{strategy:?}");
        assert!(!fakes.accepts(&opened), "{strategy:?}");
        let dead = (vec![(1, Answer::Refused)], None);
        assert_eq!(proven(&rotator, &[1]).await, dead, "{strategy:?}");
    }
}

#[tokio::test]
async fn a_roll_back_gives_nothing_back_that_was_revoked() {
    for strategy in [Strategy::SingleUser, Strategy::DualPassword] {
        let fakes = Fakes::of(strategy);
        fakes.make(1).await;
        let rotator = fakes.rotator(Some(1), &[]);
        for step in [Step::Create, Step::Set] {
            perform(&rotator, &work(step, 2)).await.unwrap();
        }
        let (first, second) = (fakes.opened(1), fakes.opened(2));
        rotator
            .disable(SECRET, &[1], None, &plenty())
            .await
            .unwrap();
        perform(&rotator, &work(Step::RollBack, 2)).await.unwrap();
        assert!(!fakes.accepts(&first), "{strategy:?}");
        assert!(!fakes.accepts(&second), "{strategy:?}");
    }
}

#[tokio::test]
async fn evidence_names_account_and_server_and_no_password() {
    let fakes = Fakes::of(Strategy::SingleUser);
    fakes.make(1).await;
    let proof = fakes
        .rotator(None, &[])
        .prove(SECRET, &[1], &plenty())
        .await;
    let text = format!("{:?}", proof.unwrap());
    assert!(
        text.contains("account app of mariadb at db.example:3306"),
        "{text}"
    );
    // EXPOSE: it is searched for.
    let password = fakes.opened(1).password.expose().to_vec();
    assert!(!text.contains(&*String::from_utf8(password).unwrap()));
}

#[tokio::test]
async fn a_version_whose_value_is_gone_is_lacking_and_the_others_are_tried() {
    let fakes = Fakes::of(Strategy::AlternatingUsers);
    fakes.make(1).await;
    fakes.make(2).await;
    fakes.vault.destroy(SECRET, 1).await.unwrap();
    let (answers, lacking) = proven(&fakes.rotator(None, &[]), &[1, 2]).await;
    assert_eq!(answers, [(2, Answer::Accepted)]);
    let lacking = lacking.unwrap();
    assert!(lacking.contains("version 1 is gone"), "{lacking}");
    fakes.vault.damage(SECRET, 2);
    let (answers, lacking) = proven(&fakes.rotator(None, &[]), &[2]).await;
    assert!(answers.is_empty(), "{answers:?}");
    let lacking = lacking.unwrap();
    assert!(lacking.contains("version 2 is damaged"), "{lacking}");
}

#[tokio::test]
async fn a_server_that_is_away_has_said_nothing() {
    let fakes = Fakes::of(Strategy::SingleUser);
    fakes.make(1).await;
    let rotator = fakes.rotator(None, &[]);
    fakes.accounts.cut_off(0, Cut::Before);
    let asked = rotator.prove(SECRET, &[1], &plenty()).await;
    assert_eq!(kind(asked), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_or_is_not_set_up_right_is_asked_again() {
    let fakes = Fakes::of(Strategy::SingleUser);
    fakes.make(1).await;
    let rotator = fakes.rotator(None, &[]);
    for why in ["its certificate is of nobody that is known", "XX123"] {
        let failure = PortError::new(ErrorKind::Denied, why);
        fakes.accounts.fail_next(failure);
        let asked = rotator.prove(SECRET, &[1], &plenty()).await;
        assert_eq!(kind(asked), ErrorKind::Denied, "{why}");
    }
    let told = TellsNothing::error("it lets nobody in");
    fakes.accounts.fail_next(told);
    let (answers, lacking) = proven(&rotator, &[1]).await;
    assert_eq!(
        (answers, lacking),
        (vec![], Some("it lets nobody in".to_owned()))
    );
}
