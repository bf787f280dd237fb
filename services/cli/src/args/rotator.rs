//! `rotator …` as clap reads it.

use clap::Subcommand;

/// `rotator …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RotatorVerb {
    /// Print the least rights that a rotator's admin needs at its server, as statements for a person; or of a
    /// secret in a store outside, a static role's or a role's that gives logins, too, as the store's policy.
    #[command(
        after_help = "Example:\n  keywheel rotator grants shop/db > grants.sql && psql -f grants.sql shop\n\nThe rotator is that of a secret with `rotator` in its manifest. Nobody is asked but the gateway: run\nthe statements at the server yourself, then put the admin's password with `keywheel secret put`."
    )]
    Grants {
        /// The secret.
        name: String,
    },
}
