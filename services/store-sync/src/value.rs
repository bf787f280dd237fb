//! Requests: values for hosts, the key for provided values, keeping those, comparisons with reported tokens, and looks
//! at stores outside; and the seal.
//!
//! Invariants: while it is sealed nothing but the seal is answered for; no value is opened before the gateway confirmed the grant at the log's head; a value
//! leaves only sealed to the key the gateway named; a provided value goes when its
//! command was refused, and after a bounded time when no rotation takes it; texts of failures name ids and reasons only.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::id::RotationId;
use keywheel_daemon::{Shutdown, chain, names};
use keywheel_engine::port::bus::{Address, Body, Message, Request, Requests, ValueRequest};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::trace::Context;
use keywheel_engine::{delivery, stash, unseal};
use keywheel_seal::SecretBytes;
use keywheel_seal::hpke::{self, Envelope, OpenError, PublicKey};
use keywheel_telemetry::traces::{Kind, Span, names as spans};
use tokio::sync::SemaphorePermit;
use tokio::task::JoinSet;

use crate::compare;
use crate::effect::SERVICE;
use crate::outside;
use crate::service::Shared;

/// Requests answered at once.
pub const MAX_ANSWERING: usize = 64;
/// Of these, requests that ask stores outside: a slow store takes no value's place.
pub const MAX_ASKING_STORES: usize = 8;
/// How long the gateway may take to confirm a grant.
pub const GRANT_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers requests until told to stop.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    mut requests: Box<dyn Requests>,
    shutdown: &Shutdown,
) {
    let mut answering = JoinSet::new();
    // One sleeper per value that was kept here; what an earlier run kept, the cache drops at its opening.
    let mut expiring = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            Some(answered) = answering.join_next() => {
                if let Ok(Some(token)) = answered {
                    expiring.spawn(expire(Arc::clone(&shared), token));
                }
            }
            Some(_) = expiring.join_next() => {}
            request = requests.next(), if answering.len() < MAX_ANSWERING => {
                let Some(request) = request else { break };
                answering.spawn(answer(Arc::clone(&shared), request));
            }
        }
    }
    while answering.join_next().await.is_some() {}
}

/// Drops a provided value that no rotation took in time, such as that of a command that never came.
async fn expire(shared: Arc<Shared>, token: RotationId) {
    tokio::time::sleep(shared.options.stash_age).await;
    if let Err(error) = shared.ports.vault.drop_stashed(token).await {
        tracing::warn!(
            { names::ERROR } = chain(&error),
            "provided value not dropped"
        );
    }
}

/// Answers one request; gives the token of a provided value that is kept since.
async fn answer(shared: Arc<Shared>, request: Box<dyn Request>) -> Option<RotationId> {
    let answered = body(&shared, request.message()).await;
    let kept = match (&answered, &request.message().body) {
        (Ok(Body::Done), Body::Stash { token, .. }) => Some(*token),
        _ => None,
    };
    let body = answered.unwrap_or_else(|error| {
        tracing::warn!({ names::ERROR } = chain(&error), "request not served");
        Body::Failed {
            kind: error.kind,
            text: error.text,
        }
    });
    if let Err(error) = request.answer(body).await {
        tracing::debug!({ names::ERROR } = chain(&error), "answer not delivered");
    }
    kept
}

async fn body(shared: &Arc<Shared>, message: &Message) -> Result<Body, PortError> {
    match &message.body {
        Body::ReadSeal => shared.seal.state().await.map(Body::SealState),
        Body::Unseal { offered } => shared.seal.offer(offered).await.map(Body::SealState),
        Body::Seal => seal(shared).await,
        Body::RotateKek => shared.seal.rotate_kek().await.map(Body::SealState),
        _ if shared.seal.is_sealed() => Err(unseal::sealed()),
        _ => value_body(shared, message).await,
    }
}

/// Drops every key, and what stores outside were spoken to with.
async fn seal(shared: &Shared) -> Result<Body, PortError> {
    let state = shared.seal.close().await?;
    shared.registry.forget();
    Ok(Body::SealState(state))
}

async fn value_body(shared: &Arc<Shared>, message: &Message) -> Result<Body, PortError> {
    match &message.body {
        Body::ReadStoreKey => tell_key(shared).await,
        Body::Stash { token, sealed } => keep(shared, *token, sealed).await,
        Body::DropStash { token } => {
            shared.ports.vault.drop_stashed(*token).await?;
            Ok(Body::Done)
        }
        Body::OpenValue(wanted) => {
            let span = span_of(message, wanted);
            let opened = open(shared, wanted, span.traceparent()).await;
            failed(span, &opened);
            opened
        }
        Body::CheckStore {
            store,
            credentials,
            places,
        } => {
            let _place = asks_stores(shared)?;
            let untried = outside::check(shared, store, credentials, places).await?;
            Ok(Body::Tried(untried))
        }
        Body::LookNow { secret } => {
            let _place = asks_stores(shared)?;
            Ok(Body::Looked(outside::look_now(shared, *secret).await?))
        }
        Body::Compare(asked) => compare::run(shared, asked).await,
        _ => Err(PortError::new(
            ErrorKind::Denied,
            "store-sync does not answer such a request",
        )),
    }
}

/// A place among the requests that ask stores outside.
fn asks_stores(shared: &Shared) -> Result<SemaphorePermit<'_>, PortError> {
    shared.asking_stores.try_acquire().map_err(|_| {
        let text = format!(
            "store-sync is busy: it asks stores for {MAX_ASKING_STORES} others already; try again"
        );
        PortError::new(ErrorKind::Unavailable, text)
    })
}

fn span_of(message: &Message, wanted: &ValueRequest) -> Span {
    let above = message.traceparent.as_deref().and_then(Context::parse);
    Span::below(SERVICE, spans::OPEN_VALUE, Kind::Server, above)
        .with(spans::RPC_SYSTEM, spans::SYSTEM)
        .with(spans::RPC_METHOD, spans::OPEN_VALUE)
        .with(spans::HOST_ID, wanted.host.to_string())
        .with(spans::SECRET_ID, wanted.secret.to_string())
        .with(spans::VERSION, wanted.version)
}

fn failed(mut span: Span, answered: &Result<Body, PortError>) {
    if let Err(error) = answered {
        span.fail(error.kind.word(), &error.text);
    }
}

/// The newest key that provided values are sealed to, whichever store-sync made it.
async fn tell_key(shared: &Shared) -> Result<Body, PortError> {
    let pairs = shared.ports.vault.store_keys().await?;
    let none = || {
        PortError::new(
            ErrorKind::Unavailable,
            "there is no key for provided values",
        )
    };
    let newest = pairs.first().ok_or_else(none)?;
    Ok(Body::StoreKey(newest.public().to_bytes()))
}

async fn keep(shared: &Shared, token: RotationId, sealed: &[u8]) -> Result<Body, PortError> {
    let refused = "the provided value does not open; read the store's key again and send it again";
    let (info, aad) = (stash::info(shared.options.deployment), stash::aad(token));
    let value = open_sealed(shared, sealed, (&info, &aad), refused).await?;
    shared.ports.vault.stash(token, &value).await?;
    Ok(Body::Done)
}

/// Opens what was sealed to a key that some store-sync told.
pub(crate) async fn open_sealed(
    shared: &Shared,
    sealed: &[u8],
    (info, aad): (&[u8], &[u8]),
    refused: &str,
) -> Result<SecretBytes, PortError> {
    let envelope = Envelope::from_bytes(sealed)
        .map_err(|error| PortError::caused(ErrorKind::Denied, refused, error))?;
    let mut opened = Err(OpenError::Rejected);
    for pair in shared.ports.vault.store_keys().await? {
        opened = opened.or_else(|_| pair.open(info, aad, &envelope));
    }
    opened.map_err(|source| PortError::caused(ErrorKind::Denied, refused, source))
}

async fn open(
    shared: &Shared,
    wanted: &ValueRequest,
    traceparent: Option<String>,
) -> Result<Body, PortError> {
    let ports = &shared.ports;
    let asked = Body::OpenValue(*wanted);
    let sealing_key = match ports
        .bus
        .request(Address::Gateway, traceparent, asked, GRANT_TIMEOUT)
        .await?
    {
        Body::Granted { sealing_key } => PublicKey::from_bytes(sealing_key),
        Body::Failed { kind, text } => return Err(PortError::new(kind, text)),
        _ => {
            return Err(PortError::new(
                ErrorKind::Unavailable,
                "the answer about a grant is no grant",
            ));
        }
    };
    let value = ports.vault.open(wanted.secret, wanted.version).await?;
    let info = delivery::info(shared.options.deployment, wanted.host);
    let aad = delivery::aad(wanted.delivery, wanted.secret, wanted.version);
    let sealed = hpke::seal(&sealing_key, &info, &aad, &value, &*ports.entropy);
    let envelope = sealed.map_err(|error| {
        let text = format!(
            "version {} of secret {} cannot be sealed to its host",
            wanted.version, wanted.secret
        );
        PortError::caused(ErrorKind::Denied, text, error)
    })?;
    Ok(Body::SealedValue(envelope.to_bytes()))
}
