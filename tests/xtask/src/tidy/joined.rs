//! Where a crate's test files are one program, that program has all of them: one that it does not name would be
//! compiled by nobody, and its tests would be run by nobody.

use super::Source;

/// What such a program is called, beside its files.
const PROGRAM: &str = "/tests/main.rs";

/// Test files that their program does not name.
pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    let programs = sources
        .iter()
        .filter(|source| source.path.ends_with(PROGRAM));
    let mut findings = Vec::new();
    for program in programs {
        let folder = program.path.trim_end_matches("main.rs");
        for source in sources {
            let Some(stem) = stem_in(folder, &source.path) else {
                continue;
            };
            let line = format!("mod {stem};");
            if stem != "main" && !program.masked.lines().any(|one| one.trim() == line) {
                findings.push(format!(
                    "{}: nobody runs it; write `{line}` into {}",
                    source.path, program.path
                ));
            }
        }
    }
    findings
}

/// The name of a file right in a folder, without its ending.
fn stem_in<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    let name = path.strip_prefix(folder)?;
    let stem = name.strip_suffix(".rs")?;
    (!stem.contains('/')).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(program: &str, others: &[&str]) -> Vec<String> {
        let program = Source::new("services/a/tests/main.rs".to_owned(), program.to_owned());
        let others = others
            .iter()
            .map(|path| Source::new((*path).to_owned(), String::new()));
        let sources: Vec<Source> = std::iter::once(program).chain(others).collect();
        check(&sources)
    }

    #[test]
    fn a_file_that_its_program_does_not_name_is_found() {
        let others = ["services/a/tests/b.rs", "services/a/tests/c.rs"];
        let findings = found("mod b;\n// mod c;\n", &others);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("services/a/tests/c.rs: nobody runs it"));
        assert!(found("mod b;\nmod c;\n", &others).is_empty());
    }

    #[test]
    fn what_lies_elsewhere_is_no_concern_of_it() {
        let others = ["services/a/tests/support/d.rs", "services/b/tests/b.rs"];
        assert!(found("mod support;\n", &others).is_empty());
    }
}
