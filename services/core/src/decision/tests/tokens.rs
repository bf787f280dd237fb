//! Tokens: bounded, named once, counted before they are used, and over when they say so.

use std::time::Duration;

use crate::command::Command;
use crate::decision::{Context, Enrolment, Rejection, RejectionKind, decide};
use crate::event::Event;
use crate::id::TokenId;
use crate::name::TokenName;
use crate::time::Timestamp;
use crate::token::{
    self, Gone, Issue, Login, MAX_GONE_TOKENS, MAX_LOGIN_GROUP_BYTES, MAX_LOGIN_GROUPS,
    MAX_SCOPE_WORD_BYTES, MAX_SCOPE_WORDS, MAX_TOKEN_LIFETIME, MAX_TOKEN_REASON_CHARS,
    MAX_TOKEN_USES, MAX_TOKENS_PER_OWNER, MIN_TOKEN_LIFETIME, Request, Scope, Which,
};
use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);
const ADA: &str = "certificate:ada";

fn id(n: u8) -> TokenId {
    TokenId::from_bytes([n; 16])
}

fn name(text: &str) -> TokenName {
    TokenName::parse(text).unwrap()
}

fn wish(n: u8, called: &str) -> Issue {
    Issue {
        id: id(n),
        name: name(called),
        hash: [n; 32],
        owner: ADA.to_owned(),
        scope: Scope {
            verbs: vec!["rotate".to_owned()],
            resources: vec!["path/prod".to_owned()],
        },
        lifetime: HOUR,
        limit: None,
        login: None,
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::default().plus(Duration::from_secs(seconds))
}

/// A world with what was decided in it.
#[derive(Default)]
struct Told {
    world: World,
    number: u64,
}

impl Told {
    fn ask(&mut self, second: u64, request: Request) -> Result<Vec<Event>, token::Rejection> {
        let ctx = Context {
            now: at(second),
            seed: [7; 16],
            enrolment: Enrolment::Local,
        };
        match decide(&self.world, &Command::Token(request), &ctx) {
            Ok(events) => {
                for event in &events {
                    self.number += 1;
                    self.world.note_time(at(second));
                    self.world.apply(self.number, event);
                }
                Ok(events)
            }
            Err(refusal) => match refusal.reason {
                Rejection::Token(reason) => Err(reason),
                other => panic!("{other}"),
            },
        }
    }

    fn issue(&mut self, second: u64, wish: Issue) -> Result<Vec<Event>, token::Rejection> {
        self.ask(second, Request::Issue(wish))
    }

    fn take(&mut self, second: u64, token: TokenId, uses: u64) -> Result<(), token::Rejection> {
        let taken = self.ask(second, Request::Take { token, uses });
        taken.map(drop)
    }

    fn revoke(&mut self, which: Which, reason: &str) -> Result<usize, token::Rejection> {
        let request = Request::Revoke {
            which,
            by: ADA.to_owned(),
            reason: reason.to_owned(),
        };
        self.ask(1, request).map(|events| events.len())
    }
}

/// A login of ada's that lives an hour, while the provider's word counts until then.
fn login(n: u8, until: Timestamp) -> Issue {
    Issue {
        login: Some(Login {
            issuer: "https://id.example.org".to_owned(),
            subject: "4711".to_owned(),
            groups: vec!["payments".to_owned()],
            until,
        }),
        ..wish(n, &format!("login-{n}"))
    }
}

#[test]
fn a_login_lives_as_long_as_it_may_and_never_longer_than_the_provider_s_word() {
    let mut told = Told::default();
    told.issue(0, login(1, at(7200))).unwrap();
    told.issue(0, login(2, at(90))).unwrap();
    let end = |told: &Told, n| told.world.tokens.by_id(id(n)).unwrap().expires_at;
    assert_eq!((end(&told, 1), end(&told, 2)), (at(3600), at(90)));
    let known = told.world.tokens.by_id(id(1)).unwrap();
    assert_eq!(known.login.as_ref().unwrap().groups, ["payments"]);
    // It was over before it was decided.
    assert_eq!(
        told.issue(90, login(3, at(90))),
        Err(token::Rejection::Over)
    );
    assert_eq!(told.revoke(Which::Of(ADA.to_owned()), "ada left"), Ok(2));
}

#[test]
fn a_login_has_bounds() {
    let mut told = Told::default();
    let with = |change: fn(&mut Login)| {
        let mut wish = login(1, at(7200));
        change(wish.login.as_mut().unwrap());
        wish
    };
    for odd in [
        with(|login| login.issuer.clear()),
        with(|login| login.subject.clear()),
        with(|login| login.groups.push(String::new())),
        with(|login| login.groups.push("x".repeat(MAX_LOGIN_GROUP_BYTES + 1))),
        with(|login| login.groups = vec!["x".to_owned(); MAX_LOGIN_GROUPS + 1]),
    ] {
        let refused = told.issue(0, odd);
        assert_eq!(refused, Err(token::Rejection::LoginOutOfBounds));
    }
    let kind = Rejection::Token(token::Rejection::LoginOutOfBounds).kind();
    assert_eq!(kind, RejectionKind::Invalid);
}

#[test]
fn a_token_is_found_by_the_hash_of_its_text_until_it_is_revoked() {
    let mut told = Told::default();
    told.issue(0, wish(1, "ci")).unwrap();
    let known = told.world.tokens.by_hash(&[1; 32]).unwrap();
    assert_eq!((known.id, known.expires_at), (id(1), at(3600)));
    assert_eq!(told.world.tokens.by_hash(&[2; 32]), None);
    assert_eq!(told.revoke(Which::Named(name("ci")), " leaked "), Ok(1));
    assert_eq!(told.world.tokens.by_hash(&[1; 32]), None);
    assert_eq!(told.world.tokens.iter().count(), 0);
    let unknown = token::Rejection::Unknown(name("ci"));
    assert_eq!(told.revoke(Which::Named(name("ci")), "again"), Err(unknown));
}

#[test]
fn of_a_token_that_is_gone_the_name_is_known_and_how_it_went() {
    let mut told = Told::default();
    told.issue(0, wish(1, "ci")).unwrap();
    told.issue(0, wish(2, "deploy")).unwrap();
    assert_eq!(told.world.tokens.gone(&[1; 32]), None, "it is alive");
    told.revoke(Which::Named(name("ci")), "leaked").unwrap();
    // The next one has the name, and the text of the first is still known as its own.
    told.issue(3600, wish(3, "ci")).unwrap();
    let gone = |hash| told.world.tokens.gone(hash);
    assert_eq!(gone(&[1; 32]), Some((&name("ci"), Gone::Revoked)));
    assert_eq!(gone(&[2; 32]), Some((&name("deploy"), Gone::Over)));
    assert_eq!((gone(&[3; 32]), gone(&[4; 32])), (None, None));
}

#[test]
fn so_many_tokens_that_are_gone_are_known_and_the_oldest_goes_first() {
    let mut told = Told::default();
    let hash_of = |n: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        hash
    };
    for n in 0..=MAX_GONE_TOKENS {
        let wish = Issue {
            hash: hash_of(n),
            ..wish(1, "ci")
        };
        told.issue(1, wish).unwrap();
        told.revoke(Which::Named(name("ci")), "a test").unwrap();
    }
    let tokens = &told.world.tokens;
    assert_eq!(tokens.gone(&hash_of(0)), None);
    let is_known = |n: usize| tokens.gone(&hash_of(n)).is_some();
    assert!((1..=MAX_GONE_TOKENS).all(is_known));
}

#[test]
fn one_name_is_one_token_as_long_as_that_lives() {
    let mut told = Told::default();
    told.issue(0, wish(1, "ci")).unwrap();
    let taken = token::Rejection::NameTaken(name("ci"));
    assert_eq!(told.issue(3599, wish(2, "ci")), Err(taken));
    told.issue(3600, wish(2, "ci")).unwrap();
    let known: Vec<TokenId> = told.world.tokens.iter().map(|known| known.id).collect();
    assert_eq!(known, [id(2)], "what is over is forgotten");
}

#[test]
fn what_was_over_stays_over_when_a_clock_is_put_back() {
    let mut told = Told::default();
    let limited = |n, called| Issue {
        limit: Some(9),
        ..wish(n, called)
    };
    let is_alive = |told: &Told, n| {
        let known = told.world.tokens.by_id(id(n)).unwrap();
        known.is_alive(at(10))
    };
    told.issue(0, limited(1, "ci")).unwrap();
    told.issue(1, limited(2, "other")).unwrap();
    // The log goes on to the last moment of the first one.
    told.take(3599, id(2), 1).unwrap();
    assert!(is_alive(&told, 1), "its end had not come");
    let ahead = Request::Revoke {
        which: Which::Named(name("other")),
        by: ADA.to_owned(),
        reason: "a test".to_owned(),
    };
    told.ask(3600, ahead).unwrap();
    assert!(!is_alive(&told, 1));
    let over = Err(token::Rejection::Over);
    assert_eq!(told.take(10, id(1), 1), over);
    // What is issued by the clock as it is counts by it, and the name is free.
    told.issue(10, limited(3, "ci")).unwrap();
    told.take(11, id(3), 1).unwrap();
    assert!(is_alive(&told, 3));
    assert_eq!(told.world.tokens.by_id(id(1)), None);
}

#[test]
fn every_bound_of_a_wish_is_kept() {
    let with = |change: &dyn Fn(&mut Issue)| {
        let mut wish = wish(1, "ci");
        change(&mut wish);
        Told::default().issue(0, wish).map(drop)
    };
    let second = Duration::from_secs(1);
    for (lifetime, fits) in [
        (MIN_TOKEN_LIFETIME, true),
        (MIN_TOKEN_LIFETIME - second, false),
        (MAX_TOKEN_LIFETIME, true),
        (MAX_TOKEN_LIFETIME + second, false),
    ] {
        let wanted = if fits {
            Ok(())
        } else {
            Err(token::Rejection::Lifetime)
        };
        assert_eq!(
            with(&|wish| wish.lifetime = lifetime),
            wanted,
            "{lifetime:?}"
        );
    }
    for (limit, fits) in [
        (1, true),
        (0, false),
        (MAX_TOKEN_USES, true),
        (MAX_TOKEN_USES + 1, false),
    ] {
        let wanted = if fits {
            Ok(())
        } else {
            Err(token::Rejection::Limit)
        };
        assert_eq!(with(&|wish| wish.limit = Some(limit)), wanted, "{limit}");
    }
    let words = |count: usize, bytes: usize| vec!["x".repeat(bytes); count];
    for (verbs, resources, fits) in [
        (
            words(1, 1),
            words(MAX_SCOPE_WORDS - 1, MAX_SCOPE_WORD_BYTES),
            true,
        ),
        (words(1, 1), words(MAX_SCOPE_WORDS, 1), false),
        (words(1, MAX_SCOPE_WORD_BYTES + 1), words(1, 1), false),
        (words(0, 1), words(1, 1), false),
        (words(1, 1), words(0, 1), false),
        (words(1, 0), words(1, 1), false),
    ] {
        let wanted = if fits {
            Ok(())
        } else {
            Err(token::Rejection::ScopeOutOfBounds)
        };
        let (verbs, resources) = (&verbs, &resources);
        let scoped = with(&|wish| {
            wish.scope = Scope {
                verbs: verbs.clone(),
                resources: resources.clone(),
            };
        });
        assert_eq!(scoped, wanted, "{} {}", verbs.len(), resources.len());
    }
}

#[test]
fn a_person_has_so_many_and_another_one_has_none_the_less() {
    let mut told = Told::default();
    for n in 0..MAX_TOKENS_PER_OWNER {
        let n = u8::try_from(n).unwrap();
        told.issue(0, wish(n, &format!("t{n}"))).unwrap();
    }
    let too_many = token::Rejection::TooManyOf(ADA.to_owned());
    assert_eq!(told.issue(0, wish(200, "more")), Err(too_many));
    let bob = Issue {
        owner: "unix:1001".to_owned(),
        ..wish(200, "more")
    };
    told.issue(0, bob).unwrap();
    // All of hers and nobody else's.
    let all = told.revoke(Which::Of(ADA.to_owned()), "she left").unwrap();
    assert_eq!(all, MAX_TOKENS_PER_OWNER);
    let left: Vec<TokenId> = told.world.tokens.iter().map(|known| known.id).collect();
    assert_eq!(left, [id(200)]);
    let none = token::Rejection::NoneOf(ADA.to_owned());
    assert_eq!(told.revoke(Which::Of(ADA.to_owned()), "again"), Err(none));
}

#[test]
fn uses_are_taken_out_of_the_limit_and_never_more_than_there_are() {
    let mut told = Told::default();
    let limited = Issue {
        limit: Some(10),
        ..wish(1, "ci")
    };
    told.issue(0, limited).unwrap();
    told.take(1, id(1), 7).unwrap();
    assert_eq!(told.take(1, id(1), 4), Err(token::Rejection::UsedUp(3)));
    told.take(1, id(1), 3).unwrap();
    for uses in [0, 1, u64::MAX] {
        assert_eq!(told.take(1, id(1), uses), Err(token::Rejection::UsedUp(0)));
    }
    assert_eq!(told.world.tokens.by_id(id(1)).unwrap().left(), Some(0));
    // Without a limit nothing is counted.
    let events = told.number;
    told.issue(0, wish(2, "free")).unwrap();
    told.take(1, id(2), 5).unwrap();
    assert_eq!(told.number, events + 1);
}

#[test]
fn what_is_over_or_revoked_gives_no_use() {
    let mut told = Told::default();
    told.issue(0, wish(1, "ci")).unwrap();
    assert_eq!(told.take(3599, id(1), 1), Ok(()));
    assert_eq!(told.take(3600, id(1), 1), Err(token::Rejection::Over));
    told.revoke(Which::Named(name("ci")), "done").unwrap();
    assert_eq!(told.take(1, id(1), 1), Err(token::Rejection::Over));
    let denied = |no: token::Rejection| Rejection::Token(no).is_denial();
    assert!(denied(token::Rejection::Over) && denied(token::Rejection::UsedUp(0)));
    assert!(!denied(token::Rejection::Lifetime));
}

#[test]
fn a_revocation_says_why() {
    let mut told = Told::default();
    told.issue(0, wish(1, "ci")).unwrap();
    let which = || Which::Named(name("ci"));
    assert_eq!(
        told.revoke(which(), " "),
        Err(token::Rejection::ReasonMissing)
    );
    let long = "x".repeat(MAX_TOKEN_REASON_CHARS + 1);
    assert_eq!(
        told.revoke(which(), &long),
        Err(token::Rejection::ReasonTooLong)
    );
    assert_eq!(told.revoke(which(), &long[1..]), Ok(1));
}

#[test]
fn each_no_is_of_its_kind() {
    let kind = |no: token::Rejection| Rejection::Token(no).kind();
    for (no, wanted) in [
        (
            token::Rejection::Unknown(name("ci")),
            RejectionKind::NotFound,
        ),
        (
            token::Rejection::NoneOf(ADA.to_owned()),
            RejectionKind::NotFound,
        ),
        (
            token::Rejection::NameTaken(name("ci")),
            RejectionKind::Conflict,
        ),
        (token::Rejection::TooMany, RejectionKind::Conflict),
        (token::Rejection::Lifetime, RejectionKind::Invalid),
        (token::Rejection::ReasonMissing, RejectionKind::Invalid),
    ] {
        assert_eq!(kind(no.clone()), wanted, "{no}");
    }
}
