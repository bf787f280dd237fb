//! The one parameter of a path: what a request is about.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::{Api, Failure};

/// A name, id or number out of the path, as it was written, percent-decoded. What it names is the
/// handler's matter.
#[derive(Debug)]
pub(super) struct Named(pub(super) String);

impl FromRequestParts<Api> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let Path(name) = Path::<String>::from_request_parts(parts, api).await?;
        Ok(Self(name))
    }
}
