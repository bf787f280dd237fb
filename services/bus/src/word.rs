//! Roles, addresses and topics as words on the wire.

use keywheel_core::audit::Role;
use keywheel_engine::port::bus::{Address, Topic};
pub(crate) use keywheel_schemas::subject::role_word as of_role;

/// The role of a word.
pub(crate) fn to_role(word: &str) -> Option<Role> {
    keywheel_engine::authority::ROLES
        .into_iter()
        .find(|role| of_role(*role) == word)
}

/// An address' word.
pub(crate) const fn of_address(address: Address) -> &'static str {
    match address {
        Address::Gateway => "gateway",
        Address::StoreSync => "store-sync",
    }
}

/// A topic's word; a host by its id, never a name.
pub(crate) fn of_topic(topic: &Topic) -> String {
    match topic {
        Topic::Events => "topic/events".to_owned(),
        Topic::Audit => "topic/audit".to_owned(),
        Topic::Work(role) => format!("topic/work/{}", of_role(*role)),
        Topic::Plan(host) => format!("topic/plan/{host}"),
        Topic::Hosts => "topic/hosts".to_owned(),
        Topic::Presence => "topic/presence".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_a_word_of_its_own() {
        for role in keywheel_engine::authority::ROLES {
            assert_eq!(to_role(of_role(role)), Some(role));
        }
        assert_eq!(to_role("root"), None);
    }
}
