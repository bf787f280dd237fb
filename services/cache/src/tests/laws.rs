//! The laws of replacing the KEK, as a file of one's own keeps them.

use async_trait::async_trait;
use keywheel_testkit::conformance::vault_keys::{self, Ends, Home, Keys};

use super::*;
use crate::table::Table;

#[async_trait]
impl<T: Table> Keys for Cache<T> {
    async fn begin(&self) {
        self.begin_rekey().await.unwrap();
    }

    async fn step(&self, rows: u32) -> bool {
        match self.rekey_step(rows).await.unwrap() {
            Stepped::More => true,
            Stepped::Done => false,
            Stepped::Damaged(rows) => panic!("{rows} rows are damaged"),
        }
    }

    async fn left(&self) -> (u64, u64) {
        let Rekeying { old_keks, left } = self.rekeying().await.unwrap();
        (old_keks, left)
    }
}

#[async_trait(?Send)]
impl Home for Place {
    async fn open(&self) -> Ends {
        let cache: Arc<dyn Keys> = Arc::new(Place::open(self).await);
        [cache.clone(), cache]
    }
}

#[tokio::test]
async fn a_file_keeps_the_laws_of_replacing_its_key() {
    vault_keys::check(|| async { Place::new() }).await;
}
