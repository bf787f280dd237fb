//! The HTTP API as an OpenAPI 3.1 document: paths, parameters, bodies, answers and problems. Made from the
//! table that the gateway's router is held to, and from the shapes it answers with.

mod facts;
mod parameters;
mod route;
mod routes;

use keywheel_core::id::RotationId;
use keywheel_core::name::{
    BindingName, NotificationName, SecretName, SignalSourceName, StoreName, SubscriptionName,
    TokenName,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::catalogue::Document;
use crate::event::Envelope;
use crate::mirror::TextForm as _;
use crate::{api, wire};

pub use route::{Answer, Parameter, Route};
pub use routes::ROUTES;

/// Path of the document, under `schemas/`.
pub const PATH: &str = "generated/openapi.v1.json";

/// The document.
#[must_use]
pub fn document() -> Document {
    Document {
        path: PATH.to_owned(),
        text: format!("{}\n", crate::canonical::pretty(&value())),
    }
}

/// The document as JSON.
#[must_use]
pub fn value() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        item[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Keywheel",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Rotates and revokes the secrets that running containers use. No request answers a value: the one place where a value travels is `PutRequest.sealed`, sealed by the client to store-sync's key. Served on a unix socket, where the kernel tells who asks, and over mutual TLS to operators. A program may bring a token that a person issued, as `Authorization: Bearer`; whatever is wrong with one, the answer is the same. Every look and every change is an audit record.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{
            "url": "https://{gateway}",
            "description": "A gateway's port for operators (mutual TLS), or the unix socket of `keywheel up`.",
            "variables": { "gateway": { "default": "localhost" } },
        }],
        "security": [{ "operator": [] }, {}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "parameters": { "IdempotencyKey": idempotency_key() },
            "headers": {
                "ETag": etag_header(),
                "Link": link_header(),
                "RetryAfter": retry_after_header(),
            },
            "responses": { "Problem": problem(), "Waiting": waiting() },
            "securitySchemes": {
                "operator": {
                    "type": "mutualTLS",
                    "description": "A client certificate of an operator, of the deployment's own authority.",
                },
            },
        },
    })
}

fn reference(shape: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{shape}") })
}

fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key and body from the same caller are one request, however often they come: it is decided once, a repeat gets the answer of the first one, and each leaves a record. A token or join token is in the first answer only: a repeat is a `conflict`. Draw a new one for each wish.",
        "schema": { "type": "string", "minLength": 1, "maxLength": api::MAX_IDEMPOTENCY_KEY_BYTES, "pattern": "^[!-~]+$" },
    })
}

fn etag_header() -> Value {
    json!({
        "description": "Names exactly this answer. Sent back as `If-None-Match` it saves the answer while nothing changed (304).",
        "schema": { "type": "string" },
    })
}

fn retry_after_header() -> Value {
    json!({
        "description": "With status 503: in how many seconds to come again, where that is known.",
        "schema": { "type": "integer", "minimum": 0 },
    })
}

fn link_header() -> Value {
    json!({
        "description": "Where the next page is, with `rel=\"next\"`; absent on the last one (RFC 8288).",
        "schema": { "type": "string" },
    })
}

fn problem() -> Value {
    json!({
        "description": "What went wrong, why, and what to do next (RFC 9457). `code` is stable.",
        "content": { "application/problem+json": { "schema": reference("Problem") } },
        "headers": { "Retry-After": { "$ref": "#/components/headers/RetryAfter" } },
    })
}

fn waiting() -> Value {
    json!({
        "description": "Nothing was done: others have to approve it first, as the configuration says. `Location` is the request; repeat exactly this one once it is approved.",
        "content": { "application/problem+json": { "schema": reference("Problem") } },
        "headers": { "Location": { "schema": { "type": "string" } } },
    })
}

/// Whether it may take several people.
fn may_wait(route: &Route) -> bool {
    ["apply_policies", "export_audit", "make_join_token"].contains(&route.operation)
}

fn operation(route: &Route) -> Value {
    let mut parameters = path_parameters(route);
    parameters.extend(route.query.iter().map(query_parameter));
    if takes_key(route) {
        parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
    }
    let mut operation = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "parameters": parameters,
        "responses": { "200": answer(route) },
    });
    for status in problem_statuses(route) {
        operation["responses"][status.to_string()] =
            json!({ "$ref": "#/components/responses/Problem" });
    }
    if may_wait(route) {
        operation["responses"]["202"] = json!({ "$ref": "#/components/responses/Waiting" });
    }
    if is_tagged(route) {
        operation["responses"]["304"] =
            json!({ "description": "What `If-None-Match` names is still so." });
    }
    if let Some(shape) = route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": reference(shape) } },
        });
    }
    operation
}

/// Statuses of the problems a request can end with.
fn problem_statuses(route: &Route) -> Vec<u16> {
    let is_change = route.method != "get";
    let names_something = route.path.contains('{')
        || route.body.is_some()
        // Where nobody logs in.
        || route.operation == "login_settings"
        || route
            .query
            .iter()
            .any(|parameter| ["secret", "version"].contains(&parameter.name));
    let mut statuses = vec![400, 403, 408, 429, 500, 503];
    if names_something {
        statuses.push(404);
    }
    if is_change {
        statuses.push(409);
    }
    statuses
}

/// Whether a repeat under one key is one request. A look at stores is always a new one, and so is a message to
/// a receiver, and a login; a subscription is no command: a repeat finds it as it is.
fn takes_key(route: &Route) -> bool {
    let anew = [
        "refresh",
        "unseal",
        "seal",
        "rotate_kek",
        "backup",
        "test_notification",
        "replay_notification",
        "retry_letter",
        "discard_letter",
        "login",
        "login_device",
        "logout",
    ];
    let is_command =
        !anew.contains(&route.operation) && !route.path.starts_with("/v1/subscriptions");
    route.method != "get" && is_command
}

/// Whether an answer has an ETag: looks that are one document.
fn is_tagged(route: &Route) -> bool {
    route.method == "get" && !matches!(route.answer, Answer::Stream(_))
}

fn path_parameters(route: &Route) -> Vec<Value> {
    let names = route.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?;
        name.strip_suffix('}')
    });
    names
        .map(|name| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "description": "Percent-encoded; a `/` of a name may stay as it is.",
                "schema": path_schema(route.path),
            })
        })
        .collect()
}

/// What the one parameter of a path looks like, by what the path is about.
fn path_schema(path: &str) -> Value {
    let about = path.split('/').nth(2).unwrap_or_default();
    match about {
        "secrets" | "versions" | "history" | "rotation-plan" | "explain" => {
            SecretName::schema().to_value()
        }
        "bindings" => BindingName::schema().to_value(),
        "stores" => StoreName::schema().to_value(),
        "subscriptions" => SubscriptionName::schema().to_value(),
        "notifications" => NotificationName::schema().to_value(),
        "signal-sources" => SignalSourceName::schema().to_value(),
        "tokens" => TokenName::schema().to_value(),
        "rotations" | "revocations" | "letters" | "reports" => RotationId::schema().to_value(),
        "audit" => json!({ "type": "integer", "minimum": 0 }),
        // By name or id.
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

fn query_parameter(parameter: &Parameter) -> Value {
    let mut schema = json!({ "type": parameter.kind });
    if parameter.kind == "integer" {
        schema["minimum"] = 0.into();
    }
    json!({
        "name": parameter.name,
        "in": "query",
        "required": false,
        "description": parameter.meaning,
        "schema": schema,
    })
}

fn answer(route: &Route) -> Value {
    let (content, mut headers) = match route.answer {
        Answer::One(shape) => (
            json!({ "application/json": { "schema": reference(shape) } }),
            Map::new(),
        ),
        Answer::Many(shape) => {
            let schema = json!({ "type": "array", "items": reference(shape) });
            let mut headers = Map::new();
            if route
                .query
                .iter()
                .any(|parameter| parameter.name == "limit")
            {
                headers.insert(
                    "Link".to_owned(),
                    json!({ "$ref": "#/components/headers/Link" }),
                );
            }
            (json!({ "application/json": { "schema": schema } }), headers)
        }
        Answer::Stream(shape) => {
            let lines = format!("One JSON object a line: `{shape}`.");
            let mut content = json!({
                "application/x-ndjson": { "schema": { "type": "string", "description": lines } },
            });
            if route.operation == "events" {
                content["text/event-stream"] = json!({ "schema": {
                    "type": "string",
                    "description": "With `Accept: text/event-stream`: server-sent events; `id` is the event's number, `event` its type, `data` the event. A client that comes back sends `Last-Event-ID` and misses nothing. A quiet or filtered stream gives an `id` without data from time to time: how far it read. An id beyond the log's end is refused.",
                } });
            }
            (content, Map::new())
        }
        Answer::Document => (
            json!({ "application/json": { "schema": { "type": "object" } } }),
            Map::new(),
        ),
    };
    if is_tagged(route) {
        headers.insert(
            "ETag".to_owned(),
            json!({ "$ref": "#/components/headers/ETag" }),
        );
    }
    json!({ "description": route.summary, "content": content, "headers": headers })
}

/// Every shape that is asked or answered, and what those refer to.
fn schemas() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    macro_rules! shapes {
        ($($shape:ident),*) => {{ $(include::<api::$shape>(&mut generator);)* }};
    }
    api::of_shapes!(shapes);
    include::<Envelope>(&mut generator);
    include::<wire::audit::AuditRecord>(&mut generator);
    Value::Object(generator.take_definitions(true))
}

fn include<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

#[cfg(test)]
mod tests;
