//! Every example in documentation is run: a library that is left out of that, since it has none, has none.
//!
//! Pure: metadata and sources in, findings out. An example is what stands between fences and is not said to be
//! something else than Rust, as Rust's own documentation tool has it.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Source;

const FENCE: &str = "```";
/// What is said of an example that is Rust.
const RUST: [&str; 6] = [
    "rust",
    "compile_fail",
    "should_panic",
    "no_run",
    "ignore",
    "test_harness",
];

/// Findings over the output of `cargo metadata --no-deps` and all sources.
pub(crate) fn check(root: &Path, metadata: &Value, sources: &[Source]) -> Result<Vec<String>> {
    let packages = metadata.get("packages").and_then(Value::as_array);
    let mut findings = Vec::new();
    for package in packages.context("cargo metadata without packages")? {
        let targets = package.get("targets").and_then(Value::as_array);
        for target in targets.into_iter().flatten() {
            let is_library = target["kind"][0] == "lib";
            if !is_library || target["doctest"] != false {
                continue;
            }
            let path = target["src_path"].as_str().context("a library nowhere")?;
            let folder = Path::new(path).parent().context("a library nowhere")?;
            let own = sources.iter();
            let own = own.filter(|source| root.join(&source.path).starts_with(folder));
            findings.extend(own.flat_map(unrun));
        }
    }
    Ok(findings)
}

/// The examples of a file, each as a finding.
fn unrun(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let mut is_open = false;
    for (number, line) in (1..).zip(source.text.lines()) {
        let line = line.trim_start();
        let said = line.strip_prefix("///").or(line.strip_prefix("//!"));
        let Some(said) = said.and_then(|said| said.trim_start().strip_prefix(FENCE)) else {
            continue;
        };
        is_open = !is_open;
        let mut words = said.split([',', ' ']).map(str::trim);
        let is_rust = said.trim().is_empty() || words.any(|word| RUST.contains(&word));
        if is_open && is_rust {
            findings.push(format!(
                "{}:{number}: an example that nobody runs: its library's manifest says `doctest = false`; take that out",
                source.path
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EXAMPLE: &str =
        "/// Doubles.\n/// ```\n/// assert_eq!(double(1), 2);\n/// ```\nfn double() {}\n";
    const PICTURE: &str = "//! ```text\n//! a --> b\n//! ```\n";

    fn found(doctest: bool, path: &str, text: &str) -> Vec<String> {
        let library =
            json!({ "kind": ["lib"], "doctest": doctest, "src_path": "/r/services/a/src/lib.rs" });
        let metadata = json!({ "packages": [{ "targets": [library] }] });
        let source = Source::new(path.to_owned(), text.to_owned());
        check(Path::new("/r"), &metadata, &[source]).unwrap()
    }

    #[test]
    fn an_example_that_nobody_runs_is_found() {
        let found_there = found(false, "services/a/src/b.rs", EXAMPLE);
        assert_eq!(found_there.len(), 1);
        assert!(found_there[0].starts_with("services/a/src/b.rs:2: "));
        let refused = EXAMPLE.replace("```\n/// assert", "```compile_fail\n/// assert");
        assert_eq!(found(false, "services/a/src/b.rs", &refused).len(), 1);
    }

    #[test]
    fn what_is_run_is_another_library_s_or_no_rust_is_none() {
        assert!(found(true, "services/a/src/b.rs", EXAMPLE).is_empty());
        assert!(found(false, "services/b/src/b.rs", EXAMPLE).is_empty());
        assert!(found(false, "services/a/src/b.rs", PICTURE).is_empty());
    }
}
