//! A client of the bus in the bare text protocol, so that what is tested is the server's answer.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_identity::nats::UserKey;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);

trait Pipe: Read + Write + Send {}
impl<T: Read + Write + Send> Pipe for T {}

/// One connection.
pub struct Client {
    stream: BufReader<Box<dyn Pipe>>,
    next: u32,
}

/// What the server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A message: subject, reply, content.
    Message(String, Option<String>, Vec<u8>),
    /// An error.
    Error(String),
    /// The answer to a PING.
    Pong,
}

impl Client {
    /// Connects with a permit, without TLS.
    pub fn connect(port: u16, key: &UserKey, permit: &str) -> Result<Self, String> {
        let (client, nonce) = Self::greet(port)?;
        client.log_in(&nonce, Some((key, permit)))
    }

    /// Connects without any permit.
    pub fn connect_bare(port: u16) -> Result<Self, String> {
        let (client, nonce) = Self::greet(port)?;
        client.log_in(&nonce, None)
    }

    /// Connects over TLS.
    pub fn connect_tls(
        port: u16,
        config: ClientConfig,
        key: &UserKey,
        permit: &str,
    ) -> Result<Self, String> {
        let (mut tcp, nonce) = greet_raw(port)?;
        let name = "bus.example".try_into().unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut tcp).map_err(|e| e.to_string())?;
        }
        Self::over(StreamOwned::new(session, tcp)).log_in(&nonce, Some((key, permit)))
    }

    fn over(pipe: impl Pipe + 'static) -> Self {
        Self {
            stream: BufReader::new(Box::new(pipe)),
            next: 1,
        }
    }

    fn greet(port: u16) -> Result<(Self, String), String> {
        let (tcp, nonce) = greet_raw(port)?;
        Ok((Self::over(tcp), nonce))
    }

    fn log_in(mut self, nonce: &str, user: Option<(&UserKey, &str)>) -> Result<Self, String> {
        let mut hello = json!({
            "verbose": false, "pedantic": false, "lang": "test", "version": "0",
            "protocol": 1, "headers": true, "no_responders": true,
        });
        if let Some((key, permit)) = user {
            hello["jwt"] = permit.into();
            hello["sig"] = URL_SAFE_NO_PAD
                .encode(key.sign(nonce.as_bytes()).unwrap())
                .into();
        }
        self.send(&format!("CONNECT {hello}\r\n"))?;
        self.settle()?;
        Ok(self)
    }

    fn send(&mut self, text: &str) -> Result<(), String> {
        let stream = self.stream.get_mut();
        stream
            .write_all(text.as_bytes())
            .map_err(|e| e.to_string())?;
        stream.flush().map_err(|e| e.to_string())
    }

    /// Waits until the server has dealt with everything sent; an error it sent is the answer.
    fn settle(&mut self) -> Result<Vec<Said>, String> {
        self.send("PING\r\n")?;
        let mut said = Vec::new();
        loop {
            match self.hear()? {
                Said::Pong => return Ok(said),
                Said::Error(error) => {
                    let _ = self.hear_pong();
                    return Err(error);
                }
                message @ Said::Message(..) => said.push(message),
            }
        }
    }

    fn hear_pong(&mut self) -> Result<(), String> {
        while self.hear()? != Said::Pong {}
        Ok(())
    }

    /// The next thing the server says.
    pub fn hear(&mut self) -> Result<Said, String> {
        loop {
            let mut line = String::new();
            let read = self
                .stream
                .read_line(&mut line)
                .map_err(|e| e.to_string())?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            match *words.first().unwrap_or(&"") {
                "PONG" => return Ok(Said::Pong),
                "PING" => self.send("PONG\r\n")?,
                "-ERR" => return Ok(Said::Error(line.trim().to_owned())),
                "MSG" | "HMSG" => return self.message(&words),
                _ => {}
            }
        }
    }

    fn message(&mut self, words: &[&str]) -> Result<Said, String> {
        let sizes = if words[0] == "HMSG" { 2 } else { 1 };
        let total: usize = words[words.len() - 1].parse().unwrap();
        let headers: usize = match sizes {
            2 => words[words.len() - 2].parse().unwrap(),
            _ => 0,
        };
        let reply = (words.len() == 4 + sizes).then(|| words[3].to_owned());
        let mut content = vec![0; total + 2];
        self.stream
            .read_exact(&mut content)
            .map_err(|e| e.to_string())?;
        content.truncate(total);
        Ok(Said::Message(
            words[1].to_owned(),
            reply,
            content.split_off(headers),
        ))
    }

    /// Subscribes; the error is the server's refusal.
    pub fn subscribe(&mut self, subject: &str) -> Result<(), String> {
        let sid = self.next;
        self.next += 1;
        self.send(&format!("SUB {subject} {sid}\r\n"))?;
        self.settle().map(drop)
    }

    /// Publishes; the error is the server's refusal.
    pub fn publish(&mut self, subject: &str, content: &str) -> Result<(), String> {
        self.send(&format!("PUB {subject} {}\r\n{content}\r\n", content.len()))?;
        self.settle().map(drop)
    }

    /// Publishes with a reply subject, and hears one answer.
    pub fn ask(&mut self, subject: &str, reply: &str, content: &str) -> Result<Value, String> {
        self.send(&format!(
            "PUB {subject} {reply} {}\r\n{content}\r\n",
            content.len()
        ))?;
        match self.hear()? {
            Said::Message(_, _, answer) => {
                Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// The same, and the answer is text.
    pub fn ask_text(&mut self, subject: &str, reply: &str) -> Result<String, String> {
        self.send(&format!("PUB {subject} {reply} 0\r\n\r\n"))?;
        match self.hear()? {
            Said::Message(_, _, answer) => Ok(String::from_utf8_lossy(&answer).into_owned()),
            other => Err(format!("{other:?}")),
        }
    }

    /// Publishes with a reply subject and does not wait.
    pub fn request(&mut self, subject: &str, reply: &str) -> Result<(), String> {
        self.send(&format!("PUB {subject} {reply} 1\r\nx\r\n"))
    }

    /// Waits until the server ends the connection: its last words.
    pub fn until_closed(&mut self) -> String {
        let mut last = String::new();
        loop {
            match self.hear() {
                Ok(Said::Error(error)) => last = error,
                Ok(_) => {}
                Err(error) if last.is_empty() => return error,
                Err(_) => return last,
            }
        }
    }

    /// Whether a message came.
    pub fn has_heard(&mut self) -> bool {
        self.settle().is_ok_and(|said| !said.is_empty())
    }

    /// Still served.
    pub fn is_served(&mut self) -> bool {
        self.settle().is_ok()
    }
}

/// Connects and reads the greeting, byte by byte: TLS may begin right after it.
fn greet_raw(port: u16) -> Result<(TcpStream, String), String> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        let read: io::Result<()> = tcp.read_exact(&mut byte);
        read.map_err(|e| e.to_string())?;
        line.push(byte[0]);
    }
    let text = String::from_utf8(line).unwrap();
    let greeting: Value = serde_json::from_str(text.trim_start_matches("INFO ").trim()).unwrap();
    let nonce = greeting["nonce"].as_str().unwrap_or_default().to_owned();
    Ok((tcp, nonce))
}
