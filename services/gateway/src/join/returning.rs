//! A host that was away for longer than its credentials live: fresh ones for who holds its pinned key.
//!
//! Invariants: the signature is over this very connection, so a request counts once and nowhere else;
//! who is refused always hears the same, whether the host is unknown, evicted or somebody else, and
//! the reason is on record or counted; the log decides last, so an eviction at another gateway counts.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use keywheel_core::audit::{Outcome, Principal, Role};
use keywheel_core::id::HostId;
use keywheel_engine::port::ErrorKind;
use keywheel_identity::enrol::{CheckedReturn, ReturnAsk};
use keywheel_identity::tls::Binding;

use super::{Joins, read_json};
use crate::access::Peer;
use crate::bus_server::{BusServer, Member};
use crate::denials::{Attempt, Ruling};
use crate::http::Failure;
use crate::server::Bound;

/// What the audit calls it.
const VERB: &str = "renew-credentials";
/// What everyone hears who is refused.
const REFUSED: &str = "no credentials are renewed here for this host; the reason is on record at the gateway; a machine that should be a host joins with a token of `keywheel host join-token NAME`";

pub(super) async fn renew(
    State(joins): State<Joins>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    bound: Option<Extension<Bound>>,
    request: Request,
) -> Response {
    let (Peer::Stranger(from), Some(Extension(Bound(binding)))) = (&peer, bound) else {
        return joins.elsewhere(&peer).await.into_response();
    };
    let principal = joins.api.access.principal(&peer);
    if !joins.returns.admit(*from, joins.api.clock.monotonic()) {
        joins.count(&principal, "renew-credentials: too many attempts");
        let text = "too many attempts; wait a minute and try again";
        return Failure::too_often(text).into_response();
    }
    let read = read_json::<ReturnAsk>(request.into_body(), "to renew credentials").await;
    let asked = read.and_then(|ask| ask.check().map_err(|error| error.to_string()));
    let asked = match asked {
        Ok(asked) => asked,
        Err(why) => return joins.malformed(&principal, VERB, why).await.into_response(),
    };
    match joins.give_again(&principal, &asked, &binding).await {
        Ok(answer) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(failure) => failure.into_response(),
    }
}

impl Joins {
    async fn give_again(
        &self,
        principal: &Principal,
        asked: &CheckedReturn,
        binding: &Binding,
    ) -> Result<Vec<u8>, Failure> {
        if let Err(why) = self.knows(asked, binding) {
            return Err(self.refuse(principal, asked.host, why).await);
        }
        let who = Member {
            role: Role::Injector,
            host: Some(asked.host),
            traceparent: None,
        };
        let how = "known by its pinned key, at the join port";
        match self.answers().fresh(&who, &asked.ask, how).await {
            Ok(answer) => {
                tracing::info!(host = %asked.host, "a host that was away has fresh credentials");
                Ok(answer)
            }
            Err(error) if error.kind == ErrorKind::Unavailable => Err(error.into()),
            Err(error) => Err(self.refuse(principal, asked.host, &error.text).await),
        }
    }

    /// Whether the host's pinned key signed it on this connection; why not is for the record alone.
    fn knows(&self, asked: &CheckedReturn, binding: &Binding) -> Result<(), &'static str> {
        let world = &self.api.view.read().world;
        let Some(host) = world.hosts.get(&asked.host) else {
            return Err("no such host has joined");
        };
        if host.is_evicted() {
            return Err("the host was evicted");
        }
        let key = host.signing_key.ok_or("the host has no pinned key")?;
        match asked.is_by(key, self.api.deployment, binding) {
            true => Ok(()),
            false => Err("it is not signed by the host's pinned key on this connection"),
        }
    }

    /// What the gateway does for members over the bus, at this port.
    fn answers(&self) -> BusServer {
        BusServer {
            bus: self.api.bus.clone(),
            commands: self.api.commands.clone(),
            view: self.api.view.clone(),
            journal: self.api.journal.clone(),
            clock: self.api.clock.clone(),
            ids: self.api.ids.clone(),
            renewals: Some(self.registry.clone()),
            unenrolled: Arc::default(),
            refused: Arc::default(),
        }
    }

    /// The one answer, after the reason is on record or counted.
    async fn refuse(&self, principal: &Principal, host: HostId, why: &str) -> Failure {
        let object = format!("host/{host}");
        let attempt = Attempt::new(self.api.clock.now(), &format!("{VERB} {object}"));
        if self.api.denials.note(principal, attempt.clone()) == Ruling::Record {
            let record = self
                .api
                .record(principal, VERB, &object, Outcome::Denied, why);
            if let Err(error) = self.api.commands.record(record).await {
                self.api.denials.count(principal, attempt);
                return error.into();
            }
        }
        Failure::refused(REFUSED)
    }
}

#[cfg(test)]
mod tests;
