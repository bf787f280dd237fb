//! A receiver: a small HTTP server that keeps what it got, and answers as it is told.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::bench::until;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signature: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Default)]
struct State {
    got: Vec<Got>,
    /// Statuses of the next answers; then 200.
    answers: VecDeque<u16>,
    /// Whether every answer is 503 instead.
    is_down: bool,
}

/// The receiver.
pub(crate) struct Hook {
    pub(crate) at: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Hook {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { serving.await.unwrap_or_default() });
            }
        });
        Self { at, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.at)
    }

    /// The next answers have these statuses.
    pub(crate) fn answer_with(&self, statuses: &[u16]) {
        self.state.lock().unwrap().answers.extend(statuses);
    }

    /// From now on it fails, or does not.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.state.lock().unwrap().is_down = is_down;
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.state.lock().unwrap().got.clone()
    }

    /// Waits until it got so many.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Got> {
        let what = format!("{count} messages at {}", self.at);
        until(&what, || self.got().len() >= count).await;
        self.got()
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    let header = |name: &str| {
        let value = head.headers.get(name);
        value
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let got = Got {
        path: head.uri.path().to_owned(),
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body,
    };
    let mut state = state.lock().unwrap();
    state.got.push(got);
    let status = match state.is_down {
        true => 503,
        false => state.answers.pop_front().unwrap_or(200),
    };
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}
