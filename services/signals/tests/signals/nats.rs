//! A subject of somebody else's NATS server.

use std::net::SocketAddr;

use async_nats::jetstream;
use keywheel_core::notification::Receiver;
use keywheel_engine::port::deliveries::Deliveries as _;
use keywheel_engine::port::outside::Outside as _;
use keywheel_testkit::server::nats::{NatsServer, Settings, VERSIONS};

use crate::bench::{Bench, until};

fn address_of(server: &NatsServer) -> SocketAddr {
    let url = server.url();
    url.strip_prefix("nats://").unwrap().parse().unwrap()
}

fn subject_at(server: &NatsServer) -> Receiver {
    Receiver::Nats {
        url: server.url(),
        subject: "security.keywheel".to_owned(),
        credentials_file: String::new(),
        ca_file: String::new(),
    }
}

#[tokio::test]
async fn a_subject_is_told_when_a_stream_takes_it_and_a_repeat_is_one_message() {
    let server = NatsServer::start(Settings::of(VERSIONS[VERSIONS.len() - 1]));
    let bench = Bench::start(&[address_of(&server)]).await;
    let id = bench.declare("bus", subject_at(&server), "").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    bench.happen("prod/a").await;
    until("the trouble", || desk.troubles().contains_key(&id)).await;
    let reason = desk.troubles()[&id].reason.clone();
    assert!(reason.contains("make one there"), "{reason}");
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = jetstream::new(client);
    let config = jetstream::stream::Config {
        name: "security".to_owned(),
        subjects: vec!["security.>".to_owned()],
        ..jetstream::stream::Config::default()
    };
    let mut stream = context.create_stream(config).await.unwrap();
    desk.call();
    bench.until_place(id, Some(2)).await;
    let message = stream.get_raw_message(1).await.unwrap();
    assert_eq!(&*message.payload, &*bench.events(1).await[0].bytes);
    assert!(bench.journal.rewind(id, 1).await.unwrap());
    desk.call();
    bench.until_place(id, Some(2)).await;
    assert_eq!(
        stream.info().await.unwrap().state.messages,
        1,
        "the same id"
    );
}

#[tokio::test]
async fn a_server_of_this_machine_is_told_only_where_that_was_allowed() {
    let server = NatsServer::start(Settings::of(VERSIONS[VERSIONS.len() - 1]));
    let bench = Bench::start(&[]).await;
    let id = bench.declare("bus", subject_at(&server), "").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    bench.happen("prod/a").await;
    until("the trouble", || desk.troubles().contains_key(&id)).await;
    let reason = desk.troubles()[&id].reason.clone();
    assert!(reason.contains("`signals.allow`"), "{reason}");
}
