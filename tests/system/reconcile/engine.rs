//! The engine restarted without live-restore: its containers end with it, and those that it starts again have
//! what the plan says.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::apart::Shape;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::fleet::Fleet;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::stage::{FILE, SECRET};
use keywheel_tests::wait;

use super::{ALWAYS, PLACEHOLDER, TOKEN, bind, each_change_is_audited_once, values};

#[test]
fn after_a_restart_of_the_engine_everybody_has_what_the_plan_says() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut fleet = Fleet::set(Shape {
        own_engines: true,
        ..Shape::default()
    })?;
    let machine = fleet.machine(0)?;
    bind(&fleet, machine, "again")?;
    let flags = [&["-e", PLACEHOLDER][..], &ALWAYS].concat();
    let both = machine.run("again", &flags, "/bin/app-env")?;
    let first = values(&both)?;
    // Without the runtime it has the file alone.
    let label = [&["--label", "app=again"][..], &ALWAYS].concat();
    let plain = Container::run(&machine.image, &label, &["/bin/app-idle"])?;
    wait::until_true("the file", PATIENCE, || Ok(plain.peek(FILE)? == first[0]))?;
    let pids = [both.pid()?, plain.pid()?];

    let daemon = fleet.apart()?.daemon(0)?;
    daemon.process().stop()?;
    daemon.process().start()?;
    daemon.wait_ready()?;
    wait::until_true("both to be there again", PATIENCE, || {
        let now = [both.pid()?, plain.pid()?];
        let is_new = now.iter().zip(&pids).all(|(now, before)| now != before);
        Ok(is_new && values(&both)? == first && plain.peek(FILE)? == first[0])
    })?;
    for secret in [SECRET, TOKEN] {
        fleet.rotate(secret)?;
    }
    let second = values(&both)?;
    ensure!(first[0] != second[0] && first[1] != second[1]);
    wait::until_true("the new file", PATIENCE, || {
        Ok(plain.peek(FILE)? == second[0])
    })?;
    each_change_is_audited_once(&fleet.keywheel, &[both.id(), plain.id()])
        .context("after the restart")?;
    fleet.finish(&[first, second].concat(), &[&both, &plain])
}
