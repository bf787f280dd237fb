//! A file of an engine's configuration on disk: locked while it is worked on, kept once as it was, replaced as a
//! whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::daemon_json::Fault;
use crate::exit::{Exit, Failure};

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// Mode of a file that we make.
const MODE: u32 = 0o644;
/// What the copy from before is called.
const BACKUP: &str = ".before-keywheel";

/// The file; nobody else of ours works on it.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    /// The directory, locked.
    directory: File,
    /// The mode of a new one.
    mode: u32,
}

impl ConfigFile {
    /// Makes the directory if need be and waits for whoever works on it. A link is followed.
    pub(super) fn lock(path: PathBuf) -> Result<Self, Failure> {
        Self::lock_with(path, MODE)
    }

    /// The same for one that gets this mode when it is new.
    pub(super) fn lock_with(path: PathBuf, mode: u32) -> Result<Self, Failure> {
        let path = path.canonicalize().unwrap_or(path);
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        let opened = fs::create_dir_all(&directory).and_then(|()| File::open(&directory));
        let directory = opened.map_err(|error| refused("open", &directory, &error))?;
        flock(&directory, FlockOperation::LockExclusive)
            .map_err(|error| refused("lock", &path, &error.into()))?;
        Ok(Self {
            path,
            directory,
            mode,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn backup_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(BACKUP);
        path.into()
    }

    /// Its text; `None` when there is none.
    pub(super) fn read(&self) -> Result<Option<String>, Failure> {
        read(&self.path)
    }

    /// Its text from before us.
    pub(super) fn backup(&self) -> Result<Option<String>, Failure> {
        read(&self.backup_path())
    }

    /// Keeps the text from before us, once.
    pub(super) fn back_up(&self, text: &str) -> Result<(), Failure> {
        self.place(&self.backup_path(), text)
    }

    /// The text from before us is not needed any more.
    pub(super) fn drop_backup(&self) -> Result<(), Failure> {
        gone(&self.backup_path())
    }

    /// Replaces it.
    pub(super) fn write(&self, text: &str) -> Result<(), Failure> {
        self.place(&self.path, text)
    }

    /// Removes it.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        gone(&self.path)
    }

    fn place(&self, path: &Path, text: &str) -> Result<(), Failure> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".keywheel-new");
        let beside = PathBuf::from(beside);
        let mode =
            fs::metadata(&self.path).map_or(self.mode, |found| found.permissions().mode() & 0o777);
        let written = || -> io::Result<()> {
            let mut new = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(mode)
                .open(&beside)?;
            new.write_all(text.as_bytes())?;
            new.set_permissions(fs::Permissions::from_mode(mode))?;
            new.sync_all()?;
            fs::rename(&beside, path)?;
            self.directory.sync_all()
        };
        written().map_err(|error| {
            let _ = fs::remove_file(&beside);
            refused("write", path, &error)
        })
    }

    /// Why the file is left alone, for people.
    pub(super) fn refuse(&self, fault: &Fault) -> Failure {
        let path = self.path.display();
        match fault {
            Fault::Broken { line, column, why } => Failure::new(
                Exit::Input,
                format!("{path}:{line}:{column}: not JSON, so nothing was changed: {why}"),
                "correct that line, then repeat the command",
            ),
            Fault::Form(what) => Failure::new(
                Exit::Input,
                format!("{path}: {what}, so nothing was changed"),
                "correct the file, then repeat the command",
            ),
            Fault::Taken(name) => Failure::new(
                Exit::Conflict,
                format!("{path} has a runtime `{name}` already, and it is not keywheel's"),
                "choose another name with --runtime-name",
            ),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    let found = match fs::metadata(path) {
        Ok(found) if found.len() > MAX_BYTES => {
            let why = format!("{} has more than {MAX_BYTES} bytes", path.display());
            return Err(Failure::new(
                Exit::Input,
                why,
                "is this the engine's configuration? Name another with the flag that names it",
            ));
        }
        Ok(_) => fs::read_to_string(path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    found.map_err(|error| refused("read", path, &error))
}

fn gone(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(refused("remove", path, &error))
        }
        _ => Ok(()),
    }
}

fn refused(what: &str, path: &Path, error: &io::Error) -> Failure {
    let text = format!("cannot {what} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(
            Exit::Denied,
            text,
            "use sudo: the engine's configuration is root's",
        ),
        io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory => Failure::new(
            Exit::Input,
            text,
            "name the engine's configuration with the flag that names it (--daemon-json, --configuration)",
        ),
        _ => Failure::new(Exit::CannotCreate, text, "check the directory and its disk"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let place =
            std::env::temp_dir().join(format!("keywheel-setup-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        place
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_keeps_its_mode_and_leaves_nothing_beside_it() {
        let place = place("whole");
        let file = ConfigFile::lock(place.join("daemon.json")).unwrap();
        assert_eq!(file.read().unwrap(), None);
        file.write("{}").unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        file.back_up("{}").unwrap();
        file.write("{\"a\":1}").unwrap();
        assert_eq!(
            fs::metadata(file.path()).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(file.read().unwrap().as_deref(), Some("{\"a\":1}"));
        assert_eq!(file.backup().unwrap().as_deref(), Some("{}"));
        assert_eq!(fs::read_dir(&place).unwrap().count(), 2);
        file.drop_backup().unwrap();
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
        fs::remove_dir(&place).unwrap();
    }

    #[test]
    fn a_directory_in_its_place_is_refused() {
        let place = place("directory");
        fs::create_dir_all(place.join("daemon.json")).unwrap();
        let file = ConfigFile::lock(place.join("daemon.json")).unwrap();
        assert_eq!(file.read().unwrap_err().exit, Exit::Input);
        fs::remove_dir_all(&place).unwrap();
    }
}
