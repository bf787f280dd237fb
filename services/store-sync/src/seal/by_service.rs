//! A key service that opens the sealed root key: asked at the start, and again and again while it does not answer.
//!
//! A fresh wrapping key is wrapped there; what came back lies in the seal file. Invariants: nothing rests on a
//! service before it gave back what it wrapped; one that does not answer, or refuses, leaves everything sealed and
//! changes nothing, is told with its reason and the next step, and is asked again after a growing pause up to
//! [`UNSEAL_PAUSE_LIMIT`]; one question is under way at a time; once a person sealed, nobody but a person or a new
//! start asks it. The seal answers while it is asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keywheel_core::id::DeploymentId;
use keywheel_daemon::{Shutdown, chain, names};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::key_service::{Binding, KeyService};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::presence::{Fact, SEAL_FACT};
use keywheel_engine::unseal::SealState;
use keywheel_engine::until::Until;
use keywheel_seal::Entropy;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::unseal::{Provider, SealedRoot, Service, ServiceKind};
use tokio::sync::Notify;

use super::{Seal, refused};

/// How long one question to a key service may take, repeats included.
pub const SERVICE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a start waits for it; then store-sync begins sealed, and goes on asking.
pub const START_PATIENCE: Duration = Duration::from_secs(5);
/// The pause after the first question that got no key; it doubles, and up to half of it is drawn.
pub const UNSEAL_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: a service that was away for a day is heard within a minute.
pub const UNSEAL_PAUSE_LIMIT: Duration = Duration::from_secs(60);

/// Opens a sealed root key by the service that wrapped its key.
///
/// # Errors
/// As the service says; `Denied` when what it gives opens nothing.
pub async fn root_by_service(
    service: &dyn KeyService,
    root: &SealedRoot,
    clock: &Arc<dyn Clock>,
) -> Result<UnsealKey, PortError> {
    let Provider::Service(kept) = &root.provider else {
        return Err(unconnected());
    };
    let binding = binding(root.deployment);
    let until = until(clock);
    let unwrapped = service.unwrap(kept.wrapped(), &binding, &until).await;
    let unwrapped = unwrapped.map_err(|error| of_another_key(error, service, kept))?;
    let key = UnsealKey::from_file(&unwrapped).map_err(|error| {
        let text = format!(
            "{} key `{}` gives something else than it wrapped; name the key that wrapped it (`{}`), or restore `seal.json`",
            kept.kind().word(),
            service.key(),
            kept.key()
        );
        PortError::caused(ErrorKind::Denied, text, error)
    })?;
    root.open_with_service(&key).map_err(|error| {
        let text = "the key service opened its part, and the root key does not open: its file was changed; restore `seal.json`";
        PortError::caused(ErrorKind::Corrupt, text, error)
    })
}

/// Seals a root key by a service, which has to give back what it wrapped before anything rests on it.
///
/// # Errors
/// As the service says; nothing was changed then.
pub async fn seal_by_service(
    service: &dyn KeyService,
    (kind, settings): (ServiceKind, &str),
    (deployment, root): ([u8; 16], &UnsealKey),
    (clock, entropy): (&Arc<dyn Clock>, &dyn Entropy),
) -> Result<SealedRoot, PortError> {
    let key = UnsealKey::generate(entropy);
    let binding = binding(deployment);
    let plain = key.to_file();
    let wrapped = service.wrap(&plain, &binding, &until(clock)).await?;
    // EXPOSE: it is looked for in what is kept.
    if is_within(plain.expose(), &wrapped) {
        let text = format!(
            "{} key `{}` gives the key back as it was given, so nothing was wrapped; name a key of a real key service",
            kind.word(),
            service.key()
        );
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    let kept = Service::new(kind, settings, service.key(), wrapped);
    let kept = kept.map_err(|error| {
        let text = "what the key service made cannot be kept";
        PortError::caused(ErrorKind::Denied, text, error)
    })?;
    let sealed = SealedRoot::by_service(deployment, root, (kept, &key), entropy);
    let sealed = sealed.map_err(|error| {
        let text = "the root key cannot be sealed; nothing was changed";
        PortError::caused(ErrorKind::Corrupt, text, error)
    })?;
    root_by_service(service, &sealed, clock).await?;
    Ok(sealed)
}

/// What a seal says that was begun without its key service.
pub(super) fn unconnected() -> PortError {
    let text = "no key service was connected that opens this seal; report this";
    PortError::new(ErrorKind::Denied, text)
}

/// Whether a key's text, without its line end, stands somewhere in what was made of it.
fn is_within(text: &[u8], made: &[u8]) -> bool {
    let text = text.trim_ascii_end();
    made.windows(text.len().max(1)).any(|part| part == text)
}

fn binding(deployment: [u8; 16]) -> Binding {
    Binding {
        deployment: DeploymentId::from_bytes(deployment),
    }
}

fn until(clock: &Arc<dyn Clock>) -> Until {
    Until::new(clock.now().plus(SERVICE_TIMEOUT), Arc::clone(clock))
}

/// Names the key that wrapped it where the settings name another one now.
fn of_another_key(error: PortError, service: &dyn KeyService, kept: &Service) -> PortError {
    if service.key() == kept.key() || error.kind != ErrorKind::Denied {
        return error;
    }
    PortError {
        text: format!("{} (it was wrapped by `{}`)", error.text, kept.key()),
        ..error
    }
}

/// Whether a key service is asked by itself, and why it gave nothing the last time.
pub(super) struct Asking {
    has_service: bool,
    /// Until a person seals.
    is_wanted: AtomicBool,
    trouble: Mutex<Option<String>>,
    /// Held by whoever asks: however many want it open, one question is under way.
    one: tokio::sync::Mutex<()>,
    /// Rung when a person's question got no key.
    bell: Notify,
}

impl Asking {
    pub(super) fn new(has_service: bool) -> Self {
        Self {
            has_service,
            is_wanted: AtomicBool::new(has_service),
            trouble: Mutex::new(None),
            one: tokio::sync::Mutex::new(()),
            bell: Notify::new(),
        }
    }

    fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }

    /// A person wants it open.
    fn begin(&self) {
        self.is_wanted.store(true, Ordering::Release);
    }

    /// A person wants it sealed.
    pub(super) fn end(&self) {
        self.is_wanted.store(false, Ordering::Release);
        *self.trouble() = None;
    }

    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a sealed store-sync is whose key service is asked.
    pub(super) fn fact(&self, word: &str) -> Option<Fact> {
        if !self.has_service || !self.is_wanted() {
            return None;
        }
        let why = match &*self.trouble() {
            Some(trouble) => trouble.clone(),
            None => "it is being asked".to_owned(),
        };
        let note = format!(
            "sealed, by {word}: {why}. No value can be opened, work waits, and containers keep what they have"
        );
        let next = "put right what is named there; it is asked again by itself within a minute, or at once by `keywheel unseal`";
        Some(Fact::problem(SEAL_FACT, note, next))
    }
}

impl Seal {
    /// Asks the key service once at the start, where there is one; a failure is told by the seal from then on.
    pub async fn unseal_at_start(&self) {
        if !self.is_waiting() {
            return;
        }
        let asked = tokio::time::timeout(START_PATIENCE, self.ask_and_note()).await;
        match asked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn(&error),
            Err(_) => tracing::warn!("store-sync begins sealed; its key service is still asked"),
        }
    }

    /// Whether it is sealed only because its key service gave no key so far.
    fn is_waiting(&self) -> bool {
        self.is_sealed() && self.inner.asking.has_service && self.inner.asking.is_wanted()
    }

    /// A person wants it open: what was refused before counts no more, and the service is asked now.
    pub(super) async fn offer_to_service(&self, offered: &[u8]) -> Result<SealState, PortError> {
        let (custody, unsealing) = self.custody()?;
        {
            let mut unsealing = unsealing.lock().await;
            let now = custody.clock.monotonic();
            self.refuse_unsealed()?;
            unsealing.effort.check(now)?;
            if unsealing.open(custody.deployment, offered).is_none() {
                unsealing.effort.note(now);
                return Err(refused());
            }
            if let Some(service) = &custody.service {
                service.ask_anew();
            }
            // As long as nobody can seal: who seals afterwards has the last word.
            self.inner.asking.begin();
        }
        if let Err(error) = self.ask_and_note().await {
            self.inner.asking.bell.notify_one();
            return Err(error);
        }
        let unsealing = unsealing.lock().await;
        Ok(self.tell(custody, &unsealing))
    }

    async fn ask_and_note(&self) -> Result<(), PortError> {
        let _one = self.inner.asking.one.lock().await;
        // The question that was waited for may have been answered.
        if !self.is_waiting() {
            return Ok(());
        }
        let asked = self.ask_service().await;
        *self.inner.asking.trouble() = asked.as_ref().err().map(|error| chain(error));
        asked
    }

    /// Asks, and opens the cache with what came, unless a person sealed meanwhile.
    async fn ask_service(&self) -> Result<(), PortError> {
        let (custody, unsealing) = self.custody()?;
        let (Some(service), Some(root)) = (&custody.service, &custody.root) else {
            return Err(unconnected());
        };
        let root = root_by_service(&**service, root, &custody.clock).await?;
        let mut unsealing = unsealing.lock().await;
        if !self.is_waiting() {
            return Ok(());
        }
        let opened = custody.custodian.open(root).await?;
        unsealing.renew(custody);
        self.put(Some(opened));
        tracing::info!(provider = custody.word(), "store-sync is unsealed");
        let _state = self.tell_all(custody, unsealing);
        Ok(())
    }

    fn drawn(&self, pause: Duration) -> Duration {
        let Ok((custody, _)) = self.custody() else {
            return pause;
        };
        let mut drawn = [0; 1];
        custody.entropy.fill(&mut drawn);
        pause / 2 + pause.saturating_mul(u32::from(drawn[0])) / 512
    }
}

fn warn(error: &PortError) {
    tracing::warn!(
        { names::ERROR } = chain(error),
        "sealed: the key service gave no key; it is asked again"
    );
}

/// Asks the key service whenever store-sync is sealed for want of its answer, until told to stop.
pub async fn unseal_by_service(seal: &Seal, shutdown: &Shutdown) {
    let asking = &seal.inner.asking;
    if !asking.has_service {
        return;
    }
    let mut bell = seal.bell();
    let mut pause = UNSEAL_PAUSE;
    // Who failed at the start is asked after a pause.
    let mut is_due = asking.trouble().is_none();
    loop {
        if is_due && seal.is_waiting() {
            let asked = tokio::select! {
                () = shutdown.requested() => return,
                asked = seal.ask_and_note() => asked,
            };
            match asked {
                Ok(()) => pause = UNSEAL_PAUSE,
                Err(error) => warn(&error),
            }
        }
        let waits = seal.is_waiting();
        tokio::select! {
            () = shutdown.requested() => return,
            () = asking.bell.notified() => (is_due, pause) = (false, UNSEAL_PAUSE),
            Ok(()) = bell.changed() => is_due = false,
            () = tokio::time::sleep(seal.drawn(pause)), if waits => {
                is_due = true;
                pause = pause.saturating_mul(2).min(UNSEAL_PAUSE_LIMIT);
            }
        }
    }
}
