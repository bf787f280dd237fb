//! Images and containers of one test, by the `docker` client.
//!
//! The image is made from the static busybox, without a registry. Containers
//! have no network. Everything goes when its value is dropped.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::engine::Engine;
use crate::output::Output;
use crate::scratch::{Scratch, unique};

/// What [`APP_FILE`] says when it is told to reload.
const RELOADED: &str = "reloaded";

/// Reads its file over and over, more than a thousand times a second, and says what is no whole value; traps the
/// reload signal. It never prints a value. It reads by the shell itself and rests in between, so that it leaves the
/// processor to those it watches.
const APP_FILE: &str = r#"#!/bin/sh
trap 'echo reloaded' HUP
trap 'exit 0' TERM
echo ready
look() {
  is_there=no v=
  { is_there=yes; IFS= read -r v; } 2>/dev/null </run/secrets/db_password
  if [ "$is_there" = yes ] && [ "${#v}" -ne "${EXPECT_LENGTH:-32}" ]; then echo "TORN ${#v}"; fi
}
while :; do
  for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do look; done
  sleep 0.01
done
"#;

/// Says whether its variable is set; stops at once.
const APP_ENV: &str = r#"#!/bin/sh
trap 'exit 0' TERM
case "${API_TOKEN:-}" in
  '') echo unset ;;
  '{keywheel:'*) echo placeholder ;;
  *) echo set ;;
esac
while :; do sleep 3600 & wait $!; done
"#;

/// Waits; traps what a reload may send.
const APP_IDLE: &str = r#"#!/bin/sh
trap ':' HUP
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
"#;

/// Leaves HUP to its default.
const APP_DEAF: &str = r#"#!/bin/sh
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
"#;

/// Runs the client against the machine's engine and keeps what it said.
pub fn docker(args: &[&str]) -> Result<Output> {
    Engine::default().docker(args)
}

/// True when Docker answers. Where it is missing: a failure in continuous
/// integration, a loud skip elsewhere.
#[expect(clippy::disallowed_methods, reason = "CI is no setting of the product")]
pub fn ready() -> Result<bool> {
    if docker(&["info"]).is_ok_and(|output| output.code == 0) {
        return Ok(true);
    }
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    ensure!(!ci, "Docker does not answer, and CI=true forbids to skip");
    eprintln!("SKIPPED: DOCKER DOES NOT ANSWER, SO THIS TEST PROVED NOTHING");
    Ok(false)
}

/// The bytes of a regular file as a process has it, without the engine's help.
pub fn peek_in(pid: u32, path: &str) -> Result<String> {
    let from = format!("/proc/{pid}/root{path}");
    // A link would lead to the host's file, and a fifo to no end.
    let about = fs::symlink_metadata(&from).with_context(|| format!("no {from}"))?;
    ensure!(about.is_file(), "{from} is no regular file");
    fs::read_to_string(&from).with_context(|| format!("cannot read {from}"))
}

/// A local image with the test programs.
#[derive(Debug)]
pub struct Image {
    engine: Engine,
    tag: String,
    digest: String,
}

impl Image {
    /// Builds it for the machine's engine.
    pub fn build() -> Result<Self> {
        Self::build_on(&Engine::default())
    }

    /// Builds it for one engine.
    pub fn build_on(engine: &Engine) -> Result<Self> {
        Self::import(engine, &Self::tree()?)
    }

    /// What is in it, below `root`, for an engine that is not Docker.
    pub fn tree() -> Result<Scratch> {
        let tree = Scratch::make()?;
        for folder in [
            "root/bin",
            "root/run/secrets",
            "root/tmp",
            "root/proc",
            "root/dev",
            "root/sys",
            "root/etc",
        ] {
            fs::create_dir_all(tree.join(folder))?;
        }
        fs::copy("/bin/busybox", tree.join("root/bin/busybox"))
            .context("busybox-static is missing")?;
        for applet in [
            "sh", "cat", "sleep", "ls", "stat", "test", "touch", "id", "env", "mount", "umount",
            "ln",
        ] {
            symlink("busybox", tree.join("root/bin").join(applet))?;
        }
        for (name, text) in [
            ("app-file", APP_FILE),
            ("app-env", APP_ENV),
            ("app-idle", APP_IDLE),
            ("app-deaf", APP_DEAF),
        ] {
            let path = tree.write(&format!("root/bin/{name}"), text)?;
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        Ok(tree)
    }

    /// An image of one file, the static busybox: no shell and no directory of its own.
    pub fn bare() -> Result<Self> {
        let tree = Scratch::make()?;
        fs::create_dir_all(tree.join("root"))?;
        fs::copy("/bin/busybox", tree.join("root/busybox")).context("busybox-static is missing")?;
        Self::import(&Engine::default(), &tree)
    }

    /// What `docker commit` makes of a container's files as they are.
    pub fn of(container: &Container) -> Result<Self> {
        let tag = unique("keywheel-test");
        let engine = &container.engine;
        engine.docker(&["commit", &container.id, &tag])?.ok()?;
        Self::named(engine, tag)
    }

    /// What lies below `root` in the tree, as an archive.
    pub fn pack(tree: &Scratch) -> Result<PathBuf> {
        let archive = tree.join("root.tar");
        Output::of(
            Command::new("tar")
                .arg("-C")
                .arg(tree.join("root"))
                .arg("-cf")
                .arg(&archive)
                .arg("."),
        )?
        .ok()?;
        Ok(archive)
    }

    /// Takes what lies below `root` in the tree.
    fn import(engine: &Engine, tree: &Scratch) -> Result<Self> {
        let tag = unique("keywheel-test");
        let archive = Self::pack(tree)?;
        let imported = engine
            .command(&["import", "--change", "CMD [\"/bin/app-idle\"]", "-", &tag])
            .stdin(fs::File::open(&archive)?)
            .stdout(Stdio::null())
            .status()?;
        ensure!(imported.success(), "docker import failed: {imported}");
        Self::named(engine, tag)
    }

    fn named(engine: &Engine, tag: String) -> Result<Self> {
        let digest = engine
            .docker(&["image", "inspect", "-f", "{{.Id}}", &tag])?
            .ok()?
            .stdout
            .trim()
            .to_owned();
        Ok(Self {
            engine: engine.clone(),
            tag,
            digest,
        })
    }

    /// Its name.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Its config digest.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = self.engine.docker(&["image", "rm", "-f", &self.tag]);
    }
}

/// A running container.
#[derive(Debug)]
pub struct Container {
    engine: Engine,
    name: String,
    id: String,
}

impl Container {
    /// `docker run -d` with the flags given, then the program.
    pub fn run(image: &Image, flags: &[&str], program: &[&str]) -> Result<Self> {
        match Self::try_run(image, flags, program)? {
            (Some(container), _) => Ok(container),
            (None, said) => bail!("docker run exited {}: {}", said.code, said.stderr),
        }
    }

    /// The same, but a refusal is an answer.
    pub fn try_run(
        image: &Image,
        flags: &[&str],
        program: &[&str],
    ) -> Result<(Option<Self>, Output)> {
        let name = unique("kwt");
        let mut args = vec!["run", "-d", "--name", &name, "--network", "none"];
        args.extend_from_slice(flags);
        args.push(image.tag());
        args.extend_from_slice(program);
        let engine = image.engine.clone();
        let said = engine.docker(&args)?;
        if said.code != 0 {
            let _ = engine.docker(&["rm", "-f", &name]);
            return Ok((None, said));
        }
        let id = said.stdout.trim().to_owned();
        Ok((Some(Self { engine, name, id }), said))
    }

    /// `docker create`: it does not run yet, so the runtime was not asked for anything.
    pub fn create(image: &Image, flags: &[&str], program: &[&str]) -> Result<Self> {
        let name = unique("kwt");
        let mut args = vec!["create", "--name", &name, "--network", "none"];
        args.extend_from_slice(flags);
        args.push(image.tag());
        args.extend_from_slice(program);
        let engine = image.engine.clone();
        let said = engine.docker(&args)?.ok()?;
        let id = said.stdout.trim().to_owned();
        Ok(Self { engine, name, id })
    }

    /// `docker run -d` with exactly these flags. Values of variables come from the client's environment,
    /// so that none is an argument.
    pub fn run_with(
        image: &Image,
        flags: &[&str],
        variables: &[(&str, &str)],
        program: &[&str],
    ) -> Result<Self> {
        let name = unique("kwt");
        let mut args = vec!["run", "-d", "--name", &name];
        for (variable, _) in variables {
            args.extend(["-e", *variable]);
        }
        args.extend_from_slice(flags);
        args.push(image.tag());
        args.extend_from_slice(program);
        let engine = image.engine.clone();
        let mut command = engine.command(&args);
        command.envs(variables.iter().copied());
        let said = Output::of(&mut command)?;
        if said.code != 0 {
            let _ = engine.docker(&["rm", "-f", &name]);
        }
        let id = said.ok()?.stdout.trim().to_owned();
        Ok(Self { engine, name, id })
    }

    /// The container that has this name now; another one may have had it before.
    pub fn named(image: &Image, name: &str) -> Result<Self> {
        let engine = image.engine.clone();
        let said = engine.docker(&["inspect", "-f", "{{.Id}}", name])?.ok()?;
        Ok(Self {
            engine,
            name: name.to_owned(),
            id: said.stdout.trim().to_owned(),
        })
    }

    /// The engine it runs on.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Restarts it.
    pub fn restart(&self) -> Result<Output> {
        self.engine.docker(&["restart", "-t", "1", &self.id])
    }

    /// Its full id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a program inside.
    pub fn exec(&self, words: &[&str]) -> Result<Output> {
        let mut args = vec!["exec", &self.id];
        args.extend_from_slice(words);
        self.engine.docker(&args)
    }

    /// Runs a line of shell inside, which must succeed.
    pub fn shell(&self, line: &str) -> Result<Output> {
        self.exec(&["sh", "-c", line])?.ok()
    }

    /// The bytes of a regular file as its first process has it, without a program inside.
    pub fn peek(&self, path: &str) -> Result<String> {
        peek_in(self.pid()?, path)
    }

    /// The bytes of a file inside; none when it is not there.
    pub fn read(&self, path: &str) -> Result<Option<String>> {
        let said = self.exec(&["cat", path])?;
        Ok((said.code == 0).then_some(said.stdout))
    }

    /// One field of `docker inspect`.
    pub fn field(&self, template: &str) -> Result<String> {
        Ok(self
            .engine
            .docker(&["inspect", "-f", template, &self.id])?
            .ok()?
            .stdout
            .trim()
            .to_owned())
    }

    /// The pid of its first process, as the host sees it.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.field("{{.State.Pid}}")?.parse()?)
    }

    /// When its last process ended, and when the one that runs now began, in an order that text has, too.
    pub fn downtime(&self) -> Result<(String, String)> {
        let at = |field: &str| {
            let text = self.field(&format!("{{{{.State.{field}}}}}"))?;
            let text = text.trim_end_matches('Z');
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
            anyhow::Ok(format!("{seconds}.{fraction:0<9}"))
        };
        Ok((at("FinishedAt")?, at("StartedAt")?))
    }

    /// The value of a variable in its first process's environment, read from
    /// the host: an exec would only see the placeholder.
    pub fn variable(&self, name: &str) -> Result<Option<String>> {
        let environ = fs::read(format!("/proc/{}/environ", self.pid()?))?;
        let prefix = format!("{name}=");
        let found = environ
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy);
        Ok(found
            .filter_map(|entry| entry.strip_prefix(&prefix).map(str::to_owned))
            .next())
    }

    /// How often its program said that it was told to reload.
    pub fn reloads(&self) -> Result<usize> {
        Ok(self.logs()?.matches(RELOADED).count())
    }

    /// What it wrote.
    pub fn logs(&self) -> Result<String> {
        Ok(self.engine.docker(&["logs", &self.id])?.said())
    }

    /// The whole of `docker inspect`.
    pub fn inspect(&self) -> Result<Value> {
        self.engine.docker(&["inspect", &self.id])?.ok()?.json()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.engine.docker(&["rm", "-f", &self.id]);
    }
}
