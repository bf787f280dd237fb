//! A secret that rotates after another one has.

use anyhow::{Result, ensure};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::manifest;
use keywheel_tests::stage;

const CA: &str = "test/ca";
const APP: &str = "test/app";

fn following(name: &str, other: &str) -> String {
    let when = format!("event.secret == \"{other}\" && event.data.outcome == \"completed\"");
    let rule = format!("type: dev.keywheel.rotation.closed.v1, when: '{when}', holdOff: 1s");
    manifest::secret(name, &[&format!("rotation: {{ onEvent: [{{ {rule} }}] }}")])
}

#[test]
fn a_secret_rotates_after_the_one_it_follows_once_each_and_over_a_restart() -> Result<()> {
    let options = Options::default();
    let mut keywheel = Keywheel::start_with(&options)?;
    let refused = keywheel.try_apply(&following(CA, CA))?;
    ensure!(
        refused.said().contains("would never come to rest"),
        "a rule on its own rotation is taken: {}",
        refused.said()
    );
    keywheel.apply(&(manifest::secret(CA, &[]) + &manifest::secret(APP, &[])))?;
    // Whatever their first versions led to is over before either follows the other.
    for name in [CA, APP] {
        stage::rotate(&keywheel, name)?;
    }
    keywheel.apply(&(following(CA, APP) + &following(APP, CA)))?;
    let said = keywheel.cli(&["schedule", "next", APP])?;
    ensure!(
        said.said()
            .contains("on event dev.keywheel.rotation.closed.v1 when event.secret == \"test/ca\""),
        "the rule is not said: {}",
        said.said()
    );
    stage::rotate(&keywheel, CA)?;
    stage::wait_current(&keywheel, APP, 3)?;
    keywheel.restart(&options)?;
    stage::rotate(&keywheel, CA)?;
    stage::wait_current(&keywheel, APP, 4)?;
    // A circle or a replay would have made more of them.
    for name in [CA, APP] {
        let version = stage::current(&keywheel, name)?;
        ensure!(version == 4, "{name} has version {version}");
    }
    keywheel.json(&["journal", "verify"])?;
    Ok(())
}
