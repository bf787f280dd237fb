//! A tap on a bus server: every process connects through it, and all bytes of both ways are kept.
//!
//! Owns a listener, a thread per connection and way, and one file per connection and way. It changes
//! nothing, and sees only what tests of this machine send to their own bus server.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result};

/// Bytes passed on in one go.
const CHUNK: usize = 64 << 10;

/// A running tap; its threads end with the connections, its files with the scratch directory.
#[derive(Debug)]
pub struct Tap {
    port: u16,
    folder: PathBuf,
    connections: Arc<AtomicUsize>,
}

impl Tap {
    /// Listens at a port of its own and passes on to a bus server on loopback, which need not run yet.
    pub fn begin(folder: &Path, server: u16) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let tap = Self {
            port: listener.local_addr()?.port(),
            folder: folder.to_owned(),
            connections: Arc::default(),
        };
        let (folder, count) = (tap.folder.clone(), Arc::clone(&tap.connections));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                // A server that is away closes the client, as it would itself.
                if let Err(error) = pass(client, server, &folder, number) {
                    eprintln!("harness: tap: {error:#}");
                }
            }
        });
        Ok(tap)
    }

    /// Where clients connect.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of what was heard.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many connections were made.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn pass(client: TcpStream, server: u16, folder: &Path, number: usize) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).context("the bus server is away")?;
    for (way, from, to) in [("up", &client, &server), ("down", &server, &client)] {
        let file = File::create(folder.join(format!("{number}.{way}")))?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || copy(from, to, file));
    }
    Ok(())
}

/// Until either side closes; what was heard is written before it is passed on.
fn copy(mut from: TcpStream, mut to: TcpStream, mut file: File) {
    let mut buffer = vec![0u8; CHUNK];
    while let Ok(read) = from.read(&mut buffer) {
        let heard = buffer.get(..read).unwrap_or_default();
        if heard.is_empty() || file.write_all(heard).is_err() || to.write_all(heard).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn it_keeps_both_ways() -> Result<()> {
        let scratch = Scratch::make()?;
        let echo = TcpListener::bind(("127.0.0.1", 0))?;
        let server = echo.local_addr()?.port();
        let serving = thread::spawn(move || -> Result<()> {
            let (mut peer, _) = echo.accept()?;
            let mut asked = [0u8; 4];
            peer.read_exact(&mut asked)?;
            peer.write_all(b"pong")?;
            Ok(())
        });
        let tap = Tap::begin(&scratch.join("tap"), server)?;
        let mut client = TcpStream::connect(("127.0.0.1", tap.port()))?;
        client.write_all(b"ping")?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        assert_eq!(answer, "pong");
        assert!(serving.join().is_ok_and(|served| served.is_ok()));
        assert_eq!(std::fs::read(tap.folder().join("0.up"))?, b"ping");
        assert_eq!(std::fs::read(tap.folder().join("0.down"))?, b"pong");
        assert_eq!(tap.connections(), 1);
        Ok(())
    }
}
