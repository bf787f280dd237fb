//! Alert rules, judged by Prometheus' own tool: their form, and for each alert an example that fires
//! and one that does not.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::metrics::promtool;
use keywheel_tests::output::Output;
use keywheel_tests::scratch::root;

fn judge(words: &[&str], file: &str) -> Result<Output> {
    let path = root().join("deploy/prometheus").join(file);
    let mut command = promtool(words)?;
    command.arg(path);
    Output::of(&mut command).context("promtool is missing: ./tests/run.sh unpacks it")
}

#[test]
fn prometheus_takes_the_rules_and_each_alert_fires_when_it_says_and_not_else() -> Result<()> {
    judge(&["check", "rules"], "keywheel.rules.yml")?.ok()?;
    let said = judge(&["test", "rules"], "keywheel.test.yml")?.ok()?;
    ensure!(said.said().contains("SUCCESS"), "{}", said.said());
    Ok(())
}
