//! The examples in `deploy/policies`: each is a set, decides what its cases say, and has nothing odd about it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use keywheel_policy::{Set, Source, parse_cases, parse_groups};

fn examples() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policies");
    let all = fs::read_dir(all)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    all.filter(|path| path.is_dir()).collect()
}

fn read(example: &Path, name: &str) -> String {
    fs::read_to_string(example.join(name))
        .unwrap_or_else(|error| panic!("{example:?} {name}: {error}"))
}

#[test]
fn every_example_decides_what_its_cases_say() {
    let examples = examples();
    assert!(examples.len() >= 4, "{examples:?}");
    for example in examples {
        let source = Source {
            policies: read(&example, "policies.cedar"),
            groups: parse_groups(&read(&example, "groups.json")).unwrap(),
        };
        let set = Set::compile(&source).unwrap_or_else(|faults| panic!("{example:?}: {faults:?}"));
        assert_eq!(set.lint(None), [], "{example:?}");
        let cases = parse_cases(&read(&example, "cases.json")).unwrap();
        assert_eq!(set.check(&cases), [], "{example:?}");
        // A file that expects one answer only would hold under a set that always gives it.
        assert!(cases.iter().any(|case| case.allowed) && cases.iter().any(|case| !case.allowed));
        // Every policy of the example is shown to decide something.
        let shown = |name: &str| cases.iter().any(|case| case.by.as_deref() == Some(name));
        let unshown: Vec<&str> = set.names().filter(|name| !shown(name)).collect();
        assert!(unshown.is_empty(), "{example:?}: no case shows {unshown:?}");
    }
}

#[test]
fn a_case_that_comes_out_otherwise_is_named_with_what_decided() {
    let set = Set::compile(&Source::shipped()).unwrap();
    let text = r#"{"cases": [
        {"name": "right", "principal": "unix:0", "verb": "rotate", "resource": "secret/a", "expect": "allow", "by": "root"},
        {"name": "wrong", "principal": "unix:0", "verb": "rotate", "resource": "secret/a", "expect": "deny"},
        {"name": "by another", "principal": "unix:0", "verb": "rotate", "resource": "secret/a", "expect": "allow", "by": "x"}
    ]}"#;
    let failed = set.check(&parse_cases(text).unwrap());
    let names: Vec<&str> = failed.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["wrong", "by another"]);
    assert!(
        failed[0].text.contains("allowed (root)"),
        "{}",
        failed[0].text
    );
}

#[test]
fn a_file_of_cases_that_is_none_is_refused() {
    for text in [
        "",
        "{}",
        r#"{"cases": []}"#,
        r#"{"cases": [{"name": "a"}]}"#,
    ] {
        assert!(parse_cases(text).is_err(), "{text}");
    }
    let typo = r#"{"cases": [{"name": "a", "principal": "ada", "verb": "list", "resource": "secret/a", "expect": "deny"}]}"#;
    assert!(parse_cases(typo).unwrap_err().contains("case `a`"));
}
