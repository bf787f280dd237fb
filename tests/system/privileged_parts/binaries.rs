//! The programs that run near containers, as they are shipped: static, so that nothing of the host or of a
//! container is loaded into them.

use std::process::Command;

use anyhow::{Result, ensure};
use keywheel_tests::output::Output;
use keywheel_tests::scratch::binary;

#[test]
fn helper_and_wrapper_are_static() -> Result<()> {
    for name in ["keywheel-nsjoin", "keywheel-runtime"] {
        let mut read = Command::new("readelf");
        read.args(["--wide", "--program-headers", "--dynamic"]);
        let said = Output::of(read.arg(binary(name)?))?.ok()?.stdout;
        ensure!(said.contains("LOAD"), "no program header of {name}: {said}");
        for word in ["INTERP", "(NEEDED)"] {
            ensure!(!said.contains(word), "{name} loads something: {said}");
        }
    }
    // A program that is not static is told apart.
    let mut read = Command::new("readelf");
    read.args(["--wide", "--program-headers"]);
    let said = Output::of(read.arg(binary("keywheel-injector")?))?.ok()?;
    ensure!(said.stdout.contains("INTERP"), "{}", said.stdout);
    Ok(())
}
