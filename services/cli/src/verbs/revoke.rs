//! `revoke` and `unbind`: what cannot be taken back is shown first, and confirmed by typing the name.

use std::collections::BTreeSet;

use keywheel_schemas::api::{
    ApplyAnswer, ConsumerView, RevocationView, RevokeRequest, VersionView,
};

use super::rotate::with_nearest;
use super::{Desk, waiting};
use crate::args::{RevokeArgs, UnbindArgs};
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{Screen, views};

pub(super) async fn revoke(desk: &Desk, args: &RevokeArgs) -> Result<(), Failure> {
    if !args.yes {
        require_person(desk.screen, "revoke")?;
        let path = format!("/v1/consumers?secret={}", escape(&args.name));
        let consumers = match desk.client.read_all::<ConsumerView>(&path).await {
            Ok(consumers) => consumers,
            Err(failure) => return Err(with_nearest(desk, &args.name, failure).await),
        };
        let path = format!("/v1/versions/{}", escape(&args.name));
        let versions = desk.client.read::<Vec<VersionView>>(&path).await?;
        desk.screen.note(&warning(args, &consumers, &versions));
        confirm(desk.screen, &args.name)?;
    }
    let request = RevokeRequest {
        secret: args.name.clone(),
        version: args.version,
        reason: args.reason.clone(),
    };
    match desk
        .client
        .change::<RevocationView>("/v1/revoke", &request)
        .await
    {
        Ok(begun) => waiting::revocation(desk, begun, &args.wait).await,
        Err(failure) => Err(with_nearest(desk, &args.name, failure).await),
    }
}

fn warning(args: &RevokeArgs, consumers: &[ConsumerView], versions: &[VersionView]) -> String {
    let what = match args.version {
        Some(version) => format!("version {version} of {}", args.name),
        None => format!("all versions of {}", args.name),
    };
    let holds = |consumer: &&ConsumerView| {
        args.version
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
    let is_meant = |view: &&VersionView| args.version.is_none_or(|version| view.version == version);
    let meant = versions.iter().filter(is_meant);
    let hosts: BTreeSet<&str> = meant
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
    use crate::args::{Format, WaitArgs};

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
        let mut args = RevokeArgs {
            name: "a/b".to_owned(),
            version: Some(2),
            reason: "r".to_owned(),
            yes: false,
            wait: WaitArgs {
                wait: false,
                timeout: std::time::Duration::ZERO,
            },
        };
        let consumers = [consumer("old", 1), consumer("new", 2)];
        let one = warning(&args, &consumers, &[]);
        assert!(
            one.contains("version 2 of a/b") && one.contains("new (") && !one.contains("old ("),
            "{one}"
        );
        args.version = None;
        let all = warning(&args, &consumers, &[]);
        assert!(
            all.contains("2 consumers lose it") && all.contains("old ("),
            "{all}"
        );
        assert!(warning(&args, &[], &[]).contains("No container holds it"));
        // As the version before, beside the current one.
        args.version = Some(1);
        let mut beside = consumer("both", 2);
        beside.previous = Some(1);
        let one = warning(&args, &[consumer("new", 2), beside], &[]);
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
        let one = warning(&args, &[], &versions);
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
