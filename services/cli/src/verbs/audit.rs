//! `audit export`, `audit prove` and `audit verify`. Verification happens here, from the export alone: every record
//! against its leaf hash, the tree over them against the checkpoint, the checkpoint against the key. Of a running server
//! the records are read as they come, so that a log of any size is verified.

pub(super) mod offline;
pub(super) mod online;
pub(super) mod proof;
pub(super) mod since;
mod sink;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Display, Path, PathBuf};

use keywheel_journal::merkle::Hash;
use keywheel_schemas::api::{AuditExport, AuditRetentionView};
use serde::Serialize;

use self::offline::Finding;
use super::{Desk, input};
use crate::backup::fetch;
use crate::exit::{Exit, Failure};
use crate::http::MAX_ANSWER_BYTES;
use crate::output::table::fields;
use crate::output::{Screen, tame};

const EXPORT: &str = "/v1/audit/export";
/// An export has a quotation mark in so many bytes, if it has many: two for a hash or a record, which are longer.
const BYTES_PER_QUOTE: usize = 16;
/// So many are never too many.
const FEW_QUOTES: usize = 64 * 1024;
const RETENTION: &str = "/v1/audit/retention";

pub(super) async fn export(
    desk: &Desk,
    (from, to): (Option<u64>, Option<u64>),
    file: Option<&Path>,
) -> Result<(), Failure> {
    refuse_taken(file)?;
    let parts = [("from", from), ("to", to)].into_iter();
    let part = |(name, number): (&str, Option<u64>)| Some(format!("{name}={}", number?));
    let query: Vec<String> = parts.filter_map(part).collect();
    let path = match query.is_empty() {
        true => EXPORT.to_owned(),
        false => format!("{EXPORT}?{}", query.join("&")),
    };
    let export: AuditExport = desk.client.read_long(&path).await?;
    let Some(file) = written(desk.screen, &export, file)? else {
        return Ok(());
    };
    desk.screen.note(&format!(
        "{} records written to {file}; `keywheel audit verify --file {file}` verifies them without a server",
        export.records.len()
    ));
    if let Some(gone) = gone(export.removed_hashes.len() as u64) {
        desk.screen.note(&gone);
    }
    Ok(())
}

/// Which records are no longer there; nothing where all are.
pub(super) fn gone(begins: u64) -> Option<String> {
    let last = begins.checked_sub(1)?;
    Some(format!(
        "records 0 to {last} were removed from the journal by their age; their leaf hashes are there, the records at the sinks and in exports of before"
    ))
}

/// `audit retention`: what became of old records, and what would become of them next.
pub(super) async fn retention(desk: &Desk) -> Result<(), Failure> {
    let view: AuditRetentionView = desk.client.read(RETENTION).await?;
    desk.screen.show(&view, retention_words)
}

fn retention_words(view: &AuditRetentionView) -> String {
    let keep = match &view.keep {
        Some(keep) => format!("{keep}, by `audit.keep_records` of the gateway"),
        None => "for ever: `audit.keep_records` is not set at the gateway".to_owned(),
    };
    let there = format!("{} to {}", view.begins, view.size.saturating_sub(1));
    let mut rows = vec![("kept", keep), ("records there", there)];
    if let Some(last) = view.begins.checked_sub(1) {
        rows.push((
            "removed",
            format!("0 to {last}; their leaf hashes are there"),
        ));
    }
    if view.removable > 0 {
        let last = view.begins.saturating_add(view.removable) - 1;
        rows.push((
            "old enough",
            format!("{} to {last}: they leave next", view.begins),
        ));
    }
    if let Some(waits) = &view.waits {
        rows.push(("they stay for now", waits.clone()));
    }
    if let Some(next) = &view.next {
        rows.push(("the next are at", next.clone()));
    }
    fields(&rows)
}

/// Refuses a file that is there, before anything is asked: an older export shows what a newer one cannot.
fn refuse_taken(file: Option<&Path>) -> Result<(), Failure> {
    let next = "give a name that is not taken with --file: an export or a proof replaces nothing";
    file.map_or(Ok(()), |file| fetch::refuse_taken(file, next))
}

/// Writes an answer as JSON, to a file or to stdout; says to which file.
fn written<'a>(
    screen: Screen,
    answer: &impl Serialize,
    file: Option<&'a Path>,
) -> Result<Option<Display<'a>>, Failure> {
    let mut text = serde_json::to_vec_pretty(answer).map_err(|error| {
        Failure::new(
            Exit::Unexpected,
            format!("the answer has no JSON form: {error}"),
            "report this fault of keywheel",
        )
    })?;
    text.push(b'\n');
    let Some(file) = file else {
        screen.write(&text)?;
        return Ok(None);
    };
    write_whole(file, &text)?;
    Ok(Some(file.display()))
}

/// Writes beside and renames, so that nobody finds half an export. What stands there already, as somebody else may put it
/// into a directory that all may write to, is not followed.
pub(super) fn write_whole(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = Path::new(&beside);
    let _it_need_not_be_there = std::fs::remove_file(beside);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(beside);
    let written = written.and_then(|mut out| out.write_all(bytes).and_then(|()| out.sync_all()));
    written
        .and_then(|()| std::fs::rename(beside, file))
        .map_err(|error| {
            let _ = std::fs::remove_file(beside);
            Failure::new(
                Exit::CannotCreate,
                format!("cannot write {}: {error}", file.display()),
                "name a file in a directory that exists and that you may write to",
            )
        })
}

/// What others kept of the log, with which it is compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elsewhere<'a> {
    /// Files of a sink, or exports of before.
    pub(super) against: &'a [PathBuf],
    /// A checkpoint of before.
    pub(super) since: Option<&'a Path>,
}

pub(super) async fn verify(
    desk: &Desk,
    key: Option<&str>,
    elsewhere: Elsewhere<'_>,
) -> Result<(), Failure> {
    let kept = sink::look(elsewhere.against)?;
    let since = elsewhere.since.map(since::read).transpose()?;
    let wanted = online::Wanted {
        part: online::PART_RECORDS,
        keeps_leaves: since.is_some() || !kept.is_empty(),
    };
    let finding = match online::verify(desk, key, wanted).await? {
        Some(online::Read { finding, leaves }) => {
            let finding = match &since {
                Some(kept) => since::compare_leaves(&leaves, finding, kept),
                None => finding,
            };
            compared(&leaves, finding, &kept)?
        }
        // What others kept of records that are gone is held against their hashes, which an export has; and an older
        // server shows nothing else.
        None => {
            let export: AuditExport = desk.client.read_long(EXPORT).await?;
            found(&export, key, (&kept, since.as_ref()))?
        }
    };
    conclude(desk.screen, &finding)
}

/// With what the sinks say, where some were named; a log of which nothing was read is not said to lack their records.
fn compared(leaves: &[Hash], finding: Finding, against: &[sink::Kept]) -> Result<Finding, Failure> {
    let is_unread = !finding.verified && leaves.is_empty();
    match against.is_empty() || is_unread {
        true => Ok(finding),
        false => sink::compare(leaves, finding, against),
    }
}

pub(super) fn verify_file(
    screen: Screen,
    file: &Path,
    key: Option<&str>,
    elsewhere: Elsewhere<'_>,
) -> Result<(), Failure> {
    let export = read_export(file)?;
    let kept = sink::look(elsewhere.against)?;
    let since = elsewhere.since.map(since::read).transpose()?;
    conclude(screen, &found(&export, key, (&kept, since.as_ref()))?)
}

/// Reads what `audit export` wrote.
fn read_export(file: &Path) -> Result<AuditExport, Failure> {
    let text = input::text(file, MAX_ANSWER_BYTES, input::ANOTHER)?;
    let strange = |why: String| {
        Failure::new(
            Exit::Unverified,
            format!("{} is not an export of the audit: {why}", file.display()),
            "make one with `keywheel audit export --file FILE`",
        )
    };
    if !has_strings_of_an_export(text.as_bytes()) {
        return Err(strange(
            "it has more and shorter texts than one has".to_owned(),
        ));
    }
    serde_json::from_str(&text).map_err(|error| strange(error.to_string()))
}

/// Whether there are no more texts than in an export: of empty ones a small file has so many that they fill the memory.
fn has_strings_of_an_export(text: &[u8]) -> bool {
    let (mut quotes, mut is_escaped) = (0_usize, false);
    for byte in text {
        match (is_escaped, byte) {
            (true, _) => is_escaped = false,
            (false, b'\\') => is_escaped = true,
            (false, b'"') => quotes = quotes.saturating_add(1),
            (false, _) => {}
        }
    }
    quotes <= FEW_QUOTES.max(text.len() / BYTES_PER_QUOTE)
}

fn found(
    export: &AuditExport,
    key: Option<&str>,
    (against, since): (&[sink::Kept], Option<&since::Kept>),
) -> Result<Finding, Failure> {
    let finding = offline::verify(export, key)?;
    let finding = match since {
        Some(kept) => since::compare(export, finding, kept)?,
        None => finding,
    };
    if export.part.is_some() && !against.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "the export is a part of the audit, and a sink is compared with all of it",
            "export it whole: `keywheel audit export --file FILE`",
        ));
    }
    match against.is_empty() {
        true => Ok(finding),
        false => sink::compare(&offline::leaves(export), finding, against),
    }
}

fn conclude(screen: Screen, finding: &Finding) -> Result<(), Failure> {
    screen.show(finding, words)?;
    if finding.verified {
        return Ok(());
    }
    let fault = finding.faults.first().map_or("", String::as_str);
    Err(match fault == sink::NOTHING_COMPARED {
        true => Failure::new(
            Exit::Unverified,
            fault,
            "name a file that has records; where a sink's file should have some, keep it as it is and look who emptied it",
        ),
        false => Failure::new(
            Exit::Unverified,
            format!("the audit does not verify: {fault}"),
            next(finding, fault),
        ),
    })
}

/// What is done about it.
fn next(finding: &Finding, fault: &str) -> &'static str {
    match finding.since {
        Some(_) => since::next(fault, finding.names_other_key),
        None if finding.names_other_key => offline::OTHER_KEY,
        None => {
            "keep this export, the sinks' files and the data directory as they are; `keywheel audit verify --file OLDER` says whether an older export is sound, and --against OLDER compares with it"
        }
    }
}

/// How many; of a part which, for it shows nothing of what is before and behind it.
fn records(finding: &Finding) -> String {
    let count = finding.records;
    finding.part.map_or_else(
        || count.to_string(),
        |part| {
            let last = part.first.saturating_add(count as u64).saturating_sub(1);
            format!(
                "{count}, numbers {} to {last} of {}; nothing is shown of the others",
                part.first, part.of
            )
        },
    )
}

fn words(finding: &Finding) -> String {
    let key = if finding.key_pinned {
        format!("{} (as you gave it)", finding.public_key)
    } else {
        format!(
            "{} (as the log itself names it; write it down and give it as --public-key)",
            finding.public_key
        )
    };
    let verdict = match (finding.verified, finding.part) {
        (false, _) => "NO",
        (true, None) => "yes: every record, the tree over them and its signature",
        (true, Some(_)) => {
            "yes, of this part: its records, their places in the tree and the signature over that"
        }
    };
    let mut text = fields(&[
        ("verified", verdict.to_owned()),
        ("records", records(finding)),
        ("log", finding.origin.clone()),
        ("root", finding.root.clone()),
        ("signed by", key),
    ]);
    if let Some(gone) = finding.removed.and_then(|removed| gone(removed as u64)) {
        text.push_str(&fields(&[("removed", gone)]));
    }
    if let Some(since) = finding.since.filter(|_| finding.verified) {
        let goes_on = format!("the {since} records of the checkpoint that was kept are its first");
        text.push_str(&fields(&[("goes on", goes_on)]));
    }
    if let Some(compared) = finding.compared {
        let lines = match (compared, finding.compared_from) {
            (0, _) => "none: there is no record in what was named".to_owned(),
            (_, None) => format!("{compared} records of the sink"),
            (_, Some(first)) => format!(
                "{compared} records of the sink, from number {first} on; nothing is shown of those before it"
            ),
        };
        text.push_str(&fields(&[("compared", lines)]));
    }
    for fault in &finding.faults {
        text.push_str(&format!("fault: {}\n", tame(fault)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_longer_there_is_said_wherever_it_is_asked_for() {
        let said = words(&offline::verify(&offline::tests::without(4, 9, true), None).unwrap());
        assert!(said.contains("records 0 to 3 were removed"), "{said}");
        assert_eq!(gone(0), None);
        let view = AuditRetentionView {
            keep: Some("400d".to_owned()),
            begins: 512,
            size: 2000,
            removable: 256,
            next: Some("2027-01-01T00:00:00Z".to_owned()),
            waits: Some("only 0 of the 1 audit sinks".to_owned()),
        };
        let said = retention_words(&view);
        for part in [
            "400d",
            "0 to 511",
            "512 to 767",
            "only 0 of",
            "2027",
            "512 to 1999",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let all = AuditRetentionView {
            keep: None,
            begins: 0,
            removable: 0,
            next: None,
            waits: None,
            ..view
        };
        let said = retention_words(&all);
        assert!(
            said.contains("for ever") && !said.contains("removed"),
            "{said}"
        );
    }

    #[test]
    fn a_file_of_very_many_empty_texts_is_refused_before_they_fill_the_memory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("export.json");
        let (whole, _) = offline::tests::export(500);
        let text = serde_json::to_string_pretty(&whole).unwrap();
        std::fs::write(&file, &text).unwrap();
        assert_eq!(read_export(&file).unwrap(), whole);
        let hostile = |count: usize| {
            let empty = vec![String::new(); count];
            let changed = AuditExport {
                records: empty,
                ..whole.clone()
            };
            std::fs::write(&file, serde_json::to_string(&changed).unwrap()).unwrap();
            read_export(&file)
        };
        assert_eq!(
            hostile(9).unwrap().records.len(),
            9,
            "it is for the check of it"
        );
        let refused = hostile(FEW_QUOTES).unwrap_err();
        assert_eq!(refused.exit, Exit::Unverified);
        assert!(refused.what.contains("shorter texts"), "{refused}");
        // What is escaped is in a text, and begins none.
        let escaped = serde_json::to_string(&"\"".repeat(FEW_QUOTES * 2)).unwrap();
        assert!(has_strings_of_an_export(escaped.as_bytes()));
    }

    #[test]
    fn a_link_beside_what_is_written_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("ours"), "kept").unwrap();
        let beside = format!("export.json.{}.new", std::process::id());
        std::os::unix::fs::symlink(at("ours"), at(&beside)).unwrap();
        write_whole(&at("export.json"), b"written").unwrap();
        assert_eq!(std::fs::read(at("ours")).unwrap(), b"kept");
        assert_eq!(std::fs::read(at("export.json")).unwrap(), b"written");
        assert!(
            std::fs::symlink_metadata(at("export.json"))
                .unwrap()
                .is_file()
        );
    }

    #[test]
    fn an_empty_comparison_is_no_success_and_no_alarm_about_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("empty.jsonl");
        std::fs::write(&empty, "").unwrap();
        let kept = sink::look(&[empty]).unwrap();
        let (whole, _) = offline::tests::export(3);
        let finding = found(&whole, None, (&kept, None)).unwrap();
        let screen = Screen::of_terminal(crate::args::Format::Json);
        let failure = conclude(screen, &finding).unwrap_err();
        assert_eq!(failure.exit, Exit::Unverified);
        assert!(
            failure.what.starts_with("nothing was compared"),
            "{failure}"
        );
        assert!(
            !failure.to_string().contains("does not verify"),
            "{failure}"
        );
    }

    #[test]
    fn a_log_of_which_nothing_was_read_is_not_said_to_lack_what_a_sink_has() {
        let directory = tempfile::tempdir().unwrap();
        let older = directory.path().join("older.json");
        let (whole, _) = offline::tests::export(3);
        std::fs::write(&older, serde_json::to_string_pretty(&whole).unwrap()).unwrap();
        let kept = sink::look(&[older]).unwrap();
        let leaves = offline::leaves(&whole);
        let finding = offline::verify(&whole, None).unwrap();
        let held = compared(&leaves, finding.clone(), &kept).unwrap();
        assert!(held.verified && held.compared == Some(3), "{held:?}");
        let other = offline::tests::export(1).0.public_key;
        let unread = offline::verify(&whole, Some(&other)).unwrap();
        assert!(!unread.verified);
        assert_eq!(compared(&[], unread.clone(), &kept).unwrap(), unread);
        let lacking = compared(&[], finding, &kept).unwrap();
        assert_eq!(lacking.first_bad_index, Some(0), "{lacking:?}");
    }

    #[test]
    fn whoever_gave_another_key_is_told_where_the_right_one_is_had() {
        let (whole, _) = offline::tests::export(3);
        let other = offline::tests::export(1).0.public_key;
        let screen = Screen::of_terminal(crate::args::Format::Json);
        let ended = |key: &str| {
            let finding = found(&whole, Some(key), (&[], None)).unwrap();
            conclude(screen, &finding).map_err(|failure| failure.next.unwrap())
        };
        assert_eq!(ended(&whole.public_key), Ok(()));
        assert_eq!(ended(&other).unwrap_err(), offline::OTHER_KEY);
        let mut changed = whole.clone();
        changed.records[1].push(' ');
        let finding = found(&changed, Some(&changed.public_key), (&[], None)).unwrap();
        let next = conclude(screen, &finding).unwrap_err().next.unwrap();
        assert!(next.contains("--against OLDER"), "{next}");
    }

    #[test]
    fn a_part_is_never_taken_for_the_whole_audit() {
        let (whole, _) = offline::tests::export(9);
        let said = words(&offline::verify(&whole, None).unwrap());
        assert!(said.contains("every record"), "{said}");
        let said = words(&offline::verify(&offline::tests::part(9, 3..6), None).unwrap());
        assert!(
            said.contains("of this part") && said.contains("3, numbers 3 to 5 of 9;"),
            "{said}"
        );
        assert!(!said.contains("every record"), "{said}");
    }
}
