//! How a wire shape mirrors a core type: a trait, the leaves, and two macros that write the
//! conversions. Reading validates (`Text` parses); after that the way into the core cannot fail.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A wire shape of a core type.
pub trait Mirror: Sized {
    /// The core's type.
    type Core;
    /// Takes the core's value.
    fn of(core: &Self::Core) -> Self;
    /// Gives the core's value.
    fn into_core(self) -> Self::Core;
}

macro_rules! mirror_itself {
    ($($type:ty),*) => {$(
        impl Mirror for $type {
            type Core = $type;
            fn of(core: &$type) -> Self {
                core.clone()
            }
            fn into_core(self) -> $type {
                self
            }
        }
    )*};
}
mirror_itself!(u64, u32, i32, bool, String, BTreeMap<String, String>, BTreeSet<u64>);

impl<M: Mirror> Mirror for Vec<M> {
    type Core = Vec<M::Core>;
    fn of(core: &Self::Core) -> Self {
        core.iter().map(M::of).collect()
    }
    fn into_core(self) -> Self::Core {
        self.into_iter().map(M::into_core).collect()
    }
}

impl<M: Mirror> Mirror for Box<M> {
    type Core = Box<M::Core>;
    fn of(core: &Self::Core) -> Self {
        Self::new(M::of(core))
    }
    fn into_core(self) -> Self::Core {
        Box::new((*self).into_core())
    }
}

impl<M: Mirror> Mirror for Option<M> {
    type Core = Option<M::Core>;
    fn of(core: &Self::Core) -> Self {
        core.as_ref().map(M::of)
    }
    fn into_core(self) -> Self::Core {
        self.map(M::into_core)
    }
}

/// A set of the core, in its order there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Set<M>(Vec<M>);

impl<M> Set<M> {
    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<M> Default for Set<M> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<M: Mirror> Mirror for Set<M>
where
    M::Core: Ord,
{
    type Core = BTreeSet<M::Core>;
    fn of(core: &Self::Core) -> Self {
        Self(core.iter().map(M::of).collect())
    }
    fn into_core(self) -> Self::Core {
        self.0.into_iter().map(M::into_core).collect()
    }
}

impl<M: JsonSchema> JsonSchema for Set<M> {
    fn schema_name() -> Cow<'static, str> {
        <Vec<M>>::schema_name()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <Vec<M>>::json_schema(generator)
    }
}

/// A core type that travels as text.
pub trait TextForm: Clone {
    /// Name of its schema.
    const NAME: &'static str;
    /// What its schema says beyond being a string.
    fn schema() -> Schema;
    /// Writes it.
    fn text(&self) -> String;
    /// Reads it.
    ///
    /// # Errors
    /// With a person's words when the text is not of this form.
    fn parse_text(text: &str) -> Result<Self, String>;
}

/// A core type as its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<T: TextForm> Mirror for Text<T> {
    type Core = T;
    fn of(core: &T) -> Self {
        Self(core.clone())
    }
    fn into_core(self) -> T {
        self.0
    }
}

impl<T: TextForm> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.text())
    }
}

impl<'de, T: TextForm> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::parse_text(&text).map(Self).map_err(D::Error::custom)
    }
}

impl<T: TextForm> JsonSchema for Text<T> {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed(T::NAME)
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

macro_rules! text_form {
    ($($core:ty as $name:literal { $($schema:tt)* })*) => {$(
        impl TextForm for $core {
            const NAME: &'static str = $name;
            fn schema() -> Schema {
                json_schema!({ "type": "string", $($schema)* })
            }
            fn text(&self) -> String {
                self.to_string()
            }
            fn parse_text(text: &str) -> Result<Self, String> {
                Self::parse(text).map_err(|error| error.to_string())
            }
        }
    )*};
}

use keywheel_core::id::{
    ApprovalId, BindingId, CommandId, ContainerId, DeliveryId, EventId, HostId, JoinTokenId,
    NotificationId, PlaybookId, PolicySetId, RevocationId, RotationId, RunId, SecretId,
    SignalSourceId, SlotId, StoreId, TokenId,
};
use keywheel_core::name::{
    BindingName, BusKey, Directory, EnvName, FileName, HostName, NotificationName, PlaybookName,
    SecretName, SignalSourceName, StoreName, SubscriptionName, TokenName,
};

text_form! {
    BindingId as "BindingId" { "format": "uuid" }
    CommandId as "CommandId" { "format": "uuid" }
    DeliveryId as "DeliveryId" { "format": "uuid" }
    EventId as "EventId" { "format": "uuid" }
    HostId as "HostId" { "format": "uuid" }
    JoinTokenId as "JoinTokenId" { "format": "uuid" }
    PlaybookId as "PlaybookId" { "format": "uuid" }
    PolicySetId as "PolicySetId" { "format": "uuid" }
    RevocationId as "RevocationId" { "format": "uuid" }
    RotationId as "RotationId" { "format": "uuid" }
    RunId as "RunId" { "format": "uuid" }
    SecretId as "SecretId" { "format": "uuid" }
    SlotId as "SlotId" { "format": "uuid" }
    StoreId as "StoreId" { "format": "uuid" }
    TokenId as "TokenId" { "format": "uuid" }
    ApprovalId as "ApprovalId" { "format": "uuid" }
    NotificationId as "NotificationId" { "format": "uuid" }
    SignalSourceId as "SignalSourceId" { "format": "uuid" }
    ContainerId as "ContainerId" { "pattern": "^[0-9a-f]{64}$" }
    SecretName as "SecretName" { "pattern": "^[a-z0-9._-]+(/[a-z0-9._-]+)*$", "maxLength": 255 }
    StoreName as "StoreName" { "pattern": "^[a-z0-9._-]+$", "maxLength": 255 }
    BindingName as "BindingName" { "pattern": "^[a-z0-9._-]+(/[a-z0-9._-]+)*$", "maxLength": 255 }
    BusKey as "BusKey" { "pattern": "^U[A-Z2-7]{55}$" }
    HostName as "HostName" { "pattern": "^[a-z0-9._-]+$", "maxLength": 255 }
    NotificationName as "NotificationName" { "pattern": "^[a-z0-9._-]+$", "maxLength": 255 }
    SignalSourceName as "SignalSourceName" { "pattern": "^[a-z0-9._-]+$", "maxLength": 255 }
    PlaybookName as "PlaybookName" { "pattern": "^[a-z0-9._-]+$", "maxLength": 255 }
    SubscriptionName as "SubscriptionName" { "pattern": "^[a-z0-9._-]+$", "maxLength": 255 }
    TokenName as "TokenName" { "pattern": "^[a-z0-9._-]+$", "maxLength": 255 }
    FileName as "FileName" { "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*$", "maxLength": 128 }
    EnvName as "EnvName" { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": 128 }
    Directory as "Directory" { "pattern": "^/", "maxLength": 255 }
}

/// Writes a fieldless wire enum that mirrors a fieldless core enum; words in `snake_case`.
macro_rules! mirror_words {
    ($(#[$meta:meta])* $name:ident = $core:ty { $($(#[$vmeta:meta])* $variant:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vmeta])* $variant),* }
        impl $crate::mirror::Mirror for $name {
            type Core = $core;
            fn of(core: &$core) -> Self {
                type Core = $core;
                match core { $(Core::$variant => Self::$variant),* }
            }
            fn into_core(self) -> $core {
                type Core = $core;
                match self { $(Self::$variant => Core::$variant),* }
            }
        }
    };
}
pub(crate) use mirror_words;

/// Writes a wire struct that mirrors a core struct field by field; unknown fields are refused.
macro_rules! mirror_struct {
    ($(#[$meta:meta])* $name:ident = $core:ty { $($(#[$fmeta:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type),* }
        impl $crate::mirror::Mirror for $name {
            type Core = $core;
            fn of(core: &$core) -> Self {
                Self { $($field: $crate::mirror::Mirror::of(&core.$field)),* }
            }
            fn into_core(self) -> $core {
                type Core = $core;
                Core { $($field: self.$field.into_core()),* }
            }
        }
    };
}
pub(crate) use mirror_struct;

/// Writes a wire enum that mirrors a core enum of unit and struct variants; unknown fields are refused.
macro_rules! mirror_enum {
    ($(#[$meta:meta])* $name:ident = $core:ty {
        $($(#[$vmeta:meta])* $variant:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty),* $(,)? }),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        pub enum $name { $($(#[$vmeta])* $variant { $($(#[$fmeta])* $field: $type),* }),* }
        impl $crate::mirror::Mirror for $name {
            type Core = $core;
            fn of(core: &$core) -> Self {
                type Core = $core;
                match core {
                    $(Core::$variant { $($field),* } => {
                        Self::$variant { $($field: $crate::mirror::Mirror::of($field)),* }
                    }),*
                }
            }
            fn into_core(self) -> $core {
                type Core = $core;
                match self {
                    $(Self::$variant { $($field),* } => Core::$variant { $($field: $field.into_core()),* }),*
                }
            }
        }
    };
}
pub(crate) use mirror_enum;
