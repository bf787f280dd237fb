//! A token as a client brings it: read from a file or stdin, never from the command line.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use keywheel_daemon::{SystemClock, chain};
use keywheel_gateway::tokens::{PREFIX, TOKEN_CHARS};
use keywheel_identity::tls::token_client_config;
use keywheel_seal::SecretBytes;
use tokio_rustls::rustls::ClientConfig;

use crate::exit::{Exit, Failure};
use crate::output::tame;

/// Most bytes that are read of a file of a token: one line, and what an editor may leave around it.
const MAX_FILE_BYTES: usize = 256;
/// Most bytes of a file of roots.
const MAX_ROOTS_BYTES: u64 = 1 << 20;

/// Reads the token.
pub(super) fn read(path: &Path) -> Result<SecretBytes, Failure> {
    if path == Path::new("-") {
        return read_from(Box::new(io::stdin().lock()), "stdin");
    }
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
    let about = file.metadata().map_err(|error| unreadable(&name, &error))?;
    if let Some(warning) = exposed(&name, &about) {
        // When stderr is gone, nobody is left to be told.
        let _ = writeln!(io::stderr().lock(), "{warning}");
    }
    read_from(Box::new(file), &name)
}

/// What is said of a file that others may open. It is taken all the same: into a container it may be mounted only so.
fn exposed(name: &str, about: &Metadata) -> Option<String> {
    let mode = about.mode() & 0o777;
    let is_exposed = about.is_file() && mode & 0o007 != 0;
    is_exposed.then(|| {
        let name = tame(name);
        format!(
            "warning: {name} holds a token, and everybody on this machine may open it (mode {mode:04o})\n  next: `chmod 600 {name}`"
        )
    })
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::new(
        Exit::NoInput,
        format!("cannot read {name}: {error}"),
        "check the name of the file, and who may read it",
    )
}

fn read_from(source: Box<dyn Read>, name: &str) -> Result<SecretBytes, Failure> {
    // All the room at once: a buffer that grows leaves a copy behind.
    let mut bytes = Vec::with_capacity(MAX_FILE_BYTES + 2);
    let bound = u64::try_from(MAX_FILE_BYTES + 1).unwrap_or(u64::MAX);
    let read = source.take(bound).read_to_end(&mut bytes);
    let whole = SecretBytes::from(bytes);
    read.map_err(|error| unreadable(name, &error))?;
    // EXPOSE: the line is taken out of what surrounds it.
    let line = whole.expose().trim_ascii();
    if line.len() != TOKEN_CHARS || !line.starts_with(PREFIX.as_bytes()) {
        return Err(Failure::new(
            Exit::Input,
            format!("{name} does not hold one token"),
            "write into it the one line that `keywheel token issue` printed, and nothing else",
        ));
    }
    Ok(SecretBytes::copied(line))
}

/// TLS without a certificate of ours.
pub(super) fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Failure> {
    let path = ca_file.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            "with a token or a login and without credentials it is not known which gateway at https://… to trust",
            "name the deployment's roots with --gateway-ca-file or KEYWHEEL_GATEWAY_CA_FILE: `ca.pem` of any directory that `keywheel init` made",
        )
    })?;
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
    let mut text = String::new();
    let read = file.take(MAX_ROOTS_BYTES).read_to_string(&mut text);
    read.map_err(|error| unreadable(&name, &error))?;
    let clock = Arc::new(SystemClock::new());
    let config = token_client_config(&text, clock).map_err(|error| {
        let what = format!("{name}: {}", chain(&error));
        Failure::new(Exit::Config, what, "name a file of certificates in PEM")
    })?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read_text(text: &str) -> Result<SecretBytes, Failure> {
        read_from(Box::new(io::Cursor::new(text.as_bytes().to_vec())), "here")
    }

    #[test]
    fn one_token_is_read_whatever_white_space_is_around_it() {
        let token = format!("{PREFIX}{}", "a".repeat(TOKEN_CHARS - PREFIX.len()));
        for text in [
            token.clone(),
            format!("{token}\n"),
            format!(" \t{token}\r\n\n"),
        ] {
            let read = read_text(&text).unwrap();
            assert!(read.ct_eq(&SecretBytes::from(token.clone().into_bytes())));
        }
    }

    #[test]
    fn a_token_that_everybody_may_read_is_taken_with_a_warning_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = format!("{PREFIX}{}", "a".repeat(TOKEN_CHARS - PREFIX.len()));
        std::fs::write(&path, &token).unwrap();
        let name = path.display().to_string();
        for (mode, warns) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let said = exposed(&name, &std::fs::metadata(&path).unwrap());
            assert_eq!(said.is_some(), warns, "{said:?}");
            let next = format!("`chmod 600 {name}`");
            assert!(said.is_none_or(|said| said.contains(&next)), "{next}");
            assert!(read(&path).is_ok());
        }
        let pipe = exposed("/dev/null", &std::fs::metadata("/dev/null").unwrap());
        assert_eq!(pipe, None, "it is no file");
    }

    #[test]
    fn what_holds_no_token_is_refused_without_saying_what_it_holds() {
        let token = format!("{PREFIX}{}", "a".repeat(TOKEN_CHARS - PREFIX.len()));
        for text in [
            String::new(),
            "hunter2".to_owned(),
            format!("{token}a"),
            token.replace(PREFIX, "kwx_"),
            format!("{token}\n{token}"),
            "x".repeat(MAX_FILE_BYTES * 2),
        ] {
            let failure = read_text(&text).unwrap_err();
            assert_eq!(failure.exit, Exit::Input);
            assert!(!failure.to_string().contains("hunter2"), "{failure}");
        }
        let missing = read(Path::new("/nonexistent/token")).unwrap_err();
        assert_eq!(missing.exit, Exit::NoInput);
        assert_eq!(config(None).unwrap_err().exit, Exit::Usage);
    }
}
