//! A run as people read it: one line for whatever happened, with ids cut short. Decides nothing.

use keywheel_core::command::Command;
use keywheel_core::effect::{Effect, Work};
use keywheel_core::report::{Fact, HostReport};
use keywheel_engine::port::journal::RecordedEvent;

use crate::container::Wanted;
use crate::gateway::{Answer, Fault};
use crate::invariants::Broken;
use crate::sim::Message;
use crate::store::{Failure, StoreFault};

/// A text whose ids have their ends only.
pub(crate) fn short(text: &str) -> String {
    let mut shortened = String::with_capacity(text.len());
    let mut run = String::new();
    for letter in text.chars() {
        if letter.is_ascii_hexdigit() || letter == '-' {
            run.push(letter);
            continue;
        }
        end_run(&mut shortened, &mut run);
        shortened.push(letter);
    }
    end_run(&mut shortened, &mut run);
    shortened
}

fn end_run(shortened: &mut String, run: &mut String) {
    let (first, last) = match run.len() {
        36 => (2, 4),
        64 => (0, 4),
        length => (length, 0),
    };
    shortened.push_str(&run[..first]);
    if last > 0 {
        shortened.push('~');
        shortened.push_str(&run[run.len() - last..]);
    }
    run.clear();
}

pub(crate) fn submitted(
    command: &Command,
    fault: Fault,
    answer: &Result<Answer, Broken>,
) -> String {
    let said = match answer {
        Ok(Answer::Lost) => "lost",
        Ok(Answer::Accepted) => "accepted",
        Ok(Answer::Refused) => "refused",
        Err(_) => "broke a rule",
    };
    let fault = match fault {
        Fault::None => String::new(),
        other => format!(" ({other:?})"),
    };
    format!("gateway{fault}: {}: {said}", of_command(command))
}

fn of_command(command: &Command) -> String {
    match command {
        Command::Report(report) => of_report(report),
        Command::Apply(declarations) => short(&format!("apply {declarations:?}")),
        other => short(&format!("{other:?}")),
    }
}

fn of_report(report: &HostReport) -> String {
    let facts = report.items.iter().map(|item| {
        let fact = match &item.fact {
            Fact::Swapped { version, .. } => format!("swapped v{version}"),
            Fact::Reloaded { version, .. } => format!("reloaded v{version}"),
            other => format!("{other:?}"),
        };
        format!(
            "{}/{} {}: {fact}",
            item.container, item.binding, item.secret
        )
    });
    let facts: Vec<String> = facts.collect();
    let holds = report.holds.iter();
    let holds: Vec<String> = holds
        .map(|(secret, version)| format!("{secret} v{version}"))
        .collect();
    let whole = if report.complete { "complete " } else { "" };
    let orders = report.orders.iter().flatten();
    let orders: Vec<String> = orders
        .map(|told| format!("#{} {:?}", told.number, told.state))
        .collect();
    let orders = match orders.is_empty() {
        true => String::new(),
        false => format!(", of orders {orders:?}"),
    };
    short(&format!(
        "{whole}report of {} on plan {}: {facts:?}, holds {holds:?}, has {:?}{orders}",
        report.host, report.generation, report.containers
    ))
}

pub(crate) fn appended(recorded: &RecordedEvent) -> String {
    short(&format!("    #{} {:?}", recorded.number, recorded.event))
}

pub(crate) fn message(message: &Message) -> String {
    let text = match message {
        Message::Command(submission) => of_command(&submission.command),
        Message::Work(effect) => of_effect(effect),
        Message::Plan(n, plan) => format!("plan {} for host {n}", plan.generation),
        Message::AskPlan(n, _) => format!("host {n} asks for its plan"),
        Message::Report(n, _) => format!("a report of host {n}"),
        Message::Answered(n, _) => format!("the answer to a report of host {n}"),
        Message::AskValue(n, _, wanted) => format!("host {n} asks for {:?}", wanted.value),
        Message::Value(n, _, value) => format!("{value:?} for host {n}"),
        Message::Tell(number) => format!("what #{number} tells a receiver"),
    };
    short(&text)
}

fn of_effect(effect: &Effect) -> String {
    match &effect.work {
        Work::Step(work) => format!(
            "{:?} of rotation {} (attempt {}, versions {:?})",
            work.step, work.rotation, work.attempt, work.versions
        ),
        Work::Revoke(work) => format!(
            "{:?} of revocation {} (attempt {}, versions {:?})",
            work.part, work.revocation, work.attempt, work.versions
        ),
    }
}

pub(crate) fn performed(effect: &Effect, fault: StoreFault, failure: Option<Failure>) -> String {
    let said = failure.map_or("done", |failure| failure.reason);
    let fault = match fault {
        StoreFault::None => String::new(),
        other => format!(" ({other:?})"),
    };
    short(&format!("store-sync{fault}: {}: {said}", of_effect(effect)))
}

pub(crate) fn started(
    n: usize,
    place: usize,
    started: &Result<Vec<Wanted>, &'static str>,
) -> String {
    match started {
        Ok(given) => {
            let given: Vec<_> = given.iter().map(|one| one.value).collect();
            short(&format!("host {n}: container {place} starts on {given:?}"))
        }
        Err(reason) => format!("host {n}: container {place} does not start: {reason}"),
    }
}
