//! A message to a mailbox: one submission to a mail server, over a stream that somebody else opened and secured.
//!
//! Invariants: a repeat has the same `Message-ID`; nothing of a header comes from anybody but us and the
//! manifest, and the rest is base64, so no text can begin another header or end the message; what a server
//! answers is bounded and never quoted; login and password are overwritten when they are dropped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::io::{AsyncWriteExt as _, BufReader};
use zeroize::Zeroizing;

use super::message::Message;
use super::sender::Told;

/// Longest line of a server's answer, and most of them, that are read.
const MAX_REPLY_BYTES: u64 = 1024;
const MAX_REPLY_LINES: usize = 64;
/// Characters of base64 in a line.
const LINE: usize = 76;

/// From whom to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
}

/// Submits a message, with a login where one is given: a line with the name, one with the password.
///
/// # Errors
/// When the server cannot be spoken with, or does not let us in.
pub(crate) async fn submit(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    login: Option<&SecretBytes>,
    envelope: Envelope<'_>,
    (message, now): (&Message, Timestamp),
) -> Result<Told, PortError> {
    let text = text(envelope, message, now);
    let mut server = Server(BufReader::new(stream));
    server.want(220, "does not greet").await?;
    server.say(b"EHLO [127.0.0.1]\r\n").await?;
    server.want(250, "does not speak SMTP").await?;
    if let Some(login) = login {
        let mut line = Zeroizing::new(b"AUTH PLAIN ".to_vec());
        line.extend_from_slice(plain(login)?.as_bytes());
        line.extend_from_slice(b"\r\n");
        server.say(&line).await?;
        server.want(235, "does not take our login").await?;
    }
    let from = format!("MAIL FROM:<{}>\r\n", envelope.from);
    server.say(from.as_bytes()).await?;
    server.want(250, "does not take our sender").await?;
    let to = format!("RCPT TO:<{}>\r\n", envelope.to);
    server.say(to.as_bytes()).await?;
    server.want(250, "does not take the mailbox").await?;
    server.say(b"DATA\r\n").await?;
    server.want(354, "takes no message").await?;
    server.say(text.as_bytes()).await?;
    let code = server.reply().await?;
    // It has the message; whether it hears that we go is its own affair.
    let _gone = server.say(b"QUIT\r\n").await;
    Ok(match code {
        200..300 => Told::Done,
        500..600 => Told::Refused(format!("the mail server refuses it with code {code}")),
        _ => Told::Later(format!("the mail server answers with code {code}")),
    })
}

/// What `AUTH PLAIN` says.
fn plain(login: &SecretBytes) -> Result<Zeroizing<String>, PortError> {
    // EXPOSE: the server checks it.
    let text = std::str::from_utf8(login.expose()).ok();
    let lines = text.and_then(|text| text.trim_end().split_once('\n'));
    let lines = lines.map(|(name, password)| (name.trim_end_matches('\r'), password));
    let is_whole = |(name, password): &(&str, &str)| {
        let is_word = |word: &str| !word.is_empty() && !word.chars().any(char::is_control);
        is_word(name) && is_word(password)
    };
    let (name, password) = lines.filter(is_whole).ok_or_else(|| {
        let text = "the file with the login holds none; write the name on its first line and the password on its second";
        PortError::new(ErrorKind::Denied, text)
    })?;
    let joined = Zeroizing::new(format!("\0{name}\0{password}"));
    Ok(Zeroizing::new(STANDARD.encode(joined.as_bytes())))
}

/// Head and body, up to the dot that ends them.
fn text(envelope: Envelope<'_>, message: &Message, now: Timestamp) -> String {
    let Envelope { from, to } = envelope;
    let (id, title) = (&message.id, &message.title);
    let mut text = format!(
        "From: Keywheel <{from}>\r\nTo: <{to}>\r\nSubject: {title}\r\nMessage-ID: <{id}@keywheel.invalid>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n"
    );
    if let Some(date) = date(now) {
        text.push_str(&format!("Date: {date}\r\n"));
    }
    text.push_str("\r\n");
    let mut body = format!("{}\r\n\r\n", message.line).into_bytes();
    body.extend_from_slice(&message.body);
    let body = STANDARD.encode(body);
    for line in body.as_bytes().chunks(LINE) {
        text.extend(line.iter().copied().map(char::from));
        text.push_str("\r\n");
    }
    text.push_str(".\r\n");
    text
}

fn date(now: Timestamp) -> Option<String> {
    let instant = jiff::Timestamp::from_microsecond(now.micros()).ok()?;
    jiff::fmt::rfc2822::to_string(&instant.to_zoned(jiff::tz::TimeZone::UTC)).ok()
}

/// The other end.
struct Server<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Server<S> {
    async fn say(&mut self, line: &[u8]) -> Result<(), PortError> {
        let said = async {
            self.0.write_all(line).await?;
            self.0.flush().await
        };
        said.await.map_err(broken)
    }

    /// Reads an answer that has to have this code; what else it may have means, in words.
    async fn want(&mut self, wanted: u16, fault: &str) -> Result<(), PortError> {
        match self.reply().await? {
            code if code == wanted => Ok(()),
            code => {
                let text = format!("the mail server {fault}: it answers with code {code}");
                Err(PortError::new(ErrorKind::Unavailable, text))
            }
        }
    }

    /// Reads an answer, of one line or of several; its code.
    async fn reply(&mut self) -> Result<u16, PortError> {
        for _ in 0..MAX_REPLY_LINES {
            let line = line(&mut self.0).await?;
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let code: u16 = code.ok_or_else(unclear)?;
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(code);
            }
        }
        Err(unclear())
    }
}

async fn line(from: &mut (impl AsyncBufRead + Unpin + Send)) -> Result<String, PortError> {
    let mut line = Vec::new();
    let mut bounded = from.take(MAX_REPLY_BYTES);
    bounded.read_until(b'\n', &mut line).await.map_err(broken)?;
    if line.last() != Some(&b'\n') {
        return Err(unclear());
    }
    String::from_utf8(line).map_err(|_| unclear())
}

fn broken(error: std::io::Error) -> PortError {
    let text = "the connection with the mail server broke off; see its log";
    PortError::caused(ErrorKind::Unavailable, text, error)
}

fn unclear() -> PortError {
    let text = "what answers is no mail server; correct the URL";
    PortError::new(ErrorKind::Unavailable, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_767_492_000_000_000);
    const ENVELOPE: Envelope<'_> = Envelope {
        from: "keywheel@example.org",
        to: "ops@example.org",
    };

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::from(text.as_bytes().to_vec())
    }

    /// Has a message submitted to a server that gives these answers; how it ended, and what the server heard.
    async fn told(answers: &str, login: Option<&SecretBytes>) -> (Result<Told, PortError>, String) {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (mut heard, mut says) = tokio::io::split(theirs);
        let answers = answers.to_owned();
        let server = tokio::spawn(async move {
            says.write_all(answers.as_bytes()).await.unwrap();
            says.shutdown().await.unwrap();
            let mut all = String::new();
            heard.read_to_string(&mut all).await.unwrap();
            all
        });
        let mut message = Message::test("e1".to_owned(), "soc", NOW);
        message.line = "a\r\n.\r\nRCPT TO:<eve@example.org>".to_owned();
        let ended = submit(ours, login, ENVELOPE, (&message, NOW)).await;
        (ended, server.await.unwrap())
    }

    const WELL: &str =
        "220 x\r\n250-x\r\n250 AUTH PLAIN\r\n235 x\r\n250 x\r\n250 x\r\n354 x\r\n250 x\r\n";

    #[tokio::test]
    async fn a_message_is_submitted_and_no_text_of_it_is_a_command() {
        let login = secret("me\npass word\n");
        let (ended, heard) = told(WELL, Some(&login)).await;
        assert_eq!(ended.unwrap(), Told::Done);
        let auth = STANDARD.encode("\0me\0pass word");
        let wanted = format!(
            "EHLO [127.0.0.1]\r\nAUTH PLAIN {auth}\r\nMAIL FROM:<keywheel@example.org>\r\nRCPT TO:<ops@example.org>\r\nDATA\r\nFrom: Keywheel"
        );
        assert!(heard.starts_with(&wanted), "{heard}");
        assert!(heard.contains("\r\nMessage-ID: <e1@keywheel.invalid>\r\n"));
        assert!(
            heard.contains("\r\nDate: Sun, 4 Jan 2026 02:00:00 +0000\r\n"),
            "{heard}"
        );
        assert!(heard.ends_with("\r\n.\r\nQUIT\r\n"), "{heard}");
        assert!(!heard.contains("eve@"), "{heard}");
        let (_, body) = heard.split_once("\r\n\r\n").unwrap();
        let body: String = body
            .split("\r\n.\r\n")
            .next()
            .unwrap()
            .split("\r\n")
            .collect();
        let body = String::from_utf8(STANDARD.decode(body).unwrap()).unwrap();
        assert!(body.contains("eve@") && body.contains("dev.keywheel.notification.test"));
    }

    #[tokio::test]
    async fn what_is_refused_at_its_end_is_the_message_s_own_fault_and_nothing_else_is() {
        let end = |code: &str| WELL.replace("354 x\r\n250 x", &format!("354 x\r\n{code} x"));
        let login = secret("me\npass");
        let (ended, _) = told(&end("554"), Some(&login)).await;
        assert!(matches!(ended.unwrap(), Told::Refused(_)));
        let (ended, _) = told(&end("451"), Some(&login)).await;
        assert!(matches!(ended.unwrap(), Told::Later(_)));
        for answers in [
            "554 canary\r\n",
            "220 x\r\n250 x\r\n535 canary\r\n",
            "220 x\r\n250 x\r\n235 x\r\n250 x\r\n550 canary\r\n",
            "canary\r\n",
            "220 canary",
            "",
        ] {
            let (ended, _) = told(answers, Some(&login)).await;
            let error = ended.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unavailable, "{answers}");
            assert!(!error.text.contains("canary"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_bounded() {
        let long = format!("220 {}\r\n", "x".repeat(MAX_REPLY_BYTES as usize));
        assert!(told(&long, None).await.0.is_err());
        let many = "220-x\r\n".repeat(MAX_REPLY_LINES);
        assert!(told(&many, None).await.0.is_err());
    }

    #[test]
    fn a_login_is_two_lines() {
        for text in ["me", "me\n", "\npass", "me\npa\nss", ""] {
            assert!(plain(&secret(text)).is_err(), "{text:?}");
        }
        for text in ["me\npass", "me\r\npass\r\n"] {
            let said = plain(&secret(text)).unwrap();
            assert_eq!(*said, STANDARD.encode("\0me\0pass"), "{text:?}");
        }
    }
}
