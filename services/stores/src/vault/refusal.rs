//! A login that was refused: not tried again and again with the same credential.
//!
//! A server may lock out who does that, and each try costs it. Invariants: another credential is tried
//! at once; the same one after a while that doubles up to [`LOGIN_PAUSE_LIMIT`]; a person's own try
//! waits for nothing ([`Refusals::forget`]). Of a credential only a digest under a key of this process
//! is kept.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::{Entropy, SecretBytes, digest};

/// The while after the first refused login.
pub const LOGIN_PAUSE: Duration = Duration::from_secs(5);
/// The longest one.
pub const LOGIN_PAUSE_LIMIT: Duration = Duration::from_secs(300);

struct Refused {
    credential: [u8; 32],
    times: u32,
    until: Duration,
    text: String,
}

/// The last refused login of one session.
pub(super) struct Refusals {
    key: [u8; 32],
    last: Mutex<Option<Refused>>,
}

impl Refusals {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Self {
            key,
            last: Mutex::new(None),
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Refused>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, credential: &[SecretBytes]) -> [u8; 32] {
        // EXPOSE: a keyed digest tells whether it is another one than last time.
        let parts = credential.iter();
        let parts: Vec<_> = parts
            .map(|one| digest::keyed(&self.key, one.expose()))
            .collect();
        digest::keyed(&self.key, parts.as_flattened())
    }

    /// Why this credential is not shown now.
    pub(super) fn stands(&self, credential: &[SecretBytes], now: Duration) -> Option<PortError> {
        let digest = self.digest(credential);
        let last = self.last();
        let same = last.as_ref().filter(|last| last.credential == digest);
        let standing = same.filter(|last| now < last.until)?;
        let wait = standing.until.saturating_sub(now).as_secs().max(1);
        let text = format!(
            "{} (it is tried again in {wait} s, or at once with another credential)",
            standing.text
        );
        Some(PortError::new(ErrorKind::Denied, text))
    }

    /// A login with this credential failed.
    pub(super) fn note(&self, credential: &[SecretBytes], error: &PortError, now: Duration) {
        if error.kind != ErrorKind::Denied {
            return;
        }
        let credential = self.digest(credential);
        let mut last = self.last();
        let before = last.as_ref().filter(|last| last.credential == credential);
        let times = before.map_or(0, |last| last.times);
        let pause = LOGIN_PAUSE.saturating_mul(2_u32.saturating_pow(times.min(16)));
        *last = Some(Refused {
            credential,
            times: times.saturating_add(1),
            until: now.saturating_add(pause.min(LOGIN_PAUSE_LIMIT)),
            text: error.text.clone(),
        });
    }

    /// None stands any more.
    pub(super) fn forget(&self) {
        *self.last() = None;
    }
}

#[cfg(test)]
mod tests {
    use keywheel_seal::OsEntropy;

    use super::*;

    #[test]
    fn the_while_grows_to_its_limit_and_another_credential_waits_for_nothing() {
        let refusals = Refusals::new(&OsEntropy);
        let of = |text: &str| vec![SecretBytes::from(text.as_bytes().to_vec())];
        let denied = PortError::new(ErrorKind::Denied, "no such role");
        let mut now = Duration::ZERO;
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            refusals.note(&of("a"), &denied, now);
            let just_before = now + Duration::from_secs(seconds) - Duration::from_millis(1);
            let told = refusals.stands(&of("a"), just_before).unwrap();
            assert_eq!(told.kind, ErrorKind::Denied);
            assert!(told.text.starts_with("no such role"), "{told}");
            assert!(refusals.stands(&of("b"), just_before).is_none());
            now += Duration::from_secs(seconds);
            assert!(refusals.stands(&of("a"), now).is_none());
        }
        refusals.note(&of("a"), &denied, now);
        refusals.forget();
        assert!(refusals.stands(&of("a"), now).is_none());
        let away = PortError::new(ErrorKind::Unavailable, "away");
        refusals.note(&of("a"), &away, now);
        assert!(
            refusals.stands(&of("a"), now).is_none(),
            "who is away refused nothing"
        );
    }
}
