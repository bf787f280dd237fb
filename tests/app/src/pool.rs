//! A pool of connections to one database, as an application has one.
//!
//! A place of the pool moves to a new login by opening a connection with it first, and says goodbye to the
//! old one then: a query never waits for a login that is not let in. A connection is replaced after some use
//! anyway, so that logins happen at any time and not only when a secret changes. A query whose connection the server
//! ends is asked once more on a new one, as pools do, and counted as cut.
//! Invariant: every query is counted once, as done or as failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::login::{Login, Logins, Source};
use crate::place::Place;
use crate::session::{Failure, Session};

/// Queries on one connection before it is replaced.
const MAX_USES: u32 = 50;

/// A pool.
pub(crate) struct Pool {
    place: Place,
    logins: Logins,
    slots: Vec<Mutex<Slot>>,
    /// Which generation of the login each place is signed in with; 0 for none.
    generations: Vec<AtomicU64>,
    /// The place that serves the next request.
    next: AtomicUsize,
    is_well: AtomicBool,
    counts: Mutex<Counts>,
}

/// A place of the pool.
#[derive(Default)]
struct Slot {
    session: Option<Session>,
    generation: u64,
    user: String,
    uses: u32,
}

/// What happened so far.
#[derive(Default)]
struct Counts {
    done: u64,
    failed: u64,
    /// Logins that were let in; those that were refused at first; and those that failed with the newest
    /// secret, too.
    opened: u64,
    refused: u64,
    locked_out: u64,
    /// Queries that were asked once more, since the server ended their connection.
    cut: u64,
    /// Queries that are done, by generation of the login and user.
    by_login: BTreeMap<(u64, String), u64>,
    /// Why the first query failed.
    first_failure: Option<String>,
}

impl Pool {
    /// A pool with so many places; opens nothing yet.
    pub(crate) fn make(place: Place, source: Source, size: usize) -> Result<Self, String> {
        if size == 0 {
            return Err("a pool without a place serves nobody".to_owned());
        }
        Ok(Self {
            place,
            logins: Logins::read(source)?,
            slots: (0..size).map(|_| Mutex::default()).collect(),
            generations: (0..size).map(|_| AtomicU64::new(0)).collect(),
            next: AtomicUsize::new(0),
            is_well: AtomicBool::new(false),
            counts: Mutex::default(),
        })
    }

    /// The secret may have changed.
    pub(crate) fn reload(&self) {
        let _newest = self.logins.reread();
    }

    /// Whether its last query was done.
    pub(crate) fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }

    /// Whether the password begins with this.
    pub(crate) fn has_password_like(&self, beginning: &str) -> bool {
        self.logins.newest().password.starts_with(beginning)
    }

    /// A query on whichever place has the turn.
    pub(crate) fn query_next(&self) -> Result<String, Failure> {
        self.query(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A query on one place.
    pub(crate) fn query(&self, at: usize) -> Result<String, Failure> {
        let at = at % self.slots.len();
        let (Some(slot), Some(generation)) = (self.slots.get(at), self.generations.get(at)) else {
            return Err(Failure::broken("no such place"));
        };
        let mut slot = lock(slot);
        let done = self.query_on(&mut slot);
        if done.is_err() {
            slot.session = None;
        }
        generation.store(slot.generation, Ordering::Relaxed);
        self.is_well.store(done.is_ok(), Ordering::Relaxed);
        let mut counts = lock(&self.counts);
        match &done {
            Ok(_) => {
                counts.done += 1;
                let login = (slot.generation, slot.user.clone());
                *counts.by_login.entry(login).or_default() += 1;
            }
            Err(failure) => {
                counts.failed += 1;
                let why = || failure.to_string();
                counts.first_failure.get_or_insert_with(why);
            }
        }
        drop(counts);
        done
    }

    fn query_on(&self, slot: &mut Slot) -> Result<String, Failure> {
        let done = self.query_once(slot);
        if done != Err(Failure::Ended) || slot.session.is_none() {
            return done;
        }
        lock(&self.counts).cut += 1;
        slot.session = None;
        self.query_once(slot)
    }

    fn query_once(&self, slot: &mut Slot) -> Result<String, Failure> {
        self.renew(slot)?;
        slot.uses += 1;
        match &mut slot.session {
            Some(session) => session.run(self.place.kind.work()),
            None => Err(Failure::broken("no connection")),
        }
    }

    /// Opens a new connection where one is due. While that does not succeed, the old one goes on.
    fn renew(&self, slot: &mut Slot) -> Result<(), Failure> {
        let newest = self.logins.newest();
        let is_newest = slot.generation == newest.generation;
        if slot.session.is_some() && is_newest && slot.uses < MAX_USES {
            return Ok(());
        }
        match self.open_newest() {
            Ok((login, session)) => {
                if let Some(old) = slot.session.replace(session) {
                    old.close();
                }
                slot.generation = login.generation;
                slot.user.clone_from(&login.user);
                slot.uses = 0;
                Ok(())
            }
            Err(_) if slot.session.is_some() => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Signs in; who is refused reads its secret once more.
    fn open_newest(&self) -> Result<(Arc<Login>, Session), Failure> {
        let mut login = self.logins.newest();
        let mut opened = Session::open(&self.place, &login);
        if opened
            .as_ref()
            .is_err_and(|failure| *failure == Failure::Refused)
        {
            lock(&self.counts).refused += 1;
            login = self.logins.reread();
            opened = Session::open(&self.place, &login);
        }
        let mut counts = lock(&self.counts);
        match &opened {
            Ok(_) => counts.opened += 1,
            Err(_) => counts.locked_out += 1,
        }
        drop(counts);
        Ok((login, opened?))
    }

    /// What happened so far, as JSON.
    pub(crate) fn stats(&self) -> String {
        let places = self.generations.iter();
        let oldest = places.map(|generation| generation.load(Ordering::Relaxed));
        let oldest = oldest.min().unwrap_or(0);
        let counts = lock(&self.counts);
        let mut by_login = String::new();
        for ((generation, user), queries) in &counts.by_login {
            let comma = if by_login.is_empty() { "" } else { "," };
            let _written = write!(
                by_login,
                "{comma}{{\"generation\":{generation},\"user\":{user:?},\"queries\":{queries}}}"
            );
        }
        format!(
            "{{\"kind\":\"{}\",\"queries\":{},\"failed\":{},\"opened\":{},\"refused\":{},\"locked_out\":{},\
             \"cut\":{},\"oldest\":{oldest},\
             \"first_failure\":{:?},\"by_login\":[{by_login}]}}",
            self.place.kind.word(),
            counts.done,
            counts.failed,
            counts.opened,
            counts.refused,
            counts.locked_out,
            counts.cut,
            counts.first_failure.as_deref().unwrap_or_default(),
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
