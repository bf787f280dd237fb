//! What a lost time took is taken again, by commands that a repeat gives the first answer to.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::approval::{Approval, Ask, End, Operation};
use keywheel_core::id::TokenId;
use keywheel_core::name::TokenName;
use keywheel_core::token::{Issue, Scope};
use keywheel_engine::command_bus::{CommandBus, Parts, Started};
use keywheel_engine::port::journal::Journal as _;
use keywheel_gateway::admission::Admission;
use keywheel_gateway::presence::Presences;
use keywheel_testkit::fake::{FakeClock, FakeIds, MemoryJournal};
use tokio_util::sync::CancellationToken;

use super::restored::Accepted;
use super::*;

struct Scene {
    journal: Arc<MemoryJournal>,
    ends: Ends,
    note: Note,
}

fn name(text: &str) -> TokenName {
    TokenName::parse(text).unwrap()
}

impl Scene {
    async fn set() -> Self {
        let journal = Arc::new(MemoryJournal::new());
        let clock = Arc::new(FakeClock::default());
        let parts = Parts {
            journal: journal.clone(),
            clock: clock.clone(),
            ids: Arc::new(FakeIds::of_source(1)),
            failpoint: |_| (),
        };
        let Started {
            bus,
            handle,
            view,
            mut commits,
        } = CommandBus::start(parts).await.unwrap();
        tokio::spawn(bus.run());
        tokio::spawn(async move { while commits.recv().await.is_some() {} });
        let by = |uid: u32| Person {
            uid,
            name: format!("person-{uid}"),
        };
        let mut note = Note::of_restore(by(0), ("a backup".to_owned(), "why"), (7, true));
        for uid in [1, 2] {
            note.accept(Accepted {
                by: by(uid),
                reason: "why".to_owned(),
                at: "2026-11-29T20:00:00Z".to_owned(),
            });
        }
        let ends = Ends {
            handle,
            view,
            presences: Presences::new(clock),
            admission: Arc::new(Admission::new().unwrap()),
            deciding: CancellationToken::new().drop_guard(),
        };
        Self {
            journal,
            ends,
            note,
        }
    }

    fn again(&self) -> Again<'_> {
        Again {
            deployment: DeploymentId::from_bytes([9; 16]),
            now: Timestamp::default(),
            note: &self.note,
            ends: &self.ends,
            by: accepted_by(&self.note),
        }
    }

    async fn issue(&self, n: u8, called: &str, owner: &str) {
        self.issue_limited(n, (called, owner), None).await;
    }

    async fn issue_limited(&self, n: u8, (called, owner): (&str, &str), limit: Option<u64>) {
        let wish = Issue {
            id: TokenId::from_bytes([n; 16]),
            name: name(called),
            hash: [n; 32],
            owner: owner.to_owned(),
            scope: Scope {
                verbs: vec!["list".to_owned()],
                resources: vec!["environment".to_owned()],
            },
            lifetime: Duration::from_secs(3600),
            limit,
            login: None,
        };
        self.does(n, Command::Token(token::Request::Issue(wish)))
            .await;
    }

    /// Asks for something that takes two.
    async fn asks(&self, n: u8, operation: Operation) -> ApprovalId {
        let id = ApprovalId::from_bytes([n; 16]);
        let wish = Ask {
            id,
            operation,
            object: "policies".to_owned(),
            digest: [n; 32],
            plan: "one line more".to_owned(),
            by: "certificate:ada".to_owned(),
            reason: "bob joined".to_owned(),
            needed: 2,
        };
        self.does(n, Command::Approval(approval::Request::Ask(wish)))
            .await;
        id
    }

    fn request(&self, id: ApprovalId) -> Approval {
        let committed = self.ends.view.read();
        committed.world.approvals.by_id(id).unwrap().clone()
    }

    async fn does(&self, n: u8, command: Command) {
        let submission = Submission {
            id: CommandId::from_bytes([n; 16]),
            principal: Principal::Service(keywheel_core::audit::Role::Gateway),
            traceparent: None,
            command,
        };
        let verdict = self.ends.handle.submit(submission).await.unwrap();
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
    }

    fn open(&self) -> Vec<String> {
        let committed = self.ends.view.read();
        let tokens = committed.world.tokens.iter();
        let mut names: Vec<String> = tokens.map(|token| token.name.to_string()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn tokens_that_were_revoked_in_the_lost_time_open_nothing_again_and_all_others_do() {
    let scene = Scene::set().await;
    scene.issue(1, "ci", "certificate:ada").await;
    scene.issue(2, "nightly", "certificate:ada").await;
    scene.issue(3, "laptop", "certificate:eve").await;
    scene.issue(4, "phone", "certificate:eve").await;
    let lost = LostTime {
        // One that was made after the backup is not known here.
        tokens: [name("ci"), name("later")].into(),
        owners: ["certificate:eve".to_owned(), "unix:9".to_owned()].into(),
        ..LostTime::default()
    };
    let mut told = Told::default();
    scene.again().tokens(&lost, &mut told).await.unwrap();
    assert_eq!(scene.open(), ["nightly"]);
    told.tokens.sort();
    assert_eq!(told.tokens, ["ci", "laptop", "phone"]);
    assert!(told.refused.is_empty(), "{:?}", told.refused);
    let words = told.words(&lost);
    assert!(
        words.contains("tokens revoked again: ci, laptop, phone"),
        "{words}"
    );
    let records = scene.journal.read_audit(0, 100).await.unwrap();
    let said: Vec<String> = records
        .iter()
        .map(|leaf| String::from_utf8_lossy(&leaf.bytes).into_owned())
        .collect();
    // Who accepted the older log last did it.
    let is_revoked =
        |record: &&String| record.contains("revoke-token") && record.contains("person-2");
    assert_eq!(said.iter().filter(is_revoked).count(), 3, "{said:?}");
}

#[tokio::test]
async fn uses_that_may_have_been_made_are_taken_out_of_a_limit_and_none_of_what_has_none() {
    let scene = Scene::set().await;
    let id = |n: u8| TokenId::from_bytes([n; 16]);
    scene
        .issue_limited(1, ("ci", "certificate:ada"), Some(100))
        .await;
    scene
        .issue_limited(2, ("few", "certificate:ada"), Some(3))
        .await;
    scene.issue(3, "free", "certificate:ada").await;
    scene
        .issue_limited(4, ("unused", "certificate:ada"), Some(9))
        .await;
    let lost = LostTime {
        taken: [(id(1), 1), (id(2), 1), (id(3), 5)].into(),
        ..LostTime::default()
    };
    let mut told = Told::default();
    scene.again().tokens(&lost, &mut told).await.unwrap();
    let left = |n: u8| {
        let committed = scene.ends.view.read();
        committed.world.tokens.by_id(id(n)).and_then(Token::left)
    };
    let all = [1, 2, 3, 4].map(left);
    assert_eq!(all, [Some(100 - MAX_TAKEN), Some(0), None, Some(9)]);
    assert!(
        told.tokens.is_empty() && told.refused.is_empty(),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_start_that_was_killed_behind_it_does_it_once() {
    let scene = Scene::set().await;
    scene.issue(1, "ci", "certificate:ada").await;
    let lost = LostTime {
        tokens: [name("ci")].into(),
        ..LostTime::default()
    };
    scene
        .again()
        .tokens(&lost, &mut Told::default())
        .await
        .unwrap();
    let before = scene.journal.head().await.unwrap().number;
    let mut told = Told::default();
    scene.again().tokens(&lost, &mut told).await.unwrap();
    assert_eq!(scene.journal.head().await.unwrap().number, before);
    assert!(told.refused.is_empty(), "{:?}", told.refused);
}

#[tokio::test]
async fn no_request_that_an_older_log_holds_open_or_approved_stays_good() {
    let scene = Scene::set().await;
    let waits = scene.asks(1, Operation::PolicyChange).await;
    let approved = scene.asks(2, Operation::HostReturn).await;
    let broken = scene.asks(3, Operation::AuditExport).await;
    let withdrawn = scene.asks(4, Operation::AuditExport).await;
    let reason = || "seen".to_owned();
    let (bob, ada) = ("certificate:bob", "certificate:ada");
    let words = [
        approval::Request::Approve {
            approval: approved,
            by: bob.to_owned(),
            reason: reason(),
        },
        approval::Request::BreakGlass {
            approval: broken,
            by: ada.to_owned(),
            reason: reason(),
        },
        approval::Request::Withdraw {
            approval: withdrawn,
            by: ada.to_owned(),
        },
    ];
    for (n, word) in (5..).zip(words) {
        scene.does(n, Command::Approval(word)).await;
    }
    let now = Timestamp::default();
    assert!(scene.request(approved).is_granted(now) && scene.request(broken).is_granted(now));
    let mut told = Told::default();
    scene.again().requests(&mut told).await.unwrap();
    for id in [waits, approved, broken] {
        let known = scene.request(id);
        assert_eq!(known.end, Some(End::Denied), "{known:?}");
        assert!(!known.is_granted(now), "{known:?}");
    }
    assert_eq!(scene.request(withdrawn).end, Some(End::Withdrawn));
    assert!(scene.request(broken).is_unreviewed(), "its review is due");
    assert_eq!(
        told.ended,
        [waits, approved, broken].map(|id| id.to_string())
    );
    assert!(told.refused.is_empty(), "{told:?}");
    // A repeat after a crash finds none.
    let before = scene.journal.head().await.unwrap().number;
    scene.again().requests(&mut Told::default()).await.unwrap();
    assert_eq!(scene.journal.head().await.unwrap().number, before);
}

#[tokio::test]
async fn nor_does_one_where_nobody_knows_whether_the_log_is_older_and_who_restored_it_is_on_record()
{
    let mut scene = Scene::set().await;
    let by = Person {
        uid: 3,
        name: "person-3".to_owned(),
    };
    scene.note = Note::of_restore(by, ("a backup".to_owned(), ""), (7, false));
    let said = scene.again().requests_alone().await.unwrap();
    assert!(said.is_none(), "there is none: {said:?}");
    let approved = scene.asks(1, Operation::HostReturn).await;
    let yes = approval::Request::Approve {
        approval: approved,
        by: "certificate:bob".to_owned(),
        reason: "seen".to_owned(),
    };
    scene.does(2, Command::Approval(yes)).await;
    assert!(scene.request(approved).is_granted(Timestamp::default()));
    let said = scene.again().requests_alone().await.unwrap().unwrap();
    assert_eq!(scene.request(approved).end, Some(End::Denied));
    assert!(said.note.contains("asked for anew: 1"), "{}", said.note);
    let records = scene.journal.read_audit(0, 100).await.unwrap();
    let last = String::from_utf8_lossy(&records.last().unwrap().bytes).into_owned();
    assert!(last.contains("person-3"), "{last}");
}

#[test]
fn the_record_has_the_names_and_the_status_their_number() {
    let told = Told {
        revoked: vec![
            "prod/db version 3".to_owned(),
            "prod/key version 1".to_owned(),
        ],
        evicted: vec!["web-1".to_owned()],
        without: vec!["prod/pin".to_owned()],
        ended: vec!["0505".to_owned()],
        ..Told::default()
    };
    let glass = "0707 policy-change policies (unix:0)".to_owned();
    let lost = LostTime {
        records: 9,
        glass: [(ApprovalId::from_bytes([7; 16]), glass)].into(),
        ..LostTime::default()
    };
    let words = told.words(&lost);
    assert!(!words.contains("not in that copy"), "{words}");
    let later = LostTime {
        missing: 700..768,
        ..lost
    };
    for said in [told.words(&later), told.numbers(&later)] {
        let part = "records 700 to 767 are not in that copy";
        assert!(said.contains(part), "{said}");
    }
    for part in [
        "9 records of the time it lost were read",
        "revoked again: prod/db version 3, prod/key version 1",
        "hosts evicted again: web-1",
        "requests denied, to be asked for anew: 0505",
        "look at what was done: 0707 policy-change policies (unix:0)",
    ] {
        assert!(words.contains(part), "{words}");
    }
    let numbers = format!("{}{}", told.numbers(&later), told.next());
    assert!(numbers.contains("revoked again: 2"), "{numbers}");
    assert!(numbers.contains("hosts evicted again: 1"), "{numbers}");
    assert!(numbers.contains("look at what was done: 1"), "{numbers}");
    for name in ["prod/", "web-1", "0505", "0707", "unix:0"] {
        assert!(!numbers.contains(name), "{numbers}");
    }
}
