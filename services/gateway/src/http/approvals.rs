//! What takes several people: asking for it, the words of others, going without them, and the review of that.
//!
//! Invariants: whatever command takes others is asked for here, at the one place where people's commands are submitted,
//! so no handler forgets it; a share of an unsealing is on record as its giver's before store-sync hears of it.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use keywheel_core::approval::{Ask, Digest, MAX_PEOPLE, MIN_PEOPLE, Operation, Perform, Request};
use keywheel_core::audit::Outcome;
use keywheel_core::command::Command;
use keywheel_core::id::{ApprovalId, CommandId};
use keywheel_engine::port::bus::Body;
use keywheel_policy::Verb;
use keywheel_schemas::api::{ApprovalRequest, ApprovalView};

use super::pages::{self, Order, Paged};
use super::payload::{Object, Payload};
use super::{Api, Caller, Failure, Named, Route, seal};
use crate::admission::{Demand, demands, identity};
use crate::dual::{self, Wanted};
use crate::views::approvals as views;

/// Why somebody says a word by giving a share.
const BY_SHARE: &str = "gives a share";

/// What somebody says of a request: of which, who, and why.
type Word = fn(ApprovalId, String, String) -> Request;

/// What there is to ask here.
pub(super) fn routes() -> Vec<Route> {
    let change = |path, handler| (Method::POST, path, handler);
    vec![
        (Method::GET, "/v1/approvals", get(list)),
        (Method::GET, "/v1/approvals/{id}", get(describe)),
        word("/v1/approvals/{id}/approve", |approval, by, reason| {
            Request::Approve {
                approval,
                by,
                reason,
            }
        }),
        word("/v1/approvals/{id}/deny", |approval, by, reason| {
            Request::Deny {
                approval,
                by,
                reason,
            }
        }),
        change("/v1/approvals/{id}/withdraw", post(withdraw)),
        word("/v1/approvals/{id}/break-glass", |approval, by, reason| {
            Request::BreakGlass {
                approval,
                by,
                reason,
            }
        }),
        word("/v1/approvals/{id}/review", |approval, by, reason| {
            Request::Review {
                approval,
                by,
                reason,
            }
        }),
        change("/v1/audit/confirm-sinks", post(confirm_sinks)),
    ]
}

/// Where something is said with a reason.
fn word(path: &'static str, word: Word) -> Route {
    let handler = move |api, caller, id, body| said(api, caller, id, body, word);
    (Method::POST, path, post(handler))
}

async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    page: Paged,
) -> Result<Response, Failure> {
    let page = page?.0;
    Api::each_by_itself(&caller);
    api.commands.look_at_head().await?;
    let now = api.clock.now();
    // No plans: all of them are many megabytes, and nothing is decided while they are copied.
    let mut all: Vec<(u64, ApprovalId, Vec<Demand>)> = {
        let committed = api.view.read();
        let all = committed.world.approvals.iter();
        all.map(|known| (known.number, known.id, demands::of_approval(known)))
            .collect()
    };
    // Whoever may do it may see that it is asked for.
    all.retain(|(_, _, needs)| api.may(&caller, needs));
    // The newest first, so that what waits is not behind what is over.
    all.sort_by_key(|(number, _, _)| std::cmp::Reverse(*number));
    let rows: Vec<ApprovalId> = all.into_iter().map(|(_, id, _)| id).collect();
    let key = |id: &ApprovalId| id.to_string();
    let one = |id: ApprovalId| {
        let committed = api.view.read();
        let known = committed.world.approvals.by_id(id);
        known.map(|known| views::one(&committed.world, known, now))
    };
    pages::answer_of("/v1/approvals", rows, (Order::Other, key), (&page, one))
}

async fn describe(State(api): State<Api>, Named(id): Named) -> Result<Json<ApprovalView>, Failure> {
    let id = parse(&id)?;
    api.commands.look_at_head().await?;
    api.approval_view(id)
}

fn parse(id: &str) -> Result<ApprovalId, Failure> {
    ApprovalId::parse(id).map_err(|error| Failure::invalid(error.to_string()))
}

/// A word with its reason.
async fn said(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    body: Payload<ApprovalRequest>,
    word: Word,
) -> Result<Json<ApprovalView>, Failure> {
    let Object(ApprovalRequest { reason }) = body?;
    let approval = parse(&id)?;
    let request = word(approval, identity(&caller.principal), reason);
    say(&api, &caller, approval, request).await
}

async fn withdraw(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Json<ApprovalView>, Failure> {
    let (approval, by) = (parse(&id)?, identity(&caller.principal));
    say(&api, &caller, approval, Request::Withdraw { approval, by }).await
}

/// Whether it is a person who says it: who has somebody's token need not be that person.
fn came_themselves(caller: &Caller) -> Result<(), Failure> {
    if caller.principal.is_person() {
        return Ok(());
    }
    let by = identity(&caller.principal);
    Err(Failure::conflict(format!(
        "`{by}` came with a token, and what takes several people takes people: say it without one, with a login (`keywheel login`), a client certificate or at the unix socket"
    )))
}

/// Submits what somebody says of a request.
async fn say(
    api: &Api,
    caller: &Caller,
    id: ApprovalId,
    request: Request,
) -> Result<Json<ApprovalView>, Failure> {
    let is_for_it = matches!(&request, Request::Approve { .. });
    // What goes or went without words.
    let is_of_glass = matches!(
        &request,
        Request::BreakGlass { .. } | Request::Review { .. }
    );
    let is_yes = is_for_it || matches!(&request, Request::BreakGlass { .. });
    let command = Command::Approval(request);
    api.admit_command(caller, &command).await?;
    if is_for_it || is_of_glass {
        came_themselves(caller)?;
    }
    if is_yes {
        api.refuse_overtaken(id)?;
    }
    if !is_of_glass {
        takes_words(api, id, is_for_it)?;
    }
    api.submit(caller, command).await?;
    api.approval_view(id)
}

/// Whether words are words: those for an unsealing are its shares.
fn takes_words(api: &Api, id: ApprovalId, is_for_it: bool) -> Result<(), Failure> {
    let (operation, needed) = {
        let committed = api.view.read();
        let known = committed.world.approvals.by_id(id);
        known.map_or((None, 0), |known| (known.operation, known.needed))
    };
    // Whatever else is asked for is done later, by as many people as the configuration says then.
    let people = api.admission.people(Operation::SinkChange);
    if is_for_it && operation == Some(Operation::SinkChange) && people > Some(needed) {
        return Err(Failure::conflict(
            "sinks take more people by now than when this was asked for; ask anew with `keywheel approval confirm-sinks --reason TEXT`",
        ));
    }
    if operation == Some(Operation::Unseal) {
        return Err(Failure::conflict(
            "an unsealing takes shares and no words: who is for it gives a share with `keywheel unseal`, who is against it gives none",
        ));
    }
    Ok(())
}

/// Is for the sinks that are told now: the first who says so asks, and others are for it.
async fn confirm_sinks(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<ApprovalRequest>,
) -> Result<Json<ApprovalView>, Failure> {
    let Object(ApprovalRequest { reason }) = body?;
    // Before it is said what there is to confirm.
    api.admit_caller(&caller, &[Demand::of_all(Verb::Grant)])
        .await?;
    came_themselves(&caller)?;
    let Some(needed) = api.admission.people(Operation::SinkChange) else {
        return Err(Failure::conflict(
            "sinks are nobody's to confirm here: the configuration does not say `dual_control.sink_change`",
        ));
    };
    let Some(wanted) = dual::sinks(&api.presences.audit_sinks()) else {
        return Err(Failure::conflict(
            "no audit sink is heard, so nobody knows its sinks; `keywheel status` shows what is missing",
        ));
    };
    let digest = wanted.digest;
    let wish = Ask {
        id: ApprovalId::from_bytes(caller.draw(&api, "approval")),
        operation: wanted.operation,
        object: wanted.object,
        digest,
        plan: wanted.plan,
        by: identity(&caller.principal),
        reason,
        needed,
    };
    let command = Command::Approval(Request::Ask(wish));
    api.commands.look_at_head().await?;
    if api.view.read().world.approvals.sinks() == Some(&digest) {
        return Err(Failure::conflict(
            "these sinks are confirmed already; there is nothing to say",
        ));
    }
    api.submit(&caller, command).await?;
    let id = {
        let committed = api.view.read();
        let newest = committed
            .world
            .approvals
            .newest(Operation::SinkChange, &digest);
        newest.map(|known| known.id)
    };
    let id = id.ok_or_else(|| Failure::not_found("the request is not at hand any more"))?;
    api.approval_view(id)
}

/// The word that a share is given with, to be taken back where the share was not kept.
pub(super) struct Given(ApprovalId);

/// Notes whose share comes next, where shares have to be different people's.
pub(super) async fn note_share(api: &Api, caller: &Caller) -> Result<Option<Given>, Failure> {
    if api.admission.people(Operation::Unseal).is_none() {
        return Ok(None);
    }
    let state = seal::asked(api, Body::ReadSeal).await?;
    let Some(shares) = state.shares.filter(|_| state.sealed) else {
        return Ok(None);
    };
    api.commands.look_at_head().await?;
    let digest = dual::digest_of(Operation::Unseal, &[state.key.as_slice()]);
    let by = identity(&caller.principal);
    let (id, command) = match last_unsealing(api, &digest, &by)? {
        Last::Free => return Ok(None),
        Last::Open(approval) => {
            let reason = BY_SHARE.to_owned();
            let request = Request::Approve {
                approval,
                by,
                reason,
            };
            (Some(approval), request)
        }
        Last::None => {
            let wish = Ask {
                id: ApprovalId::from_bytes(api.ids.draw()),
                operation: Operation::Unseal,
                object: "store-sync".to_owned(),
                digest,
                plan: format!("store-sync is unsealed by {} shares", shares.need),
                by,
                reason: BY_SHARE.to_owned(),
                needed: u64::from(shares.need).clamp(MIN_PEOPLE, MAX_PEOPLE),
            };
            (None, Request::Ask(wish))
        }
    };
    // Drawn anew: a share that comes again is another word.
    let fresh = CommandId::from_bytes(api.ids.draw());
    api.submit_as(caller, fresh, Command::Approval(command))
        .await?;
    let committed = api.view.read();
    let newest = committed.world.approvals.newest(Operation::Unseal, &digest);
    let id = id.or(newest.map(|known| known.id));
    Ok(id.map(Given))
}

/// How far an unsealing is, for somebody.
enum Last {
    /// Nobody gave a share yet.
    None,
    /// Others did.
    Open(ApprovalId),
    /// Somebody broke the glass, so it matters no more whose a share is.
    Free,
}

fn last_unsealing(api: &Api, digest: &Digest, by: &str) -> Result<Last, Failure> {
    let committed = api.view.read();
    let newest = committed.world.approvals.newest(Operation::Unseal, digest);
    let Some(known) = newest else {
        return Ok(Last::None);
    };
    if known.glass.is_some() {
        return Ok(Last::Free);
    }
    if known.words.contains(by) {
        return Err(Failure::conflict(format!(
            "`{by}` gave a share to this unsealing already, and each has to come from somebody else; ask another custodian, or in an emergency `keywheel approval break-glass {} --reason TEXT`",
            known.id
        )));
    }
    match known.is_open(api.clock.now()) {
        true => Ok(Last::Open(known.id)),
        false => Err(Failure::conflict(
            "this unsealing took too long; start store-sync again, and give the shares anew",
        )),
    }
}

/// Takes the word back that came with a share which store-sync did not keep.
pub(super) async fn take_share_back(
    api: &Api,
    caller: &Caller,
    given: &Given,
) -> Result<(), Failure> {
    let request = Request::Withdraw {
        approval: given.0,
        by: identity(&caller.principal),
    };
    let fresh = CommandId::from_bytes(api.ids.draw());
    api.submit_as(caller, fresh, Command::Approval(request))
        .await?;
    Ok(())
}

impl Api {
    fn approval_view(&self, id: ApprovalId) -> Result<Json<ApprovalView>, Failure> {
        let committed = self.view.read();
        let known = committed.world.approvals.by_id(id);
        let known = known.ok_or_else(|| {
            Failure::not_found(format!(
                "no request {id} is at hand; `keywheel approval list` lists them"
            ))
        })?;
        let now = self.clock.now();
        Ok(Json(views::one(&committed.world, known, now)))
    }

    /// Nobody says yes to what can never be done any more.
    fn refuse_overtaken(&self, id: ApprovalId) -> Result<(), Failure> {
        let committed = self.view.read();
        let known = committed.world.approvals.by_id(id);
        let known = known.filter(|known| known.is_open(self.clock.now()));
        match known.and_then(|known| views::overtaken(&committed.world, known)) {
            Some(why) => Err(Failure::conflict(why)),
            None => Ok(()),
        }
    }

    /// A command that takes others, once they are for it; else it is asked for, and waits for them.
    pub(super) async fn with_others(
        &self,
        caller: &Caller,
        id: CommandId,
        command: Command,
        admitted: Option<String>,
    ) -> Result<Command, Failure> {
        let operation = Operation::of(&command);
        let Some(needed) = operation.and_then(|one| self.admission.people(one)) else {
            return Ok(command);
        };
        // Decided before: it gets the answer of then.
        if caller.has_key() && self.journal.verdict(id).await?.is_some() {
            return Ok(command);
        }
        self.commands.look_at_head().await?;
        let (wanted, command) = {
            let committed = self.view.read();
            let world = &committed.world;
            if let Some(moved) = dual::moved(world, &command) {
                return Err(Failure::conflict(moved.to_string()));
            }
            (dual::wanted(world, &command), dual::bound(world, command))
        };
        let wanted = wanted.map_err(|much| Failure::invalid(much.to_string()))?;
        let Some(wanted) = wanted else {
            return Ok(command);
        };
        let digest = wanted.digest;
        let approval = self.granted(caller, wanted, needed, admitted).await?;
        Ok(Command::Approval(Request::Perform(Perform {
            approval,
            digest,
            by: identity(&caller.principal),
            command: Box::new(command),
        })))
    }

    /// Lets a look go on once others are for it, and says on record by which request.
    pub(super) async fn look_with_others(
        &self,
        caller: &Caller,
        (verb, wanted): (&str, Wanted),
    ) -> Result<(), Failure> {
        let Some(needed) = self.admission.people(wanted.operation) else {
            return Ok(());
        };
        self.commands.look_at_head().await?;
        let object = wanted.object.clone();
        let by = caller.standing.by();
        let id = self.granted(caller, wanted, needed, by).await?;
        let reason = caller.standing.words(&format!("approved: request {id}"));
        let record = self.record(&caller.principal, verb, &object, Outcome::Allowed, &reason);
        Ok(self.commands.record(record).await?)
    }

    /// The request of somebody that is good now; without one it is asked for.
    async fn granted(
        &self,
        caller: &Caller,
        wanted: Wanted,
        needed: u64,
        admitted: Option<String>,
    ) -> Result<ApprovalId, Failure> {
        let (operation, digest) = (wanted.operation, wanted.digest);
        let by = identity(&caller.principal);
        let who = (by.as_str(), needed);
        let is_new = self.open_request(operation, &digest, who).is_none();
        if is_new {
            let wish = Ask {
                id: ApprovalId::from_bytes(caller.draw(self, "approval")),
                operation,
                object: wanted.object,
                digest,
                plan: wanted.plan,
                by: by.clone(),
                reason: format!("wants `{}`", operation.word()),
                needed,
            };
            let id = CommandId::from_bytes(caller.draw(self, "ask"));
            let command = Command::Approval(Request::Ask(wish));
            self.submit_admitted(caller, id, command, admitted).await?;
        }
        match self.open_request(operation, &digest, who) {
            Some((id, 0)) => Ok(id),
            Some((id, more)) => {
                let text = format!(
                    "nothing was done: `{}` takes {needed} people here, and waits for {more} more; they look with `keywheel approval describe {id}` and say `keywheel approval approve {id} --reason TEXT`; then repeat this within a day of asking",
                    operation.word()
                );
                let waits = Failure::waiting(id, text);
                // Asking for it is its record; that somebody came again has one of its own.
                Err(match is_new {
                    true => waits.on_record(),
                    false => waits,
                })
            }
            None => Err(Failure::conflict(
                "what was asked for under this `Idempotency-Key` ended without being approved; ask anew under another one",
            )),
        }
    }

    fn open_request(
        &self,
        operation: Operation,
        digest: &Digest,
        who: (&str, u64),
    ) -> Option<(ApprovalId, u64)> {
        let committed = self.view.read();
        let approvals = &committed.world.approvals;
        let open = approvals.open_of(operation, digest, who, self.clock.now())?;
        Some((open.id, open.missing()))
    }
}
