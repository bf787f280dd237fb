//! What this host keeps on its disk for the time without the control plane: the values it was given,
//! the last verified plan with its dead sets, and how much of the lease is spent.
//!
//! Invariants: every file is sealed under the host's cache key and bound to deployment, host and, for
//! a value, secret and version; it is written whole or not at all, 0600 in a 0700 directory, but for the
//! older of two plans, which a newer one may overwrite; a file that does not open counts as absent and is
//! removed; [`HostCache::held`] names a value before its file is there and until it is gone from the disk.
//! Everything blocks. It does not decide what may be served.

mod key;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keywheel_core::id::SecretId;
use keywheel_core::plan::HostPlan;
use keywheel_daemon::{chain, names};
use keywheel_schemas::wire::{plan_from_json, plan_to_json};
use keywheel_seal::kept::{HostCacheKey, MAX_RECORD_BYTES, Place, What};
use keywheel_seal::{Entropy, MAX_VALUE_BYTES, SecretBytes};

use crate::error::InjectorError;
use crate::lease::Stored;
use crate::options::HostSettings;
use crate::shared::VersionKey;

/// What a sealed file has beside the bytes in it, at most.
const MAX_OVERHEAD_BYTES: usize = 256;
/// How the name of every whole file ends.
const SUFFIX: &str = ".sealed";
/// The file that is being written; only one at a time.
const TEMP_NAME: &str = ".new";
/// The records of the last verified plans, written in turns: the newest that opens counts, and what
/// becomes of a write leaves the one before whole.
const PLANS: [&str; 2] = ["plan1", "plan2"];
/// The one record of builds before those. It is read, and then gone: such a build, installed again, finds no
/// plan rather than one that is not the newest.
const LONE_PLAN: &str = "plan";
/// A plan's record is filled up with blanks to whole steps of so many bytes, so that most plans take the
/// very room of the one before the last, and the disk is waited for once, not for names and sizes too.
const PLAN_STEP: usize = 4096;
/// The record of the lease.
const LEASE: &str = "lease";

/// The cache's directory and key.
pub(crate) struct HostCache {
    folder: PathBuf,
    key: HostCacheKey,
    deployment: [u8; 16],
    host: [u8; 16],
    entropy: Arc<dyn Entropy>,
    disk: Mutex<Disk>,
    /// Generation of the plan that is on the disk: known also while something else is written.
    saved: Mutex<Option<u64>>,
    held: Mutex<BTreeSet<VersionKey>>,
}

/// What the disk has beside values; its lock is held while anything is written.
#[derive(Default)]
struct Disk {
    /// Which of [`PLANS`] is written next.
    turn: usize,
    /// Whether there is a [`LONE_PLAN`].
    has_lone: bool,
}

/// What an earlier run left.
#[derive(Default)]
pub(crate) struct Restored {
    pub(crate) plan: Option<HostPlan>,
    pub(crate) lease: Option<Stored>,
    /// Values as they are on the disk, sealed; each was opened once to see that it does.
    pub(crate) values: Vec<(VersionKey, Vec<u8>)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostCache {
    /// Gets the key and reads what is there; `None` when nothing is to be kept.
    pub(crate) fn open(
        options: &HostSettings,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Option<(Self, Restored)>, InjectorError> {
        let folder = &options.host_cache_dir;
        let Some(key) = key::load(options, &*entropy)? else {
            return Ok(None);
        };
        let fault = |source| InjectorError::Directory {
            path: folder.clone(),
            source,
        };
        make_folder(folder).map_err(fault)?;
        let cache = Self {
            folder: folder.clone(),
            key,
            deployment: *options.deployment.bytes(),
            host: *options.host.bytes(),
            entropy,
            disk: Mutex::default(),
            saved: Mutex::default(),
            held: Mutex::default(),
        };
        let restored = cache.restore().map_err(fault)?;
        Ok(Some((cache, restored)))
    }

    fn restore(&self) -> io::Result<Restored> {
        let mut restored = Restored::default();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let named = entry.file_name();
            let Some(name) = named.to_str() else { continue };
            if name == TEMP_NAME {
                // A write that was killed; the file of before is whole.
                std::fs::remove_file(entry.path())?;
                continue;
            }
            let Some(stem) = name.strip_suffix(SUFFIX) else {
                continue;
            };
            if !self.restore_one(stem, &mut restored)? {
                tracing::warn!(
                    { names::PATH } = %entry.path().display(),
                    "file of the host cache does not open and is removed; what was in it is asked for again"
                );
                std::fs::remove_file(entry.path())?;
            }
        }
        if let Some(plan) = &restored.plan {
            match self.sync_plans() {
                Ok(()) => *lock(&self.saved) = Some(plan.generation),
                Err(error) => tracing::warn!(
                    { names::ERROR } = chain(&error),
                    "plan of the host cache may not be on the disk and is written again"
                ),
            }
        }
        lock(&self.held).extend(restored.values.iter().map(|(key, _)| *key));
        self.move_lone(&restored);
        Ok(restored)
    }

    /// What a run that was killed wrote may be with the kernel alone, and a loss of power would take it back.
    fn sync_plans(&self) -> io::Result<()> {
        for record in PLANS {
            match File::open(self.path(record)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => opened?.sync_all()?,
            }
        }
        File::open(&self.folder)?.sync_all()
    }

    /// Keeps the newest plan where plans are now. Where that fails the next plan tries again.
    fn move_lone(&self, restored: &Restored) {
        let mut disk = lock(&self.disk);
        let plan = restored.plan.as_ref().filter(|_| disk.has_lone);
        if let Some(Err(error)) = plan.map(|plan| self.keep_plan(&mut disk, plan)) {
            tracing::warn!(
                { names::ERROR } = chain(&error),
                "plan of an earlier build not moved"
            );
        }
    }

    /// `false` when the file is not what its name says.
    fn restore_one(&self, stem: &str, restored: &mut Restored) -> io::Result<bool> {
        let what = match stem {
            LEASE => What::Record(stem),
            _ if is_plan(stem) => What::Record(stem),
            _ => match parse_stem(stem) {
                Some((secret, version)) => What::Value {
                    secret: *secret.bytes(),
                    version,
                },
                None => return Ok(false),
            },
        };
        let most = match what {
            What::Value { .. } => MAX_VALUE_BYTES,
            What::Record(_) => MAX_RECORD_BYTES,
        };
        let Some(sealed) = read_bounded(&self.path(stem), most + MAX_OVERHEAD_BYTES)? else {
            return Ok(false);
        };
        let Ok(opened) = self.key.open(&self.place(what), &sealed) else {
            return Ok(false);
        };
        // EXPOSE: the records hold no value; a value is not looked at.
        let record = opened.expose();
        Ok(match stem {
            LEASE => {
                restored.lease = serde_json::from_slice(record).ok();
                restored.lease.is_some()
            }
            _ if is_plan(stem) => match plan_from_json(record) {
                Ok(plan) => {
                    self.restore_plan(stem, plan, restored);
                    true
                }
                Err(_) => false,
            },
            _ => {
                restored
                    .values
                    .extend(parse_stem(stem).map(|key| (key, sealed)));
                true
            }
        })
    }

    /// Of several the newest counts; the next does not take its place.
    fn restore_plan(&self, stem: &str, plan: HostPlan, restored: &mut Restored) {
        let mut disk = lock(&self.disk);
        disk.has_lone |= stem == LONE_PLAN;
        let before = restored.plan.as_ref().map(|plan| plan.generation);
        if before < Some(plan.generation) {
            restored.plan = Some(plan);
            disk.turn = usize::from(stem == PLANS[0]);
        }
    }

    /// Versions whose file is on the disk, or about to be.
    pub(crate) fn held(&self) -> BTreeSet<VersionKey> {
        lock(&self.held).clone()
    }

    /// Says that a value's file is about to be written.
    pub(crate) fn claim(&self, key: VersionKey) {
        lock(&self.held).insert(key);
    }

    /// Keeps a value, if it is still wanted once nothing else is written: `is_wanted` claims it.
    pub(crate) fn keep_value(
        &self,
        key: VersionKey,
        value: &SecretBytes,
        is_wanted: impl FnOnce() -> bool,
    ) -> io::Result<()> {
        let _one_at_a_time = lock(&self.disk);
        if !is_wanted() {
            return Ok(());
        }
        let place = self.place(value_of(key));
        let sealed = self.key.seal(&place, value, &*self.entropy);
        let sealed = sealed.map_err(io::Error::other)?;
        self.write(&stem_of(key), &sealed)
    }

    /// Opens a kept value.
    pub(crate) fn open_value(&self, key: VersionKey, sealed: &[u8]) -> Option<SecretBytes> {
        self.key.open(&self.place(value_of(key)), sealed).ok()
    }

    /// Whether the disk is behind this plan.
    pub(crate) fn is_behind(&self, plan: &HostPlan) -> bool {
        *lock(&self.saved) != Some(plan.generation)
    }

    /// Whether the disk has values that may not be kept.
    pub(crate) fn has_unwanted(&self, wanted: &BTreeSet<VersionKey>) -> bool {
        !lock(&self.held).is_subset(wanted)
    }

    /// Keeps the newest plan: from then on no other run serves what it does not name. Where that fails, what
    /// it does not name leaves the disk at once, so that no other run has it to serve.
    pub(crate) fn settle(
        &self,
        newest: impl FnOnce() -> Option<(Arc<HostPlan>, BTreeSet<VersionKey>)>,
    ) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        let Some((plan, wanted)) = newest().filter(|(plan, _)| self.is_behind(plan)) else {
            return Ok(());
        };
        let kept = self.keep_plan(&mut disk, &plan);
        if kept.is_err()
            && let Err(error) = self.drop_unwanted(&wanted)
        {
            tracing::error!(
                { names::ERROR } = chain(&error),
                "values not removed from the host cache"
            );
        }
        kept
    }

    /// Drops every value that the newest word does not name. What could not be removed stays held.
    pub(crate) fn clear(
        &self,
        newest: impl FnOnce() -> Option<(Arc<HostPlan>, BTreeSet<VersionKey>)>,
    ) -> io::Result<()> {
        let _one_at_a_time = lock(&self.disk);
        newest().map_or(Ok(()), |(_, wanted)| self.drop_unwanted(&wanted))
    }

    /// While nothing else is written.
    fn drop_unwanted(&self, wanted: &BTreeSet<VersionKey>) -> io::Result<()> {
        let unwanted: Vec<VersionKey> = self.held().difference(wanted).copied().collect();
        let mut fault = None;
        let mut gone = Vec::new();
        for key in unwanted {
            match std::fs::remove_file(self.path(&stem_of(key))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => fault = Some(error),
                _ => gone.push(key),
            }
        }
        if !gone.is_empty() {
            File::open(&self.folder)?.sync_all()?;
            let mut held = lock(&self.held);
            gone.iter().for_each(|key| {
                held.remove(key);
            });
        }
        fault.map_or(Ok(()), Err)
    }

    /// Keeps how much of the lease is spent.
    pub(crate) fn keep_lease(&self, lease: &Stored) -> io::Result<()> {
        let _one_at_a_time = lock(&self.disk);
        self.write_record(LEASE, serde_json::to_vec(lease)?)
    }

    /// Keeps a plan beside the one before it.
    fn keep_plan(&self, disk: &mut Disk, plan: &HostPlan) -> io::Result<()> {
        let [first, second] = PLANS;
        let record = if disk.turn == 0 { first } else { second };
        let mut bytes = plan_to_json(plan);
        bytes.resize(bytes.len().next_multiple_of(PLAN_STEP), b' ');
        let sealed = self.sealed_record(record, bytes)?;
        if !self.overwrite(record, &sealed)? {
            self.write(record, &sealed)?;
        }
        disk.turn = usize::from(disk.turn == 0);
        *lock(&self.saved) = Some(plan.generation);
        if disk.has_lone {
            match std::fs::remove_file(self.path(LONE_PLAN)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => File::open(&self.folder)?.sync_all()?,
            }
            disk.has_lone = false;
        }
        Ok(())
    }

    fn write_record(&self, record: &'static str, bytes: Vec<u8>) -> io::Result<()> {
        self.write(record, &self.sealed_record(record, bytes)?)
    }

    fn sealed_record(&self, record: &'static str, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let place = self.place(What::Record(record));
        let bytes = SecretBytes::from(bytes);
        let sealed = self.key.seal(&place, &bytes, &*self.entropy);
        sealed.map_err(io::Error::other)
    }

    /// Overwrites a file of this very size durably, for whoever has another one should it stay half
    /// written; `false` when there is none.
    fn overwrite(&self, stem: &str, sealed: &[u8]) -> io::Result<bool> {
        let mut file = match File::options().write(true).open(self.path(stem)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        if usize::try_from(file.metadata()?.len()) != Ok(sealed.len()) {
            return Ok(false);
        }
        file.write_all(sealed)?;
        file.sync_data()?;
        Ok(true)
    }

    /// Writes a file durably, whole or not at all.
    fn write(&self, stem: &str, sealed: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let temp = self.folder.join(TEMP_NAME);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temp)?;
        file.write_all(sealed)?;
        file.sync_all()?;
        std::fs::rename(temp, self.path(stem))?;
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self, stem: &str) -> PathBuf {
        self.folder.join(format!("{stem}{SUFFIX}"))
    }

    fn place<'a>(&self, what: What<'a>) -> Place<'a> {
        Place {
            deployment: self.deployment,
            host: self.host,
            what,
        }
    }
}

fn is_plan(stem: &str) -> bool {
    stem == LONE_PLAN || PLANS.contains(&stem)
}

fn value_of((secret, version): VersionKey) -> What<'static> {
    What::Value {
        secret: *secret.bytes(),
        version,
    }
}

fn stem_of((secret, version): VersionKey) -> String {
    format!("{secret}.{version}")
}

fn parse_stem(stem: &str) -> Option<VersionKey> {
    let (secret, version) = stem.split_once('.')?;
    let key = (SecretId::parse(secret).ok()?, version.parse().ok()?);
    (stem_of(key) == stem).then_some(key)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// `None` when it is longer than that, or cannot be read.
fn read_bounded(path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    match File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
        Ok(_) => Ok((bytes.len() <= most).then_some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            tracing::warn!({ names::PATH } = %path.display(), { names::ERROR } = chain(&error), "file of the host cache not read");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests;
