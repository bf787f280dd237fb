//! Branches beside each other, paths after a failure, and playbooks that run playbooks.

use super::*;
use crate::decision::{Context, Enrolment, MAX_PLANNED_RUNS, plan_playbook};
use crate::id::SecretId;

fn after_failure(mut step: Step, of: &str) -> Step {
    step.after = vec![After {
        step: of.to_owned(),
        failed: true,
    }];
    step
}

fn approving() -> Deed {
    Deed::Approve {
        count: 1,
        not: Vec::new(),
    }
}

/// An approval that nobody gives fails.
fn failing(given: Given, step: &str) -> Given {
    settled(given.at(later(60)).and(due(step)))
}

#[test]
fn branches_go_on_beside_each_other_and_meet() {
    let steps = vec![
        step("ask", approving(), &[]),
        step("rotate", rotating(), &[]),
        step(
            "last",
            Deed::Wait {
                span: Some(Duration::from_secs(5)),
            },
            &["ask", "rotate"],
        ),
    ];
    let given = settled(running(steps));
    assert_eq!(progress(&given, "ask"), Progress::Open);
    assert_eq!(progress(&given, "rotate"), Progress::Done);
    assert_eq!(progress(&given, "last"), Progress::Pending);
    let given = settled(given.and(people::approve("certificate:anna")));
    assert_eq!(progress(&given, "last"), Progress::Open);
}

#[test]
fn a_failure_takes_its_own_path_and_skips_the_other() {
    let steps = vec![
        step("ask", approving(), &[]),
        step("then", rotating(), &["ask"]),
        step("later", converging(), &["then"]),
        after_failure(step("instead", rotating(), &[]), "ask"),
    ];
    let given = failing(settled(running(steps.clone())), "ask");
    assert_eq!(progress(&given, "then"), Progress::Skipped);
    assert_eq!(progress(&given, "later"), Progress::Skipped);
    assert_eq!(progress(&given, "instead"), Progress::Done);
    assert_eq!(outcome(&given), Some(Outcome::Failed));
    let given = settled(settled(running(steps)).and(people::approve("certificate:anna")));
    assert_eq!(progress(&given, "instead"), Progress::Skipped);
    assert_eq!(progress(&given, "then"), Progress::Done);
}

#[test]
fn a_step_that_may_fail_holds_nothing_up() {
    let mut ask = step("ask", approving(), &[]);
    ask.may_fail = true;
    let steps = vec![ask, step("then", rotating(), &["ask"])];
    let given = failing(settled(running(steps)), "ask");
    assert_eq!(progress(&given, "ask"), Progress::Failed);
    assert_eq!(progress(&given, "then"), Progress::Done);
    assert_eq!(outcome(&given), Some(Outcome::Completed));
}

#[test]
fn a_wait_asks_only_for_what_began_since_the_wait_before_it() {
    let steps = vec![
        step("rotate", rotating(), &[]),
        step("first", converging(), &["rotate"]),
        after_failure(step("ask", approving(), &[]), "first"),
        step("second", converging(), &["ask"]),
    ];
    let given = settled(running(steps));
    let rotation = rotation_of(&given);
    let revoked = Command::Revoke {
        revocation: crate::testing::REVOCATION,
        secret: crate::testing::secret_name(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    };
    let given = settled(given.and(revoked));
    assert_eq!(progress(&given, "first"), Progress::Failed);
    let why = given.world().runs[&RUN]
        .step("first")
        .unwrap()
        .failure
        .clone();
    let why = why.unwrap();
    assert!(
        why.contains(&rotation.to_string()) && why.contains("cancelled"),
        "{why}"
    );
    let given = settled(given.and(people::approve("certificate:anna")));
    assert_eq!(progress(&given, "second"), Progress::Done);
}

const BELOW: PlaybookId = PlaybookId::from_bytes([0x22; 16]);

fn below_name() -> PlaybookName {
    PlaybookName::parse("below").unwrap()
}

fn below(steps: Vec<Step>) -> Command {
    Command::Apply(vec![Declaration::Playbook {
        id: BELOW,
        name: below_name(),
        spec: spec(steps),
    }])
}

fn running_below() -> Deed {
    Deed::Run {
        playbook: below_name(),
        arguments: BTreeMap::from([("secret".to_owned(), "${secret}".to_owned())]),
    }
}

fn nested(below_steps: Vec<Step>) -> Given {
    let given = Given::serving().and(below(below_steps));
    let steps = vec![step("below", running_below(), &[])];
    settled(given.and(declare(spec(steps))).and(start()))
}

#[test]
fn a_run_waits_for_the_one_it_began_and_ends_as_it_did() {
    let given = nested(vec![step("rotate", rotating(), &[])]);
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    let mut runs = given.world().runs.values();
    let run = runs.find(|run| run.parent == Some(RUN)).unwrap();
    assert_eq!((run.depth, run.outcome), (1, Some(Outcome::Completed)));
    let given = nested(vec![step("ask", approving(), &[])]);
    assert_eq!(progress(&given, "below"), Progress::Open);
    let mut runs = given.world().runs.values();
    let run = runs.find(|run| run.parent == Some(RUN)).unwrap().id;
    let late = Command::Playbook(Request::Due {
        run,
        step: "ask".to_owned(),
    });
    let given = settled(given.at(later(60)).and(late));
    assert_eq!(outcome(&given), Some(Outcome::Failed));
}

#[test]
fn playbooks_that_run_each_other_come_to_an_end() {
    let around = Deed::Run {
        playbook: name(),
        arguments: BTreeMap::new(),
    };
    let given = nested_around(around);
    assert_eq!(outcome(&given), Some(Outcome::Failed));
    let depth = given.world().runs.values().map(|run| run.depth).max();
    assert_eq!(depth, Some(MAX_DEPTH));
}

/// `below` runs the playbook that runs it. Ids are drawn for each command, as they are outside of tests.
fn nested_around(around: Deed) -> Given {
    let given = Given::serving().and(below(vec![step("around", around, &[])]));
    let steps = vec![step("below", running_below(), &[])];
    let mut given = given.and(declare(spec(steps))).and(start());
    for draw in 0..100 {
        let Some(next) = next_run(given.world()).map(|run| run.id) else {
            return given;
        };
        let advance = Command::Playbook(Request::Advance { run: next });
        given = given.drawn(0x80 + draw).and(advance);
    }
    panic!("a run never comes to rest");
}

#[test]
fn a_step_means_a_thousand_secrets_and_not_one_more() {
    let registered = |n: usize| {
        let id = SecretId::from_bytes(u128::try_from(n + 1000).unwrap().to_be_bytes());
        let event = crate::secret::Event::Registered {
            name: crate::name::SecretName::parse(&format!("many/s{n}")).unwrap(),
            spec: generated(),
        };
        event::Event::Secret(id, event)
    };
    let started = |count: usize| {
        let below = Deed::Rotate {
            secrets: vec![Selection::Prefix {
                path: "many".to_owned(),
            }],
        };
        let given = Given::events((0..count).map(registered));
        let given = given.and(declare(spec(vec![step("rotate", below, &[])])));
        given.and(start()).and(advance())
    };
    let fits = started(playbook::MAX_TARGETS);
    let targets = &fits.world().runs[&RUN].steps[0].targets;
    assert_eq!(targets.len(), playbook::MAX_TARGETS);
    let more = started(playbook::MAX_TARGETS + 1);
    assert_eq!(progress(&more, "rotate"), Progress::Failed);
}

/// A run of `below` that a person starts; it ends at once.
fn another_below(n: u8) -> Command {
    Command::Playbook(Request::Start {
        run: RunId::from_bytes([0x60 + n; 16]),
        playbook: below_name(),
        arguments: BTreeMap::new(),
        by: "unix:0".to_owned(),
        reason: "drill".to_owned(),
        cause: Cause::Person,
    })
}

/// A run of `below` is over, and then as many others of it as are kept; a person is asked meanwhile.
fn overtaken(last: Step) -> Given {
    let steps = vec![
        step("below", running_below(), &[]),
        step("ask", approving(), &["below"]),
        last,
    ];
    let given = Given::serving().and(below(vec![step("wait", converging(), &[])]));
    let mut given = settled(given.and(declare(spec(steps))).and(start()));
    assert_eq!(progress(&given, "below"), Progress::Done);
    for n in 0..=u8::try_from(KEPT_CLOSED_RUNS).unwrap() {
        given = settled(given.and(another_below(n)));
    }
    given
}

#[test]
fn how_a_run_below_ended_is_known_for_as_long_as_the_one_that_began_it_is_open() {
    let given = overtaken(step("converge", converging(), &["ask"]));
    let is_own = |run: &&Run| run.parent == Some(RUN);
    let is_kept = |given: &Given| given.world().runs.values().any(|run| is_own(&run));
    // It is one of those that are kept, and the oldest.
    assert!(is_kept(&given));
    assert_eq!(given.world().runs.len(), KEPT_CLOSED_RUNS + 1);
    let given = settled(given.and(people::approve("certificate:anna")));
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    // Then it goes as the others do.
    let given = settled(given.and(another_below(40)));
    assert!(!is_kept(&given));
}

#[test]
fn of_playbooks_that_were_removed_the_last_runs_of_all_together_are_kept() {
    let mut given = Given::serving();
    for n in 0..3 {
        given = given.and(below(vec![step("wait", converging(), &[])]));
        for m in 0..8 {
            given = settled(given.and(another_below(8 * n + m)));
        }
        given = given.and(Command::Playbook(Request::Remove { name: below_name() }));
        let kept = usize::from(8 * (n + 1)).min(KEPT_CLOSED_RUNS);
        assert_eq!(given.world().runs.len(), kept);
    }
    let last = RunId::from_bytes([0x60 + 23; 16]);
    assert!(given.world().runs.contains_key(&last));
}

#[test]
fn a_plan_looks_into_so_many_playbooks_below_it_and_no_more() {
    const WIDE: usize = MAX_PLANNED_RUNS + 4;
    let named = |level: usize, n: usize| PlaybookName::parse(&format!("p{level}-{n}")).unwrap();
    let runs = |level: usize| -> Vec<Step> {
        let run = |n: usize| Deed::Run {
            playbook: named(level, n),
            arguments: BTreeMap::new(),
        };
        (0..WIDE)
            .map(|n| step(&format!("s{n}"), run(n), &[]))
            .collect()
    };
    // Each of a level runs all of the next one.
    let mut all = Vec::new();
    for level in [3, 2, 1] {
        for n in 0..WIDE {
            let steps = match level {
                3 => vec![step("wait", converging(), &[])],
                _ => runs(level + 1),
            };
            let id = u128::try_from(1000 * level + n).unwrap();
            all.push(Declaration::Playbook {
                id: PlaybookId::from_bytes(id.to_be_bytes()),
                name: named(level, n),
                spec: spec(steps),
            });
        }
    }
    let given = Given::serving()
        .and(Command::Apply(all))
        .and(declare(spec(runs(1))));
    let ctx = Context {
        now: later(0),
        seed: [1; 16],
        enrolment: Enrolment::Local,
    };
    let plan = plan_playbook(given.world(), &name(), &BTreeMap::new(), &ctx).unwrap();
    let is_left = |fault: &String| fault.contains("is not looked into");
    // The first one took all looks.
    assert!(
        !plan[0]
            .faults
            .iter()
            .any(|fault| fault.starts_with("playbook `p1-0` is not"))
    );
    for step in &plan[1..] {
        assert!(step.faults.len() == 1 && is_left(&step.faults[0]));
    }

    // As many beside each other are all looked into, and twice the same one once.
    let mut steps = runs(3);
    steps.truncate(MAX_PLANNED_RUNS);
    steps.extend(runs(3).into_iter().take(2).map(|mut step| {
        step.name.push_str("-again");
        step
    }));
    let given = given.and(declare(spec(steps.clone())));
    let plan = |given: &Given| {
        let plan = plan_playbook(given.world(), &name(), &BTreeMap::new(), &ctx).unwrap();
        plan.into_iter()
            .flat_map(|step| step.faults)
            .filter(is_left)
            .count()
    };
    assert_eq!(plan(&given), 0);
    steps.extend(runs(3).into_iter().skip(MAX_PLANNED_RUNS).take(1));
    assert_eq!(plan(&given.and(declare(spec(steps)))), 1);
}
