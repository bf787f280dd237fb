//! The bus as an AsyncAPI 3 document: subjects, who may say what where, bodies as JSON Schema inside
//! their CloudEvents envelope, security, NATS bindings. Made from the same table, subjects and shapes
//! that the bus runs on; checked by AsyncAPI's own parser (`cargo xtask ci --only asyncapi`).
//!
//! Schemas are draft 07, which is what AsyncAPI reads; the files beside it are 2020-12.

mod shapes;

use keywheel_core::audit::Role;
use keywheel_core::id::{DeploymentId, HostId};
use serde_json::{Map, Value, json};

use crate::catalogue::Document;
use crate::examples::ExampleError;
use crate::subject::{Client, Permissions, Subjects, role_word};
use crate::wire::message::Kind;
use crate::wire::route::{Place, ROUTES, Route, answer_to};

/// Path of the document, under `schemas/`.
pub const PATH: &str = "generated/asyncapi.v1.json";

/// Stand for themselves in subjects, until they become parameters.
const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([0xd0; 16]);
const HOST: HostId = HostId::from_bytes([0xe0; 16]);

const ROLES: [Role; 5] = [
    Role::Gateway,
    Role::Scheduler,
    Role::StoreSync,
    Role::Injector,
    Role::AuditSink,
];

/// The document.
///
/// # Errors
/// Never, unless a grammar of the core changed.
pub fn document() -> Result<Document, ExampleError> {
    let text = crate::canonical::pretty(&value()?);
    Ok(Document {
        path: PATH.to_owned(),
        text: format!("{text}\n"),
    })
}

/// The document as JSON.
///
/// # Errors
/// As [`document`].
pub fn value() -> Result<Value, ExampleError> {
    let channels = channels();
    let operations: Map<String, Value> = ROLES.into_iter().flat_map(operations).collect();
    let shapes::Components { messages, schemas } = shapes::components()?;
    Ok(json!({
        "asyncapi": "3.0.0",
        "id": "urn:dev:keywheel:bus",
        "info": info(),
        "defaultContentType": shapes::CONTENT_TYPE,
        "servers": servers(),
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": security_schemes(),
        },
    }))
}

fn info() -> Value {
    json!({
        "title": "Keywheel's bus",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "How Keywheel's services and hosts talk over NATS. Every message is one CloudEvents 1.0 document (structured JSON) with its sender's Ed25519 signature beside it; a receiver takes it only with a trusted sender's signature, from a role or host that may say it there, and under its own name. Subjects carry uuids, never the name of a secret. Values never pass a stream: they travel in answers, sealed to one host's key.",
        "license": { "name": "Apache-2.0" },
        "tags": [{ "name": "nats" }, { "name": "cloudevents" }],
    })
}

fn servers() -> Value {
    let security = json!([
        { "$ref": "#/components/securitySchemes/mutualTls" },
        { "$ref": "#/components/securitySchemes/permit" },
    ]);
    json!({
        "bus": {
            "host": "{host}:{port}",
            "protocol": "nats",
            "description": "A NATS server with JetStream, 2.12.7 or newer; three of them in a cluster. Without TLS only on loopback.",
            "variables": {
                "host": { "description": "Where it listens.", "default": "127.0.0.1" },
                "port": { "description": "Its client port.", "default": "4222" },
            },
            "security": security,
            "bindings": { "nats": {} },
        },
    })
}

fn security_schemes() -> Value {
    json!({
        "mutualTls": {
            "type": "X509",
            "description": "TLS 1.3, both sides with certificates of the deployment's own authorities.",
        },
        "permit": {
            "type": "asymmetricEncryption",
            "description": "A NATS user permit (JWT) of the deployment, shown with a signature by its nkey. It names the subjects of one role or host, which are those of this document.",
        },
        "signature": {
            "type": "asymmetricEncryption",
            "description": "Every message carries its sender's Ed25519 signature over the document, in the header Keywheel-Signature. Receivers check it, the role, the host and the receiver's name; the bus server is trusted with nothing.",
        },
    })
}

/// A channel's name in the document.
fn name_of(place: Place) -> String {
    match place {
        Place::Events => "events".to_owned(),
        Place::Audit => "audit".to_owned(),
        Place::Work => "work".to_owned(),
        Place::Plan => "plan".to_owned(),
        Place::Hosts => "hosts".to_owned(),
        Place::Presence => "presence".to_owned(),
        Place::Ask(server) => format!("ask-{}", role_word(server)),
        Place::Answer(server) => format!("answer-{}", role_word(server)),
    }
}

/// Every place once, in the table's order.
fn places() -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for route in ROUTES {
        if !places.contains(&route.place) {
            places.push(route.place);
        }
    }
    places
}

/// A subject with its uuids as parameters.
fn address(subject: &str) -> String {
    subject
        .replace(&DEPLOYMENT.to_string(), "{deployment}")
        .replace(&HOST.to_string(), "{host}")
}

fn channels() -> Map<String, Value> {
    let subjects = Subjects::new(DEPLOYMENT);
    let channel = |place: Place| (name_of(place), channel(&subjects, place));
    places().into_iter().map(channel).collect()
}

fn channel(subjects: &Subjects, place: Place) -> Value {
    let (address, stream, says) = match place {
        Place::Events => (
            address(&subjects.events()),
            Some(subjects.event_stream()),
            "Every event, in log order. A reader that sees a hole reads the gateway's log.",
        ),
        Place::Audit => (
            address(&subjects.audit()),
            Some(subjects.audit_stream()),
            "Every audit record, in tree order.",
        ),
        Place::Work => (
            address(&subjects.work(Role::StoreSync)),
            Some(subjects.work_stream()),
            "Effects for store-sync; each goes to one of them and is sent again until it is answered.",
        ),
        Place::Plan => (
            address(&subjects.plan(HOST)),
            Some(subjects.plan_stream()),
            "One host's plan; only the newest is kept.",
        ),
        Place::Hosts => (
            address(&subjects.hosts()),
            Some(subjects.host_stream()),
            "Whose key speaks for which host; only the newest is kept.",
        ),
        Place::Presence => (
            address(&subjects.presence(&Client::service(Role::Gateway)))
                .replace(".gateway", ".{sender}"),
            None,
            "What running instances tell about themselves; kept by nobody.",
        ),
        Place::Ask(server) => (
            address(&subjects.request(server, &Client::service(Role::Gateway)))
                .replace(".gateway.gateway", ".gateway.{sender}")
                .replace(".store-sync.gateway", ".store-sync.{sender}"),
            None,
            "Requests, each under its sender's own words; one of those that serve takes it.",
        ),
        Place::Answer(_) => (
            address(&subjects.inbox(&Client::service(Role::Gateway)))
                .replace(".gateway", ".{sender}")
                + ".{token}",
            None,
            "Answers, each in the inbox of who asked.",
        ),
    };
    let mut channel = json!({
        "title": name_of(place),
        "description": says,
        "parameters": parameters(&address),
        "messages": messages_of(place),
        "servers": [{ "$ref": "#/servers/bus" }],
        "bindings": { "nats": {} },
    });
    channel["address"] = address.into();
    if let Some(stream) = stream {
        channel["x-nats-stream"] = self::address(&stream).into();
    }
    channel
}

fn parameters(address: &str) -> Map<String, Value> {
    let known = [
        ("deployment", "The deployment's uuid."),
        ("host", "The host's uuid."),
        (
            "sender",
            "The sender: `gateway`, `scheduler`, `store-sync`, `audit-sink`, or `injector.` and its host's uuid.",
        ),
        ("token", "Drawn for each request."),
    ];
    let named = known
        .into_iter()
        .filter(|(name, _)| address.contains(&format!("{{{name}}}")));
    named
        .map(|(name, says)| (name.to_owned(), json!({ "description": says })))
        .collect()
}

fn messages_of(place: Place) -> Map<String, Value> {
    let here = ROUTES.iter().filter(|route| route.place == place);
    here.map(|route| {
        let word = route.kind.word();
        let message = json!({ "$ref": format!("#/components/messages/{word}") });
        (word.to_owned(), message)
    })
    .collect()
}

fn client(role: Role) -> Client {
    match role {
        Role::Injector => Client::injector(HOST),
        role => Client::service(role),
    }
}

/// What one role sends and receives.
fn operations(role: Role) -> Vec<(String, Value)> {
    let permissions = Subjects::new(DEPLOYMENT).permissions(&client(role));
    let mut operations = Vec::new();
    for route in ROUTES.iter().filter(|route| route.from.contains(&role)) {
        match route.place {
            Place::Ask(server) => operations.push(request(role, server, route)),
            // An answer is part of the request's operation.
            Place::Answer(_) => {}
            place => operations.push(send(role, place, route)),
        }
    }
    for place in places() {
        if hears(role, place, &permissions) {
            operations.push(receive(role, place));
        }
    }
    operations
}

fn message_ref(place: Place, kind: Kind) -> Value {
    let (channel, word) = (name_of(place), kind.word());
    json!({ "$ref": format!("#/channels/{channel}/messages/{word}") })
}

fn channel_ref(place: Place) -> Value {
    json!({ "$ref": format!("#/channels/{}", name_of(place)) })
}

fn security() -> Value {
    json!([{ "$ref": "#/components/securitySchemes/signature" }])
}

fn send(role: Role, place: Place, route: &Route) -> (String, Value) {
    let (word, kind) = (role_word(role), route.kind.word());
    let operation = json!({
        "action": "send",
        "title": format!("{word} says {kind}"),
        "channel": channel_ref(place),
        "messages": [message_ref(place, route.kind)],
        "security": security(),
        "tags": [{ "name": word }],
        "bindings": { "nats": { "bindingVersion": "0.1.0" } },
    });
    (format!("{word}.sends.{kind}"), operation)
}

fn request(role: Role, server: Role, route: &Route) -> (String, Value) {
    let (word, kind, to) = (role_word(role), route.kind.word(), role_word(server));
    let answers = [answer_to(route.kind, server), Some(Kind::Failed)];
    let answer = Place::Answer(server);
    let messages: Vec<Value> = answers
        .into_iter()
        .flatten()
        .map(|kind| message_ref(answer, kind))
        .collect();
    let operation = json!({
        "action": "send",
        "title": format!("{word} asks {to}: {kind}"),
        "channel": channel_ref(route.place),
        "messages": [message_ref(route.place, route.kind)],
        "reply": { "channel": channel_ref(answer), "messages": messages },
        "security": security(),
        "tags": [{ "name": word }],
        "bindings": { "nats": { "bindingVersion": "0.1.0" } },
    });
    (format!("{word}.asks.{to}.{kind}"), operation)
}

/// Whether a role reads or serves a place, as its permissions at the bus server say.
fn hears(role: Role, place: Place, permissions: &Permissions) -> bool {
    let subjects = Subjects::new(DEPLOYMENT);
    let reads = |subject: String| {
        let suffix = format!(".{subject}");
        let is_reader = |allowed: &String| {
            allowed.starts_with("$JS.API.CONSUMER.CREATE.") && allowed.ends_with(&suffix)
        };
        permissions.publish.iter().any(is_reader)
    };
    match place {
        Place::Events => reads(subjects.events()),
        Place::Audit => reads(subjects.audit()),
        Place::Work => reads(subjects.work(role)),
        Place::Plan => reads(subjects.plan(HOST)),
        Place::Hosts => reads(subjects.hosts()),
        Place::Presence => permissions.subscribe.contains(&subjects.all_presence()),
        Place::Ask(server) => permissions.subscribe.contains(&subjects.requests(server)),
        Place::Answer(_) => false,
    }
}

fn receive(role: Role, place: Place) -> (String, Value) {
    let (word, channel) = (role_word(role), name_of(place));
    let here = ROUTES.iter().filter(|route| route.place == place);
    let mut kinds: Vec<Kind> = Vec::new();
    for route in here {
        if !kinds.contains(&route.kind) {
            kinds.push(route.kind);
        }
    }
    let messages: Vec<Value> = kinds
        .into_iter()
        .map(|kind| message_ref(place, kind))
        .collect();
    let mut nats = json!({ "bindingVersion": "0.1.0" });
    if matches!(place, Place::Ask(_)) {
        nats["queue"] = word.into();
    }
    let operation = json!({
        "action": "receive",
        "title": format!("{word} takes {channel}"),
        "channel": channel_ref(place),
        "messages": messages,
        "security": security(),
        "tags": [{ "name": word }],
        "bindings": { "nats": nats },
    });
    (format!("{word}.takes.{channel}"), operation)
}

#[cfg(test)]
mod tests;
