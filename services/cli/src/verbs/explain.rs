//! `explain`: whether a container of this machine gets a secret, and which rule decides.
//!
//! The engine of this machine says what the container is, the gateway which bindings there are; it decides by the
//! function by which the host's injector does. Invariant: nothing is changed, and no content of a variable is read.

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::{ContainerHost, ContainerRecord};
use keywheel_schemas::api::{EntitlementView, Status};

use super::Desk;
use super::rotate::with_nearest;
use crate::args::ExplainArgs;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{entitlement as views, tame};
use crate::wiring;

/// Fewest digits of an id that name a container.
const SHORTEST_ID: usize = 12;
/// Longest question, in bytes: the gateway takes no longer head, of which a token and the rest have their part.
const MAX_QUESTION_BYTES: usize = 30_000;

pub(super) async fn explain(desk: &Desk, args: &ExplainArgs) -> Result<(), Failure> {
    let engine = wiring::container_engine()?;
    let facts = container(&*engine, &args.container).await?;
    let host = host(desk, args).await?;
    let path = question(&args.secret, &host, &facts)?;
    let answer: EntitlementView = match desk.client.read(&path).await {
        Ok(answer) => answer,
        Err(failure) => return Err(with_nearest(desk, &args.secret, failure).await),
    };
    desk.screen
        .show(&answer, |answer| views::page(answer, desk.screen.color))
}

/// This machine as bindings call it.
async fn host(desk: &Desk, args: &ExplainArgs) -> Result<String, Failure> {
    if let Some(host) = &args.host {
        return Ok(host.clone());
    }
    if !desk.client.is_local() {
        return Err(Failure::new(
            Exit::Usage,
            "the gateway is elsewhere and does not know which host this machine is",
            "name it with --host; `keywheel get hosts` lists them",
        ));
    }
    Ok(desk.client.read::<Status>("/v1/status").await?.host)
}

/// What the engine says of a container.
async fn container(engine: &dyn ContainerHost, given: &str) -> Result<ContainerFacts, Failure> {
    let unreached = |error: PortError| {
        let next = "run this on the container's own machine, as somebody who may use its engine";
        Failure::new(Exit::Unavailable, keywheel_daemon::chain(&error), next)
    };
    if let Ok(id) = ContainerId::parse(given) {
        let found = engine.inspect(&id).await.map_err(unreached)?;
        return found
            .map(|record| record.facts)
            .ok_or_else(|| unknown(engine.name(), given));
    }
    let mut all = engine.list().await.map_err(unreached)?;
    // One whose start was refused is what most people ask about.
    all.extend(engine.refused().await.map_err(unreached)?);
    chosen(all, given).map_err(|ids| match ids.is_empty() {
        true => unknown(engine.name(), given),
        false => Failure::new(
            Exit::Usage,
            format!(
                "`{}` means several containers: {}",
                tame(given),
                ids.join(", ")
            ),
            "give the full id of one",
        ),
    })
}

/// The one container that is meant; else the ids of those that could be.
fn chosen(all: Vec<ContainerRecord>, given: &str) -> Result<ContainerFacts, Vec<String>> {
    let given = given.trim_start_matches('/');
    let is_meant = |facts: &ContainerFacts| {
        let is_begin = given.len() >= SHORTEST_ID && facts.id.as_str().starts_with(given);
        facts.name == given || is_begin
    };
    let facts = all.into_iter().map(|record| record.facts);
    let mut found: Vec<ContainerFacts> = facts.filter(is_meant).collect();
    found.sort_by(|one, other| one.id.cmp(&other.id));
    found.dedup_by(|one, other| one.id == other.id);
    match <[ContainerFacts; 1]>::try_from(found) {
        Ok([one]) => Ok(one),
        Err(found) => Err(found.iter().map(|one| one.id.short().to_owned()).collect()),
    }
}

fn unknown(engine: &str, given: &str) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!(
            "{engine} of this machine runs no container `{}`, and refused none",
            tame(given)
        ),
        "give the full id of one that does not run, or run this on the container's own machine",
    )
}

fn question(secret: &str, host: &str, facts: &ContainerFacts) -> Result<String, Failure> {
    let labels = serde_json::to_string(&facts.labels).map_err(|error| {
        Failure::new(
            Exit::Unexpected,
            format!("the container's labels could not be written: {error}"),
            "report this fault of keywheel",
        )
    })?;
    let id = facts.id.to_string();
    let mut parts = vec![
        ("host", host),
        ("id", id.as_str()),
        ("name", facts.name.as_str()),
        ("image_digest", facts.image_digest.as_str()),
        ("image", facts.image_name.as_str()),
        ("labels", labels.as_str()),
    ];
    parts.extend(facts.user.as_deref().map(|user| ("user", user)));
    let parts: Vec<String> = parts
        .into_iter()
        .map(|(name, text)| format!("{name}={}", escape(text)))
        .collect();
    let path = format!("/v1/explain/{}?{}", escape(secret), parts.join("&"));
    if path.len() > MAX_QUESTION_BYTES {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "the container's labels make a question of more than {MAX_QUESTION_BYTES} bytes"
            ),
            "`keywheel describe binding NAME` shows what a binding asks for, your engine's inspect what the container has",
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keywheel_engine::port::container_host::Health;

    use super::*;

    fn record(digit: char, name: &str) -> ContainerRecord {
        ContainerRecord {
            facts: ContainerFacts {
                id: ContainerId::parse(&digit.to_string().repeat(64)).unwrap(),
                name: name.to_owned(),
                image_digest: "sha256:1".to_owned(),
                image_name: "app:1".to_owned(),
                labels: BTreeMap::from([("a&b".to_owned(), "c d".to_owned())]),
                user: None,
            },
            pid: 0,
            running: true,
            paused: false,
            started_at: String::new(),
            runtime: "keywheel".to_owned(),
            health: Health::None,
            placeholders: Vec::new(),
            refused: None,
            health_command: Vec::new(),
            user: String::new(),
        }
    }

    #[test]
    fn a_container_goes_by_its_name_or_twelve_digits_and_several_are_named() {
        let all = || vec![record('a', "web"), record('b', "db"), record('a', "web")];
        let name = |given: &str| chosen(all(), given).map(|facts| facts.name);
        assert_eq!(name("web"), Ok("web".to_owned()));
        assert_eq!(name("/db"), Ok("db".to_owned()));
        assert_eq!(name(&"b".repeat(12)), Ok("db".to_owned()));
        assert_eq!(name(&"b".repeat(11)), Err(Vec::new()));
        assert_eq!(name("we"), Err(Vec::new()));
        let twins = vec![record('a', "web"), record('b', "web")];
        let ids = chosen(twins, "web").unwrap_err();
        assert_eq!(ids, ["a".repeat(12), "b".repeat(12)]);
    }

    #[test]
    fn a_question_says_what_the_engine_said_and_is_bounded() {
        let facts = record('a', "web").facts;
        let path = question("prod/db", "web-1", &facts).unwrap();
        assert!(path.starts_with("/v1/explain/prod"), "{path}");
        for part in [
            "host=web-1",
            "name=web",
            "image_digest=sha256",
            "labels=%7B",
        ] {
            assert!(path.contains(part), "{path}");
        }
        assert!(!path.contains("user=") && !path.contains("a&b"), "{path}");
        let told = ContainerFacts {
            user: Some(String::new()),
            ..facts.clone()
        };
        assert!(question("prod/db", "h", &told).unwrap().ends_with("&user="));
        let long = ContainerFacts {
            labels: BTreeMap::from([("a".to_owned(), "x".repeat(MAX_QUESTION_BYTES))]),
            ..facts
        };
        let refused = question("prod/db", "h", &long).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        // What is asked the gateway reads, with room for a token.
        const { assert!(MAX_QUESTION_BYTES + 2048 <= keywheel_gateway::server::MAX_HEAD_BYTES) };
    }
}
