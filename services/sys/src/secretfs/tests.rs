//! Tests of secret file systems. They need root; without it they say so and stop, except in CI, where they fail.

#![allow(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests say aloud when they cannot run"
)]

mod sets;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::AtFlags;

use super::*;

const SIZE: u64 = 1024 * 1024;
const ATTR: FileAttr = FileAttr {
    uid: 1000,
    gid: 1001,
    mode: 0o440,
};

fn privileged() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(
        root || std::env::var_os("CI").is_none(),
        "these tests need root in CI"
    );
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}

fn both(test: impl Fn(FsKind)) {
    if !privileged() {
        return;
    }
    if probe().noswap {
        test(FsKind::TmpfsNoswap);
    }
    test(FsKind::Ramfs);
}

fn content(dir: &SecretDir, name: &str) -> Option<Vec<u8>> {
    let mut sink = Vec::new();
    dir.read_into(name, 1 << 20, &mut sink)
        .unwrap()
        .then_some(sink)
}

#[test]
fn replace_swaps_content_owner_and_mode() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        fs.dir().replace("db", b"one", ATTR).unwrap();
        fs.dir().replace("db", b"\0\xfftwo\n", ATTR).unwrap();
        assert_eq!(content(fs.dir(), "db").unwrap(), b"\0\xfftwo\n");
        let root = open_root(fs.dir());
        let found = rustix::fs::statat(&root, "db", AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert_eq!(
            (found.st_uid, found.st_gid, found.st_mode & 0o7777),
            (1000, 1001, 0o440)
        );
        assert_eq!(fs.dir().names().unwrap(), ["db"]);
        assert!(fs.dir().remove("db").unwrap());
        assert!(!fs.dir().remove("db").unwrap());
        assert_eq!(content(fs.dir(), "db"), None);
    });
}

fn open_root(dir: &SecretDir) -> OwnedFd {
    dir.duplicate().unwrap()
}

#[test]
fn empty_content_is_a_file_of_no_bytes() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        fs.dir().replace("empty", b"", ATTR).unwrap();
        assert_eq!(content(fs.dir(), "empty").unwrap(), b"");
    });
}

#[test]
fn the_visible_view_is_read_only_and_in_no_mount_table() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let error = rustix::fs::openat(fs.visible(), "x", flags, Mode::RUSR).unwrap_err();
        assert_eq!(error, Errno::ROFS);
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        assert!(!mounts.contains("keywheel-secrets"));
    });
}

#[test]
fn a_full_file_system_keeps_the_old_file_and_no_temp() {
    both(|kind| {
        let fs = SecretFs::create(kind, 16 * 4096).unwrap();
        fs.dir().replace("db", b"old", ATTR).unwrap();
        let error = fs
            .dir()
            .replace("db", &vec![7; 32 * 4096], ATTR)
            .unwrap_err();
        assert!(matches!(error, Error::Full), "{error}");
        assert_eq!(content(fs.dir(), "db").unwrap(), b"old");
        assert_eq!(fs.dir().sweep_temps().unwrap(), 0);
    });
}

#[test]
fn a_bound_set_later_holds_exactly() {
    both(|kind| {
        let dir = SecretFs::create(kind, SIZE)
            .unwrap()
            .into_dir()
            .bounded(100);
        dir.replace("a", &[1; 60], ATTR).unwrap();
        // The old file counts until the new one has taken its place.
        dir.replace("a", &[1; 40], ATTR).unwrap();
        assert!(matches!(dir.replace("b", &[1; 61], ATTR), Err(Error::Full)));
        dir.replace("b", &[1; 60], ATTR).unwrap();
    });
}

#[test]
fn a_file_system_takes_so_many_files_lists_them_all_and_is_full_then() {
    both(|kind| {
        // Every file takes a page of a tmpfs.
        let size = u64::from(MAX_INODES) * 2 * 4096;
        let dir = SecretFs::create(kind, size).unwrap().into_dir();
        let mut count = 0;
        let refused = loop {
            match dir.replace(&format!("file-{count}"), b"x", ATTR) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::Full), "{refused}");
        // The kernel counts the root as well.
        let most = MAX_INODES as usize;
        assert!((most - 2..=most).contains(&count), "{count} files");
        assert_eq!(dir.names().unwrap().len(), count);
        assert!(dir.remove("file-0").unwrap());
        dir.replace("another", b"x", ATTR).unwrap();
    });
}

#[test]
fn names_outside_the_grammar_are_refused() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        let longest = "a".repeat(128);
        fs.dir().replace(&longest, b"x", ATTR).unwrap();
        let longer = "a".repeat(129);
        for name in [
            "",
            ".",
            "..",
            ".kw-1",
            "a/b",
            "a b",
            "\u{e9}",
            longer.as_str(),
        ] {
            assert!(
                matches!(
                    fs.dir().replace(name, b"x", ATTR),
                    Err(Error::BadName { .. })
                ),
                "{name}"
            );
            assert!(
                matches!(fs.dir().remove(name), Err(Error::BadName { .. })),
                "{name}"
            );
        }
    });
}

#[test]
fn stale_temps_are_swept_and_never_listed() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        let root = open_root(fs.dir());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        rustix::fs::openat(&root, ".kw-99999999", flags, Mode::RUSR).unwrap();
        assert!(fs.dir().names().unwrap().is_empty());
        assert_eq!(fs.dir().sweep_temps().unwrap(), 1);
        assert_eq!(fs.dir().sweep_temps().unwrap(), 0);
    });
}

#[test]
fn verify_refuses_a_changed_root_and_other_file_systems() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        fs.dir().verify().unwrap();
        let root = open_root(fs.dir());
        let plain = rustix::fs::openat(&root, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .unwrap();
        rustix::fs::fchmod(&plain, Mode::from_raw_mode(0o777)).unwrap();
        assert!(matches!(fs.dir().verify(), Err(Error::NotSecretFs { .. })));
        let proc =
            rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let other = SecretDir::adopt(proc, None).unwrap();
        assert!(matches!(other.verify(), Err(Error::NotSecretFs { .. })));
    });
}

#[test]
fn a_file_over_the_read_limit_is_refused() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        fs.dir().replace("db", &[1; 11], ATTR).unwrap();
        let mut sink = Vec::new();
        assert!(fs.dir().read_into("db", 11, &mut sink).unwrap());
        assert!(matches!(
            fs.dir().read_into("db", 10, &mut sink),
            Err(Error::TooLarge { .. })
        ));
    });
}

#[test]
fn the_route_for_older_kernels_gives_the_same_two_views() {
    if !privileged() {
        return;
    }
    let kind = probe().best_kind();
    let mount = detached_mount(
        kind,
        SIZE,
        wire::SECRETS_SOURCE,
        "0755",
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
    .unwrap();
    let (visible, writable) = split_in_private_namespace(mount).unwrap();
    clear_read_only(writable.as_fd()).unwrap();
    let dir = SecretDir::adopt(writable, None).unwrap();
    dir.replace("db", b"x", ATTR).unwrap();
    let found = rustix::fs::statat(&visible, "db", AtFlags::empty()).unwrap();
    assert_eq!(found.st_size, 1);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    assert_eq!(
        rustix::fs::openat(&visible, "y", flags, Mode::RUSR).unwrap_err(),
        Errno::ROFS
    );
    assert!(
        !std::fs::read_to_string("/proc/mounts")
            .unwrap()
            .contains("keywheel-secrets")
    );
}

#[test]
fn a_reader_never_sees_a_torn_or_missing_file() {
    both(|kind| {
        let fs = SecretFs::create(kind, 4 * SIZE).unwrap();
        let values = [vec![b'a'; 60_000], vec![b'b'; 60_000]];
        fs.dir().replace("db", &values[0], ATTR).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let reader = {
            let (stop, view) = (stop.clone(), open_root(fs.dir()));
            let dir = SecretDir::adopt(view, None).unwrap();
            std::thread::spawn(move || {
                let mut reads = 0_u32;
                // A busy machine may let it begin when all was replaced.
                while !stop.load(std::sync::atomic::Ordering::Relaxed) || reads == 0 {
                    let seen = content(&dir, "db").expect("never missing");
                    assert_eq!(seen.len(), 60_000);
                    assert!(seen.iter().all(|byte| *byte == seen[0]), "torn");
                    reads += 1;
                }
            })
        };
        for round in 0..2000 {
            fs.dir().replace("db", &values[round % 2], ATTR).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn the_private_mount_is_idempotent_root_only_and_goes_away() {
    if !privileged() {
        return;
    }
    let path = std::env::temp_dir().join(format!("keywheel-private-{}", std::process::id()));
    for _ in 0..2 {
        mount_private_tmpfs(&path, SIZE).unwrap();
    }
    assert!(is_private(&path).unwrap());
    assert!(lies_in_memory(&path).unwrap());
    let inner = path.join("inner");
    std::fs::create_dir(&inner).unwrap();
    assert!(!is_private(&inner).unwrap());
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o700);
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert_eq!(
        mounts
            .lines()
            .filter(|line| line.contains(path.to_str().unwrap()))
            .count(),
        1
    );
    unmount_private(&path).unwrap();
    unmount_private(&path).unwrap();
    assert!(!is_private(&path).unwrap());
    std::fs::remove_dir(&path).unwrap();
}

#[test]
fn features_are_found_by_trying() {
    if !privileged() {
        return;
    }
    let features = probe();
    assert!(features.can_inject());
    let made = SecretFs::create(FsKind::TmpfsNoswap, SIZE).is_ok();
    assert_eq!(features.noswap, made);
}

#[test]
fn what_is_missing_is_told_by_its_name_and_by_what_it_is_needed_for() {
    let all = Features {
        noswap: true,
        mount_setattr: true,
        openat2: true,
        fsopen: true,
        move_mount: true,
        open_tree: true,
    };
    assert!(all.can_inject());
    let without_noswap = Features {
        noswap: false,
        ..all
    };
    assert!(without_noswap.can_inject(), "ramfs is there");
    let without_files = Features {
        openat2: false,
        open_tree: false,
        ..all
    };
    assert_eq!(without_files.missing_for_files(), ["openat2", "open_tree"]);
    assert!(without_files.missing_to_start().is_empty() && !without_files.can_inject());
    let without_mounts = Features {
        fsopen: false,
        move_mount: false,
        mount_setattr: false,
        ..all
    };
    let expected = ["fsopen", "move_mount", "mount_setattr"];
    assert_eq!(without_mounts.missing_to_start(), expected);
    assert!(without_mounts.missing_for_files().is_empty() && !without_mounts.can_inject());
}
