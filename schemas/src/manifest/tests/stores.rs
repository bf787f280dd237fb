//! `kind: Store`, and secrets that lie in one.

use std::time::Duration;

use keywheel_core::secret::{Place, Store};
use keywheel_core::store::{
    AwsAuth, Backend, CredentialRef, DEFAULT_POLL, DEFAULT_TIMEOUT, MAX_POLL, MAX_STORE_TEXT_BYTES,
    MAX_TIMEOUT, MIN_POLL, OldVersions, StoreSpec, VaultAuth,
};

use super::{Manifest, faults, read, secret};
use crate::manifest::MIN_STORE_TIMEOUT;

pub(super) fn store(spec: &str) -> String {
    format!("apiVersion: keywheel.dev/v1\nkind: Store\nmetadata: {{ name: vault }}\nspec: {spec}\n")
}

fn spec(text: &str) -> StoreSpec {
    match read(&store(text)).unwrap().remove(0) {
        Manifest::Store { spec, .. } => spec,
        other => panic!("{other:?}"),
    }
}

/// A store with this for its login.
pub(super) fn vault(auth: &str) -> String {
    format!("{{ vault: {{ address: \"https://v:8200\", auth: {auth} }} }}")
}

fn auth(text: &str) -> VaultAuth {
    match spec(&vault(text)).backend {
        Backend::Vault(vault) => vault.auth,
        other @ Backend::Aws(_) => panic!("{other:?}"),
    }
}

fn file() -> CredentialRef {
    CredentialRef::File("/f".to_owned())
}

#[test]
fn every_option_is_read_and_what_is_left_out_has_its_default() {
    let all = spec(
        "{ vault: { address: \"https://v:8200/\", namespace: team, mount: /kv/, caFile: /ca.pem, oldVersions: softDelete, auth: { token: { secret: kw/t } } }, poll: 5m, timeout: 3s }",
    );
    assert_eq!(
        (all.poll, all.timeout),
        (Duration::from_secs(300), Duration::from_secs(3))
    );
    let Backend::Vault(given) = all.backend else {
        panic!("no vault")
    };
    assert_eq!(given.old_versions, OldVersions::SoftDelete);
    let texts = [given.address, given.namespace, given.mount, given.ca_file];
    assert_eq!(texts, ["https://v:8200", "team", "kv", "/ca.pem"]);
    let few = spec(&vault("{ token: { file: /f } }"));
    assert_eq!((few.poll, few.timeout), (DEFAULT_POLL, DEFAULT_TIMEOUT));
    let Backend::Vault(few) = few.backend else {
        panic!("no vault")
    };
    assert_eq!((few.mount.as_str(), few.namespace.as_str()), ("secret", ""));
    assert_eq!(few.old_versions, OldVersions::Destroy);
    let other = "{ vault: { address: \"https://v:8200\", oldVersions: keep, auth: { token: { file: /f } } } }";
    let told = faults(&store(other)).join(" ");
    assert!(told.contains("`destroy`, or `softDelete`"), "{told}");
}

#[test]
fn every_way_to_log_in_is_read() {
    assert_eq!(
        auth("{ token: { file: /f } }"),
        VaultAuth::Token { token: file() }
    );
    let role = |mount: &str, wrapped| VaultAuth::AppRole {
        mount: mount.to_owned(),
        role_id: "r".to_owned(),
        secret_id: file(),
        wrapped,
    };
    assert_eq!(
        auth("{ appRole: { roleId: r, secretId: { file: /f } } }"),
        role("approle", false)
    );
    let wrapped = "{ appRole: { mount: other, roleId: r, secretId: { file: /f }, wrapped: true } }";
    assert_eq!(auth(wrapped), role("other", true));
    let cert = VaultAuth::Cert {
        mount: "cert".to_owned(),
        role: String::new(),
        certificate: file(),
        key: file(),
    };
    assert_eq!(
        auth("{ cert: { certificate: { file: /f }, key: { file: /f } } }"),
        cert
    );
    let jwt = VaultAuth::Jwt {
        mount: "jwt".to_owned(),
        role: "r".to_owned(),
        token: file(),
    };
    assert_eq!(auth("{ jwt: { role: r, token: { file: /f } } }"), jwt);
}

#[test]
fn aws_takes_the_standard_chain_unless_it_is_told_otherwise() {
    let aws = |text: &str| match spec(text).backend {
        Backend::Aws(aws) => aws,
        other @ Backend::Vault(_) => panic!("{other:?}"),
    };
    for text in ["{ aws: {} }", "{ aws: }"] {
        assert_eq!(
            aws(text).auth,
            AwsAuth::Chain {
                profile: String::new()
            }
        );
    }
    let keys = aws(
        "{ aws: { region: eu-central-1, endpoint: \"http://127.0.0.1:5000\", auth: { keys: { accessKeyId: AK, secretAccessKey: { secret: aws/key }, sessionToken: { file: /f } } } } }",
    );
    assert_eq!(
        (keys.region.as_str(), keys.endpoint.as_str()),
        ("eu-central-1", "http://127.0.0.1:5000")
    );
    let AwsAuth::Keys {
        access_key_id,
        session_token,
        ..
    } = keys.auth
    else {
        panic!("no keys")
    };
    assert_eq!(
        (access_key_id.as_str(), session_token),
        ("AK", Some(file()))
    );
    let profile = aws("{ aws: { auth: { profile: ops } } }");
    assert_eq!(
        profile.auth,
        AwsAuth::Chain {
            profile: "ops".to_owned()
        }
    );
}

#[test]
fn a_credential_in_a_manifest_is_refused_and_never_quoted() {
    let value = "hvs.CAESIJ-very-secret";
    for spec in [
        vault(&format!("{{ token: {value} }}")),
        vault(&format!(
            "{{ appRole: {{ roleId: r, secretId: {value} }} }}"
        )),
        vault(&format!("{{ jwt: {{ role: r, token: [{value}] }} }}")),
        format!(
            "{{ aws: {{ auth: {{ keys: {{ accessKeyId: AK, secretAccessKey: {value} }} }} }} }}"
        ),
    ] {
        let found = faults(&store(&spec)).join("\n");
        assert!(
            found.contains("looks like the credential itself"),
            "{found}"
        );
        assert!(found.contains("file: /etc/keywheel/NAME") && found.contains("secret: NAME"));
        assert!(!found.contains(value), "{found}");
    }
    let user =
        "{ vault: { address: \"https://me:hunter2@v:8200\", auth: { token: { file: /f } } } }";
    let found = faults(&store(user)).join("\n");
    assert!(
        found.contains("holds a user or password") && !found.contains("hunter2"),
        "{found}"
    );
}

#[test]
fn http_goes_to_this_machine_only() {
    let of = |address: &str| {
        let text = "{ vault: { address: \"ADDRESS\", auth: { token: { file: /f } } } }";
        read(&store(&text.replace("ADDRESS", address)))
    };
    for good in [
        "http://127.0.0.1:8200",
        "http://localhost:1",
        "http://[::1]:8200",
        "https://v",
    ] {
        assert!(of(good).is_ok(), "{good}");
    }
    for (bad, words) in [
        ("http://v:8200", "loopback"),
        ("http://127.0.0.1.example:8200", "loopback"),
        ("ftp://127.0.0.1", "begin with"),
        ("v:8200", "begin with"),
        ("https://", "has to be like"),
        ("https://v:8200?token=1", "has to be like"),
    ] {
        let found = of(bad).unwrap_err().join("\n");
        assert!(found.contains(words), "{bad}: {found}");
    }
}

#[test]
fn faults_name_the_place_and_what_would_be_right() {
    for (spec, words) in [
        ("{}", "either `vault` or `aws`"),
        (
            "{ vault: { address: \"https://v\", auth: { token: { file: /f } } }, aws: {} }",
            "either",
        ),
        ("{ valut: {} }", "did you mean `vault`?"),
        (
            "{ vault: { adress: x, auth: { token: { file: /f } } } }",
            "did you mean `address`?",
        ),
        ("{ vault: { address: \"https://v\" } }", "`auth` is missing"),
        (&vault("{ approle: {} }"), "did you mean `appRole`?"),
        (&vault("{}"), "takes one of"),
        (
            &vault("{ token: { file: /f }, jwt: { role: r, token: { file: /f } } }"),
            "takes one of",
        ),
        (&vault("{ token: { file: relative } }"), "absolute path"),
        (
            &vault("{ token: { file: /f, secret: s } }"),
            "either `file` or `secret`",
        ),
        (
            &vault("{ token: { path: /f } }"),
            "known fields: file, secret",
        ),
        (
            &vault("{ jwt: { token: { file: /f } } }"),
            "`role` is missing",
        ),
        (
            "{ aws: { auth: { keys: { accessKeyId: AK } } } }",
            "`secretAccessKey` is missing",
        ),
        ("{ aws: { auth: {} } }", "either `profile` or `keys`"),
        (
            "{ vault: { address: \"https://v\", mount: a//b, auth: { token: { file: /f } } } }",
            "`mount`",
        ),
    ] {
        let found = faults(&store(spec)).join("\n");
        assert!(found.contains(words), "{spec}: {found}");
        assert!(found.starts_with("app.yaml:"), "{found}");
    }
    let local = store("{ aws: {} }").replace("name: vault", "name: local");
    assert!(faults(&local)[0].contains("always there"));
}

#[test]
fn limits_hold_at_their_value() {
    let with = |what: &str| read(&store(&format!("{{ aws: {{}}, {what} }}"))).is_ok();
    let ms = |span: Duration| format!("{}ms", span.as_millis());
    let one = Duration::from_millis(1);
    for (name, least, most) in [
        ("poll", MIN_POLL, MAX_POLL),
        ("timeout", MIN_STORE_TIMEOUT, MAX_TIMEOUT),
    ] {
        for (span, fits) in [
            (least, true),
            (least - one, false),
            (most, true),
            (most + one, false),
        ] {
            assert_eq!(
                with(&format!("{name}: {}", ms(span))),
                fits,
                "{name} {span:?}"
            );
        }
    }
    let region = |bytes: usize| {
        read(&store(&format!(
            "{{ aws: {{ region: {} }} }}",
            "r".repeat(bytes)
        )))
    };
    assert!(region(MAX_STORE_TEXT_BYTES).is_ok());
    assert!(region(MAX_STORE_TEXT_BYTES + 1).is_err());
    let path = |bytes: usize| {
        secret(&format!(
            "{{ store: v, source: {{ path: {} }} }}",
            "p".repeat(bytes)
        ))
    };
    assert!(read(&path(MAX_STORE_TEXT_BYTES)).is_ok());
    assert!(read(&path(MAX_STORE_TEXT_BYTES + 1)).is_err());
}

#[test]
fn a_secret_names_its_store_and_the_place_in_it() {
    let text = secret("{ store: vault, source: { path: payments/db, field: password } }");
    let Manifest::Secret { spec, .. } = read(&text).unwrap().remove(0) else {
        panic!("no secret")
    };
    let Store::Outside(Place { store, source }) = spec.store else {
        panic!("not outside")
    };
    assert_eq!(store.as_str(), "vault");
    assert_eq!(
        (source.path.as_str(), source.field.as_str()),
        ("payments/db", "password")
    );
    for (spec, words) in [
        ("{ store: vault }", "`source` is missing"),
        (
            "{ source: { path: a } }",
            "says nothing in the store `local`",
        ),
        (
            "{ store: local, source: { path: a } }",
            "says nothing in the store `local`",
        ),
        (
            "{ store: vault, source: { field: a } }",
            "`path` is missing",
        ),
        (
            "{ store: vault, source: { path: a, feild: b } }",
            "did you mean `field`?",
        ),
        (
            "{ store: Vault, source: { path: a } }",
            "is not a valid store name",
        ),
        (
            "{ store: vault, source: { path: \"a\\nb\" } }",
            "control character",
        ),
    ] {
        let found = faults(&secret(spec)).join("\n");
        assert!(found.contains(words), "{spec}: {found}");
    }
}

#[test]
fn what_a_credential_is_for_is_a_server_as_a_store_names_it() {
    let read_one = |spec: &str| match read(&super::secret(spec)).unwrap().remove(0) {
        Manifest::Secret { spec, .. } => spec.credential_for,
        other => panic!("{other:?}"),
    };
    for (written, server) in [
        ("https://vault:8200/", "https://vault:8200"),
        ("http://127.0.0.1:8200", "http://127.0.0.1:8200"),
        ("aws", "aws"),
    ] {
        let spec = format!("{{ credentialFor: \"{written}\" }}");
        assert_eq!(read_one(&spec).as_deref(), Some(server));
    }
    assert_eq!(read_one("{}"), None);
    for (spec, part) in [
        ("{ credentialFor: vault }", "has to begin with `https://`"),
        ("{ credentialFor: \"http://vault:8200\" }", "loopback"),
        (
            "{ credentialFor: aws, generator: {} }",
            "`generator` does not go with",
        ),
        (
            "{ credentialFor: aws, store: bao, source: { path: a, field: b } }",
            "`store` does not go with",
        ),
    ] {
        let faults = read(&super::secret(spec)).unwrap_err();
        let found = faults[0].to_string();
        assert!(found.contains(part), "{found}");
    }
}
