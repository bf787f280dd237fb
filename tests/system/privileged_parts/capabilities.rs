//! What the injector needs of root: a deployment's life (a start, a swap with a signal, a restart, a
//! withdrawal) with the capabilities of its unit and no other, and with one of them less each time.
//!
//! Invariant: the list in the unit is what this finds. A capability that this machine's root does not have
//! either is not needed, or nothing here would work.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::fleet::Fleet;
use keywheel_tests::scratch::root;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, current, items, wait_current};
use keywheel_tests::{manifest, wait};
use serde_json::Value;

const UNIT: &str = "deploy/systemd/keywheel-injector.service";
const SETTING: &str = "CapabilityBoundingSet=";
const TOKEN: &str = "test/api-token";
const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";
/// A file of the user that the program is.
const OWNED: &str = "db_password, uid: 1000, gid: 1000";
/// A container whose program is that user, and whose directory it owns and closed.
const CLOSED: [&str; 4] = [
    "--user",
    "1000",
    "--tmpfs",
    "/run:uid=1000,gid=1000,mode=0700",
];
/// What the injector says when it may not signal.
const NOT_SIGNALLED: &str = "consumer not signalled yet";
/// Tries of a start, so that one which came too early counts as nothing.
const STARTS: usize = 3;

/// `None` when it worked, else why not.
type Refused = Option<String>;

/// The unit's list, in the words of `setpriv`.
fn listed() -> Result<BTreeSet<String>> {
    let unit = fs::read_to_string(root().join(UNIT))?;
    let line = unit.lines().find_map(|line| line.strip_prefix(SETTING));
    let words = line.context("the unit has no list")?.split_whitespace();
    let names = words.map(|word| -> Result<String> {
        let name = word.strip_prefix("CAP_");
        Ok(name.context("no capability")?.to_lowercase())
    });
    names.collect()
}

/// Begins a command with these and no other, and without a way to more, as the unit does.
fn bounded(kept: &BTreeSet<String>) -> Vec<String> {
    let set = kept
        .iter()
        .fold("-all".to_owned(), |set, name| set + ",+" + name);
    let words = [
        "setpriv".to_owned(),
        format!("--bounding-set={set}"),
        "--no-new-privs".to_owned(),
        "--".to_owned(),
    ];
    words.into()
}

/// One deployment whose injector is started anew with other capabilities.
struct Life {
    /// Under the runtime, and without it.
    containers: Vec<Container>,
    fleet: Fleet,
    values: Vec<String>,
}

impl Life {
    fn set() -> Result<Self> {
        let fleet = Fleet::set(Shape::default())?;
        let machine = fleet.machine(0)?;
        let on = machine.on("bounded");
        let restart = "{ restart: { settle: 1s } }";
        let text = manifest::secret(SECRET, &[])
            + &manifest::secret(TOKEN, &[])
            + &manifest::file_binding("file", SECRET, &on, OWNED, "{ signal: HUP }")
            + &manifest::env_binding("variable", TOKEN, &on, "API_TOKEN", restart)
            + &manifest::file_binding(
                "plain",
                SECRET,
                &machine.on("plain"),
                OWNED,
                "{ signal: HUP }",
            );
        fleet.keywheel.apply(&text)?;
        for secret in [SECRET, TOKEN] {
            wait_current(&fleet.keywheel, secret, 1)?;
        }
        fleet.keywheel.wait_plans()?;
        Ok(Self {
            containers: Vec::new(),
            fleet,
            values: Vec::new(),
        })
    }

    /// All up to the signal: what the injector could not do with these.
    fn swaps_with(&mut self, kept: &BTreeSet<String>) -> Result<Refused> {
        // Whoever was served goes while an injector runs, so that nothing waits for it.
        self.containers.clear();
        if let Some(why) = self.injector_starts(kept)? {
            return Ok(Some(why));
        }
        if let Some(why) = self.container_starts()? {
            return Ok(Some(why));
        }
        if let Some(why) = self.running_one_is_served()? {
            return Ok(Some(why));
        }
        self.file_is_replaced()
    }

    fn injector_starts(&mut self, kept: &BTreeSet<String>) -> Result<Refused> {
        let socket = self.fleet.apart()?.run_dir(0).join("injector.sock");
        let process = self.fleet.process(Role::Injector, 0)?;
        process.stop()?;
        process.set_prefix(bounded(kept));
        process.start()?;
        let ended = wait::until("the injector to serve, or to end", PATIENCE, || {
            let ended = process.exited()?;
            let serves = UnixStream::connect(&socket).is_ok();
            Ok((ended.is_some() || serves).then_some(ended))
        })?;
        Ok(ended.map(|status| format!("it ended ({status}): {}", process.tail())))
    }

    fn container_starts(&mut self) -> Result<Refused> {
        let machine = self.fleet.machine(0)?;
        let runtime = machine.runtime.clone();
        let flags = [
            "--runtime",
            &runtime,
            "--label",
            "app=bounded",
            "--user",
            "1000",
            "-e",
            PLACEHOLDER,
        ];
        let mut why = String::new();
        for _ in 0..STARTS {
            let (container, said) = Container::try_run(&machine.image, &flags, &["/bin/app-idle"])?;
            if let Some(container) = container {
                self.values.push(container.peek(FILE)?);
                self.values.extend(container.variable("API_TOKEN")?);
                self.containers.push(container);
                return Ok(None);
            }
            why = said.stderr;
        }
        Ok(Some(why))
    }

    fn running_one_is_served(&mut self) -> Result<Refused> {
        let flags = [&["--label", "app=plain"][..], &CLOSED].concat();
        let image = &self.fleet.machine(0)?.image;
        let container = Container::run(image, &flags, &["/bin/app-idle"])?;
        let why = self.wait_or_why("the first file", &container, || {
            Ok(container.peek(FILE).is_ok())
        })?;
        self.containers.push(container);
        Ok(why)
    }

    fn file_is_replaced(&mut self) -> Result<Refused> {
        let before = current(&self.fleet.keywheel, SECRET)?;
        let said_before = self.fleet.process(Role::Injector, 0)?.log().len();
        wait::until_true("the rotation before to end", PATIENCE, || {
            Ok(self.fleet.keywheel.cli(&["rotate", SECRET])?.code == 0)
        })?;
        let unheard = |log: &str| {
            let new = log.get(said_before..).unwrap_or_default();
            new.contains(NOT_SIGNALLED)
        };
        let mut log = String::new();
        wait::until_true("the signal, or why there is none", PATIENCE, || {
            log = self.fleet.process(Role::Injector, 0)?.log();
            Ok(unheard(&log) || self.all_reloaded(before)?)
        })?;
        for container in &self.containers {
            self.values.push(container.peek(FILE)?);
        }
        Ok(unheard(&log).then(|| NOT_SIGNALLED.to_owned()))
    }

    fn all_reloaded(&self, before: u64) -> Result<bool> {
        let rows = self.fleet.keywheel.json(&["consumers"])?;
        let done = |row: &&Value| {
            let text = |key| row.get(key).and_then(Value::as_str);
            let number = |key| row.get(key).and_then(Value::as_u64);
            let is_file = text("secret") == Some(SECRET);
            let holds = number("version") == number("assigned") && number("version") > Some(before);
            is_file && holds && text("state") == Some("reloaded")
        };
        Ok(items(&rows).into_iter().filter(done).count() == self.containers.len())
    }

    fn container_is_restarted(&mut self) -> Result<Refused> {
        let container = self.containers.first().context("no container")?;
        let before = container.variable("API_TOKEN")?;
        self.fleet.keywheel.cli(&["rotate", TOKEN])?.ok()?;
        let why = self.wait_or_why("the new variable", container, || {
            let now = container.variable("API_TOKEN")?;
            Ok(now.is_some() && now != before)
        })?;
        self.values.extend(container.variable("API_TOKEN")?);
        Ok(why)
    }

    fn file_is_withdrawn(&self) -> Result<Refused> {
        let words = ["revoke", SECRET, "--reason", "leaked", "--yes", "--wait"];
        let said = self.fleet.keywheel.cli(&words)?;
        let left = self.containers.iter().filter(|one| one.peek(FILE).is_ok());
        let left = left.count();
        let why = format!("{left} files are left: {}", said.said());
        Ok((said.code != 0 || left > 0).then_some(why))
    }

    /// Waits until something is so, or until the container's row says why it is not.
    fn wait_or_why(
        &self,
        what: &str,
        container: &Container,
        probe: impl Fn() -> Result<bool>,
    ) -> Result<Refused> {
        let id = container.id();
        wait::until(what, PATIENCE, || {
            if probe().unwrap_or_default() {
                return Ok(Some(None));
            }
            let rows = self.fleet.keywheel.json(&["consumers"])?;
            let container = |row: &Value| row.get("container")?.as_str().map(str::to_owned);
            let is_its = |row: &&Value| container(row).as_deref() == Some(id);
            let rows = items(&rows).into_iter().filter(is_its);
            let mut reasons = rows.filter_map(|row| row.get("reason")?.as_str().map(str::to_owned));
            Ok(reasons.next().map(Some))
        })
    }
}

#[expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]
#[test]
fn the_injector_needs_every_capability_of_its_unit_and_no_other() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let all = listed()?;
    let mut life = Life::set()?;
    for name in &all {
        let mut kept = all.clone();
        kept.remove(name);
        let why = life.swaps_with(&kept)?;
        eprintln!("without {name}: {why:?}");
        ensure!(
            why.is_some(),
            "{UNIT} lists {name}, which nothing needs: {all:?}"
        );
    }
    let why = match life.swaps_with(&all)? {
        None => life.container_is_restarted()?,
        why => why,
    };
    let why = match why {
        None => life.file_is_withdrawn()?,
        why => why,
    };
    ensure!(
        why.is_none(),
        "what {UNIT} lists is not enough ({all:?}): {why:?}"
    );
    let process = life.fleet.process(Role::Injector, 0)?;
    let pid = process.pid().context("no injector runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    ensure!(
        status.contains("NoNewPrivs:\t1"),
        "it may have more: {status}"
    );
    let containers: Vec<&Container> = life.containers.iter().collect();
    life.fleet.finish(&life.values, &containers)
}
