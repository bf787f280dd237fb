//! What every store outside has to keep: the laws of `port::store`, one function each.
//!
//! Each case runs at a place where nothing lies yet. Another hand ([`Outside`]) writes, reads and
//! deletes there as a person with the store's own tools does. Every error that a case provokes is
//! searched for the values that were in play. What a proxy between us and the server does to an
//! adapter is in [`faults`].

pub mod faults;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::RotationId;
use keywheel_core::store::{RemoteVersion, Source};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::store::Store;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

use super::journal::id;
use crate::fake::FakeClock;

/// In every value that a case writes, so that an error that tells one is found.
pub const CANARY: &str = "canary-5d0e";
/// How much a call may still have when a case gives it time.
const PLENTY: Duration = Duration::from_secs(60);
/// The field that cases write to.
pub const FIELD: &str = "password";
const PAGES: usize = 1000;

/// A store under test, and another hand at the same server.
#[async_trait]
pub trait Outside: Send + Sync {
    /// The adapter.
    fn store(&self) -> Arc<dyn Store>;
    /// A path below `conformance/` where nothing ever lay.
    fn fresh(&self) -> Source;
    /// Somebody else makes these fields current, and no others.
    async fn write(&self, path: &str, fields: &[(&str, &str)]);
    /// The fields that are current; empty when nothing is.
    async fn fields(&self, path: &str) -> BTreeMap<String, String>;
    /// How many versions were ever made there, by whomever.
    async fn versions(&self, path: &str) -> usize;
    /// Somebody else deletes it, so that it could be brought back.
    async fn delete(&self, path: &str);
    /// Whether a revoked version can be read no more; else only its names are gone.
    fn revoked_is_gone(&self) -> bool;
    /// Whether a value can lie there beside the current one.
    fn has_stage(&self) -> bool;
}

/// Runs every case.
///
/// # Panics
/// When a law is broken.
pub async fn check(outside: &dyn Outside) {
    outside.store().check(&plenty()).await.unwrap();
    nothing_there_is_no_error(outside).await;
    a_version_is_known_without_its_value_and_fetched_by_its_name(outside).await;
    an_outside_change_is_another_version(outside).await;
    a_first_value_is_made_and_a_repeat_gives_the_same_version(outside).await;
    a_probe_finds_what_this_rotation_did_and_nothing_else(outside).await;
    a_probe_finds_what_is_staged(outside).await;
    a_repeat_that_was_not_probed_writes_nothing(outside).await;
    a_new_value_leaves_other_fields_alone(outside).await;
    nothing_is_written_over_somebody_elses_version(outside).await;
    what_is_staged_is_not_current(outside).await;
    a_revoked_version_is_gone_and_the_current_one_is_refused(outside).await;
    a_retired_version_is_gone_and_one_that_is_revoked_then_too(outside).await;
    what_was_deleted_is_not_there(outside).await;
    names_are_listed_in_pages_without_values(outside).await;
    after_the_deadline_nothing_is_called(outside).await;
}

/// Time enough.
#[must_use]
pub fn plenty() -> Until {
    let clock = FakeClock::at(Timestamp::from_micros(1));
    let deadline = Timestamp::from_micros(1).plus(PLENTY);
    Until::new(deadline, Arc::new(clock))
}

/// No time left.
#[must_use]
pub fn too_late() -> Until {
    let clock = FakeClock::at(Timestamp::from_micros(2));
    Until::new(Timestamp::from_micros(1), Arc::new(clock))
}

/// A rotation.
#[must_use]
pub fn token(n: u64) -> RotationId {
    RotationId::from_bytes(id(7, n))
}

/// A value with the canary in it.
#[must_use]
pub fn value(name: &str) -> SecretBytes {
    SecretBytes::from(text(name).into_bytes())
}

/// The same, for the other hand.
#[must_use]
pub fn text(name: &str) -> String {
    format!("{CANARY}-{name}")
}

/// The error, after it was searched for values.
///
/// # Panics
/// When it was a success, or the error tells a value.
pub fn refused<T>(answer: Result<T, PortError>) -> PortError {
    let Err(error) = answer else {
        panic!("it was a success");
    };
    let mut told = format!("{error} {error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        told.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    assert!(!told.contains(CANARY), "an error tells a value: {told}");
    error
}

/// The kind of a refusal.
pub fn kind<T>(answer: Result<T, PortError>) -> ErrorKind {
    refused(answer).kind
}

/// The version that is current.
///
/// # Panics
/// When nothing is there.
pub async fn current(outside: &dyn Outside, at: &Source) -> RemoteVersion {
    let seen = outside.store().look(at, &plenty()).await.unwrap();
    seen.expect("something is there").version
}

/// Fetching this version gives this value.
///
/// # Panics
/// When it does not.
pub async fn holds(outside: &dyn Outside, at: &Source, version: &RemoteVersion, name: &str) {
    let fetched = outside.store().fetch(at, version, &plenty()).await.unwrap();
    assert!(fetched.ct_eq(&value(name)), "{version:?} is another value");
}

/// The other hand reads this in our field.
///
/// # Panics
/// When it does not.
pub async fn reads(outside: &dyn Outside, at: &Source, name: &str) {
    let fields = outside.fields(&at.path).await;
    assert_eq!(fields.get(FIELD), Some(&text(name)));
}

/// Makes a value current under a token.
///
/// # Errors
/// What the store refused.
pub async fn promote(
    outside: &dyn Outside,
    at: &Source,
    n: u64,
    name: &str,
    expected: Option<&RemoteVersion>,
) -> Result<RemoteVersion, PortError> {
    let (store, value, until) = (outside.store(), value(name), plenty());
    store.promote(at, token(n), &value, expected, &until).await
}

/// What a probe finds of a promotion.
///
/// # Errors
/// What the store refused.
pub async fn probe(
    outside: &dyn Outside,
    at: &Source,
    n: u64,
    name: &str,
    expected: Option<&RemoteVersion>,
) -> Result<Option<RemoteVersion>, PortError> {
    let (store, value, until) = (outside.store(), value(name), plenty());
    let probed = store.probe_promote(at, token(n), &value, expected, &until);
    probed.await
}

/// Makes a value current that an earlier attempt may have made current: probes first.
///
/// # Errors
/// What the store refused.
pub async fn again(
    outside: &dyn Outside,
    at: &Source,
    n: u64,
    name: &str,
    expected: Option<&RemoteVersion>,
) -> Result<RemoteVersion, PortError> {
    match probe(outside, at, n, name, expected).await? {
        Some(made) => Ok(made),
        None => promote(outside, at, n, name, expected).await,
    }
}

async fn written(outside: &dyn Outside, name: &str) -> (Source, RemoteVersion) {
    let at = outside.fresh();
    outside.write(&at.path, &[(FIELD, &text(name))]).await;
    let version = current(outside, &at).await;
    (at, version)
}

async fn nothing_there_is_no_error(outside: &dyn Outside) {
    let (store, at) = (outside.store(), outside.fresh());
    assert_eq!(store.look(&at, &plenty()).await.unwrap(), None);
    store.unstage(&at, token(1), &plenty()).await.unwrap();
    let (_, elsewhere) = written(outside, "a").await;
    let gone = store.fetch(&at, &elsewhere, &plenty()).await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
    store.revoke(&at, &elsewhere, &plenty()).await.unwrap();
}

async fn a_version_is_known_without_its_value_and_fetched_by_its_name(outside: &dyn Outside) {
    let store = outside.store();
    let (at, version) = written(outside, "a").await;
    assert_eq!(current(outside, &at).await, version, "a look changes none");
    holds(outside, &at, &version, "a").await;
    let elsewhere = Source {
        path: at.path.clone(),
        field: "no-such-field".to_owned(),
    };
    let seen = store.look(&elsewhere, &plenty()).await.unwrap().unwrap();
    assert_eq!(seen.version, version, "a version is its path's");
    let missing = store.fetch(&elsewhere, &version, &plenty()).await;
    let missing = refused(missing);
    assert_eq!(missing.kind, ErrorKind::Denied);
    assert!(missing.text.contains("no-such-field"), "{missing}");
    let unknown = RemoteVersion("not-a-version-of-any-store".to_owned());
    let gone = store.fetch(&at, &unknown, &plenty()).await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
}

async fn an_outside_change_is_another_version(outside: &dyn Outside) {
    let (at, first) = written(outside, "a").await;
    outside.write(&at.path, &[(FIELD, &text("b"))]).await;
    let second = current(outside, &at).await;
    assert_ne!(first, second);
    holds(outside, &at, &second, "b").await;
    holds(outside, &at, &first, "a").await;
}

async fn a_first_value_is_made_and_a_repeat_gives_the_same_version(outside: &dyn Outside) {
    let at = outside.fresh();
    let made = promote(outside, &at, 1, "a", None);
    let made = made.await.unwrap();
    assert_eq!(current(outside, &at).await, made);
    reads(outside, &at, "a").await;
    let repeat = again(outside, &at, 1, "a", None);
    assert_eq!(repeat.await.unwrap(), made, "a repeat writes nothing");
    assert_eq!(current(outside, &at).await, made);
    let next = promote(outside, &at, 2, "b", Some(&made));
    let next = next.await.unwrap();
    assert_ne!(next, made);
    let repeat = again(outside, &at, 2, "b", Some(&made));
    assert_eq!(repeat.await.unwrap(), next);
    assert_eq!(outside.versions(&at.path).await, 2);
    holds(outside, &at, &next, "b").await;
    holds(outside, &at, &made, "a").await;
}

async fn a_probe_finds_what_this_rotation_did_and_nothing_else(outside: &dyn Outside) {
    let at = outside.fresh();
    assert_eq!(probe(outside, &at, 1, "a", None).await.unwrap(), None);
    let (at, first) = written(outside, "same").await;
    let known = Some(&first);
    for name in ["same", "b"] {
        let untouched = probe(outside, &at, 1, name, known).await.unwrap();
        assert_eq!(untouched, None, "{name}: the known version is not ours");
    }
    let made = promote(outside, &at, 1, "b", known).await.unwrap();
    for _ in 0..2 {
        let found = probe(outside, &at, 1, "b", known).await.unwrap();
        assert_eq!(found.as_ref(), Some(&made));
    }
    let others = probe(outside, &at, 2, "c", known).await.unwrap();
    assert_eq!(others, None, "another rotation's");
    outside.write(&at.path, &[(FIELD, &text("since"))]).await;
    let overtaken = probe(outside, &at, 1, "b", known).await.unwrap();
    assert_eq!(overtaken, None, "somebody wrote since");
    assert_eq!(outside.versions(&at.path).await, 3, "a probe makes none");
    outside.delete(&at.path).await;
    assert_eq!(probe(outside, &at, 1, "b", known).await.unwrap(), None);
}

async fn a_probe_finds_what_is_staged(outside: &dyn Outside) {
    let store = outside.store();
    let staged = async |at: &Source, n| {
        let found = store.probe_stage(at, token(n), &plenty()).await;
        found.unwrap()
    };
    assert!(!staged(&outside.fresh(), 1).await);
    let (at, first) = written(outside, "a").await;
    assert!(!staged(&at, 1).await);
    let new = value("b");
    store.stage(&at, token(1), &new, &plenty()).await.unwrap();
    assert_eq!(staged(&at, 1).await, outside.has_stage());
    assert!(!staged(&at, 2).await, "another rotation's");
    let unmade = probe(outside, &at, 1, "b", Some(&first)).await.unwrap();
    assert_eq!(unmade, None, "what is staged is not current");
    store.unstage(&at, token(1), &plenty()).await.unwrap();
    assert!(!staged(&at, 1).await);
}

/// Two that perform one step at once, or a gateway that took a repeat for the first.
async fn a_repeat_that_was_not_probed_writes_nothing(outside: &dyn Outside) {
    let (at, first) = written(outside, "a").await;
    let made = promote(outside, &at, 1, "b", Some(&first)).await.unwrap();
    let before = outside.versions(&at.path).await;
    match promote(outside, &at, 1, "b", Some(&first)).await {
        Ok(again) => assert_eq!(again, made),
        refused => assert_eq!(kind(refused), ErrorKind::Conflict),
    }
    assert_eq!(current(outside, &at).await, made);
    assert_eq!(outside.versions(&at.path).await, before);
}

async fn a_new_value_leaves_other_fields_alone(outside: &dyn Outside) {
    let at = outside.fresh();
    let (user, note) = (text("user"), text("with \"quotes\"\nand a line"));
    let before = [(FIELD, text("a")), ("user", user), ("note", note)];
    let before = before.each_ref().map(|(name, text)| (*name, text.as_str()));
    outside.write(&at.path, &before).await;
    let first = current(outside, &at).await;
    let awkward = "b \"\\ \u{e9}\u{0}\n";
    let made = promote(outside, &at, 1, awkward, Some(&first));
    let made = made.await.unwrap();
    holds(outside, &at, &made, awkward).await;
    let fields = outside.fields(&at.path).await;
    assert_eq!(fields.get(FIELD), Some(&text(awkward)));
    assert_eq!(fields.get("user").map(String::as_str), Some(before[1].1));
    assert_eq!(fields.get("note").map(String::as_str), Some(before[2].1));
    assert_eq!(fields.len(), 3);
}

async fn nothing_is_written_over_somebody_elses_version(outside: &dyn Outside) {
    let (at, first) = written(outside, "a").await;
    outside.write(&at.path, &[(FIELD, &text("theirs"))]).await;
    for expected in [Some(&first), None] {
        let late = promote(outside, &at, 1, "ours", expected);
        assert_eq!(kind(late.await), ErrorKind::Conflict);
        reads(outside, &at, "theirs").await;
    }
    // Ours was there, its answer was lost, and somebody wrote since.
    let known = current(outside, &at).await;
    let ours = promote(outside, &at, 2, "ours", Some(&known));
    ours.await.unwrap();
    outside.write(&at.path, &[(FIELD, &text("since"))]).await;
    let repeat = again(outside, &at, 2, "ours", Some(&known));
    assert_eq!(kind(repeat.await), ErrorKind::Conflict);
    reads(outside, &at, "since").await;
}

async fn what_is_staged_is_not_current(outside: &dyn Outside) {
    let store = outside.store();
    let (at, first) = written(outside, "a").await;
    for _ in 0..2 {
        let staged = value("b");
        store
            .stage(&at, token(1), &staged, &plenty())
            .await
            .unwrap();
        assert_eq!(current(outside, &at).await, first);
        reads(outside, &at, "a").await;
    }
    for _ in 0..2 {
        store.unstage(&at, token(1), &plenty()).await.unwrap();
        assert_eq!(current(outside, &at).await, first);
    }
    let staged = value("c");
    store
        .stage(&at, token(2), &staged, &plenty())
        .await
        .unwrap();
    let made = promote(outside, &at, 2, "c", Some(&first));
    let made = made.await.unwrap();
    assert_eq!(current(outside, &at).await, made);
    reads(outside, &at, "c").await;
    // A repeat of what came before takes nothing back.
    store.unstage(&at, token(1), &plenty()).await.unwrap();
    reads(outside, &at, "c").await;
}

async fn a_revoked_version_is_gone_and_the_current_one_is_refused(outside: &dyn Outside) {
    let store = outside.store();
    let (at, first) = written(outside, "a").await;
    let refused = store.revoke(&at, &first, &plenty()).await;
    assert_eq!(kind(refused), ErrorKind::Conflict);
    let made = promote(outside, &at, 1, "b", Some(&first));
    let made = made.await.unwrap();
    for _ in 0..2 {
        store.revoke(&at, &first, &plenty()).await.unwrap();
    }
    if outside.revoked_is_gone() {
        let gone = store.fetch(&at, &first, &plenty()).await;
        assert_eq!(kind(gone), ErrorKind::NotFound);
    }
    assert_eq!(current(outside, &at).await, made);
    holds(outside, &at, &made, "b").await;
}

/// Whatever the declaration says about old versions, nobody reads one as we do.
async fn a_retired_version_is_gone_and_one_that_is_revoked_then_too(outside: &dyn Outside) {
    let store = outside.store();
    let at = outside.fresh();
    let first = promote(outside, &at, 1, "a", None).await.unwrap();
    let refused = store.retire(&at, &first, &plenty()).await;
    assert_eq!(kind(refused), ErrorKind::Conflict, "it is current");
    let made = promote(outside, &at, 2, "b", Some(&first)).await.unwrap();
    for _ in 0..2 {
        store.retire(&at, &first, &plenty()).await.unwrap();
    }
    store.revoke(&at, &first, &plenty()).await.unwrap();
    store.retire(&at, &first, &plenty()).await.unwrap();
    if outside.revoked_is_gone() {
        let gone = store.fetch(&at, &first, &plenty()).await;
        assert_eq!(kind(gone), ErrorKind::NotFound);
    }
    assert_eq!(current(outside, &at).await, made);
    holds(outside, &at, &made, "b").await;
}

async fn what_was_deleted_is_not_there(outside: &dyn Outside) {
    let store = outside.store();
    let (at, version) = written(outside, "a").await;
    outside.delete(&at.path).await;
    assert_eq!(store.look(&at, &plenty()).await.unwrap(), None);
    let gone = store.fetch(&at, &version, &plenty()).await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
}

async fn names_are_listed_in_pages_without_values(outside: &dyn Outside) {
    let mut made = Vec::new();
    for n in 0..5 {
        let at = outside.fresh();
        let path = format!("{}/below/{n}", at.path);
        outside.write(&path, &[(FIELD, &text("a"))]).await;
        made.push((at.path, path));
    }
    let (mut names, mut page) = (Vec::new(), None);
    for _ in 0..PAGES {
        let listed = outside.store();
        let until = plenty();
        let listed = listed.list("conformance/", page.as_deref(), &until);
        let listed = listed.await.unwrap();
        assert!(!format!("{listed:?}").contains(CANARY));
        names.extend(listed.entries.into_iter().map(|entry| entry.path));
        page = listed.next;
        if page.is_none() {
            break;
        }
    }
    assert_eq!(page, None, "the last page says so");
    for (_, path) in &made {
        let times = names.iter().filter(|name| *name == path).count();
        assert_eq!(times, 1, "{path} is listed once");
    }
    let one = format!("{}/", made[0].0);
    let one = outside.store().list(&one, None, &plenty()).await.unwrap();
    let one: Vec<_> = one.entries.into_iter().map(|entry| entry.path).collect();
    assert_eq!(one, [made[0].1.clone()]);
    let none = outside.fresh().path;
    let none = outside.store().list(&none, None, &plenty()).await.unwrap();
    assert_eq!((none.entries.len(), none.next), (0, None));
}

async fn after_the_deadline_nothing_is_called(outside: &dyn Outside) {
    let (store, late) = (outside.store(), too_late());
    let (at, first) = written(outside, "a").await;
    let gone = ErrorKind::Unavailable;
    assert_eq!(kind(store.check(&late).await), gone);
    assert_eq!(kind(store.look(&at, &late).await), gone);
    assert_eq!(kind(store.fetch(&at, &first, &late).await), gone);
    let staged = store.stage(&at, token(1), &value("b"), &late).await;
    // A store without a stage has nothing to call.
    assert!(staged.is_ok() || kind(staged) == gone);
    let new = value("b");
    let made = store.promote(&at, token(1), &new, Some(&first), &late);
    assert_eq!(kind(made.await), gone);
    let probed = store.probe_promote(&at, token(1), &new, Some(&first), &late);
    assert_eq!(kind(probed.await), gone);
    assert_eq!(kind(store.probe_stage(&at, token(1), &late).await), gone);
    assert_eq!(kind(store.revoke(&at, &first, &late).await), gone);
    assert_eq!(kind(store.list("conformance/", None, &late).await), gone);
    assert_eq!(current(outside, &at).await, first);
    reads(outside, &at, "a").await;
}
