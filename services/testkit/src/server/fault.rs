//! A proxy between an adapter and a real HTTP server, which does what networks and servers do wrong.
//!
//! It reads one request per connection and forwards it as it is, or does one of [`Fault`] instead. It
//! records the first line of what it was asked. Plain HTTP/1.1 on 127.0.0.1 only. It ends when
//! dropped.

use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::port::held_port;

/// The longest head of a request or an answer.
const MAX_HEAD: usize = 64 << 10;

/// What happens to a request instead of being answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// No answer for this long, then the connection ends; nothing is forwarded.
    Hang(Duration),
    /// This status at once, with `Retry-After` in seconds; nothing is forwarded.
    Status(u16, Option<u32>),
    /// Forwarded; half of the answer comes back, then the connection ends.
    HalfAnswer,
    /// "Says success and did nothing": 200 with this body; nothing is forwarded.
    Lie(String),
    /// This status with this body; nothing is forwarded.
    Answer(u16, String),
    /// Forwarded; the answer is dropped.
    DropAnswer,
    /// Forwarded and done; the answer is held back until the client ends the connection.
    Withhold,
    /// Held back until the client ends its connection; then forwarded and done.
    Late,
    /// The connection is reset before anything is forwarded.
    Reset,
}

/// Faults for requests whose head contains a text.
#[derive(Debug)]
struct Rule {
    needle: String,
    fault: Fault,
    times: u32,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    lines: Vec<String>,
    /// Clients that ended their connection before their request was forwarded, and it was done since.
    left: usize,
}

/// A running proxy.
pub struct FaultProxy {
    port: u16,
    server: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// In front of a server; forwards everything until told otherwise.
    ///
    /// # Panics
    /// When its port cannot be listened on.
    pub async fn before(server: SocketAddr) -> Self {
        let mut proxy = Self {
            port: held_port(),
            server,
            state: Arc::default(),
            accepting: None,
        };
        proxy.listen().await;
        proxy
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The next requests whose head contains `needle` meet this fault, so many times.
    pub fn on(&self, needle: &str, fault: Fault, times: u32) {
        lock(&self.state).rules.push(Rule {
            needle: needle.to_owned(),
            fault,
            times,
        });
    }

    /// No more faults.
    pub fn heal(&self) {
        lock(&self.state).rules.clear();
    }

    /// Refuses connections, and ends those there are.
    pub async fn refuse(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _aborted = accepting.await;
        }
    }

    /// Takes connections, after [`Self::refuse`] too.
    ///
    /// # Panics
    /// When its port cannot be listened on.
    pub async fn listen(&mut self) {
        let place = (Ipv4Addr::LOCALHOST, self.port);
        let listener = Listener(TcpListener::bind(place).await.unwrap());
        let (server, state) = (self.server, Arc::clone(&self.state));
        self.accepting = Some(tokio::spawn(accept(listener, server, state)));
    }

    /// First lines and other lines of heads that contain `needle`, since the last [`Self::forget`].
    #[must_use]
    pub fn asked(&self, needle: &str) -> usize {
        self.counter().asked(needle)
    }

    /// How many clients ended their connection before their request was forwarded, and it was done
    /// since.
    #[must_use]
    pub fn left(&self) -> usize {
        lock(&self.state).left
    }

    /// Counts all that is asked, and outlives this borrow.
    #[must_use]
    pub fn counter(&self) -> Counter {
        Counter(Arc::clone(&self.state))
    }

    /// Forgets what was asked.
    pub fn forget(&self) {
        lock(&self.state).lines.clear();
    }
}

/// Counts what a proxy is asked.
#[derive(Debug, Clone)]
pub struct Counter(Arc<Mutex<State>>);

impl Counter {
    /// As [`FaultProxy::asked`]; everything contains an empty text.
    #[must_use]
    pub fn asked(&self, needle: &str) -> usize {
        let state = lock(&self.0);
        let found = state.lines.iter().filter(|head| head.contains(needle));
        found.count()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens until it is dropped, and not longer. A child that was made a moment ago has a copy of every
/// descriptor until its program begins: closing alone would leave the port taken until then.
struct Listener(TcpListener);

impl Drop for Listener {
    fn drop(&mut self) {
        let _closed_anyway = rustix::net::shutdown(&self.0, Shutdown::Both);
    }
}

/// Connections end with this task.
async fn accept(listener: Listener, server: SocketAddr, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.0.accept().await {
        connections.spawn(serve(client, server, Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut client: TcpStream, server: SocketAddr, state: Arc<Mutex<State>>) -> Result<()> {
    let (head, body) = read_message(&mut client).await?;
    match fault_for(&state, &head) {
        None => forward(&mut client, server, &head, &body, usize::MAX).await,
        Some(Fault::Hang(span)) => {
            // The client may give up sooner.
            let mut byte = [0];
            let _ended = tokio::time::timeout(span, client.read(&mut byte)).await;
            Ok(())
        }
        Some(Fault::Status(status, retry_after)) => {
            let wait = retry_after.map_or_else(String::new, |s| format!("Retry-After: {s}\r\n"));
            answer(&mut client, status, &wait, "{\"errors\":[\"fault\"]}").await
        }
        Some(Fault::Answer(status, body)) => answer(&mut client, status, "", &body).await,
        Some(Fault::Lie(body)) => answer(&mut client, 200, "", &body).await,
        Some(Fault::HalfAnswer) => forward(&mut client, server, &head, &body, 2).await,
        Some(Fault::DropAnswer) => forward(&mut client, server, &head, &body, 0).await,
        Some(Fault::Withhold) => {
            send_on(server, &head, &body).await?;
            let mut byte = [0];
            // An end, orderly or not.
            let _end = client.read(&mut byte).await;
            lock(&state).left += 1;
            Ok(())
        }
        Some(Fault::Late) => {
            let mut byte = [0];
            // An end, orderly or not.
            let _end = client.read(&mut byte).await;
            send_on(server, &head, &body).await?;
            lock(&state).left += 1;
            Ok(())
        }
        Some(Fault::Reset) => client.set_zero_linger(),
    }
}

fn fault_for(state: &Mutex<State>, head: &str) -> Option<Fault> {
    let mut state = lock(state);
    state.lines.push(head.to_owned());
    let due = |rule: &&mut Rule| rule.times > 0 && head.contains(&rule.needle);
    let rule = state.rules.iter_mut().find(due)?;
    rule.times -= 1;
    Some(rule.fault.clone())
}

async fn answer(client: &mut TcpStream, status: u16, headers: &str, body: &str) -> Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} fault\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         {headers}Connection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    client.shutdown().await
}

/// Gives back the whole answer, or one part in so many of it, or nothing (0).
async fn forward(
    client: &mut TcpStream,
    server: SocketAddr,
    head: &str,
    body: &[u8],
    part: usize,
) -> Result<()> {
    let whole = send_on(server, head, body).await?;
    let length = match part {
        usize::MAX => whole.len(),
        0 => 0,
        part => whole.len() / part,
    };
    client
        .write_all(whole.get(..length).unwrap_or_default())
        .await?;
    client.shutdown().await
}

/// The server's whole answer.
async fn send_on(server: SocketAddr, head: &str, body: &[u8]) -> Result<Vec<u8>> {
    let mut upstream = TcpStream::connect(server).await?;
    let (first, rest) = head.split_once("\r\n").unwrap_or((head, ""));
    let kept = rest
        .split("\r\n")
        .filter(|line| !is_header(line, "connection"));
    let kept: Vec<_> = kept.collect();
    let head = format!("{first}\r\nConnection: close\r\n{}", kept.join("\r\n"));
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(body).await?;
    let mut whole = Vec::new();
    upstream.read_to_end(&mut whole).await?;
    Ok(whole)
}

fn is_header(line: &str, name: &str) -> bool {
    let found = line.split_once(':');
    found.is_some_and(|(found, _)| found.trim().eq_ignore_ascii_case(name))
}

/// Head (with the empty line) and body of one request.
async fn read_message(from: &mut (impl AsyncRead + Unpin)) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > MAX_HEAD || from.read_buf(&mut bytes).await? == 0 {
            return Err(Error::other("no request"));
        }
    };
    let body = bytes.split_off(end);
    let head = String::from_utf8(bytes).map_err(Error::other)?;
    let header = |name| head.split("\r\n").find(|line| is_header(line, name));
    let length =
        header("content-length").and_then(|line| line.split_once(':')?.1.trim().parse().ok());
    let chunked = header("transfer-encoding").is_some();
    let mut body = body;
    loop {
        let complete = match length {
            Some(length) => body.len() >= length,
            None => !chunked || body.ends_with(b"0\r\n\r\n"),
        };
        if complete {
            return Ok((head, body));
        }
        if from.read_buf(&mut body).await? == 0 {
            return Err(Error::other("half a request"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    /// A server that says how many requests it had, and closes.
    async fn counting() -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            for n in 1.. {
                let (mut client, _) = listener.accept().await.unwrap();
                let (_, body) = read_message(&mut client).await.unwrap();
                let text = format!("{n}:{}", String::from_utf8(body).unwrap());
                answer(&mut client, 200, "", &text).await.unwrap();
            }
        });
        (address, serving)
    }

    async fn ask(proxy: &FaultProxy, path: &str) -> Result<String> {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await?;
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
        client.write_all(head.as_bytes()).await?;
        let mut whole = String::new();
        client.read_to_string(&mut whole).await?;
        Ok(whole)
    }

    #[tokio::test]
    async fn each_fault_is_what_it_says_and_happens_as_often_as_it_was_told() {
        let (server, serving) = counting().await;
        let mut proxy = FaultProxy::before(server).await;
        assert!(ask(&proxy, "/a").await.unwrap().ends_with("1:body"));
        proxy.on("/a", Fault::Status(429, Some(7)), 1);
        let busy = ask(&proxy, "/a").await.unwrap();
        assert!(busy.starts_with("HTTP/1.1 429") && busy.contains("Retry-After: 7"));
        proxy.on("/a", Fault::Lie("lie".to_owned()), 1);
        assert!(ask(&proxy, "/a").await.unwrap().ends_with("lie"));
        proxy.on("/a", Fault::Answer(400, "no".to_owned()), 1);
        let no = ask(&proxy, "/a").await.unwrap();
        assert!(no.starts_with("HTTP/1.1 400") && no.ends_with("no"));
        proxy.on("/a", Fault::DropAnswer, 1);
        assert_eq!(ask(&proxy, "/a").await.unwrap(), "");
        proxy.on("/a", Fault::HalfAnswer, 1);
        let half = ask(&proxy, "/a").await.unwrap();
        assert!(half.starts_with("HTTP/1.1 200") && !half.contains("body"));
        proxy.on("/a", Fault::Hang(Duration::from_millis(1)), 1);
        assert_eq!(ask(&proxy, "/a").await.unwrap_or_default(), "");
        proxy.on("/a", Fault::Reset, 1);
        assert_eq!(ask(&proxy, "/a").await.unwrap_or_default(), "");
        proxy.on("/a", Fault::Reset, 1);
        assert!(ask(&proxy, "/b").await.unwrap().ends_with("4:body"));
        proxy.heal();
        proxy.on("/a", Fault::Late, 1);
        let come = async {
            while proxy.asked("POST /a ") < 9 {
                tokio::task::yield_now().await;
            }
            // It came; and so long there is no answer.
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        tokio::select! {
            () = come => {}
            answered = ask(&proxy, "/a") => panic!("it was answered: {answered:?}"),
        }
        while proxy.left() == 0 {
            tokio::task::yield_now().await;
        }
        let after = ask(&proxy, "/a").await.unwrap();
        assert!(after.ends_with("6:body"), "the held one was forwarded");
        assert_eq!((proxy.asked("POST /a "), proxy.asked("POST /b ")), (10, 1));
        assert_eq!(proxy.counter().asked(""), 11);
        proxy.refuse().await;
        let refused = ask(&proxy, "/a").await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        proxy.listen().await;
        assert!(ask(&proxy, "/a").await.unwrap().ends_with("7:body"));
        serving.abort();
    }
    #[tokio::test]
    async fn a_port_is_free_at_once_though_a_child_has_a_copy_of_its_listener() {
        let place = (Ipv4Addr::LOCALHOST, held_port());
        let listener = Listener(TcpListener::bind(place).await.unwrap());
        let copy = listener.0.as_fd().try_clone_to_owned().unwrap();
        drop(listener);
        TcpListener::bind(place).await.unwrap();
        drop(copy);
    }
}
