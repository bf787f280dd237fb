//! Who may accept an older log, what is told meanwhile, and what is counted of it.

use keywheel_core::id::PolicySetId;
use keywheel_core::policy::Policies;

use super::*;

fn door(folder: &std::path::Path, text: Option<&str>) -> Door {
    std::fs::write(folder.join("group"), "keywheel:x:990:ann,bob\n").unwrap();
    let users = "ann:x:1001:1001::/:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n";
    std::fs::write(folder.join("passwd"), users).unwrap();
    let applied = text.map(|text| Applied {
        id: PolicySetId::default(),
        version: 3,
        policies: Policies {
            text: text.to_owned(),
            groups: Vec::new(),
        },
        by: "unix:0".to_owned(),
        number: 9,
    });
    Door {
        access: Access {
            own_uid: 77,
            group_file: folder.join("group"),
            user_file: folder.join("passwd"),
        },
        in_force: Admission::new().unwrap().in_force(applied.as_ref()),
        denials: 0,
    }
}

fn user(uid: u32) -> Peer {
    Peer::User { uid, gid: uid }
}

#[test]
fn who_may_accept_an_older_log_is_said_by_the_policies_that_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = |text: Option<&str>, uid| door(folder.path(), text).refuses(&user(uid), 0);
    // Without a set whoever may come in may.
    for uid in [0, 77, 1001, 1002] {
        assert_eq!(refuses(None, uid), None, "{uid}");
    }
    assert!(refuses(None, 1003).unwrap().contains("nor in group"));
    let ann = "@id(\"ann\") permit (principal == User::\"unix:1001\", action == Action::\"grant\", resource);";
    assert_eq!(refuses(Some(ann), 1001), None);
    let why = refuses(Some(ann), 1002).unwrap();
    assert_eq!(
        why,
        "default deny: needs `grant` of the environment (policies version 3)"
    );
    // Root and the daemon's own user always, also where the set cannot be read.
    for uid in [0, 77] {
        assert_eq!(refuses(Some("this is no policy"), uid), None, "{uid}");
    }
    assert!(refuses(Some("this is no policy"), 1001).is_some());
}

#[test]
fn denials_beyond_those_with_a_record_of_their_own_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut door = door(folder.path(), None);
    for (denials, said) in [
        (0, None),
        (MAX_DENIALS, None),
        (MAX_DENIALS + 7, Some("7 more requests denied")),
    ] {
        door.denials = denials;
        assert_eq!(door.denied().as_deref(), said, "{denials}");
    }
}

#[tokio::test]
async fn what_is_asked_for_meanwhile_is_refused_and_put_on_record_but_for_health() {
    let folder = tempfile::tempdir().unwrap();
    let (asks, mut waiting) = mpsc::channel(1);
    let porch = Porch {
        asks,
        accepted: Arc::new(AtomicUsize::new(1)),
        asked: Arc::default(),
        clock: Arc::new(keywheel_testkit::fake::FakeClock::default()),
    };
    for (uid, method, path) in [
        (1001, "GET", "/v1/secrets"),
        (1001, "GET", "/v1/status"),
        (1001, "POST", "/v1/rotate"),
        (1003, "GET", "/v1/secrets/prod/db"),
    ] {
        let request = axum::http::Request::builder().method(method).uri(path);
        let request = request.body(axum::body::Body::empty()).unwrap();
        let caller = ConnectInfo(Caller(user(uid)));
        let answer = held(State(porch.clone()), caller, request).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    // An acceptance that nobody decides, since too many wait or it is stopping, is no other.
    let reason = "checked".to_owned();
    let body = || {
        Ok(Json(AcceptRequest {
            reason: reason.clone(),
        }))
    };
    let accepts = || {
        accept(
            State(porch.clone()),
            ConnectInfo(Caller(user(1002))),
            body(),
        )
    };
    let mut first = std::pin::pin!(accepts());
    let late = Duration::from_millis(1);
    assert!(tokio::time::timeout(late, first.as_mut()).await.is_err());
    assert_eq!(accepts().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    waiting.close();
    drop(waiting.recv().await);
    assert_eq!(first.await.status(), StatusCode::SERVICE_UNAVAILABLE);

    let asked = porch.asked.lock().unwrap().take();
    let said = door(folder.path(), None).rest(asked);
    let said: Vec<String> = said
        .into_iter()
        .map(|(who, verb, (outcome, words))| format!("{who:?} {verb} {outcome:?} {words}"))
        .collect();
    assert_eq!(said.len(), 3, "{said:#?}");
    for (record, parts) in said.iter().zip([
        ["ann", "request Rejected", "2 requests: list 1, rotate 1;"],
        ["bob", "request Rejected", "2 requests: accept-restore 2;"],
        ["1003", "request Denied", "1 requests: describe 1;"],
    ]) {
        for part in parts {
            assert!(record.contains(part), "{part}: {record}");
        }
    }
}

#[test]
fn whoever_asks_is_told_what_is_waited_for_and_how_far_that_is() {
    let told = held_words(1);
    for part in ["nothing is served", "`keywheel restore accept", "1 of 2"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[tokio::test]
async fn the_last_set_of_a_log_counts() {
    use keywheel_core::command::Command;
    use keywheel_core::id::CommandId;
    use keywheel_engine::command_bus::{CommandBus, Parts, Submission};
    use keywheel_testkit::fake::{FakeClock, FakeIds, MemoryJournal};
    let journal = std::sync::Arc::new(MemoryJournal::new());
    assert_eq!(policies_of(&*journal).await.unwrap().version, None);
    let parts = Parts {
        journal: journal.clone(),
        clock: std::sync::Arc::new(FakeClock::default()),
        ids: std::sync::Arc::new(FakeIds::of_source(1)),
        failpoint: |_| (),
    };
    let mut started = CommandBus::start(parts).await.unwrap();
    tokio::spawn(started.bus.run());
    tokio::spawn(async move { while started.commits.recv().await.is_some() {} });
    for (n, text) in (1..).zip(["", "@id(\"a\") permit (principal, action, resource);"]) {
        let command = Command::ApplyPolicies(policy::Request {
            id: PolicySetId::default(),
            expected: None,
            policies: Policies {
                text: text.to_owned(),
                groups: Vec::new(),
            },
            by: "unix:0".to_owned(),
        });
        let submission = Submission {
            id: CommandId::from_bytes([n; 16]),
            principal: Principal::Service(keywheel_core::audit::Role::Gateway),
            traceparent: None,
            command,
        };
        started.handle.submit(submission).await.unwrap();
    }
    let in_force = policies_of(&*journal).await.unwrap();
    assert_eq!((in_force.version, in_force.set.len()), (Some(2), 1));
}
