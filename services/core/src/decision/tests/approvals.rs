//! What takes several people: who counts, what it is good for, how it ends, and that nothing is done twice.

use std::time::Duration;

use crate::approval::{
    APPROVAL_LIFETIME, Ask, Digest, End, KEPT_APPROVALS, MAX_APPROVAL_REASON_CHARS,
    MAX_OPEN_APPROVALS, MAX_OPEN_APPROVALS_PER_PERSON, MAX_PEOPLE, MAX_PLAN_BYTES,
    MAX_UNREVIEWED_PER_PERSON, MIN_PEOPLE, Operation, Perform, Rejection as No, Request,
};
use crate::command::Command;
use crate::decision::{Context, Enrolment, Rejection, RejectionKind, decide};
use crate::event::Event;
use crate::id::{ApprovalId, PolicySetId};
use crate::policy::{self, Policies};
use crate::time::Timestamp;
use crate::world::World;

const ADA: &str = "certificate:ada";
const BOB: &str = "certificate:bob";
const EVE: &str = "certificate:eve";
const DIGEST: Digest = [7; 32];
const OTHER: Digest = [8; 32];

fn id(n: u32) -> ApprovalId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    ApprovalId::from_bytes(bytes)
}

fn ask(n: u32, operation: Operation, (by, needed): (&str, u64), digest: Digest) -> Ask {
    Ask {
        id: id(n),
        operation,
        object: "policies".to_owned(),
        digest,
        plan: "one line more".to_owned(),
        by: by.to_owned(),
        reason: "bob joined".to_owned(),
        needed,
    }
}

fn set(text: &str, expected: Option<u64>) -> Command {
    Command::ApplyPolicies(policy::Request {
        id: PolicySetId::from_bytes([1; 16]),
        expected,
        policies: Policies {
            text: text.to_owned(),
            groups: Vec::new(),
        },
        by: ADA.to_owned(),
    })
}

/// A log and what it says, at a time.
#[derive(Default)]
struct Told {
    events: Vec<Event>,
    world: World,
    now: Timestamp,
}

impl Told {
    fn say(&mut self, request: Request) -> Result<usize, Rejection> {
        let ctx = Context {
            now: self.now,
            seed: [7; 16],
            enrolment: Enrolment::Local,
        };
        let command = Command::Approval(request);
        let decided = decide(&self.world, &command, &ctx).map_err(|refusal| refusal.reason)?;
        let count = decided.len();
        for event in decided {
            self.events.push(event);
            let number = u64::try_from(self.events.len()).unwrap();
            self.world.note_time(self.now);
            self.world.apply(number, self.events.last().unwrap());
        }
        Ok(count)
    }

    /// Why it is refused.
    fn no(&mut self, request: Request) -> No {
        let before = self.events.len();
        let refused = self.say(request).unwrap_err();
        assert_eq!(self.events.len(), before);
        match refused {
            Rejection::Approval(no) => no,
            other => panic!("{other}"),
        }
    }

    fn policies(&mut self, n: u32, needed: u64) {
        let wish = ask(n, Operation::PolicyChange, (ADA, needed), DIGEST);
        assert_eq!(self.say(Request::Ask(wish)), Ok(1));
    }

    fn later(&mut self, span: Duration) {
        self.now = self.now.plus(span);
    }

    fn end(&self, n: u32) -> Option<End> {
        self.world.approvals.by_id(id(n)).unwrap().end
    }
}

fn approve(n: u32, by: &str) -> Request {
    Request::Approve {
        approval: id(n),
        by: by.to_owned(),
        reason: "seen".to_owned(),
    }
}

fn deny(n: u32, by: &str) -> Request {
    Request::Deny {
        approval: id(n),
        by: by.to_owned(),
        reason: "no".to_owned(),
    }
}

fn withdraw(n: u32, by: &str) -> Request {
    let by = by.to_owned();
    Request::Withdraw {
        approval: id(n),
        by,
    }
}

fn break_glass(n: u32, by: &str) -> Request {
    Request::BreakGlass {
        approval: id(n),
        by: by.to_owned(),
        reason: "nobody is awake".to_owned(),
    }
}

fn review(n: u32, by: &str) -> Request {
    Request::Review {
        approval: id(n),
        by: by.to_owned(),
        reason: "it stays".to_owned(),
    }
}

fn perform(n: u32, (by, digest): (&str, Digest), command: Command) -> Request {
    Request::Perform(Perform {
        approval: id(n),
        digest,
        by: by.to_owned(),
        command: Box::new(command),
    })
}

fn applied(told: &Told) -> u64 {
    told.world.policies().map_or(0, |known| known.version)
}

#[test]
fn what_takes_three_waits_for_two_others_in_any_order_and_is_done_once() {
    for order in [[BOB, EVE], [EVE, BOB]] {
        let mut told = Told::default();
        told.policies(1, 3);
        for (said, who) in order.into_iter().enumerate() {
            let more = 2 - u64::try_from(said).unwrap();
            let wish = perform(1, (ADA, DIGEST), set("a", None));
            assert_eq!(told.no(wish), No::Waits { id: id(1), more });
            assert_eq!(told.say(approve(1, who)), Ok(1));
        }
        let wish = perform(1, (ADA, DIGEST), set("a", None));
        assert_eq!(
            told.say(wish.clone()),
            Ok(2),
            "the set, and that it was used"
        );
        assert_eq!((applied(&told), told.end(1)), (1, Some(End::Used)));
        let again = No::Over {
            id: id(1),
            how: End::Used.words(),
        };
        assert_eq!(told.no(wish), again);
    }
}

#[test]
fn one_person_is_one_word() {
    let mut told = Told::default();
    told.policies(1, 3);
    let same = |by: &str| No::SamePerson {
        id: id(1),
        by: by.to_owned(),
    };
    assert_eq!(told.no(approve(1, ADA)), same(ADA), "who asked is counted");
    assert_eq!(told.say(approve(1, BOB)), Ok(1));
    assert_eq!(told.no(approve(1, BOB)), same(BOB));
    assert_eq!(told.world.approvals.by_id(id(1)).unwrap().missing(), 1);
}

#[test]
fn it_is_good_for_exactly_what_was_asked_for_and_for_who_asked() {
    let mut told = Told::default();
    told.policies(1, 2);
    assert_eq!(told.say(approve(1, BOB)), Ok(1));
    let another = No::Another(id(1));
    let wish = || set("a", None);
    assert_eq!(told.no(perform(1, (ADA, OTHER), wish())), another);
    assert_eq!(told.no(perform(1, (BOB, DIGEST), wish())), another);
    let unlike = Command::Unbind {
        name: crate::name::BindingName::parse("web").unwrap(),
    };
    assert_eq!(told.no(perform(1, (ADA, DIGEST), unlike)), another);
    let nested = Command::Approval(perform(1, (ADA, DIGEST), wish()));
    assert_eq!(told.no(perform(1, (ADA, DIGEST), nested)), another);
    assert_eq!(
        told.no(perform(9, (ADA, DIGEST), wish())),
        No::Unknown(id(9))
    );
    assert_eq!(told.say(perform(1, (ADA, DIGEST), wish())), Ok(2));
}

#[test]
fn what_is_refused_uses_nothing_up() {
    let mut told = Told::default();
    told.policies(1, 2);
    told.say(approve(1, BOB)).unwrap();
    let moved = told.say(perform(1, (ADA, DIGEST), set("a", Some(4))));
    assert!(matches!(moved, Err(Rejection::Policy(_))), "{moved:?}");
    assert_eq!(told.say(perform(1, (ADA, DIGEST), set("a", None))), Ok(2));
}

#[test]
fn a_request_expires_whether_it_was_approved_or_not() {
    let mut told = Told::default();
    told.policies(1, 2);
    told.later(APPROVAL_LIFETIME - Duration::from_micros(1));
    assert_eq!(told.say(approve(1, BOB)), Ok(1), "to its last moment");
    told.later(Duration::from_micros(1));
    let expired = No::Expired(id(1));
    for request in [
        approve(1, EVE),
        deny(1, EVE),
        withdraw(1, BOB),
        break_glass(1, ADA),
        perform(1, (ADA, DIGEST), set("a", None)),
    ] {
        assert_eq!(told.no(request), expired);
    }
    told.policies(2, 2);
    assert_eq!(applied(&told), 0);
}

#[test]
fn a_request_that_expired_stays_so_when_a_clock_is_put_back() {
    let mut told = Told::default();
    told.policies(1, 2);
    assert_eq!(told.say(approve(1, BOB)), Ok(1));
    let began = told.now;
    told.later(APPROVAL_LIFETIME);
    told.policies(2, 2);
    told.now = began;
    let expired = No::Expired(id(1));
    assert_eq!(told.no(approve(1, EVE)), expired);
    let wish = perform(1, (ADA, DIGEST), set("a", None));
    assert_eq!(told.no(wish), expired);
    assert_eq!(told.say(approve(2, BOB)), Ok(1), "the other goes on");
    let wish = perform(2, (ADA, DIGEST), set("a", None));
    assert_eq!(told.say(wish), Ok(2));
}

#[test]
fn who_is_against_it_ends_it_and_who_asked_may_withdraw_it() {
    let mut told = Told::default();
    told.policies(1, 3);
    let own = No::OwnRequest {
        id: id(1),
        by: ADA.to_owned(),
    };
    assert_eq!(told.no(deny(1, ADA)), own);
    assert_eq!(told.say(approve(1, BOB)), Ok(1));
    assert_eq!(told.say(withdraw(1, BOB)), Ok(1));
    let none = No::NoWord {
        id: id(1),
        by: BOB.to_owned(),
    };
    assert_eq!(told.no(withdraw(1, BOB)), none);
    assert_eq!(told.world.approvals.by_id(id(1)).unwrap().missing(), 2);
    assert_eq!(told.say(approve(1, BOB)), Ok(1), "and may think again");
    assert_eq!(told.say(deny(1, EVE)), Ok(1));
    assert_eq!(told.end(1), Some(End::Denied));
    let over = No::Over {
        id: id(1),
        how: End::Denied.words(),
    };
    assert_eq!(told.no(approve(1, EVE)), over);
    told.policies(2, 2);
    assert_eq!(told.say(withdraw(2, ADA)), Ok(1));
    assert_eq!(told.end(2), Some(End::Withdrawn));
    assert_eq!(told.world.approvals.iter().count(), 2);
}

#[test]
fn a_request_that_is_there_is_not_made_again_and_more_people_are_another_one() {
    let mut told = Told::default();
    told.policies(1, 2);
    let again = |n, by, needed| Request::Ask(ask(n, Operation::PolicyChange, (by, needed), DIGEST));
    assert_eq!(told.say(again(2, ADA, 2)), Ok(0));
    assert_eq!(told.say(again(3, ADA, 3)), Ok(1), "it takes more by now");
    assert_eq!(
        told.say(again(4, BOB, 2)),
        Ok(1),
        "somebody else's is another"
    );
    let other = ask(5, Operation::PolicyChange, (ADA, 2), OTHER);
    assert_eq!(told.say(Request::Ask(other)), Ok(1));
    let known = |digest, by, needed| {
        let approvals = &told.world.approvals;
        let found = approvals.open_of(Operation::PolicyChange, digest, (by, needed), told.now);
        found.map(|known| known.id)
    };
    assert_eq!(known(&DIGEST, ADA, 2), Some(id(1)));
    assert_eq!(
        known(&DIGEST, ADA, 3),
        Some(id(3)),
        "two are too few for three"
    );
    assert_eq!(known(&OTHER, ADA, 2), Some(id(5)));
    assert_eq!(known(&OTHER, EVE, 2), None);
}

#[test]
fn broken_glass_goes_at_once_and_stays_open_until_somebody_else_reviewed_it() {
    let mut told = Told::default();
    told.policies(1, 3);
    assert_eq!(told.no(review(1, EVE)), No::NoReview(id(1)));
    assert_eq!(told.say(break_glass(1, BOB)), Ok(1));
    assert_eq!(told.no(break_glass(1, EVE)), No::Granted(id(1)));
    assert_eq!(told.say(perform(1, (ADA, DIGEST), set("a", None))), Ok(2));
    told.later(APPROVAL_LIFETIME + APPROVAL_LIFETIME);
    let is_unreviewed = |told: &Told| told.world.approvals.by_id(id(1)).unwrap().is_unreviewed();
    for by in [ADA, BOB] {
        let own = No::OwnReview {
            id: id(1),
            by: by.to_owned(),
        };
        assert_eq!(told.no(review(1, by)), own);
        assert!(is_unreviewed(&told));
    }
    assert_eq!(told.say(review(1, EVE)), Ok(1), "also long after");
    assert!(!is_unreviewed(&told));
    assert_eq!(told.no(review(1, EVE)), No::NoReview(id(1)));
}

#[test]
fn a_request_that_is_there_is_never_made_anew_so_broken_glass_is_not_forgotten() {
    let mut told = Told::default();
    told.policies(1, 2);
    told.say(break_glass(1, ADA)).unwrap();
    told.say(perform(1, (ADA, DIGEST), set("a", None))).unwrap();
    let other = ask(1, Operation::PolicyChange, (ADA, 2), OTHER);
    assert_eq!(told.no(Request::Ask(other)), No::Another(id(1)));
    assert!(told.world.approvals.by_id(id(1)).unwrap().is_unreviewed());
}

#[test]
fn who_broke_so_much_glass_that_nobody_reviewed_breaks_no_more() {
    let mut told = Told::default();
    let most = u32::try_from(MAX_UNREVIEWED_PER_PERSON).unwrap();
    for n in 1..=most + 1 {
        // Each is over when the next one is asked for.
        told.later(APPROVAL_LIFETIME);
        told.policies(n, 2);
        if n <= most {
            assert_eq!(told.say(break_glass(n, ADA)), Ok(1));
        }
    }
    let many = No::TooManyUnreviewed(ADA.to_owned());
    assert_eq!(told.no(break_glass(most + 1, ADA)), many);
    assert_eq!(told.say(review(1, BOB)), Ok(1));
    assert_eq!(told.say(break_glass(most + 1, ADA)), Ok(1));
}

#[test]
fn sinks_are_confirmed_with_the_last_word_and_that_stays() {
    let mut told = Told::default();
    let of = |n, by| Request::Ask(ask(n, Operation::SinkChange, (by, 3), DIGEST));
    assert_eq!(told.say(of(1, ADA)), Ok(1));
    assert_eq!(told.say(of(2, BOB)), Ok(1), "is for the one that is there");
    assert_eq!(told.say(of(3, BOB)), Ok(0));
    assert_eq!(told.world.approvals.sinks(), None);
    assert_eq!(
        told.say(approve(1, EVE)),
        Ok(2),
        "the word, and that it was used"
    );
    assert_eq!(told.world.approvals.sinks(), Some(&DIGEST));
    told.later(APPROVAL_LIFETIME + APPROVAL_LIFETIME);
    assert_eq!(told.world.approvals.sinks(), Some(&DIGEST));
    let other = ask(4, Operation::SinkChange, (ADA, 2), OTHER);
    assert_eq!(told.say(Request::Ask(other)), Ok(1));
    assert_eq!(
        told.world.approvals.sinks(),
        Some(&DIGEST),
        "until it is confirmed"
    );
    assert_eq!(told.say(break_glass(4, ADA)), Ok(2));
    assert_eq!(told.world.approvals.sinks(), Some(&OTHER));
}

#[test]
fn each_share_is_somebody_else_s_and_a_wrong_one_may_be_given_again() {
    let mut told = Told::default();
    let of = |n, by| Request::Ask(ask(n, Operation::Unseal, (by, 3), DIGEST));
    assert_eq!(told.say(of(1, ADA)), Ok(1));
    let same = No::SamePerson {
        id: id(1),
        by: ADA.to_owned(),
    };
    assert_eq!(told.no(of(2, ADA)), same, "also when both came at once");
    assert_eq!(told.say(approve(1, BOB)), Ok(1));
    assert_eq!(told.say(withdraw(1, ADA)), Ok(1), "hers was none");
    assert_eq!(told.end(1), None, "others' shares are there still");
    assert_eq!(told.say(approve(1, ADA)), Ok(1));
    assert_eq!(told.world.approvals.by_id(id(1)).unwrap().missing(), 1);
    let newest = told.world.approvals.newest(Operation::Unseal, &DIGEST);
    assert_eq!(newest.map(|known| known.id), Some(id(1)));
}

#[test]
fn what_a_request_says_of_itself_has_bounds() {
    let mut told = Told::default();
    let wish = || ask(1, Operation::PolicyChange, (ADA, 2), DIGEST);
    for needed in [MIN_PEOPLE - 1, MAX_PEOPLE + 1] {
        let operation = Operation::PolicyChange;
        let no = told.no(Request::Ask(Ask { needed, ..wish() }));
        assert_eq!(no, No::People { operation, needed });
    }
    let plan = "p".repeat(MAX_PLAN_BYTES + 1);
    assert_eq!(told.no(Request::Ask(Ask { plan, ..wish() })), No::TooLarge);
    for (reason, no) in [
        (" ".to_owned(), No::ReasonMissing),
        ("r".repeat(MAX_APPROVAL_REASON_CHARS + 1), No::ReasonTooLong),
    ] {
        assert_eq!(told.no(Request::Ask(Ask { reason, ..wish() })), no);
    }
    let plan = "p".repeat(MAX_PLAN_BYTES);
    let reason = "r".repeat(MAX_APPROVAL_REASON_CHARS);
    let longest = Ask {
        plan,
        reason,
        needed: MAX_PEOPLE,
        ..wish()
    };
    assert_eq!(told.say(Request::Ask(longest)), Ok(1));
}

#[test]
fn so_many_are_open_at_once_and_what_is_over_makes_room() {
    let mut told = Told::default();
    let mut n = 0;
    let mut next = |by: &str| {
        n += 1;
        let mut digest = DIGEST;
        digest[..4].copy_from_slice(&u32::to_be_bytes(n));
        Request::Ask(ask(n, Operation::PolicyChange, (by, 2), digest))
    };
    for _ in 0..MAX_OPEN_APPROVALS_PER_PERSON {
        told.say(next(ADA)).unwrap();
    }
    assert_eq!(told.no(next(ADA)), No::TooManyOf(ADA.to_owned()));
    for person in 1..MAX_OPEN_APPROVALS / MAX_OPEN_APPROVALS_PER_PERSON {
        for _ in 0..MAX_OPEN_APPROVALS_PER_PERSON {
            told.say(next(&format!("unix:{person}"))).unwrap();
        }
    }
    assert_eq!(told.no(next(BOB)), No::TooMany);
    assert_eq!(told.say(break_glass(1, EVE)), Ok(1));
    told.later(APPROVAL_LIFETIME);
    for _ in 0..KEPT_APPROVALS {
        told.later(APPROVAL_LIFETIME);
        told.say(next(BOB)).unwrap();
    }
    let approvals = &told.world.approvals;
    assert!(approvals.iter().count() <= KEPT_APPROVALS + 2);
    assert!(approvals.by_id(id(2)).is_none(), "the oldest are forgotten");
    assert!(approvals.by_id(id(1)).is_some(), "but what nobody reviewed");
}

#[test]
fn a_log_that_is_read_again_anywhere_says_the_same_and_goes_on_from_there() {
    let mut told = Told::default();
    told.policies(1, 2);
    told.say(approve(1, BOB)).unwrap();
    let last_word = told.events.len();
    told.say(perform(1, (ADA, DIGEST), set("a", None))).unwrap();
    told.policies(2, 3);
    told.say(break_glass(2, ADA)).unwrap();
    told.say(perform(2, (ADA, DIGEST), set("b", None))).unwrap();
    told.say(review(2, BOB)).unwrap();
    for end in 0..=told.events.len() {
        let mut again = Told {
            now: told.now,
            ..Told::default()
        };
        for (number, event) in (1..).zip(told.events.iter().take(end)) {
            again.world.apply(number, event);
            again.events.push(event.clone());
        }
        if end == told.events.len() {
            assert_eq!(again.world.difference(&told.world), None);
        }
        // A crash between the last word and the deed: it is done then, once.
        if end == last_word {
            let wish = perform(1, (ADA, DIGEST), set("a", None));
            assert_eq!(again.say(wish.clone()), Ok(2));
            assert!(matches!(again.no(wish), No::Over { .. }));
            assert_eq!(applied(&again), 1);
        }
    }
}

#[test]
fn what_is_not_there_or_wrong_is_told_apart() {
    let kind = |no: No| Rejection::Approval(no).kind();
    assert_eq!(kind(No::Unknown(id(1))), RejectionKind::NotFound);
    assert_eq!(kind(No::ReasonMissing), RejectionKind::Invalid);
    assert_eq!(kind(No::TooLarge), RejectionKind::Invalid);
    assert_eq!(kind(No::Expired(id(1))), RejectionKind::Conflict);
    for operation in Operation::ALL {
        assert_eq!(Operation::parse(operation.word()), Some(operation));
    }
    assert_eq!(Operation::parse("forget"), None);
}
