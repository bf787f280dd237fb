//! Ports for servers of tests, each given once on this machine.
//!
//! A port that was bound and let go belongs to whoever comes next: another test, or any connection
//! that goes out. Here the port stays bound, without listening, until this process ends. Linux lets
//! one more socket bind it when both allow the address to be used again, and NATS, PostgreSQL and our
//! own servers all do; nobody is given it by chance, and a server finds it again after a restart.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt,
};
use tokio::net::TcpStream;

/// Tries for two ports so far apart.
const PAIR_TRIES: usize = 100;
/// How long a listener may be there that was closed, and the time between two looks.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);
/// What is held; it goes with the process.
static HELD: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that is this process's until it ends.
///
/// # Panics
/// When the machine has no free port.
#[must_use]
pub fn held_port() -> u16 {
    hold(0).expect("a free port")
}

/// Binds a port, or any for 0, and keeps it.
fn hold(port: u16) -> rustix::io::Result<u16> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // A server under test does not inherit it.
    let held = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket");
    sockopt::set_socket_reuseaddr(&held, true).expect("an address to be used again");
    bind(&held, &any)?;
    let name = getsockname(&held).expect("its address");
    let name = SocketAddr::try_from(name).expect("an internet address");
    let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(held);
    Ok(name.port())
}

/// A port like that of [`held_port`], and with it the one that lies `above` by so much.
///
/// # Panics
/// When the machine has no two such ports.
#[must_use]
pub fn held_pair(above: u16) -> u16 {
    for _ in 0..PAIR_TRIES {
        let port = held_port();
        let Some(other) = port.checked_add(above) else {
            continue;
        };
        // What a test beside this one just starts has the socket that asked, until it runs.
        if is_free(other) && hold(other).is_ok() {
            return port;
        }
    }
    panic!("no two free ports {above} apart on loopback")
}

/// Waits until nobody listens at an address any more. Where its listener was closed, what a test
/// beside this one has just started has a copy of it until its own program begins, and the kernel
/// takes connections for that.
///
/// # Panics
/// When somebody goes on listening.
pub async fn closed(at: SocketAddr) {
    let waiting = async {
        while TcpStream::connect(at).await.is_ok() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "somebody listens at {at}");
}

/// Whether nobody serves or holds a port: only who would not share it is told.
fn is_free(port: u16) -> bool {
    let unshared = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket");
    bind(&unshared, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::net::{Shutdown, shutdown};

    use super::{Ipv4Addr, closed, held_pair, held_port};

    #[tokio::test]
    async fn a_listener_of_which_a_child_has_a_copy_is_waited_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (at, copy) = (
            listener.local_addr().unwrap(),
            listener.try_clone().unwrap(),
        );
        drop(listener);
        assert!(TcpStream::connect(at).is_ok(), "it is there still");
        let begun = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            drop(copy);
        });
        closed(at).await;
        assert!(TcpStream::connect(at).is_err());
        begun.join().unwrap();
    }

    #[test]
    fn a_held_port_is_served_again_and_again_and_given_to_nobody_else() {
        let port = held_port();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
        for _ in 0..2 {
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
            // Not by closing alone: what a test beside this one just starts has it, too, until it runs.
            shutdown(&server, Shutdown::Both).unwrap();
        }
        for _ in 0..100 {
            let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            assert_ne!(other.local_addr().unwrap().port(), port);
        }
        assert_ne!(held_port(), port);
    }

    #[test]
    fn two_ports_so_far_apart_are_held_together() {
        let port = held_pair(2000);
        for own in [port, port + 2000] {
            let _server = TcpListener::bind((Ipv4Addr::LOCALHOST, own)).unwrap();
        }
        assert_ne!(held_pair(2000), port);
    }
}
