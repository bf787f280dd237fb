//! A stage of several hosts: a deployment apart, and for each host its engine, image and runtime.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::apart::{Apart, HOST, Role, Shape, numbered};
use crate::docker::{Container, Image};
use crate::engine::{self, Engine};
use crate::keywheel::{Keywheel, Options};
use crate::manifest::Selector;
use crate::process::Process;
use crate::stage;

/// One host as tests see it.
#[derive(Debug)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its engine.
    pub engine: Engine,
    /// The image its containers are made from.
    pub image: Image,
    /// The runtime's name in its engine.
    pub runtime: String,
}

impl Machine {
    /// Containers with this label, from its image, on it.
    #[must_use]
    pub fn on<'a>(&'a self, app: &'a str) -> Selector<'a> {
        Selector {
            host: &self.name,
            image: self.image.digest(),
            app,
        }
    }

    /// Runs a container under the runtime.
    pub fn run(&self, app: &str, flags: &[&str], program: &str) -> Result<Container> {
        let label = format!("app={app}");
        let words = [&["--runtime", &self.runtime, "--label", &label], flags].concat();
        Container::run(&self.image, &words, &[program])
    }
}

/// A deployment with its hosts. Images go before the engines they lie in; containers of a test are
/// declared after it and so go first.
#[derive(Debug)]
pub struct Fleet {
    /// The hosts.
    pub machines: Vec<Machine>,
    /// The deployment.
    pub keywheel: Keywheel,
}

impl Fleet {
    /// Sets it up.
    pub fn set(shape: Shape) -> Result<Self> {
        Self::set_with(shape, &Options::default())
    }

    /// The same with options for all processes.
    pub fn set_with(shape: Shape, options: &Options) -> Result<Self> {
        let (hosts, own_engines) = (shape.hosts, shape.own_engines);
        let options = Options {
            shape: Some(shape),
            ..options.clone()
        };
        let mut keywheel = Keywheel::start_with(&options)?;
        let mut machines = Vec::new();
        for host in 0..hosts {
            let runtime = if own_engines {
                engine::RUNTIME.to_owned()
            } else {
                keywheel.register_runtime()?
            };
            let engine = keywheel.apart()?.engine(host);
            machines.push(Machine {
                name: numbered(HOST, host),
                image: Image::build_on(&engine)?,
                engine,
                runtime,
            });
        }
        Ok(Self { machines, keywheel })
    }

    /// A host, counted from 0.
    pub fn machine(&self, number: usize) -> Result<&Machine> {
        self.machines.get(number).context("there is no such host")
    }

    /// The deployment's processes.
    pub fn apart(&mut self) -> Result<&mut Apart> {
        self.keywheel.apart()
    }

    /// One process, counted from 0.
    pub fn process(&mut self, role: Role, number: usize) -> Result<&mut Process> {
        self.apart()?.process(role, number)
    }

    /// What is known of one host.
    pub fn host(&self, name: &str) -> Result<Value> {
        self.keywheel.json(&["host", "describe", name])
    }

    /// Rotates, waits, and returns the answer.
    pub fn rotate(&self, secret: &str) -> Result<Value> {
        stage::rotate(&self.keywheel, secret)
    }

    /// A client command through another gateway's socket.
    pub fn json_at(&self, socket: &Path, args: &[&str]) -> Result<Value> {
        let words = [args, &["-o", "json"]].concat();
        let mut client = self.keywheel.client(&words)?;
        client.env("KEYWHEEL_ADDRESS", format!("unix://{}", socket.display()));
        self.keywheel.hear(&mut client)?.ok()?.json()
    }

    /// The canary of rule C1, and the two verifications that end every test.
    pub fn finish(&self, plaintexts: &[String], containers: &[&Container]) -> Result<()> {
        stage::finish(&self.keywheel, plaintexts, containers)
    }
}
