//! What a person does with the gateway's authorities at its machine, with intent and outcome in the gateway's ledger,
//! from where a gateway puts both on record.
//!
//! Invariants: nothing is changed before the intent is on the disk, and nothing is said before the outcome is; what
//! cannot be noted is not done. A command line that is wrong is no deed, so it is judged before.

use keywheel_daemon::{SystemClock, chain};
use keywheel_engine::port::clock::Clock as _;
use keywheel_identity::ledger::{Asked, Came, Ledger, LedgerError, Verb};
use keywheel_seal::OsEntropy;

use crate::args::HomeArgs;
use crate::exit::{Exit, Failure};

/// What is about to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    /// What, as the audit calls it.
    pub(crate) verb: Verb,
    /// On what, as the audit calls it.
    pub(crate) object: &'a str,
    /// What is said besides; may be empty.
    pub(crate) words: &'a str,
}

/// Does it; `said` is what the audit says of it when it is done.
pub(crate) fn noted<T>(
    home: &HomeArgs,
    about: About<'_>,
    work: impl FnOnce() -> Result<T, Failure>,
    said: impl FnOnce(&T) -> String,
) -> Result<T, Failure> {
    let clock = SystemClock::new();
    let asked = Asked {
        uid: rustix::process::getuid().as_raw(),
        verb: about.verb,
        object: about.object,
        words: about.words,
    };
    let ledger = Ledger::new(&home.gateway_dir);
    let begun = ledger.begin(&asked, clock.now(), &OsEntropy);
    let begun = begun.map_err(|error| refused(&error))?;
    let done = work();
    let came = match &done {
        Ok(made) => Came::Done(said(made)),
        Err(failure) => Came::Failed(failure.what.clone()),
    };
    match begun.end(came, clock.now()) {
        Ok(()) => done,
        Err(error) => Err(unnoted(done.err(), &error)),
    }
}

/// Nothing was done.
fn refused(error: &LedgerError) -> Failure {
    let (exit, next) = match error {
        LedgerError::Full(_) => (
            Exit::Unavailable,
            "start the gateway of this directory: it takes up what is there; then repeat the command",
        ),
        LedgerError::Held(_) => (
            Exit::Conflict,
            "let the other `keywheel` in this directory come to its end, or end it, and repeat the command",
        ),
        LedgerError::Strange { .. } => (
            Exit::Conflict,
            "look who put it there; give it to the directory's owner with mode 0600, or move it away, and repeat the command",
        ),
        LedgerError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            (
                Exit::CannotCreate,
                "run it as root (sudo), or as the owner of the gateway's directory",
            )
        }
        LedgerError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => (
            Exit::Unavailable,
            "free space on that disk, and repeat the command",
        ),
        LedgerError::Io { .. } => (
            Exit::Config,
            "name the gateway's directory of credentials with --gateway-dir, and run this as root or as its owner",
        ),
    };
    let what = format!("{}; nothing was changed", chain(error));
    Failure::new(exit, what, next)
}

/// What came of it is said, and that the audit will not know.
fn unnoted(failed: Option<Failure>, error: &LedgerError) -> Failure {
    let why = chain(error);
    match failed {
        Some(failure) => Failure {
            what: format!(
                "{}; and that it failed cannot be noted: {why}",
                failure.what
            ),
            ..failure
        },
        None => Failure::new(
            Exit::CannotCreate,
            format!("it was done, and that cannot be noted: {why}"),
            "correct what is named, and do not repeat the command; the audit will say that it is not known whether it was done",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use keywheel_identity::init::AUTHORITY_FILE;
    use keywheel_identity::ledger::{LEDGER_FILE, Noted, Stage};

    use super::*;

    const ABOUT: About<'static> = About {
        verb: Verb::FinishCaRollover,
        object: "ca",
        words: "x",
    };

    fn home(directory: &Path) -> HomeArgs {
        fs::write(directory.join(AUTHORITY_FILE), "{}").unwrap();
        HomeArgs {
            gateway_dir: directory.to_owned(),
            unseal_key_file: directory.join("none"),
        }
    }

    fn lines(home: &HomeArgs) -> Noted {
        Ledger::new(&home.gateway_dir).read().unwrap().unwrap()
    }

    #[test]
    fn what_is_done_and_what_fails_is_noted_before_and_after() {
        let scratch = tempfile::tempdir().unwrap();
        let home = home(scratch.path());
        let look = || {
            let noted = lines(&home);
            assert!(noted.is_held, "the lock is held while it is done");
            Ok(noted.lines.len())
        };
        let seen = noted(&home, ABOUT, look, |_| "it went well".to_owned());
        assert_eq!(seen.unwrap(), 1);
        let fault = Failure::new(Exit::Conflict, "it is too early", "wait");
        let fails = || Err::<(), Failure>(fault.clone());
        let failed = noted(&home, ABOUT, fails, |()| String::new());
        assert_eq!(failed.unwrap_err(), fault);
        let noted = lines(&home);
        let own = rustix::process::getuid().as_raw();
        assert!(noted.lines.iter().all(|line| line.uid == own));
        let all: Vec<(Stage, &str)> = noted
            .lines
            .iter()
            .map(|line| (line.stage, line.words.as_str()))
            .collect();
        let expected = [
            (Stage::Asked, "x"),
            (Stage::Done, "it went well"),
            (Stage::Asked, "x"),
            (Stage::Failed, "it is too early"),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn what_cannot_be_noted_is_not_done() {
        let scratch = tempfile::tempdir().unwrap();
        let home = home(scratch.path());
        let mut is_done = false;
        let ledger = scratch.path().join(LEDGER_FILE);
        symlink(scratch.path().join("elsewhere"), &ledger).unwrap();
        let work = || {
            is_done = true;
            Ok(())
        };
        let refused = noted(&home, ABOUT, work, |()| String::new()).unwrap_err();
        assert!(!is_done);
        assert_eq!(refused.exit, Exit::Conflict);
        for part in [LEDGER_FILE, "is a link", "nothing was changed"] {
            assert!(refused.what.contains(part), "{part}: {}", refused.what);
        }
        assert!(refused.next.is_some_and(|next| next.contains("move it")));
    }

    #[test]
    fn a_full_ledger_says_who_empties_it() {
        let full = LedgerError::Full("/g/deeds.jsonl".into());
        let failure = refused(&full);
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.what.contains("/g/deeds.jsonl is full"));
        assert!(failure.next.unwrap().contains("start the gateway"));
    }

    #[test]
    fn who_may_not_is_told_to_be_root_and_who_waits_in_vain_who_is_waited_for() {
        let held = refused(&LedgerError::Held("/g/deeds.jsonl".into()));
        assert_eq!(held.exit, Exit::Conflict);
        assert!(held.next.unwrap().contains("the other `keywheel`"));
        let of = |kind: std::io::ErrorKind| {
            refused(&LedgerError::Io {
                path: "/g/authority.json".into(),
                action: "look at",
                source: kind.into(),
            })
        };
        let denied = of(std::io::ErrorKind::PermissionDenied);
        assert_eq!(denied.exit, Exit::CannotCreate);
        assert!(denied.next.unwrap().contains("sudo"));
        assert_eq!(of(std::io::ErrorKind::NotFound).exit, Exit::Config);
    }

    #[test]
    fn what_was_done_and_cannot_be_noted_is_said_to_be_done() {
        let full = LedgerError::Full("/g/deeds.jsonl".into());
        let done = unnoted(None, &full);
        assert!(done.what.starts_with("it was done"), "{}", done.what);
        let failed = Failure::new(Exit::NoInput, "no such directory", "name one");
        let said = unnoted(Some(failed), &full);
        assert_eq!(said.exit, Exit::NoInput);
        assert!(
            said.what.starts_with("no such directory; "),
            "{}",
            said.what
        );
    }
}
