//! What everything that makes logins by lease has to keep: the laws of `port::leases`.
//!
//! Another hand ([`Lender`]) tries a login as a program would that got it. Every error that a case provokes is
//! searched for the logins that were in play.

use async_trait::async_trait;
use keywheel_core::store::Source;
use keywheel_engine::port::leases::{Extended, Leases, Minted};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;

use super::store::plenty;

/// A store with logins under test, and a server that lets them in.
#[async_trait]
pub trait Lender: Send + Sync {
    /// What makes logins.
    fn leases(&self) -> &dyn Leases;
    /// A role that it has.
    fn role(&self) -> Source;
    /// Whether the server lets this login in.
    async fn admits(&self, value: &SecretBytes) -> bool;
}

/// Runs every case.
///
/// # Panics
/// When a law is broken.
pub async fn check(lender: &dyn Lender) {
    each_login_is_another_one_and_ends_alone(lender).await;
    a_lease_is_extended_until_it_is_gone(lender).await;
    a_role_that_is_not_there_is_refused(lender).await;
}

async fn mint(lender: &dyn Lender) -> Minted {
    let minted = lender.leases().mint(&lender.role(), &plenty()).await;
    minted.unwrap_or_else(|error| panic!("{error}: {:?}", error.source))
}

async fn each_login_is_another_one_and_ends_alone(lender: &dyn Lender) {
    let (one, other) = (mint(lender).await, mint(lender).await);
    assert_ne!(one.lease, other.lease);
    assert!(!one.value.ct_eq(&other.value));
    assert!(lender.admits(&one.value).await && lender.admits(&other.value).await);
    for _ in 0..2 {
        let leases = lender.leases();
        leases
            .end(&lender.role(), &one.lease, &plenty())
            .await
            .unwrap();
    }
    assert!(!lender.admits(&one.value).await, "its lease ended");
    assert!(lender.admits(&other.value).await, "another one's did not");
    let leases = lender.leases();
    leases
        .end(&lender.role(), &other.lease, &plenty())
        .await
        .unwrap();
    assert!(!lender.admits(&other.value).await);
}

async fn a_lease_is_extended_until_it_is_gone(lender: &dyn Lender) {
    let minted = mint(lender).await;
    let (role, until) = (lender.role(), plenty());
    for _ in 0..2 {
        let extended = lender.leases().extend(&role, &minted.lease, &until).await;
        let extended = extended.unwrap();
        let Extended::For { granted, whole } = extended else {
            panic!("{extended:?}");
        };
        assert!(granted <= whole && !extended.gives_way(), "{extended:?}");
    }
    assert!(lender.admits(&minted.value).await);
    assert!(!is_gone(lender, &minted).await, "it is alive");
    let ended = lender.leases().end(&role, &minted.lease, &until);
    ended.await.unwrap();
    assert!(is_gone(lender, &minted).await);
    let extended = lender.leases().extend(&role, &minted.lease, &until).await;
    assert_eq!(extended.unwrap(), Extended::Gone);
}

async fn is_gone(lender: &dyn Lender, minted: &Minted) -> bool {
    let (role, until) = (lender.role(), plenty());
    let asked = lender.leases().is_gone(&role, &minted.lease, &until);
    asked.await.unwrap()
}

async fn a_role_that_is_not_there_is_refused(lender: &dyn Lender) {
    let role = Source {
        path: "nowhere/creds/nobody".to_owned(),
        field: String::new(),
    };
    let minted = lender.leases().mint(&role, &plenty()).await;
    let error: PortError = minted.map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(error.text.contains("nowhere") || error.text.contains("role"));
}
