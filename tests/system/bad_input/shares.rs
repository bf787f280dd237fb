//! A store-sync that people unseal by shares, from an empty directory on: what needs a value says so, work waits,
//! wrong shares change nothing and are on record, and containers keep what they have whenever it is sealed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::output::Output;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::shares::{give, give_by, init, wait_sealed};
use keywheel_tests::stage::{SECRET, Stage, current, items};
use keywheel_tests::{manifest, memory, wait};
use serde_json::Value;

/// Offers that are refused before nothing is looked at for a while (store-sync's `MAX_REFUSED`).
const MAX_REFUSED: usize = 5;

/// `keywheel unseal` by a user of the machine who has a share, and a token to give it with.
fn give_as_another(keywheel: &Keywheel, token: &Path, share: &str) -> Result<Output> {
    let mut command = keywheel.stranger(&["unseal", "-o", "json"])?;
    command.env("KEYWHEEL_BEARER_TOKEN_FILE", token);
    give_by(keywheel, command, share)
}

/// A token for whoever has a share and may nothing else here.
fn issue_token(keywheel: &Keywheel) -> Result<(String, PathBuf)> {
    let scope = ["--verb", "list,write", "--on", "environment", "--for", "1h"];
    let words = [&["token", "issue", "share-holder"][..], &scope].concat();
    // Its text is a secret of its own: what is said here is not kept.
    let issued = Output::of(&mut keywheel.client(&words)?)?.ok()?;
    let text = issued.stdout.trim().to_owned();
    let path = keywheel.scratch().write("token", &text)?;
    Ok((text, path))
}

fn put(keywheel: &Keywheel) -> Result<Output> {
    let file = keywheel.scratch().join("value");
    fs::write(&file, "a provided value")?;
    let said = keywheel.cli(&[
        "secret",
        "put",
        SECRET,
        "--value-file",
        &file.display().to_string(),
    ]);
    fs::remove_file(&file)?;
    said
}

/// Everything that may be wrong with a share leaves it where it was, and is told in the same words.
fn give_wrong_ones(keywheel: &Keywheel, given: &str, foreign: &str) -> Result<()> {
    let swapped = given.replacen("KWS1-0", "KWS1-1", 1);
    let mistyped = give(keywheel, &swapped)?;
    ensure!(mistyped.code == 65, "mistyped: {}", mistyped.said());
    let repeated = give(keywheel, given)?;
    ensure!(repeated.code == 77, "repeated: {}", repeated.said());
    ensure!(
        repeated.stderr.contains("nothing was changed"),
        "{}",
        repeated.said()
    );
    let strange = give(keywheel, foreign)?;
    ensure!(
        (strange.code, &strange.stderr) == (repeated.code, &repeated.stderr),
        "of another set: {}, given twice: {}",
        strange.said(),
        repeated.said()
    );
    Ok(())
}

/// After too many wrong ones a right one is not looked at, whoever gives it.
fn give_too_many_wrong_ones(keywheel: &Keywheel, right: &str, foreign: &str) -> Result<()> {
    for offer in 1..=MAX_REFUSED {
        let said = give(keywheel, foreign)?;
        ensure!(said.code == 77, "offer {offer}: {}", said.said());
    }
    let said = give(keywheel, right)?;
    ensure!(
        said.code == 69 && said.stderr.contains("too many offers"),
        "{}",
        said.said()
    );
    wait_sealed(keywheel, true)
}

#[test]
fn people_unseal_it_share_by_share_and_containers_keep_what_they_have_meanwhile() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut keywheel = Keywheel::prepare()?;
    if keywheel.gateway_socket(0).is_some() {
        // Services apart have their own `init`; what is shown here is the seal's.
        return Ok(());
    }
    let shares = init(&keywheel, keywheel.data_dir(), &keywheel.unseal_key())?;
    let (other, key) = (
        keywheel.scratch().join("other"),
        keywheel.scratch().join("key/other.key"),
    );
    let foreign = init(&keywheel, &other, &key)?;
    keywheel.up(&memory::unlocked(&Options::default()))?;
    let mut stage = Stage::around(keywheel)?;
    wait_sealed(&stage.keywheel, true)?;
    let binding = manifest::file_binding("f", SECRET, &stage.on("shares"), "db_password", "none");
    stage
        .keywheel
        .apply(&(manifest::secret(SECRET, &[]) + &binding))?;
    let refused = put(&stage.keywheel)?;
    ensure!(refused.code == 69, "{}", refused.said());
    ensure!(
        refused.stderr.contains("keywheel unseal"),
        "{}",
        refused.said()
    );
    ensure!(
        current(&stage.keywheel, SECRET)? == 0,
        "a value was made while sealed"
    );

    let (secret, token) = issue_token(&stage.keywheel)?;
    // Two at once count for one, and whoever gave them is told.
    let both = format!("{}\n{}", shares[2], shares[0]);
    let two = give(&stage.keywheel, &both)?.ok()?;
    ensure!(two.stderr.contains("one share was taken"), "{}", two.said());
    wait_sealed(&stage.keywheel, true)?;
    give_wrong_ones(&stage.keywheel, &shares[2], &foreign[0])?;
    let open = give_as_another(&stage.keywheel, &token, &shares[0])?;
    let open = open.ok()?.json()?;
    ensure!(open["sealed"] == false, "{open}");
    stage.wait_current(SECRET, 1)?;
    wait_sealed(&stage.keywheel, false)?;
    let container = stage.run("shares", &[], "/bin/app-idle")?;
    let first = stage.value_soon_in(&container)?;

    let second = keep_what_they_have(
        &mut stage,
        &container,
        (shares.as_slice(), token.as_path()),
        &first,
        &foreign,
    )?;
    were_recorded(&stage.keywheel)?;
    reseal_to_a_key_file(&mut stage, &shares)?;
    ensure!(stage.value_in(&container)? == second);
    fs::remove_file(&token)?;
    let canaries: Vec<String> = [vec![first, second, secret], shares, foreign].concat();
    stage.finish(&canaries, &[&container])
}

/// The key in a share's text: Crockford's digits, of which the first seven bytes are its number, threshold and set.
fn key_of(share: &str) -> Result<Vec<u8>> {
    const DIGITS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digits = share.strip_prefix("KWS1").context("a share")?;
    let (mut bits, mut held, mut bytes) = (0, 0_usize, Vec::new());
    for letter in digits.chars().filter(|letter| *letter != '-') {
        held = ((held << 5) | DIGITS.find(letter).context("a digit")?) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff)?);
        }
    }
    Ok(bytes.get(7..39).context("a key")?.to_vec())
}

/// Once it is sealed nobody has a share that was given, its key, or a value.
fn forgets_what_it_had(keywheel: &Keywheel, shares: &[String], value: &str) -> Result<()> {
    let below = keywheel.scratch().path();
    let texts: Vec<&str> = shares.iter().map(String::as_str).chain([value]).collect();
    memory::assert_forgotten(below, &texts)?;
    let keys = shares.iter().map(|share| key_of(share));
    let pid = keywheel.pid().context("it runs")?;
    memory::assert_forgotten_by(pid, &keys.collect::<Result<Vec<_>>>()?)
}

/// Sealed, killed and started again: the container keeps its value until people came.
fn keep_what_they_have(
    stage: &mut Stage,
    container: &Container,
    (shares, token): (&[String], &Path),
    first: &str,
    foreign: &[String],
) -> Result<String> {
    stage.keywheel.json(&["seal", "--yes"])?;
    forgets_what_it_had(&stage.keywheel, shares, first)?;
    stage.keywheel.cli(&["rotate", SECRET])?.ok()?;
    needs_no_value(&stage.keywheel)?;
    container.restart()?.ok()?;
    ensure!(
        stage.value_soon_in(container)? == *first,
        "it lost what it had"
    );
    stage.keywheel.restart(&Options::default())?;
    wait_sealed(&stage.keywheel, true)?;
    ensure!(
        current(&stage.keywheel, SECRET)? == 1,
        "rotated while sealed"
    );
    ensure!(stage.value_in(container)? == *first);
    give_too_many_wrong_ones(&stage.keywheel, &shares[0], &foreign[0])?;
    // Offers that were refused are counted in memory, as shares are kept; only root starts it anew.
    stage.keywheel.restart(&Options::default())?;
    wait_sealed(&stage.keywheel, true)?;
    give(&stage.keywheel, &shares[0])?.ok()?;
    give_as_another(&stage.keywheel, token, &shares[1])?.ok()?;
    stage.wait_current(SECRET, 2)?;
    wait::until("the new value", PATIENCE, || {
        let now = stage.value_in(container)?;
        Ok((now != *first).then_some(now))
    })
}

/// What needs a value says that it is sealed and what to do; everything on the log can be read and proven.
fn needs_no_value(keywheel: &Keywheel) -> Result<()> {
    let said = put(keywheel)?;
    ensure!(
        said.code == 69 && said.stderr.contains("keywheel unseal"),
        "{}",
        said.said()
    );
    for words in [
        &["events", "list"][..],
        &["describe", "secret", SECRET],
        &["journal", "verify"],
        &["audit", "verify"],
    ] {
        keywheel.cli(words)?.ok()?;
    }
    Ok(())
}

/// Whoever has enough shares gives it a key file, with which it opens by itself.
fn reseal_to_a_key_file(stage: &mut Stage, shares: &[String]) -> Result<()> {
    let kept = stage.keywheel.scratch().join("kept.json");
    let kept = kept.display().to_string();
    let prove = ["audit", "prove", "0", "--file", &kept];
    stage.keywheel.cli(&prove)?.ok()?;
    on_record_once(&stage.keywheel, "init")?;
    stage.keywheel.stop()?;
    let keywheel = &stage.keywheel;
    let (data, key) = (keywheel.data_dir().display(), keywheel.unseal_key());
    let (data, key) = (data.to_string(), key.display().to_string());
    let words = [
        "--data-dir",
        data.as_str(),
        "--unseal-key-file",
        key.as_str(),
    ];
    let words = [&["reseal", "--to", "key-file"][..], &words].concat();
    let typed = keywheel.scratch().join("typed");
    for (given, code) in [
        (format!("{}\n{}\n", shares[0], shares[0]), 78),
        (format!("{}\n{}\n", shares[0], shares[2]), 0),
    ] {
        fs::write(&typed, given)?;
        let mut command = keywheel.client(&words)?;
        let said = keywheel.hear(command.stdin(File::open(&typed)?))?;
        ensure!(said.code == code, "{}", said.said());
    }
    fs::remove_file(&typed)?;
    stage.keywheel.up(&Options::default())?;
    wait_sealed(&stage.keywheel, false)?;
    ensure!(current(&stage.keywheel, SECRET)? == 2);
    stage.keywheel.json(&["rotate-kek", "--wait"])?;
    on_record_once(&stage.keywheel, "reseal")?;
    on_record_once(&stage.keywheel, "init")?;
    let since = ["audit", "verify", "--since", &kept];
    stage.keywheel.cli(&since)?.ok()?;
    fs::remove_file(&kept)?;
    Ok(())
}

/// What nobody asked a gateway for is on record within a few words of store-sync, once, however often it was started.
fn on_record_once(keywheel: &Keywheel, verb: &str) -> Result<()> {
    wait::until_true(verb, PATIENCE, || {
        // Each look is a record, too.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let found = keywheel.json(&["audit", "list", "--after", "0", "--verb", verb])?;
        let found = items(&found).len();
        ensure!(found < 2, "`{verb}` is on record {found} times");
        Ok(found == 1)
    })
}

/// Four shares that were taken, eight offers that were not, one sealing: each as it is asked for, and what came of it.
fn were_recorded(keywheel: &Keywheel) -> Result<()> {
    let audit = keywheel.stream("audit")?;
    let count = |verb: &str, outcome: &str| {
        let is = |row: &&Value| row["verb"] == verb && row["outcome"] == outcome;
        audit.iter().filter(is).count()
    };
    let found = (
        count("unseal", "allowed"),
        count("unseal", "rejected"),
        count("seal", "allowed"),
    );
    ensure!(found == (16, 8, 2), "{found:?}");
    Ok(())
}

#[test]
fn services_apart_get_a_seal_file_and_no_key_file_and_nothing_is_made_of_what_cannot_be()
-> Result<()> {
    let keywheel = Keywheel::prepare()?;
    let key = keywheel.scratch().join("key/gateway-unseal.key");
    let out = keywheel.scratch().join("deployment");
    let (key, out) = (key.display().to_string(), out.display().to_string());
    let init = |more: &[&str]| {
        let words = [
            "init",
            "--out",
            out.as_str(),
            "--unseal-key-file",
            key.as_str(),
        ];
        Output::of(&mut keywheel.client(&[&words[..], more].concat())?)
    };
    let shares = ["--unseal", "shamir:2/3"];
    let shared = [&shares[..], &["--database", "postgres://db.example"]].concat();
    let wrong = [
        (vec!["--unseal", "shamir:1/3"], "shamir:3/5"),
        (vec!["--unseal", "tpm"], "passphrase"),
        (shared, "key file"),
    ];
    for (wrong, words) in wrong {
        let said = init(&wrong)?;
        ensure!(
            said.code == 64 && said.stderr.contains(words),
            "{}",
            said.said()
        );
    }
    let said = init(&["--unseal", "kms:/nowhere/unseal.toml"])?;
    ensure!(
        said.code == 66 && said.stderr.contains("/nowhere/unseal.toml"),
        "{}",
        said.said()
    );
    let mut short = keywheel.client(&["init", "--out", &out, "--unseal", "passphrase"])?;
    let typed = keywheel.scratch().write("short", "too short\n")?;
    let said = Output::of(short.stdin(File::open(&typed)?))?;
    ensure!(
        said.code == 65 && said.stderr.contains("12 characters"),
        "{}",
        said.said()
    );
    ensure!(!fs::exists(&out)?, "something was made");
    let made = init(&["--unseal", "shamir:2/3", "-o", "json"])?
        .ok()?
        .json()?;
    ensure!(items(&made["shares"]).len() == 3, "{made}");
    let seal = fs::read_to_string(format!("{out}/store-sync/seal.json"))?;
    for share in items(&made["shares"]) {
        let share = share.as_str().context("a share is text")?;
        ensure!(!seal.contains(share) && share.starts_with("KWS1-"));
    }
    ensure!(!fs::exists(
        keywheel.scratch().join("key/store-sync-unseal.key")
    )?);
    Ok(())
}
