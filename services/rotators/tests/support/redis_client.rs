//! A client of a Redis server that is none of the adapter's, for several test programs.

use std::path::PathBuf;

use async_trait::async_trait;
use keywheel_testkit::conformance::accounts::Session;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// A client that speaks by lines, and is none of the adapter's.
pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    pub(crate) async fn login(socket: PathBuf, user: &str, password: &str) -> Self {
        let stream = UnixStream::connect(socket).await.unwrap();
        let mut client = Self(BufReader::new(stream));
        let welcome = client.ask(&format!("AUTH {user} {password}")).await;
        assert_eq!(welcome.as_deref(), Some("+OK"));
        client
    }

    /// The answer, each item of a list on a line of its own; nothing when the connection is at its end.
    pub(crate) async fn ask(&mut self, line: &str) -> Option<String> {
        let sent = format!("{line}\r\n");
        self.0.get_mut().write_all(sent.as_bytes()).await.ok()?;
        let first = self.line().await?;
        let Some(count) = first.strip_prefix('*') else {
            return self.item(first).await;
        };
        let count: usize = count.parse().ok()?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            let head = self.line().await?;
            items.push(self.item(head).await?);
        }
        Some(items.join("\n"))
    }

    /// What a first line is, or announces.
    async fn item(&mut self, first: String) -> Option<String> {
        let Some(length) = first.strip_prefix('$').and_then(|n| n.parse().ok()) else {
            return Some(first);
        };
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await.ok()?;
        self.line().await?;
        String::from_utf8(bytes).ok()
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).await.ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    }
}

#[async_trait]
impl Session for Client {
    async fn works(&mut self) -> bool {
        self.ask("PING").await.as_deref() == Some("+PONG")
    }
}
