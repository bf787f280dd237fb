//! Events of tokens, and the shape of a scope.

use keywheel_core::name::TokenName;
use keywheel_core::time::Timestamp;
use keywheel_core::token;

use crate::mirror::{Text, mirror_enum, mirror_struct};

mirror_struct! {
    /// What a token is good for, in the words of policies.
    TokenScope = token::Scope {
        /// What it may do.
        verbs: Vec<String>,
        /// Of what.
        resources: Vec<String>,
    }
}

mirror_struct! {
    /// Whom a provider of identities named.
    TokenLogin = token::Login {
        /// The provider.
        issuer: String,
        /// The person, as the provider tells people apart.
        subject: String,
        /// Groups that the provider says they are in.
        groups: Vec<String>,
        /// Until when the provider's word counts.
        until: Text<Timestamp>,
    }
}

mirror_enum! {
    /// What happened to a token.
    TokenEvent = token::Event {
        /// It was made, and shown to whoever asked for it.
        Issued {
            /// Its name.
            name: Text<TokenName>,
            /// SHA-256 of its text, which is nowhere.
            hash: Text<[u8; 32]>,
            /// The person it stands for.
            owner: String,
            /// What it is good for.
            scope: TokenScope,
            /// When.
            issued_at: Text<Timestamp>,
            /// From then on it opens nothing.
            expires_at: Text<Timestamp>,
            /// How often it may be used; absent when nothing limits that.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            limit: Option<u64>,
            /// Of a login: whom the provider named; absent for a program's token.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            login: Option<TokenLogin>,
        },
        /// Uses were taken out of its limit: they count as made.
        UsesTaken {
            /// How many.
            uses: u64,
        },
        /// It opens nothing any more.
        Revoked {
            /// Who revoked it.
            by: String,
            /// Why.
            reason: String,
        },
    }
}
