//! Dynamic credentials: a role like `database/creds/app` makes a login for each who reads it.
//!
//! A server ends a lease with the token that minted it. So each lease has a token of its own, an orphan that
//! outlives our login and lives for [`MINT_SPAN`] until it is extended: what was minted by somebody who died
//! before it was on record ends by itself, nothing has to be listed for that, and nobody else's lease is ever
//! looked at. The token is used for that one request and forgotten; its accessor, which opens nothing, names
//! the lease. Invariant: no request that mints is repeated.

use std::time::Duration;

use async_trait::async_trait;
use hyper::Method;
use keywheel_core::store::{RemoteVersion, Source};
use keywheel_engine::port::leases::{Extended, Leases, MINT_SPAN, Minted};
use keywheel_engine::port::rotator::TellsNothing;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::{Api, encoded};
use super::http::{Answer, Ask, Call};
use super::session::json;
use super::wire::Login;
use super::{VaultStore, of_store};

/// How much longer than its lease a token lives, so that the lease is what ends.
const TOKEN_SLACK: Duration = Duration::from_secs(300);
/// What our tokens are called in the server's audit.
const DISPLAY_NAME: &str = "keywheel-lease";
/// What the server says of a token or a lease that is gone, or cannot be renewed.
const GONE: [&str; 5] = [
    "invalid accessor",
    "token not found",
    "lease not found",
    "lease expired",
    "lease is not renewable",
];

/// What the server says of a lease that it does not know.
const UNKNOWN: [&str; 2] = ["lease not found", "invalid lease"];

/// What a role answers.
#[derive(Deserialize)]
struct Made<'a> {
    lease_id: String,
    lease_duration: u64,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What a renewed lease has.
#[derive(Deserialize)]
struct Renewed {
    lease_duration: u64,
}

/// What a renewed token has; it is not told again.
#[derive(Deserialize)]
struct RenewedToken {
    auth: Renewed,
}

/// What a lease is called: the accessor of its token, the end of its id, and its whole time in seconds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    accessor: String,
    suffix: String,
    whole: u64,
}

impl Name {
    fn text(&self) -> RemoteVersion {
        RemoteVersion(format!("{}:{}:{}", self.accessor, self.suffix, self.whole))
    }

    pub(super) fn parse(lease: &RemoteVersion) -> Option<Self> {
        let mut parts = lease.0.split(':');
        let (accessor, suffix) = (parts.next()?, parts.next()?);
        let whole = parts.next()?.parse().ok()?;
        let is_whole = parts.next().is_none() && !accessor.is_empty() && !suffix.is_empty();
        is_whole.then(|| Self {
            accessor: accessor.to_owned(),
            suffix: suffix.to_owned(),
            whole,
        })
    }
}

impl Api {
    /// A login of a role, under a token of its own.
    async fn mint(&self, role: &Source, call: Call<'_>) -> Result<Minted, PortError> {
        self.points.pass("store.lease.before_token").await?;
        let mut login = self.lease_token(call).await?;
        let token = login.auth.token();
        let accessor = std::mem::take(&mut login.auth.accessor);
        match self.mint_with(role, &token, &accessor, call).await {
            Ok(minted) => Ok(minted),
            Err(error) => {
                // What it may have made ends with it; else it ends by itself.
                let _ended = self.end_token(&accessor, call).await;
                Err(error)
            }
        }
    }

    async fn mint_with(
        &self,
        role: &Source,
        token: &SecretBytes,
        accessor: &str,
        call: Call<'_>,
    ) -> Result<Minted, PortError> {
        let place = encoded(&role.path);
        self.points.pass("store.lease.after_token").await?;
        let ask = Ask {
            method: Method::GET,
            path: place.clone(),
            token: Some(token),
            namespace: &self.namespace,
            body: None,
            may_repeat: false,
        };
        let answer = self.session.http.ask(ask, call).await?;
        if answer.status != 200 {
            return Err(self.refused(&answer, "read", &place, Some(token)));
        }
        self.points.pass("store.lease.after_mint").await?;
        let made: Made<'_> = serde_json::from_slice(&answer.body).map_err(|_| self.odd(role))?;
        let suffix = made.lease_id.strip_prefix(&format!("{}/", role.path));
        let name = Name {
            accessor: accessor.to_owned(),
            suffix: suffix.ok_or_else(|| self.odd(role))?.to_owned(),
            whole: made.lease_duration,
        };
        let value = SecretBytes::value(made.data.get().as_bytes().to_vec());
        let value = value.map_err(|_| self.odd(role))?;
        let lease = name.text();
        if Name::parse(&lease).as_ref() != Some(&name) {
            return Err(self.odd(role));
        }
        Ok(Minted { lease, value })
    }

    /// A token that mints one lease. No child of ours: our login may end before the lease does.
    async fn lease_token(&self, call: Call<'_>) -> Result<Login, PortError> {
        let place = "auth/token/create-orphan";
        let body = json(&serde_json::json!({
            "ttl": format!("{}s", MINT_SPAN.as_secs()),
            "renewable": true,
            "display_name": DISPLAY_NAME,
        }))?;
        let answer = self.ask(Method::POST, place, Some(body), call).await?;
        match answer.status {
            200 => answer.read(self.place()),
            _ => Err(self.refused(&answer, "update", place, None)),
        }
    }

    async fn extend(
        &self,
        role: &Source,
        name: &Name,
        call: Call<'_>,
    ) -> Result<Extended, PortError> {
        let whole = Duration::from_secs(name.whole);
        let place = "auth/token/renew-accessor";
        let longer = (whole + TOKEN_SLACK).as_secs();
        let body =
            serde_json::json!({ "accessor": name.accessor, "increment": format!("{longer}s") });
        self.points.pass("store.lease.before_extend").await?;
        let answer = self
            .ask(Method::POST, place, Some(json(&body)?), call)
            .await?;
        let token = match answer.status {
            200 => {
                answer
                    .read::<RenewedToken>(self.place())?
                    .auth
                    .lease_duration
            }
            _ if is_gone(&answer) => return Ok(Extended::Gone),
            _ => return Err(self.refused(&answer, "update", place, None)),
        };
        self.points.pass("store.lease.after_token_extend").await?;
        let place = "sys/leases/renew";
        let id = format!("{}/{}", role.path, name.suffix);
        let body = serde_json::json!({ "lease_id": id, "increment": name.whole });
        let answer = self
            .ask(Method::PUT, place, Some(json(&body)?), call)
            .await?;
        let lease = match answer.status {
            200 => answer.read::<Renewed>(self.place())?.lease_duration,
            _ if is_gone(&answer) => return Ok(Extended::Gone),
            _ => return Err(self.refused(&answer, "update", place, None)),
        };
        self.points.pass("store.lease.after_extend").await?;
        Ok(Extended::For {
            granted: Duration::from_secs(lease.min(token)),
            whole,
        })
    }

    /// Ends a lease: it answers once the login is refused. The end of its token alone says that it is to be.
    async fn end_lease(&self, role: &Source, name: &Name, call: Call<'_>) -> Result<(), PortError> {
        let place = "sys/leases/revoke";
        let id = format!("{}/{}", role.path, name.suffix);
        let body = serde_json::json!({ "lease_id": id, "sync": true });
        self.points.pass("store.lease.before_end").await?;
        let answer = self
            .ask(Method::PUT, place, Some(json(&body)?), call)
            .await?;
        match answer.status {
            200 | 204 => {}
            400 | 404 if UNKNOWN.iter().any(|text| answer.mentions(text)) => {}
            // So it answers where the engine could not reach what it made the login at.
            400 => {
                let text = format!(
                    "{} did not end a lease of {}: {}; see whether the server that the login is for answers",
                    self.place(),
                    role.path,
                    answer.reasons(&[])
                );
                return Err(PortError::new(ErrorKind::Unavailable, text));
            }
            _ => return Err(self.refused(&answer, "update", place, None)),
        }
        self.points.pass("store.lease.after_lease_end").await?;
        self.end_token(&name.accessor, call).await?;
        self.points.pass("store.lease.after_end").await
    }

    /// Whether the server knows the lease no more.
    async fn is_gone(&self, role: &Source, name: &Name, call: Call<'_>) -> Result<bool, PortError> {
        let place = "sys/leases/lookup";
        let id = format!("{}/{}", role.path, name.suffix);
        let body = serde_json::json!({ "lease_id": id });
        let answer = self
            .ask(Method::PUT, place, Some(json(&body)?), call)
            .await?;
        match answer.status {
            200 => Ok(false),
            400 | 404 if UNKNOWN.iter().any(|text| answer.mentions(text)) => Ok(true),
            403 => {
                let text = format!(
                    "{} lets nobody look with this login whether a lease is gone; add `update` on {place} to its policy, as `keywheel store policy NAME` prints it",
                    self.place()
                );
                Err(TellsNothing::error(text))
            }
            _ => Err(self.refused(&answer, "update", place, None)),
        }
    }

    /// Ends a token, and has every lease that it minted ended.
    async fn end_token(&self, accessor: &str, call: Call<'_>) -> Result<(), PortError> {
        let place = "auth/token/revoke-accessor";
        let body = serde_json::json!({ "accessor": accessor });
        let answer = self
            .ask(Method::POST, place, Some(json(&body)?), call)
            .await?;
        match answer.status {
            200 | 204 => Ok(()),
            _ if is_gone(&answer) => Ok(()),
            _ => Err(self.refused(&answer, "update", place, None)),
        }
    }

    fn odd(&self, role: &Source) -> PortError {
        let text = format!(
            "{} answers with something else than a login of {}; name a role that gives logins by lease, like `database/creds/app`",
            self.place(),
            role.path
        );
        PortError::new(ErrorKind::Denied, text)
    }
}

/// What a lease is asked for by. With a name that cannot be read nobody can ask, so nobody says that it is gone.
fn asked_for(lease: &RemoteVersion) -> Result<Name, PortError> {
    Name::parse(lease).ok_or_else(|| {
        TellsNothing::error(
            "a lease is on record by a name that cannot be read, so nobody can ask whether it is gone; look for it at the store, by its role",
        )
    })
}

fn is_gone(answer: &Answer) -> bool {
    matches!(answer.status, 400 | 403 | 404) && GONE.iter().any(|text| answer.mentions(text))
}

#[async_trait]
impl Leases for VaultStore {
    async fn mint(&self, role: &Source, until: &Until) -> Result<Minted, PortError> {
        let call = self.call(until);
        self.within(call, self.api.mint(role, call)).await
    }

    async fn extend(
        &self,
        role: &Source,
        lease: &RemoteVersion,
        until: &Until,
    ) -> Result<Extended, PortError> {
        let Some(name) = Name::parse(lease) else {
            return Ok(Extended::Gone);
        };
        let call = self.call(until);
        self.within(call, self.api.extend(role, &name, call)).await
    }

    async fn end(
        &self,
        role: &Source,
        lease: &RemoteVersion,
        until: &Until,
    ) -> Result<(), PortError> {
        let name = Name::parse(lease).ok_or_else(|| {
            let text = format!("{} is no lease of ours", lease.0);
            of_store(&self.name, PortError::new(ErrorKind::Denied, text))
        })?;
        let call = self.call(until);
        let ended = self.api.end_lease(role, &name, call);
        self.within(call, ended).await
    }

    async fn is_gone(
        &self,
        role: &Source,
        lease: &RemoteVersion,
        until: &Until,
    ) -> Result<bool, PortError> {
        let name = asked_for(lease).map_err(|error| of_store(&self.name, error))?;
        let call = self.call(until);
        self.within(call, self.api.is_gone(role, &name, call)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_called_by_its_token_its_end_and_its_time() {
        let name = Name {
            accessor: "8609694a.ns1".to_owned(),
            suffix: "2f6a614c.ns1".to_owned(),
            whole: 3600,
        };
        assert_eq!(name.text().0, "8609694a.ns1:2f6a614c.ns1:3600");
        assert_eq!(Name::parse(&name.text()), Some(name));
        for odd in ["", "7", "a:b", "a:b:c", ":b:1", "a::1", "a:b:1:2"] {
            let odd = RemoteVersion(odd.to_owned());
            assert_eq!(Name::parse(&odd), None, "{odd:?}");
            let error = asked_for(&odd).unwrap_err();
            assert!(TellsNothing::is_beneath(&error), "{odd:?}");
        }
    }
}
