//! When the credentials in a directory end, for whoever shows it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use keywheel_core::time::Timestamp;

use crate::authority::{CLOCK_SKEW, certificates, validity};
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

/// When the certificate in a directory was given out, a clock's skew after its begin, and its end:
/// the life of which a part is over when it is renewed.
#[must_use]
pub fn issue_and_end_of(directory: &Path) -> Option<(Timestamp, Timestamp)> {
    let (begin, end) = life_of(directory)?;
    Some((begin.plus(CLOCK_SKEW).min(end), end))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keywheel_core::audit::Role;
    use keywheel_core::id::DeploymentId;
    use keywheel_seal::OsEntropy;

    use super::*;
    use crate::authority::{Authority, MEMBER_LIFETIME};
    use crate::name::PeerName;

    #[test]
    fn a_life_begins_when_the_certificate_was_given_out() {
        let now = Timestamp::default().plus(Duration::from_secs(1_800_000_000));
        let deployment = DeploymentId::from_bytes([7; 16]);
        let authority = Authority::create(deployment, now, &OsEntropy).unwrap();
        let name = PeerName::Service(Role::Gateway);
        let issued = authority.issue(&name, &[], now, &OsEntropy).unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(issue_and_end_of(folder.path()), None);
        let path = folder.path().join(CERTIFICATE_FILE);
        std::fs::write(path, &issued.certificate.chain_pem).unwrap();
        let life = Some((now, now.plus(MEMBER_LIFETIME)));
        assert_eq!(issue_and_end_of(folder.path()), life);
    }
}
