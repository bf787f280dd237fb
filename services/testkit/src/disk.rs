//! Small file systems in memory (tmpfs), which tests fill to the last byte.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::statvfs;

/// How often room is looked for, and the time between.
const LOOKS: usize = 3000;
const BETWEEN: Duration = Duration::from_millis(20);
/// In what the kernel counts what a file takes.
const BLOCK: u64 = 512;

/// Waits until nothing but the files at the root of a tmpfs takes room there. What a test beside this one has just
/// started holds all that is open here, and with it the room of what was removed, until its own program begins.
///
/// # Panics
/// When the room does not come back, or there is no such file system.
pub fn settle(root: &Path) {
    for _ in 0..LOOKS {
        if taken(root) <= of_files(root) {
            return;
        }
        std::thread::sleep(BETWEEN);
    }
    panic!(
        "{} bytes are taken at {}, and {} by the files there",
        taken(root),
        root.display(),
        of_files(root)
    );
}

fn taken(root: &Path) -> u64 {
    let room = statvfs(root).expect("a file system");
    (room.f_blocks - room.f_bfree) * room.f_frsize
}

fn of_files(root: &Path) -> u64 {
    let entries = std::fs::read_dir(root).expect("a directory");
    // One that goes meanwhile takes nothing.
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    files.map(|file| file.blocks()).sum::<u64>() * BLOCK
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_a_child_holds_of_a_removed_file_is_waited_for() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let root = std::env::temp_dir().join(format!("keywheel-disk-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(&root)
            .status();
        assert!(mount.unwrap().success());
        std::fs::write(root.join("stays"), "x").unwrap();
        std::fs::write(root.join("goes"), vec![1; 100_000]).unwrap();
        let held = File::open(root.join("goes")).unwrap();
        std::fs::remove_file(root.join("goes")).unwrap();
        let before = taken(&root);
        let begun = std::thread::spawn(move || {
            std::thread::sleep(BETWEEN * 3);
            drop(held);
        });
        settle(&root);
        let after = taken(&root);
        begun.join().unwrap();
        let unmount = Command::new("umount").arg("--lazy").arg(&root).status();
        assert!(unmount.unwrap().success());
        std::fs::remove_dir(&root).unwrap();
        assert!(before > 100_000 && after < 10_000, "{before}, {after}");
    }
}
