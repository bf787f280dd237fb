//! The other end of the bus, played by the test: a gateway that keeps reports and a store-sync that
//! seals what it is told. And containers of the local Docker engine.

pub mod engine;
pub mod running;
pub mod settings;
pub mod through;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::audit::Role;
use keywheel_core::binding::{ImageSelector, Reload, Selector, SetFile, Target};
use keywheel_core::command::Command as Submitted;
use keywheel_core::id::{BindingId, ContainerId, DeliveryId, DeploymentId, HostId, SecretId};
use keywheel_core::name::{BindingName, Directory, EnvName, FileName, HostName, SecretName};
use keywheel_core::plan::{Grant, HostPlan, Leave, Order, PlannedBinding, Staged};
use keywheel_core::report::{Fact, HostReport};
use keywheel_engine::delivery;
use keywheel_engine::port::bus::{
    Address, Body, Bus, Incoming, Message, Requests, Source, Subscription, Topic,
};
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::hpke::{PublicKey, seal};
use keywheel_seal::{OsEntropy, SecretBytes};
use tokio::sync::{Notify, broadcast};

pub const BUSYBOX: &str = "/bin/busybox";
pub const IMAGE: &str = "keywheel-test-injector:busybox";
pub const LIMIT: Duration = Duration::from_secs(180);

pub fn deployment() -> DeploymentId {
    DeploymentId::from_bytes([0xd; 16])
}

pub fn host() -> HostId {
    HostId::from_bytes([0xe; 16])
}

pub fn host_name() -> HostName {
    HostName::parse("test-host").unwrap()
}

#[derive(Default)]
struct World {
    key: Option<[u8; 32]>,
    plan: Option<HostPlan>,
    values: BTreeMap<(SecretId, u64), Vec<u8>>,
    reports: Vec<HostReport>,
    opened: usize,
    refuse_reports: bool,
    silent: bool,
    /// Questions left unanswered since the silence began.
    ignored: Vec<&'static str>,
    asked: Vec<&'static str>,
    /// What was refused as stale.
    stale: Vec<Source>,
    /// Whether questions for values wait.
    holds_values: bool,
}

/// Gateway, store-sync and bus in one.
pub struct FakeBus {
    world: Mutex<World>,
    plans: broadcast::Sender<HostPlan>,
    changed: Notify,
}

impl FakeBus {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            world: Mutex::default(),
            plans: broadcast::channel(64).0,
            changed: Notify::new(),
        })
    }

    pub fn put(&self, secret: u8, version: u64, value: &[u8]) {
        self.world.lock().unwrap().values.insert(
            (SecretId::from_bytes([secret; 16]), version),
            value.to_vec(),
        );
    }

    /// Makes a plan of these bindings the next generation and nudges.
    pub fn publish(&self, bindings: Vec<PlannedBinding>) -> u64 {
        self.publish_with(bindings, Vec::new())
    }

    /// The same, with leave to restart.
    pub fn publish_with(&self, bindings: Vec<PlannedBinding>, leaves: Vec<Leave>) -> u64 {
        self.publish_all(bindings, leaves, (Vec::new(), Vec::new()))
    }

    /// The same, with versions of secrets that are to be had at hand.
    pub fn publish_staged(&self, bindings: Vec<PlannedBinding>, staged: &[(u8, u64)]) -> u64 {
        let staged = staged.iter().map(|(secret, version)| Staged {
            secret: SecretId::from_bytes([*secret; 16]),
            grant: granted(*version),
            canaries: Vec::new(),
        });
        self.publish_all(bindings, Vec::new(), (staged.collect(), Vec::new()))
    }

    /// The same with one version, which these containers get before all others.
    pub fn publish_canaries(
        &self,
        bindings: Vec<PlannedBinding>,
        (secret, version): (u8, u64),
        canaries: &[ContainerId],
    ) -> u64 {
        let staged = Staged {
            secret: SecretId::from_bytes([secret; 16]),
            grant: granted(version),
            canaries: canaries.to_vec(),
        };
        self.publish_all(bindings, Vec::new(), (vec![staged], Vec::new()))
    }

    /// The same, with orders about containers.
    pub fn publish_orders(&self, bindings: Vec<PlannedBinding>, orders: Vec<Order>) -> u64 {
        self.publish_all(bindings, Vec::new(), (Vec::new(), orders))
    }

    fn publish_all(
        &self,
        bindings: Vec<PlannedBinding>,
        leaves: Vec<Leave>,
        (staged, orders): (Vec<Staged>, Vec<Order>),
    ) -> u64 {
        let mut world = self.world.lock().unwrap();
        let generation = world.plan.as_ref().map_or(1, |plan| plan.generation + 1);
        let plan = HostPlan {
            host: host(),
            host_name: host_name(),
            generation,
            bindings,
            leaves,
            staged,
            orders,
        };
        world.plan = Some(plan.clone());
        let silent = world.silent;
        drop(world);
        if !silent {
            let _ = self.plans.send(plan);
        }
        generation
    }

    /// Publishes an older generation again, as a late message would.
    pub fn replay(&self, generation: u64, bindings: Vec<PlannedBinding>) {
        let _ = self.plans.send(HostPlan {
            host: host(),
            host_name: host_name(),
            generation,
            bindings,
            leaves: Vec::new(),
            staged: Vec::new(),
            orders: Vec::new(),
        });
    }

    pub fn refuse_reports(&self, refuse: bool) {
        self.world.lock().unwrap().refuse_reports = refuse;
    }

    /// Whether nothing is answered and no plan is passed on.
    pub fn silence(&self, silent: bool) {
        let mut world = self.world.lock().unwrap();
        world.silent = silent;
        world.ignored.clear();
        world.asked.clear();
    }

    /// Whether who asks for a value waits for it.
    pub fn hold_values(&self, hold: bool) {
        self.world.lock().unwrap().holds_values = hold;
    }

    async fn while_held(&self, body: &Body) {
        let is_held = || kind(body) == "value" && self.world.lock().unwrap().holds_values;
        while is_held() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What was asked and answered since the last change of the silence, in order.
    pub fn asked(&self) -> Vec<&'static str> {
        self.world.lock().unwrap().asked.clone()
    }

    pub fn stale(&self) -> Vec<Source> {
        self.world.lock().unwrap().stale.clone()
    }

    pub fn opened(&self) -> usize {
        self.world.lock().unwrap().opened
    }

    pub fn reports(&self) -> Vec<HostReport> {
        self.world.lock().unwrap().reports.clone()
    }

    pub fn facts(&self) -> Vec<(String, Fact)> {
        let reports = self.reports();
        reports
            .into_iter()
            .flat_map(|report| report.items)
            .map(|item| (item.container.to_string(), item.fact))
            .collect()
    }

    pub fn clear(&self) {
        self.world.lock().unwrap().reports.clear();
    }

    /// Waits until the reports satisfy the check.
    pub async fn wait(&self, what: &str, check: impl Fn(&[HostReport]) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if check(&self.reports()) {
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(50), changed).await;
            }
        };
        if tokio::time::timeout(LIMIT, wait).await.is_err() {
            panic!("not seen: {what}; reports: {:#?}", self.reports());
        }
    }

    /// Waits until the asker knows of the silence: it asked for the plan a second time, so the first
    /// question has failed.
    pub async fn wait_noticed(&self) {
        self.wait("questions for the plan into the silence", |_| {
            let world = self.world.lock().unwrap();
            let asked = world.ignored.iter().filter(|what| **what == "plan");
            asked.count() >= 2
        })
        .await;
    }

    /// Waits until so many containers had a fact like this.
    pub async fn wait_facts(&self, what: &str, count: usize, like: impl Fn(&Fact) -> bool) {
        self.wait(what, |reports| {
            let all = reports
                .iter()
                .flat_map(|report| &report.items)
                .filter(|item| like(&item.fact));
            let distinct: std::collections::BTreeSet<_> =
                all.map(|item| item.container.clone()).collect();
            distinct.len() >= count
        })
        .await;
    }
}

/// What a question is about.
fn kind(body: &Body) -> &'static str {
    match body {
        Body::Submit {
            command: Submitted::EnrolHost { .. },
            ..
        } => "enrol",
        Body::Submit { .. } => "report",
        Body::ReadPlan { .. } => "plan",
        Body::OpenValue(_) => "value",
        _ => "other",
    }
}

struct Plans(broadcast::Receiver<HostPlan>, u64);

#[async_trait]
impl Subscription for Plans {
    async fn next(&mut self) -> Option<Incoming> {
        loop {
            match self.0.recv().await {
                Ok(plan) => {
                    self.1 += 1;
                    let message = Message {
                        id: [0; 16],
                        sender: Role::Gateway,
                        host: None,
                        traceparent: None,
                        body: Body::Plan(plan),
                    };
                    return Some(Incoming {
                        sequence: self.1,
                        redelivered: false,
                        message,
                    });
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
    async fn ack(&mut self, _: u64) -> Result<(), PortError> {
        Ok(())
    }
    async fn nak(&mut self, _: u64, _: Duration) -> Result<(), PortError> {
        Ok(())
    }
}

#[async_trait]
impl Bus for FakeBus {
    async fn publish(
        &self,
        _: Topic,
        _: [u8; 16],
        _: Option<String>,
        _: Body,
    ) -> Result<(), PortError> {
        Ok(())
    }

    async fn subscribe(&self, _: Topic, _: &str) -> Result<Box<dyn Subscription>, PortError> {
        Ok(Box::new(Plans(self.plans.subscribe(), 0)))
    }

    async fn request(
        &self,
        to: Address,
        _: Option<String>,
        body: Body,
        _: Duration,
    ) -> Result<Body, PortError> {
        let unavailable = |text: &str| Err(PortError::new(ErrorKind::Unavailable, text));
        let is_silent = {
            let mut world = self.world.lock().unwrap();
            if world.silent {
                world.ignored.push(kind(&body));
            }
            world.silent
        };
        if is_silent {
            self.changed.notify_waiters();
            tokio::time::sleep(Duration::from_millis(100)).await;
            return unavailable("the bus is silent");
        }
        self.while_held(&body).await;
        let mut world = self.world.lock().unwrap();
        world.asked.push(kind(&body));
        match (to, body) {
            (
                Address::Gateway,
                Body::Submit {
                    command: Submitted::EnrolHost { sealing_key, .. },
                    ..
                },
            ) => {
                world.key = Some(sealing_key);
                Ok(Body::Verdict(Verdict::Accepted { number: 1 }))
            }
            (
                Address::Gateway,
                Body::Submit {
                    command: Submitted::Report(report),
                    ..
                },
            ) => {
                if world.refuse_reports {
                    return unavailable("the gateway is away");
                }
                world.reports.push(report);
                self.changed.notify_waiters();
                Ok(Body::Verdict(Verdict::Accepted { number: 1 }))
            }
            (Address::Gateway, Body::ReadPlan { .. }) => match &world.plan {
                Some(plan) => Ok(Body::Plan(plan.clone())),
                None => Ok(Body::Failed {
                    kind: ErrorKind::NotFound,
                    text: "no plan".to_owned(),
                }),
            },
            (Address::StoreSync, Body::OpenValue(asked)) => {
                world.opened += 1;
                let Some(value) = world.values.get(&(asked.secret, asked.version)) else {
                    return unavailable("no such value");
                };
                let info = delivery::info(deployment(), asked.host);
                let aad = delivery::aad(asked.delivery, asked.secret, asked.version);
                let key = PublicKey::from_bytes(world.key.unwrap());
                let value = SecretBytes::from(value.clone());
                let envelope = seal(&key, &info, &aad, &value, &OsEntropy).unwrap();
                Ok(Body::SealedValue(envelope.to_bytes()))
            }
            _ => unavailable("not played by this test"),
        }
    }

    fn refuse_stale(&self, from: Source) {
        self.world.lock().unwrap().stale.push(from);
        self.changed.notify_waiters();
    }
    async fn serve(&self, _: Address) -> Result<Box<dyn Requests>, PortError> {
        Err(PortError::new(
            ErrorKind::Unavailable,
            "not played by this test",
        ))
    }
}

fn granted(version: u64) -> Grant {
    Grant {
        version,
        delivery: DeliveryId::from_bytes([version.to_le_bytes()[0]; 16]),
    }
}

/// A binding of secret `number` under binding id `number`, for containers with this label.
pub fn binding(
    number: u8,
    label: &str,
    target: Target,
    reload: Reload,
    version: Option<u64>,
) -> PlannedBinding {
    PlannedBinding {
        binding: BindingId::from_bytes([number; 16]),
        name: BindingName::parse(&format!("binding-{number}")).unwrap(),
        secret: SecretId::from_bytes([number; 16]),
        secret_name: SecretName::parse(&format!("test/secret-{number}")).unwrap(),
        also: Vec::new(),
        previous: Vec::new(),
        selector: Selector {
            host: Some(host_name()),
            image: Some(ImageSelector::Repository(
                "keywheel-test-injector".to_owned(),
            )),
            labels: BTreeMap::from([("keywheel-test".to_owned(), label.to_owned())]),
            insecure: false,
            container: None,
            name: None,
            user: None,
        },
        target,
        reload,
        current: version.map(granted),
        floor: 0,
        dead: std::collections::BTreeSet::new(),
        traceparent: None,
        leases: false,
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    }
}

pub fn file(name: &str) -> Target {
    Target::File {
        directory: Directory::parse("/run/secrets").unwrap(),
        name: FileName::parse(name).unwrap(),
        uid: 0,
        gid: 0,
        mode: 0o444,
        template: None,
    }
}

/// Files of one secret, by name and template.
pub fn files(name: &str, files: &[(&str, &str)]) -> Target {
    let one = |(name, template): &(&str, &str)| SetFile {
        name: FileName::parse(name).unwrap(),
        template: (*template).to_owned(),
    };
    Target::Files {
        directory: Directory::parse("/run/secrets").unwrap(),
        name: FileName::parse(name).unwrap(),
        uid: 7,
        gid: 8,
        mode: 0o440,
        files: files.iter().map(one).collect(),
    }
}

pub fn env(name: &str) -> Target {
    Target::Env {
        name: EnvName::parse(name).unwrap(),
    }
}

pub fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

pub fn docker(arguments: &[&str]) -> String {
    let output = run("docker", arguments);
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Whether these tests can run here; said aloud when not.
pub fn can_run() -> bool {
    static IMAGE_BUILT: OnceLock<bool> = OnceLock::new();
    *IMAGE_BUILT.get_or_init(|| {
        let root = rustix::process::geteuid().is_root();
        let engine = Command::new("docker")
            .arg("version")
            .output()
            .is_ok_and(|output| output.status.success());
        if !(root && engine && Path::new(BUSYBOX).exists() && helper().exists()) {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI needs root, Docker, {BUSYBOX} and keywheel-nsjoin"
            );
            eprintln!("SKIPPED: needs root, Docker, {BUSYBOX} and a built keywheel-nsjoin");
            return false;
        }
        build_image();
        true
    })
}

/// The helper beside the test binary: `cargo build -p keywheel-sys` makes it.
pub fn helper() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent()
        .and_then(Path::parent)
        .unwrap()
        .join("keywheel-nsjoin")
}

fn build_image() {
    let root = tempfile::tempdir().unwrap();
    for dir in ["bin", "proc", "sys", "dev", "etc", "tmp", "run"] {
        std::fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    std::fs::copy(BUSYBOX, root.path().join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", root.path().join("bin/sh")).unwrap();
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(root.path())
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = Command::new("docker")
        .args(["import", "-", IMAGE])
        .stdin(tar.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(tar.wait().unwrap().success() && status.success());
}

/// A running container; removed when dropped.
pub struct Container(pub String);

impl Container {
    pub fn start(label: &str, extra: &[&str], script: &str) -> Self {
        let label = format!("keywheel-test={label}");
        let mut arguments = vec![
            "run",
            "-d",
            "--network",
            "none",
            "--stop-timeout",
            "1",
            "--label",
            &label,
        ];
        arguments.extend(extra);
        arguments.extend([IMAGE, BUSYBOX, "sh", "-c", script]);
        Self(docker(&arguments))
    }

    pub fn exec(&self, script: &str) -> (bool, String) {
        let output = run("docker", &["exec", &self.0, BUSYBOX, "sh", "-c", script]);
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).trim().to_owned(),
        )
    }

    pub fn cat(&self, name: &str) -> (bool, String) {
        self.exec(&format!("{BUSYBOX} cat /run/secrets/{name}"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        run("docker", &["rm", "-f", "-v", &self.0]);
    }
}
