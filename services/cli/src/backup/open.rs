//! Opens a backup and looks at all of it: the bytes by their seal and digests, the journal by its chain, its
//! signatures and its tree, the cache by its pages and its keys, and each of them by whose it is.
//!
//! Invariants: nothing is taken for a part that its seal, its digest or its name does not prove; of a backup that is
//! refused no file is left; no value is opened.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keywheel_cache::{Cache, Found, check_file};
use keywheel_core::id::DeploymentId;
use keywheel_daemon::SystemClock;
use keywheel_journal::checkpoint::{Checkpoint, verifier_key};
use keywheel_journal::verify_file;
use keywheel_schemas::backup::{MAX_MANIFEST_BYTES, Manifest, Part};
use keywheel_seal::OsEntropy;
use keywheel_seal::backup::{BackupKey, BadBackup, deployment_of};
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::sign::VerifyingKey;
use rustix::fs::OFlags;

use super::pack::{self, Opener};
use crate::exit::{Exit, Failure};
use crate::up;

/// A directory that is removed with what is in it, unless it is kept.
pub(crate) struct Folder {
    path: PathBuf,
    /// Itself, whatever its name comes to stand for: whoever owns the directory above can rename it.
    held: File,
    is_kept: bool,
}

/// A backup that is what it says.
pub(crate) struct Examined {
    pub(crate) manifest: Manifest,
    pub(crate) deployment: DeploymentId,
    pub(crate) cache: Found,
    /// Whether the cache's keys were opened; where store-sync is unsealed by others than a key file they cannot be.
    pub(crate) has_opened_keys: bool,
}

impl Folder {
    /// Makes it, for our user only.
    pub(crate) fn make(path: PathBuf) -> Result<Self, Failure> {
        let made = DirBuilder::new().mode(0o700).create(&path);
        let held = made.and_then(|()| hold(&path));
        let held = held.map_err(|error| cannot_write(&path, &error))?;
        Ok(Self {
            path,
            held,
            is_kept: false,
        })
    }

    /// Another name of it, for this process and as long as it is there.
    pub(crate) fn pinned(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.held.as_raw_fd()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on it is left where it is.
    pub(crate) fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            // What is left is for our user only, the journal unsealed; it is in the way of the next attempt, which
            // says so.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Opens a directory that was made just now, and no link that came in its place.
fn hold(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    options.open(path)
}

/// Whose backup a file says that it is.
pub(crate) fn whose(file: &Path) -> Result<DeploymentId, Failure> {
    let mut opened = File::open(file).map_err(|error| cannot_read(file, &error))?;
    let header = pack::header(&mut opened).map_err(|error| cannot_read(file, &error))?;
    let named = deployment_of(&header).map_err(|error| refused(file, &error))?;
    Ok(DeploymentId::from_bytes(named))
}

/// Unpacks a backup into a directory and looks at all of it.
pub(crate) async fn examine(
    file: &Path,
    (unseal, key_file): (UnsealKey, &Path),
    folder: &Path,
) -> Result<Examined, Failure> {
    let deployment = whose(file)?;
    let opened = File::open(file).map_err(|error| cannot_read(file, &error))?;
    let key = BackupKey::of(&unseal);
    let manifest =
        unpack(opened, &key, folder).map_err(|error| of_bytes(file, key_file, &error))?;
    let wrong = |what: &str| unproven(file, what);
    if manifest.deployment != deployment.to_string() {
        return Err(wrong("its seal and its manifest name two deployments"));
    }
    let own = up::identity_in(folder, &unseal, key_file)?;
    if own.deployment != deployment {
        return Err(wrong("its identity is another deployment's"));
    }
    check_journal(file, folder, &manifest, (&own.origin, &own.gateway)).await?;
    let path = folder.join("cache.db");
    let cache = check_file(&path, *deployment.bytes()).await;
    let cache = cache.map_err(|error| wrong(&keywheel_daemon::chain(&error)))?;
    let has_opened_keys = !folder.join("seal.json").exists();
    if has_opened_keys {
        // Its keys open, so its values will.
        let (entropy, clock) = (Arc::new(OsEntropy), Arc::new(SystemClock::new()));
        let opened = Cache::open(&path, *deployment.bytes(), unseal, entropy, clock).await;
        let opened = opened.map_err(|error| wrong(&keywheel_daemon::chain(&error)))?;
        let closed = opened.close().await;
        closed.map_err(|error| wrong(&keywheel_daemon::chain(&error)))?;
    }
    Ok(Examined {
        manifest,
        deployment,
        cache,
        has_opened_keys,
    })
}

async fn check_journal(
    file: &Path,
    folder: &Path,
    manifest: &Manifest,
    (origin, gateway): (&str, &VerifyingKey),
) -> Result<(), Failure> {
    let wrong = |what: &str| unproven(file, what);
    let verified = verify_file(&folder.join("journal.db")).await;
    let (found, key) = verified.map_err(|error| wrong(&keywheel_daemon::chain(&error)))?;
    if key != verifier_key(origin, gateway) {
        return Err(wrong(
            "its journal is signed by another deployment's gateway",
        ));
    }
    if let Some(fault) = found.faults.first() {
        return Err(wrong(&format!("its journal does not verify: {fault}")));
    }
    let records = found.audit_records.saturating_add(found.removed_records);
    if (found.events, records) != (manifest.head, manifest.records) {
        return Err(wrong("its journal does not end where its manifest says"));
    }
    let signed = Checkpoint::verify(&manifest.checkpoint, origin, gateway);
    match signed.is_ok_and(|signed| signed.size == manifest.records) {
        true => Ok(()),
        false => Err(wrong("its checkpoint is not its gateway's")),
    }
}

fn unpack(from: File, key: &BackupKey, folder: &Path) -> io::Result<Manifest> {
    let mut opener = Opener::begin(io::BufReader::new(from), key)?;
    let manifest = read_manifest(&mut opener)?;
    for part in &manifest.parts {
        unpack_part(&mut opener, part, &folder.join(&part.name))?;
    }
    match pack::copy(&mut opener, &mut io::sink())? {
        (0, _) => Ok(manifest),
        _ => Err(invalid("it has more than its manifest names")),
    }
}

fn read_manifest(opener: &mut impl Read) -> io::Result<Manifest> {
    let mut length = [0; 8];
    opener.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > MAX_MANIFEST_BYTES as u64 {
        return Err(invalid("its manifest is too long"));
    }
    let mut text = Vec::new();
    opener.take(length).read_to_end(&mut text)?;
    Manifest::parse(&text).map_err(|error| invalid(&keywheel_daemon::chain(&error)))
}

fn unpack_part(opener: &mut impl Read, part: &Part, to: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(to)?;
    let (bytes, sha256) = pack::copy(&mut opener.take(part.bytes), &mut file)?;
    file.sync_all()?;
    match bytes == part.bytes && sha256 == part.sha256 {
        true => Ok(()),
        false => Err(invalid(&format!(
            "its part {} is not what was written",
            part.name
        ))),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// What is wrong with the bytes, or with this machine.
fn of_bytes(file: &Path, key_file: &Path, error: &io::Error) -> Failure {
    let bad = error.get_ref().and_then(|e| e.downcast_ref::<BadBackup>());
    match (bad, error.kind()) {
        (Some(BadBackup::Key), _) => Failure::new(
            Exit::Config,
            format!(
                "the unseal key {} does not open {}: another key sealed it, or its first bytes were changed",
                key_file.display(),
                file.display()
            ),
            "repeat the command with --unseal-key-file FILE, the key of the deployment that made it",
        ),
        (Some(bad), _) => refused(file, bad),
        (None, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
            unproven(file, &error.to_string())
        }
        (None, _) => Failure::new(
            Exit::CannotCreate,
            format!("{} cannot be unpacked: {error}", file.display()),
            "look at the disk that is unpacked to, then repeat the command",
        ),
    }
}

fn refused(file: &Path, bad: &BadBackup) -> Failure {
    unproven(file, &bad.to_string())
}

/// It is not what was written.
fn unproven(file: &Path, what: &str) -> Failure {
    Failure::new(
        Exit::Unverified,
        format!("{} does not verify: {what}", file.display()),
        "take another backup, which `keywheel backup verify FILE` finds whole; keep this one for whoever has to find out what happened to it",
    )
}

fn cannot_read(file: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::NoInput,
        format!("cannot read {}: {error}", file.display()),
        "name a backup that is there and that you may read, as `keywheel backup --out FILE` wrote it",
    )
}

pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let next = match error.kind() {
        io::ErrorKind::AlreadyExists => {
            "an earlier attempt left it; remove it, then repeat the command"
        }
        _ => "name a place that exists and that you may write to",
    };
    let what = format!("cannot make {}: {error}", path.display());
    Failure::new(Exit::CannotCreate, what, next)
}
