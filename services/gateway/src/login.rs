//! Logging in at a provider of identities (OpenID Connect): what is asked of it, and whom it names.
//!
//! The gateway is the provider's client: it has codes exchanged and verifies what comes back, so no secret of ours and
//! no identity token passes a person's machine. Invariants: the issuer is the configured one; a name counts only after
//! its token was verified (`claims`); keys are read anew for a name that is not known, and not more often than
//! [`KEYS_AGAIN_AFTER`]; nothing is kept but documents that anybody may read, so any gateway serves any step; no text
//! that is told or recorded holds what a provider sent, but for words of the standard.

mod claims;
mod form;
mod said;

use std::sync::Arc;
use std::time::Duration;

use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::provider::{Provider, Replied};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_identity::jwt::{self, JwtError, Keys};
use keywheel_schemas::api::{DeviceLogin, LoginRequest, LoginSettings};
use keywheel_schemas::config::login::{Provider as Settings, ProviderFile};
use keywheel_seal::SecretBytes;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

pub use claims::{ClaimError, Identity};
use form::Form;
pub use said::Refusal;
use said::{Device, Discovery, Tokens};

/// How long the provider's own description and its keys are believed.
pub const DOCUMENTS_LIFETIME: Duration = Duration::from_secs(3600);
/// How soon its keys are read again when it signed with one that is not known.
pub const KEYS_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Questions to the provider that are under way at once.
pub const MAX_ASKING: usize = 8;
/// Codes for browsers anywhere that are begun in [`DEVICES_SPAN`].
pub const MAX_DEVICES: u32 = 60;
/// The span in which they are counted.
pub const DEVICES_SPAN: Duration = Duration::from_secs(60);
/// Longest code, verifier or refresh token, in bytes.
pub const MAX_PROOF_BYTES: usize = 8 << 10;
/// Where a browser brings a code: a client's own machine, at any port (RFC 8252, 7.3).
pub const REDIRECT_HOST: &str = "http://127.0.0.1:";
/// The path of that.
pub const REDIRECT_PATH: &str = "/callback";
/// How long to wait between two questions after a device code, where the provider does not say (RFC 8628, 3.5).
const DEFAULT_INTERVAL: u64 = 5;
/// Longest such time that is believed.
const MAX_INTERVAL: u64 = 60;
/// How a code for a browser anywhere is asked about.
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Why somebody does not get a login.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// What was sent is out of bounds.
    #[error("{0}")]
    Malformed(&'static str),
    /// The provider says no.
    #[error("the provider says `{0}`")]
    Refused(Refusal),
    /// It named nobody.
    #[error("the provider sent no identity token")]
    NoIdentity,
    /// What it sent does not verify.
    #[error(transparent)]
    Token(#[from] JwtError),
    /// What it sent does not say what it has to.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// It makes no codes for browsers anywhere.
    #[error("the provider makes no codes for browsers anywhere")]
    NoDevice,
    /// Too much is asked at once.
    #[error("too many ask at once")]
    Busy,
    /// Nobody can tell now.
    #[error(transparent)]
    Away(#[from] PortError),
}

/// What came of asking for a login.
#[derive(Debug)]
pub enum Outcome {
    /// Nobody typed the code yet.
    Pending {
        /// How long to wait between two questions from then on, in seconds; nothing when it was not asked too often.
        interval: Option<u64>,
    },
    /// Somebody, by the provider's word.
    Named {
        /// Who.
        identity: Identity,
        /// What the next login is asked for with.
        refresh: Option<SecretBytes>,
    },
}

/// What is known of the provider by its own documents.
#[derive(Default)]
struct Known {
    discovery: Option<(Discovery, Duration)>,
    keys: Option<(Keys, Duration)>,
}

/// Device codes that were begun lately.
#[derive(Default)]
struct Begun {
    since: Duration,
    count: u32,
}

/// Asks one provider.
pub struct Logins {
    settings: Settings,
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    begun: Mutex<Begun>,
    asking: Semaphore,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins")
            .field("issuer", &self.settings.file.issuer)
            .finish_non_exhaustive()
    }
}

impl Logins {
    /// Logins at this provider; nothing is asked yet.
    #[must_use]
    pub fn new(settings: Settings, provider: Arc<dyn Provider>, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            provider,
            clock,
            known: Mutex::default(),
            begun: Mutex::default(),
            asking: Semaphore::new(MAX_ASKING),
        }
    }

    /// How long a login lives at most.
    pub(crate) const fn max_lifetime(&self) -> Duration {
        self.settings.max_lifetime
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.file().issuer
    }

    const fn file(&self) -> &ProviderFile {
        &self.settings.file
    }

    fn place(&self) -> Result<SemaphorePermit<'_>, LoginError> {
        self.asking.try_acquire().map_err(|_| LoginError::Busy)
    }

    fn scopes(&self) -> Vec<String> {
        let more = self.file().scopes.iter().filter(|one| *one != "openid");
        let openid = std::iter::once("openid".to_owned());
        openid.chain(more.cloned()).collect()
    }

    /// Where and how people log in.
    ///
    /// # Errors
    /// When the provider does not describe itself.
    pub async fn settings(&self) -> Result<LoginSettings, LoginError> {
        let _place = self.place()?;
        let discovery = self.discovery().await?;
        Ok(LoginSettings {
            issuer: self.issuer().to_owned(),
            client_id: self.file().client_id.clone(),
            scopes: self.scopes(),
            authorization_endpoint: discovery.authorization_endpoint,
            device: discovery.device_authorization_endpoint.is_some(),
        })
    }

    /// Has the provider make a code for a browser anywhere.
    ///
    /// # Errors
    /// When it makes none, or too many were begun.
    pub async fn begin_device(&self) -> Result<DeviceLogin, LoginError> {
        let _place = self.place()?;
        let discovery = self.discovery().await?;
        let endpoint = discovery.device_authorization_endpoint;
        let endpoint = endpoint.ok_or(LoginError::NoDevice)?;
        self.count_device().await?;
        let form = self.form().with("scope", &self.scopes().join(" "));
        let replied = self.provider.post(&endpoint, &form.written()).await?;
        let said: Device = said::read(&replied, "the code for a browser")?;
        Ok(DeviceLogin {
            device_code: said.device_code,
            user_code: said.user_code,
            verification_uri: said.verification_uri,
            verification_uri_complete: said.verification_uri_complete,
            expires_in_seconds: said.expires_in,
            interval_seconds: said.interval.unwrap_or(DEFAULT_INTERVAL).min(MAX_INTERVAL),
        })
    }

    async fn count_device(&self) -> Result<(), LoginError> {
        let now = self.clock.monotonic();
        let mut begun = self.begun.lock().await;
        if now.saturating_sub(begun.since) >= DEVICES_SPAN {
            *begun = Begun {
                since: now,
                count: 0,
            };
        }
        if begun.count >= MAX_DEVICES {
            return Err(LoginError::Busy);
        }
        begun.count += 1;
        Ok(())
    }

    /// Asks the provider who it is.
    ///
    /// # Errors
    /// When it does not say so in a way that counts.
    pub async fn ask(&self, request: &LoginRequest) -> Result<Outcome, LoginError> {
        let _place = self.place()?;
        check(request)?;
        let discovery = self.discovery().await?;
        let form = self.grant(request).written();
        let replied = self.provider.post(&discovery.token_endpoint, &form).await?;
        drop(form);
        let tokens = match said::tokens(&replied)? {
            Ok(tokens) => tokens,
            Err(refusal) => return pending(request, refusal),
        };
        let is_renewal = matches!(request, LoginRequest::Refresh { .. });
        let identity = match is_renewal && tokens.id_token.is_none() {
            true => self.look_up(&tokens, &discovery).await?,
            false => self.identify(&tokens, &discovery, nonce(request)).await?,
        };
        Ok(Outcome::Named {
            identity,
            refresh: tokens.refresh_token,
        })
    }

    /// Tells the provider that a refresh token counts no more (RFC 7009); whether it took that.
    pub async fn take_back(&self, refresh: &str) -> bool {
        if refresh.is_empty() || refresh.len() > MAX_PROOF_BYTES {
            return false;
        }
        let telling = async {
            let _place = self.place()?;
            let endpoint = self.discovery().await?.revocation_endpoint;
            let endpoint = endpoint.ok_or(LoginError::NoIdentity)?;
            let form = self
                .form()
                .with("token", refresh)
                .with("token_type_hint", "refresh_token");
            Ok::<Replied, LoginError>(self.provider.post(&endpoint, &form.written()).await?)
        };
        let told = telling.await;
        told.is_ok_and(|replied| (200..300).contains(&replied.status))
    }

    fn form(&self) -> Form {
        Form::default().with("client_id", &self.file().client_id)
    }

    fn grant(&self, request: &LoginRequest) -> Form {
        match request {
            LoginRequest::Code {
                code,
                code_verifier,
                redirect_uri,
                ..
            } => self
                .form()
                .with("grant_type", "authorization_code")
                .with("code", code)
                .with("code_verifier", code_verifier)
                .with("redirect_uri", redirect_uri),
            LoginRequest::Device { device_code } => self
                .form()
                .with("grant_type", DEVICE_GRANT)
                .with("device_code", device_code),
            // What was asked for at first is asked for again (RFC 6749, 6).
            LoginRequest::Refresh { refresh_token } => self
                .form()
                .with("grant_type", "refresh_token")
                .with("refresh_token", refresh_token),
        }
    }

    async fn identify(
        &self,
        tokens: &Tokens,
        discovery: &Discovery,
        nonce: Option<&str>,
    ) -> Result<Identity, LoginError> {
        let token = tokens.id_token.as_ref().ok_or(LoginError::NoIdentity)?;
        let keys = self.keys(discovery, DOCUMENTS_LIFETIME).await?;
        // EXPOSE: the token is verified, and nothing of it goes further than what it claims.
        let verified = match jwt::claims(token.expose(), &keys) {
            Err(JwtError::UnknownKey(_)) => {
                let keys = self.keys(discovery, KEYS_AGAIN_AFTER).await?;
                // EXPOSE: as above.
                jwt::claims(token.expose(), &keys)
            }
            verified => verified,
        }?;
        let expected = claims::Expected {
            file: self.file(),
            nonce,
            now: self.clock.now(),
        };
        Ok(claims::read(&verified, &expected)?)
    }

    /// Whom the provider still names, where a renewal brings no identity token (OpenID Connect Core 1.0, 12.2 and 5.3):
    /// by the token that it gave with the renewal, so that nobody else's can be put in its place.
    async fn look_up(
        &self,
        tokens: &Tokens,
        discovery: &Discovery,
    ) -> Result<Identity, LoginError> {
        let endpoint = discovery.userinfo_endpoint.as_ref();
        let (Some(endpoint), Some(token)) = (endpoint, tokens.access_token.as_ref()) else {
            return Err(LoginError::NoIdentity);
        };
        let replied = self.provider.read_as(endpoint, token).await?;
        if let 401 | 403 = replied.status {
            return Err(LoginError::Refused(Refusal::InvalidGrant));
        }
        let said = said::read(&replied, "what it says of a person")?;
        let lifetime = tokens.expires_in.map(Duration::from_secs);
        // No longer than it counts here anyhow: what a provider says may be beyond any time.
        let most = self.settings.max_lifetime;
        let lifetime = lifetime.map_or(most, |lifetime| lifetime.min(most));
        let ends_at = self.clock.now().plus(lifetime);
        Ok(claims::told(&said, self.file(), ends_at)?)
    }

    /// The provider's description of itself; it has to be of the one that is configured.
    async fn discovery(&self) -> Result<Discovery, LoginError> {
        let now = self.clock.monotonic();
        let mut known = self.known.lock().await;
        if let Some((discovery, read_at)) = &known.discovery
            && now.saturating_sub(*read_at) < DOCUMENTS_LIFETIME
        {
            return Ok(discovery.clone());
        }
        let issuer = self.issuer().trim_end_matches('/');
        let url = format!("{issuer}/.well-known/openid-configuration");
        let replied = self.provider.read(&url).await?;
        let discovery: Discovery = said::read(&replied, "its description")?;
        if discovery.issuer != self.issuer() {
            let text = "the provider calls itself another issuer than the one that is configured; correct `issuer` in the file of the provider";
            return Err(PortError::new(ErrorKind::Denied, text).into());
        }
        known.discovery = Some((discovery.clone(), now));
        Ok(discovery)
    }

    /// The provider's keys, read anew when they were read so long ago.
    async fn keys(&self, discovery: &Discovery, lifetime: Duration) -> Result<Keys, LoginError> {
        let now = self.clock.monotonic();
        let mut known = self.known.lock().await;
        if let Some((keys, read_at)) = &known.keys
            && now.saturating_sub(*read_at) < lifetime
        {
            return Ok(keys.clone());
        }
        let replied = self.provider.read(&discovery.jwks_uri).await?;
        let body = said::body(&replied, "its keys")?;
        // EXPOSE: public keys.
        let keys = Keys::parse(body.expose())?;
        known.keys = Some((keys.clone(), now));
        Ok(keys)
    }
}

/// What an identity has to carry; only a code brings it.
fn nonce(request: &LoginRequest) -> Option<&str> {
    match request {
        LoginRequest::Code { nonce, .. } => Some(nonce),
        LoginRequest::Device { .. } | LoginRequest::Refresh { .. } => None,
    }
}

/// A refusal that is none yet.
fn pending(request: &LoginRequest, refusal: Refusal) -> Result<Outcome, LoginError> {
    let is_device = matches!(request, LoginRequest::Device { .. });
    match refusal {
        Refusal::AuthorizationPending if is_device => Ok(Outcome::Pending { interval: None }),
        Refusal::SlowDown if is_device => Ok(Outcome::Pending {
            interval: Some(DEFAULT_INTERVAL * 2),
        }),
        refusal => Err(LoginError::Refused(refusal)),
    }
}

fn check(request: &LoginRequest) -> Result<(), LoginError> {
    let texts: Vec<&String> = match request {
        LoginRequest::Code {
            code,
            code_verifier,
            nonce,
            redirect_uri,
        } => {
            if !is_loopback(redirect_uri) {
                let text = "the browser has to bring the code to http://127.0.0.1:PORT/callback";
                return Err(LoginError::Malformed(text));
            }
            vec![code, code_verifier, nonce]
        }
        LoginRequest::Device { device_code } => vec![device_code],
        LoginRequest::Refresh { refresh_token } => vec![refresh_token],
    };
    let fits = |text: &&String| (1..=MAX_PROOF_BYTES).contains(&text.len());
    match texts.iter().all(fits) {
        true => Ok(()),
        false => Err(LoginError::Malformed(
            "a code, verifier, nonce or refresh token is empty or too long",
        )),
    }
}

fn is_loopback(uri: &str) -> bool {
    let port = uri.strip_prefix(REDIRECT_HOST);
    let port = port.and_then(|rest| rest.strip_suffix(REDIRECT_PATH));
    port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests;
