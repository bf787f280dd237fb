//! A gateway for tests: a journal in memory, a command bus that runs, and a bus that only keeps values.

mod encoded;
mod join_tokens;
pub(crate) mod members;
mod on_disk;
pub(crate) mod provider;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::approval::Operation;
use keywheel_core::audit::{Principal, Role};
use keywheel_core::command::Command;
use keywheel_core::effect::Work;
use keywheel_core::id::{CommandId, DeploymentId, NotificationId, RotationId};
use keywheel_core::name::{HostName, NotificationName};
use keywheel_core::store::{Looked, NamedStore, PlannedUse};
use keywheel_engine::command_bus::{CommandBus, HoldBack, Parts, Started, Submission};
use keywheel_engine::port::bus::{Address, Body, Bus, Requests, Source, Subscription, Topic};
use keywheel_engine::port::deliveries::Letter;
use keywheel_engine::port::journal::Journal as _;
use keywheel_engine::port::outside::{Outside, Trouble};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::state::View;
use keywheel_engine::unseal::SealState;
use keywheel_testkit::fake::{FakeClock, FakeIds, MemoryJournal};
use tokio::sync::Notify;

pub(crate) use encoded::Encoded;
pub(crate) use join_tokens::{FakeTokens, SECRET_HALF};
pub(crate) use on_disk::journal_in;

use crate::access::{Access, Peer};
use crate::admission::{Admission, entitlement};
use crate::denials::Denials;
use crate::dual;
use crate::http::{Api, Scans, UnderWay};
use crate::presence::Presences;

/// May use every verb.
pub(crate) const OPERATOR: Peer = Peer::User { uid: 0, gid: 0 };
/// May use none.
pub(crate) const STRANGER: Peer = Peer::User {
    uid: 4242,
    gid: 4242,
};

/// store-sync's end: keeps tokens, and tells what it was asked.
#[derive(Default)]
pub(crate) struct FakeStore {
    pub(crate) kept: Mutex<Vec<RotationId>>,
    pub(crate) dropped: Mutex<Vec<RotationId>>,
    pub(crate) is_away: Mutex<bool>,
    /// What whoever serves first is asked.
    pub(crate) requests: Mutex<Option<Box<dyn Requests>>>,
    /// Stores that were tried, with the places that secrets are about to have there.
    pub(crate) tried: Mutex<Vec<(NamedStore, Vec<PlannedUse>)>>,
    /// What could not be tried at the next ones.
    pub(crate) untried: Mutex<Vec<String>>,
    /// Why the next ones do not work.
    pub(crate) store_fault: Mutex<Option<String>>,
    /// What the next look gives.
    pub(crate) looks: Mutex<Vec<Looked>>,
    /// What it says of its seal, and when it is offered something.
    pub(crate) seal: Mutex<Option<Body>>,
    /// Why it keeps no value and tells no key.
    pub(crate) values_fault: Mutex<Option<(ErrorKind, String)>>,
    /// What it was offered.
    pub(crate) offered: Mutex<Vec<Vec<u8>>>,
    /// Whether what it is offered next is none.
    pub(crate) is_wrong: Mutex<bool>,
    /// What it waits for before it answers.
    pub(crate) holds: Mutex<Option<Arc<Notify>>>,
}

impl FakeStore {
    /// Unsealed by a key file, unless a test says another thing.
    fn seal_state(&self) -> Body {
        let said = self.seal.lock().unwrap().clone();
        said.unwrap_or_else(|| {
            Body::SealState(SealState {
                sealed: false,
                provider: "key-file".to_owned(),
                key: [9; 32],
                shares: None,
                kek_rows_left: None,
            })
        })
    }
}

fn unused() -> PortError {
    PortError::new(ErrorKind::Denied, "not in this test")
}

#[async_trait]
impl Bus for FakeStore {
    async fn publish(
        &self,
        _: Topic,
        _: [u8; 16],
        _: Option<String>,
        _: Body,
    ) -> Result<(), PortError> {
        Err(unused())
    }
    async fn subscribe(&self, _: Topic, _: &str) -> Result<Box<dyn Subscription>, PortError> {
        Err(unused())
    }
    async fn request(
        &self,
        to: Address,
        _: Option<String>,
        body: Body,
        _: Duration,
    ) -> Result<Body, PortError> {
        assert_eq!(to, Address::StoreSync);
        let holds = self.holds.lock().unwrap().clone();
        if let Some(holds) = holds {
            holds.notified().await;
        }
        if *self.is_away.lock().unwrap() {
            return Err(PortError::new(ErrorKind::Unavailable, "store-sync is away"));
        }
        let fault = self.values_fault.lock().unwrap().clone();
        match body {
            Body::ReadStoreKey | Body::Stash { .. } if fault.is_some() => {
                let (kind, text) = fault.unwrap();
                Ok(Body::Failed { kind, text })
            }
            Body::ReadStoreKey => Ok(Body::StoreKey([7; 32])),
            Body::Stash { token, .. } => {
                self.kept.lock().unwrap().push(token);
                Ok(Body::Done)
            }
            Body::DropStash { token } => {
                self.dropped.lock().unwrap().push(token);
                Ok(Body::Done)
            }
            Body::CheckStore { store, places, .. } => {
                self.tried.lock().unwrap().push((*store, places));
                let fault = self.store_fault.lock().unwrap().clone();
                Ok(fault.map_or_else(
                    || Body::Tried(self.untried.lock().unwrap().clone()),
                    |text| Body::Failed {
                        kind: ErrorKind::Unavailable,
                        text,
                    },
                ))
            }
            Body::LookNow { .. } => Ok(Body::Looked(self.looks.lock().unwrap().clone())),
            Body::Unseal { offered } => {
                self.offered.lock().unwrap().push(offered);
                if std::mem::take(&mut *self.is_wrong.lock().unwrap()) {
                    return Ok(Body::Failed {
                        kind: ErrorKind::Denied,
                        text: "it was not taken".to_owned(),
                    });
                }
                Ok(self.seal_state())
            }
            Body::ReadSeal | Body::Seal | Body::RotateKek => Ok(self.seal_state()),
            _ => Err(unused()),
        }
    }
    fn refuse_stale(&self, _: Source) {}
    async fn serve(&self, _: Address) -> Result<Box<dyn Requests>, PortError> {
        self.requests.lock().unwrap().take().ok_or_else(unused)
    }
}

/// Whoever speaks with others outside: keeps what it was asked.
#[derive(Default)]
pub(crate) struct FakeOutside {
    pub(crate) asked: Mutex<Vec<String>>,
    /// Why the next thing fails.
    pub(crate) fault: Mutex<Option<String>>,
}

impl FakeOutside {
    fn note(&self, asked: String) -> Result<(), PortError> {
        self.asked.lock().unwrap().push(asked);
        match self.fault.lock().unwrap().take() {
            Some(text) => Err(PortError::new(ErrorKind::Unavailable, text)),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Outside for FakeOutside {
    async fn test(&self, name: &NotificationName) -> Result<(), PortError> {
        self.note(format!("test {name}"))
    }
    async fn retry(&self, letter: &Letter, _by: &Principal) -> Result<(), PortError> {
        self.note(format!("retry {}", letter.heading))
    }
    fn troubles(&self) -> std::collections::BTreeMap<NotificationId, Trouble> {
        std::collections::BTreeMap::new()
    }
    fn call(&self) {
        self.asked.lock().unwrap().push("call".to_owned());
    }
}

/// The gateway and its surroundings.
pub(crate) struct Bench {
    pub(crate) outside: Arc<FakeOutside>,
    pub(crate) api: Api,
    pub(crate) journal: Arc<MemoryJournal>,
    pub(crate) store: Arc<FakeStore>,
    pub(crate) clock: Arc<FakeClock>,
}

/// What its configuration asks for.
#[derive(Default)]
struct Asked {
    min_sinks: usize,
    people: BTreeMap<Operation, u64>,
}

/// As the program holds new work back.
fn hold_back(presences: Presences, admission: Arc<Admission>, view: View) -> HoldBack {
    Arc::new(move || {
        let few = presences.held_back();
        few.or_else(|| dual::unconfirmed(&admission, &view, &presences))
    })
}

/// Root and the daemon's own user alone.
fn access() -> Access {
    let nowhere = std::path::PathBuf::from("/nonexistent");
    Access {
        own_uid: 0,
        group_file: nowhere.clone(),
        user_file: nowhere,
    }
}

impl Bench {
    /// Needs a tokio runtime.
    pub(crate) async fn start() -> Self {
        Self::over(MemoryJournal::new(), (1, false), Asked::default()).await
    }

    /// The same, asking for so many sinks of the audit.
    pub(crate) async fn with_min_sinks(min_sinks: usize) -> Self {
        let asked = Asked {
            min_sinks,
            ..Asked::default()
        };
        Self::over(MemoryJournal::new(), (1, false), asked).await
    }

    /// The same, where operations take so many people.
    pub(crate) async fn taking(people: &[(Operation, u64)]) -> Self {
        let asked = Asked {
            people: people.iter().copied().collect(),
            ..Asked::default()
        };
        Self::over(MemoryJournal::new(), (1, false), asked).await
    }

    /// Two gateways over one log; neither hears when the other appends.
    pub(crate) async fn pair() -> [Self; 2] {
        let mut handles = MemoryJournal::shared(2);
        let (other, one) = (handles.remove(1), handles.remove(0));
        let pair = [
            Self::over(one, (1, true), Asked::default()).await,
            Self::over(other, (2, true), Asked::default()).await,
        ];
        for bench in &pair {
            // Its first look at the log is over.
            bench.api.commands.look_at_head().await.unwrap();
        }
        pair
    }

    async fn over(journal: MemoryJournal, (source, is_deaf): (u64, bool), asked: Asked) -> Self {
        let journal = Arc::new(journal);
        let encoded = Arc::new(Encoded {
            journal: journal.clone(),
            is_deaf,
            leaves: AtomicBool::new(false),
        });
        let store = Arc::new(FakeStore::default());
        let clock = Arc::new(FakeClock::default());
        let ids = Arc::new(FakeIds::of_source(source));
        let parts = Parts {
            journal: encoded.clone(),
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
        let presences = Presences::new(clock.clone()).with_min_sinks(asked.min_sinks);
        let admission = Arc::new(Admission::new().unwrap().with_people(asked.people));
        let (heard, asks) = (presences.clone(), admission.clone());
        let bus = bus.with_hold_back(hold_back(heard, asks, view.clone()));
        let bus = bus.with_entitlement(entitlement::judge(&admission));
        tokio::spawn(bus.run());
        tokio::spawn(async move { while commits.recv().await.is_some() {} });
        let outside = Arc::new(FakeOutside::default());
        let api = Api {
            commands: handle,
            view,
            journal: encoded,
            deliveries: journal.clone(),
            outside: outside.clone(),
            bus: store.clone(),
            clock: clock.clone(),
            ids,
            access: access(),
            deployment: DeploymentId::from_bytes([9; 16]),
            host: HostName::parse("web-1").unwrap(),
            data_dir: "data".to_owned(),
            origin: "keywheel.test".to_owned(),
            public_key: [1; 32],
            check_schedule: |_, _| Ok(()),
            next_fires: |_, _| Vec::new(),
            outlook: |_, _| (Vec::new(), Vec::new()),
            join_tokens: None,
            denials: Arc::new(Denials::default()),
            waits: Arc::default(),
            scans: Scans::default(),
            presences,
            parts: Arc::new(Vec::new),
            admission,
            tokens: Arc::default(),
            backups: None,
            logins: None,
            under_way: UnderWay::default(),
            health_looks: Arc::default(),
        };
        Self {
            outside,
            api,
            journal,
            store,
            clock,
        }
    }

    /// Answers every step that waits with success, until none is left.
    pub(crate) async fn work(&self) {
        while let Some(open) = self.journal.open_effects().await.unwrap().pop() {
            let Work::Step(work) = open.effect.work else {
                return;
            };
            let submission = Submission {
                id: CommandId::from_bytes(self.api.ids.draw()),
                principal: Principal::Service(Role::StoreSync),
                traceparent: None,
                command: Command::StepOutcome {
                    rotation: work.rotation,
                    step: work.step,
                    attempt: work.attempt,
                    failure: None,
                    is_away: false,
                    remote: None,
                    sessions: None,
                },
            };
            self.api.commands.submit(submission).await.unwrap();
        }
    }

    /// Every audit record, as text.
    pub(crate) async fn audit(&self) -> Vec<String> {
        let leaves = self.journal.read_audit(0, 1000).await.unwrap();
        leaves
            .iter()
            .map(|leaf| String::from_utf8_lossy(&leaf.bytes).into_owned())
            .collect()
    }
}
