//! The shape of a resource whose accounts a secret opens. The admin's password is named here by the
//! secret that holds it, never by what it is.

use keywheel_core::name::SecretName;
use keywheel_core::resource;

use crate::mirror::{Text, mirror_struct, mirror_words};

mirror_words! {
    /// What kind of server checks the passwords.
    ResourceKind = resource::Kind {
        /// PostgreSQL.
        Postgres,
        /// MariaDB or MySQL.
        Mariadb,
        /// Redis or Valkey.
        Redis,
        /// A receiver of a person's own.
        Webhook,
    }
}

mirror_words! {
    /// How the old credential and the new one change over.
    Strategy = resource::Strategy {
        /// One account accepts two passwords for the while.
        DualPassword,
        /// Two accounts with the same rights take turns.
        AlternatingUsers,
        /// One account, one password: there is a gap.
        SingleUser,
    }
}

mirror_struct! {
    /// A resource whose accounts a secret's versions open.
    Resource = resource::Resource {
        /// The kind of server.
        kind: ResourceKind,
        /// Where it is, with the admin's name and without a password.
        connection: String,
        /// The accounts.
        accounts: Vec<String>,
        /// The secret that holds the admin's password.
        admin: Text<SecretName>,
        /// How the old credential and the new one change over.
        strategy: Strategy,
        /// File of the authorities (PEM) that the server's certificate has to come from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<String>,
    }
}

mirror_struct! {
    /// The server at which the logins that a store makes are good.
    Probe = resource::Probe {
        /// The kind of server.
        kind: ResourceKind,
        /// Where it is, without a login.
        connection: String,
        /// File of the authorities (PEM) that the server's certificate has to come from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<String>,
    }
}
