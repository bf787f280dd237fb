//! What a collector was told: spans, read from the log of `rotel`, an OpenTelemetry collector that
//! nobody here wrote. It takes OTLP over HTTP and prints each span in full.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::PATIENCE;
use crate::wait;

/// The version that `tests/run.sh` installs.
const ROTEL_VERSION: &str = "0.0.1a15";

/// One span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its trace.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// The one above it; empty for a root.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// `SPAN_KIND_…`.
    pub kind: String,
    /// `STATUS_CODE_…`; empty where none is set.
    pub status: String,
    /// When it began, in nanoseconds.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// What is said of it, and of its process.
    pub attributes: BTreeMap<String, String>,
}

impl Span {
    /// An attribute, or nothing.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// The collector's program, as `tests/run.sh` installs it.
#[expect(clippy::disallowed_methods, reason = "where the installer put it")]
pub fn collector() -> Result<PathBuf> {
    let home = std::env::var("HOME").map(PathBuf::from)?;
    let kept = home.join(".cache/keywheel/rotel").join(ROTEL_VERSION);
    let path = kept.join("rotel/rotel-agent");
    ensure!(
        path.exists(),
        "{} is missing: ./tests/run.sh installs it",
        path.display()
    );
    Ok(path)
}

/// Its arguments: where it takes spans, over HTTP and (which it always does) gRPC.
#[must_use]
pub fn arguments(address: &str, ports: [u16; 2]) -> Vec<String> {
    let [http, grpc] = ports.map(|port| format!("{address}:{port}"));
    let words = [
        "start",
        "--otlp-http-endpoint",
        &http,
        "--otlp-grpc-endpoint",
        &grpc,
        "--exporter",
        "blackhole",
        "--debug-log",
        "traces",
        "--debug-log-verbosity",
        "detailed",
    ];
    words.map(str::to_owned).to_vec()
}

/// Every span in its log.
pub fn read(log: &Path) -> Result<Vec<Span>> {
    let text = fs::read_to_string(log)?;
    // A block that is being written has no end yet.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    parse(whole)
}

fn parse(text: &str) -> Result<Vec<Span>> {
    let mut spans: Vec<Span> = Vec::new();
    let mut process = BTreeMap::new();
    let mut is_process = false;
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("ResourceSpans #") {
            process = BTreeMap::new();
            is_process = true;
            continue;
        }
        if line.starts_with("Span #") {
            is_process = false;
            spans.push(Span {
                attributes: process.clone(),
                ..Span::default()
            });
            continue;
        }
        if let Some(said) = line.strip_prefix("-> ") {
            let (key, value) = said.split_once(": ").context("no attribute")?;
            let value = value.split_once('(').map_or(value, |(_, value)| value);
            let value = value.trim_end_matches(')').to_owned();
            let attributes = match spans.last_mut() {
                Some(span) if !is_process => &mut span.attributes,
                _ => &mut process,
            };
            attributes.insert(key.to_owned(), value);
            continue;
        }
        let (Some(span), Some((key, value))) = (spans.last_mut(), line.split_once(": ")) else {
            continue;
        };
        let time = match key.trim() {
            "Start time" => Some(&mut span.start),
            "End time" => Some(&mut span.end),
            _ => None,
        };
        if let Some(time) = time {
            *time = value.trim().parse().context("no time")?;
            continue;
        }
        let field = match key.trim() {
            "Trace ID" => &mut span.trace,
            "Parent ID" => &mut span.parent,
            "ID" => &mut span.id,
            "Name" => &mut span.name,
            "Kind" => &mut span.kind,
            "Status code" => &mut span.status,
            _ => continue,
        };
        value.trim().clone_into(field);
    }
    Ok(spans)
}

/// One trace as lines `service name < the one above`, each once; fails unless it is one tree.
pub fn tree(spans: &[Span], trace: &str) -> Result<BTreeSet<String>> {
    let own: Vec<&Span> = spans.iter().filter(|span| span.trace == trace).collect();
    let by_id: BTreeMap<&str, &Span> = own.iter().map(|span| (span.id.as_str(), *span)).collect();
    ensure!(by_id.len() == own.len(), "two spans with one id: {own:?}");
    let roots = own.iter().filter(|span| span.parent.is_empty()).count();
    ensure!(roots == 1, "{roots} roots: {own:?}");
    let mut lines = BTreeSet::new();
    for span in &own {
        let above = match span.parent.as_str() {
            "" => "",
            parent => match by_id.get(parent) {
                Some(above) => above.name.as_str(),
                None => bail!("nothing is above {span:?}"),
            },
        };
        let service = span.get("service.name");
        lines.insert(format!("{service} {} < {above}", span.name));
    }
    Ok(lines)
}

/// A record that the audit sink read from the log, before the bus brought it with its trace.
const KEPT: &str = "keywheel-audit-sink keep audit < ";

/// Waits until one trace with such a root is exactly this tree; gives its spans. Where the sink looked into the log
/// just then, which it does every half minute, it has no span of what it found there: such a tree is taken once the
/// whole one did not come for a while.
pub fn wait_for(log: &Path, root: &str, expected: &[&str]) -> Result<Vec<Span>> {
    let expected: BTreeSet<String> = expected.iter().map(|line| (*line).to_owned()).collect();
    let what = format!("the trace of {root}");
    let whole = wait::until(&what, PATIENCE / 3, || found(log, root, &expected, false));
    whole.or_else(|_| wait::until(&what, PATIENCE, || found(log, root, &expected, true)))
}

/// The spans of the first such trace that is this tree, or lacks only what the audit sink found in the log.
fn found(
    log: &Path,
    root: &str,
    expected: &BTreeSet<String>,
    may_lack: bool,
) -> Result<Option<Vec<Span>>> {
    let spans = read(log)?;
    let roots = spans
        .iter()
        .filter(|span| span.parent.is_empty() && span.name == root);
    let mut seen = None;
    for trace in roots.map(|root| &root.trace) {
        let told = tree(&spans, trace);
        if told
            .as_ref()
            .is_ok_and(|told| is_it(told, expected, may_lack))
        {
            let own = spans.iter().filter(|span| span.trace == *trace);
            return Ok(Some(own.cloned().collect()));
        }
        seen = Some(told);
    }
    let seen = seen.context("no such trace")??;
    let (more, less) = (&seen - expected, expected - &seen);
    bail!("too much: {more:#?}; not there: {less:#?}")
}

fn is_it(told: &BTreeSet<String>, expected: &BTreeSet<String>, may_lack: bool) -> bool {
    let mut lacks = expected.difference(told);
    told.is_subset(expected) && lacks.all(|line| may_lack && line.starts_with(KEPT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_whole_or_lacks_only_what_the_audit_sink_found_in_the_log() {
        let lines = |all: &[&str]| all.iter().map(|line| (*line).to_owned()).collect();
        let kept = format!("{KEPT}POST /v1/revoke");
        let (root, other) = ("keywheel-gateway POST /v1/revoke < ", "another");
        let whole: BTreeSet<String> = lines(&[root, &kept]);
        for may_lack in [false, true] {
            assert!(is_it(&whole, &whole, may_lack));
            assert_eq!(is_it(&lines(&[root]), &whole, may_lack), may_lack);
            assert!(!is_it(&lines(&[&kept]), &whole, may_lack));
            assert!(!is_it(&lines(&[root, &kept, other]), &whole, may_lack));
        }
    }

    const TEXT: &str = "\
INFO Starting Rotel.
ResourceSpans #0
Resource SchemaURL: x
Resource attributes:
     -> service.name: Str(keywheel-gateway)
ScopeSpans #0
InstrumentationScope keywheel
Span #0
    Trace ID       : aa
    Parent ID      :
    ID             : 01
    Name           : POST /v1/rotate
    Kind           : SPAN_KIND_SERVER
    Start time: 1544712660000000000
    End time: 1544712660000000001
Attributes:
     -> http.route: Str(/v1/rotate)
Span #1
    Trace ID       : aa
    Parent ID      : 01
    ID             : 02
    Name           : rotation
    Status code    : STATUS_CODE_ERROR
Attributes:
     -> keywheel.version: Int(3)
";

    #[test]
    fn spans_are_read_and_a_trace_is_one_tree() -> Result<()> {
        let spans = parse(TEXT)?;
        let [root, rotation] = spans.as_slice() else {
            bail!("{spans:?}")
        };
        assert_eq!(root.get("service.name"), "keywheel-gateway");
        assert_eq!(root.get("http.route"), "/v1/rotate");
        assert_eq!(root.end - root.start, 1);
        assert_eq!(rotation.get("keywheel.version"), "3");
        assert_eq!(rotation.status, "STATUS_CODE_ERROR");
        let lines: Vec<String> = tree(&spans, "aa")?.into_iter().collect();
        let expected = [
            "keywheel-gateway POST /v1/rotate < ",
            "keywheel-gateway rotation < POST /v1/rotate",
        ];
        assert_eq!(lines, expected);
        assert!(tree(&spans[1..], "aa").is_err(), "nothing above, no root");
        Ok(())
    }
}
