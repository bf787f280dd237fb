//! Messages and schemas of the document: each body inside its envelope, with an example for every
//! event type.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::event::{self, KINDS};
use crate::examples::{self, ExampleError};
use crate::wire::message::{
    CheckStoreShape, CompareShape, ComparedShape, EventShape, EventsShape, FailedShape,
    GrantedShape, HostShape, HostsShape, KeyShape, Kind, LookNowShape, LookedShape, Nothing,
    ReadAuditShape, ReadEventsShape, ReadStoresShape, RecordShape, RecordsShape, RenewalShape,
    RotationShape, SealStateShape, SealedShape, StashShape, SubmitShape, TriedShape, UnsealShape,
    ValueShape, VerdictShape, WorkShape,
};
use crate::wire::presence::PresenceShape;
use crate::wire::{audit, command, effect, plan, store};
use crate::{catalogue, wire};

/// The content type of structured CloudEvents.
pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json";
/// Where schemas of the document are.
const SCHEMAS: &str = "#/components/schemas/";

/// The document's reusable parts.
pub(super) struct Components {
    pub(super) messages: Map<String, Value>,
    pub(super) schemas: Map<String, Value>,
}

pub(super) fn components() -> Result<Components, ExampleError> {
    let mut generator = SchemaSettings::draft07()
        .with(|settings| {
            settings.definitions_path = SCHEMAS.trim_start_matches('#').into();
            settings.meta_schema = None;
        })
        .into_generator();
    let data = |kind: &Kind, generator: &mut SchemaGenerator| (*kind, data(*kind, generator));
    let all: Vec<(Kind, Value)> = Kind::ALL.iter().map(|k| data(k, &mut generator)).collect();
    let (leaves, record) = (
        generator.subschema_for::<audit::AuditRecord>().to_value(),
        generator
            .subschema_for::<command::WorkerCommand>()
            .to_value(),
    );
    let work = generator.subschema_for::<effect::Work>().to_value();
    let mut schemas = generator.take_definitions(true);
    number_documents(&mut schemas);
    refer(&mut schemas, "WorkShape", "effect", &work);
    refer(&mut schemas, "EventShape", "event", &reference("LogEvent"));
    refer(&mut schemas, "RecordShape", "record", &leaves);
    refer(&mut schemas, "SubmitShape", "command", &record);
    schemas.insert("LogEvent".to_owned(), log_event());
    for kind in KINDS {
        schemas.insert(kind.name.to_owned(), event_schema(kind));
    }
    let mut messages = Map::new();
    for (kind, data) in all {
        let word = kind.word();
        let name = format!("bus.{word}");
        schemas.insert(name.clone(), envelope(kind, &data));
        messages.insert(word.to_owned(), message(kind, &name));
    }
    let examples = event_examples()?;
    if let Some(Value::Object(message)) = messages.get_mut(Kind::Event.word()) {
        message.insert("examples".to_owned(), examples.into());
    }
    Ok(Components { messages, schemas })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{SCHEMAS}{name}") })
}

/// The schema of a body.
fn data(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
        generator.subschema_for::<T>().to_value()
    }
    let schema = match kind {
        Kind::Event => of::<EventShape>,
        Kind::Audit => of::<RecordShape>,
        Kind::Work => of::<WorkShape>,
        Kind::Plan => of::<plan::Plan>,
        Kind::Submit => of::<SubmitShape>,
        Kind::Verdict => of::<VerdictShape>,
        Kind::ReadEvents => of::<ReadEventsShape>,
        Kind::Events => of::<EventsShape>,
        Kind::ReadAudit => of::<ReadAuditShape>,
        Kind::AuditLeaves => of::<RecordsShape>,
        Kind::ReadPlan => of::<HostShape>,
        Kind::Hosts => of::<HostsShape>,
        Kind::Renew | Kind::Renewed => of::<RenewalShape>,
        Kind::OpenValue => of::<ValueShape>,
        Kind::Granted => of::<GrantedShape>,
        Kind::SealedValue => of::<SealedShape>,
        Kind::StoreKey => of::<KeyShape>,
        Kind::Stash => of::<StashShape>,
        Kind::DropStash => of::<RotationShape>,
        Kind::ReadStores => of::<ReadStoresShape>,
        Kind::Stores => of::<store::News>,
        Kind::CheckStore => of::<CheckStoreShape>,
        Kind::Tried => of::<TriedShape>,
        Kind::LookNow => of::<LookNowShape>,
        Kind::Looked => of::<LookedShape>,
        Kind::Compare => of::<CompareShape>,
        Kind::Compared => of::<ComparedShape>,
        Kind::SealState => of::<SealStateShape>,
        Kind::Unseal => of::<UnsealShape>,
        Kind::Presence => of::<PresenceShape>,
        Kind::Failed => of::<FailedShape>,
        Kind::ReadHosts
        | Kind::ReadStoreKey
        | Kind::ReadSeal
        | Kind::Seal
        | Kind::RotateKek
        | Kind::Done => of::<Nothing>,
    };
    schema(generator)
}

/// Bodies that are documents of their own carry their schema number.
fn number_documents(schemas: &mut Map<String, Value>) {
    let number = json!({ "const": wire::SCHEMA_NUMBER, "description": "The schema number." });
    for name in ["Plan", "Work", "WorkerCommand", "AuditRecord"] {
        if let Some(schema) = schemas.get_mut(name) {
            catalogue::add_member(schema, "v", &number);
        }
    }
}

/// What stands in a shape as JSON text of another schema.
fn refer(schemas: &mut Map<String, Value>, shape: &str, member: &str, to: &Value) {
    if let Some(schema) = schemas.get_mut(shape) {
        schema["properties"][member] = to.clone();
    }
}

/// Any event of the log.
fn log_event() -> Value {
    let any: Vec<Value> = KINDS.iter().map(|kind| reference(kind.name)).collect();
    json!({ "description": "An event as the journal hashes it.", "oneOf": any })
}

/// One event type's schema, with its definitions inside.
fn event_schema(kind: &event::Kind) -> Value {
    let mut schema = catalogue::event_schema(kind);
    let name = kind.name;
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        object.remove("$id");
        if let Some(definitions) = object.remove("$defs") {
            object.insert("definitions".to_owned(), definitions);
        }
    }
    redirect(&mut schema, &format!("{SCHEMAS}{name}/definitions/"));
    schema
}

/// Points references at another place.
fn redirect(schema: &mut Value, to: &str) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Value::String(text) if key == "$ref" => {
                        *text = text.replace("#/$defs/", to);
                    }
                    value => redirect(value, to),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, to)),
        _ => {}
    }
}

/// The CloudEvents document around a body.
fn envelope(kind: Kind, data: &Value) -> Value {
    let uuid = json!({ "type": "string", "format": "uuid" });
    json!({
        "type": "object",
        "description": kind.says(),
        "additionalProperties": false,
        "required": ["specversion", "id", "source", "type", "time", "receiver", "datacontenttype", "data"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": uuid,
            "source": {
                "type": "string",
                "pattern": "^keywheel/[0-9a-f-]{36}/(gateway|scheduler|store-sync|audit-sink|injector/[0-9a-f-]{36})$",
                "description": "The sender: its deployment, its role, a host's uuid.",
            },
            "type": { "const": kind.type_name() },
            "time": { "type": "string", "format": "date-time" },
            "receiver": {
                "type": "string",
                "pattern": "^(topic|request|answer)/.+$",
                "description": "Whom it is for; a message fits no other receiver.",
            },
            "traceparent": {
                "type": "string",
                "maxLength": 128,
                "description": "W3C trace context (CloudEvents' distributed tracing extension).",
            },
            "datacontenttype": { "const": "application/json" },
            "data": data,
        },
    })
}

fn message(kind: Kind, schema: &str) -> Value {
    json!({
        "name": kind.type_name(),
        "title": kind.word(),
        "summary": kind.says(),
        "contentType": CONTENT_TYPE,
        "headers": {
            "type": "object",
            "required": ["Content-Type", "Keywheel-Signature"],
            "properties": {
                "Content-Type": { "const": CONTENT_TYPE },
                "Keywheel-Signature": {
                    "type": "string",
                    "pattern": "^[A-Za-z0-9+/]{86}==$",
                    "description": "The sender's Ed25519 signature over the document, base64.",
                },
                "Nats-Msg-Id": {
                    "type": "string",
                    "format": "uuid",
                    "description": "The id again, in streams: a repeat is dropped.",
                },
            },
        },
        "payload": reference(schema),
        "bindings": { "nats": {} },
    })
}

/// Every golden event as it travels.
fn event_examples() -> Result<Vec<Value>, ExampleError> {
    let signature = format!("{}==", "A".repeat(86));
    let hash = format!("{}=", "A".repeat(43));
    let mut all = Vec::new();
    for golden in catalogue::goldens()? {
        let event: Value = serde_json::from_str(&golden.text).unwrap_or_default();
        let (id, time) = (event["id"].clone(), event["time"].clone());
        let number = event["sequence"]
            .as_str()
            .and_then(|n| n.parse::<u64>().ok());
        let example = json!({
            "name": event["type"].clone(),
            "headers": { "Content-Type": CONTENT_TYPE, "Keywheel-Signature": signature },
            "payload": {
                "specversion": "1.0",
                "id": id,
                "source": event["source"].clone(),
                "type": Kind::Event.type_name(),
                "time": time,
                "receiver": "topic/events",
                "traceparent": examples::TRACE,
                "datacontenttype": "application/json",
                "data": {
                    "number": number,
                    "hash": hash,
                    "signature": signature,
                    "event": event,
                },
            },
        });
        all.push(example);
    }
    Ok(all)
}
