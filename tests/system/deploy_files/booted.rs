//! The units under a systemd that runs: installed, placed and started by the operator's own scripts. What they wrote
//! to its journal is searched for what they carried.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::postgres::PostgresServer;
use keywheel_tests::apart::nats_server;
use keywheel_tests::canary::Canary;
use keywheel_tests::docker;
use keywheel_tests::output::Output;
use keywheel_tests::scratch::{self, Scratch};
use keywheel_tests::wait;
use serde_json::Value;

use crate::machine::Machine;

const PATIENCE: Duration = wait::PATIENCE;
const SECRET: &str = "prod/web/token";
const HOST: &str = "web-1";
/// Roles with a unit, in the order in which they are stopped.
const ROLES: [&str; 8] = [
    "injector",
    "audit-sink",
    "scheduler",
    "store-sync",
    "gateway",
    "bus-3",
    "bus-2",
    "bus-1",
];
/// Who has written something in the end, beside the bus servers: their log is no matter of values.
const WRITERS: [&str; 6] = [
    "keywheel-injector",
    "keywheel-audit-sink",
    "keywheel-scheduler",
    "keywheel-store-sync",
    "keywheel-gateway",
    "docker",
];
/// What the page of `deploy/` says, for one machine that is control plane and host.
const COMMANDS: [&str; 6] = [
    "deploy/install.sh \"$MACHINE\"",
    "keywheel init --out \"$DEPLOYMENT\" --root / --unseal-key-file \"$KEYS/gateway-unseal.key\" \
     --bus 127.0.0.1:4222 --bus 127.0.0.1:4223 --bus 127.0.0.1:4224 --bus-tls --database \"$DATABASE\" \
     --gateway 127.0.0.1 --api-port 8443 --join-port 8444",
    "psql --no-psqlrc --quiet --file deploy/postgres/roles.sql \
     --file \"$DEPLOYMENT/postgres/passwords.sql\" \"$DATABASE_ADMIN\"",
    "deploy/place.sh bus-1=\"$MACHINE\" bus-2=\"$MACHINE\" bus-3=\"$MACHINE\"",
    "deploy/place.sh gateway=\"$MACHINE\" store-sync=\"$MACHINE\" scheduler=\"$MACHINE\" audit-sink=\"$MACHINE\"",
    "keywheel host join-token web-1 | $MACHINE keywheel-node join",
];
/// Waits, and takes the reload signal.
const APP: &str =
    "#!/bin/sh\ntrap : HUP\ntrap 'exit 0' TERM\nwhile :; do sleep 3600 & wait $!; done\n";

fn unit(role: &str) -> String {
    match role.starts_with("bus-") {
        true => format!("keywheel-bus@{role}.service"),
        false => format!("keywheel-{role}.service"),
    }
}

/// A machine and an operator who sits outside of it.
struct Stage {
    machine: Machine,
    database: PostgresServer,
    scratch: Scratch,
}

impl Stage {
    fn set() -> Result<Self> {
        let database = PostgresServer::start();
        let directory = database.socket_directory();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
        Ok(Self {
            machine: Machine::boot(directory)?,
            database,
            scratch: Scratch::make()?,
        })
    }

    /// A line in the repository, in the machine's network but with the operator's own files.
    fn shell(&self, line: &str) -> Result<Output> {
        let dist = scratch::root()
            .join("target/dist-dev")
            .display()
            .to_string();
        let path = |name: &str| self.scratch.join(name).display().to_string();
        let place = self.database.place();
        let port = place.rsplit(':').next().unwrap_or_default();
        let mut shell = Command::new("nsenter");
        shell
            .arg(format!("--net={}", self.machine.network()))
            .args(["bash", "-euo", "pipefail", "-c", line])
            .current_dir(scratch::root())
            .stdin(Stdio::null())
            .env_clear()
            .env(
                "PATH",
                format!("{dist}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            )
            .env("DIST", &dist)
            .env("NATS_SERVER", nats_server()?)
            .env("MACHINE", self.machine.prefix())
            .env("DEPLOYMENT", path("deployment"))
            .env("KEYS", path("keys"))
            .env("DATABASE", format!("postgres://%2Frun%2Fpostgresql:{port}"))
            .env("DATABASE_ADMIN", self.database.url("postgres"))
            .env("KEYWHEEL_ADDRESS", "https://127.0.0.1:8443")
            .env("KEYWHEEL_IDENTITY_DIR", path("deployment/operators/admin"));
        Output::of(&mut shell)
    }

    fn set_up(&self) -> Result<()> {
        let begun = wait::now();
        for command in COMMANDS {
            eprintln!("{} s: {command}", begun.elapsed().as_secs());
            self.shell(command)?.ok()?;
        }
        for role in ROLES {
            let state = self.machine.property(&unit(role), "ActiveState")?;
            ensure!(state == "active", "{role}: {state}");
            // What is not told that it serves is not waited for.
            let kind = self.machine.property(&unit(role), "Type")?;
            let wanted = if role.starts_with("bus-") {
                "exec"
            } else {
                "notify"
            };
            ensure!(kind == wanted, "{role}: {kind}");
        }
        eprintln!("{} s: all are active", begun.elapsed().as_secs());
        Ok(())
    }

    /// A container of the machine's own engine, and a secret for it; its first value.
    fn feed_a_container(&self) -> Result<String> {
        let image = self.image()?;
        let manifest = format!(
            "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {SECRET} }}\n\
             spec:\n  store: local\n  generator: {{ length: 32 }}\n---\n\
             apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: {{ name: {HOST} }}\n\
             spec:\n  secret: {SECRET}\n  containers: {{ host: {HOST}, image: \"{image}\", labels: {{ app: web }} }}\n  \
             file: {{ name: token, mode: \"0400\" }}\n  reload: {{ signal: HUP }}\n"
        );
        let path = self.scratch.write("manifest.yaml", manifest)?;
        self.shell(&format!("keywheel apply -f - <{}", path.display()))?
            .ok()?;
        wait::until_true("the first version", PATIENCE, || {
            let secret = self.secret()?;
            let find = |key| keywheel_tests::stage::find(&secret, key);
            let is_over = find("open_rotation").is_none_or(Value::is_null);
            Ok(is_over && find("current").and_then(Value::as_u64) == Some(1))
        })?;
        // Some of what the engine hands out by default is beyond the machine itself.
        let run = "docker run --detach --runtime keywheel --network none --cap-drop ALL --label app=web --name web web";
        self.machine
            .run(&run.split(' ').collect::<Vec<_>>())?
            .ok()?;
        // A host that has not read its newest plan yet gives the file a moment later.
        wait::until("the file in the container", PATIENCE, || {
            self.file().map(Some)
        })
    }

    /// An image of the static busybox in the machine's engine; gives its config digest.
    fn image(&self) -> Result<String> {
        for folder in ["bin", "run/secrets", "tmp", "proc", "dev", "sys", "etc"] {
            fs::create_dir_all(self.scratch.join("image").join(folder))?;
        }
        fs::copy("/bin/busybox", self.scratch.join("image/bin/busybox"))
            .context("busybox-static is missing")?;
        for applet in ["sh", "sleep", "cat"] {
            symlink("busybox", self.scratch.join("image/bin").join(applet))?;
        }
        let app = self.scratch.write("image/bin/app", APP)?;
        fs::set_permissions(app, fs::Permissions::from_mode(0o755))?;
        let tree = self.scratch.join("image").display().to_string();
        let change = "--change 'CMD [\"/bin/app\"]'";
        let import = format!("tar -C {tree} -cf - . | $MACHINE docker import {change} - web");
        Ok(self.shell(&import)?.ok()?.stdout.trim().to_owned())
    }

    fn secret(&self) -> Result<Value> {
        self.shell(&format!("keywheel -o json get secret {SECRET}"))?
            .ok()?
            .json()
    }

    /// What the container reads.
    fn file(&self) -> Result<String> {
        let read = ["docker", "exec", "web", "cat", "/run/secrets/token"];
        let said = self.machine.run(&read)?.ok()?;
        ensure!(said.stdout.len() == 32, "{} bytes", said.stdout.len());
        Ok(said.stdout)
    }

    /// A rotation ends, and the container has another value.
    fn rotate(&self) -> Result<String> {
        let before = self.file()?;
        self.shell(&format!("keywheel rotate {SECRET} --wait"))?
            .ok()?;
        let after = self.file()?;
        ensure!(after != before, "the container kept its value");
        Ok(after)
    }

    /// Services, engine and systemd have written to the machine's journal, and none of them a value.
    fn journal_has_none_of(&self, values: &[String]) -> Result<()> {
        self.machine.run(&["journalctl", "--sync"])?.ok()?;
        let read = ["journalctl", "--no-pager", "--output", "export"];
        let told = self.machine.run(&read)?.ok()?.stdout;
        for unit in WRITERS {
            let field = format!("_SYSTEMD_UNIT={unit}.service");
            ensure!(told.contains(&field), "the journal has nothing of {unit}");
        }
        let values: Vec<Vec<u8>> = values
            .iter()
            .map(|value| value.clone().into_bytes())
            .collect();
        let hits = Canary::new(&values)?.search("the machine's journal", told.as_bytes());
        ensure!(hits.is_empty(), "a plaintext, rule C1: {hits:?}");
        Ok(())
    }

    /// Killed as by the kernel, it comes back by itself, and serves before systemd calls it active.
    fn kill(&self, role: &str) -> Result<()> {
        let unit = unit(role);
        let pid = self.machine.property(&unit, "MainPID")?;
        let before = self.machine.property(&unit, "NRestarts")?;
        let kill = [
            "systemctl",
            "kill",
            "--kill-whom=main",
            "--signal=KILL",
            &unit,
        ];
        self.machine.run(&kill)?.ok()?;
        wait::until_true("systemd to restart it", PATIENCE, || {
            let is_active = self.machine.property(&unit, "ActiveState")? == "active";
            let restarts = self.machine.property(&unit, "NRestarts")?;
            Ok(is_active && restarts != before && self.machine.property(&unit, "MainPID")? != pid)
        })
        .with_context(|| unit.clone())
    }

    /// Each ends by itself when it is asked, and systemd has nothing to say about how.
    fn stop_all(&self) -> Result<()> {
        let words = [&["keywheel-node", "stop"][..], &ROLES].concat();
        self.machine.run(&words)?.ok()?;
        for role in ROLES {
            let unit = unit(role);
            let state = self.machine.property(&unit, "ActiveState")?;
            let said = self.machine.journal(&unit)?;
            let clean = said.contains("Deactivated successfully.");
            ensure!(state == "inactive" && clean, "{role}: {state}\n{said}");
            ensure!(
                !said.contains("Failed with result 'timeout'"),
                "{role}: {said}"
            );
        }
        Ok(())
    }

    fn exercise(&self) -> Result<()> {
        self.set_up()?;
        let mut values = vec![self.feed_a_container()?];
        values.push(self.rotate()?);
        // Root of this machine asks at the gateway's socket; everybody is well.
        wait::until("everybody to be well", PATIENCE, || {
            let status = ["keywheel", "status", "--check"];
            self.machine.run(&status)?.ok().map(Some)
        })?;
        self.kill("store-sync")?;
        values.push(self.rotate()?);
        self.kill("injector")?;
        values.push(self.rotate()?);
        let reload = ["systemctl", "reload", "keywheel-bus@bus-1.service"];
        self.machine.run(&reload)?.ok()?;
        self.stop_all()?;
        self.journal_has_none_of(&values)
    }
}

#[test]
fn a_running_systemd_starts_restarts_and_stops_every_unit() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let done = stage.exercise();
    if done.is_err() {
        stage.machine.show();
    }
    done
}
