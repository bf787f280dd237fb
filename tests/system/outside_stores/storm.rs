//! AWS's API is away while `up` is killed and starts again: containers start on the encrypted cache, and
//! when it is back with two of three fields changed, each container that shows one of them restarts once.

use anyhow::{Result, ensure};
use keywheel_testkit::server::aws::{AwsServer, Maker};
use keywheel_testkit::server::fault::FaultProxy;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::Options;
use keywheel_tests::stage::{PATIENCE, Stage, wait_current};
use keywheel_tests::{manifest, wait};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::aws::{create, put_value, store};
use crate::scene::{events, give, refreshed, secret, variable};

/// What the servers take for the secret access key; they check none.
const KEY: &str = "secret-access-key-of-a-test-e7a2";
/// The secret there, in whose fields ours lie.
const THERE: &str = "prod/all";
/// Fields, each a secret of ours.
const FIELDS: [&str; 3] = ["one", "two", "three"];
/// Applications, and the field that each shows.
const APPS: [(&str, &str); 7] = [
    ("one-a", "one"),
    ("one-b", "one"),
    ("two-a", "two"),
    ("two-b", "two"),
    ("three-a", "three"),
    ("both", "one"),
    ("late", "one"),
];
/// Shows a second field besides.
const BOTH: &str = "both";
/// Starts while the store is away.
const LATE: &str = "late";

fn name_of(field: &str) -> String {
    format!("test/{field}")
}

fn apply(stage: &Stage, endpoint: &str) -> Result<()> {
    give(&stage.keywheel, "keywheel/aws", endpoint, KEY)?;
    let mut all = store(endpoint, "{ secret: keywheel/aws }");
    for field in FIELDS {
        all += &secret(&name_of(field), "aws", THERE, field, "");
    }
    let restart = "{ restart: { settle: 1s } }";
    for (app, field) in APPS {
        let name = name_of(field);
        all += &manifest::env_binding(app, &name, &stage.on(app), "API_TOKEN", restart);
    }
    let on = stage.on(BOTH);
    all += &manifest::env_binding("second", "test/two", &on, "SECOND_TOKEN", restart);
    stage.keywheel.apply(&all)?;
    for field in FIELDS {
        wait_current(&stage.keywheel, &name_of(field), 1)?;
    }
    stage.keywheel.wait_plans()
}

/// Each is a service of its own, so that no restart waits for another one.
fn run(stage: &Stage, (app, field): (&str, &str)) -> Result<Container> {
    let service = format!("com.docker.compose.service={app}");
    let token = format!("API_TOKEN={{keywheel:{}}}", name_of(field));
    let mut flags = vec!["--label", &service, "-e", &token];
    if app == BOTH {
        flags.extend(["-e", "SECOND_TOKEN={keywheel:test/two}"]);
    }
    stage.run(app, &flags, "/bin/app-env")
}

/// How often it was started with a value: its program says so each time.
fn starts(container: &Container) -> Result<usize> {
    Ok(container
        .logs()?
        .lines()
        .filter(|line| *line == "set")
        .count())
}

/// Waits until its program has said so that often: it does a moment after its start.
fn wait_starts(container: &Container, times: usize) -> Result<()> {
    wait::until_true("a start to be said", PATIENCE, || {
        Ok(starts(container)? >= times)
    })
}

#[test]
fn aws_away_over_a_restart_comes_back_with_one_restart_for_each_consumer() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let server = AwsServer::start(Maker::Moto);
    let runtime = Runtime::new()?;
    let mut proxy = runtime.block_on(FaultProxy::before(server.address()));
    let mut stage = Stage::set_with(&Options::default())?;
    let before = ["storm-one-1-73fa", "storm-two-1-0d2b", "storm-three-64e9"];
    let after = ["storm-one-2-c85d", "storm-two-2-9b17", before[2]];
    create(&server, THERE, &whole(before).to_string())?;
    apply(&stage, &proxy.url())?;
    let mut containers = Vec::new();
    for app in APPS.into_iter().filter(|(app, _)| *app != LATE) {
        containers.push((app, run(&stage, app)?));
    }

    runtime.block_on(proxy.refuse());
    wait_contact(&stage, "store.went_stale")?;
    stage.keywheel.restart(&Options::default())?;
    let late = (LATE, "one");
    containers.push((late, run(&stage, late)?));
    for ((app, field), container) in &containers {
        let shown = variable(container)?;
        wait_starts(container, 1)?;
        ensure!(
            shown == value(before, field) && starts(container)? == 1,
            "{app} shows {shown}"
        );
    }
    ensure!(events(&stage.keywheel, "store.recovered")?.is_empty());

    put_value(&server, THERE, &whole(after).to_string())?;
    runtime.block_on(proxy.listen());
    stage.keywheel.json(&["refresh", "--wait"])?;
    wait_contact(&stage, "store.recovered")?;
    for ((app, field), container) in &containers {
        let what = format!("the value of {app}");
        wait::until_true(&what, PATIENCE, || {
            Ok(variable(container)? == value(after, field))
        })?;
    }
    let second = |value: &str| Some(value.to_owned());
    let (_, both) = &containers[5];
    wait::until_true("the second value", PATIENCE, || {
        Ok(both.variable("SECOND_TOKEN")? == second(after[1]))
    })?;
    let answer = stage.keywheel.json(&["refresh", "--wait"])?;
    for field in FIELDS {
        ensure!(
            refreshed(&answer, &name_of(field))? == "unchanged",
            "{answer}"
        );
    }
    all_started_as_often_as_their_values_changed(&containers)?;
    let values = [&before[..], &after[..2], &[KEY]].concat();
    let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
    let all: Vec<&Container> = containers.iter().map(|(_, container)| container).collect();
    stage.finish(&values, &all)
}

fn all_started_as_often_as_their_values_changed(
    containers: &[((&str, &str), Container)],
) -> Result<()> {
    for ((app, field), container) in containers {
        let expected = match (*app, *field) {
            // Both of its values changed, and the second may come when the first restarted it already.
            (BOTH, _) => 2..=3,
            (_, "three") => 1..=1,
            _ => 2..=2,
        };
        wait_starts(container, *expected.start())?;
        let starts = starts(container)?;
        ensure!(
            expected.contains(&starts),
            "{app} was started {starts} times"
        );
    }
    Ok(())
}

fn whole([one, two, three]: [&str; 3]) -> Value {
    json!({ "one": one, "two": two, "three": three })
}

fn value<'v>(values: [&'v str; 3], field: &str) -> &'v str {
    let number = FIELDS.iter().position(|known| *known == field);
    number.and_then(|number| values.get(number)).unwrap_or(&"")
}

/// The log says it.
fn wait_contact(stage: &Stage, kind: &str) -> Result<()> {
    wait::until_true(kind, PATIENCE, || {
        Ok(!events(&stage.keywheel, kind)?.is_empty())
    })
}
