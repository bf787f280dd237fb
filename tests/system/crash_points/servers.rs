//! Servers whose accounts rotate, as they stand in a container: where its login lies, and how a program there
//! finds it. What a server is, and what it accepts, is the harness's own (`keywheel_tests::database`).

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use keywheel_tests::database::{Database, Login};
use keywheel_tests::docker::Container;
use keywheel_tests::manifest;
use keywheel_tests::stage::Stage;

/// Where a container has its secrets.
const SECRETS: &str = "/run/secrets";

/// The admin, the accounts, the secret with a file in containers of this label, and the first version.
pub(crate) fn adopt(server: &Database, stage: &Stage, app: &str) -> Result<()> {
    let (kind, secret, template) = (server.kind, server.secret, server.template());
    let (on, reload) = (stage.on(app), "{ signal: HUP }");
    let binding = manifest::told_template_binding(kind, secret, &on, kind, &template, reload);
    server.adopt(stage, &binding)
}

/// What a container signs in with now, as its process sees it; nothing when it has none.
pub(crate) fn held_by(server: &Database, container: &Container) -> Result<Option<Login>> {
    let path = format!("/proc/{}/root{SECRETS}/{}", container.pid()?, server.kind);
    match fs::read_to_string(&path) {
        Ok(text) => Login::of(&text).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}

/// How the test application names it, with where its login is in a container.
pub(crate) fn word(server: &Database) -> String {
    server.word(&format!("file:{SECRETS}/{}", server.kind))
}
