//! A command bus over a journal in memory, a desk on it, and what is declared.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::Principal;
use keywheel_core::command::{Command, Declaration};
use keywheel_core::id::{
    CommandId, DeploymentId, NotificationId, RotationId, SecretId, SignalSourceId,
};
use keywheel_core::name::{NotificationName, SecretName, SignalSourceName};
use keywheel_core::notification::{self, Receiver};
use keywheel_core::secret::Spec;
use keywheel_core::signal;
use keywheel_core::time::Timestamp;
use keywheel_engine::command_bus::{CommandBus, Handle, Parts as BusParts, Started, Submission};
use keywheel_engine::port::deliveries::Deliveries as _;
use keywheel_engine::port::failpoint::Points;
use keywheel_engine::port::ids::Ids as _;
use keywheel_engine::port::journal::{Journal as _, RecordedEvent, Verdict};
use keywheel_engine::state::View;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::letters::LetterKey;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_signals::{Desk, Notifier, Parts};
use keywheel_testkit::fake::{FakeClock, FakeIds, MemoryJournal};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::store_sync::StoreSync;

pub(crate) const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([3; 16]);
/// How long anything may take that is awaited.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// What signs.
pub(crate) const KEY: &str = concat!("whsec_", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

pub(crate) struct Bench {
    pub(crate) journal: Arc<MemoryJournal>,
    pub(crate) handle: Handle,
    pub(crate) view: View,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) ids: Arc<FakeIds>,
    keys: TempDir,
    near: Vec<SocketAddr>,
    /// What the installation's unseal key is.
    pub(crate) unseal: [u8; 32],
    /// Where store-sync is asked.
    pub(crate) bus: Arc<StoreSync>,
}

impl Bench {
    /// One whose receivers may be at these addresses.
    pub(crate) async fn start(near: &[SocketAddr]) -> Self {
        let journal = Arc::new(MemoryJournal::new());
        let clock = Arc::new(FakeClock::at(Timestamp::from_micros(1_767_492_000_000_000)));
        let ids = Arc::new(FakeIds::of_source(1));
        let parts = BusParts {
            journal: journal.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            failpoint: |_| (),
        };
        let Started {
            bus,
            handle,
            view,
            mut commits,
        } = CommandBus::start(parts).await.unwrap();
        tokio::spawn(bus.run());
        tokio::spawn(async move { while commits.recv().await.is_some() {} });
        let bench = Self {
            journal,
            handle,
            view,
            clock,
            ids,
            keys: tempfile::tempdir().unwrap(),
            near: near.to_vec(),
            unseal: [7; 32],
            bus: Arc::default(),
        };
        bench.write_key("key", KEY);
        bench
    }

    /// A desk, as each process has one.
    pub(crate) fn desk(&self) -> Desk {
        self.watched_desk(Points::default())
    }

    /// One whose failpoints are passed through these.
    pub(crate) fn watched_desk(&self, points: Points) -> Desk {
        Desk::new(Parts {
            journal: self.journal.clone(),
            deliveries: self.journal.clone(),
            view: self.view.clone(),
            commands: self.handle.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            entropy: Arc::new(OsEntropy),
            directory: self.keys.path().to_owned(),
            near: self.near.clone(),
            points,
            deployment: DEPLOYMENT,
            letter_key: Arc::new(self.letter_key()),
            bus: self.bus.clone(),
        })
    }

    /// The same for every process.
    fn letter_key(&self) -> LetterKey {
        LetterKey::of(&UnsealKey::from_file(&SecretBytes::from(self.unseal.to_vec())).unwrap())
    }

    /// Tells receivers until the guard is dropped.
    pub(crate) fn notify(&self, desk: &Desk) -> DropGuard {
        let stop = CancellationToken::new();
        tokio::spawn(Notifier::new(desk).run(stop.clone()));
        stop.drop_guard()
    }

    pub(crate) fn write_key(&self, name: &str, content: &str) {
        std::fs::write(self.keys.path().join(name), content).unwrap();
    }

    pub(crate) fn key_path(&self, name: &str) -> String {
        let path: &Path = self.keys.path();
        path.join(name).display().to_string()
    }

    pub(crate) async fn submit(&self, command: Command) {
        let submission = Submission {
            id: CommandId::from_bytes(self.ids.draw()),
            principal: Principal::User {
                uid: 0,
                name: "root".to_owned(),
            },
            traceparent: None,
            command,
        };
        let verdict = self.handle.submit(submission).await.unwrap();
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
    }

    /// Declares a notification, or changes one.
    pub(crate) async fn declare(
        &self,
        name: &str,
        receiver: Receiver,
        when: &str,
    ) -> NotificationId {
        let id = NotificationId::from_bytes(self.ids.draw());
        let name = NotificationName::parse(name).unwrap();
        let spec = notification::Spec {
            receiver,
            when: when.to_owned(),
        };
        let declaration = Declaration::Notification {
            id,
            name: name.clone(),
            spec,
        };
        self.submit(Command::Apply(vec![declaration])).await;
        let committed = self.view.read();
        committed.world.notification_named(&name).unwrap().id
    }

    /// A webhook at a URL, signed with [`KEY`].
    pub(crate) fn webhook(&self, url: String) -> Receiver {
        Receiver::Webhook {
            url,
            key_file: self.key_path("key"),
            ca_file: String::new(),
        }
    }

    /// Something happens: a secret is registered.
    pub(crate) async fn happen(&self, name: &str) {
        let declaration = Declaration::Secret {
            id: SecretId::from_bytes(self.ids.draw()),
            rotation: RotationId::from_bytes(self.ids.draw()),
            name: SecretName::parse(name).unwrap(),
            spec: Spec::default(),
        };
        self.submit(Command::Apply(vec![declaration])).await;
    }

    /// Declares a source of signals, or changes one.
    pub(crate) async fn hear(&self, name: &str, spec: signal::Spec) {
        let declaration = Declaration::SignalSource {
            id: SignalSourceId::from_bytes(self.ids.draw()),
            name: SignalSourceName::parse(name).unwrap(),
            spec,
        };
        self.submit(Command::Apply(vec![declaration])).await;
    }

    /// Events of the log after a number.
    pub(crate) async fn events(&self, after: u64) -> Vec<RecordedEvent> {
        self.journal.read(after, 1000).await.unwrap()
    }
}

impl Bench {
    /// How far a receiver came.
    pub(crate) async fn place(&self, id: NotificationId) -> Option<u64> {
        let places = self.journal.places().await.unwrap();
        places.get(&id).copied()
    }

    /// Waits until a receiver came so far, or is forgotten.
    pub(crate) async fn until_place(&self, id: NotificationId, wanted: Option<u64>) {
        let waiting = async {
            while self.place(id).await != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("{id} never came to {wanted:?}"));
    }
}
