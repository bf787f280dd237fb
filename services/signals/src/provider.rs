//! The way to a provider of identities: HTTP, one request, one answer.
//!
//! Invariants: those of the port. Our secret is read from its file for each form, so that one may be changed at any
//! time, and stands in no text. What is asked of one server goes to that one, never over a connection that another one
//! had: its certificate is checked each time. A provider on this machine or its link is asked where its issuer is there by the
//! configuration; what its description names elsewhere on this machine is not.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Uri, header};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::provider::{Provider, Replied};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_rotators::endpoint::Endpoint;
use keywheel_seal::{Entropy, SecretBytes};
use keywheel_stores::file;
use keywheel_stores::http::{Again, Call, Client, Door as _};
use zeroize::Zeroizing;

/// How long one question may take.
pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(8);
/// Largest answer that is read, in bytes.
pub const MAX_PROVIDER_ANSWER_BYTES: usize = 128 << 10;
/// Longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// The setting that says where the provider is.
const SETTING: &str = "login.provider_file";
const FORM: &str = "application/x-www-form-urlencoded";

/// Where the provider is, and what is shown to it.
#[derive(Debug, Clone)]
pub struct ProviderPlace {
    /// The issuer's URL.
    pub issuer: String,
    /// What the provider calls us.
    pub client_id: String,
    /// File of our secret.
    pub client_secret_file: Option<String>,
    /// File of the authorities that its certificate comes from.
    pub ca_file: Option<String>,
}

/// Asks the provider.
pub struct ProviderDoor {
    place: ProviderPlace,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// A request as it is made, perhaps again.
struct Asked<'a> {
    method: Method,
    body: &'a [u8],
    authorization: Option<HeaderValue>,
    may_repeat: bool,
}

impl ProviderDoor {
    /// The way to this one; nothing is asked yet.
    #[must_use]
    pub fn new(place: ProviderPlace, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            place,
            clock,
            entropy,
        }
    }

    async fn send(&self, url: &str, asked: Asked<'_>) -> Result<Replied, PortError> {
        let near = match origin(url)? == origin(&self.place.issuer)? {
            true => near(url).await?,
            false => Vec::new(),
        };
        let authorities = match &self.place.ca_file {
            Some(path) => Some(certificates(path).await?),
            None => None,
        };
        let endpoint = Endpoint::parse(url, authorities)?.allowing(&near, SETTING);
        let until = Until::new(
            self.clock.now().plus(PROVIDER_TIMEOUT),
            Arc::clone(&self.clock),
        );
        let call = Call {
            until: &until,
            ends: self.clock.monotonic().saturating_add(PROVIDER_TIMEOUT),
        };
        let again = Again {
            may_repeat: asked.may_repeat,
            is_passing: |_, _| false,
        };
        let make = || request(&endpoint, &asked);
        let client = self.client();
        let sending = client.send(&endpoint, &make, again, call);
        let answered = tokio::time::timeout(PROVIDER_TIMEOUT, sending).await;
        let mut answer = answered.map_err(|_| {
            let text = format!(
                "the provider at {} does not answer in time",
                endpoint.name()
            );
            PortError::new(ErrorKind::Unavailable, text)
        })??;
        Ok(Replied {
            status: answer.status,
            body: SecretBytes::from(std::mem::take(&mut *answer.body)),
        })
    }

    /// For one question: it keeps connections to one server, and a description may name several.
    fn client(&self) -> Client {
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
        Client::new(clock, entropy, MAX_PROVIDER_ANSWER_BYTES)
    }

    /// `Authorization` with our secret, where we have one (RFC 6749, 2.3.1).
    async fn authorization(&self) -> Result<Option<HeaderValue>, PortError> {
        let Some(path) = &self.place.client_secret_file else {
            return Ok(None);
        };
        let contents = read(path).await?;
        if contents.mode & 0o077 != 0 {
            let text = format!("other users may read {path}; run `chmod 600 {path}`");
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        // EXPOSE: the provider knows us by it.
        let secret = contents.bytes.expose().trim_ascii();
        let mut pair = Zeroizing::new(encoded(self.place.client_id.as_bytes()));
        pair.push(b':');
        let own = Zeroizing::new(encoded(secret));
        pair.extend_from_slice(&own);
        let text = Zeroizing::new(STANDARD.encode(&*pair));
        let text = Zeroizing::new(format!("Basic {}", text.as_str()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            let text = format!("what {path} holds cannot be shown to a provider");
            PortError::new(ErrorKind::Denied, text)
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

#[async_trait]
impl Provider for ProviderDoor {
    async fn read(&self, url: &str) -> Result<Replied, PortError> {
        let asked = Asked {
            method: Method::GET,
            body: &[],
            authorization: None,
            may_repeat: true,
        };
        self.send(url, asked).await
    }

    async fn read_as(&self, url: &str, token: &SecretBytes) -> Result<Replied, PortError> {
        // EXPOSE: the provider gave it, and gets it back.
        let text = Zeroizing::new([&b"Bearer "[..], token.expose()].concat());
        let mut value = HeaderValue::from_bytes(&text).map_err(|_| {
            let text = "the provider's token cannot be shown to it";
            PortError::new(ErrorKind::Unavailable, text)
        })?;
        value.set_sensitive(true);
        let asked = Asked {
            method: Method::GET,
            body: &[],
            authorization: Some(value),
            may_repeat: true,
        };
        self.send(url, asked).await
    }

    async fn post(&self, url: &str, form: &SecretBytes) -> Result<Replied, PortError> {
        let asked = Asked {
            method: Method::POST,
            // EXPOSE: it is sent to the provider.
            body: form.expose(),
            authorization: self.authorization().await?,
            may_repeat: false,
        };
        self.send(url, asked).await
    }
}

fn request(endpoint: &Endpoint, asked: &Asked<'_>) -> Result<Request<Full<Bytes>>, PortError> {
    let mut request = Request::builder()
        .method(asked.method.clone())
        .uri(endpoint.path())
        .header(header::HOST, endpoint.name())
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "keywheel");
    if asked.method == Method::POST {
        request = request.header(header::CONTENT_TYPE, FORM);
    }
    if let Some(value) = &asked.authorization {
        request = request.header(header::AUTHORIZATION, value.clone());
    }
    let body = Bytes::copy_from_slice(asked.body);
    request.body(Full::new(body)).map_err(|_| {
        let text = "the provider cannot be asked; correct the file of the provider";
        PortError::new(ErrorKind::Denied, text)
    })
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> Result<(String, String, u16), PortError> {
    let wrong = || {
        let text = "the provider names a URL that is none";
        PortError::new(ErrorKind::Denied, text)
    };
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let scheme = uri.scheme_str().ok_or_else(wrong)?.to_owned();
    let host = uri.host().ok_or_else(wrong)?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let usual = if scheme == "http" { 80 } else { 443 };
    Ok((scheme, host, uri.port_u16().unwrap_or(usual)))
}

/// The addresses of a URL's host.
async fn near(url: &str) -> Result<Vec<SocketAddr>, PortError> {
    let (_, host, port) = origin(url)?;
    let found = tokio::net::lookup_host((host.as_str(), port)).await;
    found.map(Iterator::collect).map_err(|error| {
        let text = format!("{host} has no address now");
        PortError::caused(ErrorKind::Unavailable, text, error)
    })
}

async fn certificates(path: &str) -> Result<Vec<u8>, PortError> {
    let contents = read(path).await?;
    // EXPOSE: certificates are no secret.
    Ok(contents.bytes.expose().to_vec())
}

async fn read(path: &str) -> Result<file::Contents, PortError> {
    let read = file::read(Path::new(path), MAX_FILE_BYTES).await;
    read.map_err(|error| {
        let text = format!("the file {path} cannot be read");
        PortError::caused(ErrorKind::Unavailable, text, error)
    })
}

/// Every byte that is not a letter, digit or one of `-._~` by its number.
fn encoded(text: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    // All the room at once: a buffer that grows leaves a copy behind.
    let mut written = Vec::with_capacity(text.len() * 3);
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            written.push(*byte);
        } else {
            let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or(b'0');
            written.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use keywheel_seal::OsEntropy;
    use keywheel_testkit::fake::FakeClock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn door(issuer: &str, secret: Option<&Path>) -> ProviderDoor {
        let place = ProviderPlace {
            issuer: issuer.to_owned(),
            client_id: "key:wheel".to_owned(),
            client_secret_file: secret.map(|path| path.display().to_string()),
            ca_file: None,
        };
        ProviderDoor::new(place, Arc::new(FakeClock::default()), Arc::new(OsEntropy))
    }

    #[tokio::test]
    async fn our_secret_is_shown_as_the_standard_has_it_and_only_from_a_file_of_our_own() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "pass word+1\n").unwrap();
        let set = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set(0o600);
        let door = door("https://id.example.org", Some(&path));
        let shown = door.authorization().await.unwrap().unwrap();
        let text = STANDARD.encode("key%3Awheel:pass%20word%2B1");
        assert_eq!(shown.to_str().unwrap(), format!("Basic {text}"));
        assert!(!format!("{shown:?}").contains(&text));
        set(0o640);
        let refused = door.authorization().await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied);
        assert!(refused.text.contains("chmod 600"), "{refused}");
    }

    #[tokio::test]
    async fn what_a_description_names_on_this_machine_is_asked_only_where_the_issuer_is() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let url = format!("http://{at}/keys");
        let away = door("https://id.example.org", None);
        let refused = away.read(&url).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied);
        assert!(refused.text.contains(SETTING), "{refused}");
        for url in ["", "/keys", "ftp://x", "http://id.example.org/keys"] {
            let refused = away.read(url).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Denied, "{url}: {refused}");
        }
    }

    #[tokio::test]
    async fn what_one_server_is_asked_no_other_one_hears() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut request = vec![0; 4096];
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // It goes on with a connection for as long as it is asked over it.
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    heard.fetch_add(1, Ordering::SeqCst);
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        let door = door(&format!("http://{at}"), None);
        let url = format!("http://{at}/description");
        assert_eq!(door.read(&url).await.unwrap().status, 200);
        // Another server, of which nothing is asked here.
        let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", other.local_addr().unwrap());
        let refused = door.read(&url).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied, "{refused}");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_secret_can_hold_any_byte() {
        assert_eq!(encoded(b"a-._~Z9"), b"a-._~Z9");
        assert_eq!(encoded(b" :/\xff"), b"%20%3A%2F%FF");
    }
}
