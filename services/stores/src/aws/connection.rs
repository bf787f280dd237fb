//! How AWS is spoken to: TLS, region, credentials, time, retries, and how much an answer may hold.
//!
//! Owns the HTTP client with its connections, and what the standard chain found. Invariants: TLS is
//! rustls with ring and the system's authorities; no proxy is used and no redirect is followed; no
//! answer is read beyond [`MAX_ANSWER_BYTES`]; a declared key is read anew for each call.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::Credentials as Keys;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, InterceptorContext,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::retries::classifiers::{
    ClassifyRetry, RetryAction, RetryClassifierPriority,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::retry::{ErrorKind as RetryKind, RetryConfig};
use http_body_util::Limited;
use keywheel_core::store::{AwsAuth, AwsSpec, CredentialRef};
use keywheel_engine::port::failpoint::Points;
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::AwsStore;

/// The most that is read of an answer: a page of names with all their tags, or a value escaped.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;
/// How often one request is asked, the first time included.
pub(super) const MAX_ATTEMPTS: u32 = 4;
/// The wait before the first repeat; it doubles, and a random part of it is taken.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest wait that is sat out. Who says "later" than that gets no further request in this call.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);
/// How AWS SDKs say which of their defaults are meant.
fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// What is kept between calls.
pub(super) struct Connection {
    spec: AwsSpec,
    http: SharedHttpClient,
    found: Mutex<Option<SdkConfig>>,
    pub(super) points: Points,
}

impl Connection {
    /// Opens nothing.
    pub(super) fn new(spec: AwsSpec) -> Self {
        let tls = Provider::Rustls(CryptoMode::Ring);
        let inner = aws_smithy_http_client::Builder::new()
            .tls_provider(tls)
            .build_https();
        Self {
            spec,
            http: SharedHttpClient::new(BoundedClient(inner)),
            found: Mutex::new(None),
            points: Points::default(),
        }
    }

    /// What was declared.
    pub(super) const fn spec(&self) -> &AwsSpec {
        &self.spec
    }

    /// A client with the credentials of now, which begins no attempt after the deadline.
    pub(super) async fn client(
        &self,
        credentials: &dyn Credentials,
        until: &Until,
    ) -> Result<Client, PortError> {
        let found = self.found().await?;
        let mut config = aws_sdk_secretsmanager::config::Builder::from(&found)
            .retry_config(retries())
            .retry_classifier(ServerSaysWhen)
            .interceptor(InTime(until.clone()));
        if !self.spec.endpoint.is_empty() {
            config = config.endpoint_url(&self.spec.endpoint);
        }
        if let Some(keys) = self.keys(credentials).await? {
            config = config.credentials_provider(keys);
        }
        Ok(Client::from_conf(config.build()))
    }

    /// The same for KMS.
    pub(super) async fn kms(
        &self,
        credentials: &dyn Credentials,
        until: &Until,
    ) -> Result<aws_sdk_kms::Client, PortError> {
        let found = self.found().await?;
        let mut config = aws_sdk_kms::config::Builder::from(&found)
            .retry_config(retries())
            .retry_classifier(ServerSaysWhen)
            .interceptor(InTime(until.clone()));
        if !self.spec.endpoint.is_empty() {
            config = config.endpoint_url(&self.spec.endpoint);
        }
        if let Some(keys) = self.keys(credentials).await? {
            config = config.credentials_provider(keys);
        }
        Ok(aws_sdk_kms::Client::from_conf(config.build()))
    }

    /// The access key that was declared, read now; none where the chain has one.
    async fn keys(&self, credentials: &dyn Credentials) -> Result<Option<Keys>, PortError> {
        let AwsAuth::Keys {
            access_key_id,
            secret_access_key,
            session_token,
        } = &self.spec.auth
        else {
            return Ok(None);
        };
        let what = "the secret access key";
        let secret = text(credentials, secret_access_key, what).await?;
        let token = match session_token {
            // A copy that the SDK keeps, as it keeps the key.
            Some(from) => Some(
                text(credentials, from, "the session token")
                    .await?
                    .to_string(),
            ),
            None => None,
        };
        let keys = Keys::new(access_key_id, secret.as_str(), token, None, "keywheel");
        Ok(Some(keys))
    }

    /// The region that requests go to.
    pub(super) async fn region(&self) -> Result<String, PortError> {
        let found = self.found().await?;
        let region = found.region().map(|region| region.as_ref().to_owned());
        Ok(region.unwrap_or_default())
    }

    /// Forgets what the chain found, so that the next call looks anew.
    pub(super) async fn forget(&self) {
        *self.found.lock().await = None;
    }

    /// Whether the standard chain has credentials at all; with keys it is not asked.
    pub(super) async fn find_credentials(&self) -> Result<(), PortError> {
        let AwsAuth::Chain { profile } = &self.spec.auth else {
            return Ok(());
        };
        let found = self.found().await?;
        let nowhere = |cause: String| {
            let of = match profile.as_str() {
                "" => "the default profile".to_owned(),
                name => format!("profile `{name}`"),
            };
            let text = format!(
                "no AWS credentials in the standard chain (environment, {of} with its keys, role, SSO \
                 session or process, web identity, container, instance){cause}; give store-sync one of them, or declare `keys`"
            );
            PortError::new(ErrorKind::Denied, text)
        };
        let Some(provider) = found.credentials_provider() else {
            return Err(nowhere(String::new()));
        };
        let asked = provider.provide_credentials().await;
        asked
            .map(drop)
            .map_err(|error| nowhere(format!(": {}", root(&error))))
    }

    /// Region and credentials as the standard chain has them.
    async fn found(&self) -> Result<SdkConfig, PortError> {
        let mut found = self.found.lock().await;
        if let Some(found) = &*found {
            return Ok(found.clone());
        }
        let mut loader = aws_config::defaults(behavior()).http_client(self.http.clone());
        if !self.spec.region.is_empty() {
            loader = loader.region(Region::new(self.spec.region.clone()));
        }
        loader = match &self.spec.auth {
            AwsAuth::Chain { profile } if !profile.is_empty() => loader.profile_name(profile),
            AwsAuth::Chain { .. } => loader,
            AwsAuth::Keys { .. } => loader.no_credentials(),
        };
        let config = loader.load().await;
        if config.region().is_none() {
            let text = "no AWS region: neither the declaration nor the standard chain has one; \
                        declare `region`, or set AWS_REGION for store-sync";
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        Ok(found.insert(config).clone())
    }
}

impl AwsStore {
    /// The same, passing these failpoints.
    pub(crate) fn with(self, points: Points) -> Self {
        let connection = Connection {
            points,
            ..self.connection
        };
        Self { connection, ..self }
    }
}

/// A declared credential as text, which all of AWS's are.
async fn text(
    credentials: &dyn Credentials,
    from: &CredentialRef,
    what: &str,
) -> Result<Zeroizing<String>, PortError> {
    let read = credentials.read(from).await.map_err(missing)?;
    // EXPOSE: the SDK signs requests with it, and overwrites it when the client is dropped.
    let text = str::from_utf8(read.expose()).map_err(|_| {
        let text = format!("{what} is no text; put the one that AWS gave");
        PortError::new(ErrorKind::Denied, text)
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// What is missing here says nothing about what is there.
fn missing(error: PortError) -> PortError {
    match error.kind {
        ErrorKind::NotFound => PortError {
            kind: ErrorKind::Unavailable,
            ..error
        },
        _ => error,
    }
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(MAX_ATTEMPTS)
        .with_initial_backoff(FIRST_BACKOFF)
        .with_max_backoff(MAX_RETRY_AFTER)
}

/// The innermost cause in words.
pub(super) fn root(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// HTTP 429 is asked again, and `Retry-After` is kept: the SDK knows only AWS's own forms of both.
#[derive(Debug)]
struct ServerSaysWhen;

impl ClassifyRetry for ServerSaysWhen {
    fn classify_retry(&self, ctx: &InterceptorContext) -> RetryAction {
        let Some(response) = ctx.response() else {
            return RetryAction::NoActionIndicated;
        };
        let kind = match response.status().as_u16() {
            429 => RetryKind::ThrottlingError,
            500..=599 => RetryKind::ServerError,
            _ => return RetryAction::NoActionIndicated,
        };
        let after = response.headers().get("retry-after");
        match after.and_then(|seconds| seconds.trim().parse().ok()) {
            None => RetryAction::retryable_error(kind),
            Some(seconds) if seconds > MAX_RETRY_AFTER.as_secs() => RetryAction::RetryForbidden,
            Some(seconds) => {
                let after = Duration::from_secs(seconds);
                RetryAction::retryable_error_with_explicit_delay(kind, after)
            }
        }
    }

    fn name(&self) -> &'static str {
        "Retry-After"
    }

    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

/// The SDK asks again by itself: each time before the deadline, or not at all.
struct InTime(Until);

impl std::fmt::Debug for InTime {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("InTime")
    }
}

#[dyn_dispatch_hint]
impl Intercept for InTime {
    fn name(&self) -> &'static str {
        "Deadline"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        Ok(self.0.check()?)
    }
}

/// Reads no more of an answer than allowed.
#[derive(Debug)]
struct BoundedClient(SharedHttpClient);

impl HttpClient for BoundedClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.0.http_connector(settings, components);
        SharedHttpConnector::new(BoundedConnector(inner))
    }
}

#[derive(Debug)]
struct BoundedConnector(SharedHttpConnector);

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| SdkBody::from_body_1_x(Limited::new(body, MAX_ANSWER_BYTES))))
        })
    }
}
