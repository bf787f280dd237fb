//! Suite privileged_parts: see README.md beside this file.
#![forbid(unsafe_code)]

mod binaries;
mod capabilities;
mod default_runtime;
mod lacking;
mod wrapper;
