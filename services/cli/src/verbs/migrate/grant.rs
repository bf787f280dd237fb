//! The bindings that grant a migrated container its variables: derived from what the engine says of it.
//!
//! Pure. A binding names host and image, as every strong one does, and the labels that tell this
//! container's service from others; a container's name is no fact that a binding knows.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::name::BindingName;
use keywheel_schemas::manifest::{self, API_VERSION, MAX_LABEL_BYTES, MAX_LABELS};
use serde_json::Value;

use super::json::text;
use super::recreate::name;
use super::take::Wish;
use crate::exit::{Exit, Failure};

/// The labels by which Compose knows a service's containers.
const COMPOSE: [&str; 2] = ["com.docker.compose.project", "com.docker.compose.service"];
/// Labels that tools write and change by themselves.
const OF_TOOLS: [&str; 3] = ["com.docker.", "desktop.docker.", "org.opencontainers."];

/// Bindings as they are applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bindings {
    /// Name and document of each, in the order of the wishes.
    pub(super) each: Vec<(BindingName, String)>,
    /// Labels that they select by.
    pub(super) labels: BTreeMap<String, String>,
}

impl Bindings {
    /// All of them as one text.
    pub(super) fn text(&self) -> String {
        let documents = self.each.iter().map(|(_, document)| document.as_str());
        documents.collect::<Vec<_>>().join("---\n")
    }
}

/// How long a restart under these bindings may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gate {
    /// How long it must run when it has no health check.
    pub(super) settle: Duration,
    /// How long its health check may take.
    pub(super) healthy: Duration,
}

/// Derives them; what is no valid binding is refused before anything is done.
pub(super) fn bindings(
    about: &Value,
    image: &Value,
    host: &str,
    wishes: &[Wish],
    gate: Gate,
) -> Result<Bindings, Failure> {
    let labels = labels(about, image);
    let mut each = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let name = binding_name(about, wish)?;
        let document = document(&name, about, host, &labels, wish, gate);
        each.push((name, document));
    }
    let bindings = Bindings { each, labels };
    if bindings.each.is_empty() {
        return Ok(bindings);
    }
    // No schedule stands in a binding.
    match manifest::parse(&bindings.text(), "the binding", &|_, _| Ok(())) {
        Ok(_) => Ok(bindings),
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            let next = "give other --host, --settle or --wait-healthy, or apply a Binding by hand and name its secret with --use-current";
            Err(Failure::new(Exit::Input, faults.join("\n"), next))
        }
    }
}

fn binding_name(about: &Value, wish: &Wish) -> Result<BindingName, Failure> {
    let name = format!("{}/{}", name(about), wish.variable).to_lowercase();
    BindingName::parse(&name).map_err(|error| {
        let next = "rename the container (`docker rename`), then repeat the command";
        Failure::new(Exit::Input, error.to_string(), next)
    })
}

/// Labels that tell the service: Compose's two where there are any, else what people wrote.
fn labels(about: &Value, image: &Value) -> BTreeMap<String, String> {
    let of = |value: &Value| -> BTreeMap<String, String> {
        let found = value.pointer("/Config/Labels").and_then(Value::as_object);
        let found = found.into_iter().flatten();
        found
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    let (all, of_image) = (of(about), of(image));
    let compose = COMPOSE
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), all.get(*key)?.clone())));
    let compose: BTreeMap<String, String> = compose.collect();
    if compose.len() == COMPOSE.len() {
        return compose;
    }
    let is_telling = |key: &str, value: &str| {
        let of_tool = OF_TOOLS.iter().any(|prefix| key.starts_with(prefix));
        let fits = key.len() <= MAX_LABEL_BYTES && value.len() <= MAX_LABEL_BYTES;
        !of_tool && fits && of_image.get(key).map(String::as_str) != Some(value)
    };
    all.into_iter()
        .filter(|(key, value)| is_telling(key, value))
        .take(MAX_LABELS)
        .collect()
}

fn document(
    name: &BindingName,
    about: &Value,
    host: &str,
    labels: &BTreeMap<String, String>,
    wish: &Wish,
    gate: Gate,
) -> String {
    // A JSON text is a YAML text in quotes.
    let quoted = |text: &str| Value::from(text).to_string();
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{}: {}", quoted(key), quoted(value)))
        .collect();
    let labels = match pairs.is_empty() {
        true => String::new(),
        false => format!("\n    labels: {{ {} }}", pairs.join(", ")),
    };
    format!(
        "apiVersion: {API_VERSION}\nkind: Binding\nmetadata: {{ name: {} }}\nspec:\n  secret: {}\n  containers:\n    host: {}\n    image: {}{labels}\n  env: {{ name: {} }}\n  reload: {{ restart: {{ settle: {}s, healthTimeout: {}s }} }}\n",
        quoted(name.as_str()),
        quoted(wish.secret.as_str()),
        quoted(host),
        quoted(text(about, "Image")),
        quoted(wish.variable.as_str()),
        gate.settle.as_secs(),
        gate.healthy.as_secs(),
    )
}

#[cfg(test)]
mod tests {
    use keywheel_core::binding::{ContainerFacts, ImageSelector};
    use keywheel_core::id::ContainerId;
    use keywheel_core::name::HostName;
    use keywheel_schemas::manifest::Manifest;
    use serde_json::json;

    use super::*;
    use crate::verbs::migrate::take::wishes;

    const GATE: Gate = Gate {
        settle: Duration::from_secs(1),
        healthy: Duration::from_secs(60),
    };

    fn about(labels: Value) -> Value {
        json!({
            "Id": "a".repeat(64), "Name": "/Web_1", "Image": format!("sha256:{}", "0".repeat(64)),
            "Config": { "Image": "app:1", "Labels": labels },
        })
    }

    fn derived(about: &Value, image: &Value) -> Bindings {
        let wishes = wishes(&["DB_PASSWORD=prod/db".to_owned()], &[]).unwrap();
        bindings(about, image, "web-1", &wishes, GATE).unwrap()
    }

    fn labels_of(container: Value, image: Value) -> Vec<String> {
        let image = json!({ "Config": { "Labels": image } });
        let bindings = derived(&about(container), &image);
        bindings.labels.into_keys().collect()
    }

    #[test]
    fn a_binding_is_strong_and_means_its_container() {
        let about = about(json!({ "app": "a \"quoted\": one\u{7}" }));
        let bindings = derived(&about, &json!({}));
        let read = manifest::parse(&bindings.text(), "x", &|_, _| Ok(())).unwrap();
        let [Manifest::Binding { name, selector, .. }] = read.as_slice() else {
            panic!("{read:?}");
        };
        assert_eq!(name.as_str(), "web_1/db_password");
        assert!(selector.is_strong());
        assert!(matches!(selector.image, Some(ImageSelector::Digest(_))));
        let facts = ContainerFacts {
            id: ContainerId::parse(&"b".repeat(64)).unwrap(),
            name: "anything".to_owned(),
            image_digest: format!("sha256:{}", "0".repeat(64)),
            image_name: "app:1".to_owned(),
            labels: bindings.labels.clone(),
            user: None,
        };
        assert!(selector.matches(&HostName::parse("web-1").unwrap(), &facts));
    }

    #[test]
    fn labels_of_compose_or_of_people_tell_and_those_of_images_and_tools_do_not() {
        let compose = json!({
            "com.docker.compose.project": "shop", "com.docker.compose.service": "web",
            "com.docker.compose.config-hash": "x", "app": "y"
        });
        assert_eq!(labels_of(compose, json!({})), COMPOSE);
        let people = json!({
            "app": "y", "maintainer": "m", "org.opencontainers.image.version": "1",
            "com.docker.compose.project": "only one of both"
        });
        assert_eq!(labels_of(people, json!({ "maintainer": "m" })), ["app"]);
        assert!(labels_of(json!(null), json!(null)).is_empty());
        let long =
            json!({ "app": "x".repeat(MAX_LABEL_BYTES + 1), "b": "x".repeat(MAX_LABEL_BYTES) });
        assert_eq!(labels_of(long, json!({})), ["b"]);
    }

    #[test]
    fn what_no_binding_may_say_is_refused() {
        let wishes = wishes(&["A=a".to_owned()], &[]).unwrap();
        let with = |host: &str, gate| bindings(&about(json!({})), &json!({}), host, &wishes, gate);
        assert_eq!(with("Web 1", GATE).unwrap_err().exit, Exit::Input);
        let endless = Gate {
            healthy: Duration::from_secs(7200),
            ..GATE
        };
        assert_eq!(with("web-1", endless).unwrap_err().exit, Exit::Input);
        assert!(with("web-1", GATE).is_ok());
    }
}
