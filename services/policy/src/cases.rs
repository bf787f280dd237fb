//! Cases: what a set is expected to decide, as a file beside it.

use serde::Deserialize;

use crate::decide::Asked;
use crate::set::Set;
use crate::words::{Principal, Resource, Verb, group_of_provider};

/// Most cases of one file.
pub const MAX_CASES: usize = 10_000;

/// One expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// What is asked.
    pub asked: Asked,
    /// Whether it has to be allowed.
    pub allowed: bool,
    /// The policy that has to be among those that decide, if it matters.
    pub by: Option<String>,
}

/// A case that came out otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The case.
    pub name: String,
    /// What came out, and what should have.
    pub text: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    cases: Vec<WrittenCase>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCase {
    name: String,
    principal: String,
    verb: String,
    resource: String,
    expect: Expected,
    #[serde(default)]
    by: Option<String>,
    /// Seconds since 1970.
    #[serde(default)]
    now: i64,
    /// Groups of the provider at which the person logged in.
    #[serde(default)]
    provider_groups: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
}

/// Reads a file of cases: one JSON object with `cases`.
///
/// # Errors
/// With what is wrong with it; of a case its name.
pub fn parse_cases(text: &str) -> Result<Vec<Case>, String> {
    let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if written.cases.is_empty() {
        return Err("there are no cases in it; a file without one shows nothing".to_owned());
    }
    if written.cases.len() > MAX_CASES {
        let count = written.cases.len();
        return Err(format!(
            "it has {count} cases, and {MAX_CASES} are the most"
        ));
    }
    written.cases.into_iter().map(read).collect()
}

fn read(written: WrittenCase) -> Result<Case, String> {
    let name = written.name;
    let of_case = |error: crate::WordError| format!("case `{name}`: {error}");
    let mut principal = Principal::parse(&written.principal).map_err(of_case)?;
    if let Principal::User { groups, .. } = &mut principal {
        let given = written.provider_groups.iter();
        groups.extend(given.map(|group| group_of_provider(group)));
    }
    let asked = Asked {
        principal,
        verb: Verb::parse(&written.verb).map_err(of_case)?,
        resource: Resource::parse(&written.resource).map_err(of_case)?,
        now: written.now,
    };
    Ok(Case {
        asked,
        allowed: written.expect == Expected::Allow,
        by: written.by,
        name,
    })
}

impl Set {
    /// Cases that come out otherwise than they should.
    #[must_use]
    pub fn check(&self, cases: &[Case]) -> Vec<Failed> {
        cases.iter().filter_map(|case| self.fails(case)).collect()
    }

    fn fails(&self, case: &Case) -> Option<Failed> {
        let word = |allowed| if allowed { "allowed" } else { "denied" };
        let decision = self.decide(&case.asked);
        let is_by = case
            .by
            .as_ref()
            .is_none_or(|by| decision.policies.contains(by));
        if decision.allowed == case.allowed && is_by {
            return None;
        }
        let by = case.by.as_ref();
        let by = by.map_or_else(String::new, |by| format!(" by `{by}`"));
        Some(Failed {
            name: case.name.clone(),
            text: format!(
                "it is {} ({}), and should be {}{by}",
                word(decision.allowed),
                decision.reason(),
                word(case.allowed)
            ),
        })
    }
}
