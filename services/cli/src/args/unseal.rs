//! `unseal` as clap reads it. Invariant: of what is typed behind it nothing is kept and nothing is shown, for it may be
//! a share.

use std::convert::Infallible;

use clap::Args;

/// `unseal`.
#[derive(Debug, Args)]
pub(crate) struct UnsealArgs {
    /// Words behind the verb: there are none to give, and clap by itself would show them.
    #[arg(hide = true, value_parser = withhold)]
    words: Vec<Withheld>,
}

impl UnsealArgs {
    /// Whether something was typed that belongs to the prompt.
    pub(crate) fn is_typed(&self) -> bool {
        !self.words.is_empty()
    }
}

/// A word of which nothing is kept.
#[derive(Debug, Clone, Copy)]
struct Withheld;

/// It cannot fail: what fails is shown.
fn withhold(_: &str) -> Result<Withheld, Infallible> {
    Ok(Withheld)
}
