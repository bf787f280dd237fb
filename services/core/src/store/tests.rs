//! Stores outside: what is declared, what is refused, and what a look there leads to.

use std::time::Duration;

use super::*;
use crate::command::{Command, Declaration, Observation};
use crate::effect::{Effect, StepWork, Work};
use crate::event;
use crate::id::{RotationId, SecretId, StoreId};
use crate::rotation::{self, Outcome, Step, Trigger, react};
use crate::secret::{self, KEPT_REMOTES, LOCAL_STORE, Place, Spec, Store};
use crate::testing::*;

mod credentials;
mod incidents;

const STORE: StoreId = StoreId::from_bytes([0x90; 16]);
const OTHER: SecretId = SecretId::from_bytes([0x91; 16]);

fn store_name() -> StoreName {
    StoreName::parse("openbao").unwrap()
}

fn named(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn spec_of(backend: Backend) -> StoreSpec {
    StoreSpec {
        backend,
        poll: DEFAULT_POLL,
        timeout: DEFAULT_TIMEOUT,
    }
}

fn vault(token: CredentialRef) -> StoreSpec {
    spec_of(Backend::Vault(VaultSpec {
        address: "https://vault:8200".to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        ca_file: String::new(),
        old_versions: OldVersions::Destroy,
        auth: VaultAuth::Token { token },
    }))
}

fn by_file() -> StoreSpec {
    vault(CredentialRef::File("/etc/token".to_owned()))
}

fn aws() -> StoreSpec {
    let auth = AwsAuth::Chain {
        profile: String::new(),
    };
    spec_of(Backend::Aws(AwsSpec {
        region: "eu-central-1".to_owned(),
        endpoint: String::new(),
        auth,
    }))
}

fn declare(spec: StoreSpec) -> Command {
    let (id, name) = (STORE, store_name());
    Command::Apply(vec![Declaration::Store { id, name, spec }])
}

fn of_store(event: Event) -> event::Event {
    event::Event::Store(STORE, event)
}

fn source(path: &str, field: &str) -> Source {
    Source {
        path: path.to_owned(),
        field: field.to_owned(),
    }
}

fn outside(path: &str, field: &str) -> Spec {
    let place = Place {
        store: store_name(),
        source: source(path, field),
    };
    Spec {
        store: Store::Outside(place),
        ..Spec::default()
    }
}

fn taken_over() -> Spec {
    outside("payments/db", "password")
}

fn made() -> Spec {
    Spec {
        generator: generated().generator,
        ..taken_over()
    }
}

fn apply_named(id: SecretId, name: &str, spec: Spec) -> Command {
    let (rotation, name) = (THIRD, named(name));
    Command::Apply(vec![Declaration::Secret {
        id,
        rotation,
        name,
        spec,
    }])
}

fn remote(n: u64) -> RemoteVersion {
    RemoteVersion(n.to_string())
}

/// A look by which `rotation` may begin.
fn look(rotation: RotationId, known: Option<u64>, found: Option<u64>) -> Observation {
    Observation {
        secret: SECRET,
        rotation,
        known: known.map(remote),
        found: found.map(remote),
        is_unchanged: false,
        is_gone: false,
    }
}

fn seen(rotation: RotationId, known: Option<u64>, found: Option<u64>) -> Command {
    Command::Observed(look(rotation, known, found))
}

fn same(known: Option<u64>, found: u64) -> Command {
    Command::Observed(Observation {
        is_unchanged: true,
        is_gone: false,
        ..look(SECOND, known, Some(found))
    })
}

fn written(rotation: RotationId, n: u64) -> Command {
    Command::StepOutcome {
        rotation,
        step: Step::Finish,
        attempt: 1,
        failure: None,
        is_away: false,
        remote: Some(remote(n)),
        sessions: None,
    }
}

/// The steps before `finish`.
fn prepared(given: Given, rotation: RotationId) -> Given {
    let steps = [Step::Create, Step::Set, Step::Test];
    steps
        .into_iter()
        .fold(given, |g, step| g.and(done(rotation, step)))
}

fn noted(version: u64, n: u64, written: bool) -> event::Event {
    let remote = remote(n);
    of_secret(secret::Event::RemoteVersionNoted {
        version,
        remote,
        written,
    })
}

fn declared() -> Given {
    Given::nothing().and(declare(by_file()))
}

/// A secret whose value 7 at the store was taken over as version 1.
fn following() -> Given {
    let given = declared().and(apply_secret(taken_over()));
    given.and(seen(FIRST, None, Some(7))).finished(FIRST)
}

/// A secret whose version 1 Keywheel wrote to the store as its version 1.
fn writing() -> Given {
    let given = declared().and(apply_secret(made()));
    let begun = given.and(seen(FIRST, None, None));
    prepared(begun, FIRST).and(written(FIRST, 1))
}

/// The work that the last begun step of a rotation asks for.
fn work(given: &Given, rotation: RotationId) -> StepWork {
    let world = given.world();
    let open = &world.rotations[&rotation];
    let begun = |event: &&event::Event| matches!(event, event::Event::Rotation(id, rotation::Event::StepStarted { .. }) if *id == rotation);
    let Some(event::Event::Rotation(_, event)) = given.log().iter().rev().find(begun) else {
        panic!("no step of {rotation}");
    };
    match react(world, open, event).remove(0) {
        Effect {
            work: Work::Step(work),
        } => work,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_is_declared_and_changed_and_repeating_it_does_nothing() {
    let event = Event::Declared {
        name: store_name(),
        spec: by_file(),
    };
    let given = Given::nothing()
        .when(declare(by_file()))
        .then([of_store(event)]);
    let again = given.when(declare(by_file())).then_nothing();
    let slower = StoreSpec {
        poll: Duration::from_secs(300),
        ..by_file()
    };
    let changed = Event::Changed {
        spec: slower.clone(),
    };
    let after = again
        .when(declare(slower.clone()))
        .then([of_store(changed)]);
    assert_eq!(
        after.world().store_named(&store_name()).unwrap().store.spec,
        slower
    );
}

#[test]
fn that_a_store_does_not_answer_is_one_event_and_that_it_does_again_another() {
    let contact = |failure: Option<&str>| Command::StoreContact {
        store: STORE,
        failure: failure.map(str::to_owned),
    };
    let answering = declared().when(contact(None)).then_nothing();
    let long = "s".repeat(MAX_STALE_REASON_CHARS + 1);
    let reason = "s".repeat(MAX_STALE_REASON_CHARS);
    let stale = answering
        .when(contact(Some(&long)))
        .then([of_store(Event::WentStale { reason })]);
    assert!(stale.world().stores[&STORE].is_stale);
    // Every store-sync hears it, whichever said it.
    let told = |given: &Given| {
        let head = u64::try_from(given.log().len()).unwrap();
        let news = given.world().store_news(head - 1, head);
        news.stores.first().map(|now| now.is_stale)
    };
    assert_eq!(told(&stale), Some(true));
    let still = stale.when(contact(Some("another reason"))).then_nothing();
    let back = still.when(contact(None)).then([of_store(Event::Recovered)]);
    assert!(!back.world().stores[&STORE].is_stale);
    assert_eq!(told(&back), Some(false));
    let removed = Given::nothing();
    removed.when(contact(Some("gone"))).then_nothing();
}

#[test]
fn our_own_store_s_name_is_taken() {
    let name = StoreName::parse(LOCAL_STORE).unwrap();
    let (id, spec) = (STORE, by_file());
    let command = Command::Apply(vec![Declaration::Store { id, name, spec }]);
    Given::nothing()
        .when(command)
        .then_rejected(Rejection::NameTaken);
}

#[test]
fn a_secret_lies_in_a_declared_store_only() {
    let unknown = Given::nothing().when(apply_secret(taken_over()));
    unknown.then_rejected(Rejection::Unknown(store_name()));
}

#[test]
fn one_place_belongs_to_one_secret_whatever_way_it_is_written() {
    let rejection = |other| Rejection::PlaceTaken {
        secret: named("second"),
        other,
    };
    let given = declared().and(apply_secret(taken_over()));
    let second = |spec| apply_named(OTHER, "second", spec);
    given
        .clone()
        .when(second(taken_over()))
        .then_rejected(rejection(secret_name()));
    let beside = given.and(second(outside("payments/db", "user")));
    assert_eq!(beside.world().secrets_in(&store_name()).count(), 2);
    let arn = "arn:aws:secretsmanager:eu-central-1:1:secret:app/db-AbCdEf";
    let given = Given::nothing().and(declare(aws()));
    let given = given.and(apply_secret(outside(arn, "")));
    given
        .when(second(outside("app/db", "")))
        .then_rejected(rejection(secret_name()));
}

#[test]
fn a_place_that_a_kind_of_store_has_not_is_refused() {
    for (path, field, words) in [
        ("payments/db", "", "`source.field`"),
        ("/payments/db", "p", "below the mount"),
        ("payments//db", "p", "below the mount"),
        ("payments/../db", "p", "below the mount"),
        ("", "p", "`source.path` is empty"),
    ] {
        let reason = source(path, field).fault(&by_file().backend).unwrap();
        assert!(reason.contains(words), "{reason}");
        let secret = secret_name();
        let when = declared().when(apply_secret(outside(path, field)));
        when.then_rejected(Rejection::NoPlace { secret, reason });
    }
    assert_eq!(source("/any//name", "").fault(&aws().backend), None);
    let role = source("/team/db/static-creds/app", "password");
    assert_eq!(role.fault(&by_file().backend), None);
    let found = role.static_role().map(|role| (role.mount, role.name));
    assert_eq!(found, Some(("team/db", "app")));
    for path in [
        "team/db/static-creds/app",
        "/static-creds/app",
        "/db/static-creds/",
        "/db/static-creds/a/b",
        "/../static-creds/a",
        "/db/static-roles/a",
    ] {
        assert_eq!(source(path, "password").static_role(), None, "{path}");
    }
}

#[test]
fn a_store_does_not_become_one_in_which_what_lies_there_has_no_place() {
    let given = Given::nothing().and(declare(aws()));
    let given = given.and(apply_secret(outside("app/db", "")));
    let rejected = given.when(declare(by_file()));
    let reason = source("app/db", "").fault(&by_file().backend).unwrap();
    let secret = secret_name();
    rejected.then_rejected(Rejection::NoPlace { secret, reason });
}

#[test]
fn a_store_goes_when_nothing_lies_in_it() {
    let name = store_name();
    let remove = Command::RemoveStore { name };
    let given = declared().and(apply_secret(taken_over()));
    given
        .clone()
        .when(remove.clone())
        .then_rejected(Rejection::InUse {
            store: store_name(),
            secret: secret_name(),
        });
    let moved = given.and(apply_secret(Spec::default()));
    let gone = moved.when(remove.clone()).then([of_store(Event::Removed)]);
    gone.when(remove)
        .then_rejected(Rejection::Unknown(store_name()));
}

#[test]
fn what_lies_outside_is_looked_at_before_a_value_is_made() {
    let given = declared().and(apply_secret(made()));
    assert!(given.world().open_rotation(SECRET).is_none());
    let begun = given.when(seen(FIRST, None, None));
    let begun = begun.then_among_others([of_rotation(
        FIRST,
        rotation::Event::Started {
            secret: SECRET,
            version: 1,
            trigger: Trigger::Initial,
        },
    )]);
    let work = work(&begun, FIRST).outside.unwrap();
    assert_eq!((work.known, work.fetch), (None, None));
    let nothing = declared().and(apply_secret(taken_over()));
    nothing.when(seen(FIRST, None, None)).then_nothing();
}

#[test]
fn another_version_outside_is_detected_and_exactly_that_one_is_taken_over() {
    let begun = following().when(seen(SECOND, Some(7), Some(8))).then([
        of_secret(secret::Event::ExternalChangeDetected {
            remote: remote(8),
            rotation: SECOND,
        }),
        of_secret(secret::Event::VersionStaged {
            version: 2,
            rotation: SECOND,
        }),
        of_rotation(
            SECOND,
            rotation::Event::Started {
                secret: SECRET,
                version: 2,
                trigger: Trigger::External { remote: remote(8) },
            },
        ),
        of_rotation(
            SECOND,
            rotation::Event::StepStarted {
                step: Step::Create,
                attempt: 1,
            },
        ),
    ]);
    let asked = work(&begun, SECOND).outside.unwrap();
    assert_eq!(asked.fetch, Some(remote(8)));
    assert_eq!(asked.store.name, store_name());
    let promoted = prepared(begun, SECOND).when(written(SECOND, 8));
    let promoted = promoted.then_among_others([
        of_secret(secret::Event::VersionPromoted { version: 2 }),
        noted(2, 8, false),
    ]);
    assert_eq!(promoted.secret().known, Some(remote(8)));
    assert!(work(&promoted, SECOND).outside.unwrap().retire.is_empty());
}

#[test]
fn the_version_that_is_known_changes_nothing_however_often_it_is_seen() {
    let given = following();
    let given = given.when(seen(SECOND, Some(7), Some(7))).then_nothing();
    given.when(seen(SECOND, Some(7), None)).then_nothing();
}

#[test]
fn one_change_seen_twice_is_one_rotation() {
    let given = following().and(seen(SECOND, Some(7), Some(8)));
    let (secret, rotation) = (secret_name(), SECOND);
    let again = given.clone().when(seen(THIRD, Some(7), Some(8)));
    again.then_rejected(rotation::Rejection::AlreadyOpen { secret, rotation });
    let ended = prepared(given, SECOND).and(written(SECOND, 8));
    let late = ended.when(seen(THIRD, Some(7), Some(8)));
    late.then_rejected(Rejection::LookOutdated(secret_name()));
}

#[test]
fn a_look_from_before_our_own_write_is_refused() {
    let given = writing().and(rotate(SECOND));
    let given = prepared(given, SECOND).and(written(SECOND, 2));
    let stale = given.when(seen(THIRD, Some(1), Some(1)));
    stale.then_rejected(Rejection::LookOutdated(secret_name()));
}

#[test]
fn another_version_with_the_same_value_is_noted_and_nothing_rotates() {
    let given = writing().when(same(Some(1), 2)).then([noted(1, 2, false)]);
    assert_eq!(given.secret().known, Some(remote(2)));
    // Also while a rotation is under way, so that its next attempt writes over what is there now.
    let given = given.and(rotate(SECOND));
    let given = given.when(same(Some(2), 3)).then([noted(1, 3, false)]);
    let given = prepared(given, SECOND);
    assert_eq!(work(&given, SECOND).outside.unwrap().known, Some(remote(3)));
}

#[test]
fn our_own_write_is_no_change_from_outside_and_the_next_one_replaces_exactly_it() {
    let given = writing();
    assert_eq!(given.secret().known, Some(remote(1)));
    let given = given.when(seen(THIRD, Some(1), Some(1))).then_nothing();
    let given = prepared(given.and(rotate(SECOND)), SECOND);
    assert_eq!(work(&given, SECOND).outside.unwrap().known, Some(remote(1)));
    let given = given.when(written(SECOND, 2));
    let retiring = given.then_among_others([noted(2, 2, true)]);
    let asked = work(&retiring, SECOND);
    assert_eq!(asked.step, Step::RevokeOld);
    assert_eq!(asked.outside.unwrap().retire, [remote(1)]);
    let retired = secret::Event::RemoteVersionRetired { remote: remote(1) };
    let ended = retiring.when(done(SECOND, Step::RevokeOld));
    let ended = ended.then_among_others([of_secret(retired)]);
    assert_eq!(ended.secret().written_before(u64::MAX), [remote(2)]);
}

#[test]
fn a_revoked_version_is_revoked_outside_too_unless_it_is_the_current_one_there() {
    let given = following().and(seen(SECOND, Some(7), Some(8)));
    let given = prepared(given, SECOND).and(written(SECOND, 8));
    // Version 1 is somebody else's: nothing of it is touched but by a revocation.
    let both = given.and(revoke(None));
    assert_eq!(both.world().revocations[&REVOCATION].retire, Vec::new());
    let given = writing().and(rotate(SECOND));
    let given = prepared(given, SECOND).and(written(SECOND, 2));
    let given = given.and(revoke(Some(2)));
    assert_eq!(given.world().revocations[&REVOCATION].retire, Vec::new());
    let given = writing().and(same(Some(1), 2)).and(revoke(None));
    assert_eq!(given.world().revocations[&REVOCATION].retire, [remote(1)]);
    let confirmed = given.when(Command::RevokeOutcome {
        revocation: REVOCATION,
        attempt: 1,
        failure: None,
    });
    let retired = secret::Event::RemoteVersionRetired { remote: remote(1) };
    confirmed.then_among_others([of_secret(retired)]);
}

#[test]
fn what_a_revocation_left_current_outside_goes_with_the_next_rotation() {
    let confirmed = Command::RevokeOutcome {
        revocation: REVOCATION,
        attempt: 1,
        failure: None,
    };
    let given = writing()
        .and(revoke(None))
        .and(confirmed)
        .and(rotate(SECOND));
    let given = prepared(given, SECOND).and(written(SECOND, 2));
    let asked = work(&given, SECOND);
    assert_eq!((asked.step, asked.versions), (Step::RevokeOld, Vec::new()));
    assert_eq!(asked.outside.unwrap().retire, [remote(1)]);
    let ended = given.and(done(SECOND, Step::RevokeOld));
    let closed = rotation::Phase::Closed(Outcome::Completed);
    assert_eq!(ended.world().rotations[&SECOND].phase, closed);
}

#[test]
fn a_secret_that_moves_forgets_what_its_former_place_had() {
    let moved = following().and(apply_secret(outside("elsewhere", "password")));
    assert_eq!(
        (moved.secret().known.clone(), moved.secret().remotes.len()),
        (None, 0)
    );
    let local = following().and(apply_secret(Spec::default()));
    let when = local.when(seen(SECOND, None, Some(7)));
    when.then_rejected(Rejection::NotOutside(secret_name()));
}

#[test]
fn what_is_kept_of_versions_outside_is_bounded_and_ours_stay() {
    let most = u64::try_from(KEPT_REMOTES).unwrap();
    let given = (1..most).fold(writing(), |given, n| given.and(same(Some(n), n + 1)));
    assert_eq!(given.secret().remotes.len(), KEPT_REMOTES);
    let given = given.and(same(Some(most), most + 1));
    let kept = &given.secret().remotes;
    assert_eq!(kept.len(), KEPT_REMOTES);
    assert_eq!((&kept[0].remote, kept[0].written), (&remote(1), true));
    assert_eq!(kept[1].remote, remote(3));
}

#[test]
fn news_are_told_once_and_a_credential_s_rotation_is_news_of_its_store() {
    let given = credentials::given_for(credentials::SERVER).and(declare(credentials::by_secret()));
    let given = given.and(apply_named(OTHER, "far", taken_over()));
    let head = |given: &Given| u64::try_from(given.log().len()).unwrap();
    let all = given.world().store_news(0, head(&given));
    assert_eq!(
        (all.stores.len(), all.secrets.len(), all.more),
        (1, 1, false)
    );
    assert_eq!(all.stores[0].credentials[0].version, Some(1));
    assert_eq!(all.through, head(&given));
    assert!(!given.world().has_store_news(all.through));
    let after = given.and(credentials::put(SECOND, true)).finished(SECOND);
    let news = after.world().store_news(all.through, head(&after));
    assert_eq!((news.stores.len(), news.secrets.len()), (1, 0));
    assert_eq!(news.stores[0].credentials[0].version, Some(2));
}

#[test]
fn many_news_come_in_pieces() {
    let name = |n: usize| format!("s{n}");
    let mut given = declared();
    for n in 0..MAX_NEWS {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let command = apply_named(SecretId::from_bytes(id), &name(n), outside(&name(n), "f"));
        given = given.and(command);
    }
    let head = u64::try_from(given.log().len()).unwrap();
    let first = given.world().store_news(0, head);
    assert_eq!(
        (first.stores.len(), first.secrets.len(), first.more),
        (1, MAX_NEWS - 1, true)
    );
    let rest = given.world().store_news(first.through, head);
    assert_eq!(
        (rest.stores.len(), rest.secrets.len(), rest.more),
        (0, 1, false)
    );
}

#[test]
fn an_arn_and_its_name_are_one_place_and_odd_texts_are_themselves() {
    for (path, name) in [
        (
            "arn:aws:secretsmanager:eu-central-1:1:secret:app/db-AbCdEf",
            "app/db",
        ),
        ("app/db-AbCdEf", "app/db-AbCdEf"),
        ("arn:x:secret:ab", "ab"),
        ("a:secret:ü-AbCdEf", "ü-AbCdEf"),
    ] {
        assert_eq!(aws_name(path), name, "{path}");
    }
}
