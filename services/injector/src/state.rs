//! What an injector remembers of a container across its own restart: one small file each, in the
//! run directory. Ids, device numbers and version numbers; never a value, its length or its digest.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use keywheel_core::binding::OnRevoke;
use keywheel_core::id::{BindingId, ContainerId, SecretId};
use keywheel_core::name::{Directory, EnvName, FileName};
use keywheel_core::report::{Fact, Item};
use keywheel_sys::secretfs::FileAttr;
use serde::{Deserialize, Serialize};

use crate::model::{Ack, Holding, Place, Tracked};

/// A file is looked at and removed in one step, which no writer comes between.
static FILES: Mutex<()> = Mutex::new(());
/// Largest state file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// One container, as remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub(crate) container: String,
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) ticks: u64,
    pub(crate) dirs: Vec<RememberedDir>,
    pub(crate) holdings: Vec<RememberedHolding>,
    /// What is to befall it because it lost a revoked value, by its word; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) owed: String,
    /// Variables that it has and that count as lost, since it is in quarantine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lost: Vec<RememberedHolding>,
}

/// A file system of ours in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RememberedDir {
    pub(crate) dir: String,
    pub(crate) device: u64,
}

/// Something it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RememberedHolding {
    pub(crate) binding: String,
    pub(crate) secret: String,
    pub(crate) version: u64,
    pub(crate) acked: bool,
    /// Whether its program began with it, so that nothing has to restart for it.
    #[serde(default)]
    pub(crate) began: bool,
    /// Directory of a file; empty for a variable.
    pub(crate) dir: String,
    /// File or variable.
    pub(crate) name: String,
    /// Owner, group and mode of a file, as its binding said.
    #[serde(default)]
    pub(crate) attr: Option<(u32, u32, u32)>,
    /// Further secrets that the file was made of, and their versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) further: Vec<(String, u64)>,
    /// Secrets whose version before the current one lies in the file, and that version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) previous: Vec<(String, u64)>,
}

impl Remembered {
    /// What is to be remembered of a tracked container.
    pub(crate) fn of(tracked: &Tracked) -> Self {
        let facts = &tracked.record.facts;
        let dirs = tracked.dirs.iter().map(|(dir, fs)| RememberedDir {
            dir: dir.to_string(),
            device: fs.device(),
        });
        let holdings = tracked
            .holdings
            .iter()
            .filter_map(|(binding, holding)| remember(*binding, holding));
        let lost = tracked.lost.iter();
        let lost = lost.filter_map(|(binding, holding)| remember(*binding, holding));
        Self {
            container: facts.id.to_string(),
            name: facts.name.clone(),
            image: facts.image_digest.clone(),
            ticks: tracked.ticks,
            dirs: dirs.collect(),
            holdings: holdings.collect(),
            owed: match tracked.owed {
                OnRevoke::Remove => String::new(),
                owed => owed.word().to_owned(),
            },
            lost: lost.collect(),
        }
    }

    /// What is to befall it yet.
    pub(crate) fn owed(&self) -> OnRevoke {
        OnRevoke::parse(&self.owed).unwrap_or_default()
    }

    /// What stays of it while its container is down: what is owed to it whenever it begins anew, if that is anything.
    /// Of no incarnation, so that none takes it for its own.
    pub(crate) fn owing(&self) -> Option<Self> {
        match self.owed() {
            // It began without the value, or will.
            OnRevoke::Remove | OnRevoke::Restart => None,
            OnRevoke::Disconnect | OnRevoke::Pause | OnRevoke::Stop => Some(Self {
                ticks: 0,
                dirs: Vec::new(),
                holdings: Vec::new(),
                lost: Vec::new(),
                ..self.clone()
            }),
        }
    }

    /// The holdings, with files of unknown content and variables as remembered.
    pub(crate) fn holdings(&self) -> BTreeMap<BindingId, Holding> {
        self.holdings
            .iter()
            .filter_map(RememberedHolding::parse)
            .collect()
    }

    /// What counts as lost of variables.
    pub(crate) fn lost(&self) -> BTreeMap<BindingId, Holding> {
        self.lost
            .iter()
            .filter_map(RememberedHolding::parse)
            .collect()
    }

    /// What to say when the container is gone.
    pub(crate) fn vanished(&self) -> Vec<Item> {
        let Ok(container) = ContainerId::parse(&self.container) else {
            return Vec::new();
        };
        let item = |binding: BindingId, secret: SecretId| Item {
            container: container.clone(),
            container_name: self.name.clone(),
            image_digest: self.image.clone(),
            binding,
            secret,
            fact: Fact::Vanished,
            service: String::new(),
        };
        let mut items = Vec::new();
        for (binding, holding) in self.holdings() {
            items.extend(holding.held().map(|(secret, _)| item(binding, secret)));
        }
        items
    }
}

impl RememberedHolding {
    fn ack(&self) -> Ack {
        match self.acked {
            true => Ack::Done,
            // A variable is there since the start.
            false if self.began || self.dir.is_empty() => Ack::AtStart,
            false => Ack::Due,
        }
    }

    fn parse(&self) -> Option<(BindingId, Holding)> {
        let (place, version) = if self.dir.is_empty() {
            (
                Place::Env {
                    name: EnvName::parse(&self.name).ok()?,
                },
                Some(self.version),
            )
        } else {
            let directory = Directory::parse(&self.dir).ok()?;
            (
                Place::File {
                    directory,
                    name: FileName::parse(&self.name).ok()?,
                },
                None,
            )
        };
        let holding = Holding {
            secret: SecretId::parse(&self.secret).ok()?,
            place,
            attr: self
                .attr
                .map(|(uid, gid, mode)| FileAttr { uid, gid, mode }),
            form: None,
            version,
            further: self.further.iter().filter_map(parse_further).collect(),
            previous: self.previous.iter().filter_map(parse_further).collect(),
            news: Vec::new(),
            content: 0,
            ack: self.ack(),
            remembered: Some((self.version, self.acked)),
            kept: None,
        };
        Some((BindingId::parse(&self.binding).ok()?, holding))
    }
}

fn parse_further((secret, version): &(String, u64)) -> Option<(SecretId, u64)> {
    Some((SecretId::parse(secret).ok()?, *version))
}

/// Further secrets and their versions, as the file has them.
pub(crate) fn further_words(further: &BTreeMap<SecretId, u64>) -> Vec<(String, u64)> {
    let further = further.iter();
    further
        .map(|(secret, version)| (secret.to_string(), *version))
        .collect()
}

fn remember(binding: BindingId, holding: &Holding) -> Option<RememberedHolding> {
    let version = holding
        .version
        .or(holding.remembered.map(|(version, _)| version))?;
    let (dir, name) = match &holding.place {
        Place::File { directory, name } => (directory.to_string(), name.to_string()),
        Place::Env { name } => (String::new(), name.to_string()),
    };
    Some(RememberedHolding {
        binding: binding.to_string(),
        secret: holding.secret.to_string(),
        version,
        acked: holding.version.is_some() && holding.ack == Ack::Done,
        began: is_begun(holding),
        dir,
        name,
        attr: holding.attr.map(|attr| (attr.uid, attr.gid, attr.mode)),
        further: further_words(&holding.further),
        previous: further_words(&holding.previous),
    })
}

fn is_begun(holding: &Holding) -> bool {
    matches!(
        holding.ack,
        Ack::AtStart | Ack::Gate { .. } | Ack::Watched { .. }
    )
}

fn path(folder: &Path, container: &str) -> PathBuf {
    folder.join(format!("{container}.json"))
}

/// Writes a container's file, whole or not at all. Blocks.
pub(crate) fn save(folder: &Path, remembered: &Remembered) -> io::Result<()> {
    let text = serde_json::to_vec(remembered)?;
    let _one_at_a_time = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let temp = folder.join(format!(".{}.tmp", remembered.container));
    std::fs::write(&temp, text)?;
    std::fs::rename(temp, path(folder, &remembered.container))
}

/// Removes a container's file, unless it is of another incarnation than the one that began at
/// `ticks`. Blocks.
pub(crate) fn forget(folder: &Path, container: &str, ticks: u64) -> io::Result<()> {
    let _one_at_a_time = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let found = std::fs::read(path(folder, container));
    let found = found
        .ok()
        .and_then(|text| serde_json::from_slice::<Remembered>(&text).ok());
    if found.is_some_and(|found| found.ticks != ticks) {
        return Ok(());
    }
    match std::fs::remove_file(path(folder, container)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What a container's file says, if it can be read. Blocks.
fn read(folder: &Path, container: &str) -> Option<Remembered> {
    let text = std::fs::read(path(folder, container)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// What is owed to the next incarnation of a container, by its word, as the disk has it. Blocks.
pub(crate) fn owed_to(folder: &Path, container: &str) -> String {
    let owing = read(folder, container).and_then(|found| found.owing());
    owing.map(|owing| owing.owed).unwrap_or_default()
}

/// Removes what is of the incarnation that began at `ticks`; what is owed to its container stays. Blocks.
pub(crate) fn end(folder: &Path, container: &str, ticks: u64) -> io::Result<()> {
    let found = read(folder, container).filter(|found| found.ticks == ticks);
    match found.and_then(|found| found.owing()) {
        Some(owing) => save(folder, &owing),
        None => forget(folder, container, ticks),
    }
}

/// Everything remembered; a file that is not understood is passed over and left. Blocks.
pub(crate) fn load_all(folder: &Path) -> io::Result<BTreeMap<ContainerId, Remembered>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let named = entry.file_name();
        let Some(name) = named.to_str().and_then(|name| name.strip_suffix(".json")) else {
            continue;
        };
        let Ok(id) = ContainerId::parse(name) else {
            continue;
        };
        if entry.metadata()?.len() > MAX_FILE_BYTES {
            continue;
        }
        match serde_json::from_slice::<Remembered>(&std::fs::read(entry.path())?) {
            Ok(remembered) if remembered.container == id.as_str() => {
                all.insert(id, remembered);
            }
            _ => tracing::warn!(container = id.short(), "state file not understood"),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered() -> Remembered {
        let holding = |dir: &str, name: &str, acked| RememberedHolding {
            binding: BindingId::from_bytes([u8::try_from(name.len()).unwrap(); 16]).to_string(),
            secret: SecretId::from_bytes([2; 16]).to_string(),
            version: 4,
            acked,
            began: false,
            dir: dir.to_owned(),
            name: name.to_owned(),
            attr: (!dir.is_empty()).then_some((1, 2, 0o400)),
            further: Vec::new(),
            previous: Vec::new(),
        };
        Remembered {
            container: "a".repeat(64),
            name: "web".to_owned(),
            image: "sha256:1".to_owned(),
            ticks: 77,
            dirs: vec![RememberedDir {
                dir: "/run/secrets".to_owned(),
                device: 9,
            }],
            holdings: vec![
                holding("/run/secrets", "db", true),
                holding("", "DB_PASSWORD", false),
            ],
            owed: "pause".to_owned(),
            lost: vec![holding("", "API_KEY", true)],
        }
    }

    #[test]
    fn what_is_owed_outlives_an_incarnation_and_what_it_held_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (id, ticks) = (remembered().container, remembered().ticks);
        save(folder.path(), &remembered()).unwrap();
        end(folder.path(), &id, ticks + 1).unwrap();
        assert_eq!(read(folder.path(), &id), Some(remembered()));
        end(folder.path(), &id, ticks).unwrap();
        let left = read(folder.path(), &id).unwrap();
        assert_eq!((left.ticks, left.owed()), (0, OnRevoke::Pause));
        assert!(left.holdings.is_empty() && left.dirs.is_empty());
        assert!(left.lost.is_empty(), "its program has ended");
        assert_eq!(owed_to(folder.path(), &id), "pause");
        // A restart is done with whatever begins anew.
        let mut restarted = remembered();
        restarted.owed = "restart".to_owned();
        save(folder.path(), &restarted).unwrap();
        assert_eq!(owed_to(folder.path(), &id), "");
        end(folder.path(), &id, ticks).unwrap();
        assert_eq!(read(folder.path(), &id), None);
    }

    #[test]
    fn what_was_saved_is_loaded_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &remembered()).unwrap();
        std::fs::write(folder.path().join(format!("{}.json", "b".repeat(64))), "{").unwrap();
        let all = load_all(folder.path()).unwrap();
        assert_eq!(all.into_values().collect::<Vec<_>>(), [remembered()]);
        let (id, ticks) = (remembered().container, remembered().ticks);
        forget(folder.path(), &id, ticks + 1).unwrap();
        assert_eq!(
            load_all(folder.path()).unwrap().len(),
            1,
            "of another incarnation"
        );
        forget(folder.path(), &id, ticks).unwrap();
        forget(folder.path(), &id, ticks).unwrap();
        assert!(load_all(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn a_remembered_file_has_to_be_compared_and_a_variable_is_as_remembered() {
        let holdings: Vec<Holding> = remembered().holdings().into_values().collect();
        let file = holdings
            .iter()
            .find(|one| matches!(one.place, Place::File { .. }))
            .unwrap();
        assert_eq!((file.version, file.remembered), (None, Some((4, true))));
        let env = holdings
            .iter()
            .find(|one| matches!(one.place, Place::Env { .. }))
            .unwrap();
        assert_eq!((env.version, env.ack), (Some(4), Ack::AtStart));
    }

    #[test]
    fn whether_a_program_began_with_a_file_is_remembered() {
        let of = |began, acked| {
            let mut all = remembered();
            let file = all.holdings.first_mut().unwrap();
            (file.began, file.acked) = (began, acked);
            let known = all.holdings().into_values();
            let mut files = known.filter(|one| matches!(one.place, Place::File { .. }));
            files.next().unwrap().ack
        };
        assert_eq!(of(true, false), Ack::AtStart);
        assert_eq!(of(false, false), Ack::Due);
        assert_eq!(of(true, true), Ack::Done);
    }

    #[test]
    fn a_file_of_several_secrets_is_remembered_with_all_versions_and_reported_for_each() {
        let other = SecretId::from_bytes([9; 16]);
        let mut all = remembered();
        all.holdings.truncate(1);
        all.holdings[0].further = further_words(&BTreeMap::from([(other, 6)]));
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &all).unwrap();
        let loaded = load_all(folder.path()).unwrap().into_values().next();
        assert_eq!(loaded.as_ref(), Some(&all));
        let holding = all.holdings().into_values().next().unwrap();
        let held: Vec<(SecretId, u64)> = holding.held().collect();
        assert_eq!(held, [(SecretId::from_bytes([2; 16]), 4), (other, 6)]);
        let gone = all.vanished();
        let gone: Vec<SecretId> = gone.iter().map(|item| item.secret).collect();
        assert_eq!(gone, [SecretId::from_bytes([2; 16]), other]);
    }

    #[test]
    fn a_version_before_is_remembered_as_held_and_nothing_else_is_said_of_it() {
        let own = SecretId::from_bytes([2; 16]);
        let mut all = remembered();
        all.holdings.truncate(1);
        all.holdings[0].previous = further_words(&BTreeMap::from([(own, 3)]));
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &all).unwrap();
        let loaded = load_all(folder.path()).unwrap().into_values().next();
        assert_eq!(loaded.as_ref(), Some(&all));
        let holding = all.holdings().into_values().next().unwrap();
        assert_eq!(holding.held().collect::<Vec<_>>(), [(own, 4)]);
        assert_eq!(holding.parts().collect::<Vec<_>>(), [(own, 4), (own, 3)]);
        assert_eq!(all.vanished().len(), 1);
    }

    #[test]
    fn a_container_that_is_gone_is_reported_under_every_binding() {
        let items = remembered().vanished();
        assert_eq!(items.len(), 2);
        assert!(
            items
                .iter()
                .all(|item| item.fact == Fact::Vanished && item.container_name == "web")
        );
    }
}
