//! A password that the server's own check refuses: told as that, without the password, and nothing is changed.

use keywheel_core::resource::Strategy;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::accounts::{Accounts as _, Keep, Login};
use keywheel_seal::SecretBytes;
use keywheel_testkit::conformance::store::{plenty, refused, value};

use super::shop::{ADMIN, Shop};

/// An account whose name is the only password that the server's check can tell from a verifier.
const ACCOUNT: &str = "canary_in_no_text";

#[tokio::test]
async fn a_password_that_the_server_s_check_refuses_is_told_and_the_one_before_stays() {
    let shop = Shop::open();
    let resource = shop.resource(Strategy::SingleUser, &[ACCOUNT]);
    shop.grant(&resource);
    let (hand, one, until) = (shop.of(&resource), value("one"), plenty());
    let login = Login::of(ACCOUNT);
    let set = hand.accept(&login, &one, Keep::Nothing, &until).await;
    set.unwrap();
    let _done = shop.psql(&format!(
        "ALTER ROLE {ADMIN} SET session_preload_libraries = 'passwordcheck'"
    ));
    let weak = SecretBytes::from(ACCOUNT.as_bytes().to_vec());
    let set = hand.accept(&login, &weak, Keep::Nothing, &until).await;
    let error = refused(set);
    assert_eq!(
        error.kind,
        ErrorKind::Denied,
        "it is rolled back, not waited for"
    );
    let told = error.to_string();
    assert!(told.contains("a check of the server refuses"), "{told}");
    assert!(told.contains("`alphabet`"), "{told}");
    assert!(!format!("{error:?}{told}").contains(ACCOUNT), "{error:?}");
    assert!(hand.admits(&login, &one, &until).await.unwrap());
    assert!(!hand.admits(&login, &weak, &until).await.unwrap());
    // Another one is taken, with the check in place.
    let two = value("two");
    let set = hand.accept(&login, &two, Keep::Nothing, &until).await;
    set.unwrap();
    assert!(hand.admits(&login, &two, &until).await.unwrap());
}
