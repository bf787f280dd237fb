//! A provider of identities, as whoever lets people log in asks it: a port. What is asked and what an answer means is
//! the asker's.
//!
//! Laws: only TLS leaves this machine and the certificate is always checked; no redirect is followed; an answer is
//! bounded; a form is sent once, for what it carries counts once; who we are is shown to the provider with each form
//! and stands in no text of an error.

use async_trait::async_trait;
use keywheel_seal::SecretBytes;

use super::PortError;

/// What was answered.
#[derive(Debug)]
pub struct Replied {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: SecretBytes,
}

/// The way to a provider.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Reads a document that anybody may.
    ///
    /// # Errors
    /// When there is no answer.
    async fn read(&self, url: &str) -> Result<Replied, PortError>;
    /// Reads a document with a token that the provider gave.
    ///
    /// # Errors
    /// When there is no answer.
    async fn read_as(&self, url: &str, token: &SecretBytes) -> Result<Replied, PortError>;
    /// Posts a form (`application/x-www-form-urlencoded`), showing who we are.
    ///
    /// # Errors
    /// When there is no answer, or what shows who we are cannot be read.
    async fn post(&self, url: &str, form: &SecretBytes) -> Result<Replied, PortError>;
}
