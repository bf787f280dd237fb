//! `secret put` and `secret versions`. A value is sealed here, to store-sync's key, before it leaves.
//! `migrate` gives values by the same way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::id::{DeploymentId, PutToken, RotationId};
use keywheel_core::name::SecretName;
use keywheel_daemon::SystemIds;
use keywheel_engine::port::ids::Ids as _;
use keywheel_engine::stash;
use keywheel_schemas::api::{PutRequest, RotationView, StoreKey, VersionView};
use keywheel_seal::hpke::{self, PublicKey};
use keywheel_seal::{OsEntropy, SecretBytes};

use super::rotate::with_nearest;
use super::{Desk, input, waiting};
use crate::args::PutArgs;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::views;

pub(super) async fn put(desk: &Desk, args: &PutArgs) -> Result<(), Failure> {
    let name = SecretName::parse(&args.name).map_err(|error| {
        Failure::new(
            Exit::Input,
            error.to_string(),
            "choose another name for the secret",
        )
    })?;
    let begun = match &args.value_file {
        Some(path) => {
            harden()?;
            let value = input::value(desk.screen, path)?;
            provide(desk, &name, &value).await?
        }
        None => {
            let request = PutRequest {
                name: name.to_string(),
                token: None,
                sealed: None,
            };
            desk.client.change_by_input("/v1/put", &request).await?
        }
    };
    waiting::rotation(desk, begun, &args.wait).await
}

/// From now on this process cannot be dumped; before a value is read.
pub(super) fn harden() -> Result<(), Failure> {
    keywheel_sys::harden::transient().map_err(|error| {
        Failure::new(
            Exit::Unexpected,
            error.to_string(),
            "a value is read only where it cannot be dumped",
        )
    })
}

/// Begins the rotation that makes this value the secret's next version.
pub(super) async fn provide(
    desk: &Desk,
    name: &SecretName,
    value: &SecretBytes,
) -> Result<RotationView, Failure> {
    let key = desk.client.read::<StoreKey>("/v1/store-key").await?;
    let token = PutToken::from_bytes(SystemIds.draw());
    let sealed = seal(&key, stash::rotation(token), value)?;
    let request = PutRequest {
        name: name.to_string(),
        token: Some(token.to_string()),
        sealed: Some(sealed),
    };
    desk.client.change_by_input("/v1/put", &request).await
}

/// Seals a value so that only store-sync can open it, for this rotation only.
fn seal(key: &StoreKey, rotation: RotationId, value: &SecretBytes) -> Result<String, Failure> {
    let unusable = |why: &str| {
        Failure::new(
            Exit::Unexpected,
            format!("the daemon's key for values is not usable: {why}"),
            "compare `keywheel version` and `keywheel status`; nothing was sent",
        )
    };
    let bytes = STANDARD
        .decode(&key.public_key)
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let public =
        PublicKey::from_bytes(bytes.ok_or_else(|| unusable("it is not base64 of 32 bytes"))?);
    let deployment =
        DeploymentId::parse(&key.deployment).map_err(|error| unusable(&error.to_string()))?;
    let envelope = hpke::seal(
        &public,
        &stash::info(deployment),
        &stash::aad(rotation),
        value,
        &OsEntropy,
    )
    .map_err(|error| unusable(&error.to_string()))?;
    Ok(STANDARD.encode(envelope.to_bytes()))
}

pub(super) async fn versions(desk: &Desk, name: &str) -> Result<(), Failure> {
    let versions = match desk
        .client
        .read::<Vec<VersionView>>(&format!("/v1/versions/{}", escape(name)))
        .await
    {
        Ok(versions) => versions,
        Err(failure) => return Err(with_nearest(desk, name, failure).await),
    };
    desk.screen.show(&versions, |versions| {
        views::versions(versions, desk.screen.color)
    })
}

#[cfg(test)]
mod tests {
    use keywheel_seal::hpke::{Envelope, HostKeyPair};

    use super::*;

    fn opened(pair: &HostKeyPair, sealed: &str, deployment: u8, token: u8) -> Option<SecretBytes> {
        let envelope = Envelope::from_bytes(&STANDARD.decode(sealed).unwrap()).unwrap();
        let info = stash::info(DeploymentId::from_bytes([deployment; 16]));
        pair.open(
            &info,
            &stash::aad(RotationId::from_bytes([token; 16])),
            &envelope,
        )
        .ok()
    }

    #[test]
    fn a_sealed_value_opens_only_for_its_deployment_and_rotation() {
        let pair = HostKeyPair::generate(&OsEntropy);
        let key = StoreKey {
            public_key: STANDARD.encode(pair.public().to_bytes()),
            deployment: DeploymentId::from_bytes([1; 16]).to_string(),
        };
        let value = SecretBytes::from(b"hunter2".to_vec());
        let sealed = seal(&key, RotationId::from_bytes([2; 16]), &value).unwrap();
        assert!(!sealed.contains("hunter2") && !sealed.contains(&STANDARD.encode("hunter2")));
        assert!(opened(&pair, &sealed, 1, 2).unwrap().ct_eq(&value));
        assert!(opened(&pair, &sealed, 9, 2).is_none());
        assert!(opened(&pair, &sealed, 1, 9).is_none());
    }

    #[test]
    fn a_key_that_is_none_is_refused_before_anything_is_sent() {
        let deployment = DeploymentId::from_bytes([1; 16]).to_string();
        for public_key in ["", "AAAA", "not base64"] {
            let key = StoreKey {
                public_key: public_key.to_owned(),
                deployment: deployment.clone(),
            };
            let failure = seal(
                &key,
                RotationId::from_bytes([2; 16]),
                &SecretBytes::from(vec![1]),
            )
            .unwrap_err();
            assert!(
                failure.to_string().contains("nothing was sent"),
                "{failure}"
            );
        }
    }
}
