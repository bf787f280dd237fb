//! Joining: a machine with a token becomes a host of the deployment, once.
//!
//! Invariants: keys are made here and stay here; nobody but the gateway that the token names is told
//! anything; credentials that lie there are never replaced; nothing is written before the answer fits
//! token and keys. The token's secret half is in no error.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use keywheel_core::id::HostId;
use keywheel_core::name::HostName;
use keywheel_engine::port::clock::Clock;
use keywheel_identity::bundle::{
    BUS_FILE, BundleError, CA_FILE, CERTIFICATE_FILE, IDENTITY_FILE, KEY_FILE,
};
use keywheel_identity::enrol::{EnrolError, JoinAnswer, Joining, MAX_ASK_BYTES};
use keywheel_identity::tls::{Refusal, TlsError, explain, join_client_config};
use keywheel_identity::token::{JoinToken, TokenError};
use keywheel_seal::Entropy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use zeroize::Zeroizing;

/// How long the connection may take to stand.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the gateway may take to answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Where machines join.
const PATH: &str = "/v1/join";
/// Where hosts come whose credentials have ended.
pub(crate) const RETURN_PATH: &str = "/v1/renew";
/// The name in the handshake; the gateway is known by the token's fingerprint, not by a name.
const SERVER_NAME: &str = "gateway.keywheel.internal";

/// Why a machine did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Not a token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It joined before.
    #[error(
        "{0} holds credentials already, so this machine has joined; name another directory, or remove that one to join anew"
    )]
    Occupied(PathBuf),
    /// The directory cannot be made.
    #[error("{path} cannot be made or read; check the path and its owner")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Nobody is there.
    #[error(
        "the gateway cannot be reached at {address}; check that it runs, that its `listen.advertise_join` is right and that no firewall is between"
    )]
    Unreachable {
        /// HOST:PORT of the token.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No answer.
    #[error(
        "the gateway at {address} did not answer in time; look at its log, then try again (with a new token, if one was presented)"
    )]
    Late {
        /// HOST:PORT of the token.
        address: String,
    },
    /// Not whom the token names, or it wants nothing of us.
    #[error("no trusted connection with {address}: {refusal}")]
    Tls {
        /// HOST:PORT of the token.
        address: String,
        /// Why.
        refusal: Refusal,
    },
    /// It broke.
    #[error(
        "the connection with {address} broke off: {why}; check the address, and try again (with a new token, if one was presented)"
    )]
    Broken {
        /// HOST:PORT of the token.
        address: String,
        /// How.
        why: String,
    },
    /// The gateway says no.
    #[error("the gateway refused: {0}")]
    Refused(String),
    /// The handshake cannot be set up.
    #[error(transparent)]
    Setup(#[from] TlsError),
    /// What it answers does not fit.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// It cannot be kept.
    #[error("this machine has joined, but its credentials cannot be kept; get a new token")]
    Bundle(#[from] BundleError),
}

impl JoinError {
    /// The next step: whether the token is still good decides it.
    #[must_use]
    pub const fn next(&self) -> &'static str {
        match self {
            Self::Token(_) => "give the token as `keywheel host join-token NAME` printed it",
            Self::Occupied(_) | Self::Directory { .. } => {
                "name another directory with --identity-dir, or correct this one; the token is still good"
            }
            Self::Unreachable { .. } => {
                "the token is still good for its ten minutes: try again when the gateway's join port is reached from here"
            }
            _ => "get a new token with `keywheel host join-token NAME` on the gateway",
        }
    }
}

/// Who the machine is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The host's id.
    pub host: HostId,
    /// Its name.
    pub name: HostName,
    /// Where it joined.
    pub gateway: String,
}

/// Joins with a token and writes the credentials into a directory that holds none.
///
/// # Errors
/// When the token is none or is refused, the gateway is not there or another one, or the disk says
/// no. The token is presented at the very end; until then it stays good.
pub async fn join(
    token: &str,
    directory: &Path,
    clock: Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> Result<Joined, JoinError> {
    let token = JoinToken::parse(token)?;
    make_room(directory)?;
    let joining = Joining::begin(&token, entropy)?;
    let config = join_client_config(token.deployment, token.pin, Arc::clone(&clock))?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connect(&connector, &token.address).await?;
    let asked = Zeroizing::new(serde_json::to_vec(&joining.ask(&token)).unwrap_or_default());
    let exchange = tokio::time::timeout(ANSWER_TIMEOUT, post(stream, PATH, &asked, &token.address));
    let answered = exchange.await.map_err(|_| JoinError::Late {
        address: token.address.clone(),
    })?;
    let answer: JoinAnswer = read(&answered?)?;
    joining.accept(&answer, clock.now())?.write(directory)?;
    Ok(Joined {
        host: token.host,
        name: token.name,
        gateway: token.address,
    })
}

/// The directory exists and holds no credentials: found out before the token is spent.
fn make_room(directory: &Path) -> Result<(), JoinError> {
    let failed = |source| JoinError::Directory {
        path: directory.to_owned(),
        source,
    };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(directory).map_err(failed)?;
    for name in [CA_FILE, CERTIFICATE_FILE, KEY_FILE, IDENTITY_FILE, BUS_FILE] {
        if directory.join(name).try_exists().map_err(failed)? {
            return Err(JoinError::Occupied(directory.to_owned()));
        }
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(directory, access).map_err(|error| failed(error.into()))
}

pub(crate) async fn connect(
    connector: &TlsConnector,
    address: &str,
) -> Result<TlsStream<TcpStream>, JoinError> {
    let late = |_| JoinError::Late {
        address: address.to_owned(),
    };
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let stream = connecting.await.map_err(late)?;
    let stream = stream.map_err(|source| JoinError::Unreachable {
        address: address.to_owned(),
        source,
    })?;
    let name = ServerName::try_from(SERVER_NAME).map_err(|error| broken(address, &error))?;
    let shaking = tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(name, stream));
    let shaken = shaking.await.map_err(late)?;
    shaken.map_err(|error| match explain(&error) {
        Some(refusal) => refused(address, refusal),
        None => broken(address, &error),
    })
}

pub(crate) async fn post(
    stream: TlsStream<TcpStream>,
    path: &str,
    asked: &[u8],
    address: &str,
) -> Result<(StatusCode, Bytes), JoinError> {
    let failed = |error: hyper::Error| match Refusal::behind(&error) {
        Some(refusal) => refused(address, refusal),
        None => broken(address, &error),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // It ends with its last handle.
    tokio::spawn(connection);
    let request = Request::post(path)
        .header(header::HOST, address)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::copy_from_slice(asked)))
        .map_err(|error| broken(address, &error))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ASK_BYTES).collect();
    let body = body.await.map_err(|error| JoinError::Broken {
        address: address.to_owned(),
        why: error.to_string(),
    })?;
    Ok((status, body.to_bytes()))
}

/// The reason in a problem of the gateway.
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

pub(crate) fn read<T: DeserializeOwned>(
    (status, body): &(StatusCode, Bytes),
) -> Result<T, JoinError> {
    if status.is_success() {
        let answer = serde_json::from_slice(body);
        return answer.map_err(|error| {
            let text = format!("line {} is not as expected", error.line());
            JoinError::Enrol(EnrolError::Answer(text))
        });
    }
    let problem = serde_json::from_slice::<Problem>(body);
    let detail = problem.map_or_else(
        |_| format!("status {status} without a reason; check that the address is a gateway's"),
        |problem| problem.detail,
    );
    Err(JoinError::Refused(detail))
}

fn refused(address: &str, refusal: Refusal) -> JoinError {
    JoinError::Tls {
        address: address.to_owned(),
        refusal,
    }
}

pub(crate) fn broken(address: &str, error: &(dyn std::error::Error + 'static)) -> JoinError {
    JoinError::Broken {
        address: address.to_owned(),
        why: keywheel_daemon::chain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_was_not_presented_is_said_to_be_good_still() {
        let unreachable = JoinError::Unreachable {
            address: "127.0.0.1:1".to_owned(),
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        assert!(unreachable.next().contains("still good"));
        let refused = JoinError::Refused("this token was used".to_owned());
        assert!(refused.next().contains("new token"));
    }
}
