//! For which service a binding is, as policies name it.
//!
//! Invariant: what a selector asks for comes before what somebody called the binding: labels beside host and image are
//! held against the container by its host, a name is only a name.

use super::Spec;
use crate::name::BindingName;

/// The label of a Compose project.
const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// The label of a service within it.
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// The label of a service of Swarm.
const SWARM_SERVICE: &str = "com.docker.swarm.service.name";

impl Spec {
    /// The service whose containers it means: `PROJECT/SERVICE` where it asks for both labels of Compose, the name
    /// under Swarm where it asks for that; else the binding stands for a service of its own name.
    #[must_use]
    pub fn service(&self, binding: &BindingName) -> String {
        let label = |name: &str| self.selector.labels.get(name);
        match (label(COMPOSE_PROJECT), label(COMPOSE_SERVICE)) {
            (Some(project), Some(service)) => format!("{project}/{service}"),
            _ => label(SWARM_SERVICE)
                .cloned()
                .unwrap_or_else(|| binding.to_string()),
        }
    }
}
