//! Failures as RFC 9457 problem details.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keywheel_core::audit::Principal;
use keywheel_core::decision::RejectionKind;
use keywheel_core::id::ApprovalId;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::unseal::is_sealed;
use keywheel_schemas::api::{NOT_LET_IN, Problem};

use super::{Answered, Recorded};

/// A request that is not served, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    recorded: bool,
    /// When to come again, in seconds.
    come_again: Option<u64>,
    /// What it waits for.
    location: Option<String>,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: String) -> Self {
        Self {
            status,
            code,
            title,
            detail,
            recorded: false,
            come_again: None,
            location: None,
        }
    }
    /// What is wrong, and the next step.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
    /// The thing named does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "not found",
            detail.into(),
        )
    }
    /// The request is not understood.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid",
            "invalid request",
            detail.into(),
        )
    }
    /// The resource takes other methods.
    pub fn wrong_method(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "invalid",
            "method not allowed",
            detail.into(),
        )
    }
    /// What is there does not allow it.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "conflict", detail.into())
    }
    /// The caller may not.
    #[must_use]
    pub fn denied(principal: &Principal) -> Self {
        let who = match principal {
            Principal::User { uid, name } => format!("user `{name}` (uid {uid})"),
            Principal::Operator { name } => format!("operator `{name}`"),
            Principal::Stranger { address } => format!("who comes from {address}"),
            Principal::Service(role) => format!("service {role:?}"),
            Principal::Token { name, owner } => format!("token `{name}` of `{owner}`"),
            Principal::Login { name } => format!("login `{name}`"),
        };
        let detail = format!(
            "{who} {NOT_LET_IN}, and the attempt is on record; use sudo, or ask an administrator to add you to the group `keywheel`"
        );
        Self::new(StatusCode::FORBIDDEN, "denied", "denied", detail)
    }
    /// The caller may not, and keeps asking.
    #[must_use]
    pub fn denied_too_often(principal: &Principal) -> Self {
        let Self { detail, .. } = Self::denied(principal);
        let detail = format!("{detail}; too many attempts: further ones are counted");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "denied", "denied", detail)
    }
    /// The caller may not, and learns no reason; the record has it.
    #[must_use]
    pub fn refused(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "denied", "denied", detail.into())
    }
    /// The caller comes too often.
    #[must_use]
    pub fn too_often(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "denied",
            "too many attempts",
            detail.into(),
        )
    }
    /// All places are taken for a moment; the header `Retry-After` says when to come again.
    #[must_use]
    pub fn busy(detail: impl Into<String>, come_again: u64) -> Self {
        let failure = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "not available now",
            detail.into(),
        );
        Self {
            come_again: Some(come_again),
            ..failure
        }
    }
    /// Nothing was done: others have to approve it first.
    #[must_use]
    pub fn waiting(id: ApprovalId, detail: String) -> Self {
        let failure = Self::new(
            StatusCode::ACCEPTED,
            "waiting",
            "waiting for others",
            detail,
        );
        Self {
            location: Some(format!("/v1/approvals/{id}")),
            ..failure
        }
    }
    /// The request's body did not come in time.
    #[must_use]
    pub fn slow() -> Self {
        let detail = "the request body did not come in time; send it again at once";
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "invalid",
            "invalid request",
            detail.to_owned(),
        )
    }
    /// Whether a command was decided and refused.
    #[must_use]
    pub const fn is_rejection(&self) -> bool {
        self.recorded
    }
    /// What a record says of it.
    pub(super) const fn answered(&self) -> Answered {
        Answered {
            status: self.status,
            is_recorded: self.recorded,
        }
    }
    /// The same, of a request that left a record already.
    #[must_use]
    pub fn on_record(self) -> Self {
        Self {
            recorded: true,
            ..self
        }
    }
    /// The rules say no.
    #[must_use]
    pub fn rejected(kind: RejectionKind, text: String) -> Self {
        let failure = match kind {
            RejectionKind::NotFound => Self::not_found(text),
            RejectionKind::Invalid => Self::invalid(text),
            RejectionKind::Conflict => {
                Self::new(StatusCode::CONFLICT, "conflict", "conflict", text)
            }
        };
        // The command was decided, and its record says so.
        failure.on_record()
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        let (status, code, title) = match error.kind {
            kind if is_sealed(kind, &error.text) => {
                (StatusCode::SERVICE_UNAVAILABLE, "sealed", "sealed")
            }
            ErrorKind::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "not available now",
            ),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found", "not found"),
            ErrorKind::Conflict => (StatusCode::CONFLICT, "conflict", "conflict"),
            ErrorKind::Denied => (StatusCode::BAD_REQUEST, "invalid", "refused"),
            ErrorKind::Corrupt => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "corrupt",
                "damaged state",
            ),
        };
        Self::new(status, code, title, error.text)
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self::invalid(format!(
            "the request body is not what this verb takes: {}",
            rejection.body_text()
        ))
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(format!(
            "the path is not what this verb takes: {}; percent-encode UTF-8",
            rejection.body_text()
        ))
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(format!(
            "the query is not what this verb takes: {}",
            rejection.body_text()
        ))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("about:blank#{}", self.code),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.to_owned(),
        };
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, kind, Json(problem)).into_response();
        if let Some(seconds) = self.come_again {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        let location = self.location.and_then(|to| HeaderValue::try_from(to).ok());
        if let Some(location) = location {
            response.headers_mut().insert(header::LOCATION, location);
        }
        if self.recorded {
            response.extensions_mut().insert(Recorded);
        }
        response
    }
}
