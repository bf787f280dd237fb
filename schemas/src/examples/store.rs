//! The example of a store outside.

use keywheel_core::name::{NameError, SecretName, StoreName};
use keywheel_core::store::{
    AwsAuth, AwsSpec, Backend, CredentialRef, DEFAULT_POLL, DEFAULT_TIMEOUT, Event, OldVersions,
    StoreSpec, VaultAuth, VaultSpec,
};

pub(super) fn of_store() -> Result<Vec<Event>, NameError> {
    let vault = VaultSpec {
        address: "https://openbao.internal:8200".to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        ca_file: "/etc/keywheel/openbao-ca.pem".to_owned(),
        old_versions: OldVersions::Destroy,
        auth: VaultAuth::AppRole {
            mount: "approle".to_owned(),
            role_id: "keywheel".to_owned(),
            secret_id: CredentialRef::File("/etc/keywheel/openbao-secret-id".to_owned()),
            wrapped: false,
        },
    };
    let aws = AwsSpec {
        region: "eu-central-1".to_owned(),
        endpoint: String::new(),
        auth: AwsAuth::Keys {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: CredentialRef::Secret(SecretName::parse("keywheel/aws")?),
            session_token: None,
        },
    };
    let spec = |backend| StoreSpec {
        backend,
        poll: DEFAULT_POLL,
        timeout: DEFAULT_TIMEOUT,
    };
    Ok(vec![
        Event::Declared {
            name: StoreName::parse("openbao")?,
            spec: spec(Backend::Vault(vault)),
        },
        Event::Changed {
            spec: spec(Backend::Aws(aws)),
        },
        Event::Removed,
        Event::WentStale {
            reason: "https://openbao.internal:8200 is sealed; unseal it".to_owned(),
        },
        Event::Recovered,
    ])
}
