//! The audit's export: records with their leaf hashes, and what shows that they are the log's.
//!
//! Invariants: an export has a size that whoever asks can read, and the gateway can hold; a larger one is refused before
//! more is read, with the part that fits. Where it takes several people, one that cannot be made is put to nobody.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_journal::merkle;
use keywheel_schemas::api::{AuditExport, AuditPart, MAX_PAGE};
use serde::Deserialize;

use super::retention::gone;
use super::stream::hexadecimal;
use super::{Api, Caller, Failure};
use crate::dual;

/// Largest export, in bytes of its JSON. Of each that is read at once the gateway holds the records and the answer made
/// of them; `deploy/compose.yaml` gives it 512 MiB for everything.
const MAX_EXPORT_BYTES: usize = 96 << 20;
/// A hash as it stands in a list: digits, quotes, comma.
const HASH_BYTES: usize = 67;

/// How much of an export's size is left.
struct Room(usize);

impl Room {
    /// Takes so many bytes out of it; whether they were there.
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// What a record takes with its hash.
fn weight(record: &str) -> usize {
    let escaped = record.bytes().filter(|byte| matches!(byte, b'"' | b'\\'));
    record.len() + escaped.count() + "\"\",".len() + HASH_BYTES
}

/// Why not all of them are exported at once.
fn too_large((from, to): (u64, u64), fits: u64) -> Failure {
    let part = match fits > from {
        true => {
            format!("export it in parts, `keywheel audit export --from {from} --to {fits}` first; ")
        }
        false => String::new(),
    };
    Failure::invalid(format!(
        "audit records {from} to {to} with their hashes are more than the {} MiB of one export; {part}`keywheel audit verify` without --file verifies all of them and makes no export",
        MAX_EXPORT_BYTES >> 20
    ))
}

/// Which records are exported.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportQuery {
    /// The first; 0 without it.
    from: Option<u64>,
    /// The one behind the last; all there are without it.
    to: Option<u64>,
}

impl ExportQuery {
    const fn is_whole(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// The range in a log of so many records.
    fn range(&self, size: u64) -> Result<(u64, u64), Failure> {
        let (from, to) = (self.from.unwrap_or(0), self.to.unwrap_or(size));
        if !self.is_whole() && (from >= to || to > size) {
            return Err(Failure::invalid(format!(
                "there are no audit records {from} to {to}: there are {size}, the first is 0, and `to` is behind the last"
            )));
        }
        Ok((from, to))
    }
}

pub(super) async fn export(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ExportQuery>, QueryRejection>,
) -> Result<Json<AuditExport>, Failure> {
    let Query(query) = query?;
    let _place = api.scans.fold()?;
    let wanted = dual::export(query.from, query.to);
    if api.admission.people(wanted.operation).is_some() {
        // What cannot be exported is refused before anybody else is asked about it.
        let size = api.journal.head().await?.audit_size;
        let range = query.range(size)?;
        records_there(&api, range, query.is_whole()).await?;
    }
    api.look_with_others(&caller, ("export-audit", wanted))
        .await?;
    let head = api.journal.head().await?;
    let size = head.audit_size;
    let (from, to) = query.range(size)?;
    let (is_whole, range) = (query.is_whole(), (from, to));
    let (begins, (records, leaf_hashes)) = records_there(&api, range, is_whole).await?;
    let removed_hashes = match is_whole {
        true => removed(&api, begins).await?,
        false => Vec::new(),
    };
    let part = match is_whole {
        true => None,
        false => Some(AuditPart {
            first: from,
            first_path: path(&api, from, size).await?,
            last_path: path(&api, to - 1, size).await?,
        }),
    };
    Ok(Json(AuditExport {
        origin: api.origin.clone(),
        public_key: STANDARD.encode(api.public_key),
        checkpoint: head.checkpoint,
        records,
        leaf_hashes,
        removed_hashes,
        part,
    }))
}

/// Leaf hashes of the records before the first that is there.
async fn removed(api: &Api, begins: u64) -> Result<Vec<String>, Failure> {
    let mut hashes = Vec::new();
    while (hashes.len() as u64) < begins {
        let next = hashes.len() as u64;
        let page = api.journal.removed_hashes(next, MAX_PAGE).await?;
        if page.is_empty() {
            break;
        }
        hashes.extend(page.iter().map(hexadecimal));
    }
    // More may have left since.
    hashes.truncate(usize::try_from(begins).unwrap_or(usize::MAX));
    Ok(hashes)
}

async fn path(api: &Api, index: u64, size: u64) -> Result<Vec<String>, Failure> {
    let path = api.journal.inclusion_proof(index, size).await?;
    Ok(path.iter().map(hexadecimal).collect())
}

/// Records of a range as far as they are there, and the first that is. Some may leave while they are read.
async fn records_there(
    api: &Api,
    (from, to): (u64, u64),
    is_whole: bool,
) -> Result<(u64, (Vec<String>, Vec<String>)), Failure> {
    let mut begins = api.journal.audit_begins().await?;
    loop {
        if !is_whole && from < begins {
            return Err(Failure::invalid(gone(from, begins)));
        }
        let first = from.max(begins);
        let mut room = Room(MAX_EXPORT_BYTES);
        let removed = usize::try_from(begins).unwrap_or(usize::MAX);
        if is_whole && !room.take(removed.saturating_mul(HASH_BYTES)) {
            return Err(too_large((first, to), first));
        }
        let read = read_records(api, (first, to), room).await?;
        let now = api.journal.audit_begins().await?;
        // What is missing though none left is for whoever verifies to name.
        if now == begins || read.0.len() as u64 == to.saturating_sub(first) {
            return Ok((begins, read));
        }
        begins = now;
    }
}

/// Records as text, and their leaf hashes, up to the first that is missing.
async fn read_records(
    api: &Api,
    (from, to): (u64, u64),
    mut room: Room,
) -> Result<(Vec<String>, Vec<String>), Failure> {
    let (mut records, mut leaf_hashes) = (Vec::new(), Vec::new());
    let mut next = from;
    while next < to {
        let left = usize::try_from(to - next).unwrap_or(MAX_PAGE);
        let leaves = api.journal.read_audit(next, left.min(MAX_PAGE)).await?;
        if leaves.is_empty() {
            break;
        }
        for leaf in leaves {
            if leaf.index != next {
                return Ok((records, leaf_hashes));
            }
            let record = String::from_utf8_lossy(&leaf.bytes).into_owned();
            if !room.take(weight(&record)) {
                return Err(too_large((from, to), next));
            }
            next += 1;
            let hash = merkle::leaf_hash(&leaf.bytes);
            leaf_hashes.push(hexadecimal(&hash));
            records.push(record);
        }
    }
    Ok((records, leaf_hashes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn a_record_takes_what_it_takes_in_json() {
        for record in ["{}", r#"{"reason":"a \"b\" c\\d","v":1}"#] {
            let hash = "0".repeat(64);
            let list = |one: &str| serde_json::to_string(&[one, one]).unwrap().len();
            let twice = list(record) + list(&hash);
            // Two lists, each with one comma less and two brackets more.
            assert_eq!(2 * weight(record) + 2, twice, "{record}");
        }
    }

    #[tokio::test]
    async fn an_export_that_is_too_large_is_refused_with_the_part_that_fits() {
        let bench = Bench::start().await;
        for number in 0..5 {
            let record = bench.api.record(
                &keywheel_core::audit::Principal::Operator {
                    name: "ada".to_owned(),
                },
                "list",
                &format!("secrets/{number}"),
                keywheel_core::audit::Outcome::Allowed,
                "",
            );
            bench.api.commands.record(record).await.unwrap();
        }
        let all = Room(MAX_EXPORT_BYTES);
        let (records, hashes) = read_records(&bench.api, (0, 5), all).await.ok().unwrap();
        assert_eq!((records.len(), hashes.len()), (5, 5));
        let three: usize = records.iter().take(3).map(|record| weight(record)).sum();
        let whole = read_records(&bench.api, (0, 3), Room(three)).await;
        assert_eq!(whole.ok().unwrap().0.len(), 3);
        let refused = read_records(&bench.api, (0, 5), Room(three)).await;
        let refused = refused.err().unwrap();
        let said = refused.detail();
        assert!(
            said.contains("`keywheel audit export --from 0 --to 3`"),
            "{said}"
        );
        assert!(!too_large((7, 9), 7).detail().contains("--from"));
    }
}
