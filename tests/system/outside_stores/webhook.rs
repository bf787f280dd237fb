//! A value that a receiver of a person's own accepts: one of the examples, all the way from a manifest to a
//! container.

use anyhow::{Result, ensure};
use keywheel_tests::docker::Container;
use keywheel_tests::keywheel::Options;
use keywheel_tests::manifest;
use keywheel_tests::receiver::{KEY, Receiver};
use keywheel_tests::stage::Stage;

use crate::scene::give;

const HOOKED: &str = "test/hooked";
const HOOK_KEY: &str = "test/hook-key";
const ACCOUNT: &str = "stripe";
const ROTATIONS: u32 = 2;

/// How `up` is started where this receiver is asked.
pub(crate) fn options(receiver: &Receiver) -> Options {
    Options {
        environment: vec![receiver.allowed()],
        ..Options::default()
    }
}

fn secret(receiver: &Receiver) -> String {
    let place = receiver.place();
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {HOOKED} }}\nspec:\n  generator: {{}}\n  \
         rotator:\n    type: webhook\n    connection: \"http://{place}/stripe\"\n    account: {ACCOUNT}\n    \
         adminSecret: {HOOK_KEY}\n    strategy: dualPassword\n---\n"
    )
}

/// After each rotation it accepts what the container has and nothing else, and nothing after a revocation. Gives
/// the container and what there was of values.
pub(crate) fn check(stage: &Stage, receiver: &Receiver) -> Result<(Container, Vec<String>)> {
    let keywheel = &stage.keywheel;
    let place = format!("webhook://{}", receiver.place());
    give(keywheel, HOOK_KEY, &place, KEY)?;
    let on = stage.on("hooked");
    let reload = "{ signal: HUP }";
    let file = manifest::file_binding("hooked-file", HOOKED, &on, "db_password", reload);
    keywheel.apply(&(secret(receiver) + &file))?;
    stage.rotate(HOOKED)?;
    stage.wait_current(HOOKED, 1)?;
    let container = stage.run("hooked", &[], "/bin/app-file")?;
    let mut before = stage.value_soon_in(&container)?;
    ensure!(
        receiver.accepted(ACCOUNT)? == [before.as_str()],
        "something else is accepted than the container has"
    );
    let mut values = vec![KEY.to_owned(), before.clone()];
    for _ in 0..ROTATIONS {
        stage.rotate(HOOKED)?;
        let after = stage.value_in(&container)?;
        ensure!(after != before, "the container has the old value");
        ensure!(
            receiver.accepted(ACCOUNT)? == [after.as_str()],
            "something else is accepted than the container has"
        );
        values.push(after.clone());
        before = after;
    }
    let revoked = ["revoke", HOOKED, "--reason", "drill", "--yes", "--wait"];
    keywheel.cli(&revoked)?.ok()?;
    let accepted = receiver.accepted(ACCOUNT)?;
    ensure!(
        accepted.is_empty(),
        "{} values are accepted",
        accepted.len()
    );
    Ok((container, values))
}
