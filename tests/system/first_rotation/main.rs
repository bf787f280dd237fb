//! Suite first_rotation: see README.md beside this file.
#![forbid(unsafe_code)]

mod comeback;
mod commands;
mod copies;
mod disaster;
mod env;
mod execs;
mod files;
mod health;
mod on_event;
mod page;
mod records;
mod refusals;
mod revoke;
mod said;
mod sets;
mod several;
mod signals;
mod step_in;
mod storm;
mod stream;
mod surface;
mod templates;
mod uses;
mod verbs;
