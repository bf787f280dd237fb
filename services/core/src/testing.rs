//! The words tests are written in: given these events, when this command, then these events.
//!
//! One secret, one binding and one host are enough for most cases; they have fixed ids here.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::binding::{Reload, Selector, Target};
use crate::command::{Command, Declaration};
use crate::decision::{Context, Enrolment, Refusal, Rejection, decide};
use crate::event::Event;
use crate::id::{
    BindingId, ContainerId, DeliveryId, HostId, JoinTokenId, RevocationId, RotationId, SecretId,
};
use crate::name::{BindingName, Directory, EnvName, FileName, HostName, SecretName};
use crate::report::{Fact, HostReport, Item};
use crate::resource::{Kind, Resource, Strategy};
use crate::rotation::Step;
use crate::secret::{Generator, Spec};
use crate::time::Timestamp;
use crate::world::World;
use crate::{assignment, binding, host, revocation, rotation, secret};

pub(crate) const SECRET: SecretId = SecretId::from_bytes([1; 16]);
pub(crate) const BINDING: BindingId = BindingId::from_bytes([2; 16]);
pub(crate) const HOST: HostId = HostId::from_bytes([3; 16]);
pub(crate) const OTHER_HOST: HostId = HostId::from_bytes([4; 16]);
pub(crate) const FIRST: RotationId = RotationId::from_bytes([5; 16]);
pub(crate) const SECOND: RotationId = RotationId::from_bytes([6; 16]);
pub(crate) const THIRD: RotationId = RotationId::from_bytes([7; 16]);
pub(crate) const REVOCATION: RevocationId = RevocationId::from_bytes([8; 16]);
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);
const SEED: [u8; 16] = [0xee; 16];

/// The n-th id a command draws.
pub(crate) fn drawn(n: u32) -> DeliveryId {
    DeliveryId::from_bytes(context(NOW).id(n))
}

fn context(now: Timestamp) -> Context {
    Context {
        now,
        seed: SEED,
        enrolment: Enrolment::Local,
    }
}

pub(crate) fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

pub(crate) fn secret_name() -> SecretName {
    SecretName::parse("prod/db").unwrap()
}

pub(crate) fn binding_name() -> BindingName {
    BindingName::parse("payments").unwrap()
}

pub(crate) fn host_name() -> HostName {
    HostName::parse("web-1").unwrap()
}

pub(crate) fn other_host_name() -> HostName {
    HostName::parse("web-2").unwrap()
}

pub(crate) fn container(n: u8) -> ContainerId {
    ContainerId::parse(&format!("{n:064x}")).unwrap()
}

pub(crate) fn generated() -> Spec {
    Spec {
        generator: Some(Generator::default()),
        ..Spec::default()
    }
}

/// Any container on any host: enough wherever matching is not what is tested.
pub(crate) fn anywhere() -> Selector {
    Selector {
        labels: BTreeMap::from([("app".to_owned(), "payments".to_owned())]),
        insecure: true,
        ..Selector::default()
    }
}

pub(crate) fn on_host(name: HostName) -> Selector {
    Selector {
        host: Some(name),
        ..anywhere()
    }
}

pub(crate) fn file() -> Target {
    Target::File {
        directory: Directory::parse(binding::DEFAULT_DIRECTORY).unwrap(),
        name: FileName::parse("db_password").unwrap(),
        uid: 1000,
        gid: 1000,
        mode: 0o400,
        template: None,
    }
}

pub(crate) fn env() -> Target {
    Target::Env {
        name: EnvName::parse("DB_PASSWORD").unwrap(),
    }
}

pub(crate) fn restart() -> Reload {
    Reload::Restart {
        settle: binding::DEFAULT_SETTLE,
        health_timeout: binding::DEFAULT_HEALTH_TIMEOUT,
        rollout: None,
    }
}

pub(crate) fn consumer(n: u8) -> assignment::Key {
    assignment::Key {
        host: HOST,
        container: container(n),
        binding: BINDING,
        also: None,
    }
}

pub(crate) fn of_secret(event: secret::Event) -> Event {
    Event::Secret(SECRET, event)
}

pub(crate) fn of_rotation(id: RotationId, event: rotation::Event) -> Event {
    Event::Rotation(id, event)
}

pub(crate) fn of_revocation(event: revocation::Event) -> Event {
    Event::Revocation(REVOCATION, event)
}

pub(crate) fn of_consumer(n: u8, event: assignment::Event) -> Event {
    Event::Assignment(consumer(n), event)
}

pub(crate) fn of_host(event: host::Event) -> Event {
    Event::Host(HOST, event)
}

pub(crate) fn assigned(version: u64) -> assignment::Event {
    assignment::Event::Assigned {
        secret: SECRET,
        version,
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
    }
}

/// The declaration of a secret that may do everything at a server.
pub(crate) fn apply_admin(of: &Resource, id: SecretId, rotation: RotationId) -> Command {
    Command::Apply(vec![Declaration::Secret {
        id,
        rotation,
        name: of.admin.clone(),
        spec: Spec {
            credential_for: Some(of.credential_server()),
            ..Spec::default()
        },
    }])
}

/// One account with one password: a rotation cuts it over.
pub(crate) fn one_account() -> Resource {
    Resource {
        kind: Kind::Postgres,
        connection: "postgres://admin@db.example/shop".to_owned(),
        accounts: vec!["app".to_owned()],
        admin: SecretName::parse("shop/admin").unwrap(),
        strategy: Strategy::SingleUser,
        ca: None,
    }
}

/// A secret that is generated and opens this.
pub(crate) fn opening(resource: Resource) -> Spec {
    Spec {
        rotator: Some(Box::new(resource)),
        ..generated()
    }
}

pub(crate) fn apply_secret(spec: Spec) -> Command {
    Command::Apply(vec![Declaration::Secret {
        id: SECRET,
        rotation: FIRST,
        name: secret_name(),
        spec,
    }])
}

pub(crate) fn apply_binding(selector: Selector, target: Target, reload: Reload) -> Command {
    Command::Apply(vec![Declaration::Binding {
        id: BINDING,
        name: binding_name(),
        secret: secret_name(),
        also: std::collections::BTreeSet::new(),
        previous: std::collections::BTreeSet::new(),
        selector,
        target,
        reload,
        on_revoke: crate::binding::OnRevoke::Remove,
    }])
}

pub(crate) fn enrol(host: HostId) -> Command {
    let name = if host == HOST {
        host_name()
    } else {
        other_host_name()
    };
    Command::EnrolHost {
        host,
        name,
        sealing_key: [9; 32],
    }
}

pub(crate) const TOKEN: JoinTokenId = JoinTokenId::from_bytes([0x70; 16]);
pub(crate) const TOKEN_HASH: host::TokenHash = [0x71; 32];

/// A token for [`HOST`], which ends as late as one may.
pub(crate) fn issue(token: JoinTokenId) -> Command {
    Command::IssueJoinToken(host::TokenRequest {
        host: HOST,
        name: host_name(),
        token,
        secret_hash: TOKEN_HASH,
        expires_at: NOW.plus(host::JOIN_TOKEN_LIFETIME),
    })
}

/// What a machine presents that does everything right.
pub(crate) fn joining() -> host::JoinRequest {
    host::JoinRequest {
        host: HOST,
        name: host_name(),
        token: TOKEN,
        secret_hash: TOKEN_HASH,
        signing_key: [0x51; 32],
        sealing_key: [0x52; 32],
    }
}

pub(crate) fn evict(host: HostId) -> Command {
    Command::EvictHost {
        host,
        reason: "stolen".to_owned(),
    }
}

pub(crate) fn rotate(rotation: RotationId) -> Command {
    Command::Rotate {
        rotation,
        secret: secret_name(),
    }
}

pub(crate) fn revoke(version: Option<u64>) -> Command {
    Command::Revoke {
        revocation: REVOCATION,
        secret: secret_name(),
        version,
        reason: "leaked".to_owned(),
        is_emergency: false,
    }
}

pub(crate) fn done(rotation: RotationId, step: Step) -> Command {
    Command::StepOutcome {
        rotation,
        step,
        attempt: 1,
        failure: None,
        is_away: false,
        remote: None,
        sessions: None,
    }
}

pub(crate) fn failed(rotation: RotationId, step: Step, attempt: u32) -> Command {
    Command::StepOutcome {
        rotation,
        step,
        attempt,
        failure: Some("store down".to_owned()),
        is_away: false,
        remote: None,
        sessions: None,
    }
}

pub(crate) fn item(n: u8, fact: Fact) -> Item {
    Item {
        container: container(n),
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        binding: BINDING,
        secret: SECRET,
        fact,
        service: String::new(),
    }
}

pub(crate) fn swapped(n: u8, version: u64) -> Item {
    item(n, Fact::Swapped { version, at: NOW })
}

pub(crate) fn reloaded(n: u8, version: u64) -> Item {
    item(n, Fact::Reloaded { version, at: NOW })
}

/// A complete report of [`HOST`] about a plan that is newer than all.
pub(crate) fn report(items: Vec<Item>, holds: &[u64]) -> HostReport {
    HostReport {
        generation: u64::MAX,
        containers: (1..10).map(container).collect(),
        items,
        holds: holds.iter().map(|version| (SECRET, *version)).collect(),
        complete: true,
        ..HostReport::empty(HOST)
    }
}

/// A history.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    world: World,
    log: Vec<Event>,
    now: Option<Timestamp>,
    enrolment: Enrolment,
    seed: Option<u8>,
}

impl Given {
    pub(crate) fn nothing() -> Self {
        Self::default()
    }

    pub(crate) fn events(events: impl IntoIterator<Item = Event>) -> Self {
        let mut given = Self::nothing();
        events.into_iter().for_each(|event| given.append(event));
        given
    }

    /// A generated secret whose version 1 is current and waits for consumers.
    pub(crate) fn first_version() -> Self {
        Self::nothing()
            .and(apply_secret(generated()))
            .finished(FIRST)
    }

    /// As [`Given::first_version`], and consumer 1 on [`HOST`] runs on it, as a plain file.
    pub(crate) fn serving() -> Self {
        Self::serving_as(file(), Reload::None)
    }

    pub(crate) fn serving_as(target: Target, reload: Reload) -> Self {
        Self::first_version()
            .and(enrol(HOST))
            .and(apply_binding(anywhere(), target, reload))
            .and(Command::Report(report(vec![reloaded(1, 1)], &[1])))
    }

    /// As [`Given::serving`], and version 2 is promoted and on its way to consumer 1.
    pub(crate) fn distributing() -> Self {
        Self::serving().and(rotate(SECOND)).finished(SECOND)
    }

    /// As [`Given::serving`], and consumer 1 runs on version 2; the old version is being revoked.
    pub(crate) fn retiring() -> Self {
        let acknowledged = report(vec![swapped(1, 2)], &[2]);
        Self::distributing().and(Command::Report(acknowledged))
    }

    fn append(&mut self, event: Event) {
        self.log.push(event);
        let number = u64::try_from(self.log.len()).unwrap();
        let event = self.log.last().unwrap();
        self.world.apply(number, event);
    }

    /// Goes on with a command that is accepted.
    pub(crate) fn and(mut self, command: Command) -> Self {
        let events = decide(&self.world, &command, &self.context());
        let events = events.unwrap_or_else(|refusal| panic!("{command:?}: {}", refusal.reason));
        events.into_iter().for_each(|event| self.append(event));
        self
    }

    /// Goes on with the four steps of a rotation, all done at the first attempt.
    pub(crate) fn finished(self, rotation: RotationId) -> Self {
        [Step::Create, Step::Set, Step::Test, Step::Finish]
            .into_iter()
            .fold(self, |given, step| given.and(done(rotation, step)))
    }

    pub(crate) fn at(mut self, now: Timestamp) -> Self {
        self.now = Some(now);
        self
    }

    /// The log has an event of this time.
    pub(crate) fn logged_at(mut self, at: Timestamp) -> Self {
        self.world.note_time(at);
        self
    }

    /// Further ids are counted up from other bytes from here on, as each command draws its own.
    pub(crate) fn drawn(mut self, seed: u8) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Hosts become known by tokens from here on.
    pub(crate) fn by_token(mut self) -> Self {
        self.enrolment = Enrolment::ByToken;
        self
    }

    fn context(&self) -> Context {
        Context {
            seed: self.seed.map_or(SEED, |byte| [byte; 16]),
            enrolment: self.enrolment,
            ..context(self.now.unwrap_or(NOW))
        }
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) fn secret(&self) -> &secret::Secret {
        &self.world.secrets[&SECRET]
    }

    pub(crate) fn log(&self) -> &[Event] {
        &self.log
    }

    pub(crate) fn when(self, command: Command) -> When {
        let decided = decide(&self.world, &command, &self.context());
        let mut after = self;
        let (Ok(events) | Err(Refusal { events, .. })) = &decided;
        events.iter().for_each(|event| after.append(event.clone()));
        When { decided, after }
    }
}

/// What a command led to.
#[derive(Debug)]
#[must_use]
pub(crate) struct When {
    decided: Result<Vec<Event>, Refusal>,
    after: Given,
}

impl When {
    /// Exactly these events; the history goes on with them.
    #[track_caller]
    pub(crate) fn then(self, events: impl IntoIterator<Item = Event>) -> Given {
        assert_eq!(self.decided, Ok(events.into_iter().collect()));
        self.after
    }

    /// No event: everything is as asked already.
    #[track_caller]
    pub(crate) fn then_nothing(self) -> Given {
        self.then([])
    }

    /// Among others, these events in this order.
    #[track_caller]
    pub(crate) fn then_among_others(self, events: impl IntoIterator<Item = Event>) -> Given {
        let mut decided = self.decided.as_ref().unwrap().iter();
        for event in events {
            assert!(
                decided.any(|other| *other == event),
                "no {event:?} in its place: {:?}",
                self.decided
            );
        }
        self.after
    }

    /// Refused, and nothing happened.
    #[track_caller]
    pub(crate) fn then_rejected(self, rejection: impl Into<Rejection>) {
        self.then_refused(rejection, []);
    }

    /// Refused, and these events happened all the same.
    #[track_caller]
    pub(crate) fn then_refused(
        self,
        rejection: impl Into<Rejection>,
        events: impl IntoIterator<Item = Event>,
    ) -> Given {
        let refusal = Refusal {
            reason: rejection.into(),
            events: events.into_iter().collect(),
        };
        assert_eq!(self.decided, Err(refusal));
        self.after
    }
}
