//! Asking whether everything is as it has to be, before it is needed: says exactly what is missing.
//!
//! Rights are asked for where the server tells them (`sys/capabilities-self`), for exactly the paths
//! of a secret; what only a write can show is not tried. Changes nothing.

use hyper::Method;
use keywheel_core::store::Source;
use keywheel_engine::port::{ErrorKind, PortError};

use super::api::Api;
use super::http::{Ask, Call};
use super::policy::{OF_ROLE, TO_LEASE, needs, static_needs};
use super::session::json;
use super::wire::{Capabilities, Envelope, Mount, SealStatus};

impl Api {
    /// Address, TLS, seal, login, mount.
    pub(super) async fn check(&self, call: Call<'_>) -> Result<(), PortError> {
        // Somebody wants to know now.
        self.session.forget_refusal();
        self.is_unsealed(call).await?;
        let mount = &self.mount;
        let answer = self
            .ask(Method::GET, &self.mount_info(), None, call)
            .await?;
        match answer.status {
            200 => {}
            403 | 404 => {
                return Err(denied(format!(
                    "{} has no engine at mount {mount} that this login may use; correct the mount or the namespace, or add the policy that `keywheel store policy NAME` prints",
                    self.place()
                )));
            }
            _ => return Err(self.refused(&answer, "read", mount, None)),
        }
        let found = answer.read::<Envelope<Mount>>(self.place())?.data;
        let version = found
            .options
            .as_ref()
            .and_then(|options| options.get("version"));
        let is_kv2 = found.kind == "kv" && version.is_some_and(|version| version == "2");
        if is_kv2 || found.kind == "database" {
            return Ok(());
        }
        Err(denied(format!(
            "mount {mount} is of type {} version {}; name one that is a KV engine of version 2, or a database engine",
            found.kind,
            version.map_or("1", String::as_str)
        )))
    }

    /// The rights that a secret needs at its place.
    pub(super) async fn check_use(
        &self,
        at: &Source,
        writes: bool,
        call: Call<'_>,
    ) -> Result<(), PortError> {
        let needed = self.needed(at, writes);
        let paths: Vec<_> = needed.iter().map(|(path, _)| path.as_str()).collect();
        let body = json(&serde_json::json!({ "paths": paths }))?;
        let place = "sys/capabilities-self";
        let answer = self.ask(Method::POST, place, Some(body), call).await?;
        if answer.status != 200 {
            return Err(self.refused(&answer, "update", place, None));
        }
        let allowed = answer.read::<Envelope<Capabilities>>(self.place())?.data;
        let mut missing = Vec::new();
        for (path, rights) in &needed {
            let has = allowed.get(path).map_or(&[][..], Vec::as_slice);
            let is_allowed = |right: &&str| has.iter().any(|one| one == "root" || one == right);
            let lacks: Vec<_> = rights
                .iter()
                .copied()
                .filter(|right| !is_allowed(right))
                .collect();
            if !lacks.is_empty() {
                missing.push(format!("`{}` on {path}", lacks.join("`, `")));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(denied(format!(
            "this login lacks {}; add the policy that `keywheel store policy NAME` prints",
            missing.join(" and ")
        )))
    }

    /// Paths with the rights that are needed there; a place without a field is a role that gives logins.
    fn needed(&self, at: &Source, writes: bool) -> Vec<(String, &'static [&'static str])> {
        if at.field.is_empty() {
            let rest = TO_LEASE.iter();
            let rest = rest.map(|(path, rights)| ((*path).to_owned(), *rights));
            return std::iter::once((at.path.clone(), OF_ROLE))
                .chain(rest)
                .collect();
        }
        let (kinds, mount, name) = match at.static_role() {
            Some(role) => (static_needs(writes), role.mount, role.name),
            None => (
                needs(writes, self.old_versions),
                self.mount.as_str(),
                at.path.as_str(),
            ),
        };
        kinds
            .iter()
            .map(|(kind, rights)| (format!("{mount}/{kind}/{name}"), *rights))
            .collect()
    }

    async fn is_unsealed(&self, call: Call<'_>) -> Result<(), PortError> {
        let ask = Ask {
            method: Method::GET,
            path: "sys/seal-status".to_owned(),
            token: None,
            // It is the whole server's, whatever the namespace.
            namespace: "",
            body: None,
            may_repeat: true,
        };
        let answer = self.session.http.ask(ask, call).await?;
        if answer.status != 200 {
            return Err(self.refused(&answer, "read", "sys/seal-status", None));
        }
        let status: SealStatus = answer.read(self.place())?;
        let why = match status {
            SealStatus {
                initialized: false, ..
            } => "is not initialised; initialise it",
            SealStatus { sealed: true, .. } => "is sealed; unseal it",
            SealStatus { .. } => return Ok(()),
        };
        let text = format!("{} {why}", self.place());
        Err(PortError::new(ErrorKind::Unavailable, text))
    }

    fn mount_info(&self) -> String {
        format!("sys/internal/ui/mounts/{}", self.mount)
    }
}

fn denied(text: String) -> PortError {
    PortError::new(ErrorKind::Denied, text)
}
