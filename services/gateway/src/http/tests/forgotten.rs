//! A revocation whose store never confirms is forgotten by two principals, and by no fewer.

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::RevocationId;
use keywheel_identity::name::OperatorName;

use super::*;

const WHY: &str = "the server was switched off";

impl Bench {
    /// A revocation that waits for its store.
    async fn revoking(&self) -> String {
        self.apply(MANIFEST).await;
        self.work().await;
        let wish = json!({ "secret": "prod/db", "reason": "leaked" });
        let (status, begun) = self.post("revoke", wish).await;
        assert_eq!(status, 200, "{begun}");
        begun["revocation_id"].as_str().unwrap().to_owned()
    }

    async fn forget_as(&self, peer: Peer, id: &str) -> (u16, Value) {
        let path = format!("/v1/revocations/{id}/forget");
        let body = Body::from(json!({ "reason": WHY }).to_string());
        let (status, text) = self.ask_as(peer, "POST", &path, body).await;
        (status.as_u16(), serde_json::from_str(&text).unwrap())
    }
}

#[tokio::test]
async fn it_takes_two_principals_and_each_word_is_on_record() {
    let bench = Bench::start().await;
    let id = bench.revoking().await;
    let before = bench.audit().await.len();
    let (status, first) = bench.forget_as(OPERATOR, &id).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!(first["states"]["forget"].as_array().unwrap().len(), 1);
    assert_eq!(first["backend"], "asked", "one alone changes nothing");
    let again = bench.forget_as(OPERATOR, &id).await;
    assert_problem(&again, 409, "conflict", "second principal");
    let other = Peer::Operator(OperatorName::parse("ann").unwrap());
    let (status, second) = bench.forget_as(other, &id).await;
    assert_eq!(status, 200, "{second}");
    assert_eq!(second["backend"], "forgotten");
    assert_eq!(second["states"]["dead_at_backend"], false);
    assert_eq!(second["states"]["forget"][1]["by"], "certificate ann");
    let done = Command::RevokeOutcome {
        revocation: RevocationId::parse(&id).unwrap(),
        attempt: 2,
        failure: None,
    };
    bench.submit(Role::StoreSync, done).await;
    let (_, ended) = bench.see(&format!("revocations/{id}")).await;
    assert_eq!(ended["state"], "closed");
    assert_eq!(ended["states"]["destroyed"], true);
    let left = bench.audit().await.split_off(before);
    let words = left
        .iter()
        .filter(|record| record.contains("forget-revocation"));
    assert_eq!(
        words.filter(|record| record.contains(WHY)).count(),
        3,
        "{left:#?}"
    );
}

#[tokio::test]
async fn a_revocation_says_each_half_by_itself() {
    let bench = Bench::start().await;
    let id = bench.revoking().await;
    let (_, view) = bench.see(&format!("revocations/{id}")).await;
    let states = &view["states"];
    assert_eq!(states["withdrawn_everywhere"], true, "no host ever had it");
    assert_eq!(
        (&states["dead_at_backend"], &states["destroyed"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(states["proof"], "not_probed");
    let why = states["not_probed_because"].as_str().unwrap();
    assert!(why.contains("opens no account"), "{why}");
    let failed = Command::RevokeOutcome {
        revocation: RevocationId::parse(&id).unwrap(),
        attempt: 1,
        failure: Some("the store is sealed".to_owned()),
    };
    bench.submit(Role::StoreSync, failed).await;
    let (_, view) = bench.see(&format!("revocations/{id}")).await;
    assert_eq!(
        (&view["backend"], &view["states"]["failure"]),
        (&json!("failed"), &json!("the store is sealed"))
    );
}
