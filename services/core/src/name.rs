//! Names people give: of secrets, bindings, hosts, files, env variables. Parsed once, valid ever after.

use std::fmt;

/// Longest name of a secret, binding or host, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest file name inside a container's secrets directory, in bytes.
pub const MAX_FILE_NAME_BYTES: usize = 128;

/// Length of a public key of a bus user, in bytes.
pub const BUS_KEY_BYTES: usize = 56;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("the {what} is empty; give it at least one character")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// Over the limit.
    #[error("the {what} has {bytes} bytes; at most {limit} are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// How long it was.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Off the grammar.
    #[error("`{name}` is not a valid {what}: {grammar}")]
    Grammar {
        /// Which kind of name.
        what: &'static str,
        /// The name as given, shortened.
        name: String,
        /// What is allowed.
        grammar: &'static str,
    },
}

fn check(
    what: &'static str,
    name: &str,
    limit: usize,
    grammar: &'static str,
    ok: impl Fn(&str) -> bool,
) -> Result<String, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > limit {
        return Err(NameError::TooLong {
            what,
            bytes: name.len(),
            limit,
        });
    }
    if ok(name) {
        return Ok(name.to_owned());
    }
    Err(NameError::Grammar {
        what,
        name: name.chars().take(80).collect(),
        grammar,
    })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $limit:expr, $grammar:literal, $ok:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(String);
        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// When it is empty, too long or off the grammar.
            pub fn parse(name: &str) -> Result<Self, NameError> {
                check($what, name, $limit, $grammar, $ok).map(Self)
            }
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
    };
}

impl StoreName {
    /// The store that is always there.
    #[must_use]
    pub fn local() -> Self {
        Self(crate::secret::LOCAL_STORE.to_owned())
    }
}

fn is_word(text: &str) -> bool {
    let word =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty() && text.bytes().all(word)
}

fn is_path(text: &str) -> bool {
    text.split('/')
        .all(|part| is_word(part) && part != "." && part != "..")
}

fn is_file(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !text.starts_with('.') && text.bytes().all(byte)
}

fn is_env(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(byte)
}

fn is_bus_key(text: &str) -> bool {
    let byte = |b: u8| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b);
    text.len() == BUS_KEY_BYTES && text.starts_with('U') && text.bytes().all(byte)
}

fn is_directory(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    text.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(plain))
        && !text.bytes().any(|b| b.is_ascii_control())
}

name_type!(/// Name of a secret: `prod/payments/db-password`.
    SecretName, "secret name", MAX_NAME_BYTES,
    "use lower-case letters, digits, `.`, `_` and `-`, in parts separated by single `/`", is_path);
name_type!(/// Name of a binding.
    BindingName, "binding name", MAX_NAME_BYTES,
    "use lower-case letters, digits, `.`, `_` and `-`, in parts separated by single `/`", is_path);
name_type!(/// Name of a store.
    StoreName, "store name", MAX_NAME_BYTES, "use lower-case letters, digits, `.`, `_` and `-`", is_word);
name_type!(/// Name of a host.
    HostName, "host name", MAX_NAME_BYTES, "use lower-case letters, digits, `.`, `_` and `-`", is_word);
name_type!(/// Name of a playbook.
    PlaybookName, "playbook name", MAX_NAME_BYTES, "use lower-case letters, digits, `.`, `_` and `-`", is_word);
name_type!(/// Name of a subscription: a place in the log that is kept for a client.
    SubscriptionName, "subscription name", MAX_NAME_BYTES,
    "use lower-case letters, digits, `.`, `_` and `-`", is_word);
name_type!(/// Name of a notification.
    NotificationName, "notification name", MAX_NAME_BYTES,
    "use lower-case letters, digits, `.`, `_` and `-`", is_word);
name_type!(/// Name of a declared source of signals.
    SignalSourceName, "name of a source of signals", MAX_NAME_BYTES,
    "use lower-case letters, digits, `.`, `_` and `-`", is_word);
name_type!(/// Name of a token.
    TokenName, "token name", MAX_NAME_BYTES,
    "use lower-case letters, digits, `.`, `_` and `-`", is_word);
name_type!(/// Name of a file inside the secrets directory.
    FileName, "file name", MAX_FILE_NAME_BYTES,
    "use letters, digits, `.`, `_` and `-`, without a leading dot", is_file);
name_type!(/// Name of an env variable.
    EnvName, "env name", MAX_FILE_NAME_BYTES,
    "use letters, digits and `_`, without a leading digit", is_env);
name_type!(/// Public key of a user of the bus server, as that writes it.
    BusKey, "bus key", BUS_KEY_BYTES, "give `U` and 55 letters of base32", is_bus_key);
name_type!(/// Absolute directory inside a container, by default `/run/secrets`.
    Directory, "directory", MAX_NAME_BYTES,
    "give an absolute path without `.`, `..` or empty parts", is_directory);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_grammar_are_taken() {
        for name in ["db", "prod/payments/db-password", "a.b_c-1/x"] {
            assert!(SecretName::parse(name).is_ok(), "{name}");
        }
        assert!(Directory::parse("/run/secrets").is_ok());
        assert!(FileName::parse("db_password").is_ok());
        assert!(EnvName::parse("DB_PASSWORD").is_ok());
    }

    #[test]
    fn names_off_the_grammar_are_refused_with_what_is_allowed() {
        for name in ["Prod", "a//b", "/a", "a/", "a/../b", "a b", "ä"] {
            let error = SecretName::parse(name).map_err(|e| e.to_string());
            assert!(
                error.is_err_and(|e| e.contains("lower-case letters")),
                "{name}"
            );
        }
        for name in [".hidden", "a/b", "a b"] {
            assert!(FileName::parse(name).is_err(), "{name}");
        }
        for name in ["1A", "A-B", "A=B"] {
            assert!(EnvName::parse(name).is_err(), "{name}");
        }
        assert!(BusKey::parse(&format!("U{}", "A7".repeat(27))).is_err());
        assert!(BusKey::parse(&format!("UA{}", "A7".repeat(27))).is_ok());
        assert!(BusKey::parse(&format!("SA{}", "A7".repeat(27))).is_err());
        for name in ["run", "/", "/a/../b", "/a//b"] {
            assert!(Directory::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_limit_itself_is_allowed_and_one_more_is_not() {
        assert!(SecretName::parse(&"a".repeat(MAX_NAME_BYTES)).is_ok());
        assert!(matches!(
            SecretName::parse(&"a".repeat(MAX_NAME_BYTES + 1)),
            Err(NameError::TooLong {
                bytes: 256,
                limit: 255,
                ..
            })
        ));
        assert!(matches!(FileName::parse(""), Err(NameError::Empty { .. })));
    }
}
