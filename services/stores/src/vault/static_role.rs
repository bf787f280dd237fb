//! Static roles of a database engine: the server makes the password of an account itself, when it is told to
//! and when its own time is over.
//!
//! A version is the time of the last rotation (`last_vault_rotation`). What the role tells has it without
//! the password; the password is read only to be fetched, or to see whether it is ours. `make` tells the
//! server to rotate unless it did so since the known version, so a repeat after a lost answer finds what was
//! made. `promote` writes nothing: what is current there is what was made. Invariants: nothing of ours is
//! given to the server; a version that is not current opens nothing any more, so it is gone already; to revoke
//! the current one is to have the next one made, and only a revocation does.

use std::time::Duration;

use hyper::Method;
use keywheel_core::store::{RemoteVersion, Source, StaticRole};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::store::Observed;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;
use serde::Deserialize;

use super::api::{Api, encoded, gone};
use super::http::{Ask, Call};
use super::wire::Envelope;
use super::{NEWER, VaultStore, newer, of_store};

/// The field that is the password.
const PASSWORD: &str = "password";
/// The field that names the account.
const USERNAME: &str = "username";

/// How often a role is looked at after it was rotated: who answers may be behind.
const LOOKS_AFTER: u32 = 5;
/// Between two of these looks.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// What is told of a role.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    last_vault_rotation: String,
}

/// What opens its account. No `Debug`: it would tell the password.
#[derive(Deserialize)]
struct Opens {
    username: String,
    password: String,
    last_vault_rotation: String,
}

/// When a version was made, if its name says so.
pub(super) fn made_at(version: &RemoteVersion) -> Option<jiff::Timestamp> {
    version.0.parse().ok()
}

impl Api {
    /// The version that is current; `None` when there is no such role.
    pub(super) async fn role_now(
        &self,
        role: &StaticRole<'_>,
        call: Call<'_>,
    ) -> Result<Option<Observed>, PortError> {
        let place = role_path(role, "static-roles");
        let answer = self.ask(Method::GET, &place, None, call).await?;
        match answer.status {
            200 => {}
            404 => return Ok(None),
            _ => return Err(self.refused(&answer, "read", &place, None)),
        }
        let told = answer.read::<Envelope<Told>>(self.place())?.data;
        if told.last_vault_rotation.is_empty() {
            return Ok(None);
        }
        let version = RemoteVersion(told.last_vault_rotation);
        let created = made_at(&version).map(|at| Timestamp::from_micros(at.as_microsecond()));
        Ok(Some(Observed { version, created }))
    }

    /// What is current, and the field of it.
    async fn role_value(
        &self,
        at: &Source,
        role: &StaticRole<'_>,
        call: Call<'_>,
    ) -> Result<(RemoteVersion, SecretBytes), PortError> {
        let place = role_path(role, "static-creds");
        let answer = self.ask(Method::GET, &place, None, call).await?;
        if answer.status != 200 {
            return Err(self.refused(&answer, "read", &place, None));
        }
        let opens = answer.read::<Envelope<Opens>>(self.place())?.data;
        let password = SecretBytes::from(opens.password.into_bytes());
        let value = match at.field.as_str() {
            PASSWORD => password,
            USERNAME => SecretBytes::from(opens.username.into_bytes()),
            _ => {
                let text = format!(
                    "{} has no field {}; write `password`, or `username`",
                    at.path, at.field
                );
                return Err(PortError::new(ErrorKind::Denied, text));
            }
        };
        Ok((RemoteVersion(opens.last_vault_rotation), value))
    }

    /// The value of exactly this version.
    pub(super) async fn role_fetch(
        &self,
        at: &Source,
        role: &StaticRole<'_>,
        version: &RemoteVersion,
        call: Call<'_>,
    ) -> Result<SecretBytes, PortError> {
        let (current, value) = self.role_value(at, role, call).await?;
        match current == *version {
            true => Ok(value),
            false => Err(gone(&at.path, &version.0)),
        }
    }

    /// The value that the server made over the known version: now, or since.
    pub(super) async fn role_make(
        &self,
        at: &Source,
        role: &StaticRole<'_>,
        known: Option<&RemoteVersion>,
        call: Call<'_>,
    ) -> Result<SecretBytes, PortError> {
        let (current, value) = self.role_value(at, role, call).await?;
        if Some(&current) != known {
            return Ok(value);
        }
        self.rotate_role(role, call).await?;
        for _ in 0..LOOKS_AFTER {
            let (made, value) = self.role_value(at, role, call).await?;
            if made != current {
                self.points.pass("store.role.after_make").await?;
                return Ok(value);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Err(unchanged(role))
    }

    /// The version that has our value, if that is current and not the known one.
    pub(super) async fn role_ours(
        &self,
        at: &Source,
        role: &StaticRole<'_>,
        (value, known): (&SecretBytes, Option<&RemoteVersion>),
        call: Call<'_>,
    ) -> Result<Option<RemoteVersion>, PortError> {
        if self.role_now(role, call).await?.is_none() {
            return Ok(None);
        }
        let (current, there) = self.role_value(at, role, call).await?;
        let is_ours = Some(&current) != known && there.ct_eq(value);
        Ok(is_ours.then_some(current))
    }

    /// The version opens nothing any more: where it is current, the server makes the next one.
    pub(super) async fn role_end(
        &self,
        role: &StaticRole<'_>,
        version: &RemoteVersion,
        call: Call<'_>,
    ) -> Result<(), PortError> {
        let now = self.role_now(role, call).await?;
        if now.is_none_or(|now| now.version != *version) {
            return Ok(());
        }
        let rotated = self.rotate_role(role, call).await;
        rotated.map_err(|error| match error.kind {
            ErrorKind::Denied => {
                let text = format!(
                    "{}; what is revoked is the password of role {} until then: with that right it is rotated, or rotate it yourself",
                    error.text, role.name
                );
                PortError { text, ..error }
            }
            _ => error,
        })?;
        for _ in 0..LOOKS_AFTER {
            let now = self.role_now(role, call).await?;
            if now.is_none_or(|now| now.version != *version) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Err(unchanged(role))
    }

    /// The end of a rotation leaves what is current: somebody may have had it made since.
    async fn role_left(
        &self,
        at: &Source,
        role: &StaticRole<'_>,
        version: &RemoteVersion,
        call: Call<'_>,
    ) -> Result<(), PortError> {
        let now = self.role_now(role, call).await?;
        if now.is_none_or(|now| now.version != *version) {
            return Ok(());
        }
        let text = format!(
            "{} is the password that is current at {}; only a revocation has another one made",
            version.0, at.path
        );
        Err(PortError::new(ErrorKind::Conflict, text))
    }

    /// Not repeated here: who comes again looks first what became of it.
    async fn rotate_role(&self, role: &StaticRole<'_>, call: Call<'_>) -> Result<(), PortError> {
        let place = role_path(role, "rotate-role");
        let token = self.session.token(call).await?;
        let ask = Ask {
            method: Method::POST,
            path: place.clone(),
            token: Some(&token.secret),
            namespace: &self.namespace,
            body: None,
            may_repeat: false,
        };
        self.points.pass("store.role.before_rotate").await?;
        let answer = self.session.http.ask(ask, call).await?;
        self.points.pass("store.role.after_rotate").await?;
        match answer.status {
            200 | 204 => Ok(()),
            _ => Err(self.refused(&answer, "update", &place, None)),
        }
    }
}

impl VaultStore {
    /// What the role's server makes over the known version.
    pub(super) async fn make_at(
        &self,
        at: &Source,
        known: Option<&RemoteVersion>,
        until: &Until,
    ) -> Result<SecretBytes, PortError> {
        let call = self.call(until);
        let role = at.static_role().filter(|_| at.is_made_there());
        let Some(role) = role else {
            let text = format!("{} makes no values itself; put one", at.path);
            return Err(of_store(
                &self.name,
                PortError::new(ErrorKind::Denied, text),
            ));
        };
        let made = self.api.role_make(at, &role, known, call);
        self.within(call, made).await
    }

    /// The value of exactly this version.
    pub(super) async fn fetch_at(
        &self,
        at: &Source,
        role: &StaticRole<'_>,
        version: &RemoteVersion,
        call: Call<'_>,
    ) -> Result<SecretBytes, PortError> {
        let fetched = self.api.role_fetch(at, role, version, call);
        self.within(call, fetched).await
    }

    /// The version opens nothing any more, whatever that takes; an account's name alone opens nothing.
    pub(super) async fn revoke_at(
        &self,
        at: &Source,
        role: &StaticRole<'_>,
        version: &RemoteVersion,
        until: &Until,
    ) -> Result<(), PortError> {
        if !at.is_made_there() {
            return until.check();
        }
        let call = self.call(until);
        let ended = self.api.role_end(role, version, call);
        self.within(call, ended).await
    }

    /// The version is not current, so it opens nothing.
    pub(super) async fn retire_at(
        &self,
        at: &Source,
        role: &StaticRole<'_>,
        version: &RemoteVersion,
        call: Call<'_>,
    ) -> Result<(), PortError> {
        let left = self.api.role_left(at, role, version, call);
        self.within(call, left).await
    }

    /// The version that has our value, over the known one.
    pub(super) async fn ours_at(
        &self,
        at: &Source,
        role: &StaticRole<'_>,
        ours: (&SecretBytes, Option<&RemoteVersion>),
        call: Call<'_>,
    ) -> Result<Option<RemoteVersion>, PortError> {
        let found = self.api.role_ours(at, role, ours, call);
        self.within(call, found).await
    }
}

/// What is current at a role is not what is to become current there.
pub(super) fn not_ours(at: &Source) -> PortError {
    if at.is_made_there() {
        return newer(at, NEWER);
    }
    let text = format!(
        "{} has its {} from the server; put nothing there",
        at.path, at.field
    );
    PortError::new(ErrorKind::Denied, text)
}

fn unchanged(role: &StaticRole<'_>) -> PortError {
    let text = format!(
        "role {} was told to rotate and tells the same version after it; see the server's log",
        role.name
    );
    PortError::new(ErrorKind::Unavailable, text)
}

/// `MOUNT/KIND/ROLE`, encoded.
fn role_path(role: &StaticRole<'_>, kind: &str) -> String {
    format!("{}/{kind}/{}", encoded(role.mount), encoded(role.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_time_and_nothing_else_is() {
        let version = RemoteVersion("2026-11-29T00:02:39.730197295Z".to_owned());
        let later = RemoteVersion("2026-11-29T01:02:39.789528917+01:00".to_owned());
        assert!(made_at(&version) < made_at(&later));
        for other in ["", "7", "7@2026-11-29T00:02:39Z"] {
            assert!(
                made_at(&RemoteVersion(other.to_owned())).is_none(),
                "{other}"
            );
        }
    }

    #[test]
    fn a_role_is_asked_for_under_its_mount() {
        let source = Source {
            path: "/team/db/static-creds/app".to_owned(),
            field: PASSWORD.to_owned(),
        };
        let role = source.static_role().unwrap();
        assert_eq!(role_path(&role, "rotate-role"), "team/db/rotate-role/app");
    }
}
