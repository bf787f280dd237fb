//! The private bundle: a directory on the injector's memory-only mount that lives for one `create` of the real
//! runtime.
//!
//! Removed on every path out of this program but a kill; then the injector sweeps it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use keywheel_sys::secretfs::lies_in_memory;

use crate::refuse::Refusal;

const CONFIG: &str = "config.json";
const PID_FILE: &str = "init.pid";

/// A private bundle.
pub(crate) struct Bundle {
    dir: PathBuf,
    removed: bool,
}

/// Where a pid file may lie while the bundle lives.
pub(crate) fn pid_file(bundle: &Path) -> PathBuf {
    bundle.join(PID_FILE)
}

fn unfit(dir: &Path, reason: &str) -> Refusal {
    Refusal::new(
        format!("{} is unfit for a private bundle: {reason}", dir.display()),
        "restart keywheel, which mounts this directory anew",
    )
}

impl Bundle {
    /// Makes the directory; one that a killed run left is replaced.
    pub(crate) fn make(dir: &Path, id: &str) -> Result<Self, Refusal> {
        if !dir.is_absolute() || dir.file_name() != Some(OsStr::new(id)) {
            return Err(unfit(dir, "it is not named after the container"));
        }
        let parent = dir.parent().ok_or_else(|| unfit(dir, "it has no parent"))?;
        let found =
            fs::symlink_metadata(parent).map_err(|error| unfit(parent, &error.to_string()))?;
        if !found.is_dir() || found.uid() != 0 || found.mode() & 0o077 != 0 {
            return Err(unfit(
                parent,
                "it must be a directory that root alone can enter",
            ));
        }
        if !lies_in_memory(parent).map_err(|error| unfit(parent, &error.to_string()))? {
            return Err(unfit(parent, "it is not on a memory-only file system"));
        }
        let bundle = Self {
            dir: dir.to_owned(),
            removed: false,
        };
        let build = || DirBuilder::new().mode(0o700).create(dir);
        match build() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bundle.erase().and_then(|()| build())
            }
            other => other,
        }
        .map_err(|error| unfit(dir, &error.to_string()))?;
        Ok(bundle)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Writes the configuration, for root's eyes only.
    pub(crate) fn write_config(&self, bytes: &[u8]) -> Result<(), Refusal> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.dir.join(CONFIG))
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|error| unfit(&self.dir, &error.to_string()))
    }

    /// Removes it; values must not outlive the real runtime's `create`.
    pub(crate) fn remove(mut self) -> Result<(), Refusal> {
        self.removed = true;
        self.erase()
            .map_err(|error| unfit(&self.dir, &format!("it cannot be removed ({error})")))
    }

    fn erase(&self) -> io::Result<()> {
        for name in [CONFIG, PID_FILE] {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // Nothing but these files is made by us; what a hook of the engine put there goes too.
        fs::remove_dir_all(&self.dir)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if !self.removed {
            // On the way out with an error already; the injector's sweep is the second line.
            let _ = self.erase();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Mount(PathBuf);

    impl Mount {
        fn new(name: &str) -> Option<Self> {
            if !rustix::process::geteuid().is_root() {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "these tests need root in CI"
                );
                return None;
            }
            let path = std::env::temp_dir()
                .join(format!("keywheel-bundles-{name}-{}", std::process::id()));
            keywheel_sys::secretfs::mount_private_tmpfs(&path, 1 << 20).unwrap();
            Some(Self(path))
        }
    }

    impl Drop for Mount {
        fn drop(&mut self) {
            keywheel_sys::secretfs::unmount_private(&self.0).unwrap();
            fs::remove_dir(&self.0).unwrap();
        }
    }

    #[test]
    fn a_bundle_is_root_only_and_gone_afterwards() {
        let Some(mount) = Mount::new("gone") else {
            return;
        };
        let dir = mount.0.join("id");
        let bundle = Bundle::make(&dir, "id").unwrap();
        bundle.write_config(b"x").unwrap();
        fs::write(pid_file(bundle.path()), "1").unwrap();
        assert_eq!(
            fs::metadata(&dir).unwrap().permissions().mode() & 0o7777,
            0o700
        );
        assert_eq!(
            fs::metadata(dir.join(CONFIG)).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        bundle.remove().unwrap();
        assert!(!dir.exists());
        let dropped = Bundle::make(&dir, "id").unwrap();
        dropped.write_config(b"y").unwrap();
        drop(dropped);
        assert!(!dir.exists());
    }

    #[test]
    fn a_leftover_is_replaced() {
        let Some(mount) = Mount::new("left") else {
            return;
        };
        let dir = mount.0.join("id");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(CONFIG), "old").unwrap();
        let bundle = Bundle::make(&dir, "id").unwrap();
        bundle.write_config(b"new").unwrap();
        assert_eq!(fs::read(dir.join(CONFIG)).unwrap(), b"new");
    }

    #[test]
    fn other_places_are_refused() {
        let Some(mount) = Mount::new("other") else {
            return;
        };
        assert!(Bundle::make(&mount.0.join("other"), "id").is_err());
        assert!(Bundle::make(Path::new("id"), "id").is_err());
        let open = mount.0.join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Bundle::make(&open.join("id"), "id").is_err());
        let disk = PathBuf::from(format!(
            "/var/lib/keywheel-bundle-test-{}",
            std::process::id()
        ));
        fs::create_dir(&disk).unwrap();
        fs::set_permissions(&disk, fs::Permissions::from_mode(0o700)).unwrap();
        let on_disk = Bundle::make(&disk.join("id"), "id");
        fs::remove_dir_all(&disk).unwrap();
        assert!(on_disk.is_err());
    }
}
