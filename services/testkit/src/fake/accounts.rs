//! A resource in memory whose accounts have passwords: it counts its calls, and loses one, or its
//! answer, when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use keywheel_core::resource::Resource;
use keywheel_engine::port::accounts::{Accounts, ConnectAccounts, Keep, Keeps, Login, Mark};
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

use super::Cut;

/// How many passwords an account accepts beside each other, where it can more than one.
const MAX_PASSWORDS: usize = 2;
/// A session's number has this many bits in a mark; the server process stands above them.
const SESSION_BITS: u32 = 32;

/// A resource in memory; clones are one resource.
#[derive(Clone)]
pub struct FakeAccounts {
    state: Arc<Mutex<State>>,
    overlaps: bool,
}

#[derive(Default)]
struct State {
    kept: Kept,
    calls: u32,
    cut: Option<(u32, Cut)>,
    failure: Option<PortError>,
}

#[derive(Default)]
struct Kept {
    /// What each account accepts, newest first; a locked one accepts nothing.
    accounts: BTreeMap<String, Vec<Vec<u8>>>,
    /// By number: whose it is.
    sessions: BTreeMap<i64, String>,
    last_session: i64,
    /// Which server process it is: numbers of sessions mean something only to the one that gave them.
    process: i64,
    changes: u32,
    /// Whether every password is let in.
    is_open: bool,
    /// Accounts whose sessions it cannot tell.
    hidden: BTreeSet<String>,
    /// Accounts of which nobody can tell what they accept.
    veiled: BTreeSet<String>,
    /// Accounts that were made and have not the rights of their siblings yet.
    bare: BTreeSet<String>,
    /// Accounts that let nobody in from here, whatever they accept.
    barred: BTreeSet<String>,
    /// Whether the next account that is made is left without its rights.
    halves: bool,
}

impl FakeAccounts {
    /// Each account keeps one password.
    #[must_use]
    pub fn single() -> Self {
        Self::new(false)
    }

    /// Each account keeps the password before beside the new one.
    #[must_use]
    pub fn overlapping() -> Self {
        Self::new(true)
    }

    fn new(overlaps: bool) -> Self {
        Self {
            state: Arc::default(),
            overlaps,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody makes an account that accepts nothing yet.
    pub fn make(&self, name: &str) {
        self.state()
            .kept
            .accounts
            .entry(name.to_owned())
            .or_default();
    }

    /// Somebody gives an account another password than we did.
    pub fn change(&self, name: &str, password: &SecretBytes) {
        let only = vec![bytes(password)];
        self.state().kept.accounts.insert(name.to_owned(), only);
    }

    /// Whether the account accepts it, past all faults.
    #[must_use]
    pub fn accepts(&self, name: &str, password: &SecretBytes) -> bool {
        is_accepted(&self.state().kept, name, password)
    }

    /// Whether the account is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.state().kept.accounts.contains_key(name)
    }

    /// Cuts the next call off that makes an account, between the account and its rights.
    pub fn halve_the_making(&self) {
        self.state().kept.halves = true;
    }

    /// Whether the account is there with all the rights of its sibling.
    #[must_use]
    pub fn has_its_rights(&self, name: &str) -> bool {
        self.has(name) && !self.state().kept.bare.contains(name)
    }

    /// An account lets nobody in from here, whatever it accepts: it asks for a certificate, say.
    pub fn bar(&self, name: &str) {
        self.state().kept.barred.insert(name.to_owned());
    }

    /// It lets in again.
    pub fn unbar(&self, name: &str) {
        self.state().kept.barred.remove(name);
    }

    /// Somebody gives an account one more password than we did.
    pub fn add(&self, name: &str, password: &SecretBytes) {
        let mut state = self.state();
        let accepted = state.kept.accounts.entry(name.to_owned()).or_default();
        accepted.push(bytes(password));
    }

    /// Lets everybody in from now on, whatever the password.
    pub fn open_the_door(&self) {
        self.state().kept.is_open = true;
    }

    /// It cannot tell the sessions of this account any more.
    pub fn hide(&self, name: &str) {
        self.state().kept.hidden.insert(name.to_owned());
    }

    /// Nobody can tell any more what this account accepts, as while it is locked.
    pub fn veil(&self, name: &str) {
        self.state().kept.veiled.insert(name.to_owned());
    }

    /// It can be told again.
    pub fn unveil(&self, name: &str) {
        self.state().kept.veiled.remove(name);
    }

    /// Another server process takes its place: every session has ended, and numbers begin anew.
    pub fn restart(&self) {
        let mut state = self.state();
        state.kept.process += 1;
        state.kept.sessions.clear();
        state.kept.last_session = 0;
    }

    /// Opens a session; its number, or nothing when it is refused.
    #[must_use]
    pub fn session(&self, name: &str, password: &SecretBytes) -> Option<i64> {
        let mut state = self.state();
        let kept = &mut state.kept;
        if !is_accepted(kept, name, password) {
            return None;
        }
        kept.last_session += 1;
        kept.sessions.insert(kept.last_session, name.to_owned());
        Some(kept.last_session)
    }

    /// Whether a session is still open.
    #[must_use]
    pub fn is_open(&self, session: i64) -> bool {
        self.state().kept.sessions.contains_key(&session)
    }

    /// Its client ends a session.
    pub fn close(&self, session: i64) {
        self.state().kept.sessions.remove(&session);
    }

    /// How often what an account accepts was changed by a call.
    #[must_use]
    pub fn changes(&self) -> u32 {
        self.state().kept.changes
    }

    /// How many calls were begun since [`Self::forget_calls`].
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.state().calls
    }

    /// Counts from nothing again.
    pub fn forget_calls(&self) {
        self.state().calls = 0;
    }

    /// After so many more calls one is cut off.
    pub fn cut_off(&self, call: u32, cut: Cut) {
        self.state().cut = Some((call, cut));
    }

    /// The next call fails like this, and does nothing.
    pub fn fail_next(&self, failure: PortError) {
        self.state().failure = Some(failure);
    }

    /// No call is cut off any more.
    pub fn heal(&self) {
        self.state().cut = None;
    }

    fn call<T>(
        &self,
        until: &Until,
        act: impl FnOnce(&mut Kept) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        until.check()?;
        let mut state = self.state();
        state.calls += 1;
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let due = match &mut state.cut {
            Some((0, when)) => Some(*when),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if due.is_some() {
            state.cut = None;
        }
        let gone = || PortError::new(ErrorKind::Unavailable, "the connection is lost");
        if due == Some(Cut::Before) {
            return Err(gone());
        }
        let answer = act(&mut state.kept);
        match due {
            Some(Cut::After) => Err(gone()),
            _ => answer,
        }
    }
}

fn bytes(password: &SecretBytes) -> Vec<u8> {
    // EXPOSE: the fake keeps passwords in the clear.
    password.expose().to_vec()
}

fn is_accepted(kept: &Kept, name: &str, password: &SecretBytes) -> bool {
    let Some(accepted) = kept.accounts.get(name) else {
        return false;
    };
    if kept.barred.contains(name) {
        return false;
    }
    kept.is_open || accepted.contains(&bytes(password))
}

/// Makes an account like its sibling when it is missing; it has no rights yet.
fn account(kept: &mut Kept, login: &Login) -> Result<(), PortError> {
    let is_there = |name: &String| kept.accounts.contains_key(name);
    if is_there(&login.name) {
        return Ok(());
    }
    if !login.sibling.as_ref().is_some_and(is_there) {
        let text = format!("account {login} is not there; make it");
        return Err(PortError::new(ErrorKind::NotFound, text));
    }
    kept.accounts.entry(login.name.clone()).or_default();
    kept.bare.insert(login.name.clone());
    Ok(())
}

/// Has an account that is there accept a password; whether that is a change.
fn give(kept: &mut Kept, login: &Login, new: Vec<u8>, keep: Keep) -> Result<bool, PortError> {
    let accepted = kept.accounts.entry(login.name.clone()).or_default();
    let is_given = match keep {
        Keep::Old => accepted.contains(&new),
        Keep::Nothing => *accepted == [new.clone()],
    };
    if is_given {
        return Ok(false);
    }
    match keep {
        Keep::Old if accepted.len() >= MAX_PASSWORDS => {
            let text = format!(
                "account {login} accepts {MAX_PASSWORDS} passwords already; take one away there"
            );
            return Err(PortError::new(ErrorKind::Conflict, text));
        }
        Keep::Old => {}
        Keep::Nothing => accepted.clear(),
    }
    accepted.insert(0, new);
    Ok(true)
}

#[async_trait]
impl Accounts for FakeAccounts {
    async fn accept(
        &self,
        login: &Login,
        password: &SecretBytes,
        keep: Keep,
        until: &Until,
    ) -> Result<(), PortError> {
        let overlaps = self.overlaps;
        self.call(until, |kept| {
            if keep == Keep::Old && !overlaps {
                let text = format!("account {login} keeps one password; choose another strategy");
                return Err(PortError::new(ErrorKind::Denied, text));
            }
            let new = bytes(password);
            account(kept, login)?;
            let is_halved = kept.bare.contains(&login.name) && std::mem::take(&mut kept.halves);
            kept.changes += u32::from(give(kept, login, new, keep)?);
            if is_halved {
                let text = "the connection is lost while an account is made";
                return Err(PortError::new(ErrorKind::Unavailable, text));
            }
            kept.bare.remove(&login.name);
            Ok(())
        })
    }

    async fn admits(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<bool, PortError> {
        self.call(until, |kept| Ok(is_accepted(kept, &login.name, password)))
    }

    async fn keeps(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<Keeps, PortError> {
        self.call(until, |kept| {
            let is_accepted = is_accepted(kept, &login.name, password);
            Ok(match (kept.veiled.contains(&login.name), is_accepted) {
                (true, _) => Keeps::Unclear,
                (false, true) => Keeps::Yes,
                (false, false) => Keeps::No,
            })
        })
    }

    async fn refuse(
        &self,
        login: &Login,
        password: Option<&SecretBytes>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.call(until, |kept| {
            let Some(accepted) = kept.accounts.get_mut(&login.name) else {
                return Ok(());
            };
            let before = accepted.len();
            match password {
                None => accepted.clear(),
                Some(password) => {
                    let dying = bytes(password);
                    accepted.retain(|kept| *kept != dying);
                }
            }
            let is_changed = accepted.len() != before;
            kept.changes += u32::from(is_changed);
            Ok(())
        })
    }

    async fn end_sessions(&self, login: &Login, until: &Until) -> Result<u64, PortError> {
        self.call(until, |kept| {
            let before = kept.sessions.len();
            kept.sessions.retain(|_, of| *of != login.name);
            let ended = before - kept.sessions.len();
            Ok(u64::try_from(ended).unwrap_or(u64::MAX))
        })
    }

    async fn mark(&self, until: &Until) -> Result<Mark, PortError> {
        self.call(until, |kept| {
            Ok(Mark((kept.process << SESSION_BITS) | kept.last_session))
        })
    }

    async fn older(
        &self,
        login: &Login,
        mark: &Mark,
        until: &Until,
    ) -> Result<Option<u64>, PortError> {
        self.call(until, |kept| {
            let is_same = mark.0 >> SESSION_BITS == kept.process;
            if !is_same || kept.hidden.contains(&login.name) {
                return Ok(None);
            }
            let last = mark.0 & ((1 << SESSION_BITS) - 1);
            let older = kept.sessions.iter();
            let older = older.filter(|(number, of)| **number <= last && **of == login.name);
            Ok(Some(u64::try_from(older.count()).unwrap_or(u64::MAX)))
        })
    }

    fn grants(&self) -> String {
        "nothing is asked for".to_owned()
    }
}

/// Every resource is this one.
impl ConnectAccounts for FakeAccounts {
    fn connect(
        &self,
        _: &Resource,
        _: Arc<dyn Credentials>,
    ) -> Result<Arc<dyn Accounts>, PortError> {
        Ok(Arc::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::conformance::accounts::{self, Session};
    use crate::conformance::store::{plenty, value};

    struct Fake {
        accounts: FakeAccounts,
        made: AtomicU32,
    }

    struct Open {
        accounts: FakeAccounts,
        number: i64,
    }

    #[async_trait]
    impl Session for Open {
        async fn works(&mut self) -> bool {
            self.accounts.is_open(self.number)
        }
    }

    impl Drop for Open {
        fn drop(&mut self) {
            self.accounts.close(self.number);
        }
    }

    #[async_trait]
    impl accounts::Resource for Fake {
        fn accounts(&self) -> Arc<dyn Accounts> {
            Arc::new(self.accounts.clone())
        }

        async fn fresh(&self) -> Login {
            let name = format!("app_{}", self.made.fetch_add(1, Ordering::Relaxed));
            self.accounts.make(&name);
            Login::of(name)
        }

        fn overlaps(&self) -> bool {
            self.accounts.overlaps
        }

        fn makes_missing(&self) -> bool {
            true
        }

        async fn session(&self, login: &Login, password: &SecretBytes) -> Box<dyn Session> {
            let number = self.accounts.session(&login.name, password);
            Box::new(Open {
                accounts: self.accounts.clone(),
                number: number.expect("it is let in"),
            })
        }
    }

    #[tokio::test]
    async fn it_keeps_the_laws_of_the_port() {
        for accounts in [FakeAccounts::single(), FakeAccounts::overlapping()] {
            let fake = Fake {
                accounts,
                made: AtomicU32::new(0),
            };
            accounts::check(&fake).await;
        }
    }

    #[tokio::test]
    async fn an_account_that_is_half_made_gets_its_rights_with_the_next_call() {
        let fake = FakeAccounts::single();
        fake.make("app");
        fake.halve_the_making();
        let (second, one) = (Login::of("app_b").like("app"), value("one"));
        for is_done in [false, true, true] {
            let made = fake.accept(&second, &one, Keep::Nothing, &plenty()).await;
            assert_eq!(made.is_ok(), is_done);
            assert!(fake.accepts("app_b", &one));
            assert_eq!(fake.has_its_rights("app_b"), is_done);
        }
        assert_eq!(fake.changes(), 1);
    }

    #[tokio::test]
    async fn one_call_is_lost_before_or_after_it_was_done() {
        for (cut, is_done) in [(Cut::Before, false), (Cut::After, true)] {
            let fake = FakeAccounts::single();
            fake.make("app");
            fake.cut_off(0, cut);
            let (login, new) = (Login::of("app"), value("new"));
            let lost = fake.accept(&login, &new, Keep::Nothing, &plenty()).await;
            assert_eq!(lost.unwrap_err().kind, ErrorKind::Unavailable);
            assert_eq!(fake.accepts("app", &new), is_done);
            assert_eq!((fake.calls(), fake.changes()), (1, u32::from(is_done)));
        }
    }
}
