//! What a bus server says when somebody connects: who it is, before any credentials. For who checks a
//! set-up; a service's own connection checks the same and more.

use std::time::Duration;

use async_nats::ServerInfo;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;

use super::options::{Unfit, check_server};

/// Longest greeting that is read.
pub const MAX_GREETING_BYTES: usize = 64 << 10;
/// How long connecting and greeting may take.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no greeting.
#[derive(Debug, thiserror::Error)]
pub enum GreetingError {
    /// Nobody is there.
    #[error("nobody is reached")]
    Io(#[source] std::io::Error),
    /// Too slow.
    #[error("no answer within {} s", GREETING_TIMEOUT.as_secs())]
    Late,
    /// Something else is there.
    #[error("what answers there is no NATS server")]
    Other,
}

/// A bus server's greeting.
#[derive(Debug)]
pub struct Greeting {
    /// What it says it is.
    pub version: String,
    /// Whether it wants TLS.
    pub wants_tls: bool,
    /// Why it cannot be used.
    pub unfit: Option<Unfit>,
}

/// Connects to `HOST:PORT` and listens; gives the connection back for a handshake.
///
/// # Errors
/// When there is no bus server.
pub async fn listen(authority: &str) -> Result<(TcpStream, Greeting), GreetingError> {
    let heard = async {
        let stream = TcpStream::connect(authority).await?;
        let mut reader = BufReader::new(stream);
        let limit = u64::try_from(MAX_GREETING_BYTES).unwrap_or(u64::MAX);
        let mut line = Vec::new();
        (&mut reader)
            .take(limit)
            .read_until(b'\n', &mut line)
            .await?;
        Ok((reader.into_inner(), line))
    };
    let heard = tokio::time::timeout(GREETING_TIMEOUT, heard).await;
    let (stream, line) = heard
        .map_err(|_| GreetingError::Late)?
        .map_err(GreetingError::Io)?;
    let greeting = parse(&line).ok_or(GreetingError::Other)?;
    Ok((stream, greeting))
}

/// Reads the first line of a connection.
pub(crate) fn parse(line: &[u8]) -> Option<Greeting> {
    let json = line.strip_prefix(b"INFO ")?;
    let info: ServerInfo = serde_json::from_slice(json).ok()?;
    let unfit = check_server(&info).err();
    Some(Greeting {
        version: info.version.chars().take(64).collect(),
        wants_tls: info.tls_required,
        unfit,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    const GOOD: &str = "INFO {\"server_id\":\"S\",\"server_name\":\"n\",\"version\":\"2.15.1\",\"host\":\"h\",\"port\":4222,\"max_payload\":8500000,\"proto\":1,\"client_id\":1,\"jetstream\":true,\"tls_required\":true}\r\n";

    #[test]
    fn a_greeting_is_judged_as_a_service_judges_it() {
        let found = parse(GOOD.as_bytes()).unwrap();
        assert_eq!((found.version.as_str(), found.wants_tls), ("2.15.1", true));
        assert_eq!(found.unfit, None);
        let old = parse(GOOD.replace("2.15.1", "2.10.25").as_bytes()).unwrap();
        assert!(matches!(old.unfit, Some(Unfit::TooOld { .. })));
        assert!(parse(b"SSH-2.0-OpenSSH\r\n").is_none());
        assert!(parse(b"").is_none());
    }

    proptest! {
        #[test]
        fn no_greeting_makes_it_panic(bytes: Vec<u8>, at in any::<prop::sample::Index>(), byte: u8) {
            let _ = parse(&bytes);
            let mut changed = GOOD.as_bytes().to_vec();
            let at = at.index(changed.len());
            changed[at] = byte;
            let _ = parse(&changed);
            changed.truncate(at.min(changed.len() - 3));
            assert!(parse(&changed).is_none());
        }
    }
}
