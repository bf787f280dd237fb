//! How many requests are served at once, and which values a host is granted.

use keywheel_core::binding::{Reload, Selector, Target};
use keywheel_core::command::Declaration;
use keywheel_core::id::{BindingId, RevocationId, RotationId, SecretId};
use keywheel_core::name::{BindingName, Directory, FileName, HostName, SecretName};
use keywheel_core::secret::{Generator, Spec};
use keywheel_testkit::fake::Flood;

use super::*;
use crate::testing::Bench;

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const BINDING: BindingId = BindingId::from_bytes([2; 16]);
const HOST: HostId = HostId::from_bytes([3; 16]);

fn server_of(bench: &Bench) -> BusServer {
    let api = bench.api.clone();
    BusServer {
        bus: api.bus,
        commands: api.commands,
        view: api.view,
        journal: api.journal,
        clock: api.clock,
        ids: api.ids,
        renewals: None,
        unenrolled: Arc::default(),
    }
}

#[tokio::test]
async fn one_request_more_than_are_served_at_once_waits_for_a_place() {
    let bench = Bench::start().await;
    // Nobody may ask the gateway this, so nothing but the answers takes time.
    let message = Message {
        id: [1; 16],
        sender: Role::Scheduler,
        host: None,
        traceparent: None,
        body: Body::ReadStoreKey,
    };
    let (flood, requests) = Flood::of(message, MAX_SERVED + 2);
    *bench.store.requests.lock().unwrap() = Some(requests);
    let serving = tokio::spawn(server_of(&bench).run(CancellationToken::new()));
    assert_eq!(flood.settled().await, MAX_SERVED);
    flood.end(1);
    assert_eq!(flood.settled().await, MAX_SERVED + 1);
    flood.end(MAX_SERVED + 1);
    serving.await.unwrap().unwrap();
    assert_eq!(flood.settled().await, MAX_SERVED + 2);
}

async fn submit(bench: &Bench, command: Command) {
    let submission = Submission {
        id: CommandId::from_bytes(bench.api.ids.draw()),
        principal: Principal::Service(Role::Gateway),
        traceparent: None,
        command,
    };
    let verdict = bench.api.commands.submit(submission).await.unwrap();
    assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
}

/// The secret as a file on one host.
fn bound_to(host: &str) -> Command {
    Command::Apply(vec![Declaration::Binding {
        id: BINDING,
        name: BindingName::parse("web").unwrap(),
        secret: SecretName::parse("prod/db").unwrap(),
        also: std::collections::BTreeSet::new(),
        previous: std::collections::BTreeSet::new(),
        selector: Selector {
            host: Some(HostName::parse(host).unwrap()),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            insecure: true,
            ..Selector::default()
        },
        target: Target::File {
            directory: Directory::parse("/run/secrets").unwrap(),
            name: FileName::parse("db").unwrap(),
            uid: 0,
            gid: 0,
            mode: 0o400,
            template: None,
        },
        reload: Reload::None,
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    }])
}

/// A secret that one of two hosts is given, and what store-sync asks before it gives it.
async fn given(bench: &Bench) -> Message {
    let secret = Declaration::Secret {
        id: SECRET,
        rotation: RotationId::from_bytes([4; 16]),
        name: SecretName::parse("prod/db").unwrap(),
        spec: Spec {
            generator: Some(Generator::default()),
            ..Spec::default()
        },
    };
    submit(bench, Command::Apply(vec![secret])).await;
    bench.work().await;
    for (host, name) in [(HOST, "web-1"), (HostId::from_bytes([5; 16]), "web-2")] {
        let name = HostName::parse(name).unwrap();
        let sealing_key = [7; 32];
        submit(
            bench,
            Command::EnrolHost {
                host,
                name,
                sealing_key,
            },
        )
        .await;
    }
    submit(bench, bound_to("web-1")).await;
    let plan = bench.api.view.read().plan_of(HOST).unwrap();
    let grant = plan.bindings[0].current.unwrap();
    Message {
        id: [1; 16],
        sender: Role::StoreSync,
        host: None,
        traceparent: None,
        body: Body::OpenValue(ValueRequest {
            host: HOST,
            secret: SECRET,
            version: grant.version,
            delivery: grant.delivery,
        }),
    }
}

#[tokio::test]
async fn a_value_is_granted_only_while_a_binding_gives_it_to_the_host() {
    let bench = Bench::start().await;
    let asked = given(&bench).await;
    let server = server_of(&bench);
    let granted = server.answer(&asked).await.unwrap();
    assert!(matches!(granted, Body::Granted { sealing_key } if sealing_key == [7; 32]));

    let name = BindingName::parse("web").unwrap();
    for elsewhere in [bound_to("web-2"), Command::Unbind { name }] {
        submit(&bench, elsewhere).await;
        let before = bench.audit().await.len();
        let refused = server.answer(&asked).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied);
        let said = bench.audit().await.split_off(before);
        assert!(
            matches!(&said[..], [one] if one.contains("open-value") && !one.contains("is dead")),
            "{said:?}"
        );
    }
    // Whoever asks for what is dead by now is told apart.
    let revoke = Command::Revoke {
        revocation: RevocationId::from_bytes([6; 16]),
        secret: SecretName::parse("prod/db").unwrap(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    };
    submit(&bench, revoke).await;
    let before = bench.audit().await.len();
    assert!(server.answer(&asked).await.is_err());
    let said = bench.audit().await.split_off(before);
    assert!(
        matches!(&said[..], [one] if one.contains("open-value") && one.contains("is dead")),
        "{said:?}"
    );
}

fn asked_by(sender: Role, host: Option<HostId>, body: Body) -> Message {
    Message {
        id: [1; 16],
        sender,
        host,
        traceparent: None,
        body,
    }
}

#[tokio::test]
async fn each_host_that_is_not_enrolled_and_keeps_asking_for_a_plan_is_on_record_once() {
    let bench = Bench::start().await;
    let server = server_of(&bench);
    let other = HostId::from_bytes([5; 16]);
    let asks = async |host: HostId, kind: ErrorKind, count: usize| {
        let ask = asked_by(Role::Injector, Some(host), Body::ReadPlan { host });
        assert_eq!(server.answer(&ask).await.unwrap_err().kind, kind);
        let audit = bench.audit().await;
        assert_eq!(audit.len(), count, "{audit:?}");
        let is_its = |record: &String| {
            record.contains("\"read-plan\"")
                && record.contains("Denied")
                && record.contains("is not enrolled")
        };
        assert!(audit.iter().all(is_its), "{audit:?}");
    };
    // It may be on its way.
    asks(HOST, ErrorKind::NotFound, 0).await;
    bench.clock.advance(ENROLMENT_GRACE);
    asks(other, ErrorKind::NotFound, 0).await;
    // It is told of before it is answered.
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    asks(HOST, ErrorKind::Unavailable, 0).await;
    asks(HOST, ErrorKind::NotFound, 1).await;
    asks(HOST, ErrorKind::NotFound, 1).await;
    bench.clock.advance(ENROLMENT_GRACE);
    asks(other, ErrorKind::NotFound, 2).await;
}

#[test]
fn so_many_hosts_that_are_not_enrolled_are_remembered() {
    let unenrolled = Unenrolled::default();
    let host = |n: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        HostId::from_bytes(id)
    };
    for n in 0..=MAX_UNENROLLED {
        assert!(!unenrolled.note(host(n), Duration::ZERO));
        assert!(unenrolled.note(host(n), ENROLMENT_GRACE));
        assert!(!unenrolled.note(host(n), ENROLMENT_GRACE));
        assert!(unenrolled.hosts().len() <= MAX_UNENROLLED);
    }
    let is_told = unenrolled.note(host(0), 2 * ENROLMENT_GRACE);
    assert!(!is_told, "forgotten, so it counts as one that comes");
}

/// Refuses what a test says.
struct Refusing(&'static str);

impl Renewals for Refusing {
    fn permit(&self, _: &[u8], _: Timestamp) -> Result<(BusKey, Timestamp), String> {
        Err(self.0.to_owned())
    }
    fn sealing_key(&self, _: &[u8]) -> Result<Option<(u64, [u8; 32])>, String> {
        Err(self.0.to_owned())
    }
    fn renew(&self, _: Role, _: Option<HostId>, _: &[u8], _: Timestamp) -> Result<Vec<u8>, String> {
        Err(self.0.to_owned())
    }
}

#[tokio::test]
async fn a_renewal_that_is_refused_is_on_record_once_with_the_reason() {
    let bench = Bench::start().await;
    let mut server = server_of(&bench);
    for (renewals, host, words) in [
        (None, None, "there are no credentials to renew here"),
        (Some(Refusing("no such ask")), None, "no such ask"),
        (Some(Refusing("no such ask")), Some(HOST), "has not joined"),
    ] {
        server.renewals = renewals.map(|renewals| Arc::new(renewals) as Arc<dyn Renewals>);
        let role = host.map_or(Role::Scheduler, |_| Role::Injector);
        let ask = asked_by(role, host, Body::Renew(b"{}".to_vec()));
        let before = bench.audit().await.len();
        let refused = server.answer(&ask).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied);
        let said = bench.audit().await.split_off(before);
        let is_its = |one: &String| {
            one.contains("renew-credentials") && one.contains("Denied") && one.contains(words)
        };
        assert!(said.len() == 1 && said.iter().all(is_its), "{said:?}");
    }
}
