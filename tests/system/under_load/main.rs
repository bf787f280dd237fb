//! Suite under_load: see README.md beside this file.
#![forbid(unsafe_code)]

mod app;
mod balancer;
mod leak;
mod order;
mod pools;
mod service;
mod unreloaded;

use keywheel_tests::database;
