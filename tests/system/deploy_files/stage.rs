//! What an operator of the Compose file has: an engine, PostgreSQL, settings, and the page's own commands.
//!
//! Owns the engine with its containers, networks and volumes; all of it goes with the value.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use keywheel_testkit::server::postgres::PostgresServer;
use keywheel_tests::apart::nats_server;
use keywheel_tests::output::Output;
use keywheel_tests::scratch::{self, Scratch, unmount_below};
use keywheel_tests::wait;
use serde_json::Value;

pub(crate) const PATIENCE: Duration = wait::PATIENCE;
/// The domain of the deployment.
pub(crate) const DOMAIN: &str = "keywheel.example";
/// The image of PostgreSQL, made from what is installed here.
const POSTGRES_IMAGE: &str = "keywheel-postgres:test";

/// An engine with networks and a firewall of its own, in a network namespace of its own.
struct Engine {
    root: PathBuf,
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

/// Whose PostgreSQL it is.
enum Database {
    /// The operator's own server, reached by its socket.
    Own(PostgresServer),
    /// That of the Compose file's profile.
    Profile,
}

/// What an operator has and has set.
pub(crate) struct Stage {
    engine: Engine,
    database: Database,
    scratch: Scratch,
}

impl Stage {
    /// With a server of the operator's own.
    pub(crate) fn with_own_database() -> Result<Self> {
        let server = PostgresServer::start();
        // The containers' user may reach the socket.
        let directory = server.socket_directory();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
        Self::set(Database::Own(server))
    }

    /// With nothing but an image of PostgreSQL.
    pub(crate) fn with_image_of_database() -> Result<Self> {
        let stage = Self::set(Database::Profile)?;
        let build = format!("tests/system/deploy_files/postgres_image/build.sh {POSTGRES_IMAGE}");
        stage.shell(&build)?.ok()?;
        Ok(stage)
    }

    fn set(database: Database) -> Result<Self> {
        let scratch = Scratch::make()?;
        Ok(Self {
            engine: Engine::start(&scratch.join("engine"))?,
            database,
            scratch,
        })
    }

    fn path(&self, name: &str) -> String {
        self.scratch.join(name).display().to_string()
    }

    /// Runs a line in the repository, with the settings.
    pub(crate) fn shell(&self, line: &str) -> Result<Output> {
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
            .env("COMPOSE_PROJECT_NAME", "kwtest");
        match &self.database {
            Database::Own(server) => {
                let place = server.place();
                let port = place.rsplit(':').next().unwrap_or_default();
                shell
                    .env("DATABASE", format!("postgres://%2Frun%2Fpostgresql:{port}"))
                    .env("DATABASE_ADMIN", server.url("postgres"))
                    .env("POSTGRES_SOCKET", server.socket_directory());
            }
            Database::Profile => {
                shell
                    .env("DATABASE", "postgres://%2Frun%2Fpostgresql")
                    .env("POSTGRES_IMAGE", POSTGRES_IMAGE);
            }
        }
        Output::of(&mut shell)
    }

    /// A verb of the client, inside the gateway's container.
    pub(crate) fn inside(&self, verb: &str) -> Result<Output> {
        self.shell(&format!(
            "docker exec kwtest_gateway_1 /usr/local/bin/keywheel -o json {verb}"
        ))
    }

    /// Runs the commands of the page, and waits until the gateway serves.
    pub(crate) fn bring_up(&self, commands: &[String]) -> Result<()> {
        let begun = wait::now();
        for command in commands {
            eprintln!("{} s: {command}", begun.elapsed().as_secs());
            self.shell(command)?.ok()?;
        }
        let up = wait::until_true("the gateway to serve", PATIENCE, || {
            Ok(self.inside("status")?.code == 0)
        });
        up.with_context(|| self.logs())?;
        eprintln!("{} s: serves", begun.elapsed().as_secs());
        Ok(())
    }

    /// A secret of this name has its first version: store-sync, scheduler and bus have done their part.
    pub(crate) fn make_secret(&self, name: &str) -> Result<()> {
        let manifest = format!(
            "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {name} }}\nspec:\n  store: local\n  generator: {{ length: 32 }}\n"
        );
        self.scratch.write("manifest.yaml", manifest)?;
        let apply = format!(
            "docker exec -i kwtest_gateway_1 /usr/local/bin/keywheel apply -f - < {}",
            self.path("manifest.yaml")
        );
        self.shell(&apply)?.ok()?;
        let made = wait::until_true("a version, and its rotation's end", PATIENCE, || {
            let said = self.inside(&format!("get secret {name}"))?.ok()?.json()?;
            let find = |key| keywheel_tests::stage::find(&said, key);
            let is_over = find("open_rotation").is_none_or(Value::is_null);
            Ok(is_over && find("current").and_then(Value::as_u64) == Some(1))
        });
        made.with_context(|| self.logs())
    }

    /// The current version of a secret.
    pub(crate) fn version(&self, name: &str) -> Result<Option<u64>> {
        let said = self.inside(&format!("get secret {name}"))?.ok()?.json()?;
        Ok(keywheel_tests::stage::find(&said, "current").and_then(Value::as_u64))
    }

    /// The names of what runs, each with how.
    pub(crate) fn containers(&self) -> Result<String> {
        let said = self.shell("docker ps --format '{{.Names}} {{.Status}}'")?;
        Ok(said.ok()?.stdout)
    }

    /// The end of what each container wrote.
    pub(crate) fn logs(&self) -> String {
        let said = self.shell(
            "docker ps -a; for c in $(docker ps -aq); do docker logs --tail 10 $c 2>&1; done",
        );
        said.map_or_else(|error| format!("{error:#}"), |said| said.stdout)
    }
}

/// The commands of the blocks of the section about containers: the first with a server of the operator's
/// own, the second what the profile has instead of the last two.
pub(crate) fn commands() -> Result<[Vec<String>; 2]> {
    let page = fs::read_to_string(scratch::root().join("deploy/README.md"))?;
    let (_, after) = page
        .split_once("## In containers")
        .context("the section is gone")?;
    let section = after.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1);
    let mut blocks = blocks
        .filter_map(|block| block.split("```").next())
        .map(|block| {
            let lines = block.split("\n\n").map(|line| line.trim().to_owned());
            lines.collect::<Vec<_>>()
        });
    let mut next = || blocks.next().context("a block is gone");
    Ok([next()?, next()?])
}
