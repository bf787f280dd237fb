//! `audit verify --since`: the proof alone is asked for, and a log that does not go on ends it.

use keywheel_schemas::api::AuditConsistency;

use super::*;
use crate::verbs::audit::since::tests::{answer, kept};

fn leaked(answer: &AuditConsistency) -> &'static str {
    let body = serde_json::to_string(answer).unwrap();
    Box::leak(body.into_boxed_str())
}

fn served(
    rows: Vec<(&'static str, u16, &'static str)>,
) -> &'static [(&'static str, u16, &'static str)] {
    Box::leak(rows.into_boxed_slice())
}

#[tokio::test]
async fn a_log_is_held_against_a_kept_checkpoint_without_its_records() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("checkpoint");
    let (now, key, note) = kept();
    std::fs::write(&file, note).unwrap();
    let words = ["audit", "verify", "--since", file.to_str().unwrap()];
    let of_five = "GET /v1/audit/consistency/5 ";
    let good = served(vec![(of_five, 200, leaked(&answer(&now, &key, 5)))]);
    let good = Daemon::serve("since-good", good);
    good.run(&words).await.unwrap();
    assert_eq!(good.seen.lock().unwrap().len(), 1, "and nothing else");
    // Put back to before the checkpoint: the server has no proof, and what it signs now says why.
    let mut cut = now.clone();
    cut.records.truncate(3);
    let of_now = "GET /v1/audit/consistency/0 ";
    let cut = served(vec![
        (of_five, 404, NOT_FOUND),
        (of_now, 200, leaked(&answer(&cut, &key, 0))),
    ]);
    let failure = Daemon::serve("since-cut", cut).run(&words).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.exit, Exit::Unverified);
    assert!(failure.what.contains("cut or put back"), "{failure}");
    // Written anew behind it.
    let mut anew = now;
    anew.records[1].push(' ');
    let anew = served(vec![(of_five, 200, leaked(&answer(&anew, &key, 5)))]);
    let failure = Daemon::serve("since-anew", anew).run(&words).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.exit, Exit::Unverified);
    assert!(failure.what.contains("written anew"), "{failure}");
    // A server that does not know the question shows nothing either way.
    let older = served(vec![("GET /v1/audit/", 404, NOT_FOUND)]);
    let failure = Daemon::serve("since-older", older).run(&words).await;
    assert_eq!(failure.unwrap_err().exit, Exit::NotFound);
}
