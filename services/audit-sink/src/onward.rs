//! Onward: each sink that is configured, told by a task of its own from the copy.
//!
//! Invariants: every sink has its own place and is told records in order, without a gap, at least once; one that
//! does not take them in time is given up, tried again later, and delays no other; what is wrong with it is in
//! its [`State`], and so in `status`. Where records go is the configuration's alone (rule A7).

mod file;
mod http;
mod line;
mod nats;
mod ocsf;
mod otlp;
mod pump;
mod secret;
mod state;
mod syslog;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_engine::port::PortError;
use keywheel_engine::port::clock::Clock;
use keywheel_schemas::config::sinks::Sink;
use keywheel_seal::Entropy;

use crate::file::File;
use line::Line;
use pump::Pace;
pub(crate) use pump::Pump;
pub use pump::{LONGEST_PAUSE, MAX_BATCH, SEND_TIMEOUT};
pub use state::Standing;
pub(crate) use state::State;

/// What telling sinks needs besides the copy.
#[derive(Clone)]
pub struct OnwardOptions {
    /// The sinks, as the configuration has them.
    pub sinks: Vec<Sink>,
    /// How long a record may wait for one before that counts as failed.
    pub max_lag: Duration,
    /// What this machine calls itself.
    pub machine: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What repeats wait by.
    pub entropy: Arc<dyn Entropy>,
}

/// What a sink itself knows of how far it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// The first record that it lacks.
    next: u64,
    /// Leaf hash of the last one that it has.
    leaf: Option<[u8; 32]>,
}

/// Where records are told.
#[async_trait]
pub(crate) trait Target: Send + Sync {
    /// What it has, where it can say so itself; else what was noted counts.
    async fn known(&mut self) -> Result<Option<Known>, PortError> {
        Ok(None)
    }
    /// Tells records in order, and comes back when the other side has them all.
    async fn tell(&mut self, lines: &[Line]) -> Result<(), PortError>;
    /// Gives up what is open, after a failure or at the deadline.
    fn reset(&mut self);
}

/// One task's worth for each sink.
pub(crate) fn pumps(options: &OnwardOptions, copy: &File) -> Vec<Pump> {
    let pump = |sink: &Sink| {
        let state = Arc::new(State::new(sink.name(), sink.kind()));
        Pump {
            copy: copy.clone(),
            target: target(options, sink, copy),
            format: sink.format(),
            state,
            clock: options.clock.clone(),
            pace: Pace::default(),
        }
    };
    options.sinks.iter().map(pump).collect()
}

fn target(options: &OnwardOptions, sink: &Sink, copy: &File) -> Box<dyn Target> {
    let way = || http::Way::new(options.clock.clone(), options.entropy.clone());
    match sink.clone() {
        Sink::File {
            path,
            max_bytes,
            keep,
            ..
        } => {
            let lines = file::Lines::new(path.into(), max_bytes, keep);
            Box::new(lines.beginning(copy.beginning()))
        }
        Sink::Syslog {
            address,
            ca_file,
            cert_file,
            key_file,
            ..
        } => Box::new(syslog::Syslog {
            address,
            ca_file,
            own: cert_file.zip(key_file),
            machine: options.machine.clone(),
        }),
        Sink::Nats {
            url,
            subject,
            credentials_file,
            ca_file,
            ..
        } => Box::new(nats::Subject::new(url, subject, credentials_file, ca_file)),
        Sink::Otlp {
            url,
            authorization_file,
            ca_file,
            ..
        } => Box::new(otlp::Collector {
            way: way().to(url, ca_file),
            authorization_file,
            machine: options.machine.clone(),
        }),
        Sink::Http {
            url,
            key_file,
            ca_file,
            ..
        } => Box::new(http::Receiver {
            way: way().to(url, ca_file),
            key_file,
        }),
    }
}
