//! Which secrets a store may read as its credentials: those given for that very server, and no other.

use super::*;
use crate::secret::Rejection as SecretRejection;

/// The server of [`by_secret`].
pub(super) const SERVER: &str = "https://vault:8200";

pub(super) fn by_secret() -> StoreSpec {
    vault(CredentialRef::Secret(secret_name()))
}

fn credential(server: &str) -> Spec {
    Spec {
        credential_for: Some(server.to_owned()),
        ..Spec::default()
    }
}

pub(super) fn put(rotation: RotationId, provided: bool) -> Command {
    Command::Put {
        id: SECRET,
        rotation,
        name: secret_name(),
        provided,
    }
}

/// A credential for a server, with a value.
pub(super) fn given_for(server: &str) -> Given {
    let declared = Given::nothing().and(apply_secret(credential(server)));
    declared.and(put(FIRST, true)).finished(FIRST)
}

fn not_meant(server: &str) -> Rejection {
    Rejection::CredentialNotMeant {
        store: store_name(),
        secret: secret_name(),
        server: server.to_owned(),
    }
}

#[test]
fn a_credential_is_a_secret_of_ours_that_was_given_for_that_server() {
    let unknown = Given::nothing().when(declare(by_secret()));
    unknown.then_rejected(Rejection::CredentialUnknown {
        store: store_name(),
        secret: secret_name(),
        server: SERVER.to_owned(),
    });
    let far = declared().and(apply_secret(taken_over()));
    let rejection = Rejection::CredentialOutside {
        store: store_name(),
        secret: secret_name(),
    };
    far.when(declare(by_secret())).then_rejected(rejection);
    let any = Given::first_version().when(declare(by_secret()));
    any.then_rejected(not_meant(SERVER));
    let other = given_for("https://other:8200").when(declare(by_secret()));
    other.then_rejected(not_meant(SERVER));
    given_for(SERVER).and(declare(by_secret()));
}

#[test]
fn a_store_that_moves_to_another_server_does_not_take_its_credential_there() {
    let Backend::Vault(known) = by_secret().backend else {
        panic!("no Vault");
    };
    let moved = spec_of(Backend::Vault(VaultSpec {
        address: "http://127.0.0.1:9999".to_owned(),
        ..known
    }));
    let given = given_for(SERVER).and(declare(by_secret()));
    let when = given.clone().when(declare(moved.clone()));
    when.then_rejected(not_meant("http://127.0.0.1:9999"));
    let name = store_name();
    let gone = given.and(Command::RemoveStore { name });
    let again = gone.when(declare(moved));
    again.then_rejected(not_meant("http://127.0.0.1:9999"));
}

#[test]
fn the_server_of_aws_is_its_endpoint_or_aws() {
    let keys_and = |endpoint: &str, session_token| {
        spec_of(Backend::Aws(AwsSpec {
            region: String::new(),
            endpoint: endpoint.to_owned(),
            auth: AwsAuth::Keys {
                access_key_id: "AKID".to_owned(),
                secret_access_key: CredentialRef::Secret(secret_name()),
                session_token,
            },
        }))
    };
    let keys = |endpoint: &str| keys_and(endpoint, None);
    let given = given_for(AWS).and(declare(keys("")));
    let endpoint = "https://secretsmanager.example";
    given
        .when(declare(keys(endpoint)))
        .then_rejected(not_meant(endpoint));
    given_for(endpoint).and(declare(keys(endpoint)));
    // A session token is a credential like the key.
    let other = SecretName::parse("app/other").unwrap();
    let token = CredentialRef::Secret(other.clone());
    let declared = given_for(AWS).when(declare(keys_and("", Some(token))));
    declared.then_rejected(Rejection::CredentialUnknown {
        store: store_name(),
        secret: other,
        server: AWS.to_owned(),
    });
}

#[test]
fn what_a_value_was_given_for_does_not_change_any_more() {
    let secret = secret_name();
    let fixed = SecretRejection::PurposeFixed { secret };
    let given = Given::first_version();
    let when = given.when(apply_secret(credential(SERVER)));
    when.then_rejected(fixed.clone());
    for other in [credential("https://other:8200"), Spec::default()] {
        let when = given_for(SERVER).when(apply_secret(other));
        when.then_rejected(fixed.clone());
    }
    let empty = Given::nothing().and(apply_secret(credential("https://other:8200")));
    empty.and(apply_secret(credential(SERVER)));
}

#[test]
fn a_credential_is_neither_made_here_nor_given_to_a_container() {
    let (secret, server) = (secret_name(), SERVER.to_owned());
    let made = given_for(SERVER).when(put(SECOND, false));
    made.then_rejected(SecretRejection::CredentialNotMade { secret, server });
    let (secret, server) = (secret_name(), SERVER.to_owned());
    let not_bound = SecretRejection::CredentialNotBound { secret, server };
    let bind = apply_binding(anywhere(), file(), crate::binding::Reload::None);
    let bound = given_for(SERVER).when(bind.clone());
    bound.then_rejected(not_bound.clone());
    let empty = Given::nothing()
        .and(apply_secret(Spec::default()))
        .and(bind);
    let when = empty.when(apply_secret(credential(SERVER)));
    when.then_rejected(not_bound);
}

#[test]
fn a_credential_does_not_move_out_of_reach() {
    let given = given_for(SERVER).and(declare(by_secret()));
    let moved = Spec {
        credential_for: Some(SERVER.to_owned()),
        ..taken_over()
    };
    let when = given.when(apply_secret(moved));
    when.then_rejected(Rejection::CredentialOutside {
        store: store_name(),
        secret: secret_name(),
    });
}
