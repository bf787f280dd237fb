//! A key service in memory: it opens what it wrapped, for whom it wrapped it, and fails when a test says so.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use keywheel_engine::port::key_service::{Binding, KeyService, MAX_PLAIN_BYTES};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

/// Makes what is wrapped look like nothing that went in.
const MASK: u8 = 0xa5;

/// One key of a service in memory.
pub struct FakeKeyService {
    key: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fault: Option<(ErrorKind, String)>,
    asked: usize,
    asked_anew: usize,
}

impl FakeKeyService {
    /// A key of this name; all keys of a name are one.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            state: Mutex::default(),
        }
    }

    /// From now on it fails so, or works again.
    pub fn fail(&self, fault: Option<(ErrorKind, &str)>) {
        self.state().fault = fault.map(|(kind, text)| (kind, text.to_owned()));
    }

    /// How often it was asked to unwrap.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.state().asked
    }

    /// How often a person asked.
    #[must_use]
    pub fn asked_anew(&self) -> usize {
        self.state().asked_anew
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, until: &Until) -> Result<(), PortError> {
        until.check()?;
        match &self.state().fault {
            None => Ok(()),
            Some((kind, text)) => Err(self.error(*kind, text)),
        }
    }

    fn error(&self, kind: ErrorKind, text: &str) -> PortError {
        PortError::new(kind, format!("fake key `{}`: {text}", self.key))
    }

    /// What stands before every key that it wraps, and a sum of it.
    fn head(&self, binding: &Binding) -> Vec<u8> {
        format!("{}\n{}\n", self.key, binding.text()).into_bytes()
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(7, |sum: u8, byte| sum.rotate_left(1) ^ byte)
}

#[async_trait]
impl KeyService for FakeKeyService {
    fn key(&self) -> &str {
        &self.key
    }

    async fn wrap(
        &self,
        plain: &SecretBytes,
        binding: &Binding,
        until: &Until,
    ) -> Result<Vec<u8>, PortError> {
        self.check(until)?;
        // EXPOSE: a fake wraps it by a mask.
        let bytes = plain.expose();
        if bytes.len() > MAX_PLAIN_BYTES {
            return Err(self.error(ErrorKind::Denied, "it is too long"));
        }
        let mut whole = self.head(binding);
        whole.extend_from_slice(bytes);
        whole.push(sum(&whole));
        Ok(whole.iter().map(|byte| byte ^ MASK).collect())
    }

    async fn unwrap(
        &self,
        wrapped: &[u8],
        binding: &Binding,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        self.state().asked += 1;
        self.check(until)?;
        let whole: Vec<u8> = wrapped.iter().map(|byte| byte ^ MASK).collect();
        let plain = whole.split_last().and_then(|(last, rest)| {
            let plain = rest.strip_prefix(self.head(binding).as_slice())?;
            (*last == sum(rest)).then(|| plain.to_vec())
        });
        let plain = plain.map(SecretBytes::from);
        plain.ok_or_else(|| self.error(ErrorKind::Denied, "it was wrapped by another key"))
    }

    fn ask_anew(&self) {
        self.state().asked_anew += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::key_service;

    #[tokio::test]
    async fn it_keeps_the_laws() {
        let (own, other) = (FakeKeyService::new("one"), FakeKeyService::new("two"));
        key_service::check(&own, &other).await;
    }
}
