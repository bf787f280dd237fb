//! `deploy/compose.yaml`: read by docker-compose, and brought up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::postgres::PostgresServer;
use keywheel_tests::apart::nats_server;
use keywheel_tests::docker;
use keywheel_tests::output::Output;
use keywheel_tests::scratch::{self, Scratch, unmount_below};
use keywheel_tests::wait;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const DOMAIN: &str = "keywheel.example";
/// Whom the containers run as.
const USER: &str = "65532:65532";
/// Prints YAML as JSON; the parser comes with docker-compose.
const AS_JSON: &str = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";

fn file() -> String {
    scratch::root()
        .join("deploy/compose.yaml")
        .display()
        .to_string()
}

fn configuration() -> Result<Value> {
    let mut shell = Command::new("bash");
    let script = format!(
        "docker-compose --file {} config | python3 -c '{AS_JSON}'",
        file()
    );
    shell.args(["-euo", "pipefail", "-c", &script]);
    shell
        .env("DOMAIN", DOMAIN)
        .env("DEPLOYMENT", "/deployment")
        .env("KEYS", "/keys");
    Output::of(&mut shell)?.ok()?.json()
}

#[test]
fn docker_compose_reads_it_and_every_container_is_confined() -> Result<()> {
    let read = configuration()?;
    let services = read
        .get("services")
        .and_then(Value::as_object)
        .context("no services")?;
    ensure!(services.len() == 8, "{:?}", services.keys());
    for (name, service) in services {
        let has = |key: &str, wanted: Value| {
            let found = service.get(key);
            ensure!(found == Some(&wanted), "{name}: {key} is {found:?}");
            Ok(())
        };
        has("read_only", Value::Bool(true))?;
        has("cap_drop", serde_json::json!(["ALL"]))?;
        has(
            "security_opt",
            serde_json::json!(["no-new-privileges:true"]),
        )?;
        has("user", USER.into())?;
        ensure!(
            service.get("privileged").is_none() && service.get("cap_add").is_none(),
            "{name}"
        );
        // Nothing secret is in a variable: what there is names files, how PostgreSQL is to be made, or the
        // collector, an address without a user.
        let variables = service.get("environment").and_then(Value::as_object);
        for (variable, value) in variables.into_iter().flatten() {
            let harmless = [
                "POSTGRES_INITDB_ARGS",
                "PGDATA",
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            ];
            let harmless = harmless.contains(&variable.as_str());
            let is_file = value
                .as_str()
                .is_some_and(|text| text.starts_with("/run/secrets/"));
            ensure!(harmless || is_file, "{name}: {variable}");
        }
        let ports = service.get("ports").is_some();
        ensure!(
            ports == (name == "gateway" || name.starts_with("bus-")),
            "{name}"
        );
    }
    let control = read.pointer("/networks/control/internal");
    ensure!(control == Some(&Value::Bool(true)), "{control:?}");
    // The database comes only when it is asked for.
    let profiles = read.pointer("/services/postgres/profiles");
    ensure!(
        profiles == Some(&serde_json::json!(["database"])),
        "{profiles:?}"
    );
    Ok(())
}

#[test]
fn it_asks_for_what_it_needs() -> Result<()> {
    let said = Output::of(
        Command::new("docker-compose")
            .args(["--file", &file(), "config"])
            .env_clear(),
    )?;
    ensure!(
        said.code != 0 && said.stderr.contains("keywheel init"),
        "{said:?}"
    );
    Ok(())
}

/// An engine with networks and a firewall of its own, in a network namespace of its own.
struct Engine {
    root: std::path::PathBuf,
    child: Child,
}

impl Engine {
    fn start(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)?;
        let path = |name: &str| root.join(name).display().to_string();
        let log = fs::File::create(root.join("log"))?;
        let words = format!(
            "ip link set lo up && exec dockerd --data-root {} --exec-root {} --pidfile {} --host unix://{} --config-file {}",
            path("data"),
            path("exec"),
            path("pid"),
            path("docker.sock"),
            path("daemon.json"),
        );
        fs::write(root.join("daemon.json"), "{}\n")?;
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", &words])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start dockerd")?;
        let engine = Self {
            root: root.to_owned(),
            child,
        };
        let said = wait::until_true("a dockerd of our own", PATIENCE, || {
            Ok(Output::of(engine.command("docker").arg("info"))?.code == 0)
        });
        said.with_context(|| fs::read_to_string(root.join("log")).unwrap_or_default())?;
        Ok(engine)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let address = format!("unix://{}/docker.sock", self.root.display());
        command.env("DOCKER_HOST", address).stdin(Stdio::null());
        command
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Ok(said) = Output::of(self.command("docker").args(["ps", "-aq"])) {
            let ids = said.stdout.split_whitespace();
            let _ = Output::of(self.command("docker").args(["rm", "-f"]).args(ids));
        }
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let ended = wait::until_true("a dockerd to end", PATIENCE, || {
            Ok(self.child.try_wait()?.is_some())
        });
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        unmount_below(&self.root);
    }
}

/// What an operator has and has set.
struct Stage {
    engine: Engine,
    database: PostgresServer,
    scratch: Scratch,
}

impl Stage {
    fn set() -> Result<Self> {
        let scratch = Scratch::make()?;
        let stage = Self {
            engine: Engine::start(&scratch.join("engine"))?,
            database: PostgresServer::start(),
            scratch,
        };
        // The containers' user may reach the socket.
        let directory = stage.database.socket_directory();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
        Ok(stage)
    }

    fn path(&self, name: &str) -> String {
        self.scratch.join(name).display().to_string()
    }

    fn shell(&self, line: &str) -> Result<Output> {
        let port = self
            .database
            .place()
            .rsplit(':')
            .next()
            .unwrap_or_default()
            .to_owned();
        let dist = scratch::root()
            .join("target/dist-dev")
            .display()
            .to_string();
        let mut shell = self.engine.command("bash");
        shell
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(scratch::root())
            .env(
                "PATH",
                format!("{dist}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            )
            .env("DIST", &dist)
            .env("NATS_SERVER", nats_server()?)
            .env("DOMAIN", DOMAIN)
            .env("DEPLOYMENT", self.path("deployment"))
            .env("KEYS", self.path("keys"))
            .env("DATABASE", format!("postgres://%2Frun%2Fpostgresql:{port}"))
            .env("DATABASE_ADMIN", self.database.url("postgres"))
            .env("POSTGRES_SOCKET", self.database.socket_directory())
            .env("COMPOSE_PROJECT_NAME", "kwtest");
        Output::of(&mut shell)
    }

    /// A verb of the client, inside the gateway's container.
    fn inside(&self, verb: &str) -> Result<Output> {
        self.shell(&format!(
            "docker exec kwtest_gateway_1 /usr/local/bin/keywheel -o json {verb}"
        ))
    }
}

/// The commands of the section about containers.
fn commands() -> Result<Vec<String>> {
    let page = fs::read_to_string(scratch::root().join("deploy/README.md"))?;
    let (_, section) = page
        .split_once("## In containers")
        .context("the section is gone")?;
    let block = section
        .split("```sh\n")
        .nth(1)
        .and_then(|block| block.split("```").next());
    let lines = block.context("no commands")?.split("\n\n");
    Ok(lines.map(|line| line.trim().to_owned()).collect())
}

#[test]
fn the_control_plane_runs_in_containers() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let begun = wait::now();
    for command in commands()? {
        eprintln!("{} s: {command}", begun.elapsed().as_secs());
        stage.shell(&command)?.ok()?;
    }
    let up = wait::until_true("the gateway to serve", PATIENCE, || {
        Ok(stage.inside("status")?.code == 0)
    });
    up.with_context(|| logs(&stage))?;
    eprintln!("{} s: serves", begun.elapsed().as_secs());
    let manifest = "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: test/one }\nspec:\n  store: local\n  generator: { length: 32 }\n";
    stage.scratch.write("manifest.yaml", manifest)?;
    let apply = format!(
        "docker exec -i kwtest_gateway_1 /usr/local/bin/keywheel apply -f - < {}",
        stage.path("manifest.yaml")
    );
    stage.shell(&apply)?.ok()?;
    // store-sync, scheduler and bus have done their part when a version is current.
    let made = wait::until_true("a version", PATIENCE, || {
        let said = stage.inside("get secret test/one")?.ok()?.json()?;
        Ok(keywheel_tests::stage::find(&said, "current").and_then(Value::as_u64) == Some(1))
    });
    made.with_context(|| logs(&stage))?;
    stage.inside("rotate test/one --wait")?.ok()?;
    stage.inside("host join-token web-1")?.ok()?;
    eprintln!("{} s: rotated", begun.elapsed().as_secs());
    let names = stage
        .shell("docker ps --format '{{.Names}} {{.Status}}'")?
        .ok()?
        .stdout;
    ensure!(names.matches("kwtest_").count() == 7, "{names}");
    ensure!(!names.contains("Restarting"), "{names}");
    let escape = stage.shell("docker exec --user 0 kwtest_gateway_1 /usr/local/bin/keywheel init --out /x --unseal-key-file /y")?;
    ensure!(escape.code != 0, "the root of a container can be written");
    Ok(())
}

fn logs(stage: &Stage) -> String {
    let said = stage
        .shell("docker ps -a; for c in $(docker ps -aq); do docker logs --tail 10 $c 2>&1; done");
    said.map_or_else(|error| format!("{error:#}"), |said| said.stdout)
}
