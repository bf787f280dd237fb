//! `rotator …`: what the admin of a rotator needs at its server, or Keywheel at the store that makes the values.

use keywheel_core::secret::LOCAL_STORE;
use keywheel_engine::port::PortError;
use keywheel_schemas::mirror::Mirror as _;
use serde::Serialize;

use super::Desk;
use super::look::secret_named;
use super::store::policy_of;
use crate::args::RotatorVerb;
use crate::exit::{Exit, Failure};

pub(super) async fn run(desk: &Desk, verb: &RotatorVerb) -> Result<(), Failure> {
    match verb {
        RotatorVerb::Grants { name } => grants(desk, name).await,
    }
}

/// `rotator grants` for programs.
#[derive(Debug, Serialize)]
struct GrantsAnswer {
    /// The secret.
    secret: String,
    /// The statements.
    grants: String,
}

/// Made here, from what was declared: nobody is asked for it but the gateway.
async fn grants(desk: &Desk, name: &str) -> Result<(), Failure> {
    let secret = secret_named(desk, name).await?;
    let refused = |error: PortError| {
        let next = "correct `rotator` in its manifest, then apply it";
        Failure::new(Exit::Usage, error.text, next)
    };
    let grants = match (secret.rotator, secret.store.as_str()) {
        (Some(resource), _) => keywheel_rotators::grants(&resource.into_core()).map_err(refused)?,
        (None, LOCAL_STORE) => {
            return Err(Failure::new(
                Exit::Usage,
                format!(
                    "secret {name} has no rotator and lies in no store outside: its values open no account"
                ),
                "name a secret whose manifest has `rotator`, or that lies in a store outside",
            ));
        }
        (None, store) => policy_of(desk, store, &secret.name).await?,
    };
    let answer = GrantsAnswer {
        secret: secret.name,
        grants,
    };
    desk.screen.show(&answer, |answer| answer.grants.clone())
}
