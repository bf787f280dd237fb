//! A program of a user who may nothing comes with a token: within its scope, over a crash, until it is revoked.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::canary::Canary;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::output::Output;
use serde_json::Value;

use crate::refusal::{KEPT, assert_nothing_lost, assert_refused, keep_something};

/// The exit code of a denied request.
const DENIED: i32 = 77;

/// The stranger, with the token.
fn program(keywheel: &Keywheel, token: &Path, args: &[&str]) -> Result<Output> {
    let mut client = keywheel.stranger(args)?;
    client.env("KEYWHEEL_BEARER_TOKEN_FILE", token);
    keywheel.hear(&mut client)
}

fn taken_for(keywheel: &Keywheel, token: &Path) -> Result<Value> {
    program(keywheel, token, &["whoami", "-o", "json"])?
        .ok()?
        .json()
}

#[test]
fn a_stranger_with_a_token_does_what_it_says_until_it_is_revoked_and_its_text_is_nowhere()
-> Result<()> {
    let mut keywheel = Keywheel::start()?;
    keep_something(&keywheel)?;
    let issue = [
        "token",
        "issue",
        "ci",
        "--verb",
        "list",
        "--on",
        "path/test",
        "--for",
        "1h",
        "--uses",
        "100",
    ];
    let issued = Output::of(&mut keywheel.client(&issue)?)?.ok()?;
    let text = issued.stdout.trim().to_owned();
    let token = keywheel.scratch().write("token", &text)?;

    let told = taken_for(&keywheel, &token)?;
    ensure!(
        told["principal"] == "unix:0" && told["proof"] == "token",
        "{told}"
    );
    program(&keywheel, &token, &["describe", "secret", KEPT])?.ok()?;
    let said = program(&keywheel, &token, &["rotate", KEPT])?;
    assert_refused(&said, DENIED, &["outside the scope", "on record"]);

    // What was taken of its uses and not made is lost in a crash, and no use is given twice.
    keywheel.kill9()?;
    keywheel.up(&Options::default())?;
    let told = taken_for(&keywheel, &token)?;
    let left = told["token"]["left"].as_u64().context("no uses are left")?;
    ensure!((1..100).contains(&left), "{told}");

    let revoke = ["token", "revoke", "ci", "--reason", "a test"];
    keywheel.cli(&revoke)?.ok()?;
    let said = program(&keywheel, &token, &["describe", "secret", KEPT])?;
    assert_refused(&said, DENIED, &["opens nothing here"]);
    let records = keywheel.stream("audit")?;
    let is_known = |part: &str| {
        records
            .iter()
            .any(|record| record.to_string().contains(part))
    };
    for part in [
        "issue-token",
        "revoke-token",
        "\"kind\":\"token\"",
        "token `ci` was revoked",
    ] {
        ensure!(is_known(part), "no record has {part}");
    }

    let secret = text.strip_prefix("kw1_").context("its beginning")?;
    let canary = Canary::new(&[secret.as_bytes().to_vec()])?;
    keywheel.stop()?;
    for tree in keywheel.trees() {
        let hits = canary.search_tree(&tree)?;
        ensure!(hits.is_empty(), "{hits:?}");
    }
    keywheel.up(&Options::default())?;
    assert_nothing_lost(&keywheel)
}
