//! What a request does outside the log: an intent on record before it, an outcome on record before anybody hears of it.
//!
//! Invariants: both are records of one command; what was begun comes to its end, and on record, also where who asked does
//! not wait for it, or where the log takes no outcome for a while; what a killed gateway leaves open a later start closes,
//! since there is no deed that `deeds` does not know; with too few sinks of the audit none is begun that is new work; each
//! has its place until it is on record (`under_way`), so who asks and leaves has no more of them than who waits.

use std::time::Duration;

use keywheel_core::audit::{Outcome, Record};
use keywheel_core::id::CommandId;
use keywheel_daemon::failpoint;
use keywheel_engine::command_bus::Handle;
use keywheel_engine::port::bus::Body;
use keywheel_engine::port::{ErrorKind, PortError};

use super::under_way::{Kind, Place};
use super::{Api, Caller, Failure, bounded, trace};
use crate::deeds::{ASKED, Deed};
use crate::dual;

/// Pause before an outcome that the log did not take is offered again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// So often it is offered again; longer than a database takes to find another server.
const MOST_AGAIN: u32 = 600;
/// How the words of an outcome begin where it was not done.
pub(super) const FAILED: &str = "failed: ";
/// The same where that is open.
pub(super) const UNKNOWN: &str = "not known whether it was done: ";

/// What is done, to what, and what the intent says of it beside that it was asked for.
pub(super) struct Task {
    pub(super) deed: Deed,
    pub(super) object: String,
    pub(super) more: String,
}

impl Task {
    pub(super) fn new(deed: Deed, object: impl Into<String>) -> Self {
        Self {
            deed,
            object: object.into(),
            more: String::new(),
        }
    }

    fn may_begin(&self, api: &Api) -> Result<(), Failure> {
        match self.deed.goes_on_without_sinks() {
            true => Ok(()),
            false => may_begin(api),
        }
    }

    /// With what the intent says besides.
    pub(super) fn saying(self, more: impl Into<String>) -> Self {
        Self {
            more: more.into(),
            ..self
        }
    }
}

/// How a deed ended: what its sender hears, and what the record says.
pub(super) struct Ended<T> {
    answer: Result<T, Failure>,
    outcome: Outcome,
    words: String,
}

impl<T> Ended<T> {
    /// It was done.
    pub(super) fn done(answer: T, words: &str) -> Self {
        let words = match words {
            "" => "done".to_owned(),
            words => format!("done: {words}"),
        };
        Self {
            answer: Ok(answer),
            outcome: Outcome::Allowed,
            words,
        }
    }

    /// It was not done, which does not end what it is a part of.
    pub(super) fn not_done(answer: T, words: impl Into<String>) -> Self {
        Self {
            answer: Ok(answer),
            outcome: Outcome::Rejected,
            words: words.into(),
        }
    }

    /// It was not done, for this reason.
    pub(super) fn failed(failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        let words = format!("{FAILED}{}", failure.detail());
        Self::not(failure, words)
    }

    /// No answer came, or one that leaves it open.
    pub(super) fn unknown(failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        let words = format!("{UNKNOWN}{}", failure.detail());
        Self::not(failure, words)
    }

    /// It was not done, and the record says this instead of what its sender hears.
    pub(super) fn not(failure: Failure, words: impl Into<String>) -> Self {
        Self {
            answer: Err(failure),
            outcome: Outcome::Rejected,
            words: words.into(),
        }
    }

    /// Of a database or a receiver: what it could not answer it may have done.
    pub(super) fn kept(error: PortError) -> Self {
        match error.kind {
            ErrorKind::Unavailable => Self::unknown(error),
            _ => Self::failed(error),
        }
    }

    /// Of another service: without an answer it may have done it, and one that is not understood is none.
    pub(super) fn other(answer: Result<Body, PortError>) -> Self {
        match answer {
            Err(error) => Self::unknown(error),
            Ok(Body::Failed { kind, text }) => Self::failed(PortError::new(kind, text)),
            Ok(_) => {
                let text = "store-sync did not understand; run the same version everywhere";
                Self::failed(PortError::new(ErrorKind::Unavailable, text))
            }
        }
    }
}

/// A deed whose intent is on record.
pub(super) struct Begun {
    api: Api,
    caller: Caller,
    task: Task,
    place: Place,
    command: CommandId,
}

impl Begun {
    /// Puts the intent on record, where new work may begin or this is none.
    pub(super) async fn new(
        api: &Api,
        caller: &Caller,
        (task, place): (Task, Place),
    ) -> Result<Self, Failure> {
        task.may_begin(api)?;
        let words = match task.more.as_str() {
            "" => ASKED.to_owned(),
            more => format!("{ASKED} {}", bounded(more)),
        };
        let begun = Self {
            api: api.clone(),
            caller: caller.clone(),
            task,
            place,
            command: CommandId::from_bytes(api.ids.draw()),
        };
        let record = begun.record(Outcome::Allowed, &words);
        api.commands.record(record).await?;
        let _injected = failpoint::hit_async("gateway.before_deed").await;
        Ok(begun)
    }

    /// Puts on record how it ended. Where that cannot be now, its sender hears no more than that, and it is tried again.
    pub(super) async fn end<T>(&self, ended: Ended<T>) -> Result<T, Failure> {
        let _injected = failpoint::hit_async("gateway.after_deed").await;
        let own = CommandId::from_bytes(self.api.ids.draw());
        let record = self.record(ended.outcome, &bounded(&ended.words));
        let commands = &self.api.commands;
        if let Err(error) = commands.record_as(own, record.clone()).await {
            let place = self.place.clone();
            tokio::spawn(record_later(commands.clone(), own, record, place));
            let text = format!(
                "it came to its end, and how cannot be put on record now: {}; look at how it is before you ask again",
                error.text
            );
            return Err(PortError::caused(error.kind, text, error).into());
        }
        ended.answer.map_err(Failure::on_record)
    }

    fn record(&self, outcome: Outcome, words: &str) -> Record {
        let (principal, standing) = (&self.caller.principal, &self.caller.standing);
        let (verb, object) = (self.task.deed.word(), &self.task.object);
        let reason = standing.words(words);
        Record {
            command: self.command,
            ..self.api.record(principal, verb, object, outcome, &reason)
        }
    }
}

/// Offers an outcome again until it is on record, where a start of another gateway may have closed it meanwhile. The log
/// takes it once, also where it took it and nobody heard. It has its place until then.
async fn record_later(commands: Handle, own: CommandId, record: Record, _place: Place) {
    for _ in 0..MOST_AGAIN {
        tokio::time::sleep(AGAIN_AFTER).await;
        if commands.record_as(own, record.clone()).await.is_ok() {
            return;
        }
    }
    let (verb, object) = (record.verb, record.object);
    tracing::warn!(
        verb,
        object,
        "how it ended is not on record; a later start closes it"
    );
}

/// Whether new work may begin: the audit has sinks enough, and those that were confirmed.
pub(super) fn may_begin(api: &Api) -> Result<(), Failure> {
    let few = api.presences.held_back();
    let why = few.or_else(|| dual::unconfirmed(&api.admission, &api.view, &api.presences));
    match why {
        Some(why) => Err(PortError::new(ErrorKind::Unavailable, why).into()),
        None => Ok(()),
    }
}

/// Does it between its two records, and to its end.
pub(super) async fn done<T, F>(
    api: &Api,
    caller: &Caller,
    task: Task,
    doing: F,
) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Ended<T>> + Send + 'static,
{
    // Here, since what goes on in a task of its own speaks for itself.
    task.may_begin(api)?;
    let kind = Kind::of(task.deed);
    let place = api.under_way.place(kind, &caller.principal)?;
    let (own, caller, held) = (api.clone(), caller.clone(), place.clone());
    let whole = async move {
        let begun = Begun::new(&own, &caller, (task, held)).await?;
        begun.end(doing.await).await
    };
    to_its_end(api, place, whole).await
}

/// A handler ends with its connection; what was begun comes to its end, and on record, all the same, and has its place
/// until then.
pub(super) async fn to_its_end<T: Send + 'static>(
    api: &Api,
    place: Place,
    doing: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let doing = async move {
        let done = doing.await;
        drop(place);
        done
    };
    let doing = tokio::spawn(trace::kept(&*api.ids, doing));
    doing.await.unwrap_or_else(|error| {
        let text = "what was asked for did not come to its end here; look at how it is before you ask again";
        Err(PortError::caused(ErrorKind::Unavailable, text, error).into())
    })
}
