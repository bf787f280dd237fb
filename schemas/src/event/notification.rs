//! Events of a notification, and the shapes of what a person declared about it. Keys are named here by the
//! file they are read from, never by what they are.

use keywheel_core::name::NotificationName;
use keywheel_core::notification;

use crate::mirror::{Text, mirror_enum, mirror_struct};

mirror_enum! {
    /// Who is told.
    Receiver = notification::Receiver {
        /// An HTTP endpoint that checks signatures as Standard Webhooks has them.
        Webhook {
            /// `https://host/path`.
            url: String,
            /// File with the key that signs, on the gateway's machine.
            key_file: String,
            /// PEM file with the authorities of its certificate; empty for the system's.
            ca_file: String,
        },
        /// A channel of Slack, or of what takes the same messages.
        Slack {
            /// File with the URL, which is a credential itself.
            url_file: String,
            /// PEM file with the authorities of its certificate; empty for the system's.
            ca_file: String,
        },
        /// A subject of a NATS server.
        Nats {
            /// `tls://host:port`.
            url: String,
            /// The subject.
            subject: String,
            /// File with the credentials, as NATS writes them; empty for none.
            credentials_file: String,
            /// PEM file with the authorities of its certificate; empty for the system's.
            ca_file: String,
        },
        /// A mailbox, by a mail server that takes what is sent there.
        Email {
            /// `smtps://host:port`.
            url: String,
            /// Address of the sender.
            from: String,
            /// Address that is told.
            to: String,
            /// File with login and password, a line each; empty for none.
            credentials_file: String,
            /// PEM file with the authorities of its certificate; empty for the system's.
            ca_file: String,
        },
    }
}

mirror_struct! {
    /// A notification as it was declared.
    NotificationSpec = notification::Spec {
        /// Who is told.
        receiver: Receiver,
        /// What has to hold for an event, in CEL over `event`; empty for every one.
        when: String,
    }
}

mirror_enum! {
    /// What happened to a notification.
    NotificationEvent = notification::Event {
        /// From the next event on its receiver is told.
        Declared {
            /// Its name, for ever.
            name: Text<NotificationName>,
            /// What was declared.
            spec: NotificationSpec,
        },
        /// A later manifest says something else.
        Changed {
            /// The new declaration, whole.
            spec: NotificationSpec,
        },
        /// Nobody is told any more.
        Removed {},
    }
}
