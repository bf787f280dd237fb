//! What one end of the bus may do at all, whatever the transport.

use keywheel_engine::authority;
use keywheel_engine::port::bus::{Address, Topic};
use keywheel_engine::port::{ErrorKind, PortError};

use crate::trust::Identity;
use crate::word;

/// Whoever may not read a topic learns it here, with words.
pub(crate) fn check_reader(reader: &Identity, topic: &Topic) -> Result<(), PortError> {
    if authority::may_read(reader.role(), reader.host(), topic) {
        return Ok(());
    }
    let (role, topic) = (word::of_role(reader.role()), word::of_topic(topic));
    let text = format!("{role} may not read {topic}");
    Err(PortError::new(ErrorKind::Denied, text))
}

/// Whoever may not serve an address likewise.
pub(crate) fn check_server(server: &Identity, at: Address) -> Result<(), PortError> {
    if authority::server_of(at) == server.role() {
        return Ok(());
    }
    let role = word::of_role(server.role());
    let text = format!("{role} may not serve requests to {}", word::of_address(at));
    Err(PortError::new(ErrorKind::Denied, text))
}
