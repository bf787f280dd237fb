//! What a receiver gets, at a server that this test writes.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use keywheel_daemon::SystemClock;
use keywheel_seal::{OsEntropy, SecretBytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::line::tests::lines;
use super::*;

/// What the server was sent last.
#[derive(Debug, Clone, Default)]
pub(in crate::onward) struct Heard {
    /// The head, in small letters.
    pub(in crate::onward) head: String,
    pub(in crate::onward) body: Vec<u8>,
}

/// A server of one word.
#[derive(Clone)]
pub(in crate::onward) struct Server {
    at: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    answer: Arc<Mutex<(u16, Vec<u8>)>>,
}

impl Server {
    pub(in crate::onward) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            at: listener.local_addr().unwrap(),
            heard: Arc::default(),
            answer: Arc::new(Mutex::new((204, Vec::new()))),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(heard) = read(&mut stream).await else {
                    continue;
                };
                *serving.heard.lock().unwrap() = heard;
                let (status, body) = serving.answer.lock().unwrap().clone();
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let answer = [head.as_bytes(), &body].concat();
                stream.write_all(&answer).await.unwrap();
            }
        });
        server
    }

    pub(in crate::onward) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    pub(in crate::onward) fn answers(&self, status: u16, body: Vec<u8>) {
        *self.answer.lock().unwrap() = (status, body);
    }

    pub(in crate::onward) fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    /// A file that only its owner may read.
    pub(in crate::onward) fn closed_file(
        &self,
        directory: &tempfile::TempDir,
        text: &str,
    ) -> String {
        let path = directory.path().join(format!("file-{}", self.at.port()));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }
}

async fn read(stream: &mut tokio::net::TcpStream) -> Option<Heard> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1)?;
            let length: usize = length.lines().next()?.trim().parse().ok()?;
            if bytes.len() >= end + 4 + length {
                let body = bytes[end + 4..].to_vec();
                return Some(Heard { head, body });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let start = format!("{name}: ");
    let line = head.lines().find(|line| line.starts_with(&start));
    line.unwrap().strip_prefix(&start).unwrap()
}

#[test]
fn a_message_has_the_records_in_order() {
    let body: serde_json::Value = serde_json::from_str(&body(&lines(3, 2))).unwrap();
    assert_eq!(body["type"], KIND);
    let records = body["data"]["records"].as_array().unwrap();
    let numbers: Vec<_> = records.iter().map(|one| one["sequence"].as_u64()).collect();
    assert_eq!(numbers, [Some(3), Some(4)]);
}

#[tokio::test]
async fn a_url_is_looked_up_with_the_port_of_its_scheme() {
    let of = async |url: &str| near(url).await.unwrap()[0].to_string();
    assert_eq!(of("https://127.0.0.1/x").await, "127.0.0.1:443");
    assert_eq!(of("http://[::1]/x").await, "[::1]:80");
    assert_eq!(of("http://127.0.0.1:4318/v1/logs").await, "127.0.0.1:4318");
    assert!(near("no url").await.is_err());
}

#[tokio::test]
async fn a_receiver_is_sent_signed_requests_and_a_repeat_has_the_same_id() {
    let server = Server::start().await;
    let directory = tempfile::tempdir().unwrap();
    let key = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let key_file = server.closed_file(&directory, key);
    let way = Way::new(Arc::new(SystemClock::new()), Arc::new(OsEntropy));
    let mut sink = Receiver {
        way: way.to(server.url("/audit"), None),
        key_file: key_file.clone(),
    };
    let records = lines(0, 3);
    let mut ids = Vec::new();
    for status in [204, 500] {
        server.answers(status, Vec::new());
        assert_eq!(sink.tell(&records).await.is_ok(), status == 204);
        let heard = server.heard();
        assert!(
            heard.head.starts_with("post /audit http/1.1"),
            "{}",
            heard.head
        );
        assert_eq!(heard.body, body(&records).as_bytes());
        let id = header(&heard.head, "webhook-id").to_owned();
        let at = header(&heard.head, "webhook-timestamp").parse().unwrap();
        let keys = Keys::parse(&SecretBytes::from(key.as_bytes().to_vec())).unwrap();
        // The head was made small, and base64 is not: so the signature is made again and compared small, too.
        let wanted = keys.sign(&id, at, &heard.body).to_lowercase();
        assert_eq!(header(&heard.head, "webhook-signature"), wanted);
        ids.push(id);
    }
    assert_eq!(ids[0], ids[1]);
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = sink.tell(&records).await.unwrap_err();
    assert!(refused.text.contains("chmod 600"), "{refused}");
}
