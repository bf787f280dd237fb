//! Cutting a container off its networks.
//!
//! Invariant: a container whose network is not its own (the host's, or another container's) is told as an error, for
//! nobody cuts it off that.

use std::collections::BTreeMap;

use bollard::models::NetworkDisconnectRequest;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::{ErrorKind, PortError};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{DockerHost, READ_TIMEOUT, bounded, parse};
use crate::wire;

/// The mode in which a container has no network that it could be cut off.
const NONE: &str = "none";

/// What the engine tells of a container's networks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Networked {
    network_settings: Settings,
    host_config: HostConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    networks: Option<BTreeMap<String, IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: String,
}

impl Networked {
    /// The networks that it is in, by name.
    fn own(self, id: &ContainerId) -> Result<Vec<String>, PortError> {
        let mode = self.host_config.network_mode;
        if mode == "host" || mode.starts_with("container:") || mode.starts_with("ns:") {
            let text = format!(
                "container {} uses a network that is not its own (`{mode}`) and cannot be cut off it; pause or stop it",
                id.short()
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        let networks = self.network_settings.networks.unwrap_or_default();
        Ok(networks.into_keys().filter(|name| name != NONE).collect())
    }
}

impl DockerHost {
    /// Cuts it off every network that it is in.
    pub(super) async fn cut_off(&self, id: &ContainerId) -> Result<(), PortError> {
        let target = format!("/containers/{id}/json");
        let read = wire::read(&self.socket, &target);
        let body = bounded(READ_TIMEOUT, &self.socket, read).await?;
        let Some(body) = body else {
            let text = format!("there is no container {}", id.short());
            return Err(PortError::new(ErrorKind::NotFound, text));
        };
        let found: Networked = parse(&body)?;
        let client = self.client().await?;
        for network in found.own(id)? {
            let wish = NetworkDisconnectRequest {
                container: id.to_string(),
                force: Some(true),
            };
            let done = client.disconnect_network(&network, wish).await;
            done.map_err(|error| {
                let what = format!("cut container {} off network {network}", id.short());
                self.failed(&what, error)
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Result<Vec<String>, PortError> {
        let id = ContainerId::parse(&"a".repeat(64)).unwrap();
        parse::<Networked>(text.as_bytes()).unwrap().own(&id)
    }

    #[test]
    fn its_own_networks_are_named_and_somebody_else_s_are_an_error() {
        let told = |mode: &str, networks: &str| {
            format!(
                r#"{{"HostConfig":{{"NetworkMode":"{mode}"}},"NetworkSettings":{{"Networks":{networks}}}}}"#
            )
        };
        let two = told("shop", r#"{"shop":{"IPAddress":"10.0.0.2"},"db":{}}"#);
        assert_eq!(networks(&two).unwrap(), ["db", "shop"]);
        assert!(
            networks(&told("none", r#"{"none":{}}"#))
                .unwrap()
                .is_empty()
        );
        assert!(networks(&told("bridge", "null")).unwrap().is_empty());
        for mode in ["host", "container:b", "ns:/proc/1/ns/net"] {
            let refused = networks(&told(mode, r#"{"host":{}}"#)).unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Denied);
            assert!(refused.text.contains(mode), "{}", refused.text);
        }
    }
}
