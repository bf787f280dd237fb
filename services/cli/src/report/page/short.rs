//! What a report comes to in a few lines, for whoever was not there: what died, when, how long it took, by whom, who is
//! waited for. Nothing is told here that a table of the page does not have.

use keywheel_schemas::api::{EvidenceReport, EvidenceSummary, ReportSecret};

use super::html::Html;
use super::spans::{instant, passed, percentiles};

/// Most that are named in one line; the tables have all.
const MOST_NAMED: usize = 5;

/// Milestones that say since when all that was to die is dead at its store.
const DEATHS: [&str; 3] = [
    "the store confirmed",
    "every store confirmed",
    "all that it may hold is dead",
];
/// Milestones that say since when it is known whether a login is refused.
const PROOFS: [&str; 2] = ["proven dead by a login", "of each it is known"];

/// Writes the lines.
pub(super) fn in_short(html: &mut Html, report: &EvidenceReport, told: &EvidenceSummary) {
    html.markup("<section class=\"short\">\n");
    html.element("h2", "In short");
    html.markup("<ul>\n");
    for line in lines(report, told) {
        html.element("li", &line);
    }
    html.markup("</ul>\n</section>\n");
}

fn lines(report: &EvidenceReport, told: &EvidenceSummary) -> Vec<String> {
    let mut lines = vec![begun(report, told)];
    lines.extend(score(told));
    lines.extend(dead(report, told));
    lines.extend(alive(report, told));
    lines.extend(containers(told));
    lines.extend(hosts(told));
    lines.extend(people(told));
    lines
}

fn begun(report: &EvidenceReport, told: &EvidenceSummary) -> String {
    let what = match report.kind.as_str() {
        "host" => "The host was evicted".to_owned(),
        _ => {
            let begun = told
                .marks
                .iter()
                .find(|mark| mark.what.starts_with("begun"));
            let begun = begun.map_or("begun", |mark| mark.what.as_str());
            format!("It was {begun}")
        }
    };
    let ended = told.marks.last().and_then(|mark| mark.after_us);
    let ended = match ended {
        Some(after) => format!("{}, {} later", told.state, passed(after)),
        None => told.state.clone(),
    };
    format!("{what} at {} UTC; now: {ended}.", instant(&told.begun))
}

fn score(told: &EvidenceSummary) -> Option<String> {
    let score = told.score.as_ref()?;
    Some(format!(
        "Score: {} of {} rotations and revocations came to a good end by its end, {} %.",
        score.through, score.targets, score.percent
    ))
}

/// Whether a version is one that was to die.
fn is_to_die(report: &EvidenceReport, told: &EvidenceSummary, one: &ReportSecret) -> bool {
    match report.kind.as_str() {
        "playbook-run" => {
            let mut proofs = told.proofs.iter();
            proofs.any(|proof| (&proof.secret, proof.version) == (&one.secret, one.version))
        }
        // Its newest one is what it makes.
        "rotation" => told.secrets.iter().any(|other| other.version > one.version),
        _ => true,
    }
}

fn version_words(one: &ReportSecret) -> String {
    match one.resource.is_empty() {
        true => format!("{} version {}", one.secret, one.version),
        false => format!("{} version {} ({})", one.secret, one.version, one.resource),
    }
}

/// Names a few, and says how many more there are.
fn named(all: &[String]) -> String {
    let few = all.iter().take(MOST_NAMED).map(String::as_str);
    let few: Vec<&str> = few.collect();
    match all.len().saturating_sub(MOST_NAMED) {
        0 => few.join(", "),
        more => format!("{}, and {more} more", few.join(", ")),
    }
}

fn dead(report: &EvidenceReport, told: &EvidenceSummary) -> Option<String> {
    let dead = told
        .secrets
        .iter()
        .filter(|one| one.outcome != super::super::marks::ALIVE && is_to_die(report, told, one));
    let words: Vec<String> = dead.map(version_words).collect();
    if words.is_empty() {
        return None;
    }
    let since = mark_after(told, &DEATHS).map(|after| format!(", {after} after the beginning"));
    let shown =
        mark_after(told, &PROOFS).map(|after| format!(", known {after} after the beginning"));
    let proof = match told.proof.is_empty() {
        true => String::new(),
        false => format!(
            " Proof of death: {}{}.",
            told.proof,
            shown.unwrap_or_default()
        ),
    };
    let named = named(&words);
    Some(match since {
        Some(since) => format!("Dead: {named}{since}.{proof}"),
        None => format!(
            "Given to no host any more, but NOT confirmed dead at its store: {named}.{proof}"
        ),
    })
}

/// How long it took to reach the first of these milestones that there is.
fn mark_after(told: &EvidenceSummary, whats: &[&str]) -> Option<String> {
    let mark = whats
        .iter()
        .find_map(|what| told.marks.iter().find(|mark| mark.what.starts_with(what)));
    mark.and_then(|mark| mark.after_us).map(passed)
}

fn alive(report: &EvidenceReport, told: &EvidenceSummary) -> Option<String> {
    let alive = told
        .secrets
        .iter()
        .filter(|one| one.outcome == super::super::marks::ALIVE && is_to_die(report, told, one));
    let words: Vec<String> = alive.map(version_words).collect();
    (!words.is_empty()).then(|| format!("NOT dead: {}.", named(&words)))
}

fn containers(told: &EvidenceSummary) -> Option<String> {
    let all = &told.consumers;
    let open = all.iter().filter(|one| one.event.is_none());
    let open: Vec<String> = open
        .map(|one| format!("{} on {} ({})", one.name, one.host, one.outcome))
        .collect();
    let line = percentiles(all.iter().filter_map(|one| one.after_us));
    let line = match (all.len(), line) {
        (0, _) => return Some("No container had it.".to_owned()),
        (_, Some(line)) => line,
        (count, None) => format!("{count} containers had it."),
    };
    match open.len() {
        0 => Some(line),
        count => Some(format!("{line} Not through: {count}, {}.", named(&open))),
    }
}

fn hosts(told: &EvidenceSummary) -> Option<String> {
    let open = told.hosts.iter().filter(|one| one.event.is_none());
    let open: Vec<String> = open.map(|one| one.host.clone()).collect();
    (!open.is_empty()).then(|| format!("Hosts that did not say that it is gone: {}.", named(&open)))
}

fn people(told: &EvidenceSummary) -> Option<String> {
    let mut who: Vec<String> = Vec::new();
    let approved = told.approvals.iter().map(|one| {
        format!(
            "{} approved step {} after {}",
            one.who,
            one.step,
            passed(one.after_us)
        )
    });
    let asked = told.people.iter().filter(|one| one.outcome == "allowed");
    let asked = asked.map(|one| format!("{} asked for {}", one.who, one.verb));
    for line in asked.chain(approved) {
        if !who.contains(&line) {
            who.push(line);
        }
    }
    (!who.is_empty()).then(|| format!("People: {}.", named(&who)))
}
