//! Who asks: how they came in, as whom policies know them, and what policies said of it.
//!
//! Invariants: whoever came with a token is a program, whoever came by a login is in the provider's groups, and there
//! is one place that says so, for gates, rows and streams alike. It decides nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use keywheel_core::audit::Principal;
use keywheel_engine::auditing::as_own_words;

use super::bearer::{Came, Held, LoggedIn};
use crate::admission::{Demand, logged_in, person, program};

/// Who asks, how they came in, and whether policies were asked about it.
#[derive(Debug)]
pub(super) struct Standing {
    /// How they came in: the kernel's or the certificate's word.
    rule: &'static str,
    /// The policies that let them do what was asked for last.
    by: Mutex<Option<String>>,
    /// What the audit calls it.
    verb: String,
    /// Whether policies were asked.
    is_judged: AtomicBool,
    /// What they were permitted last.
    needs: Mutex<Vec<Demand>>,
    /// The token they came with.
    held: Option<Held>,
    /// The login they came by.
    login: Option<LoggedIn>,
}

impl Standing {
    pub(super) const fn new(rule: &'static str, verb: String) -> Self {
        Self {
            rule,
            by: Mutex::new(None),
            verb,
            is_judged: AtomicBool::new(false),
            needs: Mutex::new(Vec::new()),
            held: None,
            login: None,
        }
    }

    /// Of somebody who came in.
    pub(super) fn of(came: &Came, verb: String) -> Self {
        Self {
            held: came.held.clone(),
            login: came.login.clone(),
            ..Self::new(came.rule, verb)
        }
    }

    /// Of somebody who showed nothing, and may do no more than log in.
    pub(super) const fn is_visitor(&self) -> bool {
        self.rule.is_empty()
    }

    /// By which rule they came in, or their token's owner would.
    pub(super) const fn rule(&self) -> &'static str {
        self.rule
    }

    /// The token they came with.
    pub(super) const fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// The login they came by.
    pub(super) const fn login(&self) -> Option<&LoggedIn> {
        self.login.as_ref()
    }

    /// Who they are for policies.
    pub(super) fn person(&self, principal: &Principal) -> keywheel_policy::Principal {
        match (&self.held, &self.login) {
            (Some(held), _) => program(&held.owner, self.rule),
            (None, Some(login)) => logged_in(principal, self.rule, &login.groups),
            (None, None) => person(principal, self.rule),
        }
    }

    pub(super) fn note_judged(&self) {
        self.is_judged.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_judged(&self) -> bool {
        self.is_judged.load(Ordering::Relaxed)
    }

    /// By which policies they were let do what was asked for last.
    pub(super) fn note_policies(&self, by: Option<String>) {
        *self.by.lock().unwrap_or_else(PoisonError::into_inner) = by;
    }

    /// By which policies they were let do what was asked for last.
    pub(super) fn by(&self) -> Option<String> {
        let by = self.by.lock();
        by.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What they were permitted last.
    pub(super) fn note_needs(&self, needs: &[Demand]) {
        *self.needs.lock().unwrap_or_else(PoisonError::into_inner) = needs.to_vec();
    }

    /// What they were permitted last.
    pub(super) fn needs(&self) -> Vec<Demand> {
        let needs = self.needs.lock();
        needs.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the audit calls what they ask.
    pub(super) fn verb(&self) -> &str {
        &self.verb
    }

    /// Somebody's own words for a record, with the policies that let them do it; without a set of one's own, the words
    /// alone, which then do not pass for one.
    pub(super) fn words(&self, own: &str) -> String {
        match self.by() {
            None => as_own_words(own),
            Some(by) if own.is_empty() => by,
            Some(by) => format!("{own} ({by})"),
        }
    }
}
