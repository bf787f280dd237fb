//! What is asked of a journal before it is served: whose it is, and whether its end is whole.
//!
//! Pure but for the rows it reads; every adapter asks the same.

use keywheel_core::id::DeploymentId;
use keywheel_engine::port::{ErrorKind, PortError};

use crate::JournalOptions;
use crate::batch::{Signer, Tail};
use crate::checkpoint::{Checkpoint, check_origin};
use crate::merkle::Frontier;
use crate::place::Place;
use crate::read;
use crate::rows::Rows;
use crate::tables::PROCESS_MANAGERS;

/// Whose journal it is to be, and what signs it.
pub(crate) fn signer(options: JournalOptions) -> Result<(DeploymentId, Signer), PortError> {
    check_origin(&options.origin).map_err(|source| {
        let text = "the audit log's name is unusable";
        PortError::caused(ErrorKind::Denied, text, source)
    })?;
    let signer = Signer {
        key: options.signing_key,
        origin: options.origin,
        source: options.source,
    };
    Ok((options.deployment, signer))
}

/// Writes the first rows of a new log, in the caller's transaction.
pub(crate) async fn begin(
    rows: &mut impl Rows,
    place: &Place,
    deployment: DeploymentId,
    signer: &Signer,
) -> Result<(), PortError> {
    let frontier = Frontier::new();
    let public_key = signer.key.verifying_key().to_bytes().to_vec();
    let owner = (
        deployment.bytes().to_vec(),
        signer.origin.clone(),
        public_key,
    );
    let checkpoint = signer.checkpoint(&frontier);
    let head = (0, vec![0; 32], 0, frontier.to_bytes(), checkpoint);
    let begun = rows.begin_log(owner, head, &PROCESS_MANAGERS).await;
    begun.map_err(|source| place.failed(source))
}

/// Refuses a log of another deployment, key or name.
pub(crate) async fn check_owner(
    rows: &mut impl Rows,
    place: &Place,
    deployment: DeploymentId,
    signer: &Signer,
) -> Result<(), PortError> {
    let owner = rows.owner().await;
    let owner = owner.map_err(|source| place.failed(source))?;
    let (owner, origin, public_key) = owner.ok_or_else(|| place.damaged("it names no owner"))?;
    let refuse = |what: &str| {
        let text = format!("the journal {place} {what}");
        Err(PortError::new(ErrorKind::Denied, text))
    };
    if owner != deployment.bytes() {
        let own = match place {
            Place::File(_) => "data directory",
            Place::Server(_) => "database",
        };
        return refuse(&format!(
            "belongs to another deployment; give each deployment its own {own}"
        ));
    }
    if public_key != signer.key.verifying_key().to_bytes() {
        return refuse("is signed with another key; give the key it was made with");
    }
    if origin != signer.origin {
        return refuse(&format!(
            "is the log `{origin}`, not `{}`; give it its own name",
            signer.origin
        ));
    }
    Ok(())
}

/// Re-reads the end of chain and tree: what was written last before a crash is looked at first.
pub(crate) async fn check_tail(
    rows: &mut impl Rows,
    place: &Place,
    signer: &Signer,
    tail: &Tail,
) -> Result<(), PortError> {
    let key = signer.key.verifying_key();
    let last = read::last_event(rows, place).await?;
    if last.as_ref().map_or(0, |last| last.number) != tail.number {
        return Err(place.damaged("its last event is not the one its head names"));
    }
    if last.is_some_and(|last| last.hash != tail.hash || !last.is_signed_by(&key)) {
        return Err(place.damaged("its last event does not fit its head or its signature"));
    }
    let leaves = rows.leaf_end().await;
    let leaves = leaves.map_err(|source| place.failed(source))?;
    if u64::try_from(leaves) != Ok(tail.frontier.size()) {
        return Err(place.damaged("its last audit record is not the one its head names"));
    }
    let signed = Checkpoint::verify(&tail.checkpoint, &signer.origin, &key);
    if !signed.is_ok_and(|c| c.size == tail.frontier.size() && c.root == tail.frontier.root()) {
        return Err(place.damaged("its checkpoint does not fit its audit tree"));
    }
    Ok(())
}
