//! The examples of the policies.

use keywheel_core::id::PolicySetId;
use keywheel_core::policy::{Event, Group, Policies};

use super::id;

pub(super) const SET: PolicySetId = PolicySetId::from_bytes(id(0x0e));

pub(super) fn of_policies() -> Vec<Event> {
    let text = "@id(\"payments\")\npermit (principal in Group::\"payments\", action, resource in Path::\"prod/payments\");\n";
    let group = Group {
        name: "payments".to_owned(),
        members: vec!["certificate:ada".to_owned(), "unix:1001".to_owned()],
    };
    vec![Event::Applied {
        version: 1,
        policies: Policies {
            text: text.to_owned(),
            groups: vec![group],
        },
        by: "unix:0".to_owned(),
    }]
}
