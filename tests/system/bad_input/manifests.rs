//! What `apply` refuses, each with its position and the nearest good word.

use anyhow::Result;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::manifest;

use crate::refusal::{
    BAD_INPUT, NO_INPUT, NOT_FOUND, assert_nothing_lost, assert_refused, with_something,
};

const HEAD: &str = "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: test/new }\n";

/// What is wrong, the manifest, what the answer has to say.
type Row = (&'static str, String, &'static [&'static str]);

fn secret(spec: &str) -> String {
    format!("{HEAD}spec:\n  store: local\n  {spec}\n")
}

fn document_rows() -> Vec<Row> {
    let plain = secret("");
    vec![
        (
            "broken yaml",
            "apiVersion: [unclosed\nkind: Secret\n".to_owned(),
            &[":2:5:"],
        ),
        ("no document", "# nothing\n".to_owned(), &["no"]),
        (
            "unknown kind",
            plain.replace("Secret", "Secrt"),
            &["Secrt", "Secret"],
        ),
        (
            "unknown version",
            plain.replace("/v1", "/v9"),
            &["keywheel.dev/v1"],
        ),
        (
            "unknown store",
            plain.replace("local", "lokal"),
            &["lokal", "local"],
        ),
        (
            "bad name",
            plain.replace("test/new", "Test/New"),
            &["Test/New"],
        ),
    ]
}

fn secret_rows() -> Vec<Row> {
    let schedule = |rest: &str| secret(&format!("generator: {{}}\n  rotation: {{ {rest} }}"));
    vec![
        (
            "unknown field",
            secret("genrator: { length: 32 }"),
            &["genrator", "generator", ":6:3:"],
        ),
        (
            "bad cron",
            schedule("schedule: \"61 * * * *\""),
            &["`61`", "0-59"],
        ),
        (
            "bad zone",
            schedule("schedule: \"0 3 * * *\", timezone: Mars/Olympus"),
            &["Mars/Olympus"],
        ),
        (
            "bad duration",
            schedule("schedule: \"0 3 * * *\", jitter: soon"),
            &["jitter"],
        ),
        (
            "a window that never closes",
            schedule("schedule: \"0 3 * * *\", windows: [{ schedule: \"0 22 * * *\" }]"),
            &["`duration` is missing in a window", ":7:"],
        ),
        (
            "a hold-off that leaves no slot",
            schedule("schedule: \"0 3 * * *\", maxAge: 9d, holdOff: 9d"),
            &["`holdOff`", "`maxAge`", "shorten"],
        ),
        (
            "zero length",
            secret("generator: { length: 0 }"),
            &["length"],
        ),
        (
            "huge length",
            secret("generator: { length: 1000000 }"),
            &["length", "4096"],
        ),
    ]
}

fn binding_rows() -> Vec<Row> {
    let binding = |more: &str| {
        "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: b }\nspec:\n  secret: test/kept\n".to_owned()
            + more
    };
    let granted = |more: &str| binding(&format!("  containers: {{ host: h, image: i }}\n{more}"));
    let labels = binding("  containers: { labels: { app: x } }\n  file: { name: f }\n");
    vec![
        ("labels alone", labels, &["insecureSelector"]),
        (
            "file and env",
            granted("  file: { name: f }\n  env: { name: E }\n"),
            &["file", "env"],
        ),
        ("neither file nor env", granted(""), &["file", "env"]),
        (
            "bad signal",
            granted("  file: { name: f }\n  reload: { signal: HUPP }\n"),
            &["HUPP"],
        ),
        (
            "bad mode",
            granted("  file: { name: f, mode: \"9999\" }\n"),
            &["mode"],
        ),
        (
            "path in a file name",
            granted("  file: { name: ../../etc/passwd }\n"),
            &["../../etc/passwd"],
        ),
        (
            "env with a signal",
            granted("  env: { name: E }\n  reload: { signal: HUP }\n"),
            &["restart"],
        ),
    ]
}

/// How many records there are of manifests that were refused.
fn refused(keywheel: &Keywheel) -> Result<usize> {
    let records = keywheel.stream("audit")?;
    let is_refused = |record: &&serde_json::Value| {
        let is_of_manifests = ["apply", "bind"].iter().any(|verb| record["verb"] == *verb);
        let outcomes = ["malformed", "rejected"];
        is_of_manifests && outcomes.iter().any(|one| record["outcome"] == *one)
    };
    Ok(records.iter().filter(is_refused).count())
}

#[test]
fn every_bad_manifest_is_refused_on_record_and_nothing_is_lost() -> Result<()> {
    let keywheel = with_something()?;
    let before = refused(&keywheel)?;
    let rows = [document_rows(), secret_rows(), binding_rows()].concat();
    let asked = rows.len();
    for (fault, yaml, words) in rows {
        let said = keywheel.try_apply(&yaml)?;
        eprintln!("--- {fault} (exit {}): {}", said.code, said.stderr);
        assert_refused(&said, BAD_INPUT, words);
    }
    // The client sends every manifest as it is: what is wrong with it is the server's to say.
    assert_eq!(refused(&keywheel)? - before, asked, "not all are on record");
    let list = keywheel.json(&["secret", "list"])?.to_string();
    assert!(
        !list.contains("test/new"),
        "a refused manifest left something behind: {list}"
    );
    assert_nothing_lost(&keywheel)
}

#[test]
fn a_binding_to_an_unknown_secret_names_it() -> Result<()> {
    let keywheel = with_something()?;
    let yaml = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: b }\nspec:\n  secret: test/kep\n  \
                containers: { host: h, image: i }\n  file: { name: f }\n";
    assert_refused(&keywheel.try_apply(yaml)?, NOT_FOUND, &["test/kep"]);
    assert_nothing_lost(&keywheel)
}

#[test]
fn one_bad_document_refuses_the_whole_file() -> Result<()> {
    let keywheel = with_something()?;
    let yaml = manifest::secret("test/first", &[]) + "apiVersion: keywheel.dev/v1\nkind: Scret\n";
    let said = keywheel.try_apply(&yaml)?;
    assert_refused(&said, BAD_INPUT, &["Scret"]);
    let list = keywheel.json(&["secret", "list"])?.to_string();
    assert!(!list.contains("test/first"), "half of a file was applied");
    assert_nothing_lost(&keywheel)
}

#[test]
fn one_document_that_is_refused_refuses_the_whole_file_and_a_dry_run_says_so() -> Result<()> {
    let keywheel = with_something()?;
    let stray = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: stray }\nspec:\n  \
                 secret: test/none\n  containers: { host: h, image: i }\n  file: { name: f }\n";
    let yaml = manifest::secret("test/first", &[]) + stray;
    let file = keywheel.scratch().write("half.yaml", yaml)?;
    let file = file.display().to_string();
    let apply = ["apply", "-f", &file, "--dry-run"];
    let words = [
        "nothing was applied",
        "document 2, Binding `stray`",
        "test/none",
    ];
    for args in [&apply[..], &apply[..3]] {
        assert_refused(&keywheel.cli(args)?, NOT_FOUND, &words);
    }
    let list = keywheel.json(&["secret", "list"])?.to_string();
    assert!(!list.contains("test/first"), "half of a file was applied");
    assert_nothing_lost(&keywheel)
}

#[test]
fn a_missing_file_is_named() -> Result<()> {
    let keywheel = with_something()?;
    let said = keywheel.cli(&["apply", "-f", "/nonexistent/manifest.yaml"])?;
    assert_refused(&said, NO_INPUT, &["/nonexistent/manifest.yaml"]);
    assert_nothing_lost(&keywheel)
}
