//! Whatever arrives as a token, a name, credentials on disk, or a request to join: reading comes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use keywheel_core::id::DeploymentId;
use keywheel_identity::bundle::{BUS_FILE, Bundle, CERTIFICATE_FILE, IDENTITY_FILE};
use keywheel_identity::enrol::{JoinAnswer, JoinAsk, RenewAnswer, RenewAsk, ReturnAsk};
use keywheel_identity::name::{OperatorName, PeerName};
use keywheel_identity::token::JoinToken;
use keywheel_testkit::hostile;

#[test]
fn no_token_makes_its_reader_panic() {
    hostile(b"kwjoin1.AAECAwQFBgcICQoLDA0ODw", |bytes| {
        drop(JoinToken::parse(&String::from_utf8_lossy(bytes)));
    });
}

#[test]
fn no_name_makes_its_reader_panic() {
    let ours = DeploymentId::from_bytes([1; 16]);
    let good = PeerName::Service(keywheel_core::audit::Role::Gateway).uri(ours);
    assert!(PeerName::parse(&good, ours).is_ok());
    hostile(good.as_bytes(), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        drop(PeerName::parse(&text, ours));
        drop(OperatorName::parse(&text));
    });
}

#[test]
fn no_request_to_join_or_renew_makes_its_reader_panic() {
    hostile(
        b"{\"v\":1,\"token\":\"x\",\"keys\":{\"a\":\"b\"},\"csr\":\"c\"}",
        |bytes| {
            drop(serde_json::from_slice::<JoinAsk>(bytes));
            drop(serde_json::from_slice::<JoinAnswer>(bytes));
            drop(serde_json::from_slice::<RenewAsk>(bytes));
            drop(serde_json::from_slice::<RenewAnswer>(bytes));
            drop(serde_json::from_slice::<ReturnAsk>(bytes).map(|ask| ask.check()));
        },
    );
}

#[test]
fn no_credentials_on_disk_make_their_reader_panic() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let private = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(folder.path(), private(0o700)).unwrap();
    let names = [
        "ca.pem",
        "tls.key",
        CERTIFICATE_FILE,
        IDENTITY_FILE,
        BUS_FILE,
    ];
    let pem = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let mut turn = 0;
    hostile(pem, |bytes| {
        // Each of them once in a while: a file system is slow.
        turn += 1;
        if turn % 16 != 0 {
            return;
        }
        for name in names {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, private(0o600)).unwrap();
        }
        assert!(Bundle::read(folder.path()).is_err());
        assert_eq!(keywheel_identity::life::life_of(folder.path()), None);
    });
}
