//! What signals need of the world, and what the API asks: a test, a retry, who is in trouble.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use keywheel_core::audit::Principal;
use keywheel_core::command::{Command, Outward};
use keywheel_core::id::{
    CommandId, DeploymentId, EventId, LetterId, NotificationId, SignalSourceId,
};
use keywheel_core::name::{NotificationName, SignalSourceName};
use keywheel_core::notification;
use keywheel_core::signal::{self, Signal};
use keywheel_core::time::Timestamp;
use keywheel_engine::command_bus::{Decided, Handle, Submission};
use keywheel_engine::port::bus::Bus;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::deliveries::{Deliveries, Letter, MAX_LETTER_REASON_CHARS};
use keywheel_engine::port::failpoint::Points;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::{Journal, Verdict};
use keywheel_engine::port::outside::{Outside, Trouble};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::presence::{Fact, Look, MAX_FACTS, Reached, Seen};
use keywheel_engine::state::View;
use keywheel_seal::letters::LetterKey;
use keywheel_seal::{Entropy, digest};
use tokio::sync::Notify;

use crate::incoming::later::Queue;
use crate::incoming::reading::{self, Arrived};
use crate::keys::KeyFiles;
use crate::outgoing::message::Message;
use crate::outgoing::sender::{Sender, Told};
use crate::outgoing::whose::{Memory, Names};

/// What a signal's command id is a digest of.
const CONTEXT: &[u8] = b"keywheel/signal/v1";
/// The same of what came of its comparison later.
const LATER: &[u8] = b"keywheel/signal-compared/v1";

/// Ports and settings.
pub struct Parts {
    /// The log of record.
    pub journal: Arc<dyn Journal>,
    /// Places of receivers, and letters.
    pub deliveries: Arc<dyn Deliveries>,
    /// Committed state.
    pub view: View,
    /// Submits commands.
    pub commands: Handle,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Below it lie keys that manifests name.
    pub directory: PathBuf,
    /// Where on this machine and its link a receiver may be.
    pub near: Vec<SocketAddr>,
    /// This installation; what is kept of a letter opens nowhere else.
    pub deployment: DeploymentId,
    /// Passes [`FAILPOINTS`]; by nobody watched but in tests.
    ///
    /// [`FAILPOINTS`]: crate::FAILPOINTS
    pub points: Points,
    /// Asks store-sync, on the gateway's end.
    pub bus: Arc<dyn Bus>,
    /// Seals what is kept of letters; every gateway of the installation has the same.
    pub letter_key: Arc<LetterKey>,
}

/// Answers the API; clones are one.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) parts: Parts,
    pub(crate) keys: KeyFiles,
    troubles: Mutex<BTreeMap<NotificationId, Trouble>>,
    /// Somebody wants receivers to be told now.
    pub(crate) called: Notify,
    /// Reported tokens that wait for store-sync.
    pub(crate) later: Mutex<Queue>,
}

impl Inner {
    pub(crate) fn troubles(&self) -> MutexGuard<'_, BTreeMap<NotificationId, Trouble>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a signal taken; whether it was taken before.
    pub(crate) async fn take(
        &self,
        principal: &Principal,
        source: SignalSourceId,
        signal: Signal,
    ) -> Result<bool, PortError> {
        let late = signal.first.map(|_| {
            let heading = heading_of(&signal);
            (letter_of_signal(source, &signal), heading)
        });
        let submission = Submission {
            id: command_id(source, &signal),
            principal: principal.clone(),
            traceparent: None,
            command: Command::Outward(Outward::TakeSignal(signal)),
        };
        let Decided { verdict, is_repeat } = self.parts.commands.decide(submission).await?;
        if let Verdict::Rejected { text, .. } = verdict {
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        let is_late = late.is_some();
        if let Some((id, heading)) = late {
            self.end_letter_of(id, &heading).await;
        }
        Ok(is_repeat || is_late)
    }

    /// Ends the letter that calls a person about this signal alone.
    async fn end_letter_of(&self, id: LetterId, heading: &str) {
        match self.parts.deliveries.letter(id).await {
            Ok(Some(letter)) if letter.heading == heading => self.end_letter(id).await,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "whether a signal has a letter is not known"),
        }
    }

    /// Names of all secrets that there are.
    pub(crate) fn secret_names(&self) -> Vec<String> {
        let committed = self.parts.view.read();
        let secrets = committed.world.secrets.values();
        secrets.map(|secret| secret.name.to_string()).collect()
    }

    /// What was declared of a source.
    pub(crate) fn source(&self, name: &SignalSourceName) -> Option<signal::Source> {
        let committed = self.parts.view.read();
        committed.world.signal_source_named(name).cloned()
    }
}

/// The same for every copy of a signal, so that the log takes it once, on any gateway and after any restart; another for
/// what came of its comparison later, once, too. Of a source that is declared again under its name it is another: what
/// was refused in between is no answer to it.
pub(crate) fn command_id(source: SignalSourceId, signal: &Signal) -> CommandId {
    let context = match signal.first {
        None => CONTEXT,
        Some(_) => LATER,
    };
    derive_id(context, source, signal)
}

fn derive_id(context: &[u8], source: SignalSourceId, signal: &Signal) -> CommandId {
    let parts = [
        context,
        source.bytes().as_slice(),
        signal.source.as_bytes(),
        signal.id.as_bytes(),
    ];
    // Each part by its own digest: no part can end where another begins.
    let seed: Vec<u8> = parts.into_iter().flat_map(digest::sha256).collect();
    let mut id = [0; 16];
    id.copy_from_slice(&digest::sha256(&seed)[..16]);
    CommandId::from_bytes(id)
}

/// Owner of a notification's letters.
pub(crate) fn notification_owner(name: &NotificationName) -> String {
    format!("notification/{name}")
}

/// What the owners of letters of what came from outside begin with.
pub(crate) const SOURCES: &str = "signal-source/";

/// Owner of a source's letters.
pub(crate) fn source_owner(name: &SignalSourceName) -> String {
    format!("{SOURCES}{name}")
}

/// The letter of an event for a notification. Under the same name another one has other letters.
pub(crate) fn letter_of_event(notification: NotificationId, event: EventId) -> LetterId {
    letter_id(&[notification.bytes().as_slice(), event.bytes()])
}

/// The letter of what came by a source that proves itself so. Declared again, or with another proof or format, it has
/// other letters: nobody proved the old ones to that.
pub(crate) fn letter_of_request(key: &LetterKey, source: &signal::Source, body: &[u8]) -> LetterId {
    let signal::Spec { format, proof, .. } = &source.spec;
    let way = format!("{format:?} {proof:?} ");
    // It may hold a token, and the id is no secret.
    let body = key.mark(body);
    letter_id(&[source.id.bytes().as_slice(), way.as_bytes(), &body])
}

/// The letter about a signal that was taken.
pub(crate) fn letter_of_signal(source: SignalSourceId, signal: &Signal) -> LetterId {
    let id = derive_id(CONTEXT, source, signal);
    letter_id(&[b"taken".as_slice(), id.bytes().as_slice()])
}

/// What such a letter is about, as people read it.
pub(crate) fn heading_of(signal: &Signal) -> String {
    format!("signal {}", signal.id)
}

fn letter_id(parts: &[&[u8]]) -> LetterId {
    let mut id = [0; 16];
    id.copy_from_slice(&digest::sha256(&parts.concat())[..16]);
    LetterId::from_bytes(id)
}

/// A letter without a body, its reason cut to the bound.
pub(crate) fn letter(
    id: LetterId,
    owner: String,
    (time, heading, reason): (Timestamp, String, &str),
) -> Letter {
    Letter {
        id,
        owner,
        heading,
        time,
        reason: reason.chars().take(MAX_LETTER_REASON_CHARS).collect(),
        body: Vec::new(),
    }
}

impl Desk {
    /// One over these ports.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let keys = KeyFiles::below(parts.directory.clone());
        Self(Arc::new(Inner {
            parts,
            keys,
            troubles: Mutex::default(),
            called: Notify::new(),
            later: Mutex::default(),
        }))
    }

    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.0)
    }

    fn receiver(
        &self,
        name: &NotificationName,
    ) -> Result<(NotificationId, notification::Receiver), PortError> {
        let committed = self.0.parts.view.read();
        let known = committed.world.notification_named(name);
        let unknown = || {
            let text = notification::Rejection::Unknown(name.clone()).to_string();
            PortError::new(ErrorKind::NotFound, text)
        };
        let known = known.ok_or_else(unknown)?;
        Ok((known.id, known.spec.receiver.clone()))
    }

    async fn deliver(
        &self,
        name: &NotificationName,
        receiver: &notification::Receiver,
        message: &Message,
    ) -> Result<(), PortError> {
        let mut sender = Sender::new(self.inner());
        match sender.send(receiver, message).await {
            Told::Done => Ok(()),
            Told::Refused(reason) | Told::Later(reason) => {
                let text = format!("notification `{name}` was not told: {reason}");
                Err(PortError::new(ErrorKind::Conflict, text))
            }
            Told::Unheard(reason) => {
                let text = format!("whether notification `{name}` was told is open: {reason}");
                Err(PortError::new(ErrorKind::Unavailable, text))
            }
        }
    }

    /// Delivers the event of a letter.
    async fn redeliver(&self, name: &str, letter: &Letter) -> Result<(), PortError> {
        let name = NotificationName::parse(name).map_err(|_| unclear())?;
        let number = std::str::from_utf8(&letter.body).ok();
        let number: u64 = number
            .and_then(|text| text.parse().ok())
            .ok_or_else(unclear)?;
        let before = number.saturating_sub(1);
        let read = self.0.parts.journal.read(before, 1).await?;
        let event = read.into_iter().find(|event| event.number == number);
        let event = event.ok_or_else(unclear)?;
        let (id, receiver) = self.receiver(&name)?;
        if letter_of_event(id, event.id) != letter.id {
            return Err(other_owner());
        }
        let names = {
            let committed = self.0.parts.view.read();
            Names::of(&committed.world, &Memory::default(), &event.event)
        };
        let message = Message::of(&names, &event);
        self.deliver(&name, &receiver, &message).await
    }

    /// Reads what came once more, by what is declared of its source now.
    async fn reread(&self, name: &str, letter: &Letter, by: &Principal) -> Result<(), PortError> {
        let name = SignalSourceName::parse(name).map_err(|_| unclear())?;
        if letter.body.is_empty() {
            let text = "nothing is kept of what came, since it may hold a token; have its sender send it again, or apply its source with `letters: keep`";
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        let source = self.0.source(&name).ok_or_else(|| {
            let text = signal::Rejection::Unknown(name.clone()).to_string();
            PortError::new(ErrorKind::NotFound, text)
        })?;
        let opened = self.0.open_body(letter)?;
        // EXPOSE: what came is read once more.
        let arrived: Arrived = serde_json::from_slice(opened.expose()).map_err(|_| unclear())?;
        let key = &self.0.parts.letter_key;
        if letter_of_request(key, &source, &arrived.body()) != letter.id {
            return Err(other_owner());
        }
        let heard = reading::read(&name, &source.spec, &arrived, key).map_err(|unread| {
            let text = format!("it still cannot be read: {}", unread.reason);
            PortError::new(ErrorKind::Denied, text)
        })?;
        let signals = self.0.compare(source.id, heard).await;
        self.0.note_not_compared(&source, &signals).await?;
        for signal in signals {
            self.0.take(by, source.id, signal).await?;
        }
        Ok(())
    }
}

fn other_owner() -> PortError {
    let text = "what this letter is of was declared anew since, or proves itself in another way; throw it away with `keywheel letter discard`";
    PortError::new(ErrorKind::Denied, text)
}

fn unclear() -> PortError {
    let text =
        "the letter does not say what it is about; throw it away with `keywheel letter discard`";
    PortError::new(ErrorKind::Corrupt, text)
}

/// How a gateway is: how far it folded the log, and which receivers it cannot tell.
#[async_trait]
impl Look for Desk {
    async fn look(&self) -> Seen {
        let troubles = self.0.troubles().clone();
        let committed = self.0.parts.view.read();
        let fact = |(id, trouble): (&NotificationId, &Trouble)| {
            let known = committed.world.notifications.get(id)?;
            let note = format!("`{}` cannot be told: {}", known.name, trouble.reason);
            let next =
                "it is tried again for a day; `keywheel notification list` shows how far it came";
            Some(Fact::warning("notifications", note, next))
        };
        Seen {
            reached: Some(Reached::Event(committed.number)),
            facts: troubles.iter().filter_map(fact).take(MAX_FACTS).collect(),
        }
    }
}

#[async_trait]
impl Outside for Desk {
    async fn test(&self, name: &NotificationName) -> Result<(), PortError> {
        let parts = &self.0.parts;
        let id = EventId::from_bytes(parts.ids.draw()).to_string();
        let message = Message::test(id, name.as_str(), parts.clock.now());
        let (_, receiver) = self.receiver(name)?;
        self.deliver(name, &receiver, &message).await?;
        self.call();
        Ok(())
    }

    async fn retry(&self, letter: &Letter, by: &Principal) -> Result<(), PortError> {
        match letter.owner.split_once('/') {
            Some(("notification", name)) => self.redeliver(name, letter).await,
            Some(("signal-source", name)) => self.reread(name, letter, by).await,
            _ => Err(unclear()),
        }
    }

    fn troubles(&self) -> BTreeMap<NotificationId, Trouble> {
        self.0.troubles().clone()
    }

    fn call(&self) {
        self.0.called.notify_waiters();
    }
}
