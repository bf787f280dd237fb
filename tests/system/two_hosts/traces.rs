//! What the collector was told of one rotation, one revocation and one start, over all processes.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use keywheel_tests::fleet::Fleet;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::spans::{self, Span};
use keywheel_tests::wait;

/// A rotation that a person asked for, with a version before it; `service span < the one above`.
const ROTATION: [&str; 17] = [
    "keywheel-gateway POST /v1/rotate < ",
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
const REVOCATION: [&str; 7] = [
    "keywheel-gateway POST /v1/revoke < ",
    "keywheel-gateway revocation < POST /v1/revoke",
    "keywheel-store-sync revoke work.store-sync < revocation",
    "keywheel-gateway gateway/submit < revoke work.store-sync",
    "keywheel-injector withdraw < revocation",
    "keywheel-injector gateway/submit < revocation",
    "keywheel-gateway gateway/submit < gateway/submit",
];

/// A container's start on a host that has the value not yet.
const START: [&str; 7] = [
    "keywheel-injector injector/resolve < ",
    "keywheel-injector injector/attach < injector/resolve",
    "keywheel-injector store-sync/open_value < injector/attach",
    "keywheel-store-sync store-sync/open_value < store-sync/open_value",
    "keywheel-gateway gateway/grant < store-sync/open_value",
    "keywheel-injector gateway/submit < injector/resolve",
    "keywheel-gateway gateway/submit < gateway/submit",
];

/// Waits until one trace with such a root is exactly this tree; gives its spans.
fn wait_for(fleet: &Fleet, root: &str, expected: &[&str]) -> Result<Vec<Span>> {
    let expected: BTreeSet<String> = expected.iter().map(|line| (*line).to_owned()).collect();
    let log = fleet.keywheel.collector_log()?;
    wait::until(&format!("the trace of {root}"), PATIENCE, || {
        let spans = spans::read(&log)?;
        let roots = spans
            .iter()
            .filter(|span| span.parent.is_empty() && span.name == root);
        let mut seen = None;
        for trace in roots.map(|root| &root.trace) {
            let told = spans::tree(&spans, trace);
            if told.as_ref().is_ok_and(|told| *told == expected) {
                let own = spans.iter().filter(|span| span.trace == *trace);
                return Ok(Some(own.cloned().collect()));
            }
            seen = Some(told);
        }
        let seen = seen.context("no such trace")??;
        let (more, less) = (&seen - &expected, &expected - &seen);
        anyhow::bail!("too much: {more:#?}; not there: {less:#?}")
    })
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
    assert_eq!(instances.len(), 4, "gateway, store-sync, two injectors");
    Ok(())
}

pub(super) fn revocation_is_one(fleet: &Fleet) -> Result<()> {
    let spans = wait_for(fleet, "POST /v1/revoke", &REVOCATION)?;
    let withdrawn = spans.iter().filter(|span| span.name == "withdraw");
    assert_eq!(withdrawn.count(), 2);
    Ok(())
}

pub(super) fn start_is_one(fleet: &Fleet) -> Result<()> {
    wait_for(fleet, "injector/resolve", &START).map(drop)
}
