//! A deployment of the benchmark's own, without processes: a gateway that decides, appends to a real
//! journal and tells, and hosts that know only the bus.
//!
//! Keys are made of the host's number, so that processes of one benchmark trust each other without
//! telling each other anything. They protect nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use keywheel_bus::{Identity, Nats, NatsOptions, Trust};
use keywheel_core::audit::{Principal, Role};
use keywheel_core::binding::{DEFAULT_DIRECTORY, Reload, Selector, Target};
use keywheel_core::command::{Command, Declaration};
use keywheel_core::id::{BindingId, CommandId, DeploymentId, HostId, RotationId, SecretId};
use keywheel_core::name::{BindingName, Directory, FileName, HostName, SecretName};
use keywheel_core::secret::Spec;
use keywheel_daemon::SystemClock;
use keywheel_daemon::SystemIds;
use keywheel_engine::command_bus::{CommandBus, Handle, Parts, Started, Submission};
use keywheel_engine::port::bus::{Address, Body, Bus};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids as _;
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::publisher::Publisher;
use keywheel_engine::state::View;
use keywheel_gateway::bus_server::BusServer;
use keywheel_journal::{JournalOptions, SqliteJournal};
use keywheel_seal::SecretBytes;
use keywheel_seal::sign::SigningKey;
use tokio_util::sync::CancellationToken;

/// The deployment of all benchmarks.
pub const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([1; 16]);
/// How long the gateway may take for a question; as long as an injector waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pauses after a failure, doubled up to the second; as an injector does.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The key of a number; 0 is the gateway's.
fn key(number: u32) -> Result<SigningKey> {
    let seed = number.to_be_bytes().repeat(8);
    Ok(SigningKey::from_seed_bytes(&SecretBytes::from(seed))?)
}

/// The id of a host, counted from 1.
#[must_use]
pub fn host_id(number: u32) -> HostId {
    HostId::from_bytes(u128::from(number).to_be_bytes())
}

/// Who a host is.
pub fn host_identity(number: u32) -> Result<Identity> {
    Ok(Identity::injector(
        DEPLOYMENT,
        host_id(number),
        key(number)?,
    ))
}

/// Who the gateway is.
pub fn gateway_identity() -> Result<Identity> {
    Ok(Identity::service(DEPLOYMENT, Role::Gateway, key(0)?))
}

/// The gateway and so many hosts are trusted.
pub fn trust(hosts: u32) -> Result<Trust> {
    let trust = Trust::new(DEPLOYMENT, [(Role::Gateway, key(0)?.verifying_key())]);
    let keys = (1..=hosts).map(|number| Ok((host_id(number), key(number)?.verifying_key())));
    trust.set_hosts(keys.collect::<Result<BTreeMap<_, _>>>()?);
    Ok(trust)
}

/// An end over NATS; plain, on loopback.
pub async fn connect(url: &str, identity: Identity, trust: &Trust) -> Result<Nats> {
    let options = NatsOptions::new(vec![url.to_owned()], DEPLOYMENT);
    let (clock, ids) = (Arc::new(SystemClock::new()), Arc::new(SystemIds));
    Ok(Nats::connect(options, identity, trust.clone(), clock, ids).await?)
}

/// A gateway that runs until the runtime ends.
pub struct Gateway {
    handle: Handle,
    view: View,
    turn: i32,
}

impl Gateway {
    /// Starts it with a fresh journal at this path.
    pub async fn start(bus: Arc<dyn Bus>, journal: &Path) -> Result<Self> {
        let options = JournalOptions {
            deployment: DEPLOYMENT,
            source: "keywheel/bench/gateway".to_owned(),
            signing_key: key(0)?,
            origin: "keywheel.dev/bench".to_owned(),
        };
        let journal = Arc::new(SqliteJournal::open(journal, options).await?);
        let (clock, ids) = (Arc::new(SystemClock::new()), Arc::new(SystemIds));
        let failpoint: fn(&'static str) = |_| ();
        let parts = Parts {
            journal: journal.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            failpoint,
        };
        let Started {
            bus: deciding,
            handle,
            view,
            commits,
        } = CommandBus::start(parts).await?;
        let publisher = Publisher {
            journal: journal.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            view: view.clone(),
            failpoint,
            hold: None,
        };
        let server = BusServer {
            bus,
            commands: handle.clone(),
            view: view.clone(),
            journal,
            clock,
            ids,
            renewals: None,
            unenrolled: Arc::default(),
            refused: Arc::default(),
        };
        tokio::spawn(deciding.run());
        tokio::spawn(publisher.run(commits));
        tokio::spawn(server.run(CancellationToken::new()));
        Ok(Self {
            handle,
            view,
            turn: 0,
        })
    }

    /// Changes the plan of every host by one event; the generation that each has to reach.
    pub async fn change_all_plans(&mut self) -> Result<u64> {
        self.turn += 1;
        let secret = SecretName::parse("bench/secret")?;
        let declared = Declaration::Secret {
            id: SecretId::from_bytes(SystemIds.draw()),
            rotation: RotationId::from_bytes(SystemIds.draw()),
            name: secret.clone(),
            spec: Spec::default(),
        };
        let bound = Declaration::Binding {
            id: BindingId::from_bytes(SystemIds.draw()),
            name: BindingName::parse("bench")?,
            secret,
            also: std::collections::BTreeSet::new(),
            previous: std::collections::BTreeSet::new(),
            selector: Selector {
                labels: BTreeMap::from([("app".to_owned(), "bench".to_owned())]),
                insecure: true,
                ..Selector::default()
            },
            target: Target::File {
                directory: Directory::parse(DEFAULT_DIRECTORY)?,
                name: FileName::parse("bench")?,
                uid: 0,
                gid: 0,
                mode: 0o400,
                template: None,
            },
            // Another signal each time: SIGHUP or SIGUSR1.
            reload: Reload::Signal(if self.turn % 2 == 0 { 1 } else { 10 }),
            on_revoke: keywheel_core::binding::OnRevoke::Remove,
        };
        let submission = Submission {
            id: CommandId::from_bytes(SystemIds.draw()),
            principal: Principal::Service(Role::Gateway),
            traceparent: None,
            command: Command::Apply(vec![declared, bound]),
        };
        if let Verdict::Rejected { text, .. } = self.handle.submit(submission).await? {
            bail!("the change was rejected: {text}");
        }
        Ok(self.view.read().world.host_generation(host_id(1)))
    }
}

/// One question of a host, until it is answered.
pub async fn ask(end: &Arc<dyn Bus>, body: Body) -> Result<Body> {
    let (mut wait, most) = RETRY;
    loop {
        match end
            .request(Address::Gateway, None, body.clone(), PATIENCE)
            .await
        {
            Ok(Body::Failed { text, .. }) => bail!("the gateway refused: {text}"),
            Ok(answer) => return Ok(answer),
            Err(_) => tokio::time::sleep(wait).await,
        }
        wait = (wait * 2).min(most);
    }
}

/// Submits until it is decided; it has to be accepted.
pub async fn submit(end: &Arc<dyn Bus>, command: Command) -> Result<()> {
    let id = CommandId::from_bytes(SystemIds.draw());
    match ask(end, Body::Submit { id, command }).await? {
        Body::Verdict(Verdict::Accepted { .. }) => Ok(()),
        Body::Verdict(Verdict::Rejected { text, .. }) => bail!("rejected: {text}"),
        _ => bail!("the gateway answered something else than a verdict"),
    }
}

/// Makes a host known.
pub async fn enrol(end: &Arc<dyn Bus>, number: u32) -> Result<()> {
    let enrol = Command::EnrolHost {
        host: host_id(number),
        name: HostName::parse(&format!("host-{number}"))?,
        sealing_key: [7; 32],
    };
    submit(end, enrol).await
}

/// The wall clock that messages carry.
#[must_use]
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}
