//! A host that is refused its plan asks later and later, and is back with the first plan.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use keywheel_engine::port::bus::{Bus, Requests, Subscription, Topic};
use keywheel_seal::OsEntropy;
use keywheel_testkit::fake::{FakeClock, FakeContainerHost, FakeIds};

use super::*;
use crate::HostSettings;
use crate::metrics;

/// A gateway that counts what it is asked.
#[derive(Default)]
struct Gateway {
    asked: AtomicUsize,
    /// Why it gives no plan.
    refuses: Mutex<Option<ErrorKind>>,
    /// Whether it has one, and cannot send it.
    is_too_large: AtomicBool,
}

impl Gateway {
    fn refuse(&self, kind: Option<ErrorKind>) {
        *self.refuses.lock().unwrap() = kind;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn unused() -> PortError {
    PortError::new(ErrorKind::Unavailable, "not played here")
}

#[async_trait]
impl Bus for Gateway {
    async fn publish(
        &self,
        _: Topic,
        _: [u8; 16],
        _: Option<String>,
        _: Body,
    ) -> Result<(), PortError> {
        Ok(())
    }
    async fn subscribe(&self, _: Topic, _: &str) -> Result<Box<dyn Subscription>, PortError> {
        Err(unused())
    }
    async fn request(
        &self,
        _: Address,
        _: Option<String>,
        body: Body,
        _: Duration,
    ) -> Result<Body, PortError> {
        let Body::ReadPlan { host } = body else {
            return Err(unused());
        };
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(match *self.refuses.lock().unwrap() {
            None => Body::Plan(plan(host, 1)),
            Some(kind) => Body::Failed {
                kind,
                text: match self.is_too_large.load(Ordering::Relaxed) {
                    true => format!("{UNSENT}: the message has too many bytes"),
                    false => "the host was evicted".to_owned(),
                },
            },
        })
    }
    fn refuse_stale(&self, _: Source) {}
    async fn serve(&self, _: Address) -> Result<Box<dyn Requests>, PortError> {
        Err(unused())
    }
}

fn plan(host: keywheel_core::id::HostId, generation: u64) -> HostPlan {
    HostPlan {
        host,
        host_name: keywheel_core::name::HostName::parse("web-1").unwrap(),
        generation,
        bindings: Vec::new(),
        leaves: Vec::new(),
        staged: Vec::new(),
        orders: Vec::new(),
    }
}

/// A host that was enrolled, at this gateway.
fn host_of(gateway: &Arc<Gateway>) -> (Arc<FakeClock>, Shared) {
    let clock = Arc::new(FakeClock::default());
    let settings: HostSettings = metrics::tests::shared(&clock).options.clone();
    let bus: Arc<dyn Bus> = gateway.clone();
    let shared = Shared::new(
        settings,
        bus,
        Arc::new(FakeContainerHost::default()),
        clock.clone(),
        Arc::new(FakeIds::of_source(1)),
        Arc::new(OsEntropy),
        None,
    );
    shared.contact.enrolled();
    (clock, shared)
}

#[test]
fn each_refusal_doubles_the_wait_up_to_the_longest_and_a_part_is_left_to_chance() {
    let shortest = |longest: Duration| longest - longest / BARRED_SPREAD;
    let mut longest = BARRED_FIRST;
    for before in [0, 1, 2, 3, 4, 5, 31, 32, u32::MAX] {
        assert_eq!(barred_for(before, 0), longest, "{before}");
        for draw in [1, 128, u8::MAX] {
            let wait = barred_for(before, draw);
            assert!(
                wait < longest && wait > shortest(longest),
                "{before}: {wait:?}"
            );
        }
        longest = (longest * 2).min(BARRED_MOST);
    }
    assert_eq!(longest, BARRED_MOST);
}

#[tokio::test]
async fn a_host_that_is_refused_its_plan_asks_once_a_wait_and_not_each_second() {
    let gateway: Arc<Gateway> = Arc::default();
    let (clock, shared) = host_of(&gateway);
    gateway.refuse(Some(ErrorKind::Denied));
    let hour = 3600;
    for _ in 0..hour {
        for tried in [shared.reach().await, shared.come_back().await] {
            let refused = tried.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Denied);
            assert_eq!(refused.text, "the host was evicted");
        }
        assert!(shared.is_barred());
        clock.advance(Duration::from_secs(1));
    }
    // At 0 s, and after 30, 60, 120, 240, 480 and then 600 s each, or up to a quarter sooner.
    let asked = gateway.asked();
    assert!((8..=15).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_host_that_gets_a_plan_again_is_back_at_once() {
    let gateway: Arc<Gateway> = Arc::default();
    let (clock, shared) = host_of(&gateway);
    for is_told in [true, false] {
        gateway.refuse(Some(ErrorKind::Denied));
        assert!(shared.reach().await.is_err());
        assert!(shared.is_barred());
        gateway.refuse(None);
        match is_told {
            // By its topic.
            true => {
                let told = plan(shared.options.host, 1);
                assert!(shared.receive_plan(told, Source::Answer(Address::Gateway)));
            }
            // Or when it asks next.
            false => clock.advance(BARRED_FIRST),
        }
        assert!(!shared.is_barred());
        shared.reach().await.unwrap();
        // The waits begin anew.
        gateway.refuse(Some(ErrorKind::Denied));
        assert!(shared.reach().await.is_err());
        clock.advance(BARRED_FIRST);
        assert!(!shared.is_barred());
        gateway.refuse(None);
        shared.reach().await.unwrap();
    }
}

#[tokio::test]
async fn a_gateway_that_is_away_or_does_not_know_the_host_yet_is_asked_again_at_once() {
    let gateway: Arc<Gateway> = Arc::default();
    let (_clock, shared) = host_of(&gateway);
    for kind in [ErrorKind::Unavailable, ErrorKind::NotFound] {
        gateway.refuse(Some(kind));
        let before = gateway.asked();
        for _ in 0..3 {
            assert_eq!(shared.reach().await.unwrap_err().kind, kind);
        }
        assert!(!shared.is_barred());
        assert_eq!(gateway.asked(), before + 3);
    }
}

#[tokio::test]
async fn a_host_whose_plan_is_too_large_to_be_sent_is_not_refused() {
    let gateway: Arc<Gateway> = Arc::default();
    let (_clock, shared) = host_of(&gateway);
    shared.reach().await.unwrap();
    gateway.is_too_large.store(true, Ordering::Relaxed);
    gateway.refuse(Some(ErrorKind::Denied));
    let before = gateway.asked();
    for _ in 0..2 {
        assert_eq!(shared.reach().await.unwrap_err().kind, ErrorKind::Denied);
        assert!(!shared.is_barred());
        // It reports and fetches as before.
        shared.come_back().await.unwrap();
    }
    assert_eq!(gateway.asked(), before + 2);
}
