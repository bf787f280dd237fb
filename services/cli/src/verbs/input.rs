//! Files that a person names: manifests, values, exports. Read whole, within a bound, or refused with the reason.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use keywheel_seal::{MAX_VALUE_BYTES, SecretBytes};

use crate::exit::{Exit, Failure};
use crate::output::Screen;
use crate::reading;
use crate::terminal::Unbuffered;

/// Whether the name means stdin.
fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Opens a file or stdin.
fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if is_stdin(path) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let unreadable = |error: io::Error| {
        let next = match error.kind() {
            io::ErrorKind::NotFound => "check the name of the file",
            io::ErrorKind::PermissionDenied => "check who may read it, or use sudo",
            _ => "check the file and its disk",
        };
        Failure::new(
            Exit::NoInput,
            format!("cannot read {}: {error}", path.display()),
            next,
        )
    };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(Failure::new(
            Exit::NoInput,
            format!("{} is a directory, not a file", path.display()),
            "name a file inside it",
        ));
    }
    Ok(Box::new(file))
}

fn broken(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::NoInput,
        format!("cannot read {}: {error}", path.display()),
        "check the file and its disk",
    )
}

/// What is done about manifests that are too long.
pub(super) const SPLIT: &str = "split it into several files";
/// What is done about what a person was given, and is longer than such a thing ever is.
pub(super) const ANOTHER: &str = "nothing of this kind is so long; check the name of the file";

/// A text of at most `limit` bytes; `shorter` is what is done about one that is longer.
pub(super) fn text(path: &Path, limit: usize, shorter: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    open(path)?
        .take(bound)
        .read_to_end(&mut bytes)
        .map_err(|error| broken(path, &error))?;
    if bytes.len() > limit {
        return Err(Failure::new(
            Exit::Input,
            format!("{} is longer than {limit} bytes", path.display()),
            shorter,
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(
            Exit::Input,
            format!("{} is not UTF-8 text (byte {at})", path.display()),
            "save it as UTF-8",
        )
    })
}

/// The name of an input in error texts.
pub(super) fn name(path: &Path) -> String {
    if is_stdin(path) {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    }
}

/// A secret's value, byte by byte.
pub(super) fn value(screen: Screen, path: &Path) -> Result<SecretBytes, Failure> {
    if is_stdin(path) && io::stdin().is_terminal() {
        screen
            .note("reading the value from the terminal, which shows what you type; Ctrl-D ends it");
    }
    // The library's own buffer would keep a copy of what comes from stdin.
    match is_stdin(path) {
        true => read_value(Unbuffered, path),
        false => read_value(open(path)?, path),
    }
}

fn read_value(source: impl Read, path: &Path) -> Result<SecretBytes, Failure> {
    let read = reading::secret(source, MAX_VALUE_BYTES + 1);
    let read = read.map_err(|error| broken(path, &error))?;
    let value = read.within_limit().map_err(|error| {
        Failure::new(
            Exit::Input,
            format!("{}: {error}", name(path)),
            "keep large material elsewhere and put its key here",
        )
    })?;
    if value.is_empty() {
        return Err(Failure::new(
            Exit::Input,
            format!("{} is empty: a secret has at least one byte", name(path)),
            "write the value into the file, or leave --value-file out for a generated one",
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: Vec<u8>) -> Result<SecretBytes, Failure> {
        read_value(io::Cursor::new(bytes), Path::new("pw"))
    }

    #[test]
    fn a_value_is_taken_byte_by_byte_up_to_the_limit() {
        let value = read(b"pw\n".to_vec()).unwrap();
        assert!(value.ct_eq(&SecretBytes::from(b"pw\n".to_vec())));
        assert!(read(vec![0; MAX_VALUE_BYTES]).is_ok());
        let over = read(vec![7; MAX_VALUE_BYTES + 1]).unwrap_err();
        assert_eq!(over.exit, Exit::Input);
        assert!(over.what.contains("1048576 bytes"), "{over}");
    }

    #[test]
    fn an_empty_value_a_directory_and_a_missing_file_are_refused() {
        assert_eq!(read(Vec::new()).unwrap_err().exit, Exit::Input);
        let directory = text(&std::env::temp_dir(), 10, ANOTHER).unwrap_err();
        assert!(
            directory.exit == Exit::NoInput && directory.what.contains("is a directory"),
            "{directory}"
        );
        let missing = text(Path::new("/nonexistent/manifest.yaml"), 10, ANOTHER).unwrap_err();
        assert!(
            missing.exit == Exit::NoInput && missing.what.contains("/nonexistent/manifest.yaml"),
            "{missing}"
        );
    }
}
