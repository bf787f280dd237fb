//! `playbook …`: what is declared, what a run would do, and a person's steps into one.

use std::collections::BTreeMap;

use keywheel_schemas::api::{
    ApplyAnswer, ApproveRequest, InterveneRequest, PlaybookPlan, PlaybookRunView, PlaybookView,
    QuarantineView, RunPlaybookRequest,
};

use super::revoke::{confirm, require_person};
use super::{Desk, waiting};
use crate::args::{ApproveArgs, PlanArgs, PlaybookVerb, RunArgs, StepInArgs};
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{playbooks as texts, tame, views};

pub(super) async fn run(desk: &Desk, verb: &PlaybookVerb) -> Result<(), Failure> {
    match verb {
        PlaybookVerb::List => list(desk).await,
        PlaybookVerb::Describe { name } => describe(desk, name).await,
        PlaybookVerb::Validate(args) => validate(desk, args).await,
        PlaybookVerb::Plan(args) => show_plan(desk, args).await,
        PlaybookVerb::Run(args) => start(desk, args).await,
        PlaybookVerb::Runs => runs(desk).await,
        PlaybookVerb::DescribeRun { run, wait } => {
            let path = format!("/v1/playbook-runs/{}", escape(run));
            let found: PlaybookRunView = desk.client.read(&path).await?;
            waiting::playbook_run(desk, found, wait).await
        }
        PlaybookVerb::Approve(args) => approve(desk, args).await,
        PlaybookVerb::Pause(args) => step_in(desk, args, "pause").await,
        PlaybookVerb::Resume(args) => step_in(desk, args, "resume").await,
        PlaybookVerb::Cancel(args) => step_in(desk, args, "cancel").await,
        PlaybookVerb::Quarantines => quarantines(desk).await,
        PlaybookVerb::Lift { container, reason } => lift(desk, container, reason).await,
        PlaybookVerb::Remove { name, yes } => remove(desk, name, *yes).await,
    }
}

async fn list(desk: &Desk) -> Result<(), Failure> {
    let all: Vec<PlaybookView> = desk.client.read_all("/v1/playbooks").await?;
    desk.screen
        .show(&all, |all| texts::playbooks(all, desk.screen.color))
}

async fn describe(desk: &Desk, name: &str) -> Result<(), Failure> {
    let path = format!("/v1/playbooks/{}", escape(name));
    let found: PlaybookView = desk.client.read(&path).await?;
    desk.screen
        .show(&found, |found| texts::playbook(found, desk.screen.color))
}

async fn plan(desk: &Desk, args: &PlanArgs) -> Result<PlaybookPlan, Failure> {
    let told = told(args)?;
    let told = serde_json::to_string(&told).map_err(|error| {
        Failure::new(
            Exit::Unexpected,
            format!("the arguments have no JSON form: {error}"),
            "report this fault of keywheel",
        )
    })?;
    let name = escape(&args.name);
    let path = format!("/v1/playbook-plan/{name}?arguments={}", escape(&told));
    desk.client.read(&path).await
}

/// What a run is told. Of two values for one name nobody knows which was meant, and one would be left out without a word.
fn told(args: &PlanArgs) -> Result<BTreeMap<String, String>, Failure> {
    let mut told = BTreeMap::new();
    for (name, value) in &args.settings {
        if told.insert(name.clone(), value.clone()).is_some() {
            return Err(Failure::new(
                Exit::Usage,
                format!("--set gives `{}` twice, and a run takes one", tame(name)),
                "give it once; for several things begin a run for each",
            ));
        }
    }
    Ok(told)
}

/// A plan with something in the way is no success.
fn ending(plan: &PlaybookPlan) -> Result<(), Failure> {
    match plan.blockers.len() {
        0 => Ok(()),
        count => Err(Failure::new(
            Exit::Partial,
            format!(
                "{count} things are in the way of a run of {}",
                plan.playbook
            ),
            "do what stands in each of them above; nothing was begun",
        )),
    }
}

async fn validate(desk: &Desk, args: &PlanArgs) -> Result<(), Failure> {
    let plan = plan(desk, args).await?;
    desk.screen.show(&plan, texts::blockers)?;
    ending(&plan)
}

async fn show_plan(desk: &Desk, args: &PlanArgs) -> Result<(), Failure> {
    let plan = plan(desk, args).await?;
    desk.screen
        .show(&plan, |plan| texts::plan(plan, desk.screen.color))?;
    ending(&plan)
}

/// Shows the plan and asks, unless told not to. What stands in the way of a step stops nobody: in an incident
/// the other steps are worth their while.
async fn start(desk: &Desk, args: &RunArgs) -> Result<(), Failure> {
    let name = &args.plan.name;
    let arguments = told(&args.plan)?;
    if !args.yes {
        require_person(desk.screen, "playbook run")?;
        let plan = plan(desk, &args.plan).await?;
        desk.screen.note(&texts::plan(&plan, desk.screen.color));
        confirm(desk.screen, name)?;
    }
    let request = RunPlaybookRequest {
        arguments,
        reason: args.reason.clone(),
    };
    let path = format!("/v1/playbooks/{}/run", escape(name));
    let begun: PlaybookRunView = desk.client.change(&path, &request).await?;
    waiting::playbook_run(desk, begun, &args.wait).await
}

/// The id of the newest run of a playbook. Ids do not tell: one that a trigger began has a hash.
pub(super) async fn newest_run(desk: &Desk, name: &str) -> Result<String, Failure> {
    let all: Vec<PlaybookRunView> = desk.client.read_all("/v1/playbook-runs").await?;
    newest_of(all, name).ok_or_else(|| {
        Failure::new(
            Exit::NotFound,
            format!("no run of a playbook {name} is remembered"),
            "`keywheel playbook runs` lists those that are; an older one is found by its id",
        )
    })
}

/// In a list open ones stand first, whenever they began; of those that began at once the first is the newest.
fn newest_of(all: Vec<PlaybookRunView>, name: &str) -> Option<String> {
    let of_name = all.into_iter().rev().filter(|run| run.playbook == name);
    let newest = of_name.max_by(|one, other| one.begun.cmp(&other.begun));
    newest.map(|run| run.run_id)
}

async fn runs(desk: &Desk) -> Result<(), Failure> {
    let all: Vec<PlaybookRunView> = desk.client.read_all("/v1/playbook-runs").await?;
    desk.screen
        .show(&all, |all| texts::runs(all, desk.screen.color))
}

async fn approve(desk: &Desk, args: &ApproveArgs) -> Result<(), Failure> {
    let path = format!("/v1/playbook-runs/{}/approve", escape(&args.step_in.run));
    let request = ApproveRequest {
        step: args.step.clone(),
        reason: args.step_in.reason.clone(),
    };
    let run: PlaybookRunView = desk.client.change(&path, &request).await?;
    desk.screen
        .show(&run, |run| texts::run(run, desk.screen.color))
}

async fn step_in(desk: &Desk, args: &StepInArgs, verb: &str) -> Result<(), Failure> {
    let path = format!("/v1/playbook-runs/{}/{verb}", escape(&args.run));
    let request = InterveneRequest {
        reason: args.reason.clone(),
    };
    let run: PlaybookRunView = desk.client.change(&path, &request).await?;
    desk.screen
        .show(&run, |run| texts::run(run, desk.screen.color))
}

async fn quarantines(desk: &Desk) -> Result<(), Failure> {
    let all: Vec<QuarantineView> = desk.client.read_all("/v1/quarantines").await?;
    desk.screen
        .show(&all, |all| texts::quarantines(all, desk.screen.color))
}

async fn lift(desk: &Desk, container: &str, reason: &str) -> Result<(), Failure> {
    let path = format!("/v1/quarantines/{}/lift", escape(container));
    let request = InterveneRequest {
        reason: reason.to_owned(),
    };
    let answer: ApplyAnswer = desk.client.change(&path, &request).await?;
    desk.screen.show(&answer, |answer| {
        views::applied(answer, false, desk.screen.color)
    })
}

async fn remove(desk: &Desk, name: &str, yes: bool) -> Result<(), Failure> {
    if !yes {
        require_person(desk.screen, "playbook remove")?;
        desk.screen.note(&format!(
            "This removes the playbook {name}: it can be run no more. Runs that are open go on."
        ));
        confirm(desk.screen, name)?;
    }
    let path = format!("/v1/playbooks/{}", escape(name));
    let answer: ApplyAnswer = desk.client.remove(&path).await?;
    desk.screen.show(&answer, |answer| {
        views::applied(answer, false, desk.screen.color)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str, playbook: &str, begun: Option<&str>) -> PlaybookRunView {
        PlaybookRunView {
            run_id: id.to_owned(),
            playbook: playbook.to_owned(),
            begun: begun.map(str::to_owned),
            ..PlaybookRunView::default()
        }
    }

    #[test]
    fn a_name_that_is_given_twice_is_refused_and_neither_value_repeated() {
        let args = |settings: &[(&str, &str)]| PlanArgs {
            name: "drill".to_owned(),
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let both = args(&[
            ("secret", "prod/one"),
            ("host", "h"),
            ("secret", "prod/two"),
        ]);
        let failure = told(&both).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let text = failure.to_string();
        assert!(
            text.contains("`secret`") && !text.contains("prod"),
            "{text}"
        );
        assert_eq!(
            told(&args(&[("secret", "a"), ("host", "h")]))
                .unwrap()
                .len(),
            2
        );
    }

    /// The id of a run that a trigger began is a hash, and open runs stand above those that ended.
    #[test]
    fn the_newest_run_is_the_one_that_began_last_whatever_its_id_and_place() {
        let [first, later] =
            ["2026-01-04T02:00:00.000001Z", "2026-01-04T02:00:00.100000Z"].map(Some);
        let all = || {
            vec![
                run("f", "leaked", first),
                run("z", "drill", later),
                run("a", "leaked", later),
                run("b", "leaked", None),
            ]
        };
        assert_eq!(newest_of(all(), "leaked").as_deref(), Some("a"));
        assert_eq!(newest_of(all(), "no"), None);
        let untimed = vec![run("a", "leaked", None), run("b", "leaked", None)];
        assert_eq!(newest_of(untimed, "leaked").as_deref(), Some("a"));
    }
}
