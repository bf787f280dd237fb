//! What takes several people: how the words about it end.

use super::*;

/// A request about the sinks of the audit, in one state.
fn sinks(state: &str, missing: u64) -> &'static str {
    let request = serde_json::json!({
        "approval_id": "a1", "operation": "sink-change", "object": "audit/sinks", "plan": "siem",
        "digest": "00", "by": "certificate:ada", "reason": "the new SIEM", "state": state,
        "needed": 2, "missing": missing, "approved_by": ["certificate:ada"],
        "asked_at": "2026-01-04T02:00:00Z", "expires_at": "2026-01-05T02:00:00Z",
    });
    request.to_string().leak()
}

#[tokio::test]
async fn sinks_that_wait_for_others_are_not_confirmed() {
    let confirm = ["approval", "confirm-sinks", "--reason", "the new SIEM"];
    let asked = vec![("POST /v1/audit/confirm-sinks ", 200, sinks("waiting", 1))];
    let daemon = Daemon::serve("sinks-wait", asked.leak());
    let failure = daemon.run(&confirm).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Waiting);
    assert!(failure.what.contains("waits for 1 more"), "{failure}");
    let done = vec![("POST /v1/audit/confirm-sinks ", 200, sinks("used", 0))];
    let daemon = Daemon::serve("sinks-done", done.leak());
    assert_eq!(daemon.run(&confirm).await, Ok(()));
}
