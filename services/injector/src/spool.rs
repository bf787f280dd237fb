//! Reports that the gateway has not answered yet, on disk (rule A1: on a host this is sink 0).
//!
//! One file a report, named by its number so that they are replayed in order. Invariants: a report is
//! on the disk before it is sent, one with facts as soon as it is made; its command id is kept with it,
//! so a repeat gets the first answer; no value is ever in it; one report at a time is in memory, of a
//! bounded size.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use keywheel_core::id::{BindingId, CommandId, ContainerId, HostId, SecretId};
use keywheel_core::report::{
    DeniedStart, Executed, Fact, HostReport, Item, StalePlan, UsageKind, UsageNote,
};
use keywheel_core::time::Timestamp;
use keywheel_schemas::mirror::Mirror as _;
use keywheel_schemas::wire::report::RestartWish as StoredRestart;
use serde::{Deserialize, Serialize};

/// Largest report that is read: the bus takes no larger one.
pub(crate) const MAX_FILE_BYTES: u64 = 16 << 20;
/// Digits of a file's number, so that names sort like numbers.
const DIGITS: usize = 20;

#[derive(Serialize, Deserialize)]
struct Stored {
    command: String,
    host: String,
    generation: u64,
    items: Vec<StoredItem>,
    holds: Vec<(String, u64)>,
    complete: bool,
    containers: Vec<String>,
    denied: Vec<StoredDenied>,
    /// Generation, generation held, micros, count; not in files of earlier versions.
    #[serde(default)]
    stale: Vec<(u64, u64, i64, u64)>,
    /// Not in files of earlier versions.
    #[serde(default)]
    executed: Vec<StoredExecuted>,
    /// Not in files of earlier versions.
    #[serde(default)]
    notes: Vec<StoredNote>,
    /// Not in files of earlier versions.
    #[serde(default)]
    restarts: Vec<StoredRestart>,
    /// Not in files of earlier versions.
    #[serde(default)]
    staged: Vec<(String, u64)>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum StoredKind {
    ServedFromCache,
    FirstUse,
    GivenBeside,
}

#[derive(Serialize, Deserialize)]
struct StoredNote {
    kind: StoredKind,
    container: String,
    name: String,
    image: String,
    binding: String,
    secret: String,
    version: u64,
    at: i64,
}

#[derive(Serialize, Deserialize)]
struct StoredExecuted {
    container: String,
    name: String,
    image: String,
    exec: String,
    at: i64,
    count: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredDenied {
    container: String,
    name: String,
    image: String,
    secret: String,
    reason: String,
}

#[derive(Serialize, Deserialize)]
struct StoredItem {
    container: String,
    name: String,
    image: String,
    binding: String,
    secret: String,
    fact: StoredFact,
    /// Not in files of earlier versions.
    #[serde(default)]
    service: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredFact {
    Swapped { version: u64, at: i64 },
    Reloaded { version: u64, at: i64 },
    Withdrawn,
    Vanished,
    Refused { version: u64, reason: String },
    Wanted,
    Removed,
}

/// A report on its way.
#[derive(Debug, Clone)]
pub(crate) struct Spooled {
    /// Its file.
    pub(crate) number: u64,
    /// Its command id.
    pub(crate) command: CommandId,
    /// It.
    pub(crate) report: HostReport,
}

/// What the name of a file ends with that was passed over.
const PASSED_OVER: &str = ".passed-over";

/// The spool's directory.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    folder: PathBuf,
    /// A report that comes is written beside the one that is about to be sent, under one name at first.
    writing: Arc<Mutex<()>>,
}

impl Spool {
    /// Opens the directory, made 0700 if missing. Blocks.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            writing: Arc::default(),
        })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:0DIGITS$}.json"))
    }

    /// Writes a report durably. Blocks.
    pub(crate) fn write(&self, spooled: &Spooled) -> io::Result<()> {
        let text = serde_json::to_vec(&store(spooled))?;
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let temp = self.folder.join(".new");
        let mut file = File::create(&temp)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(temp, self.path(spooled.number))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Forgets an answered report. Blocks.
    pub(crate) fn remove(&self, number: u64) -> io::Result<()> {
        match std::fs::remove_file(self.path(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Numbers of all waiting reports, oldest first. Blocks.
    pub(crate) fn waiting(&self) -> io::Result<Vec<u64>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name();
            all.extend(
                name.and_then(|name| name.to_str()?.strip_suffix(".json")?.parse::<u64>().ok()),
            );
        }
        all.sort_unstable();
        Ok(all)
    }

    /// One of them; one that cannot be read, is not understood or too large is named, passed over and kept. Blocks.
    pub(crate) fn read(&self, number: u64) -> Option<Spooled> {
        let path = self.path(number);
        let reason = match read_bounded(&path) {
            Err(error) => error.to_string(),
            Ok(None) => format!("it has more than {MAX_FILE_BYTES} bytes"),
            Ok(Some(bytes)) => {
                let stored = serde_json::from_slice::<Stored>(&bytes);
                match stored.ok().and_then(|one| load(number, one)) {
                    Some(spooled) => return Some(spooled),
                    None => "it is not understood".to_owned(),
                }
            }
        };
        tracing::error!(path = %path.display(), reason, "spooled report passed over; look at it");
        self.pass_over(number);
        None
    }

    /// Keeps a file under a name that no run sends: by the time it could be sent, newer reports were. Blocks.
    pub(crate) fn pass_over(&self, number: u64) {
        let path = self.path(number);
        let mut kept = path.clone().into_os_string();
        kept.push(PASSED_OVER);
        if let Err(error) = std::fs::rename(&path, kept)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(path = %path.display(), %error, "it keeps its name, and the next run looks at it again; remove it");
        }
    }
}

/// A file's content; `None` when it is too large.
fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES.saturating_add(1);
    let read = File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok((u64::try_from(read).unwrap_or(u64::MAX) < limit).then_some(bytes))
}

fn store(spooled: &Spooled) -> Stored {
    let report = &spooled.report;
    Stored {
        command: spooled.command.to_string(),
        host: report.host.to_string(),
        generation: report.generation,
        items: report.items.iter().map(store_item).collect(),
        holds: store_held(&report.holds),
        complete: report.complete,
        containers: report.containers.iter().map(ToString::to_string).collect(),
        denied: report.denied.iter().map(store_denied).collect(),
        stale: report.stale.iter().map(store_stale).collect(),
        executed: report.executed.iter().map(store_executed).collect(),
        notes: report.notes.iter().map(store_note).collect(),
        restarts: report.restarts.iter().map(StoredRestart::of).collect(),
        staged: store_held(&report.staged),
    }
}

fn store_held(held: &[(SecretId, u64)]) -> Vec<(String, u64)> {
    let held = held.iter();
    held.map(|(secret, version)| (secret.to_string(), *version))
        .collect()
}

const fn store_stale(stale: &StalePlan) -> (u64, u64, i64, u64) {
    let StalePlan {
        generation,
        held,
        at,
        count,
    } = *stale;
    (generation, held, at.micros(), count)
}

const fn load_stale((generation, held, at, count): (u64, u64, i64, u64)) -> StalePlan {
    StalePlan {
        generation,
        held,
        at: Timestamp::from_micros(at),
        count,
    }
}

fn store_executed(note: &Executed) -> StoredExecuted {
    StoredExecuted {
        container: note.container.to_string(),
        name: note.container_name.clone(),
        image: note.image_digest.clone(),
        exec: note.exec.clone(),
        at: note.at.micros(),
        count: note.count,
    }
}

fn load_executed(note: StoredExecuted) -> Option<Executed> {
    Some(Executed {
        container: ContainerId::parse(&note.container).ok()?,
        container_name: note.name,
        image_digest: note.image,
        exec: note.exec,
        at: Timestamp::from_micros(note.at),
        count: note.count,
    })
}

fn store_note(note: &UsageNote) -> StoredNote {
    StoredNote {
        kind: match note.kind {
            UsageKind::ServedFromCache => StoredKind::ServedFromCache,
            UsageKind::FirstUse => StoredKind::FirstUse,
            UsageKind::GivenBeside => StoredKind::GivenBeside,
        },
        container: note.container.to_string(),
        name: note.container_name.clone(),
        image: note.image_digest.clone(),
        binding: note.binding.to_string(),
        secret: note.secret.to_string(),
        version: note.version,
        at: note.at.micros(),
    }
}

fn load_note(note: StoredNote) -> Option<UsageNote> {
    Some(UsageNote {
        kind: match note.kind {
            StoredKind::ServedFromCache => UsageKind::ServedFromCache,
            StoredKind::FirstUse => UsageKind::FirstUse,
            StoredKind::GivenBeside => UsageKind::GivenBeside,
        },
        container: ContainerId::parse(&note.container).ok()?,
        container_name: note.name,
        image_digest: note.image,
        binding: BindingId::parse(&note.binding).ok()?,
        secret: SecretId::parse(&note.secret).ok()?,
        version: note.version,
        at: Timestamp::from_micros(note.at),
    })
}

fn store_denied(denied: &DeniedStart) -> StoredDenied {
    StoredDenied {
        container: denied.container.to_string(),
        name: denied.container_name.clone(),
        image: denied.image_digest.clone(),
        secret: denied.secret.clone(),
        reason: denied.reason.clone(),
    }
}

fn load_denied(denied: StoredDenied) -> Option<DeniedStart> {
    Some(DeniedStart {
        container: ContainerId::parse(&denied.container).ok()?,
        container_name: denied.name,
        image_digest: denied.image,
        secret: denied.secret,
        reason: denied.reason,
    })
}

fn store_item(item: &Item) -> StoredItem {
    let fact = match &item.fact {
        Fact::Swapped { version, at } => StoredFact::Swapped {
            version: *version,
            at: at.micros(),
        },
        Fact::Reloaded { version, at } => StoredFact::Reloaded {
            version: *version,
            at: at.micros(),
        },
        Fact::Withdrawn => StoredFact::Withdrawn,
        Fact::Vanished => StoredFact::Vanished,
        Fact::Wanted => StoredFact::Wanted,
        Fact::Removed => StoredFact::Removed,
        Fact::Refused { version, reason } => StoredFact::Refused {
            version: *version,
            reason: reason.clone(),
        },
    };
    StoredItem {
        container: item.container.to_string(),
        name: item.container_name.clone(),
        image: item.image_digest.clone(),
        binding: item.binding.to_string(),
        secret: item.secret.to_string(),
        fact,
        service: item.service.clone(),
    }
}

fn load(number: u64, stored: Stored) -> Option<Spooled> {
    let items = stored
        .items
        .into_iter()
        .map(load_item)
        .collect::<Option<Vec<Item>>>()?;
    let hold = |(secret, version): (String, u64)| Some((SecretId::parse(&secret).ok()?, version));
    let report = HostReport {
        host: HostId::parse(&stored.host).ok()?,
        generation: stored.generation,
        items,
        holds: stored
            .holds
            .into_iter()
            .map(hold)
            .collect::<Option<Vec<_>>>()?,
        complete: stored.complete,
        containers: stored
            .containers
            .iter()
            .map(|id| ContainerId::parse(id).ok())
            .collect::<Option<Vec<_>>>()?,
        denied: stored
            .denied
            .into_iter()
            .map(load_denied)
            .collect::<Option<Vec<_>>>()?,
        stale: stored.stale.into_iter().map(load_stale).collect(),
        executed: stored
            .executed
            .into_iter()
            .map(load_executed)
            .collect::<Option<Vec<_>>>()?,
        notes: stored
            .notes
            .into_iter()
            .map(load_note)
            .collect::<Option<Vec<_>>>()?,
        restarts: stored
            .restarts
            .into_iter()
            .map(StoredRestart::into_core)
            .collect(),
        staged: stored
            .staged
            .into_iter()
            .map(hold)
            .collect::<Option<Vec<_>>>()?,
        knows_staged: true,
        orders: None,
    };
    Some(Spooled {
        number,
        command: CommandId::parse(&stored.command).ok()?,
        report,
    })
}

fn load_item(item: StoredItem) -> Option<Item> {
    let fact = match item.fact {
        StoredFact::Swapped { version, at } => Fact::Swapped {
            version,
            at: Timestamp::from_micros(at),
        },
        StoredFact::Reloaded { version, at } => Fact::Reloaded {
            version,
            at: Timestamp::from_micros(at),
        },
        StoredFact::Withdrawn => Fact::Withdrawn,
        StoredFact::Vanished => Fact::Vanished,
        StoredFact::Wanted => Fact::Wanted,
        StoredFact::Removed => Fact::Removed,
        StoredFact::Refused { version, reason } => Fact::Refused { version, reason },
    };
    Some(Item {
        container: ContainerId::parse(&item.container).ok()?,
        container_name: item.name,
        image_digest: item.image,
        binding: BindingId::parse(&item.binding).ok()?,
        secret: SecretId::parse(&item.secret).ok()?,
        fact,
        service: item.service,
    })
}

#[cfg(test)]
pub(crate) mod tests;
