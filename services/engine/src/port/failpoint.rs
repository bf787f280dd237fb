//! A failpoint: a named place before or after an effect outside, at which a test can end, delay or fail it.
//!
//! Laws: each is passed under its own name once per effect; nobody but a test's program gives an answer other
//! than yes, and then none but `Unavailable`. An adapter names its own in a list; who arms them is the program.

use std::sync::Arc;

use async_trait::async_trait;

use super::PortError;

/// Passes failpoints.
#[async_trait]
pub trait Failpoint: Send + Sync {
    /// Goes on, late or at once; or fails, as `Unavailable`, where a test asked for it.
    async fn pass(&self, name: &'static str) -> Result<(), PortError>;
}

/// The failpoints of one adapter; where nobody watches them, they are passed at once.
#[derive(Clone, Default)]
pub struct Points(Option<Arc<dyn Failpoint>>);

impl Points {
    /// All of them are passed through this.
    #[must_use]
    pub fn watched(failpoint: Arc<dyn Failpoint>) -> Self {
        Self(Some(failpoint))
    }

    /// Passes one.
    ///
    /// # Errors
    /// Where a test asked for it.
    pub async fn pass(&self, name: &'static str) -> Result<(), PortError> {
        match &self.0 {
            Some(failpoint) => failpoint.pass(name).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::ErrorKind;

    struct Never;

    #[async_trait]
    impl Failpoint for Never {
        async fn pass(&self, name: &'static str) -> Result<(), PortError> {
            Err(PortError::new(ErrorKind::Unavailable, name))
        }
    }

    #[tokio::test]
    async fn who_is_not_watched_passes_and_who_is_asks() {
        assert!(Points::default().pass("here").await.is_ok());
        let error = Points::watched(Arc::new(Never)).pass("here").await;
        assert_eq!(error.unwrap_err().text, "here");
    }
}
