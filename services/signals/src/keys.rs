//! Keys and tokens in files that manifests name, read anew for each use: one may be changed at any time.
//!
//! Invariant: no manifest makes the gateway read a file elsewhere than below its one directory.

use std::path::{Path, PathBuf};

use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use keywheel_stores::file;

/// Longest file with a key, a URL or authorities, in bytes.
pub const MAX_KEY_FILE_BYTES: u64 = 64 << 10;

/// Reads them.
#[derive(Debug, Clone)]
pub(crate) struct KeyFiles {
    directory: PathBuf,
}

impl KeyFiles {
    pub(crate) const fn below(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// One that a manifest names.
    pub(crate) async fn read(&self, path: &str) -> Result<SecretBytes, PortError> {
        let read = file::read_below(&self.directory, Path::new(path), MAX_KEY_FILE_BYTES).await;
        read.map(|contents| contents.bytes).map_err(|error| {
            let text = format!(
                "the file {path} cannot be read: {error}; put it below {} on the gateway's machine",
                self.directory.display()
            );
            // Whoever puts it there need not say so: it is read again.
            PortError::new(ErrorKind::Unavailable, text)
        })
    }

    /// Authorities, where some are named; nothing means the system's.
    pub(crate) async fn authorities(&self, path: &str) -> Result<Option<Vec<u8>>, PortError> {
        if path.is_empty() {
            return Ok(None);
        }
        let read = self.read(path).await?;
        // EXPOSE: a server's certificate is checked with it; certificates are no secret.
        Ok(Some(read.expose().to_vec()))
    }
}
