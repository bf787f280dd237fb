//! Typed identifiers: sixteen bytes each, shown as a uuid.
//!
//! One type per entity, so that a rotation's id cannot stand where a secret's belongs. Drawing them
//! is the shell's work (`Context` carries pre-drawn ones); this file only holds, prints and parses.

use std::fmt;

/// Text that is not a uuid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected a uuid of 32 hexadecimal digits")]
pub struct ParseIdError(pub String);

fn parse(text: &str) -> Result<[u8; 16], ParseIdError> {
    let bad = || ParseIdError(text.chars().take(64).collect());
    let mut bytes = [0_u8; 16];
    let mut digits = text.bytes().filter(|b| *b != b'-');
    for byte in &mut bytes {
        let high = digits.next().and_then(|d| char::from(d).to_digit(16));
        let low = digits.next().and_then(|d| char::from(d).to_digit(16));
        let (Some(high), Some(low)) = (high, low) else {
            return Err(bad());
        };
        *byte = u8::try_from(high * 16 + low).map_err(|_| bad())?;
    }
    if digits.next().is_some() {
        Err(bad())
    } else {
        Ok(bytes)
    }
}

fn write(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Takes the sixteen bytes of an id drawn by the shell or read back.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self { Self(bytes) }
            /// The sixteen bytes.
            #[must_use]
            pub const fn bytes(&self) -> &[u8; 16] { &self.0 }
            /// Parses the uuid form, with or without hyphens.
            ///
            /// # Errors
            /// When the text is not 32 hexadecimal digits.
            pub fn parse(text: &str) -> Result<Self, ParseIdError> { parse(text).map(Self) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write(&self.0, f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                write(&self.0, f)?;
                f.write_str(")")
            }
        }
    };
}

id_type!(/// A secret, independent of its name.
    SecretId);
id_type!(/// A declared store outside, independent of its name.
    StoreId);
id_type!(/// A binding of a secret to containers.
    BindingId);
id_type!(/// A host with an injector.
    HostId);
id_type!(/// A join token: the half of it that may be named.
    JoinTokenId);
id_type!(/// One run that replaces a secret's current version; also the rotation's token.
    RotationId);
id_type!(/// Drawn by whoever provides a value; its rotation's id is derived from it, never taken from them.
    PutToken);
id_type!(/// One run that makes versions unusable.
    RevocationId);
id_type!(/// Grant of one version to one host.
    DeliveryId);
id_type!(/// A command, chosen by its sender; a repeat gets the first answer.
    CommandId);
id_type!(/// An event in the journal.
    EventId);
id_type!(/// One making of a subscription: another one when it is made again under its name.
    SubscriptionId);
id_type!(/// One fire of a schedule: derived from secret and scheduled instant.
    SlotId);
id_type!(/// A declared playbook, independent of its name.
    PlaybookId);
id_type!(/// One run of a playbook.
    RunId);
id_type!(/// This installation; bound into everything sealed.
    DeploymentId);
id_type!(/// A declared notification, independent of its name.
    NotificationId);
id_type!(/// What could not be delivered to somebody outside, or not be read of what came.
    LetterId);
id_type!(/// A declared source of signals, independent of its name.
    SignalSourceId);
id_type!(/// The policies of this installation.
    PolicySetId);
id_type!(/// A token of a person's, independent of its name.
    TokenId);
id_type!(/// A request that takes several people.
    ApprovalId);

/// Full id of a container as its engine prints it: 64 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ContainerId(String);

/// Text that is not a full container id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a full container id: expected 64 hexadecimal digits")]
pub struct ParseContainerIdError(pub String);

impl ContainerId {
    /// Parses a full id; short forms are refused, because they can become ambiguous.
    ///
    /// # Errors
    /// When it is not 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, ParseContainerIdError> {
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(digits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseContainerIdError(text.chars().take(80).collect()))
        }
    }
    /// The one that is before all others in their order.
    pub(crate) fn first() -> Self {
        Self("0".repeat(64))
    }
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The first twelve digits, as people know it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_a_uuid_and_reads_back() {
        let id = SecretId::from_bytes([0x1f; 16]);
        assert_eq!(id.to_string(), "1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f");
        assert_eq!(SecretId::parse(&id.to_string()), Ok(id));
    }

    #[test]
    fn text_that_is_too_short_too_long_or_not_hexadecimal_is_refused() {
        for text in [
            "",
            "1f",
            "zz1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f",
            "1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f00",
        ] {
            assert!(SecretId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_full_container_ids_are_taken() {
        assert!(ContainerId::parse(&"a".repeat(64)).is_ok());
        for text in [
            "a".repeat(12),
            "A".repeat(64),
            "g".repeat(64),
            String::new(),
        ] {
            assert!(ContainerId::parse(&text).is_err(), "{text}");
        }
    }
}
