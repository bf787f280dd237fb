//! Hosts as text for people. Pure.

use keywheel_schemas::api::{EvictAnswer, HeldView, HostPage, HostView, JoinTokenAnswer};

use super::table::{columns, fields};
use super::tame;
use super::views::{number, version_list};

/// Hosts.
pub(crate) fn hosts(hosts: &[HostView], color: bool) -> String {
    let row = |host: &HostView| {
        vec![
            host.name.clone(),
            host.id.clone(),
            host.state.clone(),
            seen(host),
            host.generation.to_string(),
            number(host.acknowledged),
            number(host.lag),
            host.consumers.to_string(),
        ]
    };
    let headers = [
        "NAME",
        "ID",
        "STATE",
        "LAST SEEN",
        "PLAN",
        "ACKNOWLEDGED",
        "LAG",
        "CONSUMERS",
    ];
    let mut text = columns(&headers, hosts.iter().map(row).collect(), color);
    for host in hosts {
        if let Some(note) = &host.note {
            text.push_str(&format!(
                "\nnote: host {}: {}",
                tame(&host.name),
                tame(note)
            ));
        }
    }
    text
}

fn seen(host: &HostView) -> String {
    host.last_seen.clone().unwrap_or_else(|| "-".to_owned())
}

/// One host with what it may hold.
pub(crate) fn host(page: &HostPage, color: bool) -> String {
    let host = &page.host;
    let keys = match page.key_generation {
        0 => String::new(),
        generation => generation.to_string(),
    };
    let mut text = fields(&[
        ("name", host.name.clone()),
        ("id", host.id.clone()),
        ("state", host.state.clone()),
        (
            "evicted because",
            page.evicted_because.clone().unwrap_or_default(),
        ),
        ("last seen", seen(host)),
        ("plan generation", host.generation.to_string()),
        ("acknowledged", number(host.acknowledged)),
        ("lag in events", number(host.lag)),
        ("consumers", host.consumers.to_string()),
        ("key generation", keys),
        ("signing key", page.signing_key.clone().unwrap_or_default()),
        ("sealing key", page.sealing_key.clone()),
        ("note", host.note.clone().unwrap_or_default()),
    ]);
    text.push_str(&match host.state.as_str() {
        "evicted" => to_rotate(&page.held, color),
        _ => format!("\nMAY HOLD\n{}\n", held(&page.held, color)),
    });
    text
}

fn held(held: &[HeldView], color: bool) -> String {
    let row = |held: &HeldView| {
        let current = if held.current { "yes" } else { "no" };
        vec![
            held.secret.clone(),
            version_list(&held.versions),
            current.to_owned(),
        ]
    };
    let headers = ["SECRET", "VERSIONS", "CURRENT"];
    columns(&headers, held.iter().map(row).collect(), color)
}

fn to_rotate(left: &[HeldView], color: bool) -> String {
    let Some(first) = left.first() else {
        return "\nNothing it could hold is alive: there is nothing to rotate.\n".to_owned();
    };
    format!(
        "\nIT MAY STILL HOLD\n{}\n\nnext: rotate each, for example `keywheel rotate {} --wait`; `keywheel revoke` when it cannot wait\n",
        held(left, color),
        tame(&first.secret)
    )
}

/// What a person has to know before a host is evicted.
pub(crate) fn warning(page: &HostPage) -> String {
    let host = &page.host;
    format!(
        "This evicts host {} ({}), for ever: it gets no secret again, its consumers ({}) count no more, and what it may still hold you rotate afterwards (secrets: {}).",
        tame(&host.name),
        tame(&host.id),
        host.consumers,
        page.held.len()
    )
}

/// What became of an eviction.
pub(crate) fn evicted(answer: &EvictAnswer, color: bool) -> String {
    format!(
        "host {} ({}) is evicted\n{}",
        tame(&answer.host.name),
        tame(&answer.host.id),
        to_rotate(&answer.held, color)
    )
}

/// What to know beside a token.
pub(crate) fn token_note(answer: &JoinTokenAnswer) -> String {
    format!(
        "one machine may join as {} ({}) with this, once, until {}; give it to `keywheel-injector join` there and keep it from everyone else:",
        tame(&answer.name),
        tame(&answer.host),
        tame(&answer.expires_at)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(state: &str) -> HostView {
        HostView {
            name: "web-1".to_owned(),
            id: "i-1".to_owned(),
            state: state.to_owned(),
            generation: 12,
            acknowledged: Some(10),
            lag: Some(2),
            last_seen: Some("2026-01-04T02:00:00Z".to_owned()),
            consumers: 3,
            note: Some("silent".to_owned()),
        }
    }

    fn db() -> HeldView {
        HeldView {
            secret: "prod/db".to_owned(),
            versions: vec![1, 2],
            current: true,
        }
    }

    fn page(state: &str, held: Vec<HeldView>) -> HostPage {
        HostPage {
            host: web(state),
            signing_key: None,
            sealing_key: "k".to_owned(),
            key_generation: 0,
            evicted_because: None,
            held,
        }
    }

    #[test]
    fn the_list_shows_how_far_a_host_is_and_what_is_wrong() {
        let text = hosts(&[web("joined")], false);
        for word in ["web-1", "joined", "2026-01-04T02:00:00Z", "12", "10"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(text.ends_with("note: host web-1: silent"), "{text}");
    }

    #[test]
    fn what_an_evicted_host_may_hold_is_named_with_the_next_step() {
        let text = host(&page("evicted", vec![db()]), false);
        assert!(text.contains("1, 2") && text.contains("keywheel rotate prod/db"));
        let done = host(&page("evicted", Vec::new()), false);
        assert!(done.contains("nothing to rotate"), "{done}");
        let live = host(&page("joined", vec![db()]), false);
        assert!(
            live.contains("MAY HOLD") && !live.contains("next:"),
            "{live}"
        );
        let (host, held) = (web("evicted"), vec![db()]);
        let answer = evicted(&EvictAnswer { host, held }, false);
        assert!(
            answer.starts_with("host web-1 (i-1) is evicted"),
            "{answer}"
        );
    }

    #[test]
    fn the_warning_counts_what_is_lost() {
        let text = warning(&page("joined", vec![db()]));
        assert!(
            text.contains("consumers (3)") && text.contains("secrets: 1"),
            "{text}"
        );
    }

    #[test]
    fn the_note_beside_a_token_does_not_repeat_it() {
        let answer = JoinTokenAnswer {
            name: "web-2".to_owned(),
            host: "i-2".to_owned(),
            token: "kwjoin1.x".to_owned(),
            expires_at: "2026-01-04T02:10:00Z".to_owned(),
        };
        let note = token_note(&answer);
        assert!(note.contains("web-2") && note.contains("02:10") && !note.contains("kwjoin1"));
        assert!(!format!("{answer:?}").contains("kwjoin1"));
    }
}
