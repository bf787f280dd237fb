//! The seal file of a reseal that is under way, beside the one before.
//!
//! Invariant: which of the two belongs to the cache is what the cache says (its mark), so a crash at any moment
//! leaves exactly one that opens it: the one that [`settle`] leaves.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use keywheel_cache::{Cache, RootMark};
use keywheel_core::id::DeploymentId;
use keywheel_seal::unseal::SealedRoot;
use keywheel_store_sync::seal::file;

use crate::up::Error;

/// Its name, beside [`file::NAME`].
const NEXT: &str = "seal.next.json";

fn path(directory: &Path) -> PathBuf {
    directory.join(NEXT)
}

/// What the cache says once it belongs to this root key. Never 0, which is the root it was made with.
pub(crate) fn mark(root: &SealedRoot) -> RootMark {
    let [a, b, c, d, ..] = root.root.bytes();
    u32::from_be_bytes([a, b, c, d]).max(1)
}

/// Writes it, durably.
pub(crate) fn write(directory: &Path, text: &str) -> Result<(), Error> {
    let path = path(directory);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        File::open(directory)?.sync_all()
    });
    written.map_err(|error| Error::path(&path, &error))
}

/// Ends a reseal that is under way: forwards when the cache belongs to the next root key, else back.
pub(crate) async fn settle(
    (directory, deployment): (&Path, DeploymentId),
    cache: (&Path, impl Fn(keywheel_cache::Error) -> Error),
) -> Result<(), Error> {
    let next = path(directory);
    if !next.exists() {
        return Ok(());
    }
    let (file_of_cache, failed) = cache;
    let found = Cache::root_mark(file_of_cache).await.map_err(failed)?;
    // What was cut off while it was written was never the cache's.
    let wanted = super::read(&next, deployment).ok().flatten();
    let is_its = wanted.is_some_and(|root| found == Some(mark(&root)));
    let done = match is_its {
        true => fs::rename(&next, directory.join(file::NAME)),
        false => fs::remove_file(&next),
    };
    done.and_then(|()| File::open(directory)?.sync_all())
        .map_err(|error| Error::path(&next, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use keywheel_daemon::SystemClock;
    use keywheel_seal::OsEntropy;
    use keywheel_seal::envelope::UnsealKey;

    use super::*;
    use crate::up::Kind;

    const OWN: DeploymentId = DeploymentId::from_bytes([3; 16]);

    async fn open(directory: &Path, key: UnsealKey) -> Cache {
        let clock = Arc::new(SystemClock::new());
        let path = directory.join("cache.db");
        let opened = Cache::open(&path, *OWN.bytes(), key, Arc::new(OsEntropy), clock).await;
        opened.unwrap()
    }

    async fn settled(directory: &Path) -> Option<SealedRoot> {
        let failed = |error: keywheel_cache::Error| {
            Error::new(Kind::Broken, error.to_string(), "report this")
        };
        let cache = directory.join("cache.db");
        settle((directory, OWN), (&cache, failed)).await.unwrap();
        assert!(!path(directory).exists());
        crate::seal::read(&directory.join(file::NAME), OWN).unwrap()
    }

    #[tokio::test]
    async fn a_crash_at_any_moment_leaves_the_file_that_opens_the_cache() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        let old = UnsealKey::generate(&OsEntropy);
        let (key, cache) = (old.to_file(), open(directory, old).await);
        let root = UnsealKey::generate(&OsEntropy);
        let made = SealedRoot::by_key_file(
            *OWN.bytes(),
            &root,
            &UnsealKey::from_file(&key).unwrap(),
            &OsEntropy,
        );
        let made = made.unwrap();
        let text = file::to_text(&made).unwrap();
        write(directory, &text[..text.len() / 2]).unwrap();
        drop(cache);
        assert_eq!(
            settled(directory).await,
            None,
            "cut off while it was written"
        );
        write(directory, &text).unwrap();
        assert_eq!(
            settled(directory).await,
            None,
            "before the cache was changed"
        );
        write(directory, &text).unwrap();
        let cache = open(directory, UnsealKey::from_file(&key).unwrap()).await;
        cache.reseal(root, mark(&made)).await.unwrap();
        drop(cache);
        assert_eq!(settled(directory).await, Some(made.clone()), "after it");
        assert_eq!(settled(directory).await, Some(made), "nothing is under way");
    }
}
