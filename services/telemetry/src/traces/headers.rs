//! What each request to the collector says besides its spans, such as who we are there.
//!
//! A header's value may be a credential. Invariants: it comes from a file that others may not read, or
//! from OpenTelemetry's own variable; no text of an error and no `Debug` holds one, nor the text they
//! were read from; what the protocol says by itself cannot be said here.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Most headers.
pub const MAX_HEADERS: usize = 32;
/// Longest text of all of them, in bytes.
pub const MAX_HEADERS_BYTES: usize = 16 << 10;

/// Why headers cannot be sent. Which one is told by its place, from 1: a text that is no header may be a
/// value.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// The file cannot be read.
    #[error("the collector's headers in {} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others could read it.
    #[error("other users may read the collector's headers; run `chmod 600 {}`", .0.display())]
    Open(PathBuf),
    /// There is more than any collector needs.
    #[error("the collector's headers are over {MAX_HEADERS_BYTES} bytes or {MAX_HEADERS} headers")]
    TooMany,
    /// It is no header.
    #[error("header {0} for the collector is not `name=value`")]
    Malformed(usize),
    /// It is not for others to say.
    #[error("header {0} for the collector is one that the exporter or the connection sets itself")]
    Ours(usize),
}

/// Headers for the collector.
#[derive(Debug, Default)]
pub struct Headers(HeaderMap);

impl Headers {
    /// Reads them from a file.
    ///
    /// # Errors
    /// When it cannot be read, others may read it, or what it holds are no headers.
    pub fn read(path: &Path) -> Result<Self, HeadersError> {
        let failed = |source| HeadersError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if !about.is_file() {
            return Err(failed(std::io::ErrorKind::InvalidInput.into()));
        }
        if about.mode() & 0o077 != 0 {
            return Err(HeadersError::Open(path.to_owned()));
        }
        let mut text = String::new();
        let mut most = file.take(MAX_HEADERS_BYTES as u64 + 1);
        most.read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text)
    }

    /// Reads them as OpenTelemetry writes them: `name=value`, with commas between, or one a line; a value
    /// that holds either is percent-encoded.
    ///
    /// # Errors
    /// When it are none.
    pub fn parse(text: &str) -> Result<Self, HeadersError> {
        if text.len() > MAX_HEADERS_BYTES {
            return Err(HeadersError::TooMany);
        }
        let parts = text.split([',', '\n']).map(str::trim);
        let mut headers = HeaderMap::new();
        for (number, part) in (1..).zip(parts.filter(|part| !part.is_empty())) {
            let wrong = || HeadersError::Malformed(number);
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let name = name.trim().to_ascii_lowercase();
            let name: HeaderName = name.parse().map_err(|_| wrong())?;
            if is_ours(&name) {
                return Err(HeadersError::Ours(number));
            }
            let bytes = decoded(value.trim()).ok_or_else(wrong)?;
            let mut value = HeaderValue::from_bytes(&bytes).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        match headers.len() > MAX_HEADERS {
            true => Err(HeadersError::TooMany),
            false => Ok(Self(headers)),
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds them to a request's.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.extend(self.0.clone());
    }
}

/// What the exporter says by itself, and what belongs to the connection.
fn is_ours(name: &HeaderName) -> bool {
    let ours = [
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    ours.contains(name)
}

/// `%20` is a space; what is no such triple is none.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        decoded.push(u8::try_from(value).ok()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SECRET: &str = "token-2f70ab";

    fn told(error: &HeadersError) -> String {
        let text = format!("{error} {error:?}");
        assert!(!text.contains(SECRET), "{text}");
        text
    }

    #[test]
    fn headers_are_read_as_open_telemetry_writes_them() {
        let text = format!("Authorization=Bearer%20{SECRET} , x-scope=a%2Cb\nX-Plain = c=d,\n");
        let headers = Headers::parse(&text).unwrap();
        let of = |name: &str| headers.0.get(name).unwrap().as_bytes().to_vec();
        assert_eq!(of("authorization"), format!("Bearer {SECRET}").as_bytes());
        assert_eq!(
            (of("x-scope"), of("x-plain")),
            (b"a,b".to_vec(), b"c=d".to_vec())
        );
        assert!(!format!("{headers:?}").contains(SECRET));
        assert!(Headers::parse(" ,\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_header_is_told_by_its_place_and_not_by_its_text() {
        for (text, said) in [
            (SECRET.to_owned(), "header 1 "),
            (format!("a=b,{SECRET}"), "header 2 "),
            (format!("a b={SECRET}"), "header 1 "),
            (format!("a={SECRET}%0a"), "header 1 "),
            (format!("a={SECRET}%2"), "header 1 "),
            (format!("host={SECRET}"), "sets itself"),
            (format!("Content-Encoding={SECRET}"), "sets itself"),
        ] {
            let error = Headers::parse(&text).unwrap_err();
            assert!(told(&error).contains(said), "{error}");
        }
    }

    #[test]
    fn as_many_as_the_limit_and_not_one_more() {
        let of = |count: usize| {
            let all: Vec<String> = (0..count).map(|n| format!("h{n}=v")).collect();
            Headers::parse(&all.join(","))
        };
        assert!(of(MAX_HEADERS).is_ok() && of(MAX_HEADERS + 1).is_err());
        let long = |bytes: usize| Headers::parse(&format!("a={}", "v".repeat(bytes - 2)));
        assert!(long(MAX_HEADERS_BYTES).is_ok() && long(MAX_HEADERS_BYTES + 1).is_err());
    }

    #[test]
    fn a_file_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        assert!(told(&Headers::read(&path).unwrap_err()).contains("cannot be read"));
        std::fs::write(&path, format!("a={SECRET}")).unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        mode(0o640).unwrap();
        assert!(told(&Headers::read(&path).unwrap_err()).contains("chmod 600"));
        mode(0o600).unwrap();
        assert!(!Headers::read(&path).unwrap().is_empty());
        assert!(told(&Headers::read(folder.path()).unwrap_err()).contains("cannot be read"));
    }

    #[test]
    fn no_text_makes_the_reader_panic() {
        keywheel_testkit::hostile(b"authorization=Basic%20x,a=%c3%a9\nb=c", |bytes| {
            drop(Headers::parse(&String::from_utf8_lossy(bytes)));
        });
    }
}
