//! Every verb of the command line, as its help lists them: none shows a value, neither one that a person gave nor one
//! that was generated for whoever asked.
//!
//! A verb that is in no row fails here: whoever adds one says how it is called.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::planted::{PLANTED, plant};
use keywheel_tests::stage::{SECRET, Stage};
use keywheel_tests::{apart, docker, scratch};

/// How a verb is walked.
enum How {
    /// Called with these words, in both formats, and it has to succeed.
    Must(&'static str),
    /// The same where everything runs in one process; services apart refuse it.
    MustInOne(&'static str),
    /// Called with these words, whatever comes of it.
    May(&'static str),
    /// Not called here, and why.
    Not(&'static str),
}

use How::{May, Must, MustInOne, Not};

/// An id of nothing.
const NONE: &str = "00000000-0000-0000-0000-000000000000";
const SERVES: &str = "serves; what it says is its log, which the canary searches";
const KEYS: &str = "makes or renews credentials where no value is";
const ENDLESS: &str = "the stream of `list`, without an end";
const MACHINE: &str =
    "changes this machine's engine; suites `quickstart`, `engines` and `migrate` call it";

/// Every verb; `{secret}`, `{planted}`, `{container}`, `{host}`, `{none}` and `{key}` stand for what the test has, `{set}`
/// for a shipped set of policies, and `{run}` for a folder that is searched at the end, `{format}` for the one that is
/// asked for.
const VERBS: &[(&str, How)] = &[
    ("up", Not(SERVES)),
    ("server", Not(SERVES)),
    ("init", Not(KEYS)),
    (
        "unseal",
        Not("asks a person for a share; suite `bad_input` gives some"),
    ),
    (
        "seal",
        Not("nothing opens a value after it; suite `bad_input` calls it"),
    ),
    ("rotate-kek", Must("--wait")),
    ("reseal", Not(KEYS)),
    ("credentials refresh", Not(KEYS)),
    ("nats config", Not(KEYS)),
    ("ca begin", Not(KEYS)),
    ("ca status", Not(KEYS)),
    ("ca finish", Not(KEYS)),
    ("status", Must("")),
    ("doctor", May("")),
    ("apply", May("-f /nonexistent")),
    (
        "import vault",
        Not("asks a store outside; suite `outside_stores` calls it"),
    ),
    (
        "import aws",
        Not("asks a store outside; suite `outside_stores` calls it"),
    ),
    ("get", Must("secrets")),
    ("describe", Must("secret {secret}")),
    ("explain", Must("{container} {secret} --host {host}")),
    ("secret put", Must("{secret} --wait")),
    ("secret list", Must("")),
    ("secret versions", Must("{planted}")),
    ("schedule next", Must("{secret}")),
    ("rotate", Must("{secret} --wait")),
    ("rotation list", Must("")),
    ("rotation describe", Must("{secret}")),
    ("rotation abort", May("{secret} --reason walked")),
    ("rotation retry", May("{secret} --reason walked")),
    ("rotation force", May("{secret} --reason walked --yes")),
    ("refresh", May("")),
    ("store list", Must("")),
    ("store describe", May("none")),
    ("store policy", May("none")),
    ("store remove", May("none --yes")),
    ("rotator grants", May("none")),
    ("revoke", Must("{secret} --dry-run")),
    ("revocation list", Must("")),
    ("revocation describe", May("{secret}")),
    ("revocation forget", May("{secret} --reason walked --yes")),
    ("playbook list", Must("")),
    ("playbook describe", May("none")),
    ("playbook validate", May("none")),
    ("playbook plan", May("none")),
    ("playbook run", May("none --reason walked --yes")),
    ("playbook runs", Must("")),
    ("playbook describe-run", May("{none}")),
    ("playbook approve", May("{none} --reason walked")),
    ("playbook pause", May("{none} --reason walked")),
    ("playbook resume", May("{none} --reason walked")),
    ("playbook cancel", May("{none} --reason walked")),
    ("playbook quarantines", Must("")),
    ("playbook lift", May("none --reason walked")),
    ("playbook remove", May("none --yes")),
    ("policy apply", May("/nonexistent")),
    ("policy validate", Must("{set}")),
    ("policy test", Must("{set}")),
    ("policy explain", Must("unix:0 rotate secret/{secret}")),
    ("policy show", Must("")),
    ("token issue", May("walked --verb list --on environment")),
    ("token list", Must("")),
    ("token revoke", May("walked --reason walked")),
    ("approval list", Must("")),
    ("approval describe", May("{none}")),
    ("approval approve", May("{none} --reason walked")),
    ("approval deny", May("{none} --reason walked")),
    ("approval withdraw", May("{none}")),
    ("approval break-glass", May("{none} --reason walked")),
    ("approval review", May("{none} --reason walked")),
    ("approval confirm-sinks", May("--reason walked")),
    ("login", May("--no-browser")),
    ("logout", May("")),
    ("whoami", Must("")),
    ("unbind", May("none --yes")),
    ("consumers", Must("")),
    ("host list", Must("")),
    ("host describe", Must("{host}")),
    ("host join-token", May("other")),
    ("host evict", May("none --reason walked --yes")),
    ("events list", Must("--after 0")),
    ("events tail", Not(ENDLESS)),
    ("events subscribe", May("walked --after 0")),
    ("events subscriptions", Must("")),
    ("events acknowledge", May("walked 1")),
    ("events unsubscribe", May("walked")),
    ("notification list", Must("")),
    ("notification describe", May("none")),
    ("notification test", May("none")),
    ("notification replay", May("none --after 0")),
    ("notification remove", May("none --yes")),
    ("signal sources", Must("")),
    ("signal remove-source", May("none --yes")),
    ("letter list", Must("")),
    ("letter retry", May("{none}")),
    ("letter discard", May("{none}")),
    ("history", Must("{secret}")),
    ("audit list", Must("--after 0")),
    ("audit tail", Not(ENDLESS)),
    ("audit prove", Must("0")),
    ("audit retention", Must("")),
    ("audit export", Must("")),
    ("audit verify", Must("")),
    ("journal verify", Must("")),
    ("backup", MustInOne("--out {run}/walked.{format}")),
    (
        "backup verify",
        MustInOne("{run}/walked.{format} --unseal-key-file {key}"),
    ),
    (
        "restore",
        MustInOne(
            "{run}/walked.{format} --data-dir {run}/restored.{format} --unseal-key-file {key}",
        ),
    ),
    ("restore accept", May("--reason walked")),
    ("report revocation", May("{secret}")),
    ("report rotation", May("{secret}")),
    ("report host", May("{host}")),
    ("report playbook-run", May("{none}")),
    (
        "report verify",
        Not("reads a report again; suite `offline_audit` calls it"),
    ),
    ("setup docker", Not(MACHINE)),
    ("setup podman", Not(MACHINE)),
    ("migrate", Not(MACHINE)),
    ("completion", May("bash")),
    ("version", Must("")),
    ("exit-codes", May("")),
];

/// Whether a help says that there is something to do without a verb below: of its lines of use one has none.
fn acts(help: &str) -> Result<bool> {
    let (_, usage) = help.split_once("Usage: ").context("a help without usage")?;
    let mut lines = usage.lines().take_while(|line| !line.is_empty());
    Ok(lines.any(|line| !line.contains("<COMMAND>")))
}

/// The verbs below these words, by what their help lists: the words of each that does something, also where it has
/// others below it.
fn leaves(keywheel: &Keywheel, words: &[String], found: &mut BTreeSet<String>) -> Result<()> {
    let asked: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
    let help = keywheel.cli(&asked)?.ok()?;
    if acts(&help.stdout)? {
        found.insert(words.join(" "));
    }
    let Some((_, below)) = help.stdout.split_once("Commands:\n") else {
        return Ok(());
    };
    let listed = below.lines().take_while(|line| !line.is_empty());
    // What a long line goes on in stands further to the right.
    let names = listed.filter_map(|line| {
        line.strip_prefix("  ")
            .filter(|rest| !rest.starts_with(' '))
    });
    for name in names.filter_map(|rest| rest.split_whitespace().next()) {
        if name != "help" {
            let below = [words, &[name.to_owned()]].concat();
            leaves(keywheel, &below, found)?;
        }
    }
    Ok(())
}

fn walk(keywheel: &Keywheel, verb: &str, words: &str, has_to: bool) -> Result<()> {
    for format in ["table", "json"] {
        let line = format!("{verb} {words}").replace("{format}", format);
        let called: Vec<&str> = line.split_whitespace().collect();
        // What is said is kept, and searched with every other place at the end.
        let said = keywheel.cli(&[called.as_slice(), &["-o", format]].concat())?;
        ensure!(!has_to || said.code == 0, "`{line}`: {}", said.said());
    }
    Ok(())
}

#[test]
fn no_verb_of_the_command_line_shows_a_value() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("walked", "none")?;
    let container = stage.run("walked", &[], "/bin/app-idle")?;
    let first = stage.value_in(&container)?;
    let given = plant(&stage.keywheel, PLANTED)?;
    let mut there = BTreeSet::new();
    leaves(&stage.keywheel, &[], &mut there)?;
    ensure!(there.len() > 60, "the help was not read: {there:?}");
    let rows: BTreeSet<String> = VERBS.iter().map(|(verb, _)| (*verb).to_owned()).collect();
    let unwalked: Vec<&String> = there.symmetric_difference(&rows).collect();
    ensure!(
        unwalked.is_empty(),
        "in no row, or a row of no verb: {unwalked:?}"
    );
    let mut values = vec![first, given];
    let set = scratch::root().join("deploy/policies/team-scoped");
    for (verb, how) in VERBS {
        let (words, has_to) = match how {
            Must(words) => (words, true),
            MustInOne(words) => (words, !apart::is_wanted()),
            May(words) => (words, false),
            Not(why) => {
                ensure!(
                    !why.is_empty(),
                    "`{verb}` is not called, and nothing says why"
                );
                continue;
            }
        };
        let words = words
            .replace("{secret}", SECRET)
            .replace("{planted}", PLANTED)
            .replace("{container}", container.id())
            .replace("{host}", &stage.host)
            .replace("{none}", NONE)
            .replace("{set}", &set.display().to_string())
            .replace("{run}", &stage.keywheel.run_dir().display().to_string())
            .replace("{key}", &stage.keywheel.unseal_key().display().to_string());
        walk(&stage.keywheel, verb, &words, has_to)?;
        // What was generated for whoever asked is in the container, and was not in an answer.
        let now = stage.value_in(&container)?;
        if !values.contains(&now) {
            values.push(now);
        }
    }
    let generated = values.len().checked_sub(2).context("no values")?;
    ensure!(
        generated >= 2,
        "{generated} values were generated for verbs"
    );
    stage.finish(&values, &[&container])
}
