//! Permits that end: by themselves, and because somebody was evicted.

use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_identity::nats::{CLAIMS_INBOX, CLAIMS_SUBJECT};

use crate::client::Client;
use crate::deployment::{Deployment, HOUR, host, now, service};

#[test]
fn a_permit_ends_a_connection_when_it_ends() {
    let deployment = Deployment::start();
    // Long enough to connect and be served before, on a busy machine too.
    let (key, permit) = deployment.permit(&host(1), Duration::from_secs(12));
    let mut client = Client::connect(deployment.port, &key, &permit).unwrap();
    assert!(client.is_served());
    let last = client.until_closed();
    assert!(last.contains("Expired"), "{last}");
    // Its last second counts.
    std::thread::sleep(Duration::from_millis(1100));
    let again = Client::connect(deployment.port, &key, &permit)
        .err()
        .unwrap();
    assert!(
        again.contains("Expired") || again.contains("Violation"),
        "{again}"
    );
}

#[test]
fn an_evicted_key_is_cut_off_at_once_and_stays_out_over_a_restart() {
    let mut deployment = Deployment::start();
    let (key, permit) = deployment.permit(&host(1), HOUR);
    let mut evicted = Client::connect(deployment.port, &key, &permit).unwrap();
    let mut other = deployment.client(&host(2));
    let mut gateway = deployment.client(&service(Role::Gateway));

    let end = now().plus(HOUR);
    let revocations = &mut deployment.revocations;
    assert!(revocations.refuse(&key.public_key(), end, now()));
    let claim = deployment
        .bus
        .account_claim(&mut deployment.revocations, now())
        .unwrap();
    let mut claims = deployment.claims();
    let inbox = format!("{CLAIMS_INBOX}.1");
    claims.subscribe(&inbox).unwrap();
    let answer = claims.ask(CLAIMS_SUBJECT, &inbox, &claim).unwrap();
    assert_eq!(answer["data"]["code"], 200, "{answer}");

    let mut elsewhere = keywheel_identity::nats::Revocations::default();
    let known = claims
        .ask_text(&deployment.bus.lookup_subject(), &inbox)
        .unwrap();
    deployment.bus.learn(&known, &mut elsewhere).unwrap();
    assert!(
        elsewhere.contains(&key.public_key()),
        "another gateway learns of it"
    );

    let last = evicted.until_closed();
    assert!(
        last.contains("Revoked") || last.contains("Expired"),
        "{last}"
    );
    let refused = |port| Client::connect(port, &key, &permit).is_err();
    assert!(refused(deployment.port));
    assert!(
        other.is_served() && gateway.is_served(),
        "nobody else is cut off"
    );

    deployment.server.restart();
    assert!(
        refused(deployment.port),
        "the older claim in the configuration does not count"
    );
    deployment.client(&host(2));

    let (key, permit) = deployment.permit(&host(1), HOUR);
    assert!(
        Client::connect(deployment.port, &key, &permit).is_ok(),
        "a new key may come back"
    );
}

#[test]
fn the_claims_user_tells_claims_and_nothing_else() {
    let deployment = Deployment::start();
    let mut claims = deployment.claims();
    for subject in ["$SYS.REQ.SERVER.PING", "$SYS.REQ.CLAIMS.DELETE", "x"] {
        let error = claims.publish(subject, "").unwrap_err();
        assert!(
            error.contains("Permissions Violation"),
            "{subject}: {error}"
        );
    }
    for subject in [">", "$SYS.>", "_INBOX.>"] {
        let error = claims.subscribe(subject).unwrap_err();
        assert!(
            error.contains("Permissions Violation"),
            "{subject}: {error}"
        );
    }
    let stranger = Deployment::start();
    let mut revocations = keywheel_identity::nats::Revocations::default();
    let forged = stranger.bus.account_claim(&mut revocations, now()).unwrap();
    let inbox = format!("{CLAIMS_INBOX}.1");
    claims.subscribe(&inbox).unwrap();
    claims.ask(CLAIMS_SUBJECT, &inbox, &forged).unwrap();
    let (key, permit) = stranger.permit(&host(1), HOUR);
    let refused = Client::connect(deployment.port, &key, &permit);
    assert!(
        refused.is_err(),
        "an account of another operator stays unknown"
    );
}
