//! Every place outside a container in which rule C1 forbids a plaintext.
//!
//! The container's own memory, files and first environment are the one place
//! where it belongs; everything else is searched. Invariant: a place that has to
//! be there and is not is a failure, not a clean place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::canary::{Canary, Hit};
use crate::docker::Container;
use crate::engine::Engine;
use crate::keywheel::Keywheel;
use crate::metrics;
use crate::output::Output;

/// Whole trees that belong to no single container.
const SHARED_TREES: [&str; 2] = ["/var/lib/docker/runtimes", "/etc/docker"];
/// Processes whose environment is searched: ours and the engine's.
const PROCESSES: [&str; 11] = [
    "keywheel",
    "dockerd",
    "containerd",
    "runc",
    "crun",
    "docker",
    "podman",
    "conmon",
    "ctr",
    "nats-server",
    "postgres",
];

/// Docker's first process in a container that was asked for with `--init`: the consumer's own.
const INIT: &str = "docker-init";

/// Searches everything; fails with the list of hits. A server that does not
/// run is searched by its files and by what it said.
pub fn assert_clean(
    plaintexts: &[Vec<u8>],
    keywheel: &Keywheel,
    containers: &[&Container],
) -> Result<()> {
    let canary = Canary::new(plaintexts)?;
    let mut hits = search_keywheel(&canary, keywheel)?;
    for container in containers {
        hits.extend(search_container(
            &canary,
            container.engine(),
            container.id(),
        )?);
        check_record(keywheel, container)?;
    }
    hits.extend(search_machine(&canary)?);
    none(&hits)
}

/// What was said to the machine's engine is searched with the server's trees; here, that it was
/// recorded.
fn check_record(keywheel: &Keywheel, container: &Container) -> Result<()> {
    let is_own = container.engine().address().is_some();
    let Some(tap) = keywheel.engine_tap().filter(|_| !is_own) else {
        return Ok(());
    };
    let record = tap.record();
    let said = fs::read(record).with_context(|| format!("no {}", record.display()))?;
    let id = container.id().as_bytes();
    ensure!(
        said.windows(id.len()).any(|part| part == id),
        "{} does not name container {}: the engine was asked past it",
        record.display(),
        container.id()
    );
    Ok(())
}

/// The same for a server that no value of the harness owns: its directories,
/// what it said, and its containers by id or name.
pub fn assert_clean_at(
    plaintexts: &[Vec<u8>],
    trees: &[&Path],
    said: &[Output],
    containers: &[&str],
) -> Result<()> {
    let canary = Canary::new(plaintexts)?;
    let mut hits = search_said(&canary, said);
    for tree in trees {
        hits.extend(search_existing(&canary, tree)?);
    }
    for container in containers {
        let engine = Engine::default();
        let about = engine
            .docker(&["inspect", "-f", "{{.Id}}", container])?
            .ok()?;
        hits.extend(search_container(&canary, &engine, about.stdout.trim())?);
    }
    hits.extend(search_machine(&canary)?);
    none(&hits)
}

/// The same for containers of another engine: all that it said of them, and all places in which it and its
/// runtimes keep something of them.
pub fn assert_clean_with(
    plaintexts: &[Vec<u8>],
    keywheel: &Keywheel,
    said: &[Output],
    places: &[PathBuf],
) -> Result<()> {
    let canary = Canary::new(plaintexts)?;
    let mut hits = search_keywheel(&canary, keywheel)?;
    hits.extend(search_said(&canary, said));
    ensure!(!places.is_empty(), "no place of the engine is searched");
    for place in places {
        hits.extend(search_existing(&canary, place)?);
    }
    hits.extend(search_machine(&canary)?);
    none(&hits)
}

/// Searches one container only, for tests that end it before their own end.
pub fn assert_container_clean(plaintexts: &[Vec<u8>], container: &Container) -> Result<()> {
    none(&search_container(
        &Canary::new(plaintexts)?,
        container.engine(),
        container.id(),
    )?)
}

fn none(hits: &[Hit]) -> Result<()> {
    ensure!(
        hits.is_empty(),
        "plaintext outside the container, rule C1: {hits:#?}"
    );
    Ok(())
}

/// What belongs to no single server or container.
fn search_machine(canary: &Canary) -> Result<Vec<Hit>> {
    let mut hits = search_processes(canary)?;
    for tree in SHARED_TREES {
        hits.extend(canary.search_tree(Path::new(tree))?);
    }
    Ok(hits)
}

fn search_said(canary: &Canary, said: &[Output]) -> Vec<Hit> {
    said.iter()
        .flat_map(|output| {
            canary.search(
                &format!("output of `{}`", output.line),
                output.said().as_bytes(),
            )
        })
        .collect()
}

fn search_keywheel(canary: &Canary, keywheel: &Keywheel) -> Result<Vec<Hit>> {
    let mut hits = search_said(canary, &keywheel.heard());
    for tree in keywheel.trees() {
        hits.extend(search_existing(canary, &tree)?);
    }
    if keywheel.pid().is_none() {
        return Ok(hits);
    }
    for (path, page) in metrics::pages(keywheel)? {
        hits.extend(canary.search(&path.display().to_string(), page.as_bytes()));
    }
    for verb in ["events", "audit"] {
        let said = Value::from(keywheel.stream(verb)?);
        hits.extend(canary.search(verb, said.to_string().as_bytes()));
    }
    Ok(hits)
}

fn search_container(canary: &Canary, engine: &Engine, id: &str) -> Result<Vec<Hit>> {
    let mut hits = Vec::new();
    for verb in ["inspect", "diff", "logs"] {
        let said = engine.docker(&[verb, id])?;
        hits.extend(canary.search(&format!("docker {verb}"), said.said().as_bytes()));
    }
    hits.extend(search_export(canary, engine, id)?);
    let roots = engine.state_roots();
    let states: Vec<PathBuf> = roots
        .iter()
        .flat_map(|root| paths_named(root, id))
        .collect();
    ensure!(
        !states.is_empty(),
        "the engine keeps nothing of container {id} below {roots:?}: look elsewhere"
    );
    for place in states {
        hits.extend(canary.search_tree(&place)?);
    }
    let upper = engine
        .docker(&["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", id])?
        .ok()?;
    hits.extend(search_existing(canary, Path::new(upper.stdout.trim()))?);
    Ok(hits)
}

/// A tree that has to be there.
fn search_existing(canary: &Canary, tree: &Path) -> Result<Vec<Hit>> {
    ensure!(
        tree.exists(),
        "{} is to be searched and is not there",
        tree.display()
    );
    canary.search_tree(tree)
}

fn search_export(canary: &Canary, engine: &Engine, id: &str) -> Result<Vec<Hit>> {
    let mut child = engine
        .command(&["export", id])
        .stdout(Stdio::piped())
        .spawn()?;
    let stream = child
        .stdout
        .take()
        .context("docker export without a pipe")?;
    let hits = canary.search_stream("docker export", stream)?;
    ensure!(child.wait()?.success(), "docker export failed");
    Ok(hits)
}

/// Files and folders below `top` whose name contains the id.
#[must_use]
pub fn paths_named(top: &Path, id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(id) {
            found.push(path);
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !path.ends_with("rootfs") {
            found.extend(paths_named(&path, id));
        }
    }
    found
}

/// Arguments of every process; environments of ours and the engine's.
fn search_processes(canary: &Canary) -> Result<Vec<Hit>> {
    let mut hits = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let folder = entry.path();
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        if let Ok(arguments) = fs::read(folder.join("cmdline")) {
            hits.extend(canary.search(&format!("arguments of {}", name.trim()), &arguments));
        }
        if PROCESSES.iter().any(|ours| name.starts_with(ours))
            && name.trim() != INIT
            && let Ok(environment) = fs::read(folder.join("environ"))
        {
            hits.extend(canary.search(&format!("environment of {}", name.trim()), &environment));
        }
    }
    Ok(hits)
}
