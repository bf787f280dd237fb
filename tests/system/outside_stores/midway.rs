//! With every service a process of its own, and a collector that is told of all: what nobody asked for
//! is one trace too, and a rotation that is under way when its store dies and store-sync is killed ends
//! in the trace in which it began. Meanwhile containers start on the encrypted cache.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::fault::{Fault, FaultProxy};
use keywheel_testkit::server::openbao::OpenBao;
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker;
use keywheel_tests::keywheel::Options;
use keywheel_tests::spans::{self, Span};
use keywheel_tests::stage::{PATIENCE, SECRET, Stage, wait_current};
use keywheel_tests::{manifest, wait};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::scene::{
    KEY, PATH, PLACEHOLDER, STORE, TOKEN, give, make_token, secret, variable, vault,
};

/// What a schedule rotates.
const CRON: &str = "test/cron";
/// The write that makes a value of ours current there.
const WRITE: &str = "PATCH /v1/secret/data/app/db";
/// After so many failures a step is left alone for four seconds.
const FAILURES: &str = "3";

/// A variable changed at the store; `service span < the one above`.
const LOOKED: [&str; 20] = [
    "keywheel-store-sync look < ",
    "keywheel-gateway gateway/submit < look",
    "keywheel-gateway rotation < gateway/submit",
    "keywheel-store-sync create work.store-sync < rotation",
    "keywheel-gateway gateway/submit < create work.store-sync",
    "keywheel-store-sync set work.store-sync < rotation",
    "keywheel-gateway gateway/submit < set work.store-sync",
    "keywheel-store-sync test work.store-sync < rotation",
    "keywheel-gateway gateway/submit < test work.store-sync",
    "keywheel-store-sync finish work.store-sync < rotation",
    "keywheel-gateway gateway/submit < finish work.store-sync",
    "keywheel-injector restart < rotation",
    "keywheel-injector gateway/submit < rotation",
    "keywheel-gateway gateway/submit < gateway/submit",
    "keywheel-store-sync revoke_old work.store-sync < rotation",
    "keywheel-gateway gateway/submit < revoke_old work.store-sync",
    "keywheel-injector store-sync/open_value < rotation",
    "keywheel-store-sync store-sync/open_value < store-sync/open_value",
    "keywheel-gateway gateway/grant < store-sync/open_value",
    "keywheel-audit-sink keep audit < gateway/submit",
];

/// A schedule's slot came, with a version before it and no consumer.
const TIMED: [&str; 14] = [
    "keywheel-scheduler timer < ",
    "keywheel-gateway gateway/submit < timer",
    "keywheel-gateway rotation < gateway/submit",
    "keywheel-store-sync create work.store-sync < rotation",
    "keywheel-gateway gateway/submit < create work.store-sync",
    "keywheel-store-sync set work.store-sync < rotation",
    "keywheel-gateway gateway/submit < set work.store-sync",
    "keywheel-store-sync test work.store-sync < rotation",
    "keywheel-gateway gateway/submit < test work.store-sync",
    "keywheel-store-sync finish work.store-sync < rotation",
    "keywheel-gateway gateway/submit < finish work.store-sync",
    "keywheel-store-sync revoke_old work.store-sync < rotation",
    "keywheel-gateway gateway/submit < revoke_old work.store-sync",
    "keywheel-audit-sink keep audit < gateway/submit",
];

/// The deployment, its store, and what stands between them. The proxy lives in the runtime.
struct Midway {
    stage: Stage,
    bao: OpenBao,
    proxy: FaultProxy,
    _runtime: Runtime,
}

impl Midway {
    fn set() -> Result<Self> {
        let bao = OpenBao::start_kept();
        make_token(&bao);
        let runtime = Runtime::new()?;
        let proxy = runtime.block_on(FaultProxy::before(bao.address()));
        let shape = Shape {
            collector: true,
            ..Shape::default()
        };
        let stage = Stage::set_with(&Options {
            shape: Some(shape),
            ..Options::default()
        })?;
        Ok(Self {
            stage,
            bao,
            proxy,
            _runtime: runtime,
        })
    }

    /// One secret that we make and one that is followed, in files and variables of two applications.
    fn apply(&self) -> Result<()> {
        let keywheel = &self.stage.keywheel;
        give(keywheel, "keywheel/openbao", &self.proxy.url(), KEY)?;
        let auth = "token: { secret: keywheel/openbao }";
        let mut all = vec![
            vault(STORE, &self.proxy.url(), auth, "1s"),
            secret(
                SECRET,
                STORE,
                PATH,
                "password",
                "  generator: { length: 32 }\n",
            ),
            secret(TOKEN, STORE, PATH, "token", ""),
            manifest::secret(
                CRON,
                &["rotation: { schedule: \"*/2 * * * * *\", timezone: UTC }"],
            ),
        ];
        for app in ["early", "late"] {
            let on = self.stage.on(app);
            let (file, variable) = (format!("{app}-file"), format!("{app}-env"));
            let restart = "{ restart: { settle: 1s } }";
            all.push(manifest::file_binding(
                &file,
                SECRET,
                &on,
                "db_password",
                "none",
            ));
            all.push(manifest::env_binding(
                &variable,
                TOKEN,
                &on,
                "API_TOKEN",
                restart,
            ));
        }
        keywheel.apply(&all.concat())?;
        self.stage.wait_current(SECRET, 1)?;
        self.stage.wait_current(TOKEN, 1)
    }

    fn write(&self, password: &str, token: &str) {
        let body = json!({ "data": { "password": password, "token": token } }).to_string();
        self.bao
            .must("POST", &format!("secret/data/{PATH}"), &[], &body);
    }

    /// Our value there, and its version.
    fn there(&self) -> Result<(String, u64)> {
        let answer = self
            .bao
            .must("GET", &format!("secret/data/{PATH}"), &[], "");
        let answer: Value = serde_json::from_str(&answer)?;
        let password = answer["data"]["data"]["password"].as_str();
        let version = answer["data"]["metadata"]["version"].as_u64();
        Ok((
            password.context("no password")?.to_owned(),
            version.context("no version")?,
        ))
    }

    fn spans(&self) -> Result<Vec<Span>> {
        spans::read(&self.stage.keywheel.collector_log()?)
    }

    /// Dies with a write that is done there and not answered; nothing is under way afterwards but a
    /// step that waits.
    fn die_within_a_rotation(&mut self) -> Result<String> {
        let (_, before) = self.there()?;
        self.proxy.on(WRITE, Fault::Withhold, 1);
        let rotation = self.stage.keywheel.json(&["rotate", SECRET])?;
        let rotation = rotation["rotation_id"]
            .as_str()
            .context("no id")?
            .to_owned();
        wait::until_true("the write to be done there", PATIENCE, || {
            Ok(self.there()?.1 == before + 1)
        })?;
        self.bao.kill();
        wait::until_true("the step to fail again and again", PATIENCE, || {
            let spans = self.spans()?;
            let mut steps = spans.iter().filter(|span| is_step(span, &rotation));
            Ok(steps.any(|step| step.get("keywheel.attempt") == FAILURES && is_failed(step)))
        })?;
        Ok(rotation)
    }

    fn kill_store_sync(&mut self) -> Result<()> {
        let process = self.stage.keywheel.apart()?.process(Role::StoreSync, 0)?;
        process.kill9()?;
        process.start()?;
        process.wait_said("store-sync serves")
    }
}

fn is_step(span: &Span, rotation: &str) -> bool {
    span.name.ends_with(" work.store-sync") && span.get("keywheel.rotation.id") == rotation
}

fn is_failed(span: &Span) -> bool {
    span.status.contains("ERROR")
}

#[test]
fn a_rotation_under_way_outlives_its_store_and_store_sync_in_one_trace() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut midway = Midway::set()?;
    let [password, one, two] = [
        "midway-password-2c41",
        "midway-token-1-8f0e",
        "midway-token-2-b6d3",
    ];
    midway.write(password, one);
    midway.apply()?;
    let early = midway
        .stage
        .run("early", &["-e", PLACEHOLDER], "/bin/app-env")?;
    ensure!(midway.stage.value_in(&early)? == password && variable(&early)? == one);

    midway.write(password, two);
    wait::until_true("the new value in the variable", PATIENCE, || {
        Ok(variable(&early)? == two)
    })?;
    let log = midway.stage.keywheel.collector_log()?;
    let looked = spans::wait_for(&log, "look", &LOOKED)?;
    let look = looked.iter().find(|span| span.name == "look");
    let look = look.context("no look")?;
    ensure!(look.get("keywheel.secret.name") == TOKEN && look.get("keywheel.store.name") == STORE);
    spans::wait_for(&log, "timer", &TIMED)?;
    midway.stage.keywheel.apply(&manifest::secret(CRON, &[]))?;

    let (_, before) = midway.there()?;
    let rotation = midway.die_within_a_rotation()?;
    midway.kill_store_sync()?;
    let late = midway
        .stage
        .run("late", &["-e", PLACEHOLDER], "/bin/app-env")?;
    ensure!(
        midway.stage.value_in(&late)? == password,
        "a start is served from the cache"
    );
    ensure!(variable(&late)? == two, "also with a variable");

    midway.bao.start_again();
    midway.bao.unseal();
    wait_current(&midway.stage.keywheel, SECRET, 2)?;
    let (made, version) = midway.there()?;
    ensure!(
        made != password && version == before + 1,
        "what was written is not written again"
    );
    for container in [&early, &late] {
        wait::until_true("the value in the file", PATIENCE, || {
            Ok(midway.stage.value_in(container)? == made)
        })?;
    }
    went_on(&midway, &rotation)?;
    let values = [password, one, two, &made, KEY].map(str::to_owned);
    midway.stage.finish(&values, &[&early, &late])
}

/// One root, one rotation, and below it what one store-sync began and the next one ended.
fn went_on(midway: &Midway, rotation: &str) -> Result<()> {
    // Those of the gateway and of store-sync come each in their own time.
    let (own, whole) = wait::until("the spans of the rotation and of its end", PATIENCE, || {
        let spans = midway.spans()?;
        let is_it =
            |span: &&Span| span.name == "rotation" && span.get("keywheel.rotation.id") == rotation;
        let is_end = |span: &Span| {
            is_step(span, rotation) && span.get("messaging.operation.name") == "revoke_old"
        };
        let found = spans.iter().find(is_it).cloned();
        let found = found.filter(|_| spans.iter().any(is_end));
        Ok(found.map(|found| (found, spans)))
    })?;
    ensure!(own.get("keywheel.outcome") == "completed", "{own:?}");
    let trace: Vec<&Span> = whole
        .iter()
        .filter(|span| span.trace == own.trace)
        .collect();
    let roots = trace.iter().filter(|span| span.parent.is_empty());
    let roots: Vec<&str> = roots.map(|span| span.name.as_str()).collect();
    ensure!(roots == ["POST /v1/rotate"], "{roots:?}");
    let steps: Vec<&&Span> = trace
        .iter()
        .filter(|span| is_step(span, rotation))
        .collect();
    ensure!(steps.iter().all(|step| step.parent == own.id), "{steps:?}");
    let told = |is_wanted: &dyn Fn(&Span) -> bool| -> BTreeSet<(&str, &str)> {
        let wanted = steps.iter().filter(|step| is_wanted(step));
        wanted
            .map(|step| {
                (
                    step.get("messaging.operation.name"),
                    step.get("service.instance.id"),
                )
            })
            .collect()
    };
    let done = told(&|step| !is_failed(step));
    let failed = told(&|step| is_failed(step));
    let by = |word: &str| -> Vec<&str> {
        let of = done.iter().filter(|(step, _)| *step == word);
        of.map(|(_, instance)| *instance).collect()
    };
    let (begun, ended) = (by("create"), by("revoke_old"));
    ensure!(
        begun.len() == 1 && by("test") == begun && by("finish") == ended && begun != ended,
        "done {done:?}, failed {failed:?}"
    );
    ensure!(failed.contains(&("finish", begun[0])), "{failed:?}");
    Ok(())
}
