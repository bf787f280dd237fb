//! Every alert: when it fires, for how long, what it means and what a person does then; with examples
//! that fire and some that do not, from which the rules' own tests are made.
//!
//! Invariants: whatever a setting permits keeps an alert quiet as long as all is well; the first time
//! of something counts, also where its series was not there before.

mod hosts;
mod journal;
mod playbooks;
mod secrets;
mod services;
mod stores;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Somebody looks now.
    Critical,
    /// Somebody looks today.
    Warning,
}

impl Severity {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// A series and its values, one a minute, as `promtool` writes them.
pub type Series = (&'static str, &'static str);

/// A label's name and value.
pub type Label = (&'static str, &'static str);

/// What there is, and whether the alert has fired after [`EXAMPLE_MINUTES`].
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// What it shows, after the alert's name.
    pub name: &'static str,
    /// What Prometheus has read.
    pub series: &'static [Series],
    /// Whether it fires.
    pub fires: bool,
    /// With which labels, when they are others than the alert's.
    pub labels: Option<&'static [Label]>,
}

/// What a person reads who was woken by it.
#[derive(Debug, Clone, Copy)]
pub struct Runbook {
    /// What it means.
    pub means: &'static str,
    /// What works, and what does not.
    pub affected: &'static str,
    /// How to look, step by step.
    pub look: &'static [&'static str],
    /// What to do, step by step.
    pub act: &'static [&'static str],
}

/// An alert.
#[derive(Debug, Clone, Copy)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// When it fires.
    pub when: &'static str,
    /// After how many minutes of that.
    pub minutes: u32,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, in a line.
    pub what: &'static str,
    /// What a person does, in a line.
    pub next: &'static str,
    /// Its page.
    pub runbook: Runbook,
    /// With which labels it fires in its examples.
    pub labels: &'static [Label],
    /// When it fires and when not.
    pub examples: &'static [Example],
}

/// How long the examples last: longer than every alert waits.
pub const EXAMPLE_MINUTES: u32 = 60;

const fn fires(name: &'static str, series: &'static [Series]) -> Example {
    Example {
        name,
        series,
        fires: true,
        labels: None,
    }
}

/// One that fires with other labels than the alert's other examples.
const fn fires_as(
    name: &'static str,
    labels: &'static [Label],
    series: &'static [Series],
) -> Example {
    Example {
        labels: Some(labels),
        ..fires(name, series)
    }
}

const fn quiet(name: &'static str, series: &'static [Series]) -> Example {
    Example {
        name,
        series,
        fires: false,
        labels: None,
    }
}

/// All of them, in the order of their pages.
pub fn all() -> impl Iterator<Item = &'static Alert> {
    let groups = [
        services::DOWN,
        secrets::ALL,
        playbooks::ALL,
        hosts::ALL,
        services::ALL,
        stores::ALL,
        journal::ALL,
    ];
    groups.into_iter().flatten()
}
