//! The seal file of a reseal that is under way, beside the one before.
//!
//! Invariant: which of the two belongs to the cache is what the cache says (its mark), so a crash at any moment
//! leaves exactly one that opens it: the one that [`settle`] leaves. Neither is removed before the cache says that it
//! belongs to the other: one that cannot be read just now may be all that opens it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use keywheel_cache::{Cache, RootMark};
use keywheel_core::id::DeploymentId;
use keywheel_seal::unseal::SealedRoot;
use keywheel_store_sync::seal::file;

use crate::up::{Error, Kind};

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

/// Writes it, durably, for whom the data directory belongs to: root may have been asked to reseal. The name is made anew,
/// so that no link of that one is followed, and nothing is given away that was there before.
pub(crate) fn write(directory: &Path, data_dir: &Path, text: &str) -> Result<(), Error> {
    let path = path(directory);
    let written = || {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&path)?;
        let owner = fs::metadata(data_dir)?;
        if file.metadata()?.uid() != owner.uid() {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        File::open(directory)?.sync_all()
    };
    written().map_err(|error| Error::path(&path, &error))
}

/// Ends a reseal that is under way: forwards when the cache belongs to the next root key, back when it belongs to the
/// one before, and not at all when it cannot be told.
///
/// # Errors
/// When the cache belongs to neither, or a file cannot be read, written or removed; then both are left.
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
    let is_its = |root: &SealedRoot| found == Some(mark(root));
    // What was cut off while it was written cannot be read, either, and was never the cache's.
    let wanted = super::read(&next, deployment);
    let done = if matches!(&wanted, Ok(Some(root)) if is_its(root)) {
        fs::rename(&next, directory.join(file::NAME))
    } else {
        let before = super::read(&directory.join(file::NAME), deployment)?;
        // 0 is of a cache that was never resealed, whatever opens it.
        let is_of_before = matches!(found, None | Some(0)) || before.as_ref().is_some_and(is_its);
        if !is_of_before {
            return Err(neither(&next, wanted.err()));
        }
        fs::remove_file(&next)
    };
    done.and_then(|()| File::open(directory)?.sync_all())
        .map_err(|error| Error::path(&next, &error))
}

/// The cache belongs to a root key that is in none of the two files, as far as they can be read.
fn neither(next: &Path, unread: Option<Error>) -> Error {
    let why = unread.map_or_else(String::new, |error| format!("; {}", error.what));
    Error::new(
        Kind::Refused,
        format!(
            "a reseal was cut off, and the cache is opened by neither {} nor {} beside it{why}",
            next.display(),
            file::NAME
        ),
        "remove neither: one of them may be all that opens the cache. Make both readable for this user, or restore the one that belongs to this cache.db",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use keywheel_daemon::SystemClock;
    use keywheel_seal::OsEntropy;
    use keywheel_seal::envelope::UnsealKey;

    use super::*;

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

    #[test]
    fn what_the_directory_s_owner_put_in_its_place_is_neither_written_nor_given_away() {
        const STORE_SYNC: u32 = 4242;
        let scratch = tempfile::tempdir().unwrap();
        let (directory, elsewhere) = (scratch.path().join("data"), scratch.path().join("ours"));
        fs::create_dir(&directory).unwrap();
        fs::write(&elsewhere, "kept").unwrap();
        let owner = fs::metadata(&elsewhere).unwrap().uid();
        if owner == 0 {
            std::os::unix::fs::chown(&directory, Some(STORE_SYNC), Some(STORE_SYNC)).unwrap();
        }
        for is_hard in [false, true] {
            match is_hard {
                false => std::os::unix::fs::symlink(&elsewhere, path(&directory)).unwrap(),
                true => fs::hard_link(&elsewhere, path(&directory)).unwrap(),
            }
            write(&directory, &directory, "sealed").unwrap();
            assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept");
            assert_eq!(fs::metadata(&elsewhere).unwrap().uid(), owner);
            let made = fs::symlink_metadata(path(&directory)).unwrap();
            assert!(made.is_file() && made.nlink() == 1);
            assert_eq!(made.uid(), fs::metadata(&directory).unwrap().uid());
            assert_eq!(fs::read_to_string(path(&directory)).unwrap(), "sealed");
            fs::remove_file(path(&directory)).unwrap();
        }
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
        write(directory, directory, &text[..text.len() / 2]).unwrap();
        drop(cache);
        assert_eq!(
            settled(directory).await,
            None,
            "cut off while it was written"
        );
        write(directory, directory, &text).unwrap();
        assert_eq!(
            settled(directory).await,
            None,
            "before the cache was changed"
        );
        write(directory, directory, &text).unwrap();
        let cache = open(directory, UnsealKey::from_file(&key).unwrap()).await;
        cache.reseal(root, mark(&made)).await.unwrap();
        drop(cache);
        assert_eq!(settled(directory).await, Some(made.clone()), "after it");
        assert_eq!(settled(directory).await, Some(made), "nothing is under way");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_kept_while_the_cache_may_be_its() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        let cache = open(directory, UnsealKey::generate(&OsEntropy)).await;
        let (key, root) = (
            UnsealKey::generate(&OsEntropy),
            UnsealKey::generate(&OsEntropy),
        );
        let made = SealedRoot::by_key_file(*OWN.bytes(), &root, &key, &OsEntropy).unwrap();
        cache.reseal(root, mark(&made)).await.unwrap();
        drop(cache);
        let failed = |error: keywheel_cache::Error| {
            Error::new(Kind::Broken, error.to_string(), "report this")
        };
        let cache = directory.join("cache.db");
        // A directory in its place is the one file that root cannot read, either.
        fs::create_dir(path(directory)).unwrap();
        let kept = settle((directory, OWN), (&cache, failed)).await;
        let kept = kept.unwrap_err();
        assert!(kept.what.contains("neither"), "{}", kept.what);
        assert!(path(directory).exists(), "it may be all that opens it");
        fs::remove_dir(path(directory)).unwrap();
        write(directory, directory, &file::to_text(&made).unwrap()).unwrap();
        assert_eq!(settled(directory).await, Some(made.clone()));
        // Of a cache that belongs to the file that is there, whatever was begun is removed.
        write(directory, directory, "cut").unwrap();
        assert_eq!(settled(directory).await, Some(made));
    }
}
