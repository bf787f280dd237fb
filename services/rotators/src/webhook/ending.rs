//! How a value ends at a receiver, and how the one before it is given back.
//!
//! Invariants: a value that is to die is asked about once more, and what is still accepted is an error; so
//! is a value that was given back and is not accepted; a version's value is destroyed after the receiver
//! refused it, never before. What a receiver that refuses every request was asked for was never made.

use keywheel_core::effect::StepWork;
use keywheel_core::id::SecretId;
use keywheel_core::revocation::{Answer, Evidence, Proof};
use keywheel_engine::port::rotator::TellsNothing;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_schemas::webhook::{Kind, Overlap, Reason, WebhookCurrent, WebhookTask};
use keywheel_seal::SecretBytes;

use super::receiver::Refused;
use super::{WebhookRotator, sent_again, step_id};
use crate::account::new_version;
use crate::barring;

impl WebhookRotator {
    /// The receiver refuses a version's value from now on, and is asked once more whether it does. Where it
    /// does not, it is told again under another id: it may have taken the first one for done. So it is where
    /// it does not accept the value that it was given back.
    async fn end(
        &self,
        id: &str,
        task: WebhookTask<'_>,
        reason: Reason,
        until: &Until,
    ) -> Result<(), PortError> {
        let task = WebhookTask {
            reason: Some(reason),
            ..task
        };
        let again = format!("{id}_{}", self.drawn());
        let (mut is_alive, mut is_back) = (false, true);
        for id in [id, again.as_str()] {
            self.tell(id, Kind::Revoke, task.clone(), until).await?;
            is_alive = self.is_alive(&task, until).await?;
            is_back = self.is_back(&task, until).await?;
            if !is_alive && is_back {
                return Ok(());
            }
        }
        let (resource, stays) = (&self.plan.resource, task.current.map(|stays| stays.version));
        let text = match stays.filter(|_| !is_alive && !is_back) {
            Some(version) => format!(
                "{resource} does not accept the value of version {version}, which it was to give back; make it accept that again, or say `keywheel revoke NAME` and put another value"
            ),
            None => {
                format!("{resource} still accepts a value that was to be refused; end it there")
            }
        };
        Err(PortError::new(ErrorKind::Denied, text))
    }

    /// Whether what was to die is accepted.
    async fn is_alive(&self, task: &WebhookTask<'_>, until: &Until) -> Result<bool, PortError> {
        let question = WebhookTask {
            reason: None,
            current: None,
            ..task.clone()
        };
        let may_be = question.value.is_some();
        Ok(may_be && self.is_accepted(Kind::Probe, question, until).await?)
    }

    /// Whether what stays is accepted; so it is where nothing was to be given back.
    async fn is_back(&self, task: &WebhookTask<'_>, until: &Until) -> Result<bool, PortError> {
        let Some(stays) = &task.current else {
            return Ok(true);
        };
        let question = WebhookTask {
            version: stays.version,
            value: Some(stays.value),
            reason: None,
            current: None,
            ..task.clone()
        };
        self.is_accepted(Kind::Probe, question, until).await
    }

    /// The current version and its value, where `set` of a newer one took its place: it is to be given back.
    async fn displaced(
        &self,
        secret: SecretId,
        version: u64,
        until: &Until,
    ) -> Result<Option<(u64, SecretBytes)>, PortError> {
        let is_newer = |current: &u64| *current < version;
        let current = self.plan.current.filter(is_newer);
        let Some(current) = current.filter(|_| self.strategy() == Overlap::SingleUser) else {
            return Ok(None);
        };
        let kept = self.readable(secret, current, until).await?;
        if kept.is_none() {
            tracing::warn!(
                version = current,
                "the current value is not in the cache and cannot be given back; rotate again, or put it"
            );
        }
        Ok(kept.map(|value| (current, value)))
    }

    /// A version's value where it can be read: one that is damaged in the cache is as good as gone.
    async fn readable(
        &self,
        secret: SecretId,
        version: u64,
        until: &Until,
    ) -> Result<Option<SecretBytes>, PortError> {
        match self.kept(secret, version, until).await {
            Err(error) if error.kind == ErrorKind::Corrupt => {
                tracing::warn!(
                    version,
                    "a value is damaged in the cache: its receiver is not sent it, and ends what it knows of that version"
                );
                Ok(None)
            }
            kept => kept,
        }
    }

    /// One version ends, and its value goes.
    async fn end_one(
        &self,
        secret: SecretId,
        version: u64,
        reason: Reason,
        until: &Until,
    ) -> Result<(), PortError> {
        self.refuse_one(secret, version, reason, until).await?;
        until.check()?;
        self.vault.destroy(secret, version).await
    }

    /// One version ends at the receiver. A revocation insists where another version has the same value, and where
    /// its value cannot be read.
    async fn refuse_one(
        &self,
        secret: SecretId,
        version: u64,
        reason: Reason,
        until: &Until,
    ) -> Result<(), PortError> {
        if reason == Reason::Revoked {
            until.check()?;
            barring::bar(&*self.vault, secret, version).await?;
        }
        let value = match reason {
            Reason::Revoked => self.readable(secret, version, until).await?,
            Reason::Retired | Reason::RolledBack => self.kept(secret, version, until).await?,
        };
        let is_known = match &value {
            None => !self.vault.is_destroyed(secret, version).await?,
            Some(value) if reason == Reason::Retired => {
                !self.is_shared(secret, version, value, until).await?
            }
            Some(_) => true,
        };
        if is_known {
            let word = match reason {
                Reason::Retired => "retired",
                Reason::RolledBack => "rolledback",
                Reason::Revoked => "revoked",
            };
            let id = format!("kw_{secret}_{version}_{word}");
            let current = match reason {
                Reason::Retired => None,
                Reason::RolledBack | Reason::Revoked => {
                    self.displaced(secret, version, until).await?
                }
            };
            let data = WebhookTask {
                value: sent_again(value.as_ref()),
                current: stays(current.as_ref(), value.as_ref()),
                ..self.task(secret, None, version)
            };
            self.end(&id, data, reason, until).await?;
        }
        Ok(())
    }

    /// As [`Self::end_all`] of a revocation, and the values stay: the receiver is asked about them once more.
    pub(super) async fn disable_all(
        &self,
        secret: SecretId,
        versions: &[u64],
        until: &Until,
    ) -> Result<(), PortError> {
        let mut first = Ok(());
        for version in versions {
            let done = self.refuse_one(secret, *version, Reason::Revoked, until);
            first = first.and(done.await);
        }
        first
    }

    /// Whether the receiver says of each that it refuses it. What it says nothing of is told.
    pub(super) async fn ask_all(
        &self,
        secret: SecretId,
        versions: &[u64],
        until: &Until,
    ) -> Result<Proof, PortError> {
        let mut proof = Proof::default();
        for version in versions {
            let kept = self.readable(secret, *version, until).await?;
            let Some(value) = sent_again(kept.as_ref()) else {
                let lacking = format!(
                    "the value of version {version} is gone, damaged or none that is sent, so nobody can ask about it"
                );
                proof.lacking.get_or_insert(lacking);
                continue;
            };
            let question = WebhookTask {
                value: Some(value),
                ..self.task(secret, None, *version)
            };
            match self.is_accepted(Kind::Probe, question, until).await {
                Ok(is_accepted) => proof.evidence.push(Evidence {
                    version: *version,
                    at: until.now(),
                    place: self.plan.resource.to_string(),
                    answer: match is_accepted {
                        true => Answer::Accepted,
                        false => Answer::Refused,
                    },
                }),
                Err(error) if TellsNothing::is_beneath(&error) => {
                    proof.lacking.get_or_insert(error.text);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(proof)
    }

    /// Every version is tried, also after one failed; the first failure is told.
    pub(super) async fn end_all(
        &self,
        secret: SecretId,
        versions: &[u64],
        reason: Reason,
        until: &Until,
    ) -> Result<(), PortError> {
        let mut first = Ok(());
        for version in versions {
            let done = self.end_one(secret, *version, reason, until).await;
            first = first.and(done);
        }
        first
    }

    /// Whether a failed rotation has left nothing there: nothing was asked, another version has the value,
    /// or it was given by whoever has it in use, so that taking it away would be the outage. Where `set` has
    /// displaced the current value, only the current version can be the other one: it is given back.
    async fn left_nothing(
        &self,
        work: &StepWork,
        version: u64,
        value: Option<&SecretBytes>,
        until: &Until,
    ) -> Result<bool, PortError> {
        let Some(value) = value else {
            until.check()?;
            let destroyed = self.vault.is_destroyed(work.secret, version).await?;
            return Ok(work.provided || destroyed);
        };
        if work.provided && self.plan.current.is_none() {
            tracing::warn!("a value was not taken over; its receiver may accept it");
            return Ok(true);
        }
        if let Some((_, before)) = self.displaced(work.secret, version, until).await? {
            return Ok(before.ct_eq(value));
        }
        self.is_shared(work.secret, version, value, until).await
    }

    /// The new version's value ends, and the current one is given back. Where there is none, and who is asked
    /// refuses to end it, `create` was refused, too: a wrong address would lock the secret for ever.
    pub(super) async fn undo(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let version = new_version(work)?;
        let value = self.kept(work.secret, version, until).await?;
        if !self
            .left_nothing(work, version, value.as_ref(), until)
            .await?
        {
            let current = self.displaced(work.secret, version, until).await?;
            let data = WebhookTask {
                value: sent_again(value.as_ref()),
                current: stays(current.as_ref(), value.as_ref()),
                ..self.task(work.secret, Some(work.rotation), version)
            };
            let id = step_id(work.rotation, "rolledback");
            match self.end(&id, data, Reason::RolledBack, until).await {
                Err(error) if value.is_none() && Refused::is_beneath(&error) => {
                    tracing::warn!(
                        resource = %self.plan.resource,
                        "nothing is kept of a version, and its receiver refuses to end it: taken for never made; look there for what was made, if it ever answered `create`"
                    );
                }
                ended => ended?,
            }
        }
        until.check()?;
        self.vault.destroy(work.secret, version).await
    }
}

/// What is to be accepted again: not what dies.
fn stays<'a>(
    current: Option<&'a (u64, SecretBytes)>,
    dying: Option<&SecretBytes>,
) -> Option<WebhookCurrent<'a>> {
    let (version, value) = current?;
    let is_dying = dying.is_some_and(|dying| dying.ct_eq(value));
    let value = sent_again(Some(value)).filter(|_| !is_dying)?;
    Some(WebhookCurrent {
        version: *version,
        value,
    })
}
