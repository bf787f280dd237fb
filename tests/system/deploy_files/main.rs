//! Units, Compose file and images of `deploy/`.

#![expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]

mod compose;
mod rules;
mod units;
