//! Programs that a test makes and runs.
//!
//! Each is written by a process of its own. What a test beside this one starts meanwhile would have a file of ours open
//! for writing until its own program begins, and the kernel runs no such file ("Text file busy").

use std::path::Path;
use std::process::Command;

/// Writes a script, and whoever looks for it may run it at once.
///
/// # Panics
/// When it cannot be written.
pub fn write(path: &Path, text: &str) {
    let mut write = Command::new("sh");
    write
        .args(["-c", "printf '%s' \"$1\" >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .arg(text);
    run(&mut write, path);
}

/// Copies a program, and whoever looks for the copy may run it at once.
///
/// # Panics
/// When it cannot be copied.
pub fn copy(program: &Path, path: &Path) {
    run(Command::new("cp").args([program, path]), path);
}

fn run(command: &mut Command, path: &Path) {
    let done = command.status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "cannot make {}",
        path.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_run_at_once_though_others_start_programs_meanwhile() {
        const ROUNDS: usize = 50;
        let name = format!("keywheel-executable-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let begin = || {
            for _ in 0..ROUNDS {
                assert!(Command::new("true").status().unwrap().success());
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(begin);
            }
            for round in 0..ROUNDS {
                let script = folder.join(format!("script-{round}"));
                write(&script, "#!/bin/sh\necho \"it's 100% $1\"\n");
                let said = Command::new(&script).arg("so").output().unwrap();
                assert_eq!(said.stdout, b"it's 100% so\n");
                let copied = folder.join(format!("copy-{round}"));
                copy(&script, &copied);
                assert!(Command::new(&copied).status().unwrap().success());
            }
        });
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
