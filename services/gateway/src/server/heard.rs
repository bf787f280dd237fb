//! What came over a connection and is no request: a head that is not HTTP, is too large, or does not end.
//!
//! Invariant: a connection that says nothing, or closes, or idles after an answer asked for nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::access::Peer;
use crate::denials::Attempt;
use crate::http::Api;

/// Whether the other end has said something since it was answered last.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(Arc<AtomicBool>);

impl Said {
    fn note(&self, is_said: bool) {
        self.0.store(is_said, Ordering::Relaxed);
    }

    /// Counts what ended a connection where it was a request that is not understood; a flood of them is one record for
    /// each window.
    pub(super) fn count(&self, api: &Api, peer: &Peer, error: &hyper::Error) {
        let is_said = self.0.load(Ordering::Relaxed);
        let Some(why) = misread(error, is_said) else {
            return;
        };
        let principal = api.access.principal(peer);
        let attempt = Attempt::new(
            api.clock.now(),
            &format!("a request that is not understood: {why}"),
        );
        api.denials.count(&principal, attempt);
    }
}

/// What is wrong with the head of a request, if that ended a connection.
fn misread(error: &hyper::Error, is_said: bool) -> Option<&'static str> {
    if error.is_parse_too_large() {
        return Some("its head is too large");
    }
    if error.is_parse() {
        return Some("it is not HTTP");
    }
    (error.is_timeout() && is_said).then_some("its head did not end in time")
}

/// A stream that notes that.
pub(super) struct Heard<S> {
    pub(super) stream: S,
    pub(super) said: Said,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let heard = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut heard.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            heard.said.note(true);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let heard = self.get_mut();
        heard.said.note(false);
        Pin::new(&mut heard.stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let heard = self.get_mut();
        heard.said.note(false);
        Pin::new(&mut heard.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
