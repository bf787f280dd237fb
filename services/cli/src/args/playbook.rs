//! `playbook …` as clap reads it.

use clap::{Args, Subcommand};

use super::WaitArgs;

/// `playbook …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PlaybookVerb {
    /// List the playbooks.
    #[command(after_help = "Example:\n  keywheel playbook list -o json")]
    List,
    /// Show one: what it has to be told, and its steps.
    #[command(after_help = "Example:\n  keywheel playbook describe leaked-credential")]
    Describe {
        /// The playbook.
        name: String,
    },
    /// Check one against what there is now: names, and what would refuse a step.
    #[command(
        after_help = "Example:\n  keywheel playbook validate leaked-credential --set secret=prod/db\n\nIt ends with 4 when something is in the way."
    )]
    Validate(PlanArgs),
    /// Show what a run would do, step by step. Nothing is begun.
    #[command(
        after_help = "Example:\n  keywheel playbook plan compromised-host --set host=web-1\n\nIt ends with 4 when something is in the way."
    )]
    Plan(PlanArgs),
    /// Run one.
    #[command(
        after_help = "Examples:\n  keywheel playbook run leaked-credential --set secret=prod/db --reason \"ticket 4711\" --wait\n  keywheel playbook run compromised-host --set host=web-1 --reason stolen --yes\n\nIt shows the plan and asks before it begins. A run goes on by itself, also after a crash. With\n--wait it ends with 0 when every step is done, with 4 when not."
    )]
    Run(RunArgs),
    /// List runs: open ones first, the newest first.
    #[command(after_help = "Example:\n  keywheel playbook runs -o json")]
    Runs,
    /// Show one run: where each step stands, what it began, who approved.
    #[command(after_help = "Example:\n  keywheel playbook describe-run 0190c8f0-…")]
    DescribeRun {
        /// Its id.
        #[arg(value_name = "ID")]
        run: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Approve what a run waits for. Who started the run may not.
    #[command(
        after_help = "Example:\n  keywheel playbook approve 0190c8f0-… --reason \"seen the alert\""
    )]
    Approve(ApproveArgs),
    /// Begin nothing more of a run for now. Deadlines of its steps go on.
    #[command(
        after_help = "Example:\n  keywheel playbook pause 0190c8f0-… --reason \"the store is being moved\""
    )]
    Pause(StepInArgs),
    /// Let a paused run go on.
    #[command(
        after_help = "Example:\n  keywheel playbook resume 0190c8f0-… --reason \"the store is back\""
    )]
    Resume(StepInArgs),
    /// End a run. What it began goes on by itself.
    #[command(
        after_help = "Example:\n  keywheel playbook cancel 0190c8f0-… --reason \"false alarm\"\n\n`keywheel rotation abort` gives up a rotation that it began."
    )]
    Cancel(StepInArgs),
    /// List containers in quarantine: cut off, paused or stopped by a step, and given nothing.
    #[command(after_help = "Example:\n  keywheel playbook quarantines -o json")]
    Quarantines,
    /// Lift the quarantine of a container: it is given again what its bindings say.
    #[command(
        after_help = "Example:\n  keywheel playbook lift web-7 --reason \"looked at, and clean\"\n\nWhat was done to it stays: `docker unpause`, `docker network connect` or `docker start` undo it."
    )]
    Lift {
        /// The container, by its name, or its id or the beginning of that.
        container: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let a playbook be run no more. Runs that are open go on.
    #[command(after_help = "Example:\n  keywheel playbook remove old-drill --yes")]
    Remove {
        /// The playbook.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// `playbook plan` and `playbook validate`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The playbook.
    pub(crate) name: String,
    /// What a run is told; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub(crate) settings: Vec<(String, String)>,
}

/// `playbook run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) plan: PlanArgs,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `playbook approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    #[command(flatten)]
    pub(crate) step_in: StepInArgs,
    /// The step, where several wait.
    #[arg(long, value_name = "NAME")]
    pub(crate) step: Option<String>,
}

/// `playbook pause`, `resume` and `cancel`.
#[derive(Debug, Args)]
pub(crate) struct StepInArgs {
    /// Id of the run.
    #[arg(value_name = "ID")]
    pub(crate) run: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
