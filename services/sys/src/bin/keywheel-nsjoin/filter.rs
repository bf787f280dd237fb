//! The system call allow-list that holds from the moment the foreign namespace is joined. Anything else kills.

use std::io;

use keywheel_sys::raw;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
/// Numbers from here on are the x32 variants of the same calls.
const X32_START: u32 = 0x4000_0000;

/// Instructions of the program; the unused ones at its end kill.
const LENGTH: usize = 64;

const ALLOWED: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_read,
    libc::SYS_close,
    // The debug build of std asks whether a descriptor is open before it closes it.
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_sendmsg,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    // The end of a Rust program.
    libc::SYS_sigaltstack,
    libc::SYS_munmap,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Installs the list.
pub(crate) fn install() -> io::Result<()> {
    let mut program = [(RETURN, 0, 0, KILL); LENGTH];
    let head = [
        (LOAD, 0, 0, OFFSET_ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, ARCHITECTURE),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, OFFSET_NUMBER),
        (JUMP_GREATER_EQUAL, 0, 1, X32_START),
        (RETURN, 0, 0, KILL),
    ];
    let calls = ALLOWED
        .iter()
        .filter_map(|number| u32::try_from(*number).ok());
    let checks = calls.flat_map(|number| [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]);
    for (slot, instruction) in program.iter_mut().zip(head.into_iter().chain(checks)) {
        *slot = instruction;
    }
    raw::install_seccomp(&program)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    const THIS: &str = "filter::tests::a_call_outside_the_list_kills";
    const CHILD: &str = "KEYWHEEL_TEST_FILTERED";

    /// Starts itself again as a child that installs the list and does not survive it.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the child is told by a variable, which libtest leaves alone"
    )]
    fn a_call_outside_the_list_kills() {
        if std::env::var_os(CHILD).is_some() {
            super::install().unwrap();
            let _ = rustix::process::getppid();
            return;
        }
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", THIS, "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(31), "{status}");
    }

    #[test]
    fn the_program_holds_the_whole_list() {
        assert!(6 + 2 * super::ALLOWED.len() < super::LENGTH);
    }
}
