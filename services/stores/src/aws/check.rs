//! Which rights are missing at a place, asked before a secret gets it.
//!
//! AWS looks at rights before anything else, so a request that can have no effect tells whether it
//! would be allowed: denied, or refused for what it names. Invariants: nothing is changed, at servers
//! that only speak AWS's API neither; a value is asked for only where a KMS key of one's own has to be
//! tried, and dropped. What cannot be tried so is told, not guessed: making a secret, and encrypting.

use keywheel_core::store::AwsSpec;
use keywheel_engine::port::{ErrorKind, PortError};

use super::failure::{Failure, Reason};
use super::policy::{self, CREATE, DESCRIBE, GET, LABEL, PUT};
use super::requests::{PENDING, Requests, Versions};

/// A version that no secret has.
const NO_VERSION: &str = "00000000-0000-4000-8000-000000000000";
/// Takes the place of the six characters that AWS chose: a secret that nobody has, under the same rights.
const NO_SUFFIX: &str = "kwheel";

/// What lies there, as far as it may be known.
enum There {
    Hidden,
    Nothing,
    Secret(Versions),
}

/// The rights that a secret needs at this place; gives what could not be tried.
pub(super) async fn rights(
    requests: &Requests<'_>,
    spec: &AwsSpec,
    path: &str,
    writes: bool,
) -> Result<Vec<String>, PortError> {
    let mut missing = Vec::new();
    let mut untried = Vec::new();
    let there = match requests.describe(path).await {
        Ok(None) => There::Nothing,
        Ok(Some(versions)) => There::Secret(versions),
        Err(failure) => {
            allowed::<()>(Err(failure), DESCRIBE, &mut missing)?;
            There::Hidden
        }
    };
    allowed(requests.value(path, NO_VERSION).await, GET, &mut missing)?;
    if writes {
        let moved = requests.relabel(path, PENDING, Some(NO_VERSION), None);
        allowed(moved.await, LABEL, &mut missing)?;
        may_put(requests, path, &there, &mut missing, &mut untried).await?;
    }
    let is_readable = missing.is_empty();
    let denied = (!is_readable).then(|| lacks(&missing, &policy::resource(spec, path)));
    let key = match &there {
        There::Secret(versions) if is_readable => {
            let key = may_decrypt(requests, path, versions).await?;
            if writes && !versions.key.is_empty() {
                untried.push(format!(
                    "whether `kms:GenerateDataKey` is allowed on {} cannot be tried without writing",
                    versions.key
                ));
            }
            key
        }
        There::Nothing if writes && path.starts_with("arn:") => Some(format!(
            "nothing is at {path}, and AWS makes no secret by ARN; create it there, or name it"
        )),
        There::Nothing if writes => {
            untried.push(format!(
                "nothing is at {path} yet: whether `{CREATE}` is allowed cannot be tried without making it"
            ));
            None
        }
        _ => None,
    };
    match denied.or(key) {
        None => Ok(untried),
        Some(text) => {
            let mut text = format!("store `{}`: {text}", requests.name);
            for not in untried {
                text.push_str(&format!("; {not}"));
            }
            Err(PortError::new(ErrorKind::Denied, text))
        }
    }
}

/// Notes the action when the answer says that it is not allowed; any other refusal says that it is.
fn allowed<T>(
    answer: Result<T, Failure>,
    action: &'static str,
    missing: &mut Vec<&'static str>,
) -> Result<(), PortError> {
    match answer {
        Ok(_) => Ok(()),
        Err(failure) => match failure.reason {
            Reason::Denied | Reason::Forbidden => {
                missing.push(action);
                Ok(())
            }
            Reason::Missing | Reason::Exists | Reason::Label | Reason::State | Reason::Key => {
                Ok(())
            }
            Reason::Expired | Reason::Stranger | Reason::Other => Err(failure.into()),
        },
    }
}

/// Asked at a secret that nobody has, under the same name; when that is denied, whoever made the policy
/// may have named this very secret, and it is asked there.
async fn may_put(
    requests: &Requests<'_>,
    path: &str,
    there: &There,
    missing: &mut Vec<&'static str>,
    untried: &mut Vec<String>,
) -> Result<(), PortError> {
    let arn = match there {
        There::Hidden => {
            untried.push(format!(
                "whether `{PUT}` is allowed can be tried once `{DESCRIBE}` is"
            ));
            return Ok(());
        }
        There::Nothing => {
            return allowed(requests.put_nothing(path, NO_VERSION).await, PUT, missing);
        }
        There::Secret(versions) => versions.arn.as_str(),
    };
    if let Some(nobodys) = nobodys(arn) {
        let mut denied = Vec::new();
        let put = requests.put_nothing(&nobodys, NO_VERSION).await;
        allowed(put, PUT, &mut denied)?;
        if denied.is_empty() {
            return Ok(());
        }
    }
    allowed(requests.put_nothing(path, NO_VERSION).await, PUT, missing)
}

/// The ARN of a secret of the same name that nobody has.
fn nobodys(arn: &str) -> Option<String> {
    let (name, suffix) = arn.rsplit_once('-')?;
    let is_other =
        arn.starts_with("arn:") && suffix.len() == NO_SUFFIX.len() && suffix != NO_SUFFIX;
    is_other.then(|| format!("{name}-{NO_SUFFIX}"))
}

/// A key of one's own is tried by what is current; says what is missing.
async fn may_decrypt(
    requests: &Requests<'_>,
    path: &str,
    versions: &Versions,
) -> Result<Option<String>, PortError> {
    let current = versions.current()?.filter(|_| !versions.deleted);
    let (key, Some(current)) = (versions.key.as_str(), current) else {
        return Ok(None);
    };
    if key.is_empty() {
        return Ok(None);
    }
    match requests.value(path, current).await {
        Err(failure) if failure.reason == Reason::Key => Ok(Some(format!(
            "this login may not use the KMS key of {path}; add `\"Action\": [\"kms:Decrypt\", \
             \"kms:GenerateDataKey\"], \"Resource\": \"{key}\"` to its policy, or let it use the key by \
             the key's own policy"
        ))),
        Err(failure) if failure.reason == Reason::Missing => Ok(None),
        read => read.map(|_| None).map_err(PortError::from),
    }
}

/// What is missing, with the part of the printed policy that gives it.
fn lacks(missing: &[&str], resource: &str) -> String {
    let named = missing.iter().map(|action| {
        let statement = policy::statement_of(action);
        format!("`{action}` (statement {statement})")
    });
    let named: Vec<_> = named.collect();
    format!(
        "this login lacks {} on {resource}; add it as in the policy that `keywheel store policy NAME` \
         prints",
        named.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_secret_has_another_suffix_and_no_other_name() {
        let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/db-a-AbCdEf";
        let other = arn.replace("AbCdEf", NO_SUFFIX);
        assert_eq!(nobodys(arn).as_deref(), Some(other.as_str()));
        for none in ["", "prod/db-AbCdEf", "arn:aws:x:secret:a-AbCdE", &other] {
            assert_eq!(nobodys(none), None, "{none}");
        }
    }
}
