//! What a connection to the bus server needs, and why one is refused.
//!
//! Invariants: a seed or a key is a [`SecretBytes`] until it is handed to the client and is in no
//! `Debug` output; without TLS only loopback addresses are spoken to.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use keywheel_core::id::DeploymentId;
use keywheel_schemas::subject::Subjects;
use keywheel_seal::SecretBytes;

use crate::envelope::MAX_MESSAGE_BYTES;
use crate::in_process::ACK_TIMEOUT;

/// The oldest bus server that is spoken to: older ones drop stream settings without a word.
pub const SERVER_FLOOR: (u64, u64, u64) = (2, 12, 7);
/// What the bus server must let through: the largest message with its headers.
pub const MIN_MAX_PAYLOAD: usize = MAX_MESSAGE_BYTES + 4096;
/// How long a start waits for bus servers that nobody answers at yet, and for a cluster to choose the
/// leader that makes streams. Service managers give a start ninety seconds.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How to reach the bus server and as whom.
#[derive(Debug)]
pub struct NatsOptions {
    /// Addresses, such as `nats://127.0.0.1:4222` or `tls://bus-1:4222`.
    pub servers: Vec<String>,
    /// Subjects and streams of the deployment.
    pub subjects: Subjects,
    /// Which of several processes of one role this is. Those with another word each get every event
    /// and audit record; those with the same share them. Work is shared in any case. What a process
    /// with a word of its own did not read is forgotten when it stays away: it reads the log first.
    pub instance: Option<String>,
    /// Who the bus server takes us for.
    pub credentials: Credentials,
    /// Mutual TLS 1.3; without it only loopback addresses are allowed.
    pub tls: Option<Tls>,
    /// Copies of every stream; three in a cluster of three.
    pub replicas: usize,
    /// After what time an unacknowledged message comes again.
    pub ack_timeout: Duration,
    /// How long the bus server may take to store a message or to answer about a stream.
    pub server_timeout: Duration,
    /// How long a subscription waits for its stream, which the gateway makes.
    pub subscribe_timeout: Duration,
    /// How long the start waits for bus servers that start at the same time.
    pub start_timeout: Duration,
    /// Whether to begin without a bus server and connect when there is one. For a host's injector,
    /// which serves from its own cache meanwhile.
    pub begin_offline: bool,
}

impl NatsOptions {
    /// The usual settings.
    #[must_use]
    pub fn new(servers: Vec<String>, deployment: DeploymentId) -> Self {
        Self {
            servers,
            subjects: Subjects::new(deployment),
            instance: None,
            credentials: Credentials::None,
            tls: None,
            replicas: 1,
            ack_timeout: ACK_TIMEOUT,
            server_timeout: Duration::from_secs(5),
            subscribe_timeout: Duration::from_secs(60),
            start_timeout: START_TIMEOUT,
            begin_offline: false,
        }
    }
}

/// Copies of a stream in a cluster of three servers or more.
const CLUSTER_REPLICAS: usize = 3;

/// What a member of the deployment has for the bus in its directory of credentials.
#[derive(Clone, Copy)]
pub struct MemberFiles<'a> {
    /// PEM of the authorities to trust.
    pub roots: &'a str,
    /// PEM of its certificate, with its chain.
    pub certificate: &'a str,
    /// PEM of the certificate's key.
    pub key: &'a SecretBytes,
    /// Content of its `.creds` file.
    pub permit: Option<&'a SecretBytes>,
}

impl NatsOptions {
    /// Those of a member: TLS where the servers' addresses say so, copies as the cluster allows.
    #[must_use]
    pub fn of_member(
        servers: Vec<String>,
        deployment: DeploymentId,
        files: &MemberFiles<'_>,
    ) -> Self {
        let mut options = Self::new(servers, deployment);
        if options.servers.len() >= CLUSTER_REPLICAS {
            options.replicas = CLUSTER_REPLICAS;
        }
        if options.servers.iter().any(|url| url.starts_with("tls://")) {
            options.tls = Some(files.tls());
        }
        options.credentials = files.credentials();
        options
    }
}

impl MemberFiles<'_> {
    pub(super) fn tls(&self) -> Tls {
        Tls {
            ca: self.roots.as_bytes().to_vec(),
            certificate: self.certificate.as_bytes().to_vec(),
            key: copy(self.key),
        }
    }

    pub(super) fn credentials(&self) -> Credentials {
        let permit = self.permit.map(copy);
        permit.map_or(Credentials::None, Credentials::Creds)
    }
}

impl fmt::Debug for MemberFiles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberFiles { .. }")
    }
}

fn copy(secret: &SecretBytes) -> SecretBytes {
    // EXPOSE: a second copy for the connection, which owns what it is given.
    SecretBytes::copied(secret.expose())
}

/// Who the bus server takes us for.
pub enum Credentials {
    /// Whoever comes; for a bus server of one's own on loopback.
    None,
    /// A user known by its public key: the seed, `SU…`.
    NkeySeed(SecretBytes),
    /// A user with a token of its account: the content of a `.creds` file.
    Creds(SecretBytes),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "Credentials::None",
            Self::NkeySeed(_) => "Credentials::NkeySeed(..)",
            Self::Creds(_) => "Credentials::Creds(..)",
        })
    }
}

/// Certificates of the connection, PEM.
pub struct Tls {
    /// The authorities that are trusted, and no others.
    pub ca: Vec<u8>,
    /// Our certificate, with its chain.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: SecretBytes,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls { .. }")
    }
}

/// Why there is no connection to the bus server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing to connect to.
    #[error("no bus server is named; set its address, such as nats://127.0.0.1:4222")]
    NoServer,
    /// Not an address.
    #[error("`{0}` is not the address of a bus server; it looks like tls://bus-1:4222")]
    BadAddress(String),
    /// Plaintext to another machine.
    #[error(
        "{0} is another machine and TLS is off; give certificates, or use a bus server on this machine"
    )]
    PlaintextElsewhere(String),
    /// A certificate or key is none.
    #[error("the bus server's {what} cannot be used")]
    BadCertificate {
        /// Which.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Credentials that are none.
    #[error("the credentials for the bus server cannot be read: {0}")]
    BadCredentials(&'static str),
    /// It does not answer, or not us.
    #[error("the bus server at {servers} refuses or does not answer: {reason}")]
    Unreachable {
        /// Which.
        servers: String,
        /// What it or the network said.
        reason: String,
        /// Whether nobody listens there, as before a bus server has started.
        is_absent: bool,
    },
    /// Something about it is not as it must be.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// Why a bus server, or what is on it, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too old.
    #[error(
        "the bus server is version {found}, at least {}.{}.{} is needed; older ones drop settings silently",
        SERVER_FLOOR.0, SERVER_FLOOR.1, SERVER_FLOOR.2
    )]
    TooOld {
        /// What it says it is.
        found: String,
    },
    /// Too small for our messages.
    #[error(
        "the bus server takes messages of at most {found} bytes; set `max_payload: {MIN_MAX_PAYLOAD}` or more in its configuration"
    )]
    PayloadTooSmall {
        /// What it takes.
        found: usize,
    },
    /// Nothing is stored there.
    #[error(
        "the bus server has no JetStream for us; set `jetstream {{ store_dir: … }}` in its configuration and enable it for the account"
    )]
    NoJetStream,
    /// A stream is not as it was asked for.
    #[error(
        "stream {stream} has {field} = {found}, not {wanted}; delete the stream with the NATS tool (nothing is lost: the journal is the log) and it is made anew"
    )]
    StreamDiffers {
        /// Which stream.
        stream: String,
        /// Which setting.
        field: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: String,
    },
    /// A stream cannot be made or looked at now.
    #[error("stream {stream} cannot be made or read: {reason}")]
    Stream {
        /// Which stream.
        stream: String,
        /// What the bus server said.
        reason: String,
    },
    /// A stream is not made there, now or later.
    #[error(
        "the bus server does not make stream {stream}: {reason}; check that its disk and its cluster are as the nats.conf of `keywheel init` has them"
    )]
    StreamRefused {
        /// Which stream.
        stream: String,
        /// What the bus server said.
        reason: String,
    },
}

/// Checks the addresses, before anything is sent anywhere.
pub(super) fn check_addresses(options: &NatsOptions) -> Result<(), ConnectError> {
    check_servers(&options.servers, options.tls.is_some())
}

/// The same of bare addresses.
pub(super) fn check_servers(servers: &[String], has_tls: bool) -> Result<(), ConnectError> {
    if servers.is_empty() {
        return Err(ConnectError::NoServer);
    }
    for server in servers {
        let parsed: Result<async_nats::ServerAddr, _> = server.parse();
        let address = parsed.map_err(|_| ConnectError::BadAddress(server.clone()))?;
        if !has_tls && !is_loopback(address.host()) {
            return Err(ConnectError::PlaintextElsewhere(server.clone()));
        }
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Checks what a bus server says about itself.
pub(super) fn check_server(info: &async_nats::ServerInfo) -> Result<(), Unfit> {
    if version(&info.version).is_none_or(|version| version < SERVER_FLOOR) {
        let found = info.version.clone();
        return Err(Unfit::TooOld { found });
    }
    if info.max_payload < MIN_MAX_PAYLOAD {
        let found = info.max_payload;
        return Err(Unfit::PayloadTooSmall { found });
    }
    if !info.jetstream {
        return Err(Unfit::NoJetStream);
    }
    Ok(())
}

/// `2.14.0-RC.1` is 2.14.0 here.
fn version(text: &str) -> Option<(u64, u64, u64)> {
    let plain = text.trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts = plain.split('.').map(|part| part.parse().ok());
    let version = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(server: &str) -> Result<(), ConnectError> {
        let deployment = DeploymentId::from_bytes([1; 16]);
        check_addresses(&NatsOptions::new(vec![server.to_owned()], deployment))
    }

    #[test]
    fn plaintext_stays_on_this_machine() {
        for here in [
            "nats://127.0.0.1:4222",
            "nats://[::1]:4222",
            "nats://localhost",
            "127.1.2.3",
        ] {
            assert!(checked(here).is_ok(), "{here}");
        }
        for there in [
            "nats://10.0.0.1:4222",
            "nats://bus:4222",
            "nats://127.0.0.1.example.org",
        ] {
            let error = checked(there).unwrap_err();
            assert!(
                matches!(error, ConnectError::PlaintextElsewhere(_)),
                "{there}: {error}"
            );
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (text, is_enough) in [
            ("2.12.7", true),
            ("2.12.6", false),
            ("2.9.99", false),
            ("2.14.0-RC.1", true),
            ("10.0.0", true),
            ("two", false),
            ("", false),
        ] {
            let found = version(text).is_some_and(|found| found >= SERVER_FLOOR);
            assert_eq!(found, is_enough, "{text}");
        }
    }
}
