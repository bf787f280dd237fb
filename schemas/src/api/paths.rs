//! Paths of the API and its limits.

/// `GET`: [`Status`](super::Status).
pub const STATUS: &str = "/v1/status";
/// `POST` [`ApplyRequest`](super::ApplyRequest): [`ApplyResponse`](super::ApplyResponse).
pub const APPLY: &str = "/v1/apply";
/// `GET`: list of [`SecretView`](super::SecretView); `/v1/secrets/{name}` is one.
pub const SECRETS: &str = "/v1/secrets";
/// `GET`: list of [`BindingView`](super::BindingView); `/v1/bindings/{name}` is one.
pub const BINDINGS: &str = "/v1/bindings";
/// `GET`: list of [`RotationView`](super::RotationView); `/v1/rotations/{id}[?wait=seconds]` is one.
pub const ROTATIONS: &str = "/v1/rotations";
/// `GET`: list of [`RevocationView`](super::RevocationView); `/v1/revocations/{id}[?wait=seconds]` is one.
pub const REVOCATIONS: &str = "/v1/revocations";
/// `GET`: list of [`HostView`](super::HostView).
pub const HOSTS: &str = "/v1/hosts";
/// `GET [?secret=]`: list of [`ConsumerView`](super::ConsumerView).
pub const CONSUMERS: &str = "/v1/consumers";
/// `GET`: [`StoreKey`](super::StoreKey).
pub const STORE_KEY: &str = "/v1/store-key";
/// `POST` [`PutRequest`](super::PutRequest): [`RotationView`](super::RotationView).
pub const PUT: &str = "/v1/put";
/// `POST` [`RotateRequest`](super::RotateRequest): [`RotationView`](super::RotationView).
pub const ROTATE: &str = "/v1/rotate";
/// `POST` [`RevokeRequest`](super::RevokeRequest): [`RevocationView`](super::RevocationView).
pub const REVOKE: &str = "/v1/revoke";
/// `GET ?after=&limit=&follow=`: CloudEvents, one a line.
pub const EVENTS: &str = "/v1/events";
/// `GET ?after=&limit=&follow=`: [`AuditLine`](super::AuditLine), one a line.
pub const AUDIT: &str = "/v1/audit";
/// `GET`: [`AuditExport`](super::AuditExport).
pub const AUDIT_EXPORT: &str = "/v1/audit/export";
/// `GET`: [`VerifyReport`](super::VerifyReport).
pub const JOURNAL_VERIFY: &str = "/v1/journal/verify";

/// Largest request body, in bytes: manifests of 1 MiB as JSON text, escaped.
pub const MAX_BODY_BYTES: usize = 4 << 20;
/// Most lines in one answer of `events` and `audit`; a client asks again with `after`.
pub const MAX_PAGE: u64 = 10_000;
/// Longest long poll, in seconds; a client asks again.
pub const MAX_WAIT_SECONDS: u64 = 60;
