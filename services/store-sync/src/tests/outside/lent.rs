//! Leases whose logins are tried at the server that the work names: by one login when they are made, by one more when
//! they were revoked.

use keywheel_core::resource::{Kind, Probe};
use keywheel_core::revocation::{Answer, Proof};
use keywheel_core::store::{OldVersions, VaultAuth, VaultSpec};

use super::*;

/// What the store in memory lends first, and its password.
const LOGIN: &str = "v-1";
const PASSWORD: &[u8] = b"canary-1";

fn place(probe: Option<Probe>) -> Option<Box<Outside>> {
    let mut store = named("one");
    store.spec.backend = Backend::Vault(VaultSpec {
        address: "https://bao:8200".to_owned(),
        namespace: String::new(),
        mount: "kv".to_owned(),
        ca_file: String::new(),
        old_versions: OldVersions::Destroy,
        auth: VaultAuth::Token {
            token: CredentialRef::File("/token".to_owned()),
        },
    });
    Some(Box::new(Outside {
        store,
        source: Source {
            path: "database/creds/app".to_owned(),
            field: String::new(),
        },
        known: None,
        fetch: None,
        retire: Vec::new(),
        unstage: None,
        probe: probe.map(Box::new),
    }))
}

fn db() -> Option<Probe> {
    Some(Probe {
        kind: Kind::Postgres,
        connection: "postgres://db.example/shop".to_owned(),
        ca: None,
    })
}

fn work(step: Step, attempt: u32, probe: Option<Probe>) -> Work {
    Work::Step(StepWork {
        outside: place(probe),
        generator: None,
        ..super::super::step(step, attempt)
    })
}

fn part(part: Part, attempt: u32, probe: Option<Probe>) -> Work {
    Work::Revoke(RevokeWork {
        revocation: RevocationId::from_bytes([3; 16]),
        secret: SECRET,
        versions: vec![1],
        attempt,
        outside: place(probe).filter(|_| part != Part::Destroy),
        resource: None,
        part,
        is_emergency: false,
    })
}

async fn failed(world: &mut World, work: Work) -> Option<String> {
    world.send(work).await;
    failure(&world.outcome().await)
}

async fn proven(world: &mut World, work: Work) -> (Vec<Answer>, Option<String>) {
    world.send(work).await;
    let (_, proven) = world.outcome().await;
    let Command::ProofOutcome(taken) = proven else {
        panic!("{proven:?}");
    };
    let Proof { evidence, lacking } = taken.proof;
    (evidence.iter().map(|one| one.answer).collect(), lacking)
}

/// The server has the login that the store lends first.
fn make_login(world: &World) {
    let password = SecretBytes::from(PASSWORD.to_vec());
    world.accounts.change(LOGIN, &password);
}

#[tokio::test]
async fn a_login_is_tried_where_the_work_says_and_its_value_goes_after_the_proof() {
    let mut world = World::new().await;
    let (shutdown, task) = world.start();
    assert_eq!(failed(&mut world, work(Step::Create, 1, db())).await, None);
    let refused = failed(&mut world, work(Step::Test, 1, db())).await;
    assert!(refused.is_some_and(|reason| reason.contains("`probe`")));
    make_login(&world);
    for (step, attempt) in [(Step::Set, 1), (Step::Test, 2), (Step::Finish, 1)] {
        assert_eq!(failed(&mut world, work(step, attempt, db())).await, None);
    }
    assert_eq!(failed(&mut world, part(Part::Disable, 1, db())).await, None);
    assert_eq!(world.fakes.store("one").lender.alive(), []);
    let alive = proven(&mut world, part(Part::Prove, 2, db())).await;
    assert_eq!(alive, (vec![Answer::LeaseGone, Answer::Accepted], None));
    let other = SecretBytes::from(b"nobody's".to_vec());
    world.accounts.change(LOGIN, &other);
    let dead = proven(&mut world, part(Part::Prove, 3, db())).await;
    assert_eq!(dead, (vec![Answer::LeaseGone, Answer::Refused], None));
    assert!(world.vault.open_version(SECRET, 1).await.is_ok());
    assert_eq!(failed(&mut world, part(Part::Destroy, 4, None)).await, None);
    assert!(world.vault.open_version(SECRET, 1).await.is_err());
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn where_no_server_is_named_none_is_asked_and_that_is_said() {
    let mut world = World::new().await;
    let (shutdown, task) = world.start();
    for step in [Step::Create, Step::Set, Step::Test, Step::Finish] {
        assert_eq!(failed(&mut world, work(step, 1, None)).await, None);
    }
    assert_eq!(failed(&mut world, part(Part::Disable, 1, None)).await, None);
    let (answers, lacking) = proven(&mut world, part(Part::Prove, 2, None)).await;
    assert_eq!(answers, [Answer::LeaseGone]);
    assert!(lacking.is_some_and(|why| why.contains("no login was tried")));
    assert_eq!(world.accounts.calls(), 0);
    shutdown.request();
    task.await.unwrap();
}
