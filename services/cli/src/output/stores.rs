//! Stores outside as text for people. Pure.

use keywheel_schemas::api::{
    HealthWord, RefreshAnswer, Refreshed, StorePage, StoreSecret, StoreView,
};

use super::table::{columns, fields};
use super::tame;
use super::views::number;

const fn word(health: HealthWord) -> &'static str {
    match health {
        HealthWord::Ok => "ok",
        HealthWord::Unknown => "unknown",
        HealthWord::Warning => "warning",
        HealthWord::Problem => "problem",
    }
}

/// Stores, and below them what each has to say.
pub(crate) fn stores(stores: &[StoreView], color: bool) -> String {
    let row = |store: &StoreView| {
        vec![
            store.name.clone(),
            store.kind.clone(),
            word(store.health).to_owned(),
            store.secrets.to_string(),
            format!("{} s", store.poll_seconds),
            store.address.clone(),
        ]
    };
    let headers = ["NAME", "KIND", "HEALTH", "SECRETS", "POLL", "ADDRESS"];
    let mut text = columns(&headers, stores.iter().map(row).collect(), color);
    for store in stores {
        text.push_str(&format!(
            "\nnote: store {}: {}",
            tame(&store.name),
            tame(&store.note)
        ));
        if let Some(next) = &store.next {
            text.push_str(&format!("; next: {}", tame(next)));
        }
    }
    text
}

/// One store with what lies in it.
pub(crate) fn store(page: &StorePage, color: bool) -> String {
    let store = &page.store;
    let mut text = fields(&[
        ("name", store.name.clone()),
        ("kind", store.kind.clone()),
        ("address", store.address.clone()),
        ("poll", format!("{} s", store.poll_seconds)),
        ("health", word(store.health).to_owned()),
        ("note", store.note.clone()),
        ("next", store.next.clone().unwrap_or_default()),
    ]);
    let row = |secret: &StoreSecret| {
        let by = match (&secret.known, secret.written) {
            (None, _) => "",
            (Some(_), true) => "keywheel",
            (Some(_), false) => "somebody else",
        };
        vec![
            secret.name.clone(),
            secret.source.path.clone(),
            secret.source.field.clone(),
            secret.known.clone().unwrap_or_default(),
            by.to_owned(),
            number(secret.current),
        ]
    };
    let headers = [
        "SECRET",
        "PATH",
        "FIELD",
        "THEIR VERSION",
        "WRITTEN BY",
        "OUR VERSION",
    ];
    let rows = page.secrets.iter().map(row).collect();
    text.push_str(&format!(
        "\nLIES THERE\n{}\n",
        columns(&headers, rows, color)
    ));
    text
}

/// What looks gave.
pub(crate) fn refreshed(answer: &RefreshAnswer, color: bool) -> String {
    if answer.results.is_empty() {
        return "no secret lies in a store outside".to_owned();
    }
    let row = |one: &Refreshed| {
        vec![
            one.secret.clone(),
            one.found.clone(),
            one.rotation.clone().unwrap_or_default(),
            one.reason.clone().unwrap_or_default(),
        ]
    };
    let headers = ["SECRET", "FOUND", "ROTATION", "REASON"];
    columns(&headers, answer.results.iter().map(row).collect(), color)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_stale_says_since_when_why_and_what_to_do() {
        let store = StoreView {
            name: "openbao".to_owned(),
            kind: "vault".to_owned(),
            address: "https://bao:8200/secret".to_owned(),
            poll_seconds: 60,
            secrets: 2,
            health: HealthWord::Problem,
            note: "stale since 2026-01-04T02:00:00Z; containers keep what they have: it is sealed"
                .to_owned(),
            next: Some("unseal it".to_owned()),
        };
        let text = stores(&[store], false);
        for words in [
            "openbao",
            "problem",
            "stale since 2026",
            "it is sealed",
            "next: unseal it",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_look_that_failed_says_why() {
        let one = |found: &str, reason: Option<&str>| Refreshed {
            secret: "prod/db".to_owned(),
            found: found.to_owned(),
            reason: reason.map(str::to_owned),
            rotation: None,
        };
        let answer = RefreshAnswer {
            results: vec![
                one("unchanged", None),
                one("failed", Some("permission denied")),
            ],
        };
        let text = refreshed(&answer, false);
        assert!(text.contains("unchanged") && text.contains("permission denied"));
        let nothing = RefreshAnswer {
            results: Vec::new(),
        };
        assert!(refreshed(&nothing, false).contains("no secret"));
    }
}
