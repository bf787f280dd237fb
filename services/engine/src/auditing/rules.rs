//! By which rule somebody came in, where no policies were applied that would say why they may; and that nobody's own
//! words pass for policies there.

use keywheel_core::audit::{Category, Principal, Record};
use keywheel_core::command::Command;

/// The rule of who came by the socket, where no policies were applied.
const BY_SOCKET: &str = "local-socket";
/// The rule of who came with a certificate, where no policies were applied.
const BY_CERTIFICATE: &str = "client-certificate";
/// The rule of who came with a token, where no policies were applied.
const BY_TOKEN: &str = "token";
/// The rule of who logged in at the provider of identities, where no policies were applied.
const BY_LOGIN: &str = "oidc";

/// How a set of policies is named, in lower case.
const SET: &str = "policies version";

/// The rule.
pub(super) fn of(principal: &Principal, command: &Command) -> &'static str {
    match principal {
        Principal::User { .. } => BY_SOCKET,
        Principal::Operator { .. } => BY_CERTIFICATE,
        Principal::Token { .. } => BY_TOKEN,
        Principal::Login { .. } => BY_LOGIN,
        Principal::Stranger { .. } if matches!(command, Command::Outward(_)) => "signature",
        Principal::Stranger { .. } => "join-token",
        Principal::Service(_) => "role-table",
    }
}

/// Whether a reason is such a rule of a person, or of a program of theirs, and nothing else.
pub(super) fn is_of_people(reason: &str) -> bool {
    [BY_SOCKET, BY_CERTIFICATE, BY_TOKEN, BY_LOGIN].contains(&reason)
}

/// Has words of people's own in records that name no policies not pass for such.
pub fn note_own_words(records: &mut [Record]) {
    let own = records.iter_mut();
    for record in own.filter(|record| record.category == Category::Administration) {
        record.reason = as_own_words(&record.reason);
    }
}

/// Somebody's own words for a record that names no policies; such as would pass for a set of them say whose they are.
#[must_use]
pub fn as_own_words(words: &str) -> String {
    match words.to_lowercase().contains(SET) {
        true => format!("{words} (in their own words)"),
        false => words.to_owned(),
    }
}
