//! What a request binds, and what those who approve see of it.

use keywheel_core::event::Event;
use keywheel_core::host;
use keywheel_core::id::{HostId, JoinTokenId, PolicySetId};
use keywheel_core::time::Timestamp;

use super::*;

fn group(name: &str, members: &[&str]) -> Group {
    Group {
        name: name.to_owned(),
        members: members.iter().map(|one| (*one).to_owned()).collect(),
    }
}

fn set(text: &str, groups: Vec<Group>) -> Policies {
    Policies {
        text: text.to_owned(),
        groups,
    }
}

fn in_force(policies: Policies) -> World {
    let mut world = World::default();
    let applied = policy::Event::Applied {
        version: 4,
        policies,
        by: "unix:0".to_owned(),
    };
    world.apply(1, &Event::Policy(PolicySetId::default(), applied));
    world
}

fn wish(policies: Policies) -> Command {
    Command::ApplyPolicies(Request {
        id: PolicySetId::default(),
        expected: None,
        policies,
        by: "certificate:ada".to_owned(),
    })
}

fn of(world: &World, policies: Policies) -> Wanted {
    wanted(world, &wish(policies)).unwrap().unwrap()
}

#[test]
fn a_plan_shows_what_goes_and_what_comes_of_text_and_groups() {
    let world = in_force(set("a\nb\nc\nd", vec![group("team", &["ada", "bob"])]));
    let next = set("a\nB\nc2\nd", vec![group("team", &["ada", "eve"])]);
    let plan = of(&world, next).plan;
    let lines: Vec<&str> = plan.lines().collect();
    let shown = [
        "version 5 takes the place of version 4",
        "- b",
        "- c",
        "+ B",
        "+ c2",
        "- group team: bob",
        "+ group team: eve",
    ];
    assert_eq!(lines, shown);
    let longer = of(
        &world,
        set("a\nb\nc\nd\ne", vec![group("team", &["ada", "bob"])]),
    );
    assert!(longer.plan.ends_with("\n+ e"), "{}", longer.plan);
}

#[test]
fn whatever_differs_has_another_digest_and_what_changes_nothing_takes_nobody() {
    let base = || set("a", vec![group("g", &["x", "y"])]);
    let world = in_force(base());
    assert_eq!(wanted(&world, &wish(base())), Ok(None));
    let different = [
        set("b", vec![group("g", &["x", "y"])]),
        set("b", vec![group("g", &["x"]), group("y", &[])]),
        set("b", vec![group("g", &["x"])]),
        set("b", vec![group("g", &[]), group("x", &["y"])]),
        set("b", vec![group("gx", &["y"])]),
        set("b", Vec::new()),
    ];
    let digests: BTreeSet<Digest> = different
        .iter()
        .map(|policies| of(&world, policies.clone()).digest)
        .collect();
    assert_eq!(digests.len(), different.len());
    let again = of(&world, different[0].clone());
    assert!(digests.contains(&again.digest), "the same is the same");
    let other = of(&World::default(), different[0].clone());
    assert!(
        !digests.contains(&other.digest),
        "over another set it is another"
    );
}

#[test]
fn what_was_approved_over_one_set_is_not_done_over_another() {
    let world = in_force(set("a", Vec::new()));
    let expected = |command| match bound(&world, command) {
        Command::ApplyPolicies(wish) => wish.expected,
        other => panic!("{other:?}"),
    };
    assert_eq!(expected(wish(set("b", Vec::new()))), Some(4));
    let Command::ApplyPolicies(mut told) = wish(set("b", Vec::new())) else {
        panic!("it is another command");
    };
    told.expected = Some(3);
    assert_eq!(
        expected(Command::ApplyPolicies(told)),
        Some(3),
        "whoever asked knows better"
    );
    assert_eq!(bound(&world, join("web-1")), join("web-1"));
}

#[test]
fn who_counts_on_a_set_that_is_to_come_gets_nothing_done_over_it() {
    let world = in_force(set("a", Vec::new()));
    let counting_on = |expected, text| {
        let Command::ApplyPolicies(wish) = wish(set(text, Vec::new())) else {
            panic!("it is another command");
        };
        moved(
            &world,
            &Command::ApplyPolicies(Request { expected, ..wish }),
        )
    };
    // The set in force, which changes nothing now, as well as another one.
    for text in ["a", "b"] {
        let later = policy::Rejection::Moved {
            expected: 5,
            found: 4,
        };
        assert_eq!(counting_on(Some(5), text), Some(later));
        assert_eq!(counting_on(Some(4), text), None);
        assert_eq!(counting_on(None, text), None);
    }
    assert_eq!(moved(&world, &join("web-1")), None);
}

#[test]
fn what_nobody_could_be_shown_whole_is_not_asked_for() {
    let line = "x".repeat(MAX_PLAN_BYTES);
    let much = wanted(&World::default(), &wish(set(&line, Vec::new())));
    let text = much.unwrap_err().to_string();
    assert!(text.contains("smaller steps"), "{text}");
}

fn join(name: &str) -> Command {
    Command::IssueJoinToken(host::TokenRequest {
        host: HostId::from_bytes([2; 16]),
        name: HostName::parse(name).unwrap(),
        token: JoinTokenId::default(),
        secret_hash: [3; 32],
        expires_at: Timestamp::default(),
    })
}

#[test]
fn a_name_takes_others_only_while_none_but_evicted_hosts_had_it() {
    let mut world = World::default();
    let enrolled = |name: &str| host::Event::Enrolled {
        name: HostName::parse(name).unwrap(),
        sealing_key: [1; 32],
        signing_key: None,
    };
    let id = HostId::from_bytes([1; 16]);
    world.apply(1, &Event::Host(id, enrolled("web-1")));
    assert_eq!(wanted(&world, &join("web-1")), Ok(None), "it lives");
    let evicted = host::Event::Evicted {
        reason: "stolen".to_owned(),
    };
    world.apply(2, &Event::Host(id, evicted));
    let back = wanted(&world, &join("web-1")).unwrap().unwrap();
    assert_eq!(back.operation, Operation::HostReturn);
    assert_eq!(back.object, "host/web-1");
    assert!(back.plan.contains("stolen"), "{}", back.plan);
    assert_eq!(wanted(&world, &join("web-2")), Ok(None), "a new name");
    world.apply(
        3,
        &Event::Host(HostId::from_bytes([5; 16]), enrolled("web-1")),
    );
    assert_eq!(
        wanted(&world, &join("web-1")),
        Ok(None),
        "others let it come back"
    );
}

#[test]
fn an_export_is_the_range_that_was_asked_for() {
    let all: BTreeSet<Digest> = [
        (None, None),
        (Some(0), None),
        (None, Some(9)),
        (Some(0), Some(9)),
        (Some(9), Some(0)),
    ]
    .into_iter()
    .map(|(from, to)| export(from, to).digest)
    .collect();
    assert_eq!(all.len(), 5);
}

#[test]
fn a_long_list_of_reasons_is_cut_where_a_character_ends() {
    let long = cut("ä".repeat(MAX_PLAN_BYTES));
    assert!(long.len() <= MAX_PLAN_BYTES && long.ends_with('…'));
    assert_eq!(cut("short".to_owned()), "short");
}
