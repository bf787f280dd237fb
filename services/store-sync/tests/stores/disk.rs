//! The store `local` in a file on a small disk of its own, which can be full, read-only, torn, put back
//! to an earlier state, or opened with another key.
//!
//! A kill is what it leaves behind: the files as they lay, without an orderly close.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_cache::{Cache, Error};
use keywheel_core::effect::Outside;
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::store::{RemoteVersion, Source};
use keywheel_engine::port::rotator::Rotator;
use keywheel_engine::port::vault::{Inserted, VersionVault};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::hpke::HostKeyPair;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_stores::LocalStore;
use keywheel_testkit::conformance::rotator::Home;
use keywheel_testkit::conformance::rotator::faults::{Fault, Faulty};
use keywheel_testkit::disk::settle;
use tempfile::TempDir;
use tokio::sync::RwLock;

use crate::{DEPLOYMENT, clock};

/// Size of the disk.
const SIZE: &str = "size=2m";
const FILLER: &str = "filler";
/// How often a disk is mounted anew until that is done, and the time between.
const REMOUNTS: usize = 3000;
const BETWEEN_REMOUNTS: Duration = Duration::from_millis(20);
/// A torn write's parts.
const PARTS: usize = 8;

/// What is wrong with a disk at which nothing can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// No room.
    Full,
    /// Nothing may be written: the process finds that at its start.
    ReadOnly,
}

/// What becomes of the next write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The process is killed when so many eighths of it are on the disk.
    Torn(usize),
    /// It is killed when all of it is, before anybody is told.
    Untold,
    /// The disk says that it has it, and has it not after the next start.
    Forgotten,
}

type Files = BTreeMap<OsString, Vec<u8>>;

/// The cache beneath the store, which may be killed and opened again.
struct Beneath {
    folder: PathBuf,
    open: RwLock<Option<Cache>>,
    fate: Mutex<Option<Fate>>,
}

impl Beneath {
    fn path(&self) -> PathBuf {
        self.folder.join("cache.db")
    }

    async fn try_open(&self, key: &SecretBytes) -> Result<(), Error> {
        let (key, path) = (UnsealKey::from_file(key).unwrap(), self.path());
        let cache = Cache::open(&path, DEPLOYMENT, key, Arc::new(OsEntropy), clock());
        *self.open.write().await = Some(cache.await?);
        Ok(())
    }

    fn files(&self) -> Files {
        let entries = fs::read_dir(&self.folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        let is_ours = |name: &OsString| name.to_string_lossy().starts_with("cache.db");
        let names = names.filter(is_ours);
        names
            .map(|name| {
                let bytes = fs::read(self.folder.join(&name)).unwrap();
                (name, bytes)
            })
            .collect()
    }

    fn put_back(&self, files: &Files) {
        for name in self.files().into_keys() {
            fs::remove_file(self.folder.join(name)).unwrap();
        }
        for (name, bytes) in files {
            let path = self.folder.join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    /// The process ends, with these files left.
    async fn kill(&self, left: &Files) {
        if let Some(cache) = self.open.write().await.take() {
            cache.close().await.unwrap();
        }
        self.put_back(left);
    }

    fn take_fate(&self) -> Option<Fate> {
        self.fate.lock().unwrap().take()
    }
}

/// What is on the disk when only so many eighths of what was written after `before` are.
fn torn(before: &Files, after: &Files, eighths: usize) -> Files {
    let mut left = before.clone();
    for (name, bytes) in after {
        let old = before.get(name).map_or(0, Vec::len);
        // The log grows, and the file itself is as it was.
        if name == "cache.db-wal" && bytes.len() > old {
            let length = old + (bytes.len() - old) * eighths / PARTS;
            left.insert(name.clone(), bytes[..length].to_vec());
        }
    }
    left
}

/// The cache that runs, or why there is none.
fn running(open: &Option<Cache>) -> Result<&Cache, PortError> {
    let gone = || PortError::new(ErrorKind::Unavailable, "store-sync does not run");
    open.as_ref().ok_or_else(gone)
}

/// [`Beneath`], with what opens it: a start comes after every kill.
pub(crate) struct Kept {
    beneath: Beneath,
    key: SecretBytes,
}

/// A write's fate, and what was on the disk before.
type Fated = Option<(Fate, Files)>;

impl Kept {
    fn before_write(&self) -> Fated {
        let fate = self.beneath.take_fate()?;
        Some((fate, self.beneath.files()))
    }

    async fn after_write<T>(
        &self,
        fated: Fated,
        answer: Result<T, PortError>,
    ) -> Result<T, PortError> {
        let Some((fate, before)) = fated else {
            return answer;
        };
        let after = self.beneath.files();
        let left = match fate {
            Fate::Torn(eighths) => torn(&before, &after, eighths),
            Fate::Untold => after,
            Fate::Forgotten => before,
        };
        self.beneath.kill(&left).await;
        self.beneath.try_open(&self.key).await.unwrap();
        match fate {
            Fate::Forgotten => answer,
            _ => Err(PortError::new(ErrorKind::Unavailable, "it was killed")),
        }
    }
}

#[async_trait]
impl VersionVault for Kept {
    async fn insert(
        &self,
        secret: SecretId,
        version: u64,
        token: RotationId,
        value: &SecretBytes,
    ) -> Result<Inserted, PortError> {
        let fated = self.before_write();
        let answer = {
            let open = self.beneath.open.read().await;
            running(&open)?.insert(secret, version, token, value).await
        };
        self.after_write(fated, answer).await
    }

    async fn open(&self, secret: SecretId, version: u64) -> Result<SecretBytes, PortError> {
        let open = self.beneath.open.read().await;
        VersionVault::open(running(&open)?, secret, version).await
    }

    async fn has(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        let open = self.beneath.open.read().await;
        VersionVault::has(running(&open)?, secret, version).await
    }

    async fn is_destroyed(&self, secret: SecretId, version: u64) -> Result<bool, PortError> {
        let open = self.beneath.open.read().await;
        VersionVault::is_destroyed(running(&open)?, secret, version).await
    }

    async fn destroy(&self, secret: SecretId, version: u64) -> Result<(), PortError> {
        let fated = self.before_write();
        let answer = {
            let open = self.beneath.open.read().await;
            VersionVault::destroy(running(&open)?, secret, version).await
        };
        self.after_write(fated, answer).await
    }

    async fn stash(&self, token: RotationId, value: &SecretBytes) -> Result<Inserted, PortError> {
        let open = self.beneath.open.read().await;
        VersionVault::stash(running(&open)?, token, value).await
    }

    async fn stashed(&self, token: RotationId) -> Result<Option<SecretBytes>, PortError> {
        let open = self.beneath.open.read().await;
        VersionVault::stashed(running(&open)?, token).await
    }

    async fn store_keys(&self) -> Result<Vec<HostKeyPair>, PortError> {
        let open = self.beneath.open.read().await;
        VersionVault::store_keys(running(&open)?).await
    }

    async fn drop_stashed(&self, token: RotationId) -> Result<(), PortError> {
        let open = self.beneath.open.read().await;
        VersionVault::drop_stashed(running(&open)?, token).await
    }
}

/// A mounted file system of [`SIZE`]; it goes with its value.
struct Mounted(TempDir);

impl Mounted {
    /// `None` without root, which is said aloud, and a failure in CI.
    fn make() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let words = ["-t", "tmpfs", "-o", SIZE, "keywheel-test"];
        if !ran(Command::new("mount").args(words).arg(folder.path())) {
            assert!(std::env::var_os("CI").is_none(), "CI needs root to mount");
            eprintln!("SKIPPED: needs root to mount a small file system");
            return None;
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What a test beside this one just starts has what was open for writing here, until it runs: so long the disk does
    /// not become read-only.
    fn remount(&self, how: &str) {
        let how = format!("remount,{how},{SIZE}");
        for _ in 0..REMOUNTS {
            if ran(Command::new("mount").args(["-o", &how]).arg(self.path())) {
                return;
            }
            std::thread::sleep(BETWEEN_REMOUNTS);
        }
        panic!("it is not mounted anew: {how}");
    }

    fn fill(&self) {
        settle(self.path());
        for size in [1 << 16, 4096, 1] {
            let chunk = vec![0; size];
            let mut number = 0;
            // A file that was begun takes a page of its own, so the last ones fail to grow.
            while fs::write(
                self.path().join(format!("{FILLER}-{size}-{number}")),
                &chunk,
            )
            .is_ok()
            {
                number += 1;
            }
        }
    }

    fn empty(&self) {
        for entry in fs::read_dir(self.path()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with(FILLER) {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        ran(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

fn ran(command: &mut Command) -> bool {
    command.output().is_ok_and(|ran| ran.status.success())
}

/// The store `local` on such a disk.
pub(crate) struct Disk {
    // Closed before its disk goes.
    kept: Arc<Kept>,
    rotator: Arc<LocalStore>,
    broken: Broken,
    torn_at: usize,
    begun: Option<Fault>,
    mounted: Mounted,
}

impl Disk {
    /// What can go wrong at a file. Nobody is asked over a network, so nobody is slow or busy, and
    /// nobody else writes.
    pub(crate) const FAULTS: [Fault; 5] = [
        Fault::Down,
        Fault::Half,
        Fault::Lost,
        Fault::Lie,
        Fault::Expired,
    ];

    pub(crate) async fn make(broken: Broken) -> Option<Self> {
        let mounted = Mounted::make()?;
        let beneath = Beneath {
            folder: mounted.path().to_owned(),
            open: RwLock::new(None),
            fate: Mutex::new(None),
        };
        let key = UnsealKey::generate(&OsEntropy).to_file();
        beneath.try_open(&key).await.unwrap();
        let kept = Arc::new(Kept { beneath, key });
        let port: Arc<dyn VersionVault> = Arc::clone(&kept) as _;
        Some(Self {
            rotator: Arc::new(LocalStore::new(port, Arc::new(OsEntropy))),
            kept,
            broken,
            torn_at: PARTS / 2,
            begun: None,
            mounted,
        })
    }

    /// The process cannot start on a disk like this, and says what is wrong.
    async fn read_only(&self) {
        let beneath = &self.kept.beneath;
        beneath.kill(&beneath.files()).await;
        self.mounted.remount("ro");
        let refused = beneath.try_open(&self.kept.key).await.unwrap_err();
        assert!(refused.to_string().contains("Read-only"), "{refused}");
    }

    /// Nor with another key; that it changes nothing shows when it goes on with the right one.
    async fn wrong_key(&self) {
        let beneath = &self.kept.beneath;
        beneath.kill(&beneath.files()).await;
        let other = UnsealKey::generate(&OsEntropy).to_file();
        let refused = beneath.try_open(&other).await.unwrap_err();
        assert!(matches!(refused, Error::WrongUnsealKey { .. }), "{refused}");
    }

    /// Every part of a write.
    pub(crate) fn parts() -> impl Iterator<Item = usize> {
        0..=PARTS
    }

    /// The next writes are torn there.
    pub(crate) fn tears_at(&mut self, eighths: usize) {
        self.torn_at = eighths;
    }
}

#[async_trait]
impl Home for Disk {
    fn rotator(&self) -> Arc<dyn Rotator> {
        Arc::clone(&self.rotator) as _
    }

    fn vault(&self) -> Arc<dyn VersionVault> {
        Arc::clone(&self.kept) as _
    }

    fn place(&self) -> Option<Outside> {
        None
    }

    async fn there(&self, _: &Source) -> Option<(RemoteVersion, SecretBytes)> {
        None
    }

    async fn write(&self, _: &Source, _: &SecretBytes) {
        panic!("nobody else writes here");
    }
}

#[async_trait]
impl Faulty for Disk {
    async fn begin(&mut self, fault: Fault) {
        self.begun = Some(fault);
        let fate = match fault {
            Fault::Down if self.broken == Broken::ReadOnly => return self.read_only().await,
            Fault::Down => return self.mounted.fill(),
            Fault::Expired => return self.wrong_key().await,
            Fault::Half => Fate::Torn(self.torn_at),
            Fault::Lost => Fate::Untold,
            Fault::Lie => Fate::Forgotten,
            Fault::Slow | Fault::Busy | Fault::Newer => panic!("no file can do that"),
        };
        *self.kept.beneath.fate.lock().unwrap() = Some(fate);
    }

    async fn end(&mut self) {
        let beneath = &self.kept.beneath;
        beneath.take_fate();
        match self.begun.take() {
            Some(Fault::Down) if self.broken == Broken::Full => self.mounted.empty(),
            Some(Fault::Down) => {
                self.mounted.remount("rw");
                beneath.try_open(&self.kept.key).await.unwrap();
            }
            Some(Fault::Expired) => beneath.try_open(&self.kept.key).await.unwrap(),
            _ => {}
        }
    }

    fn serves(&self, fault: Fault) -> bool {
        match fault {
            Fault::Down => self.broken == Broken::Full,
            Fault::Expired => false,
            _ => true,
        }
    }
}
