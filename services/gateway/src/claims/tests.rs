//! A bus server that is told, that is away, and that forgets.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use keywheel_testkit::fake::FakeClock;

use super::*;
use crate::door::Spans;
use crate::testing::members::Members;

const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(10);

/// A bus server's resolver.
#[derive(Default)]
struct Server {
    /// Goes on whenever a claim is taken: one of another second is another claim.
    clock: Option<Arc<FakeClock>>,
    claim: Mutex<String>,
    is_away: AtomicBool,
    taken: AtomicUsize,
}

#[async_trait]
impl Desk for Server {
    async fn ask(&self, subject: String, content: String) -> Result<Vec<u8>, ClaimsError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(ConnectError::NoServer.into());
        }
        let mut claim = self.claim.lock().unwrap();
        if subject != CLAIMS_SUBJECT {
            return Ok(claim.clone().into_bytes());
        }
        // A server passes over what it has.
        if *claim != content {
            self.taken.fetch_add(1, Ordering::SeqCst);
            if let Some(clock) = &self.clock {
                clock.advance(SETTLE);
            }
        }
        *claim = content;
        Ok(br#"{"server":{},"data":{"account":"A","code":200}}"#.to_vec())
    }
}

async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let waiting = async {
        while !is_true() {
            tokio::time::sleep(LOOK).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, waiting).await.is_ok(),
        "{what}"
    );
}

#[tokio::test]
async fn what_was_taken_is_told_once_more_and_then_no_more() {
    let members = Members::start(Spans::default()).await;
    let identity = members.join("web-2").await.identity.unwrap();
    let server = Arc::new(Server {
        clock: Some(members.bench.clock.clone()),
        ..Server::default()
    });
    *server.claim.lock().unwrap() = members.registry.claim(None, members.now()).unwrap();
    let (_connected, connects) = watch::channel(0);
    let claims = Claims {
        registry: members.registry.clone(),
        desk: server.clone(),
        clock: members.bench.clock.clone(),
        connects,
        told: Told::default(),
    };
    members.evict(identity.host().unwrap()).await;
    assert_eq!(members.refuse(), 1);
    let stop = CancellationToken::new();
    let running = tokio::spawn(claims.run(stop.clone()));
    let taken = || server.taken.load(Ordering::SeqCst);
    until("the second telling", || taken() == 2).await;
    tokio::time::sleep(SETTLE + SETTLE / 2).await;
    assert_eq!(taken(), 2, "it goes on telling");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn who_is_evicted_is_told_until_a_server_has_it_and_again_when_it_forgot() {
    let members = Members::start(Spans::default()).await;
    let identity = members.join("web-2").await.identity.unwrap();
    let first = members.registry.claim(None, members.now()).unwrap();
    let server = Arc::new(Server::default());
    *server.claim.lock().unwrap() = first.clone();
    let (connected, connects) = watch::channel(0);
    let told = Told::default();
    let claims = Claims {
        registry: members.registry.clone(),
        desk: server.clone(),
        clock: members.bench.clock.clone(),
        connects,
        told: told.clone(),
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(claims.run(stop.clone()));

    server.is_away.store(true, Ordering::SeqCst);
    members.evict(identity.host().unwrap()).await;
    assert_eq!(members.refuse(), 1);
    until("people to see it", || told.open().is_some()).await;
    server.is_away.store(false, Ordering::SeqCst);
    let knows = |server: &Server| {
        let claim = server.claim.lock().unwrap().clone();
        members
            .registry
            .claim_after(&claim, members.now())
            .unwrap()
            .is_none()
    };
    until("the server to know", || knows(&server)).await;
    until("nothing to be open", || told.open().is_none()).await;

    *server.claim.lock().unwrap() = first;
    assert!(!knows(&server));
    connected.send_modify(|count| *count += 1);
    until("the server to know again", || knows(&server)).await;

    stop.cancel();
    running.await.unwrap();
}

#[test]
fn answers_are_read_and_anything_but_a_yes_is_a_no() {
    assert!(check(br#"{"data":{"code":200,"message":"jwt updated"}}"#).is_ok());
    for (no, says) in [
        (&br#"{"data":{"code":500}}"#[..], "500"),
        (
            br#"{"error":{"description":"jwt update resulted in error"}}"#,
            "resulted",
        ),
        (b"{}", "nothing"),
        (b"oh", "none"),
    ] {
        let error = check(no).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
