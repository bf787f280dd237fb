//! Two gateways, two schedulers and several store-syncs over one PostgreSQL server and one bus server,
//! with an audit sink and one host: the harness's deployment, asked through either gateway.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use keywheel_tests::apart::{self, Role, Shape};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::output::Output;
use keywheel_tests::process::Process;
use keywheel_tests::scratch::unique;
use keywheel_tests::wait;
use serde_json::Value;

/// How long anything may take that is awaited.
pub(crate) const PATIENCE: Duration = wait::PATIENCE;
/// The one host.
pub(crate) const HOST: &str = apart::HOST;

/// All of it.
pub(crate) struct Deployment {
    pub(crate) keywheel: Keywheel,
}

impl Deployment {
    /// Makes keys and databases, starts everything, and waits until both gateways know the host.
    pub(crate) fn start(shape: Shape, environment: &[(&str, &str)]) -> Result<Self> {
        let environment = environment.iter();
        let environment =
            environment.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let options = Options {
            shape: Some(Shape {
                gateways: 2,
                schedulers: 2,
                database: true,
                ..shape
            }),
            environment: environment.collect(),
            ..Options::default()
        };
        let all = Self {
            keywheel: Keywheel::start_with(&options)?,
        };
        all.wait_ready(1)?;
        wait::until_true("the host at both gateways", PATIENCE, || {
            let known = |gateway| {
                let hosts = all.json(gateway, &["host", "list"])?;
                Ok::<_, anyhow::Error>(hosts.to_string().contains(HOST))
            };
            Ok(known(0)? && known(1)?)
        })?;
        Ok(all)
    }

    /// One process, to be started and killed.
    pub(crate) fn process(&mut self, role: Role, number: usize) -> Result<&mut Process> {
        self.keywheel.apart()?.process(role, number)
    }

    /// Starts one again, with these failpoints.
    pub(crate) fn begin_anew(&mut self, role: Role, number: usize, failpoints: &str) -> Result<()> {
        let process = self.process(role, number)?;
        process.stop()?;
        let points = ("KEYWHEEL_FAILPOINTS".to_owned(), failpoints.to_owned());
        process.set_environment(vec![points]);
        process.start()
    }

    /// Waits until a process wrote something.
    pub(crate) fn wait_for(&mut self, role: Role, number: usize, words: &str) -> Result<()> {
        let process = self.process(role, number)?;
        let what = format!("{} to say `{words}`", process.name());
        wait::until_true(&what, PATIENCE, || Ok(process.log().contains(words)))
    }

    /// Waits until a gateway answers.
    pub(crate) fn wait_ready(&self, gateway: usize) -> Result<()> {
        wait::until_true("a gateway to answer", PATIENCE, || {
            Ok(Output::of(&mut self.client(gateway, &["status"])?)?.code == 0)
        })
    }

    /// A client of one gateway, ready to be run.
    pub(crate) fn client(&self, gateway: usize, words: &[&str]) -> Result<Command> {
        let mut command = self.keywheel.client(words)?;
        if let Some(socket) = self.keywheel.gateway_socket(gateway) {
            command.env("KEYWHEEL_ADDRESS", format!("unix://{}", socket.display()));
        }
        Ok(command)
    }

    /// Runs a verb at one gateway; what it says is kept for the canary.
    pub(crate) fn cli(&self, gateway: usize, words: &[&str]) -> Result<Output> {
        self.keywheel.hear(&mut self.client(gateway, words)?)
    }

    /// Runs a verb that must succeed and gives its answer.
    pub(crate) fn json(&self, gateway: usize, words: &[&str]) -> Result<Value> {
        let words = [words, &["-o", "json"]].concat();
        self.cli(gateway, &words)?.ok()?.json()
    }

    /// Applies a manifest at one gateway.
    pub(crate) fn apply(&self, gateway: usize, yaml: &str) -> Result<Output> {
        let path = self.keywheel.scratch().write(&unique("manifest"), yaml)?;
        self.cli(gateway, &["apply", "-f", &path.display().to_string()])
    }

    /// Sends the first gateway a signal.
    pub(crate) fn signal_gateway(&self, signal: &str) -> Result<()> {
        let pid = self.keywheel.pid().context("the gateway does not run")?;
        Output::of(Command::new("kill").args([signal, &pid.to_string()]))?.ok()?;
        Ok(())
    }
}
