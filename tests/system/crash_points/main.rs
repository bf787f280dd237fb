//! Suite crash_points: see README.md beside this file.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]

mod creates;
mod revokes;
mod rotations;
mod walk;
