//! What a proven request says, in each format: CloudEvents, GitHub's two, and JSON that a mapping reads. Pure.
//!
//! Invariants: a token that is reported is given beside its signal, to be compared, and is in no signal and no letter
//! of GitHub's; what has no id of its own has one under a key, so that no token is guessed by it; why something cannot be
//! read never quotes it; attributes that no signature covers are believed of nobody who signs.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use keywheel_core::name::SignalSourceName;
use keywheel_core::signal::{Format, MAX_SIGNAL_TEXT_BYTES, Proof, Signal, Spec};
use keywheel_schemas::condition::mapping::{Body, Mapping};
use keywheel_schemas::manifest::REPORTED_TOKEN;
use keywheel_seal::SecretBytes;
use keywheel_seal::letters::LetterKey;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::{Zeroize as _, Zeroizing};

/// Most signals in one request.
pub const MAX_BATCH: usize = 100;
/// Most attributes in headers, and the longest of them, in bytes.
const MAX_ATTRIBUTES: usize = 32;
const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// What came, as far as it is read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    content_type: String,
    /// Attributes of a CloudEvent in headers, and GitHub's name of the event.
    attributes: BTreeMap<String, String>,
    body: String,
}

/// What cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Why.
    pub reason: String,
    /// Whether what came may be kept.
    pub may_be_kept: bool,
}

/// A signal that was read, and the token that it reports.
#[derive(Debug)]
pub struct Heard {
    /// The signal.
    pub signal: Signal,
    /// The token, for one comparison.
    pub token: Option<SecretBytes>,
}

impl Heard {
    fn new(signal: Signal, token: Option<String>) -> Self {
        let token = token.filter(|token| !token.is_empty());
        let token = token.map(|token| SecretBytes::from(token.into_bytes()));
        Self { signal, token }
    }
}

impl Arrived {
    /// Takes headers and body.
    #[must_use]
    pub fn of(headers: &HeaderMap, body: &[u8]) -> Self {
        let text = |value: &hyper::header::HeaderValue| value.to_str().ok().map(str::to_owned);
        let content_type = headers.get(hyper::header::CONTENT_TYPE).and_then(text);
        let attribute =
            |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
                let name = name.as_str();
                let name = match name {
                    "x-github-event" => name,
                    name => name.strip_prefix("ce-")?,
                };
                let value = text(value).filter(|value| value.len() <= MAX_ATTRIBUTE_BYTES)?;
                Some((name.to_owned(), decoded(&value)?))
            };
        Self {
            content_type: content_type.unwrap_or_default().to_ascii_lowercase(),
            attributes: headers
                .iter()
                .filter_map(attribute)
                .take(MAX_ATTRIBUTES)
                .collect(),
            body: STANDARD.encode(body),
        }
    }

    /// The body as it came.
    pub(crate) fn body(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(STANDARD.decode(&self.body).unwrap_or_default())
    }
}

/// It may hold a token.
impl Drop for Arrived {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

/// A header's text with its `%XX` resolved, as the HTTP binding of CloudEvents writes it.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Reads the signals of a request.
///
/// # Errors
/// With why it cannot be read, and whether it may be kept.
pub fn read(
    via: &SignalSourceName,
    spec: &Spec,
    arrived: &Arrived,
    key: &LetterKey,
) -> Result<Vec<Heard>, Unread> {
    let body = arrived.body();
    let read = match spec.format {
        Format::CloudEvents => cloud_events(via, spec, arrived, &body),
        Format::Webhook => webhook(via, spec, &body).map(|heard| vec![heard]),
        Format::GithubAlert => github_alert(via, arrived, &body, key),
        Format::GithubPartner => github_partner(via, &body, key),
    };
    let is_text = |heard: &Heard| heard.signal.is_text();
    let read = read.and_then(|all| match all.iter().all(is_text) {
        true => Ok(all),
        false => Err(
            "a text of it holds control characters; map another part, or one line of it".to_owned(),
        ),
    });
    read.map_err(|reason| Unread {
        reason,
        may_be_kept: may_be_kept(spec),
    })
}

/// Whether what came may be kept where it cannot be read: a person said so, and it holds no token, as GitHub's reports
/// do and what a mapping names one of.
pub(crate) fn may_be_kept(spec: &Spec) -> bool {
    let is_own = matches!(spec.format, Format::CloudEvents | Format::Webhook);
    spec.keeps_letters && is_own && !spec.map.contains_key(REPORTED_TOKEN)
}

fn no_json(_: serde_json::Error) -> String {
    "it is no JSON of that shape".to_owned()
}

fn cloud_events(
    via: &SignalSourceName,
    spec: &Spec,
    arrived: &Arrived,
    body: &[u8],
) -> Result<Vec<Heard>, String> {
    let kind = arrived.content_type.as_str();
    if kind.starts_with("application/cloudevents-batch") {
        let all: Vec<Map<String, Value>> = serde_json::from_slice(body).map_err(no_json)?;
        if all.len() > MAX_BATCH {
            return Err(format!("the batch has more than {MAX_BATCH} events"));
        }
        return all.iter().map(|one| structured(via, spec, one)).collect();
    }
    if kind.starts_with("application/cloudevents") {
        let one = serde_json::from_slice(body).map_err(no_json)?;
        return Ok(vec![structured(via, spec, &one)?]);
    }
    if !arrived.attributes.contains_key("specversion") {
        return Err(
            "it is no CloudEvent: neither its content type nor its headers say so".to_owned(),
        );
    }
    if spec.proof != Proof::Bearer {
        return Err("its attributes are in headers, which the signature does not cover; have it sent in structured mode".to_owned());
    }
    let text = |(name, value): (&String, &String)| (name.clone(), Value::from(value.as_str()));
    let mut event: Map<String, Value> = arrived.attributes.iter().map(text).collect();
    if !body.is_empty() && kind.contains("json") {
        let data = serde_json::from_slice(body).map_err(no_json)?;
        event.insert("data".to_owned(), data);
    }
    Ok(vec![structured(via, spec, &event)?])
}

/// One CloudEvent whose attributes are members.
fn structured(
    via: &SignalSourceName,
    spec: &Spec,
    event: &Map<String, Value>,
) -> Result<Heard, String> {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let required = |name: &str| match text(name) {
        Some("") => Err(format!("its attribute `{name}` is empty")),
        Some(text) if text.len() > MAX_SIGNAL_TEXT_BYTES => Err(format!(
            "its attribute `{name}` has more than {MAX_SIGNAL_TEXT_BYTES} bytes"
        )),
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("its attribute `{name}` is missing")),
    };
    if required("specversion")? != "1.0" {
        return Err("it is a CloudEvent of another version than 1.0".to_owned());
    }
    let subject = match event.contains_key("subject") {
        true => required("subject")?,
        false => String::new(),
    };
    let (fields, token) = match event.get("data") {
        Some(data) => mapped(spec, data)?,
        None => (BTreeMap::new(), None),
    };
    let signal = Signal {
        via: via.clone(),
        source: required("source")?,
        id: required("id")?,
        kind: required("type")?,
        subject,
        fields,
        compared: None,
        matched: None,
        first: None,
    };
    Ok(Heard::new(signal, token))
}

/// What is kept of content, and the token that it reports.
type Mapped = (BTreeMap<String, String>, Option<String>);

/// What a source's mapping gives of content; a part that is not there is left out.
fn mapped(spec: &Spec, content: &Value) -> Result<Mapped, String> {
    if spec.map.is_empty() {
        return Ok((BTreeMap::new(), None));
    }
    let body = Body::of(content).ok_or("its content is larger than expressions are asked of")?;
    let (mut fields, mut token) = (BTreeMap::new(), None);
    for (name, text) in &spec.map {
        let mapping = Mapping::parse(text).map_err(|_| {
            format!(
                "the expression of `{name}` cannot be read by this version; apply the source again"
            )
        })?;
        let is_token = name == REPORTED_TOKEN;
        let given = match is_token {
            true => mapping.token(&body),
            false => mapping.text(&body),
        };
        match given {
            Ok(text) if is_token => token = Some(text),
            Ok(text) => drop(fields.insert(name.clone(), text)),
            Err("is not there") => {}
            Err(fault) => return Err(format!("what `{name}` names {fault}")),
        }
    }
    Ok((fields, token))
}

fn webhook(via: &SignalSourceName, spec: &Spec, body: &[u8]) -> Result<Heard, String> {
    let content: Value = serde_json::from_slice(body).map_err(no_json)?;
    let (mut fields, token) = mapped(spec, &content)?;
    let mut named = |name: &str| fields.remove(name).filter(|text| !text.is_empty());
    let id = named("id").ok_or("what `id` names is not there")?;
    let kind = named("type").ok_or("what `type` names is not there")?;
    let source = named("source").unwrap_or_else(|| via.to_string());
    let subject = named("subject").unwrap_or_default();
    let signal = Signal {
        via: via.clone(),
        source,
        id,
        kind,
        subject,
        fields,
        compared: None,
        matched: None,
        first: None,
    };
    Ok(Heard::new(signal, token))
}

/// `secret_scanning_alert`.
#[derive(Deserialize)]
struct Alerted {
    action: String,
    alert: Alert,
    repository: Repository,
}

#[derive(Deserialize)]
struct Alert {
    number: u64,
    /// The token.
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    secret_type: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    resolution: Option<String>,
    #[serde(default)]
    validity: Option<String>,
    #[serde(default)]
    html_url: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

/// The id of what has none that a signature covers: the same content is the same signal. It holds a token, and its id is
/// in the log beside all else that it says.
fn derived_id(key: &LetterKey, body: &[u8], n: usize) -> String {
    let seed = [&key.mark(body)[..], &n.to_le_bytes()].concat();
    let mark = key.mark(&seed);
    mark.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bounded(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty() && text.len() <= MAX_SIGNAL_TEXT_BYTES)
}

fn kept<const N: usize>(pairs: [(&str, Option<String>); N]) -> BTreeMap<String, String> {
    let pairs = pairs.into_iter();
    let pairs = pairs.filter_map(|(name, text)| Some((name.to_owned(), bounded(text)?)));
    pairs.collect()
}

fn github_alert(
    via: &SignalSourceName,
    arrived: &Arrived,
    body: &[u8],
    key: &LetterKey,
) -> Result<Vec<Heard>, String> {
    match arrived.attributes.get("x-github-event").map(String::as_str) {
        Some("secret_scanning_alert") => {}
        // Sent once, when the webhook is made.
        Some("ping") => return Ok(Vec::new()),
        _ => {
            return Err(
                "it is no `secret_scanning_alert`; choose that event alone for the webhook"
                    .to_owned(),
            );
        }
    }
    let alerted: Alerted = serde_json::from_slice(body).map_err(no_json)?;
    let alert = alerted.alert;
    let repository = alerted.repository.full_name;
    let fields = kept([
        ("action", Some(alerted.action.clone())),
        ("number", Some(alert.number.to_string())),
        ("repository", Some(repository.clone())),
        ("secret_type", alert.secret_type),
        ("state", alert.state),
        ("resolution", alert.resolution),
        ("validity", alert.validity),
        ("url", alert.html_url),
    ]);
    let signal = Signal {
        via: via.clone(),
        source: format!("https://github.com/{repository}"),
        id: derived_id(key, body, 0),
        kind: format!("com.github.secret_scanning_alert.{}", alerted.action),
        subject: format!("secret-scanning/{}", alert.number),
        fields,
        compared: None,
        matched: None,
        first: None,
    };
    Ok(vec![Heard::new(signal, alert.secret)])
}

/// One report to a partner.
#[derive(Deserialize)]
struct Reported {
    #[serde(default)]
    token: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    source: Option<String>,
}

fn github_partner(
    via: &SignalSourceName,
    body: &[u8],
    key: &LetterKey,
) -> Result<Vec<Heard>, String> {
    let all: Vec<Reported> = serde_json::from_slice(body).map_err(no_json)?;
    if all.len() > MAX_BATCH {
        return Err(format!("it reports more than {MAX_BATCH} tokens at once"));
    }
    let heard = |(n, reported): (usize, Reported)| {
        let signal = Signal {
            via: via.clone(),
            source: "https://github.com/secret-scanning".to_owned(),
            id: derived_id(key, body, n),
            kind: "com.github.secret_scanning.partner".to_owned(),
            subject: String::new(),
            fields: kept([
                ("secret_type", Some(reported.kind)),
                ("url", reported.url),
                ("source", reported.source),
            ]),
            compared: None,
            matched: None,
            first: None,
        };
        Heard::new(signal, reported.token)
    };
    Ok(all.into_iter().enumerate().map(heard).collect())
}

#[cfg(test)]
mod tests;
