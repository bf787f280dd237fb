//! When the credentials in a directory end, for whoever shows it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use keywheel_core::time::Timestamp;

use crate::authority::{certificates, validity};
use crate::bundle::CERTIFICATE_FILE;

/// Longest certificate with its chain that is read, in bytes.
const MAX_CHAIN_BYTES: u64 = 256 << 10;

/// Begin and end of the certificate in a directory; `None` when there is none that can be read.
#[must_use]
pub fn life_of(directory: &Path) -> Option<(Timestamp, Timestamp)> {
    let mut text = String::new();
    let file = File::open(directory.join(CERTIFICATE_FILE)).ok()?;
    file.take(MAX_CHAIN_BYTES).read_to_string(&mut text).ok()?;
    let chain = certificates(&text).ok()?;
    validity(chain.first()?).ok()
}
