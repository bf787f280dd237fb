//! `login` and `logout` as clap reads them.

use clap::Args;

/// `login`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keywheel login                                      opens a browser on this machine\n  keywheel login --no-browser                         prints the address for a browser on this machine\n  keywheel login --device                             prints a code for a browser anywhere\n  keywheel --address https://gw.example:8443 --gateway-ca-file ca.pem login\n\nFrom then on verbs at this address are asked in the name you logged in by, until `keywheel logout`. The login\nis kept in a file of your own (KEYWHEEL_LOGIN_DIR, else .keywheel in your home directory), is renewed as long as\nthe provider confirms who you are, and ends soon after it does not. With --identity or --bearer-token-file\nthose count instead."
)]
pub(crate) struct LoginArgs {
    /// Type a code into a browser anywhere, for a machine without one.
    #[arg(long, conflicts_with = "no_browser")]
    pub(crate) device: bool,
    /// Print the address instead of opening a browser.
    #[arg(long)]
    pub(crate) no_browser: bool,
}
