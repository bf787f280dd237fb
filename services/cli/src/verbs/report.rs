//! `report …`: asks for a run's evidence, tells it, writes it; and verifies what was written, without a server.

use std::path::{Path, PathBuf};

use keywheel_core::id::RotationId;
use keywheel_schemas::api::EvidenceReport;
use keywheel_schemas::mirror::TextForm as _;
use keywheel_seal::sign::VerifyingKey;

use super::audit::write_whole;
use super::{Desk, host, input, look, playbook};
use crate::args::{ReportArgs, ReportVerb};
use crate::exit::{Exit, Failure};
use crate::http::MAX_ANSWER_BYTES;
use crate::output::table::fields;
use crate::output::{Screen, tame};
use crate::report::{self, Fault, Finding, Kind};

/// Largest report that is read, in bytes: its page holds it twice, as JSON and in words.
const MAX_FILE_BYTES: usize = 2 * MAX_ANSWER_BYTES;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Page,
    Json,
}

pub(super) async fn run(desk: &Desk, verb: &ReportVerb) -> Result<(), Failure> {
    match verb {
        ReportVerb::Revocation(args) => write(desk, Kind::Revocation, args).await,
        ReportVerb::Rotation(args) => write(desk, Kind::Rotation, args).await,
        ReportVerb::Host(args) => write(desk, Kind::Host, args).await,
        ReportVerb::PlaybookRun(args) => write(desk, Kind::PlaybookRun, args).await,
        ReportVerb::Verify { file, key } => verify(desk.screen, file, key),
    }
}

async fn write(desk: &Desk, kind: Kind, args: &ReportArgs) -> Result<(), Failure> {
    let outs: Vec<(&PathBuf, Form)> = args
        .out
        .iter()
        .map(|file| form(file).map(|form| (file, form)))
        .collect::<Result<_, _>>()?;
    let id = id_of(desk, kind, &args.name).await?;
    let path = format!("/v1/reports/{}/{id}", kind.collection());
    let answer: EvidenceReport = desk.client.read_long(&path).await?;
    let whole = report::complete(answer).map_err(|fault| unproven(&fault))?;
    if outs.is_empty() {
        return desk.screen.write(text(&whole, Form::Json)?.as_bytes());
    }
    for (file, form) in outs {
        write_whole(file, text(&whole, form)?.as_bytes())?;
        let shown = file.display();
        desk.screen.note(&format!(
            "{} events and {} audit records written to {shown}; `keywheel report verify {shown} --key BASE64` verifies them without a server",
            whole.events.len(),
            whole.records.len()
        ));
    }
    Ok(())
}

/// What a file is to hold, by its ending.
fn form(file: &Path) -> Result<Form, Failure> {
    let ending = file.extension().and_then(|ending| ending.to_str());
    match ending {
        Some("html" | "htm") => Ok(Form::Page),
        Some("json") => Ok(Form::Json),
        _ => Err(Failure::new(
            Exit::Usage,
            format!("{} ends neither in .html nor in .json", file.display()),
            "name a file that does: a page for people, or JSON for programs",
        )),
    }
}

fn text(whole: &EvidenceReport, form: Form) -> Result<String, Failure> {
    let text = match form {
        Form::Page => report::page(whole),
        Form::Json => report::json(whole),
    };
    text.map_err(|error| {
        Failure::new(
            Exit::Unexpected,
            format!("the report has no JSON form: {error}"),
            "report this fault of keywheel",
        )
    })
}

/// The id that stands in the log: of old runs it is all that is known.
async fn id_of(desk: &Desk, kind: Kind, name: &str) -> Result<String, Failure> {
    if RotationId::parse(name).is_ok() {
        return Ok(name.to_owned());
    }
    match kind {
        Kind::Revocation => {
            let found = look::revocation_of(desk, name).await?;
            Ok(found.revocation_id)
        }
        Kind::Rotation => {
            let found = look::rotation_of(desk, name).await?;
            Ok(found.rotation_id)
        }
        Kind::Host => {
            let found = host::page(desk, name).await?;
            Ok(found.host.id)
        }
        Kind::PlaybookRun => playbook::newest_run(desk, name).await,
    }
}

fn unproven(fault: &Fault) -> Failure {
    Failure::new(
        Exit::Unverified,
        format!(
            "what the server answered does not prove itself: {}: {}",
            fault.record, fault.what
        ),
        "`keywheel journal verify` says whether the log is sound",
    )
}

pub(super) fn verify(screen: Screen, file: &Path, key: &str) -> Result<(), Failure> {
    let key = key_of(key)?;
    let text = input::text(file, MAX_FILE_BYTES, input::ANOTHER)?;
    let read = report::read(&text).map_err(|why| {
        Failure::new(
            Exit::Unverified,
            format!("{} is not a report: {why}", file.display()),
            "make one with `keywheel report revocation NAME --out FILE.html`",
        )
    })?;
    conclude(screen, &report::verify(&read, &key, Some(&text)))
}

fn key_of(text: &str) -> Result<VerifyingKey, Failure> {
    let wrong = |why: String| {
        Failure::new(
            Exit::Usage,
            format!("--key {why}"),
            "give the key as `keywheel audit verify` prints it",
        )
    };
    let bytes = <[u8; 32]>::parse_text(text.trim()).map_err(wrong)?;
    VerifyingKey::from_bytes(bytes).map_err(|error| wrong(format!("is no key: {error}")))
}

fn conclude(screen: Screen, found: &Finding) -> Result<(), Failure> {
    screen.show(found, words)?;
    if found.verified {
        return Ok(());
    }
    let faults = found.faults.iter();
    let faults: Vec<String> = faults
        .map(|fault| format!("{}: {}", tame(&fault.record), tame(&fault.what)))
        .collect();
    Err(Failure::new(
        Exit::Unverified,
        format!("the report is not proven\n{}", faults.join("\n")),
        "keep it as it is; ask for another one with `keywheel report`, and whoever gave you this one where it was",
    ))
}

fn words(found: &Finding) -> String {
    let verdict = match found.verified {
        true => "yes: every record, their seal, and what is told of them",
        false => "NO",
    };
    fields(&[
        ("verified", verdict.to_owned()),
        (
            "report on",
            format!("{} {} {}", found.kind, found.id, found.name),
        ),
        ("state", found.state.clone()),
        ("made", found.made.clone()),
        ("events", found.events.to_string()),
        ("audit records", found.records.to_string()),
        ("log", found.origin.clone()),
        (
            "signed by",
            format!("{} (as you gave it)", found.public_key),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::args::Format;
    use crate::report::tests::evidence;

    const GOOD: [Option<Exit>; 2] = [None; 2];

    /// What a report of both forms ends with, after a change of its text.
    fn ends(change: impl Fn(&str) -> String, key: &str) -> Vec<Option<Exit>> {
        let (report, _) = evidence();
        let dir = tempfile::tempdir().unwrap();
        let screen = Screen::of_terminal(Format::Json);
        let written = [("r.html", Form::Page), ("r.json", Form::Json)];
        let end = |(name, form): (&str, Form)| {
            let file = dir.path().join(name);
            let text = change(&text(&report, form).unwrap());
            write_whole(&file, text.as_bytes()).unwrap();
            verify(screen, &file, key).err().map(|failure| failure.exit)
        };
        written.into_iter().map(end).collect()
    }

    fn public_key() -> String {
        STANDARD.encode(evidence().1.verifying_key().to_bytes())
    }

    #[test]
    fn a_report_is_verified_without_a_server_and_a_broken_one_has_its_own_code() {
        let key = public_key();
        assert_eq!(ends(str::to_owned, &key), GOOD);
        let broken = [Some(Exit::Unverified), Some(Exit::Unverified)];
        let changes: [fn(&str) -> String; 4] = [
            |text| text.replacen("wrong_password", "refused", 1),
            |text| text.replacen("certificate ann", "certificate bob", 1),
            |text| text.chars().take(text.chars().count() / 2).collect(),
            |_| "{}".to_owned(),
        ];
        for change in changes {
            assert_eq!(ends(change, &key), broken);
        }
        let other = STANDARD.encode([7; 32]);
        assert_ne!(ends(str::to_owned, &other), GOOD);
        let usage = [Some(Exit::Usage), Some(Exit::Usage)];
        assert_eq!(ends(str::to_owned, "short"), usage);
        let nowhere = Path::new("/nonexistent/report.html");
        let missing = verify(Screen::of_terminal(Format::Table), nowhere, &key);
        assert_eq!(missing.unwrap_err().exit, Exit::NoInput);
    }

    #[test]
    fn a_file_says_by_its_ending_what_it_holds() {
        assert_eq!(form(Path::new("a.html")), Ok(Form::Page));
        assert_eq!(form(Path::new("a.json")), Ok(Form::Json));
        for other in ["a", "a.pdf", ".html"] {
            let refused = form(Path::new(other)).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{other}");
        }
    }
}
