//! The reserve on a small file system of its own, and its limits.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use super::*;
use crate::file::CHECKPOINT_PAGES;
use crate::tests::open;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::journal::{Decision, Journal};
use keywheel_testkit::conformance::journal::decision;
use keywheel_testkit::disk::settle;

/// Bytes of a page of SQLite.
const PAGE: u64 = 4096;
/// Size of the small file system.
const DISK: u64 = 64 << 20;

/// A file system in memory, mounted for one test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where the test may not mount.
    fn mount() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            tracing::warn!("skipped: only root can mount a small file system");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={DISK},mode=700");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(directory.path())
            .status();
        assert!(mount.unwrap().success());
        Some(Self(directory))
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("journal.db")
    }

    fn reserve(&self) -> Reserve {
        Reserve {
            path: reserve_path(&self.journal()),
            given_back: Arc::default(),
        }
    }

    /// Leaves this much room.
    fn fill(&self, left: u64) {
        settle(self.0.path());
        let filler = File::create(self.0.path().join("filler")).unwrap();
        let room = self.reserve().room();
        fallocate(&filler, FallocateFlags::empty(), 0, room - left).unwrap();
        assert_eq!(self.reserve().room(), left);
    }

    /// Gives back what [`fill`](Self::fill) took. Not by removing the file: a program that a
    /// neighbouring test starts just then holds it, and with it the room, until it is running.
    fn empty(&self) {
        let filler = File::create(self.0.path().join("filler")).unwrap();
        assert_eq!(filler.metadata().unwrap().len(), 0);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}

fn of(class: Class, n: u64) -> Decision {
    Decision {
        class,
        ..decision(n)
    }
}

#[test]
fn the_reserve_holds_a_checkpoint_of_the_log_and_more() {
    let checkpoint = CHECKPOINT_PAGES.parse::<u64>().unwrap() * PAGE;
    assert_eq!(RESERVE_BYTES, 32 << 20);
    assert_eq!(RECORD_FLOOR, 8 << 20);
    assert_eq!(REVOCATION_ROOM, 4 << 20);
    assert_eq!(RESTORE_HEADROOM, 8 << 20);
    assert!(RESERVE_BYTES >= checkpoint + RECORD_FLOOR + REVOCATION_ROOM);
    let alternates = |headroom: u64| headroom <= REVOCATION_ROOM;
    assert!(!alternates(RESTORE_HEADROOM));
}

#[tokio::test]
async fn the_reserve_is_allocated_beside_the_journal_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let journal = open(&path).await;
    let reserve = std::fs::metadata(reserve_path(&path)).unwrap();
    assert_eq!(reserve.len(), RESERVE_BYTES);
    assert!(reserve.blocks() * 512 >= RESERVE_BYTES, "not allocated");
    assert_eq!(reserve.permissions().mode() & 0o777, 0o600);
    assert!(!journal.is_reserve_in_use());
}

#[test]
fn zeros_take_the_room_where_nothing_can_be_allocated() {
    let mut file = tempfile::tempfile().unwrap();
    write_zeros(&file, RESERVE_BYTES).unwrap();
    file.flush().unwrap();
    let written = file.metadata().unwrap();
    assert_eq!(written.len(), RESERVE_BYTES);
    assert!(written.blocks() * 512 >= RESERVE_BYTES);
}

#[tokio::test]
async fn on_a_full_disk_the_reserve_is_for_all_but_new_work_until_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let journal = open(&disk.journal()).await;
    journal.append(1, &[of(Class::Work, 1)]).await.unwrap();
    disk.fill(0);
    let mut next = 2;
    // What the log has room for is still taken.
    let error = loop {
        match journal.append(next, &[of(Class::Work, next)]).await {
            Ok(_) => next += 1,
            Err(error) => break error,
        }
        assert!(next < 100_000, "the disk never got full");
    };
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(!journal.is_reserve_in_use(), "new work took the reserve");

    let mixed = [of(Class::Revocation, next), of(Class::Work, next + 1)];
    let error = journal.append(next, &mixed).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(
        !journal.is_reserve_in_use(),
        "a batch takes what its lowest may"
    );

    for class in [Class::Record, Class::Fact, Class::Revocation] {
        journal.append(next, &[of(class, next)]).await.unwrap();
        assert!(journal.is_reserve_in_use());
        next += 1;
    }
    let error = journal.append(next, &[of(Class::Work, next)]).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.text.contains("is full; free space"), "{}", error.text);

    disk.empty();
    journal.restore_reserve().await;
    assert!(!journal.is_reserve_in_use());
    journal
        .append(next, &[of(Class::Work, next)])
        .await
        .unwrap();
    let reserve = std::fs::metadata(&disk.reserve().path).unwrap();
    assert!(reserve.blocks() * 512 >= RESERVE_BYTES);
    assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test]
async fn a_revocation_makes_room_in_time_and_denials_leave_it_some() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let journal = open(&disk.journal()).await;
    disk.fill(REVOCATION_ROOM + (1 << 20));
    journal
        .append(1, &[of(Class::Revocation, 1)])
        .await
        .unwrap();
    assert!(!journal.is_reserve_in_use(), "there was room enough");
    disk.empty();
    disk.fill(REVOCATION_ROOM - PAGE);
    journal.append(2, &[of(Class::Fact, 2)]).await.unwrap();
    assert!(!journal.is_reserve_in_use(), "a fact is in no hurry");
    journal
        .append(3, &[of(Class::Revocation, 3)])
        .await
        .unwrap();
    assert!(journal.is_reserve_in_use());

    disk.empty();
    disk.fill(RECORD_FLOOR);
    let denied = journal.append(4, &[of(Class::Record, 4)]).await;
    denied.unwrap();
    disk.empty();
    disk.fill(RECORD_FLOOR - PAGE);
    let denied = journal.append(5, &[of(Class::Record, 5)]).await;
    assert_eq!(denied.unwrap_err().kind, ErrorKind::Unavailable);
    journal
        .append(5, &[of(Class::Revocation, 5)])
        .await
        .unwrap();
}

#[tokio::test]
async fn the_reserve_comes_back_with_headroom_and_a_full_disk_stops_no_start() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let journal = open(&disk.journal()).await;
    disk.fill(0);
    journal
        .append(1, &[of(Class::Revocation, 1)])
        .await
        .unwrap();
    journal.close().await.unwrap();
    disk.empty();
    disk.fill(RESERVE_BYTES / 2);
    let journal = open(&disk.journal()).await;
    assert!(journal.is_reserve_in_use(), "half of it is no reserve");
    disk.empty();
    disk.fill(RESERVE_BYTES + RESTORE_HEADROOM - PAGE);
    let work = journal.append(2, &[of(Class::Work, 2)]).await;
    assert_eq!(work.unwrap_err().kind, ErrorKind::Unavailable);
    disk.empty();
    disk.fill(RESERVE_BYTES + RESTORE_HEADROOM + PAGE);
    journal.append(2, &[of(Class::Work, 2)]).await.unwrap();
    assert!(!journal.is_reserve_in_use());
    let room = disk.reserve().room();
    assert!(
        room <= RESTORE_HEADROOM + PAGE,
        "the reserve is not allocated: {room}"
    );
}
