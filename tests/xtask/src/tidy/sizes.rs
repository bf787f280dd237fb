//! Size limits and figures: functions and files.
//!
//! Test files (`tests.rs`, anything under a `tests` folder of a crate) are
//! exempt from the file limit, never from the function limit.

use super::Source;
use super::code;

/// Hard limit of a function, in lines.
const FUNCTION_LINES: usize = 70;
/// Hard limit of a file, in lines.
const FILE_LINES: usize = 600;
/// What the codebases we measure ourselves by reach (median / p95).
const ANCHORS: &str = "anchors: function 6-9 / 36-69, file 52-130 / under 500";

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Findings of one file.
pub(crate) fn check(source: &Source) -> Vec<String> {
    let path = &source.path;
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES && !is_test_file(path) {
        findings.push(format!(
            "{path}: {lines} lines, the limit is {FILE_LINES}: split it by noun"
        ));
    }
    for function in code::functions(&source.masked) {
        if function.lines > FUNCTION_LINES {
            findings.push(format!(
                "{path}:{}: fn {} has {} lines, the limit is {FUNCTION_LINES}: give its parts names",
                function.line, function.name, function.lines
            ));
        }
    }
    findings
}

/// Our figures beside the anchors'.
pub(crate) fn report(sources: &[Source]) -> String {
    let files: Vec<usize> = sources
        .iter()
        .map(|source| source.text.lines().count())
        .collect();
    let functions: Vec<usize> = sources
        .iter()
        .flat_map(|source| code::functions(&source.masked))
        .map(|f| f.lines)
        .collect();
    format!(
        "sizes: {} functions, median {} / p95 {}; {} files, median {} / p95 {} ({ANCHORS})",
        functions.len(),
        quantile(&functions, 50),
        quantile(&functions, 95),
        files.len(),
        quantile(&files, 50),
        quantile(&files, 95),
    )
}

fn quantile(values: &[usize], percent: usize) -> usize {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let index = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(index).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: String) -> Source {
        Source::new(path.to_owned(), text)
    }

    #[test]
    fn a_long_function_is_found() {
        let body = "    x();\n".repeat(FUNCTION_LINES);
        let found = check(&source("a.rs", format!("fn long() {{\n{body}}}\n")));
        assert_eq!(found.len(), 1, "{found:?}");
        let body = "    x();\n".repeat(FUNCTION_LINES - 2);
        assert!(check(&source("a.rs", format!("fn fits() {{\n{body}}}\n"))).is_empty());
    }

    #[test]
    fn a_long_file_is_found_unless_it_holds_tests() {
        let text = "// x\n".repeat(FILE_LINES + 1);
        assert_eq!(check(&source("a/src/b.rs", text.clone())).len(), 1);
        assert!(check(&source("a/src/b/tests.rs", text)).is_empty());
    }

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        assert_eq!(quantile(&[9, 1, 5], 50), 5);
        assert_eq!(quantile(&[], 95), 0);
    }
}
