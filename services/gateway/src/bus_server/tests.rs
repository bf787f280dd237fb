//! How many requests are served at once.

use keywheel_core::audit::Role;
use keywheel_testkit::fake::Flood;

use super::*;
use crate::testing::Bench;

#[tokio::test]
async fn one_request_more_than_are_served_at_once_waits_for_a_place() {
    let bench = Bench::start().await;
    // Nobody may ask the gateway this, so nothing but the answers takes time.
    let message = Message {
        id: [1; 16],
        sender: Role::Scheduler,
        host: None,
        traceparent: None,
        body: Body::ReadStoreKey,
    };
    let (flood, requests) = Flood::of(message, MAX_SERVED + 2);
    *bench.store.requests.lock().unwrap() = Some(requests);
    let api = bench.api.clone();
    let server = BusServer {
        bus: api.bus,
        commands: api.commands,
        view: api.view,
        journal: api.journal,
        clock: api.clock,
        ids: api.ids,
        renewals: None,
    };
    let serving = tokio::spawn(server.run(CancellationToken::new()));
    assert_eq!(flood.settled().await, MAX_SERVED);
    flood.end(1);
    assert_eq!(flood.settled().await, MAX_SERVED + 1);
    flood.end(MAX_SERVED + 1);
    serving.await.unwrap().unwrap();
    assert_eq!(flood.settled().await, MAX_SERVED + 2);
}
