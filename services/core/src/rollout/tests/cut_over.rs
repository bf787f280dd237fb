//! A version that cut its account over: there is no way back.

use super::*;
use crate::resource::{Kind, Resource, Strategy};
use crate::testing::apply_secret;

#[test]
fn after_a_cut_over_a_failure_only_halts_for_the_version_before_opens_nothing_any_more() {
    let resource = Resource {
        kind: Kind::Postgres,
        connection: "postgres://admin@db.example/shop".to_owned(),
        accounts: vec!["app".to_owned()],
        admin: SecretName::parse("shop/admin").unwrap(),
        strategy: Strategy::SingleUser,
        ca: None,
    };
    let admin = Command::Apply(vec![Declaration::Secret {
        id: OTHER_SECRET,
        rotation: FOURTH,
        name: resource.admin.clone(),
        spec: secret::Spec {
            credential_for: Some(resource.credential_server()),
            ..secret::Spec::default()
        },
    }]);
    let opening = secret::Spec {
        rotator: Some(Box::new(resource)),
        ..generated()
    };
    let failed = says(HOST, vec![broken(1, 2)], Vec::new(), &[2]);
    let given = rolled().and(admin).and(apply_secret(opening)).and(failed);
    let open = &given.world().rotations[&SECOND];
    assert!(open.halted.is_some() && open.returning.is_none());
    assert_eq!(given.secret().current, Some(2));
    assert!(given.secret().is_deliverable(1), "nothing dies of itself");
}
