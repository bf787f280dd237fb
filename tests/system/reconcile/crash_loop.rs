//! Programs that end at once and are started over and over, by a person and by the engine's restart policy:
//! every start has what it is bound to, nothing is left of it, and what is on record of it is bounded. Once
//! they run, rotations reach them.

use std::fs;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::manifest;
use keywheel_tests::scratch::unique;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage};
use keywheel_tests::wait;
use serde_json::Value;

use super::{ALWAYS, PLACEHOLDER, TOKEN, each_change_is_audited_once};
use crate::missed::is_known;

/// Starts of one with a file, and of one with a variable meanwhile.
const STARTS: [usize; 2] = [100, 20];
/// Starts that the engine's own policy adds to a third; it waits twice as long each time.
const BY_POLICY: u32 = 4;
/// Records of one start and secret: that it was injected, and that it vanished.
const RECORDS: usize = 2;
/// How a program ends that has what it is bound to.
const SERVED: i32 = 3;
/// With the file, whole.
const WITH_FILE: &str = r#"v=$(cat /run/secrets/db_password) && [ "${#v}" -eq 32 ] || exit 9
[ -e /flags/calm ] && exec /bin/app-idle
exit 3"#;
/// With the variable, resolved.
const WITH_VARIABLE: &str = r#"case "$API_TOKEN" in ''|*keywheel*) exit 9 ;; esac
[ -e /flags/calm ] && exec /bin/app-idle
exit 3"#;
/// Descriptors that the server may have more after all of them.
const MORE_DESCRIPTORS: usize = 16;
/// Memory that it may have more; caches of journal and bus fill meanwhile.
const MORE_KIB: usize = 64 << 10;

/// One whose program ends at once until it is told to be calm.
struct Looped {
    container: Container,
    flags: PathBuf,
}

impl Looped {
    fn make(stage: &Stage, app: &str, more: &[&str], script: &str) -> Result<Self> {
        let flags = stage.keywheel.scratch().join(&unique("flags"));
        fs::create_dir(&flags)?;
        let volume = format!("{}:/flags:ro", flags.display());
        let label = format!("app={app}");
        let usual = [
            "--runtime",
            &stage.runtime,
            "--label",
            &label,
            "-v",
            &volume,
        ];
        let words = [&usual[..], more].concat();
        let container = Container::create(&stage.image, &words, &["sh", "-c", script])?;
        Ok(Self { container, flags })
    }

    fn start(&self) -> Result<()> {
        docker::docker(&["start", self.container.id()])?.ok()?;
        Ok(())
    }

    /// A person, or a script, that does not give up for so many starts.
    fn spin(&self, starts: usize) -> Result<()> {
        for turn in 0..starts {
            let said = docker::docker(&["start", "-a", self.container.id()])?;
            ensure!(said.code == SERVED, "start {turn}: {}", said.said());
        }
        Ok(())
    }

    /// The engine's policy, until it runs.
    fn come_back_by_policy(&self) -> Result<()> {
        self.start()?;
        wait::until_true("restarts by policy", PATIENCE, || {
            let count: u32 = self.container.field("{{.RestartCount}}")?.parse()?;
            Ok(count >= BY_POLICY)
        })?;
        self.calm()?;
        wait::until_true("a start that lasts", PATIENCE, || {
            let about = "{{.State.Running}} {{.State.Restarting}}";
            Ok(self.container.field(about)? == "true false")
        })
    }

    fn calm(&self) -> Result<()> {
        Ok(fs::write(self.flags.join("calm"), "")?)
    }

    fn variable(&self) -> Result<String> {
        self.container.variable("API_TOKEN")?.context("no variable")
    }
}

/// What the server has open, and its memory in KiB.
fn burden(stage: &Stage) -> Result<(usize, usize)> {
    let pid = stage.keywheel.pid().context("no server runs")?;
    let open = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = resident.and_then(|text| text.split_whitespace().next());
    Ok((open, words.context("no VmRSS")?.parse()?))
}

/// Nothing on the host, and nothing of the server's, speaks of a container that ended.
fn wait_left(stage: &Stage, id: &str) -> Result<()> {
    let run = stage.keywheel.run_dir();
    let state = run.join("state").join(format!("{id}.json"));
    wait::until_true("the ended container to be forgotten", PATIENCE, || {
        let bundles = fs::read_dir(run.join("bundles"))?.count();
        Ok(bundles == 0 && !state.exists() && !is_known(stage, id)?)
    })?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let is_ours = |line: &&str| line.contains(id) || line.contains("keywheel-secrets");
    let left: Vec<&str> = mounts.lines().filter(is_ours).collect();
    ensure!(left.is_empty(), "mounts are left: {left:?}");
    Ok(())
}

/// Records of use that name a container.
fn records(stage: &Stage, id: &str) -> Result<usize> {
    let rows = stage.keywheel.stream("audit")?;
    let is_its = |row: &&Value| {
        let text = |key: &str| row.get(key).map(Value::to_string).unwrap_or_default();
        text("category").contains("usage") && text("container").contains(id)
    };
    Ok(rows.iter().filter(is_its).count())
}

fn set() -> Result<Stage> {
    let stage = Stage::set()?;
    let (file, variable) = (stage.on("file"), stage.on("variable"));
    let text = manifest::secret(SECRET, &[])
        + &manifest::secret(TOKEN, &[])
        + &manifest::file_binding("file", SECRET, &file, "db_password", "none")
        + &manifest::env_binding(
            "variable",
            TOKEN,
            &variable,
            "API_TOKEN",
            "{ restart: { settle: 1s } }",
        );
    stage.keywheel.apply(&text)?;
    for secret in [SECRET, TOKEN] {
        stage.wait_current(secret, 1)?;
    }
    Ok(stage)
}

/// All of them at once; a start without what it is bound to is an error.
fn loop_all(file: &Looped, variable: &Looped, by_policy: &Looped) -> Result<()> {
    thread::scope(|scope| {
        let [of_file, of_variable] = STARTS;
        let threads = [(file, of_file), (variable, of_variable)];
        let threads = threads.map(|(one, starts)| scope.spawn(move || one.spin(starts)));
        let came = by_policy.come_back_by_policy();
        for thread in threads {
            let spun = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
            spun.context("a start in a loop")?;
        }
        came
    })
}

/// Those that crashed run now, and get what is new. All values they had.
fn rotations_reach(
    stage: &Stage,
    [file, variable, by_policy]: [&Looped; 3],
) -> Result<Vec<String>> {
    for one in [file, variable] {
        one.calm()?;
        one.start()?;
    }
    let mut values = vec![file.container.peek(FILE)?, variable.variable()?];
    ensure!(by_policy.container.peek(FILE)? == values[0]);
    for secret in [SECRET, TOKEN] {
        stage.rotate(secret)?;
    }
    let (second, token) = (file.container.peek(FILE)?, variable.variable()?);
    ensure!(second != values[0] && token != values[1], "not reached");
    ensure!(by_policy.container.peek(FILE)? == second);
    values.extend([second, token]);
    Ok(values)
}

#[test]
fn a_crash_loop_is_served_at_every_start_and_leaves_nothing() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = set()?;
    let file = Looped::make(&stage, "file", &[], WITH_FILE)?;
    let variable = Looped::make(&stage, "variable", &["-e", PLACEHOLDER], WITH_VARIABLE)?;
    let by_policy = Looped::make(&stage, "file", &ALWAYS, WITH_FILE)?;
    let (open, memory) = burden(&stage)?;
    loop_all(&file, &variable, &by_policy)?;
    for (one, starts) in [&file, &variable].into_iter().zip(STARTS) {
        let id = one.container.id();
        wait_left(&stage, id)?;
        let count = records(&stage, id)?;
        let most = RECORDS * starts;
        ensure!(
            (RECORDS..=most).contains(&count),
            "{count} records of {starts} starts"
        );
    }
    let (open_now, memory_now) = burden(&stage)?;
    ensure!(
        open_now <= open + MORE_DESCRIPTORS,
        "{open} descriptors became {open_now}"
    );
    ensure!(
        memory_now <= memory + MORE_KIB,
        "{memory} KiB became {memory_now}"
    );
    let all = [&file, &variable, &by_policy];
    let values = rotations_reach(&stage, all)?;
    let containers = all.map(|one| &one.container);
    each_change_is_audited_once(&stage.keywheel, &containers.map(Container::id))?;
    stage.finish(&values, &containers)
}
