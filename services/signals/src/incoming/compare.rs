//! Which secret a reported token is: store-sync compares it with what it holds.
//!
//! Invariants: the token leaves this process never, only its digest under a key that is made for one comparison and
//! goes with it, sealed to store-sync's; neither is in the log, in a letter or in a text; a store-sync that is away, or
//! slow, costs a signal [`COMPARE_TIMEOUT`] and no more, and the signal says then that it was not compared, which a letter
//! says, too: not every sender sends again, and a signal that is not on record is worse than one without a name. It is
//! compared once store-sync is heard again (`later`), or with a repeat of it, and the log says so once. The sender is told
//! nothing of what was found.

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

use super::later::Standing;
use super::reading::{Heard, MAX_BATCH};
use crate::desk::{Inner, heading_of, letter, letter_of_signal, source_owner};

/// How long a comparison may take, whatever it is compared with.
pub const COMPARE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most versions that a token is compared with; of more it is said that not all were.
pub const MAX_COMPARED: usize = 10_000;

/// Why a person is called about a signal that was taken.
const NOT_COMPARED: &str = "it was taken, and its token not compared with every value in use, so nothing that asks which secret leaked began; this letter goes once it is, which is tried when store-sync is back, or when it is sent again; else ask whose it is, and act by hand";

const _: () = assert!(
    MAX_BATCH <= MAX_COMPARED_TOKENS,
    "a whole batch is one comparison"
);

/// What store-sync is asked about reported tokens; nobody else has the key.
#[derive(Default)]
pub(crate) struct Asked {
    key: Zeroizing<[u8; 32]>,
    digests: Vec<[u8; 32]>,
}

impl Asked {
    /// The same about some of them, by their numbers.
    fn only(self, some: &[usize]) -> Self {
        let digests = some.iter().filter_map(|n| self.digests.get(*n).copied());
        Self {
            digests: digests.collect(),
            key: self.key,
        }
    }
}

impl Inner {
    /// Says of each signal of a source that reports a token which versions hold it. One that the log has already is
    /// not compared again, unless it was compared with nothing then.
    pub(crate) async fn compare(&self, source: SignalSourceId, heard: Vec<Heard>) -> Vec<Signal> {
        let (mut signals, mut tokens) = (Vec::new(), Vec::new());
        for Heard { mut signal, token } in heard {
            if let Some(token) = token {
                // Where the log cannot be asked, what takes the signal will say so.
                let standing = self.standing(source, &signal).await;
                match standing.unwrap_or(Standing::New) {
                    Standing::New => tokens.push((signals.len(), token)),
                    Standing::NotCompared(number) => {
                        signal.first = Some(number);
                        tokens.push((signals.len(), token));
                    }
                    Standing::Known => {}
                }
            }
            signals.push(signal);
        }
        if tokens.is_empty() {
            return signals;
        }
        let (asked, mut found) = (self.asked(&tokens), Vec::new());
        let asking = tokio::time::timeout(COMPARE_TIMEOUT, self.ask(&asked, &mut found));
        let is_whole = match asking.await {
            Ok(Ok(is_whole)) => Some(is_whole),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a reported token was not compared with every value");
                None
            }
            Err(_) => {
                tracing::warn!("a reported token was not compared with every value in time");
                None
            }
        };
        let places: Vec<usize> = tokens.iter().map(|(place, _)| *place).collect();
        let left = note(&mut signals, &places, (is_whole, &found));
        // More versions than are compared at all are not fewer later.
        if is_whole.is_none() {
            let not_yet = left.iter().filter_map(|n| signals.get(*places.get(*n)?));
            let not_yet = not_yet.cloned().collect();
            self.compare_later(source, not_yet, asked.only(&left));
        }
        signals
    }

    /// Leaves a letter of signals whose tokens were not compared with every value, before they are taken: what asks
    /// which secret leaked does not begin by them.
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
            0 => heading_of(first),
            more => format!("{} and {more} more", heading_of(first)),
        };
        let of = (self.parts.clock.now(), heading, NOT_COMPARED);
        let id = letter_of_signal(source.id, first);
        self.keep(&letter(id, source_owner(&source.name), of)).await
    }

    /// What is asked of store-sync about tokens, under a key of its own.
    fn asked(&self, tokens: &[(usize, SecretBytes)]) -> Asked {
        let mut key = Zeroizing::new([0_u8; 32]);
        self.parts.entropy.fill(&mut *key);
        // EXPOSE: the token is digested under the key of this comparison; nothing else is made of it.
        let digest = |(_, token): &(usize, SecretBytes)| digest::keyed(&key, token.expose());
        let digests = tokens.iter().map(digest).collect();
        Asked { key, digests }
    }

    /// Asks store-sync page by page; whether everything was compared.
    pub(super) async fn ask(
        &self,
        asked: &Asked,
        found: &mut Vec<Held>,
    ) -> Result<bool, PortError> {
        let (held, is_all) = self.held();
        if held.is_empty() {
            return Ok(is_all);
        }
        let Asked { key, digests } = asked;
        let sealed_key = self.sealed(key, digests).await?;
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

/// Says of signals with tokens what was found of each; which of these were compared with nothing, by their numbers.
fn note(
    signals: &mut [Signal],
    places: &[usize],
    (is_whole, found): (Option<bool>, &[Held]),
) -> Vec<usize> {
    let is_whole = is_whole.unwrap_or(false);
    let mut left = Vec::new();
    for (n, place) in places.iter().enumerate() {
        let Some(signal) = signals.get_mut(*place) else {
            continue;
        };
        let own = matches(found, n);
        signal.compared = Some(is_whole);
        // What was found is so, also where not everything was looked at.
        signal.matched = (is_whole || !own.is_empty()).then_some(own);
        if signal.matched.is_none() {
            // A repeat says no more than the first.
            signal.first = None;
            left.push(n);
        }
    }
    left
}

/// The versions that hold one of the tokens.
pub(super) fn matches(found: &[Held], n: usize) -> Vec<Match> {
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
