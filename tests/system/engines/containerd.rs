//! containerd by `ctr`, with a daemon of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::Image;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::output::Output;
use keywheel_tests::process::{PATIENCE, Process};
use keywheel_tests::scratch::{Scratch, binary, unique};
use keywheel_tests::stage::items;
use keywheel_tests::{manifest, places, wait};
use serde_json::Value;

use crate::machine::{alone, digits, ready};
use crate::scene::{
    APP, PLACEHOLDER, TOKEN, bind, file, finish, options, swaps, variable, wait_denied, withdraws,
};

/// The image that the containers' label says: they have none of containerd's.
const IMAGE: &str = "sha256:5e1f0c5e1f0c5e1f0c5e1f0c5e1f0c5e1f0c5e1f0c5e1f0c5e1f0c5e1f0c5e1f";
/// Where the runtime keeps its state, below the daemon's own directory: what a killed run leaves is nobody else's.
const RUNTIME_STATE: &str = "runtime";
/// Where crun would by itself.
const CRUNS_STATE: &str = "/run/crun";
/// No plugin that would look for a network or an image.
const CONFIGURATION: &str = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";

/// A daemon of its own, and a program that calls our runtime with its arguments.
struct Containerd {
    daemon: Process,
    program: PathBuf,
    files: Scratch,
    root: Scratch,
}

impl Containerd {
    fn start(keywheel: &Keywheel, real: &str) -> Result<Self> {
        let root = Scratch::make()?;
        let configuration = root.write("config.toml", CONFIGURATION)?;
        let program = root.join(&unique("keywheel-test"));
        let wrapper = binary("keywheel-runtime")?.canonicalize()?;
        let socket = keywheel.run_dir().join("injector.sock");
        let line = format!(
            "#!/bin/sh\nexec '{}' --keywheel-socket '{}' --keywheel-real-runtime '{real}' \"$@\"\n",
            wrapper.display(),
            socket.display()
        );
        fs::write(&program, line)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let place = |name: &str| root.join(name).display().to_string();
        let configuration = configuration.display().to_string();
        let words = [
            "--config",
            &configuration,
            "--address",
            &place("containerd.sock"),
            "--root",
            &place("root"),
            "--state",
            &place("state"),
        ];
        let log = root.join("containerd.log");
        let daemon = Process::new("containerd", log, Path::new("containerd"), &words);
        let mut containerd = Self {
            daemon,
            program,
            files: Image::tree()?,
            root,
        };
        containerd.daemon.start()?;
        wait::until_true("containerd", PATIENCE, || {
            Ok(containerd.ctr(&["containers", "list", "-q"])?.code == 0)
        })
        .with_context(|| containerd.daemon.tail())?;
        Ok(containerd)
    }

    fn address(&self) -> String {
        format!("unix://{}", self.root.join("containerd.sock").display())
    }

    fn ctr(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.root.join("containerd.sock"));
        Output::of(command.args(words))
    }

    /// `ctr run -d` under our runtime; a refusal is an answer.
    fn try_run(
        &self,
        id: &str,
        flags: &[&str],
        program: &str,
    ) -> Result<(Option<Container<'_>>, Output)> {
        let runtime = self.program.display().to_string();
        let files = self.files.join("root").display().to_string();
        let state = self.root.join(RUNTIME_STATE).display().to_string();
        let pid_file = self.root.join("pid").display().to_string();
        let (app, image) = (format!("app={APP}"), format!("dev.keywheel.image={IMAGE}"));
        let mut words = vec!["run", "--detach", "--null-io", "--runc-binary", &runtime];
        words.extend(["--runc-root", &state]);
        words.extend(["--pid-file", &pid_file, "--label", &app, "--label", &image]);
        words.extend_from_slice(flags);
        words.extend(["--rootfs", &files, id, program]);
        let said = self.ctr(&words)?;
        let container = Container {
            containerd: self,
            id: id.to_owned(),
        };
        // One that did not start leaves something all the same, which goes with its value.
        Ok(((said.code == 0).then_some(container), said))
    }
}

/// A container of `ctr`.
struct Container<'a> {
    containerd: &'a Containerd,
    id: String,
}

impl Container<'_> {
    fn pid(&self) -> Result<u32> {
        let text = fs::read_to_string(self.containerd.root.join("pid"))?;
        Ok(text.trim().parse()?)
    }

    /// What the engine tells of it.
    fn told(&self) -> Result<Vec<Output>> {
        let info = self
            .containerd
            .ctr(&["containers", "info", &self.id])?
            .ok()?;
        let tasks = self.containerd.ctr(&["tasks", "list"])?.ok()?;
        let words = ["tasks", "exec", "--exec-id", "canary", &self.id, "/bin/env"];
        let env = self.containerd.ctr(&words)?.ok()?;
        ensure!(env.stdout.contains(PLACEHOLDER), "{}", env.stdout);
        Ok(vec![info, tasks, env])
    }

    /// Where engine and runtime keep something of it; the runtime's state has to be there.
    fn places(&self) -> Result<Vec<PathBuf>> {
        let state = self.containerd.root.join(RUNTIME_STATE);
        let mut found = places::paths_named(&state, &self.id);
        ensure!(
            !found.is_empty(),
            "nothing of {} below {}",
            self.id,
            state.display()
        );
        found.extend(places::paths_named(Path::new(CRUNS_STATE), &self.id));
        for name in ["root", "state", "containerd.log"] {
            found.push(self.containerd.root.join(name));
        }
        found.push(self.containerd.files.path().to_owned());
        Ok(found)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self
            .containerd
            .ctr(&["tasks", "delete", "--force", &self.id]);
        let _ = self.containerd.ctr(&["containers", "delete", &self.id]);
    }
}

/// An id that is full, and this run's own.
fn new_id() -> Result<String> {
    Ok(digits()? + &digits()?)
}

fn stage(real: &str) -> Result<(Containerd, Keywheel)> {
    let mut keywheel = Keywheel::prepare()?;
    let containerd = Containerd::start(&keywheel, real)?;
    keywheel.up(&options(&containerd.address()))?;
    Ok((containerd, keywheel))
}

#[test]
fn a_container_starts_with_its_secrets_follows_and_loses_them() -> Result<()> {
    let name = "containerd::a_container_starts_with_its_secrets_follows_and_loses_them";
    alone(name, || follows_and_loses("runc"))
}

#[test]
fn with_crun_a_container_starts_with_its_secrets_follows_and_loses_them() -> Result<()> {
    let name = "containerd::with_crun_a_container_starts_with_its_secrets_follows_and_loses_them";
    alone(name, || follows_and_loses("crun"))
}

fn follows_and_loses(real: &str) -> Result<()> {
    if !ready(&["containerd", "ctr", real])? {
        return Ok(());
    }
    let (containerd, keywheel) = stage(real)?;
    bind(&keywheel, IMAGE)?;
    let id = new_id()?;
    let flags = ["--env", PLACEHOLDER];
    let (container, said) = containerd.try_run(&id, &flags, "/bin/app-idle")?;
    let container = container.with_context(|| said.said())?;
    let pid = container.pid()?;
    let first = file(pid)?.context("no file at the start")?;
    let token = variable(pid)?;
    ensure!(
        !token.contains("{keywheel:"),
        "the placeholder was not resolved"
    );
    let second = swaps(&keywheel, pid, &first)?;
    waits(&keywheel)?;
    ensure!(
        variable(pid)? == token,
        "another variable without a restart"
    );
    // Its binding grants another variable.
    is_refused(&containerd, "OTHER_TOKEN={keywheel:test/api-token}")?;
    let (said, places) = (container.told()?, container.places()?);
    finish(&keywheel, &[first, second, token], &said, &places)?;
    withdraws(&keywheel, pid)
}

/// containerd restarts nothing: a rotation of the variable waits and says so, and of the file nothing is said.
fn waits(keywheel: &Keywheel) -> Result<()> {
    keywheel.json(&["rotate", TOKEN])?;
    let told = || -> Result<Vec<Value>> {
        let rows = keywheel.json(&["consumers"])?;
        let is_told = |row: &&Value| row.to_string().contains("containerd does not restart");
        Ok(items(&rows).into_iter().filter(is_told).cloned().collect())
    };
    wait::until_true("why its rotation waits", PATIENCE, || {
        Ok(!told()?.is_empty())
    })?;
    let told = told()?;
    let secrets = told.iter().map(|row| row.get("secret"));
    let of_variable = Value::from(TOKEN);
    ensure!(secrets.eq([Some(&of_variable)]), "{told:?}");
    Ok(())
}

#[test]
fn a_placeholder_without_a_binding_and_a_short_id_are_refused_with_the_next_step() -> Result<()> {
    let name =
        "containerd::a_placeholder_without_a_binding_and_a_short_id_are_refused_with_the_next_step";
    alone(name, refusals)
}

fn is_refused(containerd: &Containerd, placeholder: &str) -> Result<()> {
    let flags = ["--env", placeholder];
    let (container, said) = containerd.try_run(&new_id()?, &flags, "/bin/app-env")?;
    ensure!(
        container.is_none(),
        "a placeholder is a request, not a grant"
    );
    let said = said.said();
    ensure!(said.contains(TOKEN) && said.contains("inding"), "{said}");
    Ok(())
}

fn refusals() -> Result<()> {
    if !ready(&["containerd", "ctr", "runc"])? {
        return Ok(());
    }
    let (containerd, mut keywheel) = stage("runc")?;
    keywheel.apply(&manifest::secret(TOKEN, &[]))?;
    is_refused(&containerd, PLACEHOLDER)?;
    wait_denied(&keywheel)?;
    let flags = ["--env", PLACEHOLDER];
    let (container, said) = containerd.try_run("web", &flags, "/bin/app-env")?;
    ensure!(container.is_none(), "a short id was taken");
    ensure!(said.said().contains("full container id"), "{}", said.said());
    // Without the injector nothing starts, and the next step is told.
    keywheel.kill9()?;
    let (container, said) = containerd.try_run(&new_id()?, &[], "/bin/app-idle")?;
    ensure!(container.is_none(), "it started without the injector");
    ensure!(said.said().contains("keywheel up"), "{}", said.said());
    Ok(())
}
