//! What comes to the door of signals and is no request.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bench::Bench;
use crate::incoming::{MAX_TRIES, door, refused};

#[tokio::test]
async fn what_is_no_http_is_counted_and_on_record_and_what_says_nothing_is_not() {
    let bench = Bench::start(&[]).await;
    let door = door(&bench).await;
    let large = format!("POST / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(256 << 10));
    for (sent, status) in [
        ("\u{16}\u{3}\u{1} garbage\r\n\r\n", "400"),
        (large.as_str(), "431"),
    ] {
        let mut stream = TcpStream::connect(door.at).await.unwrap();
        // Who sends too much may be cut off while it writes.
        let _cut = stream.write_all(sent.as_bytes()).await;
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let begin = format!("HTTP/1.1 {status}");
        assert!(answer.is_empty() || answer.starts_with(&begin), "{answer}");
    }
    drop(TcpStream::connect(door.at).await.unwrap());
    assert!(refused(&bench).await.is_empty(), "they are counted");
    drop(door);
    for _ in 0..MAX_TRIES {
        if let [record] = &refused(&bench).await[..] {
            assert!(record.contains("2 more signals were refused"), "{record}");
            assert!(record.contains("whose head is too large"), "{record}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody is told of them");
}
