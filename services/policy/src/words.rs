//! Principals, verbs and resources, and how people write them: as the audit does.

use std::collections::BTreeSet;
use std::fmt;

/// Group of who is root at the socket.
pub const ROOT: &str = "root";
/// Group of the daemon's own user.
pub const DAEMON_USER: &str = "daemon-user";
/// Group of members of the machine's group `keywheel`.
pub const GROUP_KEYWHEEL: &str = "group-keywheel";
/// Group of people with a client certificate.
pub const CLIENT_CERTIFICATE: &str = "client-certificate";
/// Group of programs that come with a person's token; that person's group is theirs as well.
pub const TOKEN: &str = "token";
/// Group of people who logged in at the provider of identities.
pub const OIDC: &str = "oidc";
/// What the names of the provider's groups begin with here: no set can declare such a group, and no provider put
/// anybody into another one.
pub const PROVIDER_GROUP: &str = "oidc:";
/// Groups that say how somebody came here; no set declares them.
pub const BUILT_IN_GROUPS: [&str; 6] = [
    ROOT,
    DAEMON_USER,
    GROUP_KEYWHEEL,
    CLIENT_CERTIFICATE,
    TOKEN,
    OIDC,
];
/// The id of what everything is in.
pub const ENVIRONMENT: &str = "installation";
/// Longest text of a principal or resource, in bytes.
const MAX_WORD_BYTES: usize = 512;

/// A group of the provider as policies name it: `Group::"oidc:payments"`.
#[must_use]
pub fn group_of_provider(name: &str) -> String {
    format!("{PROVIDER_GROUP}{name}")
}

/// Whether a group is one that no set declares.
pub(crate) fn is_given(name: &str) -> bool {
    BUILT_IN_GROUPS.contains(&name) || name.starts_with(PROVIDER_GROUP)
}

/// A text that names no principal, verb or resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}; {help}")]
pub struct WordError {
    text: String,
    what: &'static str,
    help: &'static str,
}

impl WordError {
    fn new(text: &str, what: &'static str, help: &'static str) -> Self {
        let text = text.chars().take(80).collect();
        Self { text, what, help }
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// See that it is there, and how it is.
    List,
    /// Declare it, change it, give it a value.
    Write,
    /// Take it away.
    Delete,
    /// Begin a rotation of it, or step into one.
    Rotate,
    /// Make versions of it unusable; evict a host.
    Revoke,
    /// Say which containers have it.
    Bind,
    /// Give rights: policies, join tokens.
    Grant,
    /// Read the log and the audit.
    Audit,
    /// Have the value. For services only.
    Read,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 9] = [
        Self::List,
        Self::Write,
        Self::Delete,
        Self::Rotate,
        Self::Revoke,
        Self::Bind,
        Self::Grant,
        Self::Audit,
        Self::Read,
    ];

    /// Its word, as in `Action::"rotate"`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::Bind => "bind",
            Self::Grant => "grant",
            Self::Audit => "audit",
            Self::Read => "read",
        }
    }

    /// The verb of a word.
    ///
    /// # Errors
    /// When there is none.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let mut all = Self::ALL.into_iter();
        all.find(|verb| verb.word() == text).ok_or_else(|| {
            let help = "verbs are list, write, delete, rotate, revoke, bind, grant, audit and read";
            WordError::new(text, "verb", help)
        })
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A person.
    User {
        /// Who: `certificate:ada`, `unix:1001`.
        id: String,
        /// The login name, or what the certificate says.
        name: String,
        /// How they came here: of [`BUILT_IN_GROUPS`]; and groups of the provider that they logged in at.
        groups: BTreeSet<String>,
    },
    /// What containers run.
    Service {
        /// Its name.
        name: String,
        /// Where what it may have lies.
        path: String,
    },
    /// A machine.
    Host {
        /// Its name.
        name: String,
    },
}

impl Principal {
    /// Who it is, as policies' groups name members and as it is written in cases.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::User { id, .. } => id.clone(),
            Self::Service { name, .. } => format!("service:{name}"),
            Self::Host { name } => format!("host:{name}"),
        }
    }

    /// The principal of a text: `certificate:NAME`, `unix:UID`, `oidc:NAME`, `service:NAME` or `host:NAME`. Without a file of groups
    /// of a machine at hand `unix:0` is root, and everybody else there a member of the group `keywheel`; a service's
    /// name is its path.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let help =
            "write `certificate:NAME`, `unix:UID`, `oidc:NAME`, `service:NAME` or `host:NAME`";
        let wrong = || WordError::new(text, "principal", help);
        let (kind, name) = text.split_once(':').ok_or_else(wrong)?;
        if name.is_empty() || text.len() > MAX_WORD_BYTES {
            return Err(wrong());
        }
        let name = name.to_owned();
        let user = |group: &str| Self::User {
            id: text.to_owned(),
            name: name.clone(),
            groups: BTreeSet::from([group.to_owned()]),
        };
        match kind {
            "certificate" => Ok(user(CLIENT_CERTIFICATE)),
            "oidc" => Ok(user(OIDC)),
            "unix" if name.parse::<u32>().is_err() => Err(wrong()),
            "unix" if name == "0" => Ok(user(ROOT)),
            "unix" => Ok(user(GROUP_KEYWHEEL)),
            "service" => Ok(Self::Service {
                path: name.clone(),
                name,
            }),
            "host" => Ok(Self::Host { name }),
            _ => Err(wrong()),
        }
    }
}

/// What it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// No single thing: the log, the audit, the policies, all there is.
    Environment,
    /// A path, and what is below it.
    Path(String),
    /// A secret.
    Secret(String),
    /// A store outside.
    Store(String),
    /// A host.
    Host(String),
    /// A playbook, with its runs.
    Playbook(String),
    /// A notification.
    Notification(String),
    /// A source of signals.
    SignalSource(String),
}

impl Resource {
    /// The resource of a text as [`fmt::Display`] writes it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let help = "write `environment`, or `secret/NAME`, `path/NAME`, `store/NAME`, `host/NAME`, `playbook/NAME`, `notification/NAME` or `signal-source/NAME`";
        let wrong = || WordError::new(text, "resource", help);
        if text == "environment" {
            return Ok(Self::Environment);
        }
        let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
        if name.is_empty() || text.len() > MAX_WORD_BYTES {
            return Err(wrong());
        }
        let name = name.to_owned();
        match kind {
            "path" => Ok(Self::Path(name)),
            "secret" => Ok(Self::Secret(name)),
            "store" => Ok(Self::Store(name)),
            "host" => Ok(Self::Host(name)),
            "playbook" => Ok(Self::Playbook(name)),
            "notification" => Ok(Self::Notification(name)),
            "signal-source" => Ok(Self::SignalSource(name)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("environment"),
            Self::Path(name) => write!(f, "path/{name}"),
            Self::Secret(name) => write!(f, "secret/{name}"),
            Self::Store(name) => write!(f, "store/{name}"),
            Self::Host(name) => write!(f, "host/{name}"),
            Self::Playbook(name) => write!(f, "playbook/{name}"),
            Self::Notification(name) => write!(f, "notification/{name}"),
            Self::SignalSource(name) => write!(f, "signal-source/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for verb in Verb::ALL {
            assert_eq!(Verb::parse(verb.word()), Ok(verb));
        }
        for text in [
            "environment",
            "secret/prod/db",
            "path/prod",
            "store/aws",
            "host/a",
            "playbook/x",
            "notification/soc",
            "signal-source/gh",
        ] {
            assert_eq!(Resource::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "certificate:ada",
            "unix:1001",
            "oidc:ada@example.org",
            "service:prod/api",
            "host:node-1",
        ] {
            assert_eq!(Principal::parse(text).unwrap().id(), text);
        }
    }

    #[test]
    fn what_names_nothing_is_refused_and_told_how_to_write_it() {
        assert!(
            Verb::parse("get")
                .unwrap_err()
                .to_string()
                .contains("rotate")
        );
        for text in ["", "secret", "secret/", "value/x"] {
            assert!(
                Resource::parse(text)
                    .unwrap_err()
                    .to_string()
                    .contains("secret/NAME"),
                "{text}"
            );
        }
        for text in ["ada", "unix:ada", "unix:", "token:x"] {
            assert!(
                Principal::parse(text)
                    .unwrap_err()
                    .to_string()
                    .contains("unix:UID"),
                "{text}"
            );
        }
    }
}
