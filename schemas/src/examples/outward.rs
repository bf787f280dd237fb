//! Examples of notifications, sources of signals and a signal.

use std::collections::BTreeMap;

use keywheel_core::name::{NameError, NotificationName, SignalSourceName};
use keywheel_core::notification::{self, Receiver};
use keywheel_core::signal::{self, Format, Proof};

pub(super) fn of_notification() -> Result<Vec<notification::Event>, NameError> {
    let spec = |receiver| notification::Spec {
        receiver,
        when: "event.type.startsWith(\"dev.keywheel.revocation.\")".to_owned(),
    };
    let webhook = Receiver::Webhook {
        url: "https://hooks.example/keywheel".to_owned(),
        key_file: "/etc/keywheel/signals/soc.key".to_owned(),
        ca_file: String::new(),
    };
    let slack = Receiver::Slack {
        url_file: "/etc/keywheel/signals/slack.url".to_owned(),
        ca_file: String::new(),
    };
    Ok(vec![
        notification::Event::Declared {
            name: NotificationName::parse("soc")?,
            spec: spec(webhook),
        },
        notification::Event::Changed { spec: spec(slack) },
        notification::Event::Removed,
    ])
}

pub(super) fn of_signal() -> Result<Vec<signal::Event>, NameError> {
    let via = SignalSourceName::parse("pager")?;
    let secret = ("secret".to_owned(), "body.secret".to_owned());
    let spec = |format, proof| signal::Spec {
        format,
        proof,
        key_file: "/etc/keywheel/signals/pager.key".to_owned(),
        map: BTreeMap::from([secret.clone()]),
        keeps_letters: false,
    };
    Ok(vec![
        signal::Event::SourceDeclared {
            name: via.clone(),
            spec: spec(Format::CloudEvents, Proof::StandardWebhooks),
        },
        signal::Event::SourceChanged {
            spec: spec(Format::CloudEvents, Proof::Bearer),
        },
        signal::Event::SourceRemoved,
        signal::Event::Received {
            via,
            source: "https://scanner.example/findings".to_owned(),
            id: "4711".to_owned(),
            kind: "com.example.leak.found".to_owned(),
            subject: "repository/payments".to_owned(),
            fields: BTreeMap::from([("secret".to_owned(), "prod/payments/db-password".to_owned())]),
            compared: None,
            matched: None,
            first: None,
        },
    ])
}
