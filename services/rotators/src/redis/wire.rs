//! The protocol of Redis and Valkey (RESP2), as far as changing users needs it: one command, one answer.
//!
//! Invariants: an answer is bounded in time and bytes; what was sent is overwritten; no text of an error
//! quotes what the server said, which quotes rules with hashes of passwords. Written by hand: it is a
//! page of code, and a library would keep copies of passwords.

use std::time::Duration;

use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader,
};
use zeroize::Zeroizing;

/// Longest time for one command, or for a connection.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest line of an answer.
pub const MAX_LINE_BYTES: u64 = 64 << 10;
/// Longest answer: a list of a hundred thousand sessions has half of it.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;
/// What the place of one item costs, so that empty ones are bounded, too.
const ITEM_BYTES: usize = 32;

/// A byte stream to the server.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// A short text.
    Text(String),
    /// A number.
    Number(i64),
    /// Bytes; nothing when there is no such thing.
    Bytes(Option<Vec<u8>>),
    /// Several of these, each as bytes.
    List(Vec<Vec<u8>>),
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server says no, in these words, which are for nobody's eyes.
    Said(String),
    /// Anything else.
    Other(PortError),
}

/// A connection, and until when it may be used.
pub(super) struct Connection<'a> {
    stream: BufReader<Box<dyn Stream>>,
    name: &'a str,
    until: &'a Until,
}

impl<'a> Connection<'a> {
    pub(super) fn over(stream: Box<dyn Stream>, name: &'a str, until: &'a Until) -> Self {
        Self {
            stream: BufReader::new(stream),
            name,
            until,
        }
    }

    /// Sends a command and reads its answer.
    pub(super) async fn ask(&mut self, words: &[&[u8]]) -> Result<Answer, Failure> {
        self.until.check().map_err(Failure::Other)?;
        let sent = encoded(words);
        let stream = &mut self.stream;
        let exchange = async move {
            stream.write_all(&sent).await?;
            stream.flush().await?;
            answer(stream).await
        };
        match bounded(self.name, exchange).await? {
            Ok(answer) => Ok(answer),
            Err(said) => Err(Failure::Said(said)),
        }
    }
}

/// Waits for an exchange no longer than [`CALL_TIMEOUT`].
pub(super) async fn bounded<T>(
    name: &str,
    exchange: impl Future<Output = std::io::Result<T>>,
) -> Result<T, Failure> {
    let failed = |kind, why: &str| PortError::new(kind, format!("{name} {why}"));
    let Ok(done) = tokio::time::timeout(CALL_TIMEOUT, exchange).await else {
        let why = "does not answer; try again in a moment";
        return Err(Failure::Other(failed(ErrorKind::Unavailable, why)));
    };
    done.map_err(|error| {
        Failure::Other(match error.kind() {
            std::io::ErrorKind::InvalidData => failed(
                ErrorKind::Corrupt,
                "answers with what is not Redis; correct the connection",
            ),
            _ => {
                let text = format!("{name} cannot be reached; start it, or correct the connection");
                PortError::caused(ErrorKind::Unavailable, text, error)
            }
        })
    })
}

/// A command as bytes, in one buffer that does not move and is overwritten.
fn encoded(words: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    // More than the digits and line ends around a word.
    const AROUND: usize = 32;
    let length = words.iter().map(|word| word.len() + AROUND).sum::<usize>() + AROUND;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// An answer, or what the server says against it.
async fn answer(from: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Result<Answer, String>> {
    let mut left = MAX_ANSWER_BYTES;
    let line = line(from).await?;
    let (mark, rest) = split(&line)?;
    Ok(Ok(match mark {
        '+' => Answer::Text(rest.to_owned()),
        '-' => return Ok(Err(rest.to_owned())),
        ':' => Answer::Number(rest.parse().map_err(|_| wrong())?),
        '$' => Answer::Bytes(bytes(from, rest, &mut left).await?),
        '*' => {
            let count: usize = rest.parse().map_err(|_| wrong())?;
            let (mut list, mut said) = (Vec::new(), None);
            for _ in 0..count {
                match item(from, &mut left).await? {
                    Ok(item) => list.push(item),
                    Err(against) => said = said.or(Some(against)),
                }
            }
            match said {
                None => Answer::List(list),
                Some(said) => return Ok(Err(said)),
            }
        }
        _ => return Err(wrong()),
    }))
}

/// One of several answers; what is said against one of them stands for all.
async fn item(
    from: &mut (impl AsyncBufRead + Unpin),
    left: &mut usize,
) -> std::io::Result<Result<Vec<u8>, String>> {
    let line = line(from).await?;
    let spent = line.len().saturating_add(ITEM_BYTES);
    *left = left.checked_sub(spent).ok_or_else(wrong)?;
    match split(&line)? {
        ('$', rest) => bytes(from, rest, left).await?.ok_or_else(wrong).map(Ok),
        ('+', rest) => Ok(Ok(rest.as_bytes().to_vec())),
        ('-', rest) => Ok(Err(rest.to_owned())),
        _ => Err(wrong()),
    }
}

async fn bytes(
    from: &mut (impl AsyncBufRead + Unpin),
    length: &str,
    left: &mut usize,
) -> std::io::Result<Option<Vec<u8>>> {
    if length == "-1" {
        return Ok(None);
    }
    let length: usize = length.parse().map_err(|_| wrong())?;
    let cost = length.saturating_add(ITEM_BYTES);
    *left = left.checked_sub(cost).ok_or_else(wrong)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    let mut end = [0; 2];
    from.read_exact(&mut end).await?;
    match &end {
        b"\r\n" => Ok(Some(bytes)),
        _ => Err(wrong()),
    }
}

/// A line without its end.
async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<String> {
    let mut line = Vec::new();
    let read = from
        .take(MAX_LINE_BYTES)
        .read_until(b'\n', &mut line)
        .await?;
    if read == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.strip_suffix(b"\r\n").ok_or_else(wrong)?;
    String::from_utf8(line.to_vec()).map_err(|_| wrong())
}

fn split(line: &str) -> std::io::Result<(char, &str)> {
    let mut rest = line.chars();
    let mark = rest.next().ok_or_else(wrong)?;
    Ok((mark, rest.as_str()))
}

fn wrong() -> std::io::Error {
    std::io::ErrorKind::InvalidData.into()
}

/// What the server said, for a person.
pub(crate) fn explain(failure: Failure, name: &str) -> PortError {
    let said = match failure {
        Failure::Other(error) => return error,
        Failure::Said(said) => said,
    };
    let word = said.split(' ').next().unwrap_or_default();
    let (kind, why) = match word {
        "WRONGPASS" | "NOAUTH" => (
            ErrorKind::Denied,
            "does not let the admin in; correct its name or its password",
        ),
        "NOPERM" => (
            ErrorKind::Denied,
            "does not allow the admin that; give it what `keywheel rotator grants` prints",
        ),
        "DENIED" => (
            ErrorKind::Denied,
            "is in protected mode and takes nobody from elsewhere; give its default user a password, or switch it off",
        ),
        _ if said.contains("unknown command") || said.contains("wrong number of arguments") => (
            ErrorKind::Denied,
            "has no users: it is older than Redis 6, or renames its commands; name a newer one",
        ),
        "READONLY" => (ErrorKind::Denied, "can only be read; name the primary"),
        "LOADING" | "BUSY" | "MASTERDOWN" | "OOM" | "TRYAGAIN" => {
            (ErrorKind::Unavailable, "is busy; try again in a moment")
        }
        _ => (ErrorKind::Unavailable, "failed; see its log"),
    };
    // Only a word of capitals is known to be a code.
    let is_code = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
    let code = if is_code { word } else { "?" };
    PortError::new(kind, format!("{name} {why} (error {code})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8]) -> std::io::Result<Result<Answer, String>> {
        let mut from = BufReader::new(text);
        answer(&mut from).await
    }

    #[tokio::test]
    async fn answers_of_every_form_are_read() {
        let list = Answer::List(vec![b"one".to_vec(), b"t\r\no".to_vec()]);
        for (text, expected) in [
            (&b"+OK\r\n"[..], Ok(Answer::Text("OK".to_owned()))),
            (b":-7\r\n", Ok(Answer::Number(-7))),
            (
                b"$3\r\n\xffab\r\n",
                Ok(Answer::Bytes(Some(b"\xffab".to_vec()))),
            ),
            (b"$-1\r\n", Ok(Answer::Bytes(None))),
            (b"*2\r\n$3\r\none\r\n$4\r\nt\r\no\r\n", Ok(list)),
            (b"-NOPERM no\r\n", Err("NOPERM no".to_owned())),
            (
                b"*2\r\n+OK\r\n+OK\r\n",
                Ok(Answer::List(vec![b"OK".to_vec(); 2])),
            ),
            (b"*2\r\n-ERR no\r\n+OK\r\n", Err("ERR no".to_owned())),
        ] {
            assert_eq!(read(text).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error_and_never_a_panic() {
        let long = format!(
            "+{}\r\n",
            "x".repeat(usize::try_from(MAX_LINE_BYTES).unwrap())
        );
        let much = format!("${}\r\n", MAX_ANSWER_BYTES - ITEM_BYTES + 1);
        for text in [
            "",
            "+OK",
            "+OK\n",
            "?\r\n",
            "\r\n",
            ":x\r\n",
            "$x\r\n",
            "$3\r\nab\r\n",
            "$2\r\nabcd",
            "*-2\r\n",
            "*1\r\n:1\r\n",
            "*1\r\n$-1\r\n",
            &long,
            &much,
        ] {
            assert!(read(text.as_bytes()).await.is_err(), "{text:.20}");
        }
        let fits = format!(
            "+{}\r\n",
            "x".repeat(usize::try_from(MAX_LINE_BYTES).unwrap() - 3)
        );
        assert!(read(fits.as_bytes()).await.is_ok());
        let mut texts = Vec::new();
        keywheel_testkit::hostile(b"*2\r\n$3\r\none\r\n$4\r\ntwoo\r\n", |bytes| {
            texts.push(bytes.to_vec());
        });
        for text in texts {
            let _read = read(&text).await;
        }
    }

    #[test]
    fn a_command_is_counted_words_in_a_buffer_that_never_moved() {
        let bytes = encoded(&[b"AUTH", b"me", &[b'x'; 100]]);
        assert!(bytes.starts_with(b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$100\r\nxxx"));
        assert!(bytes.ends_with(b"x\r\n"));
        assert!(bytes.capacity() <= 102 + 4 + 4 * 32 + 32, "it did not grow");
    }

    #[test]
    fn what_the_server_says_is_sorted_and_not_quoted() {
        for (said, kind) in [
            ("WRONGPASS canary", ErrorKind::Denied),
            ("NOPERM canary", ErrorKind::Denied),
            ("ERR unknown command 'canary'", ErrorKind::Denied),
            ("LOADING canary", ErrorKind::Unavailable),
            (
                "ERR Error in ACL SETUSER modifier '#canary'",
                ErrorKind::Unavailable,
            ),
            ("canary", ErrorKind::Unavailable),
        ] {
            let error = explain(Failure::Said(said.to_owned()), "db:6379");
            assert_eq!(error.kind, kind, "{said}");
            let text = format!("{error} {error:?}");
            assert!(
                text.starts_with("db:6379 ") && !text.contains("canary"),
                "{text}"
            );
        }
    }
}
