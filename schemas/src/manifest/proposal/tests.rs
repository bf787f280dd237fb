//! What is proposed is read back; names are mapped, told, and never shared.

use std::time::Duration;

use keywheel_core::name::StoreName;
use keywheel_core::secret::{Place, Spec, Store};
use keywheel_core::store::{
    AwsAuth, AwsSpec, Backend, CredentialRef, DEFAULT_POLL, DEFAULT_TIMEOUT, OldVersions,
    StoreSpec, VaultAuth, VaultSpec,
};
use proptest::prelude::*;

use super::super::{Manifest, parse};
use super::*;

fn named(backend: Backend, poll: Duration, timeout: Duration) -> NamedStore {
    NamedStore {
        name: StoreName::parse("prod").unwrap(),
        spec: StoreSpec {
            backend,
            poll,
            timeout,
        },
    }
}

fn aws(region: &str, auth: AwsAuth) -> NamedStore {
    let backend = Backend::Aws(AwsSpec {
        region: region.to_owned(),
        endpoint: "http://127.0.0.1:4566".to_owned(),
        auth,
    });
    named(backend, DEFAULT_POLL, DEFAULT_TIMEOUT)
}

fn some_store() -> NamedStore {
    aws("eu-central-1", chain(""))
}

fn chain(profile: &str) -> AwsAuth {
    AwsAuth::Chain {
        profile: profile.to_owned(),
    }
}

fn place(path: &str, field: &str) -> Source {
    Source {
        path: path.to_owned(),
        field: field.to_owned(),
    }
}

/// The names and places that the reader finds; the first document is the store's.
fn read_back(declared: &NamedStore, proposal: &Proposal) -> Vec<(String, Source)> {
    let read = parse(&proposal.text, "proposal", &|_, _| Ok(()));
    let mut read = read
        .unwrap_or_else(|faults| panic!("{faults:?}\n{}", proposal.text))
        .into_iter();
    let Some(Manifest::Store { name, spec, .. }) = read.next() else {
        panic!("no store:\n{}", proposal.text);
    };
    assert_eq!(
        (&name, &spec),
        (&declared.name, &declared.spec),
        "{}",
        proposal.text
    );
    let secret = |manifest| {
        let Manifest::Secret { name, spec, .. } = manifest else {
            panic!("no secret: {manifest:?}");
        };
        let Spec {
            store, generator, ..
        } = spec;
        assert_eq!(
            generator, None,
            "nothing is rotated that a person did not ask for"
        );
        let Store::Outside(Place { store, source }) = store else {
            panic!("not outside: {store:?}");
        };
        assert_eq!(store, declared.name);
        (name.to_string(), source)
    };
    read.map(secret).collect()
}

#[test]
fn every_kind_of_store_is_read_back_as_it_was_declared() {
    let file = |path: &str| CredentialRef::File(path.to_owned());
    let secret = CredentialRef::Secret(SecretName::parse("ops/vault-token").unwrap());
    let vault = |auth| {
        let backend = Backend::Vault(VaultSpec {
            address: "https://vault.example:8200".to_owned(),
            namespace: "team/a".to_owned(),
            mount: "kv".to_owned(),
            ca_file: "/etc/keywheel/vault-ca.pem".to_owned(),
            old_versions: OldVersions::SoftDelete,
            auth,
        });
        named(
            backend,
            Duration::from_secs(300),
            Duration::from_millis(2500),
        )
    };
    let text = str::to_owned;
    for declared in [
        some_store(),
        aws("", chain("ours \"x\" # y: {z}")),
        aws(
            "cn-north-1",
            AwsAuth::Keys {
                access_key_id: text("AKIAEXAMPLE"),
                secret_access_key: file("/etc/keywheel/aws-key"),
                session_token: Some(file("/etc/keywheel/aws-token")),
            },
        ),
        vault(VaultAuth::Token {
            token: file("/etc/keywheel/vault-token"),
        }),
        vault(VaultAuth::AppRole {
            mount: text("approle"),
            role_id: text("role"),
            secret_id: secret.clone(),
            wrapped: true,
        }),
        vault(VaultAuth::Cert {
            mount: text("cert"),
            role: String::new(),
            certificate: file("/etc/keywheel/cert.pem"),
            key: file("/etc/keywheel/key.pem"),
        }),
        vault(VaultAuth::Jwt {
            mount: text("jwt"),
            role: text("keywheel"),
            token: secret,
        }),
    ] {
        let proposal = propose(&declared, &[place("a", "b")]).unwrap();
        assert_eq!(
            read_back(&declared, &proposal),
            [(text("a/b"), place("a", "b"))]
        );
    }
}

#[test]
fn names_on_the_grammar_stay_and_others_get_the_nearest_one() {
    let declared = some_store();
    let places = [
        place("prod/db", "password"),
        place("prod/db", "user"),
        place("Prod/Payments API", ""),
        place("prod/payments-api", ""),
        place("/a//../b/", ""),
        place("schlüssel", ""),
        place("///", ""),
    ];
    let proposal = propose(&declared, &places).unwrap();
    assert_eq!(proposal.secrets, 7);
    let found = read_back(&declared, &proposal);
    let name_of = |place: &Source| {
        let mut found = found.iter().filter(|(_, source)| source == place);
        found.next().unwrap().0.clone()
    };
    let names: Vec<_> = places.iter().map(name_of).collect();
    assert_eq!(
        names,
        [
            "prod/db/password",
            "prod/db/user",
            "prod/payments-api-2",
            "prod/payments-api",
            "a/--/b",
            "schl-ssel",
            "secret",
        ]
    );
    let renamed: Vec<_> = proposal
        .renamed
        .iter()
        .map(|(_, name)| name.as_str())
        .collect();
    assert_eq!(renamed.len(), 4);
    assert!(
        !renamed.contains(&"prod/payments-api"),
        "who is on the grammar keeps its name"
    );
    assert_eq!(proposal.text.matches("cannot be called here").count(), 4);
}

#[test]
fn the_order_of_the_names_does_not_matter_and_twice_is_once() {
    let declared = some_store();
    let places = [
        place("b c", ""),
        place("B-C", ""),
        place("b-c", ""),
        place("b-c", ""),
    ];
    let mut other = places.to_vec();
    other.reverse();
    let proposal = propose(&declared, &places).unwrap();
    assert_eq!(proposal.secrets, 3);
    assert_eq!(proposal, propose(&declared, &other).unwrap());
}

#[test]
fn what_no_manifest_can_name_is_told_and_left_out() {
    let declared = some_store();
    let long = "a".repeat(MAX_STORE_TEXT_BYTES);
    let fits = place(&long, "");
    let unfit = [
        place("", "x"),
        place("a\nb", ""),
        place(&format!("{long}a"), ""),
    ];
    let mut all = unfit.to_vec();
    all.push(fits.clone());
    let proposal = propose(&declared, &all).unwrap();
    assert_eq!(proposal.left_out, unfit);
    let found = read_back(&declared, &proposal);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, fits);
    assert_eq!(found[0].0.len(), MAX_NAME_BYTES - SUFFIX_BYTES);
}

#[test]
fn one_apply_takes_the_most_that_is_proposed_and_no_more() {
    let declared = some_store();
    let places: Vec<_> = (0..=MAX_PROPOSED)
        .map(|n| place(&format!("n{n}"), ""))
        .collect();
    let proposal = propose(&declared, &places[1..]).unwrap();
    assert_eq!(read_back(&declared, &proposal).len(), MAX_PROPOSED);
    assert_eq!(propose(&declared, &places), Err(TooMany));
    let long = |n: usize| place(&format!("{n}{}", "x".repeat(MAX_STORE_TEXT_BYTES - 4)), "");
    let places: Vec<_> = (0..MAX_PROPOSED).map(long).collect();
    assert_eq!(
        propose(&declared, &places),
        Err(TooMany),
        "over the bytes of a text"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_the_names_are_it_is_read_back(
        places in proptest::collection::vec(("[aA-C/. é\"#:-]{0,6}", "\\PC{0,3}"), 0..12),
    ) {
        let places: Vec<_> = places.iter().map(|(path, field)| place(path, field)).collect();
        let declared = some_store();
        let proposal = propose(&declared, &places).unwrap();
        let found = read_back(&declared, &proposal);
        let expected: BTreeSet<_> = places.into_iter().filter(|place| !place.path.is_empty()).collect();
        let sources: BTreeSet<_> = found.iter().map(|(_, source)| source.clone()).collect();
        prop_assert_eq!(sources, expected);
        let names: BTreeSet<_> = found.iter().map(|(name, _)| name).collect();
        prop_assert_eq!(names.len(), found.len());
    }
}
