//! Reading a file that somebody named: a regular one, and no more of it than its use needs.
//!
//! Invariants: a FIFO or a device holds nobody up; nothing beyond the limit is read; a file that is to
//! lie below a directory is opened below it, whatever links and `..` its path has. Blocking work is
//! done on a blocking thread.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use keywheel_seal::SecretBytes;
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

/// What was read.
pub struct Contents {
    /// All of it.
    pub bytes: SecretBytes,
    /// The file's permission bits.
    pub mode: u32,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Its path leads elsewhere than below the directory.
    #[error("it does not lie below {0}")]
    Elsewhere(PathBuf),
    /// A directory, a FIFO, a device.
    #[error("it is no regular file")]
    NotRegular,
    /// It is longer than this many bytes.
    #[error("it has more than {0} bytes")]
    TooLong(u64),
    /// The system says no.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Reads a file of at most so many bytes, wherever it lies.
///
/// # Errors
/// When it cannot be read, is no regular file, or is longer.
pub async fn read(path: &Path, limit: u64) -> Result<Contents, FileError> {
    let path = path.to_owned();
    on_blocking_thread(move || {
        let opened = open(&path, FLAGS, Mode::empty()).map_err(io::Error::from)?;
        contents(File::from(opened), limit)
    })
    .await
}

/// Reads a file of at most so many bytes that lies below a directory.
///
/// # Errors
/// When it lies elsewhere, cannot be read, is no regular file, or is longer.
pub async fn read_below(directory: &Path, path: &Path, limit: u64) -> Result<Contents, FileError> {
    let Ok(rest) = path.strip_prefix(directory).map(Path::to_owned) else {
        return Err(FileError::Elsewhere(directory.to_owned()));
    };
    let directory = directory.to_owned();
    on_blocking_thread(move || {
        let below = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(&directory, below, Mode::empty()).map_err(io::Error::from)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(&root, &rest, FLAGS, Mode::empty(), resolve);
        let opened = opened.map_err(|error| match error {
            rustix::io::Errno::XDEV => FileError::Elsewhere(directory),
            error => FileError::System(error.into()),
        })?;
        contents(File::from(opened), limit)
    })
    .await
}

/// A FIFO without a writer is opened at once, and is seen to be none.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

async fn on_blocking_thread(
    work: impl FnOnce() -> Result<Contents, FileError> + Send + 'static,
) -> Result<Contents, FileError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(FileError::System(io::Error::other(error))))
}

fn contents(file: File, limit: u64) -> Result<Contents, FileError> {
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(FileError::NotRegular);
    }
    if about.len() > limit {
        return Err(FileError::TooLong(limit));
    }
    // The room is taken at once: a grown buffer leaves a copy behind.
    let room = usize::try_from(about.len()).unwrap_or(0) + 1;
    let mut bytes = Vec::with_capacity(room);
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    let bytes = SecretBytes::from(bytes);
    if u64::try_from(read?).unwrap_or(u64::MAX) > limit {
        return Err(FileError::TooLong(limit));
    }
    Ok(Contents {
        bytes,
        mode: about.mode() & 0o7777,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const LIMIT: u64 = 16;

    fn fault<T>(read: Result<T, FileError>) -> FileError {
        match read {
            Ok(_) => panic!("it was read"),
            Err(error) => error,
        }
    }

    fn length(read: Result<Contents, FileError>) -> usize {
        // EXPOSE: a test counts.
        read.unwrap().bytes.expose().len()
    }

    #[tokio::test]
    async fn only_a_regular_file_within_its_limit_is_read() {
        let files = tempfile::tempdir().unwrap();
        let at = |name: &str| files.path().join(name);
        std::fs::write(at("full"), [b'x'; 16]).unwrap();
        std::fs::write(at("long"), [b'x'; 17]).unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), mode).unwrap();
        assert_eq!(length(read(&at("full"), LIMIT).await), 16);
        let long = fault(read(&at("long"), LIMIT).await);
        assert!(matches!(long, FileError::TooLong(LIMIT)));
        for other in [at("fifo"), files.path().to_owned(), "/dev/zero".into()] {
            let other = fault(read(&other, LIMIT).await);
            assert!(matches!(other, FileError::NotRegular), "{other}");
        }
        let missing = fault(read(&at("missing"), LIMIT).await);
        let FileError::System(missing) = missing else {
            panic!("{missing}");
        };
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn no_link_leads_out_of_the_directory_and_those_within_are_followed() {
        let files = tempfile::tempdir().unwrap();
        let below = files.path().join("below");
        std::fs::create_dir_all(below.join("..data")).unwrap();
        std::fs::write(files.path().join("outside"), "no").unwrap();
        std::fs::write(below.join("..data/token"), "yes").unwrap();
        symlink("..data/token", below.join("token")).unwrap();
        symlink("../outside", below.join("leads-out")).unwrap();
        symlink(files.path().join("outside"), below.join("absolute")).unwrap();
        let link = below.join("token");
        assert_eq!(length(read_below(&below, &link, LIMIT).await), 3);
        for path in [
            below.join("leads-out"),
            below.join("absolute"),
            below.join("../outside"),
            files.path().join("outside"),
            files.path().join("below-not"),
        ] {
            let refused = fault(read_below(&below, &path, LIMIT).await);
            assert!(
                matches!(refused, FileError::Elsewhere(_)),
                "{path:?}: {refused}"
            );
        }
    }
}
