//! Words: file headers, avoided names, EXPOSE reasons, strings that tie the
//! tree to one machine.

use super::Source;

/// Names that say nothing; the glossary has better ones.
const AVOIDED: [&str; 6] = ["manager", "helper", "util", "utils", "data", "info"];
/// Terms that contain an avoided word and mean something.
const TERMS: [&str; 2] = ["processmanager", "associateddata"];
/// The namespace helper's own crate: there the word is a term.
const HELPER_HOME: &str = "services/sys/";
/// How many lines above `.expose(` its reason may stand.
const EXPOSE_REACH: usize = 4;

/// Findings of one Rust file.
pub(crate) fn check(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    if !source.text.starts_with("//!") {
        findings.push(format!(
            "{}: begin with `//!`: what it owns, what it does not do",
            source.path
        ));
    }
    findings.extend(avoided_file(&source.path));
    findings.extend(avoided_types(source));
    findings.extend(unexplained_exposes(source));
    findings.extend(ignored_tests(source));
    findings
}

/// A test that nobody runs proves nothing; a child of another test is told by a variable.
fn ignored_tests(source: &Source) -> Vec<String> {
    let is_ignored = |line: &str| line.trim_start().starts_with("#[ignore");
    let lines = source.masked.lines().enumerate();
    lines
        .filter(|(_, line)| is_ignored(line))
        .map(|(index, _)| {
            let (path, line) = (&source.path, index + 1);
            format!("{path}:{line}: #[ignore] on a test; let it run, or remove it")
        })
        .collect()
}

fn avoided_file(path: &str) -> Option<String> {
    let stem = path.rsplit('/').next()?.strip_suffix(".rs")?;
    let word = avoided_word(stem.split('_').map(str::to_owned), stem)?;
    Some(format!(
        "{path}: `{word}` as a file's name says nothing; name the thing it owns"
    ))
}

fn avoided_types(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in source.masked.lines().enumerate() {
        let Some(name) = declared_name(line) else {
            continue;
        };
        if let Some(word) = avoided_word(camel_words(name).into_iter(), name)
            && !(word == "helper" && source.path.starts_with(HELPER_HOME))
        {
            findings.push(format!(
                "{}:{}: `{word}` in the name {name} says nothing; name the thing it is",
                source.path,
                index + 1
            ));
        }
    }
    findings
}

fn avoided_word(words: impl Iterator<Item = String>, whole: &str) -> Option<&'static str> {
    let flat = whole.replace('_', "").to_lowercase();
    if TERMS.iter().any(|term| flat.contains(term)) {
        return None;
    }
    let words: Vec<String> = words.map(|word| word.to_lowercase()).collect();
    AVOIDED
        .into_iter()
        .find(|avoided| words.iter().any(|word| word == avoided))
}

/// The name a line declares: struct, enum, trait, type or module.
fn declared_name(line: &str) -> Option<&str> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| word.starts_with("pub"));
    if !matches!(
        words.next()?,
        "struct" | "enum" | "trait" | "type" | "mod" | "union"
    ) {
        return None;
    }
    let name = words.next()?;
    let end = name
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(name.len());
    name.get(..end).filter(|name| !name.is_empty())
}

fn camel_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for c in name.chars() {
        match words.last_mut() {
            Some(word) if !c.is_uppercase() && c != '_' => word.push(c),
            _ => words.push(c.to_string()),
        }
    }
    words
}

/// Product code only: tests may take a value out to compare it.
pub(super) fn product_lines(source: &Source) -> usize {
    if source.path.starts_with("tests/")
        || source.path.contains("/tests")
        || source.path.contains("/benches/")
    {
        return 0;
    }
    let all = source.text.lines().count();
    source
        .text
        .lines()
        .position(|line| line.trim() == "#[cfg(test)]")
        .unwrap_or(all)
}

fn expose_lines(source: &Source) -> Vec<usize> {
    let end = product_lines(source);
    let calls = |line: &str| line.contains(".expose(");
    source
        .masked
        .lines()
        .take(end)
        .enumerate()
        .filter(|(_, line)| calls(line))
        .map(|(index, _)| index)
        .collect()
}

fn unexplained_exposes(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let explained = |index: &usize| {
        let from = index.saturating_sub(EXPOSE_REACH);
        lines
            .get(from..=*index)
            .unwrap_or_default()
            .iter()
            .any(|line| line.contains("// EXPOSE:"))
    };
    let silent = expose_lines(source)
        .into_iter()
        .filter(|index| !explained(index));
    silent
        .map(|index| {
            format!(
                "{}:{}: `.expose(` without a `// EXPOSE:` reason above it",
                source.path,
                index + 1
            )
        })
        .collect()
}

/// How many places take a value out.
pub(crate) fn count_exposes(sources: &[Source]) -> usize {
    sources
        .iter()
        .map(|source| expose_lines(source).len())
        .sum()
}

/// Strings that would tie the tree to one machine or one registry. Written in
/// two halves, so that this file does not find itself.
fn machine_strings() -> [String; 5] {
    [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/."].concat(),
        ["/ho", "me/"].concat(),
        ["/tmp/bash", "_jobs"].concat(),
        ["registry", "-1."].concat(),
    ]
}

/// Findings of any tracked text file.
pub(crate) fn check_any_text(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for needle in machine_strings() {
            if begins_a_path(line, &needle) {
                findings.push(format!(
                    "{path}:{}: `{needle}` is of one machine or registry",
                    index + 1
                ));
            }
        }
    }
    findings
}

/// True where `needle` stands at a path's beginning, not inside a longer one.
fn begins_a_path(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        !before
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '}' | '>' | '.' | '/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path.to_owned(), text.to_owned())
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(check(&source("a.rs", "use x;\n")).len(), 1);
        assert!(check(&source("a.rs", "//! Owns x.\nuse x;\n")).is_empty());
    }

    #[test]
    fn avoided_names_are_found_in_files_and_types() {
        assert_eq!(check(&source("src/store_util.rs", "//! x\n")).len(), 1);
        assert_eq!(
            check(&source(
                "src/a.rs",
                "//! x\npub(crate) struct RotationManager {\n"
            ))
            .len(),
            1
        );
        assert!(
            check(&source(
                "src/a.rs",
                "//! x\npub enum ProcessManager {}\nstruct Database;\n"
            ))
            .is_empty()
        );
    }

    #[test]
    fn an_expose_needs_its_reason() {
        let bare = "//! x\nfn f() {\n    a.expose();\n}\n";
        let told = "//! x\nfn f() {\n    // EXPOSE: handed to the kernel.\n    a.expose();\n}\n";
        let test_only = "//! x\n#[cfg(test)]\nmod tests {\n    fn f() { a.expose(); }\n}\n";
        assert_eq!(check(&source("src/a.rs", bare)).len(), 1);
        assert!(check(&source("src/a.rs", told)).is_empty());
        assert!(check(&source("src/a.rs", test_only)).is_empty());
        assert_eq!(count_exposes(&[source("src/a.rs", told)]), 1);
    }

    #[test]
    fn an_ignored_test_is_found_and_a_word_in_a_comment_is_not() {
        let ignored = "//! x\n    #[ignore = \"later\"]\n";
        assert_eq!(check(&source("src/a.rs", ignored)).len(), 1);
        assert!(check(&source("src/a.rs", "//! x\n// #[ignore]\n")).is_empty());
    }

    #[test]
    fn a_path_of_this_machine_is_found_but_not_inside_another() {
        let [first, ..] = machine_strings();
        assert_eq!(check_any_text("a.md", &format!("see {first}x")).len(), 1);
        assert!(check_any_text("a.md", &format!("/srv{first}x")).is_empty());
    }
}
