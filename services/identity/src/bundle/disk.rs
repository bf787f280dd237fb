//! Writing several files as one, and reading them back with an eye on who else can.
//!
//! Steps of a replacement: every new file beside (`NAME.new`), synced; the marker, synced: from here
//! on the new ones count; each renamed; the marker removed. [`finish`] completes what a crash left
//! after the marker; what it left before the marker makes way for the next attempt. What root writes belongs to
//! the directory's owner, who may put anything in its way: a name that is written is always made anew, so that no link
//! is followed and nothing is given away that was there before. What root reads there is the owner's own, and no link: a
//! file of ours in its place would be written anew, and given to that one. Nobody keeps us waiting for ever.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_seal::SecretBytes;
use rustix::fs::OFlags;

use super::BundleError;

/// Says that the files beside count. Holds their names, one a line.
const MARKER: &str = "replacing";
/// Largest file read.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Pause between two tries for the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Most tries: for half a minute, which no replacement takes.
const LOCK_TRIES: u32 = 1500;
/// User id of root.
const ROOT: u32 = 0;

/// Makes the directory if it is not there (its parent must be), and puts all files into it.
pub(crate) fn replace(directory: &Path, files: &[(&str, SecretBytes)]) -> Result<(), BundleError> {
    make_directory(directory)?;
    let _lock = lock(directory)?;
    finish_locked(directory)?;
    for (name, content) in files {
        // EXPOSE: credentials are kept in this file, which only their owner reads.
        write_synced(&beside(directory, name), content.expose())?;
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let marker = beside(directory, MARKER);
    write_synced(&marker, names.join("\n").as_bytes())?;
    rename(&marker, &directory.join(MARKER))?;
    sync(directory)?;
    finish_locked(directory)
}

/// Completes a replacement that was decided, and keeps others from beginning one while the answer
/// is held.
pub(crate) fn finish(directory: &Path) -> Result<File, BundleError> {
    let lock = lock(directory)?;
    finish_locked(directory)?;
    Ok(lock)
}

fn finish_locked(directory: &Path) -> Result<(), BundleError> {
    let marker = directory.join(MARKER);
    let names = match open(directory, &marker, OpenOptions::new().read(true)) {
        Ok(file) => names(file).map_err(|error| failed(&marker, "read", error))?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&marker, "read", error)),
    };
    for name in names.lines() {
        let plain = !name.is_empty() && !name.contains('/') && name != "..";
        let from = beside(directory, name);
        if plain && from.exists() {
            let to = directory.join(name);
            let before = plain_file(directory, &to);
            rename(&from, &to)?;
            if let Some(before) = before {
                overwrite(&before)
                    .map_err(|error| failed(&to, "overwrite what was before at", error))?;
            }
        }
    }
    sync(directory)?;
    fs::remove_file(&marker).map_err(|error| failed(&marker, "remove", error))?;
    sync(directory)
}

/// The names in a marker.
fn names(file: File) -> std::io::Result<String> {
    let mut names = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut names)?;
    Ok(names)
}

/// Whether root is in a directory of somebody else. Nobody but root can read what is not theirs, or give it away: a
/// service that owns its files and not the directory that they lie in reads them as ever.
const fn is_of_another(owner: u32, own: u32) -> bool {
    own == ROOT && owner != ROOT
}

/// Opens a file of a directory. Whoever owns the directory may have put something else in its place: a pipe, which
/// nobody fills, and where we are root and they are not, a file that is not theirs to read.
fn open(directory: &Path, path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    let owner = fs::metadata(directory)?.uid();
    let is_theirs = is_of_another(owner, rustix::process::geteuid().as_raw());
    let file = match is_theirs {
        true => open_plain(path, options).map_err(|error| link_of(owner, error))?,
        false => open_with(path, options, OFlags::NONBLOCK | OFlags::NOCTTY)?,
    };
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(refused("it is no file".to_owned()));
    }
    if is_theirs && about.uid() != owner {
        let uid = about.uid();
        return Err(refused(format!(
            "it belongs to uid {uid} in a directory of uid {owner}: make sure that it is theirs, and `chown` it to that user"
        )));
    }
    Ok(file)
}

/// What is said where no link is followed, and one is there.
fn link_of(owner: u32, error: std::io::Error) -> std::io::Error {
    match error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        true => refused(format!(
            "it is a link, which root does not follow in a directory of uid {owner}: put the file itself there"
        )),
        false => error,
    }
}

fn refused(text: String) -> std::io::Error {
    std::io::Error::new(ErrorKind::PermissionDenied, text)
}

/// A directory as it was opened, whatever its name comes to stand for.
pub(crate) struct Pinned {
    _held: File,
    path: PathBuf,
}

impl Pinned {
    /// The one that the name stands for now: whoever owns the directory above could put another one there between a
    /// look and a change.
    pub(crate) fn open(directory: &Path) -> Result<Self, BundleError> {
        let held = open_directory(directory)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
        Ok(Self { _held: held, path })
    }

    /// Another name of it, for this process.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn open_directory(directory: &Path) -> Result<File, BundleError> {
    let flags = OFlags::DIRECTORY | OFlags::NONBLOCK;
    let opened = open_with(directory, OpenOptions::new().read(true), flags);
    opened.map_err(|error| failed(directory, "open", error))
}

/// Opens what stands under a name now, whatever a look at it said before: no link is followed, and nobody is waited for.
pub(crate) fn open_plain(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    open_with(path, options, flags)
}

fn open_with(path: &Path, options: &mut OpenOptions, flags: OFlags) -> std::io::Result<File> {
    options.custom_flags(flags.bits().cast_signed()).open(path)
}

/// Reads one file; one that others can read is refused.
pub(crate) fn read(directory: &Path, name: &str) -> Result<SecretBytes, BundleError> {
    let path = directory.join(name);
    let opened = open(directory, &path, OpenOptions::new().read(true));
    let mut file = opened.map_err(|error| failed(&path, "open", error))?;
    let about = file
        .metadata()
        .map_err(|error| failed(&path, "look at", error))?;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(BundleError::Open {
            path,
            mode,
            wanted: FILE_MODE,
        });
    }
    if about.len() > MAX_FILE_BYTES {
        return Err(super::damaged(
            &path,
            format!("it is larger than {MAX_FILE_BYTES} bytes"),
        ));
    }
    let room = usize::try_from(about.len()).unwrap_or(0);
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(room + 1));
    let read = (&mut file).take(MAX_FILE_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| failed(&path, "read", error))?;
    Ok(SecretBytes::from(std::mem::take(&mut *bytes)))
}

/// Makes a directory for its owner only, or narrows the one that is there.
pub(crate) fn make_directory(directory: &Path) -> Result<(), BundleError> {
    match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))
                .map_err(|error| failed(directory, "narrow", error))
        }
        Err(error) => Err(failed(directory, "make", error)),
    }
}

/// What a name stands for, to be written; `None` where that is a link, or no file.
fn plain_file(directory: &Path, path: &Path) -> Option<File> {
    let found = fs::symlink_metadata(path).ok()?;
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let open = || open(directory, path, &mut options).ok();
    found.is_file().then(open).flatten()
}

/// Writes zeros over what a file held that has no name any more: keys are not left to whoever reads
/// the disk. One that has a name elsewhere is somebody's, and stays. File systems that never write in place keep copies
/// that are out of reach here.
fn overwrite(mut file: &File) -> std::io::Result<()> {
    let about = file.metadata()?;
    if about.nlink() > 0 {
        return Ok(());
    }
    std::io::copy(&mut std::io::repeat(0).take(about.len()), &mut file)?;
    file.sync_data()
}

fn write_synced(path: &Path, content: &[u8]) -> Result<(), BundleError> {
    let write = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let mut file = options.open(path)?;
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        if let Some(directory) = path.parent() {
            give(directory, &file)?;
        }
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|error| failed(path, "write", error))
}

/// Gives a file that was made just now to the directory's owner, who otherwise could not read what root left there.
pub(crate) fn give(directory: &Path, file: &File) -> std::io::Result<()> {
    let (is, wanted) = (file.metadata()?, fs::metadata(directory)?);
    if is.uid() == wanted.uid() {
        return Ok(());
    }
    fchown(file, Some(wanted.uid()), Some(wanted.gid()))
}

fn rename(from: &Path, to: &Path) -> Result<(), BundleError> {
    fs::rename(from, to).map_err(|error| failed(to, "replace", error))
}

/// One reader or writer at a time, over all processes; released when dropped.
fn lock(directory: &Path) -> Result<File, BundleError> {
    lock_within(directory, LOCK_TRIES)
}

/// The same, for so many tries: who has it may be stopped, or keep it on purpose.
pub(super) fn lock_within(directory: &Path, tries: u32) -> Result<File, BundleError> {
    let file = open_directory(directory)?;
    for _ in 0..tries {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(failed(directory, "lock", error)),
        }
    }
    let text = "somebody else holds it, who does not come to an end";
    let held = std::io::Error::new(ErrorKind::TimedOut, text);
    Err(failed(directory, "lock", held))
}

fn sync(directory: &Path) -> Result<(), BundleError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| failed(directory, "sync", error))
}

fn beside(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.new"))
}

fn failed(path: &Path, action: &'static str, source: std::io::Error) -> BundleError {
    BundleError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_has_to_beware_of_who_owns_a_directory() {
        const SERVICE: u32 = 4242;
        for (owner, own, is_theirs) in [
            (SERVICE, ROOT, true),
            (ROOT, ROOT, false),
            (ROOT, SERVICE, false),
            (SERVICE, SERVICE, false),
            (SERVICE + 1, SERVICE, false),
        ] {
            assert_eq!(is_of_another(owner, own), is_theirs, "{own} at {owner}");
        }
    }
}
