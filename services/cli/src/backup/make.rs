//! Makes backups in the process that has everything open: journal and cache stand still for the moment in which their
//! copies begin, and go on while these are made.
//!
//! Why that is consistent: what one of both has at that moment and the other one has not is what a power cut at that
//! moment would have left on the disk, since each makes a change durable before it says so. Whatever goes on after such
//! a cut goes on after a restore: open effects are sent again, and each is repeated under its own token.
//! Invariants: one at a time; nothing is begun without room for it, so the journal's disk is not filled; what was made
//! is read back and compared before anybody is told of it; a copy that is not sealed yet is gone when this returns.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use keywheel_cache::Cache;
use keywheel_core::id::DeploymentId;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::journal::Head;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_gateway::http::BackupMaker;
use keywheel_journal::{RESERVE_BYTES, RESTORE_HEADROOM, SqliteJournal};
use keywheel_schemas::api::BackupView;
use keywheel_schemas::backup::{FORM, Manifest, PARTS, Part};
use keywheel_schemas::mirror::TextForm as _;
use keywheel_seal::OsEntropy;
use keywheel_seal::backup::{BackupKey, Sealing};
use tokio::sync::Mutex;

use super::pack::{self, Opener, Sealer};

/// Directory in the data directory in which a backup is made, and lies until it is fetched.
pub(crate) const FOLDER: &str = "backup";
/// The sealed file in it.
pub(crate) const SEALED: &str = "sealed";
/// Room that has to be left beside a backup that is being made.
const SPARE_BYTES: u64 = RESERVE_BYTES + RESTORE_HEADROOM;

/// The cache, while it is open.
pub(crate) type OpenCache = Arc<dyn Fn() -> Option<Arc<Cache>> + Send + Sync>;

/// Makes backups of one data directory.
pub(crate) struct Maker {
    pub(crate) data_dir: PathBuf,
    pub(crate) deployment: DeploymentId,
    pub(crate) journal: Arc<SqliteJournal>,
    pub(crate) cache: OpenCache,
    pub(crate) key: Arc<BackupKey>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Who makes one.
    pub(crate) turn: Mutex<()>,
}

#[async_trait]
impl BackupMaker for Maker {
    async fn make(&self) -> Result<BackupView, PortError> {
        let Ok(_turn) = self.turn.try_lock() else {
            let text = "another backup is being made; wait until it is there";
            return Err(PortError::new(ErrorKind::Conflict, text));
        };
        let folder = self.data_dir.join(FOLDER);
        begin(&folder, &self.data_dir).map_err(|error| failed(&folder, &error))?;
        let made_at = self.clock.now().text();
        let made = match self.copy(&folder).await {
            Ok(head) => self.seal(&folder, &head, made_at).await,
            Err(error) => Err(error),
        };
        if made.is_err() {
            // The next one removes it, too.
            let _ = fs::remove_dir_all(&folder);
        }
        made
    }
}

impl Maker {
    /// Copies of one moment.
    async fn copy(&self, folder: &Path) -> Result<Head, PortError> {
        let Some(cache) = (self.cache)() else {
            let text = "store-sync is sealed and has no cache open; unseal it, then ask again";
            return Err(PortError::new(ErrorKind::Unavailable, text));
        };
        let cache = cache.stand_still().await;
        let journal = self.journal.stand_still().await;
        for (name, _) in PARTS.iter().filter(|(name, _)| name.ends_with(".json")) {
            let from = self.data_dir.join(name);
            if from.exists() {
                fs::copy(&from, folder.join(name)).map_err(|error| failed(&from, &error))?;
            }
        }
        let copying = journal.begin_copy(&folder.join("journal.db")).await?;
        let copied = cache.copy_to(&folder.join("cache.db")).await;
        copied.map_err(|error| {
            let why = keywheel_daemon::chain(&error);
            PortError::new(ErrorKind::Unavailable, format!("no backup was made: {why}"))
        })?;
        copying.finish().await
    }

    /// Seals the copies into one file, on a thread of its own.
    async fn seal(
        &self,
        folder: &Path,
        head: &Head,
        made_at: String,
    ) -> Result<BackupView, PortError> {
        let manifest = Manifest {
            v: FORM,
            deployment: self.deployment.to_string(),
            made_at,
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            head: head.number,
            records: head.audit_size,
            checkpoint: head.checkpoint.clone(),
            parts: Vec::new(),
        };
        let (folder, key) = (folder.to_owned(), self.key.clone());
        let deployment = *self.deployment.bytes();
        let work = move || {
            seal_parts(&folder, manifest, (&key, &deployment))
                .map_err(|error| failed(&folder, &error))
        };
        let joined = tokio::task::spawn_blocking(work).await;
        joined.map_err(|error| {
            let text = "the backup was not made to its end; ask again";
            PortError::caused(ErrorKind::Unavailable, text, error)
        })?
    }
}

/// An empty directory, where there is room.
fn begin(folder: &Path, data_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    let names = ["journal.db", "journal.db-wal", "cache.db", "cache.db-wal"];
    let size = |name: &&str| fs::metadata(data_dir.join(name)).map_or(0, |found| found.len());
    let copies: u64 = names.iter().map(size).sum();
    let wanted = copies.saturating_mul(2).saturating_add(SPARE_BYTES);
    let disk = rustix::fs::statvfs(data_dir)?;
    let room = disk.f_bavail.saturating_mul(disk.f_frsize);
    if room >= wanted {
        return Ok(());
    }
    let text = format!(
        "a backup needs {} MiB there while it is made, and {} MiB are free",
        wanted >> 20,
        room >> 20
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, text))
}

fn seal_parts(
    folder: &Path,
    mut manifest: Manifest,
    (key, deployment): (&BackupKey, &[u8; 16]),
) -> io::Result<BackupView> {
    for (name, is_needed) in PARTS {
        let path = folder.join(name);
        if is_needed || path.exists() {
            manifest.parts.push(pack::part_of(name, &path)?);
        }
    }
    let path = folder.join(SEALED);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let sealing = Sealing::begin(key, deployment, &OsEntropy);
    let mut sealer = Sealer::begin(io::BufWriter::new(options.open(&path)?), sealing)?;
    pack::write_manifest(&mut sealer, &manifest)?;
    for part in &manifest.parts {
        let from = folder.join(&part.name);
        let (bytes, sha256) = pack::copy(&mut File::open(&from)?, &mut sealer)?;
        is_same(part, bytes, &sha256)?;
        fs::remove_file(&from)?;
    }
    let file = sealer
        .finish()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    drop(file);
    read_back(&path, key, &manifest)?;
    let (bytes, sha256) = pack::copy(&mut File::open(&path)?, &mut io::sink())?;
    Ok(BackupView {
        path: path.display().to_string(),
        bytes,
        sha256,
        deployment: manifest.deployment,
        made_at: manifest.made_at,
        head: manifest.head,
        records: manifest.records,
        checkpoint: manifest.checkpoint,
    })
}

/// Opens what was written, as a restore will.
fn read_back(path: &Path, key: &BackupKey, manifest: &Manifest) -> io::Result<()> {
    let mut opener = Opener::begin(File::open(path)?, key)?;
    let mut length = [0; 8];
    opener.read_exact(&mut length)?;
    let mut text = Vec::new();
    (&mut opener)
        .take(u64::from_be_bytes(length))
        .read_to_end(&mut text)?;
    if text != manifest.to_json().map_err(io::Error::other)? {
        return Err(not_as_meant());
    }
    for part in &manifest.parts {
        let (bytes, sha256) = pack::copy(&mut (&mut opener).take(part.bytes), &mut io::sink())?;
        is_same(part, bytes, &sha256)?;
    }
    match pack::copy(&mut opener, &mut io::sink())? {
        (0, _) => Ok(()),
        _ => Err(not_as_meant()),
    }
}

fn is_same(part: &Part, bytes: u64, sha256: &str) -> io::Result<()> {
    match part.bytes == bytes && part.sha256 == sha256 {
        true => Ok(()),
        false => Err(not_as_meant()),
    }
}

fn not_as_meant() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "what was read back is not what was written",
    )
}

fn failed(path: &Path, error: &io::Error) -> PortError {
    let next = match error.kind() {
        io::ErrorKind::StorageFull => "free space on that disk, then ask again",
        io::ErrorKind::InvalidData => "look at that disk and this machine's memory, then ask again",
        _ => "look at that path, then ask again",
    };
    let text = format!("no backup was made at {}: {error}; {next}", path.display());
    PortError::new(ErrorKind::Unavailable, text)
}
