//! `migrate`: a container recreated once under the runtime, its plaintext variables replaced by
//! placeholders, their values taken into secrets; everything else as it was.
//!
//! A person's act on the container's own machine, by whoever may use Docker there: rule H3 (only the
//! injector holds the engine's socket) is about what keeps running, and this ends with its run.
//! Invariants: everything that can be refused is refused before anything is changed; a value goes from
//! the engine's answer into an envelope for store-sync, and nowhere else.

mod endpoints;
mod engine;
mod equal;
mod grant;
mod json;
mod look;
mod recreate;
mod swap;
mod take;
mod words;

#[cfg(test)]
mod tests;

use std::time::Duration;

use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_schemas::api::{ApplyAnswer, ApplyRequest, HostPage};

use self::engine::Engine;
use self::look::Case;
use self::swap::{Interrupt, Pair};
use super::revoke::require_person;
use super::{Desk, secret, waiting};
use crate::args::{MigrateArgs, WaitArgs};
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::Screen;

/// How long a value may take to become a secret's version.
const PUT: Duration = Duration::from_secs(120);
/// How long the host's plan is waited for; a start asks for it once more by itself.
const PLAN: Duration = Duration::from_secs(5);
/// How often the host is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(100);
/// Where the bindings come from, for error texts.
const SOURCE: &str = "the binding of this migration";

pub(super) async fn migrate(desk: &Desk, args: &MigrateArgs) -> Result<(), Failure> {
    secret::harden()?;
    let wishes = take::wishes(&args.env, &args.use_current)?;
    let engine = Engine::here()?;
    let case = look::look(desk, &engine, args, wishes).await?;
    if args.dry_run {
        return words::show(desk.screen, &case, None, "nothing was changed");
    }
    desk.screen.note(&words::plan(&case));
    agree(desk.screen, args)?;
    let interrupt = Interrupt::listen()?;
    let env = case.env.with_placeholders(&case.wishes);
    let pair = swap::create(&engine, &case.names, &case.about, &case.recreation, env).await?;
    let mut made = Made::default();
    let given = give(desk, &case, &interrupt, &mut made).await;
    let done = match given {
        Err(failure) => Err(swap::discard(&engine, &pair, failure).await),
        Ok(()) => swap::swap(&engine, &pair, case.gate, &interrupt).await,
    };
    match done {
        Ok(()) => end(desk, &engine, &case, &pair).await,
        Err(failure) => Err(take_back(desk, failure, &made).await),
    }
}

async fn end(desk: &Desk, engine: &Engine, case: &Case, pair: &Pair) -> Result<(), Failure> {
    let finished = swap::finish(engine, pair).await;
    words::show(desk.screen, case, Some(&pair.new), "migrated")?;
    finished
}

fn agree(screen: Screen, args: &MigrateArgs) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    require_person(screen, "migrate")?;
    match screen
        .ask("Recreate the container like this? [y/N]")?
        .as_str()
    {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(
            Exit::Usage,
            "nothing was done",
            "answer `y` to go on",
        )),
    }
}

/// What was made on the way, to be taken back or named.
#[derive(Debug, Default)]
struct Made {
    /// Secrets that have a value now.
    secrets: Vec<String>,
    /// Bindings that were not there before.
    bindings: Vec<String>,
}

/// The values become versions, and the bindings grant them.
async fn give(
    desk: &Desk,
    case: &Case,
    interrupt: &Interrupt,
    made: &mut Made,
) -> Result<(), Failure> {
    for (name, value) in &case.values {
        interrupt.heed()?;
        let begun = secret::provide(desk, name, value).await?;
        made.secrets.push(name.to_string());
        let wait = WaitArgs {
            wait: true,
            timeout: PUT,
        };
        waiting::rotation_quietly(desk, &begun.rotation_id, &wait).await?;
    }
    interrupt.heed()?;
    if case.bindings.each.is_empty() {
        return Ok(());
    }
    let answer = apply(desk, case.bindings.text(), false).await?;
    let created = answer.results.into_iter();
    let created = created.filter(|applied| applied.action != "unchanged");
    made.bindings.extend(created.map(|applied| applied.name));
    wait_plan(desk, &case.host).await
}

async fn apply(desk: &Desk, manifests: String, dry_run: bool) -> Result<ApplyAnswer, Failure> {
    let request = ApplyRequest {
        manifests,
        source: SOURCE.to_owned(),
        dry_run,
        no_check: false,
    };
    desk.client.change_by_input("/v1/apply", &request).await
}

/// Waits until the host follows its newest plan, for a while.
async fn wait_plan(desk: &Desk, host: &str) -> Result<(), Failure> {
    let clock = SystemClock::new();
    let path = format!("/v1/hosts/{}", escape(host));
    while clock.monotonic() < PLAN {
        let page: HostPage = desk.client.read(&path).await?;
        if page.host.lag == Some(0) {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Bindings of a migration that failed would name a container that cannot follow them.
async fn take_back(desk: &Desk, failure: Failure, made: &Made) -> Failure {
    let mut what = failure.what.clone();
    for name in &made.bindings {
        let path = format!("/v1/bindings/{}", escape(name));
        if let Err(left) = desk.client.remove::<ApplyAnswer>(&path).await {
            what.push_str(&format!("\nbinding {name} is left: {}", left.what));
        }
    }
    let mut next = failure.next.clone();
    if !made.secrets.is_empty() {
        what.push_str(&format!(
            "\nthe values are in the sealed store already, as {}",
            made.secrets.join(", ")
        ));
        let flags = made.secrets.iter();
        let flags: Vec<String> = flags.map(|name| format!("--use-current {name}")).collect();
        let again = format!("repeat it with {}", flags.join(" "));
        next = Some(match next {
            Some(next) => format!("{next}; then {again}"),
            None => again,
        });
    }
    Failure {
        what,
        next,
        ..failure
    }
}
