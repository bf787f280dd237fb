//! Every file under `schemas/generated` and `schemas/golden`, as it has to be.
//!
//! Schemas are made from the shapes, never written by hand. A golden file is the canonical bytes of
//! one example; once released it is kept for ever, whatever this build would write.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::event::approval::ApprovalEvent;
use crate::event::assignment::{AssignmentEvent, Consumer};
use crate::event::binding::BindingEvent;
use crate::event::host::HostEvent;
use crate::event::notification::NotificationEvent;
use crate::event::playbook::PlaybookEvent;
use crate::event::playbook_run::PlaybookRunEvent;
use crate::event::policy::PolicyEvent;
use crate::event::revocation::RevocationEvent;
use crate::event::rollout::{RolloutEvent, Service};
use crate::event::rotation::RotationEvent;
use crate::event::secret::SecretEvent;
use crate::event::signal::SignalEvent;
use crate::event::store::StoreEvent;
use crate::event::token::TokenEvent;
use crate::event::{self, Envelope, KINDS, Kind};
use crate::examples::{self, ExampleError};
use crate::{api, asyncapi, config, manifest, openapi, webhook, wire};

/// Directory of the schemas, under `schemas/`.
pub const GENERATED: &str = "generated";
/// Directory of the examples, under `schemas/`.
pub const GOLDEN: &str = "golden";

/// The schemas of a rotator's receiver: the only ones with a place for a value in the clear.
pub const WEBHOOK_SCHEMAS: [&str; 2] = ["rotator.webhook_request.v1", "rotator.webhook_answer.v1"];

/// One file, by its path under `schemas/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Path under `schemas/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// Every schema.
#[must_use]
pub fn schemas() -> Vec<Document> {
    let mut all: Vec<Document> = KINDS
        .iter()
        .map(|kind| schema_file(kind.name, event_schema(kind)))
        .collect();
    all.push(schema_file(
        "manifest.v1",
        root::<manifest::shape::Document>("manifest.v1"),
    ));
    all.push(schema_file(
        "config.v1",
        root::<config::shape::ConfigFile>("config.v1"),
    ));
    all.push(schema_file(
        "audit-sinks.v1",
        root::<config::sinks::SinksFile>("audit-sinks.v1"),
    ));
    all.push(schema_file(
        "login-provider.v1",
        root::<config::login::ProviderFile>("login-provider.v1"),
    ));
    all.push(schema_file(
        "unseal.v1",
        root::<config::unseal::UnsealFile>("unseal.v1"),
    ));
    all.extend(
        api_schemas()
            .into_iter()
            .map(|(name, schema)| schema_file(&name, schema)),
    );
    all.extend(
        wire_schemas()
            .into_iter()
            .map(|(name, schema)| schema_file(&name, schema)),
    );
    all.extend(
        webhook_schemas()
            .into_iter()
            .map(|(name, schema)| schema_file(name, schema)),
    );
    all.extend(asyncapi::document());
    all.push(openapi::document());
    all
}

/// One schema, of a catalogue that is made once: each of the tests that read one would make all.
#[cfg(test)]
pub(crate) fn published(name: &str) -> Value {
    static ALL: std::sync::OnceLock<Vec<Document>> = std::sync::OnceLock::new();
    let path = format!("{GENERATED}/{name}.json");
    let mut all = ALL.get_or_init(schemas).iter();
    let schema = all.find(|schema| schema.path == path);
    serde_json::from_str(&schema.expect(name).text).unwrap()
}

/// Every example this build writes.
///
/// # Errors
/// Never, unless a grammar of the core changed.
pub fn goldens() -> Result<Vec<Document>, ExampleError> {
    let events = examples::events()?;
    let golden = |(number, event): (u64, &_)| {
        let bytes = event::encode(&examples::meta(number), event);
        let text = format!("{}\n", String::from_utf8_lossy(&bytes));
        Document {
            path: format!("{GOLDEN}/{}.json", event::type_name(event)),
            text,
        }
    };
    Ok((1..).zip(&events).map(golden).collect())
}

/// Schemas of the API's requests and answers, by name.
#[must_use]
pub fn api_schemas() -> Vec<(String, Value)> {
    macro_rules! shapes {
        ($($shape:ident),*) => {
            vec![$({
                let name = format!("api.{}.v1", snake(stringify!($shape)));
                let schema = root::<api::$shape>(&name);
                (name, schema)
            }),*]
        };
    }
    let mut all = api::of_shapes!(shapes);
    // The answer of a command, not of the API.
    let name = "api.doctor_report.v1";
    all.push((name.to_owned(), root::<api::DoctorReport>(name)));
    all
}

/// Schemas of what a rotator's receiver is asked and answers, by name.
fn webhook_schemas() -> [(&'static str, Value); 2] {
    let (request, answer) = (WEBHOOK_SCHEMAS[0], WEBHOOK_SCHEMAS[1]);
    [
        (request, root::<webhook::WebhookRequest<'static>>(request)),
        (answer, root::<webhook::WebhookAnswer>(answer)),
    ]
}

fn wire_schemas() -> Vec<(String, Value)> {
    fn versioned<T: JsonSchema>(name: &str) -> (String, Value) {
        let mut schema = root::<T>(name);
        let number = json!({ "const": wire::SCHEMA_NUMBER, "description": "The schema number." });
        add_member(&mut schema, "v", &number);
        (name.to_owned(), schema)
    }
    vec![
        versioned::<wire::plan::Plan>("wire.host_plan.v1"),
        versioned::<wire::report::Report>("wire.host_report.v1"),
        versioned::<wire::effect::Work>("wire.effect.v1"),
        versioned::<wire::command::WorkerCommand>("wire.command.v1"),
        versioned::<wire::audit::AuditRecord>("wire.audit_record.v1"),
    ]
}

/// Adds a required member to an object's schema, or to each of its alternatives.
pub(crate) fn add_member(schema: &mut Value, name: &str, member: &Value) {
    if let Some(Value::Array(alternatives)) = schema.get_mut("oneOf") {
        for alternative in alternatives {
            add_member(alternative, name, member);
        }
        return;
    }
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(properties) = object
        .entry("properties")
        .or_insert_with(|| json!({}))
        .as_object_mut()
    {
        properties.insert(name.to_owned(), member.clone());
    }
    if let Some(required) = object
        .entry("required")
        .or_insert_with(|| json!([]))
        .as_array_mut()
    {
        required.push(name.into());
    }
}

/// The schema of one event type, with its definitions.
pub(crate) fn event_schema(kind: &Kind) -> Value {
    let members = match kind.aggregate {
        "secret" => variant::<SecretEvent>(kind),
        "binding" => variant::<BindingEvent>(kind),
        "host" => variant::<HostEvent>(kind),
        "rotation" => variant::<RotationEvent>(kind),
        "revocation" => variant::<RevocationEvent>(kind),
        "store" => variant::<StoreEvent>(kind),
        "notification" => variant::<NotificationEvent>(kind),
        "signal" => variant::<SignalEvent>(kind),
        "playbook" => variant::<PlaybookEvent>(kind),
        "playbook_run" => variant::<PlaybookRunEvent>(kind),
        "policy" => variant::<PolicyEvent>(kind),
        "token" => variant::<TokenEvent>(kind),
        "approval" => variant::<ApprovalEvent>(kind),
        "rollout" => variant::<RolloutEvent>(kind).map(|(mut members, mut definitions)| {
            add_member(
                &mut members,
                "service",
                &json!({ "$ref": "#/$defs/Service" }),
            );
            let service = plain::<Service>().to_value();
            definitions.insert("Service".to_owned(), without_header(service));
            (members, definitions)
        }),
        _ => variant::<AssignmentEvent>(kind).map(|(mut members, mut definitions)| {
            add_member(
                &mut members,
                "consumer",
                &json!({ "$ref": "#/$defs/Consumer" }),
            );
            let consumer = plain::<Consumer>().to_value();
            definitions.insert("Consumer".to_owned(), without_header(consumer));
            (members, definitions)
        }),
    };
    let (members, definitions) = members.unwrap_or_default();
    let mut schema = root::<Envelope>(kind.name);
    if let Some(description) = members.get("description") {
        schema["description"] = description.clone();
    }
    schema["title"] = kind.name.into();
    schema["properties"]["data"] = members;
    schema["properties"]["specversion"]["const"] = "1.0".into();
    schema["properties"]["type"]["const"] = kind.name.into();
    schema["properties"]["dataschema"]["const"] = event::schema_address(kind.name).into();
    schema["properties"]["datacontenttype"]["const"] = "application/json".into();
    schema["properties"]["subject"]["pattern"] =
        format!("^{}/[0-9a-f-]{{36}}$", kind.aggregate).into();
    if !definitions.is_empty() {
        schema["$defs"] = Value::Object(definitions);
    }
    schema
}

/// The schema of one variant's members, and the definitions it refers to.
fn variant<T: JsonSchema>(kind: &Kind) -> Option<(Value, Map<String, Value>)> {
    let schema = plain::<T>().to_value();
    let alternatives = schema.get("oneOf")?.as_array()?;
    let alternative = alternatives.iter().find_map(|alternative| {
        let members = alternative.get("properties")?.get(kind.variant)?;
        Some((members.clone(), alternative.get("description").cloned()))
    });
    let (mut members, description) = alternative?;
    if let (Some(object), Some(description)) = (members.as_object_mut(), description) {
        object.insert("description".to_owned(), description);
    }
    let definitions = schema
        .get("$defs")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let used = reachable(&members, &definitions);
    Some((members, used))
}

/// The definitions a schema needs, directly or through others.
fn reachable(schema: &Value, definitions: &Map<String, Value>) -> Map<String, Value> {
    let mut used = Map::new();
    let mut open = vec![schema.to_string()];
    while let Some(text) = open.pop() {
        for (name, definition) in definitions {
            if !used.contains_key(name) && text.contains(&format!("\"#/$defs/{name}\"")) {
                used.insert(name.clone(), definition.clone());
                open.push(definition.to_string());
            }
        }
    }
    used
}

fn plain<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>()
}

fn without_header(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
    }
    schema
}

fn root<T: JsonSchema>(name: &str) -> Value {
    let mut schema = plain::<T>().to_value();
    schema["$id"] = event::schema_address(name).into();
    schema
}

fn schema_file(name: &str, schema: Value) -> Document {
    // Sorted and indented, so that a change reads well in review.
    let sorted = crate::canonical::pretty(&schema);
    Document {
        path: format!("{GENERATED}/{name}.json"),
        text: format!("{sorted}\n"),
    }
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
