//! The record of a change whose answer nobody waited for.
//!
//! A handler ends with its connection. Invariants: a change that was let in is on record also where who asked left: by
//! its command, which is decided all the same, by what goes on in a task of its own, or here, as one that got no answer;
//! what somebody without any right asked for is counted as their other attempts are. A record of a part does not speak
//! for the whole, so there may be one here beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keywheel_core::audit::{Outcome, Principal};

use super::bearer::Came;
use super::standing::Standing;
use super::{Api, Caller, Failure, keep_record};

/// Why there is no more to say of one.
pub(super) const UNANSWERED: &str = "no answer was given: who asked left before";

tokio::task_local! {
    static SPOKEN: Spoken;
}

/// Whether there is a record that says how a request ended, or will be one whoever waits for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Spoken(Arc<AtomicBool>);

impl Spoken {
    /// Serves a request, whose records are noted here.
    pub(super) async fn within<F: Future>(&self, serving: F) -> F::Output {
        SPOKEN.scope(self.clone(), serving).await
    }

    fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn note(is_spoken: bool) {
    // Elsewhere nobody leaves.
    let _noted = SPOKEN.try_with(|spoken| spoken.0.store(is_spoken, Ordering::Relaxed));
}

/// What was asked for goes on in a task of its own now, which puts on record how it ends.
pub(super) fn goes_on() {
    note(true);
}

/// Waits for a record that is made once this is waited for, whoever waits to its end: a command's, or one of its own.
pub(super) async fn by<T, E>(recording: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    note(true);
    let recorded = recording.await;
    if recorded.is_err() {
        note(false);
    }
    recorded
}

/// Does a part of what was asked for, whose records do not speak for the whole.
pub(super) async fn part<F: Future>(doing: F) -> F::Output {
    let own = Spoken::default();
    own.within(doing).await
}

/// What came of it in a task of its own: where it failed that is on record before anybody hears of it, since who asked
/// may be gone.
pub(super) async fn ended<T>(
    api: &Api,
    caller: &Caller,
    object: &str,
    came: Result<T, Failure>,
) -> Result<T, Failure> {
    let failure = match came {
        Ok(answer) => return Ok(answer),
        Err(failure) => failure,
    };
    let answered = failure.answered();
    if answered.is_recorded {
        return Err(failure);
    }
    let (principal, standing) = (&caller.principal, &*caller.standing);
    let reason = standing.words(&answered.words());
    let record = api.record(
        principal,
        standing.verb(),
        object,
        answered.outcome(),
        &reason,
    );
    keep_record(api, standing, record).await?;
    Err(failure.on_record())
}

/// A change under way.
pub(super) struct Change {
    api: Api,
    principal: Principal,
    standing: Arc<Standing>,
    verb: String,
    object: String,
    spoken: Spoken,
    is_over: bool,
}

impl Change {
    /// Of a request that was let in.
    pub(super) fn begin(
        api: &Api,
        (came, standing): (&Came, &Arc<Standing>),
        (verb, object): (&str, &str),
        spoken: &Spoken,
    ) -> Self {
        Self {
            api: api.clone(),
            principal: came.principal.clone(),
            standing: Arc::clone(standing),
            verb: verb.to_owned(),
            object: object.to_owned(),
            spoken: spoken.clone(),
            is_over: false,
        }
    }

    /// It has its answer, by which it is recorded.
    pub(super) fn over(mut self) {
        self.is_over = true;
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.is_over || self.spoken.is_noted() {
            return;
        }
        let (principal, verb, object) = (&self.principal, &self.verb, &self.object);
        let reason = self.standing.words(UNANSWERED);
        let outcome = Outcome::Rejected;
        let record = self.api.record(principal, verb, object, outcome, &reason);
        let (api, standing) = (self.api.clone(), Arc::clone(&self.standing));
        runtime.spawn(async move {
            if let Err(error) = keep_record(&api, &standing, record).await {
                let reason = keywheel_daemon::chain(&error);
                tracing::warn!(reason, "a change without an answer is not on record");
            }
        });
    }
}
