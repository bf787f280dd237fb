//! `audit verify --since`: the proof alone is asked for, and a log that does not go on ends it.

use keywheel_schemas::api::{AuditConsistency, AuditExport};

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

#[tokio::test]
async fn a_server_that_is_older_than_the_question_is_verified_by_its_export() {
    let (mut log, ..) = kept();
    let older = |whole: &AuditExport| {
        let body: &'static str = Box::leak(serde_json::to_string(whole).unwrap().into_boxed_str());
        served(vec![
            ("GET /v1/audit/consistency/", 404, NOT_FOUND),
            ("GET /v1/audit/export ", 200, body),
        ])
    };
    let good = Daemon::serve("verify-older", older(&log));
    good.run(&["audit", "verify"]).await.unwrap();
    assert_eq!(good.seen.lock().unwrap().len(), 2);
    log.records[3].push(' ');
    let bad = Daemon::serve("verify-older-bad", older(&log));
    let failure = bad.run(&["audit", "verify"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unverified, "{failure}");
}

#[tokio::test]
async fn an_export_or_a_proof_replaces_no_file_and_asks_for_nothing_then() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::serve("audit-taken", &[]);
    let older = directory.path().join("older.json");
    std::fs::write(&older, "evidence").unwrap();
    let link = directory.path().join("link.json");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    for taken in [&older, &link] {
        let file = taken.to_str().unwrap();
        for words in [
            &["audit", "export", "--file", file][..],
            &["audit", "prove", "0", "--file", file],
        ] {
            let failure = daemon.run(words).await.unwrap_err();
            assert_eq!(failure.exit, Exit::CannotCreate, "{words:?}");
            assert!(failure.what.contains("is there already"), "{failure}");
        }
    }
    assert_eq!(std::fs::read(&older).unwrap(), b"evidence");
    assert!(!directory.path().join("nowhere").exists());
    assert!(daemon.seen.lock().unwrap().is_empty(), "nothing is asked");
    // A name that is free is written to.
    let (whole, ..) = kept();
    let body: &'static str = Box::leak(serde_json::to_string(&whole).unwrap().into_boxed_str());
    let good = Daemon::serve(
        "audit-free",
        served(vec![("GET /v1/audit/export ", 200, body)]),
    );
    let free = directory.path().join("free.json");
    let words = ["audit", "export", "--file", free.to_str().unwrap()];
    good.run(&words).await.unwrap();
    assert!(free.exists());
}
