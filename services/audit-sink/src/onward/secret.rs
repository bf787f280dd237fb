//! Files that a sink names: keys that others may not read, and certificates that anybody may.

use std::path::Path;

use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use keywheel_stores::file;

/// Longest such file, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// A key, password or credential; read anew for each connection, so one may be changed at any time.
pub(super) async fn key(path: &str) -> Result<SecretBytes, PortError> {
    let contents = read(path).await?;
    if contents.mode & 0o077 != 0 {
        let text = format!("other users may read {path}; run `chmod 600 {path}`");
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    Ok(contents.bytes)
}

/// Certificates (PEM), where some are named; nothing means the system's.
pub(super) async fn certificates(path: Option<&str>) -> Result<Option<Vec<u8>>, PortError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let contents = read(path).await?;
    // EXPOSE: a peer's certificate is checked with them, or they are shown to it; they are no secret.
    Ok(Some(contents.bytes.expose().to_vec()))
}

async fn read(path: &str) -> Result<file::Contents, PortError> {
    file::read(Path::new(path), MAX_BYTES)
        .await
        .map_err(|error| {
            let text = format!("the file {path} cannot be read");
            PortError::caused(ErrorKind::Unavailable, text, error)
        })
}
