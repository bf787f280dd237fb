//! A directory of a server's own.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What a server's certificate and its key are called.
pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const KEY: &str = "key.pem";

/// A directory that nobody else may enter, with a short name: a unix socket's path is at most 107 bytes.
pub(super) fn fresh(prefix: &str) -> PathBuf {
    let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let name = format!("{prefix}-{}", &random[..13]);
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    directory
}

/// Puts the certificate and the key (PEM) that a server shows into its directory.
pub(super) fn put_tls(directory: &Path, certificate: &str, key: &str) {
    std::fs::write(directory.join(CERTIFICATE), certificate).unwrap();
    std::fs::write(directory.join(KEY), key).unwrap();
}

/// What a server writes to its log in its directory comes after what is there.
pub(super) fn open_log(directory: &Path) -> File {
    let log = directory.join("log");
    File::options().create(true).append(true).open(log).unwrap()
}
