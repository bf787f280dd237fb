//! Waiting for an end: long polls until it is there or the person's patience is over.

use std::time::Duration;

use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock;
use keywheel_schemas::api::{PlaybookRunView, RevocationView, RotationView};
use serde::de::DeserializeOwned;

use super::Desk;
use crate::args::WaitArgs;
use crate::exit::{Exit, Failure};
use crate::output::progress::{self, Progress, Standing};
use crate::output::{playbooks, revocations, views};
use crate::span;

/// Longest wait of one request when somebody watches.
const LIVE_POLL: Duration = Duration::from_secs(1);
/// The same when lines are written for each change.
const PLAIN_POLL: Duration = Duration::from_secs(5);

/// How an aborted rotation is to end.
pub(super) const ROLLED_BACK: &str = "rolled_back";
/// How every other one is to end.
pub(super) const COMPLETED: &str = "completed";

/// What can be waited for.
pub(super) trait Awaited: DeserializeOwned {
    /// Whether nothing changes any more.
    fn is_final(&self) -> bool;
    /// How it stands, in words.
    fn standing(&self) -> String;
    /// The same, with a line for each that takes part.
    fn view(&self) -> Standing {
        Standing {
            headline: self.standing(),
            rows: Vec::new(),
        }
    }
}

impl Awaited for RotationView {
    fn is_final(&self) -> bool {
        matches!(
            self.state.as_str(),
            "completed" | "parked" | "rolled_back" | "cancelled"
        )
    }
    fn standing(&self) -> String {
        progress::rotation(self)
    }
    fn view(&self) -> Standing {
        progress::standing(self)
    }
}

impl Awaited for RevocationView {
    fn is_final(&self) -> bool {
        self.state == "closed"
    }
    fn standing(&self) -> String {
        progress::revocation(self)
    }
}

impl Awaited for PlaybookRunView {
    fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "failed" | "cancelled")
    }
    fn standing(&self) -> String {
        playbooks::standing(self)
    }
}

/// Waits; the last view, final or not.
async fn until_final<T: Awaited>(
    desk: &Desk,
    path: &str,
    wait: &WaitArgs,
    again: &str,
) -> Result<T, Failure> {
    let clock = SystemClock::new();
    let mut shown = Progress::begin(desk.screen);
    let most = match desk.screen.live {
        true => LIVE_POLL,
        false => PLAIN_POLL,
    };
    loop {
        let left = wait.timeout.saturating_sub(clock.monotonic());
        let poll = left.min(most);
        let seconds = poll.as_secs() + u64::from(poll.subsec_nanos() > 0);
        let read = desk.client.read(&format!("{path}?wait={seconds}")).await;
        let view: T = read.map_err(|failure: Failure| match failure.exit {
            Exit::Unavailable => failure.with_next(format!(
                "it goes on when keywheel is up again; then: {again}"
            )),
            _ => failure,
        })?;
        if view.is_final() || clock.monotonic() >= wait.timeout {
            return Ok(view);
        }
        shown.say(view.view());
    }
}

/// Shows a rotation that was begun, after waiting for it when that was asked for.
pub(super) async fn rotation(
    desk: &Desk,
    begun: RotationView,
    wait: &WaitArgs,
) -> Result<(), Failure> {
    rotation_to(desk, begun, wait, &[COMPLETED]).await
}

/// The same for one that is to end in one of these states.
pub(super) async fn rotation_to(
    desk: &Desk,
    begun: RotationView,
    wait: &WaitArgs,
    wanted: &[&str],
) -> Result<(), Failure> {
    let again = format!("`keywheel describe rotation {}`", begun.rotation_id);
    if !wait.wait {
        desk.screen
            .show(&begun, |begun| views::rotation(begun, desk.screen.color))?;
        if !desk.screen.is_json() {
            desk.screen.note(&format!(
                "it goes on by itself; {again} shows how it stands, --wait waits for its end"
            ));
        }
        return Ok(());
    }
    let path = format!("/v1/rotations/{}", begun.rotation_id);
    let view: RotationView = until_final(desk, &path, wait, &again).await?;
    desk.screen
        .show(&view, |view| views::rotation(view, desk.screen.color))?;
    ending(&view, wait.timeout, &again, wanted)
}

/// Waits for a rotation that was begun by something else, which showed what there is to show.
pub(super) async fn rotation_quietly(
    desk: &Desk,
    id: &str,
    wait: &WaitArgs,
) -> Result<(), Failure> {
    let again = format!("`keywheel describe rotation {id}`");
    let path = format!("/v1/rotations/{id}");
    let view: RotationView = until_final(desk, &path, wait, &again).await?;
    ending(&view, wait.timeout, &again, &[COMPLETED])
}

/// How a rotation's view ends the run.
fn ending(
    view: &RotationView,
    timeout: Duration,
    again: &str,
    wanted: &[&str],
) -> Result<(), Failure> {
    let RotationView {
        secret,
        version,
        state,
        ..
    } = view;
    let next = match state.as_str() {
        state if wanted.contains(&state) => return Ok(()),
        "parked" => view.next_step.clone().unwrap_or_else(|| {
            format!(
                "see above what it waits for; once that is mended, `keywheel rotate {secret}` tries again"
            )
        }),
        COMPLETED => format!("the new value is in use; {again} shows since when"),
        "rolled_back" => format!("the value from before is in use again; {again} shows why"),
        "cancelled" => format!(
            "another command took its place; `keywheel describe secret {secret}` shows what is in use"
        ),
        _ => format!("it goes on by itself; {again} shows how it stands"),
    };
    let what = if view.is_final() {
        format!(
            "the rotation of {secret} to version {version} ended as {state}, {} consumers acknowledged",
            views::acknowledged(view)
        )
    } else {
        format!(
            "the rotation of {secret} to version {version} is not through after {}: {state}, {} consumers acknowledged",
            span::words(timeout),
            views::acknowledged(view)
        )
    };
    Err(Failure::new(Exit::Partial, what, next))
}

/// Shows a revocation that was begun, after waiting for it when that was asked for.
pub(super) async fn revocation(
    desk: &Desk,
    begun: RevocationView,
    wait: &WaitArgs,
) -> Result<(), Failure> {
    let again = format!("`keywheel describe revocation {}`", begun.revocation_id);
    if !wait.wait {
        desk.screen.show(&begun, revocations::revocation)?;
        if !desk.screen.is_json() {
            desk.screen.note(&format!(
                "it goes on by itself; {again} shows how it stands, --wait waits for its end"
            ));
        }
        return Ok(());
    }
    let path = format!("/v1/revocations/{}", begun.revocation_id);
    let view: RevocationView = until_final(desk, &path, wait, &again).await?;
    desk.screen.show(&view, revocations::revocation)?;
    if view.is_final() {
        return Ok(());
    }
    let what = format!(
        "the revocation of {} is not through after {}: {}",
        view.secret,
        span::words(wait.timeout),
        view.standing()
    );
    Err(Failure::new(Exit::Partial, what, after(&view, &again)))
}

/// What to do about a revocation that is not through.
fn after(view: &RevocationView, again: &str) -> String {
    match (&view.next_step, view.state.as_str()) {
        (Some(next), _) => next.clone(),
        (None, "awaiting_replacement") => format!("what it waits for, {again} shows"),
        (None, _) => format!("no host gets it any more; {again} shows who may still hold it"),
    }
}

/// How revocations that were begun stand once all are through, or when the time is over. One that nobody can be
/// asked about stays as it was known last, and the others are waited for all the same; the first failure is told.
pub(super) async fn revocation_ends(
    desk: &Desk,
    begun: &mut [RevocationView],
    wait: &WaitArgs,
) -> Result<(), Failure> {
    if !wait.wait {
        return Ok(());
    }
    let clock = SystemClock::new();
    let mut first = Ok(());
    for view in begun {
        let again = format!("`keywheel describe revocation {}`", view.revocation_id);
        let path = format!("/v1/revocations/{}", view.revocation_id);
        let left = WaitArgs {
            timeout: wait.timeout.saturating_sub(clock.monotonic()),
            ..wait.clone()
        };
        match until_final(desk, &path, &left, &again).await {
            Ok(ended) => *view = ended,
            Err(failure) => first = first.and(Err(failure)),
        }
    }
    first
}

/// Shows a run of a playbook, after waiting for its end when that was asked for.
pub(super) async fn playbook_run(
    desk: &Desk,
    begun: PlaybookRunView,
    wait: &WaitArgs,
) -> Result<(), Failure> {
    let again = format!("`keywheel playbook describe-run {}`", begun.run_id);
    let show = |run: &PlaybookRunView| playbooks::run(run, desk.screen.color);
    if !wait.wait {
        desk.screen.show(&begun, show)?;
        if !desk.screen.is_json() && !begun.is_final() {
            desk.screen.note(&format!(
                "it goes on by itself; {again} shows how it stands, --wait waits for its end"
            ));
        }
        return Ok(());
    }
    let path = format!("/v1/playbook-runs/{}", begun.run_id);
    let view: PlaybookRunView = until_final(desk, &path, wait, &again).await?;
    desk.screen.show(&view, show)?;
    let (what, next) = match (view.is_final(), view.state.as_str()) {
        (_, COMPLETED) => return Ok(()),
        (true, state) => (
            format!("the run of playbook {} ended as {state}", view.playbook),
            "see above which step and why; what it began goes on by itself".to_owned(),
        ),
        (false, _) => (
            format!(
                "the run of playbook {} is not through after {}: {}",
                view.playbook,
                span::words(wait.timeout),
                view.standing()
            ),
            format!("it goes on by itself; {again} shows how it stands"),
        ),
    };
    Err(Failure::new(Exit::Partial, what, next))
}

#[cfg(test)]
mod tests {
    use keywheel_schemas::api::{RevocationStates, RotationTimings};

    use super::*;

    #[test]
    fn only_a_completed_rotation_is_a_success() {
        for (state, ok, is_final) in [
            ("completed", true, true),
            ("parked", false, true),
            ("rolled_back", false, true),
            ("cancelled", false, true),
            ("distributing", false, false),
            ("of_the_future", false, false),
        ] {
            let view = RotationView {
                rotation_id: "r".to_owned(),
                secret: "a/b".to_owned(),
                version: 2,
                state: state.to_owned(),
                trigger: "on_demand".to_owned(),
                waiting_for: Vec::new(),
                dying: Vec::new(),
                next_step: None,
                timings: RotationTimings::default(),
                consumers: Vec::new(),
            };
            assert_eq!(view.is_final(), is_final, "{state}");
            let undone = ending(&view, Duration::from_secs(300), "`x`", &[ROLLED_BACK]);
            assert_eq!(undone.is_ok(), state == ROLLED_BACK, "{state}");
            match ending(&view, Duration::from_secs(300), "`x`", &[COMPLETED]) {
                Ok(()) => assert!(ok, "{state}"),
                Err(failure) => {
                    assert!(!ok, "{state}");
                    assert_eq!(failure.exit, Exit::Partial);
                    assert_eq!(failure.what.contains("after 5 min"), !is_final, "{failure}");
                }
            }
        }
    }

    #[test]
    fn what_holds_a_revocation_up_is_told_before_what_it_shows_by_itself() {
        let mut view = RevocationView {
            revocation_id: "v".to_owned(),
            secret: "a/b".to_owned(),
            versions: vec![2],
            state: "running".to_owned(),
            backend: "asked".to_owned(),
            waiting_hosts: Vec::new(),
            reason: "leaked".to_owned(),
            withdrawn_ms: None,
            states: RevocationStates::default(),
            next_step: None,
        };
        assert!(after(&view, "`x`").starts_with("no host gets it any more; `x`"));
        view.state = "awaiting_replacement".to_owned();
        assert_eq!(after(&view, "`x`"), "what it waits for, `x` shows");
        view.next_step = Some("`keywheel unseal`".to_owned());
        assert_eq!(after(&view, "`x`"), "`keywheel unseal`");
    }
}
