//! Accounts of which one call is lost: before it was made, or its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use keywheel_core::revocation::Answer;
use keywheel_engine::port::accounts::{Accounts, Keep, Keeps, Login, Mark};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

use super::Cut;

/// Accounts of which one call is lost.
pub struct CuttingAccounts {
    inner: Arc<dyn Accounts>,
    at: u32,
    cut: Cut,
    begun: AtomicU32,
}

impl CuttingAccounts {
    /// The call after so many is lost.
    #[must_use]
    pub fn new(inner: Arc<dyn Accounts>, at: u32, cut: Cut) -> Self {
        Self {
            inner,
            at,
            cut,
            begun: AtomicU32::new(0),
        }
    }

    /// How many calls were begun.
    #[must_use]
    pub fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        let lost = || PortError::new(ErrorKind::Unavailable, "the connection is lost");
        let is_due = self.begun.fetch_add(1, Ordering::Relaxed) == self.at;
        if is_due && self.cut == Cut::Before {
            return Err(lost());
        }
        let answer = call.await;
        match is_due {
            true => Err(lost()),
            false => answer,
        }
    }
}

#[async_trait]
impl Accounts for CuttingAccounts {
    async fn accept(
        &self,
        login: &Login,
        password: &SecretBytes,
        keep: Keep,
        until: &Until,
    ) -> Result<(), PortError> {
        self.call(self.inner.accept(login, password, keep, until))
            .await
    }

    async fn admits(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<bool, PortError> {
        self.call(self.inner.admits(login, password, until)).await
    }

    async fn answer(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<Answer, PortError> {
        self.call(self.inner.answer(login, password, until)).await
    }

    async fn keeps(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<Keeps, PortError> {
        self.call(self.inner.keeps(login, password, until)).await
    }

    async fn refuse(
        &self,
        login: &Login,
        password: Option<&SecretBytes>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.call(self.inner.refuse(login, password, until)).await
    }

    async fn end_sessions(&self, login: &Login, until: &Until) -> Result<u64, PortError> {
        self.call(self.inner.end_sessions(login, until)).await
    }

    async fn mark(&self, until: &Until) -> Result<Mark, PortError> {
        self.call(self.inner.mark(until)).await
    }

    async fn older(
        &self,
        login: &Login,
        mark: &Mark,
        until: &Until,
    ) -> Result<Option<u64>, PortError> {
        self.call(self.inner.older(login, mark, until)).await
    }

    fn grants(&self) -> String {
        self.inner.grants()
    }
}
