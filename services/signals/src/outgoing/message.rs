//! What a receiver is told of an event: the event itself, or a line of words. Pure.
//!
//! Invariant: nothing but names, numbers and the event's own bytes, which never hold a value.

use std::sync::Arc;

use keywheel_core::event::Event;
use keywheel_core::playbook_run;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::journal::RecordedEvent;
use keywheel_schemas::condition::{About, Condition, Facts};
use keywheel_schemas::event::{data, subject, type_name};
use keywheel_schemas::mirror::TextForm as _;
use serde_json::json;

use super::whose::Names;

/// Type of a message that is a test.
pub(crate) const TEST_TYPE: &str = "dev.keywheel.notification.test";

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// By which a receiver knows a repeat.
    pub(crate) id: String,
    /// A CloudEvent, structured JSON.
    pub(crate) body: Arc<[u8]>,
    /// The same in words.
    pub(crate) line: String,
    /// What happened, in words of ours alone.
    pub(crate) title: String,
}

impl Message {
    /// About an event of the log.
    pub(crate) fn of(names: &Names, recorded: &RecordedEvent) -> Self {
        let kind = type_name(&recorded.event);
        let words = kind.strip_prefix("dev.keywheel.").unwrap_or(kind);
        let words = words.strip_suffix(".v1").unwrap_or(words);
        let title = format!("Keywheel: {}", words.replace(['.', '_'], " "));
        let mut line = title.clone();
        let secret = names.secret.as_deref().unwrap_or_default();
        for (what, name) in [("secret", secret), ("host", names.host.as_str())] {
            if !name.is_empty() {
                line.push_str(&format!(", {what} `{name}`"));
            }
        }
        if let Event::Signal(_, keywheel_core::signal::Event::Received { via, kind, .. }) =
            &recorded.event
        {
            line.push_str(&format!(", `{}` by `{via}`", plain(kind)));
        }
        if let Event::PlaybookRun(_, playbook_run::Event::Notified { text, .. }) = &recorded.event {
            line.push_str(&format!(": {}", said(text)));
        }
        line.push_str(&format!(
            " (event {}, {})",
            recorded.number,
            recorded.time.text()
        ));
        Self {
            id: recorded.id.to_string(),
            body: Arc::clone(&recorded.bytes),
            line,
            title,
        }
    }

    /// One that says it is a test.
    pub(crate) fn test(id: String, name: &str, now: Timestamp) -> Self {
        let body = json!({
            "specversion": "1.0",
            "id": id,
            "source": "keywheel",
            "type": TEST_TYPE,
            "time": now.text(),
            "datacontenttype": "application/json",
            "data": { "notification": name },
        });
        Self {
            id,
            body: body.to_string().into_bytes().into(),
            line: format!("Keywheel: a test of notification `{name}`"),
            title: "Keywheel: a test".to_owned(),
        }
    }

    /// As Slack takes it.
    pub(crate) fn slack(&self) -> Vec<u8> {
        let escaped = self.line.replace('&', "&amp;");
        let escaped = escaped.replace('<', "&lt;").replace('>', "&gt;");
        json!({ "text": escaped }).to_string().into_bytes()
    }
}

/// A sender's own word for what happened, with nothing in it that is markup to anybody.
fn plain(kind: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
    kind.chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect()
}

/// What a playbook says: a person's words, and names that may come from outside, so nobody is mentioned or linked by it.
fn said(text: &str) -> String {
    let is_markup = |c: char| "@`[]!".contains(c);
    text.chars()
        .map(|c| if is_markup(c) { '_' } else { c })
        .collect()
}

/// Whether a condition holds for an event; none holds for every one. Where nobody knows any more whose the event is, it
/// is enough that it would hold of nobody's or of one of `all` secrets: better told too often than never.
pub(crate) fn is_wanted(
    condition: Option<&Condition>,
    names: &Names,
    all: &[String],
    recorded: &RecordedEvent,
) -> bool {
    let Some(condition) = condition else {
        return true;
    };
    let (id, time) = (recorded.id.to_string(), recorded.time.text());
    let (subject, data) = (subject(&recorded.event), data(&recorded.event));
    let holds = |secret: &str| {
        let about = About {
            id: &id,
            type_name: type_name(&recorded.event),
            subject: &subject,
            time: &time,
            secret,
            host: &names.host,
        };
        condition.holds(&Facts::of(about, &data), false)
    };
    match &names.secret {
        Some(secret) => holds(secret),
        None => holds("") || all.iter().any(|secret| holds(secret)),
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::id::{EventId, SecretId};
    use keywheel_core::name::SecretName;
    use keywheel_core::secret;
    use keywheel_core::secret::Spec;
    use keywheel_core::world::World;

    use super::super::whose::Memory;
    use super::*;

    const SECRET: SecretId = SecretId::from_bytes([1; 16]);

    fn recorded(event: Event) -> RecordedEvent {
        RecordedEvent {
            number: 4711,
            id: EventId::from_bytes([2; 16]),
            time: Timestamp::from_micros(0),
            traceparent: None,
            event,
            bytes: Arc::from(&b"{}"[..]),
            hash: [0; 32],
            signature: [0; 64],
        }
    }

    fn promoted() -> (Names, RecordedEvent) {
        let name = SecretName::parse("prod/db").unwrap();
        let spec = Spec::default();
        let registered = secret::Event::Registered { name, spec };
        let mut world = World::default();
        world.apply(1, &Event::Secret(SECRET, registered));
        let event = secret::Event::VersionPromoted { version: 2 };
        let event = Event::Secret(SECRET, event);
        (
            Names::of(&world, &Memory::default(), &event),
            recorded(event),
        )
    }

    /// Of a secret that nobody knows any more.
    fn forgotten() -> Names {
        Names {
            secret: None,
            host: String::new(),
        }
    }

    #[test]
    fn a_line_says_what_happened_to_which_secret() {
        let (names, event) = promoted();
        let message = Message::of(&names, &event);
        assert_eq!(
            message.line,
            "Keywheel: secret version promoted, secret `prod/db` (event 4711, 1970-01-01T00:00:00.000000Z)"
        );
        assert_eq!(message.id, EventId::from_bytes([2; 16]).to_string());
        assert_eq!(&*message.body, b"{}", "the very bytes of the log");
    }

    #[test]
    fn words_are_no_markup_to_slack() {
        let message = Message {
            line: "<!channel> & more".to_owned(),
            ..Message::test("1".to_owned(), "soc", Timestamp::from_micros(0))
        };
        let text = String::from_utf8(message.slack()).unwrap();
        assert_eq!(text, r#"{"text":"&lt;!channel&gt; &amp; more"}"#);
    }

    #[test]
    fn a_sender_s_words_add_no_line_no_mention_and_no_markup() {
        let via = keywheel_core::name::SignalSourceName::parse("pager").unwrap();
        let received = keywheel_core::signal::Event::Received {
            via,
            source: "s".to_owned(),
            id: "1".to_owned(),
            kind: "x`\nKeywheel: closed @all ![](https://e.example)".to_owned(),
            subject: String::new(),
            fields: std::collections::BTreeMap::new(),
            compared: None,
            matched: None,
            first: None,
        };
        let id = keywheel_core::id::SignalSourceId::from_bytes([4; 16]);
        let message = Message::of(&forgotten(), &recorded(Event::Signal(id, received)));
        let said = "`x__Keywheel:_closed__all_____https://e.example_` by `pager`";
        assert!(message.line.contains(said), "{}", message.line);
    }

    #[test]
    fn a_line_says_what_a_playbook_says_and_mentions_nobody() {
        let notified = playbook_run::Event::Notified {
            step: "tell".to_owned(),
            place: 0,
            notification: keywheel_core::id::NotificationId::from_bytes([5; 16]),
            text: "prod/db leaked @all [x](y)".to_owned(),
        };
        let run = keywheel_core::id::RunId::from_bytes([6; 16]);
        let message = Message::of(&forgotten(), &recorded(Event::PlaybookRun(run, notified)));
        let told = "Keywheel: playbook run notified: prod/db leaked _all _x_(y) (event 4711";
        assert!(message.line.starts_with(told), "{}", message.line);
    }

    #[test]
    fn a_condition_is_asked_of_names_type_and_data() {
        let (names, event) = promoted();
        let wanted = |text: &str| {
            let condition = Condition::parse(text).unwrap();
            is_wanted(Some(&condition), &names, &[], &event)
        };
        assert!(wanted(
            "event.secret == \"prod/db\" && event.data.version == 2"
        ));
        assert!(wanted("event.type.startsWith(\"dev.keywheel.secret.\")"));
        assert!(!wanted("event.secret == \"prod/ca\""));
        assert!(!wanted("event.data.nobody == 1"));
        assert!(is_wanted(None, &names, &[], &event));
    }

    #[test]
    fn an_event_of_nobody_knows_whom_is_wanted_where_it_would_be_of_any_secret() {
        let (_, event) = promoted();
        let all = ["prod/api".to_owned(), "prod/db".to_owned()];
        let wanted = |text: &str| {
            let condition = Condition::parse(text).unwrap();
            is_wanted(Some(&condition), &forgotten(), &all, &event)
        };
        assert!(wanted("event.secret == \"prod/db\""));
        assert!(wanted("event.secret != \"prod/db\""));
        assert!(!wanted("event.secret == \"prod/ca\""));
        assert!(!wanted(
            "event.secret == \"prod/db\" && event.data.version == 3"
        ));
    }
}
