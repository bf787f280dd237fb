//! The trace of a person's request: the one it names in its `traceparent`, or a new one.
//!
//! A request that changes something is one span, and what it leads to stands below it.

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::trace::Context;
use keywheel_telemetry::traces::{Kind, Span, names};

use super::{Api, unanswered};

/// Whose spans these are.
const SERVICE: &str = "gateway";
/// The W3C's header.
const HEADER: &str = "traceparent";

tokio::task_local! {
    static CURRENT: Context;
}

/// Where what a request leads to stands.
pub(super) fn current(ids: &dyn Ids) -> Context {
    let drawn = || Span::root(SERVICE, "request", Kind::Server, ids).context();
    let current = CURRENT.try_with(|current| *current).ok().or_else(drawn);
    // A root always has a place.
    current.unwrap_or(Context::new([1; 16], [1; 8]))
}

/// The same place for what goes on in a task of its own, which then has to be on record however it ends.
pub(super) fn kept<F: Future>(ids: &dyn Ids, going: F) -> impl Future<Output = F::Output> + use<F> {
    unanswered::goes_on();
    CURRENT.scope(current(ids), going)
}

/// Serves a request within its span. Looks have none: nothing follows from them.
pub(super) async fn traced(api: &Api, request: Request, next: Next) -> Response {
    if request.method() == Method::GET {
        return next.run(request).await;
    }
    let sent = request.headers().get(HEADER);
    let above = sent.and_then(|text| Context::parse(text.to_str().ok()?));
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().to_string();
    let name = format!("{method} {route}");
    let mut span = match above {
        Some(above) => Span::below(SERVICE, name, Kind::Server, Some(above)),
        None => Span::root(SERVICE, name, Kind::Server, &*api.ids),
    };
    span.set(names::HTTP_METHOD, method);
    span.set(names::HTTP_ROUTE, route);
    let response = match span.context() {
        Some(context) => CURRENT.scope(context, next.run(request)).await,
        None => next.run(request).await,
    };
    let status = response.status();
    span.set(names::HTTP_STATUS, u32::from(status.as_u16()));
    if status.is_server_error() {
        span.fail("server", status.canonical_reason().unwrap_or_default());
    }
    response
}
