//! `rotator` of a secret: what is read, and every way to get it wrong.

use keywheel_core::resource::{Kind, MAX_ACCOUNT_BYTES, Resource, Strategy};

use super::super::Manifest;
use super::{faults, read, secret};

const REST: &str = "adminSecret: shop/admin";

fn rotator(fields: &str) -> String {
    secret(&format!("{{ generator: {{}}, rotator: {{ {fields} }} }}"))
}

fn resource(fields: &str) -> Resource {
    let read = read(&rotator(fields));
    match read.unwrap_or_else(|faults| panic!("{faults:?}")).remove(0) {
        Manifest::Secret { spec, .. } => *spec.rotator.expect("it has one"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_best_strategy_for_so_many_accounts_is_the_default() {
    let postgres = "type: postgres, connection: \"postgres://admin@db:5432/shop\"";
    let mariadb = "type: mariadb, connection: \"mysql://admin@db:3306/shop\"";
    for (fields, strategy, accounts) in [
        (
            format!("{postgres}, account: [app, app_b], {REST}"),
            Strategy::AlternatingUsers,
            &["app", "app_b"][..],
        ),
        (
            format!("{postgres}, account: app, {REST}"),
            Strategy::SingleUser,
            &["app"][..],
        ),
        (
            format!("{mariadb}, account: app, {REST}"),
            Strategy::DualPassword,
            &["app"][..],
        ),
        (
            format!("{mariadb}, account: [app], strategy: singleUser, {REST}"),
            Strategy::SingleUser,
            &["app"][..],
        ),
    ] {
        let found = resource(&fields);
        assert_eq!(found.strategy, strategy, "{fields}");
        assert_eq!(found.accounts, accounts);
        assert_eq!(found.admin.as_str(), "shop/admin");
    }
    let found = resource(&format!(
        "type: redis, connection: \"rediss://admin@cache:6379\", account: app, caFile: /etc/keywheel/ca.pem, {REST}"
    ));
    assert_eq!(
        (found.kind, found.ca.as_deref()),
        (Kind::Redis, Some("/etc/keywheel/ca.pem"))
    );
    assert_eq!(found.credential_server(), "redis://cache:6379");
}

#[test]
fn every_fault_of_a_rotator_is_told() {
    let good = "connection: \"postgres://admin@db/shop\"";
    let long = "a".repeat(MAX_ACCOUNT_BYTES + 1);
    for (fields, words) in [
        (
            format!("type: oracle, {good}, account: a, {REST}"),
            "rotator type `oracle`",
        ),
        (format!("{good}, account: a, {REST}"), "`type` is missing"),
        (
            format!("type: postgres, account: a, {REST}"),
            "`connection` is missing",
        ),
        (
            format!("type: postgres, {good}, {REST}"),
            "`account` is missing",
        ),
        (
            format!("type: postgres, {good}, account: a"),
            "`adminSecret` is missing",
        ),
        (
            format!("type: postgres, {good}, account: [a, a], {REST}"),
            "named twice",
        ),
        (
            format!(
                "type: mariadb, connection: \"mariadb://admin@db\", account: [a, \"a@%\"], {REST}"
            ),
            "named twice",
        ),
        (
            format!("type: postgres, {good}, account: [], {REST}"),
            "(0 are named)",
        ),
        (
            format!("type: postgres, {good}, account: [a, b, c], {REST}"),
            "(3 are named)",
        ),
        (
            format!("type: postgres, {good}, account: \"\", {REST}"),
            "an account has 1 to",
        ),
        (
            format!("type: postgres, {good}, account: {long}, {REST}"),
            "an account has 1 to",
        ),
    ] {
        assert_fault(&fields, words);
    }
}

#[test]
fn what_does_not_fit_its_server_is_told_and_no_connection_is_quoted() {
    let good = "connection: \"postgres://admin@db/shop\"";
    for (fields, words) in [
        (
            format!("type: postgres, {good}, account: a, strategy: dualPassword, {REST}"),
            "write one of alternatingUsers, singleUser",
        ),
        (
            format!("type: postgres, {good}, account: a, strategy: alternatingUsers, {REST}"),
            "takes two accounts",
        ),
        (
            format!("type: postgres, {good}, account: a, caFile: ca.pem, {REST}"),
            "absolute path",
        ),
        (
            format!("type: mariadb, {good}, account: a, {REST}"),
            "has to be like `mariadb://",
        ),
        (
            format!(
                "type: postgres, connection: \"postgres://admin:canary@db/shop\", account: a, {REST}"
            ),
            "holds a password",
        ),
        (
            format!("type: postgres, connection: \"postgres://db/canary\", account: a, {REST}"),
            "has to be like",
        ),
        (
            format!(
                "type: postgres, connection: \"postgres://admin@db/shop?password=canary\", account: a, {REST}"
            ),
            "has to be like",
        ),
    ] {
        assert_fault(&fields, words);
    }
}

#[test]
fn a_webhook_needs_no_account_and_promises_no_overlap_by_itself() {
    for (fields, account, strategy, server) in [
        (
            "connection: \"https://Hooks.example/rotate/stripe\"",
            "/rotate/stripe",
            Strategy::SingleUser,
            "webhook://hooks.example:443",
        ),
        (
            "connection: \"https://hooks.example\", strategy: dualPassword",
            "/",
            Strategy::DualPassword,
            "webhook://hooks.example:443",
        ),
        (
            "connection: \"http://[::1]:8099/r\", account: stripe",
            "stripe",
            Strategy::SingleUser,
            "webhook://[::1]:8099",
        ),
    ] {
        let found = resource(&format!("type: webhook, {fields}, {REST}"));
        assert_eq!(found.kind, Kind::Webhook);
        assert_eq!(
            (&found.accounts[..], found.strategy),
            (&[account.to_owned()][..], strategy)
        );
        assert_eq!(found.credential_server(), server);
    }
}

#[test]
fn a_webhook_s_address_holds_no_secret_and_only_tls_leaves_the_machine() {
    let long = format!("https://hooks.example/{}", "a".repeat(MAX_ACCOUNT_BYTES));
    for (connection, words) in [
        ("hooks.example/canary", "has to be like `https://"),
        ("ftp://hooks.example/canary", "has to be like `https://"),
        ("https://me:canary@hooks.example", "without a name"),
        ("https://hooks.example/r?token=canary", "a query"),
        ("https://hooks.example/r#canary", "a fragment"),
        ("https://hooks.example:x/canary", "has to be like"),
        ("https:///canary", "has to be like"),
        ("https://hooks.example/%0acanary", "has to be like"),
        ("http://hooks.example:80/canary", "without TLS"),
        ("http://127.0.0.1/canary", "names no port"),
        (long.as_str(), "write `account: NAME`"),
    ] {
        let fields = format!("type: webhook, connection: \"{connection}\", {REST}");
        assert_fault(&fields, words);
    }
    let two = "connection: \"https://hooks.example/r\", account: [a, b]";
    assert_fault(
        &format!("type: webhook, {two}, {REST}"),
        "takes one account",
    );
    let turns = "connection: \"https://hooks.example/r\", strategy: alternatingUsers";
    let words = "write one of dualPassword, singleUser";
    assert_fault(&format!("type: webhook, {turns}, {REST}"), words);
}

/// One of its faults says this, and none quotes a secret part.
fn assert_fault(fields: &str, words: &str) {
    let found = faults(&rotator(fields)).join("\n");
    assert!(found.contains(words), "{fields}: {found}");
    assert!(!found.contains("canary"), "{found}");
}

#[test]
fn a_rotator_goes_with_a_store_unless_it_is_a_webhook_and_with_no_credential_of_ours() {
    let rotator = "rotator: { type: postgres, connection: \"postgres://admin@db/shop\", account: a, adminSecret: b }";
    assert!(read(&secret(&format!("{{ store: local, {rotator} }}"))).is_ok());
    let elsewhere = "store: vault, source: { path: a, field: b }";
    assert!(read(&secret(&format!("{{ {elsewhere}, {rotator} }}"))).is_ok());
    let webhook =
        "rotator: { type: webhook, connection: \"https://hooks.example/rotate\", adminSecret: b }";
    for (other, rotator, words) in [
        (
            elsewhere,
            webhook,
            "`store` does not go with `rotator: { type: webhook }`",
        ),
        (
            "credentialFor: aws",
            rotator,
            "`credentialFor` does not go with `rotator`",
        ),
    ] {
        let found = faults(&secret(&format!("{{ {other}, {rotator} }}"))).join("\n");
        assert!(found.contains(words), "{found}");
    }
}

#[test]
fn the_admin_s_secret_says_at_which_server_it_is_good() {
    let credential = |server: &str| secret(&format!("{{ credentialFor: \"{server}\" }}"));
    for (written, server) in [
        ("postgres://db.example:5432", "postgres://db.example:5432"),
        ("postgres://DB.example", "postgres://db.example:5432"),
        ("mariadb://db", "mariadb://db:3306"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("redis://%2Frun%2Fr.sock", "redis://%2frun%2fr.sock"),
        ("webhook://Hooks.example", "webhook://hooks.example:443"),
    ] {
        let Manifest::Secret { spec, .. } = read(&credential(written)).unwrap().remove(0) else {
            panic!("{written}");
        };
        assert_eq!(spec.credential_for.as_deref(), Some(server));
    }
    for server in [
        "postgres://",
        "postgres://me@db",
        "postgres://db/shop",
        "postgres://db%0ax",
        "postgres://db\\nx",
        "postgres://db%zz",
        "oracle://db",
    ] {
        assert!(read(&credential(server)).is_err(), "{server}");
    }
}

#[test]
fn a_connection_holds_no_control_character_as_it_stands_or_as_it_is_meant() {
    for connection in [
        "postgres://ad%0amin@db/shop",
        "postgres://ad\\nmin@db/shop",
        "postgres://ad%c2%85min@db/shop",
        "postgres://admin@d%07b/shop",
        "postgres://admin@d\\tb/shop",
        "postgres://admin@db/sh%0dop",
        "postgres://ad%fmin@db/shop",
        "postgres://ad%ffmin@db/shop",
        "postgres://admin@db/shop%",
    ] {
        let fields = format!("type: postgres, connection: \"{connection}\", account: a, {REST}");
        assert_fault(&fields, "has to be like `postgres://");
    }
    let found = resource(&format!(
        "type: postgres, connection: \"postgres://a%40b@%2Frun%2Fpostgresql/shop\", account: a, {REST}"
    ));
    assert_eq!(found.server(), "%2frun%2fpostgresql:5432");
}
