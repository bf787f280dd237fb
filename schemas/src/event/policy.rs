//! Events of the policies, and the shapes of a set.

use keywheel_core::policy;

use crate::mirror::{mirror_enum, mirror_struct};

mirror_struct! {
    /// Who is in a group.
    PolicyGroup = policy::Group {
        /// Its name.
        name: String,
        /// Its members, as the audit names them.
        members: Vec<String>,
    }
}

mirror_struct! {
    /// A set of policies.
    PolicySet = policy::Policies {
        /// Policies, in Cedar.
        text: String,
        /// Groups, by name.
        groups: Vec<PolicyGroup>,
    }
}

mirror_enum! {
    /// What happened to the policies.
    PolicyEvent = policy::Event {
        /// A set is in force from here on, and the one before it no more.
        Applied {
            /// Counted from 1.
            version: u64,
            /// The set, whole.
            policies: PolicySet,
            /// Who applied it.
            by: String,
        },
    }
}
