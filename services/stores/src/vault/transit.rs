//! One key of a transit engine of Vault or OpenBao behind the port `KeyService`.
//!
//! The key stays there: a small key of ours goes there to be wrapped (`encrypt`), and what came back is opened there
//! (`decrypt`), both with associated data that names the deployment. The way there, the login and its life are those
//! of a KV engine. Invariants: it asks for nothing else, so `update` on the two paths is enough; without `create` a
//! mistyped name makes no new key; no text tells what was sent or what came back.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use keywheel_core::store::VaultSpec;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::key_service::{Binding, KeyService};
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Process;
use super::api::Api;
use super::http::{Answer, Call, Http};
use super::session::{Session, json};
use super::tls::Endpoint;

/// A key of a transit engine, as one login may use it.
pub struct TransitKey {
    key: String,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    api: Api,
}

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    associated_data: &'a str,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    associated_data: &'a str,
}

impl TransitKey {
    /// The key of this name at the mount that was declared. Opens no connection.
    ///
    /// # Errors
    /// When its address is none that we speak to.
    pub fn new(
        spec: &VaultSpec,
        key: &str,
        (timeout, credentials): (Duration, Arc<dyn Credentials>),
        process: Process,
    ) -> Result<Self, PortError> {
        let Process {
            clock,
            entropy,
            wrappings,
        } = process;
        let endpoint = Endpoint::parse(spec)?;
        let http = Http::new(endpoint, credentials, Arc::clone(&clock), entropy);
        let (auth, namespace) = (spec.auth.clone(), spec.namespace.clone());
        let session = Session::new(http, auth, namespace, wrappings);
        Ok(Self {
            key: key.to_owned(),
            timeout,
            clock,
            api: Api::new(session, spec),
        })
    }

    /// One request within its time; what fails is named.
    async fn ask(
        &self,
        (what, sent): (&str, Option<&SecretBytes>),
        body: Zeroizing<Vec<u8>>,
        until: &Until,
    ) -> Result<Answer, PortError> {
        until.check().map_err(|error| self.named(error))?;
        let limit = self.timeout.min(until.remaining());
        let call = Call {
            until,
            ends: self.clock.monotonic().saturating_add(limit),
        };
        let path = self.api.at(what, &self.key);
        let asked = Box::pin(self.api.ask(Method::POST, &path, Some(body), call));
        let answer = match tokio::time::timeout(limit, asked).await {
            Ok(answer) => answer,
            Err(_) => {
                let text = format!(
                    "{} gives no answer within {limit:?}; check the server and the network",
                    self.api.place()
                );
                Err(PortError::new(ErrorKind::Unavailable, text))
            }
        };
        let answer = answer.map_err(|error| self.named(error))?;
        match answer.status {
            200 => Ok(answer),
            _ => Err(self.named(self.refused(&answer, (what, sent), &path))),
        }
    }

    /// What a refusal means, and the next step.
    fn refused(
        &self,
        answer: &Answer,
        (what, sent): (&str, Option<&SecretBytes>),
        path: &str,
    ) -> PortError {
        let secrets: Vec<_> = sent.into_iter().collect();
        let (place, mount) = (self.api.place(), &self.api.mount);
        let denied = |text: String| PortError::new(ErrorKind::Denied, text);
        match answer.status {
            403 => denied(format!(
                "{place} denies `update` on {path}: add `path \"{path}\" {{ capabilities = [\"update\"] }}` to the policy of this login; a key that is not there is denied, too"
            )),
            404 => denied(format!(
                "{place} has no transit engine at mount {mount}; correct the mount or the namespace, or `bao secrets enable -path={mount} transit`"
            )),
            status if status >= 500 || (300..400).contains(&status) => PortError::new(
                ErrorKind::Unavailable,
                format!(
                    "{place} answers {status} for {path}: {}",
                    answer.reasons(&secrets)
                ),
            ),
            status => {
                let next = match what {
                    "decrypt" => {
                        "this key did not wrap it for this deployment, or its `min_decryption_version` was raised since: name the key that did, lower that, or restore `seal.json`"
                    }
                    _ => {
                        "name a key for encryption with associated data (aes256-gcm96, chacha20-poly1305)"
                    }
                };
                let reasons = answer.reasons(&secrets);
                denied(format!(
                    "{place} refuses {path} ({status}): {reasons}; {next}"
                ))
            }
        }
    }

    fn named(&self, error: PortError) -> PortError {
        let text = format!("transit key `{}`: {}", self.key, error.text);
        PortError { text, ..error }
    }

    fn nothing(&self) -> PortError {
        let text = format!(
            "{} answers with something else than a key; check that it is Vault or OpenBao",
            self.api.place()
        );
        self.named(PortError::new(ErrorKind::Unavailable, text))
    }
}

#[async_trait]
impl KeyService for TransitKey {
    fn key(&self) -> &str {
        &self.key
    }

    async fn wrap(
        &self,
        plain: &SecretBytes,
        binding: &Binding,
        until: &Until,
    ) -> Result<Vec<u8>, PortError> {
        // EXPOSE: the engine wraps it, as text.
        let plaintext = SecretBytes::from(STANDARD.encode(plain.expose()).into_bytes());
        // EXPOSE: it is sent to the server as JSON.
        let text = str::from_utf8(plaintext.expose()).unwrap_or_default();
        let associated_data = STANDARD.encode(binding.text());
        let body = json(&Encrypt {
            plaintext: text,
            associated_data: &associated_data,
        })?;
        let answer = self.ask(("encrypt", Some(&plaintext)), body, until).await?;
        let wrapped = answer.member("ciphertext");
        let wrapped = wrapped.filter(|wrapped| !wrapped.is_empty());
        // EXPOSE: what is wrapped is kept as it is, in the seal file.
        let wrapped = wrapped.map(|wrapped| wrapped.expose().to_vec());
        wrapped.ok_or_else(|| self.nothing())
    }

    async fn unwrap(
        &self,
        wrapped: &[u8],
        binding: &Binding,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        let ciphertext = str::from_utf8(wrapped).map_err(|_| {
            let text = "what is kept was not wrapped by a transit engine; restore `seal.json`";
            self.named(PortError::new(ErrorKind::Denied, text))
        })?;
        let associated_data = STANDARD.encode(binding.text());
        let body = json(&Decrypt {
            ciphertext,
            associated_data: &associated_data,
        })?;
        let answer = self.ask(("decrypt", None), body, until).await?;
        let text = answer.member("plaintext").ok_or_else(|| self.nothing())?;
        // EXPOSE: the text is decoded into our own kind of memory.
        let plain = STANDARD.decode(text.expose());
        plain.map(SecretBytes::from).map_err(|_| self.nothing())
    }

    fn ask_anew(&self) {
        self.api.session.forget_refusal();
    }
}
