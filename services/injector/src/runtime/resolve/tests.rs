//! One case per reason to give or to refuse at a container's create.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::binding::{ImageSelector, Reload};
use keywheel_core::id::{ContainerId, DeliveryId, SecretId};
use keywheel_core::name::{BindingName, Directory, EnvName, FileName, SecretName};
use keywheel_core::plan::PlannedSecret;

use super::*;
use crate::decide::tests::{binding, file, plan};
use crate::runtime::answer::parts_of;

fn host() -> HostName {
    HostName::parse("web-1").unwrap()
}

fn facts() -> ContainerFacts {
    ContainerFacts {
        id: ContainerId::parse(&"a".repeat(64)).unwrap(),
        name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        image_name: "app".to_owned(),
        labels: BTreeMap::new(),
        user: None,
    }
}

fn bound(target: Target, secret: &str, version: Option<u64>) -> PlannedBinding {
    PlannedBinding {
        secret: SecretId::from_bytes([2; 16]),
        secret_name: SecretName::parse(secret).unwrap(),
        ..binding(1, target, Reload::None, version)
    }
}

fn env(name: &str) -> Target {
    Target::Env {
        name: EnvName::parse(name).unwrap(),
    }
}

fn chosen(
    bindings: Vec<PlannedBinding>,
    env: &[&str],
    mounts: &[&str],
) -> Result<Chosen, Box<Denied>> {
    let plan = plan(bindings);
    let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    choose(&plan, &host(), &facts(), &owned(env), &owned(mounts))
}

#[test]
fn entries_come_apart_into_text_and_secrets() {
    let entry = parse_entry("URL=pg://u:{keywheel:prod/db}@h/{keywheel:prod/name}").unwrap();
    let text = |text: &str| Piece::Text(text.to_owned());
    let secret = |name: &str| Piece::Secret(name.to_owned());
    assert_eq!(entry.name, "URL");
    assert_eq!(
        entry.pieces,
        [
            text("pg://u:"),
            secret("prod/db"),
            text("@h/"),
            secret("prod/name")
        ]
    );
    assert_eq!(parse_entry("A={keywheel:x}").unwrap().pieces, [secret("x")]);
    assert_eq!(
        parse_entry("A={keywheel:file:x}").unwrap().pieces,
        [Piece::File("x".to_owned())]
    );
    assert!(parse_entry("A={keywheel:x").is_none());
    assert!(parse_entry("no-equals-sign").is_none());
}

#[test]
fn a_granted_variable_and_file_are_chosen() {
    let bindings = vec![
        bound(env("DB"), "prod/db", Some(4)),
        bound(file("db"), "prod/db", Some(4)),
    ];
    let chosen = chosen(bindings, &["DB={keywheel:prod/db}"], &["/proc", "/run"]).unwrap();
    assert_eq!((chosen.env.len(), chosen.files.len()), (1, 1));
    assert_eq!(chosen.env[0].0.version, 4);
}

#[test]
fn a_placeholder_without_a_binding_is_refused_with_what_a_binding_must_say() {
    let wrong_variable = vec![bound(env("OTHER"), "prod/db", Some(4))];
    let wrong_secret = vec![bound(env("DB"), "prod/other", Some(4))];
    let only_a_file = vec![bound(file("db"), "prod/db", Some(4))];
    for bindings in [Vec::new(), wrong_variable, wrong_secret, only_a_file] {
        let denied = chosen(bindings, &["DB={keywheel:prod/db}"], &[]).unwrap_err();
        assert_eq!(denied.binding, None);
        let refusal = denied.refusal;
        assert!(
            refusal.error.contains("`prod/db`") && refusal.error.contains("sha256:1"),
            "{}",
            refusal.error
        );
        assert!(
            refusal.next.contains("env: { name: DB }") && refusal.next.contains("host: web-1"),
            "{}",
            refusal.next
        );
    }
}

#[test]
fn a_file_placeholder_is_the_path_of_the_file_and_opens_nothing() {
    let bindings = vec![
        bound(file("db"), "prod/db", Some(4)),
        bound(env("DB"), "prod/db", Some(4)),
    ];
    let chosen = chosen(bindings, &["DB_FILE=file://{keywheel:file:prod/db}"], &[]).unwrap();
    assert!(chosen.env.is_empty(), "a path is nothing that is held");
    assert_eq!(chosen.files.len(), 1);
    let text = |text: &str| Piece::Text(text.to_owned());
    assert_eq!(
        chosen.entries[0].pieces,
        [text("file://"), text("/run/secrets/db")]
    );
}

#[test]
fn files_that_change_together_are_given_and_their_placeholder_is_the_directory() {
    let set = Target::Files {
        directory: Directory::parse("/run/secrets").unwrap(),
        name: FileName::parse("set").unwrap(),
        uid: 0,
        gid: 0,
        mode: 0o400,
        files: Vec::new(),
    };
    let bindings = || vec![bound(set.clone(), "prod/db", Some(4))];
    let given = chosen(bindings(), &["DB={keywheel:file:prod/db}"], &[]).unwrap();
    assert_eq!(given.files.len(), 1);
    assert_eq!(
        given.entries[0].pieces,
        [Piece::Text("/run/secrets/set".to_owned())]
    );
    let mounted = chosen(bindings(), &[], &["/run/secrets/x"]);
    assert!(mounted.is_err(), "another mount is below its directory");
}

#[test]
fn a_file_placeholder_without_a_file_or_with_two_is_refused_with_the_next_step() {
    let only_a_variable = vec![bound(env("DB_FILE"), "prod/db", Some(4))];
    let another_secret = vec![bound(file("db"), "prod/other", Some(4))];
    for bindings in [Vec::new(), only_a_variable, another_secret] {
        let denied = chosen(bindings, &["DB_FILE={keywheel:file:prod/db}"], &[]).unwrap_err();
        assert!(denied.refusal.next.contains("`file: { name: FILE }`"));
        assert_eq!(denied.secret, "prod/db");
    }
    let twice = vec![
        bound(file("db"), "prod/db", Some(4)),
        bound(file("db"), "prod/db", Some(4)),
    ];
    let denied = chosen(twice, &["DB_FILE={keywheel:file:prod/db}"], &[]).unwrap_err();
    assert!(denied.refusal.next.contains("`/run/secrets/db`"));
    // Without a version there is no file either.
    let none = vec![bound(file("db"), "prod/db", None)];
    assert!(chosen(none, &["DB_FILE={keywheel:file:prod/db}"], &[]).is_err());
}

#[test]
fn a_binding_for_another_image_grants_nothing() {
    let mut other = bound(env("DB"), "prod/db", Some(4));
    other.selector.image = Some(ImageSelector::Digest("sha256:2".to_owned()));
    let denied = chosen(vec![other], &["DB={keywheel:prod/db}"], &[]).unwrap_err();
    let error = &denied.refusal.error;
    assert!(
        error.ends_with("; binding `b` comes nearest: image is not `sha256:2`"),
        "{error}"
    );
}

#[test]
fn a_refusal_names_the_binding_that_comes_nearest_and_what_of_it_means_others() {
    let mut far = bound(env("DB"), "prod/db", Some(4));
    far.name = BindingName::parse("far").unwrap();
    far.selector.image = Some(ImageSelector::Digest("sha256:2".to_owned()));
    far.selector.user = Some("1000".to_owned());
    let mut near = bound(env("DB"), "prod/db", Some(4));
    near.name = BindingName::parse("near").unwrap();
    near.selector.labels = BTreeMap::from([("app".to_owned(), "payments".to_owned())]);
    let mut lease = bound(env("DB"), "prod/db", Some(4));
    lease.selector.container = ContainerId::parse(&"b".repeat(64)).ok();
    let asked = ["DB={keywheel:prod/db}"];
    let denied = chosen(vec![far, near, lease], &asked, &[]).unwrap_err();
    let error = denied.refusal.error;
    let expected = "; binding `near` comes nearest: label app is not `payments`";
    assert!(error.ends_with(expected), "{error}");
    let file = chosen(vec![bound(file("db"), "prod/db", Some(4))], &asked, &[]).unwrap_err();
    let error = file.refusal.error;
    assert!(error.ends_with("binding `b` gives it to this container in another form"));
    let none = chosen(Vec::new(), &asked, &[]).unwrap_err();
    assert!(!none.refusal.error.contains("nearest"));
}

#[test]
fn a_secret_without_a_usable_version_is_refused() {
    let none = bound(env("DB"), "prod/db", None);
    let dead = PlannedBinding {
        dead: BTreeSet::from([4]),
        ..bound(env("DB"), "prod/db", Some(4))
    };
    for binding in [none, dead] {
        let denied = chosen(vec![binding], &["DB={keywheel:prod/db}"], &[]).unwrap_err();
        assert!(denied.refusal.next.contains("keywheel rotate prod/db"));
        assert_eq!(denied.secret, "prod/db");
        assert_eq!(denied.binding, BindingName::parse("b").ok());
    }
    assert!(chosen(vec![bound(file("db"), "prod/db", None)], &[], &[]).is_err());
}

#[test]
fn who_is_to_be_restarted_without_a_revoked_file_starts_without_it_and_nobody_else() {
    let revoked = |on_revoke, version| PlannedBinding {
        on_revoke,
        floor: 4,
        ..bound(file("db"), "prod/db", version)
    };
    for (_, on_revoke) in OnRevoke::WORDS {
        let started = chosen(vec![revoked(on_revoke, None)], &[], &[]);
        match on_revoke {
            OnRevoke::Restart => assert!(started.unwrap().files.is_empty()),
            _ => assert!(started.is_err(), "{on_revoke:?}"),
        }
    }
    let fresh = chosen(vec![revoked(OnRevoke::Restart, Some(5))], &[], &[]);
    assert_eq!(fresh.unwrap().files.len(), 1, "there is another value");
    let mut never = revoked(OnRevoke::Restart, None);
    never.floor = 0;
    assert!(chosen(vec![never], &[], &[]).is_err(), "it never had one");
}

#[test]
fn of_several_secrets_the_one_without_a_usable_version_is_named() {
    let with = |version: Option<u64>| {
        let mut binding = bound(file("db"), "prod/db", Some(4));
        binding.also.push(PlannedSecret {
            secret: SecretId::from_bytes([9; 16]),
            name: SecretName::parse("prod/api").unwrap(),
            current: version.map(|version| Grant {
                version,
                delivery: DeliveryId::from_bytes([2; 16]),
            }),
            floor: 0,
            dead: BTreeSet::new(),
            traceparent: None,
        });
        chosen(vec![binding], &[], &[])
    };
    let denied = with(None).unwrap_err();
    assert!(denied.refusal.next.contains("keywheel rotate prod/api"));
    assert_eq!(denied.secret, "prod/api");
    let whole = with(Some(6)).unwrap();
    let parts = whole.files.iter().flat_map(parts_of);
    let parts: Vec<_> = parts
        .map(|(given, grant)| (given.binding.secret_name.to_string(), grant.version))
        .collect();
    let expected = [("prod/db", 4), ("prod/api", 6)];
    assert_eq!(parts, expected.map(|(name, n)| (name.to_owned(), n)));
}

#[test]
fn a_mount_of_somebody_else_in_the_directory_is_named() {
    for mount in ["/run/secrets", "/run/secrets/", "/run/secrets/other"] {
        let refusal = chosen(vec![bound(file("db"), "prod/db", Some(4))], &[], &[mount])
            .unwrap_err()
            .refusal;
        assert!(
            refusal.error.contains(mount) && refusal.next.contains("directory"),
            "{}",
            refusal.error
        );
    }
    assert!(
        chosen(
            vec![bound(file("db"), "prod/db", Some(4))],
            &[],
            &["/run/secrets-other", "/run"]
        )
        .is_ok()
    );
}

#[test]
fn no_variable_or_mount_of_a_question_makes_the_choice_panic() {
    keywheel_testkit::hostile(b"A=x-{keywheel:prod/db}{keywheel:file:b}", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let bound = vec![
            bound(env("A"), "prod/db", Some(1)),
            bound(file("db"), "b", None),
        ];
        drop(chosen(bound, &[&text], &[&text, "/run/secrets"]));
    });
}
