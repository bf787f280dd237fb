//! Becomes another program for which some system calls do not exist, as on an older kernel, or under a filter of
//! somebody who does not know them: `keywheel-without CALL[,CALL…] PROGRAM [ARGUMENT…]`.
//!
//! What that program starts has the same filter. Owns the numbers of the calls that are tried; it runs in no product.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "whoever calls it reads why it did not")]

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use keywheel_sys::raw;

/// Calls and their numbers: since Linux 5.1 the same on every architecture.
const CALLS: [(&str, u32); 5] = [
    ("open_tree", 428),
    ("move_mount", 429),
    ("fsopen", 430),
    ("openat2", 437),
    ("mount_setattr", 442),
];
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const OFFSET_NUMBER: u32 = 0;
const ALLOW: u32 = 0x7fff_0000;
/// Answers ENOSYS.
const ABSENT: u32 = 0x0005_0000 | 38;

fn main() -> ExitCode {
    match become_another(std::env::args_os().skip(1).collect()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("keywheel-without: {error:#}");
            ExitCode::from(64)
        }
    }
}

fn become_another(words: Vec<OsString>) -> Result<std::convert::Infallible> {
    let [calls, program, arguments @ ..] = words.as_slice() else {
        bail!("usage: keywheel-without CALL[,CALL...] PROGRAM [ARGUMENT...]");
    };
    let calls = calls.to_str().context("calls are plain words")?;
    let numbers: Vec<u32> = calls.split(',').map(number).collect::<Result<_>>()?;
    raw::install_seccomp(&filter(&numbers)).context("the kernel takes no filter")?;
    let failed = Command::new(program).args(arguments).exec();
    Err(failed).with_context(|| format!("cannot become {}", program.to_string_lossy()))
}

fn number(name: &str) -> Result<u32> {
    let found = CALLS.iter().find(|(call, _)| *call == name);
    let (_, number) = found.with_context(|| format!("{name} is no call that is tried"))?;
    Ok(*number)
}

/// Everything else is allowed.
fn filter(numbers: &[u32]) -> Vec<(u16, u8, u8, u32)> {
    let checks = numbers
        .iter()
        .flat_map(|number| [(JUMP_EQUAL, 0, 1, *number), (RETURN, 0, 0, ABSENT)]);
    std::iter::once((LOAD, 0, 0, OFFSET_NUMBER))
        .chain(checks)
        .chain([(RETURN, 0, 0, ALLOW)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_answers_that_it_is_absent_and_all_others_are_allowed() -> Result<()> {
        let numbers = ["openat2", "open_tree"].map(number);
        let numbers: Vec<u32> = numbers.into_iter().collect::<Result<_>>()?;
        let expected: [(u16, u8, u8, u32); 6] = [
            (LOAD, 0, 0, 0),
            (JUMP_EQUAL, 0, 1, 437),
            (RETURN, 0, 0, ABSENT),
            (JUMP_EQUAL, 0, 1, 428),
            (RETURN, 0, 0, ABSENT),
            (RETURN, 0, 0, ALLOW),
        ];
        assert_eq!(filter(&numbers), expected);
        assert!(number("open").is_err());
        Ok(())
    }
}
