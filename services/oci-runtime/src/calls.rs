//! The system calls of the filtered half: files, its own memory, and connections within this machine. It starts
//! nothing, becomes nothing else, maps no code and knows no network.

use keywheel_sys::filter::Allow;

/// Bit of `mmap` and `mprotect` for memory that is run.
const FOR_CODE: u32 = libc::PROT_EXEC.cast_unsigned();
/// The one family of sockets.
const WITHIN: u32 = libc::AF_UNIX.cast_unsigned();

/// Calls with any arguments.
const ANY: &[i64] = &[
    // Files.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    // Connections.
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_ppoll,
    // Memory and waiting.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    // Who and when it is.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    // The end.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The same calls by their older names, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_poll,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// The list; a test that ends a program at a step (see `failpoint`) needs one more.
pub(crate) fn allowed(has_failpoints: bool) -> Vec<Allow> {
    let any = ANY.iter().chain(OLDER).copied();
    let to_end = has_failpoints.then_some(libc::SYS_kill);
    any.chain(to_end)
        .map(Allow::Call)
        .chain([
            Allow::Equal(libc::SYS_socket, 0, WITHIN),
            Allow::Without(libc::SYS_mmap, 2, FOR_CODE),
            Allow::Without(libc::SYS_mprotect, 2, FOR_CODE),
        ])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_starts_a_program_and_only_a_test_ends_one() {
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_setns,
            libc::SYS_bind,
            libc::SYS_kill,
        ] {
            assert!(!ANY.contains(&call) && !OLDER.contains(&call), "{call}");
        }
        let kills = |list: Vec<Allow>| {
            let is_it = |one: &Allow| matches!(one, Allow::Call(call) if *call == libc::SYS_kill);
            list.iter().any(is_it)
        };
        assert!(kills(allowed(true)) && !kills(allowed(false)));
    }
}
