//! Permits for the bus: noted for hosts that joined, and refused with their eviction.

use super::*;
use crate::host::{MAX_PERMITS, PermitRequest, refused_keys};
use crate::id::JoinTokenId;
use crate::name::BusKey;
use crate::testing::{NOW, TOKEN, evict, issue, joining, later};
use crate::time::Timestamp;

const LIFE: u64 = 3600;

fn key(n: usize) -> BusKey {
    let letter = |digit: usize| char::from(b'A' + u8::try_from(digit).unwrap());
    let text = format!("U{}{}{}", "A".repeat(53), letter(n / 16), letter(n % 16));
    BusKey::parse(&text).unwrap()
}

fn wish(n: usize, expires_at: Timestamp) -> Command {
    Command::NotePermit(PermitRequest {
        host: HOST,
        key: key(n),
        expires_at,
    })
}

fn noted(n: usize) -> crate::event::Event {
    of_host(Event::PermitIssued {
        key: key(n),
        issued_at: NOW,
        expires_at: later(LIFE),
    })
}

fn joined() -> Given {
    let given = Given::nothing().by_token().and(issue(TOKEN));
    given.and(Command::JoinHost(joining()))
}

#[test]
fn a_permit_is_noted_and_its_key_is_refused_once_the_host_is_evicted() {
    let given = joined().when(wish(1, later(LIFE))).then([noted(1)]);
    assert_eq!(refused_keys(given.world()), []);
    let plan = plan_host(given.world(), HOST).unwrap().generation;
    let given = given.and(wish(2, later(LIFE)));
    assert_eq!(plan_host(given.world(), HOST).unwrap().generation, plan);
    let given = given.and(evict(HOST));
    let refused: Vec<BusKey> = refused_keys(given.world())
        .into_iter()
        .map(|refused| refused.key)
        .collect();
    assert_eq!(refused, [key(1), key(2)]);
    let evicted = Rejection::Evicted {
        host: HOST,
        name: host_name(),
    };
    given.when(wish(3, later(LIFE))).then_rejected(evicted);
}

#[test]
fn only_a_host_that_joined_gets_a_permit() {
    let unknown = Rejection::NotEnrolled(HOST);
    let nobody = Given::nothing().by_token();
    nobody.when(wish(1, later(LIFE))).then_rejected(unknown);
    let own = Given::nothing().and(enrol(HOST));
    let not_joined = Rejection::NotJoined(host_name());
    own.when(wish(1, later(LIFE))).then_rejected(not_joined);
}

#[test]
fn permits_are_bounded_and_forgotten_when_they_end() {
    let mut given = joined();
    for n in 0..MAX_PERMITS {
        given = given.and(wish(n, later(LIFE)));
    }
    let given = given
        .when(wish(MAX_PERMITS, later(LIFE)))
        .then_refused(Rejection::TooManyPermits(host_name()), []);
    let given = given.at(later(LIFE)).and(wish(1, later(2 * LIFE)));
    let known = given.world().live_host(HOST).unwrap();
    assert_eq!(known.permits.len(), 1);
}

#[test]
fn no_host_gets_a_permit_for_another_one_s_key_so_its_eviction_takes_the_bus_from_itself_alone() {
    let other = HostId::from_bytes([0x5a; 16]);
    let name = HostName::parse("web-9").unwrap();
    let mut token = issue(JoinTokenId::from_bytes([0x5b; 16]));
    let mut asking = joining();
    if let Command::IssueJoinToken(wish) = &mut token {
        (wish.host, wish.name) = (other, name.clone());
    }
    (asking.host, asking.name) = (other, name.clone());
    asking.token = JoinTokenId::from_bytes([0x5b; 16]);
    (asking.signing_key, asking.sealing_key) = ([0x5c; 32], [0x5d; 32]);
    let of_other = |n| {
        Command::NotePermit(PermitRequest {
            host: other,
            key: key(n),
            expires_at: later(LIFE),
        })
    };
    let given = joined().and(token).and(Command::JoinHost(asking));
    let given = given.and(wish(1, later(LIFE)));
    let refused = Rejection::PermitOfAnother(name);
    let given = given.when(of_other(1)).then_refused(refused, []);
    let given = given.and(of_other(2)).and(evict(other));
    let keys: Vec<BusKey> = refused_keys(given.world())
        .into_iter()
        .map(|refused| refused.key)
        .collect();
    assert_eq!(keys, [key(2)]);
    // What has ended is nobody's.
    let given = given.at(later(LIFE)).and(wish(2, later(2 * LIFE)));
    let known = given.world().live_host(HOST).unwrap();
    assert!(known.permits.contains_key(&key(2)));
}
