//! Suite hostile_containers: see README.md beside this file.
#![forbid(unsafe_code)]

mod attacks;
mod kinds;
mod lives;
mod mounts;
mod remapped;
mod scene;
