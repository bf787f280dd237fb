//! The way of a signal in: who proves it, how it is read, how many are taken, and the door it comes by.

pub(crate) mod compare;
pub(crate) mod heard;
pub(crate) mod later;
pub(crate) mod limit;
pub(crate) mod proof;
pub(crate) mod reading;
pub(crate) mod refusals;
pub(crate) mod server;
