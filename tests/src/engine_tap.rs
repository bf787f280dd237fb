//! A recording socket before Docker's own: everything a server under test says to the engine, and
//! what it is told, is in a file below the scratch directory.
//!
//! So the canary of rule C1 searches the engine's API like every other place. Bytes are passed on as
//! they are; it understands none of them but the first line of a connection that asks for events, which it
//! can be told to keep to itself while the connection stays up.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, Result};

/// Docker's own socket.
const ENGINE: &str = "/var/run/docker.sock";
/// The record's name in the scratch directory.
const RECORD: &str = "engine-api.record";
/// How a connection begins by which events come.
const EVENTS: &[u8] = b"/events";

/// A running tap; it ends with its value.
#[derive(Debug)]
pub struct EngineTap {
    socket: PathBuf,
    record: PathBuf,
    stop: Arc<AtomicBool>,
    drops_events: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
}

/// What is done with what the engine says on one connection.
#[derive(Clone)]
struct Answers {
    /// Whether it was asked for events.
    are_events: Arc<AtomicBool>,
    drops_events: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
}

impl EngineTap {
    /// Listens in a folder and records there.
    pub fn start(folder: &Path) -> Result<Self> {
        let socket = folder.join("engine.sock");
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("cannot listen at {}", socket.display()))?;
        let path = folder.join(RECORD);
        let record = OpenOptions::new().create(true).append(true).open(&path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (drops_events, dropped) = (Arc::default(), Arc::default());
        let answers = Answers {
            are_events: Arc::default(),
            drops_events: Arc::clone(&drops_events),
            dropped: Arc::clone(&dropped),
        };
        thread::spawn(move || {
            for accepted in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A server whose engine is away sees a connection that ends.
                if let Ok(client) = accepted
                    && let Ok(engine) = UnixStream::connect(ENGINE)
                {
                    let answers = Answers {
                        are_events: Arc::default(),
                        ..answers.clone()
                    };
                    let _ = pass(&client, &engine, &record, Way::There(answers.clone()));
                    let _ = pass(&engine, &client, &record, Way::Back(answers));
                }
            }
        });
        let record = path;
        Ok(Self {
            socket,
            record,
            stop,
            drops_events,
            dropped,
        })
    }

    /// From now on the engine's events are dropped, or passed on again; connections stay up.
    pub fn drop_events(&self, drops: bool) {
        self.drops_events.store(drops, Ordering::SeqCst);
    }

    /// How often something of a stream of events was dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::SeqCst)
    }

    /// What a server is told instead of Docker's address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Forgets what was said so far, where the engine itself told what is no value of ours yet.
    pub fn forget(&self) -> Result<()> {
        // Whoever writes appends, so it goes on at the beginning.
        File::create(&self.record).map(drop)?;
        Ok(())
    }

    /// What was said so far.
    #[must_use]
    pub fn record(&self) -> &Path {
        &self.record
    }
}

impl Drop for EngineTap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener; connections end with their server.
        let _ = UnixStream::connect(&self.socket);
    }
}

/// Which direction, and what belongs to it.
enum Way {
    There(Answers),
    Back(Answers),
}

impl Way {
    /// Whether this piece is passed on. The engine writes each event as one chunk of its own, so that what is
    /// passed on stays whole.
    fn passes(&self, said: &[u8]) -> bool {
        match self {
            Self::There(answers) => {
                let line = said.split(|byte| *byte == b'\n').next().unwrap_or_default();
                if line.windows(EVENTS.len()).any(|part| part == EVENTS) {
                    answers.are_events.store(true, Ordering::SeqCst);
                }
                true
            }
            Self::Back(answers) => {
                let drops = answers.are_events.load(Ordering::SeqCst)
                    && answers.drops_events.load(Ordering::SeqCst);
                if drops {
                    answers.dropped.fetch_add(1, Ordering::SeqCst);
                }
                !drops
            }
        }
    }
}

/// Passes one direction on, in a thread of its own.
fn pass(from: &UnixStream, to: &UnixStream, record: &File, way: Way) -> io::Result<()> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    let mut record = record.try_clone()?;
    thread::spawn(move || {
        let mut piece = [0; 16 * 1024];
        while let Ok(count) = from.read(&mut piece) {
            let said = piece.get(..count).unwrap_or_default();
            // Recorded before it is passed on: what was done is on the record.
            if count == 0 || record.write_all(said).is_err() {
                break;
            }
            if way.passes(said) && to.write_all(said).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    Ok(())
}
