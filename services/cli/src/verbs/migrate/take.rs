//! A container's variables: which are to be replaced, their values, and the placeholders in their stead.
//!
//! Pure. Invariant: a value is told to nobody but whoever asks for exactly that one; what is told about
//! variables are their names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use keywheel_core::name::{EnvName, SecretName};
use keywheel_seal::SecretBytes;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};
use crate::output::tame;

/// Most variables that one run replaces.
pub(super) const MAX_WISHES: usize = 64;
/// What opens a placeholder.
const OPEN: &str = "{keywheel:";
/// Shorter values are found in other variables by chance.
const TELLING_BYTES: usize = 6;

/// A variable, and the secret that takes its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// The variable.
    pub(super) variable: EnvName,
    /// The secret.
    pub(super) secret: SecretName,
    /// Its current version is used, whatever the container has.
    pub(super) use_current: bool,
}

impl Wish {
    /// What stands in the variable afterwards.
    pub(super) fn placeholder(&self) -> String {
        format!("{OPEN}{}}}", self.secret)
    }
}

/// Reads `--env` and `--use-current`.
pub(super) fn wishes(pairs: &[String], use_current: &[String]) -> Result<Vec<Wish>, Failure> {
    let wrong = |what: String| {
        let next = "write --env VARIABLE=SECRET, for example --env DB_PASSWORD=prod/db-password";
        Failure::new(Exit::Usage, what, next)
    };
    if pairs.len() > MAX_WISHES {
        return Err(wrong(format!(
            "more than {MAX_WISHES} variables are named at once"
        )));
    }
    let mut wishes = Vec::with_capacity(pairs.len());
    for pair in pairs {
        // Somebody may write a value behind the sign: only what is before it is told.
        let (variable, secret) = pair
            .split_once('=')
            .ok_or_else(|| wrong("--env names a variable without a secret".to_owned()))?;
        let variable = EnvName::parse(variable).map_err(|error| wrong(error.to_string()))?;
        let secret = SecretName::parse(secret).map_err(|_| {
            wrong(format!(
                "what --env gives for {variable} is no secret's name: lower-case letters, digits, `.`, `_` and `-`, in parts separated by single `/`"
            ))
        })?;
        wishes.push(Wish {
            use_current: use_current.iter().any(|name| name == secret.as_str()),
            variable,
            secret,
        });
    }
    let variables: BTreeSet<&EnvName> = wishes.iter().map(|wish| &wish.variable).collect();
    if variables.len() != wishes.len() {
        return Err(wrong("a variable is named twice".to_owned()));
    }
    let stray = use_current.iter().find(|name| {
        let is_named = |wish: &Wish| wish.secret.as_str() == name.as_str();
        !wishes.iter().any(is_named)
    });
    match stray {
        Some(name) => Err(wrong(format!(
            "--use-current names `{}`, which no --env does",
            tame(name)
        ))),
        None => Ok(wishes),
    }
}

/// A container's variables, as `NAME=value`, overwritten when dropped.
pub(super) struct Environment(Vec<Zeroizing<String>>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(…)")
    }
}

impl Environment {
    /// Takes them out of an inspect.
    pub(super) fn of(about: &mut Value) -> Self {
        let entries = match about.pointer_mut("/Config/Env").map(Value::take) {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        let texts = entries.into_iter().filter_map(|entry| match entry {
            Value::String(text) => Some(Zeroizing::new(text)),
            _ => None,
        });
        Self(texts.collect())
    }

    /// Their names, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.0.iter();
        names.map(|entry| tame(name_of(entry))).collect()
    }

    /// As the container is to have them: placeholders where wished, the rest as it is.
    pub(super) fn with_placeholders(&self, wishes: &[Wish]) -> Vec<String> {
        let replaced = |entry: &str| {
            let name = name_of(entry);
            let mut wishes = wishes.iter();
            let wish = wishes.find(|wish| wish.variable.as_str() == name)?;
            Some(format!("{name}={}", wish.placeholder()))
        };
        let entries = self.0.iter();
        entries
            .map(|entry| replaced(entry).unwrap_or_else(|| entry.as_str().to_owned()))
            .collect()
    }

    /// The values of the named variables, by the secrets that take them.
    pub(super) fn values(
        &self,
        wishes: &[Wish],
    ) -> Result<BTreeMap<SecretName, SecretBytes>, Failure> {
        let mut values: BTreeMap<SecretName, SecretBytes> = BTreeMap::new();
        for wish in wishes {
            let value = self.value(wish)?;
            if wish.use_current {
                continue;
            }
            let value = SecretBytes::value(value.as_bytes().to_vec()).map_err(|error| {
                let what = format!("{}: {error}", wish.variable);
                Failure::new(Exit::Input, what, "leave this variable as it is")
            })?;
            match values.get(&wish.secret) {
                Some(other) if !other.ct_eq(&value) => {
                    return Err(Failure::new(
                        Exit::Input,
                        format!(
                            "two variables are to become secret {}, and their values differ",
                            wish.secret
                        ),
                        "name a secret for each",
                    ));
                }
                Some(_) => {}
                None => drop(values.insert(wish.secret.clone(), value)),
            }
        }
        Ok(values)
    }

    /// Names of other variables in which a value that is taken stands as well, with whose it is.
    pub(super) fn also_in(&self, wishes: &[Wish]) -> Vec<(String, EnvName)> {
        let mut found = Vec::new();
        for wish in wishes {
            let Some(value) = self.last(wish.variable.as_str()) else {
                continue;
            };
            if value.len() < TELLING_BYTES {
                continue;
            }
            let is_wished = |name: &str| {
                let mut wishes = wishes.iter();
                wishes.any(|wish| wish.variable.as_str() == name)
            };
            let others = self.0.iter().filter(|entry| {
                let (name, text) = entry.split_once('=').unwrap_or((entry.as_str(), ""));
                !is_wished(name) && text.contains(value)
            });
            found.extend(others.map(|entry| (tame(name_of(entry)), wish.variable.clone())));
        }
        found
    }

    /// The value that counts: of entries with one name the last.
    fn last(&self, variable: &str) -> Option<&str> {
        let mut entries = self.0.iter().rev();
        entries.find_map(|entry| {
            let (name, value) = entry.split_once('=')?;
            (name == variable).then_some(value)
        })
    }

    fn value(&self, wish: &Wish) -> Result<&str, Failure> {
        let variable = &wish.variable;
        let value = self.last(variable.as_str()).ok_or_else(|| {
            let what = match self.0.is_empty() {
                true => format!("the container has no variable {variable}, and no other either"),
                false => format!(
                    "the container has no variable {variable}; it has {}",
                    self.names().join(", ")
                ),
            };
            Failure::new(Exit::NotFound, what, "name a variable that it has")
        })?;
        if value.contains(OPEN) {
            return Err(Failure::new(
                Exit::Conflict,
                format!("{variable} holds a placeholder already, so there is no value to take"),
                "leave this variable out; `keywheel consumers` shows what the container gets",
            ));
        }
        if value.is_empty() {
            return Err(Failure::new(
                Exit::Input,
                format!("{variable} is empty: a secret has at least one byte"),
                "leave this variable out",
            ));
        }
        Ok(value)
    }
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn env(entries: &[&str]) -> Environment {
        Environment::of(&mut json!({ "Config": { "Env": entries } }))
    }

    fn wished(pairs: &[&str], current: &[&str]) -> Result<Vec<Wish>, Failure> {
        let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
        let current: Vec<String> = current.iter().map(ToString::to_string).collect();
        wishes(&pairs, &current)
    }

    #[test]
    fn an_inspect_holds_no_variable_any_more() {
        let mut about = json!({ "Id": "0", "Config": { "Env": ["A=hunter2"], "Tty": false } });
        let env = Environment::of(&mut about);
        assert!(!about.to_string().contains("hunter2"));
        assert_eq!(env.names(), ["A"]);
        assert_eq!(format!("{env:?}"), "Environment(…)");
        for mut odd in [json!({}), json!({ "Config": { "Env": null } }), json!(7)] {
            assert!(Environment::of(&mut odd).names().is_empty());
        }
    }

    #[test]
    fn wishes_are_read_and_a_value_in_the_wrong_place_is_not_told() {
        let wishes = wished(&["A=a/b", "B=c"], &["c"]).unwrap();
        assert_eq!(wishes[0].placeholder(), "{keywheel:a/b}");
        assert_eq!(
            (wishes[0].use_current, wishes[1].use_current),
            (false, true)
        );
        for (pairs, current) in [
            (vec!["A"], vec![]),
            (vec!["=a"], vec![]),
            (vec!["A="], vec![]),
            (vec!["A-B=a"], vec![]),
            (vec!["A=Hunter2!"], vec![]),
            (vec!["A=a", "A=b"], vec![]),
            (vec!["A=a"], vec!["b"]),
        ] {
            let failure = wished(&pairs, &current).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{pairs:?}");
            assert!(!failure.to_string().contains("Hunter2"), "{failure}");
        }
        let many: Vec<String> = (0..=MAX_WISHES).map(|n| format!("A{n}=a")).collect();
        assert!(wishes_of(&many[..MAX_WISHES]).is_ok());
        assert!(wishes_of(&many).is_err());
    }

    fn wishes_of(pairs: &[String]) -> Result<Vec<Wish>, Failure> {
        wishes(pairs, &[])
    }

    #[test]
    fn the_last_of_two_entries_counts_and_both_are_replaced() {
        let env = env(&["A=first-value", "X=1", "A=last-value", "B"]);
        let wishes = wished(&["A=a"], &[]).unwrap();
        let values = env.values(&wishes).unwrap();
        let value = values.values().next().unwrap();
        assert!(value.ct_eq(&SecretBytes::from(b"last-value".to_vec())));
        assert_eq!(
            env.with_placeholders(&wishes),
            ["A={keywheel:a}", "X=1", "A={keywheel:a}", "B"]
        );
    }

    #[test]
    fn what_cannot_be_taken_is_refused_by_name() {
        let env = env(&["A=hunter2", "B=other-hunter", "E=", "P=x{keywheel:p}", "N"]);
        let refused = |pairs: &[&str]| env.values(&wished(pairs, &[]).unwrap()).unwrap_err();
        let unknown = refused(&["Z=z"]);
        assert_eq!(unknown.exit, Exit::NotFound);
        assert!(unknown.what.contains("A, B, E, P, N"), "{unknown}");
        assert_eq!(refused(&["N=n"]).exit, Exit::NotFound);
        assert_eq!(refused(&["E=e"]).exit, Exit::Input);
        assert_eq!(refused(&["P=p"]).exit, Exit::Conflict);
        let differ = refused(&["A=same", "B=same"]);
        assert_eq!(differ.exit, Exit::Input);
        for failure in [unknown, differ] {
            assert!(!failure.to_string().contains("hunter"), "{failure}");
        }
        assert_eq!(
            env.values(&wished(&["A=a", "B=b"], &["a"]).unwrap())
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn a_value_that_stands_elsewhere_too_is_named_by_the_variables_only() {
        let env = env(&[
            "PW=hunter2",
            "URL=postgres://app:hunter2@db",
            "S=abc",
            "T=xabcx",
        ]);
        let wishes = wished(&["PW=pw", "S=s"], &[]).unwrap();
        let found = env.also_in(&wishes);
        let pw = EnvName::parse("PW").unwrap();
        assert_eq!(found, [("URL".to_owned(), pw)]);
    }
}
