//! Where metrics are served: on this machine only, since they are plain HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::MAX_SOCKET_PATH_BYTES;
use super::sources::Sources;
use crate::leaf::shorten;

/// Name of the setting.
const SETTING: &str = "metrics.listen";

/// Where Prometheus, or an agent of it, reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsListen {
    /// A port on loopback.
    Loopback(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl MetricsListen {
    pub(super) fn take(sources: &mut Sources) -> Option<Self> {
        let text = sources.optional_text(SETTING)?;
        parse(&text)
            .inspect_err(|fault| sources.fault(SETTING, format!("`{}` {fault}", shorten(&text))))
            .ok()
    }
}

fn parse(text: &str) -> Result<MetricsListen, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            _ if !path.starts_with('/') => {
                Err("is not a socket; write unix:/run/keywheel/metrics.sock".to_owned())
            }
            _ if path.len() > MAX_SOCKET_PATH_BYTES => Err(format!(
                "has a path of {} bytes; the kernel takes at most {MAX_SOCKET_PATH_BYTES}",
                path.len()
            )),
            _ => Ok(MetricsListen::Unix(PathBuf::from(path))),
        };
    }
    let address: SocketAddr = text.parse().map_err(|_| {
        "is not a place for metrics; write 127.0.0.1:PORT, or unix:/PATH".to_owned()
    })?;
    if !address.ip().is_loopback() {
        return Err(
            "is not on loopback, and metrics are served without TLS; write 127.0.0.1:PORT and let an agent on this machine pass them on"
                .to_owned(),
        );
    }
    Ok(MetricsListen::Loopback(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_on_loopback_or_a_socket_and_nowhere_else() {
        let tcp = parse("127.0.0.1:9464");
        assert!(matches!(tcp, Ok(MetricsListen::Loopback(at)) if at.port() == 9464));
        assert!(matches!(
            parse("[::1]:9464"),
            Ok(MetricsListen::Loopback(_))
        ));
        let socket = parse("unix:/run/keywheel/metrics.sock");
        assert!(matches!(socket, Ok(MetricsListen::Unix(_))));
        for (bad, told) in [
            ("0.0.0.0:9464", "without TLS"),
            ("10.1.2.3:9464", "without TLS"),
            ("localhost:9464", "127.0.0.1:PORT"),
            ("9464", "127.0.0.1:PORT"),
            ("unix:metrics.sock", "unix:/run"),
        ] {
            let fault = parse(bad).unwrap_err();
            assert!(fault.contains(told), "{bad}: {fault}");
        }
    }

    #[test]
    fn a_sockets_path_is_as_long_as_the_kernel_takes_and_not_longer() {
        let of = |bytes: usize| format!("unix:/{}", "a".repeat(bytes - 1));
        assert!(parse(&of(MAX_SOCKET_PATH_BYTES)).is_ok());
        assert!(parse(&of(MAX_SOCKET_PATH_BYTES + 1)).is_err());
    }
}
