//! Notifications, sources of signals and letters as text for people. Pure.

use keywheel_schemas::api::{LetterView, NotificationView, SignalSourceView};

use super::table::{columns, fields};
use super::tame;

/// Notifications, and below them which receiver cannot be told.
pub(crate) fn notifications(all: &[NotificationView], color: bool) -> String {
    if all.is_empty() {
        return "no notifications".to_owned();
    }
    let row = |one: &NotificationView| {
        vec![
            one.name.clone(),
            one.kind.clone(),
            one.receiver.clone(),
            one.delivered.to_string(),
            one.behind.to_string(),
            one.letters.to_string(),
        ]
    };
    let headers = ["NAME", "KIND", "RECEIVER", "DELIVERED", "BEHIND", "LETTERS"];
    let mut text = columns(&headers, all.iter().map(row).collect(), color);
    for one in all {
        if let Some(trouble) = &one.trouble {
            let (name, trouble) = (tame(&one.name), tame(trouble));
            text.push_str(&format!("\nnote: {name} cannot be told now: {trouble}"));
        }
    }
    text
}

/// One notification.
pub(crate) fn notification(one: &NotificationView) -> String {
    fields(&[
        ("name", one.name.clone()),
        ("kind", one.kind.clone()),
        ("receiver", one.receiver.clone()),
        ("when", one.when.clone().unwrap_or_default()),
        ("delivered", format!("up to event {}", one.delivered)),
        ("behind", format!("{} events", one.behind)),
        ("letters", one.letters.to_string()),
        ("trouble", one.trouble.clone().unwrap_or_default()),
    ])
}

/// Sources of signals.
pub(crate) fn sources(all: &[SignalSourceView], color: bool) -> String {
    if all.is_empty() {
        return "no sources of signals".to_owned();
    }
    let row = |one: &SignalSourceView| {
        vec![
            one.name.clone(),
            one.format.clone(),
            one.proof.clone(),
            one.path.clone(),
            one.letters.to_string(),
        ]
    };
    let headers = ["NAME", "FORMAT", "PROOF", "PATH", "LETTERS"];
    columns(&headers, all.iter().map(row).collect(), color)
}

/// Letters.
pub(crate) fn letters(all: &[LetterView], color: bool) -> String {
    if all.is_empty() {
        return "no letters".to_owned();
    }
    let row = |one: &LetterView| {
        vec![
            one.id.clone(),
            one.owner.clone(),
            one.heading.clone(),
            one.time.clone(),
            one.reason.clone(),
        ]
    };
    let headers = ["ID", "OF", "WHAT", "SINCE", "WHY"];
    columns(&headers, all.iter().map(row).collect(), color)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_told_is_named_below() {
        let view = NotificationView {
            name: "soc".to_owned(),
            id: String::new(),
            kind: "webhook".to_owned(),
            receiver: "https://hooks.example".to_owned(),
            when: None,
            delivered: 7,
            behind: 3,
            letters: 1,
            trouble: Some("it is away".to_owned()),
        };
        let text = notifications(std::slice::from_ref(&view), false);
        assert!(
            text.contains("note: soc cannot be told now: it is away"),
            "{text}"
        );
        assert!(notification(&view).contains("up to event 7"));
        assert_eq!(notifications(&[], false), "no notifications");
        assert_eq!(letters(&[], false), "no letters");
        assert_eq!(sources(&[], false), "no sources of signals");
    }
}
