//! A blast radius, and what came of revoking it, as a person reads them.

use keywheel_schemas::api::{AwayHost, PlannedLoss, PlannedRevocation, RevokeByAnswer, RevokePlan};

use super::table::columns;
use super::views::{revocations, version_list};

/// Lines of a section; what is beyond is counted.
const MAX_LINES: usize = 200;
/// Digits of an image's digest that are shown, with its `sha256:`.
const SHORT_DIGEST: usize = 19;

/// What a revocation would do.
pub(crate) fn plan(plan: &RevokePlan, color: bool) -> String {
    let secrets = plan.secrets.iter().take(MAX_LINES).map(secret_row);
    let headers = [
        "SECRET", "VERSIONS", "STORE", "RESOURCE", "PROOF", "CANCELS", "HOSTS",
    ];
    let mut text = first(plan.note.as_deref());
    text.push_str(&columns(&headers, secrets.collect(), color));
    more(&mut text, plan.secrets.len());
    for one in plan.secrets.iter().take(MAX_LINES) {
        let words = one.replacement.iter();
        text.extend(
            words.map(|words| format!("\n{}: {}", super::tame(&one.secret), super::tame(words))),
        );
    }
    let losses = || {
        let each = |one: &PlannedRevocation| one.consumers.len();
        plan.secrets.iter().map(each).sum::<usize>()
    };
    let all = plan.secrets.iter();
    let rows = all.flat_map(|one| {
        one.consumers
            .iter()
            .map(move |loss| loss_row(&one.secret, loss))
    });
    let rows: Vec<Vec<String>> = rows.take(MAX_LINES).collect();
    if !rows.is_empty() {
        let headers = [
            "CONTAINER",
            "HOST",
            "IMAGE",
            "SECRET",
            "VERSION",
            "BINDING",
            "ACTION",
        ];
        text.push_str("\n\n");
        text.push_str(&columns(&headers, rows, color));
        more(&mut text, losses());
    }
    text.push_str(&format!(
        "\n\n{} secrets, {} containers on {} hosts that may hold them; {} containers stop, {} restart",
        plan.secrets.len(),
        plan.containers,
        plan.hosts,
        plan.stops,
        plan.restarts
    ));
    for host in plan.away.iter().take(MAX_LINES) {
        text.push_str(&format!("\n{}", away(host)));
    }
    more(&mut text, plan.away.len());
    text
}

/// What has to be seen before everything else.
fn first(note: Option<&str>) -> String {
    note.map_or_else(String::new, |note| {
        format!("warning: {}\n\n", super::tame(note))
    })
}

/// A line about a host that is not heard.
pub(super) fn away(host: &AwayHost) -> String {
    let name = super::tame(&host.host);
    let since = match &host.last_seen {
        Some(at) => format!("not heard since {at}"),
        None => "not heard since this gateway started".to_owned(),
    };
    let until = match &host.starts_until {
        Some(until) => format!(
            "containers may start there with what it holds until {until}, by the lease of a day (`injector.lease` there may say another)"
        ),
        None => {
            "containers may start there with what it holds for as long as `injector.lease` says"
                .to_owned()
        }
    };
    format!("{name} is away: {since}; {until}")
}

fn secret_row(one: &PlannedRevocation) -> Vec<String> {
    vec![
        one.secret.clone(),
        version_list(&one.versions),
        one.store.clone(),
        one.resource.clone().unwrap_or_else(|| "-".to_owned()),
        match one.is_proven {
            true => "by a login",
            false => "cannot be probed",
        }
        .to_owned(),
        one.cancels.clone().unwrap_or_else(|| "-".to_owned()),
        one.hosts.join(", "),
    ]
}

fn loss_row(secret: &str, loss: &PlannedLoss) -> Vec<String> {
    vec![
        loss.name.clone(),
        loss.host.clone(),
        loss.image
            .get(..SHORT_DIGEST)
            .unwrap_or(&loss.image)
            .to_owned(),
        secret.to_owned(),
        loss.version.to_string(),
        loss.binding.clone(),
        loss.action.clone(),
    ]
}

fn more(text: &mut String, all: usize) {
    if let Some(left) = all.checked_sub(MAX_LINES).filter(|left| *left > 0) {
        text.push_str(&format!("\nand {left} more; `-o json` has them all"));
    }
}

/// What came of it.
pub(crate) fn answer(answer: &RevokeByAnswer, color: bool) -> String {
    let mut text = first(answer.note.as_deref());
    text.push_str(&revocations(&answer.revocations, color));
    for refused in &answer.refused {
        text.push_str(&format!(
            "\nnot revoked: {}: {}",
            super::tame(&refused.secret),
            super::tame(&refused.reason)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> PlannedRevocation {
        PlannedRevocation {
            secret: name.to_owned(),
            versions: vec![3],
            store: "local".to_owned(),
            resource: Some("postgres at db:5432".to_owned()),
            is_proven: true,
            cancels: None,
            hosts: vec!["web-1".to_owned()],
            consumers: vec![PlannedLoss {
                container: "0".repeat(64),
                name: "shop".to_owned(),
                image: format!("sha256:{}", "4f".repeat(32)),
                host: "web-1".to_owned(),
                binding: "b".to_owned(),
                version: 3,
                action: "file removed".to_owned(),
                stops: false,
                restarts: false,
            }],
            replacement: None,
        }
    }

    #[test]
    fn a_radius_names_secret_resource_host_container_and_image_and_counts_what_is_beyond() {
        let mut radius = RevokePlan {
            note: None,
            secrets: vec![one("prod/db")],
            containers: 1,
            stops: 0,
            restarts: 0,
            hosts: 1,
            away: vec![AwayHost {
                host: "web-2".to_owned(),
                last_seen: Some("2026-01-04T02:00:00Z".to_owned()),
                starts_until: Some("2026-01-05T02:00:00Z".to_owned()),
            }],
        };
        let text = plan(&radius, false);
        for words in [
            "prod/db",
            "postgres at db:5432",
            "by a login",
            "shop",
            "sha256:4f4f4f4f4f4f",
            "file removed",
            "1 containers on 1 hosts",
            "web-2 is away: not heard since 2026-01-04T02:00:00Z",
            "until 2026-01-05T02:00:00Z",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert!(!text.contains("more;"), "{text}");
        assert!(text.starts_with("SECRET"), "{text}");
        radius.note = Some("no binding names it".to_owned());
        let text = plan(&radius, false);
        assert!(
            text.starts_with("warning: no binding names it\n\nSECRET"),
            "{text}"
        );
        let begun = RevokeByAnswer {
            note: radius.note.clone(),
            revocations: Vec::new(),
            refused: Vec::new(),
        };
        let text = answer(&begun, false);
        assert!(
            text.starts_with("warning: no binding names it\n\n"),
            "{text}"
        );
        radius.secrets = (0..=MAX_LINES).map(|n| one(&n.to_string())).collect();
        assert!(plan(&radius, false).contains("and 1 more"));
    }
}
