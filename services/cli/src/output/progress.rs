//! Live progress of a wait, on stderr, for terminals only.

use std::time::Duration;

use indicatif::ProgressBar;
use keywheel_schemas::api::{ConsumerView, RevocationView, RotationView};

use super::{Screen, tame, views};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);
/// How many of those that are missing are named.
const MAX_NAMED: usize = 3;

/// A line that changes; without a terminal nothing.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Begins.
    pub(crate) fn begin(screen: Screen) -> Self {
        Self(screen.live.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(TICK);
            bar
        }))
    }

    /// Says how it stands.
    pub(crate) fn say(&self, words: impl FnOnce() -> String) {
        if let Some(bar) = &self.0 {
            bar.set_message(words());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// How a rotation stands.
pub(crate) fn rotation(rotation: &RotationView) -> String {
    let missing = rotation
        .consumers
        .iter()
        .filter(|c| views::is_behind(c, rotation.version));
    let named = |consumer: &ConsumerView| match &consumer.restart {
        Some(restart) => format!("{} ({})", tame(&consumer.name), tame(restart)),
        None => tame(&consumer.name),
    };
    let names: Vec<String> = missing.map(named).collect();
    let mut words = format!(
        "{} version {}: {}, {} consumers acknowledged",
        rotation.secret,
        rotation.version,
        rotation.state,
        views::acknowledged(rotation)
    );
    if !names.is_empty() {
        let more = names.len().saturating_sub(MAX_NAMED);
        let named = names
            .into_iter()
            .take(MAX_NAMED)
            .collect::<Vec<_>>()
            .join(", ");
        words.push_str(&format!("; missing: {named}"));
        if more > 0 {
            words.push_str(&format!(" and {more} more"));
        }
    }
    words
}

/// How a revocation stands.
pub(crate) fn revocation(revocation: &RevocationView) -> String {
    match revocation.waiting_hosts.as_slice() {
        [] => format!(
            "{}: gone from all containers; the store: {}",
            revocation.secret, revocation.backend
        ),
        hosts => format!(
            "{}: may still be held by {}",
            revocation.secret,
            hosts.join(", ")
        ),
    }
}
