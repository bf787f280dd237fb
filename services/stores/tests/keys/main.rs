//! Keys of key services at their real servers: AWS KMS at two servers that share no code, transit at OpenBao. The
//! laws of the port, what each refusal says, and that it is over as soon as its reason is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod kms;
mod transit;

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use keywheel_core::id::DeploymentId;
use keywheel_core::store::CredentialRef;
use keywheel_engine::port::key_service::{Binding, KeyService};
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use keywheel_testkit::conformance::store::{plenty, refused, value};

/// Credentials in memory, by the path they are read at.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<String, String>>);

impl Kept {
    fn put(&self, path: &str, value: &str) -> CredentialRef {
        let mut kept = self.0.lock().unwrap();
        kept.insert(path.to_owned(), value.to_owned());
        CredentialRef::File(path.to_owned())
    }
}

#[async_trait]
impl Credentials for Kept {
    async fn read(&self, credential: &CredentialRef) -> Result<SecretBytes, PortError> {
        let CredentialRef::File(path) = credential else {
            return Err(PortError::new(ErrorKind::NotFound, "no secrets here"));
        };
        let kept = self.0.lock().unwrap().get(path).cloned();
        kept.map(|text| SecretBytes::from(text.into_bytes()))
            .ok_or_else(|| PortError::new(ErrorKind::NotFound, format!("{path} is not there")))
    }
}

fn binding() -> Binding {
    Binding {
        deployment: DeploymentId::from_bytes([3; 16]),
    }
}

async fn wrapped(service: &dyn KeyService) -> Vec<u8> {
    let wrapped = service.wrap(&value("root"), &binding(), &plenty()).await;
    wrapped.unwrap()
}

async fn opens(service: &dyn KeyService, wrapped: &[u8]) {
    let opened = service.unwrap(wrapped, &binding(), &plenty()).await;
    assert!(opened.unwrap().ct_eq(&value("root")));
}

/// It is refused, of this kind, and the error names the key and all of this.
async fn is_refused(service: &dyn KeyService, wrapped: &[u8], kind: ErrorKind, told: &[&str]) {
    let opened = service.unwrap(wrapped, &binding(), &plenty()).await;
    names(&refused(opened), service, kind, told);
}

fn names(error: &PortError, service: &dyn KeyService, kind: ErrorKind, told: &[&str]) {
    assert_eq!(error.kind, kind, "{error}");
    for part in told.iter().copied().chain([service.key()]) {
        assert!(error.text.contains(part), "`{part}`: {error}");
    }
}
