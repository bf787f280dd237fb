//! The disaster drill: a whole machine is lost with its containers, and a secret rotated after the backup. Elsewhere lay
//! the backup, the key file, the audit's second copy, and, each with a person, the shares that unseal it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker;
use keywheel_tests::keywheel::{Keywheel, NOBODY, Options};
use keywheel_tests::output::Output;
use keywheel_tests::scratch::unmount_below;
use keywheel_tests::stage::{PATIENCE, SECRET, Stage, current, find};
use keywheel_tests::{apart, manifest, planted, shares, wait};
use serde_json::Value;

use crate::several;

/// A secret that nobody touches after the backup.
const QUIET: &str = "test/quiet";
pub(crate) const QUIET_FILE: &str = "/run/secrets/quiet";
/// The group whose members may use the API.
const GROUP: &str = "keywheel";
const WHY: &str = "the disk is lost";

/// The group, made for this test where the machine has none.
pub(crate) struct Group {
    id: String,
    is_ours: bool,
}

impl Group {
    pub(crate) fn ensure() -> Result<Self> {
        let ask = || Output::of(Command::new("getent").args(["group", GROUP]));
        let is_ours = ask()?.code != 0;
        if is_ours {
            Output::of(Command::new("groupadd").args(["--system", GROUP]))?.ok()?;
        }
        let line = ask()?.ok()?.stdout;
        let id = line.split(':').nth(2).context("no id")?.to_owned();
        Ok(Self { id, is_ours })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = Output::of(Command::new("groupdel").arg(GROUP));
        }
    }
}

/// A second person: another user, in the group.
pub(crate) fn second_person(keywheel: &Keywheel, group: &Group, args: &[&str]) -> Result<Output> {
    keywheel.hear(&mut by_second_person(keywheel, group, args)?)
}

/// Their command, ready to be changed and run.
fn by_second_person(keywheel: &Keywheel, group: &Group, args: &[&str]) -> Result<Command> {
    // A copy of the client where that user may enter.
    let copy = keywheel
        .stranger(args)?
        .get_args()
        .nth(5)
        .map(PathBuf::from);
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", NOBODY, "--regid", &group.id, "--clear-groups"])
        .arg(copy.context("no copy of the client")?)
        .args(args)
        .env("KEYWHEEL_ADDRESS", keywheel.address())
        .stdin(Stdio::null());
    Ok(command)
}

/// Both secrets as files of one container; their values.
fn values(container: &docker::Container) -> Result<[String; 2]> {
    let read = |path| container.read(path)?.with_context(|| format!("no {path}"));
    Ok([read(keywheel_tests::stage::FILE)?, read(QUIET_FILE)?])
}

/// Waits until the audit's second copy has something.
fn wait_kept(data_dir: &Path, words: &str) -> Result<()> {
    wait::until_true("the audit's second copy", PATIENCE, || {
        let files = ["audit-sink.db", "audit-sink.db-wal"];
        Ok(files.iter().any(|name| {
            let bytes = fs::read(data_dir.join(name)).unwrap_or_default();
            bytes
                .windows(words.len())
                .any(|part| part == words.as_bytes())
        }))
    })
}

/// What is left of a machine: it lay elsewhere.
struct Elsewhere {
    sink: String,
    key: PathBuf,
}

/// Loses the machine: at once whatever runs, its containers with what they have in memory, and its directories.
fn lose(keywheel: &mut Keywheel, container: docker::Container) -> Result<Elsewhere> {
    let (data_dir, elsewhere) = (
        keywheel.data_dir().to_owned(),
        keywheel.scratch().join("elsewhere"),
    );
    wait_kept(&data_dir, "revoke-old-version")?;
    keywheel.kill9()?;
    docker::docker(&["rm", "-f", container.id()])?.ok()?;
    drop(container);
    fs::create_dir(&elsewhere)?;
    for name in ["audit-sink.db", "audit-sink.db-wal"] {
        if data_dir.join(name).exists() {
            fs::copy(data_dir.join(name), elsewhere.join(name))?;
        }
    }
    let key = elsewhere.join("unseal.key");
    fs::rename(keywheel.unseal_key(), &key)?;
    let run_dir = keywheel.run_dir();
    unmount_below(&run_dir);
    fs::remove_dir_all(&run_dir)?;
    fs::remove_dir_all(&data_dir)?;
    // Of the new machine.
    fs::create_dir(&run_dir)?;
    let sink = elsewhere.join("audit-sink.db").display().to_string();
    Ok(Elsewhere { sink, key })
}

/// Where the backup lies.
fn place(keywheel: &Keywheel) -> String {
    keywheel.scratch().join("backup").display().to_string()
}

fn restore(keywheel: &Keywheel, backup: &str, more: &[&str]) -> Result<Output> {
    let key = keywheel.unseal_key().display().to_string();
    let data_dir = keywheel.data_dir().display().to_string();
    let words = [
        "restore",
        backup,
        "--data-dir",
        &data_dir,
        "--unseal-key-file",
        &key,
    ];
    keywheel.cli(&[&words[..], more].concat())
}

/// A token for one request, in a file.
fn issue_once(keywheel: &Keywheel) -> Result<String> {
    let words = [
        "token",
        "issue",
        "once",
        "--verb",
        "list",
        "--on",
        "environment",
        "--for",
        "1h",
        "--uses",
        "1",
    ];
    let issued = keywheel.cli(&words)?.ok()?;
    let file = keywheel.scratch().write("once.token", issued.stdout)?;
    Ok(file.display().to_string())
}

/// What comes of a request with a token.
fn come_with(keywheel: &Keywheel, token: &str) -> Result<Output> {
    keywheel.cli(&["--bearer-token-file", token, "get", "secrets"])
}

/// Its one use was made before the disk was lost.
fn assert_used_up(keywheel: &Keywheel, token: &str) -> Result<()> {
    let said = come_with(keywheel, token)?;
    ensure!(said.code == 77, "a use came back: {}", said.said());
    Ok(())
}

/// Nothing is served before two different people accepted.
fn accept(keywheel: &Keywheel) -> Result<()> {
    wait::until_true("an older log to wait for two people", PATIENCE, || {
        let said = keywheel.cli(&["status"])?;
        Ok(said.code == 69 && said.said().contains("different people have to accept"))
    })?;
    let asked = keywheel.cli(&["get", "secrets"])?;
    ensure!(asked.code == 69, "it is served: {}", asked.said());
    let words = ["restore", "accept", "--reason", WHY, "-o", "json"];
    let first = keywheel.cli(&words)?.ok()?.json()?;
    ensure!(
        first.get("is_accepted") == Some(&Value::Bool(false)),
        "{first}"
    );
    let again = keywheel.cli(&words)?;
    ensure!(again.code == 2, "one person counts twice: {}", again.said());
    let stranger = keywheel.hear(&mut keywheel.stranger(&words)?)?;
    ensure!(
        stranger.code == 77,
        "a stranger counts: {}",
        stranger.said()
    );
    let group = Group::ensure()?;
    let second = second_person(keywheel, &group, &words)?.ok()?.json()?;
    ensure!(
        second.get("is_accepted") == Some(&Value::Bool(true)),
        "{second}"
    );
    Ok(())
}

/// What of the restore is on the record.
fn assert_on_record(keywheel: &Keywheel) -> Result<()> {
    let audit = keywheel.stream("audit")?;
    let of = |verb: &str| -> Vec<String> {
        let is_of = |record: &&Value| find(record, "verb").and_then(Value::as_str) == Some(verb);
        audit.iter().filter(is_of).map(Value::to_string).collect()
    };
    let accepted = of("accept-restore");
    let allowed = accepted
        .iter()
        .filter(|record| record.contains("\"allowed\""));
    let allowed: Vec<&String> = allowed.collect();
    ensure!(allowed.len() == 2 && accepted.len() == 4, "{accepted:#?}");
    ensure!(
        allowed[1].contains(NOBODY) && !allowed[0].contains(NOBODY),
        "{allowed:#?}"
    );
    ensure!(
        accepted.iter().any(|record| record.contains("\"denied\"")),
        "{accepted:#?}"
    );
    for (verb, words) in [
        ("restore", WHY),
        ("bury-lost-versions", SECRET),
        ("revoke", SECRET),
        ("restored", "revoked again"),
        ("request", "requests: list "),
    ] {
        let records = of(verb);
        ensure!(
            records.iter().any(|record| record.contains(words)),
            "{verb}: {records:#?}"
        );
    }
    let words = keywheel.json(&["status"])?.to_string();
    ensure!(
        words.contains("an older log was restored"),
        "it is not told: {words}"
    );
    Ok(())
}

/// Restores what lay elsewhere. Shares alone do not, nor does a backup that is older than the second copy, unsaid.
fn restore_all(keywheel: &Keywheel, backup: &str, left: &Elsewhere) -> Result<()> {
    let older = ["--sink", &left.sink];
    let refused = restore(keywheel, backup, &older)?;
    let key = keywheel.unseal_key().display().to_string();
    ensure!(
        refused.code == 78 && refused.said().contains(&format!("{key} is missing")),
        "without the key file: {}",
        refused.said()
    );
    fs::rename(&left.key, &key)?;
    let refused = restore(keywheel, backup, &older)?;
    ensure!(
        refused.code == 2 && refused.said().contains("older"),
        "{}",
        refused.said()
    );
    let older = ["--sink", &left.sink, "--accept-older", "--reason", WHY];
    restore(keywheel, backup, &older)?.ok()?;
    Ok(())
}

/// Two people unseal it, each with a share of their own; before the second one came nothing has a value.
fn unseal_by_two(keywheel: &Keywheel, given: &[String]) -> Result<()> {
    shares::wait_sealed(keywheel, true)?;
    let first = shares::give(keywheel, &given[0])?.ok()?.json()?;
    ensure!(first["sealed"] == true && first["shares"] == 1, "{first}");
    ensure!(current(keywheel, SECRET)? < 3, "a value without a share");
    let group = Group::ensure()?;
    let words = ["unseal", "-o", "json"];
    let command = by_second_person(keywheel, &group, &words)?;
    let second = shares::give_by(keywheel, command, &given[2])?;
    let second = second.ok()?.json()?;
    ensure!(second["sealed"] == false, "{second}");
    shares::wait_sealed(keywheel, false)
}

/// A service like the one that was lost, on a machine that never had a value of it.
fn run_again(stage: &Stage) -> Result<docker::Container> {
    stage.wait_current(SECRET, 3)?;
    stage.run("drill", &[], "/bin/app-idle")
}

/// A machine that people unseal by shares, with a secret that is rotated and one that nobody touches.
fn set() -> Result<(Stage, Vec<String>)> {
    let mut keywheel = Keywheel::prepare()?;
    let given = shares::init(&keywheel, keywheel.data_dir(), &keywheel.unseal_key())?;
    keywheel.up(&Options::default())?;
    shares::open(&keywheel, [&given[0], &given[1]])?;
    let stage = Stage::around(keywheel)?;
    let quiet = manifest::file_binding("quiet", QUIET, &stage.on("drill"), "quiet", "none");
    stage
        .keywheel
        .apply(&(manifest::secret(QUIET, &[]) + &quiet))?;
    stage.apply_file("drill", "none")?;
    stage.wait_current(QUIET, 1)?;
    Ok((stage, given))
}

/// A backup of it, which needs the key file alone to be verified, and says what it could not look at.
fn back_up(keywheel: &Keywheel, backup: &str) -> Result<()> {
    keywheel.cli(&["backup", "--out", backup])?.ok()?;
    let key = keywheel.unseal_key().display().to_string();
    let verified = keywheel.json(&["backup", "verify", backup, "--unseal-key-file", &key])?;
    ensure!(
        verified["verified"] == true && verified["keys_opened"] == false,
        "{verified}"
    );
    Ok(())
}

/// Of services apart there is no one backup, and whoever asks for it is told where it is written how.
fn refused_apart(stage: &Stage) -> Result<()> {
    let backup = place(&stage.keywheel);
    stage.keywheel.apply(&manifest::secret(QUIET, &[]))?;
    stage.wait_current(QUIET, 1)?;
    let value = planted::plant(&stage.keywheel, QUIET)?;
    let said = stage.keywheel.cli(&["backup", "--out", &backup])?;
    ensure!(
        said.code == 2 && said.said().contains("backup.md"),
        "{}",
        said.said()
    );
    stage.finish(&[value], &[])
}

#[test]
fn everything_is_lost_but_a_backup_and_nothing_that_died_since_comes_back() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    if apart::is_wanted() {
        return refused_apart(&Stage::set()?);
    }
    let (mut stage, given) = set()?;
    let backup = place(&stage.keywheel);
    let container = stage.run("drill", &[], "/bin/app-idle")?;
    let first = values(&container)?;
    let token = issue_once(&stage.keywheel)?;
    back_up(&stage.keywheel, &backup)?;
    come_with(&stage.keywheel, &token)?.ok()?;
    stage.rotate(SECRET)?;
    let second = values(&container)?;
    ensure!(second[0] != first[0] && second[1] == first[1]);

    let left = lose(&mut stage.keywheel, container)?;
    restore_all(&stage.keywheel, &backup, &left)?;
    stage.keywheel.spawn(&Options::default())?;
    accept(&stage.keywheel)?;
    stage.keywheel.wait_ready()?;
    unseal_by_two(&stage.keywheel, &given)?;
    let container = run_again(&stage)?;
    let third = stage.value_soon_in(&container)?;
    ensure!(
        !first.contains(&third) && !second.contains(&third),
        "what died is in a container"
    );
    ensure!(
        values(&container)?[1] == first[1],
        "what nobody touched is another"
    );
    stage.wait_current(SECRET, 3)?;
    assert_on_record(&stage.keywheel)?;
    assert_used_up(&stage.keywheel, &token)?;
    // It goes on as any other, and its next start is an ordinary one.
    stage.keywheel.restart(&Options::default())?;
    shares::open(&stage.keywheel, [&given[1], &given[2]])?;
    stage.rotate(SECRET)?;
    let last = values(&container)?;
    ensure!(last[0] != third);
    several::policies_take_two(&mut stage.keywheel, &container, &given)?;
    let all = [&first[..], &second, &last, &[third], &given[..]].concat();
    stage.finish(&all, &[&container])
}
