//! Writing several files as one, and reading them back with an eye on who else can.
//!
//! Steps of a replacement: every new file beside (`NAME.new`), synced; the marker, synced: from here
//! on the new ones count; each renamed; the marker removed. [`finish`] completes what a crash left
//! after the marker; what it left before the marker makes way for the next attempt. What root writes belongs to
//! the directory's owner, who may put anything in its way: a name that is written is always made anew, so that no link
//! is followed and nothing is given away that was there before.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

use keywheel_seal::SecretBytes;

use super::BundleError;

/// Says that the files beside count. Holds their names, one a line.
const MARKER: &str = "replacing";
/// Largest file read.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

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
    let names = match fs::read_to_string(&marker) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&marker, "read", error)),
    };
    for name in names.lines() {
        let plain = !name.is_empty() && !name.contains('/') && name != "..";
        let from = beside(directory, name);
        if plain && from.exists() {
            let to = directory.join(name);
            let before = plain_file(&to);
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

/// Reads one file; one that others can read is refused.
pub(crate) fn read(directory: &Path, name: &str) -> Result<SecretBytes, BundleError> {
    let path = directory.join(name);
    let mut file = File::open(&path).map_err(|error| failed(&path, "open", error))?;
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
fn plain_file(path: &Path) -> Option<File> {
    let found = fs::symlink_metadata(path).ok()?;
    let open = || File::options().read(true).write(true).open(path).ok();
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
    let file = File::open(directory).map_err(|error| failed(directory, "open", error))?;
    file.lock()
        .map_err(|error| failed(directory, "lock", error))?;
    Ok(file)
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
