//! What a person does with the authorities at the gateway's machine, noted beside them until a gateway puts it on
//! record.
//!
//! Invariants: [`Ledger::begin`] has an intent on the disk before anything is changed, [`Deed::end`] what came of it
//! before anything is said. Whoever is at a deed holds the file's lock from before the one until after the other, over
//! all processes, so an intent without an outcome in a file that nobody holds is nobody's any more. A line counts once
//! its newline is there: what a crash left behind the last one is none. An intent is noted only where there is room for
//! its outcome, too. The file stays: it is emptied, never removed, so that a lock is one lock. Root works in a directory
//! of somebody else: no link is followed, only what was made just now is given to the directory's owner, what others own
//! is refused, and a lock is waited for for a time only. Who may write in the directory may take lines away before a
//! gateway has them, and write lines of their own that name whom they like; this hides nothing from root.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_core::id::CommandId;
use keywheel_core::time::Timestamp;
use keywheel_seal::{Entropy, digest};
use serde::{Deserialize, Serialize};

use crate::bundle::disk;
use crate::init::AUTHORITY_FILE;

/// The file, in the gateway's directory.
pub const LEDGER_FILE: &str = "deeds.jsonl";
/// Most bytes of it; some thousand deeds that no gateway has taken up.
pub const MAX_LEDGER_BYTES: u64 = 1 << 20;
/// Most bytes of one line, its newline among them.
pub const MAX_LINE_BYTES: u64 = 4096;
/// Most characters of what is said, and of a name.
pub const MAX_WORDS_CHARS: usize = 300;
const FILE_MODE: u32 = 0o600;
/// Pause between two tries for the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(150);
/// Most tries: for half a minute, which no deed takes.
const LOCK_TRIES: u32 = 200;

/// Why a deed cannot be noted, or what was noted not be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk said no.
    #[error("{path}: cannot {action}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something else stands in its place.
    #[error("{path} {reason}, so it is no ledger of ours")]
    Strange {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Somebody is at a deed, or keeps the file, for longer than is waited for.
    #[error("{0} is held by somebody else, who does not come to an end")]
    Held(PathBuf),
    /// There is no room for an intent with its outcome.
    #[error("{0} is full: no gateway has taken up what was done here before")]
    Full(PathBuf),
}

/// What was asked for, as the audit calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Another root is trusted, and certificates come from it.
    BeginCaRollover,
    /// The root before is trusted no more.
    FinishCaRollover,
    /// A directory of credentials becomes fresh.
    RefreshCredentials,
    /// Credentials that were not there before.
    IssueCredentials,
}

impl Verb {
    /// The word in records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::BeginCaRollover => "begin-ca-rollover",
            Self::FinishCaRollover => "finish-ca-rollover",
            Self::RefreshCredentials => "refresh-credentials",
            Self::IssueCredentials => "issue-credentials",
        }
    }
}

/// How far a deed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It was asked for; nothing is changed yet.
    Asked,
    /// It is done.
    Done,
    /// It was refused, or failed.
    Failed,
}

impl Stage {
    /// The word in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The deed; its intent and its outcome have the same.
    pub command: CommandId,
    /// When, by the machine's clock.
    pub time: Timestamp,
    /// Who ran it, by the kernel's word. Whom `sudo` names is a claim, and is not here.
    pub uid: u32,
    /// What.
    pub verb: Verb,
    /// On what.
    pub object: String,
    /// How far.
    pub stage: Stage,
    /// What is said besides.
    pub words: String,
}

/// A line as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    command: String,
    time_micros: i64,
    uid: u32,
    verb: Verb,
    object: String,
    stage: Stage,
    words: String,
}

impl Line {
    fn encode(&self) -> Vec<u8> {
        let written = Written {
            command: self.command.to_string(),
            time_micros: self.time.micros(),
            uid: self.uid,
            verb: self.verb,
            object: self.object.clone(),
            stage: self.stage,
            words: self.words.clone(),
        };
        // Strings and numbers always have a JSON form.
        let mut bytes = serde_json::to_vec(&written).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// `None` for what this build does not write.
    fn decode(bytes: &[u8]) -> Option<Self> {
        // The newline is not among them any more.
        if bytes.len() as u64 >= MAX_LINE_BYTES {
            return None;
        }
        let written: Written = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            command: CommandId::parse(&written.command).ok()?,
            time: Timestamp::from_micros(written.time_micros),
            uid: written.uid,
            verb: written.verb,
            object: bounded(&written.object),
            stage: written.stage,
            words: bounded(&written.words),
        })
    }
}

/// What somebody is about to do.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Who runs it, by the kernel's word.
    pub uid: u32,
    /// What.
    pub verb: Verb,
    /// On what.
    pub object: &'a str,
    /// What is said besides; may be empty.
    pub words: &'a str,
}

/// What came of it, in words.
#[derive(Debug, Clone)]
pub enum Came {
    /// It is done.
    Done(String),
    /// It was refused, or failed.
    Failed(String),
}

/// The ledger of one gateway's directory.
#[derive(Debug, Clone)]
pub struct Ledger {
    directory: PathBuf,
    path: PathBuf,
}

/// A deed that is under way; nobody else begins one until this is gone.
#[derive(Debug)]
#[must_use = "a deed that is not ended is recorded as not known"]
pub struct Deed {
    ledger: Ledger,
    /// Has the lock.
    file: File,
    line: Line,
}

/// What a ledger holds.
#[derive(Debug)]
pub struct Noted {
    /// Its lines, oldest first.
    pub lines: Vec<Line>,
    /// Whether somebody is at a deed, or reads, just now.
    pub is_held: bool,
    /// How many lines are none that this build writes.
    pub unread: usize,
    bytes: Vec<u8>,
    /// When it was written last, in seconds and nanoseconds.
    written: (i64, i64),
}

impl Noted {
    /// Intents that nobody will bring to an end any more; none are known as long as somebody is at a deed.
    #[must_use]
    pub fn abandoned(&self) -> Vec<&Line> {
        if self.is_held {
            return Vec::new();
        }
        let is_intent = |line: &&Line| line.stage == Stage::Asked;
        let outcomes = self.lines.iter().filter(|line| !is_intent(line));
        let ended: BTreeSet<CommandId> = outcomes.map(|line| line.command).collect();
        let intents = self.lines.iter().filter(is_intent);
        intents
            .filter(|line| !ended.contains(&line.command))
            .collect()
    }

    /// Tells it from whatever else a ledger holds, and from the same that is written another time.
    #[must_use]
    pub fn mark(&self) -> [u8; 32] {
        let (seconds, nanoseconds) = self.written;
        let content = digest::sha256(&self.bytes);
        let when = [seconds.to_be_bytes(), nanoseconds.to_be_bytes()];
        let parts: Vec<u8> = when.into_iter().flatten().chain(content).collect();
        digest::sha256(&parts)
    }
}

impl Ledger {
    /// The one in the gateway's directory of credentials. Nothing is made before something is noted.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            path: directory.join(LEDGER_FILE),
        }
    }

    /// Notes what somebody is about to do, once nobody else is at a deed. What it names may be done afterwards, and not
    /// before.
    ///
    /// # Errors
    /// When no authority lies in the directory, another thing stands in the ledger's place, somebody holds it for too
    /// long, it is full, or the disk says no: then it must not be done.
    pub fn begin(
        &self,
        asked: &Asked<'_>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Deed, LedgerError> {
        let authority = self.directory.join(AUTHORITY_FILE);
        fs::symlink_metadata(&authority).map_err(|error| failed(&authority, "look at", error))?;
        let file = match self.open()? {
            Some(file) => file,
            None => self.make()?,
        };
        self.lock(&file, LOCK_TRIES)?;
        self.refuse_another(&file)?;
        let bytes = self.content(&file)?;
        let there = whole(&bytes).len() as u64;
        if there + 2 * MAX_LINE_BYTES > MAX_LEDGER_BYTES {
            return Err(LedgerError::Full(self.path.clone()));
        }
        file.set_len(there)
            .map_err(|error| self.failed("cut", error))?;
        let mut command = [0; 16];
        entropy.fill(&mut command);
        let line = Line {
            command: CommandId::from_bytes(command),
            time: now,
            uid: asked.uid,
            verb: asked.verb,
            object: bounded(asked.object),
            stage: Stage::Asked,
            words: bounded(asked.words),
        };
        self.append(&file, &line)?;
        Ok(Deed {
            ledger: self.clone(),
            file,
            line,
        })
    }

    /// What is noted; `None` when nothing is.
    ///
    /// # Errors
    /// When another thing stands in its place, or the disk says no.
    pub fn read(&self) -> Result<Option<Noted>, LedgerError> {
        let looked = fs::symlink_metadata(&self.path);
        if looked.is_ok_and(|found| found.is_file() && found.len() == 0) {
            return Ok(None);
        }
        let Some(file) = self.open()? else {
            return Ok(None);
        };
        let is_held = !self.try_lock(&file)?;
        self.refuse_another(&file)?;
        let about = file.metadata();
        let about = about.map_err(|error| self.failed("look at", error))?;
        let bytes = self.content(&file)?;
        let each = whole(&bytes).split(|byte| *byte == b'\n');
        let each: Vec<Option<Line>> = each
            .filter(|line| !line.is_empty())
            .map(Line::decode)
            .collect();
        let unread = each.iter().filter(|line| line.is_none()).count();
        Ok(Some(Noted {
            lines: each.into_iter().flatten().collect(),
            is_held,
            unread,
            bytes,
            written: (about.mtime(), about.mtime_nsec()),
        }))
    }

    /// Empties it, unless somebody is at a deed or has noted more since; tells whether it is empty now.
    ///
    /// # Errors
    /// When another thing stands in its place, or the disk says no.
    pub fn empty(&self, noted: &Noted) -> Result<bool, LedgerError> {
        let Some(file) = self.open()? else {
            return Ok(true);
        };
        if !self.try_lock(&file)? {
            return Ok(false);
        }
        self.refuse_another(&file)?;
        if self.content(&file)? != noted.bytes {
            return Ok(false);
        }
        let emptied = file.set_len(0).and_then(|()| file.sync_all());
        emptied.map_err(|error| self.failed("empty", error))?;
        Ok(true)
    }

    /// Waits until the lock is ours, and not for ever: who has it may be stopped, or keep it on purpose.
    fn lock(&self, file: &File, tries: u32) -> Result<(), LedgerError> {
        for _ in 0..tries {
            if self.try_lock(file)? {
                return Ok(());
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Err(LedgerError::Held(self.path.clone()))
    }

    /// Whether the lock is ours now; it is free again when the file is closed.
    fn try_lock(&self, file: &File) -> Result<bool, LedgerError> {
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(self.failed("lock", error)),
        }
    }

    /// `None` when there is none.
    fn open(&self) -> Result<Option<File>, LedgerError> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Err(self.strange("is a link, or no file")),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("look at", error)),
        }
        let opened = File::options().read(true).write(true).open(&self.path);
        opened.map(Some).map_err(|error| self.failed("open", error))
    }

    /// Makes it for the directory's owner, its name on the disk, too.
    fn make(&self) -> Result<File, LedgerError> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE);
        match options.open(&self.path) {
            Ok(file) => {
                let given = disk::give(&self.directory, &file);
                given.map_err(|error| self.failed("give away", error))?;
                let directory = File::open(&self.directory);
                let synced = directory.and_then(|directory| directory.sync_all());
                synced.map_err(|error| failed(&self.directory, "sync", error))?;
                Ok(file)
            }
            // Somebody was first.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = self.open()?;
                there.ok_or_else(|| self.strange("comes and goes"))
            }
            Err(error) => Err(self.failed("make", error)),
        }
    }

    /// What was opened has to be what the name says now, under this name alone, the directory's owner's, and nobody
    /// else's. The owner is what counts: links come and go between two looks.
    fn refuse_another(&self, file: &File) -> Result<(), LedgerError> {
        let named = fs::symlink_metadata(&self.path);
        let named = named.map_err(|error| self.failed("look at", error))?;
        let open = file.metadata();
        let open = open.map_err(|error| self.failed("look at", error))?;
        let is_same = (named.dev(), named.ino()) == (open.dev(), open.ino());
        if !is_same || !named.is_file() {
            return Err(self.strange("was replaced meanwhile"));
        }
        if open.nlink() != 1 {
            return Err(self.strange("has another name, too"));
        }
        let directory = fs::metadata(&self.directory);
        let directory = directory.map_err(|error| failed(&self.directory, "look at", error))?;
        if open.uid() != directory.uid() {
            return Err(self.strange("belongs to another user than its directory"));
        }
        if open.mode() & 0o077 != 0 {
            return Err(self.strange("is open to others"));
        }
        Ok(())
    }

    fn content(&self, mut file: &File) -> Result<Vec<u8>, LedgerError> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.take(MAX_LEDGER_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| self.failed("read", error))?;
        if bytes.len() as u64 > MAX_LEDGER_BYTES {
            return Err(self.strange("is larger than one can be"));
        }
        Ok(bytes)
    }

    /// Returns once it is on the disk; what is there of it otherwise is taken back as far as the disk lets us.
    fn append(&self, file: &File, line: &Line) -> Result<(), LedgerError> {
        let before = file.metadata().map(|about| about.len());
        let before = before.map_err(|error| self.failed("look at", error))?;
        write_end(file, &line.encode()).map_err(|error| {
            let _as_far_as_it_goes = file.set_len(before);
            self.failed("write", error)
        })
    }

    fn failed(&self, action: &'static str, source: io::Error) -> LedgerError {
        failed(&self.path, action, source)
    }

    fn strange(&self, reason: &'static str) -> LedgerError {
        LedgerError::Strange {
            path: self.path.clone(),
            reason,
        }
    }
}

impl Deed {
    /// Notes what came of it. Nothing is said of it before.
    ///
    /// # Errors
    /// When the disk says no: then a gateway records that it is not known.
    pub fn end(self, came: Came, now: Timestamp) -> Result<(), LedgerError> {
        let (stage, words) = match came {
            Came::Done(words) => (Stage::Done, words),
            Came::Failed(words) => (Stage::Failed, words),
        };
        let line = Line {
            time: now,
            stage,
            words: bounded(&words),
            ..self.line
        };
        self.ledger.append(&self.file, &line)
    }
}

/// Up to the last newline: what is behind it nobody was told of.
fn whole(bytes: &[u8]) -> &[u8] {
    let last = bytes.iter().rposition(|byte| *byte == b'\n');
    last.and_then(|at| bytes.get(..=at)).unwrap_or_default()
}

fn write_end(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::End(0))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// On one line, and of a length that leaves a line its room.
fn bounded(words: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    words.chars().take(MAX_WORDS_CHARS).map(plain).collect()
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> LedgerError {
    LedgerError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}

#[cfg(test)]
mod tests;
