//! A start beside bus servers that start, too, and what their monitoring port says of their disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::path::Path;
use std::time::Duration;

use keywheel_bus::{ConnectError, NatsOptions, Unfit, monitor};
use keywheel_core::audit::Role;
use keywheel_engine::port::bus::Topic;
use keywheel_testkit::server::nats::{NatsServer, Settings, VERSIONS};
use keywheel_testkit::server::port::held_port;

use crate::support::nats::try_connect;
use crate::support::{DEPLOYMENT, SOON, id, leaf};

/// One server of a cluster of three.
fn node(directory: &Path, number: usize, ports: &[(u16, u16); 3]) -> NatsServer {
    let (port, route) = ports[number];
    let routes = ports.map(|(_, route)| format!("nats://127.0.0.1:{route}"));
    let text = format!(
        "listen: 127.0.0.1:{port}\nserver_name: bus-{number}\nmax_payload: 16777216\n\
         jetstream {{ store_dir: \"{}\" }}\n\
         cluster {{ name: test, listen: 127.0.0.1:{route}, routes: [{}] }}\n",
        directory.join(format!("store-{number}")).display(),
        routes.join(", ")
    );
    let configuration = directory.join(format!("bus-{number}.conf"));
    std::fs::write(&configuration, text).unwrap();
    NatsServer::configured(configuration, port, None)
}

#[tokio::test]
async fn a_gateway_that_starts_with_a_fresh_cluster_waits_for_its_leader() {
    let scratch = tempfile::tempdir().unwrap();
    let ports = [(); 3].map(|()| (held_port(), held_port()));
    let urls = ports.map(|(port, _)| format!("nats://127.0.0.1:{port}"));
    let options = |start_timeout, server_timeout| NatsOptions {
        replicas: 3,
        start_timeout,
        server_timeout,
        ..NatsOptions::new(urls.to_vec(), DEPLOYMENT)
    };
    // One of three answers and cannot choose a leader.
    let _first = node(scratch.path(), 0, &ports);
    let at_once = options(Duration::ZERO, Duration::from_secs(5));
    let at_once = try_connect(at_once, Role::Gateway).await;
    let refused = at_once.err().unwrap();
    assert!(
        matches!(refused, ConnectError::Unfit(Unfit::Stream { .. })),
        "{refused}"
    );
    // Three servers that start on a busy machine take their time, and each answer of theirs, too.
    let patient = options(SOON, Duration::from_secs(5));
    let patient = tokio::spawn(try_connect(patient, Role::Gateway));
    let _others = [1, 2].map(|number| node(scratch.path(), number, &ports));
    let gateway = patient.await.unwrap().unwrap();
    let health = gateway.health();
    assert!(health.connected && health.problem.is_none(), "{health:?}");
    let published = gateway.endpoint();
    let published = published.publish(Topic::Audit, id(1), None, leaf(1));
    published.await.unwrap();
}

#[tokio::test]
async fn copies_that_a_server_without_a_cluster_cannot_keep_are_refused_at_once() {
    let server = NatsServer::start(Settings::of(VERSIONS[2]));
    let options = NatsOptions {
        replicas: 3,
        // A wait for it would outlast every patience.
        start_timeout: Duration::MAX,
        ..NatsOptions::new(vec![server.url()], DEPLOYMENT)
    };
    let refused = try_connect(options, Role::Gateway).await.err().unwrap();
    assert!(
        matches!(refused, ConnectError::Unfit(Unfit::StreamRefused { .. })),
        "{refused}"
    );
    assert!(refused.to_string().contains("replicas"), "{refused}");
}

#[tokio::test]
async fn a_real_monitoring_port_says_whether_the_disk_is_written_before_the_answer() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, setting, is_always) in [
        ("always", "sync_interval: always", true),
        ("interval", "sync_interval: \"2m\"", false),
        ("default", "", false),
    ] {
        let (port, http) = (held_port(), held_port());
        let text = format!(
            "listen: 127.0.0.1:{port}\nserver_name: {name}\nhttp: 127.0.0.1:{http}\n\
             jetstream {{ store_dir: \"{}\"\n{setting}\n}}\n",
            scratch.path().join(name).display()
        );
        let configuration = scratch.path().join(format!("{name}.conf"));
        std::fs::write(&configuration, text).unwrap();
        let _server = NatsServer::configured(configuration, port, None);
        let found = monitor::read(&format!("http://127.0.0.1:{http}")).await;
        let found = found.unwrap();
        assert_eq!(found.server_name, name);
        assert_eq!(found.sync_always, is_always, "{name}");
    }
    let nobody = monitor::read(&format!("http://127.0.0.1:{}", held_port())).await;
    assert!(nobody.is_err());
}
