//! What the collector was told of one rotation, one revocation and one start, over all processes.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use keywheel_tests::fleet::Fleet;
use keywheel_tests::spans::{self, Span};

/// A rotation that a person asked for, with a version before it; `service span < the one above`.
const ROTATION: [&str; 19] = [
    "keywheel-gateway POST /v1/rotate < ",
    "keywheel-audit-sink keep audit < POST /v1/rotate",
    "keywheel-audit-sink keep audit < gateway/submit",
    "keywheel-gateway rotation < POST /v1/rotate",
    "keywheel-store-sync create work.store-sync < rotation",
    "keywheel-gateway gateway/submit < create work.store-sync",
    "keywheel-store-sync set work.store-sync < rotation",
    "keywheel-gateway gateway/submit < set work.store-sync",
    "keywheel-store-sync test work.store-sync < rotation",
    "keywheel-gateway gateway/submit < test work.store-sync",
    "keywheel-store-sync finish work.store-sync < rotation",
    "keywheel-gateway gateway/submit < finish work.store-sync",
    "keywheel-injector store-sync/open_value < rotation",
    "keywheel-store-sync store-sync/open_value < store-sync/open_value",
    "keywheel-gateway gateway/grant < store-sync/open_value",
    "keywheel-injector replace < rotation",
    "keywheel-injector gateway/submit < rotation",
    "keywheel-gateway gateway/submit < gateway/submit",
    "keywheel-store-sync revoke_old work.store-sync < rotation",
];
/// The last step's answer closes the rotation, within the gateway's part of it.
const CLOSING: &str = "keywheel-gateway gateway/submit < revoke_old work.store-sync";

/// A revocation that a person asked for.
const REVOCATION: [&str; 9] = [
    "keywheel-gateway POST /v1/revoke < ",
    "keywheel-audit-sink keep audit < POST /v1/revoke",
    "keywheel-audit-sink keep audit < gateway/submit",
    "keywheel-gateway revocation < POST /v1/revoke",
    "keywheel-store-sync revoke work.store-sync < revocation",
    "keywheel-gateway gateway/submit < revoke work.store-sync",
    "keywheel-injector withdraw < revocation",
    "keywheel-injector gateway/submit < revocation",
    "keywheel-gateway gateway/submit < gateway/submit",
];

/// A container's start on a host that has the value not yet, from the engine's call of our runtime.
const START: [&str; 10] = [
    "keywheel-runtime runtime/create < ",
    "keywheel-injector injector/resolve < runtime/create",
    "keywheel-runtime runtime/real < runtime/create",
    "keywheel-injector injector/attach < runtime/create",
    "keywheel-injector store-sync/open_value < injector/attach",
    "keywheel-store-sync store-sync/open_value < store-sync/open_value",
    "keywheel-gateway gateway/grant < store-sync/open_value",
    "keywheel-injector gateway/submit < runtime/create",
    "keywheel-gateway gateway/submit < gateway/submit",
    "keywheel-audit-sink keep audit < gateway/submit",
];

fn wait_for(fleet: &Fleet, root: &str, expected: &[&str]) -> Result<Vec<Span>> {
    spans::wait_for(&fleet.keywheel.collector_log()?, root, expected)
}

/// The rotation is one tree over both hosts, and says what it is about.
pub(super) fn rotation_is_one(fleet: &Fleet, secret: &str, consumers: usize) -> Result<()> {
    let expected = [&ROTATION[..], &[CLOSING]].concat();
    let spans = wait_for(fleet, "POST /v1/rotate", &expected)?;
    let named = |name: &'static str| spans.iter().filter(move |span| span.name == name);
    let rotation = named("rotation").next().context("no rotation")?;
    assert_eq!(rotation.get("keywheel.secret.name"), secret);
    assert_eq!(rotation.get("keywheel.version"), "2");
    assert_eq!(rotation.get("keywheel.outcome"), "completed");
    assert_eq!(named("replace").count(), consumers);
    let hosts: BTreeSet<&str> = named("replace").map(|span| span.get("host.name")).collect();
    let machines: BTreeSet<&str> = fleet.machines.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(hosts, machines);
    let step = named("create work.store-sync").next().context("no step")?;
    assert_eq!(step.kind, "SPAN_KIND_CONSUMER");
    assert_eq!(step.get("messaging.destination.name"), "work.store-sync");
    assert_eq!(step.get("keywheel.store.name"), "local");
    let failed: Vec<&Span> = spans
        .iter()
        .filter(|span| span.status.contains("ERROR"))
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    let instances: BTreeSet<&str> = spans
        .iter()
        .map(|one| one.get("service.instance.id"))
        .collect();
    assert_eq!(
        instances.len(),
        5,
        "gateway, store-sync, audit sink, two injectors"
    );
    Ok(())
}

pub(super) fn revocation_is_one(fleet: &Fleet) -> Result<()> {
    let spans = wait_for(fleet, "POST /v1/revoke", &REVOCATION)?;
    let withdrawn = spans.iter().filter(|span| span.name == "withdraw");
    assert_eq!(withdrawn.count(), 2);
    Ok(())
}

pub(super) fn start_is_one(fleet: &Fleet) -> Result<()> {
    let spans = wait_for(fleet, "runtime/create", &START)?;
    let of = |name: &'static str| spans.iter().find(|span| span.name == name);
    let (whole, real) = (of("runtime/create"), of("runtime/real"));
    let (whole, real) = (whole.context("no create")?, real.context("no runtime")?);
    // The runtime's own times, which it handed over.
    anyhow::ensure!(
        whole.start < real.start && real.start < real.end && real.end <= whole.end,
        "{whole:?} {real:?}"
    );
    Ok(())
}
