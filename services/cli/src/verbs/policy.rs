//! `policy …`: sets of policies, on this machine and in force.
//!
//! A set is a directory: its `*.cedar` files in the order of their names, `groups.json`, and `cases.json` for `test`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use keywheel_policy::{Fault, MAX_SET_BYTES, Set, Source, check_syntax, parse_cases, parse_groups};
use keywheel_schemas::api::{ApplyPoliciesRequest, PoliciesView, PolicyExplanation, PolicyFinding};

use super::{Desk, input};
use crate::args::{ApplyPoliciesArgs, PolicyVerb, SetArgs};
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{Screen, policies as texts};

/// Who is in which group.
const GROUPS: &str = "groups.json";
/// What a set is expected to decide.
const CASES: &str = "cases.json";
/// How a file of policies ends.
const POLICIES: &str = "cedar";
/// What is done about a set that is too long.
const SHORTER: &str = "leave policies out that groups can stand for; a set is no longer than that";
/// Largest file of cases, in bytes.
const MAX_CASES_BYTES: usize = 4 << 20;

pub(super) async fn run(desk: &Desk, verb: &PolicyVerb) -> Result<(), Failure> {
    match verb {
        PolicyVerb::Apply(args) => apply(desk, args).await,
        PolicyVerb::Validate(args) => validate(desk.screen, args),
        PolicyVerb::Test(args) => test(desk.screen, args),
        PolicyVerb::Explain {
            principal,
            verb,
            resource,
        } => {
            let path = format!(
                "/v1/policies/explain?principal={}&verb={}&resource={}",
                escape(principal),
                escape(verb),
                escape(resource)
            );
            let told: PolicyExplanation = desk.client.read(&path).await?;
            desk.screen.show(&told, texts::explanation)
        }
        PolicyVerb::Show { version } => {
            let query = version.map_or_else(String::new, |version| format!("?version={version}"));
            let path = format!("/v1/policies{query}");
            let found: PoliciesView = desk.client.read(&path).await?;
            desk.screen.show(&found, texts::set)
        }
    }
}

async fn apply(desk: &Desk, args: &ApplyPoliciesArgs) -> Result<(), Failure> {
    let Source { policies, groups } = read(&args.set.path)?;
    let request = ApplyPoliciesRequest {
        policies,
        groups,
        expected: args.expected,
        dry_run: args.dry_run,
        withhold: args.withhold,
    };
    let answer: PoliciesView = desk
        .client
        .change_by_input("/v1/policies", &request)
        .await
        .map_err(|failure| match failure.exit {
            Exit::Input => misread(&args.set.path).unwrap_or_else(|| {
                failure.with_next(
                    "correct the set; `keywheel policy validate` checks it without a server",
                )
            }),
            _ => failure,
        })?;
    let dry_run = args.dry_run;
    desk.screen
        .show(&answer, |answer| texts::applied(answer, dry_run))
}

/// Checks a set without a server; what names mean nobody knows here.
pub(super) fn validate(screen: Screen, args: &SetArgs) -> Result<(), Failure> {
    let set = compile(&args.path)?;
    let findings: Vec<PolicyFinding> = set
        .lint(None)
        .into_iter()
        .map(|finding| PolicyFinding {
            policy: finding.policy,
            kind: finding.kind.word().to_owned(),
            text: finding.text,
        })
        .collect();
    let count = set.len();
    screen.show(&findings, |all| texts::validated(count, all))
}

/// Checks a set against its cases, without a server.
pub(super) fn test(screen: Screen, args: &SetArgs) -> Result<(), Failure> {
    let set = compile(&args.path)?;
    let path = args.path.join(CASES);
    let text = input::text(&path, MAX_CASES_BYTES, "leave cases out")?;
    let cases = parse_cases(&text).map_err(|reason| {
        Failure::new(
            Exit::Input,
            format!("{}: {reason}", path.display()),
            "`keywheel policy test --help` shows what a case looks like",
        )
    })?;
    let failed = set.check(&cases);
    let told: BTreeMap<&str, &str> = failed
        .iter()
        .map(|one| (one.name.as_str(), one.text.as_str()))
        .collect();
    screen.show(&told, |told| texts::tested(cases.len(), told))?;
    match failed.len() {
        0 => Ok(()),
        count => Err(Failure::new(
            Exit::Partial,
            format!("{count} of {} cases come out otherwise", cases.len()),
            "correct the policies or the cases named above",
        )),
    }
}

fn compile(path: &Path) -> Result<Set, Failure> {
    Set::compile(&read(path)?)
        .map_err(|faults| misread(path).unwrap_or_else(|| wrong(path, &faults)))
}

/// Where a set of several files is not Cedar: the first file that is not by itself, with its own lines, for nobody
/// knows those of all files together.
fn misread(path: &Path) -> Option<Failure> {
    if !path.is_dir() {
        return None;
    }
    check_syntax(&read(path).ok()?.policies).err()?;
    files(path).ok()?.iter().find_map(|file| {
        let text = input::text(file, MAX_SET_BYTES, SHORTER).ok()?;
        let fault = check_syntax(&text).err()?;
        Some(wrong(file, &[fault]))
    })
}

fn wrong(path: &Path, faults: &[Fault]) -> Failure {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Failure::new(
        Exit::Input,
        format!(
            "{} is no set of policies\n{}",
            path.display(),
            lines.join("\n")
        ),
        "deploy/docs/access.md shows how a set is written, schemas/policy.cedarschema what it may be about",
    )
}

fn read(path: &Path) -> Result<Source, Failure> {
    if !path.is_dir() {
        return Ok(Source {
            policies: input::text(path, MAX_SET_BYTES, SHORTER)?,
            groups: BTreeMap::new(),
        });
    }
    let mut policies = String::new();
    for file in files(path)? {
        policies.push_str(&input::text(&file, MAX_SET_BYTES, SHORTER)?);
        policies.push('\n');
        if policies.len() > MAX_SET_BYTES {
            return Err(Failure::new(
                Exit::Input,
                format!(
                    "the set in {} is longer than {MAX_SET_BYTES} bytes, all its files together",
                    path.display()
                ),
                SHORTER,
            ));
        }
    }
    Ok(Source {
        policies,
        groups: groups(&path.join(GROUPS))?,
    })
}

fn groups(path: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
    // A link that leads nowhere is there: whoever made it means groups, and a set without them says something else.
    let is_missing =
        fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    if is_missing {
        return Ok(BTreeMap::new());
    }
    let text = input::text(path, MAX_SET_BYTES, SHORTER)?;
    parse_groups(&text).map_err(|fault| wrong(path, &[fault]))
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(
            Exit::NoInput,
            format!("cannot read {}: {error}", path.display()),
            "check the directory and who may read it",
        )
    };
    let mut all = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|end| end == POLICIES) {
            all.push(file);
        }
    }
    all.sort_unstable();
    if all.is_empty() {
        return Err(Failure::new(
            Exit::NoInput,
            format!(
                "there is no file of policies (`*.{POLICIES}`) in {}",
                path.display()
            ),
            "name the directory of the set; a set that permits nothing is an empty file",
        ));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let made = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(made.path().join(name), text).unwrap();
        }
        made
    }

    const ONE: &str = "@id(\"one\") permit (principal in Group::\"team\", action, resource);";
    const TEAM: &str = "{\"team\": [\"certificate:ada\"]}";

    #[test]
    fn a_directory_is_one_set_of_all_its_files_and_its_groups() {
        let two = "@id(\"two\") forbid (principal, action, resource is Store);";
        let files = [
            ("b.cedar", two),
            ("a.cedar", ONE),
            ("groups.json", TEAM),
            ("notes.txt", "x"),
        ];
        let made = directory(&files);
        let set = compile(made.path()).unwrap();
        assert_eq!(set.names().collect::<Vec<_>>(), ["one", "two"]);
        let source = read(made.path()).unwrap();
        assert!(source.policies.find("one") < source.policies.find("two"));
        assert!(source.groups.contains_key("team"));
        let alone = compile(&made.path().join("a.cedar")).unwrap();
        assert_eq!(alone.len(), 1);
    }

    #[test]
    fn what_is_no_set_is_told_with_the_file_and_the_reason() {
        let failure = |files: &[(&str, &str)]| {
            let made = directory(files);
            compile(made.path()).unwrap_err()
        };
        let none = failure(&[("notes.txt", "x")]);
        assert_eq!(none.exit, Exit::NoInput);
        assert!(none.what.contains("*.cedar"), "{}", none.what);
        let unnamed = failure(&[("a.cedar", "permit (principal, action, resource);")]);
        assert_eq!(unnamed.exit, Exit::Input);
        assert!(unnamed.what.contains("@id"), "{}", unnamed.what);
        let groups = failure(&[("a.cedar", ONE), ("groups.json", "[]")]);
        assert!(groups.what.contains("groups.json"), "{}", groups.what);
    }

    #[test]
    fn groups_behind_a_link_that_leads_nowhere_are_not_left_out_without_a_word() {
        let made = directory(&[("a.cedar", ONE)]);
        let groups = made.path().join("groups.json");
        std::os::unix::fs::symlink("/nonexistent/groups.json", &groups).unwrap();
        let failure = compile(made.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::NoInput);
        assert!(failure.what.contains("groups.json"), "{failure}");
    }

    #[test]
    fn a_set_is_too_long_with_all_its_files_together_and_no_splitting_helps() {
        let half = format!("//{}\n", "x".repeat(MAX_SET_BYTES / 2));
        let made = directory(&[("a.cedar", half.as_str()), ("b.cedar", half.as_str())]);
        let set = made.path().display().to_string();
        let failure = compile(made.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::Input);
        let text = failure.to_string();
        assert!(text.contains(&set) && text.contains("524288"), "{text}");
        assert!(text.contains("leave policies out"), "{text}");
        let one = made.path().join("c.cedar");
        fs::write(&one, half.repeat(3)).unwrap();
        let text = compile(&one).unwrap_err().to_string();
        assert!(
            text.contains("c.cedar") && !text.contains("split"),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_cedar_is_told_with_its_file_and_the_line_there() {
        let told = |files: &[(&str, &str)]| {
            let made = directory(files);
            compile(made.path()).unwrap_err().what
        };
        let first = format!("// The first.\n// It has three lines.\n{ONE}\n");
        let broken = "// The second.\n@id(\"two\") permitt (principal, action, resource);\n";
        let what = told(&[("a.cedar", first.as_str()), ("b.cedar", broken)]);
        assert!(
            what.contains("b.cedar") && what.contains("line 2 "),
            "{what}"
        );
        assert!(!what.contains("a.cedar"), "{what}");
        // Together it would be found in the file behind it.
        let cut = "@id(\"zero\") permit (principal, action, resource)";
        let what = told(&[("a.cedar", cut), ("b.cedar", first.as_str())]);
        assert!(
            what.contains("a.cedar") && what.contains("line 1 "),
            "{what}"
        );
        // Nothing of that is asked where all of it is Cedar.
        assert!(misread(directory(&[("a.cedar", first.as_str())]).path()).is_none());
    }

    #[test]
    fn a_case_that_comes_out_otherwise_ends_with_a_code_of_its_own() {
        let case = |expect: &str| {
            let text = format!(
                "{{\"cases\": [{{\"name\": \"ada\", \"principal\": \"certificate:ada\", \"verb\": \"rotate\", \"resource\": \"secret/a\", \"expect\": \"{expect}\"}}]}}"
            );
            let made = directory(&[
                ("a.cedar", ONE),
                ("groups.json", TEAM),
                ("cases.json", &text),
            ]);
            let screen = Screen::of_terminal(crate::args::Format::Json);
            let path = made.path().to_owned();
            test(screen, &SetArgs { path }).map_err(|failure| failure.exit)
        };
        assert_eq!(case("allow"), Ok(()));
        assert_eq!(case("deny"), Err(Exit::Partial));
    }
}
