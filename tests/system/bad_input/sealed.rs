//! store-sync without its unseal key: what runs goes on, a start that needs a value which nobody else has is
//! refused in the output of `docker run`, and comes by itself once the key is back. Where its memory cannot be locked
//! it says so; and after `keywheel seal` neither key nor value is in it.

use std::fs;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::fleet::Fleet;
use keywheel_tests::keywheel::Options;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::stage::wait_current;
use keywheel_tests::{manifest, memory, wait};
use serde_json::Value;

const TOKEN: &str = "test/api-token";
const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";

/// The injector starts with nothing but its credentials, as after a reboot without a host cache.
fn start_injector_empty(fleet: &mut Fleet) -> Result<()> {
    let cache = fleet.keywheel.scratch().join("injector/host-cache");
    let socket = fleet.apart()?.run_dir(0).join("injector.sock");
    let injector = fleet.process(Role::Injector, 0)?;
    injector.stop()?;
    fs::remove_dir_all(&cache).with_context(|| format!("no {}", cache.display()))?;
    injector.start()?;
    wait::until_true("the injector to answer", PATIENCE, || {
        Ok(UnixStream::connect(&socket).is_ok())
    })
}

#[test]
fn a_start_that_needs_a_sealed_value_is_refused_with_the_next_step_and_comes() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let options = memory::unlocked(&Options::default());
    let mut fleet = Fleet::set_with(Shape::default(), &options)?;
    let machine = fleet.machine(0)?;
    let on = machine.on("sealed");
    let reload = "{ restart: { settle: 1s } }";
    let binding = manifest::env_binding("variable", TOKEN, &on, "API_TOKEN", reload);
    fleet
        .keywheel
        .apply(&(manifest::secret(TOKEN, &[]) + &binding))?;
    wait_current(&fleet.keywheel, TOKEN, 1)?;
    fleet.keywheel.wait_plans()?;
    let flags = [
        "--runtime",
        &machine.runtime,
        "--label",
        "app=sealed",
        "-e",
        PLACEHOLDER,
    ];
    let running = Container::run(&machine.image, &flags, &["/bin/app-env"])?;
    let refused = Container::create(&machine.image, &flags, &["/bin/app-env"])?;
    let value = running.variable("API_TOKEN")?.context("no value")?;

    let (key, away) = (
        fleet.keywheel.unseal_key(),
        fleet.keywheel.scratch().join("key/away.key"),
    );
    fs::rename(&key, &away)?;
    let store_sync = fleet.process(Role::StoreSync, 0)?;
    store_sync.stop()?;
    store_sync.start()?;
    let ended = wait::until("store-sync to refuse", PATIENCE, || store_sync.exited())?;
    ensure!(
        ended != "exit status: 0" && store_sync.tail().contains("unseal"),
        "{ended}: {}",
        store_sync.tail()
    );
    start_injector_empty(&mut fleet)?;
    let said = docker::docker(&["start", refused.id()])?;
    ensure!(said.code != 0, "it started without its value");
    for words in [TOKEN, "cannot be had", "next: check `keywheel status`"] {
        ensure!(said.stderr.contains(words), "no `{words}`: {}", said.stderr);
    }
    ensure!(!said.said().contains(&value));
    ensure!(running.field("{{.State.Running}}")? == "true");
    ensure!(running.variable("API_TOKEN")?.as_ref() == Some(&value));

    fs::rename(&away, &key)?;
    let store_sync = fleet.process(Role::StoreSync, 0)?;
    store_sync.start()?;
    wait::until_true("the refused start to come", PATIENCE, || {
        Ok(refused.field("{{.State.Running}}")? == "true")
    })?;
    ensure!(refused.variable("API_TOKEN")?.as_ref() == Some(&value));
    says_that_nothing_is_locked(&fleet)?;
    forgets_what_it_had(&mut fleet, &value)?;
    fleet.finish(&[value], &[&running, &refused])
}

/// As [`memory::UNLOCKED`] makes it.
fn says_that_nothing_is_locked(fleet: &Fleet) -> Result<()> {
    wait::until_true("status to say so", PATIENCE, || {
        let status = fleet.keywheel.json(&["status"])?.to_string();
        Ok(status.contains("in memory that may be swapped") && status.contains("LimitMEMLOCK=64M"))
    })
}

/// After `seal` neither the root key nor a value is in store-sync's memory, all of which can be
/// looked at here; and before, the root key was.
fn forgets_what_it_had(fleet: &mut Fleet, value: &str) -> Result<()> {
    let digits = fs::read_to_string(fleet.keywheel.unseal_key())?;
    let root: Option<Vec<u8>> = digits
        .trim()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let root = root.context("the key file holds digits")?;
    let store_sync = fleet.process(Role::StoreSync, 0)?;
    let pid = store_sync.pid().context("store-sync runs")?;
    let held = memory::first_held(pid, std::slice::from_ref(&root))?;
    ensure!(held == Some(0), "its memory cannot be looked at");
    // What is under way, and has a value, ends first.
    fleet.keywheel.json(&["seal", "--yes"])?;
    memory::assert_forgotten_by(pid, &[root, value.as_bytes().to_vec()])?;
    let below = fleet.keywheel.scratch().path().to_owned();
    memory::assert_forgotten(&below, &[value])?;
    let open = fleet.keywheel.json(&["unseal"])?;
    ensure!(open["sealed"] == Value::Bool(false), "{open}");
    Ok(())
}
