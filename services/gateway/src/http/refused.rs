//! Starts that were refused for want of a secret: the audit alone has them, since no assignment came of them.
//!
//! It is read back page by page, and others have their turn between two pages; how far is bounded, so that a look costs
//! the same on any log.

use std::iter;
use std::ops::Range;

use keywheel_engine::port::journal::AuditLeaf;
use keywheel_schemas::api::RefusedStartView;
use keywheel_schemas::mirror::TextForm as _;
use keywheel_schemas::wire::audit_record_from_json;

use super::{Api, Failure};

/// So many of the newest records are looked through at most.
const LOOKED_BACK: u16 = 20_000;
/// So many of them are read at once.
const PAGE: u16 = 1000;
/// Most starts that are told; what is older than these is not looked for.
const MAX_TOLD: usize = 10;
/// The verb of such a record.
const REFUSE: &str = "refuse";

/// The newest ones.
pub(super) async fn recent(api: &Api, secret: &str) -> Result<Vec<RefusedStartView>, Failure> {
    let size = api.journal.head().await?.audit_size;
    let mut found = Vec::new();
    for page in pages(size) {
        let mut leaves = api.journal.read_audit(page.start, PAGE.into()).await?;
        // Where records were removed, the first that is there may be of a later page.
        leaves.retain(|leaf| leaf.index < page.end);
        found.extend(told(&leaves, secret));
        if found.len() >= MAX_TOLD {
            break;
        }
        tokio::task::yield_now().await;
    }
    found.truncate(MAX_TOLD);
    Ok(found)
}

/// Where to look among so many records, the newest first.
fn pages(size: u64) -> impl Iterator<Item = Range<u64>> {
    let oldest = size.saturating_sub(LOOKED_BACK.into());
    let before = |end: u64| end.saturating_sub(PAGE.into());
    let ends = iter::successors(Some(size), move |end| Some(before(*end)));
    let ends = ends.take_while(move |end| *end > oldest);
    ends.map(move |end| before(end).max(oldest)..end)
}

fn told(leaves: &[AuditLeaf], secret: &str) -> Vec<RefusedStartView> {
    let object = format!("secret/{secret}");
    // What an older build wrote, and this one does not read, is told by `audit list`.
    let records = leaves.iter().rev();
    let records = records.filter_map(|leaf| audit_record_from_json(&leaf.bytes).ok());
    let own = records.filter(|record| record.verb == REFUSE && record.object == object);
    let views = own.filter_map(|record| {
        let container = record.container?;
        Some(RefusedStartView {
            container: container.name,
            id: container.id,
            host: container.host,
            at: record.time.text(),
            reason: record.reason,
        })
    });
    views.take(MAX_TOLD).collect()
}

#[cfg(test)]
mod tests {
    use keywheel_core::audit::{Category, ContainerRef, Outcome, Principal, Record, Role};
    use keywheel_core::id::CommandId;
    use keywheel_core::time::Timestamp;

    use keywheel_schemas::wire::audit_record_to_json;

    use super::*;

    fn leaf(index: u64, verb: &str, object: &str) -> AuditLeaf {
        let record = Record {
            time: Timestamp::from_micros(0),
            category: Category::Usage,
            principal: Principal::Service(Role::Injector),
            verb: verb.to_owned(),
            object: object.to_owned(),
            version: None,
            outcome: Outcome::Denied,
            reason: format!("no binding means it, record {index}"),
            container: Some(ContainerRef {
                id: "a".repeat(64),
                name: "web".to_owned(),
                image_digest: String::new(),
                host: "web-1".to_owned(),
            }),
            command: CommandId::from_bytes([1; 16]),
            trace: String::new(),
        };
        let bytes = audit_record_to_json(&record);
        AuditLeaf {
            index,
            bytes: bytes.into(),
        }
    }

    #[test]
    fn only_refused_starts_of_that_secret_are_told_newest_first_and_bounded() {
        let mut leaves: Vec<AuditLeaf> = (0..20)
            .map(|index| leaf(index, REFUSE, "secret/prod/db"))
            .collect();
        leaves.push(leaf(20, REFUSE, "secret/prod/db2"));
        leaves.push(leaf(21, "inject", "secret/prod/db"));
        leaves.push(AuditLeaf {
            index: 22,
            bytes: b"of another build".to_vec().into(),
        });
        let told = told(&leaves, "prod/db");
        assert_eq!(told.len(), MAX_TOLD);
        assert!(told[0].reason.ends_with("record 19"), "{told:?}");
        assert_eq!(
            (told[0].container.as_str(), told[0].host.as_str()),
            ("web", "web-1")
        );
    }

    #[test]
    fn all_records_up_to_so_many_are_looked_through_from_the_newest_on_and_none_twice() {
        let of = |size| Vec::from_iter(pages(size));
        assert!(of(0).is_empty());
        let few = of(7);
        assert_eq!((few.len(), few.first()), (1, Some(&(0..7))));
        assert_eq!(of(2500), [1500..2500, 500..1500, 0..500]);
        let many = of(1_000_123);
        let looked: u64 = many.iter().map(|page| page.end - page.start).sum();
        assert_eq!(looked, u64::from(LOOKED_BACK));
        assert_eq!(many.first(), Some(&(999_123..1_000_123)));
        assert!(many.windows(2).all(|two| two[0].start == two[1].end));
    }
}
