//! What the audit sink tells about itself: how many records it keeps, whether the log agrees, and how
//! each sink is that it tells; for presence, and as metrics.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::presence::{COPY_FACT, Fact, Look, Reached, SINK_SET_FACT, Seen};
use keywheel_schemas::config::sinks::Sink;
use keywheel_seal::digest;
use keywheel_telemetry::{Page, Source, names};

use crate::onward::{Standing, State};
use crate::sink::Handle;

/// Which set of sinks it is: whatever of it changes, the digest does. What lies in files that it names is no part.
pub(crate) fn sink_set(sinks: &[Sink]) -> String {
    let mut sorted: Vec<&Sink> = sinks.iter().collect();
    sorted.sort_by_key(|sink| sink.name());
    let mut all = digest::Running::default();
    // A set always has a JSON form; without one no two sets would be told apart, so that is none that was confirmed.
    all.add(&serde_json::to_vec(&sorted).unwrap_or_default());
    let names: Vec<&str> = sorted.iter().map(|sink| sink.name()).collect();
    format!(
        "sha256:{} of {} sinks: {}",
        all.hex(),
        names.len(),
        names.join(", ")
    )
}

/// The sinks, to be looked at.
pub(crate) struct Onward {
    pub(crate) states: Vec<Arc<State>>,
    pub(crate) max_lag: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    /// What it was given, in words that begin with its digest.
    pub(crate) set: String,
}

impl Onward {
    /// How each is, with a copy of this size.
    pub(crate) fn standings(&self, size: u64) -> Vec<Standing> {
        let now = self.clock.monotonic();
        let states = self.states.iter();
        states.map(|state| state.standing(size, now)).collect()
    }
}

impl std::fmt::Debug for Onward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.states).finish()
    }
}

/// What is said of a copy in which nothing differs.
fn agreeing(begins: u64) -> String {
    let before = match begins {
        0 => String::new(),
        begins => format!(
            "; it begins with record {begins}, since the journal had none before it when it was begun"
        ),
    };
    format!("every record agrees with the journal's{before}")
}

#[async_trait]
impl Look for Handle {
    async fn look(&self) -> Seen {
        let copy = match self.conflicts() {
            0 => Fact::ok(COPY_FACT, agreeing(self.begins())),
            conflicts => {
                let note = format!(
                    "{conflicts} audit records differ between the journal and the audit sink: one of them was changed, or records left the journal while this copy was away"
                );
                let next = "keep both files, and compare them with your backup; the sink's log names the records";
                Fact::problem(COPY_FACT, note, next)
            }
        };
        let backfilled = format!("{} records were read from the log", self.backfilled());
        let mut facts = vec![copy, Fact::ok("backfill", backfilled)];
        let set = self.onward().map(|onward| onward.set.clone());
        facts.push(Fact::ok(
            SINK_SET_FACT,
            set.unwrap_or_else(|| sink_set(&[])),
        ));
        if let Some(onward) = self.onward() {
            let standings = onward.standings(self.size());
            let sinks = standings.iter().map(|one| one.fact(onward.max_lag));
            facts.extend(sinks);
        }
        Seen {
            reached: Some(Reached::AuditRecords(self.size())),
            facts,
        }
    }
}

#[async_trait]
impl Source for Handle {
    async fn read(&self, page: &mut Page) {
        for sink in self.sinks() {
            let labels = [sink.name.as_str()];
            page.count(&names::AUDIT_SINK_WAITING, &labels, sink.waiting);
            page.set(&names::AUDIT_SINK_LAG, &labels, sink.waits.as_secs_f64());
            page.count(&names::AUDIT_SINK_FAILURES, &labels, sink.failures);
            page.flag(&names::AUDIT_SINK_DIFFERS, &labels, sink.conflict.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use keywheel_schemas::config::sinks::SinkFormat;

    use super::*;

    fn file(name: &str, path: &str, keep: u32) -> Sink {
        Sink::File {
            name: name.to_owned(),
            path: path.to_owned(),
            max_bytes: 65_536,
            keep,
            format: SinkFormat::Native,
        }
    }

    #[test]
    fn a_copy_that_began_later_says_so() {
        assert_eq!(agreeing(0), "every record agrees with the journal's");
        assert!(agreeing(512).contains("begins with record 512"));
    }

    #[test]
    fn a_set_of_sinks_is_known_by_all_of_it_and_in_any_order() {
        let (one, other) = (file("a", "/a", 0), file("b", "/b", 0));
        let set = sink_set(&[one.clone(), other.clone()]);
        assert!(
            set.starts_with("sha256:") && set.ends_with(" of 2 sinks: a, b"),
            "{set}"
        );
        assert_eq!(sink_set(&[other.clone(), one.clone()]), set);
        let digest = |set: &str| set.split(' ').next().unwrap_or_default().to_owned();
        let others = [
            sink_set(&[]),
            sink_set(std::slice::from_ref(&one)),
            sink_set(&[one.clone(), file("b", "/c", 0)]),
            sink_set(&[one, file("b", "/b", 1)]),
        ];
        for other in others {
            assert_ne!(digest(&other), digest(&set), "{other}");
        }
    }
}
