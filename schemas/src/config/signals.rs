//! Signals from outside and notifications to there: where signals are taken, where keys lie, who is near.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::sources::Sources;

/// Where keys of receivers and sources lie, by default: apart from every key of our own.
pub const DEFAULT_SIGNALS_CREDENTIALS_DIR: &str = "/etc/keywheel/signals";
/// Most addresses of `signals.allow`.
pub const MAX_SIGNALS_ALLOW: usize = 16;

/// What the gateway needs for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signals {
    /// Where signals are taken, in plain HTTP, so on loopback; nowhere by default.
    pub listen: Option<SocketAddr>,
    /// Below it lie keys that manifests name; `/etc/keywheel/signals` by default.
    pub credentials_dir: PathBuf,
    /// Where on this machine and its link a receiver may be; nowhere by default.
    pub allow: Vec<SocketAddr>,
}

impl Signals {
    pub(super) fn take(sources: &mut Sources) -> Self {
        let listen = sources.address("signals.listen");
        if let Some(at) = listen.filter(|at| !at.ip().is_loopback()) {
            let message = format!(
                "`{at}` is not on loopback, and signals are taken without TLS; write 127.0.0.1:PORT, and have a proxy with a certificate in front of it"
            );
            sources.fault("signals.listen", message);
        }
        let credentials_dir =
            sources.path("signals.credentials_dir", DEFAULT_SIGNALS_CREDENTIALS_DIR);
        if !credentials_dir.is_absolute() {
            let message = format!(
                "the directory `{}` is not absolute, as the files are that manifests name",
                credentials_dir.display()
            );
            sources.fault("signals.credentials_dir", message);
        }
        let check = |word: &str| match word.parse::<SocketAddr>() {
            Ok(_) => Ok(()),
            Err(_) => {
                Err("is not an address; write IP:PORT, for example 127.0.0.1:8099".to_owned())
            }
        };
        let allow = sources.list("signals.allow", MAX_SIGNALS_ALLOW, check);
        Self {
            listen,
            credentials_dir,
            allow: allow.iter().filter_map(|word| word.parse().ok()).collect(),
        }
    }
}
