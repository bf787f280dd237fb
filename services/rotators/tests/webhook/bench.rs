//! An example receiver as a process of its own, behind a proxy that does what networks do wrong.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keywheel_core::effect::{AtResource, Outside, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::rotation::Step;
use keywheel_core::secret::Generator;
use keywheel_core::store::{CredentialRef, RemoteVersion, Source};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::PortError;
use keywheel_engine::port::rotator::{Probed, Rotator};
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::vault::VersionVault;
use keywheel_rotators::WebhookRotator;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::rotator::Home;
use keywheel_testkit::conformance::store::plenty;
use keywheel_testkit::fake::{FakeClock, FakeVault};
use keywheel_testkit::server::fault::FaultProxy;

/// The receivers, and what runs them.
pub(crate) const EXAMPLES: [(&str, &str); 2] = [
    ("python3", "webhook-rotator.py"),
    ("node", "webhook-rotator.mjs"),
];
/// The key that they are given.
pub(crate) const KEY: &str = concat!("whsec_", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
pub(crate) const SECRET: SecretId = SecretId::from_bytes([1; 16]);
/// No version has this number: a rotator that only asks.
const ASKING: u64 = 99;

/// What signs, as it is known now; files are read.
struct Known(Mutex<String>);

#[async_trait]
impl Credentials for Known {
    async fn read(&self, credential: &CredentialRef) -> Result<SecretBytes, PortError> {
        if let CredentialRef::File(path) = credential {
            return Ok(SecretBytes::from(std::fs::read(path).unwrap()));
        }
        let known = self.0.lock().unwrap();
        Ok(SecretBytes::from(known.clone().into_bytes()))
    }
}

/// A running receiver.
struct Example {
    child: Child,
    port: u16,
    _files: tempfile::TempDir,
}

impl Example {
    fn start((program, file): (&str, &str)) -> Self {
        let files = tempfile::tempdir().unwrap();
        let key = files.path().join("key");
        std::fs::write(&key, format!("{KEY}\n")).unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
        let mut command = Command::new(program);
        command.arg(examples.join(file)).arg("0").arg(&key);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let spawned = command.spawn();
        let mut child = spawned.expect("python3 and node are installed: run tests/run.sh");
        let mut line = String::new();
        let mut told = BufReader::new(child.stdout.take().unwrap());
        told.read_line(&mut line).unwrap();
        let port = line.trim_end().rsplit(' ').next().unwrap();
        Self {
            port: port.parse().expect("it says where it listens"),
            child,
            _files: files,
        }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A receiver and a cache.
pub(crate) struct Bench {
    pub(crate) proxy: FaultProxy,
    strategy: Strategy,
    vault: Arc<FakeVault>,
    known: Arc<Known>,
    clock: Arc<FakeClock>,
    pub(crate) server: SocketAddr,
    _example: Example,
}

/// A rotator as another program makes it that knows the address and the file of the cache.
pub(crate) fn apart(
    url: &str,
    strategy: Strategy,
    file: &Path,
    current: u64,
    kept: Vec<u64>,
) -> WebhookRotator {
    let plan = AtResource {
        resource: resource(&format!("{url}/stripe"), strategy, None),
        admin: None,
        current: Some(current),
        kept,
        unclear: true,
    };
    let (_, port) = url.rsplit_once(':').unwrap();
    let near = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().unwrap()));
    let known = Arc::new(Known(Mutex::new(KEY.to_owned())));
    let (vault, clock) = (
        Arc::new(FakeVault::in_file(file)),
        Arc::new(FakeClock::at(now())),
    );
    let made = WebhookRotator::new(plan, known, vault, Arc::new(OsEntropy), clock);
    made.unwrap().allowing(&[near])
}

fn resource(connection: &str, strategy: Strategy, ca: Option<&Path>) -> Resource {
    Resource {
        kind: Kind::Webhook,
        connection: connection.to_owned(),
        accounts: vec!["stripe".to_owned()],
        admin: SecretName::parse("shop/hook-key").unwrap(),
        strategy,
        ca: ca.map(|ca| ca.display().to_string()),
    }
}

impl Bench {
    pub(crate) async fn start(example: (&str, &str), strategy: Strategy) -> Self {
        Self::over_vault(example, strategy, Arc::default()).await
    }

    /// Over this cache.
    pub(crate) async fn over_vault(
        example: (&str, &str),
        strategy: Strategy,
        vault: Arc<FakeVault>,
    ) -> Self {
        let example = Example::start(example);
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, example.port));
        Self {
            proxy: FaultProxy::before(server).await,
            strategy,
            vault,
            known: Arc::new(Known(Mutex::new(KEY.to_owned()))),
            clock: Arc::new(FakeClock::at(now())),
            server,
            _example: example,
        }
    }

    /// Requests are signed with this from now on.
    pub(crate) fn key(&self, key: &str) {
        key.clone_into(&mut self.known.0.lock().unwrap());
    }

    /// A rotator over what is current and what else is kept.
    pub(crate) fn over(&self, current: Option<u64>, kept: &[u64]) -> WebhookRotator {
        self.with(Arc::clone(&self.vault), current, kept)
    }

    fn with(&self, vault: Arc<FakeVault>, current: Option<u64>, kept: &[u64]) -> WebhookRotator {
        let resource = self.resource(&format!("{}/stripe", self.proxy.url()), None);
        let plan = AtResource {
            resource,
            admin: None,
            current,
            kept: kept.to_vec(),
            unclear: true,
        };
        self.by_plan(plan, vault)
    }

    /// A rotator for the first version, by way of another address.
    pub(crate) fn at(&self, connection: &str, ca: Option<&Path>) -> WebhookRotator {
        let plan = AtResource {
            resource: self.resource(connection, ca),
            admin: None,
            current: None,
            kept: Vec::new(),
            unclear: true,
        };
        self.by_plan(plan, Arc::clone(&self.vault))
    }

    fn resource(&self, connection: &str, ca: Option<&Path>) -> Resource {
        resource(connection, self.strategy, ca)
    }

    fn by_plan(&self, plan: AtResource, vault: Arc<FakeVault>) -> WebhookRotator {
        let (_, port) = plan.resource.connection.rsplit_once(':').unwrap();
        let port = port.split('/').next().unwrap().parse().unwrap();
        let near = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ];
        self.stranger(plan, vault).allowing(&near)
    }

    /// A rotator that was told of no address of this machine.
    fn stranger(&self, plan: AtResource, vault: Arc<FakeVault>) -> WebhookRotator {
        let known = Arc::clone(&self.known);
        let clock = Arc::clone(&self.clock);
        WebhookRotator::new(plan, known, vault, Arc::new(OsEntropy), clock).unwrap()
    }

    /// That, for the first version, by way of another address.
    pub(crate) fn stranger_at(&self, connection: &str) -> WebhookRotator {
        let plan = AtResource {
            resource: self.resource(connection, None),
            admin: None,
            current: None,
            kept: Vec::new(),
            unclear: false,
        };
        self.stranger(plan, Arc::clone(&self.vault))
    }

    /// All steps that make a version.
    pub(crate) async fn make(&self, version: u64, current: Option<u64>, kept: &[u64]) {
        let rotator = self.over(current, kept);
        for step in [Step::Create, Step::Set, Step::Test, Step::Finish] {
            self.perform(&rotator, step, version).await;
        }
    }

    /// One step as the worker asks for it when it may have been attempted before.
    pub(crate) async fn perform(&self, rotator: &WebhookRotator, step: Step, version: u64) {
        let (work, until) = (work(step, version), plenty());
        if rotator.probe(&work, &until).await.unwrap() != Probed::NotDone {
            return;
        }
        match step {
            Step::Create => rotator.create(&work, &until).await.unwrap(),
            Step::Set => rotator.set(&work, &until).await.unwrap(),
            Step::Test => rotator.test(&work, &until).await.unwrap(),
            _ => drop(rotator.finish(&work, &until).await.unwrap()),
        }
    }

    /// The work that makes a version of a value that is given.
    pub(crate) async fn provided(&self, version: u64, value: &SecretBytes) -> StepWork {
        let work = StepWork {
            generator: None,
            provided: true,
            ..work(Step::Create, version)
        };
        self.vault.stash(work.rotation, value).await.unwrap();
        work
    }

    pub(crate) fn value(&self, version: u64) -> SecretBytes {
        SecretBytes::from(self.vault.value(SECRET, version).expect("it is kept"))
    }

    /// A version's value cannot be read any more.
    pub(crate) fn damage(&self, version: u64) {
        self.vault.damage(SECRET, version);
    }

    pub(crate) async fn is_destroyed(&self, version: u64) -> bool {
        self.vault.is_destroyed(SECRET, version).await.unwrap()
    }

    /// Whether the receiver accepts it now.
    pub(crate) async fn accepts(&self, value: &SecretBytes) -> bool {
        let asking = Arc::new(FakeVault::default());
        let (token, until) = (RotationId::from_bytes([99; 16]), plenty());
        let inserted = asking.insert(SECRET, ASKING, token, value);
        inserted.await.unwrap();
        let asked = self.with(asking, None, &[]);
        match asked.test(&work(Step::Test, ASKING), &until).await {
            Ok(()) => true,
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("does not accept"), "{text}");
                false
            }
        }
    }
}

#[async_trait]
impl Home for Bench {
    fn rotator(&self) -> Arc<dyn Rotator> {
        Arc::new(self.over(None, &[]))
    }

    fn vault(&self) -> Arc<dyn VersionVault> {
        Arc::clone(&self.vault) as _
    }

    fn place(&self) -> Option<Outside> {
        None
    }

    async fn there(&self, _: &Source) -> Option<(RemoteVersion, SecretBytes)> {
        None
    }

    async fn write(&self, _: &Source, _: &SecretBytes) {}
}

/// A step of the rotation that makes a version.
pub(crate) fn work(step: Step, version: u64) -> StepWork {
    StepWork {
        rotation: RotationId::from_bytes([u8::try_from(version).unwrap(); 16]),
        secret: SECRET,
        step,
        attempt: 1,
        versions: vec![version],
        generator: Some(Generator::default()),
        provided: false,
        outside: None,
        resource: None,
        mark: None,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the receiver reads the real clock"
)]
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_micros(i64::try_from(since.unwrap().as_micros()).unwrap())
}
