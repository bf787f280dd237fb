//! What every attack of this suite has around it: one deployment, a consumer that attacks nobody, files
//! of the host that attacks reach for, and a census of them.
//!
//! Invariant: a scene ends with `end`, which takes the census again; until then everybody else is
//! reached by every rotation.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::census::Census;
use keywheel_tests::docker::Container;
use keywheel_tests::scratch::binary;
use keywheel_tests::stage::{PATIENCE, SECRET, Stage, items};
use keywheel_tests::{manifest, places, wait};
use serde_json::Value;

/// The file that most bindings give, as `file_binding` takes it.
pub(crate) const NAME: &str = "db_password";
/// What lies in the files that attacks reach for.
const BAIT: &str = "of the host";
/// How secret file systems are called in mount tables.
pub(crate) const SOURCE: &str = "keywheel-secrets";

/// A deployment under attack. The witness goes before the stage it stands on.
pub(crate) struct Scene {
    /// Runs under the runtime and attacks nobody.
    pub(crate) witness: Container,
    pub(crate) stage: Stage,
    census: Census,
    /// Every value that was ever current, the newest of the secret under attack last.
    values: Vec<String>,
}

impl Scene {
    /// Sets it, with a binding for each label `app`: label, and file as `file_binding` takes it.
    pub(crate) fn set(bindings: &[(&str, &str)]) -> Result<Self> {
        let stage = Stage::set()?;
        let bait = stage.keywheel.scratch().join("bait");
        fs::create_dir_all(bait.join("secrets"))?;
        for name in ["db_password", "secrets/db_password"] {
            fs::write(bait.join(name), BAIT)?;
        }
        let mut text = manifest::secret(SECRET, &[]);
        for (app, file) in [("witness", NAME)].iter().chain(bindings) {
            text += &manifest::file_binding(app, SECRET, &stage.on(app), file, "none");
        }
        stage.keywheel.apply(&text)?;
        stage.wait_current(SECRET, 1)?;
        let witness = stage.run("witness", &[], "/bin/app-idle")?;
        let values = vec![stage.value_in(&witness)?];
        let unseal_key = stage.keywheel.unseal_key();
        // What runs near a container must not be replaced through it either (CVE-2019-5736).
        let (nsjoin, runtime) = (binary("keywheel-nsjoin")?, binary("keywheel-runtime")?);
        let census = Census::take(&[
            &bait,
            &unseal_key,
            &nsjoin,
            &runtime,
            "/etc/passwd".as_ref(),
            "/etc/group".as_ref(),
        ])?;
        Ok(Self {
            witness,
            stage,
            census,
            values,
        })
    }

    /// Gives more labels the secret, each with a binding of its own.
    pub(crate) fn bind(&self, bindings: &[(&str, &str)]) -> Result<()> {
        let text = bindings.iter().map(|(app, file)| {
            manifest::file_binding(app, SECRET, &self.stage.on(app), file, "none")
        });
        self.stage.keywheel.apply(&text.collect::<String>())?;
        Ok(())
    }

    /// The variable that tells an attack where the host's files are.
    pub(crate) fn bait(&self) -> String {
        let bait = self.stage.keywheel.scratch().join("bait");
        format!("BAIT={}", bait.display())
    }

    /// The value that is current.
    pub(crate) fn value(&self) -> &str {
        self.values.last().map_or("", String::as_str)
    }

    /// A container that the runtime does not know, with a label; the start event serves it.
    pub(crate) fn run_plain(&self, app: &str, flags: &[&str]) -> Result<Container> {
        let label = format!("app={app}");
        let words = [&["--label", &label], flags].concat();
        Container::run(&self.stage.image, &words, &["/bin/app-idle"])
    }

    /// Rotates to the end: the witness and whoever else is a consumer has the new value then.
    pub(crate) fn rotate(&mut self) -> Result<()> {
        self.stage.rotate(SECRET)?;
        self.take_value()
    }

    /// Rotates until the witness has the new value; others may be waited for yet.
    pub(crate) fn begin_rotation(&mut self) -> Result<()> {
        self.stage.keywheel.json(&["rotate", SECRET])?;
        let before = self.value().to_owned();
        wait::until_true("the new value in the witness", PATIENCE, || {
            Ok(self.stage.value_in(&self.witness)? != before)
        })?;
        self.take_value()
    }

    /// Rotates to the end, once the rotation before has come to its own.
    pub(crate) fn rotate_again(&mut self) -> Result<()> {
        wait::until_true("the rotation before to end", PATIENCE, || {
            let said = self.stage.keywheel.cli(&["rotate", SECRET, "--wait"])?;
            Ok(said.code == 0)
        })?;
        self.take_value()
    }

    /// One more value that the canary looks for.
    pub(crate) fn keep(&mut self, value: String) {
        self.values.insert(0, value);
    }

    fn take_value(&mut self) -> Result<()> {
        let value = self.stage.value_in(&self.witness)?;
        ensure!(
            !self.values.contains(&value),
            "the witness was not reached by a rotation"
        );
        self.values.push(value);
        Ok(())
    }

    /// Waits until a container has the current value.
    pub(crate) fn wait_served(&self, container: &Container, path: &str) -> Result<()> {
        let what = format!("the current value in {}", container.name());
        wait::until_true(
            &what,
            PATIENCE,
            || Ok(container.peek(path)? == self.value()),
        )
    }

    /// Waits until a container is refused its file for a reason with these words.
    pub(crate) fn wait_refused(&self, container: &Container, words: &str) -> Result<()> {
        let what = format!("{} refused with `{words}`", container.name());
        wait::until_true(&what, PATIENCE, || {
            let row = self.row(container.id())?.context("it is no consumer")?;
            let reason = row.get("reason").and_then(Value::as_str);
            Ok(reason.is_some_and(|reason| reason.contains(words)))
        })
    }

    /// What is known of a container as a consumer.
    pub(crate) fn row(&self, id: &str) -> Result<Option<Value>> {
        let said = self.stage.keywheel.json(&["consumers"])?;
        let is_its = |row: &&Value| row.get("container").and_then(Value::as_str) == Some(id);
        Ok(items(&said).into_iter().find(is_its).cloned())
    }

    /// Waits until nothing on the host speaks of a container any more.
    pub(crate) fn wait_left(&self, id: &str) -> Result<()> {
        let run = self.stage.keywheel.run_dir();
        let state = run.join("state").join(format!("{id}.json"));
        wait::until_true(&format!("the state of {id} to go"), PATIENCE, || {
            Ok(!state.exists() && self.row(id)?.is_none())
        })?;
        no_bundle(&run.join("bundles"))?;
        no_secret_mount()
    }

    /// The census, and the canary in containers that go before the scene ends.
    pub(crate) fn check(&self, containers: &[&Container]) -> Result<()> {
        self.census.check()?;
        no_bundle(&self.stage.keywheel.run_dir().join("bundles"))?;
        no_secret_mount()?;
        let values = self.values.iter().map(|value| value.clone().into_bytes());
        let values: Vec<Vec<u8>> = values.collect();
        for container in containers {
            places::assert_container_clean(&values, container)?;
        }
        Ok(())
    }

    /// The same, and everything that ends every test.
    pub(crate) fn end(&self, containers: &[&Container]) -> Result<()> {
        self.check(&[])?;
        let all = [&[&self.witness], containers].concat();
        self.stage.finish(&self.values, &all)
    }
}

/// A private bundle may hold values; it goes with the create that it is for.
fn no_bundle(bundles: &Path) -> Result<()> {
    let left: Vec<_> = fs::read_dir(bundles)?.flatten().collect();
    ensure!(left.is_empty(), "private bundles are left: {left:?}");
    Ok(())
}

/// No secret file system is in the host's own mount table.
fn no_secret_mount() -> Result<()> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    let seen: Vec<&str> = table.lines().filter(|line| line.contains(SOURCE)).collect();
    ensure!(seen.is_empty(), "the host has {seen:?}");
    Ok(())
}
