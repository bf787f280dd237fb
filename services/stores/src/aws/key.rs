//! One key of AWS KMS behind the port `KeyService`.
//!
//! The key stays at AWS: a small key of ours goes there to be wrapped (`Encrypt`), and what came back is opened there
//! (`Decrypt`), both under an encryption context that names the deployment. Connection, credentials, retries and
//! bounds are those of Secrets Manager. Invariants: it asks for nothing else, so `kms:Encrypt` and `kms:Decrypt` on
//! the one key are enough; of what AWS wrote only an error's name is told, and the sentence of
//! `AccessDeniedException`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use keywheel_core::store::AwsSpec;
use keywheel_engine::port::key_service::{Binding, KeyService};
use keywheel_engine::port::store::{Credentials, LoginRefused};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

use super::connection::Connection;
use super::failure::{Reason, advice, classify, told, unanswered};
use super::is_private;

/// A key of AWS KMS, as one login may use it.
pub struct AwsKey {
    key: String,
    timeout: Duration,
    connection: Connection,
    credentials: Arc<dyn Credentials>,
}

/// A failed request, and whether newer credentials may help.
struct Failed {
    is_expired: bool,
    error: PortError,
}

impl From<PortError> for Failed {
    fn from(error: PortError) -> Self {
        Self {
            is_expired: false,
            error,
        }
    }
}

impl AwsKey {
    /// The key of this ARN, id or alias; no connection is opened. Where no region is named, it is the ARN's.
    ///
    /// # Errors
    /// `Denied` when the key would leave this machine in the clear.
    pub fn new(
        spec: AwsSpec,
        key: &str,
        timeout: Duration,
        credentials: Arc<dyn Credentials>,
    ) -> Result<Self, PortError> {
        if !is_private(&spec.endpoint) {
            let text = format!(
                "KMS key `{key}`: endpoint `{}` is neither https nor http to a loopback address",
                spec.endpoint
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        let region = match spec.region.as_str() {
            "" => region_of(key).unwrap_or_default().to_owned(),
            region => region.to_owned(),
        };
        Ok(Self {
            key: key.to_owned(),
            timeout,
            connection: Connection::new(AwsSpec { region, ..spec }),
            credentials,
        })
    }

    /// Ends a call at the timeout, or at the deadline if that comes first.
    async fn bounded<T>(
        &self,
        until: &Until,
        call: impl Future<Output = Result<T, Failed>> + Send,
    ) -> Result<T, PortError> {
        until.check()?;
        let limit = self.timeout.min(until.remaining());
        let ended = tokio::time::timeout(limit, Box::pin(call)).await;
        match ended {
            Ok(done) => done.map_err(|failed| failed.error),
            Err(_) => {
                let text = format!(
                    "KMS key `{}`: no answer within {limit:?}; check the endpoint and the network",
                    self.key
                );
                Err(PortError::new(ErrorKind::Unavailable, text))
            }
        }
    }

    /// Asks, and once more with newer credentials when the session had ended.
    async fn send<T, E, F>(&self, until: &Until, ask: impl Fn(Client) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match self.send_once(until, &ask).await {
            Err(failed) if failed.is_expired => {
                self.connection.forget().await;
                self.send_once(until, &ask).await
            }
            done => done,
        }
    }

    async fn send_once<T, E, F>(
        &self,
        until: &Until,
        ask: impl Fn(Client) -> F,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        until.check()?;
        let named = |error: PortError| PortError {
            text: format!("KMS key `{}`: {}", self.key, error.text),
            ..error
        };
        self.connection.find_credentials().await.map_err(named)?;
        let client = self.connection.kms(&*self.credentials, until).await;
        let answer = Box::pin(ask(client.map_err(named)?)).await;
        answer.map_err(|error| self.failed(&error))
    }

    fn failed<E>(&self, error: &SdkError<E, HttpResponse>) -> Failed
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let what = format!("KMS key `{}`", self.key);
        match unanswered(&what, error) {
            Ok((status, answer)) => answered(&what, status, answer),
            Err(error) => Failed::from(error),
        }
    }

    fn nothing(&self) -> PortError {
        let text = format!(
            "KMS key `{}`: the answer holds no key; check that the endpoint is one of AWS KMS",
            self.key
        );
        PortError::new(ErrorKind::Unavailable, text)
    }
}

#[async_trait]
impl KeyService for AwsKey {
    fn key(&self) -> &str {
        &self.key
    }

    async fn wrap(
        &self,
        plain: &SecretBytes,
        binding: &Binding,
        until: &Until,
    ) -> Result<Vec<u8>, PortError> {
        // EXPOSE: AWS KMS wraps it; the SDK keeps its copy until the request is done.
        let plain = Blob::new(plain.expose());
        let context = binding.pairs();
        let asked = self.send(until, |client: Client| {
            let mut request = client.encrypt().key_id(&self.key).plaintext(plain.clone());
            for (name, value) in &context {
                request = request.encryption_context(*name, value);
            }
            request.send()
        });
        let answer = self.bounded(until, asked).await?;
        let wrapped = answer.ciphertext_blob.map(Blob::into_inner);
        wrapped.ok_or_else(|| self.nothing())
    }

    async fn unwrap(
        &self,
        wrapped: &[u8],
        binding: &Binding,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        let wrapped = Blob::new(wrapped);
        let context = binding.pairs();
        let asked = self.send(until, |client: Client| {
            let request = client.decrypt().key_id(&self.key);
            let mut request = request.ciphertext_blob(wrapped.clone());
            for (name, value) in &context {
                request = request.encryption_context(*name, value);
            }
            request.send()
        });
        let answer = self.bounded(until, asked).await?;
        let plain = answer.plaintext.map(Blob::into_inner);
        plain.map(SecretBytes::from).ok_or_else(|| self.nothing())
    }
}

/// The region in a key's ARN.
fn region_of(key: &str) -> Option<&str> {
    let mut parts = key.split(':');
    let is_arn = parts.next() == Some("arn") && parts.nth(1) == Some("kms");
    parts.next().filter(|region| is_arn && !region.is_empty())
}

fn answered(what: &str, status: u16, error: &dyn ProvideErrorMetadata) -> Failed {
    let (code, sentence) = told(error);
    let (reason, kind) = judged(&code, status);
    let name = match code.as_str() {
        "" => format!("HTTP {status}"),
        code => format!("{code} (HTTP {status})"),
    };
    let sentence = sentence.map_or_else(String::new, |sentence| format!(": {sentence}"));
    let next = next_step(&code).or_else(|| advice(&code, kind));
    let next = next.map_or_else(String::new, |next| format!("; {next}"));
    let error = PortError::new(kind, format!("{what}: {name}{sentence}{next}"));
    Failed {
        is_expired: reason == Reason::Expired,
        error: match reason {
            Reason::Expired | Reason::Stranger => LoginRefused::beneath(error),
            _ => error,
        },
    }
}

/// What KMS alone says; everything else is as at Secrets Manager.
fn judged(code: &str, status: u16) -> (Reason, ErrorKind) {
    match code {
        "KeyUnavailableException" | "DependencyTimeoutException" | "KMSInternalException" => {
            (Reason::Other, ErrorKind::Unavailable)
        }
        "NotFoundException" => (Reason::Missing, ErrorKind::Denied),
        _ => classify(code, status),
    }
}

fn next_step(code: &str) -> Option<&'static str> {
    Some(match code {
        "DisabledException" => "it is disabled: `aws kms enable-key`",
        "KMSInvalidStateException" => {
            "it is to be deleted, or has no key material: `aws kms cancel-key-deletion`, then `aws kms enable-key`; once it is deleted, what it wrapped is lost"
        }
        "NotFoundException" => {
            "there is no such key in this region: correct `key`, `region` or the account; a key that was deleted never comes back, nor does what it wrapped"
        }
        "AccessDeniedException" => {
            "allow `kms:Encrypt` and `kms:Decrypt` on this key, by its policy or by IAM, or name the key that wrapped"
        }
        "IncorrectKeyException" => "another key wrapped this: name that one as `key`",
        "InvalidCiphertextException" => {
            "this key did not wrap it for this deployment: name the key that did as `key`, or restore `seal.json`"
        }
        "InvalidKeyUsageException" => {
            "it encrypts nothing: name a symmetric key for encryption (SYMMETRIC_DEFAULT)"
        }
        "ValidationException" => "correct `key`: an ARN, an id, or `alias/NAME`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_that_of_the_arn() {
        let arn = "arn:aws:kms:eu-central-1:123456789012:key/0f";
        assert_eq!(region_of(arn), Some("eu-central-1"));
        let china = "arn:aws-cn:kms:cn-north-1:123456789012:alias/keywheel";
        assert_eq!(region_of(china), Some("cn-north-1"));
        for none in [
            "",
            "alias/keywheel",
            "0f",
            "arn:aws:s3:eu:1:key/0f",
            "arn:aws:kms::1:key",
        ] {
            assert_eq!(region_of(none), None, "{none}");
        }
    }

    #[test]
    fn what_may_work_later_is_unavailable_and_what_a_person_has_to_put_right_is_not() {
        for (code, status) in [
            ("KeyUnavailableException", 500),
            ("DependencyTimeoutException", 500),
            ("KMSInternalException", 500),
            ("ThrottlingException", 400),
            ("", 503),
        ] {
            let kind = judged(code, status).1;
            assert_eq!(kind, ErrorKind::Unavailable, "{code} {status}");
        }
        for code in [
            "DisabledException",
            "KMSInvalidStateException",
            "NotFoundException",
            "AccessDeniedException",
            "IncorrectKeyException",
            "InvalidCiphertextException",
            "InvalidKeyUsageException",
        ] {
            assert_eq!(judged(code, 400).1, ErrorKind::Denied, "{code}");
            assert!(next_step(code).is_some(), "{code}");
        }
    }
}
