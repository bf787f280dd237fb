//! The usual stage of a system test: a server, an image, a runtime, and the
//! questions every test asks.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::docker::{Container, Image};
use crate::keywheel::{Keywheel, Options};
use crate::manifest::{self, Selector};
use crate::places;
use crate::wait;

/// The secret most tests rotate.
pub const SECRET: &str = "test/db-password";
/// Where its file is inside a container.
pub const FILE: &str = "/run/secrets/db_password";
/// What a rotation is refused with while another one is under way.
const STILL_OPEN: &str = "is still open; `keywheel describe rotation";
/// How long a rotation may take in a test.
pub const PATIENCE: Duration = wait::PATIENCE;

/// A server with an image and a runtime. Fields drop in order: the containers
/// of a test are declared after it and so go first.
#[derive(Debug)]
pub struct Stage {
    /// The server.
    pub keywheel: Keywheel,
    /// The image all its containers are made from.
    pub image: Image,
    /// The runtime's name in Docker.
    pub runtime: String,
    /// The host's name.
    pub host: String,
}

impl Stage {
    /// Sets it.
    pub fn set() -> Result<Self> {
        Self::set_with(&Options::default())
    }

    /// Sets it with options for `up`.
    pub fn set_with(options: &Options) -> Result<Self> {
        Self::around(Keywheel::start_with(options)?)
    }

    /// Sets it around a server that runs.
    pub fn around(mut keywheel: Keywheel) -> Result<Self> {
        let runtime = keywheel.register_runtime()?;
        let host = keywheel.host()?;
        Ok(Self {
            keywheel,
            image: Image::build()?,
            runtime,
            host,
        })
    }

    /// Containers with this label, from the stage's image, on its host.
    #[must_use]
    pub fn on<'a>(&'a self, app: &'a str) -> Selector<'a> {
        Selector {
            host: &self.host,
            image: self.image.digest(),
            app,
        }
    }

    /// Applies the usual secret with a file binding.
    pub fn apply_file(&self, app: &str, reload: &str) -> Result<()> {
        let binding =
            manifest::file_binding("test-file", SECRET, &self.on(app), "db_password", reload);
        self.keywheel
            .apply(&(manifest::secret(SECRET, &[]) + &binding))?;
        self.wait_current(SECRET, 1)
    }

    /// Runs a container under the runtime.
    pub fn run(&self, app: &str, flags: &[&str], program: &str) -> Result<Container> {
        let label = format!("app={app}");
        let words = [&["--runtime", &self.runtime, "--label", &label], flags].concat();
        Container::run(&self.image, &words, &[program])
    }

    /// Waits until the secret's current version is at least this, and the host knows it.
    pub fn wait_current(&self, secret: &str, version: u64) -> Result<()> {
        wait_current(&self.keywheel, secret, version)?;
        self.keywheel.wait_plans()
    }

    /// Rotates, waits, and returns the answer.
    pub fn rotate(&self, secret: &str) -> Result<Value> {
        rotate(&self.keywheel, secret)
    }

    /// The value as the container sees it.
    pub fn value_in(&self, container: &Container) -> Result<String> {
        container
            .read(FILE)?
            .context("the file is not in the container")
    }

    /// The value as soon as the container has one: no rotation waits for a container that held nothing
    /// when its version became current.
    pub fn value_soon_in(&self, container: &Container) -> Result<String> {
        wait::until("a value", PATIENCE, || container.read(FILE))
    }

    /// The canary of rule C1, and the two verifications that end every test.
    pub fn finish(&self, plaintexts: &[String], containers: &[&Container]) -> Result<()> {
        finish(&self.keywheel, plaintexts, containers)
    }
}

/// The two verifications that end every test, and the canary of rule C1.
pub fn finish(keywheel: &Keywheel, plaintexts: &[String], containers: &[&Container]) -> Result<()> {
    keywheel.json(&["journal", "verify"])?;
    let audit = keywheel.json(&["audit", "verify"])?;
    ensure!(
        audit.get("verified") == Some(&Value::Bool(true)),
        "the audit does not verify: {audit}"
    );
    let bytes: Vec<Vec<u8>> = plaintexts
        .iter()
        .map(|text| text.clone().into_bytes())
        .collect();
    places::assert_clean(&bytes, keywheel, containers)
}

/// The number of the version that is current; 0 when there is none.
pub fn current(keywheel: &Keywheel, secret: &str) -> Result<u64> {
    let said = keywheel.json(&["get", "secret", secret])?;
    Ok(find(&said, "current").and_then(Value::as_u64).unwrap_or(0))
}

/// Rotates, waits, and returns the answer. The rotation before, such as that of the first version, may come to
/// its end a moment after its version is current.
pub fn rotate(keywheel: &Keywheel, secret: &str) -> Result<Value> {
    let said = wait::until("the rotation before to end", PATIENCE, || {
        let said = keywheel.cli(&["rotate", secret, "--wait", "-o", "json"])?;
        Ok((!said.said().contains(STILL_OPEN)).then_some(said))
    })?;
    said.ok()?.json()
}

/// Waits until the current version is at least this.
pub fn wait_current(keywheel: &Keywheel, secret: &str, version: u64) -> Result<()> {
    wait::until_true(&format!("{secret} at version {version}"), PATIENCE, || {
        Ok(current(keywheel, secret)? >= version)
    })
}

/// The first value under this key, at any depth.
#[must_use]
pub fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields
            .get(key)
            .or_else(|| fields.values().find_map(|inner| find(inner, key))),
        Value::Array(items) => items.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}

/// The objects of a list answer, whether it is bare or wrapped in an object.
#[must_use]
pub fn items(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields
            .values()
            .find_map(Value::as_array)
            .into_iter()
            .flatten()
            .collect(),
        _ => Vec::new(),
    }
}
