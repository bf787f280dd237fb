//! `kind: Notification`: who outside is told which events.
//!
//! Invariant: a key, and a URL that is one, is only ever named by the file it is read from.

use keywheel_core::name::NotificationName;
use keywheel_core::notification::{
    MAX_MAIL_ADDRESS_BYTES, MAX_NOTIFICATION_TEXT_BYTES, Receiver, Spec,
};

use super::reader::{Faults, Fields, TextAt, named};
use super::tree::Located;
use super::{Manifest, Position};
use crate::condition::Condition;

/// What may stand behind `://` only of this machine.
const NEAR_HOSTS: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

pub(super) fn read(
    name: Option<TextAt<'_>>,
    node: &Located,
    at: Position,
    faults: &mut Faults,
) -> Option<Manifest> {
    let name = name.and_then(|name| named(name, NotificationName::parse, faults));
    let known = ["webhook", "slack", "nats", "email", "when"];
    let fields = Fields::of(node, "spec", &known, faults)?;
    let when = read_when(&fields, faults);
    let ways = ["webhook", "slack", "nats", "email"];
    let said: Vec<&str> = ways.into_iter().filter(|way| fields.has(way)).collect();
    let receiver = match said.as_slice() {
        ["webhook"] => read_webhook(&fields, faults),
        ["slack"] => read_slack(&fields, faults),
        ["nats"] => read_nats(&fields, faults),
        ["email"] => read_email(&fields, faults),
        _ => {
            let message = "`spec` takes one of `webhook`, `slack`, `nats` and `email`; write for example `webhook: { url: \"https://hooks.example/keywheel\", keyFile: /etc/keywheel/signals/soc.key }`";
            faults.add(fields.position, message.to_owned());
            None
        }
    };
    Some(Manifest::Notification {
        name: name?,
        spec: Spec {
            receiver: receiver?,
            when: when?,
        },
        position: at,
    })
}

/// The condition; empty for every event, nothing when it is wrong.
fn read_when(fields: &Fields<'_>, faults: &mut Faults) -> Option<String> {
    if fields.find("when").is_none() {
        return Some(String::new());
    }
    let (text, at) = fields.text("when", faults)?;
    let fault = match Condition::parse(text) {
        Ok(condition) if condition.asks_held() => {
            "the condition names `held`, which says something of a secret that rotates and nothing here; ask for `event.host` or `event.secret`".to_owned()
        }
        Ok(_) => return Some(text.to_owned()),
        Err(fault) => fault,
    };
    faults.add(at, fault);
    None
}

fn read_webhook(fields: &Fields<'_>, faults: &mut Faults) -> Option<Receiver> {
    let node = fields.required("webhook", faults)?;
    let webhook = Fields::of(node, "webhook", &["url", "keyFile", "caFile"], faults)?;
    let url = url(&webhook, ("https", "http"), faults);
    let key_file = required_file(&webhook, "keyFile", faults);
    let ca_file = file(&webhook, "caFile", faults);
    Some(Receiver::Webhook {
        url: url?,
        key_file: key_file?,
        ca_file: ca_file?,
    })
}

fn read_slack(fields: &Fields<'_>, faults: &mut Faults) -> Option<Receiver> {
    let node = fields.required("slack", faults)?;
    let slack = Fields::of(node, "slack", &["urlFile", "caFile"], faults)?;
    let url_file = required_file(&slack, "urlFile", faults);
    let ca_file = file(&slack, "caFile", faults);
    Some(Receiver::Slack {
        url_file: url_file?,
        ca_file: ca_file?,
    })
}

fn read_nats(fields: &Fields<'_>, faults: &mut Faults) -> Option<Receiver> {
    let node = fields.required("nats", faults)?;
    let known = ["url", "subject", "credentialsFile", "caFile"];
    let nats = Fields::of(node, "nats", &known, faults)?;
    let url = url(&nats, ("tls", "nats"), faults);
    let subject = nats.required_text("subject", faults);
    let subject = subject.and_then(|(subject, at)| {
        if is_subject(subject) {
            return Some(subject.to_owned());
        }
        let message =
            "`subject` is a subject of NATS without `*` and `>`, like `security.keywheel`";
        faults.add(at, message.to_owned());
        None
    });
    let credentials_file = file(&nats, "credentialsFile", faults);
    let ca_file = file(&nats, "caFile", faults);
    Some(Receiver::Nats {
        url: url?,
        subject: subject?,
        credentials_file: credentials_file?,
        ca_file: ca_file?,
    })
}

fn read_email(fields: &Fields<'_>, faults: &mut Faults) -> Option<Receiver> {
    let node = fields.required("email", faults)?;
    let known = ["url", "from", "to", "credentialsFile", "caFile"];
    let email = Fields::of(node, "email", &known, faults)?;
    let url = url(&email, ("smtps", "smtp"), faults);
    let from = mail_address(&email, "from", faults);
    let to = mail_address(&email, "to", faults);
    let credentials_file = file(&email, "credentialsFile", faults);
    let ca_file = file(&email, "caFile", faults);
    Some(Receiver::Email {
        url: url?,
        from: from?,
        to: to?,
        credentials_file: credentials_file?,
        ca_file: ca_file?,
    })
}

/// A plain address: it stands in a command to the mail server, so nothing in it may end that.
fn mail_address(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<String> {
    let (text, at) = fields.required_text(name, faults)?;
    let word = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let is_address = text.len() <= MAX_MAIL_ADDRESS_BYTES
        && text.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && local.chars().all(word)
                && !domain.is_empty()
                && domain.chars().all(part)
        });
    if is_address {
        return Some(text.to_owned());
    }
    let message = format!("`{name}` is no plain address of mail; write one like ops@example.org");
    faults.add(at, message);
    None
}

fn is_subject(subject: &str) -> bool {
    let plain = |part: &str| {
        let word = |c: char| c.is_ascii_graphic() && !matches!(c, '*' | '>' | '$');
        !part.is_empty() && part.chars().all(word)
    };
    subject.len() <= MAX_NOTIFICATION_TEXT_BYTES && subject.split('.').all(plain)
}

/// `SECURE://…`, or `PLAIN://…` of this machine; without a login, since that would be a credential.
fn url(fields: &Fields<'_>, (secure, plain): (&str, &str), faults: &mut Faults) -> Option<String> {
    let (text, at) = fields.required_text("url", faults)?;
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let is_near = NEAR_HOSTS.iter().any(|near| {
        let port = authority.strip_prefix(near);
        port.is_some_and(|port| port.is_empty() || port.starts_with(':'))
    });
    let fault = match scheme {
        _ if text.len() > MAX_NOTIFICATION_TEXT_BYTES => "is too long".to_owned(),
        _ if text.contains(['@', '?', '#']) || text.chars().any(|c| c.is_control() || c == ' ') => {
            "holds a login, a query or a space; a URL that is a credential belongs into a file"
                .to_owned()
        }
        _ if authority.is_empty() => format!("is no URL; write {secure}://HOST"),
        scheme if scheme == secure || (scheme == plain && is_near) => return Some(text.to_owned()),
        _ => format!("has to begin with {secure}://; only this machine is told without TLS"),
    };
    faults.add(at, format!("`url` {fault}"));
    None
}

/// An absolute path on the gateway's machine; empty when none is said, nothing when it is wrong.
pub(super) fn file(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<String> {
    if fields.find(name).is_none() {
        return Some(String::new());
    }
    let (path, at) = fields.text(name, faults)?;
    let is_plain = |part: &str| part != "." && part != "..";
    let is_path = path.starts_with('/')
        && path.len() <= MAX_NOTIFICATION_TEXT_BYTES
        && path.split('/').all(is_plain)
        && !path.chars().any(char::is_control);
    if is_path {
        return Some(path.to_owned());
    }
    let message = format!(
        "`{name}` has to be the absolute path of a file on the gateway's machine, below `signals.credentials_dir` of its configuration"
    );
    faults.add(at, message);
    None
}

/// The same, and it has to be said.
pub(super) fn required_file(
    fields: &Fields<'_>,
    name: &str,
    faults: &mut Faults,
) -> Option<String> {
    fields.required(name, faults)?;
    file(fields, name, faults).filter(|path| !path.is_empty())
}
