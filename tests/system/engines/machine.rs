//! An engine of a test's own, and the mount namespace in which it runs.
//!
//! Invariants: nothing of the machine's engines is touched; every container goes with its value; a test that was not
//! run inside the namespace is a failure.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::Image;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::output::Output;
use keywheel_tests::process::{PATIENCE, Process};
use keywheel_tests::scratch::{Scratch, unique};
use keywheel_tests::{places, terminal, wait};

/// Set inside the namespace.
const INSIDE: &str = "KEYWHEEL_TEST_INSIDE";
/// The second hierarchy of control groups, on a machine that has both versions.
const HYBRID: &str = "/sys/fs/cgroup/unified";
/// The kernel's random UUIDs, another one for each look.
const RANDOM: &str = "/proc/sys/kernel/random/uuid";
/// Where the runtimes keep a container's state.
const RUNTIME_STATES: [&str; 2] = ["/run/runc", "/run/crun"];

/// Runs a test, by its path in this suite, once more in a mount namespace of its own.
#[expect(
    clippy::disallowed_methods,
    reason = "how a test calls itself is no setting of the product"
)]
pub(crate) fn alone(name: &str, test: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let script = format!(
        "mount --make-rprivate / && {{ ! mountpoint -q {HYBRID} || umount {HYBRID}; }} && exec \"$@\""
    );
    let own = std::env::current_exe()?;
    let said = Output::of(
        Command::new("unshare")
            .args(["-m", "sh", "-c", &script, "sh"])
            .arg(own)
            .args(["--exact", name, "--nocapture", "--test-threads", "1"])
            .env(INSIDE, "1"),
    )?;
    eprintln!("{}", said.said());
    ensure!(
        said.code == 0 && said.stdout.contains("1 passed"),
        "{name} did not pass inside its mount namespace, exit {}",
        said.code
    );
    Ok(())
}

/// 32 digits, as of an id that nothing on this machine has, nor had in an earlier run.
pub(crate) fn digits() -> Result<String> {
    let mut digits = std::fs::read_to_string(RANDOM)?;
    digits.retain(|digit| digit.is_ascii_hexdigit());
    ensure!(digits.len() == 32, "no UUID: {digits}");
    Ok(digits)
}

/// True when Podman and the real runtime are there. Where they are missing: a failure in continuous integration, a
/// loud skip elsewhere.
#[expect(clippy::disallowed_methods, reason = "CI is no setting of the product")]
pub(crate) fn ready(programs: &[&str]) -> Result<bool> {
    let is_there = |program: &&&str| {
        let mut command = Command::new(program);
        Output::of(command.arg("--version")).is_ok_and(|said| said.code == 0)
    };
    let Some(missing) = programs.iter().find(|program| !is_there(program)) else {
        return Ok(true);
    };
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    ensure!(!ci, "{missing} is missing, and CI=true forbids to skip");
    eprintln!(
        "SKIPPED: {missing} IS MISSING (tests/run.sh INSTALLS IT), SO THIS TEST PROVED NOTHING"
    );
    Ok(false)
}

/// Podman with a storage and a service of its own, and our runtimes by `keywheel setup podman`.
pub(crate) struct Podman {
    service: Option<Process>,
    runtime: String,
    image: String,
    digest: String,
    root: Scratch,
}

impl Podman {
    /// Registers the runtimes, starts the service, and makes the image. The server need not run yet.
    pub(crate) fn start(keywheel: &Keywheel, real: &str) -> Result<Self> {
        let mut podman = Self {
            service: None,
            runtime: unique("keywheel-test"),
            image: format!("localhost/{}:1", unique("keywheel-test")),
            digest: String::new(),
            root: Scratch::make()?,
        };
        std::fs::create_dir(podman.root.join("containers"))?;
        podman.setup(keywheel, &["--real-runtime", real])?;
        let listen = podman.address();
        let words = podman.words(&["system", "service", "--time", "0", &listen]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let log = podman.root.join("service.log");
        let mut service = Process::new("podman", log, Path::new("podman"), &words);
        service.set_environment(vec![("CONTAINERS_CONF".to_owned(), podman.configuration())]);
        service.start()?;
        let socket = podman.root.join("podman.sock");
        wait::until_true("Podman's service", PATIENCE, || Ok(socket.exists()))
            .with_context(|| service.tail())?;
        podman.service = Some(service);
        podman.make_image()?;
        Ok(podman)
    }

    /// Calls `keywheel setup podman` with more flags.
    pub(crate) fn setup(&self, keywheel: &Keywheel, more: &[&str]) -> Result<Output> {
        let words = self.setup_words(keywheel, &[&["--yes"][..], more].concat());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        keywheel.cli(&words)?.ok()
    }

    /// The same at a terminal, where a person answers this line.
    pub(crate) fn asked_setup(
        &self,
        keywheel: &Keywheel,
        more: &[&str],
        line: &str,
    ) -> Result<Output> {
        let words = self.setup_words(keywheel, more);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        terminal::answer(&self.root, &keywheel.client(&words)?, line)
    }

    fn setup_words(&self, keywheel: &Keywheel, more: &[&str]) -> Vec<String> {
        let place = |name: &str| self.root.join(name).display().to_string();
        let (configuration, programs) = (place("containers"), place("programs"));
        let address = keywheel.address();
        let words = [
            "setup",
            "podman",
            "--runtime-name",
            &self.runtime,
            "--configuration",
            &configuration,
            "--programs",
            &programs,
            "--address",
            &address,
        ];
        let words = words.iter().chain(more);
        words.map(|word| (*word).to_owned()).collect()
    }

    /// The file that `setup podman` wrote.
    pub(crate) fn configuration(&self) -> String {
        let name = format!("containers/containers.conf.d/{}.conf", self.runtime);
        self.root.join(&name).display().to_string()
    }

    /// Name of the lenient runtime.
    pub(crate) fn lenient(&self) -> String {
        format!("{}-default", self.runtime)
    }

    /// Where it put the programs that this file names.
    pub(crate) fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// `unix://…` of the service.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.root.join("podman.sock").display())
    }

    /// The image's digest, as bindings name it.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    fn make_image(&mut self) -> Result<()> {
        let tree = Image::tree()?;
        let archive = Image::pack(&tree)?.display().to_string();
        self.run(&["import", &archive, &self.image])?.ok()?;
        let words = ["image", "inspect", "-f", "{{.Id}}", &self.image];
        let id = self.run(&words)?.ok()?.stdout;
        self.digest = format!("sha256:{}", id.trim().trim_start_matches("sha256:"));
        Ok(())
    }

    fn words(&self, more: &[&str]) -> Vec<String> {
        let place = |name: &str| self.root.join(name).display().to_string();
        let own = [
            "--root".to_owned(),
            place("storage"),
            "--runroot".to_owned(),
            place("run"),
            "--tmpdir".to_owned(),
            place("tmp"),
        ];
        // Without a service manager, and whatever the file system is.
        let usual =
            "--storage-driver vfs --cgroup-manager cgroupfs --events-backend file --runtime";
        let own = own.into_iter().chain(usual.split(' ').map(str::to_owned));
        let more = more.iter().map(|word| (*word).to_owned());
        own.chain([self.runtime.clone()]).chain(more).collect()
    }

    /// Runs the client and keeps what it said.
    pub(crate) fn run(&self, more: &[&str]) -> Result<Output> {
        let mut command = Command::new("podman");
        command.args(self.words(more));
        Output::of(command.env("CONTAINERS_CONF", self.configuration()))
    }

    /// `podman run -d` under the strict runtime; a refusal is an answer.
    pub(crate) fn try_run(
        &self,
        app: &str,
        flags: &[&str],
        program: &str,
    ) -> Result<(Option<Container<'_>>, Output)> {
        let (name, label) = (unique("kwt"), format!("app={app}"));
        let mut words = vec!["run", "-d", "--name", &name, "--label", &label];
        // A test has no right to raise a limit.
        words
            .extend("--network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024".split(' '));
        words.extend_from_slice(flags);
        words.extend([self.image.as_str(), program]);
        let said = self.run(&words)?;
        if said.code != 0 {
            self.run(&["rm", "-f", "-t", "0", &name])?.ok()?;
            return Ok((None, said));
        }
        let id = said.stdout.trim().to_owned();
        Ok((Some(Container { podman: self, id }), said))
    }

    /// The same, which must start.
    pub(crate) fn start_container(
        &self,
        app: &str,
        flags: &[&str],
        program: &str,
    ) -> Result<Container<'_>> {
        let (container, said) = self.try_run(app, flags, program)?;
        container.with_context(|| format!("podman run exited {}: {}", said.code, said.stderr))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Containers of a failed test would outlive it.
        let _ = self.run(&["rm", "-f", "-a", "-t", "0"]);
        let _ = self.run(&["image", "rm", "-f", &self.image]);
        if let Some(mut service) = self.service.take()
            && let Err(error) = service.stop()
        {
            eprintln!("harness: Podman's service: {error:#}");
        }
    }
}

/// A container of Podman.
pub(crate) struct Container<'a> {
    podman: &'a Podman,
    id: String,
}

impl Container<'_> {
    /// The process id of its first program, as the host sees it.
    pub(crate) fn pid(&self) -> Result<u32> {
        let said = self
            .podman
            .run(&["inspect", "-f", "{{.State.Pid}}", &self.id])?;
        Ok(said.ok()?.stdout.trim().parse()?)
    }

    /// Runs a program inside.
    pub(crate) fn exec(&self, words: &[&str]) -> Result<Output> {
        let exec = ["exec", self.id.as_str()];
        self.podman.run(&[&exec[..], words].concat())
    }

    /// Runs its health check; what Podman says of it is the exit code.
    pub(crate) fn check_health(&self) -> Result<i32> {
        Ok(self.podman.run(&["healthcheck", "run", &self.id])?.code)
    }

    /// What the engine tells of it and copies out of it.
    pub(crate) fn told(&self) -> Result<Vec<Output>> {
        let mut said = Vec::new();
        for verb in ["inspect", "diff", "logs", "export"] {
            said.push(self.podman.run(&[verb, &self.id])?.ok()?);
        }
        said.push(self.exec(&["env"])?.ok()?);
        let tag = format!("localhost/{}:1", unique("keywheel-test"));
        said.push(self.podman.run(&["commit", &self.id, &tag])?.ok()?);
        said.push(self.podman.run(&["save", &tag])?.ok()?);
        self.podman.run(&["image", "rm", "-f", &tag])?.ok()?;
        Ok(said)
    }

    /// Where engine and runtimes keep something of it; a runtime's state of it has to be there.
    pub(crate) fn places(&self) -> Result<Vec<PathBuf>> {
        let states = RUNTIME_STATES.iter();
        let mut places: Vec<PathBuf> = states
            .flat_map(|root| places::paths_named(Path::new(root), &self.id))
            .collect();
        ensure!(
            !places.is_empty(),
            "no runtime keeps a state of container {} in {RUNTIME_STATES:?}",
            self.id
        );
        for name in ["storage", "run", "tmp", "containers", "service.log"] {
            places.push(self.podman.root.join(name));
        }
        Ok(places)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.podman.run(&["rm", "-f", "-t", "0", &self.id]);
    }
}
