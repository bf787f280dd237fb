//! A subject of somebody else's NATS server: one acknowledged message a record.
//!
//! Invariants: a record counts as told only when a stream there has it; a repeat has the same `Nats-Msg-Id`, so that
//! stream drops it; without TLS only this machine is told.

use async_trait::async_trait;
use keywheel_bus::outward::Outward;
use keywheel_engine::port::PortError;

use super::line::Line;
use super::{Target, secret};

/// The sink.
pub(super) struct Subject {
    url: String,
    subject: String,
    credentials_file: Option<String>,
    ca_file: Option<String>,
    line: Option<Outward>,
}

impl Subject {
    pub(super) fn new(
        url: String,
        subject: String,
        credentials_file: Option<String>,
        ca_file: Option<String>,
    ) -> Self {
        Self {
            url,
            subject,
            credentials_file,
            ca_file,
            line: None,
        }
    }

    async fn connect(&self) -> Result<Outward, PortError> {
        let credentials = match &self.credentials_file {
            Some(path) => Some(secret::key(path).await?),
            None => None,
        };
        let authorities = secret::certificates(self.ca_file.as_deref()).await?;
        Outward::connect(&self.url, credentials.as_ref(), authorities.as_deref()).await
    }
}

#[async_trait]
impl Target for Subject {
    async fn tell(&mut self, lines: &[Line]) -> Result<(), PortError> {
        let outward = match self.line.take() {
            Some(outward) => outward,
            None => self.connect().await?,
        };
        for line in lines {
            // The leaf hash beside the number: another deployment's records are others.
            let id = format!("{}-{}", line.sequence, line.leaf);
            let message = ("application/json", line.text.as_bytes());
            outward.publish_as(&self.subject, &id, message).await?;
        }
        // One that failed is not kept: the next attempt connects anew.
        self.line = Some(outward);
        Ok(())
    }

    fn reset(&mut self) {
        self.line = None;
    }
}

#[cfg(test)]
mod tests;
