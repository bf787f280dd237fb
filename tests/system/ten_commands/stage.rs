//! What an operator has before the first command, and what is looked at after the last.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::port::{held_pair, held_port};
use keywheel_testkit::server::postgres::PostgresServer;
use keywheel_tests::apart::nats_server;
use keywheel_tests::output::Output;
use keywheel_tests::scratch::{self, Scratch};
use keywheel_tests::wait;
use serde_json::Value;

use crate::machines::{Machine, SYSTEM_PATH};

const PATIENCE: Duration = wait::PATIENCE;
const SECRET: &str = "prod/web/token";
/// A bus server's port for the others lies this far above, as `keywheel init` says.
const CLUSTER_OFFSET: u16 = 2000;
/// Variables of the page, all of which the test sets.
const NAMES: [&str; 21] = [
    "PROFILE",
    "DIST",
    "NATS_SERVER",
    "CTL1",
    "CTL2",
    "CTL3",
    "WEB1",
    "WEB2",
    "ROOT",
    "DEPLOYMENT",
    "KEYS",
    "BUS1",
    "BUS2",
    "BUS3",
    "GATEWAY",
    "API_PORT",
    "JOIN_PORT",
    "DATABASE",
    "DATABASE_ADMIN",
    "IMAGE",
    "KEYWHEEL_ADDRESS",
];
const IDENTITY: &str = "KEYWHEEL_IDENTITY_DIR";
/// How variables begin that an operator's shell does not have.
const FOREIGN: [&str; 6] = [
    "KEYWHEEL_",
    "DOCKER_",
    "PG",
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "LD_LIBRARY_PATH",
];
/// Waits, and takes the reload signal.
const APP: &str = "#!/bin/sh\ntrap 'echo reloaded' HUP\ntrap 'exit 0' TERM\nwhile :; do sleep 3600 & wait $!; done\n";

/// Machines, database and settings. Machines go before the directory they lie in.
pub(crate) struct Stage {
    hosts: [Machine; 2],
    control: Machine,
    database: PostgresServer,
    settings: BTreeMap<&'static str, String>,
    begun: Instant,
    scratch: Scratch,
}

/// An image made from the static busybox, without a registry.
fn image_archive(scratch: &Scratch) -> Result<std::path::PathBuf> {
    for folder in ["bin", "run/secrets", "tmp", "proc", "dev", "sys", "etc"] {
        fs::create_dir_all(scratch.join("image").join(folder))?;
    }
    fs::copy("/bin/busybox", scratch.join("image/bin/busybox"))
        .context("busybox-static is missing")?;
    for applet in ["sh", "sleep", "cat"] {
        symlink("busybox", scratch.join("image/bin").join(applet))?;
    }
    let app = scratch.write("image/bin/app", APP)?;
    fs::set_permissions(app, fs::Permissions::from_mode(0o755))?;
    let archive = scratch.join("image.tar");
    let tree = scratch.join("image");
    Output::of(
        Command::new("tar")
            .arg("-C")
            .arg(tree)
            .arg("-cf")
            .arg(&archive)
            .arg("."),
    )?
    .ok()?;
    Ok(archive)
}

impl Stage {
    /// Machines, engines, a database server; of keywheel nothing.
    pub(crate) fn set() -> Result<Self> {
        let scratch = Scratch::make()?;
        let mut stage = Self {
            hosts: [
                Machine::with_engine(scratch.join("web-1"))?,
                Machine::with_engine(scratch.join("web-2"))?,
            ],
            control: Machine::new(scratch.join("ctl"))?,
            database: PostgresServer::start(),
            settings: BTreeMap::new(),
            begun: wait::now(),
            scratch,
        };
        stage.settings = stage.choose()?;
        Ok(stage)
    }

    pub(crate) fn settings_by_name() -> Vec<&'static str> {
        NAMES.into_iter().chain([IDENTITY]).collect()
    }

    fn choose(&self) -> Result<BTreeMap<&'static str, String>> {
        let path = |name: &str| self.scratch.join(name).display().to_string();
        let control = self.control.prefix();
        let [web_1, web_2] = &self.hosts;
        let (api, join) = (held_port().to_string(), held_port().to_string());
        let bus = || format!("127.0.0.1:{}", held_pair(CLUSTER_OFFSET));
        let deployment = path("deployment");
        Ok(BTreeMap::from([
            ("PROFILE", "dev".to_owned()),
            (
                "DIST",
                scratch::root()
                    .join("target/dist-dev")
                    .display()
                    .to_string(),
            ),
            ("NATS_SERVER", nats_server()?.display().to_string()),
            ("CTL1", control.clone()),
            ("CTL2", control.clone()),
            ("CTL3", control),
            ("WEB1", web_1.prefix()),
            ("WEB2", web_2.prefix()),
            ("ROOT", self.control.root()),
            ("KEYS", path("keys")),
            ("BUS1", bus()),
            ("BUS2", bus()),
            ("BUS3", bus()),
            ("GATEWAY", "127.0.0.1".to_owned()),
            ("DATABASE", self.database.place()),
            ("DATABASE_ADMIN", self.database.url("postgres")),
            ("IMAGE", self.load_image()?),
            ("KEYWHEEL_ADDRESS", format!("https://127.0.0.1:{api}")),
            (IDENTITY, format!("{deployment}/operators/admin")),
            ("API_PORT", api),
            ("JOIN_PORT", join),
            ("DEPLOYMENT", deployment),
        ]))
    }

    /// The same image in both engines.
    fn load_image(&self) -> Result<String> {
        let archive = image_archive(&self.scratch)?.display().to_string();
        let saved = self.scratch.join("saved.tar").display().to_string();
        let [web_1, web_2] = &self.hosts;
        let change = "CMD [\"/bin/app\"]";
        let made = web_1
            .run(&["docker", "import", "--change", change, &archive, "web"])?
            .ok()?;
        web_1.run(&["docker", "save", "-o", &saved, "web"])?.ok()?;
        web_2.run(&["docker", "load", "-i", &saved])?.ok()?;
        Ok(made.stdout.trim().to_owned())
    }

    /// Seconds since the stage was set.
    pub(crate) fn age(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    /// Runs a line of the page in the repository, with the settings and nothing else of ours, of
    /// Docker's, or of the cargo that runs this test.
    #[expect(clippy::disallowed_methods, reason = "the operator's own environment")]
    pub(crate) fn shell(&self, line: &str) -> Result<Output> {
        let mut shell = Command::new("bash");
        let dist = self.settings.get("DIST").map_or("", String::as_str);
        let path = std::env::var("PATH").unwrap_or_default();
        for (name, _) in std::env::vars_os() {
            let is_theirs = |prefix: &&str| name.to_string_lossy().starts_with(*prefix);
            if FOREIGN.iter().any(is_theirs) {
                shell.env_remove(name);
            }
        }
        shell
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(scratch::root())
            .env("PATH", format!("{dist}:{path}:{SYSTEM_PATH}"))
            .envs(&self.settings)
            .stdin(Stdio::null());
        Output::of(&mut shell)
    }

    fn json(&self, line: &str) -> Result<Value> {
        self.shell(&format!("keywheel -o json {line}"))?
            .ok()?
            .json()
    }

    /// Two containers a host, as the page says.
    pub(crate) fn run_containers(&self) -> Result<()> {
        for host in &self.hosts {
            for name in ["one", "two"] {
                let words = [
                    "docker",
                    "run",
                    "--detach",
                    "--runtime",
                    "keywheel",
                    "--network",
                    "none",
                    "--label",
                    "app=web",
                    "--name",
                    name,
                    "web",
                ];
                host.run(&words)?.ok()?;
            }
        }
        Ok(())
    }

    /// The first value is everywhere, and its rotation is over.
    pub(crate) fn wait_first_version(&self) -> Result<()> {
        wait::until_true("the first version to be everywhere", PATIENCE, || {
            let secret = self.json(&format!("get secret {SECRET}"))?;
            let find = |key| keywheel_tests::stage::find(&secret, key);
            let is_over = find("open_rotation").is_none_or(Value::is_null);
            Ok(is_over && find("current").and_then(Value::as_u64) == Some(1))
        })?;
        wait::until("the first file on both hosts", PATIENCE, || {
            self.both_hosts_have(1).map(Some)
        })
    }

    /// The file is in every container, and every container holds the version.
    pub(crate) fn both_hosts_have(&self, version: u64) -> Result<()> {
        let mut values = Vec::new();
        for host in &self.hosts {
            for name in ["one", "two"] {
                let read = host
                    .run(&["docker", "exec", name, "cat", "/run/secrets/token"])?
                    .ok()?;
                ensure!(read.stdout.len() == 32, "{} bytes", read.stdout.len());
                values.push(read.stdout);
            }
        }
        values.dedup();
        ensure!(values.len() == 1, "the containers have different values");
        let secret = self.json(&format!("get secret {SECRET}"))?;
        let current = keywheel_tests::stage::find(&secret, "current").and_then(Value::as_u64);
        ensure!(
            current == Some(version),
            "current is not {version}: {secret}"
        );
        Ok(())
    }

    /// Health as the operator sees it.
    pub(crate) fn services_are_well(&self) -> Result<()> {
        let hosts = self.json("host list")?;
        let names: Vec<_> = keywheel_tests::stage::items(&hosts)
            .into_iter()
            .filter_map(|host| host.get("name").and_then(Value::as_str))
            .collect();
        ensure!(names == ["web-1", "web-2"], "{hosts}");
        self.shell("keywheel status")?.ok()?;
        self.shell("keywheel journal verify")?.ok()?;
        let said = self.control.run(&["keywheel-node", "status"])?.ok()?.stdout;
        ensure!(said.matches("runs as").count() == 7, "{said}");
        Ok(())
    }

    /// Each user of the database has its own and nothing else.
    pub(crate) fn database_users_may_nothing_else(&self) -> Result<()> {
        let tables = "SELECT count(*) > 5 FROM pg_tables WHERE schemaname = 'keywheel_journal'";
        ensure!(self.database.psql("keywheel_journal", tables) == "t");
        let place = self.database.place().replace("postgres://", "");
        let tries = [
            ("journal", "keywheel_journal", "SELECT 1", true),
            ("journal", "keywheel_cache", "SELECT 1", false),
            ("cache", "keywheel_journal", "SELECT 1", false),
            ("journal", "postgres", "CREATE TABLE t (n int)", false),
            ("journal", "keywheel_journal", "CREATE DATABASE more", false),
            ("journal", "keywheel_journal", "CREATE ROLE more", false),
            (
                "journal",
                "keywheel_journal",
                "CREATE TABLE public.more (n int)",
                false,
            ),
            (
                "journal",
                "keywheel_journal",
                "DROP DATABASE keywheel_cache",
                false,
            ),
        ];
        for (who, database, statement, may) in tries {
            let line = format!(
                "PGPASSWORD=$(cat \"$DEPLOYMENT/{who}.password\") psql --no-psqlrc --quiet --command \"{statement}\" postgres://keywheel_{who}@{place}/{database}"
            );
            let did = self.shell(&line)?;
            ensure!(
                (did.code == 0) == may,
                "{who} at {database}: {statement}: {did:?}"
            );
        }
        Ok(())
    }

    /// What `init` made is private, on the operator's machine and where it was sent.
    pub(crate) fn secrets_stay_private(&self) -> Result<()> {
        for name in [
            "deployment",
            "keys",
            "ctl/etc/keywheel/gateway",
            "web-1/etc/keywheel/host",
        ] {
            refuse_open(&self.scratch.join(name))?;
        }
        for name in [
            "journal.password",
            "gateway-unseal.key",
            "store-sync-unseal.key",
        ] {
            refuse_open(&self.scratch.join("ctl/etc/keywheel").join(name))?;
        }
        let settings = fs::read_dir(self.scratch.join("deployment"))?;
        let password = fs::read_to_string(self.scratch.join("deployment/journal.password"))?;
        for entry in settings {
            let path = entry?.path();
            let shown = path.display().to_string();
            let text = fs::read_to_string(&path).unwrap_or_default();
            ensure!(
                shown.ends_with(".password") || !text.contains(&password),
                "{shown}"
            );
        }
        ensure!(!self.database.log().contains(&password), "the server's log");
        Ok(())
    }

    /// Two of three bus servers carry on; the third comes back.
    pub(crate) fn a_bus_server_may_be_lost(&self) -> Result<()> {
        self.control
            .run(&["keywheel-node", "stop", "bus-2"])?
            .ok()?;
        self.shell(&format!("keywheel rotate {SECRET} --wait"))?
            .ok()?;
        self.both_hosts_have(3)?;
        self.control
            .run(&["keywheel-node", "start", "bus-2"])?
            .ok()?;
        Ok(())
    }

    /// It resumes from the database, and everybody finds it again.
    pub(crate) fn the_gateway_may_be_started_again(&self) -> Result<()> {
        self.control
            .run(&["keywheel-node", "stop", "gateway"])?
            .ok()?;
        self.control
            .run(&["keywheel-node", "start", "gateway"])?
            .ok()?;
        self.shell(&format!("keywheel rotate {SECRET} --wait"))?
            .ok()?;
        self.both_hosts_have(4)
    }
}

/// Fails when others can read it.
fn refuse_open(path: &Path) -> Result<()> {
    let about = fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
    let mode = about.permissions().mode() & 0o777;
    ensure!(mode & 0o077 == 0, "{} has mode {mode:o}", path.display());
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            refuse_open(&entry?.path())?;
        }
    }
    Ok(())
}
