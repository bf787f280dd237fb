//! Allow-lists of system calls: a call that is not on the list kills the program.
//!
//! Owns the form of the filter; which calls a program needs is the program's own list. Nothing is allocated.

use std::io;

use crate::raw;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
/// Where the lower half of a call's first argument is; each has 8 bytes.
const OFFSET_ARGUMENTS: u32 = 16;
/// Numbers from here on are the x32 variants of the same calls.
const X32_START: u32 = 0x4000_0000;

/// Most instructions of a filter.
pub const MAX_INSTRUCTIONS: usize = 256;

/// Code, how far to jump if so and if not, operand.
type Instruction = (u16, u8, u8, u32);

/// A call that is allowed.
#[derive(Clone, Copy, Debug)]
pub enum Allow {
    /// With any arguments.
    Call(i64),
    /// If one argument (counted from 0, its lower 32 bits) has this value.
    Equal(i64, u32, u32),
    /// If one argument has none of these bits.
    Without(i64, u32, u32),
}

impl Allow {
    fn number(self) -> i64 {
        match self {
            Self::Call(number) | Self::Equal(number, ..) | Self::Without(number, ..) => number,
        }
    }

    /// Returns for its own call, and falls through, with the number still loaded, for every other.
    fn instructions(self) -> ([Instruction; 5], usize) {
        let unused = (RETURN, 0, 0, KILL);
        let Ok(number) = u32::try_from(self.number()) else {
            return ([unused; 5], 0);
        };
        let load = |argument: u32| (LOAD, 0, 0, OFFSET_ARGUMENTS + 8 * argument);
        let (allow, kill) = ((RETURN, 0, 0, ALLOW), (RETURN, 0, 0, KILL));
        match self {
            Self::Call(_) => {
                let all = [(JUMP_EQUAL, 0, 1, number), allow, unused, unused, unused];
                (all, 2)
            }
            Self::Equal(_, argument, value) => {
                let is_it = (JUMP_EQUAL, 0, 4, number);
                let all = [
                    is_it,
                    load(argument),
                    (JUMP_EQUAL, 0, 1, value),
                    allow,
                    kill,
                ];
                (all, 5)
            }
            Self::Without(_, argument, bits) => {
                let is_it = (JUMP_EQUAL, 0, 4, number);
                let all = [
                    is_it,
                    load(argument),
                    (JUMP_ANY_BIT, 1, 0, bits),
                    allow,
                    kill,
                ];
                (all, 5)
            }
        }
    }
}

/// Installs a filter for good: these calls and no other.
pub fn install(allowed: &[Allow]) -> io::Result<()> {
    let mut program = [(RETURN, 0, 0, KILL); MAX_INSTRUCTIONS];
    let length = write(allowed, &mut program)?;
    let program = program.get(..length);
    raw::install_seccomp(program.ok_or(io::ErrorKind::InvalidInput)?)
}

/// How many instructions they are, the last of which kills.
fn write(allowed: &[Allow], program: &mut [Instruction]) -> io::Result<usize> {
    let head = [
        (LOAD, 0, 0, OFFSET_ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, ARCHITECTURE),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, OFFSET_NUMBER),
        (JUMP_GREATER_EQUAL, 0, 1, X32_START),
        (RETURN, 0, 0, KILL),
    ];
    let checks = allowed.iter().flat_map(|one| {
        let (all, count) = one.instructions();
        all.into_iter().take(count)
    });
    let all = head.into_iter().chain(checks).chain([(RETURN, 0, 0, KILL)]);
    let mut length = 0;
    for instruction in all {
        let slot = program.get_mut(length).ok_or(io::ErrorKind::InvalidInput)?;
        *slot = instruction;
        length += 1;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use rustix::net::{AddressFamily, SocketType, socket};

    use super::*;

    const CHILD: &str = "KEYWHEEL_TEST_FILTER";
    const SIGSYS: i32 = 31;

    /// What a filter that knows sockets within this machine, and memory without code, makes of a call.
    fn judged() -> Vec<Allow> {
        let all = [
            libc::SYS_write,
            libc::SYS_close,
            libc::SYS_fcntl,
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_brk,
            libc::SYS_madvise,
            libc::SYS_futex,
            libc::SYS_sigaltstack,
            libc::SYS_sched_getaffinity,
            libc::SYS_exit,
            libc::SYS_exit_group,
        ];
        let mut all: Vec<Allow> = all.into_iter().map(Allow::Call).collect();
        let within = u32::from(AddressFamily::UNIX.as_raw());
        all.push(Allow::Equal(libc::SYS_socket, 0, within));
        all.push(Allow::Without(libc::SYS_mmap, 2, 4));
        all
    }

    /// What becomes of this program, started once more, which installs the filter and does one thing.
    #[expect(
        clippy::disallowed_methods,
        reason = "the child is told by a variable, which libtest leaves alone"
    )]
    fn outcome(test: &str, act: impl FnOnce()) -> Option<Option<i32>> {
        if std::env::var_os(CHILD).is_some() {
            install(&judged()).unwrap();
            act();
            // Libtest makes calls of its own.
            std::process::exit(0);
        }
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap()
            .status;
        assert!(status.success() || status.signal().is_some(), "{status}");
        Some(status.signal())
    }

    #[test]
    fn a_socket_within_this_machine_is_allowed() {
        let name = "filter::tests::a_socket_within_this_machine_is_allowed";
        let act = || drop(socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap());
        assert_eq!(outcome(name, act), Some(None));
    }

    #[test]
    fn a_socket_of_the_network_kills() {
        let name = "filter::tests::a_socket_of_the_network_kills";
        let act = || drop(socket(AddressFamily::INET, SocketType::STREAM, None));
        assert_eq!(outcome(name, act), Some(Some(SIGSYS)));
    }

    #[test]
    fn memory_is_allowed() {
        let name = "filter::tests::memory_is_allowed";
        let act = || drop(std::hint::black_box(vec![1_u8; 8 << 20]));
        assert_eq!(outcome(name, act), Some(None));
    }

    #[test]
    fn memory_for_code_kills() {
        let name = "filter::tests::memory_for_code_kills";
        let act = || raw::map_code();
        assert_eq!(outcome(name, act), Some(Some(SIGSYS)));
    }

    #[test]
    fn a_call_outside_the_list_kills() {
        let name = "filter::tests::a_call_outside_the_list_kills";
        let act = || {
            let _ = rustix::process::getppid();
        };
        assert_eq!(outcome(name, act), Some(Some(SIGSYS)));
    }

    #[test]
    fn a_list_that_does_not_fit_is_refused() {
        let mut program = [(RETURN, 0, 0, KILL); MAX_INSTRUCTIONS];
        let most = (MAX_INSTRUCTIONS - 7) / 2;
        let fits = vec![Allow::Call(1); most];
        assert_eq!(write(&fits, &mut program).unwrap(), 7 + 2 * most);
        assert!(write(&vec![Allow::Call(1); most + 1], &mut program).is_err());
    }
}
