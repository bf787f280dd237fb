//! What went wrong at AWS, as one of the port's kinds and in words a person can act on.
//!
//! Invariants: of what the server wrote, only its error's name is told, and the sentence of
//! `AccessDeniedException`, which names the action and who asked; nothing of a request is told but
//! the name of what was asked for.

use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use keywheel_engine::port::store::LoginRefused;
use keywheel_engine::port::{ErrorKind, PortError};

use super::connection::root;

/// Longest sentence of a server that is told on.
const MAX_SENTENCE_CHARS: usize = 400;
/// Longest name of an error that is told on.
const MAX_CODE_CHARS: usize = 80;

/// What a caller here acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// No such secret, or no such version of it.
    Missing,
    /// A secret of that name, or another value under that token, is there already.
    Exists,
    /// A label is not where the request says.
    Label,
    /// Not in the state that it is in: it is to be deleted.
    State,
    /// The session has ended; newer credentials may be at hand.
    Expired,
    /// AWS does not take whoever asks for who it says it is.
    Stranger,
    /// AWS knows who asks, and that one may not do it.
    Denied,
    /// What lies there is encrypted with a KMS key that whoever asks may not use.
    Key,
    /// HTTP 403 that says no more: of something on the way, or of a server that speaks AWS's API.
    Forbidden,
    /// Everything else.
    Other,
}

/// A failed request.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    error: PortError,
}

impl From<Failure> for PortError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        let reason = Reason::Other;
        Self { reason, error }
    }
}

/// Tells a failure of the SDK; `what` is what was asked, with its name.
pub(super) fn failure<E>(what: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match unanswered(what, error) {
        Ok((status, answer)) => answered(what, status, answer),
        Err(error) => Failure::from(error),
    }
}

/// What the service itself answered, with its status; told already where it did not.
pub(super) fn unanswered<'e, E>(
    what: &str,
    error: &'e SdkError<E, HttpResponse>,
) -> Result<(u16, &'e E), PortError>
where
    E: std::error::Error + 'static,
{
    let unavailable = |text: String| {
        let text = format!("{what}: {text}");
        Err(PortError::new(ErrorKind::Unavailable, text))
    };
    match error {
        SdkError::ServiceError(answer) => Ok((answer.raw().status().as_u16(), answer.err())),
        SdkError::ResponseError(_) => {
            unavailable("the answer was cut short, too long, or none of AWS".to_owned())
        }
        SdkError::TimeoutError(_) => unavailable("no connection in time".to_owned()),
        SdkError::DispatchFailure(_) => unavailable(format!(
            "no answer: {}; check the endpoint, the network and its certificates",
            root(error)
        )),
        _ => unavailable(format!("the request could not be made: {}", root(error))),
    }
}

/// The name of an error, and the server's sentence where it names an action and who asked; both short, and plain.
pub(super) fn told(error: &dyn ProvideErrorMetadata) -> (String, Option<String>) {
    let short = |text: &str, most: usize| -> String {
        let plain = text.chars().filter(|c| !c.is_control());
        plain.take(most).collect()
    };
    let code = short(error.code().unwrap_or(""), MAX_CODE_CHARS);
    let sentence = error.message().filter(|_| code == "AccessDeniedException");
    (code, sentence.map(|text| short(text, MAX_SENTENCE_CHARS)))
}

fn answered(what: &str, status: u16, error: &dyn ProvideErrorMetadata) -> Failure {
    let code: String = error
        .code()
        .unwrap_or("")
        .chars()
        .take(MAX_CODE_CHARS)
        .collect();
    let (mut reason, kind) = classify(&code, status);
    // Names of roles and secrets are in the sentence, too.
    let is_key = |text: &str| {
        text.contains("Access to KMS is not allowed") || text.contains("perform: kms:")
    };
    if reason == Reason::Denied && error.message().is_some_and(is_key) {
        reason = Reason::Key;
    }
    let name = match code.as_str() {
        "" => format!("HTTP {status}"),
        code => format!("{code} (HTTP {status})"),
    };
    let mut text = format!("{what}: {name}");
    if code == "AccessDeniedException"
        && let Some(sentence) = error.message()
    {
        let plain = sentence.chars().filter(|c| !c.is_control());
        text.push_str(": ");
        text.extend(plain.take(MAX_SENTENCE_CHARS));
    }
    if let Some(advice) = advice(&code, kind) {
        text.push_str("; ");
        text.push_str(advice);
    }
    let error = PortError::new(kind, text);
    let error = match reason {
        Reason::Expired | Reason::Stranger => LoginRefused::beneath(error),
        _ => error,
    };
    Failure { reason, error }
}

pub(super) fn classify(code: &str, status: u16) -> (Reason, ErrorKind) {
    match code {
        "ResourceNotFoundException" => (Reason::Missing, ErrorKind::NotFound),
        "ResourceExistsException" => (Reason::Exists, ErrorKind::Conflict),
        "InvalidParameterException" => (Reason::Label, ErrorKind::Denied),
        "InvalidRequestException" => (Reason::State, ErrorKind::Denied),
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => {
            (Reason::Expired, ErrorKind::Denied)
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature" => (Reason::Stranger, ErrorKind::Denied),
        "AccessDeniedException" => (Reason::Denied, ErrorKind::Denied),
        "DecryptionFailure" | "EncryptionFailure" => (Reason::Key, ErrorKind::Denied),
        "" if status == 403 => (Reason::Forbidden, ErrorKind::Denied),
        code if code.contains("Throttl") || code == "TooManyRequestsException" => {
            (Reason::Other, ErrorKind::Unavailable)
        }
        "InternalServiceError" | "ServiceUnavailable" => (Reason::Other, ErrorKind::Unavailable),
        _ if status == 429 || status >= 500 => (Reason::Other, ErrorKind::Unavailable),
        _ => (Reason::Other, ErrorKind::Denied),
    }
}

pub(super) fn advice(code: &str, kind: ErrorKind) -> Option<&'static str> {
    Some(match code {
        "AccessDeniedException" => "`keywheel store policy` prints the policy that is needed",
        "UnrecognizedClientException" | "InvalidClientTokenId" => {
            "AWS does not know this access key; declare one that exists"
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "IncompleteSignature" => {
            "the secret access key does not fit the access key id, or this clock is wrong"
        }
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => {
            "the session has ended and the chain has no newer one; renew it where it comes from"
        }
        "DecryptionFailure" | "EncryptionFailure" => {
            "allow `kms:Decrypt` and `kms:GenerateDataKey` on the secret's KMS key"
        }
        "InvalidRequestException" => {
            "it may be marked for deletion: `aws secretsmanager restore-secret`"
        }
        "LimitExceededException" => {
            "a quota of Secrets Manager is reached; remove what is not needed"
        }
        _ if kind == ErrorKind::Unavailable => "it is asked again later",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_work_later_is_unavailable_and_the_rest_is_not() {
        for (code, status) in [
            ("ThrottlingException", 400),
            ("Throttling", 400),
            ("TooManyRequestsException", 400),
            ("InternalServiceError", 500),
            ("", 429),
            ("", 503),
        ] {
            assert_eq!(
                classify(code, status).1,
                ErrorKind::Unavailable,
                "{code} {status}"
            );
        }
        for (code, status, kind) in [
            ("ResourceNotFoundException", 400, ErrorKind::NotFound),
            ("ResourceExistsException", 400, ErrorKind::Conflict),
            ("AccessDeniedException", 400, ErrorKind::Denied),
            ("LimitExceededException", 400, ErrorKind::Denied),
            ("UnrecognizedClientException", 400, ErrorKind::Denied),
            ("ExpiredTokenException", 400, ErrorKind::Denied),
            ("", 404, ErrorKind::Denied),
        ] {
            assert_eq!(classify(code, status).1, kind, "{code} {status}");
        }
    }
}
