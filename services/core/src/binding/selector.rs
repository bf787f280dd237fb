//! Which containers a binding means. Matching is pure: facts in, yes or no out.

use std::collections::BTreeMap;

use crate::id::ContainerId;
use crate::name::HostName;

/// How an image is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSelector {
    /// Config digest `sha256:…`: exactly this image.
    Digest(String),
    /// Repository, with or without tag: weaker, since a name can be moved to another image.
    Repository(String),
}

/// Which containers a binding means; every part that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// The host they run on.
    pub host: Option<HostName>,
    /// The image they were made from.
    pub image: Option<ImageSelector>,
    /// Labels they carry.
    pub labels: BTreeMap<String, String>,
    /// A person accepts a selector that does not name host and image.
    pub insecure: bool,
    /// Exactly this container; only in a plan, for a lease.
    pub container: Option<ContainerId>,
}

/// What the engine records about a container; attested by the host's injector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Full id.
    pub id: ContainerId,
    /// Name without the leading slash.
    pub name: String,
    /// Config digest of the image.
    pub image_digest: String,
    /// Image as the container's creator wrote it.
    pub image_name: String,
    /// Labels of container and image.
    pub labels: BTreeMap<String, String>,
}

impl Selector {
    /// Whether it names facts a container's creator cannot choose freely.
    #[must_use]
    pub fn is_strong(&self) -> bool {
        self.host.is_some() && self.image.is_some()
    }

    /// Whether it means anything on this host.
    #[must_use]
    pub fn means_host(&self, host: &HostName) -> bool {
        self.host.as_ref().is_none_or(|wanted| wanted == host)
    }

    /// Whether it means this container on this host.
    #[must_use]
    pub fn matches(&self, host: &HostName, container: &ContainerFacts) -> bool {
        let image = match &self.image {
            None => true,
            Some(ImageSelector::Digest(digest)) => *digest == container.image_digest,
            Some(ImageSelector::Repository(wanted)) => {
                is_of_repository(wanted, &container.image_name)
            }
        };
        let labels = self
            .labels
            .iter()
            .all(|(key, value)| container.labels.get(key) == Some(value));
        let is_it = self.container.as_ref();
        let is_it = is_it.is_none_or(|wanted| *wanted == container.id);
        self.means_host(host) && image && labels && is_it
    }
}

fn is_of_repository(wanted: &str, image: &str) -> bool {
    if wanted == image {
        return true;
    }
    image
        .strip_prefix(wanted)
        .is_some_and(|rest| (rest.starts_with(':') && !rest.contains('/')) || rest.starts_with('@'))
}
