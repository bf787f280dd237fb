//! Starts that were refused for want of a secret: the audit alone has them, since no assignment came of them.

use keywheel_engine::port::journal::AuditLeaf;
use keywheel_schemas::api::RefusedStartView;
use keywheel_schemas::mirror::TextForm as _;
use keywheel_schemas::wire::audit_record_from_json;

use super::{Api, Failure};

/// So many of the newest records are looked through.
const LOOKED_BACK: u16 = 1000;
/// Most starts that are told.
const MAX_TOLD: usize = 10;
/// The verb of such a record.
const REFUSE: &str = "refuse";

/// The newest ones.
pub(super) async fn recent(api: &Api, secret: &str) -> Result<Vec<RefusedStartView>, Failure> {
    let size = api.journal.head().await?.audit_size;
    let from = size.saturating_sub(LOOKED_BACK.into());
    let leaves = api.journal.read_audit(from, LOOKED_BACK.into()).await?;
    Ok(told(&leaves, secret))
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
}
