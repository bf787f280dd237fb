//! Telling the service manager that this program serves (systemd's `NOTIFY_SOCKET`).
//!
//! Without a service manager nothing happens; one that does not listen changes nothing either.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::env;

/// Where a service manager listens; a name that begins with `@` is no path.
const VARIABLE: &str = "NOTIFY_SOCKET";
const READY: &[u8] = b"READY=1";

/// Says that this program serves.
pub fn ready() {
    let Some(socket) = env::lookup(VARIABLE) else {
        return;
    };
    if let Err(error) = tell(&socket) {
        tracing::warn!(
            { crate::names::ERROR } = crate::chain(&error),
            "the service manager could not be told that this program serves"
        );
    }
}

fn tell(socket: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(READY, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> Vec<u8> {
        let mut bytes = [0; 64];
        let length = listener.recv(&mut bytes).unwrap();
        bytes[..length].to_vec()
    }

    #[test]
    fn a_manager_hears_it_by_path_and_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        tell(path.to_str().unwrap()).unwrap();
        assert_eq!(heard(&listener), READY);
        let name = format!("keywheel-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        tell(&format!("@{name}")).unwrap();
        assert_eq!(heard(&listener), READY);
        assert!(tell("/nowhere/notify").is_err());
    }
}
