//! How much is linked into the two programs that run near a container with privileges.
//!
//! Pure: the resolved graph of `cargo metadata` in, findings and one line of figures out. Counted is every
//! crate whose code is in the program, the program's own and ours included. Macros that run while it is
//! compiled, and what those or build scripts depend on, are in no program and are not counted, nor is the
//! standard library. Cargo's graph has the features that any crate of the workspace asks for, so the
//! figure is never too small.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The programs, and the packages that make them.
const PROGRAMS: [(&str, &str); 2] = [
    ("keywheel-nsjoin", "keywheel-sys"),
    ("keywheel-runtime", "keywheel-oci-runtime"),
];
/// Most crates in one of them.
const MOST_CRATES: usize = 15;

/// What is known of one package of the graph.
struct Node<'a> {
    name: &'a str,
    is_macro: bool,
    /// Ids of what it is linked with.
    links: Vec<&'a str>,
}

/// Findings, and a line that says how many there are.
pub(crate) fn check(metadata: &Value) -> Result<(Vec<String>, String)> {
    let graph = read(metadata)?;
    let mut findings = Vec::new();
    let mut figures = Vec::new();
    for (program, package) in PROGRAMS {
        let linked = linked(&graph, package)?;
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

fn read(metadata: &Value) -> Result<BTreeMap<&str, Node<'_>>> {
    let packages = metadata.get("packages").and_then(Value::as_array);
    let nodes = metadata.pointer("/resolve/nodes").and_then(Value::as_array);
    let mut graph = BTreeMap::new();
    for package in packages.context("cargo metadata without packages")? {
        let text = |key| package.get(key).and_then(Value::as_str);
        let node = Node {
            name: text("name").context("a package without a name")?,
            is_macro: is_macro(package),
            links: Vec::new(),
        };
        graph.insert(text("id").context("a package without an id")?, node);
    }
    for node in nodes.context("cargo metadata without its resolved graph")? {
        let id = node.get("id").and_then(Value::as_str).unwrap_or_default();
        let deps = node.get("deps").and_then(Value::as_array);
        let links = deps.into_iter().flatten().filter(|dep| is_linked(dep));
        let links = links.filter_map(|dep| dep.get("pkg").and_then(Value::as_str));
        if let Some(known) = graph.get_mut(id) {
            known.links = links.collect();
        }
    }
    Ok(graph)
}

fn is_macro(package: &Value) -> bool {
    let targets = package.get("targets").and_then(Value::as_array);
    let kinds = targets
        .into_iter()
        .flatten()
        .filter_map(|target| target.get("kind").and_then(Value::as_array));
    kinds.flatten().any(|kind| kind == "proc-macro")
}

/// Neither for tests nor for build scripts only.
fn is_linked(dep: &Value) -> bool {
    let kinds = dep.get("dep_kinds").and_then(Value::as_array);
    kinds
        .into_iter()
        .flatten()
        .any(|kind| kind.get("kind").is_none_or(Value::is_null))
}

/// Names and ids keep two versions of one crate apart.
fn linked<'a>(graph: &BTreeMap<&'a str, Node<'a>>, package: &str) -> Result<BTreeSet<String>> {
    let root = graph.iter().find(|(_, node)| node.name == package);
    let (root, _) = root.with_context(|| format!("no package {package}"))?;
    let mut seen = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut open = vec![*root];
    while let Some(id) = open.pop() {
        let Some(node) = graph.get(id).filter(|node| !node.is_macro) else {
            continue;
        };
        if seen.insert(id) {
            let version = id.rsplit(['@', '#']).next().unwrap_or_default();
            names.insert(format!("{} {version}", node.name));
            open.extend(&node.links);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, kind: &str) -> Value {
        json!({ "name": name, "id": format!("r#{name}@1.0.0"), "targets": [{ "kind": [kind] }] })
    }

    fn node(name: &str, on: &[(&str, Option<&str>)]) -> Value {
        let deps = on.iter().map(
            |(to, kind)| json!({ "pkg": format!("r#{to}@1.0.0"), "dep_kinds": [{ "kind": kind }] }),
        );
        json!({ "id": format!("r#{name}@1.0.0"), "deps": deps.collect::<Vec<_>>() })
    }

    /// Both programs; the helper is linked with this many crates besides its own.
    fn graph(crates: usize) -> Value {
        let names: Vec<String> = (0..crates).map(|number| format!("c{number}")).collect();
        let mut packages = vec![
            package("keywheel-sys", "lib"),
            package("keywheel-oci-runtime", "bin"),
            package("derive", "proc-macro"),
            package("syn", "lib"),
            package("cc", "lib"),
            package("proptest", "lib"),
        ];
        packages.extend(names.iter().map(|name| package(name, "lib")));
        let mut on: Vec<(&str, Option<&str>)> = vec![
            ("derive", None),
            ("cc", Some("build")),
            ("proptest", Some("dev")),
        ];
        on.extend(names.iter().map(|name| (name.as_str(), None)));
        let nodes = [
            node("keywheel-sys", &on),
            node("keywheel-oci-runtime", &[("syn", Some("dev"))]),
            node("derive", &[("syn", None)]),
        ];
        json!({ "packages": packages, "resolve": { "nodes": nodes } })
    }

    #[test]
    fn the_limit_itself_is_fine_and_one_more_is_not() {
        let (findings, line) = check(&graph(MOST_CRATES - 1)).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        assert!(
            line.contains("keywheel-nsjoin 15, keywheel-runtime 1 "),
            "{line}"
        );
        let (findings, _) = check(&graph(MOST_CRATES)).unwrap();
        assert_eq!(findings.len(), 1, "{findings:?}");
    }

    #[test]
    fn a_graph_without_the_programs_is_an_error() {
        assert!(check(&json!({ "packages": [] })).is_err());
        assert!(check(&json!({ "packages": [], "resolve": { "nodes": [] } })).is_err());
    }
}
