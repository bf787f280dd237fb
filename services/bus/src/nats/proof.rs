//! As whom we come: answers the bus server's challenge with the newest credentials there are.
//!
//! Invariant: every connect asks here, so a connection that breaks after a renewal comes back as the
//! renewed one. The seed is parsed once and is in no output.

use std::sync::{Arc, PoisonError, RwLock};

use async_nats::{Auth, AuthError};
use keywheel_seal::SecretBytes;
use nkeys::KeyPair;

use super::options::{ConnectError, Credentials};

/// First and last line of the two parts of a credentials file.
const PERMIT: [&str; 2] = [
    "-----BEGIN NATS USER JWT-----",
    "------END NATS USER JWT------",
];
const SEED: [&str; 2] = [
    "-----BEGIN USER NKEY SEED-----",
    "------END USER NKEY SEED------",
];

/// A user's key, with its permit if it has one.
struct Known {
    permit: Option<String>,
    key: KeyPair,
}

/// What every connect proves; replaceable while in use.
#[derive(Clone, Default)]
pub(super) struct Proof(Arc<RwLock<Option<Arc<Known>>>>);

impl Proof {
    /// Proves these from the next connect on.
    pub(super) fn hold(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        let known = read(credentials)?.map(Arc::new);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Whether there is anything to prove.
    pub(super) fn is_held(&self) -> bool {
        self.known().is_some()
    }

    /// The answer to a challenge.
    pub(super) fn answer(&self, challenge: &[u8]) -> Result<Auth, AuthError> {
        let mut auth = Auth::new();
        if let Some(known) = self.known() {
            let signature = known.key.sign(challenge).map_err(AuthError::new)?;
            auth.signature = Some(signature);
            match &known.permit {
                Some(permit) => auth.jwt = Some(permit.clone()),
                None => auth.nkey = Some(known.key.public_key()),
            }
        }
        Ok(auth)
    }

    fn known(&self) -> Option<Arc<Known>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }
}

fn read(credentials: &Credentials) -> Result<Option<Known>, ConnectError> {
    let none = || ConnectError::BadCredentials("they are not a token and a seed");
    match credentials {
        Credentials::None => Ok(None),
        Credentials::NkeySeed(seed) => {
            let key = KeyPair::from_seed(text(seed)?.trim()).map_err(|_| none())?;
            Ok(Some(Known { permit: None, key }))
        }
        Credentials::Creds(creds) => {
            let text = text(creds)?;
            let seed = between(text, SEED).ok_or_else(none)?;
            let permit = between(text, PERMIT).ok_or_else(none)?.to_owned();
            let key = KeyPair::from_seed(seed).map_err(|_| none())?;
            let permit = Some(permit);
            Ok(Some(Known { permit, key }))
        }
    }
}

fn text(bytes: &SecretBytes) -> Result<&str, ConnectError> {
    // EXPOSE: the seed in it is parsed into the key type.
    std::str::from_utf8(bytes.expose())
        .map_err(|_| ConnectError::BadCredentials("they are not text"))
}

fn between<'a>(text: &'a str, [first, last]: [&str; 2]) -> Option<&'a str> {
    let (_, rest) = text.split_once(first)?;
    let (found, _) = rest.split_once(last)?;
    Some(found.trim()).filter(|found| !found.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creds(key: &KeyPair) -> Credentials {
        let seed = key.seed().unwrap();
        let text = format!(
            "{}\na.b.c\n{}\n\n{}\n{seed}\n{}\n",
            PERMIT[0], PERMIT[1], SEED[0], SEED[1]
        );
        Credentials::Creds(SecretBytes::from(text.into_bytes()))
    }

    #[test]
    fn the_newest_credentials_answer_the_challenge() {
        let (first, second) = (KeyPair::new_user(), KeyPair::new_user());
        let proof = Proof::default();
        assert!(!proof.is_held());
        assert!(proof.answer(b"nonce").unwrap().signature.is_none());
        for key in [first, second] {
            proof.hold(&creds(&key)).unwrap();
            let auth = proof.answer(b"nonce").unwrap();
            assert_eq!(auth.jwt.as_deref(), Some("a.b.c"));
            assert!(auth.nkey.is_none());
            key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        }
    }

    #[test]
    fn a_bare_key_says_who_it_is_and_broken_credentials_change_nothing() {
        let key = KeyPair::new_user();
        let proof = Proof::default();
        let seed = SecretBytes::from(key.seed().unwrap().into_bytes());
        proof.hold(&Credentials::NkeySeed(seed)).unwrap();
        let cut = "-----BEGIN USER NKEY SEED-----\nSU\n";
        for broken in ["", "none", PERMIT[0], cut] {
            let broken = SecretBytes::from(broken.as_bytes().to_vec());
            assert!(proof.hold(&Credentials::Creds(broken)).is_err());
        }
        let auth = proof.answer(b"nonce").unwrap();
        assert_eq!(auth.nkey, Some(key.public_key()));
    }
}
