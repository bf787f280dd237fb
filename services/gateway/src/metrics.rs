//! What a gateway shows of a deployment: a projection of the log, and what it hears of instances.
//!
//! Invariants: it only reads; counts and spans are the log's, so every gateway shows the same and a
//! restart loses none. What is this process's own (denied requests, who was heard) says so in its help.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::assignment::{self, Progress};
use keywheel_core::audit::Role;
use keywheel_core::id::{HostId, SecretId};
use keywheel_core::playbook::Deed;
use keywheel_core::playbook_run;
use keywheel_core::rotation::{self, Lack, Outcome, Phase};
use keywheel_core::schedule::RotationPolicy;
use keywheel_core::secret::Secret;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_engine::port::deliveries::Letter;
use keywheel_engine::presence::{Reached, Row, SILENT_AFTER};
use keywheel_engine::state::Committed;
use keywheel_engine::tally::Tally;
use keywheel_schemas::api::HealthWord;
use keywheel_schemas::subject::role_word;
use keywheel_telemetry::{Page, Source, names};

use crate::http::Api;
use crate::http::status;
use crate::views::Horizon;
use crate::views::status::{NEEDED, is_sealed};

/// A secret is overdue when so much more than its jitter has passed since its schedule wanted it: a
/// rotation under way is not overdue.
pub const OVERDUE_AFTER: Duration = Duration::from_secs(600);

/// When a secret is due: for a promotion under a policy.
type Due = BTreeMap<SecretId, (Timestamp, RotationPolicy, Option<Timestamp>)>;

/// The gateway's numbers.
pub struct Metrics {
    api: Api,
    due: Mutex<Due>,
}

impl Metrics {
    /// Of what this API shows.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self {
            api,
            due: Mutex::default(),
        }
    }

    fn secrets(&self, page: &mut Page, committed: &Committed, now: Timestamp) {
        // Names of containers are no labels: there is no bound to them.
        let mut secrets: Vec<&Secret> = committed.world.declared_secrets().collect();
        page.count(&names::SECRETS, &[], count(secrets.len()));
        secrets.sort_by(|a, b| a.name.cmp(&b.name));
        for secret in secrets {
            let name = [secret.name.as_str()];
            page.count(
                &names::STRAGGLERS,
                &name,
                stragglers(&committed.world, secret),
            );
            let left = sessions_left(&committed.world, secret);
            page.count(&names::SESSIONS_LEFT, &name, left);
            let promoted = committed.tally.promoted(secret.id);
            if let Some(promoted) = promoted.filter(|_| secret.current.is_some()) {
                let age = now.since(promoted).as_secs_f64();
                page.set(&names::SECRET_AGE, &name, age);
                page.at(&names::SECRET_LAST_ROTATION, &name, promoted);
            }
            let due = match promoted {
                Some(promoted) => self.due(secret, promoted),
                None => first_due(secret, &committed.tally),
            };
            let Some(due) = due else { continue };
            page.at(&names::SECRET_NEXT_ROTATION, &name, due);
            let late = secret.spec.rotation.jitter + OVERDUE_AFTER;
            page.flag(&names::SECRET_OVERDUE, &name, now > due.plus(late));
        }
    }

    /// Computes when what was promoted since the last look is due again. Calendars are slow, so nothing is
    /// locked while they are asked.
    fn look_ahead(&self) {
        for (secret, promoted, policy) in self.unknown() {
            let next = self.next(&policy, promoted);
            self.known().insert(secret, (promoted, policy, next));
        }
    }

    /// Whose due time is not known yet.
    fn unknown(&self) -> Vec<(SecretId, Timestamp, RotationPolicy)> {
        let committed = self.api.view.read();
        let due = self.known();
        let secrets = committed.world.secrets.values();
        let unknown = secrets.filter_map(|secret| {
            let promoted = committed.tally.promoted(secret.id)?;
            let is_known = known_due(&due, secret, promoted).is_some();
            (!is_known).then(|| (secret.id, promoted, secret.spec.rotation.clone()))
        });
        unknown.collect()
    }

    /// When the schedule wants the version after one; computed once for each, ahead of the look or, where it
    /// was promoted since, now.
    fn due(&self, secret: &Secret, promoted: Timestamp) -> Option<Timestamp> {
        let mut due = self.known();
        if let Some(next) = known_due(&due, secret, promoted) {
            return next;
        }
        let policy = &secret.spec.rotation;
        let next = self.next(policy, promoted);
        due.insert(secret.id, (promoted, policy.clone(), next));
        next
    }

    fn next(&self, policy: &RotationPolicy, promoted: Timestamp) -> Option<Timestamp> {
        let horizon = Horizon::after_promotion(promoted, 1);
        let fires = (self.api.next_fires)(policy, horizon);
        let next = fires.first().and_then(|text| text.parse().ok());
        next.map(|next: jiff::Timestamp| Timestamp::from_micros(next.as_microsecond()))
    }

    fn known(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Source for Metrics {
    async fn read(&self, page: &mut Page) {
        let (status, answered) = status::look(&self.api).await;
        let now = self.api.clock.now();
        page.flag(&names::JOURNAL_UP, &[], answered);
        if answered {
            page.count(&names::AUDIT_RECORDS, &[], status.audit_records);
            page.count(&names::EFFECTS_OPEN, &[], status.open_effects);
        }
        page.count(&names::ROTATIONS_OPEN, &[], status.open_rotations);
        page.count(&names::REVOCATIONS_OPEN, &[], status.open_revocations);
        for (word, state) in [
            ("unknown", HealthWord::Unknown),
            ("warning", HealthWord::Warning),
            ("problem", HealthWord::Problem),
        ] {
            let found = status.findings.iter().filter(|f| f.state == state).count();
            page.count(&names::FINDINGS, &[word], count(found));
        }
        let denied = self.api.denials.total();
        page.count(&names::REQUESTS_DENIED, &[], denied);
        let looks = self.api.health_looks.load(Ordering::Relaxed);
        page.count(&names::HEALTH_LOOKS, &[], looks);
        if let Ok(all) = self.api.deliveries.letters().await {
            letters(page, &all);
        }
        let rows = self.api.presences.rows();
        let steady = self.api.clock.monotonic();
        page.flag(&names::SEALED, &[], is_sealed(&rows, steady));
        self.look_ahead();
        let committed = self.api.view.read();
        page.count(&names::JOURNAL_EVENTS, &[], committed.number);
        self.secrets(page, &committed, now);
        tally(page, &committed.tally);
        rotations(page, &committed.world);
        runs(page, &committed.world, now);
        approvals(page, &committed.world, now);
        consumers(page, &committed.world);
        let hearing = Hearing {
            rows: &rows,
            steady,
            listening: self.api.presences.listening(),
        };
        instances(page, &committed.world, &hearing);
        hosts(page, &self.api, &committed.world, &hearing);
    }
}

/// What was computed for this promotion under this policy.
fn known_due(due: &Due, secret: &Secret, promoted: Timestamp) -> Option<Option<Timestamp>> {
    let (since, policy, next) = due.get(&secret.id)?;
    (*since == promoted && *policy == secret.spec.rotation).then_some(*next)
}

/// When the first version is wanted: at once, where it is made or fetched and no person has to put it.
fn first_due(secret: &Secret, tally: &Tally) -> Option<Timestamp> {
    let is_outside = secret.place().is_some() && !secret.gives_leases();
    let comes_by_itself = secret.spec.generator.is_some() || is_outside;
    let registered = tally.registered(secret.id);
    registered.filter(|_| comes_by_itself)
}

/// Letters, by the kind of their owner.
fn letters(page: &mut Page, all: &[Letter]) {
    for kind in names::LETTER_KINDS {
        let is_of = |one: &&Letter| one.owner.split('/').next() == Some(*kind);
        let of_kind = all.iter().filter(is_of).count();
        page.count(&names::LETTERS, &[*kind], count(of_kind));
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Consumers whose copy is not the current version. A canary's is the next one, as long as it is to have that.
fn stragglers(world: &World, secret: &Secret) -> u64 {
    let Some(current) = secret.current else {
        return 0;
    };
    let open = world.open_rotation(secret.id);
    let is_ahead = |key: &assignment::Key, holds: u64| {
        open.is_some_and(|open| open.version == holds && open.is_ahead(key))
    };
    let consumers = world.consumers(secret.id);
    let behind = consumers.filter(|&(key, one)| {
        !one.is_unserved() && one.holds != current && !is_ahead(key, one.holds)
    });
    count(behind.count())
}

/// Sessions of what dies that its rotation waits for, as they were told last.
fn sessions_left(world: &World, secret: &Secret) -> u64 {
    let open = world.open_rotation(secret.id);
    let waits = open.filter(|open| open.is_draining());
    waits.and_then(|open| open.drain.left).unwrap_or(0)
}

/// What the log says in numbers.
fn tally(page: &mut Page, tally: &Tally) {
    for metric in [
        &names::ROTATIONS,
        &names::ROTATION_DURATION,
        &names::ROTATION_STEP_DURATION,
        &names::ROTATION_STEP_FAILURES,
        &names::CONSUMER_RESTARTS,
        &names::PLAYBOOK_RUNS,
    ] {
        page.begin(metric, &[]);
    }
    for (trigger, started) in &tally.started {
        page.count(&names::ROTATIONS, &[trigger], *started);
    }
    for (outcome, spread) in &tally.closed {
        page.spread(&names::ROTATION_DURATION, &[outcome], spread);
    }
    for (step, spread) in &tally.steps {
        page.spread(&names::ROTATION_STEP_DURATION, &[step], spread);
    }
    for (step, failed) in &tally.failures {
        page.count(&names::ROTATION_STEP_FAILURES, &[step], *failed);
    }
    for (cause, restarted) in &tally.restarts {
        page.count(&names::CONSUMER_RESTARTS, &[cause], *restarted);
    }
    for (outcome, ended) in &tally.runs {
        page.count(&names::PLAYBOOK_RUNS, &[outcome], *ended);
    }
    page.spread(&names::PROPAGATION, &[], &tally.propagation);
    page.spread(&names::ROTATION_GAP, &[], &tally.gaps);
    page.spread(&names::REVOCATION_DURATION, &[], &tally.revoked);
    page.count(&names::CONSUMERS_REFUSED, &[], tally.refused);
}

fn rotations(page: &mut Page, world: &World) {
    let mut newest = BTreeMap::new();
    for rotation in world.rotations.values() {
        let known = newest.entry(rotation.secret).or_insert(rotation);
        if rotation.version > known.version {
            *known = rotation;
        }
    }
    // One that sessions or canaries hold up beyond its deadline ends with them, but a person should know.
    let parked = newest.values().filter(|newest| {
        newest.phase == Phase::Closed(Outcome::Parked)
            || newest.is_held_by_sessions()
            || newest.is_held_by_canaries()
    });
    page.count(&names::ROTATIONS_PARKED, &[], count(parked.count()));
    for lack in Lack::ALL {
        page.count(&names::STRAGGLERS_LACKING, &[lack.word()], 0);
    }
    for open in world.open_rotations() {
        for consumer in &open.waiting {
            let lack = rotation::lack(world, consumer);
            page.count(&names::STRAGGLERS_LACKING, &[lack.word()], 1);
        }
    }
}

/// Runs of playbooks that are open, and which of them a person has to look after.
fn runs(page: &mut Page, world: &World, now: Timestamp) {
    let count_of = |is_so: &dyn Fn(&playbook_run::StepState) -> bool| {
        let is_open =
            |step: &&playbook_run::StepState| step.progress == playbook_run::Progress::Open;
        let has = |run: &&playbook_run::Run| run.steps.iter().filter(is_open).any(is_so);
        count(world.open_runs().filter(has).count())
    };
    page.count(
        &names::PLAYBOOK_RUNS_OPEN,
        &[],
        count(world.open_runs().count()),
    );
    let asks = count_of(&|step| matches!(step.step.deed, Deed::Approve { .. }));
    page.count(&names::PLAYBOOK_RUNS_AWAITING_APPROVAL, &[], asks);
    let late = count_of(&|step| step.until.is_some_and(|until| until < now));
    page.count(&names::PLAYBOOK_RUNS_OVERDUE, &[], late);
}

/// What takes several people: what waits for them, and what went without.
fn approvals(page: &mut Page, world: &World, now: Timestamp) {
    let all = || world.approvals.iter();
    let waiting = all()
        .filter(|known| known.is_open(now) && known.missing() > 0 && !world.is_overtaken(known));
    page.count(&names::APPROVALS_WAITING, &[], count(waiting.count()));
    let unreviewed = all().filter(|known| known.is_unreviewed());
    page.count(
        &names::BREAK_GLASS_UNREVIEWED,
        &[],
        count(unreviewed.count()),
    );
}

fn consumers(page: &mut Page, world: &World) {
    for state in ["waiting", "swapped", "reloaded", "refused"] {
        page.count(&names::CONSUMERS, &[state], 0);
    }
    for assignment in world.assignments.values() {
        let state = match &assignment.progress {
            Progress::Waiting => "waiting",
            Progress::Swapped => "swapped",
            Progress::Reloaded => "reloaded",
            Progress::Refused(_) => "refused",
            // Not among the live ones.
            Progress::Withdrawn | Progress::Vanished => continue,
        };
        page.count(&names::CONSUMERS, &[state], 1);
    }
}

/// What was heard of instances, by whom, and for how long there was time to be heard.
struct Hearing<'a> {
    rows: &'a [Row],
    steady: Duration,
    listening: Duration,
}

impl Hearing<'_> {
    /// Whether who was not heard at all should have been.
    fn is_over(&self) -> bool {
        self.listening > SILENT_AFTER
    }

    /// Whether there is a word of a host, or of any instance of a service.
    fn is_heard(&self, role: Role, host: Option<HostId>) -> bool {
        let presences = self.rows.iter().map(|row| &row.presence);
        presences
            .filter(|presence| presence.role == role)
            .any(|presence| host.is_none() || presence.host == host)
    }
}

fn instances(page: &mut Page, world: &World, hearing: &Hearing<'_>) {
    page.begin(&names::INSTANCES, &[]);
    for row in hearing.rows {
        let is_stranger = |host| world.live_host(host).is_none();
        if row.presence.host.is_some_and(is_stranger) {
            continue;
        }
        let service = role_word(row.presence.role);
        let silent = row.is_silent(hearing.steady);
        page.count(&names::INSTANCES, &[service, heard(!silent)], 1);
        let reads_log = matches!(
            row.presence.seen.reached,
            Some(Reached::Event(_) | Reached::AuditRecords(_))
        );
        if let Some(lag) = row.lag().filter(|_| reads_log) {
            let machine = row.presence.machine.as_str();
            page.count(&names::READER_LAG, &[service, machine], lag);
        }
    }
    if !hearing.is_over() {
        return;
    }
    let missing = NEEDED.iter().filter(|role| !hearing.is_heard(**role, None));
    for role in missing {
        page.count(&names::INSTANCES, &[role_word(*role), heard(false)], 1);
    }
    let hosts = world.live_hosts();
    let missing = hosts.filter(|host| !hearing.is_heard(Role::Injector, Some(host.id)));
    let injector = [role_word(Role::Injector), heard(false)];
    page.count(&names::INSTANCES, &injector, count(missing.count()));
}

const fn heard(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn hosts(page: &mut Page, api: &Api, world: &World, hearing: &Hearing<'_>) {
    let mut live = 0;
    // Who was not heard since this gateway began to listen was not heard for at least so long.
    let began = hearing.listening.as_micros();
    let began = i64::try_from(began).unwrap_or(i64::MAX);
    let began = Timestamp::from_micros(api.clock.now().micros().saturating_sub(began));
    for host in world.live_hosts() {
        live += 1;
        let name = [host.name.as_str()];
        let contact = api.view.contact(host.id);
        let contact = contact.map_or(began, |contact| contact.at);
        page.at(&names::HOST_LAST_CONTACT, &name, contact);
        let mut rows = hearing.rows.iter();
        let row = rows.find(|row| row.presence.host == Some(host.id));
        let Some(row) = row else { continue };
        let behind = row
            .behind_since
            .map_or(Duration::ZERO, |since| hearing.steady.saturating_sub(since));
        page.set(&names::HOST_PLAN_LAG, &name, behind.as_secs_f64());
    }
    page.count(&names::HOSTS, &[], live);
}

#[cfg(test)]
mod tests;
