//! What `up` refuses to start on, and what it takes over.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::memory::UNLOCKED;
use keywheel_tests::output::Output;

use crate::refusal::{
    BUSY, CANNOT_CREATE, CONFIG, USAGE, assert_nothing_lost, assert_refused, keep_something,
    with_something,
};

/// What `up` says that does not start.
pub(crate) fn refused_up(keywheel: &Keywheel, flags: &[&str]) -> Result<Output> {
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Output::of(&mut keywheel.up_command(&Options {
        flags,
        ..Options::default()
    })?)
}

#[test]
fn a_file_where_the_data_directory_should_be() -> Result<()> {
    let keywheel = Keywheel::prepare()?;
    fs::write(keywheel.data_dir(), "I am a file")?;
    let said = refused_up(&keywheel, &[])?;
    assert_refused(
        &said,
        CANNOT_CREATE,
        &[&keywheel.data_dir().display().to_string(), "directory"],
    );
    assert_eq!(fs::read_to_string(keywheel.data_dir())?, "I am a file");
    Ok(())
}

#[test]
fn where_memory_has_to_be_locked_and_may_not_be_nothing_starts() -> Result<()> {
    let keywheel = Keywheel::prepare()?;
    let up = keywheel.up_command(&Options::default())?;
    let (first, rest) = UNLOCKED.split_first().context("a program")?;
    let mut unlocked = Command::new(first);
    unlocked
        .args(rest)
        .arg(up.get_program())
        .args(up.get_args());
    let said = Output::of(unlocked.env("KEYWHEEL_MEMORY_REQUIRE_LOCKED", "on"))?;
    let words = [
        "it may lock 0 KiB",
        "memory.require_locked",
        "LimitMEMLOCK=64M",
    ];
    assert_refused(&said, CONFIG, &words);
    assert!(!keywheel.data_dir().exists(), "something was made");
    Ok(())
}

#[test]
fn a_second_up_on_the_same_directory_is_refused_and_the_first_serves_on() -> Result<()> {
    let keywheel = with_something()?;
    let said = refused_up(&keywheel, &[])?;
    assert_refused(&said, BUSY, &[&keywheel.data_dir().display().to_string()]);
    assert_nothing_lost(&keywheel)
}

#[test]
fn a_stale_socket_and_lock_after_a_kill_are_taken_over() -> Result<()> {
    let mut keywheel = with_something()?;
    keywheel.kill9()?;
    assert!(
        keywheel.socket().exists(),
        "a killed server leaves its socket"
    );
    keywheel.up(&Options::default())?;
    assert_nothing_lost(&keywheel)
}

#[test]
fn a_wrong_unseal_key_is_refused_and_the_right_one_still_works() -> Result<()> {
    let mut keywheel = with_something()?;
    keywheel.stop()?;
    let right = fs::read(keywheel.unseal_key())?;
    let mut wrong = right.clone();
    if let Some(byte) = wrong.last_mut() {
        *byte = if *byte == b'0' { b'1' } else { b'0' };
    }
    if let Some(byte) = wrong.first_mut() {
        *byte = if *byte == b'0' { b'1' } else { b'0' };
    }
    fs::write(keywheel.unseal_key(), &wrong)?;
    let said = refused_up(&keywheel, &[])?;
    assert_refused(
        &said,
        CONFIG,
        &[&keywheel.unseal_key().display().to_string(), "key"],
    );
    fs::write(keywheel.unseal_key(), &right)?;
    keywheel.up(&Options::default())?;
    assert_nothing_lost(&keywheel)
}

#[test]
fn a_missing_key_is_made_once_and_never_for_a_directory_with_content() -> Result<()> {
    let mut keywheel = Keywheel::prepare()?;
    keywheel.up(&Options::default())?;
    let mode = fs::metadata(keywheel.unseal_key())?.permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "the unseal key is {mode:o}");
    keep_something(&keywheel)?;
    keywheel.stop()?;
    let aside = keywheel.scratch().join("aside.key");
    fs::rename(keywheel.unseal_key(), &aside)?;
    let said = refused_up(&keywheel, &[])?;
    assert_refused(
        &said,
        CONFIG,
        &[&keywheel.unseal_key().display().to_string()],
    );
    assert!(
        !keywheel.unseal_key().exists(),
        "a new key was made for old content"
    );
    fs::rename(aside, keywheel.unseal_key())?;
    keywheel.up(&Options::default())?;
    assert_nothing_lost(&keywheel)
}

#[test]
fn a_key_inside_the_data_directory_is_refused() -> Result<()> {
    let keywheel = Keywheel::prepare()?;
    let inside = keywheel.data_dir().join("unseal.key").display().to_string();
    let said = refused_up(&keywheel, &["--unseal-key-file", &inside])?;
    assert_refused(&said, USAGE, &["data directory"]);
    Ok(())
}

#[test]
fn a_mistyped_variable_is_named_in_the_log() -> Result<()> {
    let keywheel = Keywheel::prepare()?;
    let mistyped = concat!("KEYWHEEL", "_AUDIT_MIN_SINK");
    fs::write(keywheel.data_dir(), "I am a file")?;
    let mut up = keywheel.up_command(&Options::default())?;
    // It comes as far as its log, and no further.
    let said = Output::of(up.env(mistyped, "a-canary"))?;
    assert_refused(&said, CANNOT_CREATE, &["directory"]);
    for part in [
        format!("the environment variable `{mistyped}` is not known"),
        "(did you mean `KEYWHEEL_AUDIT_MIN_SINKS`?)".to_owned(),
    ] {
        assert!(said.stderr.contains(&part), "{part}: {}", said.stderr);
    }
    assert!(!said.stderr.contains("a-canary"), "{}", said.stderr);
    Ok(())
}

#[test]
fn a_wrong_configuration_names_every_fault_at_once() -> Result<()> {
    let keywheel = Keywheel::prepare()?;
    let config = keywheel
        .scratch()
        .write("config.toml", "nonsense = 1\nanother = 2\n")?
        .display()
        .to_string();
    let said = refused_up(&keywheel, &["--config", &config])?;
    assert_refused(&said, USAGE, &["nonsense", &config]);
    assert!(
        !keywheel.socket().exists(),
        "a socket was opened before the configuration was good"
    );
    Ok(())
}

#[test]
fn an_unknown_failpoint_is_refused() -> Result<()> {
    let keywheel = Keywheel::prepare()?;
    let options = Options {
        failpoints: Some("no.such=kill".to_owned()),
        ..Options::default()
    };
    let said = Output::of(&mut keywheel.up_command(&options)?)?;
    assert_refused(&said, USAGE, &["no.such"]);
    Ok(())
}
