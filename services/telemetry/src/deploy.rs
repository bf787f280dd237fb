//! What `deploy/` has for those who watch: alert rules and their tests, a dashboard, and the pages that
//! explain both and the spans. All made from [`crate::names`], [`crate::traces::names`] and [`alerts`], by `bin/generate-deploy`.
//!
//! Invariant: a test fails when what is checked in is not what would be written, or names a metric that
//! is none.

pub mod alerts;
mod dashboard;
mod pages;
mod rules;

/// A file below `deploy/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path below `deploy/`.
    pub path: &'static str,
    /// All of it.
    pub text: String,
}

/// Every file.
#[must_use]
pub fn files() -> Vec<File> {
    let file = |path, text| File { path, text };
    vec![
        file("prometheus/keywheel.rules.yml", rules::rules()),
        file("prometheus/keywheel.test.yml", rules::tests()),
        file("grafana/keywheel.json", dashboard::dashboard()),
        file("docs/metrics.md", pages::metrics()),
        file("docs/alerts.md", pages::alerts()),
        file("docs/traces.md", pages::traces()),
    ]
}

#[cfg(test)]
mod tests;
