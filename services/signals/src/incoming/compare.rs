//! Which secret a reported token is: store-sync compares it with what it holds.
//!
//! Invariants: the token leaves this process never, only its digest under a key that is made for one comparison and
//! goes with it, sealed to store-sync's; neither is in the log, in a letter or in a text; a store-sync that is away, or
//! slow, costs a signal [`COMPARE_TIMEOUT`] and no more, and the signal says then that it was not compared, which a letter
//! says, too: not every sender sends again, and a signal that is not on record is worse than one without a name. The
//! sender is told nothing of what was found.

use std::time::Duration;

use keywheel_core::id::{SecretId, SignalSourceId};
use keywheel_core::signal::{MAX_SIGNAL_MATCHES, Match, Signal, Source};
use keywheel_engine::comparison;
use keywheel_engine::port::bus::{
    Address, Body, Comparison, Held, MAX_COMPARED_AT_ONCE, MAX_COMPARED_TOKENS,
};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::hpke::{self, PublicKey};
use keywheel_seal::{SecretBytes, digest};
use zeroize::Zeroizing;

use super::reading::{Heard, MAX_BATCH};
use crate::desk::{Inner, command_id, letter, letter_of_signal, source_owner};

/// How long a comparison may take, whatever it is compared with.
pub const COMPARE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most versions that a token is compared with; of more it is said that not all were.
pub const MAX_COMPARED: usize = 10_000;

/// Why a person is called about a signal that was taken.
const NOT_COMPARED: &str = "it was taken, and its token not compared with every value in use, so nothing that asks which secret leaked began: ask its sender whose it is, act by hand, and throw this letter away; `keywheel status` says whether store-sync is away";

const _: () = assert!(
    MAX_BATCH <= MAX_COMPARED_TOKENS,
    "a whole batch is one comparison"
);

impl Inner {
    /// Says of each signal of a source that reports a token which versions hold it. One that the log has already is
    /// not compared again.
    pub(crate) async fn compare(&self, source: SignalSourceId, heard: Vec<Heard>) -> Vec<Signal> {
        let (mut signals, mut tokens) = (Vec::new(), Vec::new());
        for Heard { signal, token } in heard {
            if let Some(token) = token
                && !self.is_known(source, &signal).await
            {
                tokens.push((signals.len(), token));
            }
            signals.push(signal);
        }
        if tokens.is_empty() {
            return signals;
        }
        let mut found = Vec::new();
        let asking = tokio::time::timeout(COMPARE_TIMEOUT, self.ask(&tokens, &mut found));
        let is_whole = match asking.await {
            Ok(Ok(is_whole)) => is_whole,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a reported token was not compared with every value");
                false
            }
            Err(_) => {
                tracing::warn!("a reported token was not compared with every value in time");
                false
            }
        };
        for (n, (place, _)) in tokens.iter().enumerate() {
            let Some(signal) = signals.get_mut(*place) else {
                continue;
            };
            let own = matches(&found, n);
            signal.compared = Some(is_whole);
            // What was found is so, also where not everything was looked at.
            signal.matched = (is_whole || !own.is_empty()).then_some(own);
        }
        signals
    }

    /// Leaves a letter of signals whose tokens were not compared with every value, before they are taken: what asks
    /// which secret leaked does not begin by them, and their repeats are known and not compared either.
    pub(crate) async fn note_not_compared(
        &self,
        source: &Source,
        signals: &[Signal],
    ) -> Result<(), PortError> {
        let mut without = signals
            .iter()
            .filter(|signal| signal.compared == Some(false));
        let Some(first) = without.next() else {
            return Ok(());
        };
        let heading = match without.count() {
            0 => format!("signal {}", first.id),
            more => format!("signal {} and {more} more", first.id),
        };
        let of = (self.parts.clock.now(), heading, NOT_COMPARED);
        let id = letter_of_signal(source.id, first);
        self.keep(&letter(id, source_owner(&source.name), of)).await
    }

    /// Whether the log has a signal; where it cannot be asked, what takes the signal will say so.
    async fn is_known(&self, source: SignalSourceId, signal: &Signal) -> bool {
        let answered = self.parts.journal.verdict(command_id(source, signal)).await;
        answered.is_ok_and(|known| known.is_some())
    }

    /// Asks store-sync page by page; whether everything was compared.
    async fn ask(
        &self,
        tokens: &[(usize, SecretBytes)],
        found: &mut Vec<Held>,
    ) -> Result<bool, PortError> {
        let mut key = Zeroizing::new([0_u8; 32]);
        self.parts.entropy.fill(&mut *key);
        // EXPOSE: the token is digested under the key of this comparison; nothing else is made of it.
        let digest = |(_, token): &(usize, SecretBytes)| digest::keyed(&key, token.expose());
        let digests: Vec<[u8; 32]> = tokens.iter().map(digest).collect();
        let (held, is_all) = self.held();
        if held.is_empty() {
            return Ok(is_all);
        }
        let sealed_key = self.sealed(&key, &digests).await?;
        for among in held.chunks(MAX_COMPARED_AT_ONCE) {
            let asked = Body::Compare(Comparison {
                sealed_key: sealed_key.clone(),
                digests: digests.clone(),
                among: among.to_vec(),
            });
            match self.ask_store_sync(asked).await? {
                Body::Compared(some) => found.extend(some),
                _ => return Err(no_answer()),
            }
        }
        Ok(is_all)
    }

    /// A comparison's key, for store-sync alone: whoever carries it sees the digests.
    async fn sealed(&self, key: &[u8; 32], digests: &[[u8; 32]]) -> Result<Vec<u8>, PortError> {
        let Body::StoreKey(to) = self.ask_store_sync(Body::ReadStoreKey).await? else {
            return Err(no_answer());
        };
        let info = comparison::info(self.parts.deployment);
        let (aad, key) = (comparison::aad(digests), SecretBytes::from(key.to_vec()));
        let to = PublicKey::from_bytes(to);
        let sealed = hpke::seal(&to, &info, &aad, &key, &*self.parts.entropy);
        let sealed = sealed.map_err(|error| {
            let text = "the key of a comparison cannot be sealed to store-sync's";
            PortError::caused(ErrorKind::Denied, text, error)
        })?;
        Ok(sealed.to_bytes())
    }

    async fn ask_store_sync(&self, asked: Body) -> Result<Body, PortError> {
        let bus = &self.parts.bus;
        let answer = bus.request(Address::StoreSync, None, asked, COMPARE_TIMEOUT);
        match answer.await? {
            Body::Failed { kind, text } => Err(PortError::new(kind, text)),
            answer => Ok(answer),
        }
    }

    /// Versions that are in use or may be again, the current ones first; whether these are all.
    fn held(&self) -> (Vec<(SecretId, u64)>, bool) {
        let committed = self.parts.view.read();
        let secrets = committed.world.secrets.values();
        let alive = secrets.flat_map(|secret| {
            let is_current = move |version: &u64| secret.current == Some(*version);
            let alive = secret.alive().into_iter();
            alive.map(move |version| (!is_current(&version), secret.id, version))
        });
        let mut alive: Vec<(bool, SecretId, u64)> = alive.collect();
        alive.sort_unstable();
        let is_all = alive.len() <= MAX_COMPARED;
        let first = alive.into_iter().take(MAX_COMPARED);
        (
            first.map(|(_, id, version)| (id, version)).collect(),
            is_all,
        )
    }
}

fn no_answer() -> PortError {
    let text = "the answer to a comparison is none";
    PortError::new(ErrorKind::Unavailable, text)
}

/// The versions that hold one of the tokens.
fn matches(found: &[Held], n: usize) -> Vec<Match> {
    let is_own = |one: &&Held| usize::try_from(one.token).is_ok_and(|token| token == n);
    let own = found.iter().filter(is_own).map(|one| Match {
        secret: one.secret,
        version: one.version,
    });
    let mut own: Vec<Match> = own.collect();
    own.sort_unstable();
    own.dedup();
    own.truncate(MAX_SIGNAL_MATCHES);
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(token: u32, secret: u8, version: u64) -> Held {
        Held {
            token,
            secret: SecretId::from_bytes([secret; 16]),
            version,
        }
    }

    #[test]
    fn each_token_has_its_own_versions_once_and_not_too_many() {
        let found = [held(1, 2, 7), held(0, 1, 3), held(1, 1, 2), held(1, 2, 7)];
        let of = |n| {
            let own = matches(&found, n).into_iter();
            let own = own.map(|one| (one.secret.bytes()[0], one.version));
            own.collect::<Vec<_>>()
        };
        assert_eq!(of(0), [(1, 3)]);
        assert_eq!(of(1), [(1, 2), (2, 7)]);
        assert!(of(2).is_empty());
        let many: Vec<Held> = (0..100).map(|n| held(0, n, 1)).collect();
        assert_eq!(matches(&many, 0).len(), MAX_SIGNAL_MATCHES);
    }
}
