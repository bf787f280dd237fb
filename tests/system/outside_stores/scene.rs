//! A stage beside a real OpenBao, a person's hand at that, and manifests of what lies there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::openbao::OpenBao;
use keywheel_tests::apart::Shape;
use keywheel_tests::docker::Container;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::stage::{PATIENCE, SECRET, Stage};
use keywheel_tests::{manifest, metrics, wait};
use serde_json::{Value, json};

/// What the store is called.
pub(crate) const STORE: &str = "openbao";
/// Where both secrets lie in it.
pub(crate) const PATH: &str = "app/db";
/// The secret that an environment variable shows.
pub(crate) const TOKEN: &str = "test/api-token";
/// What the container is started with for it.
pub(crate) const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";
/// What opens the store; OpenBao's own first token stands in that server's arguments.
pub(crate) const KEY: &str = "store-token-of-a-test-5d19";
/// How health reaches a gateway: presence is told every ten seconds, and later on a busy machine.
pub(crate) const TOLD: Duration = PATIENCE;

/// A stage and an OpenBao.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) bao: OpenBao,
}

impl Scene {
    pub(crate) fn set(bao: OpenBao) -> Result<Self> {
        Self::set_with(bao, &Options::default())
    }

    pub(crate) fn set_with(bao: OpenBao, options: &Options) -> Result<Self> {
        make_token(&bao);
        let stage = Stage::set_with(options)?;
        Ok(Self { stage, bao })
    }

    /// Somebody else writes both fields; gives the version.
    pub(crate) fn write(&self, password: &str, token: &str) -> Result<u64> {
        let body = json!({ "data": { "password": password, "token": token } }).to_string();
        let path = format!("secret/data/{PATH}");
        let answer: Value = serde_json::from_str(&self.bao.must("POST", &path, &[], &body))?;
        answer["data"]["version"].as_u64().context("no version")
    }

    /// What is there: both fields, and the version.
    pub(crate) fn there(&self) -> Result<(String, String, u64)> {
        let path = format!("secret/data/{PATH}");
        let answer: Value = serde_json::from_str(&self.bao.must("GET", &path, &[], ""))?;
        let data = &answer["data"];
        let field = |name: &str| data["data"][name].as_str().map(str::to_owned);
        let version = data["metadata"]["version"].as_u64().context("no version")?;
        let password = field("password").context("no password")?;
        Ok((password, field("token").context("no token")?, version))
    }

    /// The store by a token in a file, looked at so often.
    pub(crate) fn store(&self, poll: &str) -> Result<String> {
        let token = credential(&self.stage.keywheel, "openbao-token", KEY)?;
        let auth = format!("token: {{ file: \"{}\" }}", token.display());
        Ok(vault(STORE, &self.address(), &auth, poll))
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.bao.address())
    }

    /// Declares the store, and both secrets there with a file and a variable bound to them.
    pub(crate) fn apply(&self, app: &str, poll: &str) -> Result<()> {
        let on = self.stage.on(app);
        let restart = "{ restart: { settle: 1s } }";
        let all = [
            self.store(poll)?,
            secret(SECRET, STORE, PATH, "password", ""),
            secret(TOKEN, STORE, PATH, "token", ""),
            manifest::file_binding("test-file", SECRET, &on, "db_password", "none"),
            manifest::env_binding("test-env", TOKEN, &on, "API_TOKEN", restart),
        ];
        self.stage.keywheel.apply(&all.concat())?;
        self.stage.wait_current(SECRET, 1)?;
        self.stage.wait_current(TOKEN, 1)
    }

    /// A container with both.
    pub(crate) fn run(&self, app: &str) -> Result<Container> {
        self.stage.run(app, &["-e", PLACEHOLDER], "/bin/app-env")
    }

    pub(crate) fn wait_value(&self, container: &Container, value: &str) -> Result<()> {
        wait::until_true("the value in the file", PATIENCE, || {
            Ok(self.stage.value_in(container)? == value)
        })
    }

    pub(crate) fn wait_variable(&self, container: &Container, value: &str) -> Result<()> {
        wait::until_true("the value in the variable", PATIENCE, || {
            Ok(variable(container)? == value)
        })
    }

    /// Waits until store-sync shows this on its page.
    pub(crate) fn wait_metric(&self, line: &str) -> Result<()> {
        wait::until_true(line, PATIENCE, || {
            let pages = metrics::pages(&self.stage.keywheel)?;
            let mut lines = pages.iter().flat_map(|(_, page)| page.lines());
            Ok(lines.any(|shown| shown == line))
        })
    }

    /// The two verifications and the canary: for values, and for what opens the store.
    pub(crate) fn finish(&self, values: &[&str], containers: &[&Container]) -> Result<()> {
        let mut values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        values.push(KEY.to_owned());
        self.stage.finish(&values, containers)
    }
}

/// One process of each service, over a bus server with TLS.
pub(crate) fn apart() -> Options {
    let shape = Shape {
        tls: true,
        ..Shape::default()
    };
    Options {
        shape: Some(shape),
        ..Options::default()
    }
}

/// Makes the token [`KEY`], which may do everything.
pub(crate) fn make_token(bao: &OpenBao) {
    let body = json!({ "id": KEY, "policies": ["root"], "no_parent": true }).to_string();
    bao.must("POST", "auth/token/create", &[], &body);
}

/// A file that only root reads, beside the server.
pub(crate) fn credential(keywheel: &Keywheel, name: &str, text: &str) -> Result<PathBuf> {
    fs::create_dir_all(keywheel.credentials_dir())?;
    let path = keywheel.credentials_dir().join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

/// `kind: Store` at Vault or OpenBao; `auth` is the YAML of the field.
pub(crate) fn vault(name: &str, address: &str, auth: &str, poll: &str) -> String {
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Store\nmetadata: {{ name: {name} }}\nspec:\n  \
         vault: {{ address: \"{address}\", auth: {{ {auth} }} }}\n  poll: {poll}\n  timeout: 8s\n---\n"
    )
}

/// Gives a credential as a secret of ours, which may be sent to that server and to no other.
pub(crate) fn give(keywheel: &Keywheel, name: &str, server: &str, value: &str) -> Result<()> {
    keywheel.apply(&format!(
        "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {name} }}\nspec: {{ credentialFor: \"{server}\" }}\n"
    ))?;
    let file = credential(keywheel, "given", value)?.display().to_string();
    let put = ["secret", "put", name, "--wait", "--value-file", &file];
    keywheel.cli(&put)?.ok()?;
    Ok(())
}

/// A secret that lies outside; `more` is added to its spec.
pub(crate) fn secret(name: &str, store: &str, path: &str, field: &str, more: &str) -> String {
    let field = match field {
        "" => String::new(),
        field => format!(", field: {field}"),
    };
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {name} }}\nspec:\n  \
         store: {store}\n  source: {{ path: \"{path}\"{field} }}\n{more}---\n"
    )
}

pub(crate) fn variable(container: &Container) -> Result<String> {
    let found = container.variable("API_TOKEN")?;
    found.context("API_TOKEN is not in the first process's environment")
}

/// Events of a type, from the beginning.
pub(crate) fn events(keywheel: &Keywheel, kind: &str) -> Result<Vec<Value>> {
    let all = keywheel.stream("events")?;
    let wanted = format!("dev.keywheel.{kind}.v1");
    let is_wanted = |event: &Value| event.to_string().contains(&wanted);
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// How a store is listed.
pub(crate) fn listed(keywheel: &Keywheel, name: &str) -> Result<Value> {
    let stores = keywheel.json(&["store", "list"])?;
    let mut stores = stores.as_array().into_iter().flatten();
    let found = stores.find(|store| store["name"] == name).cloned();
    found.with_context(|| format!("store {name} is not listed"))
}

/// Waits until a gateway knows a store like this.
pub(crate) fn wait_health(keywheel: &Keywheel, name: &str, wanted: &[&str]) -> Result<Value> {
    wait::until(&format!("store {name} {wanted:?}"), TOLD, || {
        let store = listed(keywheel, name)?;
        let word = store["health"].as_str().unwrap_or_default();
        Ok(wanted.contains(&word).then_some(store))
    })
}

/// What a refresh found for one secret.
pub(crate) fn refreshed(answer: &Value, secret: &str) -> Result<String> {
    let results = answer["results"].as_array().context("no results")?;
    let found = results.iter().find(|one| one["secret"] == secret);
    let found = found.and_then(|one| one["found"].as_str());
    ensure!(found.is_some(), "{secret} was not looked at: {answer}");
    Ok(found.unwrap_or_default().to_owned())
}
