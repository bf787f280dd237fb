//! Lookups while another thread swaps a path component for a symlink that leads outside.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{RenameFlags, renameat_with};

use super::*;

/// Lookups per run.
const LOOKUPS: u32 = 500_000;

fn scratch() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("keywheel-race-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("root/run/secrets")).unwrap();
    std::fs::create_dir_all(dir.join("outside/secrets")).unwrap();
    std::os::unix::fs::symlink(dir.join("outside"), dir.join("root/evil")).unwrap();
    std::os::unix::fs::symlink("../outside", dir.join("root/climb")).unwrap();
    dir
}

fn handle(path: &std::path::Path) -> OwnedFd {
    openat(CWD, path, DIR_FLAGS, Mode::empty()).unwrap()
}

#[test]
fn no_lookup_escapes_a_rename_storm() {
    let dir = scratch();
    let root = handle(&dir.join("root"));
    let inside = fstat(handle(&dir.join("root/run/secrets"))).unwrap().st_ino;
    let stop = Arc::new(AtomicBool::new(false));
    let storm = {
        let (root, stop) = (root.try_clone().unwrap(), stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for other in ["evil", "climb"] {
                    for _ in 0..2 {
                        renameat_with(&root, "run", &root, other, RenameFlags::EXCHANGE).unwrap();
                    }
                }
            }
        })
    };
    let (mut found, mut refused) = (0_u32, 0_u32);
    for _ in 0..LOOKUPS {
        match lookup(&root, b"/run/secrets", ResolveFlags::IN_ROOT) {
            Ok(fd) => {
                assert_eq!(fstat(&fd).unwrap().st_ino, inside, "escaped");
                found += 1;
            }
            Err(_) => refused += 1,
        }
    }
    stop.store(true, Ordering::Relaxed);
    storm.join().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    assert!(
        found > 0 && refused > 0,
        "no race took place: {found} found, {refused} refused"
    );
}

#[test]
fn creating_goes_one_pinned_component_at_a_time() {
    let dir = std::env::temp_dir().join(format!("keywheel-create-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("root")).unwrap();
    std::os::unix::fs::symlink("/", dir.join("root/link")).unwrap();
    let root = handle(&dir.join("root"));
    assert!(create(&root, b"/a/b/c").is_ok());
    assert!(create(&root, b"/a/b/c").is_ok());
    assert!(dir.join("root/a/b/c").is_dir());
    assert!(create(&root, b"/link/keywheel-escaped").is_err());
    assert!(!std::path::Path::new("/keywheel-escaped").exists());
    std::fs::remove_dir_all(dir).unwrap();
}
