//! Suite migrate: see README.md beside this file.
#![forbid(unsafe_code)]

mod back;
mod compose;
mod equal;
mod refusals;
mod scene;
