//! Units, Compose file and images of `deploy/`.

#![expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]

mod booted;
mod compose;
mod machine;
mod rules;
mod stage;
mod units;
