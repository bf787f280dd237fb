//! Tests of what needs no server: addresses, answers that nobody of ours made, pages, the policy.

use keywheel_core::store::{CredentialRef, OldVersions, VaultAuth};
use keywheel_testkit::hostile;
use zeroize::Zeroizing;

use super::http::{Answer, MAX_ANSWER_BYTES};
use super::wire::{Envelope, Field, SealStatus};
use super::*;
use crate::policy::{Access, Grant};

fn spec(address: &str) -> VaultSpec {
    VaultSpec {
        address: address.to_owned(),
        namespace: String::new(),
        mount: "kv".to_owned(),
        ca_file: String::new(),
        old_versions: OldVersions::Destroy,
        auth: VaultAuth::Token {
            token: CredentialRef::File("/token".to_owned()),
        },
    }
}

fn answer(body: &str) -> Answer {
    Answer::of(200, Zeroizing::new(body.as_bytes().to_vec()))
}

#[test]
fn plain_http_goes_to_this_machine_only() {
    for good in [
        "https://vault.example:8200",
        "https://vault.example/",
        "http://127.0.0.1:8200",
        "http://localhost:8200",
        "http://[::1]:8200",
    ] {
        assert!(Endpoint::parse(&spec(good)).is_ok(), "{good}");
    }
    for bad in [
        "http://vault.example:8200",
        "http://10.0.0.1",
        "ftp://vault.example",
        "vault.example",
        "https://user:password@vault.example",
        "https://vault.example/v1",
        "",
    ] {
        assert!(Endpoint::parse(&spec(bad)).is_err(), "{bad}");
    }
}

#[test]
fn one_field_is_taken_out_of_an_answer_and_nothing_else() {
    let body = r#"{"lease_id":"","data":{"metadata":{"data":1},"data":{"n":1,"l":[{"x":"y"}],"p":"a\"\u00e9"}}}"#;
    let Field::Text(text) = answer(body).field("p") else {
        panic!("no text");
    };
    assert!(text.ct_eq(&SecretBytes::from("a\"é".as_bytes().to_vec())));
    assert!(matches!(answer(body).field("n"), Field::NoText));
    assert!(matches!(answer(body).field("l"), Field::NoText));
    assert!(matches!(answer(body).field("x"), Field::Missing));
    assert!(matches!(
        answer(r#"{"data":{"data":null}}"#).field("p"),
        Field::Missing
    ));
    assert!(matches!(
        answer(r#"{"data":null}"#).field("p"),
        Field::NoData
    ));
    assert!(matches!(answer("[1]").field("p"), Field::Unclear));
}

#[test]
fn answers_of_strangers_are_read_without_harm() {
    let valid = r#"{"data":{"data":{"p":"a"},"current_version":3,"versions":{"3":{"created_time":"2026-11-28T00:00:00Z","deletion_time":"","destroyed":false}}},"errors":["e"]}"#;
    let mut read = 0;
    hostile(valid.as_bytes(), |bytes| {
        let answer = Answer::of(400, Zeroizing::new(bytes.to_vec()));
        let _field = answer.field("p");
        let _member = answer.member("p");
        let metadata = answer.read::<Envelope<Metadata>>("the server");
        if let Ok(metadata) = metadata {
            let _live = metadata.data.is_live(jiff::Timestamp::UNIX_EPOCH);
            let _named = metadata.data.current().name();
        }
        assert!(answer.reasons(&[]).chars().count() <= 200);
        read += 1;
    });
    assert!(read > 1000);
    let metadata = answer(valid)
        .read::<Envelope<Metadata>>("the server")
        .unwrap();
    assert!(metadata.data.is_live(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(metadata.data.current().name().0, "3@2026-11-28T00:00:00Z");
    const { assert!(MAX_ANSWER_BYTES > 6 * keywheel_seal::MAX_VALUE_BYTES) };
}

/// What HashiCorp's documentation shows of its own server's answers, beyond what OpenBao's have.
#[test]
fn what_only_vault_says_is_passed_over() {
    let told = r#"{"request_id":"r","lease_id":"","renewable":false,"lease_duration":0,"wrap_info":null,"warnings":null,"auth":null,"mount_type":"kv","data":{"cas_required":false,"created_time":"2026-03-22T02:24:06.945319214Z","current_version":2,"custom_metadata":null,"delete_version_after":"0s","last_updated_by":{"actor":"a","client_id":"c","operation":"update"},"max_versions":0,"oldest_version":0,"updated_time":"2026-03-22T02:36:43.986212308Z","versions":{"1":{"created_time":"2026-03-22T02:24:06.945319214Z","deletion_time":"","destroyed":false},"2":{"created_by":{"actor":"a","client_id":"c","entity_id":"e"},"created_time":"2026-03-22T02:36:43.986212308Z","deleted_by":null,"deletion_time":"","destroyed":false}}}}"#;
    let metadata = answer(told)
        .read::<Envelope<Metadata>>("the server")
        .unwrap();
    assert_eq!(metadata.data.current_version, 2);
    assert!(metadata.data.is_live(jiff::Timestamp::UNIX_EPOCH));
    let sealed = r#"{"type":"shamir","initialized":true,"sealed":true,"t":3,"n":5,"progress":0,"nonce":"","version":"1.21.0","build_date":"2026-10-01T00:00:00Z","migration":false,"cluster_name":"c","cluster_id":"i","recovery_seal":false,"storage_type":"raft","removed_from_cluster":false}"#;
    let status = answer(sealed).read::<SealStatus>("the server").unwrap();
    assert!(status.sealed && status.initialized);
}

#[test]
fn a_reason_that_repeats_a_secret_is_not_told() {
    let body = r#"{"errors":["no such token: s.abc", "line\nbreak"]}"#;
    let (told, secret) = (answer(body), SecretBytes::from(b"s.abc".to_vec()));
    assert_eq!(told.reasons(&[]), "no such token: s.abc; linebreak");
    assert!(!told.reasons(&[&secret]).contains("s.abc"));
    assert_eq!(answer("").reasons(&[]), "it says no reason");
}

#[test]
fn a_page_begins_where_the_last_one_ended() {
    let (after, folders) = unfold("app/d", None);
    assert_eq!(
        (after.as_str(), folders),
        ("", VecDeque::from(["app/".to_owned()]))
    );
    let rest = VecDeque::from(["app/".to_owned(), "app/x/".to_owned()]);
    assert_eq!(
        unfold("app/d", Some(&fold("db", &rest))),
        ("db".to_owned(), rest)
    );
    assert_eq!(unfold("", None).1, [String::new()]);
}

#[test]
fn the_policy_names_each_path_once_with_what_is_done_there() {
    let at = |path: &str, field: &str| Source {
        path: path.to_owned(),
        field: field.to_owned(),
    };
    let grants = [
        (at("app/db", "password"), Access::Read),
        (at("app/db", "user"), Access::Write),
        (at("a\"b", "x"), Access::Read),
    ];
    let grants = grants.map(|(source, access)| Grant { source, access });
    let mut spec = spec("https://vault.example");
    spec.namespace = "team".to_owned();
    let text = policy::text(&spec, &grants);
    let expected = "# What Keywheel needs, and nothing more.
# For namespace team.
path \"auth/token/lookup-self\" {
  capabilities = [\"read\"]
}
path \"auth/token/renew-self\" {
  capabilities = [\"update\"]
}
path \"sys/capabilities-self\" {
  capabilities = [\"update\"]
}
path \"kv/data/a\\\"b\" {
  capabilities = [\"read\"]
}
path \"kv/metadata/a\\\"b\" {
  capabilities = [\"read\"]
}
path \"kv/data/app/db\" {
  capabilities = [\"create\", \"patch\", \"read\", \"update\"]
}
path \"kv/destroy/app/db\" {
  capabilities = [\"update\"]
}
path \"kv/metadata/app/db\" {
  capabilities = [\"patch\", \"read\"]
}
# `keywheel import` lists names; add this while it runs:
# path \"kv/metadata/*\" { capabilities = [\"list\"] }
# path \"kv/subkeys/*\" { capabilities = [\"read\"] }
";
    assert_eq!(text, expected);
}

#[test]
fn a_follower_of_a_role_is_granted_what_a_revocation_needs() {
    let grant = Grant {
        source: Source {
            path: "/team/db/static-creds/app".to_owned(),
            field: "password".to_owned(),
        },
        access: Access::Read,
    };
    let text = policy::text(&spec("https://vault"), &[grant]);
    let right = "path \"team/db/rotate-role/app\" {\n  capabilities = [\"update\"]";
    assert_eq!(text.matches(right).count(), 1, "{text}");
}
