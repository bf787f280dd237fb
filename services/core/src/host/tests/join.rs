//! Join tokens, joining with one, and the keys of a host that joined.

use super::*;
use crate::host::{JOIN_TOKEN_LIFETIME, JoinRequest, KeyRequest, MAX_OPEN_JOIN_TOKENS};
use crate::id::{HostId, JoinTokenId};
use crate::testing::{NOW, TOKEN, TOKEN_HASH, evict, issue, joining, later, other_host_name};

const SECOND_TOKEN: JoinTokenId = JoinTokenId::from_bytes([0x72; 16]);

fn issued(token: JoinTokenId) -> crate::event::Event {
    of_host(Event::JoinTokenIssued {
        name: host_name(),
        token,
        secret_hash: TOKEN_HASH,
        expires_at: NOW.plus(JOIN_TOKEN_LIFETIME),
    })
}

fn spent(token: JoinTokenId) -> crate::event::Event {
    of_host(Event::JoinTokenSpent { token })
}

fn joined() -> crate::event::Event {
    of_host(Event::Enrolled {
        name: host_name(),
        sealing_key: [0x52; 32],
        signing_key: Some([0x51; 32]),
    })
}

fn invited() -> Given {
    Given::nothing().by_token().and(issue(TOKEN))
}

fn join(change: impl FnOnce(&mut JoinRequest)) -> Command {
    let mut request = joining();
    change(&mut request);
    Command::JoinHost(request)
}

fn next_keys(generation: u64) -> Command {
    Command::RotateHostKey(KeyRequest {
        host: HOST,
        signing_key: [0x61; 32],
        sealing_key: [0x62; 32],
        generation,
    })
}

#[test]
fn a_token_lets_one_machine_join_under_its_name() {
    let given = Given::nothing().by_token();
    let given = given.when(issue(TOKEN)).then([issued(TOKEN)]);
    assert!(given.world().hosts.is_empty(), "a token is no host");
    let given = given.when(join(|_| {})).then([spent(TOKEN), joined()]);
    assert!(given.world().join_tokens.is_empty());
    let host = given.world().host_named(&host_name()).unwrap();
    assert_eq!((host.id, host.key_generation), (HOST, 1));
}

#[test]
fn whoever_joins_is_granted_what_bindings_give_the_name() {
    let bound = apply_binding(on_host(host_name()), file(), Reload::None);
    let given = Given::first_version().and(bound).by_token();
    let delivered = secret::Event::Delivered {
        host: HOST,
        version: 1,
        delivery: drawn(1000),
    };
    let after = given.and(issue(TOKEN)).when(join(|_| {}));
    after.then([spent(TOKEN), joined(), of_secret(delivered)]);
}

#[test]
fn a_token_is_spent_by_whoever_comes_with_it_before_it_is_checked() {
    let forged = Rejection::TokenForged(host_name());
    let given = invited()
        .when(join(|request| request.secret_hash = [0; 32]))
        .then_refused(forged, [spent(TOKEN)]);
    given
        .when(join(|_| {}))
        .then_rejected(Rejection::TokenUnknown);
}

#[test]
fn a_token_opens_nothing_from_its_last_instant_on() {
    let lifetime = JOIN_TOKEN_LIFETIME.as_secs();
    let given = invited().at(later(lifetime - 1));
    given.when(join(|_| {})).then([spent(TOKEN), joined()]);
    let expired = Rejection::TokenExpired(host_name());
    let given = invited().at(later(lifetime));
    given
        .when(join(|_| {}))
        .then_refused(expired, [spent(TOKEN)]);
}

#[test]
fn a_token_that_was_over_stays_so_when_a_clock_is_put_back() {
    let lifetime = JOIN_TOKEN_LIFETIME.as_secs();
    let given = invited().logged_at(later(lifetime - 1)).at(later(1));
    given.when(join(|_| {})).then([spent(TOKEN), joined()]);
    let expired = Rejection::TokenExpired(host_name());
    let given = invited().logged_at(later(lifetime)).at(later(1));
    given
        .when(join(|_| {}))
        .then_refused(expired, [spent(TOKEN)]);
    // One that is issued afterwards counts by the clock as it is.
    let given = invited().logged_at(later(lifetime)).at(later(1));
    let given = given.and(issue(SECOND_TOKEN));
    assert_eq!(
        given.world().join_tokens.len(),
        1,
        "what was over made room"
    );
    given
        .when(join(|request| request.token = SECOND_TOKEN))
        .then([spent(SECOND_TOKEN), joined()]);
}

#[test]
fn a_token_is_for_one_name_and_one_host() {
    let of_another = |asked| Rejection::TokenOfAnother {
        bound: host_name(),
        asked,
    };
    invited()
        .when(join(|request| request.name = other_host_name()))
        .then_refused(of_another(other_host_name()), [spent(TOKEN)]);
    invited()
        .when(join(|request| request.host = OTHER_HOST))
        .then_refused(of_another(host_name()), [spent(TOKEN)]);
}

#[test]
fn a_token_nobody_issued_or_that_was_used_is_unknown() {
    let unknown = Rejection::TokenUnknown;
    let given = Given::nothing().by_token();
    given.when(join(|_| {})).then_rejected(unknown.clone());
    let given = invited().and(join(|_| {}));
    given.when(join(|_| {})).then_rejected(unknown);
}

#[test]
fn a_token_lives_no_longer_than_the_constant_says() {
    assert_eq!(JOIN_TOKEN_LIFETIME.as_secs(), 600);
    let Command::IssueJoinToken(mut wish) = issue(TOKEN) else {
        panic!("not a token")
    };
    wish.expires_at = later(100_000);
    let given = Given::nothing().when(Command::IssueJoinToken(wish));
    given.then([issued(TOKEN)]);
}

#[test]
fn open_tokens_are_bounded_and_expired_ones_make_room() {
    let token = |n: usize| {
        let mut id = [0x80; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        JoinTokenId::from_bytes(id)
    };
    let full =
        (0..MAX_OPEN_JOIN_TOKENS).fold(Given::nothing(), |given, n| given.and(issue(token(n))));
    full.clone()
        .when(issue(TOKEN))
        .then_rejected(Rejection::TooManyTokens);
    let later = full.at(later(JOIN_TOKEN_LIFETIME.as_secs()));
    let given = later.and(issue(TOKEN));
    let open: Vec<_> = given.world().join_tokens.keys().collect();
    assert_eq!(open, [&TOKEN]);
}

#[test]
fn tokens_of_one_name_are_for_one_host_whatever_ids_were_drawn() {
    let Command::IssueJoinToken(mut wish) = issue(SECOND_TOKEN) else {
        panic!("not a token")
    };
    wish.host = OTHER_HOST;
    let second = Command::IssueJoinToken(wish);
    let given = invited().when(second.clone()).then([issued(SECOND_TOKEN)]);
    assert_eq!(given.world().join_tokens[&SECOND_TOKEN].host, HOST);
    let joined = invited().and(join(|_| {}));
    joined.when(second).then([issued(SECOND_TOKEN)]);
}

#[test]
fn an_id_or_a_token_that_was_given_out_is_not_given_out_again() {
    let for_other_name = |token| {
        let Command::IssueJoinToken(mut wish) = issue(token) else {
            panic!("not a token")
        };
        wish.name = other_host_name();
        Command::IssueJoinToken(wish)
    };
    let taken = Rejection::IdTaken(HOST);
    let promised = invited().when(for_other_name(SECOND_TOKEN));
    promised.then_rejected(taken.clone());
    let joined = invited().and(join(|_| {}));
    joined
        .clone()
        .when(for_other_name(SECOND_TOKEN))
        .then_rejected(taken.clone());
    let evicted = joined.and(evict(HOST));
    evicted
        .when(issue(SECOND_TOKEN))
        .then_rejected(taken.clone());
    invited().when(issue(TOKEN)).then_rejected(taken);
}

#[test]
fn a_name_that_was_taken_meanwhile_is_not_joined_but_the_token_is_spent() {
    let given = Given::nothing().and(issue(TOKEN));
    let given = given.and(Command::EnrolHost {
        host: OTHER_HOST,
        name: host_name(),
        sealing_key: [1; 32],
    });
    let taken = Rejection::NameTaken(host_name());
    given.when(join(|_| {})).then_refused(taken, [spent(TOKEN)]);
}

#[test]
fn a_machine_that_joins_again_has_new_keys_and_the_same_id() {
    let again = join(|request| {
        request.token = SECOND_TOKEN;
        request.signing_key = [0x55; 32];
    });
    let given = invited().and(join(|_| {})).and(issue(SECOND_TOKEN));
    let replaced = of_host(Event::KeyReplaced {
        sealing_key: [0x52; 32],
        signing_key: Some([0x55; 32]),
        generation: 2,
    });
    given.when(again).then([spent(SECOND_TOKEN), replaced]);
}

#[test]
fn a_joined_host_s_keys_follow_one_another() {
    let given = invited().and(join(|_| {}));
    let replaced = of_host(Event::KeyReplaced {
        sealing_key: [0x62; 32],
        signing_key: Some([0x61; 32]),
        generation: 2,
    });
    let given = given.when(next_keys(2)).then([replaced]);
    let given = given.when(next_keys(2)).then_nothing();
    for asked in [1, 4] {
        let out_of_turn = Rejection::KeysOutOfTurn {
            name: host_name(),
            asked,
            known: 2,
        };
        let given = given.clone();
        given.when(next_keys(asked)).then_rejected(out_of_turn);
    }
}

#[test]
fn keys_of_a_host_that_is_unknown_not_joined_or_evicted_are_not_replaced() {
    let unknown = Rejection::NotEnrolled(HOST);
    Given::nothing().when(next_keys(1)).then_rejected(unknown);
    let enrolled = Given::nothing().and(enrol(HOST));
    let not_joined = Rejection::NotJoined(host_name());
    enrolled.when(next_keys(1)).then_rejected(not_joined);
    let evicted = invited().and(join(|_| {})).and(evict(HOST));
    let rejection = Rejection::Evicted {
        host: HOST,
        name: host_name(),
    };
    evicted.when(next_keys(2)).then_rejected(rejection);
}

#[test]
fn enrolling_is_for_the_gateway_s_own_machine_only() {
    let not_joined = Rejection::NotJoined(host_name());
    let given = Given::nothing().by_token();
    given.when(enrol(HOST)).then_rejected(not_joined.clone());
    let before = Given::nothing().and(enrol(HOST)).by_token();
    before
        .clone()
        .when(enrol(HOST))
        .then_rejected(not_joined.clone());
    let told = Command::Report(report(Vec::new(), &[]));
    before.when(told).then_rejected(not_joined);
    let joined = Given::nothing().and(issue(TOKEN)).and(join(|_| {}));
    let pinned = Rejection::KeysPinned(host_name());
    joined.when(key_replaced()).then_rejected(pinned);
}

#[test]
fn a_host_that_joined_reports() {
    let told = Command::Report(report(Vec::new(), &[]));
    invited().and(join(|_| {})).when(told).then_nothing();
}

#[test]
fn the_list_of_keys_holds_hosts_that_joined_with_their_newest_keys() {
    let given = Given::nothing()
        .and(enrol(OTHER_HOST))
        .and(issue(TOKEN))
        .and(join(|_| {}))
        .and(next_keys(2));
    let mut keys = HostKeys {
        host: HOST,
        signing_key: [0x61; 32],
        sealing_key: [0x62; 32],
        generation: 2,
        evicted: false,
    };
    assert_eq!(host_keys(given.world()), [keys.clone()]);
    keys.evicted = true;
    let given = given.and(evict(HOST));
    assert_eq!(host_keys(given.world()), [keys]);
    assert_eq!(
        host_keys(given.world())[0].host,
        HostId::from_bytes([3; 16])
    );
}
