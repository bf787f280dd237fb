//! An operator's credentials, and the TLS with them: only a gateway of the same deployment counts.

use std::path::Path;
use std::sync::Arc;

use keywheel_core::audit::Role;
use keywheel_daemon::{SystemClock, chain};
use keywheel_engine::port::clock::Clock;
use keywheel_identity::bundle::Bundle;
use keywheel_identity::name::PeerName;
use keywheel_identity::tls::{Admit, PeerKind, TlsError, TlsIdentity};
use keywheel_schemas::mirror::TextForm as _;
use tokio_rustls::rustls::ClientConfig;

use crate::exit::{Exit, Failure};

/// Reads the credentials and sets TLS up.
pub(super) fn config(directory: Option<&Path>) -> Result<Arc<ClientConfig>, Failure> {
    let directory = directory.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            "a gateway at https://… lets only operators in, and no credentials are named",
            "name their directory with --identity or KEYWHEEL_IDENTITY_DIR; `keywheel init` made it as operators/NAME",
        )
    })?;
    let next = "name an operator's directory with --identity; an administrator can issue a new one";
    let bundle = Bundle::read(directory)
        .map_err(|error| Failure::new(Exit::NoInput, chain(&error), next))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let identity = take_up(&bundle, &clock).map_err(|error| {
        let what = format!("{}: {}", directory.display(), chain(&error));
        Failure::new(Exit::Config, what, next)
    })?;
    let refused = |why: String| {
        let what = format!("{}: {why}", directory.display());
        Failure::new(Exit::Config, what, next)
    };
    if !matches!(identity.name(), PeerName::Operator(_)) {
        let name = identity.name();
        return Err(refused(format!(
            "these are credentials of {name}, not of an operator"
        )));
    }
    let ((begin, end), now) = (identity.life(), clock.now());
    if now < begin {
        return Err(refused(
            "the certificate is not valid yet by this machine's clock".to_owned(),
        ));
    }
    if now >= end {
        return Err(refused(format!(
            "the certificate expired at {}",
            end.text()
        )));
    }
    let gateways = Admit::only([PeerKind::Service(Role::Gateway)]);
    let config = identity
        .client_config(gateways)
        .map_err(|error| refused(chain(&error)))?;
    Ok(Arc::new(config))
}

fn take_up(bundle: &Bundle, clock: &Arc<dyn Clock>) -> Result<Arc<TlsIdentity>, TlsError> {
    let deployment = bundle.tls.deployment()?;
    let credentials = bundle.tls.credentials(deployment)?;
    Ok(TlsIdentity::new(deployment, credentials, Arc::clone(clock)))
}

#[cfg(test)]
mod tests;
