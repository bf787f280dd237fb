//! The first question of a container's create: what goes into it.
//!
//! Authorises from the engine's record, never from what the wrapper says beyond the id and the
//! placeholders. Values are open only while the answer is built. Every "no" to something that has a
//! container id leaves a fact for the audit, also when nothing else is known of the container.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::{ContainerId, SecretId};
use keywheel_core::name::{BindingName, SecretName};
use keywheel_core::plan::{Grant, PlannedBinding};
use keywheel_core::report::DeniedStart;
use keywheel_daemon::chain;
use keywheel_engine::trace::Context;
use keywheel_seal::SecretBytes;
use keywheel_telemetry::traces::Span;
use zeroize::Zeroizing;

use crate::granted::{further_of, previous_of};
use crate::leases;
use crate::model::Place;
use crate::runtime::resolve::{Chosen, Denied, Entry, Piece, choose, parse_entry};
use crate::runtime::wire::{MAX_ENV_VALUE_BYTES, Question, Refusal, Resolved, resolved_line};
use crate::shared::{Given, Sealed, Shared, VersionKey};

/// How long the engine's list may take before its files are read.
const LIST_BUDGET: Duration = Duration::from_millis(200);

/// An answer, or a "no" with its fact.
pub(crate) type Answer<T> = Result<T, Box<Refused>>;

/// Most characters of a refused start's reason and secret in a report.
const MAX_REASON_CHARS: usize = 1024;

/// A "no", and the fact to be audited where the container is known; else [`unknown`] makes it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) denied: Option<DeniedStart>,
}

/// A "no" to something the engine has no record of.
pub(crate) fn no(error: impl Into<String>, next: impl Into<String>) -> Box<Refused> {
    Box::new(Refused {
        refusal: Refusal::new(error, next),
        denied: None,
    })
}

/// A value of a container's create, and from what it was opened.
pub(crate) struct Opened {
    pub(crate) value: SecretBytes,
    pub(crate) sealed: Arc<Sealed>,
}

/// Those of one container's create.
type Values = BTreeMap<VersionKey, Opened>;

/// Answers the first question, with the line for the runtime. The span of the whole create is taken when
/// a second question follows.
pub(crate) async fn resolve(
    shared: &Arc<Shared>,
    question: &Question,
    trace: Option<Context>,
    create: &mut Option<Span>,
) -> Answer<Zeroizing<Vec<u8>>> {
    let id = parse_id(&question.id)?;
    let facts = facts_of(shared, &id).await?;
    let is_lenient = !question.strict && question.env.is_empty();
    leases::wait_for(shared, &facts, is_lenient).await;
    shared.freshen().await;
    let ((chosen, has_plan), intent) = shared.intend(|plan| match plan {
        None => ((Ok(Chosen::default()), false), Vec::new()),
        Some(plan) => {
            let chosen = choose(
                plan,
                &shared.options.host_name,
                &facts,
                &question.env,
                &question.mounts,
            );
            let versions = versions_of(chosen.as_ref().ok());
            ((chosen, true), versions)
        }
    });
    if !has_plan && !is_lenient {
        return Err(refuse(&facts, no_plan()));
    }
    let chosen = match chosen {
        Ok(chosen) => chosen,
        // The permissive runtime lets it start; the reconciler serves and reports it.
        Err(_) if is_lenient => Chosen::default(),
        Err(denied) => return Err(refuse(&facts, *denied)),
    };
    let dirs = directories(&chosen);
    if chosen.entries.is_empty() && dirs.is_empty() {
        return line_of(&facts, &Resolved::default());
    }
    if shared.is_lease_over() && shared.come_back().await.is_err() {
        return Err(refuse(&facts, lease_over(shared, &chosen)));
    }
    let values = open_all(shared, &facts, chosen.env.iter(), trace).await?;
    let mut resolved = Resolved {
        dirs,
        ..Resolved::default()
    };
    resolved.bundle_dir = shared
        .options
        .bundles()
        .join(id.as_str())
        .to_string_lossy()
        .into_owned();
    let mut given = chosen.env.iter().map(|(given, _)| given);
    for entry in &chosen.entries {
        let value = substitute(entry, |_| Some(&values.get(&key_of(given.next()?))?.value))
            .map_err(|refusal| refuse(&facts, unfit(&chosen, entry, refusal)))?;
        resolved.env.insert(entry.name.clone(), value);
    }
    let line = line_of(&facts, &resolved)?;
    let env = chosen.env.into_iter().map(|(given, _)| given).collect();
    let kept = values.into_iter();
    let kept = kept.map(|(key, opened)| (key, shared.kept.keep(key, opened.sealed)));
    let create = create.take().unwrap_or_default();
    shared.keep_pending(facts, (env, kept.collect()), intent, create);
    Ok(line)
}

/// What the plan has to go on granting until the container runs.
fn versions_of(chosen: Option<&Chosen>) -> Vec<VersionKey> {
    let given = chosen
        .into_iter()
        .flat_map(|chosen| chosen.env.iter().chain(&chosen.files));
    let parts = given.flat_map(parts_of);
    parts.map(|(given, _)| key_of(&given)).collect()
}

fn no_plan() -> Denied {
    let next = "wait until `keywheel status` shows this host, then start the container again";
    let refusal = Refusal::new("the injector has no plan for this host yet", next);
    Denied {
        refusal,
        secret: String::new(),
        binding: None,
    }
}

/// A value that its variable cannot hold.
fn unfit(chosen: &Chosen, entry: &Entry, refusal: Refusal) -> Denied {
    let secret = first_secret(entry);
    let mut given = chosen.env.iter().map(|(given, _)| &given.binding);
    let binding = given.find(|planned| planned.secret_name.as_str() == secret);
    let binding = binding.map(|planned| planned.name.clone());
    Denied {
        refusal,
        secret,
        binding,
    }
}

fn lease_over(shared: &Shared, chosen: &Chosen) -> Denied {
    let first = chosen.env.iter().chain(&chosen.files).next();
    let next =
        "bring the gateway or the bus back (`keywheel status`), then start the container again";
    Denied {
        refusal: Refusal::new(shared.lease_text(), next),
        secret: first.map_or_else(String::new, |(given, _)| {
            given.binding.secret_name.to_string()
        }),
        binding: first.map(|(given, _)| given.binding.name.clone()),
    }
}

fn line_of(facts: &ContainerFacts, resolved: &Resolved) -> Answer<Zeroizing<Vec<u8>>> {
    resolved_line(resolved).ok_or_else(|| {
        let refusal = Refusal::new(
            "the values are too long for variables",
            "bind the secrets as files instead",
        );
        let denied = Denied {
            refusal,
            secret: String::new(),
            binding: None,
        };
        refuse(facts, denied)
    })
}

pub(crate) fn parse_id(text: &str) -> Answer<ContainerId> {
    ContainerId::parse(text).map_err(|error| {
        no(
            chain(&error),
            "let the container engine call the runtime, with its full container id",
        )
    })
}

async fn facts_of(shared: &Shared, id: &ContainerId) -> Answer<ContainerFacts> {
    match shared
        .containers
        .inspect_during_create(id, LIST_BUDGET)
        .await
    {
        Ok(Some(record)) => Ok(record.facts),
        Ok(None) => {
            let error = format!(
                "the container engine has no record of container {}",
                id.short()
            );
            Err(no(
                error,
                "create the container with the engine that keywheel watches (DOCKER_HOST)",
            ))
        }
        Err(error) => Err(no(
            chain(&error),
            "check the container engine, then start the container again",
        )),
    }
}

pub(crate) fn key_of(given: &Given) -> VersionKey {
    (given.binding.secret, given.version)
}

/// What is given under one binding, version by version: each is a value of its own.
pub(crate) fn parts_of((given, grant): &(Given, Grant)) -> impl Iterator<Item = (Given, Grant)> {
    let part = move |secret: SecretId, name: &SecretName, grant: Grant| {
        let binding = PlannedBinding {
            secret,
            secret_name: name.clone(),
            also: Vec::new(),
            previous: Vec::new(),
            ..given.binding.clone()
        };
        let part = Given {
            binding,
            version: grant.version,
            place: given.place.clone(),
        };
        (part, grant)
    };
    let further = further_of(&given.binding);
    let further = further.map(move |(one, grant)| part(one.secret, &one.name, grant));
    let named = move |secret: SecretId| {
        let mut also = given.binding.also.iter();
        let further = also.find(|one| one.secret == secret);
        further.map_or(&given.binding.secret_name, |one| &one.name)
    };
    let previous = previous_of(&given.binding);
    let previous = previous.map(move |(secret, grant)| part(secret, named(secret), grant));
    let own = std::iter::once((given.clone(), *grant));
    own.chain(further).chain(previous)
}

fn directories(chosen: &Chosen) -> Vec<String> {
    let mut dirs: Vec<String> = Vec::new();
    for (given, _) in &chosen.files {
        if let Place::File { directory, .. } = &given.place
            && !dirs.iter().any(|dir| dir == directory.as_str())
        {
            dirs.push(directory.to_string());
        }
    }
    dirs
}

/// Opens what is given, each version once.
pub(crate) async fn open_all<'a>(
    shared: &Arc<Shared>,
    facts: &ContainerFacts,
    given: impl Iterator<Item = &'a (Given, Grant)>,
    trace: Option<Context>,
) -> Answer<Values> {
    let mut values = Values::new();
    for (given, grant) in given {
        let key = key_of(given);
        if values.contains_key(&key) {
            continue;
        }
        let opened = match shared.fetch(key.0, *grant, trace).await {
            Ok(sealed) => shared
                .open(key, &sealed)
                .map(|value| Opened { value, sealed }),
            Err(error) => Err(error),
        };
        let opened = opened.map_err(|error| {
            let text = format!(
                "version {} of secret `{}` cannot be had: {}",
                given.version,
                given.binding.secret_name,
                chain(&error)
            );
            let refusal = Refusal::new(
                text,
                "check `keywheel status`, then start the container again",
            );
            refuse(
                facts,
                Denied {
                    refusal,
                    secret: given.binding.secret_name.to_string(),
                    binding: Some(given.binding.name.clone()),
                },
            )
        })?;
        values.insert(key, opened);
    }
    Ok(values)
}

/// The full value of a variable; `value_of` gives that of each secret by its name, in order.
pub(crate) fn substitute<'a>(
    entry: &Entry,
    mut value_of: impl FnMut(&str) -> Option<&'a SecretBytes>,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let mut parts: Vec<&[u8]> = Vec::with_capacity(entry.pieces.len());
    for piece in &entry.pieces {
        match piece {
            Piece::Text(text) => parts.push(text.as_bytes()),
            Piece::File(name) => {
                let error = format!("the path of secret `{name}` was not chosen");
                return Err(Refusal::new(error, "start the container again"));
            }
            Piece::Secret(name) => {
                let value = value_of(name).ok_or_else(|| {
                    Refusal::new(
                        format!("secret `{name}` was not opened"),
                        "start the container again",
                    )
                })?;
                // EXPOSE: copied into the answer to the runtime, which is overwritten after it is sent.
                parts.push(value.expose());
            }
        }
    }
    let mut whole = Zeroizing::new(Vec::with_capacity(
        parts.iter().map(|part| part.len()).sum(),
    ));
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    check_variable(&entry.name, &whole)?;
    Ok(whole)
}

fn first_secret(entry: &Entry) -> String {
    let name = |piece: &Piece| match piece {
        Piece::Secret(name) | Piece::File(name) => Some(name.clone()),
        Piece::Text(_) => None,
    };
    entry.pieces.iter().find_map(name).unwrap_or_default()
}

fn check_variable(name: &str, value: &[u8]) -> Result<(), Refusal> {
    let refuse = |why: &str| {
        Err(Refusal::new(
            format!("variable {name} cannot hold the value: {why}"),
            "bind the secret as a file instead",
        ))
    };
    if value.contains(&0) {
        return refuse("it contains a zero byte");
    }
    if std::str::from_utf8(value).is_err() {
        return refuse("it is not valid UTF-8");
    }
    if value.len() > MAX_ENV_VALUE_BYTES {
        return refuse("it is longer than the kernel allows for a variable");
    }
    Ok(())
}

/// A "no" with its fact for the audit.
pub(crate) fn refuse(facts: &ContainerFacts, denied: Denied) -> Box<Refused> {
    let start = DeniedStart {
        container: facts.id.clone(),
        container_name: facts.name.clone(),
        image_digest: facts.image_digest.clone(),
        secret: bounded(denied.secret),
        reason: reason_of(denied.binding.as_ref(), &denied.refusal),
    };
    Box::new(Refused {
        refusal: denied.refusal,
        denied: Some(start),
    })
}

/// The fact of a "no" to a container of which only the question is known: no name, no image.
/// `None` when the question names no container at all.
pub(crate) fn unknown(question: &Question, refusal: &Refusal) -> Option<DeniedStart> {
    let asked = question.env.iter().find_map(|text| parse_entry(text));
    Some(DeniedStart {
        container: ContainerId::parse(&question.id).ok()?,
        container_name: String::new(),
        image_digest: String::new(),
        secret: bounded(asked.as_ref().map(first_secret).unwrap_or_default()),
        reason: reason_of(None, refusal),
    })
}

/// The binding stands first, as in every record of use.
fn reason_of(binding: Option<&BindingName>, refusal: &Refusal) -> String {
    let why = format!("{}; next: {}", refusal.error, refusal.next);
    bounded(match binding {
        Some(binding) => format!("binding/{binding}: {why}"),
        None => why,
    })
}

fn bounded(text: String) -> String {
    text.chars().take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_to_an_unknown_container_is_a_fact_with_what_the_question_says() {
        let refusal = Refusal::new("no record", "x".repeat(MAX_REASON_CHARS));
        let question = |id: &str, env: &str| {
            let line = serde_json::json!({ "v": 1, "op": "resolve", "id": id, "env": [env] });
            serde_json::from_value::<Question>(line).unwrap()
        };
        let id = "a".repeat(64);
        let start = unknown(&question(&id, "A=x-{keywheel:prod/db}"), &refusal).unwrap();
        assert_eq!(start.container.as_str(), id);
        assert_eq!(start.secret, "prod/db");
        assert!(start.reason.starts_with("no record; next: x"));
        assert_eq!(start.reason.chars().count(), MAX_REASON_CHARS);
        let unread = unknown(&question(&id, "A={keywheel:prod"), &refusal).unwrap();
        assert_eq!(unread.secret, "");
        assert_eq!(unknown(&question("a", "A={keywheel:b}"), &refusal), None);
    }

    #[test]
    fn a_no_under_a_binding_names_it_first() {
        let refusal = Refusal::new("it was revoked", "rotate it");
        let binding = BindingName::parse("web").unwrap();
        let reason = reason_of(Some(&binding), &refusal);
        assert_eq!(reason, "binding/web: it was revoked; next: rotate it");
        let long = Refusal::new("x".repeat(MAX_REASON_CHARS), "rotate it");
        let reason = reason_of(Some(&binding), &long);
        assert!(reason.starts_with("binding/web: x"));
        assert_eq!(reason.chars().count(), MAX_REASON_CHARS);
    }

    #[test]
    fn no_question_makes_its_reader_panic() {
        let refusal = Refusal::new("no record", "wait");
        let valid = serde_json::json!({
            "v": 1, "op": "resolve", "id": "a".repeat(64), "strict": true, "pid": 7,
            "env": ["A=x-{keywheel:prod/db}", "B={keywheel:a}{keywheel:b}"],
            "mounts": ["/run/secrets"],
        });
        keywheel_testkit::hostile(valid.to_string().as_bytes(), |bytes| {
            let Ok(question) = serde_json::from_slice::<Question>(bytes) else {
                return;
            };
            drop(parse_id(&question.id));
            if let Some(start) = unknown(&question, &refusal) {
                assert!(start.secret.chars().count() <= MAX_REASON_CHARS);
            }
        });
    }

    #[test]
    fn variables_take_text_up_to_the_limit_and_say_nothing_of_the_value() {
        assert!(check_variable("A", "grün".as_bytes()).is_ok());
        assert!(check_variable("A", &vec![b'a'; MAX_ENV_VALUE_BYTES]).is_ok());
        for bad in [vec![0], vec![0xff], vec![b'a'; MAX_ENV_VALUE_BYTES + 1]] {
            let refusal = check_variable("A", &bad).unwrap_err();
            assert!(refusal.next.contains("as a file"));
            assert!(!refusal.error.contains(&bad.len().to_string()) || bad.len() == 1);
        }
    }
}
