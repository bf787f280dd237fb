//! The store `local` in a database, whose server can be killed.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_cache::{Address, PostgresCache};
use keywheel_core::effect::Outside;
use keywheel_core::store::{RemoteVersion, Source};
use keywheel_engine::port::rotator::Rotator;
use keywheel_engine::port::vault::VersionVault;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_stores::LocalStore;
use keywheel_testkit::conformance::rotator::Home;
use keywheel_testkit::conformance::rotator::faults::{Fault, Faulty};
use keywheel_testkit::server::postgres::PostgresServer;

use crate::{DEPLOYMENT, clock};

/// A server, and the store over it.
pub(crate) struct Shared {
    cache: Arc<PostgresCache>,
    rotator: Arc<LocalStore>,
    server: PostgresServer,
}

impl Shared {
    pub(crate) async fn make() -> Self {
        let server = PostgresServer::start();
        let address = Address::parse(&server.database("cache"), None).unwrap();
        let key = UnsealKey::generate(&OsEntropy);
        let entropy = Arc::new(OsEntropy);
        let opened = PostgresCache::open_shared(&address, DEPLOYMENT, key, entropy, clock());
        let cache = Arc::new(opened.await.unwrap());
        let port: Arc<dyn VersionVault> = Arc::clone(&cache) as _;
        Self {
            rotator: Arc::new(LocalStore::new(port, Arc::new(OsEntropy))),
            cache,
            server,
        }
    }
}

#[async_trait]
impl Home for Shared {
    fn rotator(&self) -> Arc<dyn Rotator> {
        Arc::clone(&self.rotator) as _
    }

    fn vault(&self) -> Arc<dyn VersionVault> {
        Arc::clone(&self.cache) as _
    }

    fn place(&self) -> Option<Outside> {
        None
    }

    async fn there(&self, _: &Source) -> Option<(RemoteVersion, SecretBytes)> {
        None
    }

    async fn write(&self, _: &Source, _: &SecretBytes) {
        panic!("nobody else writes here");
    }
}

#[async_trait]
impl Faulty for Shared {
    async fn begin(&mut self, fault: Fault) {
        assert_eq!(fault, Fault::Down);
        self.server.kill();
    }

    async fn end(&mut self) {
        self.server.restart();
    }

    fn serves(&self, _: Fault) -> bool {
        false
    }
}
