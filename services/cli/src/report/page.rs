//! The page of a report: HTML that needs nothing from elsewhere, runs nothing, and prints.
//!
//! Invariants: markup is written by [`Html::markup`] alone, which takes only what stands in this program; all else goes
//! through [`Html::text`], which escapes. The same report always gives the same page, so a page that was changed is
//! found by making it anew.

mod html;
mod runs;
mod short;
mod spans;

use keywheel_schemas::api::{EvidenceReport, EvidenceSummary, ReportConsumer, ReportEntry};
use serde_json::Value;

use self::html::Html;
use self::spans::{instant, moment, passed, percentiles};
use super::text::embedded;

/// How a page begins.
pub(super) const DOCTYPE: &str = "<!doctype html>\n";
/// What stands before the report in its page.
pub(super) const BEGIN: &str = "<script type=\"application/json\" id=\"keywheel-report\">\n";
/// What stands behind it.
pub(super) const END: &str = "\n</script>\n";

const HEAD: &str = "<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n";
const STYLE: &str = include_str!("page/style.css");
/// Digits of a container's id that people know.
const SHORT_ID: usize = 12;
/// Characters of an image's digest that are shown: `sha256:` and twelve digits.
const SHORT_DIGEST: usize = 19;

/// Makes the page.
///
/// # Errors
/// When the report has no JSON form, which none of ours lacks.
pub(crate) fn page(report: &EvidenceReport) -> Result<String, serde_json::Error> {
    let told = report.summary.clone().unwrap_or_default();
    let mut html = Html::default();
    html.markup(DOCTYPE);
    html.markup(HEAD);
    html.element("title", &format!("{} of {}", title(report), told.name));
    html.markup("<style>\n");
    html.markup(STYLE);
    html.markup("</style>\n</head>\n<body>\n");
    header(&mut html, report, &told);
    short::in_short(&mut html, report, &told);
    marks(&mut html, &told);
    runs::steps(&mut html, &told);
    runs::approvals(&mut html, &told);
    radius(&mut html, &told);
    consumers(&mut html, &told.consumers);
    proof(&mut html, &told);
    people(&mut html, &told);
    timeline(&mut html, &told);
    records(&mut html, report);
    how_to_verify(&mut html, report);
    html.markup(BEGIN);
    html.safe(&embedded(report)?);
    html.markup(END);
    html.markup("</body>\n</html>\n");
    Ok(html.done())
}

fn title(report: &EvidenceReport) -> &'static str {
    match report.kind.as_str() {
        "revocation" => "Revocation",
        "rotation" => "Rotation",
        "host" => "Eviction",
        "playbook-run" => "Playbook run",
        _ => "Run",
    }
}

fn header(html: &mut Html, report: &EvidenceReport, told: &EvidenceSummary) {
    html.markup("<header>\n<p class=\"kind\">Keywheel evidence report</p>\n");
    html.element("h1", &format!("{} of {}", title(report), told.name));
    html.markup("<dl>\n");
    let utc = |text: &str| format!("{} UTC", instant(text));
    let (begun, made) = (utc(&told.begun), utc(&told.made));
    for (term, text) in [
        ("State", told.state.as_str()),
        ("Reason", told.reason.as_str()),
        ("Proof of death", told.proof.as_str()),
        ("Begun", begun.as_str()),
        ("Report made", made.as_str()),
        ("Made for", told.made_for.as_str()),
        ("Id", report.id.as_str()),
    ] {
        if !text.is_empty() {
            html.element("dt", term);
            html.element("dd", text);
        }
    }
    html.markup("</dl>\n</header>\n");
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

fn at(time: Option<&String>) -> String {
    time.map_or_else(|| "not yet".to_owned(), |time| instant(time))
}

fn after(micros: Option<u64>) -> String {
    // A number stays with its unit.
    micros.map_or_else(String::new, |micros| passed(micros).replace(' ', "\u{a0}"))
}

fn marks(html: &mut Html, told: &EvidenceSummary) {
    let rows = told.marks.iter().map(|mark| {
        vec![
            mark.what.clone(),
            at(mark.at.as_ref()),
            after(mark.after_us),
            number(mark.event),
        ]
    });
    html.section(
        "Milestones",
        &["What", "When (UTC)", "After", "Event"],
        rows,
    );
}

fn radius(html: &mut Html, told: &EvidenceSummary) {
    let rows = told.secrets.iter().map(|one| {
        vec![
            one.secret.clone(),
            one.version.to_string(),
            one.resource.clone(),
            one.outcome.clone(),
            one.at.as_deref().map(instant).unwrap_or_default(),
            after(one.after_us),
            number(one.event),
        ]
    });
    let heads = [
        "Secret",
        "Version",
        "Opens",
        "Now",
        "Since (UTC)",
        "After",
        "Event",
    ];
    html.section("Blast radius: secrets", &heads, rows);
    let rows = told.hosts.iter().map(|one| {
        vec![
            one.host.clone(),
            one.outcome.clone(),
            one.at.as_deref().map(instant).unwrap_or_default(),
            after(one.after_us),
            number(one.event),
        ]
    });
    let heads = ["Host", "What it said", "When (UTC)", "After", "Event"];
    html.section("Blast radius: hosts that might hold it", &heads, rows);
}

fn consumers(html: &mut Html, consumers: &[ReportConsumer]) {
    let rows = consumers.iter().map(|one| {
        vec![
            one.host.clone(),
            format!("{} ({})", one.name, cut(&one.container, SHORT_ID)),
            cut(&one.image, SHORT_DIGEST),
            one.binding.clone(),
            one.secret.clone(),
            one.version
                .map_or_else(|| "none".to_owned(), |version| version.to_string()),
            one.outcome.clone(),
            after(one.after_us),
            number(one.event),
        ]
    });
    let heads = [
        "Host",
        "Container",
        "Image",
        "Binding",
        "Secret",
        "Had",
        "What became of it",
        "After",
        "Event",
    ];
    html.section("Blast radius: containers", &heads, rows);
    if let Some(line) = percentiles(consumers.iter().filter_map(|one| one.after_us)) {
        html.element("p", &line);
    }
}

/// The beginning of an id; whole where it is no longer.
fn cut(id: &str, most: usize) -> String {
    id.chars().take(most).collect()
}

fn proof(html: &mut Html, told: &EvidenceSummary) {
    if told.proof.is_empty() {
        return;
    }
    html.element("h2", "Proof of death");
    html.element("p", &told.proof);
    runs::proofs(html, told);
    // A run of one secret has its name in its heading.
    let of_several = told.logins.iter().any(|one| !one.secret.is_empty());
    let rows = told.logins.iter().map(|one| {
        let mut row = vec![
            one.version.to_string(),
            one.place.clone(),
            instant(&one.at),
            answer_words(&one.answer),
            one.event.to_string(),
        ];
        if of_several {
            row.insert(0, one.secret.clone());
        }
        row
    });
    let mut heads = vec!["Version", "Where", "When (UTC)", "Answer", "Event"];
    if of_several {
        heads.insert(0, "Secret");
    }
    html.table(&heads, rows);
}

/// A class of answer with what it means.
fn answer_words(answer: &str) -> String {
    let means = match answer {
        "wrong_password" => "the server refused the password",
        "no_login" => "the server lets this account log in no more",
        "refused" => "the server refused the login",
        "accepted" => "LET IN",
        "lease_gone" => "the store has the lease no more",
        "lease_alive" => "the store HAS the lease still",
        _ => return answer.to_owned(),
    };
    format!("{answer}: {means}")
}

fn people(html: &mut Html, told: &EvidenceSummary) {
    let rows = told.people.iter().map(|one| {
        vec![
            instant(&one.at),
            one.who.clone(),
            one.verb.clone(),
            one.object.clone(),
            one.outcome.clone(),
            one.reason.clone(),
            one.record.to_string(),
        ]
    });
    let heads = [
        "When (UTC)",
        "Who",
        "Asked for",
        "On",
        "Answer",
        "Reason",
        "Record",
    ];
    html.section("People", &heads, rows);
}

fn timeline(html: &mut Html, told: &EvidenceSummary) {
    let row = |one: &ReportEntry| vec![moment(&one.at), one.what.clone(), one.event.to_string()];
    html.section(
        "Timeline",
        &["When (UTC)", "What", "Event"],
        told.timeline.iter().map(row),
    );
}

fn records(html: &mut Html, report: &EvidenceReport) {
    let of = |value: &Value, name: &str| {
        let text = value.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let events = report.events.iter().map(|signed| {
        let event: Value = serde_json::from_str(&signed.event).unwrap_or_default();
        vec![
            of(&event, "sequence"),
            moment(&of(&event, "time")),
            of(&event, "type"),
            of(&event, "subject"),
        ]
    });
    let heads = ["Event", "When (UTC)", "Type", "Subject"];
    html.section("Signed events in this report", &heads, events);
    let records = report.records.iter().map(|given| {
        let record: Value = serde_json::from_str(&given.record).unwrap_or_default();
        vec![
            given.index.to_string(),
            moment(&of(&record, "time")),
            of(&record, "verb"),
            of(&record, "object"),
            of(&record, "outcome"),
        ]
    });
    let heads = ["Record", "When (UTC)", "Verb", "Object", "Answer"];
    html.section(
        "Audit records in this report, the last one its seal",
        &heads,
        records,
    );
}

fn how_to_verify(html: &mut Html, report: &EvidenceReport) {
    html.element("h2", "How to verify it");
    html.element(
        "p",
        "This file holds every event and audit record that it shows, as they were signed. No server is needed:",
    );
    html.element("pre", "keywheel report verify FILE --key PUBLIC-KEY");
    html.element(
        "p",
        "Take the public key from where you wrote it down; one that comes with a report proves nothing. Verifying checks the signature of each event, the way of each audit record to the root of the signed checkpoint, that none was left out, put in or moved since the report was made, and that this page shows what they say and nothing else. It does not show what happened later, and times are those of the gateway's clock.",
    );
    html.markup("<dl>\n");
    for (term, text) in [
        ("Log", &report.origin),
        ("Key that signed, by its own word", &report.public_key),
    ] {
        html.element("dt", term);
        html.element("dd", text);
    }
    html.markup("</dl>\n");
    html.element("pre", &report.checkpoint);
}
