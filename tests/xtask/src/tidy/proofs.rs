//! Every test that a document names as a proof exists: `tests/README.md` has a table from rows of the
//! fault matrix to tests.
//!
//! A name is what stands in backticks and has a `_`; a test is a function of that name. Knows nothing
//! of what a test shows.

use std::collections::BTreeSet;

use super::Source;

/// The document with the table, and the heading before it.
pub(super) const DOCUMENT: &str = "tests/README.md";
const HEADING: &str = "\n## Rows";

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
    fn a_document_without_the_table_is_found() {
        assert_eq!(check("# Tests\n", &[source("")]).len(), 1);
    }
}
