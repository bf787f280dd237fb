//! How much is linked into the two programs that run near a container with privileges.
//!
//! Pure: what `cargo tree` prints of their packages in, findings and one line of figures out. Counted is every
//! crate whose code is in the program, the program's own and ours included. Macros that run while it is
//! compiled, and what those or build scripts depend on, are in no program and are not counted, nor is the
//! standard library. Both are asked for together and with nothing else, as `deploy/build.sh` builds them, so
//! that the features are those they are built with.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

/// The programs, and the packages that make them.
const PROGRAMS: [(&str, &str); 2] = [
    ("keywheel-nsjoin", "keywheel-sys"),
    ("keywheel-runtime", "keywheel-oci-runtime"),
];
/// Most crates in one of them.
const MOST_CRATES: usize = 15;
/// What `cargo` is asked: a crate with its version a line, a program's after an empty one.
pub(crate) const TREE: [&str; 13] = [
    "tree",
    "--locked",
    "--package",
    PROGRAMS[0].1,
    "--package",
    PROGRAMS[1].1,
    "--edges",
    "normal,no-proc-macro",
    "--no-dedupe",
    "--prefix",
    "none",
    "--format",
    "{p}",
];

/// Findings, and a line that says how many there are.
pub(crate) fn check(trees: &str) -> Result<(Vec<String>, String)> {
    let mut findings = Vec::new();
    let mut figures = Vec::new();
    for (program, package) in PROGRAMS {
        let linked = linked(trees, package);
        ensure!(!linked.is_empty(), "cargo tree tells nothing of {package}");
        figures.push(format!("{program} {}", linked.len()));
        if linked.len() > MOST_CRATES {
            findings.push(format!(
                "{program} is linked with {} crates, the limit is {MOST_CRATES}: {}",
                linked.len(),
                linked.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
    }
    let line = format!(
        "linked crates, without build-time macros: {} (limit {MOST_CRATES})",
        figures.join(", ")
    );
    Ok((findings, line))
}

/// Names and versions in the tree whose root is a package: two versions of one crate are two.
fn linked(trees: &str, package: &str) -> BTreeSet<String> {
    let is_its = |tree: &&str| tree.split_whitespace().next() == Some(package);
    let tree = trees.split("\n\n").find(is_its).unwrap_or_default();
    let crates = tree.lines().filter(|line| !line.trim().is_empty());
    crates
        .map(|line| {
            line.split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both programs; the helper is linked with this many crates besides its own, each told twice.
    fn trees(crates: usize) -> String {
        let names = (0..crates).map(|number| format!("c{number} v1.0.0\n"));
        let names: String = names.collect();
        format!(
            "keywheel-oci-runtime v0.1.0 (/w/services/oci-runtime)\n\nkeywheel-sys v0.1.0 (/w/services/sys)\n{names}{names}"
        )
    }

    #[test]
    fn the_limit_itself_is_fine_and_one_more_is_not() {
        let (findings, line) = check(&trees(MOST_CRATES - 1)).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        assert!(
            line.contains("keywheel-nsjoin 15, keywheel-runtime 1 "),
            "{line}"
        );
        let (findings, _) = check(&trees(MOST_CRATES)).unwrap();
        assert_eq!(findings.len(), 1, "{findings:?}");
    }

    #[test]
    fn two_versions_of_a_crate_are_two() {
        let both = format!("{}c0 v2.0.0\n", trees(MOST_CRATES - 1));
        assert_eq!(check(&both).unwrap().0.len(), 1);
    }

    #[test]
    fn a_tree_without_the_programs_is_an_error() {
        assert!(check("").is_err());
        assert!(check("keywheel-sys v0.1.0 (/w/services/sys)\n").is_err());
    }
}
