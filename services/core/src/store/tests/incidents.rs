//! Stores outside when something goes wrong: revocations in between, places that change, stores away.

use super::*;
use crate::rotation::{MAX_STEP_ATTEMPTS, Phase};

fn confirmed() -> Command {
    Command::RevokeOutcome {
        revocation: REVOCATION,
        attempt: 1,
        failure: None,
    }
}

fn retry(rotation: RotationId) -> Command {
    Command::RetryStep { rotation }
}

fn away(rotation: RotationId, step: Step, attempt: u32) -> Command {
    Command::StepOutcome {
        rotation,
        step,
        attempt,
        failure: Some("connection refused".to_owned()),
        is_away: true,
        remote: None,
        sessions: None,
    }
}

fn revoked_there() -> Rejection {
    Rejection::RevokedThere(secret_name())
}

#[test]
fn a_change_whose_takeover_was_revoked_is_not_taken_over_again() {
    let given = following().and(seen(SECOND, Some(7), Some(8)));
    let given = given.when(revoke(None));
    let given = given.then_among_others([noted(2, 8, false)]);
    assert_eq!(given.secret().known, Some(remote(8)));
    assert!(!is_passed_over(&given));
    let given = given.when(seen(THIRD, Some(8), Some(8))).then_nothing();
    // Also when somebody moves the store away from it and back.
    let given = given.and(confirmed()).and(seen(THIRD, Some(8), Some(9)));
    let given = prepared(given, THIRD).and(written(THIRD, 9));
    let back = given.when(seen(SECOND, Some(9), Some(8)));
    back.then_rejected(revoked_there());
}

fn abort(rotation: RotationId) -> Command {
    Command::Intervene {
        rotation,
        intervention: rotation::Intervention::Abort,
        reason: "not that one".to_owned(),
    }
}

fn is_passed_over(given: &Given) -> bool {
    let world = given.world();
    let head = u64::try_from(given.log().len()).unwrap();
    world.store_news(0, head).secrets[0].is_passed_over
}

#[test]
fn a_change_whose_takeover_was_aborted_is_taken_over_again_only_when_a_person_looks() {
    let given = following().and(seen(SECOND, Some(7), Some(8)));
    let given = given.and(abort(SECOND)).and(done(SECOND, Step::Create));
    let given = given
        .when(done(SECOND, Step::RollBack))
        .then_among_others([noted(2, 8, false)]);
    let secret = given.secret();
    assert_eq!(
        (secret.current, secret.known.clone()),
        (Some(1), Some(remote(8)))
    );
    assert!(is_passed_over(&given));
    // Polls tell another version only; one that is told again is what a person wants.
    let wanted = given.clone().when(seen(THIRD, Some(8), Some(8)));
    let wanted = wanted.then_among_others([of_secret(secret::Event::ExternalChangeDetected {
        remote: remote(8),
        rotation: THIRD,
    })]);
    let taken = prepared(wanted, THIRD).and(written(THIRD, 8));
    assert_eq!(taken.secret().current, Some(3));
    assert!(!is_passed_over(&taken));
    // The next change there is one like any other.
    let next = given.and(seen(THIRD, Some(8), Some(9)));
    assert_eq!(next.world().open_rotation(SECRET).unwrap().id, THIRD);
}

#[test]
fn a_takeover_that_failed_by_itself_is_tried_again() {
    let given = following().and(seen(SECOND, Some(7), Some(8)));
    let given = given.and(failed(SECOND, Step::Create, 1));
    let given = (2..=MAX_STEP_ATTEMPTS).fold(given, |given, n| {
        given
            .and(retry(SECOND))
            .and(failed(SECOND, Step::Create, n))
    });
    let given = given.and(done(SECOND, Step::RollBack));
    assert_eq!(given.secret().known, Some(remote(7)));
    assert!(!is_passed_over(&given));
    let given = given.and(seen(THIRD, Some(7), Some(8)));
    assert_eq!(given.world().open_rotation(SECRET).unwrap().id, THIRD);
}

#[test]
fn a_version_outside_that_an_incident_revoked_never_comes_back() {
    let given = following().and(revoke(None)).and(confirmed());
    let given = given.and(seen(SECOND, Some(7), Some(8)));
    let given = prepared(given, SECOND).and(written(SECOND, 8));
    assert_eq!(given.secret().current, Some(2));
    let back = given.when(seen(THIRD, Some(8), Some(7)));
    back.then_rejected(revoked_there());
}

#[test]
fn what_a_cancelled_rotation_wrote_is_known_and_no_change_from_outside() {
    let given = prepared(writing().and(rotate(SECOND)), SECOND).and(revoke(None));
    // The write may be there, and nobody knows yet.
    let early = given.clone().when(seen(THIRD, Some(1), Some(2)));
    early.then_rejected(Rejection::LookOutdated(secret_name()));
    let late = given.when(written(SECOND, 2));
    let late = late.then_among_others([noted(2, 2, true)]);
    let phase = &late.world().rotations[&SECOND].phase;
    assert_eq!(*phase, Phase::Closed(Outcome::Cancelled));
    assert_eq!(late.secret().current, None);
    let late = late.when(seen(THIRD, Some(2), Some(2))).then_nothing();
    let again = late.when(written(SECOND, 2));
    again.then_rejected(rotation::Rejection::StepNotOpen {
        rotation: SECOND,
        step: Step::Finish,
        attempt: 1,
    });
}

#[test]
fn a_finish_that_failed_after_its_cancellation_ends_the_wait_for_it() {
    let given = prepared(writing().and(rotate(SECOND)), SECOND).and(revoke(Some(2)));
    let given = given.and(failed(SECOND, Step::Finish, 1));
    let phase = &given.world().rotations[&SECOND].phase;
    assert_eq!(*phase, Phase::Closed(Outcome::Cancelled));
    given.when(seen(THIRD, Some(1), Some(1))).then_nothing();
}

#[test]
fn a_version_named_by_a_cancelled_rotation_is_its_write() {
    let given = prepared(writing().and(rotate(SECOND)), SECOND).and(revoke(Some(2)));
    let given = given.and(failed(SECOND, Step::Finish, 1));
    let when = given.when(Command::Observed(Observation {
        found: Some(RemoteVersion(SECOND.to_string())),
        ..look(THIRD, Some(1), None)
    }));
    when.then_rejected(revoked_there());
}

#[test]
fn a_look_that_compared_with_what_was_revoked_since_is_worthless() {
    let given = following().and(revoke(None));
    let when = given.when(same(Some(7), 8));
    when.then_rejected(Rejection::LookOutdated(secret_name()));
}

#[test]
fn nothing_is_made_by_itself_where_a_value_was_revoked_and_deleted() {
    let given = writing().and(revoke(None)).and(confirmed());
    given.when(seen(SECOND, Some(1), None)).then_nothing();
}

#[test]
fn a_first_value_that_failed_is_made_at_the_next_look() {
    let given = declared()
        .and(apply_secret(made()))
        .and(seen(FIRST, None, None));
    let given = given.and(failed(FIRST, Step::Create, 1));
    let given = (2..=MAX_STEP_ATTEMPTS).fold(given, |given, n| {
        given.and(retry(FIRST)).and(failed(FIRST, Step::Create, n))
    });
    let given = given.and(done(FIRST, Step::RollBack));
    let given = given.and(seen(SECOND, None, None));
    assert_eq!(given.world().open_rotation(SECRET).unwrap().id, SECOND);
}

#[test]
fn a_store_that_is_away_is_waited_for_and_one_that_refuses_is_not() {
    let begun = writing().and(rotate(SECOND));
    let given = (1..=2 * MAX_STEP_ATTEMPTS).fold(begun, |given, n| {
        given.and(away(SECOND, Step::Create, n)).and(retry(SECOND))
    });
    let last = 2 * MAX_STEP_ATTEMPTS + 1;
    let performing = |step, attempt| Phase::Performing { step, attempt };
    let phase = given.world().rotations[&SECOND].phase.clone();
    assert_eq!(phase, performing(Step::Create, last));
    let refused = given.and(failed(SECOND, Step::Create, last));
    let phase = refused.world().rotations[&SECOND].phase.clone();
    assert_eq!(phase, performing(Step::RollBack, 1));
}

fn refused(given: Given, command: Command, what: String) {
    let secret = secret_name();
    given
        .when(command)
        .then_rejected(Rejection::Working { secret, what });
}

fn elsewhere() -> Command {
    apply_secret(outside("elsewhere", "password"))
}

/// The same store at another server.
fn other_server() -> StoreSpec {
    let Backend::Vault(vault) = by_file().backend else {
        panic!("no Vault");
    };
    spec_of(Backend::Vault(VaultSpec {
        address: "https://other:8200".to_owned(),
        ..vault
    }))
}

#[test]
fn a_place_does_not_change_under_a_rotation_or_a_revocation_at_work() {
    let rotating = writing().and(rotate(SECOND));
    let what = format!("rotation {SECOND}");
    refused(rotating.clone(), elsewhere(), what.clone());
    refused(rotating.clone(), declare(other_server()), what);
    let revoking = writing().and(revoke(None));
    let what = format!("revocation {REVOCATION}");
    refused(revoking.clone(), elsewhere(), what.clone());
    refused(
        revoking.clone(),
        apply_secret(Spec::default()),
        what.clone(),
    );
    refused(revoking.clone(), declare(other_server()), what);
    let moved = revoking.and(confirmed()).and(elsewhere());
    assert_eq!(moved.secret().known, None);
    // What leaves versions what they are is no move.
    let slower = StoreSpec {
        poll: Duration::from_secs(300),
        ..by_file()
    };
    let slower = rotating.and(declare(slower));
    assert_eq!(slower.secret().known, Some(remote(1)));
}

#[test]
fn a_store_at_another_server_has_none_of_the_versions_that_were_known() {
    let given = writing().and(declare(other_server()));
    let secret = given.secret();
    assert_eq!((secret.known.clone(), secret.remotes.len()), (None, 0));
    // The same value there is the same version of ours.
    given.when(same(None, 3)).then([noted(1, 3, false)]);
}

#[test]
fn what_is_kept_of_revoked_versions_outside_is_bounded() {
    let given = following();
    let mut secret = given.secret().clone();
    for n in 0..=KEPT_REMOTES as u64 {
        secret.evolve(&secret::Event::RemoteVersionNoted {
            version: 1,
            remote: remote(100 + n),
            written: false,
        });
        secret.note_revoked(&[1]);
    }
    assert_eq!(secret.revoked_remotes.len(), KEPT_REMOTES);
    let newest = remote(100 + KEPT_REMOTES as u64);
    assert_eq!(secret.revoked_remotes.back(), Some(&newest));
}

#[test]
fn a_force_on_the_way_back_is_refused_where_the_store_keeps_the_new_version() {
    let step_in = |intervention| Command::Intervene {
        rotation: SECOND,
        intervention,
        reason: "ticket 4711".to_owned(),
    };
    let served = Command::Report(report(vec![reloaded(1, 1)], &[1]));
    let given = writing()
        .and(enrol(HOST))
        .and(apply_binding(
            anywhere(),
            file(),
            crate::binding::Reload::None,
        ))
        .and(served)
        .and(rotate(SECOND));
    let given = prepared(given, SECOND).and(written(SECOND, 2));
    let given = given.and(step_in(rotation::Intervention::Abort));
    assert_eq!(given.world().rotations[&SECOND].returning, Some(1));
    let rejection = rotation::Rejection::NothingDies {
        rotation: SECOND,
        secret: secret_name(),
    };
    let forced = given.when(step_in(rotation::Intervention::Force));
    forced.then_rejected(rejection);
}

/// A place where the server makes the values.
fn role() -> Spec {
    Spec {
        generator: generated().generator,
        ..outside("/shop/db/static-creds/app", "password")
    }
}

/// Version 1 is what the role had as 7.
fn following_role() -> Given {
    let given = declared().and(apply_secret(role()));
    given.and(seen(FIRST, None, Some(7))).finished(FIRST)
}

#[test]
fn what_is_current_at_a_static_role_is_ended_there_and_nothing_is_taken_over_before() {
    let ends = |given: &Given| given.world().revocations[&REVOCATION].retire.clone();
    let revoked = following_role().and(revoke(None));
    assert_eq!(ends(&revoked), [remote(7)]);
    let looked = revoked.clone().when(seen(SECOND, Some(7), Some(8)));
    looked.then_rejected(Rejection::LookOutdated(secret_name()));
    let taken = revoked.and(confirmed()).and(seen(SECOND, Some(7), Some(8)));
    assert_eq!(taken.world().open_rotation(SECRET).unwrap().id, SECOND);
    // A store that keeps versions cannot be without a current one.
    assert!(ends(&following().and(revoke(None))).is_empty());
}

#[test]
fn what_a_static_role_made_is_not_looked_at_while_its_revocation_is_under_way() {
    let begun = following_role().and(rotate(SECOND));
    let set = begun.and(done(SECOND, Step::Create));
    let revoked = set.and(done(SECOND, Step::Set)).and(revoke(Some(2)));
    let looked = revoked.when(seen(THIRD, Some(7), Some(8)));
    looked.then_rejected(Rejection::LookOutdated(secret_name()));
}

#[test]
fn what_a_static_role_made_is_not_aborted_and_its_gap_counts() {
    let no_way_back = || rotation::Rejection::NoWayBack {
        rotation: SECOND,
        secret: secret_name(),
    };
    let begun = following_role().and(rotate(SECOND));
    let _before = begun.clone().and(abort(SECOND));
    let set = begun.and(done(SECOND, Step::Create));
    set.clone().when(abort(SECOND)).then_rejected(no_way_back());
    let cut_over = of_rotation(SECOND, rotation::Event::CutOver { at: NOW });
    let testing = set
        .when(done(SECOND, Step::Set))
        .then_among_others([cut_over]);
    testing.when(abort(SECOND)).then_rejected(no_way_back());
    // Where nothing was current, nothing is lost.
    let first = declared().and(apply_secret(role()));
    let first = first.and(seen(FIRST, None, None));
    let _aborted = first.and(done(FIRST, Step::Create)).and(abort(FIRST));
}

#[test]
fn what_a_static_role_made_unasked_is_not_aborted_before_set_either() {
    let no_way_back = rotation::Rejection::NoWayBack {
        rotation: SECOND,
        secret: secret_name(),
    };
    let begun = following_role().and(seen(SECOND, Some(7), Some(8)));
    let refused = begun.clone().when(abort(SECOND));
    refused.then_rejected(no_way_back.clone());
    let retrying = begun.and(failed(SECOND, Step::Create, 1));
    retrying.when(abort(SECOND)).then_rejected(no_way_back);
    // Elsewhere the version before is as good as it was.
    let other = following().and(seen(SECOND, Some(7), Some(8)));
    let _aborted = other.and(abort(SECOND));
    let role = declared().and(apply_secret(role()));
    let first = role.and(seen(FIRST, None, Some(7)));
    let _aborted = first.and(abort(FIRST));
}

#[test]
fn the_name_of_a_static_role_s_account_is_neither_made_nor_ended() {
    let name = || outside("/shop/db/static-creds/app", "username");
    let making = Spec {
        generator: generated().generator,
        ..name()
    };
    let at = source("/shop/db/static-creds/app", "username");
    let reason = at.generator_fault(&by_file().backend).unwrap();
    assert!(reason.contains("leave `generator` out"), "{reason}");
    assert_eq!(at.generator_fault(&aws().backend), None);
    let secret = secret_name();
    let refused = declared().when(apply_secret(making));
    refused.then_rejected(Rejection::NoPlace { secret, reason });
    let given = declared().and(apply_secret(name()));
    let given = given.and(seen(FIRST, None, Some(7))).finished(FIRST);
    let revoked = given.clone().and(revoke(None));
    assert!(revoked.world().revocations[&REVOCATION].retire.is_empty());
    let moved = given.and(seen(SECOND, Some(7), Some(8)));
    let _aborted = moved.and(abort(SECOND));
}

#[test]
fn only_what_a_static_role_tells_lies_at_one() {
    for (field, is_there, is_made) in [
        ("password", true, true),
        ("username", true, false),
        ("host", false, false),
        ("", false, false),
    ] {
        let at = source("/shop/db/static-creds/app", field);
        let found = (at.static_role().is_some(), at.is_made_there());
        assert_eq!(found, (is_there, is_made), "{field}");
        let fault = at.fault(&by_file().backend);
        assert_eq!(fault.is_none(), is_there, "{fault:?}");
    }
    let fault = source("/shop/db/static-creds/app", "host").fault(&by_file().backend);
    assert!(fault.unwrap().contains("tells two fields"));
    assert!(!source("app/db", "password").is_made_there());
}

#[test]
fn a_name_at_aws_that_looks_like_a_static_role_is_a_name() {
    let at_aws = Given::nothing().and(declare(aws()));
    let at_aws = at_aws.and(apply_secret(role()));
    let given = at_aws.and(seen(FIRST, None, Some(7))).finished(FIRST);
    assert!(given.secret().has_way_back() && following_role().secret().is_made_there());
    // AWS keeps a version that is current, and nobody there makes another one.
    let revoked = given.clone().and(revoke(None));
    assert!(revoked.world().revocations[&REVOCATION].retire.is_empty());
    let begun = given.clone().and(rotate(SECOND));
    let set = begun.and(done(SECOND, Step::Create));
    let _aborted = set.and(done(SECOND, Step::Set)).and(abort(SECOND));
    // What the store is by now counts, and where the secret lies.
    let moved = given.clone().and(declare(by_file()));
    assert!(moved.secret().is_made_there());
    assert!(!moved.and(declare(aws())).secret().is_made_there());
    let elsewhere = given.and(apply_secret(generated()));
    assert!(!elsewhere.secret().is_only_kept);
}

#[test]
fn a_store_becomes_none_whose_server_ends_what_is_promised_to_be_kept() {
    let keeping = Spec {
        rotation: crate::schedule::RotationPolicy {
            keep_previous: true,
            ..crate::schedule::RotationPolicy::default()
        },
        ..role()
    };
    let given = Given::nothing().and(declare(aws()));
    let given = given.and(apply_secret(keeping));
    given
        .when(declare(by_file()))
        .then_rejected(secret::Rejection::PreviousAtResource {
            secret: secret_name(),
            resource: "static role app of openbao".to_owned(),
        });
}

#[test]
fn what_a_static_role_made_and_somebody_rotated_since_is_rolled_back_at_once() {
    let begun = following_role().and(rotate(SECOND));
    let set = begun.and(done(SECOND, Step::Create));
    let began = |step, attempt| of_rotation(SECOND, rotation::Event::StepStarted { step, attempt });
    // That it could not make one may pass.
    let again = set
        .clone()
        .and(failed(SECOND, Step::Set, 1))
        .and(retry(SECOND));
    assert_eq!(again.log().last(), Some(&began(Step::Set, 2)));
    let testing = set.and(done(SECOND, Step::Set));
    let away = testing.clone().and(away(SECOND, Step::Test, 1));
    let waits = away.and(retry(SECOND));
    assert_eq!(waits.log().last(), Some(&began(Step::Test, 2)));
    let back = began(Step::RollBack, 1);
    let _back = testing
        .clone()
        .when(failed(SECOND, Step::Test, 1))
        .then_among_others([back.clone()]);
    let finishing = testing.and(done(SECOND, Step::Test));
    let rolled = finishing.when(failed(SECOND, Step::Finish, 1));
    let done_back = rolled
        .then_among_others([back])
        .and(done(SECOND, Step::RollBack));
    let taken = done_back.and(seen(THIRD, Some(7), Some(8)));
    assert_eq!(taken.world().open_rotation(SECRET).unwrap().id, THIRD);
}

#[test]
fn a_value_that_stays_current_outside_is_never_said_to_be_dead_there() {
    let given = following().and(revoke(None)).and(confirmed());
    let ended = &given.world().revocations[&REVOCATION];
    assert!(ended.closed && ended.is_destroyed && ended.stays_at_store);
    assert!(!ended.is_dead_at_backend);
}

#[test]
fn what_a_revocation_left_outside_is_dead_there_once_the_next_rotation_ended_it() {
    let open = |given: &Given| given.world().revocations[&REVOCATION].clone();
    let given = writing().and(revoke(None)).and(confirmed());
    assert_eq!(open(&given).left_at_store, Some(remote(1)));
    let given = prepared(given.and(rotate(SECOND)), SECOND).and(written(SECOND, 2));
    assert!(!open(&given).is_dead_at_backend, "it is readable there yet");
    let given = given.and(done(SECOND, Step::RevokeOld));
    assert_eq!(open(&given).left_at_store, None);
    assert!(open(&given).is_dead_at_backend && open(&given).stays_at_store);
}

#[test]
fn a_revocation_takes_back_at_the_store_what_the_rotation_made_there_that_it_cancels() {
    let unstaged = |given: &Given| given.world().revocations[&REVOCATION].unstage;
    let given = writing()
        .and(rotate(SECOND))
        .and(done(SECOND, Step::Create));
    assert_eq!(unstaged(&given.and(revoke(None))), Some(SECOND));
    // One that takes over what is there made nothing.
    let taking = following().and(seen(SECOND, Some(7), Some(8)));
    assert_eq!(unstaged(&taking.and(revoke(None))), None);
    // One that came to its end has nothing half-made.
    assert_eq!(unstaged(&writing().and(revoke(None))), None);
}
