//! `revoke` and `unbind`: what cannot be taken back is shown first, and confirmed by typing the name.

use std::collections::BTreeSet;

use keywheel_schemas::api::{
    ApplyAnswer, ConsumerView, RevocationView, RevokeByAnswer, RevokeByRequest, RevokePlan,
    RevokeRequest, RevokeScope, RotateRequest, RotationView, TokenView, VersionView,
};

use super::rotate::with_nearest;
use super::{Desk, token, waiting};
use crate::args::{RevokeArgs, UnbindArgs};
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{Screen, radius, tokens, views};

/// What the end of logins does not end.
const RENEWS: &str = "what renews a login is the provider's: disable the person there first, or the next login is as good as the last";

pub(super) async fn revoke(desk: &Desk, args: &RevokeArgs) -> Result<(), Failure> {
    if let Some(person) = args.principal.as_deref().filter(|who| is_person(who)) {
        return tokens_of(desk, args, person).await;
    }
    if args.dry_run {
        let plan = plan(desk, args).await?;
        return desk
            .screen
            .show(&plan, |plan| radius::plan(plan, desk.screen.color));
    }
    match &args.name {
        Some(name) => revoke_one(desk, args, name).await,
        None => revoke_many(desk, args).await,
    }
}

/// Whether it is somebody who has tokens, and no values.
fn is_person(principal: &str) -> bool {
    ["certificate:", "unix:", "oidc:"]
        .iter()
        .any(|kind| principal.starts_with(kind))
}

/// Nothing of a person's dies but their tokens, which another one can be issued for: nobody is asked.
async fn tokens_of(desk: &Desk, args: &RevokeArgs, person: &str) -> Result<(), Failure> {
    if args.dry_run {
        let all: Vec<TokenView> = desk.client.read_all("/v1/tokens").await?;
        let theirs = all.into_iter().filter(|token| token.owner == person);
        let theirs: Vec<TokenView> = theirs.collect();
        return desk
            .screen
            .show(&theirs, |all| tokens::tokens(all, desk.screen.color));
    }
    if person.starts_with("oidc:") {
        desk.screen.note(RENEWS);
    }
    token::revoke_of(desk, person, args.reason.as_deref().unwrap_or_default()).await
}

/// What it would do.
async fn plan(desk: &Desk, args: &RevokeArgs) -> Result<RevokePlan, Failure> {
    let mut query = vec![format!("emergency={}", args.emergency)];
    query.extend(args.replace.then(|| "replace=true".to_owned()));
    let named = |key: &str, value: &String| format!("{key}={}", escape(value));
    query.extend(args.name.iter().map(|value| named("secret", value)));
    query.extend(args.version.iter().map(|value| format!("version={value}")));
    query.extend(args.prefix.iter().map(|value| named("prefix", value)));
    query.extend(args.store.iter().map(|value| named("store", value)));
    query.extend(args.container.iter().map(|value| named("container", value)));
    query.extend(args.image.iter().map(|value| named("image", value)));
    query.extend(args.service.iter().map(|value| named("service", value)));
    query.extend(args.principal.iter().map(|value| named("principal", value)));
    let path = format!("/v1/revoke-plan?{}", query.join("&"));
    desk.client.read(&path).await
}

/// The one thing that is typed to confirm it.
fn meant(args: &RevokeArgs) -> &str {
    let mut named = [
        &args.name,
        &args.prefix,
        &args.store,
        &args.container,
        &args.image,
        &args.service,
        &args.principal,
    ]
    .into_iter()
    .flatten();
    named.next().map_or("", String::as_str)
}

async fn revoke_one(desk: &Desk, args: &RevokeArgs, name: &str) -> Result<(), Failure> {
    if !args.yes {
        require_person(desk.screen, "revoke")?;
        let path = format!("/v1/consumers?secret={}", escape(name));
        let consumers = match desk.client.read_all::<ConsumerView>(&path).await {
            Ok(consumers) => consumers,
            Err(failure) => return Err(with_nearest(desk, name, failure).await),
        };
        let path = format!("/v1/versions/{}", escape(name));
        let versions = desk.client.read::<Vec<VersionView>>(&path).await?;
        let mut text = warning((name, args.version), &consumers, &versions);
        if args.replace {
            let plan = plan(desk, args).await?;
            let first = plan.secrets.iter().find_map(|one| one.replacement.as_ref());
            text.extend(first.map(|words| format!("\nFirst it is replaced: {words}.")));
        }
        desk.screen.note(&text);
        confirm(desk.screen, name)?;
    }
    let request = RevokeRequest {
        secret: name.to_owned(),
        version: args.version,
        reason: args.reason.clone().unwrap_or_default(),
        replace: args.replace,
        emergency: args.emergency,
    };
    match desk
        .client
        .change::<RevocationView>("/v1/revoke", &request)
        .await
    {
        Ok(begun) => {
            let replaced = unreplaced(std::slice::from_ref(&begun));
            let ended = waiting::revocation(desk, begun, &args.wait).await;
            ended.and(replaced)
        }
        Err(failure) => Err(with_nearest(desk, name, failure).await),
    }
}

/// Tells where nothing takes the place of what is revoked, though that was asked for.
fn unreplaced(begun: &[RevocationView]) -> Result<(), Failure> {
    let none = begun.iter().find_map(|view| {
        let replacement = view.states.replacement.as_ref()?;
        (replacement.state == "none").then_some((view, replacement))
    });
    let Some((view, replacement)) = none else {
        return Ok(());
    };
    let because = replacement.because.as_deref().unwrap_or_default();
    Err(Failure::new(
        Exit::Partial,
        format!("nothing takes the place of {}: {because}", view.secret),
        "it is revoked all the same; `keywheel secret put` or `keywheel rotate` gives it a value",
    ))
}

/// Begins a rotation of each. Each is tried, and the first failure is told, with what to do then.
pub(super) async fn rotate_all(
    desk: &Desk,
    names: &[&str],
    next: &'static str,
) -> Result<(), Failure> {
    let mut first = Ok(());
    for name in names {
        let request = RotateRequest {
            secret: (*name).to_owned(),
        };
        let begun = desk.client.change::<RotationView>("/v1/rotate", &request);
        let begun = begun.await.map_err(|failure| {
            Failure::new(
                Exit::Partial,
                format!("no fresh value for {name}: {}", failure.what),
                next,
            )
        });
        first = first.and(begun.map(drop));
    }
    first
}

/// Each secret by itself; one that is refused or is not through in time does not hold up the others.
async fn revoke_many(desk: &Desk, args: &RevokeArgs) -> Result<(), Failure> {
    if !args.yes {
        require_person(desk.screen, "revoke")?;
        let plan = plan(desk, args).await?;
        let text = radius::plan(&plan, false);
        let text = format!("This revokes, for ever:\n{text}");
        desk.screen.note(&text);
        confirm(desk.screen, meant(args))?;
    }
    let request = RevokeByRequest {
        scope: RevokeScope {
            prefix: args.prefix.clone(),
            store: args.store.clone(),
            container: args.container.clone(),
            image: args.image.clone(),
            service: args.service.clone(),
            principal: args.principal.clone(),
            ..RevokeScope::default()
        },
        reason: args.reason.clone().unwrap_or_default(),
        emergency: args.emergency,
        replace: args.replace,
    };
    let many = desk.client.change_many("/v1/revoke-by", &request);
    let mut answer: RevokeByAnswer = many.await?;
    let replaced = unreplaced(&answer.revocations);
    let waited = waiting::revocation_ends(desk, &mut answer.revocations, &args.wait).await;
    let color = desk.screen.color;
    desk.screen
        .show(&answer, |answer| radius::answer(answer, color))?;
    let is_open = |view: &&RevocationView| args.wait.wait && view.state != "closed";
    let open = answer.revocations.iter().filter(is_open).count();
    if open == 0 && answer.refused.is_empty() {
        return waited.and(replaced);
    }
    Err(Failure::new(
        Exit::Partial,
        format!(
            "{} secrets were not revoked, and {open} revocations are not through",
            answer.refused.len()
        ),
        "the reasons stand above; `keywheel revocation list` shows how they stand",
    ))
}

fn warning(
    (name, meant): (&str, Option<u64>),
    consumers: &[ConsumerView],
    versions: &[VersionView],
) -> String {
    let what = match meant {
        Some(version) => format!("version {version} of {name}"),
        None => format!("all versions of {name}"),
    };
    let holds = |consumer: &&ConsumerView| {
        meant
            .is_none_or(|version| consumer.version == version || consumer.previous == Some(version))
    };
    let hit: Vec<ConsumerView> = consumers.iter().filter(holds).cloned().collect();
    let mut text = format!("This revokes {what}, for ever. ");
    if hit.is_empty() {
        text.push_str("No container holds it now.");
    } else {
        text.push_str(&format!(
            "{} consumers lose it:\n{}",
            hit.len(),
            views::consumers(&hit, false)
        ));
    }
    let is_meant = |view: &&VersionView| meant.is_none_or(|version| view.version == version);
    let dying = versions.iter().filter(is_meant);
    let hosts: BTreeSet<&str> = dying
        .flat_map(|view| &view.hosts)
        .map(String::as_str)
        .collect();
    if !hosts.is_empty() {
        let hosts = Vec::from_iter(hosts).join(", ");
        text.push_str(&format!("\nHosts that may hold it: {hosts}."));
    }
    text
}

pub(super) async fn unbind(desk: &Desk, args: &UnbindArgs) -> Result<(), Failure> {
    if !args.yes {
        require_person(desk.screen, "unbind")?;
        desk.screen.note(&format!(
            "This removes the binding {}: its containers lose the secret.",
            args.name
        ));
        confirm(desk.screen, &args.name)?;
    }
    let answer: ApplyAnswer = desk
        .client
        .remove(&format!("/v1/bindings/{}", escape(&args.name)))
        .await?;
    desk.screen.show(&answer, |answer| {
        views::applied(answer, false, desk.screen.color)
    })
}

pub(super) fn require_person(screen: Screen, verb: &str) -> Result<(), Failure> {
    if screen.interactive {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        format!("{verb} asks before it acts, and there is no terminal to ask on"),
        "add --yes when you are sure",
    ))
}

pub(super) fn confirm(screen: Screen, name: &str) -> Result<(), Failure> {
    if screen.ask(&format!("Type `{name}` to go on:"))? == name {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        "that is not the name; nothing was done",
        "repeat the command and type the name",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;

    fn consumer(name: &str, version: u64) -> ConsumerView {
        ConsumerView {
            container: "0".repeat(64),
            name: name.to_owned(),
            host: "h".to_owned(),
            secret: "a/b".to_owned(),
            binding: "b".to_owned(),
            version,
            assigned: version,
            state: "reloaded".to_owned(),
            reason: None,
            restart: None,
            latency_ms: None,
            previous: None,
        }
    }

    #[test]
    fn the_warning_lists_exactly_those_who_hold_what_is_revoked() {
        let consumers = [consumer("old", 1), consumer("new", 2)];
        let one = warning(("a/b", Some(2)), &consumers, &[]);
        assert!(
            one.contains("version 2 of a/b") && one.contains("new (") && !one.contains("old ("),
            "{one}"
        );
        let all = warning(("a/b", None), &consumers, &[]);
        assert!(
            all.contains("2 consumers lose it") && all.contains("old ("),
            "{all}"
        );
        assert!(warning(("a/b", None), &[], &[]).contains("No container holds it"));
        // As the version before, beside the current one.
        let first = ("a/b", Some(1));
        let mut beside = consumer("both", 2);
        beside.previous = Some(1);
        let one = warning(first, &[consumer("new", 2), beside], &[]);
        assert!(
            one.contains("1 consumers lose it") && one.contains("both ("),
            "{one}"
        );
        // Whoever was granted it is named, also when no consumer is known to have it.
        let granted = |version, host: &str| VersionView {
            version,
            stage: String::new(),
            state: "alive".to_owned(),
            hosts: vec![host.to_owned()],
            evicted_hosts: Vec::new(),
        };
        let versions = [granted(2, "web-2"), granted(1, "web-1")];
        let one = warning(first, &[], &versions);
        assert!(one.ends_with("Hosts that may hold it: web-1."), "{one}");
    }

    #[test]
    fn without_a_terminal_yes_is_asked_for() {
        let mut screen = Screen::of_terminal(Format::Table);
        screen.interactive = false;
        let failure = require_person(screen, "revoke").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("--yes"));
    }
}
