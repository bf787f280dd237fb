//! What `keywheel-runtime` asks: at a container's create, before its first instruction.

pub(crate) mod answer;
pub(crate) mod exec;
mod place;
pub(crate) mod resolve;
pub(crate) mod server;
mod watch;
pub(crate) mod wire;
mod wrapper;
