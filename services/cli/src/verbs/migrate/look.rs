//! Everything that is looked at before a migration: the container, its image, who depends on it, what
//! the engine can do, what Keywheel has already. All of it only reads; what cannot work is refused here.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::name::SecretName;
use keywheel_schemas::api::{BindingView, ConsumerView, SecretView, Status};
use keywheel_seal::SecretBytes;
use serde_json::Value;

use super::Desk;
use super::engine::{Engine, Inspected};
use super::grant::{self, Bindings, Gate};
use super::json::{is_empty, text};
use super::recreate::{self, Recreation, name, short_id};
use super::swap::{self, Names};
use super::take::{Environment, Wish};
use crate::args::MigrateArgs;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::tame;
use crate::setup::dockerd;

/// Most paths of the container's own layer that a refusal names.
const MAX_PATHS: usize = 8;
/// Most bytes of a container's name or id on the command line.
const MAX_NAME_BYTES: usize = 255;

/// A migration that can begin.
#[derive(Debug)]
pub(super) struct Case {
    /// The container as it is, without its variables.
    pub(super) about: Value,
    /// Its variables.
    pub(super) env: Environment,
    /// What is to be created.
    pub(super) recreation: Recreation,
    /// Names on the way.
    pub(super) names: Names,
    /// Which variables, which secrets.
    pub(super) wishes: Vec<Wish>,
    /// Values that become secrets.
    pub(super) values: BTreeMap<SecretName, SecretBytes>,
    /// What grants them.
    pub(super) bindings: Bindings,
    /// This machine, as bindings call it.
    pub(super) host: String,
    /// The runtime.
    pub(super) runtime: String,
    /// How long the new one may take.
    pub(super) gate: Gate,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

/// Looks at everything.
pub(super) async fn look(
    desk: &Desk,
    engine: &Engine,
    args: &MigrateArgs,
    wishes: Vec<Wish>,
) -> Result<Case, Failure> {
    let Inspected { about, env } = container(engine, &args.container).await?;
    let names = Names::of(name(&about));
    let values = env.values(&wishes)?;
    recreate::refuse_impossible(&about)?;
    refuse_leftovers(engine, &names).await?;
    refuse_unknown_runtime(engine, &args.runtime).await?;
    let image = image(engine, &about).await?;
    refuse_dependents(engine, &about).await?;
    let lost = recreate::lost(&engine.changes(text(&about, "Id")).await?, &about);
    if !args.discard_changes {
        refuse_loss(&names.own, &lost)?;
    }
    let recreation = recreate::recreation(&about, &image, &args.runtime, engine.api().await?)?;
    let host = match &args.host {
        Some(host) => host.clone(),
        None => desk.client.read::<Status>("/v1/status").await?.host,
    };
    let gate = Gate {
        settle: args.settle,
        healthy: args.wait_healthy,
    };
    refuse_other_secrets(desk, &wishes).await?;
    let ungranted = ungranted(desk, text(&about, "Id"), &wishes).await?;
    let bindings = grant::bindings(&about, &image, &host, &ungranted, gate)?;
    refuse_other_bindings(desk, &ungranted, &bindings).await?;
    let notes = notes(&about, &env, &wishes, &bindings, &lost);
    Ok(Case {
        about,
        env,
        recreation,
        names,
        wishes,
        values,
        bindings,
        host,
        runtime: args.runtime.clone(),
        gate,
        notes,
    })
}

async fn container(engine: &Engine, given: &str) -> Result<Inspected, Failure> {
    let given = given.trim_start_matches('/');
    let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if given.is_empty() || given.len() > MAX_NAME_BYTES || !given.bytes().all(byte) {
        return Err(Failure::new(
            Exit::Usage,
            "that is no name or id of a container",
            "name one that `docker ps` lists",
        ));
    }
    if let Some(found) = engine.inspect(given).await? {
        return Ok(found);
    }
    let what = format!("Docker has no container `{given}`");
    // A run that was killed in the middle leaves it under its other name.
    match engine.inspect(&Names::of(given).old).await? {
        Some(old) => Err(Failure::new(
            Exit::NotFound,
            format!("{what}; a migration of it was cut off in the middle"),
            swap::by_hand(None, text(&old.about, "Id"), given),
        )),
        None => Err(Failure::new(
            Exit::NotFound,
            what,
            "`docker ps` lists the ones that run; give --env and the rest as before",
        )),
    }
}

async fn refuse_leftovers(engine: &Engine, names: &Names) -> Result<(), Failure> {
    if let Some(old) = engine.inspect(&names.old).await? {
        let own = engine.inspect(&names.own).await?;
        let own = own.map(|own| text(&own.about, "Id").to_owned());
        let next = format!(
            "keep the new one (`docker rm {}`), or {}",
            names.old,
            swap::by_hand(own.as_deref(), text(&old.about, "Id"), &names.own)
        );
        let what = format!(
            "container {} is left of a migration that was cut off",
            names.old
        );
        return Err(Failure::new(Exit::Conflict, what, next));
    }
    if engine.inspect(&names.new).await?.is_some() {
        let what = format!(
            "container {} is left of a migration that was cut off",
            names.new
        );
        let next = format!("`docker rm {}`, then repeat the command", names.new);
        return Err(Failure::new(Exit::Conflict, what, next));
    }
    Ok(())
}

async fn refuse_unknown_runtime(engine: &Engine, runtime: &str) -> Result<(), Failure> {
    if !runtime.starts_with(keywheel_injector::RUNTIME_PREFIX) {
        let what = format!("`{}` cannot be the name of our runtime", tame(runtime));
        let next =
            "name one that `keywheel setup docker` registered; its name begins with `keywheel`";
        return Err(Failure::new(Exit::Usage, what, next));
    }
    let Ok(known) = dockerd::runtimes(engine.socket()).await else {
        let what = "Docker does not tell which runtimes it has";
        let next = "look into dockerd's log, then repeat the command";
        return Err(Failure::new(Exit::Unavailable, what, next));
    };
    if known.contains_key(runtime) {
        return Ok(());
    }
    let what = format!("Docker has no runtime `{}`", tame(runtime));
    let next = "register it with `sudo keywheel setup docker`, which touches no container";
    Err(Failure::new(Exit::NotFound, what, next))
}

/// The image under the name that the container was made with; by another one it would differ.
async fn image(engine: &Engine, about: &Value) -> Result<Value, Failure> {
    let written = about
        .pointer("/Config/Image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let id = text(about, "Image");
    let found = engine.image(written).await?;
    match found.filter(|image| text(image, "Id") == id) {
        Some(image) => Ok(image),
        None => Err(Failure::new(
            Exit::Conflict,
            format!(
                "{} was made of image {}, and that name means another image by now, or none",
                name(about),
                tame(written)
            ),
            format!(
                "give the name back to its image: `docker tag {id} {}`",
                tame(written)
            ),
        )),
    }
}

/// Who shares a namespace with the container keeps its id, and would lose it.
async fn refuse_dependents(engine: &Engine, about: &Value) -> Result<(), Failure> {
    let id = text(about, "Id");
    for other in engine.ids().await? {
        let Some(neighbour) = engine.neighbour(&other).await?.filter(|_| other != id) else {
            continue;
        };
        if let Some(what) = neighbour.takes_from(id, name(about)) {
            let other = tame(neighbour.name.trim_start_matches('/'));
            return Err(Failure::new(
                Exit::Conflict,
                format!(
                    "container {other} takes its {what} from {}, and would lose that with it",
                    name(about)
                ),
                format!("remove {other}, migrate, then make {other} again"),
            ));
        }
    }
    Ok(())
}

fn refuse_loss(own: &str, lost: &[String]) -> Result<(), Failure> {
    if lost.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = lost.iter().take(MAX_PATHS).map(|path| tame(path)).collect();
    let more = match lost.len().saturating_sub(MAX_PATHS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(Failure::new(
        Exit::Conflict,
        format!(
            "{own} wrote files outside its mounts, and they would be lost: {}{more}",
            shown.join(", ")
        ),
        "save what is needed (`docker cp`), then repeat the command with --discard-changes",
    ))
}

async fn refuse_other_secrets(desk: &Desk, wishes: &[Wish]) -> Result<(), Failure> {
    let secrets: BTreeSet<(&SecretName, bool)> = wishes
        .iter()
        .map(|wish| (&wish.secret, wish.use_current))
        .collect();
    for (secret, use_current) in secrets {
        let path = format!("/v1/secrets/{}", escape(secret.as_str()));
        let found = match desk.client.read::<SecretView>(&path).await {
            Ok(found) => Some(found),
            Err(failure) if failure.exit == Exit::NotFound => None,
            Err(failure) => return Err(failure),
        };
        match (found, use_current) {
            (None, false) => {}
            (Some(found), true) if found.current.is_some() => {}
            (Some(_), true) => {
                let next = format!("give it one with `keywheel secret put {secret}`");
                let what = format!("secret {secret} has no current version to use");
                return Err(Failure::new(Exit::Conflict, what, next));
            }
            (Some(_), false) => {
                let next = format!(
                    "add --use-current {secret} to give the container that value instead of its own, or name another secret"
                );
                let what = format!(
                    "secret {secret} is there already, and nobody can compare values: none is ever read back"
                );
                return Err(Failure::new(Exit::Conflict, what, next));
            }
            (None, true) => {
                let next = "`keywheel secret list` names those there are; without --use-current it is made";
                let what = format!("there is no secret {secret} to use");
                return Err(Failure::new(Exit::NotFound, what, next));
            }
        }
    }
    Ok(())
}

/// Wishes that no binding grants to this container yet; a second one would be one too many.
async fn ungranted(desk: &Desk, id: &str, wishes: &[Wish]) -> Result<Vec<Wish>, Failure> {
    let mut ungranted = Vec::new();
    for wish in wishes {
        if !(wish.use_current && is_granted(desk, id, wish).await?) {
            ungranted.push(wish.clone());
        }
    }
    Ok(ungranted)
}

/// Whether a binding gives this variable to this container, which could not follow so far.
async fn is_granted(desk: &Desk, id: &str, wish: &Wish) -> Result<bool, Failure> {
    let path = format!("/v1/consumers?secret={}", escape(wish.secret.as_str()));
    let consumers: Vec<ConsumerView> = desk.client.read_all(&path).await?;
    for consumer in consumers.iter().filter(|consumer| consumer.container == id) {
        let path = format!("/v1/bindings/{}", escape(&consumer.binding));
        match desk.client.read::<BindingView>(&path).await {
            Ok(binding) if binding.target == format!("env {}", wish.variable) => return Ok(true),
            Err(failure) if failure.exit != Exit::NotFound => return Err(failure),
            _ => {}
        }
    }
    Ok(false)
}

/// A binding of the same name has to say the same.
async fn refuse_other_bindings(
    desk: &Desk,
    wishes: &[Wish],
    bindings: &Bindings,
) -> Result<(), Failure> {
    for (wish, (binding, document)) in wishes.iter().zip(&bindings.each) {
        let path = format!("/v1/bindings/{}", escape(binding.as_str()));
        match desk.client.read::<BindingView>(&path).await {
            Err(failure) if failure.exit == Exit::NotFound => continue,
            Err(failure) => return Err(failure),
            Ok(_) => {}
        }
        let is_same = wish.use_current && {
            let answer = super::apply(desk, document.clone(), true).await?;
            let mut results = answer.results.iter();
            results.all(|applied| applied.action == "unchanged")
        };
        if !is_same {
            return Err(Failure::new(
                Exit::Conflict,
                format!("binding {binding} is there already, and says something else"),
                format!(
                    "see `keywheel describe binding {binding}`; remove it with `keywheel unbind {binding}`"
                ),
            ));
        }
    }
    Ok(())
}

fn notes(
    about: &Value,
    env: &Environment,
    wishes: &[Wish],
    bindings: &Bindings,
    lost: &[String],
) -> Vec<String> {
    let mut notes = Vec::new();
    for (other, variable) in env.also_in(wishes) {
        notes.push(format!(
            "the value of {variable} stands in variable {other}, too, which stays as it is: anybody who may use Docker can read it there"
        ));
    }
    if bindings.labels.is_empty() && !bindings.each.is_empty() {
        notes.push(
            "the container has no label that tells it from others: the binding grants the value to every container of this image on this host that asks for it".to_owned(),
        );
    }
    if !lost.is_empty() {
        notes.push(format!(
            "{} paths that it wrote outside its mounts are lost",
            lost.len()
        ));
    }
    let ports = about.pointer("/HostConfig/PublishAllPorts");
    let draws = ports.and_then(Value::as_bool) == Some(true) || draws_ports(about);
    if draws {
        notes.push("Docker draws published ports without a number anew".to_owned());
    }
    notes.push(format!(
        "what {} wrote to its log so far goes with the one from before, container {}",
        name(about),
        short_id(about)
    ));
    notes
}

fn draws_ports(about: &Value) -> bool {
    let bindings = about.pointer("/HostConfig/PortBindings");
    let bindings = bindings.and_then(Value::as_object).into_iter().flatten();
    let mut places = bindings.flat_map(|(_, places)| super::json::members(Some(places)));
    places.any(|place| place.get("HostPort").is_none_or(is_empty) || text(place, "HostPort") == "0")
}
