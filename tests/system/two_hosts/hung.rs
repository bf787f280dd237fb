//! A runtime that stands still for good in the middle of a create, while everything else goes on: nobody has to
//! end it. It takes two minutes until somebody does, so it begins before another test's story and ends after it.

use std::fs;
use std::process::{Child, Stdio};

use anyhow::{Result, ensure};
use keywheel_tests::docker::Container;
use keywheel_tests::fleet::Fleet;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, wait_current};
use keywheel_tests::{manifest, wait};

/// The step at which the private bundle has values and the real runtime does not run yet.
const STEP: &str = "runtime.after_config=stop\n";

/// A container whose start is under way and does not go on.
pub(super) struct Hung {
    container: Container,
    starting: Child,
    host: usize,
}

impl Hung {
    /// Begins a start on a host.
    pub(super) fn begin(fleet: &mut Fleet, host: usize) -> Result<Self> {
        let machine = fleet.machine(host)?;
        let on = machine.on("hung");
        let binding = manifest::file_binding("hung", SECRET, &on, "db_password", "none");
        fleet
            .keywheel
            .apply(&(manifest::secret(SECRET, &[]) + &binding))?;
        wait_current(&fleet.keywheel, SECRET, 1)?;
        fleet.keywheel.wait_plans()?;
        let flags = ["--runtime", &machine.runtime, "--label", "app=hung"];
        let container = Container::create(&machine.image, &flags, &["/bin/app-idle"])?;
        let armed = fleet.apart()?.daemon(host)?.failpoints();
        fs::write(&armed, STEP)?;
        let mut start = container.engine().command(&["start", container.id()]);
        start.stdin(Stdio::null()).stdout(Stdio::null());
        let starting = start.stderr(Stdio::null()).spawn()?;
        wait::until_true("a runtime that stands still", PATIENCE, || {
            Ok(!armed.exists())
        })?;
        Ok(Self {
            container,
            starting,
            host,
        })
    }

    /// The start ends by itself, as a failure; nothing of it is left, and the next one is a whole one.
    pub(super) fn end(self, fleet: &mut Fleet) -> Result<(Container, String)> {
        let Self {
            container,
            mut starting,
            host,
        } = self;
        let ended = wait::until("the start to end by itself", PATIENCE, || {
            Ok(starting.try_wait()?)
        })?;
        ensure!(!ended.success(), "it started");
        ensure!(container.field("{{.State.Running}}")? == "false");
        let bundles = fleet.apart()?.run_dir(host).join("bundles");
        wait::until_true("the private bundle to go", PATIENCE, || {
            Ok(fs::read_dir(&bundles)?.next().is_none())
        })?;
        let words = ["start", container.id()];
        container.engine().docker(&words)?.ok()?;
        let value = container.peek(FILE)?;
        Ok((container, value))
    }
}
