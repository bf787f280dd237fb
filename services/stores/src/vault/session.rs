//! Who we are at the server: logging in, keeping the token alive, logging in again.
//!
//! Invariants: one login at a time; a token is renewed when two thirds of its life are over, also
//! while nobody asks anything, and replaced when it cannot be; credentials are read at each login, so
//! a changed one is taken up; a login that was refused is not tried with the same credential again
//! before a growing while has passed; a wrapping token is opened once, after it was checked that it
//! wraps a secret id of the right place. No text holds a credential.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::Method;
use keywheel_core::store::VaultAuth;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::store::LoginRefused;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;
use serde::Serialize;
use tokio_util::task::AbortOnDropHandle;

use super::http::{Answer, Ask, Call, Http};
use super::refusal::Refusals;
use super::wire::{Auth, Envelope, Login, TokenLife, Wrapping};
use super::wrapping::{Place, Slot, Wrappings};
pub(super) use crate::http::json;

/// How long a renewal that nobody waits for may take.
const RENEWAL: Duration = Duration::from_secs(10);

/// A token and its life by the monotonic clock; no end, no renewal.
pub(super) struct Token {
    pub(super) secret: SecretBytes,
    life: Option<Life>,
}

#[derive(Clone, Copy)]
struct Life {
    renew_at: Duration,
    ends: Duration,
    renewable: bool,
}

/// The login at one server.
pub(super) struct Session {
    pub(super) http: Http,
    auth: VaultAuth,
    namespace: String,
    current: tokio::sync::Mutex<Option<Arc<Token>>>,
    wrappings: Arc<Wrappings>,
    /// The secret id it logs in with, if it came wrapped: kept for as long as this session is there.
    unwrapped: Mutex<Option<Slot>>,
    refusals: Refusals,
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// Bodies of logins. They borrow secrets and are written into memory that is overwritten.
#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    AppRole {
        role_id: &'a str,
        secret_id: &'a str,
    },
    Cert {
        #[serde(skip_serializing_if = "str::is_empty")]
        name: &'a str,
    },
    Jwt {
        role: &'a str,
        jwt: &'a str,
    },
    Wrapping {
        token: &'a str,
    },
    None {},
}

impl Session {
    pub(super) fn new(
        http: Http,
        auth: VaultAuth,
        namespace: String,
        wrappings: Arc<Wrappings>,
    ) -> Arc<Self> {
        Arc::new(Self {
            refusals: Refusals::new(&*http.entropy),
            http,
            auth,
            namespace,
            current: tokio::sync::Mutex::new(None),
            wrappings,
            unwrapped: Mutex::new(None),
            keeper: Mutex::new(None),
        })
    }

    fn place(&self) -> &str {
        &self.http.endpoint.authority
    }

    /// A token that is good as far as we know.
    pub(super) async fn token(self: &Arc<Self>, call: Call<'_>) -> Result<Arc<Token>, PortError> {
        let mut current = self.current.lock().await;
        let now = self.http.clock.monotonic();
        if let Some(token) = current.clone() {
            match token.life {
                Some(life) if now >= life.ends => {}
                Some(life) if now >= life.renew_at => {
                    if let Some(renewed) = self.renew(&token, life, call).await {
                        return Ok(self.keep(&mut current, renewed));
                    }
                    // Not renewed, and not over: today's login may fail where the token still works.
                    let login = self.login(call).await;
                    return match login {
                        Ok(token) => Ok(self.keep(&mut current, token)),
                        Err(_) => Ok(token),
                    };
                }
                _ => return Ok(token),
            }
        }
        *current = None;
        let token = self.login(call).await?;
        Ok(self.keep(&mut current, token))
    }

    /// Another token in place of one that was refused; the same one when it is good after all, and
    /// only the right is missing.
    pub(super) async fn replace(
        self: &Arc<Self>,
        refused: &Arc<Token>,
        call: Call<'_>,
    ) -> Result<Arc<Token>, PortError> {
        let mut current = self.current.lock().await;
        if let Some(token) = current
            .as_ref()
            .filter(|token| !Arc::ptr_eq(token, refused))
        {
            return Ok(Arc::clone(token));
        }
        if self.look_up(&refused.secret, call).await?.is_some() {
            return Ok(Arc::clone(refused));
        }
        *current = None;
        let token = self.login(call).await?;
        Ok(self.keep(&mut current, token))
    }

    fn keep(self: &Arc<Self>, current: &mut Option<Arc<Token>>, token: Token) -> Arc<Token> {
        let token = Arc::new(token);
        *current = Some(Arc::clone(&token));
        let keeper = token.life.filter(|life| life.renewable).map(|life| {
            let wait = life.renew_at.saturating_sub(self.http.clock.monotonic());
            let session = Arc::downgrade(self);
            AbortOnDropHandle::new(tokio::spawn(keep_alive(session, wait)))
        });
        let mut kept = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that called this ends by itself: aborting it would cut this very call.
        if let Some(old) = std::mem::replace(&mut *kept, keeper) {
            drop(old.detach());
        }
        token
    }

    async fn renew(&self, token: &Token, life: Life, call: Call<'_>) -> Option<Token> {
        if !life.renewable {
            return None;
        }
        let answer = self.send(
            "auth/token/renew-self",
            Some(&token.secret),
            &Body::None {},
            true,
            call,
        );
        let answer = answer.await.ok().filter(|answer| answer.status == 200)?;
        let mut login: Login = answer.read(self.place()).ok()?;
        let secret = login.auth.token();
        let renewed = self.alive(secret, login.auth.lease_duration, login.auth.renewable);
        // At the end of its longest life a renewal gives ever less: a new login gives more.
        let gained = renewed.life.is_none_or(|new| new.ends > life.ends);
        gained.then_some(renewed)
    }

    fn alive(&self, secret: SecretBytes, seconds: u64, renewable: bool) -> Token {
        let now = self.http.clock.monotonic();
        let span = Duration::from_secs(seconds);
        let life = (seconds > 0).then(|| Life {
            renew_at: now.saturating_add(span * 2 / 3),
            ends: now.saturating_add(span),
            renewable,
        });
        Token { secret, life }
    }

    /// What the server knows about a token; `None` when it knows it no more, or tells nothing.
    async fn look_up(
        &self,
        token: &SecretBytes,
        call: Call<'_>,
    ) -> Result<Option<TokenLife>, PortError> {
        let ask = Ask {
            method: Method::GET,
            path: "auth/token/lookup-self".to_owned(),
            token: Some(token),
            namespace: &self.namespace,
            body: None,
            may_repeat: true,
        };
        let answer = self.http.ask(ask, call).await?;
        if answer.status != 200 {
            return Ok(None);
        }
        let found: Envelope<TokenLife> = answer.read(self.place())?;
        Ok(Some(found.data))
    }

    /// The next login is tried, also right after a refused one.
    pub(super) fn forget_refusal(&self) {
        self.refusals.forget();
    }

    async fn login(&self, call: Call<'_>) -> Result<Token, PortError> {
        let credential = self.credential().await?;
        let now = self.http.clock.monotonic();
        if let Some(refused) = self.refusals.stands(&credential, now) {
            return Err(LoginRefused::beneath(refused));
        }
        let done = self.log_in(&credential, call).await;
        match &done {
            Ok(_) => self.refusals.forget(),
            Err(error) => {
                let now = self.http.clock.monotonic();
                self.refusals.note(&credential, error, now);
            }
        }
        done.map_err(LoginRefused::beneath)
    }

    /// What a login shows, as it is now.
    async fn credential(&self) -> Result<Vec<SecretBytes>, PortError> {
        let named = match &self.auth {
            VaultAuth::Token { token } | VaultAuth::Jwt { token, .. } => vec![token],
            VaultAuth::AppRole { secret_id, .. } => vec![secret_id],
            VaultAuth::Cert {
                certificate, key, ..
            } => vec![certificate, key],
        };
        let mut read = Vec::with_capacity(named.len());
        for one in named {
            read.push(self.http.credentials.read(one).await?);
        }
        Ok(read)
    }

    async fn log_in(&self, credential: &[SecretBytes], call: Call<'_>) -> Result<Token, PortError> {
        let Some(first) = credential.first() else {
            let text = "this way to log in shows no credential";
            return Err(PortError::new(ErrorKind::Denied, text));
        };
        match &self.auth {
            VaultAuth::Token { .. } => self.by_token(first, call).await,
            VaultAuth::AppRole {
                mount,
                role_id,
                wrapped,
                ..
            } => {
                self.by_app_role(mount, role_id, first, *wrapped, call)
                    .await
            }
            VaultAuth::Cert { mount, role, .. } => {
                // Those that wait may have shown another certificate.
                self.http.forget_connections();
                self.at(mount, &Body::Cert { name: role }, &[], call).await
            }
            VaultAuth::Jwt { mount, role, .. } => {
                let jwt = text(first, "the JSON Web Token")?;
                let body = Body::Jwt { role, jwt };
                self.at(mount, &body, &[first], call).await
            }
        }
    }

    async fn by_token(&self, token: &SecretBytes, call: Call<'_>) -> Result<Token, PortError> {
        text(token, "the token")?;
        let info = self.look_up(token, call).await?.ok_or_else(|| {
            let namespace = match self.namespace.as_str() {
                "" => String::new(),
                namespace => format!(" (or it is of another namespace than `{namespace}`)"),
            };
            let text = format!(
                "{} refuses the token: it expired, was revoked, or may not look itself up; make a new one{namespace}",
                self.place()
            );
            PortError::new(ErrorKind::Denied, text)
        })?;
        // EXPOSE: a copy of it is what later requests show; it stays in our own kind of memory.
        let secret = SecretBytes::copied(token.expose());
        Ok(self.alive(secret, info.ttl, info.renewable))
    }

    async fn by_app_role(
        &self,
        mount: &str,
        role_id: &str,
        read: &SecretBytes,
        wrapped: bool,
        call: Call<'_>,
    ) -> Result<Token, PortError> {
        let unwrapped = match wrapped {
            true => Some(self.open_wrapping(mount, read, call).await?),
            false => None,
        };
        let secret_id = unwrapped.as_deref().unwrap_or(read);
        let body = Body::AppRole {
            role_id,
            secret_id: text(secret_id, "the secret id")?,
        };
        let done = self.at(mount, &body, &[secret_id], call).await;
        done.map_err(|error| match wrapped && error.kind == ErrorKind::Denied {
            true => PortError {
                text: format!("{}; or wrap a new secret id", error.text),
                ..error
            },
            false => error,
        })
    }

    /// Keeps the secret id of this slot for as long as this session is there.
    fn use_secret_id(&self, slot: &Slot) {
        let mut used = self
            .unwrapped
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *used = Some(Arc::clone(slot));
    }

    /// The secret id in a wrapping token: asked for once, then kept in memory.
    async fn open_wrapping(
        &self,
        mount: &str,
        wrapping: &SecretBytes,
        call: Call<'_>,
    ) -> Result<Arc<SecretBytes>, PortError> {
        let place = Place {
            server: self.place(),
            namespace: &self.namespace,
            mount,
        };
        let slot = self.wrappings.slot(&place, wrapping);
        self.use_secret_id(&slot);
        let mut known = slot.lock().await;
        if let Some(known) = &*known {
            return Ok(Arc::clone(known));
        }
        self.is_of_secret_id(mount, wrapping, call).await?;
        let answer = self
            .send(
                "sys/wrapping/unwrap",
                Some(wrapping),
                &Body::None {},
                false,
                call,
            )
            .await?;
        let secret_id = answer.member("secret_id").filter(|_| answer.status == 200);
        let secret_id = Arc::new(secret_id.ok_or_else(|| unopened("was used or has expired"))?);
        *known = Some(Arc::clone(&secret_id));
        Ok(secret_id)
    }

    /// Whether a wrapping token is good, and wraps what it is to wrap; leaves it closed.
    async fn is_of_secret_id(
        &self,
        mount: &str,
        wrapping: &SecretBytes,
        call: Call<'_>,
    ) -> Result<(), PortError> {
        let token = text(wrapping, "the wrapping token")?;
        let body = Body::Wrapping { token };
        let looked = self.send("sys/wrapping/lookup", None, &body, true, call);
        let looked = looked.await?;
        if looked.status != 200 {
            return Err(unopened("was used or has expired"));
        }
        let looked: Envelope<Wrapping> = looked.read(self.place())?;
        let made = looked.data.creation_path;
        if !made.contains(&format!("auth/{mount}/role/")) || !made.ends_with("/secret-id") {
            return Err(unopened(
                "wraps something else: somebody may have changed it",
            ));
        }
        Ok(())
    }

    async fn at(
        &self,
        mount: &str,
        body: &Body<'_>,
        secrets: &[&SecretBytes],
        call: Call<'_>,
    ) -> Result<Token, PortError> {
        let path = format!("auth/{mount}/login");
        let answer = self.send(&path, None, body, false, call).await?;
        if answer.status != 200 {
            let place = self.place();
            let text = match answer.status {
                404 => format!(
                    "{place} has no login at {path}; correct the auth method's mount or the namespace"
                ),
                status => format!(
                    "{place} refuses the login at {path} ({status}): {}; correct role and credential",
                    answer.reasons(secrets)
                ),
            };
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        let mut login: Login = answer.read(self.place())?;
        let secret = login.auth.token();
        let Auth {
            lease_duration,
            renewable,
            ..
        } = login.auth;
        Ok(self.alive(secret, lease_duration, renewable))
    }

    /// An answer that says something about what was shown. A server that fails, or one in front of it,
    /// says nothing about a credential.
    async fn send(
        &self,
        path: &str,
        token: Option<&SecretBytes>,
        body: &Body<'_>,
        may_repeat: bool,
        call: Call<'_>,
    ) -> Result<Answer, PortError> {
        let ask = Ask {
            method: Method::POST,
            path: path.to_owned(),
            token,
            namespace: &self.namespace,
            body: Some(json(body)?),
            may_repeat,
        };
        let answer = self.http.ask(ask, call).await?;
        match answer.status {
            300..400 | 500.. => Err(self.http.busy(&answer)),
            _ => Ok(answer),
        }
    }
}

fn unopened(why: &str) -> PortError {
    let text = format!("the wrapping token of the secret id {why}; wrap a new secret id");
    PortError::new(ErrorKind::Denied, text)
}

/// A credential as text, without characters that no token has.
fn text<'a>(secret: &'a SecretBytes, what: &str) -> Result<&'a str, PortError> {
    // EXPOSE: it is sent to the server as JSON or in a header, both of which are text.
    let text = std::str::from_utf8(secret.expose()).ok();
    let text =
        text.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()));
    text.ok_or_else(|| {
        let text = format!("{what} is empty or no single word; put the right one where it is read");
        PortError::new(ErrorKind::Denied, text)
    })
}

/// Renews a token while nobody asks anything, so that it does not end between two polls.
async fn keep_alive(session: Weak<Session>, wait: Duration) {
    tokio::time::sleep(wait).await;
    let Some(session) = session.upgrade() else {
        return;
    };
    let clock = Arc::clone(&session.http.clock);
    let until = Until::new(Timestamp::plus(clock.now(), RENEWAL), Arc::clone(&clock));
    let call = Call {
        until: &until,
        ends: clock.monotonic().saturating_add(RENEWAL),
    };
    // Who asks next tries again, and tells why it fails.
    let _renewed = tokio::time::timeout(RENEWAL, session.token(call)).await;
}
