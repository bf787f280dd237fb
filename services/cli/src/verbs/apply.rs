//! `apply`: a manifest goes to the daemon as it is; all of it is good, or nothing is done.

use keywheel_schemas::api::{ApplyAnswer, ApplyRequest, MAX_BODY_BYTES};

use super::{Desk, input};
use crate::args::ApplyArgs;
use crate::exit::{Exit, Failure};
use crate::output::views;

/// Longest manifest, in bytes; JSON escapes may double it on the way.
pub(crate) const MAX_MANIFEST_BYTES: usize = MAX_BODY_BYTES / 2;

pub(super) async fn apply(desk: &Desk, args: &ApplyArgs) -> Result<(), Failure> {
    let source = input::name(&args.file);
    let request = ApplyRequest {
        manifests: input::text(&args.file, MAX_MANIFEST_BYTES, input::SPLIT)?,
        source: source.clone(),
        dry_run: args.dry_run,
        no_check: args.no_check,
    };
    let answer: ApplyAnswer = desk
        .client
        .change_by_input("/v1/apply", &request)
        .await
        .map_err(|failure| explain(failure, &source))?;
    desk.screen.show(&answer, |answer| {
        views::applied(answer, args.dry_run, desk.screen.color)
    })
}

/// Several faults get a line above them that counts them.
fn explain(failure: Failure, source: &str) -> Failure {
    if failure.exit != Exit::Input {
        return failure;
    }
    let faults = failure.what.lines().count();
    let what = match faults {
        0 | 1 => failure.what.clone(),
        _ => format!(
            "{source} has {faults} faults, nothing was applied\n{}",
            failure.what
        ),
    };
    Failure { what, ..failure }.with_next(
        "correct the manifest and apply it again; `keywheel apply --dry-run` only checks",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_faults_are_counted_and_listed() {
        let failure = Failure {
            exit: Exit::Input,
            what: "m.yaml:1:2: a\nm.yaml:3:4: b".to_owned(),
            next: None,
        };
        let text = explain(failure, "m.yaml").to_string();
        assert!(text.starts_with("error: m.yaml has 2 faults, nothing was applied\n  m.yaml:1:2: a\n  m.yaml:3:4: b\n"), "{text}");
        let other = Failure {
            exit: Exit::NotFound,
            what: "x".to_owned(),
            next: None,
        };
        assert_eq!(explain(other.clone(), "m.yaml"), other);
    }
}
