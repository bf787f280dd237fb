//! Notifications, sources of signals, and signals: declared, changed, removed, taken and refused.

use std::collections::BTreeMap;

use crate::command::{Command, Declaration, Outward};
use crate::event::Event;
use crate::id::{NotificationId, SecretId, SignalSourceId};
use crate::name::{NotificationName, SignalSourceName};
use crate::notification::{self, MAX_NOTIFICATIONS, Receiver};
use crate::signal::{self, Format, MAX_SIGNAL_SOURCES, MAX_SIGNAL_TEXT_BYTES, Proof, Signal};
use crate::testing::Given;

const NOTIFICATION: NotificationId = NotificationId::from_bytes([0xa1; 16]);
const SOURCE: SignalSourceId = SignalSourceId::from_bytes([0xa2; 16]);

fn soc() -> NotificationName {
    NotificationName::parse("soc").unwrap()
}

fn pager() -> SignalSourceName {
    SignalSourceName::parse("pager").unwrap()
}

fn told(when: &str) -> notification::Spec {
    notification::Spec {
        receiver: Receiver::Slack {
            url_file: "/etc/keywheel/signals/slack".to_owned(),
            ca_file: String::new(),
        },
        when: when.to_owned(),
    }
}

fn heard(proof: Proof) -> signal::Spec {
    signal::Spec {
        format: Format::CloudEvents,
        proof,
        key_file: "/etc/keywheel/signals/pager".to_owned(),
        map: BTreeMap::new(),
        keeps_letters: false,
    }
}

fn notify(name: &str, id: NotificationId, when: &str) -> Command {
    Command::Apply(vec![Declaration::Notification {
        id,
        name: NotificationName::parse(name).unwrap(),
        spec: told(when),
    }])
}

fn listen(name: &str, id: SignalSourceId, proof: Proof) -> Command {
    Command::Apply(vec![Declaration::SignalSource {
        id,
        name: SignalSourceName::parse(name).unwrap(),
        spec: heard(proof),
    }])
}

fn leak() -> Signal {
    Signal {
        via: pager(),
        source: "https://scan.example".to_owned(),
        id: "7".to_owned(),
        kind: "com.example.leak".to_owned(),
        subject: String::new(),
        fields: BTreeMap::from([("secret".to_owned(), "prod/db".to_owned())]),
        compared: None,
        matched: None,
        first: None,
    }
}

fn held(secret: u8, version: u64) -> signal::Match {
    signal::Match {
        secret: SecretId::from_bytes([secret; 16]),
        version,
    }
}

fn take(signal: Signal) -> Command {
    Command::Outward(Outward::TakeSignal(signal))
}

#[test]
fn a_notification_is_declared_changed_left_alone_and_removed() {
    let declared = notification::Event::Declared {
        name: soc(),
        spec: told(""),
    };
    let changed = notification::Event::Changed { spec: told("true") };
    let other = NotificationId::from_bytes([0xb1; 16]);
    let remove = || Command::Outward(Outward::RemoveNotification(soc()));
    let given = Given::nothing()
        .when(notify("soc", NOTIFICATION, ""))
        .then([Event::Notification(NOTIFICATION, declared)])
        .when(notify("soc", other, ""))
        .then_nothing()
        .when(notify("soc", other, "true"))
        .then([Event::Notification(NOTIFICATION, changed)]);
    let known = given.world().notification_named(&soc()).unwrap();
    assert_eq!((known.since, known.spec.when.as_str()), (1, "true"));
    let given = given.when(remove()).then([Event::Notification(
        NOTIFICATION,
        notification::Event::Removed,
    )]);
    assert!(given.world().notifications.is_empty());
    given
        .when(remove())
        .then_rejected(notification::Rejection::Unknown(soc()));
}

#[test]
fn a_source_is_declared_changed_left_alone_and_removed() {
    let declared = signal::Event::SourceDeclared {
        name: pager(),
        spec: heard(Proof::Bearer),
    };
    let changed = signal::Event::SourceChanged {
        spec: heard(Proof::StandardWebhooks),
    };
    let other = SignalSourceId::from_bytes([0xb2; 16]);
    let remove = || Command::Outward(Outward::RemoveSignalSource(pager()));
    let given = Given::nothing()
        .when(listen("pager", SOURCE, Proof::Bearer))
        .then([Event::Signal(SOURCE, declared)])
        .when(listen("pager", other, Proof::Bearer))
        .then_nothing()
        .when(listen("pager", other, Proof::StandardWebhooks))
        .then([Event::Signal(SOURCE, changed)])
        .when(remove())
        .then([Event::Signal(SOURCE, signal::Event::SourceRemoved)]);
    given
        .when(remove())
        .then_rejected(signal::Rejection::Unknown(pager()));
}

#[test]
fn as_many_as_may_be_are_declared_and_one_more_is_refused() {
    let name = |n: usize| format!("n-{n}");
    let id = |n: usize| [u8::try_from(n).unwrap(); 16];
    let all =
        |given: Given, n: usize| given.and(notify(&name(n), NotificationId::from_bytes(id(n)), ""));
    let full = (0..MAX_NOTIFICATIONS).fold(Given::nothing(), all);
    let over = NotificationName::parse("over").unwrap();
    full.when(notify("over", NOTIFICATION, ""))
        .then_rejected(notification::Rejection::TooMany(over));
    let all = |given: Given, n: usize| {
        let id = SignalSourceId::from_bytes(id(n));
        given.and(listen(&name(n), id, Proof::Bearer))
    };
    let full = (0..MAX_SIGNAL_SOURCES).fold(Given::nothing(), all);
    let over = SignalSourceName::parse("over").unwrap();
    full.when(listen("over", SOURCE, Proof::Bearer))
        .then_rejected(signal::Rejection::TooMany(over));
}

#[test]
fn a_signal_of_a_declared_source_is_taken_and_every_other_is_refused() {
    let unknown = signal::Rejection::Unknown(pager());
    Given::nothing().when(take(leak())).then_rejected(unknown);
    let received = signal::Event::Received {
        via: pager(),
        source: "https://scan.example".to_owned(),
        id: "7".to_owned(),
        kind: "com.example.leak".to_owned(),
        subject: String::new(),
        fields: leak().fields,
        compared: None,
        matched: None,
        first: None,
    };
    let given = Given::nothing().and(listen("pager", SOURCE, Proof::Bearer));
    given
        .when(take(leak()))
        .then([Event::Signal(SOURCE, received)]);
}

#[test]
fn a_signal_s_texts_are_as_long_as_may_be_and_not_longer() {
    let longest = "x".repeat(MAX_SIGNAL_TEXT_BYTES);
    let given = || Given::nothing().and(listen("pager", SOURCE, Proof::Bearer));
    let fits = Signal {
        id: longest.clone(),
        ..leak()
    };
    let _taken = given().and(take(fits));
    let nameless = Signal {
        kind: String::new(),
        ..leak()
    };
    let long = Signal {
        subject: format!("{longest}x"),
        ..leak()
    };
    let crowded = Signal {
        fields: (0..=signal::MAX_SIGNAL_FIELDS)
            .map(|n| (format!("f{n}"), String::new()))
            .collect(),
        ..leak()
    };
    for refused in [nameless, long, crowded] {
        given()
            .when(take(refused))
            .then_rejected(signal::Rejection::OutOfBounds);
    }
}

#[test]
fn a_signal_says_which_versions_hold_what_it_reports() {
    let given = || Given::nothing().and(listen("pager", SOURCE, Proof::Bearer));
    let of = |matched: Vec<signal::Match>| Signal {
        compared: Some(true),
        matched: Some(matched),
        ..leak()
    };
    let received = |matched: Vec<signal::Match>| signal::Event::Received {
        via: pager(),
        source: "https://scan.example".to_owned(),
        id: "7".to_owned(),
        kind: "com.example.leak".to_owned(),
        subject: String::new(),
        fields: leak().fields,
        compared: Some(true),
        matched: Some(matched),
        first: None,
    };
    for (matched, secret) in [
        (Vec::new(), None),
        (vec![held(1, 2), held(1, 3)], Some(held(1, 0).secret)),
        (vec![held(1, 2), held(2, 2)], None),
    ] {
        assert_eq!(received(matched.clone()).secret(), secret);
        given()
            .when(take(of(matched.clone())))
            .then([Event::Signal(SOURCE, received(matched))]);
    }
    let many = vec![held(1, 1); signal::MAX_SIGNAL_MATCHES + 1];
    given()
        .when(take(of(many)))
        .then_rejected(signal::Rejection::OutOfBounds);
}

#[test]
fn what_came_of_a_comparison_later_names_the_event_by_which_the_signal_was_taken() {
    let given = Given::nothing().and(listen("pager", SOURCE, Proof::Bearer));
    let late = Signal {
        compared: Some(true),
        matched: Some(vec![held(1, 2)]),
        first: Some(7),
        ..leak()
    };
    let given = given.and(take(late));
    let Some(Event::Signal(_, told)) = given.log().last() else {
        panic!("{:?}", given.log());
    };
    assert_eq!(told.secret(), Some(held(1, 0).secret));
    let taken = told.as_first().unwrap();
    let signal::Event::Received {
        compared,
        matched,
        first,
        ..
    } = &taken
    else {
        panic!("{taken:?}");
    };
    assert_eq!((*compared, matched, *first), (Some(false), &None, None));
    // That one is no later word.
    assert_eq!(taken.as_first(), None);
    assert_eq!(signal::Event::SourceRemoved.as_first(), None);
}

#[test]
fn a_signal_s_texts_begin_no_line_and_control_no_terminal() {
    let given = || Given::nothing().and(listen("pager", SOURCE, Proof::Bearer));
    let text = "x`\nKeywheel: revocation closed".to_owned();
    let field = |text: &str| BTreeMap::from([("f".to_owned(), text.to_owned())]);
    let refused = [
        Signal {
            kind: text.clone(),
            ..leak()
        },
        Signal {
            source: "a\u{0}".to_owned(),
            ..leak()
        },
        Signal {
            subject: "\u{1b}[2J".to_owned(),
            ..leak()
        },
        Signal {
            fields: field("\u{9b}2J"),
            ..leak()
        },
    ];
    for refused in refused {
        given()
            .when(take(refused))
            .then_rejected(signal::Rejection::NoText);
    }
    let _taken = given().and(take(Signal {
        fields: field("Größe, ünd ` <b>"),
        ..leak()
    }));
}
