//! Small keys in the kernel: on the user's keyring, which outlives a crash of this program and not a reboot.
//!
//! Invariant: a key is read only in possession of the user's keyring, which a thread of its own takes and which ends
//! with it; the payload is never on a disk. Who may be this user (root) may read it.

use std::ffi::CString;
use std::io;

use crate::{Error, raw};

/// The longest payload that is kept here.
pub const MAX_PAYLOAD_BYTES: usize = 1024;

/// The payload of the key with this name; `None` when there is none.
///
/// # Errors
/// When the kernel has no keyrings or refuses them; also when the payload is longer than [`MAX_PAYLOAD_BYTES`].
pub fn read(name: &str) -> Result<Option<Vec<u8>>, Error> {
    alone("read a key of the kernel's keyring", name, |name| {
        let key = match raw::search_user_key(name) {
            Err(error) if is_absent(&error) => return Ok(None),
            found => found?,
        };
        let mut payload = vec![0; MAX_PAYLOAD_BYTES];
        let length = raw::read_key(key, &mut payload)?;
        if length > payload.len() {
            raw::wipe(&mut payload);
            return Err(io::ErrorKind::InvalidData.into());
        }
        payload.truncate(length);
        Ok(Some(payload))
    })
}

/// Keeps a key under this name, in place of one that has it.
///
/// # Errors
/// As for [`read`].
pub fn keep(name: &str, payload: &[u8]) -> Result<(), Error> {
    let step = "keep a key in the kernel's keyring";
    if payload.len() > MAX_PAYLOAD_BYTES {
        let source = io::ErrorKind::InvalidInput.into();
        return Err(Error::Os { step, source });
    }
    alone(step, name, |name| raw::add_user_key(name, payload))
}

/// Removes the key with this name, if there is one.
///
/// # Errors
/// As for [`read`].
pub fn remove(name: &str) -> Result<(), Error> {
    alone(
        "remove a key of the kernel's keyring",
        name,
        |name| match raw::search_user_key(name) {
            Ok(key) => raw::unlink_user_key(key),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error),
        },
    )
}

fn is_absent(error: &io::Error) -> bool {
    let absent = [libc::ENOKEY, libc::EKEYREVOKED, libc::EKEYEXPIRED];
    error
        .raw_os_error()
        .is_some_and(|code| absent.contains(&code))
}

/// Runs in a thread that possesses the user's keyring and then ends.
fn alone<T: Send>(
    step: &'static str,
    name: &str,
    work: impl FnOnce(&CString) -> io::Result<T> + Send,
) -> Result<T, Error> {
    let fault = |source| Error::Os { step, source };
    let name = CString::new(name).map_err(|_| fault(io::ErrorKind::InvalidInput.into()))?;
    let possessed = || {
        raw::possess_user_keyring()?;
        work(&name)
    };
    let done = std::thread::scope(|scope| scope.spawn(possessed).join());
    done.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        .map_err(fault)
}

#[cfg(test)]
#[expect(
    clippy::print_stderr,
    reason = "a machine without keyrings is said aloud"
)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_replaced_read_from_another_thread_and_removed() {
        let name = format!("keywheel-test:{}", std::process::id());
        if let Err(error) = keep(&name, b"first") {
            eprintln!("SKIPPED: no kernel keyring here: {error:?}");
            return;
        }
        assert_eq!(read(&name).unwrap().as_deref(), Some(&b"first"[..]));
        keep(&name, b"second").unwrap();
        let read_there = || read(&name).unwrap();
        let there = std::thread::scope(|scope| scope.spawn(read_there).join().unwrap());
        assert_eq!(there.as_deref(), Some(&b"second"[..]));
        remove(&name).unwrap();
        remove(&name).unwrap();
        assert_eq!(read(&name).unwrap(), None);
    }

    #[test]
    fn a_payload_over_the_limit_and_a_name_with_nul_are_refused() {
        assert!(keep("keywheel-test:long", &[0; MAX_PAYLOAD_BYTES + 1]).is_err());
        assert!(read("keywheel\0test").is_err());
    }
}
