//! Every kind of store, at its real server and with the real cache, keeps the laws of the rotator's port
//! and meets the faults of the matrix: one suite for `local`, Vault and OpenBao, AWS Secrets Manager.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests"
)]

mod disk;
mod kept;
mod lent;
mod outside;
mod shared;

use std::sync::Arc;

use keywheel_core::time::Timestamp;
use keywheel_testkit::conformance::rotator::{self, faults};
use keywheel_testkit::fake::FakeClock;
use keywheel_testkit::server::aws::Maker;

use disk::{Broken, Disk};
use outside::Elsewhere;
use shared::Shared;

const DEPLOYMENT: [u8; 16] = [7; 16];

/// A clock that stands still.
fn clock() -> Arc<FakeClock> {
    Arc::new(FakeClock::at(Timestamp::from_micros(1)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_in_a_file_keeps_the_laws_and_meets_a_full_disk() {
    let Some(mut disk) = Disk::make(Broken::Full).await else {
        return;
    };
    rotator::check(&disk).await;
    faults::check(&mut disk, &Disk::FAULTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_in_a_file_meets_a_disk_that_is_read_only() {
    let Some(mut disk) = Disk::make(Broken::ReadOnly).await else {
        return;
    };
    faults::check(&mut disk, &[faults::Fault::Down]).await;
}

/// At every eighth of it, the whole of it included: what is there afterwards is all or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_a_kill_tears_is_whole_or_not_there() {
    let Some(mut disk) = Disk::make(Broken::Full).await else {
        return;
    };
    for eighths in Disk::parts() {
        disk.tears_at(eighths);
        faults::check(&mut disk, &[faults::Fault::Half]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_in_a_database_keeps_the_laws_and_meets_a_killed_server() {
    let mut shared = Shared::make().await;
    rotator::check(&shared).await;
    faults::check(&mut shared, &[faults::Fault::Down]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openbao_keeps_the_laws_and_meets_every_fault() {
    let mut bao = Elsewhere::openbao().await;
    rotator::check(&bao).await;
    faults::check(&mut bao, &faults::ALL).await;
    kept::an_incident_kills_it_at_the_server_and_clears_the_store(&bao).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_keeps_the_laws_and_meets_every_fault() {
    let mut moto = Elsewhere::aws(Maker::Moto).await;
    rotator::check(&moto).await;
    faults::check(&mut moto, &faults::ALL).await;
    kept::an_incident_kills_it_at_the_server_and_clears_the_store(&moto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_keeps_them_at_a_server_that_shares_no_code() {
    let mut ministack = Elsewhere::aws(Maker::Ministack).await;
    rotator::check(&ministack).await;
    faults::check(&mut ministack, &[faults::Fault::Lost, faults::Fault::Lie]).await;
    kept::an_incident_kills_it_at_the_server_and_clears_the_store(&ministack).await;
}
