//! Every test that a document names as a proof exists: `tests/README.md` has a table from the rows of
//! the fault matrix to tests, each row once, and one from what went wrong elsewhere; `deploy/docs/security.md` has
//! tables from what is asked, and from who attacks, to tests, each with the suite that runs it where it is one with
//! real containers. And every metric is judged by some test.
//!
//! A name is what stands in backticks and has a `_`; a test is a function of that name among tests or
//! in their kit. Nothing is left to work that is done. A metric is judged where its name is spelt out,
//! which only tests do. Knows nothing of what a test shows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::Source;
use super::words::product_lines;

/// The document with the tables, and the headings before them: that of the matrix, and that of what went wrong
/// elsewhere.
pub(super) const DOCUMENT: &str = "tests/README.md";
const HEADING: &str = "\n## Rows";
const ELSEWHERE: &str = "\n## Seen elsewhere";
/// The rows of the fault matrix.
const ROWS: RangeInclusive<u32> = 1..=72;
/// Those that containers are about: tests show them, nothing is left to later work.
const OF_CONTAINERS: RangeInclusive<u32> = 27..=46;
/// How a row begins to say that later work shows it; the issue's number and `)` follow.
const OPEN: &str = "open (issue ";
/// The document on security, what its tables have to speak of, and in which of their columns tests stand.
pub(super) const SECURITY: &str = "deploy/docs/security.md";
const ASKED: [&str; 43] = [
    "C1", "C2", "C3", "C4", "C5", "C6", "K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "H2", "Z1",
    "Z2", "Z3", "Z4", "Z5", "Z6", "people", "policies", "several", "A1", "A2", "A3", "A4", "A5",
    "A6", "A7", "TH1", "TH2", "TH3", "TH4", "TH5", "TH6", "TH7", "TH8", "TH9", "TH10", "TH11",
    "TH12",
];
const SHOWN_BY: usize = 3;
/// Where suites with real containers are, each in a directory of its name.
const SUITES: &str = "tests/system/";
/// How a row would leave something to work that is done: that on containers, and that on trust.
const DONE: [&str; 2] = ["(issue 5)", "(issue 8)"];
/// Where the laws of ports are, which are tests of every adapter.
const KIT: &str = "services/testkit/";

/// Where metrics are named, and what is made from that.
const METRICS: &str = "services/telemetry/src/names.rs";
const MADE: &str = "services/telemetry/src/deploy";
/// How every metric's name begins.
const PREFIX: &str = "keywheel_";

/// Metrics whose name no test spells out.
pub(super) fn unjudged(sources: &[Source]) -> Vec<String> {
    let catalogue = sources.iter().find(|source| source.path == METRICS);
    let quoted = catalogue.map_or("", |source| source.text.as_str());
    let quoted = quoted.split('"').skip(1).step_by(2);
    let is_metric = |name: &&str| name.starts_with(PREFIX) && *name != PREFIX;
    let names: BTreeSet<&str> = quoted.filter(is_metric).collect();
    let is_elsewhere = |source: &&Source| source.path != METRICS && !source.path.starts_with(MADE);
    let others: Vec<&Source> = sources.iter().filter(is_elsewhere).collect();
    let is_spelt = |name: &str| others.iter().any(|source| spells(&source.text, name));
    let unjudged = names.into_iter().filter(|name| !is_spelt(name));
    unjudged
        .map(|name| format!("{METRICS}: no test judges `{name}`; let one look at its number"))
        .collect()
}

/// Whether a text has a metric's name, or that of one of a histogram's series.
fn spells(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let after = text.get(at + name.len()..).unwrap_or_default();
        let series = ["_count", "_sum", "_bucket"];
        let after = series
            .iter()
            .find_map(|end| after.strip_prefix(end))
            .unwrap_or(after);
        !after.starts_with(|letter: char| letter == '_' || letter.is_alphanumeric())
    })
}

/// Checks the document against all sources.
pub(super) fn check(document: &str, sources: &[Source]) -> Vec<String> {
    let names = named(document);
    if names.is_empty() {
        return vec![format!("{DOCUMENT}: no table of proofs")];
    }
    let functions: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| functions(of_tests(source)))
        .collect();
    let is_missing = |name: &&str| !functions.contains(*name);
    names
        .into_iter()
        .filter(is_missing)
        .map(|name| format!("{DOCUMENT}: there is no test `{name}`; name what shows the row now"))
        .collect()
}

/// Rows of the document on security that name no test or one that is gone, and what has no row.
pub(super) fn security(document: &str, sources: &[Source]) -> Vec<String> {
    let places = places(sources);
    let mut findings = Vec::new();
    let mut spoken_of: Vec<&str> = Vec::new();
    for line in document.lines().filter(|line| line.starts_with('|')) {
        let row = line.trim().trim_start_matches('|');
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let first = cells.first().copied().unwrap_or_default();
        if first.is_empty() || first.starts_with("---") {
            continue;
        }
        spoken_of.extend(first.split(',').map(str::trim));
        let shown = cells.get(SHOWN_BY).copied().unwrap_or_default();
        if quoted(shown).next().is_none() {
            findings.push(format!("{SECURITY}: row {first} names no test"));
        }
        let proofs = with_suites(shown).into_iter();
        let wrong = proofs.filter_map(|proof| misplaced(proof, &places));
        findings.extend(wrong.map(|what| format!("{SECURITY}: row {first}: {what}")));
    }
    for asked in ASKED {
        let times = spoken_of.iter().filter(|one| **one == asked).count();
        if times != 1 {
            findings.push(format!("{SECURITY}: {asked} has {times} rows and not one"));
        }
    }
    findings
}

/// Where each test is: in which suites with real containers, and `None` for everywhere else.
fn places(sources: &[Source]) -> BTreeMap<&str, BTreeSet<Option<&str>>> {
    let mut places: BTreeMap<&str, BTreeSet<Option<&str>>> = BTreeMap::new();
    for source in sources {
        let suite = source.path.strip_prefix(SUITES);
        let suite = suite.and_then(|path| path.split_once('/'));
        let suite = suite.map(|(suite, _)| suite);
        for name in functions(of_tests(source)) {
            places.entry(name).or_default().insert(suite);
        }
    }
    places
}

/// What is wrong with a test that is named, and with the suite that is said to run it.
fn misplaced(
    (name, suite): (&str, Option<&str>),
    places: &BTreeMap<&str, BTreeSet<Option<&str>>>,
) -> Option<String> {
    let Some(found) = places.get(name) else {
        return Some(format!("there is no test `{name}`; name what shows it now"));
    };
    if found.contains(&suite) {
        return None;
    }
    let there_are: Vec<&str> = found.iter().map(|place| place.unwrap_or("none")).collect();
    let there_are = there_are.join(", ");
    Some(match suite {
        Some(suite) => format!("`{name}` is not of suite `{suite}`, but of: {there_are}"),
        None => format!("`{name}` lacks the suite that runs it: {there_are}"),
    })
}

/// Rows of the matrix that the table lacks, has twice, or says nothing of.
pub(super) fn rows(document: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut times: BTreeMap<u32, usize> = ROWS.map(|row| (row, 0)).collect();
    for line in table(document, HEADING) {
        let mut cells = line.trim().trim_matches('|').split('|').map(str::trim);
        let first = cells.next().unwrap_or_default();
        if first == "row" || first.starts_with("---") {
            continue;
        }
        let shown = cells.next_back().unwrap_or_default();
        for number in first.split(',').map(str::trim) {
            // There is no row 0.
            let row = number.parse::<u32>().unwrap_or_default();
            let Some(times) = times.get_mut(&row) else {
                findings.push(format!("{DOCUMENT}: the matrix has no row `{number}`"));
                continue;
            };
            *times += 1;
            findings.extend(unshown(row, shown));
            let left = DONE.into_iter().filter(|done| line.contains(done));
            let told = |done| format!("{DOCUMENT}: row {row} leaves something to `{done}`");
            findings.extend(left.map(told));
        }
    }
    let judge = |(row, times): (u32, usize)| match times {
        0 => Some(format!("{DOCUMENT}: row {row} is not in the table")),
        1 => None,
        more => Some(format!(
            "{DOCUMENT}: row {row} is in the table {more} times"
        )),
    };
    findings.extend(times.into_iter().filter_map(judge));
    findings
}

/// What is wrong with what is said to show a row.
fn unshown(row: u32, shown: &str) -> Option<String> {
    if quoted(shown).next().is_some() {
        return None;
    }
    if OF_CONTAINERS.contains(&row) {
        return Some(format!("{DOCUMENT}: row {row} names no test"));
    }
    let issue = shown
        .split_once(OPEN)
        .and_then(|(_, after)| after.split_once(')'));
    let is_open = issue.is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    (!is_open).then(|| format!("{DOCUMENT}: row {row} names neither a test nor `{OPEN}N)`"))
}

/// The lines of the table below a heading.
fn table<'d>(document: &'d str, heading: &str) -> impl Iterator<Item = &'d str> + use<'d> {
    let section = document.split_once(heading).map_or("", |(_, after)| after);
    let section = section.split("\n## ").next().unwrap_or_default();
    section.lines().filter(|line| line.starts_with('|'))
}

/// Names of tests in a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.contains('_'))
}

/// Names of tests in a text, each with the suite that stands in brackets behind it.
fn with_suites(text: &str) -> Vec<(&str, Option<&str>)> {
    let pieces: Vec<&str> = text.split('`').skip(1).collect();
    let pairs = pieces.chunks(2).map(|pair| {
        let after = pair.get(1).copied().unwrap_or_default();
        let bracket = after.strip_prefix(" (");
        let suite = bracket.and_then(|after| after.split_once(')'));
        (
            pair.first().copied().unwrap_or_default(),
            suite.map(|(suite, _)| suite),
        )
    });
    pairs.filter(|(name, _)| name.contains('_')).collect()
}

/// Names in the rows of both tables.
fn named(document: &str) -> Vec<&str> {
    let lines = table(document, HEADING).chain(table(document, ELSEWHERE));
    lines.flat_map(quoted).collect()
}

/// The part of a source that is no product code.
fn of_tests(source: &Source) -> &str {
    let lines = match source.path.starts_with(KIT) {
        true => 0,
        false => product_lines(source),
    };
    let product = source.masked.split_inclusive('\n').take(lines);
    let from: usize = product.map(str::len).sum();
    source.masked.get(from..).unwrap_or_default()
}

/// Names of all functions in a text.
fn functions(masked: &str) -> impl Iterator<Item = &str> {
    masked.split("fn ").skip(1).filter_map(|after| {
        let is_of_a_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        let end = after.find(|letter| !is_of_a_name(letter))?;
        after.get(..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# Tests\n\n| x | `not_of_the_table` |\n\n## Rows\n\n| row | tests |\n|---|---|\n| 1 | `it_holds`, `crate` |\n| 2 | `it_is_told` |\n\n## More\n\n| `elsewhere_too` |\n";

    fn at(path: &str, text: &str) -> Source {
        Source::new(path.to_owned(), text.to_owned())
    }

    fn source(text: &str) -> Source {
        at("tests/system/a/main.rs", text)
    }

    #[test]
    fn a_name_that_is_no_function_is_found() {
        let both = "async fn it_holds() {}\n#[test]\nfn it_is_told() {}\n";
        assert_eq!(check(TABLE, &[source(both)]), Vec::<String>::new());
        let one = [source("fn it_holds() {}"), source("// fn it_is_told()")];
        let found = check(TABLE, &one);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`it_is_told`"), "{found:?}");
    }

    #[test]
    fn a_name_below_what_was_seen_elsewhere_is_looked_for_too() {
        let both = [source("fn it_holds() {}\nfn it_is_told() {}\n")];
        assert_eq!(check(TABLE, &both), Vec::<String>::new());
        let seen = TABLE.replace("## More", "## Seen elsewhere");
        let found = check(&seen, &both);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`elsewhere_too`"), "{found:?}");
    }

    #[test]
    fn a_function_of_the_product_shows_nothing() {
        let told = "fn it_is_told() {}\n";
        let own = "fn it_holds() {}\n#[cfg(test)]\nmod tests {\n    fn it_is_told() {}\n}\n";
        let product = at("services/core/src/a.rs", own);
        let found = check(TABLE, &[product]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`it_holds`"), "{found:?}");
        for path in ["services/core/tests/a.rs", "services/testkit/src/a.rs"] {
            let sources = [source("fn it_holds() {}"), at(path, told)];
            assert_eq!(check(TABLE, &sources), Vec::<String>::new(), "{path}");
        }
        let sources = [
            source("fn it_holds() {}"),
            at("services/core/src/b.rs", told),
        ];
        assert_eq!(check(TABLE, &sources).len(), 1);
    }

    /// A table that says the same of every row, but for what it is told of some.
    fn table_of(told: impl Fn(u32) -> Option<&'static str>) -> String {
        let row = |row| match told(row) {
            Some(line) => line.to_owned(),
            None => format!("| {row} | a fault | `it_holds` |\n"),
        };
        let rows: String = ROWS.map(row).collect();
        format!(
            "# Tests\n\n## Rows\n\n| row | fault | shown by |\n|---|---|---|\n{rows}\n## More\n"
        )
    }

    #[test]
    fn every_row_of_the_matrix_stands_in_the_table_once() {
        assert_eq!(rows(&table_of(|_| None)), Vec::<String>::new());
        for (row, line, finding) in [
            (1, "", "row 1 is not in the table"),
            (72, "", "row 72 is not in the table"),
            (
                3,
                "| 3, 72 | two | `it_holds` |\n",
                "row 72 is in the table 2 times",
            ),
            (
                72,
                "| 72 | a | `it_holds` |\n| 73 | b | `it_holds` |\n",
                "no row `73`",
            ),
            (
                1,
                "| 1 | a | `it_holds` |\n| 0 | b | `it_holds` |\n",
                "no row `0`",
            ),
            (
                1,
                "| 1 | a | `it_holds` |\n| first | b | `it_holds` |\n",
                "no row `first`",
            ),
        ] {
            let found = rows(&table_of(|other| (other == row).then_some(line)));
            assert_eq!(found.len(), 1, "{finding}: {found:?}");
            assert!(found[0].contains(finding), "{finding}: {found:?}");
        }
    }

    #[test]
    fn a_row_names_a_test_or_the_issue_that_shows_it() {
        for (row, line, is_found) in [
            (26, "| 26 | a | open (issue 6) |\n", false),
            (26, "| 26 | a | open (issue 8) |\n", true),
            (26, "| 26 | the rest open (issue 8) | `it_holds` |\n", true),
            (47, "| 47 | a | open (issue 6) |\n", false),
            (47, "| 47 | a | open (issue 5) |\n", true),
            (
                47,
                "| 47 | a | `it_holds`; the rest open (issue 5) |\n",
                true,
            ),
            (47, "| 47 | the rest open (issue 5) | `it_holds` |\n", true),
            (27, "| 27 | a | open (issue 6) |\n", true),
            (46, "| 46 | a | open (issue 6) |\n", true),
            (
                46,
                "| 46 | a | `it_holds`; the rest open (issue 6) |\n",
                false,
            ),
            (1, "| 1 | `it_holds` | nothing |\n", true),
            (1, "| 1 | a | open (issue) |\n", true),
            (1, "| 1 | a | `word` |\n", true),
            (1, "| 1 | a | |\n", true),
        ] {
            let found = rows(&table_of(|other| (other == row).then_some(line)));
            assert_eq!(found.len(), usize::from(is_found), "{line}: {found:?}");
        }
    }

    fn unit(text: &str) -> Source {
        at("services/core/tests/a.rs", text)
    }

    /// A document that says the same of everything that is asked, but for one row.
    fn secure(other: Option<(&str, &str)>) -> String {
        let row = |asked: &&str| match other {
            Some((one, line)) if one == *asked => line.to_owned(),
            _ => format!("| {asked} | a | b | `it_holds` | c |\n"),
        };
        let rows: String = ASKED.iter().map(row).collect();
        format!("# Security\n\n| | asked | how | shown by | not |\n|---|---|---|---|---|\n{rows}")
    }

    #[test]
    fn all_that_is_asked_of_security_has_one_row_with_a_test_that_is_there() {
        let sources = [unit("fn it_holds() {}")];
        assert_eq!(security(&secure(None), &sources), Vec::<String>::new());
        for (line, finding) in [
            ("", "C4 has 0 rows"),
            (
                "| C4 | a | b | nothing | `it_holds` |\n",
                "row C4 names no test",
            ),
            (
                "| C4 | a | b | `it_holds`, `it_went` | c |\n",
                "there is no test `it_went`",
            ),
            (
                "| C4 | a | b | `it_holds` | c |\n| C4, X | a | b | `it_holds` | c |\n",
                "C4 has 2 rows",
            ),
        ] {
            let found = security(&secure(Some(("C4", line))), &sources);
            assert_eq!(found.len(), 1, "{line}: {found:?}");
            assert!(found[0].contains(finding), "{finding}: {found:?}");
        }
    }

    #[test]
    fn a_test_stands_with_the_suite_that_runs_it_and_with_no_other() {
        let both = "fn it_holds() {}\nfn it_is_everywhere() {}\n";
        let sources = [
            unit(both),
            source("fn it_runs() {}\nfn it_is_everywhere() {}\n"),
            at("tests/system/b/main.rs", "fn it_runs() {}\n"),
            at("tests/system/c/main.rs", "fn it_is_seen() {}\n"),
        ];
        for (shown, finding) in [
            ("`it_holds`, `it_runs` (a), `it_holds`", None),
            ("`it_runs` (a), `it_runs` (b), `it_is_seen` (c)", None),
            ("`it_is_everywhere` (a), `it_is_everywhere`", None),
            (
                "`it_holds` (a)",
                Some("`it_holds` is not of suite `a`, but of: none"),
            ),
            (
                "`it_runs` (c)",
                Some("`it_runs` is not of suite `c`, but of: a, b"),
            ),
            (
                "`it_is_seen`",
                Some("`it_is_seen` lacks the suite that runs it: c"),
            ),
            (
                "`it_is_everywhere` (b)",
                Some("is not of suite `b`, but of: none, a"),
            ),
        ] {
            let row = format!("| C4 | a | b | {shown} | c |\n");
            let found = security(&secure(Some(("C4", &row))), &sources);
            assert_eq!(
                found.len(),
                usize::from(finding.is_some()),
                "{shown}: {found:?}"
            );
            let is_told = |finding: &str| found.iter().any(|one| one.contains(finding));
            assert!(finding.is_none_or(is_told), "{shown}: {found:?}");
        }
    }

    #[test]
    fn what_a_row_names_beside_tests_is_no_test() {
        let row = "| C4 | a | `memory.require_locked` | `it_holds` | `keywheel_looks_total` |\n";
        let found = security(&secure(Some(("C4", row))), &[unit("fn it_holds() {}")]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_metric_that_no_test_names_is_found() {
        let named = |path: &str, text: &str| Source::new(path.to_owned(), text.to_owned());
        let catalogue = named(
            METRICS,
            "\"keywheel_a\" \"keywheel_a_seconds\" \"keywheel_b\" \"a word\"",
        );
        let made = named("services/telemetry/src/deploy/rules.rs", "keywheel_b");
        let test = named("x.rs", "\"keywheel_a_seconds_count 1\"");
        let found = unjudged(&[catalogue, made, test]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("`keywheel_a`") && found[1].contains("`keywheel_b`"));
    }

    #[test]
    fn a_document_without_the_table_is_found() {
        assert_eq!(check("# Tests\n", &[source("")]).len(), 1);
    }
}
