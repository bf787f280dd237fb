//! A subject at a real server.

use async_nats::jetstream;
use keywheel_testkit::server::nats::{NatsServer, Settings, VERSIONS};

use super::super::line::tests::lines;
use super::*;

#[tokio::test]
async fn a_stream_has_each_record_once_however_often_it_is_told() {
    let server = NatsServer::start(Settings::of(VERSIONS[VERSIONS.len() - 1]));
    let mut sink = Subject::new(server.url(), "security.keywheel".to_owned(), None, None);
    let untaken = sink.tell(&lines(0, 2)).await.unwrap_err();
    assert!(untaken.text.contains("make one there"), "{untaken}");
    sink.reset();
    let client = async_nats::connect(server.url()).await.unwrap();
    let config = jetstream::stream::Config {
        name: "security".to_owned(),
        subjects: vec!["security.>".to_owned()],
        ..jetstream::stream::Config::default()
    };
    let context = jetstream::new(client);
    let mut stream = context.create_stream(config).await.unwrap();
    let records = lines(0, 5);
    sink.tell(&records).await.unwrap();
    sink.tell(&records).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 5);
    for (number, line) in (1..).zip(&records) {
        let message = stream.get_raw_message(number).await.unwrap();
        assert_eq!(&*message.payload, line.text.as_bytes());
        let kind = message.headers.get("Content-Type").unwrap();
        assert_eq!(kind.as_str(), "application/json");
    }
}
