//! Work on accounts: their server has as many places as a store outside, whoever is admin there.

use keywheel_core::effect::{AtResource, Effect, StepWork, Work};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::rotation::Step;
use keywheel_core::time::Timestamp;

use crate::backlog::{Backlog, Job, MAX_RUNNING_OUTSIDE, MAX_RUNNING_PER_STORE};

const HERE: &str = "postgres://a@db/shop";
/// The same server.
const WRITTEN_OTHERWISE: &str = "postgresql://b@DB:5432/stock";
const ELSEWHERE: &str = "postgres://a@other/shop";

/// A step of its own secret on an account at a server; of a value of ours where none is named.
fn step_at(number: u8, connection: Option<&str>) -> Job {
    let resource = |connection: &str| Resource {
        kind: Kind::Postgres,
        connection: connection.to_owned(),
        accounts: vec!["app".to_owned()],
        admin: SecretName::parse("db/admin").unwrap(),
        strategy: Strategy::SingleUser,
        ca: None,
    };
    let at = |connection: &str| AtResource {
        resource: resource(connection),
        admin: None,
        current: None,
        kept: Vec::new(),
        unclear: false,
    };
    let work = StepWork {
        rotation: RotationId::from_bytes([number; 16]),
        secret: SecretId::from_bytes([number; 16]),
        step: Step::Set,
        attempt: 1,
        versions: vec![1],
        generator: None,
        provided: false,
        outside: None,
        resource: connection.map(|connection| Box::new(at(connection))),
        mark: None,
    };
    Job {
        effect: Effect {
            work: Work::Step(work),
        },
        deadline: Timestamp::default(),
        is_first: true,
        traceparent: None,
    }
}

fn all_started(backlog: &mut Backlog) -> Vec<Job> {
    std::iter::from_fn(|| backlog.start()).collect()
}

#[test]
fn a_server_of_accounts_has_so_many_places_however_it_is_written_and_the_rest_is_for_others() {
    let mut backlog = Backlog::default();
    let many = u8::try_from(MAX_RUNNING_PER_STORE).unwrap();
    for number in 0..many {
        backlog.admit(step_at(number, Some(HERE)), number.into());
    }
    let waits = step_at(many, Some(WRITTEN_OTHERWISE));
    let elsewhere = step_at(many + 1, Some(ELSEWHERE));
    let ours = step_at(many + 2, None);
    for (job, sequence) in [&waits, &elsewhere, &ours].into_iter().zip(100..) {
        backlog.admit(job.clone(), sequence);
    }
    let started = all_started(&mut backlog);
    assert_eq!(started.len(), MAX_RUNNING_PER_STORE + 2);
    assert!(started.contains(&elsewhere) && started.contains(&ours));
    assert!(!started.contains(&waits));
    backlog.finish(&step_at(0, Some(HERE)).effect);
    assert_eq!(backlog.start(), Some(waits));
}

#[test]
fn many_servers_of_accounts_together_leave_places_to_ours() {
    let mut backlog = Backlog::default();
    let most = u8::try_from(MAX_RUNNING_OUTSIDE).unwrap();
    for number in 0..=most {
        let connection = format!("postgres://a@db{number}/shop");
        backlog.admit(step_at(number, Some(&connection)), number.into());
    }
    assert_eq!(all_started(&mut backlog).len(), MAX_RUNNING_OUTSIDE);
    let ours = step_at(200, None);
    backlog.admit(ours.clone(), 200);
    assert_eq!(backlog.start(), Some(ours));
}
