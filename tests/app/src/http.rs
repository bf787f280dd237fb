//! What it serves on a unix socket: `/health`, `/stats`, and `/query`, which asks the first database.
//!
//! One connection is one request. It serves whoever reaches the socket: the container's health check, and
//! the test.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::pool::Pool;

/// Longest head of a request.
const MAX_HEAD: usize = 4096;
/// A client that does not go on is left alone after this.
const TIMEOUT: Duration = Duration::from_secs(120);
const WELL: &str = "HTTP/1.1 200 ";

/// The application.
pub(crate) struct App {
    pools: Vec<Arc<Pool>>,
    /// It does not work with a password that begins with this.
    breaks_on: Option<String>,
    is_leaving: AtomicBool,
    /// Requests under way.
    under_way: AtomicUsize,
}

impl App {
    pub(crate) fn new(pools: Vec<Arc<Pool>>, breaks_on: Option<String>) -> Self {
        Self {
            pools,
            breaks_on,
            is_leaving: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
        }
    }

    pub(crate) fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// From now on it says that it is not well, and serves on.
    pub(crate) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }

    fn is_broken(&self) -> bool {
        let Some(beginning) = &self.breaks_on else {
            return false;
        };
        let mut pools = self.pools.iter();
        pools.any(|pool| pool.has_password_like(beginning))
    }

    fn is_well(&self) -> bool {
        let is_leaving = self.is_leaving.load(Ordering::Relaxed);
        !is_leaving && !self.is_broken() && self.pools.iter().all(|pool| pool.is_well())
    }

    /// Status and body for a path.
    fn answer(&self, path: &str) -> (&'static str, String) {
        match path {
            "/health" if self.is_well() => ("200 OK", "well".to_owned()),
            "/health" => ("503 Service Unavailable", "not well".to_owned()),
            "/stats" => {
                let stats: Vec<String> = self.pools.iter().map(|pool| pool.stats()).collect();
                ("200 OK", format!("[{}]", stats.join(",")))
            }
            "/query" if self.is_broken() => ("500 Broken", "broken".to_owned()),
            "/query" => match self.pools.first().map(|pool| pool.query_next()) {
                Some(Ok(value)) => ("200 OK", value),
                Some(Err(failure)) => ("500 Query Failed", failure.to_string()),
                None => ("404 Not Found", "no database".to_owned()),
            },
            _ => ("404 Not Found", "health, stats or query".to_owned()),
        }
    }
}

/// Serves from now on.
pub(crate) fn listen(socket: &Path, app: &Arc<App>) -> io::Result<()> {
    // The one that it left when it ended.
    let _left = fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    let app = Arc::clone(app);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let app = Arc::clone(&app);
            app.under_way.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || {
                // A client that went away is told nothing.
                let _told = serve(stream, &app);
                app.under_way.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

fn serve(mut stream: UnixStream, app: &App) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let head = head(&mut stream)?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, body) = app.answer(path);
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes())
}

/// A request up to its empty line.
fn head(stream: &mut UnixStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Asks the application behind this socket whether it is well.
pub(crate) fn is_well(socket: &Path) -> bool {
    let asked = || -> io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: app\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    asked().is_ok_and(|answer| answer.starts_with(WELL))
}
