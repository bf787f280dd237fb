//! Tests of what needs no server: marks, and how a login is made.

use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, Strategy};
use keywheel_seal::OsEntropy;

use super::*;

#[test]
fn a_mark_knows_the_server_process_and_the_connection() {
    let mark = packed(1_795_885_614, 68).unwrap();
    assert_eq!((mark >> ID_BITS, mark & 0xffff_ffff), (1_795_885_614, 68));
    assert_eq!(packed((1 << 31) - 1, (1 << 32) - 1), Some(i64::MAX));
    for (start, id) in [(1 << 31, 1), (-1, 1), (1, 1 << 32), (1, -1)] {
        assert_eq!(packed(start, id), None);
    }
}

struct Nobody;

#[async_trait]
impl Credentials for Nobody {
    async fn read(&self, _: &CredentialRef) -> Result<SecretBytes, PortError> {
        Err(PortError::new(ErrorKind::NotFound, "there is none"))
    }
}

fn accounts(connection: &str) -> Result<MariaDbAccounts, PortError> {
    let resource = Resource {
        kind: Kind::Mariadb,
        connection: connection.to_owned(),
        accounts: vec!["app".to_owned()],
        admin: SecretName::parse("shop/admin").unwrap(),
        strategy: Strategy::DualPassword,
        ca: None,
    };
    MariaDbAccounts::new(resource, Arc::new(Nobody), Arc::new(OsEntropy))
}

#[tokio::test]
async fn a_far_server_proves_its_name_and_an_odd_admin_is_quoted() {
    let mode = async |url: &str| {
        let accounts = accounts(url).unwrap();
        let password = SecretBytes::from(b"x".to_vec());
        let options = accounts.options("me", &password).await.unwrap();
        format!("{options:?}")
    };
    assert!(
        mode("mariadb://kw@db/shop")
            .await
            .contains("VerifyIdentity")
    );
    assert!(
        !mode("mysql://kw@127.0.0.1:3307")
            .await
            .contains("VerifyIdentity")
    );
    let odd = accounts("mariadb://kw`x@db").unwrap();
    assert!(odd.grants().contains("TO `kw``x`@'%';"));
    let mysql = accounts("mysql://kw@db").unwrap().grants();
    assert!(
        mysql.contains("CONNECTION_ADMIN ON *.* TO `kw`@'%';"),
        "{mysql}"
    );
    assert!(mysql.contains("GRANT SELECT ON mysql.user TO ") && !mysql.contains("mysql.*"));
    assert!(odd.grants().contains("CONNECTION ADMIN ON *.*"));
    let refused = accounts("postgres://kw@db").map(drop).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
}
