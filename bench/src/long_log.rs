//! How long `keywheel up` takes to serve again with a long log, and what it holds in memory then.
//!
//! The log is what rotations leave: it is decided by the core and appended by the journal, with the
//! keys of an installation that `up` itself made, so that `up` opens it as its own. What a real log
//! has besides (bindings, deliveries, reports of hosts) is not in it.

use std::fs;

use anyhow::{Context as _, Result, anyhow, ensure};
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_core::command::{Command, Declaration};
use keywheel_core::decision::{Context, Enrolment, decide};
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, DeploymentId, EventId, RotationId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::rotation::{self, Step};
use keywheel_core::secret::{Generator, Spec};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_engine::port::journal::{Class, Decision, Journal as _, Verdict};
use keywheel_journal::{JournalOptions, SqliteJournal};
use keywheel_seal::SecretBytes;
use keywheel_seal::envelope::{SealedKey, UnsealKey};
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::conformance::journal::decision;
use keywheel_tests::keywheel::{Keywheel, Options};
use serde_json::Value;

use crate::{Line, resident_mb};

/// Events in the log, at least.
const EVENTS: u64 = 1_000_000;
/// Secrets they belong to.
const SECRETS: u64 = 1000;
/// Decisions of one append.
const GROUP: usize = 500;
/// Starts measured.
const STARTS: usize = 5;
/// The time of the first event.
const BEGIN: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn id(kind: u8, number: u64) -> [u8; 16] {
    let mut bytes = [kind; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn bytes_of(hex: &str) -> Result<Vec<u8>> {
    let digits = |at| hex.get(at..at + 2).context("half a byte");
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| Ok(u8::from_str_radix(digits(at)?, 16)?))
        .collect()
}

/// Opens an installation's journal with its own key.
async fn open(keywheel: &Keywheel) -> Result<SqliteJournal> {
    let folder = keywheel.data_dir();
    let stored: Value = serde_json::from_slice(&fs::read(folder.join("identity.json"))?)?;
    let text = |at: &str| {
        stored
            .pointer(at)
            .and_then(Value::as_str)
            .context("no such entry")
    };
    let deployment = DeploymentId::parse(text("/deployment")?).map_err(|_| anyhow!("no id"))?;
    let sealed = bytes_of(text("/sealed_keys/gateway")?)?;
    let sealed = SealedKey::from_bytes(&sealed).context("no sealed key")?;
    let unseal = UnsealKey::from_file(&SecretBytes::from(fs::read(keywheel.unseal_key())?))?;
    let seed = unseal.open_service_key(deployment.bytes(), "gateway", &sealed)?;
    let options = JournalOptions {
        deployment,
        source: format!("keywheel/{deployment}/gateway"),
        signing_key: SigningKey::from_seed_bytes(&seed)?,
        origin: format!("keywheel.dev/audit/{deployment}"),
    };
    Ok(SqliteJournal::open(&folder.join("journal.db"), options).await?)
}

/// Writes the log, deciding as the gateway does.
struct Filler {
    journal: SqliteJournal,
    world: World,
    number: u64,
    commands: u64,
    waiting: Vec<Decision>,
    /// Number of the first event that waits.
    first: u64,
}

impl Filler {
    async fn begin(journal: SqliteJournal) -> Result<Self> {
        let (mut world, mut number) = (World::default(), 0);
        for event in journal.read(0, GROUP).await? {
            world.apply(event.number, &event.event);
            number = event.number;
        }
        Ok(Self {
            journal,
            world,
            number,
            commands: 0,
            waiting: Vec::new(),
            first: number + 1,
        })
    }

    /// Takes a command; the step of a rotation that begins by it.
    async fn decide(&mut self, command: &Command, is_audited: bool) -> Result<Option<Step>> {
        self.commands += 1;
        let micros = BEGIN.micros() + i64::try_from(self.commands)?;
        let time = Timestamp::from_micros(micros);
        let ctx = Context {
            now: time,
            seed: id(1, self.commands),
            enrolment: Enrolment::Local,
        };
        let events = decide(&self.world, command, &ctx);
        let events = events.map_err(|refusal| anyhow!("{command:?}: {}", refusal.reason))?;
        let (mut numbered, mut step) = (Vec::with_capacity(events.len()), None);
        for event in events {
            if let Event::Rotation(_, rotation::Event::StepStarted { step: begun, .. }) = &event {
                step = Some(*begun);
            }
            self.number += 1;
            self.world.apply(self.number, &event);
            numbered.push((EventId::from_bytes(id(2, self.number)), event));
        }
        self.waiting.push(Decision {
            command: CommandId::from_bytes(id(3, self.commands)),
            class: Class::Work,
            time,
            traceparent: None,
            events: numbered,
            effects: Vec::new(),
            closes: Vec::new(),
            audit: if is_audited {
                decision(self.commands).audit
            } else {
                Vec::new()
            },
            verdict: Verdict::Accepted {
                number: self.number,
            },
        });
        if self.waiting.len() >= GROUP {
            self.append().await?;
        }
        Ok(step)
    }

    async fn append(&mut self) -> Result<()> {
        self.journal.append(self.first, &self.waiting).await?;
        self.waiting.clear();
        self.first = self.number + 1;
        Ok(())
    }

    /// The steps of a rotation from one on, each done at the first attempt.
    async fn finish(&mut self, rotation: RotationId, mut next: Option<Step>) -> Result<()> {
        while let Some(step) = next {
            let outcome = Command::StepOutcome {
                rotation,
                step,
                attempt: 1,
                failure: None,
                is_away: false,
                remote: None,
                sessions: None,
            };
            next = self.decide(&outcome, false).await?;
        }
        let is_open = self
            .world
            .rotations
            .get(&rotation)
            .is_some_and(|known| known.is_open());
        ensure!(!is_open, "a rotation without consumers stays open");
        Ok(())
    }

    async fn register(&mut self, number: u64) -> Result<()> {
        let rotation = RotationId::from_bytes(id(4, number));
        let declaration = Declaration::Secret {
            id: SecretId::from_bytes(id(5, number)),
            rotation,
            name: name(number)?,
            spec: Spec {
                generator: Some(Generator::default()),
                ..Spec::default()
            },
        };
        let step = self
            .decide(&Command::Apply(vec![declaration]), true)
            .await?;
        self.finish(rotation, step).await
    }

    async fn rotate(&mut self, number: u64) -> Result<()> {
        let rotation = RotationId::from_bytes(id(6, self.commands));
        let secret = name(number)?;
        let step = self
            .decide(&Command::Rotate { rotation, secret }, true)
            .await?;
        self.finish(rotation, step).await
    }
}

fn name(number: u64) -> Result<SecretName> {
    SecretName::parse(&format!("bench/secret-{number}")).map_err(|error| anyhow!("{error}"))
}

/// Fills the log of an installation that does not run; how many events it has then.
async fn fill(keywheel: &Keywheel) -> Result<u64> {
    let mut filler = Filler::begin(open(keywheel).await?).await?;
    for number in 0..SECRETS {
        filler.register(number).await?;
    }
    while filler.number < EVENTS {
        for number in 0..SECRETS {
            filler.rotate(number).await?;
        }
    }
    filler.append().await?;
    filler.journal.close().await?;
    Ok(filler.number)
}

/// Start to the first answer of `status`, with a log of [`EVENTS`] events in the page cache.
pub(crate) fn cold_start() -> Result<Vec<Line>> {
    let mut keywheel = Keywheel::start()?;
    keywheel.stop()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let events = runtime.block_on(fill(&keywheel))?;
    ensure!(events >= EVENTS, "the log has {events} events only");
    let (mut starts, mut memory) = (Samples::default(), Samples::default());
    for _ in 0..STARTS {
        let begun = now();
        keywheel.up(&Options::default())?;
        starts.add_span(begun.elapsed());
        memory.add(resident_mb(keywheel.pid().context("up does not run")?)?);
        keywheel.kill9()?;
    }
    let line = |key: &str, what: String, samples, budget| Line {
        key: key.to_owned(),
        what,
        samples,
        budget,
    };
    Ok(vec![
        line(
            "cold_start",
            format!("up serves with {events} events"),
            starts,
            "<= 5000",
        ),
        line(
            "cold_start_mb",
            "its memory then, MB".to_owned(),
            memory,
            "-",
        ),
    ])
}
