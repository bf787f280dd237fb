//! Verbs that change something: apply, put, rotate, revoke, unbind. Each is one command.

use axum::Json;
use axum::extract::{Extension, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::audit::Outcome;
use keywheel_core::command::{Command, Declaration, Replacing};
use keywheel_core::decision::{self, Action, Context, Enrolment, Planned, Rejection};
use keywheel_core::id::{
    BindingId, CommandId, NotificationId, PlaybookId, PutToken, RevocationId, RotationId, SecretId,
    SignalSourceId, StoreId,
};
use keywheel_core::name::{BindingName, NameError, SecretName, StoreName};
use keywheel_core::secret;
use keywheel_core::world::World;
use keywheel_engine::command_bus::{Decided, Submission};
use keywheel_engine::port::bus::{Address, Body};
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::stash;
use keywheel_schemas::api::{
    Applied, ApplyAnswer, ApplyRequest, PutRequest, RevocationView, RevokeRequest, RotateRequest,
    RotationView,
};
use keywheel_schemas::manifest::{self, Manifest};

use super::payload::{Object, Payload};
use super::read::{revocation_told, rotation_told};
use super::under_way::Kind;
use super::{
    Api, Caller, Failure, Named, STASH_TIMEOUT, bounded, deed, history, stores, trace, unanswered,
};
use crate::admission::demands;
use crate::views;

/// What a command's id is drawn for.
pub(super) const COMMAND: &str = "command";

/// A command that was accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepted {
    /// Its id.
    pub(super) command: CommandId,
    /// Number of its last event, or of the log's when it had none.
    pub(super) number: u64,
    /// Whether it was decided before, and nothing was done now.
    pub(super) is_repeat: bool,
}

impl Api {
    /// Submits a request's one command; afterwards what it did is to be seen here.
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        command: Command,
    ) -> Result<Accepted, Failure> {
        let id = CommandId::from_bytes(caller.draw(self, COMMAND));
        self.submit_as(caller, id, command).await
    }

    /// Submits under an id that the caller drew.
    pub(super) async fn submit_as(
        &self,
        caller: &Caller,
        id: CommandId,
        command: Command,
    ) -> Result<Accepted, Failure> {
        let by = self.admit_command(caller, &command).await?;
        let command = self.with_others(caller, id, command, by.clone()).await?;
        self.submit_admitted(caller, id, command, by).await
    }

    /// Submits what policies let in, and others if it takes them.
    pub(super) async fn submit_admitted(
        &self,
        caller: &Caller,
        id: CommandId,
        command: Command,
        by: Option<String>,
    ) -> Result<Accepted, Failure> {
        let submission = Submission {
            id,
            principal: caller.principal.clone(),
            traceparent: Some(trace::current(&*self.ids).to_string()),
            command,
        };
        let deciding = self.commands.decide_admitted(submission, by);
        let Decided { verdict, is_repeat } = unanswered::by(deciding).await?;
        let number = match verdict {
            Verdict::Accepted { number } => number,
            Verdict::Rejected { kind, text } => return Err(Failure::rejected(kind, text)),
        };
        if self.view.read().number < number {
            // Another gateway decided it, and its events are not folded here yet.
            self.commands.look_at_head().await?;
        }
        Ok(Accepted {
            command: id,
            number,
            is_repeat,
        })
    }

    /// Whether the log has the answer to this request's command already.
    async fn is_answered(&self, caller: &Caller) -> Result<bool, Failure> {
        if !caller.has_key() {
            return Ok(false);
        }
        let id = CommandId::from_bytes(caller.draw(self, COMMAND));
        Ok(self.journal.verdict(id).await?.is_some())
    }

    pub(super) fn rotation_view(&self, id: RotationId) -> Result<RotationView, Failure> {
        let is_sealed = self.presences.says_sealed();
        rotation_told(&self.view.read(), id, is_sealed)
            .ok_or_else(|| Failure::not_found(format!("no rotation {id}")))
    }

    pub(super) fn revocation_view(&self, id: RevocationId) -> Result<RevocationView, Failure> {
        let is_sealed = self.presences.says_sealed();
        revocation_told(&self.view.read(), id, is_sealed)
            .ok_or_else(|| Failure::not_found(format!("no revocation {id}")))
    }
}

fn name_fault(error: NameError) -> Failure {
    Failure::invalid(error.to_string())
}

/// Reads the manifests of a request. Conditions and calendars of a large file take a while; other requests go
/// on meanwhile.
async fn read(api: &Api, request: &ApplyRequest) -> Result<Vec<Manifest>, Failure> {
    let check = api.check_schedule;
    let (text, source) = (request.manifests.clone(), request.source.clone());
    let reading = tokio::task::spawn_blocking(move || {
        manifest::parse(&text, &source, &|line, zone| check(line, zone))
    });
    let parsed = reading.await.map_err(|_| {
        let text = "the manifests were not read to the end; apply them again";
        PortError::new(ErrorKind::Unavailable, text)
    })?;
    parsed.map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Failure::invalid(lines.join("\n"))
    })
}

pub(super) async fn apply(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<ApplyRequest>,
) -> Result<Json<ApplyAnswer>, Failure> {
    let Object(request) = body?;
    let manifests = read(&api, &request).await?;
    let declarations: Vec<Declaration> = (0..)
        .zip(&manifests)
        .map(|(place, manifest)| {
            declaration(manifest, |what| {
                caller.draw(&api, &format!("{what}/{place}"))
            })
        })
        .collect();
    let needs = demands::of_declarations(&api.view.read().world, &declarations);
    // Before anything is tried at a store, and of a dry run, too: a plan tells what there is.
    api.admit_caller(&caller, &needs).await?;
    let mut untried = stores::Untried::new();
    let planned = if request.dry_run {
        let (planned, left) = plan_checked(&api, &caller, &request, &declarations).await?;
        untried = left;
        record_dry_run(&api, &caller, &manifests, &planned).await?;
        planned.map_err(|no| Failure::rejected(no.kind(), no.to_string()))?
    } else {
        // What was decided already is neither planned nor checked anew: stores may be away by now.
        let planned = match api.is_answered(&caller).await? {
            true => Ok(Vec::new()),
            false => {
                let (planned, left) = plan_checked(&api, &caller, &request, &declarations).await?;
                untried = left;
                planned
            }
        };
        let command = Command::Apply(declarations.clone());
        let accepted = api.submit(&caller, command).await?;
        match accepted.is_repeat {
            true => plan_of_then(&api, accepted, &declarations).await?,
            false => planned.unwrap_or_default(),
        }
    };
    // Somebody may have made room between the plan and the decision; then what was there is changed.
    let actions = planned.iter().map(|one| action_word(one.action));
    let actions = actions.chain(std::iter::repeat("changed"));
    let committed = api.view.read();
    let results = manifests.iter().zip(actions).map(|(manifest, action)| {
        let mut applied = applied((manifest, action));
        applied.note = withheld(&committed.world, manifest).or(applied.note);
        // Told once, with the first document that the store is tried for.
        applied.note = applied.note.or_else(|| untried.remove(store_of(manifest)?));
        applied
    });
    let results = results.collect();
    Ok(Json(ApplyAnswer { results }))
}

/// What a document asks for, with ids drawn for what it may make.
fn declaration(manifest: &Manifest, draw: impl Fn(&str) -> [u8; 16]) -> Declaration {
    match manifest {
        Manifest::Secret { name, spec, .. } => Declaration::Secret {
            id: SecretId::from_bytes(draw("secret")),
            rotation: RotationId::from_bytes(draw("rotation")),
            name: name.clone(),
            spec: spec.clone(),
        },
        Manifest::Store { name, spec, .. } => Declaration::Store {
            id: StoreId::from_bytes(draw("store")),
            name: name.clone(),
            spec: spec.clone(),
        },
        Manifest::Playbook { name, spec, .. } => Declaration::Playbook {
            id: PlaybookId::from_bytes(draw("playbook")),
            name: name.clone(),
            spec: spec.clone(),
        },
        Manifest::Binding {
            name,
            secret,
            also,
            selector,
            target,
            reload,
            previous,
            on_revoke,
            ..
        } => Declaration::Binding {
            id: BindingId::from_bytes(draw("binding")),
            name: name.clone(),
            secret: secret.clone(),
            also: also.clone(),
            selector: selector.clone(),
            target: target.clone(),
            reload: reload.clone(),
            previous: previous.clone(),
            on_revoke: *on_revoke,
        },
        Manifest::Notification { name, spec, .. } => Declaration::Notification {
            id: NotificationId::from_bytes(draw("notification")),
            name: name.clone(),
            spec: spec.clone(),
        },
        Manifest::SignalSource { name, spec, .. } => Declaration::SignalSource {
            id: SignalSourceId::from_bytes(draw("signal-source")),
            name: name.clone(),
            spec: spec.clone(),
        },
    }
}

/// What the declarations would lead to now, and what was not tried of the stores among them, which are
/// tried first unless that is not wanted.
async fn plan_checked(
    api: &Api,
    caller: &Caller,
    request: &ApplyRequest,
    declarations: &[Declaration],
) -> Result<(Result<Vec<Planned>, Rejection>, stores::Untried), Failure> {
    api.commands.look_at_head().await?;
    let planned = plan(api, &api.view.read().world, declarations);
    let untried = match planned.is_ok() && !request.no_check {
        true => unanswered::part(Box::pin(stores::check(api, caller, declarations))).await?,
        false => stores::Untried::new(),
    };
    Ok((planned, untried))
}

fn plan(api: &Api, world: &World, declarations: &[Declaration]) -> Result<Vec<Planned>, Rejection> {
    let ctx = Context {
        now: api.clock.now(),
        seed: api.ids.draw(),
        enrolment: Enrolment::default(),
    };
    decision::plan_apply(world, declarations, &ctx)
}

/// What the declarations led to when they were decided: planned anew on the log as it was before.
async fn plan_of_then(
    api: &Api,
    accepted: Accepted,
    declarations: &[Declaration],
) -> Result<Vec<Planned>, Failure> {
    let _place = api.scans.fold()?;
    let first = history::first_of(api, accepted.command, accepted.number).await?;
    let then = history::fold(api, first - 1).await?;
    Ok(plan(api, &then.world, declarations).unwrap_or_default())
}

async fn record_dry_run(
    api: &Api,
    caller: &Caller,
    manifests: &[Manifest],
    planned: &Result<Vec<Planned>, Rejection>,
) -> Result<(), Failure> {
    let names = manifests
        .iter()
        .map(|manifest| format!("{}/{}", manifest.kind().to_lowercase(), manifest.name()));
    let object = bounded(&names.collect::<Vec<_>>().join(" "));
    let (outcome, own) = match planned {
        Ok(_) => (Outcome::Allowed, String::new()),
        Err(no) => (Outcome::Rejected, no.to_string()),
    };
    let (principal, reason) = (&caller.principal, caller.standing.words(&own));
    let record = api.record(principal, "apply-dry-run", &object, outcome, &reason);
    Ok(unanswered::by(api.commands.record(record)).await?)
}

const fn action_word(action: Action) -> &'static str {
    match action {
        Action::Created => "created",
        Action::Changed => "changed",
        Action::Unchanged => "unchanged",
    }
}

/// Why a binding gives nothing: nobody is to look for that in a container.
fn withheld(world: &World, manifest: &Manifest) -> Option<String> {
    let Manifest::Binding { name, .. } = manifest else {
        return None;
    };
    views::binding(world, world.binding_named(name)?)?.withheld
}

fn applied((manifest, action): (&Manifest, &'static str)) -> Applied {
    let note = match manifest {
        Manifest::Secret { .. }
        | Manifest::Store { .. }
        | Manifest::Notification { .. }
        | Manifest::SignalSource { .. }
        | Manifest::Playbook { .. } => None,
        Manifest::Binding {
            selector, target, ..
        } => views::binding_note(selector, target),
    };
    Applied {
        kind: manifest.kind().to_owned(),
        name: manifest.name().to_owned(),
        action: action.to_owned(),
        note,
    }
}

/// The store that a document is about.
fn store_of(manifest: &Manifest) -> Option<&StoreName> {
    match manifest {
        Manifest::Store { name, .. } => Some(name),
        Manifest::Secret { spec, .. } => match &spec.store {
            secret::Store::Outside(place) => Some(&place.store),
            secret::Store::Local => None,
        },
        Manifest::Binding { .. }
        | Manifest::Notification { .. }
        | Manifest::SignalSource { .. }
        | Manifest::Playbook { .. } => None,
    }
}

pub(super) async fn unbind(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
) -> Result<Json<ApplyAnswer>, Failure> {
    let name = BindingName::parse(&name).map_err(name_fault)?;
    api.submit(&caller, Command::Unbind { name: name.clone() })
        .await?;
    let gone = Applied {
        kind: "Binding".to_owned(),
        name: name.to_string(),
        action: "removed".to_owned(),
        note: None,
    };
    Ok(Json(ApplyAnswer {
        results: vec![gone],
    }))
}

pub(super) async fn put(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<PutRequest>,
) -> Result<Json<RotationView>, Failure> {
    let Object(request) = body?;
    let name = SecretName::parse(&request.name).map_err(name_fault)?;
    let rotation = match &request.token {
        Some(token) => {
            let token = PutToken::parse(token);
            stash::rotation(token.map_err(|e| Failure::invalid(e.to_string()))?)
        }
        None if request.sealed.is_some() => {
            let text = "a sealed value comes with the `token` it was sealed under; send both";
            return Err(Failure::invalid(text));
        }
        None => RotationId::from_bytes(caller.draw(&api, "rotation")),
    };
    let id = SecretId::from_bytes(caller.draw(&api, "secret"));
    let provided = request.sealed.is_some();
    let command = Command::Put {
        id,
        rotation,
        name,
        provided,
    };
    // Before the value goes anywhere.
    api.admit_command(&caller, &command).await?;
    let sealed = request.sealed.as_ref().map(|text| STANDARD.decode(text));
    let sealed = sealed
        .transpose()
        .map_err(|e| Failure::invalid(format!("field `sealed` is not base64: {e}")))?;
    let place = api.under_way.place(Kind::Put, &caller.principal)?;
    let own = api.clone();
    let putting = async move {
        let put = put_to_its_end(&own, &caller, (rotation, sealed), command).await;
        unanswered::ended(&own, &caller, "put", put).await
    };
    deed::to_its_end(&api, place, putting).await?;
    api.rotation_view(rotation).map(Json)
}

/// Has store-sync keep the value that comes with it, if one does, and drops it where the command is refused.
async fn put_to_its_end(
    api: &Api,
    caller: &Caller,
    (rotation, sealed): (RotationId, Option<Vec<u8>>),
    command: Command,
) -> Result<(), Failure> {
    let provided = sealed.is_some();
    if let Some(sealed) = sealed {
        // A repeat brings a value that was taken already.
        if !api.is_answered(caller).await? {
            deed::may_begin(api)?;
            keep(api, rotation, sealed).await?;
        }
    }
    let submitted = api.submit(caller, command).await;
    if submitted.as_ref().is_err_and(Failure::is_rejection) && provided {
        drop_stash(api, rotation).await;
    }
    submitted.map(drop)
}

/// Drops the value of a refused command. When that fails it goes by its age; and a rotation that is
/// under way keeps its value, whoever else named it.
async fn drop_stash(api: &Api, token: RotationId) {
    if api.view.read().world.rotations.contains_key(&token) {
        return;
    }
    let body = Body::DropStash { token };
    let answer = api
        .bus
        .request(Address::StoreSync, None, body, STASH_TIMEOUT)
        .await;
    if !matches!(answer, Ok(Body::Done)) {
        tracing::warn!(rotation = %token, "provided value of a refused command not dropped; it goes by its age");
    }
}

/// Hands a sealed value to store-sync, unopened.
async fn keep(api: &Api, token: RotationId, sealed: Vec<u8>) -> Result<(), Failure> {
    let answer = api
        .bus
        .request(
            Address::StoreSync,
            None,
            Body::Stash { token, sealed },
            STASH_TIMEOUT,
        )
        .await?;
    match answer {
        Body::Done => Ok(()),
        Body::Failed { kind, text } => {
            Err(keywheel_engine::port::PortError::new(kind, text).into())
        }
        _ => Err(Failure::invalid(
            "store-sync did not understand the sealed value",
        )),
    }
}

pub(super) async fn rotate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<RotateRequest>,
) -> Result<Json<RotationView>, Failure> {
    let Object(request) = body?;
    let secret = SecretName::parse(&request.secret).map_err(name_fault)?;
    let rotation = RotationId::from_bytes(caller.draw(&api, "rotation"));
    api.submit(&caller, Command::Rotate { rotation, secret })
        .await?;
    api.rotation_view(rotation).map(Json)
}

pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Payload<RevokeRequest>,
) -> Result<Json<RevocationView>, Failure> {
    let Object(request) = body?;
    let secret = SecretName::parse(&request.secret).map_err(name_fault)?;
    let revocation = RevocationId::from_bytes(caller.draw(&api, "revocation"));
    let (version, reason) = (request.version, request.reason);
    let is_emergency = request.emergency;
    let command = match request.replace {
        false => Command::Revoke {
            revocation,
            secret,
            version,
            reason,
            is_emergency,
        },
        true => Command::Replace(Replacing {
            revocation,
            rotation: RotationId::from_bytes(caller.draw(&api, "rotation")),
            secret,
            version,
            reason,
            is_emergency,
        }),
    };
    api.submit(&caller, command).await?;
    api.revocation_view(revocation).map(Json)
}
