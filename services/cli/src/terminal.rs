//! Secrets that a person types, or hands over on stdin: shares and passphrases.
//!
//! Invariants: what is typed is not shown; it is read only by a process that cannot be dumped; there is no way
//! to give it as an argument or a variable. A value of a secret has its own way (`--value-file`).

use std::io::{self, IsTerminal as _, Read, Write as _};
use std::os::fd::AsFd;

use keywheel_seal::SecretBytes;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::exit::{Exit, Failure};

/// Longest line, in bytes.
const MAX_LINE_BYTES: usize = 2048;
/// Longest end of a file that is no line of its own, in bytes: one that is empty.
const MAX_END_BYTES: u64 = 2;

/// Asks for a secret without showing it; from a pipe or file it is the first line there.
pub(crate) fn secret(question: &str) -> Result<SecretBytes, Failure> {
    harden()?;
    if !io::stdin().is_terminal() {
        return line(Unbuffered);
    }
    let silence = Silence::begin()?;
    let _ = write!(io::stderr().lock(), "{question} ");
    let read = line(Unbuffered);
    drop(silence);
    let _ = writeln!(io::stderr().lock());
    read
}

/// Asks for a new secret; a person types it twice.
pub(crate) fn new_secret(question: &str) -> Result<SecretBytes, Failure> {
    let first = secret(question)?;
    if !io::stdin().is_terminal() {
        return Ok(first);
    }
    let again = secret("Once more:")?;
    match first.ct_eq(&again) {
        true => Ok(first),
        false => Err(Failure::new(
            Exit::Input,
            "the two are not the same; nothing was made",
            "repeat the command",
        )),
    }
}

/// Whether more lies on stdin than the line that was taken. It is left there, for whoever reads next.
pub(crate) fn is_more() -> bool {
    !io::stdin().is_terminal() && has_more(io::stdin())
}

fn has_more(source: impl AsFd) -> bool {
    rustix::io::ioctl_fionread(source).is_ok_and(|bytes| bytes > MAX_END_BYTES)
}

/// From now on this process cannot be dumped.
pub(crate) fn harden() -> Result<(), Failure> {
    keywheel_sys::harden::transient().map_err(|error| {
        let next = "repeat the command outside of whatever forbids it to keep others from dumping it; nothing was read";
        Failure::new(Exit::Unexpected, error.to_string(), next)
    })
}

/// Stdin without the library's buffer, which would keep a copy.
pub(crate) struct Unbuffered;

impl Read for Unbuffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = || rustix::io::read(io::stdin(), &mut *buffer);
        Ok(rustix::io::retry_on_intr(read)?)
    }
}

/// One line without its end, byte by byte to where it stays: nothing beyond it is read.
fn line(source: impl Read) -> Result<SecretBytes, Failure> {
    SecretBytes::filled(MAX_LINE_BYTES, |room| fill(source, room))
}

/// How long the line is.
fn fill(mut source: impl Read, room: &mut [u8]) -> Result<usize, Failure> {
    let mut length = 0;
    let mut byte = [0];
    loop {
        let count = source.read(&mut byte).map_err(|error| {
            let text = format!("cannot read it: {error}");
            Failure::new(Exit::NoInput, text, "check where stdin comes from")
        })?;
        if count == 0 || byte[0] == b'\n' {
            break;
        }
        let Some(place) = room.get_mut(length) else {
            let text = format!("the line is longer than {MAX_LINE_BYTES} bytes");
            return Err(Failure::new(
                Exit::Input,
                text,
                "give one share, or the passphrase",
            ));
        };
        *place = byte[0];
        length += 1;
    }
    if room[..length].ends_with(b"\r") {
        length -= 1;
    }
    if length == 0 {
        let next = "type it, or give it on stdin";
        return Err(Failure::new(Exit::NoInput, "nothing was given", next));
    }
    Ok(length)
}

/// While it lives, the terminal shows nothing of what is typed.
struct Silence(Termios);

impl Silence {
    fn begin() -> Result<Self, Failure> {
        let failed = |error: rustix::io::Errno| {
            let text = format!("the terminal cannot be told to hide what is typed: {error}");
            Failure::new(Exit::NoInput, text, "give it on stdin instead")
        };
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<SecretBytes, Failure> {
        line(io::Cursor::new(bytes.to_vec()))
    }

    #[test]
    fn the_first_line_is_taken_as_it_is_without_its_end() {
        for bytes in [
            &b" pass phrase "[..],
            b" pass phrase \n",
            b" pass phrase \r\n",
            b" pass phrase \nmore",
        ] {
            let want = SecretBytes::from(b" pass phrase ".to_vec());
            assert!(read(bytes).unwrap().ct_eq(&want), "{bytes:?}");
        }
    }

    #[test]
    fn lines_behind_the_first_one_are_seen_and_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("typed");
        for (text, more) in [
            ("one", false),
            ("one\n", false),
            ("one\r\n\r\n", false),
            ("one\ntwo\n", true),
            ("one\n\nthree", true),
        ] {
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::open(&path).unwrap();
            assert!(line(&file).is_ok());
            assert_eq!(has_more(&file), more, "a file: {text:?}");
            let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            near.write_all(text.as_bytes()).unwrap();
            drop(near);
            assert!(line(&far).is_ok());
            assert_eq!(has_more(&far), more, "a stream: {text:?}");
        }
        std::fs::write(&path, "one\ntwo").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        assert!(line(&file).is_ok() && has_more(&file));
        let second = line(&file).unwrap();
        assert!(second.ct_eq(&SecretBytes::from(b"two".to_vec())));
        assert!(!has_more(std::fs::File::open("/dev/null").unwrap()));
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert_eq!(read(b"").unwrap_err().exit, Exit::NoInput);
        assert_eq!(read(b"\n").unwrap_err().exit, Exit::NoInput);
        assert!(read(&[b'a'; MAX_LINE_BYTES]).is_ok());
        let long = read(&[b'a'; MAX_LINE_BYTES + 1]).unwrap_err();
        assert_eq!(long.exit, Exit::Input);
        assert!(!long.what.contains("aaa"), "{long}");
    }
}
