//! Every class of problem has its line and its next step.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use keywheel_bus::greeting::Greeting;
use keywheel_core::id::DeploymentId;
use keywheel_core::time::Timestamp;
use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_identity::authority::Authority;
use keywheel_identity::init::{NewDeployment, init};
use keywheel_identity::name::OperatorName;
use keywheel_schemas::api::Status;
use keywheel_schemas::mirror::TextForm as _;
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_795_300_000_000_000);

fn health(facts: &[Fact]) -> Vec<Health> {
    facts.iter().map(|fact| fact.health).collect()
}

fn args(config: &Path) -> DoctorArgs {
    DoctorArgs {
        config: Some(config.to_owned()),
        role: None,
    }
}

#[test]
fn a_configuration_is_read_whole_or_its_faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keywheel.toml");
    let mut facts = Vec::new();
    assert!(configuration(&args(&file), &mut facts).is_none());
    assert!(facts[0].note.contains("cannot read"), "{facts:?}");
    std::fs::write(&file, "data_dri = \"/x\"\n[log]\nformat = \"xml\"\n").unwrap();
    assert!(configuration(&args(&file), &mut facts).is_none());
    assert!(facts[1].note.contains("data_dri"), "{facts:?}");
    assert!(facts[2].note.contains("log format"), "{facts:?}");
    assert!(facts[1].next.is_some());
    std::fs::write(&file, "data_dir = \"/x\"\n").unwrap();
    assert!(configuration(&args(&file), &mut facts).is_some());
    assert_eq!(
        health(&facts),
        [
            Health::Problem,
            Health::Problem,
            Health::Problem,
            Health::Ok
        ]
    );
}

#[test]
fn whether_memory_is_locked_is_said_either_way_and_only_what_is_not_has_a_next_step() {
    let fact = local::locked_memory();
    assert_eq!(fact.name, "memory");
    assert_eq!(fact.next.is_none(), fact.health == Health::Ok, "{fact:?}");
    let may_be_swapped = fact.note.contains("may be swapped");
    assert_eq!(may_be_swapped, fact.health == Health::Warning, "{fact:?}");
}

#[test]
fn the_data_directory_is_private_and_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(local::data_directory(&open)[0].health, Health::Warning);
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(local::data_directory(&open)[0].health, Health::Ok);
    let missing = local::data_directory(&folder.path().join("a/b"));
    assert_eq!(missing[0].health, Health::Ok, "the first start makes it");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(local::data_directory(&file)[0].health, Health::Problem);
    let judged = |bytes| local::free(bytes, Path::new("/")).health;
    assert_eq!(judged(72 << 20), Health::Warning);
    assert_eq!(judged((72 << 20) - 1), Health::Problem);
    assert_eq!(judged(1 << 30), Health::Ok);
}

#[test]
fn an_unseal_key_is_there_closed_and_apart_from_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let key = folder.path().join("unseal.key");
    let look = || local::unseal_key(&key, &data, true);
    let first = look();
    assert_eq!(first.health, Health::Ok, "{first:?}");
    assert!(first.note.contains("the first start makes it"), "{first:?}");
    let missing = local::unseal_key(&key, &folder.path().join("none"), true);
    assert_eq!(missing, first, "no data directory");
    let apart = local::unseal_key(&key, &data, false);
    assert_eq!(apart.health, Health::Problem, "nothing makes it: {apart:?}");
    std::fs::write(data.join("up.lock"), "").unwrap();
    assert_eq!(look(), first, "a start that ended before it made anything");
    std::fs::write(data.join("journal.db"), "").unwrap();
    let lost = look();
    assert_eq!(lost.health, Health::Problem, "{lost:?}");
    assert!(lost.note.contains("is not empty"), "{lost:?}");
    let fresh = UnsealKey::generate(&OsEntropy);
    // EXPOSE: a test's own key, into a file of the test.
    std::fs::write(&key, fresh.to_file().expose()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = look();
    assert!(open.note.contains("can be read by others"), "{open:?}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(look().health, Health::Ok, "{:?}", look());
    let inside = data.join("unseal.key");
    std::fs::copy(&key, &inside).unwrap();
    let inside = local::unseal_key(&inside, &data, true);
    assert_eq!(inside.health, Health::Problem, "{inside:?}");
}

#[test]
fn a_certificate_is_judged_by_this_machines_clock() {
    let hour = Duration::from_secs(3600);
    let end = NOW.plus(hour * 24);
    let judged = |begin, now| local::judge_life((begin, end), now).health;
    assert_eq!(judged(NOW, NOW), Health::Ok);
    assert_eq!(judged(NOW.plus(hour), NOW), Health::Problem, "not yet");
    let late = NOW.plus(hour * 24 - Duration::from_secs(599));
    assert_eq!(judged(NOW, late), Health::Warning);
    assert_eq!(judged(NOW, end), Health::Problem);
}

#[test]
fn credentials_are_of_the_role_that_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("made");
    let (deployment, now) = (DeploymentId::from_bytes([1; 16]), SystemClock::new().now());
    let new = NewDeployment {
        deployment,
        authority: Authority::create(deployment, now, &OsEntropy).unwrap(),
        operator: OperatorName::parse("ada").unwrap(),
        addresses: [].into(),
        servers: Vec::new(),
        urls: Vec::new(),
        tls: true,
        unseal: &UnsealKey::generate(&OsEntropy),
        entropy: &OsEntropy,
        now,
    };
    init(&out, &new).unwrap();
    let look = |name: &str, role| local::service_credentials(&out.join(name), role);
    assert_eq!(
        health(&look("scheduler", Some(Role::Scheduler))),
        [Health::Ok; 2]
    );
    assert_eq!(health(&look("scheduler", None)), [Health::Ok; 2]);
    let wrong = look("scheduler", Some(Role::Gateway));
    assert_eq!(wrong[0].health, Health::Problem);
    assert!(wrong[0].note.contains("another role"), "{wrong:?}");
    assert_eq!(look("nobody", None)[0].health, Health::Problem);
    let operator = local::operator_credentials(&out.join("operators/ada"));
    assert_eq!(health(&operator), [Health::Ok; 2], "{operator:?}");
    let service = local::operator_credentials(&out.join("scheduler"));
    assert_eq!(service[0].health, Health::Problem);
}

#[test]
fn a_bus_server_is_new_enough_and_spoken_to_as_it_wants() {
    let greeting = |wants_tls, unfit| Greeting {
        version: "2.15.1".to_owned(),
        wants_tls,
        unfit,
    };
    let judged = |scheme, greeting: &Greeting| network::judge_greeting("s", scheme, greeting);
    assert_eq!(judged("tls", &greeting(true, None)), None);
    assert_eq!(judged("nats", &greeting(false, None)), None);
    let open = judged("tls", &greeting(false, None)).unwrap();
    assert!(open.note.contains("has no TLS"), "{open:?}");
    assert!(judged("nats", &greeting(true, None)).is_some());
    let old = keywheel_bus::Unfit::TooOld {
        found: "2.9.0".to_owned(),
    };
    let old = judged("nats", &greeting(false, Some(old))).unwrap();
    assert_eq!(old.health, Health::Problem);
    assert!(old.note.contains("2.9.0"), "{old:?}");
}

fn status(version: &str, time: Timestamp, state: HealthWord) -> Status {
    let text = serde_json::json!({
        "state": state, "version": version, "time": time.text(), "host": "gw-1",
        "data_dir": "/d", "pid": 1, "sealed": false, "secrets": 0, "bindings": 0,
        "consumers": 0, "open_rotations": 0, "open_revocations": 0, "events": 0,
        "audit_records": 0, "features": [], "warnings": [],
    });
    serde_json::from_value(text).unwrap()
}

#[test]
fn a_gateway_is_judged_by_state_version_and_clock() {
    let own = env!("CARGO_PKG_VERSION");
    let judge = |status: &Status| health(&network::judge_gateway(status, NOW));
    assert_eq!(
        judge(&status(own, NOW, HealthWord::Warning)),
        [Health::Ok; 3]
    );
    let other = status("99.0.0", NOW, HealthWord::Problem);
    assert_eq!(
        judge(&other),
        [Health::Warning, Health::Warning, Health::Ok]
    );
    let skewed = |seconds| {
        let time = NOW.plus(Duration::from_secs(seconds));
        judge(&status(own, time, HealthWord::Ok))[2]
    };
    assert_eq!(skewed(15), Health::Ok);
    assert_eq!(skewed(16), Health::Warning);
    assert_eq!(skewed(121), Health::Problem);
}

#[tokio::test]
async fn who_is_not_reached_is_a_problem_with_a_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("no.sock");
    let docker = network::docker_at(socket.clone()).await;
    assert_eq!(health(&docker), [Health::Problem]);
    let gateway = network::gateway(&Address::Unix(socket), None).await;
    assert_eq!(health(&gateway), [Health::Problem]);
    assert!(gateway[0].next.is_some());
    let nobody = keywheel_bus::greeting::listen("127.0.0.1:1").await;
    assert!(nobody.is_err());
}

#[test]
fn the_page_has_a_line_for_each_check_and_the_next_step_below() {
    let facts = vec![
        Fact::ok("gateway", "gw-1 answers"),
        Fact::problem("clock", "130 s apart\u{1b}[2J", "set both"),
    ];
    let report = report(facts);
    assert_eq!(report.state, HealthWord::Problem);
    let page = page(&report);
    let lines: Vec<&str> = page.lines().collect();
    assert_eq!(lines[0], "ok        gateway  gw-1 answers");
    assert_eq!(lines[1], "problem   clock    130 s apart·[2J");
    assert_eq!(lines[2].trim(), "next: set both");
}
