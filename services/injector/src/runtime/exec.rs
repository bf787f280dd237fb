//! The question of an exec: variables for a container's own health check, and for nothing else.
//!
//! Invariants: it is the health check only by the engine's record of the container, never by what the
//! process file says; it gets what its container was started with, while that may be used; values are
//! open only while the answer is built. There is no "no": whatever is not known here runs with its
//! placeholders, as every other exec does. What an exec runs is compared and forgotten.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::id::ContainerId;
use keywheel_core::name::{EnvName, SecretName};
use keywheel_seal::SecretBytes;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use crate::runtime::answer::substitute;
use crate::runtime::resolve::{Entry, Piece, parse_entry};
use crate::runtime::wire::{Question, Resolved, resolved_line};
use crate::service::Event;
use crate::shared::{Intent, Sealed, Shared, VersionKey};

/// How long a busy reconciler is waited for: an exec is not to hang because of us.
const HELD_TIMEOUT: Duration = Duration::from_millis(500);
/// The answer without variables.
pub(crate) const PLACEHOLDERS: &[u8] = b"{\"ok\":true}\n";

/// A variable that a running container was started with.
#[derive(Debug)]
pub(crate) struct HeldVariable {
    pub(crate) name: EnvName,
    pub(crate) secret: SecretName,
    pub(crate) key: VersionKey,
    pub(crate) sealed: Arc<Sealed>,
}

/// Those that a health check may have; says that they are handled until dropped.
pub(crate) struct HeldVariables {
    pub(crate) variables: Vec<HeldVariable>,
    pub(crate) intent: Option<Intent>,
}

/// An opened variable.
struct Opened<'a> {
    held: &'a HeldVariable,
    value: SecretBytes,
}

/// The line for the runtime: variables, or none.
pub(crate) async fn answer(
    shared: &Shared,
    question: &Question,
    events: &mpsc::Sender<Event>,
) -> Zeroizing<Vec<u8>> {
    let resolved = resolve(shared, question, events).await;
    let line = resolved.and_then(|resolved| resolved_line(&resolved));
    line.unwrap_or_else(|| Zeroizing::new(PLACEHOLDERS.to_vec()))
}

async fn resolve(
    shared: &Shared,
    question: &Question,
    events: &mpsc::Sender<Event>,
) -> Option<Resolved> {
    let id = ContainerId::parse(&question.id).ok()?;
    let entries = question.env.iter().map(|text| parse_entry(text));
    let entries = entries.collect::<Option<Vec<Entry>>>()?;
    let (tell, held) = oneshot::channel();
    let event = Event::Exec {
        id,
        args: question.args.clone(),
        held: tell,
    };
    let asked = async {
        events.send(event).await.ok()?;
        held.await.ok()
    };
    let held = tokio::time::timeout(HELD_TIMEOUT, asked).await.ok()??;
    let HeldVariables {
        variables,
        intent: _handled,
    } = held;
    let mut resolved = Resolved::default();
    for entry in &entries {
        let value = value_of(shared, entry, &variables)?;
        resolved.env.insert(entry.name.clone(), value);
    }
    Some(resolved)
}

/// A variable's full value; `None` when its container does not hold all of it.
fn value_of(shared: &Shared, entry: &Entry, held: &[HeldVariable]) -> Option<Zeroizing<Vec<u8>>> {
    let mut opened = Vec::new();
    for piece in &entry.pieces {
        if let Piece::Secret(name) = piece {
            let held = find(held, entry, name)?;
            let value = shared.open(held.key, &held.sealed).ok()?;
            opened.push(Opened { held, value });
        }
    }
    let value = substitute(entry, |name| {
        let mut all = opened.iter();
        let one = all.find(|one| one.held.secret.as_str() == name)?;
        Some(&one.value)
    });
    value.ok()
}

fn find<'a>(held: &'a [HeldVariable], entry: &Entry, secret: &str) -> Option<&'a HeldVariable> {
    held.iter()
        .find(|one| one.name.as_str() == entry.name && one.secret.as_str() == secret)
}

#[cfg(test)]
mod tests {
    use keywheel_core::id::SecretId;

    use super::*;

    fn held(variable: &str, secret: &str, number: u8) -> HeldVariable {
        HeldVariable {
            name: EnvName::parse(variable).unwrap(),
            secret: SecretName::parse(secret).unwrap(),
            key: (SecretId::from_bytes([number; 16]), 1),
            sealed: Arc::new(Sealed::Kept(Vec::new())),
        }
    }

    #[test]
    fn a_variable_is_found_by_its_name_and_the_secret_it_was_started_with() {
        let all = [
            held("DB", "prod/db", 1),
            held("DB", "prod/user", 2),
            held("OTHER", "prod/db", 3),
        ];
        let key = |text: &str, secret: &str| {
            let entry = parse_entry(text).unwrap();
            find(&all, &entry, secret).map(|one| one.key.0.bytes()[0])
        };
        assert_eq!(key("DB={keywheel:prod/db}", "prod/db"), Some(1));
        assert_eq!(key("DB={keywheel:prod/user}", "prod/user"), Some(2));
        assert_eq!(key("OTHER={keywheel:prod/db}", "prod/db"), Some(3));
        assert_eq!(key("OTHER={keywheel:prod/user}", "prod/user"), None);
        assert_eq!(key("NEW={keywheel:prod/db}", "prod/db"), None);
    }
}
