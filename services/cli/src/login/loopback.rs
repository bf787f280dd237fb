//! Where a browser on this machine brings its code: one port of 127.0.0.1, until one code came or a deadline passed
//! (RFC 8252, 7.3).
//!
//! Invariants: it listens on this machine alone, at a port that the kernel chose; what brings another state is turned
//! away and ends nothing; nothing that was sent is in a page, and no page is kept, framed or told where it came from;
//! the address of the provider, which holds the state, is in no process's arguments: a browser is sent here first.

use std::collections::HashMap;
use std::time::Duration;

use keywheel_seal::SecretBytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::exit::{Exit, Failure};

/// How long a person may take at the provider.
pub(crate) const LOGIN_PATIENCE: Duration = Duration::from_secs(300);
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Requests that may come beside the one that counts: a browser asks for pictures, too.
const MAX_STRAY: u32 = 64;
/// Where a browser brings its code.
pub(crate) const PATH: &str = "/callback";

const DONE: &str = "You are logged in. You can close this page and go back to the terminal.";
const REFUSED: &str = "This login did not succeed. The terminal says why.";
const STRAY: &str = "Nothing is here.";

/// The port, before anything came.
pub(crate) struct Loopback {
    listener: TcpListener,
    port: u16,
}

/// What the one request that counts has to be.
pub(crate) struct Awaited<'a> {
    /// What no other login has.
    pub(crate) state: &'a SecretBytes,
    /// The provider.
    pub(crate) issuer: &'a str,
    /// Where a browser that comes by itself is sent.
    pub(crate) begin: &'a str,
}

/// What a request is.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// The code.
    Code(String),
    /// The provider's "no".
    Refused(&'static str),
    /// It begins at the provider.
    Begins,
    /// Nothing of ours.
    Stray,
}

impl Loopback {
    /// Listens.
    pub(crate) async fn open() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(
                Exit::CannotCreate,
                format!("cannot listen at 127.0.0.1: {error}"),
                "log in with `keywheel login --device`",
            )
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self { listener, port })
    }

    /// Where the provider sends a browser.
    pub(crate) fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// Where a browser is opened: it is sent on from there.
    pub(crate) fn begin_uri(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Waits for the code.
    pub(crate) async fn code(self, awaited: &Awaited<'_>) -> Result<String, Failure> {
        let waiting = tokio::time::timeout(LOGIN_PATIENCE, self.wait(awaited));
        waiting.await.unwrap_or_else(|_| {
            Err(Failure::new(
                Exit::Partial,
                "no browser came back in five minutes",
                "begin again with `keywheel login`, or with `--device` for a browser on another machine",
            ))
        })
    }

    async fn wait(self, awaited: &Awaited<'_>) -> Result<String, Failure> {
        let mut begun = false;
        for _ in 0..MAX_STRAY {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                continue;
            };
            let heard = tokio::time::timeout(REQUEST_TIMEOUT, head(&mut stream)).await;
            let head = heard.ok().flatten().unwrap_or_default();
            let came = read(&head, self.port, awaited);
            let answer = match &came {
                Came::Code(_) => page("200 OK", DONE),
                Came::Refused(_) => page("200 OK", REFUSED),
                // Once: who comes second is no browser that we opened.
                Came::Begins if !begun => {
                    begun = true;
                    redirect(awaited.begin)
                }
                Came::Begins | Came::Stray => page("404 Not Found", STRAY),
            };
            let telling = async {
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await
            };
            // Whoever went away meanwhile has sent what counts all the same.
            let _told = tokio::time::timeout(REQUEST_TIMEOUT, telling).await;
            match came {
                Came::Code(code) => return Ok(code),
                Came::Refused(why) => return Err(refused(why)),
                Came::Begins | Came::Stray => {}
            }
        }
        Err(Failure::new(
            Exit::Unexpected,
            "too many requests came that were no browser's",
            "see what asks at 127.0.0.1 on this machine, and log in with `keywheel login --device`",
        ))
    }
}

fn refused(why: &str) -> Failure {
    Failure::new(
        Exit::Denied,
        format!("the provider did not let you in: {why}"),
        "begin again with `keywheel login`, or ask whoever runs the provider",
    )
}

/// The head of a request.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::with_capacity(MAX_HEAD_BYTES);
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 2048];
        let count = stream.read(&mut part).await.ok()?;
        if count == 0 || bytes.len() + count > MAX_HEAD_BYTES {
            return None;
        }
        bytes.extend_from_slice(part.get(..count)?);
    }
    String::from_utf8(bytes).ok()
}

/// What a request is.
fn read(head: &str, port: u16, awaited: &Awaited<'_>) -> Came {
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let Some(target) = first
        .strip_prefix("GET ")
        .and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
    else {
        return Came::Stray;
    };
    // A page elsewhere can have a browser ask here under another name.
    let own = format!("127.0.0.1:{port}");
    let mut hosts = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    if hosts.next() != Some(own.as_str()) || hosts.next().is_some() {
        return Came::Stray;
    }
    if target == "/" {
        return Came::Begins;
    }
    let Some(query) = target
        .strip_prefix(PATH)
        .and_then(|rest| rest.strip_prefix('?'))
    else {
        return Came::Stray;
    };
    let Some(asked) = parameters(query) else {
        return Came::Stray;
    };
    let state = asked.get("state").cloned().unwrap_or_default();
    if !SecretBytes::from(state.into_bytes()).ct_eq(awaited.state) {
        return Came::Stray;
    }
    // RFC 9207: a code of another provider is not for this one.
    if asked
        .get("iss")
        .is_some_and(|issuer| issuer != awaited.issuer)
    {
        return Came::Refused("another provider answered");
    }
    if let Some(error) = asked.get("error") {
        return Came::Refused(word(error));
    }
    match asked.get("code") {
        Some(code) if !code.is_empty() => Came::Code(code.clone()),
        _ => Came::Stray,
    }
}

/// A provider's "no" in words of ours.
fn word(error: &str) -> &'static str {
    match error {
        "access_denied" => "access was denied",
        "login_required" | "interaction_required" | "consent_required" => {
            "it wants you to log in or consent there first"
        }
        "invalid_scope" => {
            "it does not know what was asked for (`scopes` in the file of the provider)"
        }
        "unauthorized_client" | "invalid_client" => "it does not know this gateway as its client",
        "temporarily_unavailable" | "server_error" => "it has a failure; try again later",
        _ => "it gave a reason that is not known here",
    }
}

/// The parameters of a query; nothing when one comes twice.
fn parameters(query: &str) -> Option<HashMap<String, String>> {
    let mut all = HashMap::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if all.insert(decoded(name)?, decoded(value)?).is_some() {
            return None;
        }
    }
    Some(all)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

const HEADERS: &str = "Connection: close\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n";

fn page(status: &str, words: &str) -> String {
    let body = format!("<!doctype html><title>Keywheel</title><p>{words}</p>\n");
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n{HEADERS}\r\n{body}"
    )
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n{HEADERS}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 4711;

    fn state() -> SecretBytes {
        SecretBytes::from(b"good".to_vec())
    }

    fn ask(target: &str, host: &str) -> Came {
        let state = state();
        let awaited = Awaited {
            state: &state,
            issuer: "https://id.example.org",
            begin: "https://id.example.org/authorize",
        };
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n");
        read(&head, PORT, &awaited)
    }

    fn own(target: &str) -> Came {
        ask(target, "127.0.0.1:4711")
    }

    #[test]
    fn only_a_code_with_this_login_s_state_counts() {
        assert_eq!(
            own("/callback?code=a%2Bb&state=good"),
            Came::Code("a+b".to_owned())
        );
        assert_eq!(
            own("/callback?code=c&state=good&iss=https%3A%2F%2Fid.example.org"),
            Came::Code("c".to_owned())
        );
        for stray in [
            "/callback",
            "/callback?",
            "/callback?code=c",
            "/callback?code=c&state=bad",
            "/callback?code=c&state=",
            "/callback?code=&state=good",
            "/callback?code=c&code=d&state=good",
            "/callback?code=%zz&state=good",
            "/callback2?code=c&state=good",
            "/favicon.ico",
        ] {
            assert_eq!(own(stray), Came::Stray, "{stray}");
        }
    }

    #[test]
    fn a_page_elsewhere_cannot_bring_one_under_another_name() {
        let target = "/callback?code=c&state=good";
        for host in ["evil.example:4711", "127.0.0.1", "localhost:4711", ""] {
            assert_eq!(ask(target, host), Came::Stray, "{host}");
        }
        assert_eq!(ask("/", "evil.example:4711"), Came::Stray);
        assert_eq!(own("/"), Came::Begins);
    }

    #[test]
    fn a_no_of_the_provider_or_of_another_one_is_told_in_words_of_ours() {
        assert_eq!(
            own("/callback?error=access_denied&state=good&error_description=%3Cscript%3E"),
            Came::Refused("access was denied")
        );
        let other = own("/callback?code=c&state=good&iss=https%3A%2F%2Fevil.example");
        assert_eq!(other, Came::Refused("another provider answered"));
        assert!(!page("200 OK", REFUSED).contains("script"));
    }

    #[tokio::test]
    async fn strays_end_nothing_a_browser_is_sent_on_once_and_the_code_ends_it() {
        let loopback = Loopback::open().await.unwrap();
        let at = (std::net::Ipv4Addr::LOCALHOST, loopback.port);
        let host = format!("127.0.0.1:{}", loopback.port);
        assert_eq!(loopback.redirect_uri(), format!("http://{host}/callback"));
        let asking = async {
            let mut answers = Vec::new();
            for target in [
                "/callback?code=c&state=bad",
                "/",
                "/",
                "/callback?code=c&state=good",
            ] {
                let mut stream = TcpStream::connect(at).await.unwrap();
                let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                answers.push(answer);
            }
            answers
        };
        let state = state();
        let awaited = Awaited {
            state: &state,
            issuer: "https://id.example.org",
            begin: "https://id.example.org/authorize?x=y",
        };
        let (code, answers) = tokio::join!(loopback.code(&awaited), asking);
        assert_eq!(code.unwrap(), "c");
        assert!(answers[0].starts_with("HTTP/1.1 404"), "{answers:?}");
        assert!(answers[1].contains("Location: https://id.example.org/authorize?x=y\r\n"));
        assert!(answers[2].starts_with("HTTP/1.1 404"), "{answers:?}");
        assert!(answers[3].contains(DONE) && answers[3].contains("no-store"));
        keywheel_testkit::server::port::closed(at.into()).await;
    }
}
