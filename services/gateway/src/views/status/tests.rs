//! What a person is told about each part, and what is left out.

use keywheel_core::event::Event;
use keywheel_core::host;
use keywheel_core::name::HostName;
use keywheel_engine::presence::{BusEnd, Heard, Seen};

use super::*;

const HOST: HostId = HostId::from_bytes([7; 16]);
const NOW: Timestamp = Timestamp::from_micros(1_795_300_000_000_000);
const STEADY: Duration = Duration::from_secs(10_000);

fn world() -> World {
    let mut world = World::default();
    let joined = host::Event::Enrolled {
        name: HostName::parse("web-1").unwrap(),
        sealing_key: [1; 32],
        signing_key: Some([2; 32]),
    };
    world.apply(1, &Event::Host(HOST, joined));
    world
}

/// An instance that was heard just now and is well.
fn row(role: Role) -> Row {
    Row {
        presence: Presence {
            role,
            host: (role == Role::Injector).then_some(HOST),
            instance: [1; 16],
            machine: "m-1".to_owned(),
            version: "1".to_owned(),
            started: NOW,
            sent: NOW,
            leaving: false,
            certificate_end: Some(NOW.plus(EXPIRY_WARNING)),
            bus: Some(BusEnd::default()),
            seen: Seen::default(),
        },
        heard: Heard {
            at: NOW,
            steady: STEADY,
            head: Some(2000),
        },
        behind_since: None,
    }
}

fn all() -> Vec<Row> {
    let roles = [
        Role::Gateway,
        Role::Scheduler,
        Role::StoreSync,
        Role::AuditSink,
        Role::Injector,
    ];
    roles.map(row).to_vec()
}

fn look(rows: &[Row], listening: Duration) -> (Vec<Component>, Vec<Finding>) {
    let head = Head {
        number: 2000,
        hash: [0; 32],
        audit_size: 30,
        audit_root: [0; 32],
        checkpoint: "keywheel.test\n30\n".to_owned(),
    };
    let journal = Part {
        kind: ComponentKind::Journal,
        name: "SQLite".to_owned(),
        version: None,
        facts: Vec::new(),
    };
    overview(Sources {
        rows,
        parts: vec![journal],
        world: &world(),
        head: &head,
        last_event: Some(NOW),
        version: "1",
        listening,
        now: NOW,
        steady: STEADY,
    })
}

/// The findings when one instance is different.
fn findings(role: Role, change: impl Fn(&mut Row)) -> Vec<Finding> {
    let mut rows = all();
    let other = rows.iter_mut().find(|row| row.presence.role == role);
    change(other.unwrap());
    look(&rows, STEADY).1
}

#[test]
fn it_is_sealed_unless_a_store_sync_that_is_heard_has_its_key() {
    let with = |role: Role, fact: Fact| {
        let mut row = row(role);
        row.presence.seen.facts = vec![fact];
        row
    };
    let open = with(Role::StoreSync, Fact::ok(SEAL_FACT, "unsealed"));
    let shut = with(
        Role::StoreSync,
        Fact::problem(SEAL_FACT, "sealed", "unseal it"),
    );
    let other = with(Role::AuditSink, Fact::ok(SEAL_FACT, "not its matter"));
    assert!(is_sealed(&[], STEADY));
    assert!(is_sealed(&[shut.clone(), other], STEADY));
    assert!(!is_sealed(&[shut, open.clone()], STEADY));
    assert!(is_sealed(&[open], STEADY + SILENT_AFTER * 2));
}

#[test]
fn why_an_instance_ended_is_told_as_long_as_it_is_known_and_nothing_else_of_what_it_said() {
    for (heard, silent) in [(STEADY, 0), (STEADY - SILENT_AFTER * 2, 1)] {
        let found = findings(Role::Injector, |row| {
            let ended = Fact::problem(ENDED_FACT, "the kernel lacks a call", "use another");
            row.presence.seen.facts = vec![ended];
            row.heard.steady = heard;
        });
        assert_eq!(found.len(), 1 + silent, "{found:?}");
        let why = found
            .iter()
            .find(|one| one.what == "ended: the kernel lacks a call");
        assert_eq!(why.unwrap().next.as_deref(), Some("use another"));
    }
    let found = findings(Role::Injector, |row| {
        row.presence.seen.facts = vec![Fact::problem("lease", "over", "wait")];
        row.heard.steady = STEADY - SILENT_AFTER * 2;
    });
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_deployment_that_is_well_has_every_part_and_no_finding() {
    let (components, findings) = look(&all(), STEADY);
    assert_eq!(findings, []);
    let kinds: Vec<_> = components.iter().map(|c| c.kind).collect();
    use ComponentKind::{AuditSink, Gateway, Host, Journal, Scheduler, StoreSync};
    assert_eq!(
        kinds,
        [Gateway, Scheduler, StoreSync, AuditSink, Host, Journal]
    );
    let host = components.iter().find(|c| c.kind == Host).unwrap();
    assert_eq!(host.name, "web-1", "by its host's name");
    let journal = components.last().unwrap();
    assert!(
        journal.facts[0]
            .note
            .contains("2000 events, the last one 0 s ago")
    );
    assert!(
        journal.facts[1]
            .note
            .contains("30 audit records, signed as keywheel.test")
    );
}

#[test]
fn two_of_a_role_are_two_rows() {
    let mut rows = all();
    let mut second = row(Role::Scheduler);
    second.presence.instance = [2; 16];
    second.presence.machine = "m-2".to_owned();
    rows.push(second);
    let (components, _) = look(&rows, STEADY);
    let is_scheduler = |c: &&Component| c.kind == ComponentKind::Scheduler;
    let names: Vec<_> = components
        .iter()
        .filter(is_scheduler)
        .map(|c| &c.name)
        .collect();
    assert_eq!(names, ["m-1", "m-2"]);
}

#[test]
fn what_is_not_heard_is_unknown_at_first_and_then_a_problem() {
    let (_, early) = look(&[], Duration::from_secs(5));
    assert_eq!(early.len(), 4, "three services and a host");
    assert!(early.iter().all(|f| f.state == HealthWord::Unknown));
    let (components, late) = look(&[], STEADY);
    assert!(
        late.iter().all(|f| f.state == HealthWord::Problem),
        "{late:?}"
    );
    let next = late[0].next.as_deref().unwrap();
    assert_eq!(next, "start one: `keywheel server scheduler --config FILE`");
    let host = components
        .iter()
        .find(|c| c.kind == ComponentKind::Host)
        .unwrap();
    assert_eq!(host.name, "web-1");
}

type Change = fn(&mut Row);

/// What an instance can have, how bad that is, and what is said of it.
const TROUBLES: [(Role, Change, HealthWord, &str); 10] = [
    (
        Role::Scheduler,
        |row| row.heard.steady = STEADY - SILENT_AFTER - Duration::from_secs(1),
        HealthWord::Problem,
        "not heard for 36 s",
    ),
    (
        Role::Injector,
        |row| row.heard.steady = Duration::ZERO,
        HealthWord::Problem,
        "containers keep what they have",
    ),
    (
        Role::Scheduler,
        |row| row.presence.seen.reached = Some(Reached::Event(999)),
        HealthWord::Warning,
        "1001 behind the log",
    ),
    (
        Role::AuditSink,
        |row| row.presence.seen.reached = Some(Reached::AuditRecords(2001)),
        HealthWord::Problem,
        "was cut or put back",
    ),
    (
        Role::Injector,
        |row| {
            row.presence.seen.reached = Some(Reached::Plan(1));
            row.behind_since = Some(STEADY - PLAN_LIMIT - Duration::from_secs(1));
        },
        HealthWord::Warning,
        "older plan for 61 s",
    ),
    (
        Role::StoreSync,
        |row| row.presence.certificate_end = Some(NOW),
        HealthWord::Problem,
        "they ended at",
    ),
    (
        Role::StoreSync,
        |row| row.presence.certificate_end = Some(NOW.plus(Duration::from_secs(60))),
        HealthWord::Warning,
        "they end in 1 min",
    ),
    (
        Role::Gateway,
        |row| row.presence.version = "2".to_owned(),
        HealthWord::Warning,
        "it runs 2, this gateway 1",
    ),
    (
        Role::Injector,
        |row| row.presence.sent = NOW.plus(SKEW_LIMIT + Duration::from_secs(1)),
        HealthWord::Warning,
        "16 s ahead of",
    ),
    (
        Role::Scheduler,
        |row| row.presence.bus.as_mut().unwrap().problem = Some("no permission".to_owned()),
        HealthWord::Warning,
        "no permission",
    ),
];

#[test]
fn each_trouble_of_an_instance_is_named_with_a_next_step() {
    for (role, change, state, wanted) in TROUBLES {
        let found = findings(role, change);
        assert_eq!(found.len(), 1, "{wanted}: {found:?}");
        assert_eq!(found[0].state, state, "{wanted}");
        assert_eq!(found[0].kind, kind_of(role));
        assert!(found[0].what.contains(wanted), "{}", found[0].what);
        assert!(found[0].next.is_some(), "{wanted} has no next step");
    }
}

#[test]
fn a_store_is_as_the_worst_store_sync_sees_it() {
    let mut rows = all();
    let well = Fact::ok("store local", "fine");
    rows[2].presence.seen.facts = vec![Fact::ok("cache", "fine"), well];
    let mut second = row(Role::StoreSync);
    second.presence.seen.facts = vec![Fact::problem("store local", "gone", "look")];
    rows.push(second);
    let (components, findings) = look(&rows, STEADY);
    let is_store = |c: &&Component| c.kind == ComponentKind::Store;
    let stores: Vec<_> = components.iter().filter(is_store).collect();
    assert_eq!((stores.len(), stores[0].name.as_str()), (1, "local"));
    assert_eq!(stores[0].state, HealthWord::Problem);
    assert_eq!(findings.len(), 1, "told once, at the store: {findings:?}");
    assert_eq!(findings[0].what, "store: gone");
}

#[test]
fn an_evicted_host_is_no_part_any_more() {
    let mut world = world();
    let evicted = host::Event::Evicted {
        reason: "stolen".to_owned(),
    };
    world.apply(2, &Event::Host(HOST, evicted));
    let rows = all();
    let head = Head {
        number: 2,
        hash: [0; 32],
        audit_size: 0,
        audit_root: [0; 32],
        checkpoint: String::new(),
    };
    let (components, _) = overview(Sources {
        rows: &rows,
        parts: Vec::new(),
        world: &world,
        head: &head,
        last_event: None,
        version: "1",
        listening: STEADY,
        now: NOW,
        steady: STEADY,
    });
    assert!(components.iter().all(|c| c.kind != ComponentKind::Host));
}
