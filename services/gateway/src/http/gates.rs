//! What each request needs, by its route, before anything of it is done; and what handlers ask for themselves.
//!
//! Invariants: a route without a row is refused; a handler that succeeds without having asked is a fault of ours, and
//! its answer is withheld; a denial is on record, with what decided, before it is answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use axum::extract::{FromRequestParts as _, MatchedPath, Query, RawPathParams};
use axum::http::request::Parts;
use axum::http::{Method, Uri};
use keywheel_core::audit::{Outcome, Principal};
use keywheel_core::command::Command;
use keywheel_core::id::{ApprovalId, HostId, RevocationId, RotationId, RunId};
use keywheel_core::name::BindingName;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_policy::{Resource, Verb};

use super::standing::Standing;
use super::{Api, Caller, Failure, unanswered};
use crate::admission::{Demand, InForce, Refused, demands, identity};
use crate::denials::{Attempt, Ruling};

/// What a record of a list says of the policies that decided.
const EACH_ROW: &str = "each row by itself";
/// What decides where a right is in no scope.
const OUT_OF_SCOPE: &str = "outside the scope of the token";

/// What a route needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing but to have come in.
    Open,
    /// Each row of the answer by itself; the handler leaves out what is not theirs to see.
    Rows,
    /// What it is about is in the command or the body: the handler asks.
    Handler,
    /// All of this.
    Needs(Vec<Demand>),
}

/// What a gate may look at.
pub(super) struct Asked<'a> {
    pub(super) world: &'a World,
    /// The one parameter of the path; empty where there is none.
    pub(super) name: &'a str,
    pub(super) query: &'a HashMap<String, String>,
}

impl Asked<'_> {
    fn secret(&self, verb: Verb) -> Gate {
        self.needs(verb, Resource::Secret)
    }

    fn needs(&self, verb: Verb, resource: fn(String) -> Resource) -> Gate {
        Gate::Needs(vec![Demand::new(verb, resource(self.name.to_owned()))])
    }

    fn rotation(&self, verb: Verb) -> Gate {
        let known = RotationId::parse(self.name);
        Gate::Needs(known.map_or_else(
            |_| vec![Demand::of_all(verb)],
            |id| demands::of_rotation(self.world, verb, id),
        ))
    }

    fn revocation(&self, verb: Verb) -> Gate {
        let known = RevocationId::parse(self.name);
        Gate::Needs(known.map_or_else(
            |_| vec![Demand::of_all(verb)],
            |id| demands::of_revocation(self.world, verb, id),
        ))
    }

    fn run(&self) -> Gate {
        let known = RunId::parse(self.name).ok();
        let known = known.and_then(|id| self.world.runs.get(&id));
        Gate::Needs(vec![known.map_or_else(
            || Demand::of_all(Verb::List),
            |run| Demand::new(Verb::List, Resource::Playbook(run.name.to_string())),
        )])
    }

    /// A host goes by its name, whatever it was asked for by.
    fn host(&self) -> Gate {
        let known = HostId::parse(self.name).ok();
        let known = known.filter(|id| self.world.hosts.contains_key(id));
        known.map_or_else(
            || self.needs(Verb::List, Resource::Host),
            |id| Gate::Needs(vec![demands::of_host(self.world, Verb::List, id)]),
        )
    }

    /// A binding is seen by whoever sees all that it gives.
    fn binding(&self) -> Gate {
        let needs = BindingName::parse(self.name).map_or_else(
            |_| vec![Demand::of_all(Verb::List)],
            |name| demands::of_binding(self.world, &name),
        );
        let seen = |demand: Demand| Demand {
            verb: Verb::List,
            ..demand
        };
        Gate::Needs(needs.into_iter().map(seen).collect())
    }

    /// A blast radius names what a path or secret leads to; by anything else it may name anything.
    fn radius(&self) -> Gate {
        let named = |key: &str| self.query.get(key).cloned();
        if let Some(name) = named("secret") {
            return Gate::Needs(vec![Demand::new(Verb::List, Resource::Secret(name))]);
        }
        Gate::Needs(named("prefix").map_or_else(
            || vec![Demand::of_all(Verb::List)],
            |path| demands::of_path(self.world, Verb::List, path.trim_end_matches('/')),
        ))
    }

    /// Consumers of one secret are no list to leave rows out of: it says whether there is such a secret.
    fn consumers(&self) -> Gate {
        let secret = self.query.get("secret").cloned().map(Resource::Secret);
        secret.map_or(Gate::Rows, |secret| {
            Gate::Needs(vec![Demand::new(Verb::List, secret)])
        })
    }

    fn approval(&self) -> Gate {
        let id = ApprovalId::parse(self.name);
        Gate::Needs(id.map_or_else(
            |_| vec![Demand::of_all(Verb::Grant)],
            |id| demands::of_approval_id(self.world, id),
        ))
    }

    fn events(&self) -> Gate {
        let secret = self.query.get("secret").cloned().map(Resource::Secret);
        let resource = secret.unwrap_or(Resource::Environment);
        Gate::Needs(vec![Demand::new(Verb::Audit, resource)])
    }
}

fn all(verb: Verb) -> Gate {
    Gate::Needs(vec![Demand::of_all(verb)])
}

/// The gate of a route; `None` for one that is in no row, which nobody may.
pub(super) fn gate(method: &Method, route: &str, asked: &Asked<'_>) -> Option<Gate> {
    match *method {
        Method::GET | Method::HEAD => look(route, asked),
        Method::DELETE => removal(route),
        _ => change(route, asked),
    }
}

fn look(route: &str, asked: &Asked<'_>) -> Option<Gate> {
    Some(match route {
        "/v1/openapi.json" | "/v1/status" | "/v1/store-key" | "/v1/whoami" | "/v1/login" => {
            Gate::Open
        }
        "/v1/secrets" | "/v1/bindings" | "/v1/rotations" | "/v1/revocations" | "/v1/playbooks"
        | "/v1/playbook-runs" | "/v1/quarantines" | "/v1/hosts" | "/v1/stores"
        | "/v1/notifications" | "/v1/signal-sources" | "/v1/tokens" | "/v1/approvals" => Gate::Rows,
        "/v1/secrets/{*name}"
        | "/v1/schedules/{*name}"
        | "/v1/versions/{*name}"
        | "/v1/rotation-plan/{*name}"
        | "/v1/explain/{*name}" => asked.secret(Verb::List),
        "/v1/approvals/{id}" => asked.approval(),
        "/v1/bindings/{*name}" => asked.binding(),
        "/v1/rotations/{id}" => asked.rotation(Verb::List),
        "/v1/revocations/{id}" => asked.revocation(Verb::List),
        "/v1/consumers" => asked.consumers(),
        "/v1/revoke-plan" => asked.radius(),
        "/v1/playbooks/{name}" | "/v1/playbook-plan/{name}" => {
            asked.needs(Verb::List, Resource::Playbook)
        }
        "/v1/playbook-runs/{id}" => asked.run(),
        "/v1/hosts/{name}" => asked.host(),
        "/v1/stores/{name}" => asked.needs(Verb::List, Resource::Store),
        "/v1/notifications/{name}" => asked.needs(Verb::List, Resource::Notification),
        "/v1/letters" => all(Verb::List),
        // What shares are encrypted to, as with the key of values, and how many there are, as in the status.
        "/v1/seal" => Gate::Open,
        "/v1/history/{*name}" => asked.secret(Verb::Audit),
        "/v1/reports/rotations/{id}" => asked.rotation(Verb::Audit),
        "/v1/reports/revocations/{id}" => asked.revocation(Verb::Audit),
        "/v1/reports/hosts/{id}" | "/v1/reports/playbook-runs/{id}" => all(Verb::Audit),
        "/v1/events" => asked.events(),
        "/v1/subscriptions"
        | "/v1/subscriptions/{name}"
        | "/v1/audit"
        | "/v1/audit/export"
        | "/v1/audit/proofs/{index}"
        | "/v1/audit/consistency/{size}"
        | "/v1/audit/retention"
        | "/v1/journal/verify" => all(Verb::Audit),
        "/v1/policies" | "/v1/policies/explain" => Gate::Needs(vec![Demand {
            or: Some(Verb::Audit),
            ..Demand::of_all(Verb::Grant)
        }]),
        _ => return None,
    })
}

fn removal(route: &str) -> Option<Gate> {
    Some(match route {
        "/v1/bindings/{*name}"
        | "/v1/stores/{name}"
        | "/v1/playbooks/{name}"
        | "/v1/notifications/{name}"
        | "/v1/signal-sources/{name}" => Gate::Handler,
        "/v1/subscriptions/{name}" => all(Verb::Audit),
        "/v1/letters/{id}" => all(Verb::Write),
        _ => return None,
    })
}

fn change(route: &str, asked: &Asked<'_>) -> Option<Gate> {
    Some(match route {
        "/v1/apply"
        | "/v1/put"
        | "/v1/rotate"
        | "/v1/revoke"
        | "/v1/revoke-by"
        | "/v1/refresh"
        | "/v1/rotations/{id}/abort"
        | "/v1/rotations/{id}/retry"
        | "/v1/rotations/{id}/force"
        | "/v1/revocations/{id}/forget"
        | "/v1/hosts/{name}/evict"
        | "/v1/hosts/{name}/join-token"
        | "/v1/playbooks/{name}/run"
        | "/v1/playbook-runs/{id}/approve"
        | "/v1/playbook-runs/{id}/pause"
        | "/v1/playbook-runs/{id}/resume"
        | "/v1/playbook-runs/{id}/cancel"
        | "/v1/quarantines/{name}/lift"
        | "/v1/policies"
        | "/v1/tokens"
        | "/v1/tokens/{name}/revoke"
        | "/v1/revoke-tokens"
        | "/v1/approvals/{id}/approve"
        | "/v1/approvals/{id}/deny"
        | "/v1/approvals/{id}/withdraw"
        | "/v1/approvals/{id}/break-glass"
        | "/v1/approvals/{id}/review"
        | "/v1/audit/confirm-sinks" => Gate::Handler,
        // Whoever proves who they are may; and whoever is logged in may end that.
        "/v1/login" | "/v1/login/device" | "/v1/logout" => Gate::Open,
        "/v1/subscriptions" | "/v1/subscriptions/{name}/acknowledge" => all(Verb::Audit),
        "/v1/notifications/{name}/test" | "/v1/notifications/{name}/replay" => {
            asked.needs(Verb::Write, Resource::Notification)
        }
        "/v1/letters/{id}/retry" => all(Verb::Write),
        // Root may always, so that no set keeps everybody from what opens the cache again.
        "/v1/unseal" => Gate::Needs(vec![Demand {
            or: Some(Verb::Grant),
            ..Demand::of_all(Verb::Write)
        }]),
        "/v1/seal" => all(Verb::Revoke),
        "/v1/rotate-kek" => all(Verb::Rotate),
        "/v1/backup" => all(Verb::Audit),
        _ => return None,
    })
}

/// Asks what a request's route needs, and notes the policies that decided where a set was applied.
pub(super) async fn pass(
    api: &Api,
    (principal, standing): (&Principal, &Arc<Standing>),
    parts: &mut Parts,
) -> Result<(), Failure> {
    let Some(route) = parts.extensions.get::<MatchedPath>().cloned() else {
        // There is no such thing to ask for, which its handler says.
        standing.note_judged();
        return Ok(());
    };
    let name = parameter(api, parts).await;
    let query = queried(&parts.uri);
    let gate = {
        let committed = api.view.read();
        let asked = Asked {
            world: &committed.world,
            name: &name,
            query: &query,
        };
        gate(&parts.method, route.as_str(), &asked)
    };
    match gate {
        Some(Gate::Needs(needs)) => api.admit((principal, standing), &needs).await.map(drop),
        Some(Gate::Open) => {
            standing.note_judged();
            Ok(())
        }
        Some(Gate::Rows) => {
            standing.note_policies(api.in_force().decided(EACH_ROW));
            Ok(())
        }
        Some(Gate::Handler) => Ok(()),
        // What a resource does not take is said by whoever knows what it does.
        None if !is_routed(&parts.method) => {
            standing.note_judged();
            Ok(())
        }
        None => {
            let needs = [Demand::of_all(Verb::Grant)];
            let by = api.admit((principal, standing), &needs).await;
            by.map(drop)
        }
    }
}

/// Methods that some resource takes.
fn is_routed(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::DELETE].contains(method)
}

async fn parameter(api: &Api, parts: &mut Parts) -> String {
    let captured = RawPathParams::from_request_parts(parts, api).await;
    let first = captured.ok().and_then(|all| {
        let first = all.iter().next();
        first.map(|(_, value)| value.to_owned())
    });
    first.unwrap_or_default()
}

fn queried(uri: &Uri) -> HashMap<String, String> {
    let query = Query::<HashMap<String, String>>::try_from_uri(uri);
    query.map_or_else(|_| HashMap::new(), |Query(all)| all)
}

/// Seconds since 1970, as policies count them.
pub(super) fn seconds(time: Timestamp) -> i64 {
    time.micros().div_euclid(1_000_000)
}

impl Api {
    /// The policies in force in the committed state.
    pub(crate) fn in_force(&self) -> InForce {
        let applied = self.view.read().world.policies().cloned();
        self.admission.in_force(applied.as_deref())
    }

    /// Whether somebody may: with the policies that let them, or after the denial is on record.
    async fn admit(
        &self,
        (principal, standing): (&Principal, &Arc<Standing>),
        needs: &[Demand],
    ) -> Result<Option<String>, Failure> {
        standing.note_judged();
        let in_force = self.in_force();
        match self.judge((principal, standing), &in_force, needs) {
            // Without a set of one's own the rule by which somebody came in says all, as before there were policies.
            Ok(by) => {
                let by = in_force.decided(&by);
                standing.note_policies(by.clone());
                standing.note_needs(needs);
                Ok(by)
            }
            Err(refused) => Err(self
                .refuse(principal, standing, (&in_force, &refused))
                .await),
        }
    }

    /// What policies say, and of who came with a token its scope before them.
    fn judge(
        &self,
        (principal, standing): (&Principal, &Standing),
        in_force: &InForce,
        needs: &[Demand],
    ) -> Result<String, Refused> {
        let who = standing.person(principal);
        let now = seconds(self.clock.now());
        let Some(held) = standing.held() else {
            return in_force.admit(&who, needs, now);
        };
        let narrow = |demand: &Demand| {
            let out = || Refused {
                demand: demand.clone(),
                reason: OUT_OF_SCOPE.to_owned(),
            };
            held.scope.narrow(demand).ok_or_else(out)
        };
        let covered: Vec<Demand> = needs.iter().map(narrow).collect::<Result<_, _>>()?;
        in_force.admit(&who, &covered, now)
    }

    /// Why what somebody was permitted last would be denied now, with the set that says so.
    pub(super) fn lost(
        &self,
        principal: &Principal,
        standing: &Standing,
    ) -> Option<(Refused, String)> {
        let needs = standing.needs();
        let in_force = self.in_force();
        let refused = self.judge((principal, standing), &in_force, &needs).err()?;
        Some((refused, in_force.words()))
    }

    async fn refuse(
        &self,
        principal: &Principal,
        standing: &Standing,
        (in_force, refused): (&InForce, &Refused),
    ) -> Failure {
        let Refused { demand, reason } = refused;
        let (verb, object) = (demand.verb.word(), demand.resource.to_string());
        let told = match demand.is_found && !self.is_seen(principal, standing, demand) {
            true => "all that this leads to".to_owned(),
            false => format!("`{object}`"),
        };
        let detail = format!(
            "`{}` may not {verb} {told} ({reason}, {}), and the attempt is on record; `keywheel policy explain` tells more, and whoever may `grant` can change it",
            identity(principal),
            in_force.words()
        );
        let attempt = Attempt::new(self.clock.now(), &format!("{} {object}", standing.verb()));
        if self.denials.note(principal, attempt.clone()) == Ruling::Count {
            let detail = format!("{detail}; too many attempts: further ones are counted");
            return Failure::too_often(detail).on_record();
        }
        let reason = format!("{reason}: needs `{verb}` ({})", in_force.words());
        let record = self.record(
            principal,
            standing.verb(),
            &object,
            Outcome::Denied,
            &reason,
        );
        match unanswered::by(self.commands.record(record)).await {
            Ok(()) => Failure::refused(detail).on_record(),
            Err(error) => {
                // It is not durable; it comes with the next count.
                self.denials.put_back(principal, attempt);
                error.into()
            }
        }
    }

    /// Whether somebody may see what a demand is about: who came with a token, within its scope.
    fn is_seen(&self, principal: &Principal, standing: &Standing, demand: &Demand) -> bool {
        let look = Demand::new(Verb::List, demand.resource.clone());
        let judged = self.judge((principal, standing), &self.in_force(), &[look]);
        judged.is_ok()
    }

    /// Whether a caller may have all of this done.
    pub(super) async fn admit_caller(
        &self,
        caller: &Caller,
        needs: &[Demand],
    ) -> Result<Option<String>, Failure> {
        self.admit((&caller.principal, &caller.standing), needs)
            .await
    }

    /// Whether a caller may submit a command.
    pub(super) async fn admit_command(
        &self,
        caller: &Caller,
        command: &Command,
    ) -> Result<Option<String>, Failure> {
        let needs = {
            let committed = self.view.read();
            demands::of_command(&committed.world, command, self.clock.now())
        };
        self.admit_caller(caller, &needs).await
    }

    /// Whether a caller may have all of this done; nothing is on record of the question.
    pub(super) fn may(&self, caller: &Caller, needs: &[Demand]) -> bool {
        let who = (&caller.principal, &*caller.standing);
        self.judge(who, &self.in_force(), needs).is_ok()
    }

    /// What a caller lacks for steps of a playbook, in words: the first right of each step.
    pub(super) fn missing_grants(
        &self,
        caller: &Caller,
        needs: &BTreeMap<String, BTreeSet<Demand>>,
    ) -> Vec<String> {
        let in_force = self.in_force();
        let who = (&caller.principal, &*caller.standing);
        let lacks = |(step, needs): (&String, &BTreeSet<Demand>)| {
            let needs: Vec<Demand> = needs.iter().cloned().collect();
            let Refused { demand, reason } = self.judge(who, &in_force, &needs).err()?;
            Some(format!(
                "step `{step}`: `{}` may not {} `{}` ({reason}); whoever may has to run it, or to permit it",
                identity(&caller.principal),
                demand.verb.word(),
                demand.resource
            ))
        };
        needs.iter().filter_map(lacks).collect()
    }

    /// Says that a handler asks for each thing by itself, of which there may be none.
    pub(super) fn each_by_itself(caller: &Caller) {
        caller.standing.note_judged();
    }
}

/// The answer to whoever asked a handler that did not ask policies: a fault of ours.
pub(super) fn unjudged(verb: &str) -> Failure {
    let text = format!(
        "`{verb}` was done without asking the policies, and what came of it is withheld: a fault in Keywheel, report it"
    );
    PortError::new(ErrorKind::Corrupt, text).into()
}
