//! How many requests are served at once, and which values a host is granted.

use keywheel_core::binding::{Reload, Selector, Target};
use keywheel_core::command::Declaration;
use keywheel_core::id::{BindingId, RevocationId, RotationId, SecretId};
use keywheel_core::name::{BindingName, Directory, FileName, HostName, SecretName};
use keywheel_core::secret::{Generator, Spec};
use keywheel_testkit::fake::Flood;

use super::*;
use crate::denials::RECORDED_PER_UID;
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
        refused: Arc::default(),
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

/// Asks so often, each time refused; gives what is on record since.
async fn refused((bench, server): (&Bench, &BusServer), ask: &Message, times: u32) -> Vec<String> {
    let before = bench.audit().await.len();
    for _ in 0..times {
        let refused = server.answer(ask).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied);
    }
    bench.audit().await.split_off(before)
}

/// An evicted host, known by its id.
async fn evicted(bench: &Bench, host: HostId) {
    let name = HostName::parse("web-9").unwrap();
    let enrol = Command::EnrolHost {
        host,
        name,
        sealing_key: [7; 32],
    };
    let evict = Command::EvictHost {
        host,
        reason: "stolen".to_owned(),
    };
    for command in [enrol, evict] {
        submit(bench, command).await;
    }
}

#[tokio::test]
async fn a_flood_of_refusals_is_the_first_ones_of_each_member_and_one_count_per_window() {
    let bench = Bench::start().await;
    evicted(&bench, HOST).await;
    let server = server_of(&bench);
    let other = HostId::from_bytes([6; 16]);
    let submits = Body::Submit {
        id: CommandId::from_bytes([8; 16]),
        command: Command::JudgeBindings,
    };
    let opens = Body::OpenValue(ValueRequest {
        host: other,
        secret: SECRET,
        version: 1,
        delivery: keywheel_core::id::DeliveryId::from_bytes([9; 16]),
    });
    let injector = |host| (Role::Injector, Some(host));
    // Each of another member, by whom each is counted.
    for ((sender, host), body, [verb, whose]) in [
        (
            injector(HOST),
            Body::ReadPlan { host: HOST },
            ["read-plan", &format!("host/{HOST}")],
        ),
        (
            (Role::Scheduler, None),
            Body::Renew(b"{}".to_vec()),
            ["renew-credentials", "service/Scheduler"],
        ),
        (
            (Role::AuditSink, None),
            submits,
            ["submit", "service/AuditSink"],
        ),
        (
            (Role::StoreSync, None),
            opens,
            ["open-value", &format!("host/{other}")],
        ),
    ] {
        let ask = asked_by(sender, host, body);
        let flood = RECORDED_PER_UID + 7;
        let said = refused((&bench, &server), &ask, flood).await;
        assert_eq!(said.len(), RECORDED_PER_UID as usize, "{said:?}");
        let is_its = |one: &String| one.contains(verb) && one.contains("Denied");
        assert!(said.iter().all(is_its), "{said:?}");

        let before = bench.audit().await.len();
        server.write_counts().await;
        let said = bench.audit().await.split_off(before);
        assert_eq!(said.len(), 1, "{said:?}");
        for part in [
            "\"request\"",
            "Denied",
            "System",
            whose,
            "7 more requests denied",
            "first at",
            "last at",
            verb,
        ] {
            assert!(said[0].contains(part), "{part}: {said:?}");
        }
        // The next window begins anew.
        assert_eq!(refused((&bench, &server), &ask, 1).await.len(), 1);
    }
}

#[tokio::test]
async fn a_members_flood_takes_no_other_members_records() {
    let bench = Bench::start().await;
    let server = server_of(&bench);
    let of = |host: u8| {
        let host = Some(HostId::from_bytes([host; 16]));
        asked_by(Role::Injector, host, Body::Renew(b"{}".to_vec()))
    };
    refused((&bench, &server), &of(1), RECORDED_PER_UID + 20).await;
    let said = refused((&bench, &server), &of(2), 1).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(bench.api.denials.total(), 0, "people have their own");
}

#[tokio::test]
async fn a_refusal_that_cannot_be_recorded_is_not_answered_as_one_and_is_counted_until_it_is_written()
 {
    let bench = Bench::start().await;
    let server = server_of(&bench);
    let ask = asked_by(Role::Scheduler, None, Body::Renew(b"{}".to_vec()));
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    let failed = server.answer(&ask).await.unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Unavailable);
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    server.write_counts().await;
    assert_eq!(bench.audit().await, [""; 0]);
    server.write_counts().await;
    let said = bench.audit().await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("1 more requests denied"), "{said:?}");
    server.write_counts().await;
    assert_eq!(bench.audit().await.len(), 1, "written once");
}

/// One refusal of the scheduler that is only counted.
fn count_one(server: &BusServer) {
    let attempt = crate::denials::Attempt::new(server.clock.now(), "renew-credentials");
    let principal = Principal::Service(Role::Scheduler);
    server.refused.count(&principal, attempt);
}

#[tokio::test]
async fn the_last_count_is_written_when_the_service_ends() {
    let bench = Bench::start().await;
    let nothing = asked_by(Role::Scheduler, None, Body::ReadStoreKey);
    *bench.store.requests.lock().unwrap() = Some(Flood::of(nothing, 0).1);
    let server = server_of(&bench);
    count_one(&server);
    server.run(CancellationToken::new()).await.unwrap();
    let said = bench.audit().await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("1 more requests denied"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_window_of_the_bus_ends_by_itself() {
    let bench = Bench::start().await;
    let server = server_of(&bench);
    count_one(&server);
    let stop = CancellationToken::new();
    let counting = tokio::spawn(server.write_counts_every(WINDOW, stop.clone()));
    tokio::time::sleep(WINDOW + Duration::from_secs(1)).await;
    assert_eq!(bench.audit().await.len(), 1);
    stop.cancel();
    counting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_count_that_is_never_written_keeps_the_service_from_ending_for_a_moment_only() {
    let bench = Bench::start().await;
    let server = server_of(&bench);
    let hangs = tokio::spawn(std::future::pending());
    let ended = tokio::time::timeout(WINDOW, server.write_last_counts(hangs)).await;
    assert!(ended.is_ok());
}
