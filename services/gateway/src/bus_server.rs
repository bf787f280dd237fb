//! What the gateway answers on the bus: submits of workers, reads of the log, plans and grants.
//!
//! A role submits only what its table allows (rules TH6, TH9); anything else is refused and audited. So is a renewal that
//! makes no sense or is refused, a value that is not granted, and a plan for a host that was evicted: the first ones of
//! each member by themselves, the rest counted (`refusals`). A host that asks for a plan and is not enrolled is on record
//! once, since an injector asks again and again.

mod refusals;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keywheel_core::audit::{Category, Outcome, Principal, Record, Role};
use keywheel_core::command::Command;
use keywheel_core::host::{Host, KeyRequest, PermitRequest};
use keywheel_core::id::{CommandId, HostId};
use keywheel_core::name::BusKey;
use keywheel_core::time::Timestamp;
use keywheel_engine::authority;
use keywheel_engine::command_bus::{Handle, Submission};
use keywheel_engine::port::bus::{
    Address, Body, Bus, HostKeys, Message, Request, Requests, ValueRequest,
};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::{Journal, Verdict};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::state::View;
use keywheel_engine::trace::Context;
use keywheel_telemetry::traces::{Kind, Span, names as spans};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::denials::{Denials, WINDOW};
use refusals::Wish;

/// Whose spans these are.
const SERVICE: &str = "gateway";

/// Most requests served at once.
pub const MAX_SERVED: usize = 256;

/// So many hosts that are not enrolled are remembered; beyond that they are told of anew.
const MAX_UNENROLLED: usize = 1024;
/// A host that comes asks for its plan while it is being enrolled; so long that counts as coming.
const ENROLMENT_GRACE: Duration = Duration::from_secs(10);

/// How long a request for what changed about stores waits for a change: well within what store-sync
/// gives it, and within the age of a request.
pub const NEWS_WAIT: Duration = Duration::from_secs(20);

/// Makes members' credentials fresh; what a request holds is its matter.
pub trait Renewals: Send + Sync {
    /// The permit that a request leads to when it is granted now: the public key of the sender's user
    /// on the bus server, and when it ends at the latest.
    ///
    /// # Errors
    /// With a person's words when the request makes no sense.
    fn permit(&self, ask: &[u8], now: Timestamp) -> Result<(BusKey, Timestamp), String>;

    /// The new sealing key that a host's request brings, with its generation.
    ///
    /// # Errors
    /// With a person's words when the request makes no sense.
    fn sealing_key(&self, ask: &[u8]) -> Result<Option<(u64, [u8; 32])>, String>;

    /// Fresh credentials for the sender, who is known by its signature. May write to disk.
    ///
    /// # Errors
    /// With a person's words when they cannot be made.
    fn renew(
        &self,
        role: Role,
        host: Option<HostId>,
        ask: &[u8],
        now: Timestamp,
    ) -> Result<Vec<u8>, String>;
}

/// Whose credentials are made fresh.
pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) host: Option<HostId>,
    /// W3C trace context of the request.
    pub(crate) traceparent: Option<String>,
}

/// A host that is not enrolled and asks for a plan.
#[derive(Debug)]
struct Asking {
    /// When it was heard first, by the monotonic clock.
    since: Duration,
    is_told: bool,
}

/// Hosts that are not enrolled and ask for a plan, which is on record once they keep asking.
#[derive(Debug, Default)]
pub struct Unenrolled(Mutex<BTreeMap<HostId, Asking>>);

impl Unenrolled {
    fn hosts(&self) -> MutexGuard<'_, BTreeMap<HostId, Asking>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is to be told of now: it still asks, after a host that comes is enrolled, and was not told of yet.
    fn note(&self, host: HostId, now: Duration) -> bool {
        let mut hosts = self.hosts();
        if hosts.len() >= MAX_UNENROLLED && !hosts.contains_key(&host) {
            hosts.clear();
        }
        let asking = hosts.entry(host).or_insert(Asking {
            since: now,
            is_told: false,
        });
        let is_due = now.saturating_sub(asking.since) >= ENROLMENT_GRACE;
        is_due && !std::mem::replace(&mut asking.is_told, true)
    }

    fn forget(&self, host: HostId) {
        if let Some(asking) = self.hosts().get_mut(&host) {
            asking.is_told = false;
        }
    }
}

/// Answers requests at [`Address::Gateway`].
#[derive(Clone)]
pub struct BusServer {
    /// This service's end of the bus.
    pub bus: Arc<dyn Bus>,
    /// Submits commands.
    pub commands: Handle,
    /// Committed state.
    pub view: View,
    /// The log of record.
    pub journal: Arc<dyn Journal>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// Makes credentials fresh; `None` where members have none.
    pub renewals: Option<Arc<dyn Renewals>>,
    /// Hosts that are not enrolled.
    pub unenrolled: Arc<Unenrolled>,
    /// Counts what members are refused, apart from people, so that neither takes the other's records.
    pub refused: Arc<Denials>,
}

impl BusServer {
    /// Answers until told to stop; then writes the last counts of what was refused, while commands are still taken.
    ///
    /// # Errors
    /// When the address cannot be served.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), PortError> {
        let requests = self.bus.serve(Address::Gateway).await?;
        let over = shutdown.child_token();
        let counting = tokio::spawn(self.clone().write_counts_every(WINDOW, over.clone()));
        self.serve_all(requests, &shutdown).await;
        over.cancel();
        self.write_last_counts(counting).await;
        Ok(())
    }

    async fn serve_all(&self, mut requests: Box<dyn Requests>, shutdown: &CancellationToken) {
        let permits = Arc::new(Semaphore::new(MAX_SERVED));
        loop {
            let request = tokio::select! {
                () = shutdown.cancelled() => return,
                request = requests.next() => request,
            };
            let Some(request) = request else {
                return;
            };
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            let server = self.clone();
            tokio::spawn(async move {
                let _permit = permit;
                server.serve(request).await;
            });
        }
    }

    async fn serve(&self, request: Box<dyn Request>) {
        let message = request.message().clone();
        let answered = self.answer(&message).await;
        let body = answered.unwrap_or_else(|error| Body::Failed {
            kind: error.kind,
            text: error.text,
        });
        if let Err(error) = request.answer(body).await {
            tracing::debug!(error = %error, "answer not delivered");
        }
    }

    pub(crate) async fn answer(&self, message: &Message) -> Result<Body, PortError> {
        match &message.body {
            Body::Submit { id, command } => self.submit(message, *id, command.clone()).await,
            Body::ReadEvents { after, limit } => {
                Ok(Body::Events(self.journal.read(*after, *limit).await?))
            }
            Body::ReadAudit { from, limit } => Ok(Body::AuditLeaves(
                self.journal.read_audit(*from, *limit).await?,
            )),
            Body::ReadPlan { host } => self.plan(message.sender, *host).await,
            Body::ReadHosts => Ok(Body::Hosts(HostKeys::of_all(&self.view.read().world))),
            Body::ReadStores { after, wait } => Ok(self.store_news(*after, *wait).await),
            Body::Renew(ask) => self.renew(message, ask).await,
            Body::OpenValue(wanted) => {
                let above = message.traceparent.as_deref().and_then(Context::parse);
                let mut span = Span::below(SERVICE, spans::GRANT, Kind::Server, above)
                    .with(spans::RPC_SYSTEM, spans::SYSTEM)
                    .with(spans::RPC_METHOD, spans::GRANT)
                    .with(spans::HOST_ID, wanted.host.to_string())
                    .with(spans::SECRET_ID, wanted.secret.to_string())
                    .with(spans::VERSION, wanted.version);
                let granted = self.grant(message.sender, wanted).await;
                if let Err(error) = &granted {
                    span.fail(error.kind.word(), &error.text);
                }
                granted
            }
            _ => Err(PortError::new(
                ErrorKind::Denied,
                "the gateway does not answer such a request",
            )),
        }
    }

    /// What changed about stores; waits for a change when it is asked to, but not for ever.
    async fn store_news(&self, after: u64, wait: bool) -> Body {
        let mut bell = self.view.bell();
        let changed = async {
            while !self.view.read().world.has_store_news(after) {
                if bell.changed().await.is_err() {
                    return;
                }
            }
        };
        if wait {
            let _in_time: Result<(), _> = tokio::time::timeout(NEWS_WAIT, changed).await;
        }
        let committed = self.view.read();
        let news = committed.world.store_news(after, committed.number);
        Body::Stores(Box::new(news))
    }

    async fn submit(
        &self,
        message: &Message,
        id: CommandId,
        command: Command,
    ) -> Result<Body, PortError> {
        let sender = message.sender;
        let principal = Principal::Service(sender);
        if !authority::may_submit(sender, message.host, &command) {
            // Under an id of its own: the sender's may be answered already.
            let mut record = self.denied(principal, self.fresh_command());
            record.reason = format!("the role's table does not hold this command ({id})");
            self.refuse(record, message.host).await?;
            let text = format!("role {sender:?} may not submit this command");
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        let mut span = self.span_of(message, &command);
        let submission = Submission {
            id,
            principal,
            traceparent: span.traceparent(),
            command,
        };
        let verdict = self.commands.submit(submission).await;
        match &verdict {
            Ok(Verdict::Accepted { .. }) => span.set(spans::OUTCOME, "accepted"),
            Ok(Verdict::Rejected { .. }) => span.set(spans::OUTCOME, "rejected"),
            Err(error) => span.fail(error.kind.word(), &error.text),
        }
        drop(span);
        Ok(Body::Verdict(verdict?))
    }

    /// Below what asks; a timer's below its rotation or revocation.
    fn span_of(&self, message: &Message, command: &Command) -> Span {
        let sent = message.traceparent.as_deref().and_then(Context::parse);
        let above = sent.or_else(|| self.view.read().command_trace(command));
        Span::below(SERVICE, spans::SUBMIT, Kind::Server, above)
            .with(spans::RPC_SYSTEM, spans::SYSTEM)
            .with(spans::RPC_METHOD, spans::SUBMIT)
            .with(spans::COMMAND, word(command))
    }

    fn denied(&self, principal: Principal, command: CommandId) -> Record {
        Record {
            time: self.clock.now(),
            category: Category::System,
            principal,
            verb: "submit".to_owned(),
            object: String::new(),
            version: None,
            outcome: Outcome::Denied,
            reason: "the role's table does not hold this command".to_owned(),
            container: None,
            command,
            trace: String::new(),
        }
    }

    /// A host's plan; one that was evicted or is not enrolled has none, and asking is on record.
    async fn plan(&self, sender: Role, host: HostId) -> Result<Body, PortError> {
        self.view.note_contact(host, self.clock.now());
        let (plan, is_evicted) = {
            let committed = self.view.read();
            let known = committed.world.hosts.get(&host);
            (committed.plan_of(host), known.is_some_and(Host::is_evicted))
        };
        if let Some(plan) = plan {
            return Ok(Body::Plan(plan));
        }
        if is_evicted {
            let record = self.no_plan(sender, host, "the host was evicted");
            self.refuse(record, Some(host)).await?;
            let text = format!("host {host} was evicted and has no plan");
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        if self.unenrolled.note(host, self.clock.monotonic()) {
            let record = self.no_plan(sender, host, "the host is not enrolled");
            if let Err(error) = self.commands.record(record).await {
                self.unenrolled.forget(host);
                return Err(error);
            }
        }
        let text = format!("host {host} is not enrolled");
        Err(PortError::new(ErrorKind::NotFound, text))
    }

    fn no_plan(&self, sender: Role, host: HostId, why: &str) -> Record {
        let mut record = self.denied(Principal::Service(sender), self.fresh_command());
        record.verb = "read-plan".to_owned();
        record.object = format!("host/{host}");
        record.reason = why.to_owned();
        record
    }

    /// Fresh credentials for the sender, who is known by its signature; why there are none is on record.
    async fn renew(&self, message: &Message, ask: &[u8]) -> Result<Body, PortError> {
        let who = Member {
            role: message.sender,
            host: message.host,
            traceparent: message.traceparent.clone(),
        };
        let error = match self.fresh(&who, ask, "known by its signature").await {
            Ok(made) => return Ok(Body::Renewed(made)),
            Err(error) => error,
        };
        // What is away refused nothing: it is asked again.
        if error.kind != ErrorKind::Unavailable {
            let mut record = self.renewal_of(&who);
            record.reason = error.text.clone();
            self.refuse(record, who.host).await?;
        }
        Err(error)
    }

    /// The record of a renewal, as one that is denied.
    fn renewal_of(&self, who: &Member) -> Record {
        let mut record = self.denied(Principal::Service(who.role), self.fresh_command());
        record.verb = "renew-credentials".to_owned();
        record.object = match who.host {
            Some(host) => format!("host/{host}"),
            None => format!("service/{:?}", who.role),
        };
        record
    }

    /// Fresh credentials for a member that is known, `how` as the record says, and its new sealing
    /// key, if it brings one. On record; an error is put there by who asks this, in their own words for who it is.
    pub(crate) async fn fresh(
        &self,
        who: &Member,
        ask: &[u8],
        how: &str,
    ) -> Result<Vec<u8>, PortError> {
        let Some(renewals) = self.renewals.clone() else {
            return Err(denied_as(
                "there are no credentials to renew here".to_owned(),
            ));
        };
        let (role, host) = (who.role, who.host);
        let now = self.clock.now();
        if let Some(host) = host {
            let known = self
                .joined(host)
                .ok_or_else(|| denied_as(format!("host {host} has not joined, or was evicted")))?;
            self.take_key(who, known, &*renewals, ask).await?;
            let (key, expires_at) = renewals.permit(ask, now).map_err(denied_as)?;
            let wish = PermitRequest {
                host,
                key,
                expires_at,
            };
            if let Some(why) = self.refused_by_rules(Wish::Permit(&wish, now)).await? {
                return Err(denied_as(why));
            }
            note_permit(&self.commands, self.fresh_command(), wish).await?;
        }
        let ask = ask.to_vec();
        let making = tokio::task::spawn_blocking(move || renewals.renew(role, host, &ask, now));
        let made = making.await.map_err(|error| error.to_string());
        let made = made.and_then(|made| made).map_err(denied_as)?;
        let mut record = self.renewal_of(who);
        record.outcome = Outcome::Allowed;
        record.reason = how.to_owned();
        self.commands.record(record).await?;
        Ok(made)
    }

    /// The keys of a host that joined and was not evicted.
    fn joined(&self, host: HostId) -> Option<KeyRequest> {
        let world = &self.view.read().world;
        let known = world.live_host(host)?;
        Some(KeyRequest {
            host,
            signing_key: known.signing_key?,
            sealing_key: known.sealing_key,
            generation: known.key_generation,
        })
    }

    /// Takes the sealing key that a host brings, unless it is the known one.
    async fn take_key(
        &self,
        who: &Member,
        known: KeyRequest,
        renewals: &dyn Renewals,
        ask: &[u8],
    ) -> Result<(), PortError> {
        let brought = renewals.sealing_key(ask).map_err(denied_as)?;
        let Some((generation, sealing_key)) = brought else {
            return Ok(());
        };
        let next = KeyRequest {
            sealing_key,
            generation,
            ..known.clone()
        };
        if next == known {
            return Ok(());
        }
        if let Some(why) = self.refused_by_rules(Wish::Keys(&next)).await? {
            return Err(PortError::new(ErrorKind::Conflict, why));
        }
        let submission = Submission {
            id: self.fresh_command(),
            principal: Principal::Service(who.role),
            traceparent: who.traceparent.clone(),
            command: Command::RotateHostKey(next),
        };
        match self.commands.submit(submission).await? {
            Verdict::Accepted { .. } => Ok(()),
            Verdict::Rejected { text, .. } => Err(PortError::new(ErrorKind::Conflict, text)),
        }
    }

    /// Whether a host may be given a version, at the log's head; a refusal is on record first.
    async fn grant(&self, sender: Role, wanted: &ValueRequest) -> Result<Body, PortError> {
        if sender != Role::StoreSync {
            return Err(PortError::new(
                ErrorKind::Denied,
                "only store-sync asks for grants",
            ));
        }
        // Another gateway may have revoked it: the log's head decides.
        self.commands.look_at_head().await?;
        let (granted, object, is_dead) = self.look_up(wanted);
        if let Some(sealing_key) = granted {
            return Ok(Body::Granted { sealing_key });
        }
        let mut record = self.denied(Principal::Service(Role::Injector), self.fresh_command());
        record.verb = "open-value".to_owned();
        record.object = object;
        record.version = Some(wanted.version);
        let host = wanted.host;
        record.reason = match is_dead {
            true => format!("the version is dead, and host {host} asked for it all the same"),
            false => format!("not granted to host {host} at the log's head"),
        };
        self.refuse(record, Some(host)).await?;
        let text = format!("version {} is not granted to this host", wanted.version);
        Err(PortError::new(ErrorKind::Denied, text))
    }

    /// The host's key, if the grant holds and a binding still gives the secret to the host; the secret as the audit
    /// names it; and whether the version is dead.
    fn look_up(&self, wanted: &ValueRequest) -> (Option<[u8; 32]>, String, bool) {
        let committed = self.view.read();
        let world = &committed.world;
        let secret = world.secrets.get(&wanted.secret);
        let granted = secret.is_some_and(|secret| {
            secret.is_deliverable(wanted.version)
                && secret.delivered.get(&(wanted.host, wanted.version)) == Some(&wanted.delivery)
                && world.is_given_to(secret.id, wanted.host)
        });
        let host = world.live_host(wanted.host).filter(|_| granted);
        let object = secret.map_or_else(String::new, |secret| format!("secret/{}", secret.name));
        let is_dead = secret.is_some_and(|secret| {
            wanted.version <= secret.last_version && !secret.is_deliverable(wanted.version)
        });
        (host.map(|host| host.sealing_key), object, is_dead)
    }

    fn fresh_command(&self) -> CommandId {
        CommandId::from_bytes(self.ids.draw())
    }
}

/// What a worker's command is called.
const fn word(command: &Command) -> &'static str {
    match command {
        Command::Report(_) => "report",
        Command::StepOutcome { .. } => "step_outcome",
        Command::RevokeOutcome { .. } => "revoke_outcome",
        Command::ProofOutcome { .. } => "proof_outcome",
        Command::Due { .. } => "due",
        Command::RetryStep { .. } => "retry_step",
        Command::RetryRevoke { .. } => "retry_revoke",
        Command::DeadlinePassed { .. } => "deadline_passed",
        Command::LingerEnded { .. } => "linger_ended",
        Command::Playbook(_) => "playbook",
        Command::Observed(_) => "observed",
        Command::StoreContact { .. } => "store_contact",
        _ => "other",
    }
}

fn denied_as(text: String) -> PortError {
    PortError::new(ErrorKind::Denied, text)
}

/// Notes in the log that a host's key is about to get a permit for the bus.
pub(crate) async fn note_permit(
    commands: &Handle,
    id: CommandId,
    wish: PermitRequest,
) -> Result<(), PortError> {
    let submission = Submission {
        id,
        principal: Principal::Service(Role::Gateway),
        traceparent: None,
        command: Command::NotePermit(wish),
    };
    match commands.submit(submission).await? {
        Verdict::Accepted { .. } => Ok(()),
        Verdict::Rejected { text, .. } => Err(PortError::new(ErrorKind::Denied, text)),
    }
}

#[cfg(test)]
mod tests;
