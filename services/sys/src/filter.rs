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

/// A call that is allowed. Each call may be named once.
#[derive(Clone, Copy, Debug)]
pub enum Allow<'a> {
    /// With any arguments.
    Call(i64),
    /// If one argument (counted from 0, its lower 32 bits) is among these.
    OneOf(i64, u32, &'a [u32]),
    /// If one argument has none of these bits.
    Without(i64, u32, u32),
}

impl Allow<'_> {
    fn number(self) -> i64 {
        match self {
            Self::Call(number) | Self::OneOf(number, ..) | Self::Without(number, ..) => number,
        }
    }

    /// Returns for its own call, and falls through, with the number still loaded, for every other.
    fn put(self, program: &mut Program<'_>) -> io::Result<()> {
        let unfit = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let number = u32::try_from(self.number()).map_err(unfit)?;
        let load = |argument: u32| (LOAD, 0, 0, OFFSET_ARGUMENTS + 8 * argument);
        let (allow, kill) = ((RETURN, 0, 0, ALLOW), (RETURN, 0, 0, KILL));
        match self {
            Self::Call(_) => {
                program.put((JUMP_EQUAL, 0, 1, number))?;
                program.put(allow)
            }
            Self::OneOf(_, argument, values) => {
                let count = u8::try_from(values.len()).map_err(unfit)?;
                let over = count.checked_add(3).ok_or(io::ErrorKind::InvalidInput)?;
                program.put((JUMP_EQUAL, 0, over, number))?;
                program.put(load(argument))?;
                for (left, value) in (1..=count).rev().zip(values) {
                    program.put((JUMP_EQUAL, left, 0, *value))?;
                }
                program.put(kill)?;
                program.put(allow)
            }
            Self::Without(_, argument, bits) => {
                program.put((JUMP_EQUAL, 0, 4, number))?;
                program.put(load(argument))?;
                program.put((JUMP_ANY_BIT, 1, 0, bits))?;
                program.put(allow)?;
                program.put(kill)
            }
        }
    }
}

/// A filter that is being written.
struct Program<'a> {
    slots: &'a mut [Instruction],
    length: usize,
}

impl Program<'_> {
    fn put(&mut self, instruction: Instruction) -> io::Result<()> {
        let slot = self.slots.get_mut(self.length);
        *slot.ok_or(io::ErrorKind::InvalidInput)? = instruction;
        self.length += 1;
        Ok(())
    }
}

/// Installs a filter for good: these calls and no other.
pub fn install(allowed: &[Allow<'_>]) -> io::Result<()> {
    let mut slots = [(RETURN, 0, 0, KILL); MAX_INSTRUCTIONS];
    let length = write(allowed, &mut slots)?;
    raw::install_seccomp(slots.get(..length).ok_or(io::ErrorKind::InvalidInput)?)
}

/// How many instructions they are, the last of which kills.
fn write(allowed: &[Allow<'_>], slots: &mut [Instruction]) -> io::Result<usize> {
    let mut program = Program { slots, length: 0 };
    for instruction in [
        (LOAD, 0, 0, OFFSET_ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, ARCHITECTURE),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, OFFSET_NUMBER),
        (JUMP_GREATER_EQUAL, 0, 1, X32_START),
        (RETURN, 0, 0, KILL),
    ] {
        program.put(instruction)?;
    }
    for (at, one) in allowed.iter().enumerate() {
        let is_named = |other: &&Allow<'_>| other.number() == one.number();
        // The first one would judge every such call.
        if allowed.iter().take(at).any(|other| is_named(&other)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        one.put(&mut program)?;
    }
    program.put((RETURN, 0, 0, KILL))?;
    Ok(program.length)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use rustix::net::{AddressFamily, SocketType, socket};

    use super::*;

    const CHILD: &str = "KEYWHEEL_TEST_FILTER";
    const SIGSYS: i32 = 31;
    const WITHIN: [u32; 1] = [libc::AF_UNIX.cast_unsigned()];

    /// What a filter that knows sockets within this machine, and memory without code, makes of a call.
    fn judged() -> Vec<Allow<'static>> {
        let all = [
            libc::SYS_write,
            libc::SYS_close,
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
        let mut all: Vec<Allow<'_>> = all.into_iter().map(Allow::Call).collect();
        all.push(Allow::OneOf(libc::SYS_socket, 0, &WITHIN));
        // F_DUPFD, F_GETFD and F_GETFL.
        all.push(Allow::OneOf(libc::SYS_fcntl, 1, &[0, 1, 3]));
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
    fn each_of_several_arguments_is_allowed() {
        let name = "filter::tests::each_of_several_arguments_is_allowed";
        let act = || {
            let first = std::io::stdout();
            rustix::io::fcntl_getfd(&first).unwrap();
            rustix::fs::fcntl_getfl(&first).unwrap();
        };
        assert_eq!(outcome(name, act), Some(None));
    }

    #[test]
    fn an_argument_that_is_not_among_them_kills() {
        let name = "filter::tests::an_argument_that_is_not_among_them_kills";
        let act = || {
            let _ = rustix::io::fcntl_setfd(std::io::stdout(), rustix::io::FdFlags::CLOEXEC);
        };
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
    fn a_list_that_does_not_fit_or_names_a_call_twice_is_refused() {
        let mut slots = [(RETURN, 0, 0, KILL); MAX_INSTRUCTIONS];
        let most = (MAX_INSTRUCTIONS - 7) / 2;
        let list = |count: usize| -> Vec<Allow<'_>> {
            let numbers = (0..count).filter_map(|number| i64::try_from(number).ok());
            numbers.map(Allow::Call).collect()
        };
        assert_eq!(write(&list(most), &mut slots).unwrap(), 7 + 2 * most);
        assert!(write(&list(most + 1), &mut slots).is_err());
        let twice = [Allow::Call(1), Allow::OneOf(1, 0, &[2])];
        assert!(write(&twice, &mut slots).is_err());
    }
}
