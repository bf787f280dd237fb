//! The record of a look: one, with how it ended, durable before anything of the answer is given.
//!
//! Invariants: a look whose answer does not come, since who asked left or we failed, is on record, too; what a record
//! of its own says already (a denial by the handler) has no second one; one wait is one record though it is asked for
//! again and again, as long as it goes well.

use std::sync::Arc;

use axum::extract::Request;
use keywheel_core::audit::{Outcome, Principal, Record};
use keywheel_engine::port::PortError;

use super::bearer::Came;
use super::standing::Standing;
use super::unanswered::UNANSWERED;
use super::{Answered, Api};

/// A look under way.
pub(super) struct Look {
    api: Api,
    principal: Principal,
    standing: Arc<Standing>,
    /// By what they came in, where no policies were applied.
    proof: &'static str,
    verb: String,
    object: String,
    /// What it waits for the end of.
    wait: Option<String>,
    is_over: bool,
}

impl Look {
    /// Of a request that was let in.
    pub(super) fn begin(
        api: &Api,
        (came, standing): (&Came, &Arc<Standing>),
        (verb, object): (&str, &str),
        request: &Request,
    ) -> Self {
        Self {
            api: api.clone(),
            principal: came.principal.clone(),
            standing: Arc::clone(standing),
            proof: came.proof(),
            verb: verb.to_owned(),
            object: object.to_owned(),
            wait: waited_for(request),
            is_over: false,
        }
    }

    /// Puts on record how it ended.
    ///
    /// # Errors
    /// When it could not be made durable; then the answer must not be given.
    pub(super) async fn end(mut self, answered: Answered) -> Result<(), PortError> {
        self.is_over = true;
        let is_known = match answered.gave_nothing() {
            // That others were asked is a record of another kind, and of the first time alone.
            true => answered.is_recorded && answered.is_failure(),
            false => self.is_repeated(),
        };
        if is_known {
            return Ok(());
        }
        if answered.gave_nothing() {
            return self.note(answered.outcome(), &answered.words()).await;
        }
        self.note(Outcome::Allowed, "").await?;
        if let Some(wait) = &self.wait {
            let now = self.api.clock.now();
            self.api.waits.note(now, &self.principal, wait);
        }
        Ok(())
    }

    /// Whether it is a wait that a record speaks of already.
    fn is_repeated(&self) -> bool {
        let now = self.api.clock.now();
        let wait = self.wait.as_ref();
        wait.is_some_and(|wait| self.api.waits.is_recorded(now, &self.principal, wait))
    }

    async fn note(&self, outcome: Outcome, own: &str) -> Result<(), PortError> {
        let record = self.record(outcome, own);
        self.api.commands.record(record).await
    }

    fn record(&self, outcome: Outcome, own: &str) -> Record {
        let words = self.standing.words(own);
        let words = match words.as_str() {
            "" => self.proof,
            words => words,
        };
        let (principal, verb, object) = (&self.principal, &self.verb, &self.object);
        self.api.record(principal, verb, object, outcome, words)
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.is_over || self.is_repeated() {
            return;
        }
        let record = self.record(Outcome::Allowed, UNANSWERED);
        let commands = self.api.commands.clone();
        runtime.spawn(async move {
            if let Err(error) = commands.record(record).await {
                let reason = keywheel_daemon::chain(&error);
                tracing::warn!(reason, "a look without an answer is not on record");
            }
        });
    }
}

/// What a request waits for the end of, for which a client asks again and again.
fn waited_for(request: &Request) -> Option<String> {
    let uri = request.uri();
    let path = uri.path();
    let waits = uri.query().is_some_and(|query| query.starts_with("wait="));
    let waited_for = ["/v1/rotations/", "/v1/revocations/", "/v1/playbook-runs/"];
    let follows = waited_for.iter().any(|begin| path.starts_with(begin));
    (waits && follows).then(|| path.to_owned())
}
