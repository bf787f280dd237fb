//! The system calls of the filtered half: files, its own memory, and connections within this machine. By itself it
//! starts no program, becomes none, maps no code, signals nobody and opens no socket of the network. What its files
//! and connections are is not judged here.

use std::io;

use keywheel_sys::filter::{self, Allow};
use rustix::process::{Pid, getpid};

/// Bit of `mmap` and `mprotect` for memory that is run.
const FOR_CODE: u32 = libc::PROT_EXEC.cast_unsigned();
/// The one family of sockets.
const WITHIN: [u32; 1] = [libc::AF_UNIX.cast_unsigned()];
/// What is asked of a descriptor; never to whom it sends signals.
const OF_DESCRIPTOR: [u32; 4] = [
    libc::F_GETFD.cast_unsigned(),
    libc::F_SETFD.cast_unsigned(),
    libc::F_GETFL.cast_unsigned(),
    libc::F_DUPFD_CLOEXEC.cast_unsigned(),
];

/// Calls with any arguments.
const ANY: &[i64] = &[
    // Files.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
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
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
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
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Installs the list. A test that ends both halves at a step (see `failpoint`) needs one more call.
pub(crate) fn install(outer: Pid, has_failpoints: bool) -> io::Result<()> {
    let number = |pid: Pid| pid.as_raw_pid().cast_unsigned();
    let itself = [number(getpid())];
    let both = [number(getpid()), number(outer)];
    let mut all: Vec<Allow<'_>> = ANY.iter().chain(OLDER).copied().map(Allow::Call).collect();
    all.extend([
        Allow::OneOf(libc::SYS_socket, 0, &WITHIN),
        Allow::OneOf(libc::SYS_fcntl, 1, &OF_DESCRIPTOR),
        Allow::Without(libc::SYS_mmap, 2, FOR_CODE),
        Allow::Without(libc::SYS_mprotect, 2, FOR_CODE),
        // An abort is told as one.
        Allow::OneOf(libc::SYS_tgkill, 0, &itself),
    ]);
    if has_failpoints {
        all.push(Allow::OneOf(libc::SYS_kill, 0, &both));
    }
    filter::install(&all)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use rustix::net::{AddressFamily, SocketType, socket};
    use rustix::process::{Signal, getppid, kill_process};

    use super::*;

    const CHILD: &str = "KEYWHEEL_TEST_CALLS";
    const THIS: &str = "calls::tests::nothing_else_is_allowed_and_what_is_needed_is";
    const SIGSYS: i32 = 31;
    const SIGABRT: i32 = 6;
    const SIGKILL: i32 = 9;

    fn act(name: &str) {
        let parent = getppid().unwrap();
        let within = || socket(AddressFamily::UNIX, SocketType::STREAM, None);
        install(parent, name == "armed").unwrap();
        match name {
            "within" => drop(within().unwrap()),
            "files" => {
                let dir =
                    std::env::temp_dir().join(format!("keywheel-calls-{}", parent.as_raw_pid()));
                std::fs::create_dir(&dir).unwrap();
                std::fs::write(dir.join("a"), "b").unwrap();
                std::fs::rename(dir.join("a"), dir.join("c")).unwrap();
                assert_eq!(std::fs::read_to_string(dir.join("c")).unwrap(), "b");
                std::fs::canonicalize(dir.join("c")).unwrap();
                std::fs::remove_dir_all(&dir).unwrap();
            }
            "armed" => kill_process(getpid(), Signal::KILL).unwrap(),
            "abort" => std::process::abort(),
            "network" => drop(socket(AddressFamily::INET, SocketType::STREAM, None)),
            "program" => drop(Command::new("/bin/true").status()),
            "kill" => drop(kill_process(parent, Signal::CONT)),
            _ => unreachable!(),
        }
        std::process::exit(0)
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the child is told by a variable, which libtest leaves alone"
    )]
    fn nothing_else_is_allowed_and_what_is_needed_is() {
        if let Ok(name) = std::env::var(CHILD) {
            act(&name);
        }
        for (name, signal) in [
            ("within", None),
            ("files", None),
            ("armed", Some(SIGKILL)),
            ("abort", Some(SIGABRT)),
            ("network", Some(SIGSYS)),
            ("program", Some(SIGSYS)),
            ("kill", Some(SIGSYS)),
        ] {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child
                .args(["--exact", THIS, "--test-threads=1"])
                .env(CHILD, name);
            let said = child.output().unwrap();
            assert_eq!(said.status.signal(), signal, "{name}: {said:?}");
            assert!(
                signal.is_some() || said.status.success(),
                "{name}: {said:?}"
            );
        }
    }
}
