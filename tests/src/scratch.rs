//! Scratch directories, unique names, and where the tree and its binaries are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

static RELEASE: AtomicBool = AtomicBool::new(false);

/// From now on [`binary`] means the release build: benchmarks measure that one.
pub fn use_release() {
    RELEASE.store(true, Ordering::Relaxed);
}

/// Whether the release build is meant.
#[must_use]
pub fn is_release() -> bool {
    RELEASE.load(Ordering::Relaxed)
}

/// One of the binaries that `deploy/build.sh` makes: of the profile `dev`,
/// unless [`use_release`] was called.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = if is_release() {
        "target/dist"
    } else {
        "target/dist-dev"
    };
    let path = root().join(folder).join(name);
    ensure!(
        path.exists(),
        "{} is missing: run ./deploy/build.sh (with --profile dev for tests)",
        path.display()
    );
    Ok(path)
}

/// A name no other test of this machine uses now.
#[must_use]
pub fn unique(prefix: &str) -> String {
    format!(
        "{prefix}-{}-{}",
        process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}

/// A directory that goes with its value, mounts below it included.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one; its path is short, because sockets live in it.
    pub fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(unique("kwt"));
        if path.exists() {
            unmount_below(&path);
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file inside and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        unmount_below(&self.path);
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("harness: {} stays: {error}", self.path.display());
        }
    }
}

/// Unmounts everything below a directory, deepest first.
pub fn unmount_below(directory: &Path) {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut points: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|point| Path::new(point).starts_with(directory))
        .collect();
    points.sort_unstable();
    for point in points.into_iter().rev() {
        let done = Command::new("umount").args(["-l", point]).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("harness: cannot unmount {point}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_goes_with_its_value() -> Result<()> {
        let scratch = Scratch::make()?;
        let path = scratch.write("a", "b")?;
        assert!(path.exists());
        drop(scratch);
        assert!(!path.exists());
        Ok(())
    }

    #[test]
    fn names_do_not_repeat() {
        assert_ne!(unique("x"), unique("x"));
    }
}
