//! Why a container is meant by a binding or not: each part of its selector, held against what is known of the
//! container. Pure.
//!
//! Invariant: all parts hold exactly when [`Selector::matches`] says yes. It decides nothing by itself.

use super::selector::{is_named, runs_as, user_of};
use super::{ContainerFacts, ImageSelector, Selector};
use crate::name::HostName;

/// What stands for something that is not known.
const UNKNOWN: &str = "not known";
/// Longest wish of a selector that is told in words, in characters.
const MAX_TOLD_CHARS: usize = 100;

/// One part of a selector, held against a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which, as manifests call it: `host`, `image`, `id`, `name`, `user`, or `label KEY`.
    pub field: String,
    /// What the selector asks for.
    pub wanted: String,
    /// What the container has.
    pub found: String,
    /// Whether that is it.
    pub holds: bool,
}

impl Part {
    fn new(
        field: impl Into<String>,
        wanted: impl Into<String>,
        found: impl Into<String>,
        holds: bool,
    ) -> Self {
        Self {
            field: field.into(),
            wanted: wanted.into(),
            found: found.into(),
            holds,
        }
    }

    /// What is in the way, in words, without what the container has: that may be of anybody's making.
    #[must_use]
    pub fn words(&self) -> String {
        let field: String = self.field.chars().take(MAX_TOLD_CHARS).collect();
        let wanted: String = self.wanted.chars().take(MAX_TOLD_CHARS).collect();
        format!("{field} is not `{wanted}`")
    }
}

impl Selector {
    /// Each part that is given, those first that a container's creator cannot choose.
    #[must_use]
    pub fn parts(&self, host: &HostName, container: &ContainerFacts) -> Vec<Part> {
        let own_host = self.host.as_ref();
        let mut parts = Vec::new();
        parts.extend(
            own_host
                .map(|wanted| Part::new("host", wanted.as_str(), host.as_str(), wanted == host)),
        );
        parts.extend(self.image.as_ref().map(|image| of_image(image, container)));
        parts.extend(self.container.as_ref().map(|wanted| {
            let found = container.id.to_string();
            Part::new("id", wanted.to_string(), found, *wanted == container.id)
        }));
        parts.extend(self.name.as_ref().map(|wanted| {
            let holds = is_named(wanted, &container.name);
            Part::new("name", wanted, &container.name, holds)
        }));
        parts.extend(self.user.as_ref().map(|wanted| {
            let found = container.user.as_deref().map_or(UNKNOWN, user_of);
            Part::new("user", user_of(wanted), found, runs_as(wanted, container))
        }));
        parts.extend(self.labels.iter().map(|(key, wanted)| {
            let found = container.labels.get(key);
            let holds = found == Some(wanted);
            let found = found.map_or("not there", String::as_str);
            Part::new(format!("label {key}"), wanted, found, holds)
        }));
        parts
    }

    /// The parts that do not hold.
    #[must_use]
    pub fn missing(&self, host: &HostName, container: &ContainerFacts) -> Vec<Part> {
        let mut parts = self.parts(host, container);
        parts.retain(|part| !part.holds);
        parts
    }
}

fn of_image(image: &ImageSelector, container: &ContainerFacts) -> Part {
    let (wanted, found) = match image {
        ImageSelector::Digest(digest) => (digest, &container.image_digest),
        ImageSelector::Repository(name) => (name, &container.image_name),
    };
    Part::new("image", wanted, found, image.is_of(container))
}
