//! Named places at which a test can kill, delay or fail the program.
//!
//! Invariant: while nothing is armed a failpoint costs one relaxed load. Arming happens once, at
//! start, from the environment; with a path beside it nothing is counted until that file is there,
//! so that a test numbers the hits of what it does itself, and not those of the start. Every name is
//! in [`FAILPOINTS`], so a crash test can walk them all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::{env, names};

/// The variable that arms failpoints: `name=kill[@n];other=delay:200[@n];third=error[@n];when=/path`.
pub const VARIABLE: &str = "KEYWHEEL_FAILPOINTS";
/// The entry that names the file without which nothing is counted.
const WHEN: &str = "when";
/// Longest delay, in milliseconds.
pub const MAX_DELAY_MILLIS: u64 = 60_000;

/// Every failpoint there is.
pub const FAILPOINTS: &[&str] = &[
    "gateway.before_commit",
    "gateway.after_commit",
    "gateway.after_publish",
    "gateway.before_move",
    "gateway.after_move",
    "gateway.before_deed",
    "gateway.after_deed",
    "storesync.before_step",
    "storesync.after_step",
    "storesync.before_insert",
    "storesync.after_insert",
    "storesync.before_destroy",
    "storesync.after_destroy",
    "storesync.before_rekey",
    "storesync.after_rekey",
    "injector.before_swap",
    "injector.after_temp_write",
    "injector.after_swap",
    "injector.before_withdraw",
    "injector.after_withdraw",
    "injector.before_spool",
    "injector.before_report",
    "injector.after_report",
    "injector.after_unspool",
    "injector.before_forget",
    "injector.after_forget",
    "injector.before_restart",
    "injector.after_restart",
    "injector.before_stop",
    "injector.after_stop",
    "injector.after_resolve",
    "injector.before_attach",
    "injector.after_state_write",
    "injector.after_attach",
    "injector.after_attach_answer",
    "rotator.postgres.before_login",
    "rotator.postgres.after_login",
    "rotator.postgres.after_turn",
    "rotator.postgres.before_make",
    "rotator.postgres.after_make",
    "rotator.postgres.before_set",
    "rotator.postgres.after_set",
    "rotator.postgres.after_accept",
    "rotator.postgres.before_refuse",
    "rotator.postgres.after_lock",
    "rotator.postgres.after_refuse",
    "rotator.postgres.before_end",
    "rotator.postgres.after_end",
    "rotator.mariadb.before_login",
    "rotator.mariadb.after_login",
    "rotator.mariadb.after_turn",
    "rotator.mariadb.before_make",
    "rotator.mariadb.after_make",
    "rotator.mariadb.before_set",
    "rotator.mariadb.after_set",
    "rotator.mariadb.before_grant",
    "rotator.mariadb.after_grant",
    "rotator.mariadb.before_default_role",
    "rotator.mariadb.after_default_role",
    "rotator.mariadb.before_refuse",
    "rotator.mariadb.after_refuse",
    "rotator.mariadb.before_end",
    "rotator.mariadb.after_end",
    "rotator.redis.before_login",
    "rotator.redis.after_login",
    "rotator.redis.before_set",
    "rotator.redis.after_set_queued",
    "rotator.redis.after_set",
    "rotator.redis.before_refuse",
    "rotator.redis.after_refuse_queued",
    "rotator.redis.after_refuse",
    "rotator.redis.before_end",
    "rotator.redis.after_end",
    "rotator.webhook.before_create",
    "rotator.webhook.after_create",
    "rotator.webhook.before_set",
    "rotator.webhook.after_set",
    "rotator.webhook.before_question",
    "rotator.webhook.after_question",
    "rotator.webhook.before_finish",
    "rotator.webhook.after_finish",
    "rotator.webhook.before_revoke",
    "rotator.webhook.after_revoke",
    "store.aws.before_create",
    "store.aws.after_create",
    "store.aws.before_put",
    "store.aws.after_put",
    "store.aws.before_current",
    "store.aws.after_current",
    "store.aws.before_unlabel",
    "store.aws.after_unlabel",
    "store.kv.before_write",
    "store.kv.after_write",
    "store.kv.after_note",
    "store.kv.before_end",
    "store.kv.after_end",
    "store.role.before_rotate",
    "store.role.after_rotate",
    "store.role.after_make",
    "store.lease.before_token",
    "store.lease.after_token",
    "store.lease.after_mint",
    "store.lease.after_record",
    "store.lease.before_extend",
    "store.lease.after_token_extend",
    "store.lease.after_extend",
    "store.lease.before_end",
    "store.lease.after_lease_end",
    "store.lease.after_end",
];

static ARMED: AtomicBool = AtomicBool::new(false);
static POINTS: OnceLock<Points> = OnceLock::new();

/// What a failpoint was asked to fail with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failpoint {0} was armed to fail")]
pub struct Injected(pub &'static str);

/// Why failpoints could not be armed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    /// The variable is no text.
    #[error(transparent)]
    NotUtf8(#[from] env::NotUtf8),
    /// No failpoint has the name.
    #[error("{VARIABLE} names `{name}`, which is no failpoint; there are: {}", FAILPOINTS.join(", "))]
    UnknownName {
        /// As given.
        name: String,
    },
    /// An entry is not understood.
    #[error(
        "{VARIABLE} has the entry `{entry}`, which is not understood; write `name=kill`, `name=delay:MILLISECONDS` (at most {MAX_DELAY_MILLIS}) or `name=error`, each with `@N` for the N-th time only, and `when=/ABSOLUTE/PATH` to begin only once that file is there"
    )]
    Malformed {
        /// As given.
        entry: String,
    },
    /// It was armed before.
    #[error("failpoints are armed already")]
    AlreadyArmed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Delay(Duration),
    Error,
}

#[derive(Debug)]
struct Point {
    name: &'static str,
    action: Action,
    fires_at: u64,
    hits: AtomicU64,
}

#[derive(Debug, Default)]
struct Points {
    by_name: BTreeMap<&'static str, Point>,
    /// Nothing is counted before this file is there.
    when: Option<PathBuf>,
}

/// Every failpoint's name.
#[must_use]
pub const fn registry() -> &'static [&'static str] {
    FAILPOINTS
}

/// Arms what the environment names; an absent variable arms nothing.
///
/// # Errors
/// When a name is unknown or an entry is not understood.
pub fn arm_from_env() -> Result<(), ArmError> {
    match env::read(VARIABLE)? {
        Some(text) => arm(&text),
        None => Ok(()),
    }
}

/// Arms failpoints from a text in the form of [`VARIABLE`]; once per program.
///
/// # Errors
/// When a name is unknown, an entry is not understood, or something is armed already.
pub fn arm(text: &str) -> Result<(), ArmError> {
    let points = parse(text)?;
    for point in points.by_name.values() {
        tracing::warn!({ names::FAILPOINT } = point.name, "failpoint armed");
    }
    POINTS.set(points).map_err(|_| ArmError::AlreadyArmed)?;
    ARMED.store(true, Ordering::Release);
    Ok(())
}

/// Passes a failpoint in code that may block its thread.
///
/// # Errors
/// When it is armed to fail here.
pub fn hit(name: &'static str) -> Result<(), Injected> {
    match fire(name) {
        None => Ok(()),
        Some(Action::Delay(delay)) => {
            std::thread::sleep(delay);
            Ok(())
        }
        Some(Action::Kill) => kill_self(),
        Some(Action::Error) => Err(Injected(name)),
    }
}

/// Passes a failpoint in asynchronous code.
///
/// # Errors
/// When it is armed to fail here.
pub async fn hit_async(name: &'static str) -> Result<(), Injected> {
    match fire(name) {
        None => Ok(()),
        Some(Action::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            Ok(())
        }
        Some(Action::Kill) => kill_self(),
        Some(Action::Error) => Err(Injected(name)),
    }
}

#[inline]
fn fire(name: &'static str) -> Option<Action> {
    if !ARMED.load(Ordering::Relaxed) {
        return None;
    }
    fire_in(POINTS.get()?, name)
}

fn fire_in(points: &Points, name: &'static str) -> Option<Action> {
    let point = points.by_name.get(name)?;
    if points.when.as_ref().is_some_and(|path| !path.exists()) {
        return None;
    }
    let hit = point.hits.fetch_add(1, Ordering::Relaxed) + 1;
    if hit != point.fires_at {
        return None;
    }
    tracing::warn!({ names::FAILPOINT } = name, "failpoint fired");
    Some(point.action)
}

/// Ends the program as `kill -9` would: no destructor runs, nothing is flushed.
fn kill_self() -> ! {
    let own = rustix::process::getpid();
    loop {
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}

fn parse(text: &str) -> Result<Points, ArmError> {
    let mut points = Points::default();
    for entry in text
        .split(';')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        if let Some(path) = entry
            .strip_prefix(WHEN)
            .and_then(|rest| rest.strip_prefix('='))
        {
            points.when = Some(parse_when(entry, path)?);
            continue;
        }
        let point = parse_entry(entry)?;
        points.by_name.insert(point.name, point);
    }
    Ok(points)
}

fn malformed(entry: &str) -> ArmError {
    ArmError::Malformed {
        entry: entry.chars().take(80).collect(),
    }
}

fn parse_when(entry: &str, path: &str) -> Result<PathBuf, ArmError> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(malformed(entry))
    }
}

fn parse_entry(entry: &str) -> Result<Point, ArmError> {
    let malformed = || malformed(entry);
    let (name, rest) = entry.split_once('=').ok_or_else(malformed)?;
    let known = FAILPOINTS.iter().find(|known| **known == name.trim());
    let name = *known.ok_or_else(|| ArmError::UnknownName {
        name: name.chars().take(80).collect(),
    })?;
    let (action, fires_at) = match rest.split_once('@') {
        Some((action, count)) => (action, count.trim().parse().map_err(|_| malformed())?),
        None => (rest, 1),
    };
    if fires_at == 0 {
        return Err(malformed());
    }
    let action = match action.trim().split_once(':') {
        None if action.trim() == "kill" => Action::Kill,
        None if action.trim() == "error" => Action::Error,
        Some(("delay", millis)) => {
            let millis: u64 = millis.parse().map_err(|_| malformed())?;
            if millis > MAX_DELAY_MILLIS {
                return Err(malformed());
            }
            Action::Delay(Duration::from_millis(millis))
        }
        _ => return Err(malformed()),
    };
    Ok(Point {
        name,
        action,
        fires_at,
        hits: AtomicU64::new(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_fires_at_its_count_and_only_then() {
        let points = parse("gateway.after_commit=error@2; injector.after_swap=delay:5").unwrap();
        assert_eq!(fire_in(&points, "gateway.after_commit"), None);
        assert_eq!(
            fire_in(&points, "gateway.after_commit"),
            Some(Action::Error)
        );
        assert_eq!(fire_in(&points, "gateway.after_commit"), None);
        let delay = Action::Delay(Duration::from_millis(5));
        assert_eq!(fire_in(&points, "injector.after_swap"), Some(delay));
        assert_eq!(fire_in(&points, "gateway.before_commit"), None);
    }

    #[test]
    fn nothing_is_counted_before_the_file_is_there() {
        let folder = std::env::temp_dir().join(format!("keywheel-when-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("now");
        let text = format!("gateway.after_commit=error@2;when={}", file.display());
        let points = parse(&text).unwrap();
        for _ in 0..5 {
            assert_eq!(fire_in(&points, "gateway.after_commit"), None);
        }
        std::fs::write(&file, "").unwrap();
        assert_eq!(fire_in(&points, "gateway.after_commit"), None);
        let second = fire_in(&points, "gateway.after_commit");
        assert_eq!(second, Some(Action::Error));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_unknown_name_is_refused_with_all_that_are_known() {
        let text = parse("gateway.nowhere=kill")
            .map_err(|e| e.to_string())
            .unwrap_err();
        assert!(registry().iter().all(|name| text.contains(name)), "{text}");
    }

    #[test]
    fn entries_off_the_form_are_refused() {
        for entry in [
            "gateway.after_commit",
            "=kill",
            "gateway.after_commit=die",
            "gateway.after_commit=kill@0",
            "gateway.after_commit=kill@x",
            "gateway.after_commit=delay:",
            "gateway.after_commit=delay:60001",
            "when=",
            "when=relative/path",
        ] {
            assert!(parse(entry).is_err(), "{entry}");
        }
        assert!(parse("gateway.after_commit=delay:60000").is_ok());
        assert!(parse(" ; ").is_ok_and(|points| points.by_name.is_empty()));
    }

    #[tokio::test]
    async fn nothing_armed_passes_and_an_armed_error_is_given_once() {
        assert_eq!(hit("gateway.before_commit"), Ok(()));
        arm("gateway.before_commit=error;storesync.after_step=error").unwrap();
        assert_eq!(
            hit("gateway.before_commit"),
            Err(Injected("gateway.before_commit"))
        );
        assert_eq!(hit("gateway.before_commit"), Ok(()));
        let injected = hit_async("storesync.after_step").await;
        assert_eq!(injected, Err(Injected("storesync.after_step")));
        assert_eq!(arm(""), Err(ArmError::AlreadyArmed));
    }

    #[test]
    fn names_are_unique() {
        let mut names = FAILPOINTS.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAILPOINTS.len());
    }
}
