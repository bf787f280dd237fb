//! The journal on a real server: the laws of the port, several openers, lost connections, damage.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use keywheel_engine::port::journal::Journal;
use keywheel_postgres::Address;
use keywheel_testkit::conformance;
use keywheel_testkit::server::postgres::PostgresServer;

use super::PostgresJournal;
use crate::tests::options;

fn address(url: &str) -> Address {
    Address::parse(url, None).unwrap()
}

async fn open(url: &str) -> PostgresJournal {
    PostgresJournal::open(&address(url), options(1))
        .await
        .unwrap()
}

#[tokio::test]
async fn the_adapter_keeps_the_laws_of_the_port() {
    let server = PostgresServer::start();
    let count = AtomicU32::new(0);
    let fresh = || async {
        let n = count.fetch_add(1, Ordering::Relaxed);
        Arc::new(open(&server.database(&format!("fresh_{n}"))).await) as Arc<dyn Journal>
    };
    conformance::journal::check(fresh).await;
    assert!(count.load(Ordering::Relaxed) > 10);
}
