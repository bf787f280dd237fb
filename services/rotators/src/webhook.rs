//! A receiver of a person's own: each step of a rotation is a signed HTTP request to it.
//!
//! What signs in where, only the receiver knows; it is asked to make, accept, try and refuse a value, and
//! is believed where it says so. Invariants: a value is at rest in the vault, sealed, before the receiver
//! is told to accept it; a step that changes something has one id, however often it is sent, and a
//! question has another one each time; what a value's end promises is asked about once more
//! (`ending`). How many sessions are open there nobody can tell.

mod ending;
pub(crate) mod receiver;
pub(crate) mod signature;

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::effect::{AtResource, Outside, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::resource::{Resource, Strategy};
use keywheel_core::revocation::Proof;
use keywheel_core::rotation::Step;
use keywheel_core::store::RemoteVersion;
use keywheel_engine::generator;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::failpoint::{Failpoint, Points};
use keywheel_engine::port::rotator::{Probed, Rotator, TellsNothing};
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_schemas::webhook::{
    Kind, Overlap, Reason, WebhookAnswer, WebhookRequest, WebhookTask,
};
use keywheel_seal::{Entropy, SecretBytes};

use self::receiver::Receiver;
pub use self::receiver::{ANSWER_TIMEOUT, MAX_ANSWER_BYTES, MAX_REASON_CHARS, MAX_VALUE_BYTES};
pub use self::signature::{Keys, MAX_KEY_BYTES, MAX_KEYS, MAX_SIGNATURES, MIN_KEY_BYTES};
use crate::account::{keep, new_version, refused};
use crate::barring;

/// The receiver's account where none is named and the URL has no path.
const NO_ACCOUNT: &str = "/";

/// Has a receiver perform the steps of one secret's rotations.
pub struct WebhookRotator {
    receiver: Receiver,
    plan: AtResource,
    vault: Arc<dyn VersionVault>,
    entropy: Arc<dyn Entropy>,
    points: Points,
}

impl WebhookRotator {
    /// A rotator for the work on one secret. Opens no connection.
    ///
    /// # Errors
    /// When `connection` is no URL that may be asked.
    pub fn new(
        plan: AtResource,
        credentials: Arc<dyn Credentials>,
        vault: Arc<dyn VersionVault>,
        entropy: Arc<dyn Entropy>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PortError> {
        let random = Arc::clone(&entropy);
        let receiver = Receiver::new(plan.resource.clone(), credentials, clock, random)?;
        Ok(Self {
            receiver,
            plan,
            vault,
            entropy,
            points: Points::default(),
        })
    }

    /// What it asks of its receiver passes these failpoints.
    #[must_use]
    pub fn passing(self, failpoint: Arc<dyn Failpoint>) -> Self {
        let points = Points::watched(failpoint);
        Self { points, ..self }
    }

    /// These addresses of this machine and its link may be asked, too.
    #[must_use]
    pub fn allowing(self, near: &[SocketAddr]) -> Self {
        let receiver = self.receiver.allowing(near.to_vec());
        Self { receiver, ..self }
    }

    fn strategy(&self) -> Overlap {
        match self.plan.resource.strategy {
            Strategy::DualPassword => Overlap::DualPassword,
            Strategy::SingleUser | Strategy::AlternatingUsers => Overlap::SingleUser,
        }
    }

    /// What every request says of a version.
    fn task(
        &self,
        secret: SecretId,
        rotation: Option<RotationId>,
        version: u64,
    ) -> WebhookTask<'_> {
        let account = self.plan.resource.accounts.first();
        WebhookTask {
            secret: secret.to_string(),
            rotation: rotation.map(|rotation| rotation.to_string()),
            version,
            account: account.map_or(NO_ACCOUNT, String::as_str),
            strategy: self.strategy(),
            value: None,
            reason: None,
            current: None,
        }
    }

    /// The same id for the same step of the same rotation, however often it is performed.
    async fn tell(
        &self,
        id: &str,
        kind: Kind,
        data: WebhookTask<'_>,
        until: &Until,
    ) -> Result<WebhookAnswer, PortError> {
        let others = self.others(&data.secret, until).await?;
        let request = WebhookRequest { kind, data };
        let [before, after] = points(kind);
        self.points.pass(before).await?;
        let answer = self.receiver.ask(id, &request, &others, until).await?;
        self.points.pass(after).await?;
        Ok(answer)
    }

    /// Values that are in use, which no receiver's words may tell on.
    async fn others(&self, secret: &str, until: &Until) -> Result<Vec<SecretBytes>, PortError> {
        let Ok(secret) = SecretId::parse(secret) else {
            return Ok(Vec::new());
        };
        let mut others = Vec::new();
        for version in self.plan.kept.iter().chain(&self.plan.current) {
            match self.kept(secret, *version, until).await {
                Err(error) if error.kind == ErrorKind::Corrupt => {}
                kept => others.extend(kept?),
            }
        }
        Ok(others)
    }

    /// What no other id ends with.
    fn drawn(&self) -> String {
        let mut drawn = [0; 8];
        self.entropy.fill(&mut drawn);
        format!("{:016x}", u64::from_be_bytes(drawn))
    }

    /// Whether the receiver accepts the value now. Each question has an id of its own: nobody may answer it
    /// from memory.
    async fn is_accepted(
        &self,
        kind: Kind,
        data: WebhookTask<'_>,
        until: &Until,
    ) -> Result<bool, PortError> {
        let id = format!("kw_{}_asked_{}", data.secret, self.drawn());
        let answer = self.tell(&id, kind, data, until).await?;
        answer.accepted.ok_or_else(|| {
            let text = format!(
                "{} answers with success and does not say whether it accepts the value, so nothing is proven; have it answer `{{\"accepted\": true}}` or `false`",
                self.plan.resource
            );
            TellsNothing::error(text)
        })
    }

    /// A version's value; nothing when it is gone or never was.
    async fn kept(
        &self,
        secret: SecretId,
        version: u64,
        until: &Until,
    ) -> Result<Option<SecretBytes>, PortError> {
        until.check()?;
        match self.vault.open(secret, version).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The new version's value; it is there, for `create` was done.
    async fn made(&self, work: &StepWork, until: &Until) -> Result<(u64, SecretBytes), PortError> {
        let version = new_version(work)?;
        let kept = self.kept(work.secret, version, until).await?;
        let value = kept.ok_or_else(|| {
            let text = format!(
                "version {version} of secret {} is not in the cache; rotate again",
                work.secret
            );
            PortError::new(ErrorKind::NotFound, text)
        })?;
        Ok((version, value))
    }

    /// Fails when the version was revoked; the receiver is told so once more, for it may have been told of it since.
    async fn check_barred(
        &self,
        work: &StepWork,
        version: u64,
        until: &Until,
    ) -> Result<(), PortError> {
        until.check()?;
        if !barring::is_barred(&*self.vault, work.secret, version).await? {
            return Ok(());
        }
        self.disable_all(work.secret, &[version], until).await?;
        Err(barring::barred(work, version))
    }

    /// The new value: what was given, else what the receiver makes, else a generated one.
    async fn value(
        &self,
        work: &StepWork,
        version: u64,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        if work.provided {
            until.check()?;
            let stashed = self.vault.stashed(work.rotation).await?;
            return stashed
                .ok_or_else(|| refused(work, "its provided value is gone; put the value again"));
        }
        let id = step_id(work.rotation, "create");
        let data = self.task(work.secret, Some(work.rotation), version);
        let answer = self.tell(&id, Kind::Create, data, until).await?;
        if let Some(made) = answer.value {
            return Ok(SecretBytes::from(made.into_bytes()));
        }
        let Some(spec) = &work.generator else {
            let reason =
                "its receiver made no value, and the secret has no generator; add `generator: {}`";
            return Err(refused(work, reason));
        };
        generator::generate(spec, &*self.entropy)
            .map_err(|error| PortError::new(ErrorKind::Denied, error.to_string()))
    }

    /// A receiver that accepts two values has no room for a third one.
    async fn check_room(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        if self.plan.resource.strategy != Strategy::DualPassword || self.plan.current.is_none() {
            return Ok(());
        }
        for version in &self.plan.kept {
            until.check()?;
            if self.vault.has(work.secret, *version).await? {
                let text = format!(
                    "{} accepts two values, and that of version {version} is not retired yet; wait until it is, or end it with `keywheel revoke NAME --version {version}`",
                    self.plan.resource
                );
                return Err(PortError::new(ErrorKind::Unavailable, text));
            }
        }
        Ok(())
    }

    /// Consumers that have not moved go on with the current value where that was promised.
    async fn check_overlap(
        &self,
        work: &StepWork,
        new: &SecretBytes,
        until: &Until,
    ) -> Result<(), PortError> {
        let promised = self.strategy() == Overlap::DualPassword;
        let Some(current) = self.plan.current.filter(|_| promised) else {
            return Ok(());
        };
        let kept = self.kept(work.secret, current, until).await?;
        let kept = kept.filter(|kept| !kept.ct_eq(new));
        let Some(value) = sent_again(kept.as_ref()) else {
            return Ok(());
        };
        let data = WebhookTask {
            value: Some(value),
            ..self.task(work.secret, Some(work.rotation), current)
        };
        if self.is_accepted(Kind::Probe, data, until).await? {
            return Ok(());
        }
        let text = format!(
            "{} does not accept the value of version {current} beside the new one, which `dualPassword` promises; mend the receiver, or end that version with `keywheel revoke NAME --version {current}`",
            self.plan.resource
        );
        Err(PortError::new(ErrorKind::Denied, text))
    }

    /// Whether another version that is kept has the same value: it dies with the last of them.
    async fn is_shared(
        &self,
        secret: SecretId,
        version: u64,
        value: &SecretBytes,
        until: &Until,
    ) -> Result<bool, PortError> {
        let others = self.plan.kept.iter().chain(&self.plan.current);
        for other in others.copied().filter(|other| *other != version) {
            let other = self.kept(secret, other, until).await?;
            if other.is_some_and(|other| other.ct_eq(value)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[async_trait]
impl Rotator for WebhookRotator {
    /// The receiver is asked for a value first; what comes second under the token takes what is kept.
    async fn create(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let version = new_version(work)?;
        self.check_room(work, until).await?;
        let value = self.value(work, version, until).await?;
        if let Some(fault) = fault(&value) {
            return Err(refused(work, fault));
        }
        keep(&*self.vault, work, version, &value, until).await
    }

    /// What was revoked is not set, however late this comes, and what a revocation in the meantime did not see ends.
    async fn set(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let (version, value) = self.made(work, until).await?;
        self.check_barred(work, version, until).await?;
        let data = WebhookTask {
            value: Some(text(&value)?),
            ..self.task(work.secret, Some(work.rotation), version)
        };
        let id = step_id(work.rotation, "set");
        let done = self.tell(&id, Kind::Set, data, until).await.map(drop);
        self.check_barred(work, version, until).await?;
        done
    }

    async fn test(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        let (version, value) = self.made(work, until).await?;
        let data = WebhookTask {
            value: Some(text(&value)?),
            ..self.task(work.secret, Some(work.rotation), version)
        };
        if self.is_accepted(Kind::Test, data, until).await? {
            return self.check_overlap(work, &value, until).await;
        }
        let text = format!(
            "{} does not accept the new value; look at its log",
            self.plan.resource
        );
        Err(PortError::new(ErrorKind::Denied, text))
    }

    async fn finish(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        let (version, _) = self.made(work, until).await?;
        let data = self.task(work.secret, Some(work.rotation), version);
        let id = step_id(work.rotation, "finish");
        self.tell(&id, Kind::Finish, data, until).await?;
        Ok(None)
    }

    async fn roll_back(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        self.undo(work, until).await
    }

    async fn revoke(
        &self,
        secret: SecretId,
        versions: &[u64],
        _: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.end_all(secret, versions, Reason::Revoked, until).await
    }

    async fn disable(
        &self,
        secret: SecretId,
        versions: &[u64],
        _: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.disable_all(secret, versions, until).await
    }

    async fn prove(
        &self,
        secret: SecretId,
        versions: &[u64],
        until: &Until,
    ) -> Result<Proof, PortError> {
        self.ask_all(secret, versions, until).await
    }

    async fn retire(
        &self,
        secret: SecretId,
        versions: &[u64],
        _: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.end_all(secret, versions, Reason::Retired, until).await
    }

    /// Of `create` the vault tells; every other step is sent again under its id, and the receiver knows.
    async fn probe(&self, work: &StepWork, until: &Until) -> Result<Probed, PortError> {
        until.check()?;
        if work.step != Step::Create {
            return Ok(Probed::NotDone);
        }
        let version = new_version(work)?;
        // A value that is still in the stash has to be taken out of it.
        let waits = work.provided && self.vault.stashed(work.rotation).await?.is_some();
        until.check()?;
        Ok(
            match !waits && self.vault.has(work.secret, version).await? {
                true => Probed::Done(None),
                false => Probed::NotDone,
            },
        )
    }
}

/// What a receiver has to check and to promise, for a person.
///
/// # Errors
/// When `connection` is no URL that may be asked.
pub fn grants(resource: &Resource) -> Result<String, PortError> {
    let (address, path) = receiver::parse(&resource.connection)?;
    let promise = match resource.strategy {
        Strategy::DualPassword => {
            "accept the value before beside the new one, from `set` until `revoke`"
        }
        Strategy::SingleUser | Strategy::AlternatingUsers => {
            "end the value before with `set`, and give it back at `revoke` with reason rolledBack"
        }
    };
    Ok(format!(
        "# For {resource}: POST {path} at {name}. Standard Webhooks 1.0, schema rotator.webhook_request.v1.\n\
         # The receiver has to\n\
         # 1. check webhook-signature (v1, HMAC-SHA256 of `id.timestamp.body` as it came) in constant time;\n\
         # 2. refuse a webhook-timestamp more than 300 s away from its own clock;\n\
         # 3. do a webhook-id once: a repeat waits for the first one where that is under way, and gets its\n\
         #    answer, until a later rotation's create or a revoke of this version; not so test and probe.\n\
         #    At create it looks first for what it made under `rotation` before;\n\
         # 4. {promise};\n\
         # 5. answer test and probe with {{\"accepted\": true|false}}, by a real login with the value;\n\
         # 6. answer 4xx with {{\"reason\": …}} to refuse, 429 or 503 with Retry-After to be asked later,\n\
         #    and never write a value to a log or into an answer.\n\
         # Its rights: to change this one account, no more. Make a key of its own:\n\
         printf 'whsec_%s' \"$(head -c 32 /dev/urandom | base64 -w0)\" | keywheel secret put {admin} --value-file -\n",
        name = address.name,
        admin = resource.admin,
    ))
}

/// The places before and after a request.
const fn points(kind: Kind) -> [&'static str; 2] {
    match kind {
        Kind::Create => [
            "rotator.webhook.before_create",
            "rotator.webhook.after_create",
        ],
        Kind::Set => ["rotator.webhook.before_set", "rotator.webhook.after_set"],
        Kind::Test | Kind::Probe => [
            "rotator.webhook.before_question",
            "rotator.webhook.after_question",
        ],
        Kind::Finish => [
            "rotator.webhook.before_finish",
            "rotator.webhook.after_finish",
        ],
        Kind::Revoke => [
            "rotator.webhook.before_revoke",
            "rotator.webhook.after_revoke",
        ],
    }
}

/// The id of a step that changes something.
fn step_id(rotation: RotationId, step: &str) -> String {
    format!("kw_{rotation}_{step}")
}

/// What cannot be sent; a person gave it, or the receiver made it.
fn fault(value: &SecretBytes) -> Option<&'static str> {
    // EXPOSE: its length and whether it is text are looked at.
    let bytes = value.expose();
    if bytes.is_empty() {
        return Some("it is empty; put another value");
    }
    if bytes.len() > MAX_VALUE_BYTES {
        return Some("it has more than 65536 bytes, which no receiver is sent; put a shorter one");
    }
    let is_text = std::str::from_utf8(bytes).is_ok();
    (!is_text).then_some("a receiver is sent text; put a value that is UTF-8")
}

/// A value as it stands in a request.
fn text(value: &SecretBytes) -> Result<&str, PortError> {
    // EXPOSE: the receiver is sent it, in the body of a request over TLS.
    std::str::from_utf8(value.expose()).map_err(|_| {
        let text = "a value that is no text cannot be sent to a receiver; put another one";
        PortError::new(ErrorKind::Denied, text)
    })
}

/// A value that a receiver may know. One from before the secret had a receiver may be none that is sent: no
/// receiver accepts it.
fn sent_again(value: Option<&SecretBytes>) -> Option<&str> {
    let value = value.filter(|value| fault(value).is_none())?;
    text(value).ok()
}

#[cfg(test)]
mod tests {
    use keywheel_core::name::SecretName;
    use keywheel_core::resource::Kind as ResourceKind;

    use super::*;

    #[test]
    fn only_text_of_some_length_is_sent() {
        let of = |bytes: &[u8]| SecretBytes::from(bytes.to_vec());
        assert!(fault(&of(&vec![b'a'; MAX_VALUE_BYTES])).is_none());
        assert!(fault(&of("\u{e9}\n\u{0}".as_bytes())).is_none());
        for bytes in [&b""[..], b"\xff", &vec![b'a'; MAX_VALUE_BYTES + 1]] {
            assert!(fault(&of(bytes)).is_some(), "{} bytes", bytes.len());
            assert!(sent_again(Some(&of(bytes))).is_none());
        }
        let long = fault(&of(&vec![b'a'; MAX_VALUE_BYTES + 1])).unwrap();
        assert!(long.contains(&MAX_VALUE_BYTES.to_string()), "{long}");
    }

    #[test]
    fn what_is_printed_says_the_promise_and_how_a_key_is_made() {
        let of = |strategy| Resource {
            kind: ResourceKind::Webhook,
            connection: "https://hooks.example/rotate".to_owned(),
            accounts: vec!["stripe".to_owned()],
            admin: SecretName::parse("shop/hook-key").unwrap(),
            strategy,
            ca: None,
        };
        let both = grants(&of(Strategy::DualPassword)).unwrap();
        assert!(both.contains("beside the new one"), "{both}");
        let one = grants(&of(Strategy::SingleUser)).unwrap();
        for words in [
            "rolledBack",
            "a repeat waits",
            "looks first for what it made",
            "POST /rotate at hooks.example",
            "put shop/hook-key",
        ] {
            assert!(one.contains(words), "{words}: {one}");
        }
    }
}
