//! How revocations stand in the audit: who asked for one, in an emergency or not, and what workers said of it.

use keywheel_core::command::Command;
use keywheel_core::id::RevocationId;
use keywheel_core::world::World;

use super::Described;

/// Verb, object and version of a command about a revocation; `None` where it is about none.
pub(super) fn described(world: &World, command: &Command) -> Option<Described> {
    Some(match command {
        Command::Revoke {
            secret,
            version,
            is_emergency,
            ..
        } => (
            revoke_verb(*is_emergency),
            format!("secret/{secret}"),
            *version,
        ),
        Command::Replace(wish) => {
            let object = format!("secret/{}", wish.secret);
            (replace_verb(wish.is_emergency), object, wish.version)
        }
        Command::RevokeOutcome { revocation, .. } => {
            ("revoke-at-store", revoked(world, revocation), None)
        }
        Command::RetryRevoke { revocation } => ("retry-revoke", revoked(world, revocation), None),
        Command::ProofOutcome(taken) => ("prove-dead", revoked(world, &taken.revocation), None),
        Command::ForgetRevocation { revocation, .. } => {
            ("forget-revocation", revoked(world, revocation), None)
        }
        Command::BuryLost(lost) => {
            let object = format!("secret/{}", lost.secret);
            ("bury-lost-versions", object, Some(lost.up_to))
        }
        _ => return None,
    })
}

const fn revoke_verb(is_emergency: bool) -> &'static str {
    match is_emergency {
        true => "revoke-in-emergency",
        false => "revoke",
    }
}

const fn replace_verb(is_emergency: bool) -> &'static str {
    match is_emergency {
        true => "revoke-and-replace-in-emergency",
        false => "revoke-and-replace",
    }
}

/// The secret of a revocation.
fn revoked(world: &World, id: &RevocationId) -> String {
    let known = world.revocations.get(id);
    let secret = known.and_then(|known| world.secrets.get(&known.secret));
    secret.map_or_else(
        || format!("revocation/{id}"),
        |secret| format!("secret/{}", secret.name),
    )
}
