//! System calls that rustix does not wrap. The only `unsafe` of the workspace.
//!
//! Each function passes only integers and pointers to memory that outlives the call. None keeps a pointer.
#![expect(unsafe_code, reason = "system calls without a safe wrapper in rustix")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

pub mod pages;

/// Bytes of `struct mount_attr`, version 0.
const MOUNT_ATTR_LEN: usize = 32;
/// Propagation type "private" of `mount_setattr`.
pub const PROPAGATION_PRIVATE: u64 = libc::MS_PRIVATE;

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sets and clears attributes of the mount that `mount` is the root of.
pub fn mount_setattr(
    mount: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    propagation: u64,
) -> io::Result<()> {
    let attributes: [u64; 4] = [set, clear, propagation, 0];
    // SAFETY: the path is a NUL-terminated constant, `attributes` is 32 bytes and lives through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            MOUNT_ATTR_LEN,
        )
    };
    check(result)
}

/// Sends `signal` (0: only checks that the process exists) through a pidfd.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the third argument may be null; nothing else is a pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    check(result)
}

/// Closes every file descriptor at or above 3. Call it before this program has opened one.
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: only integers are passed. The caller holds no descriptor yet, so none of its owners is invalidated.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, libc::c_uint::MAX, 0_u32) };
    check(result)
}

/// Closes every file descriptor at or above 3 but two. Call it where this program owns no other.
pub fn close_all_but(kept: [BorrowedFd<'_>; 2]) -> io::Result<()> {
    let mut kept = kept.map(|fd| fd.as_raw_fd().cast_unsigned());
    kept.sort_unstable();
    let [first, second] = kept;
    for (from, to) in [
        (3, first.saturating_sub(1)),
        (first.saturating_add(1), second.saturating_sub(1)),
        (second.saturating_add(1), libc::c_uint::MAX),
    ] {
        if from > to {
            continue;
        }
        // SAFETY: only integers are passed. The caller owns nothing but what is left out.
        let result = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0_u32) };
        check(result)?;
    }
    Ok(())
}

/// Asks the kernel to end this program with SIGALRM after `seconds`.
pub fn alarm(seconds: u32) {
    // SAFETY: no pointer, cannot fail.
    unsafe { libc::alarm(seconds) };
}

/// Detaches the calling thread's mount namespace and root from the rest of the program.
///
/// Only for a thread of its own that ends soon afterwards.
pub fn unshare_thread_mounts() -> io::Result<()> {
    // SAFETY: no pointer; affects only the calling thread (CLONE_NEWNS implies CLONE_FS).
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    check(result.into())
}

/// `keyctl` operations and special keyrings (`linux/keyctl.h`).
const KEYCTL_UNLINK: libc::c_long = 9;
const KEYCTL_LINK: libc::c_long = 8;
const KEYCTL_SEARCH: libc::c_long = 10;
const KEYCTL_READ: libc::c_long = 11;
const THREAD_KEYRING: libc::c_long = -1;
const USER_KEYRING: libc::c_long = -4;

/// Makes the calling thread possess what hangs on its user's keyring, until the thread ends.
pub fn possess_user_keyring() -> io::Result<()> {
    // SAFETY: only integers are passed.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_LINK, USER_KEYRING, THREAD_KEYRING) };
    check(result)
}

/// Puts a key of type "user" onto the user's keyring; one of the same name gets the new payload.
pub fn add_user_key(name: &CStr, payload: &[u8]) -> io::Result<()> {
    // SAFETY: both strings are NUL-terminated, `payload` is valid for its length, all outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            name.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            USER_KEYRING,
        )
    };
    check(result)
}

/// Finds a key of type "user" on the user's keyring.
pub fn search_user_key(name: &CStr) -> io::Result<libc::c_long> {
    // SAFETY: both strings are NUL-terminated and outlive the call; the rest are integers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_SEARCH,
            USER_KEYRING,
            c"user".as_ptr(),
            name.as_ptr(),
            0_i64,
        )
    };
    check(result).map(|()| result)
}

/// Reads a key's payload into `buffer`; how long it is, which may be more than fits.
pub fn read_key(key: libc::c_long, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buffer` is valid for writes of its length and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_READ,
            key,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    check(result)?;
    usize::try_from(result).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Takes a key off the user's keyring.
pub fn unlink_user_key(key: libc::c_long) -> io::Result<()> {
    // SAFETY: only integers are passed.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_UNLINK, key, USER_KEYRING) };
    check(result)
}

/// Of the GNU C library's allocator (`malloc.h`): how many arenas there may be.
pub const ARENA_MAX: libc::c_int = -8;
/// From how many bytes on a block is a mapping of its own.
pub const MMAP_THRESHOLD: libc::c_int = -3;
/// From how many free bytes on the end of the heap goes back.
pub const TRIM_THRESHOLD: libc::c_int = -1;

/// Sets one of them; `false` when it does not hear it.
pub fn set_allocator(setting: libc::c_int, value: libc::c_int) -> bool {
    #[cfg(target_env = "gnu")]
    // SAFETY: only integers are passed; glibc takes its own lock.
    let is_set = unsafe { libc::mallopt(setting, value) } == 1;
    #[cfg(not(target_env = "gnu"))]
    let is_set = {
        let _ = (setting, value);
        false
    };
    is_set
}

/// Drops this program's view of its code, in the file and in libraries: what is run again is mapped again,
/// from the page cache or the file.
pub fn forget_code() -> io::Result<()> {
    for mapping in std::fs::read_to_string("/proc/self/maps")?.lines() {
        if let Some((start, length)) = code(mapping) {
            // SAFETY: the pages are a file's, private and not writable, and the loader relocates no code (a
            // linker refuses that), so they are the same when they come back. Nothing here unloads a library,
            // so the range is still that file's.
            let result = unsafe {
                libc::madvise(
                    std::ptr::without_provenance_mut(start),
                    length,
                    libc::MADV_DONTNEED,
                )
            };
            check(result.into())?;
        }
    }
    Ok(())
}

/// Where a line of the table of mappings has code of a file, and how much.
fn code(mapping: &str) -> Option<(usize, usize)> {
    let mut fields = mapping.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    let is_code = fields.next()? == "r-xp";
    let inode = fields.nth(2)?;
    (is_code && inode != "0").then(|| (start, end.saturating_sub(start)))
}

/// Has it give back whole free pages.
pub fn trim_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointer; glibc takes its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Overwrites `bytes` with zeros in a way the compiler may not remove.
pub fn wipe(bytes: &mut [u8]) {
    for byte in bytes.iter_mut() {
        // SAFETY: `byte` is a valid, exclusive reference.
        unsafe { std::ptr::write_volatile(byte, 0) };
    }
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// Installs a seccomp filter (`instructions` = classic BPF as code, jump-true, jump-false, operand) for good.
pub fn install_seccomp(instructions: &[(u16, u8, u8, u32)]) -> io::Result<()> {
    const MAX: usize = crate::filter::MAX_INSTRUCTIONS;
    let mut program = [libc::sock_filter {
        code: 0,
        jt: 0,
        jf: 0,
        k: 0,
    }; MAX];
    let Some(slots) = program.get_mut(..instructions.len()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    for (slot, &(code, jt, jf, k)) in slots.iter_mut().zip(instructions) {
        *slot = libc::sock_filter { code, jt, jf, k };
    }
    let length = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points at `length` initialised instructions in `program`, which lives through the call.
    let result = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::c_ulong::from(libc::SECCOMP_MODE_FILTER),
            &raw const filter,
        )
    };
    check(result.into())
}

/// Makes a second program of this one, which goes on from here as well; its number, or `None` in the second one.
///
/// Refused where there is more than one thread: the others would be missing in the second one, with the locks that
/// they held.
pub fn fork() -> io::Result<Option<i32>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("this program has more than one thread"));
    }
    // SAFETY: there is no other thread, so nothing that the second one finds is half done.
    let pid = unsafe { libc::fork() };
    check(pid.into())?;
    Ok((pid > 0).then_some(pid))
}

/// Maps one page for code, which a filter may forbid.
#[cfg(test)]
pub(crate) fn map_code() {
    let (any, rights) = (std::ptr::null_mut(), libc::PROT_READ | libc::PROT_EXEC);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a mapping of its own, which nothing uses.
    unsafe { libc::mmap(any, 4096, rights, flags, -1, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_program_of_several_threads_is_not_doubled() {
        let (end, ended) = std::sync::mpsc::sync_channel::<()>(1);
        let other = std::thread::spawn(move || ended.recv());
        let refused = fork().unwrap_err();
        drop(end);
        assert!(other.join().unwrap().is_err());
        assert!(
            refused.to_string().contains("more than one thread"),
            "{refused}"
        );
    }

    #[test]
    fn wipe_zeroes_every_byte() {
        let mut bytes = vec![0xA5; 4099];
        wipe(&mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn only_code_of_files_is_forgotten() {
        let line = |rights, inode| {
            format!(
                "55e0c000-55e0f000 {rights} 00001000 fe:00 {inode}    /usr/bin/keywheel-injector"
            )
        };
        assert_eq!(code(&line("r-xp", 77)), Some((0x55e0_c000, 0x3000)));
        for other in [
            line("r--p", 77),
            line("rwxp", 77),
            line("r-xs", 77),
            line("r-xp", 0),
            String::new(),
            "nonsense r-xp".to_owned(),
        ] {
            assert_eq!(code(&other), None, "{other}");
        }
    }

    #[test]
    fn signal_zero_to_a_file_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(pidfd_send_signal(file.as_fd(), 0).is_err());
    }

    #[test]
    fn a_filter_longer_than_the_program_is_refused() {
        let instructions = vec![(0x06, 0, 0, 0x7fff_0000); crate::filter::MAX_INSTRUCTIONS + 1];
        assert!(install_seccomp(&instructions).is_err());
    }
}
