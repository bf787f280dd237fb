//! What a request brings as its body: one JSON object of a shape. Which shapes there are is the schemas'.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::Failure;

/// A body as its handler gets it, or why it is none.
pub(super) type Payload<T> = Result<Object<T>, Failure>;

/// A body that was read.
///
/// Invariant: it was an object. A shape alone does not say so: its members would be taken from an array, too, and
/// from an empty one where each has a default.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Object<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let whole = Request::from_parts(parts.clone(), body);
        let bytes = Bytes::from_request(whole, state).await.map_err(|error| {
            Failure::invalid(format!(
                "the request body is not what this verb takes: {}",
                error.body_text()
            ))
        })?;
        let again = Request::from_parts(parts, Body::from(bytes.clone()));
        let Json(read) = Json::from_request(again, state).await?;
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Ok(Self(read)),
            _ => Err(Failure::invalid(
                "the request body is not what this verb takes: it is no JSON object; `GET /v1/openapi.json` has its shape",
            )),
        }
    }
}
