//! The files of logins, one for each address: 0600, in a directory of its owner's alone.
//!
//! Invariants: one that others may read is not used; a file is replaced whole or not at all; no text of a failure
//! holds anything of it.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use keywheel_seal::{SecretBytes, digest};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};

/// Names another directory than the user's own.
const DIRECTORY_VARIABLE: &str = "KEYWHEEL_LOGIN_DIR";
/// The directory in a user's home.
const DIRECTORY: &str = ".keywheel";
/// Longest file of a login, in bytes.
const MAX_KEPT_BYTES: u64 = 64 << 10;

/// A login.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The only address that it is brought to.
    pub(crate) address: String,
    /// Whose it is.
    pub(crate) principal: String,
    /// What is shown.
    pub(crate) token: String,
    /// From then on it opens nothing, RFC 3339.
    pub(crate) expires_at: String,
    /// What the next one is asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
    /// The roots by which the gateway is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({}, …)", self.principal)
    }
}

/// Where logins are kept.
#[derive(Debug, Clone)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// The user's own; nothing for who has no home.
    pub(crate) fn of_user() -> Result<Option<Self>, Failure> {
        let named = |name| {
            keywheel_daemon::env::read(name).map_err(|error| {
                let next = format!("set {DIRECTORY_VARIABLE} to a directory of your own");
                Failure::new(Exit::Usage, error.to_string(), next)
            })
        };
        if let Some(named) = named(DIRECTORY_VARIABLE)? {
            return Self::named(named.into()).map(Some);
        }
        let home = named("HOME")?.map(PathBuf::from);
        let home = home.filter(|home| home.is_absolute());
        Ok(home.map(|home| Self(home.join(DIRECTORY))))
    }

    /// The one that the variable names. From another working directory a relative one would be another.
    fn named(directory: PathBuf) -> Result<Self, Failure> {
        match directory.is_absolute() {
            true => Ok(Self(directory)),
            false => Err(Failure::new(
                Exit::Usage,
                format!("{DIRECTORY_VARIABLE} is not an absolute path"),
                format!(
                    "set {DIRECTORY_VARIABLE} to the absolute path of a directory of your own, or unset it"
                ),
            )),
        }
    }

    /// At this directory.
    #[cfg(test)]
    pub(crate) fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// The login that is kept for an address.
    pub(crate) fn read(&self, address: &str) -> Result<Option<Kept>, Failure> {
        let path = self.file(address);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // Where a home cannot be looked into there is no login; a file of one's own can be read.
            Err(error)
                if [
                    io::ErrorKind::NotADirectory,
                    io::ErrorKind::PermissionDenied,
                ]
                .contains(&error.kind()) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let about = file
            .metadata()
            .map_err(|error| failed("read", &path, &error))?;
        let is_own = about.uid() == rustix::process::geteuid().as_raw();
        if !is_own || about.mode() & 0o077 != 0 {
            return Err(Failure::new(
                Exit::Denied,
                format!("others may read or write the login in {}", path.display()),
                "take it as known to them: `keywheel token revoke` ends it; remove the file, and log in again",
            ));
        }
        let room = usize::try_from(about.len().min(MAX_KEPT_BYTES)).unwrap_or_default();
        // All the room at once: a buffer that grows leaves a copy behind.
        let mut bytes = Vec::with_capacity(room + 1);
        let read = file.take(MAX_KEPT_BYTES).read_to_end(&mut bytes);
        let bytes = SecretBytes::from(bytes);
        read.map_err(|error| failed("read", &path, &error))?;
        // EXPOSE: the file is read into its parts.
        let kept: Option<Kept> = serde_json::from_slice(bytes.expose()).ok();
        // Two addresses have two files, whatever somebody copied.
        let kept = kept.filter(|kept| kept.address == address);
        kept.map(Some).ok_or_else(|| {
            Failure::new(
                Exit::Input,
                format!("{} holds no login for this address", path.display()),
                "remove the file, and log in again with `keywheel login`",
            )
        })
    }

    /// Keeps a login in the place of the one before it.
    pub(crate) fn keep(&self, login: &Kept) -> Result<(), Failure> {
        self.make()?;
        let path = self.file(&login.address);
        let fresh = path.with_extension("new");
        let text = serde_json::to_vec(login).map_err(|error| {
            let what = format!("the login has no JSON form: {error}");
            Failure::new(Exit::Unexpected, what, "report this fault of keywheel")
        })?;
        let text = SecretBytes::from(text);
        let written = || -> io::Result<()> {
            match std::fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&fresh)?;
            // EXPOSE: a file of its owner's alone keeps it.
            file.write_all(text.expose())?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)
        };
        written().map_err(|error| failed("write", &path, &error))
    }

    /// Forgets the login of an address; whether there was one.
    pub(crate) fn forget(&self, address: &str) -> Result<bool, Failure> {
        let path = self.file(address);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("remove", &path, &error)),
        }
    }

    /// One at a time, until what is given back is dropped.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        self.make()?;
        let path = self.0.join("lock");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let locked = options.open(&path).and_then(|file| {
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        });
        locked.map_err(|error| failed("lock", &path, &error))
    }

    fn make(&self) -> Result<(), Failure> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&self.0);
        made.map_err(|error| failed("make", &self.0, &error))
    }

    /// An address is no name of a file.
    fn file(&self, address: &str) -> PathBuf {
        let hash = digest::sha256(address.as_bytes());
        let name: String = hash
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.0.join(format!("login-{name}.json"))
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::CannotCreate,
        format!("cannot {what} {}: {error}", path.display()),
        format!("set {DIRECTORY_VARIABLE} to a directory of your own"),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const HERE: &str = "unix:///run/keywheel/keywheel.sock";

    fn login(address: &str) -> Kept {
        Kept {
            address: address.to_owned(),
            principal: "oidc:ada".to_owned(),
            token: "kw1_canary".to_owned(),
            expires_at: "2026-01-04T02:00:00Z".to_owned(),
            refresh_token: Some("canary".to_owned()),
            ca_file: None,
        }
    }

    #[test]
    fn a_place_that_depends_on_the_working_directory_is_refused() {
        let failure = Place::named("logins".into()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let text = failure.to_string();
        assert!(
            text.contains(DIRECTORY_VARIABLE) && text.contains("absolute"),
            "{text}"
        );
        assert!(Place::named("/srv/logins".into()).is_ok());
    }

    #[test]
    fn a_login_is_its_owners_alone_and_of_one_address() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(&dir.path().join("new/keywheel"));
        assert!(place.read(HERE).unwrap().is_none());
        place.keep(&login(HERE)).unwrap();
        place.keep(&login(HERE)).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&place.file(HERE)), 0o600);
        assert_eq!(mode(&place.0), 0o700);
        let read = place.read(HERE).unwrap().unwrap();
        assert_eq!(
            (read.principal.as_str(), read.token.as_str()),
            ("oidc:ada", "kw1_canary")
        );
        assert!(!format!("{read:?}").contains("canary"));
        assert!(place.read("https://elsewhere:1").unwrap().is_none());
        assert!(place.forget(HERE).unwrap());
        assert!(!place.forget(HERE).unwrap());
        assert!(place.read(HERE).unwrap().is_none());
    }

    #[test]
    fn what_others_may_read_or_is_of_another_address_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(dir.path());
        place.keep(&login(HERE)).unwrap();
        let path = place.file(HERE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = place.read(HERE).unwrap_err();
        assert_eq!(refused.exit, Exit::Denied);
        assert!(!refused.to_string().contains("canary"), "{refused}");
        let other = "https://elsewhere:1";
        place.keep(&login(other)).unwrap();
        std::fs::rename(place.file(other), &path).unwrap();
        assert_eq!(place.read(HERE).unwrap_err().exit, Exit::Input);
        std::fs::write(&path, "canary").unwrap();
        let refused = place.read(HERE).unwrap_err();
        assert!(!refused.to_string().contains("canary"), "{refused}");
    }

    #[test]
    fn one_at_a_time_renews() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(dir.path());
        let held = place.lock().unwrap();
        let other = File::open(dir.path().join("lock")).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(held);
        // What a test beside this one just starts has it, too, until it runs.
        assert!(keywheel_daemon::take_lock(&other).unwrap());
    }
}
