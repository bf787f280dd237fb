//! Directories, lock and unseal key of `keywheel up`: made on an empty machine, refused where
//! making them anew would lose something.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use keywheel_daemon::take_lock;
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;
use rustix::fs::OFlags;

use super::error::{Error, Kind};
use crate::reading;

/// The lock of a data directory.
const LOCK: &str = "up.lock";
/// Largest unseal key file, in bytes.
const MAX_KEY_FILE_BYTES: usize = 4096;
/// Most symbolic links on the way to a key or a directory, as the kernel has it.
const MAX_LINKS: u32 = 40;
/// Where systemd says that a service's credentials lie.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Makes a directory only its owner can enter, or accepts one that is there.
pub(crate) fn private_directory(path: &Path) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Err(Error::not_a_directory(path)),
        Ok(_) => {}
        Err(_) => {
            let mut builder = fs::DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|e| Error::path(path, &e))?;
        }
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|e| Error::path(path, &e))
}

/// Makes a directory everyone may enter: the socket lies in it.
pub(crate) fn open_directory(path: &Path) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(Error::not_a_directory(path)),
        Ok(_) => Ok(()),
        Err(_) => {
            let mut builder = fs::DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(|e| Error::path(path, &e))
        }
    }
}

/// Holds the data directory for this process; the kernel frees it when the process dies. Who lets go of it is waited
/// for. Blocks, for a moment at most.
pub(crate) fn lock(data_dir: &Path) -> Result<File, Error> {
    let path = data_dir.join(LOCK);
    let mut file = open_lock(&path).map_err(|e| Error::path(&path, &e))?;
    if !take_lock(&file).map_err(|e| Error::path(&path, &e))? {
        let mut holder = String::new();
        let _unreadable = (&mut file).take(32).read_to_string(&mut holder);
        let holder = holder.trim();
        let words = if holder.is_empty() {
            String::new()
        } else {
            format!(" (pid {holder})")
        };
        return Err(Error::already_running(data_dir, &words));
    }
    file.set_len(0).map_err(|e| Error::path(&path, &e))?;
    writeln!(file, "{}", std::process::id()).map_err(|e| Error::path(&path, &e))?;
    Ok(file)
}

/// Opens the lock, or makes it. It is written anew, and root may hold a directory of somebody else, who can have put a
/// link in its place: that would be another file, which is neither cut nor waited for.
fn open_lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed());
    let file = options.open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.nlink() != 1 {
        let text = "it is no lock of ours: a pipe, or a file that has another name, too";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    Ok(file)
}

/// Whether nothing that a key would have to open is in the directory yet.
fn is_fresh(data_dir: &Path) -> Result<bool, Error> {
    let entries = fs::read_dir(data_dir).map_err(|e| Error::path(data_dir, &e))?;
    Ok(entries
        .filter_map(Result::ok)
        .all(|entry| is_nothing(&entry.file_name())))
}

/// Whether a directory that has this and no more counts as empty: the lock of a run that ended before it made
/// anything, and what a disk's root has.
pub(crate) fn is_nothing(name: &OsStr) -> bool {
    name == LOCK || name == "lost+found"
}

/// Reads the unseal key; makes one when the data directory is empty and none is there.
pub(crate) fn unseal_key(path: &Path, data_dir: &Path) -> Result<UnsealKey, Error> {
    refuse_inside(path, data_dir)?;
    let fresh = is_fresh(data_dir)?;
    match File::open(path) {
        Ok(file) => read_key(path, file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && fresh => make_key(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::unseal_key_missing(path, data_dir))
        }
        Err(error) => Err(Error::path(path, &error)),
    }
}

/// The unseal key of a deployment that is being made: the one that is there, or a new one.
pub(crate) fn first_unseal_key(path: &Path, deployment: &Path) -> Result<UnsealKey, Error> {
    refuse_inside(path, deployment)?;
    match File::open(path) {
        Ok(file) => read_key(path, file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_key(path),
        Err(error) => Err(Error::path(path, &error)),
    }
}

/// The unseal key of credentials that are there already.
pub(crate) fn present_unseal_key(path: &Path, protects: &Path) -> Result<UnsealKey, Error> {
    refuse_inside(path, protects)?;
    match File::open(path) {
        Ok(file) => read_key(path, file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::unseal_key_missing(path, protects))
        }
        Err(error) => Err(Error::path(path, &error)),
    }
}

/// Whether the unseal key of a `keywheel up` is there: none is where its first start makes one.
pub(crate) fn has_unseal_key(path: &Path, data_dir: &Path) -> Result<bool, Error> {
    refuse_inside(path, data_dir)?;
    let looked = fs::metadata(path);
    let is_missing = looked.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    if is_missing {
        let is_there = data_dir.try_exists();
        let is_there = is_there.map_err(|e| Error::path(data_dir, &e))?;
        if !is_there || is_fresh(data_dir)? {
            return Ok(false);
        }
    }
    present_unseal_key(path, data_dir).map(|_| true)
}

fn refuse_inside(key: &Path, data_dir: &Path) -> Result<(), Error> {
    match is_inside(key, data_dir)? {
        true => Err(Error::unseal_key_inside(key, data_dir)),
        false => Ok(()),
    }
}

/// Whether a file lies inside a directory. Follows links in parts that do not exist yet, too: what would be made there
/// must not be inside.
pub(crate) fn is_inside(file: &Path, directory: &Path) -> Result<bool, Error> {
    let real = |path: &Path| {
        let mut links = MAX_LINKS;
        real_path(path, &mut links).map_err(|e| Error::path(path, &e))
    };
    Ok(real(file)?.starts_with(real(directory)?))
}

/// Where a path leads, whether or not all of it exists.
fn real_path(path: &Path, links: &mut u32) -> io::Result<PathBuf> {
    let mut real = match path.is_absolute() {
        true => PathBuf::from("/"),
        false => fs::canonicalize(".")?,
    };
    for part in path.components() {
        match part {
            Component::ParentDir => {
                real.pop();
            }
            Component::Normal(name) => real = follow(&real.join(name), links)?,
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(real)
}

/// Where one more step leads from a real directory.
fn follow(step: &Path, links: &mut u32) -> io::Result<PathBuf> {
    let Ok(target) = fs::read_link(step) else {
        return Ok(step.to_owned());
    };
    *links = links
        .checked_sub(1)
        .ok_or_else(|| io::Error::other("too many symbolic links"))?;
    let beside = step.parent().unwrap_or(Path::new("/"));
    real_path(&beside.join(target), links)
}

/// The bits of a key file's mode that would let others read it. A service manager's credential is
/// root's, and an access list, which stands where the group's bits are, lets the service alone read it.
fn others(path: &Path, credentials: Option<&str>) -> u32 {
    match credentials {
        Some(directory) if path.starts_with(directory) => 0o037,
        _ => 0o077,
    }
}

fn read_key(path: &Path, file: File) -> Result<UnsealKey, Error> {
    let found = file.metadata().map_err(|e| Error::path(path, &e))?;
    let others = others(path, keywheel_daemon::env::lookup(CREDENTIALS).as_deref());
    if found.permissions().mode() & others != 0 {
        return Err(Error::new(
            Kind::Refused,
            format!(
                "the unseal key {} can be read by others (mode {:04o})",
                path.display(),
                found.permissions().mode() & 0o7777
            ),
            format!("chmod 0600 {}", path.display()),
        ));
    }
    let read = reading::secret(file, MAX_KEY_FILE_BYTES);
    let bytes = read.map_err(|e| Error::path(path, &e))?;
    UnsealKey::from_file(&bytes).map_err(|error| {
        Error::new(
            Kind::Refused,
            format!("{} is not an unseal key: {error}", path.display()),
            "give the file that the first `keywheel up` made: 64 hexadecimal digits",
        )
    })
}

fn make_key(path: &Path) -> Result<UnsealKey, Error> {
    if let Some(parent) = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty() && !p.exists())
    {
        private_directory(parent)?;
    }
    let key = UnsealKey::generate(&OsEntropy);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(|e| Error::path(path, &e))?;
    // EXPOSE: the key's one resting place, outside the data directory.
    file.write_all(key.to_file().expose())
        .map_err(|e| Error::path(path, &e))?;
    file.sync_all().map_err(|e| Error::path(path, &e))?;
    tracing::info!(path = %path.display(), "unseal key made; keep a copy of it in a safe place");
    Ok(key)
}

#[cfg(test)]
mod tests;
