//! The system calls that the helper may make from the moment the foreign namespace is joined. Anything else kills.

use std::io;

use keywheel_sys::filter::{self, Allow};

const ALLOWED: [Allow<'static>; 22] = [
    Allow::Call(libc::SYS_openat),
    Allow::Call(libc::SYS_openat2),
    Allow::Call(libc::SYS_read),
    Allow::Call(libc::SYS_close),
    // The debug build of std asks whether a descriptor is open before it closes it.
    Allow::Call(libc::SYS_fcntl),
    Allow::Call(libc::SYS_fstat),
    Allow::Call(libc::SYS_newfstatat),
    Allow::Call(libc::SYS_statx),
    Allow::Call(libc::SYS_fstatfs),
    Allow::Call(libc::SYS_getdents64),
    Allow::Call(libc::SYS_mkdirat),
    Allow::Call(libc::SYS_move_mount),
    Allow::Call(libc::SYS_open_tree),
    Allow::Call(libc::SYS_mount_setattr),
    Allow::Call(libc::SYS_sendmsg),
    Allow::Call(libc::SYS_nanosleep),
    Allow::Call(libc::SYS_clock_nanosleep),
    // The end of a Rust program.
    Allow::Call(libc::SYS_sigaltstack),
    Allow::Call(libc::SYS_munmap),
    Allow::Call(libc::SYS_rt_sigreturn),
    Allow::Call(libc::SYS_exit),
    Allow::Call(libc::SYS_exit_group),
];

/// Installs the list.
pub(crate) fn install() -> io::Result<()> {
    filter::install(&ALLOWED)
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
}
