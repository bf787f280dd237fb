//! Suite bad_input: see README.md beside this file.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]

mod broken_disk;
mod few_sinks;
mod files;
mod full_disk;
mod machine;
mod manifests;
mod refusal;
mod sealed;
mod shares;
mod starting;
mod strangers;
mod tokens;
mod verbs;
