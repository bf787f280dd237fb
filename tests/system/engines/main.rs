//! Suite engines: see README.md beside this file.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]

mod containerd;
mod crun;
mod docker;
mod journal;
mod machine;
mod podman;
mod scene;
