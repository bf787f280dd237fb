//! Which containers a binding means. Matching is pure: facts in, yes or no out; which part of a selector said no
//! is told by `part`.

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
    /// The name they were given, or how it begins, with `*` behind it.
    pub name: Option<String>,
    /// The user that their programs run as, without a group; root is `0`.
    pub user: Option<String>,
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
    /// The user that its programs run as, as it was configured; `None` where the engine did not tell.
    pub user: Option<String>,
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
        let image = self.image.as_ref();
        let container_id = self.container.as_ref();
        let name = self.name.as_deref();
        let user = self.user.as_deref();
        self.means_host(host)
            && image.is_none_or(|image| image.is_of(container))
            && self
                .labels
                .iter()
                .all(|(key, value)| container.labels.get(key) == Some(value))
            && container_id.is_none_or(|wanted| *wanted == container.id)
            && name.is_none_or(|wanted| is_named(wanted, &container.name))
            && user.is_none_or(|wanted| runs_as(wanted, container))
    }
}

impl ImageSelector {
    /// Whether a container was made from it.
    #[must_use]
    pub fn is_of(&self, container: &ContainerFacts) -> bool {
        match self {
            Self::Digest(digest) => *digest == container.image_digest,
            Self::Repository(wanted) => is_of_repository(wanted, &container.image_name),
        }
    }
}

/// Whether a container's name is the one that is wanted, or begins like it.
pub(super) fn is_named(wanted: &str, name: &str) -> bool {
    wanted
        .strip_suffix('*')
        .map_or(wanted == name, |begin| name.starts_with(begin))
}

/// Whether a container's programs run as the user that is wanted. Where the engine did not tell, nobody knows.
pub(super) fn runs_as(wanted: &str, container: &ContainerFacts) -> bool {
    let configured = container.user.as_deref();
    configured.is_some_and(|configured| user_of(configured) == user_of(wanted))
}

/// The user of `USER[:GROUP]`; root by each of its names is `0`.
#[must_use]
pub fn user_of(configured: &str) -> &str {
    let user = configured.split(':').next().unwrap_or_default();
    match user {
        "" | "root" => "0",
        user => user,
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
