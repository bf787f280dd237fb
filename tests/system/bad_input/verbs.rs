//! What the client's verbs refuse.

use anyhow::Result;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::output::Output;
use keywheel_tests::places;

use crate::refusal::{
    BAD_INPUT, NO_INPUT, NOT_FOUND, UNAVAILABLE, USAGE, assert_nothing_lost, assert_refused,
    with_something,
};

/// More than any value may have.
const TOO_LARGE: usize = 2 << 20;
/// What the refused value is made of.
const REFUSED: &str = "a piece of a value that is refused; ";

#[test]
fn an_unknown_secret_is_named() -> Result<()> {
    let keywheel = with_something()?;
    for verb in [
        vec!["rotate", "no/such"],
        vec!["rotate", "no/such", "--wait"],
        vec!["revoke", "no/such", "--reason", "r", "--yes"],
        vec!["secret", "versions", "no/such"],
        vec!["describe", "secret", "no/such"],
        vec!["get", "secret", "no/such"],
    ] {
        assert_refused(&keywheel.cli(&verb)?, NOT_FOUND, &["no/such"]);
    }
    assert_nothing_lost(&keywheel)
}

#[test]
fn a_near_miss_is_told_the_nearest_name() -> Result<()> {
    let keywheel = with_something()?;
    assert_refused(
        &keywheel.cli(&["rotate", "test/kepd"])?,
        NOT_FOUND,
        &["test/kepd", "test/kept"],
    );
    assert_nothing_lost(&keywheel)
}

#[test]
fn a_mistyped_variable_is_named_with_the_one_that_was_meant_and_without_what_it_holds() -> Result<()>
{
    let keywheel = Keywheel::prepare()?;
    let mistyped = concat!("KEYWHEEL", "_ADRESS");
    let version = || keywheel.client(&["version"]);
    let quiet = Output::of(&mut version()?)?.ok()?;
    assert_eq!(quiet.stderr, "");
    let said = Output::of(version()?.env(mistyped, "unix:///a-canary"))?.ok()?;
    assert_eq!(said.stdout, quiet.stdout);
    for part in [
        format!("warning: the environment variable `{mistyped}` is not known"),
        "(did you mean `KEYWHEEL_ADDRESS`?)".to_owned(),
        "\n  next: ".to_owned(),
    ] {
        assert!(said.stderr.contains(&part), "{part}: {}", said.stderr);
    }
    assert!(!said.stderr.contains("a-canary"), "{}", said.stderr);
    Ok(())
}

#[test]
fn a_name_off_the_grammar_is_refused() -> Result<()> {
    let keywheel = with_something()?;
    let long = "a".repeat(256);
    for name in ["Upper/Case", "a//b", "/a", "a/", "a b", "ä", "a;b", &long] {
        let said = keywheel.cli(&["secret", "put", name])?;
        assert_refused(&said, BAD_INPUT, &["name"]);
    }
    assert_nothing_lost(&keywheel)
}

#[test]
fn a_value_over_the_limit_or_without_a_byte_is_refused() -> Result<()> {
    let keywheel = with_something()?;
    let large = keywheel
        .scratch()
        .write("large", REFUSED.repeat(TOO_LARGE / REFUSED.len()))?
        .display()
        .to_string();
    let empty = keywheel.scratch().write("empty", "")?.display().to_string();
    let folder = keywheel.scratch().path().display().to_string();
    let put = |file: &str| keywheel.cli(&["secret", "put", "test/large", "--value-file", file]);
    assert_refused(&put(&large)?, BAD_INPUT, &["bytes"]);
    // The test's own file is no place to search.
    std::fs::remove_file(&large)?;
    assert_refused(&put(&empty)?, BAD_INPUT, &["empty"]);
    assert_refused(&put(&folder)?, NO_INPUT, &["directory"]);
    assert_refused(
        &put("/nonexistent/value")?,
        NO_INPUT,
        &["/nonexistent/value"],
    );
    let list = keywheel.json(&["secret", "list"])?.to_string();
    assert!(
        !list.contains("test/large"),
        "a refused value left a secret behind"
    );
    places::assert_clean(&[REFUSED.as_bytes().to_vec()], &keywheel, &[])?;
    assert_nothing_lost(&keywheel)
}

#[test]
fn a_wrong_command_line_gets_help_not_a_guess() -> Result<()> {
    let keywheel = Keywheel::prepare()?;
    for (words, next) in [
        (vec!["rotat"], "`keywheel --help`"),
        (vec!["rotate"], "`keywheel rotate --help`"),
        (vec!["status", "--nonsense"], "`keywheel status --help`"),
        (vec!["status", "-o", "xml"], "`keywheel status --help`"),
    ] {
        assert_refused(&keywheel.cli(&words)?, USAGE, &[next]);
    }
    let help = keywheel.cli(&["--help"])?;
    assert_eq!(help.code, 0);
    for verb in [
        "up",
        "apply",
        "rotate",
        "revoke",
        "consumers",
        "audit",
        "journal",
        "setup",
    ] {
        assert!(help.stdout.contains(verb), "help does not name {verb}");
    }
    Ok(())
}

#[test]
fn what_is_not_understood_is_named_and_repeated_nowhere() -> Result<()> {
    const VALUE: &str = "hunter2-of-somebody";
    let keywheel = Keywheel::prepare()?;
    let wait = format!("--wait={VALUE}");
    let unseal = format!("passphrase:{VALUE}");
    let bus = format!("nats://ada:{VALUE}@bus:4222");
    for (words, named) in [
        (vec!["status", "-o", VALUE], "--output"),
        (vec!["rotate", "test/kept", &wait], "--wait"),
        (vec!["rotate", "test/kept", "--timeout", VALUE], "--timeout"),
        (vec!["secret", "put", "test/kept", VALUE], "too many"),
        (vec![VALUE], "no such verb"),
        (vec!["events", "list", "--since", VALUE], "--since"),
        (
            vec!["init", "--out", "o", "--unseal", &unseal],
            "passphrase",
        ),
        (vec!["init", "--out", "o", "--bus", &bus], "--bus"),
    ] {
        let said = keywheel.cli(&words)?;
        assert_refused(&said, USAGE, &[named]);
        assert!(!said.said().contains(VALUE), "{}", said.said());
    }
    for (variable, text, words, code) in [
        ("KEYWHEEL_OUTPUT", VALUE, vec!["status"], USAGE),
        ("KEYWHEEL_IDENTITY_DIR", "", vec!["status"], USAGE),
        ("KEYWHEEL_IDENTITY_DIR", VALUE, vec!["status", "--help"], 0),
    ] {
        let said = Output::of(keywheel.client(&words)?.env(variable, text))?;
        assert_eq!(said.code, code, "{}", said.said());
        assert!(said.said().contains(variable), "{}", said.said());
        assert!(!said.said().contains(VALUE), "{}", said.said());
    }
    Ok(())
}

#[test]
fn without_a_server_the_next_step_is_told() -> Result<()> {
    let keywheel = Keywheel::prepare()?;
    let socket = keywheel.socket().display().to_string();
    assert_refused(
        &keywheel.cli(&["status"])?,
        UNAVAILABLE,
        &[&socket, "keywheel up"],
    );
    Ok(())
}

#[test]
fn an_address_that_is_none_is_refused() -> Result<()> {
    let keywheel = Keywheel::prepare()?;
    for address in ["http//x", "unix://", "relative/path"] {
        let said = Output::of(
            keywheel
                .client(&["status"])?
                .env("KEYWHEEL_ADDRESS", address),
        )?;
        assert_refused(&said, USAGE, &["unix://"]);
    }
    Ok(())
}
