//! What came over a connection and is no request. A connection that says nothing, or breaks off, asked for nothing.

use std::time::Duration;

use tokio::net::TcpStream;

/// Whether anything comes in time.
pub(super) async fn says_something(stream: &TcpStream, within: Duration) -> bool {
    let mut first = [0_u8; 1];
    let peeked = tokio::time::timeout(within, stream.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(count)) if count > 0)
}

/// What is wrong with the head of a request, if that ended a connection over which something came.
pub(super) fn misread(error: &hyper::Error) -> Option<&'static str> {
    if error.is_parse_too_large() {
        return Some("a request whose head is too large");
    }
    if error.is_parse() {
        return Some("a request that is not HTTP");
    }
    let is_late = error.is_timeout();
    is_late.then_some("a request whose head did not end in time")
}
