//! A data directory whose log was put back to an earlier time: by `keywheel restore`, or by somebody who copied files.
//!
//! `restore` leaves a note beside the log. Before any service runs that is put on record, and the audit's second copy
//! is compared with the log. Where the log is older than what is known of it, nothing is served until two people said
//! that it may be (`held`); then the copy and what the host kept are put aside, and what the copy says died is made
//! to die here (`reapply`). Invariants: of an older log nothing is given out, and no step is done, before two different
//! principals are on its record; a crash at any point leads on from the same note.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use keywheel_audit_sink::KeptRecords;
use keywheel_core::audit::{Category, Outcome, Principal, Record};
use keywheel_core::id::CommandId;
use keywheel_daemon::Shutdown;
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::ids::Ids as _;
use keywheel_engine::port::journal::{Class, Decision, Journal as _, Verdict};
use keywheel_schemas::mirror::TextForm as _;
use serde::{Deserialize, Serialize};

use super::error::{Error, Kind};
use super::{Opened, held};
use crate::backup::older::{Log, Standing};

/// Name of the note in the data directory.
pub(crate) const NOTE: &str = "restored.json";
/// Directory into which a restore unpacks, in the data directory.
pub(crate) const UNPACKING: &str = "restoring";
/// How many different principals have to accept an older log.
pub(crate) const ACCEPTANCES: usize = 2;
/// The audit's second copy, and what SQLite keeps beside it.
pub(crate) const SINK: &str = "audit-sink.db";
pub(crate) const BESIDE: [&str; 3] = ["", "-wal", "-shm"];
/// What this machine's injector kept for the time without a gateway.
const HOST_CACHE: &str = "host-cache";
/// The form of the note.
const FORM: u8 = 1;

/// What is known of a log that was put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    /// The form.
    pub(crate) v: u8,
    /// Who restored it; nobody did where files were copied.
    pub(crate) by: Option<Person>,
    /// Why, in that one's words.
    pub(crate) reason: String,
    /// What was restored, and with what it was compared.
    pub(crate) what: String,
    /// Audit records that the log had then.
    pub(crate) records: u64,
    /// Whether more than these are known to have been.
    pub(crate) is_older: bool,
    /// Whether that it was put back is on its own record.
    pub(crate) is_recorded: bool,
    /// Who accepted an older log.
    pub(crate) accepted: Vec<Accepted>,
    /// Where the audit's second copy was put aside.
    pub(crate) aside: Option<String>,
    /// Where it is being put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) going_aside: Option<String>,
}

/// A user of this machine, by the kernel's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Person {
    /// User id.
    pub(crate) uid: u32,
    /// Login name, or the id.
    pub(crate) name: String,
}

/// One acceptance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accepted {
    /// Who.
    pub(crate) by: Person,
    /// Why.
    pub(crate) reason: String,
    /// When, RFC 3339.
    pub(crate) at: String,
}

/// What the services have to know of it.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// The note of an older log that was accepted.
    pub(super) note: Option<Note>,
    /// That of a log of which nobody here knows whether it is older.
    pub(super) unknown: Option<Note>,
}

impl Restored {
    fn of(note: Option<Note>) -> Self {
        let (note, unknown) = match note {
            Some(note) if note.is_older => (Some(note), None),
            unknown => (None, unknown),
        };
        Self { note, unknown }
    }
}

impl Person {
    /// As a principal.
    pub(crate) fn principal(&self) -> Principal {
        Principal::User {
            uid: self.uid,
            name: self.name.clone(),
        }
    }
}

impl Note {
    /// Of a log that nobody restored by our hand.
    fn of_copied_files(records: u64) -> Self {
        Self {
            v: FORM,
            by: None,
            reason: String::new(),
            what: "files were copied".to_owned(),
            records,
            is_older: true,
            is_recorded: true,
            accepted: Vec::new(),
            aside: None,
            going_aside: None,
        }
    }

    /// Of a restore.
    pub(crate) fn of_restore(
        by: Person,
        (what, reason): (String, &str),
        (records, is_older): (u64, bool),
    ) -> Self {
        Self {
            by: Some(by),
            what,
            reason: reason.to_owned(),
            is_older,
            is_recorded: false,
            ..Self::of_copied_files(records)
        }
    }

    /// Whether enough people accepted it.
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted.len() >= ACCEPTANCES
    }

    /// Takes an acceptance; `false` when this one accepted already.
    pub(crate) fn accept(&mut self, one: Accepted) -> bool {
        let is_known = self.accepted.iter().any(|known| known.by.uid == one.by.uid);
        if !is_known && !self.is_accepted() {
            self.accepted.push(one);
        }
        !is_known
    }

    fn load(data_dir: &Path) -> Result<Option<Self>, Error> {
        let path = data_dir.join(NOTE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::path(&path, &error)),
        };
        let note: Option<Self> = serde_json::from_slice(&text).ok();
        note.filter(|note| note.v == FORM).map(Some).ok_or_else(|| {
            Error::new(
                Kind::Broken,
                format!(
                    "{} is not what a restore of this build writes",
                    path.display()
                ),
                "`keywheel restore FILE --data-dir DIR` again, into an empty directory",
            )
        })
    }

    /// Writes beside, anew, so that no link there is followed; syncs, renames.
    pub(crate) fn save(&self, data_dir: &Path) -> io::Result<()> {
        let path = data_dir.join(NOTE);
        let beside = path.with_extension("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        fs::File::open(data_dir)?.sync_all()
    }
}

/// Refuses a directory in which a restore did not come to its end.
pub(crate) fn refuse_half_done(data_dir: &Path) -> Result<(), Error> {
    let unpacking = data_dir.join(UNPACKING);
    if !unpacking.exists() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Refused,
        format!(
            "a restore into {} did not come to its end",
            data_dir.display()
        ),
        format!(
            "empty the directory, then `keywheel restore FILE --data-dir {}` again",
            data_dir.display()
        ),
    ))
}

/// Gets a log that was put back ready to be served; `None` when it is to stop instead.
pub(super) async fn settle(
    opened: &Opened,
    shutdown: &Shutdown,
) -> Result<Option<Restored>, Error> {
    let data_dir = &opened.config.data_dir;
    let mut known = Note::load(data_dir)?;
    if let Some(note) = known.as_mut().filter(|note| !note.is_recorded) {
        record_restore(opened, note).await?;
        note.is_recorded = true;
        save(note, data_dir)?;
    }
    if known.as_ref().is_some_and(|note| note.aside.is_some()) {
        return Ok(Some(Restored::of(known)));
    }
    let records = opened.journal.head().await?.audit_size;
    let standing = standing(opened, records).await?;
    if let Some(why) = words(standing) {
        tracing::error!(reason = why, "the log was put back to an earlier time");
        let from = match standing {
            Standing::Other { index } => index,
            Standing::Fits | Standing::Older { .. } => records,
        };
        let note = known.get_or_insert_with(|| Note::of_copied_files(from));
        note.is_older = true;
        save(note, data_dir)?;
    }
    let Restored { note, unknown } = Restored::of(known);
    let Some(mut note) = note else {
        return Ok(Some(Restored { note, unknown }));
    };
    if !note.is_accepted() && !held::until_accepted(opened, &mut note, shutdown).await? {
        return Ok(None);
    }
    put_aside(&mut note, data_dir).map_err(|error| Error::path(data_dir, &error))?;
    Ok(Some(Restored::of(Some(note))))
}

/// What came of the restore is done: the note goes.
pub(super) fn forget(data_dir: &Path) -> Result<(), Error> {
    let path = data_dir.join(NOTE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::path(&path, &error)),
        _ => Ok(()),
    }
}

/// Where the copy lies that was put aside.
pub(super) fn aside_of(note: &Note, data_dir: &Path) -> Option<PathBuf> {
    note.aside.as_ref().map(|name| data_dir.join(name))
}

pub(super) fn save(note: &Note, data_dir: &Path) -> Result<(), Error> {
    let saved = note.save(data_dir);
    saved.map_err(|error| Error::path(&data_dir.join(NOTE), &error))
}

async fn standing(opened: &Opened, records: u64) -> Result<Standing, Error> {
    let path = opened.config.data_dir.join(SINK);
    if !path.exists() {
        return Ok(Standing::Fits);
    }
    let unread = |why: String| {
        let next = "free what is named above, or move audit-sink.db away and keep it: \
            without it nobody knows here whether the log was put back";
        Error::new(Kind::Unavailable, why, next)
    };
    let mut sink = match KeptRecords::open(&path).await {
        Ok(sink) => sink,
        Err(error) if error.is_unmade() => return Ok(Standing::Fits),
        // What is passing, too: nobody may be served an older log for it.
        Err(error) => return Err(unread(keywheel_daemon::chain(&error))),
    };
    let log = Log::Open(&*opened.journal);
    let mut stands = log.stands(records, &mut sink).await;
    if let Ok(Standing::Other { .. }) = stands {
        // From where on they differ, too.
        stands = log.stands_wholly(records, &mut sink).await;
    }
    let closed = sink.close().await;
    closed.map_err(|error| unread(keywheel_daemon::chain(&error)))?;
    stands.map_err(unread)
}

/// What is wrong, for people.
pub(crate) fn words(standing: Standing) -> Option<String> {
    match standing {
        Standing::Fits => None,
        Standing::Older { kept, here, begins } => Some(format!(
            "the audit's second copy goes up to {kept} records, and the journal has {here}{}",
            unknown(here, begins)
        )),
        Standing::Other { index } => Some(format!(
            "the audit's second copy and the journal differ from record {index} on"
        )),
    }
}

/// What a copy cannot say that was begun after older records had left the log.
fn unknown(here: u64, begins: u64) -> String {
    if begins < here || begins == 0 {
        return String::new();
    }
    let none = "; no record is in both, so nothing shows that they are of one log";
    match begins - here {
        0 => none.to_owned(),
        missing => format!(
            "; the copy begins with record {begins} and knows nothing of the {missing} before it that the journal lacks{none}"
        ),
    }
}

async fn record_restore(opened: &Opened, note: &Note) -> Result<(), Error> {
    let Some(principal) = note.by.as_ref().map(Person::principal) else {
        return Ok(());
    };
    let why = match note.reason.is_empty() {
        true => note.what.clone(),
        false => format!("{}: {}", note.what, note.reason),
    };
    append(
        opened,
        record(opened, principal, "restore", (Outcome::Allowed, why)),
    )
    .await
}

/// A record about the log as a whole.
pub(super) fn record(
    opened: &Opened,
    principal: Principal,
    verb: &str,
    (outcome, reason): (Outcome, String),
) -> Record {
    Record {
        time: opened.clock.now(),
        category: Category::Administration,
        principal,
        verb: verb.to_owned(),
        object: "deployment".to_owned(),
        version: None,
        outcome,
        reason,
        container: None,
        command: CommandId::from_bytes(opened.ids.draw()),
        trace: String::new(),
    }
}

/// Makes a record durable while nobody decides yet.
pub(super) async fn append(opened: &Opened, record: Record) -> Result<(), Error> {
    let number = opened.journal.head().await?.number;
    let decision = Decision {
        command: record.command,
        class: Class::Record,
        time: record.time,
        traceparent: None,
        events: Vec::new(),
        effects: Vec::new(),
        closes: Vec::new(),
        audit: vec![record],
        verdict: Verdict::Accepted { number },
    };
    let first = number.saturating_add(1);
    opened.journal.append(first, &[decision]).await?;
    Ok(())
}

/// Now, for a note.
pub(super) fn now(opened: &Opened) -> String {
    opened.clock.now().text()
}

/// The copy begins anew from this log, and the host takes this log's plans: what they knew is read from the copy.
fn put_aside(note: &mut Note, data_dir: &Path) -> io::Result<()> {
    let name = match note.going_aside.clone() {
        Some(name) => name,
        None => {
            let name = free_name(note.records, data_dir);
            // Before anything is moved: a start after a crash goes on with the same.
            note.going_aside = Some(name.clone());
            note.save(data_dir)?;
            name
        }
    };
    let folder = data_dir.join(&name);
    fs::create_dir_all(&folder)?;
    for end in BESIDE {
        rename(
            &data_dir.join(format!("{SINK}{end}")),
            &folder.join(format!("{SINK}{end}")),
        )?;
    }
    rename(&data_dir.join(HOST_CACHE), &folder.join(HOST_CACHE))?;
    note.aside = Some(name);
    note.save(data_dir)
}

/// What was put aside before is evidence, and stays.
fn free_name(records: u64, data_dir: &Path) -> String {
    let name = move |n: u32| match n {
        1 => format!("before-restore-at-{records}"),
        n => format!("before-restore-at-{records}-{n}"),
    };
    let mut all = (1..).map(name);
    let free = all.find(|name| !data_dir.join(name).exists());
    free.unwrap_or_else(|| name(1))
}

/// Renames what is there.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
