//! Every test that a document names as a proof exists: `tests/README.md` has a table from rows of the
//! fault matrix to tests. And every metric is judged by some test.
//!
//! A name is what stands in backticks and has a `_`; a test is a function of that name. A metric is
//! judged where its name is spelt out, which only tests do. Knows nothing of what a test shows.

use std::collections::BTreeSet;

use super::Source;

/// The document with the table, and the heading before it.
pub(super) const DOCUMENT: &str = "tests/README.md";
const HEADING: &str = "\n## Rows";

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
        .flat_map(|source| functions(&source.masked))
        .collect();
    let is_missing = |name: &&str| !functions.contains(*name);
    names
        .into_iter()
        .filter(is_missing)
        .map(|name| format!("{DOCUMENT}: there is no test `{name}`; name what shows the row now"))
        .collect()
}

/// Names in the rows of the table.
fn named(document: &str) -> Vec<&str> {
    let section = document.split_once(HEADING).map_or("", |(_, after)| after);
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    quoted.filter(|name| name.contains('_')).collect()
}

/// Names of all functions in a source.
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

    fn source(text: &str) -> Source {
        Source::new("a.rs".to_owned(), text.to_owned())
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
