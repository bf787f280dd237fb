//! What every resource with accounts has to keep: the laws of `port::accounts`, one function each.
//!
//! Each case works on an account of its own that nobody used yet. Every error that a case provokes is
//! searched for the passwords that were in play. What an account accepts is asked of the server itself
//! (`admits` is a real login), and sessions are opened past the adapter.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::revocation::Answer;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::accounts::{Accounts, Keep, Keeps, Login};
use keywheel_seal::SecretBytes;

use super::store::{kind, plenty, too_late, value};

/// A resource under test, and another hand at the same server.
#[async_trait]
pub trait Resource: Send + Sync {
    /// The adapter.
    fn accounts(&self) -> Arc<dyn Accounts>;
    /// An account that is there and that nobody used yet; it has no password.
    async fn fresh(&self) -> Login;
    /// Whether an account keeps the password before beside a new one.
    fn overlaps(&self) -> bool;
    /// Whether an account that is missing is made like its sibling.
    fn makes_missing(&self) -> bool;
    /// A client opens a session and keeps it until it is dropped.
    async fn session(&self, login: &Login, password: &SecretBytes) -> Box<dyn Session>;
}

/// An open session of a client.
#[async_trait]
pub trait Session: Send {
    /// Whether it is still good for a query.
    async fn works(&mut self) -> bool;
}

/// Runs every case.
///
/// # Panics
/// When a law is broken.
pub async fn check(resource: &dyn Resource) {
    what_is_accepted_is_admitted_and_nothing_else(resource).await;
    what_an_account_has_is_told_and_nothing_is_changed(resource).await;
    a_new_password_replaces_the_old_one(resource).await;
    the_old_one_stays_where_it_is_kept(resource).await;
    a_third_password_beside_two_is_refused_and_changes_nothing(resource).await;
    a_refused_password_is_dead_and_only_that_one(resource).await;
    a_locked_account_admits_nobody_until_it_is_given_a_password(resource).await;
    what_is_not_there_admits_nobody_and_is_refused_already(resource).await;
    a_missing_account_is_made_like_its_sibling(resource).await;
    sessions_end_of_this_account_and_of_no_other(resource).await;
    sessions_from_before_a_mark_are_told_apart(resource).await;
    after_the_deadline_nothing_is_called(resource).await;
    assert!(!resource.accounts().grants().is_empty());
}

/// Its accounts, with time enough for every call.
struct Hand(Arc<dyn Accounts>);

impl Hand {
    fn of(resource: &dyn Resource) -> Self {
        Self(resource.accounts())
    }

    async fn accept(&self, login: &Login, name: &str, keep: Keep) {
        let (password, until) = (value(name), plenty());
        let done = self.0.accept(login, &password, keep, &until);
        done.await.unwrap();
    }

    async fn refuse(&self, login: &Login, name: Option<&str>) {
        let (password, until) = (name.map(value), plenty());
        let done = self.0.refuse(login, password.as_ref(), &until);
        done.await.unwrap();
    }

    async fn keeps(&self, login: &Login, name: &str) -> Keeps {
        let (password, until) = (value(name), plenty());
        let told = self.0.keeps(login, &password, &until);
        told.await.unwrap()
    }

    async fn admits(&self, login: &Login, name: &str) -> bool {
        let (password, until) = (value(name), plenty());
        let admitted = self.0.admits(login, &password, &until);
        admitted.await.unwrap()
    }

    async fn answer(&self, login: &Login, name: &str) -> Answer {
        let (password, until) = (value(name), plenty());
        let answered = self.0.answer(login, &password, &until);
        answered.await.unwrap()
    }

    /// Of these passwords, those that are let in.
    async fn admitted<'n>(&self, login: &Login, names: &[&'n str]) -> Vec<&'n str> {
        let mut admitted = Vec::new();
        for name in names {
            if self.admits(login, name).await {
                admitted.push(*name);
            }
        }
        admitted
    }
}

async fn what_is_accepted_is_admitted_and_nothing_else(resource: &dyn Resource) {
    let (hand, login) = (Hand::of(resource), resource.fresh().await);
    assert!(!hand.admits(&login, "one").await, "it has no password yet");
    for _ in 0..3 {
        hand.accept(&login, "one", Keep::Nothing).await;
        let admitted = hand.admitted(&login, &["one", "two", ""]).await;
        assert_eq!(admitted, ["one"]);
        assert_eq!(hand.answer(&login, "one").await, Answer::Accepted);
        assert_ne!(hand.answer(&login, "two").await, Answer::Accepted);
    }
    hand.refuse(&login, Some("one")).await;
    assert_ne!(hand.answer(&login, "one").await, Answer::Accepted);
}

async fn what_an_account_has_is_told_and_nothing_is_changed(resource: &dyn Resource) {
    let (hand, login) = (Hand::of(resource), resource.fresh().await);
    assert_ne!(hand.keeps(&login, "one").await, Keeps::Yes);
    for (name, other) in [("one", "two"), ("two", "one")] {
        hand.accept(&login, name, Keep::Nothing).await;
        assert_eq!(hand.keeps(&login, name).await, Keeps::Yes);
        assert_eq!(hand.keeps(&login, other).await, Keeps::No);
        assert_eq!(hand.admitted(&login, &["one", "two"]).await, [name]);
    }
}

async fn a_new_password_replaces_the_old_one(resource: &dyn Resource) {
    let (hand, login) = (Hand::of(resource), resource.fresh().await);
    hand.accept(&login, "one", Keep::Nothing).await;
    for _ in 0..2 {
        hand.accept(&login, "two", Keep::Nothing).await;
        let admitted = hand.admitted(&login, &["one", "two"]).await;
        assert_eq!(admitted, ["two"]);
    }
}

async fn the_old_one_stays_where_it_is_kept(resource: &dyn Resource) {
    let (hand, login) = (Hand::of(resource), resource.fresh().await);
    hand.accept(&login, "one", Keep::Nothing).await;
    if !resource.overlaps() {
        let (two, until) = (value("two"), plenty());
        let both = hand.0.accept(&login, &two, Keep::Old, &until).await;
        assert_eq!(kind(both), ErrorKind::Denied);
        assert_eq!(hand.admitted(&login, &["one", "two"]).await, ["one"]);
        return;
    }
    for _ in 0..2 {
        hand.accept(&login, "two", Keep::Old).await;
        let admitted = hand.admitted(&login, &["one", "two", "three"]).await;
        assert_eq!(admitted, ["one", "two"]);
    }
    // Going back leaves the old one alone.
    for _ in 0..2 {
        hand.accept(&login, "one", Keep::Nothing).await;
        assert_eq!(hand.admitted(&login, &["one", "two"]).await, ["one"]);
    }
}

async fn a_third_password_beside_two_is_refused_and_changes_nothing(resource: &dyn Resource) {
    if !resource.overlaps() {
        return;
    }
    let (hand, login) = (Hand::of(resource), resource.fresh().await);
    let names = ["one", "two", "three"];
    hand.accept(&login, "one", Keep::Nothing).await;
    hand.accept(&login, "two", Keep::Old).await;
    for _ in 0..2 {
        let (three, until) = (value("three"), plenty());
        let third = hand.0.accept(&login, &three, Keep::Old, &until).await;
        assert_eq!(kind(third), ErrorKind::Conflict);
        assert_eq!(hand.admitted(&login, &names).await, ["one", "two"]);
        // What is there already is no third one.
        hand.accept(&login, "one", Keep::Old).await;
        assert_eq!(hand.admitted(&login, &names).await, ["one", "two"]);
    }
    hand.refuse(&login, Some("one")).await;
    hand.accept(&login, "three", Keep::Old).await;
    assert_eq!(hand.admitted(&login, &names).await, ["two", "three"]);
}

async fn a_refused_password_is_dead_and_only_that_one(resource: &dyn Resource) {
    let (hand, login) = (Hand::of(resource), resource.fresh().await);
    hand.accept(&login, "one", Keep::Nothing).await;
    let keep = match resource.overlaps() {
        true => Keep::Old,
        false => Keep::Nothing,
    };
    hand.accept(&login, "two", keep).await;
    for _ in 0..2 {
        hand.refuse(&login, Some("one")).await;
        hand.refuse(&login, Some("never")).await;
        let admitted = hand.admitted(&login, &["one", "two", "never"]).await;
        assert_eq!(admitted, ["two"]);
    }
    for _ in 0..2 {
        hand.refuse(&login, Some("two")).await;
        assert!(hand.admitted(&login, &["one", "two"]).await.is_empty());
    }
}

async fn a_locked_account_admits_nobody_until_it_is_given_a_password(resource: &dyn Resource) {
    let (hand, login) = (Hand::of(resource), resource.fresh().await);
    hand.accept(&login, "one", Keep::Nothing).await;
    for _ in 0..2 {
        hand.refuse(&login, None).await;
        assert!(hand.admitted(&login, &["one", ""]).await.is_empty());
    }
    hand.accept(&login, "two", Keep::Nothing).await;
    assert_eq!(hand.admitted(&login, &["one", "two"]).await, ["two"]);
}

async fn what_is_not_there_admits_nobody_and_is_refused_already(resource: &dyn Resource) {
    let hand = Hand::of(resource);
    let nobody = Login::of("kw_nobody_has_this");
    assert!(!hand.admits(&nobody, "one").await);
    hand.refuse(&nobody, Some("one")).await;
    hand.refuse(&nobody, None).await;
    let until = plenty();
    assert_eq!(hand.0.end_sessions(&nobody, &until).await.unwrap(), 0);
    let one = value("one");
    let made = hand.0.accept(&nobody, &one, Keep::Nothing, &until).await;
    assert_eq!(kind(made), ErrorKind::NotFound, "it has no sibling");
    assert!(!hand.admits(&nobody, "one").await);
}

async fn a_missing_account_is_made_like_its_sibling(resource: &dyn Resource) {
    let (hand, sibling) = (Hand::of(resource), resource.fresh().await);
    let missing = Login::of(format!("{sibling}_b")).like(sibling.name.clone());
    if !resource.makes_missing() {
        let (one, until) = (value("one"), plenty());
        let made = hand.0.accept(&missing, &one, Keep::Nothing, &until).await;
        assert_eq!(kind(made), ErrorKind::NotFound);
        return;
    }
    hand.accept(&sibling, "one", Keep::Nothing).await;
    for _ in 0..2 {
        hand.accept(&missing, "two", Keep::Nothing).await;
        assert_eq!(hand.admitted(&missing, &["one", "two"]).await, ["two"]);
        assert_eq!(hand.admitted(&sibling, &["one", "two"]).await, ["one"]);
    }
    let mut session = resource.session(&missing, &value("two")).await;
    assert!(session.works().await);
}

async fn sessions_end_of_this_account_and_of_no_other(resource: &dyn Resource) {
    let hand = Hand::of(resource);
    let (ours, other) = (resource.fresh().await, resource.fresh().await);
    for login in [&ours, &other] {
        hand.accept(login, "one", Keep::Nothing).await;
    }
    let one = value("one");
    let mut first = resource.session(&ours, &one).await;
    let mut second = resource.session(&ours, &one).await;
    let mut bystander = resource.session(&other, &one).await;
    hand.refuse(&ours, None).await;
    let ended = hand.0.end_sessions(&ours, &plenty()).await.unwrap();
    assert!(ended >= 2, "{ended} sessions were ended");
    assert!(!first.works().await && !second.works().await);
    assert!(bystander.works().await);
    let ended = hand.0.end_sessions(&ours, &plenty()).await.unwrap();
    assert_eq!(ended, 0, "none is left");
}

async fn sessions_from_before_a_mark_are_told_apart(resource: &dyn Resource) {
    let (hand, login) = (Hand::of(resource), resource.fresh().await);
    hand.accept(&login, "one", Keep::Nothing).await;
    let one = value("one");
    let mut before = resource.session(&login, &one).await;
    assert!(before.works().await);
    let mark = hand.0.mark(&plenty()).await.unwrap();
    let mut after = resource.session(&login, &one).await;
    assert!(after.works().await);
    let until = plenty();
    let older = hand.0.older(&login, &mark, &until).await.unwrap();
    let Some(older) = older else {
        return;
    };
    assert_eq!(older, 1, "the one after it does not count");
    let now = hand.0.mark(&plenty()).await.unwrap();
    let older = hand.0.older(&login, &now, &until).await.unwrap();
    assert_eq!(older, Some(2), "both are from before now");
    hand.0.end_sessions(&login, &until).await.unwrap();
    let older = hand.0.older(&login, &now, &until).await.unwrap();
    assert_eq!(older, Some(0));
}

async fn after_the_deadline_nothing_is_called(resource: &dyn Resource) {
    let (hand, login) = (Hand::of(resource), resource.fresh().await);
    hand.accept(&login, "one", Keep::Nothing).await;
    let (late, accounts) = (too_late(), &hand.0);
    let (one, two) = (value("one"), value("two"));
    let mark = accounts.mark(&plenty()).await.unwrap();
    let accepted = accounts.accept(&login, &two, Keep::Nothing, &late).await;
    let admitted = accounts.admits(&login, &one, &late).await;
    let refused = accounts.refuse(&login, Some(&one), &late).await;
    let ended = accounts.end_sessions(&login, &late).await;
    let marked = accounts.mark(&late).await;
    let older = accounts.older(&login, &mark, &late).await;
    let kinds = [
        kind(accepted),
        kind(admitted),
        kind(refused),
        kind(ended),
        kind(marked),
        kind(older),
    ];
    assert_eq!(kinds, [ErrorKind::Unavailable; 6]);
    assert_eq!(hand.admitted(&login, &["one", "two"]).await, ["one"]);
}
