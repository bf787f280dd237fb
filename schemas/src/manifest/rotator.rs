//! `rotator` of a `kind: Secret`: the resource whose accounts its versions open.
//!
//! No text of a fault quotes a connection: what stands in it before the `@` may be a password.

use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, MAX_ACCOUNT_BYTES, MAX_CONNECTION_BYTES, Resource, Strategy};

use super::Position;
use super::reader::{Faults, Fields, text_of};
use super::store::path;
use super::tree::{Located, Node};

const FIELDS: [&str; 6] = [
    "type",
    "connection",
    "account",
    "adminSecret",
    "strategy",
    "caFile",
];
/// What an address begins with, for each kind, first the one that we name.
const SCHEMES: [(Kind, &[&str]); 4] = [
    (Kind::Postgres, &["postgres", "postgresql"]),
    (Kind::Mariadb, &["mariadb", "mysql"]),
    (Kind::Redis, &["rediss", "redis"]),
    (Kind::Webhook, &["https", "http"]),
];

/// The resource, if the secret has one.
pub(super) fn read(fields: &Fields<'_>, faults: &mut Faults) -> Option<Box<Resource>> {
    let node = fields.find("rotator")?;
    let rotator = Fields::of(node, "rotator", &FIELDS, faults)?;
    let kind = read_kind(&rotator, faults);
    let mut accounts = read_accounts(&rotator, kind, faults);
    let admin = rotator
        .required("adminSecret", faults)
        .and_then(|_| rotator.named("adminSecret", SecretName::parse, faults));
    let ca = rotator
        .find("caFile")
        .and_then(|_| path(&rotator, "caFile", faults));
    let kind = kind?;
    let connection = read_connection(&rotator, kind, faults);
    if kind == Kind::Webhook && rotator.find("account").is_none() {
        let at = rotator.position_of("connection");
        accounts.push(path_of(connection.as_deref()?, at, faults)?);
    }
    let strategy = read_strategy(&rotator, kind, &accounts, faults);
    Some(Box::new(Resource {
        kind,
        connection: connection?,
        accounts,
        admin: admin?,
        strategy: strategy?,
        ca,
    }))
}

fn read_kind(fields: &Fields<'_>, faults: &mut Faults) -> Option<Kind> {
    let (word, at) = fields.required_text("type", faults)?;
    let kind = Kind::of(word);
    if kind.is_none() {
        let found = crate::leaf::shorten(word);
        let message = format!(
            "rotator type `{found}` is not known; write `postgres`, `mariadb`, `redis`, `webhook` or `dynamic`"
        );
        faults.add(at, message);
    }
    kind
}

fn read_connection(fields: &Fields<'_>, kind: Kind, faults: &mut Faults) -> Option<String> {
    let (text, at) = fields.required_text("connection", faults)?;
    match connection_fault(text, kind) {
        None => Some(text.to_owned()),
        Some(fault) => {
            faults.add(at, format!("`connection` {fault}"));
            None
        }
    }
}

/// What an address of a server of this kind begins with, first the one that we name.
pub(super) fn schemes(kind: Kind) -> &'static [&'static str] {
    let schemes = SCHEMES.iter().find(|(of, _)| *of == kind);
    schemes.map_or(&[][..], |(_, schemes)| *schemes)
}

fn connection_fault(text: &str, kind: Kind) -> Option<String> {
    let schemes = schemes(kind);
    if text.len() > MAX_CONNECTION_BYTES {
        return Some(format!("has more than {MAX_CONNECTION_BYTES} bytes"));
    }
    if kind == Kind::Webhook {
        return webhook_fault(text).map(str::to_owned);
    }
    let like = format!(
        "has to be like `{}://admin@db.example:5432/shop`",
        schemes.first().copied().unwrap_or_default()
    );
    let Some((scheme, rest)) = text.split_once("://") else {
        return Some(like);
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let Some((admin, host)) = authority.rsplit_once('@') else {
        return Some(like);
    };
    if admin.contains(':') {
        let fault =
            "holds a password; leave it out and keep it in the secret that `adminSecret` names";
        return Some(fault.to_owned());
    }
    let is_plain = !rest.contains(['?', '#', ' ']) && is_printable(rest);
    let is_known = schemes.contains(&scheme) && !host.is_empty() && !admin.is_empty();
    (!is_known || !is_plain).then_some(like)
}

/// What is wrong with a receiver's URL. Whoever knows it may not do more than who does not: no password and
/// no query stands in it, and only TLS leaves this machine.
fn webhook_fault(text: &str) -> Option<&'static str> {
    const LIKE: &str =
        "has to be like `https://hooks.example/rotate`, without a name, a query or a fragment";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Some(LIKE);
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let is_plain = rest.bytes().all(|byte| byte.is_ascii_graphic()) && is_printable(rest);
    if !is_plain || authority.is_empty() || rest.contains(['?', '#', '@', '\\']) {
        return Some(LIKE);
    }
    let Some((host, port)) = host_and_port(authority) else {
        return Some(LIKE);
    };
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match scheme {
        "https" => None,
        "http" if is_here && port.is_some() => None,
        "http" if is_here => {
            Some("names no port; over http a receiver on this machine has one of its own")
        }
        "http" => Some("leaves this machine without TLS; write `https://`"),
        _ => Some(LIKE),
    }
}

/// `host`, `host:port` or `[address]:port`.
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let ends = authority.rfind(']').map_or(0, |at| at + 1);
    let at = authority.get(ends..)?.find(':').map(|at| ends + at);
    let (host, port) = match at {
        Some(at) => (authority.get(..at)?, authority.get(at + 1..)),
        None => (authority, None),
    };
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']' | ':');
    let port = match port {
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    (!host.is_empty() && host.chars().all(known)).then_some((host, port))
}

/// What a receiver that is told no account is told: the path of its URL, which is the account's name then.
fn path_of(connection: &str, at: Position, faults: &mut Faults) -> Option<String> {
    let rest = connection.split_once("://").map_or("", |(_, rest)| rest);
    let path = rest
        .find('/')
        .map_or("/", |at| rest.get(at..).unwrap_or("/"));
    if path.len() > MAX_ACCOUNT_BYTES {
        let message = format!(
            "the path of `connection` has more than {MAX_ACCOUNT_BYTES} bytes, so it is no name of an account; write `account: NAME`"
        );
        faults.add(at, message);
        return None;
    }
    Some(path.to_owned())
}

/// Whether a text holds no control character, neither as it stands nor as its `%XX` mean: a person copies
/// it into statements. What is no `%XX` would mean one thing to one reader and another to the next.
pub(super) fn is_printable(text: &str) -> bool {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2);
        let byte = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(byte) = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return false;
        };
        bytes.push(byte);
        bytes.extend(part.bytes().skip(2));
    }
    let is_plain = |text: &str| !text.chars().any(char::is_control);
    is_plain(text) && std::str::from_utf8(&bytes).is_ok_and(is_plain)
}

/// One account, or several as a list.
fn read_accounts(fields: &Fields<'_>, kind: Option<Kind>, faults: &mut Faults) -> Vec<String> {
    let found = match kind {
        Some(Kind::Webhook) => fields.find("account"),
        _ => fields.required("account", faults),
    };
    let Some(node) = found else {
        return Vec::new();
    };
    let nodes: Vec<&Located> = match &node.value {
        Node::List(nodes) => nodes.iter().collect(),
        _ => vec![node],
    };
    let mut accounts: Vec<String> = Vec::new();
    for node in nodes {
        let Some((text, at)) = text_of(node, "account", faults) else {
            continue;
        };
        let is_fit =
            (1..=MAX_ACCOUNT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
        if !is_fit {
            let message =
                format!("an account has 1 to {MAX_ACCOUNT_BYTES} bytes and no control character");
            faults.add(at, message);
        } else if accounts.iter().any(|known| is_same(kind, known, text)) {
            faults.add(at, "the same account is named twice; name two".to_owned());
        } else {
            accounts.push(text.to_owned());
        }
    }
    accounts
}

fn is_same(kind: Option<Kind>, one: &str, other: &str) -> bool {
    one == other || kind.is_some_and(|kind| kind.account(one) == kind.account(other))
}

fn read_strategy(
    fields: &Fields<'_>,
    kind: Kind,
    accounts: &[String],
    faults: &mut Faults,
) -> Option<Strategy> {
    let known = kind.strategies();
    let (strategy, at) = match fields.text("strategy", faults) {
        Some((word, at)) => {
            let found = Strategy::of(word).filter(|found| known.contains(found));
            let Some(found) = found else {
                let words: Vec<&str> = known.iter().map(|one| one.word()).collect();
                let message = format!(
                    "strategy `{}` is none of {}; write one of {}",
                    crate::leaf::shorten(word),
                    kind.word(),
                    words.join(", ")
                );
                faults.add(at, message);
                return None;
            };
            (found, at)
        }
        None if fields.find("strategy").is_some() => return None,
        None => {
            let strategy = kind.default_strategy(accounts.len());
            (strategy, fields.position_of("account"))
        }
    };
    if accounts.len() != strategy.accounts() {
        refuse_count(strategy, accounts.len(), at, faults);
        return None;
    }
    Some(strategy)
}

fn refuse_count(strategy: Strategy, count: usize, at: Position, faults: &mut Faults) {
    let wanted = match strategy.accounts() {
        1 => "one account; write `account: NAME`",
        _ => "two accounts; write `account: [NAME, NAME_B]`",
    };
    let message = format!(
        "strategy `{}` takes {wanted} ({count} are named)",
        strategy.word()
    );
    faults.add(at, message);
}
