//! Reports that the gateway has not answered yet, on disk (rule A1: on a host this is sink 0).
//!
//! One file a report, named by its number so that they are replayed in order. Invariants: a report
//! with facts is on the disk before it is sent; its command id is kept with it, so a repeat gets
//! the first answer; no value is ever in it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use keywheel_core::id::{BindingId, CommandId, ContainerId, HostId, SecretId};
use keywheel_core::report::{DeniedStart, Fact, HostReport, Item};
use keywheel_core::time::Timestamp;
use serde::{Deserialize, Serialize};

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
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredFact {
    Swapped { version: u64, at: i64 },
    Reloaded { version: u64, at: i64 },
    Withdrawn,
    Vanished,
    Refused { version: u64, reason: String },
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

/// The spool's directory.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    folder: PathBuf,
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
        })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:0DIGITS$}.json"))
    }

    /// Writes a report durably. Blocks.
    pub(crate) fn write(&self, spooled: &Spooled) -> io::Result<()> {
        let text = serde_json::to_vec(&store(spooled))?;
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

    /// All waiting reports, oldest first; one that is not understood is named and passed over. Blocks.
    pub(crate) fn read(&self) -> io::Result<Vec<Spooled>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let number = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
            let Some(number) = number else { continue };
            match serde_json::from_slice::<Stored>(&std::fs::read(&path)?)
                .ok()
                .and_then(|one| load(number, one))
            {
                Some(spooled) => all.push(spooled),
                None => {
                    tracing::error!(path = %path.display(), "spooled report not understood; look at it")
                }
            }
        }
        all.sort_by_key(|spooled| spooled.number);
        Ok(all)
    }
}

fn store(spooled: &Spooled) -> Stored {
    let report = &spooled.report;
    Stored {
        command: spooled.command.to_string(),
        host: report.host.to_string(),
        generation: report.generation,
        items: report.items.iter().map(store_item).collect(),
        holds: report
            .holds
            .iter()
            .map(|(secret, version)| (secret.to_string(), *version))
            .collect(),
        complete: report.complete,
        containers: report.containers.iter().map(ToString::to_string).collect(),
        denied: report.denied.iter().map(store_denied).collect(),
    }
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
        StoredFact::Refused { version, reason } => Fact::Refused { version, reason },
    };
    Some(Item {
        container: ContainerId::parse(&item.container).ok()?,
        container_name: item.name,
        image_digest: item.image,
        binding: BindingId::parse(&item.binding).ok()?,
        secret: SecretId::parse(&item.secret).ok()?,
        fact,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn item(fact: Fact) -> Item {
        Item {
            container: ContainerId::parse(&"a".repeat(64)).unwrap(),
            container_name: "web".to_owned(),
            image_digest: "sha256:1".to_owned(),
            binding: BindingId::from_bytes([1; 16]),
            secret: SecretId::from_bytes([2; 16]),
            fact,
        }
    }

    pub(crate) fn denied() -> DeniedStart {
        DeniedStart {
            container: ContainerId::parse(&"c".repeat(64)).unwrap(),
            container_name: "job".to_owned(),
            image_digest: "sha256:2".to_owned(),
            secret: "prod/db".to_owned(),
            reason: "no binding".to_owned(),
        }
    }

    pub(crate) fn report(generation: u64, facts: Vec<Fact>) -> HostReport {
        HostReport {
            host: HostId::from_bytes([3; 16]),
            generation,
            items: facts.into_iter().map(item).collect(),
            holds: vec![(SecretId::from_bytes([2; 16]), 7)],
            complete: true,
            containers: vec![ContainerId::parse(&"b".repeat(64)).unwrap()],
            denied: vec![denied()],
        }
    }

    #[test]
    fn every_fact_survives_and_order_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        let at = Timestamp::from_micros(5);
        let facts = vec![
            Fact::Swapped { version: 1, at },
            Fact::Reloaded { version: 1, at },
            Fact::Withdrawn,
            Fact::Vanished,
            Fact::Refused {
                version: 2,
                reason: "why".to_owned(),
            },
        ];
        for number in [10, 9] {
            let command = CommandId::from_bytes([4; 16]);
            spool
                .write(&Spooled {
                    number,
                    command,
                    report: report(number, facts.clone()),
                })
                .unwrap();
        }
        let read = spool.read().unwrap();
        assert_eq!(
            read.iter().map(|one| one.number).collect::<Vec<_>>(),
            [9, 10]
        );
        assert_eq!(read[1].report, report(10, facts));
        assert_eq!(read[1].command, CommandId::from_bytes([4; 16]));
        spool.remove(9).unwrap();
        spool.remove(9).unwrap();
        assert_eq!(spool.read().unwrap().len(), 1);
    }

    #[test]
    fn no_file_in_the_spool_keeps_the_others_from_being_read() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        let good = Spooled {
            number: 2,
            command: CommandId::from_bytes([4; 16]),
            report: report(1, Vec::new()),
        };
        spool.write(&good).unwrap();
        let bytes = std::fs::read(spool.path(2)).unwrap();
        let (mut turn, others) = (0, spool.path(1));
        keywheel_testkit::hostile(&bytes, |bytes| {
            drop(serde_json::from_slice::<Stored>(bytes).map(|one| load(1, one)));
            turn += 1;
            if turn % 64 == 0 {
                std::fs::write(&others, bytes).unwrap();
                assert!(spool.read().unwrap().iter().any(|one| one.number == 2));
            }
        });
    }

    #[test]
    fn what_is_not_understood_is_passed_over_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        std::fs::write(spool.path(1), "{").unwrap();
        assert!(spool.read().unwrap().is_empty());
        assert!(spool.path(1).exists());
    }
}
