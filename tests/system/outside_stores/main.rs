//! Suite outside_stores: see README.md beside this file.
#![forbid(unsafe_code)]

mod aws;
mod crash;
mod database;
mod follow;
mod import;
mod leak;
mod leases;
mod lifetimes;
mod logins;
mod midway;
mod outage;
mod refused;
mod role;
mod scene;
mod storm;
mod webhook;
mod write;
