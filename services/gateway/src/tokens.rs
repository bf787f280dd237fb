//! Tokens as a gateway serves them: making their text, and counting their uses.
//!
//! Text form: `kw1_` and base64url of thirty-two random bytes. Invariants: the text is kept nowhere, only its SHA-256.
//! Uses are taken out of a limit in the log before they are made: one by one where few are left, some at once where
//! many are, so that a token that is used often does not cost an append each time. A gateway that dies loses what it
//! took and did not use, [`MAX_TAKEN`] at most; nobody ever has more uses than the limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_core::audit::{Principal, Role};
use keywheel_core::command::Command;
use keywheel_core::id::{CommandId, TokenId};
use keywheel_core::token::{Request, Token, TokenHash};
use keywheel_engine::command_bus::Submission;
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::Verdict;
use keywheel_seal::{Entropy, OsEntropy, SecretBytes, digest};

use crate::http::Api;

/// What every token begins with.
pub const PREFIX: &str = "kw1_";
/// Bytes of a token that are random.
pub const TOKEN_BYTES: usize = 32;
/// Characters of a token, with its beginning.
pub const TOKEN_CHARS: usize = PREFIX.len() + 43;
/// Most uses that are taken at once.
pub const MAX_TAKEN: u64 = 64;
/// This part of what is left is taken at once; below it they are taken one by one.
const SHARE: u64 = 16;
/// Tokens whose taken uses are remembered before those that are gone are forgotten.
const MAX_REMEMBERED: usize = 1024;

/// Uses that were taken and not made.
type Spare = Arc<tokio::sync::Mutex<u64>>;

/// Makes tokens and counts their uses.
pub struct Tokens {
    entropy: Arc<dyn Entropy>,
    spare: Mutex<HashMap<TokenId, Spare>>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self::new(Arc::new(OsEntropy))
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens of this randomness.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            entropy,
            spare: Mutex::default(),
        }
    }

    /// A new token's text.
    pub(crate) fn make(&self) -> SecretBytes {
        let mut random = vec![0; TOKEN_BYTES];
        self.entropy.fill(&mut random);
        let random = SecretBytes::from(random);
        // EXPOSE: the text is what carries it to whoever asked for it.
        let encoded = SecretBytes::from(URL_SAFE_NO_PAD.encode(random.expose()).into_bytes());
        let mut text = Vec::with_capacity(TOKEN_CHARS);
        text.extend_from_slice(PREFIX.as_bytes());
        // EXPOSE: the same, behind its beginning.
        text.extend_from_slice(encoded.expose());
        SecretBytes::from(text)
    }

    /// Takes one use of a token for a request; whether it has one.
    ///
    /// # Errors
    /// When the log could not be reached.
    pub(crate) async fn take_use(&self, api: &Api, token: &Token) -> Result<bool, PortError> {
        if token.limit.is_none() {
            return Ok(true);
        }
        let spare = self.spare_of(api, token.id);
        let mut spare = spare.lock().await;
        if *spare > 0 {
            *spare -= 1;
            return Ok(true);
        }
        let left = {
            let committed = api.view.read();
            let known = committed.world.tokens.by_id(token.id);
            known.and_then(Token::left).unwrap_or(0)
        };
        if left == 0 {
            return Ok(false);
        }
        let uses = taken_at_once(left);
        if take(api, token.id, uses).await? {
            *spare = uses - 1;
            return Ok(true);
        }
        // Another gateway was first, and fewer are left.
        Ok(uses > 1 && take(api, token.id, 1).await?)
    }

    fn spare_of(&self, api: &Api, id: TokenId) -> Spare {
        let mut all = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_REMEMBERED && !all.contains_key(&id) {
            let committed = api.view.read();
            all.retain(|known, _| committed.world.tokens.by_id(*known).is_some());
        }
        all.entry(id).or_default().clone()
    }
}

/// SHA-256 of a token's text, if it has the form of one.
pub(crate) fn hash_of(text: &[u8]) -> Option<TokenHash> {
    let random = text.strip_prefix(PREFIX.as_bytes())?;
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_token = text.len() == TOKEN_CHARS && random.iter().all(is_letter);
    is_token.then(|| digest::sha256(text))
}

/// How many uses are taken at once where so many are left.
fn taken_at_once(left: u64) -> u64 {
    (left / SHARE).clamp(1, MAX_TAKEN)
}

async fn take(api: &Api, token: TokenId, uses: u64) -> Result<bool, PortError> {
    let submission = Submission {
        id: CommandId::from_bytes(api.ids.draw()),
        principal: Principal::Service(Role::Gateway),
        traceparent: None,
        command: Command::Token(Request::Take { token, uses }),
    };
    let verdict = api.commands.submit(submission).await?;
    Ok(matches!(verdict, Verdict::Accepted { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_form_and_no_two_are_alike() {
        let tokens = Tokens::default();
        let (one, other) = (tokens.make(), tokens.make());
        // EXPOSE: tests look at its form.
        let text = one.expose();
        assert_eq!(text.len(), TOKEN_CHARS);
        assert!(text.starts_with(PREFIX.as_bytes()));
        // EXPOSE: as above.
        assert_ne!(hash_of(text), hash_of(other.expose()));
        assert_eq!(hash_of(text), Some(digest::sha256(text)));
    }

    #[test]
    fn what_has_another_form_is_no_token() {
        let good = format!("{PREFIX}{}", "a".repeat(43));
        assert!(hash_of(good.as_bytes()).is_some());
        for bad in [
            String::new(),
            PREFIX.to_owned(),
            format!("{good}a"),
            good[..TOKEN_CHARS - 1].to_owned(),
            good.replace("kw1_", "kw2_"),
            good.replace("kw1_", "KW1_"),
            format!("{}=", &good[..TOKEN_CHARS - 1]),
            format!("{} ", &good[..TOKEN_CHARS - 1]),
            format!(" {}", &good[..TOKEN_CHARS - 1]),
        ] {
            assert_eq!(hash_of(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn few_uses_are_taken_one_by_one_and_many_some_at_once() {
        for (left, taken) in [
            (1, 1),
            (31, 1),
            (32, 2),
            (1000, 62),
            (1024, 64),
            (1_000_000, MAX_TAKEN),
        ] {
            assert_eq!(taken_at_once(left), taken, "{left}");
        }
    }
}
