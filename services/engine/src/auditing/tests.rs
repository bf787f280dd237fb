//! Every command, every fact and every way to be refused, and the record it leaves.
//!
//! Owns what all of them share, and the walk over all commands; each file below belongs to those who ask.

use keywheel_core::audit::Role;
use keywheel_core::decision::Rejection;
use keywheel_core::id::{ContainerId, RevocationId};
use keywheel_core::name::{BindingName, HostName, SecretName};
use keywheel_core::report::HostReport;
use keywheel_core::{host, secret};

use super::*;

mod given_back;
mod hosts;
mod notes;
mod people;
mod workers;

const HOST: HostId = HostId::from_bytes([1; 16]);
const SECRET: SecretId = SecretId::from_bytes([3; 16]);
const ROTATION: RotationId = RotationId::from_bytes([4; 16]);
const REVOCATION: RevocationId = RevocationId::from_bytes([5; 16]);

fn secret_name() -> SecretName {
    SecretName::parse("prod/db").unwrap()
}

fn host_name() -> HostName {
    HostName::parse("web-1").unwrap()
}

fn deed(principal: &Principal) -> Deed<'_> {
    Deed {
        principal,
        id: CommandId::from_bytes([2; 16]),
        time: Timestamp::default(),
        traceparent: Some("00-abc-def-01"),
    }
}

fn report() -> Command {
    Command::Report(HostReport {
        generation: 1,
        complete: true,
        ..HostReport::empty(HOST)
    })
}

/// One for each kind of command; a new kind does not compile until it has its place here.
const fn kind_of(command: &Command) -> usize {
    match command {
        Command::Apply(_) => 0,
        Command::Unbind { .. } => 1,
        Command::Put { .. } => 2,
        Command::Rotate { .. } => 3,
        Command::Due { .. } => 4,
        Command::Revoke { .. } => 5,
        Command::EnrolHost { .. } => 6,
        Command::IssueJoinToken(_) => 7,
        Command::JoinHost(_) => 8,
        Command::RotateHostKey(_) => 9,
        Command::EvictHost { .. } => 10,
        Command::StepOutcome { .. } => 11,
        Command::RevokeOutcome { .. } => 12,
        Command::RetryStep { .. } => 13,
        Command::RetryRevoke { .. } => 14,
        Command::DeadlinePassed { .. } => 15,
        Command::Report(_) => 16,
        Command::NotePermit(_) => 17,
        Command::RemoveStore { .. } => 18,
        Command::Observed(_) => 19,
        Command::StoreContact { .. } => 20,
        Command::Intervene { .. } => 21,
        Command::LingerEnded { .. } => 22,
        Command::ProofOutcome { .. } => 23,
        Command::ForgetRevocation { .. } => 24,
        Command::Outward(_) => 25,
        Command::Replace(_) => 26,
        Command::Playbook(_) => 27,
        Command::ApplyPolicies(_) => 28,
        Command::Token(_) => 29,
        Command::BuryLost(_) => 30,
        Command::JudgeBindings => 31,
        Command::Approval(_) => 32,
    }
}

#[test]
fn every_command_leaves_one_record_whether_it_is_allowed_or_refused() {
    let commands = [people::commands(), hosts::commands(), workers::commands()].concat();
    let mut kinds: Vec<usize> = commands.iter().map(|(_, c)| kind_of(c)).collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        Vec::from_iter(0..=32),
        "a kind of command is missing"
    );
    let principal = Principal::Service(Role::Gateway);
    let no = || Err(Rejection::BindingUnknown(BindingName::parse("b").unwrap()).into());
    for (verbs, command) in commands {
        let left = |decided| records(&World::default(), &deed(&principal), &command, &decided);
        let allowed = left(Ok(Vec::new()));
        let given: Vec<&str> = allowed.iter().map(|record| record.verb.as_str()).collect();
        assert_eq!(given, verbs, "{command:?}");
        assert!(allowed.iter().all(|r| r.outcome == Outcome::Allowed));
        let refused = left(no());
        assert_eq!(refused.len(), verbs.len().max(1), "{command:?}");
        for record in refused {
            assert_eq!(record.outcome, Outcome::Rejected);
            assert!(record.reason.contains("no binding"), "{}", record.reason);
            assert_eq!(record.trace, "abc");
        }
    }
}

fn key() -> assignment::Key {
    assignment::Key {
        host: HOST,
        container: ContainerId::parse(&"a".repeat(64)).unwrap(),
        binding: BindingId::default(),
        also: None,
    }
}

/// A consumer that is assigned version 2 and holds this one; 0 for none.
fn consumer_that_holds(version: u64) -> World {
    let registered = secret::Event::Registered {
        name: secret_name(),
        spec: secret::Spec::default(),
    };
    let enrolled = host::Event::Enrolled {
        name: host_name(),
        sealing_key: [0; 32],
        signing_key: None,
    };
    let assigned = assignment::Event::Assigned {
        secret: SECRET,
        version: 2,
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
    };
    let mut log = vec![
        Event::Secret(SECRET, registered),
        Event::Host(HOST, enrolled),
        Event::Assignment(key(), assigned),
    ];
    let at = Timestamp::default();
    let holds = assignment::Event::Swapped { version, at };
    log.extend((version > 0).then_some(Event::Assignment(key(), holds)));
    let mut world = World::default();
    for (number, event) in (1..).zip(&log) {
        world.apply(number, event);
    }
    world
}

#[test]
fn an_instant_that_no_calendar_has_is_told_all_the_same() {
    assert_eq!(
        utc(Timestamp::from_micros(951_782_400_000_007)),
        "2000-02-29T00:00:00Z"
    );
    for extreme in [i64::MIN, i64::MAX] {
        assert!(utc(Timestamp::from_micros(extreme)).contains(&extreme.to_string()));
    }
}
