//! `backup --out`: what is fetched is what was made, under a name that was free, or nothing.

use keywheel_seal::digest::Running;

use super::*;

/// An answer about a file, kept as long as the test runs.
fn answer(
    path: &std::path::Path,
    bytes: u64,
    sha256: &str,
) -> &'static [(&'static str, u16, &'static str)] {
    let body = serde_json::json!({
        "path": path.display().to_string(),
        "bytes": bytes,
        "sha256": sha256,
        "deployment": "d",
        "made_at": "2026-11-29T20:00:00Z",
        "head": 7,
        "records": 9,
        "checkpoint": "c",
    });
    let body: &'static str = Box::leak(body.to_string().into_boxed_str());
    Box::leak(Box::new([("POST /v1/backup", 200, body)]))
}

fn digest(bytes: &[u8]) -> String {
    let mut running = Running::default();
    running.add(bytes);
    running.hex()
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_is_fetched_whole_and_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(data_dir.path().join("backup")).unwrap();
    let made = data_dir.path().join("backup/sealed");
    std::fs::write(&made, "sealed").unwrap();
    let daemon = Daemon::serve("backup", answer(&made, 6, &digest(b"sealed")));
    let out = folder.path().join("out").display().to_string();
    daemon.run(&["backup", "--out", &out]).await.unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), b"sealed");
    assert_eq!(names(folder.path()), ["out"], "nothing beside it");
    assert!(!made.exists(), "it is fetched");
    std::fs::write(&made, "sealed").unwrap();
    let taken = daemon.run(&["backup", "--out", &out]).await.unwrap_err();
    assert_eq!(taken.exit, Exit::CannotCreate, "{taken}");
    assert_eq!(
        daemon.bodies("POST").len(),
        1,
        "none is made for a name that is taken"
    );
}

#[tokio::test]
async fn a_server_has_nothing_removed_that_is_no_backup_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("sealed");
    std::fs::write(&other, "mine").unwrap();
    let daemon = Daemon::serve("backup-theirs", answer(&other, 4, &digest(b"mine")));
    let out = folder.path().join("out").display().to_string();
    daemon.run(&["backup", "--out", &out]).await.unwrap();
    assert_eq!(std::fs::read(&other).unwrap(), b"mine");
}

#[tokio::test]
async fn what_is_not_what_was_made_or_cannot_be_read_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    std::fs::write(&made, "sealed").unwrap();
    let out = folder.path().join("out").display().to_string();
    for (bytes, sha256) in [(6, digest(b"Sealed")), (7, digest(b"sealed"))] {
        let daemon = Daemon::serve("backup-other", answer(&made, bytes, &sha256));
        let other = daemon.run(&["backup", "--out", &out]).await.unwrap_err();
        assert_eq!(other.exit, Exit::Unverified, "{other}");
        assert_eq!(names(folder.path()), ["made"]);
    }
    let nowhere = folder.path().join("nowhere");
    let daemon = Daemon::serve("backup-away", answer(&nowhere, 6, &digest(b"sealed")));
    let away = daemon.run(&["backup", "--out", &out]).await.unwrap_err();
    assert_eq!(away.exit, Exit::Denied, "{away}");
    assert_eq!(names(folder.path()), ["made"]);
}

#[tokio::test]
async fn where_nothing_waits_an_acceptance_is_told_so_and_no_path_of_the_api() {
    const PATH: &str = "POST /v1/restore/accept";
    const NONE: &str = r#"{"type":"x","title":"t","status":404,"detail":"no such resource: POST /v1/restore/accept","code":"not_found"}"#;
    const OTHER: &str = r#"{"type":"x","title":"t","status":409,"detail":"`ann` accepted it already","code":"conflict"}"#;
    let words = ["restore", "accept", "--reason", "why"];
    let none = Daemon::serve("accept-none", &[(PATH, 404, NONE)]);
    let failure = none.run(&words).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound);
    assert!(
        failure.what.starts_with("nothing waits to be accepted"),
        "{failure}"
    );
    let next = failure.next.unwrap_or_default();
    assert!(next.contains("keywheel status"), "{next}");
    let other = Daemon::serve("accept-other", &[(PATH, 409, OTHER)]);
    let failure = other.run(&words).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Conflict);
    assert!(failure.what.contains("ann"), "{failure}");
}
