//! An example of work on accounts.

use keywheel_core::effect::AtResource;
use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::store::CredentialNow;

use super::SECRET;

pub(super) fn at_resource() -> AtResource {
    let admin = SecretName::parse("shop/admin").unwrap();
    AtResource {
        resource: Resource {
            kind: Kind::Postgres,
            connection: "postgres://rotator@db.example:5432/shop".to_owned(),
            accounts: vec!["app".to_owned(), "app_b".to_owned()],
            admin: admin.clone(),
            strategy: Strategy::AlternatingUsers,
            ca: Some("/etc/keywheel/stores/db-ca.pem".to_owned()),
        },
        admin: Some(CredentialNow {
            name: admin,
            secret: SECRET,
            version: Some(3),
        }),
        current: Some(2),
        kept: vec![1],
        unclear: true,
    }
}
