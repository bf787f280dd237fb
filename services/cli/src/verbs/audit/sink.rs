//! `audit verify --against`: what a sink was told, or an export of before, compared with the log.
//!
//! What a success adds: every record that the sink or that export has is in the log, at its place and with its bytes.
//! So a log that was put back or written anew as a whole is found, which is sound in itself.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use keywheel_journal::merkle::{self, Hash};
use keywheel_journal::offline::sink::Comparison;
use keywheel_schemas::api::AuditExport;

use super::offline::{self, parse_hash};
use super::{Finding, read_export};
use crate::exit::{Exit, Failure};

/// Longest line of a sink's file that is read, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// How a database of SQLite begins, as the audit's second copy is one.
const DATABASE: &[u8] = b"SQLite format 3\0";
/// What may be named.
const TAKEN: &str = "name the file to which a sink of `type = \"file\"` writes, lines as another sink was told them, or what `keywheel audit export` wrote";
/// What is wrong where nothing is: no record was held against the log, so nothing is shown.
pub(super) const NOTHING_COMPARED: &str = "nothing was compared: there is no record in what was named, and the log is verified in itself alone";

/// What a sink had before the log was asked: what it is told afterwards is not in the answer.
pub(super) struct Kept {
    path: PathBuf,
    bytes: u64,
}

/// Looks how far the files are, and that none is a database, which has no lines.
pub(super) fn look(files: &[PathBuf]) -> Result<Vec<Kept>, Failure> {
    let kept = |path: &PathBuf| {
        let about = std::fs::metadata(path).map_err(|error| unread(path, &error))?;
        if about.is_file() && begin(path, DATABASE.len())? == DATABASE {
            return Err(database(path));
        }
        Ok(Kept {
            path: path.clone(),
            bytes: about.len(),
        })
    };
    files.iter().map(kept).collect()
}

fn unread(path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("cannot read {}: {error}", path.display());
    Failure::new(Exit::NoInput, what, TAKEN)
}

fn database(path: &Path) -> Failure {
    let what = format!(
        "{} is a SQLite database; --against takes the lines of a sink, one record each, or an export of before",
        path.display()
    );
    Failure::new(Exit::Input, what, TAKEN)
}

/// Adds to a finding what the sink says.
pub(super) fn compare(
    leaves: &[Hash],
    finding: Finding,
    files: &[Kept],
) -> Result<Finding, Failure> {
    let mut comparison = Comparison::with(leaves);
    let (mut fault, mut of_exports, mut removed) = (None, 0, 0);
    let mut first: Option<u64> = None;
    for file in files {
        fault = match is_export(&file.path)? {
            true => {
                let older = read_export(&file.path)?;
                of_exports += older.records.len() as u64;
                removed += older.removed_hashes.len();
                let begins = older.part.as_ref().map_or(0, |part| part.first);
                first = Some(first.map_or(begins, |known| known.min(begins)));
                of_export((leaves, &finding.public_key), &older, &file.path)?
            }
            false => of_file(&mut comparison, file)?,
        };
        if fault.is_some() {
            break;
        }
    }
    let held = comparison.lines() + of_exports;
    let nothing = held == 0 && removed == 0;
    let fault = fault.or_else(|| nothing.then(|| (None, NOTHING_COMPARED.to_owned())));
    let first = first.into_iter().chain(comparison.begins()).min();
    let mut finding = Finding {
        compared: Some(held),
        compared_from: first.filter(|first| *first > 0),
        ..finding
    };
    if let Some((index, text)) = fault {
        finding.verified = false;
        finding.first_bad_index = finding.first_bad_index.or(index);
        finding.faults.push(text);
    }
    Ok(finding)
}

/// The first bad record where one is named, and what is wrong.
type Fault = (Option<u64>, String);

/// Whether a file is what `audit export` writes, and no lines of a sink: these are a whole object each.
fn is_export(path: &Path) -> Result<bool, Failure> {
    Ok(begin(path, 2)? == b"{\n")
}

/// The first bytes of a file.
fn begin(path: &Path, bytes: usize) -> Result<Vec<u8>, Failure> {
    let unread = |error: std::io::Error| unread(path, &error);
    let mut begin = Vec::new();
    let file = File::open(path).map_err(unread)?;
    let mut first = file.take(bytes as u64);
    first.read_to_end(&mut begin).map_err(unread)?;
    Ok(begin)
}

/// An export of before: sound in itself by the same key, and its records are in the log, at their places.
fn of_export(
    (leaves, key): (&[Hash], &str),
    older: &AuditExport,
    path: &Path,
) -> Result<Option<Fault>, Failure> {
    let path = path.display();
    let own = offline::verify(older, Some(key))?;
    if let Some(fault) = own.faults.first() {
        return Ok(Some((own.first_bad_index, format!("{path}: {fault}"))));
    }
    let removed = older
        .removed_hashes
        .iter()
        .map(|hash| parse_hash(hash).unwrap_or_default());
    let records = older.records.iter();
    let records = records.map(|record| merkle::leaf_hash(record.as_bytes()));
    let first = older.part.as_ref().map_or(0, |part| part.first);
    for (index, leaf) in (first..).zip(removed.chain(records)) {
        let here = usize::try_from(index).ok().and_then(|at| leaves.get(at));
        let fault = match here {
            Some(here) if *here == leaf => continue,
            Some(_) => "is another one there: the log was written anew",
            None => "is there and not in the log: the log was cut or put back",
        };
        return Ok(Some((
            Some(index),
            format!("{path}: audit record {index} {fault}"),
        )));
    }
    Ok(None)
}

fn of_file(comparison: &mut Comparison<'_>, kept: &Kept) -> Result<Option<Fault>, Failure> {
    let path = &kept.path;
    let unread = |error: std::io::Error| unread(path, &error);
    let file = File::open(path).map_err(unread)?;
    let mut reader = BufReader::new(file).take(kept.bytes);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = reader.by_ref().take(MAX_LINE_BYTES);
        if bounded.read_until(b'\n', &mut line).map_err(unread)? == 0 {
            return Ok(None);
        }
        if line.pop_if(|last| *last == b'\n').is_none() {
            // A sink is writing it just now, or it is no line of a sink: the reader says which.
            let is_end = reader.fill_buf().map_err(unread)?.is_empty();
            if is_end && !is_whole(&line) {
                return Ok(None);
            }
        }
        if let Err(fault) = comparison.line(&line) {
            let text = format!("{}: {fault}", path.display());
            return Ok(Some((fault.index(), text)));
        }
    }
}

fn is_whole(line: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use keywheel_seal::sign::SigningKey;

    use super::*;
    use crate::verbs::audit::offline::tests::export;

    fn line(n: usize, record: &str) -> String {
        let leaf = offline::hexadecimal(&merkle::leaf_hash(record.as_bytes()));
        format!("{{\"sequence\":{n},\"leaf\":\"{leaf}\",\"record\":{record}}}\n")
    }

    /// A sink's files with the records of an export, some in each.
    fn files(directory: &tempfile::TempDir, records: &[String]) -> Vec<PathBuf> {
        let lines: Vec<String> = records
            .iter()
            .enumerate()
            .map(|(n, r)| line(n, r))
            .collect();
        let write = |(n, part): (usize, &[String])| {
            let path = directory.path().join(format!("{n}.jsonl"));
            std::fs::write(&path, part.concat()).unwrap();
            path
        };
        lines.chunks(4).enumerate().map(write).collect()
    }

    fn found(export: &AuditExport, files: &[PathBuf]) -> Finding {
        let finding = offline::verify(export, None).unwrap();
        assert!(finding.verified, "it is sound in itself: {finding:?}");
        let leaves = offline::leaves(export);
        compare(&leaves, finding, &look(files).unwrap()).unwrap()
    }

    #[test]
    fn a_sink_with_the_same_records_agrees() {
        let directory = tempfile::tempdir().unwrap();
        let (export, _) = export(10);
        let finding = found(&export, &files(&directory, &export.records));
        assert!(finding.verified, "{finding:?}");
        assert_eq!((finding.compared, finding.compared_from), (Some(10), None));
        // A file whose beginning is elsewhere shows nothing of that.
        let later = files(&directory, &export.records).split_off(1);
        let finding = found(&export, &later);
        assert!(finding.verified, "{finding:?}");
        assert_eq!(
            (finding.compared, finding.compared_from),
            (Some(6), Some(4))
        );
    }

    #[test]
    fn a_whole_log_that_was_put_back_is_found_and_its_first_missing_record_named() {
        let directory = tempfile::tempdir().unwrap();
        let (whole, _) = export(10);
        for size in [0, 1, 5, 9] {
            let (older, _) = export(size);
            let finding = found(&older, &files(&directory, &whole.records));
            assert!(!finding.verified);
            assert_eq!(finding.first_bad_index, Some(size as u64));
            assert!(finding.faults[0].contains("put back"), "{finding:?}");
        }
    }

    #[test]
    fn records_that_were_removed_are_compared_by_their_hashes() {
        let directory = tempfile::tempdir().unwrap();
        let export = offline::tests::without(4, 9, true);
        let whole = offline::tests::export(9).0.records;
        let finding = found(&export, &files(&directory, &whole));
        assert!(finding.verified, "{finding:?}");
        assert_eq!(finding.compared, Some(9));
        let mut other = whole;
        other[2].push(' ');
        let finding = found(&export, &files(&directory, &other));
        assert!(!finding.verified);
        assert_eq!(finding.first_bad_index, Some(2), "{finding:?}");
    }

    /// The same log, longer by some records, signed by the same key.
    fn grown(export: &AuditExport, key: &SigningKey, count: usize) -> AuditExport {
        let mut grown = export.clone();
        let more = (0..count).map(|n| format!("{{\"later\":{n}}}"));
        grown.records.extend(more);
        let records = grown.records.iter();
        grown.leaf_hashes = records
            .map(|record| offline::hexadecimal(&merkle::leaf_hash(record.as_bytes())))
            .collect();
        grown.checkpoint = offline::tests::signed(&grown.records, key);
        grown
    }

    #[test]
    fn an_export_of_before_is_the_beginning_of_the_log_or_the_first_other_record_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("older.json");
        let (older, key) = export(6);
        std::fs::write(&file, serde_json::to_vec_pretty(&older).unwrap()).unwrap();
        let against = std::slice::from_ref(&file);
        let finding = found(&grown(&older, &key, 3), against);
        assert!(
            finding.verified && finding.compared == Some(6),
            "{finding:?}"
        );
        // Put back to before it, and written anew.
        let mut shorter = older.clone();
        shorter.records.truncate(4);
        let mut other = older.clone();
        other.records[2].push(' ');
        for (changed, first, part) in [(shorter, 4, "put back"), (other, 2, "written anew")] {
            let finding = found(&grown(&changed, &key, 0), against);
            assert!(!finding.verified);
            assert_eq!(finding.first_bad_index, Some(first));
            assert!(finding.faults[0].contains(part), "{finding:?}");
        }
        // Another log's, and one that was changed itself.
        let (foreign, _) = export(6);
        assert!(!found(&foreign, against).verified);
        let mut changed = older.clone();
        changed.records[5].push(' ');
        std::fs::write(&file, serde_json::to_vec_pretty(&changed).unwrap()).unwrap();
        let finding = found(&older, against);
        assert!(
            !finding.verified && finding.first_bad_index == Some(5),
            "{finding:?}"
        );
    }

    #[test]
    fn a_line_that_is_being_written_is_no_fault_and_one_that_is_none_is() {
        let directory = tempfile::tempdir().unwrap();
        let (export, _) = export(3);
        let path = files(&directory, &export.records).remove(0);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let finding = found(&export, std::slice::from_ref(&path));
        assert!(
            finding.verified && finding.compared == Some(2),
            "{finding:?}"
        );
        std::fs::write(&path, "not a record\n").unwrap();
        let finding = found(&export, std::slice::from_ref(&path));
        assert!(!finding.verified && finding.first_bad_index.is_none());
        assert!(look(&[directory.path().join("nowhere")]).is_err());
    }

    #[test]
    fn a_database_is_no_lines_of_a_sink_and_is_told_so_before_anything_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit-sink.db");
        std::fs::write(&path, [DATABASE, &[16, 0, 1, 1]].concat()).unwrap();
        let failure = look(std::slice::from_ref(&path)).err().unwrap();
        assert_eq!(failure.exit, Exit::Input);
        assert!(failure.what.contains("is a SQLite database"), "{failure}");
        assert!(failure.what.contains("lines of a sink"), "{failure}");
        // What only begins like one is looked at line by line.
        std::fs::write(&path, "SQLite format 3 is what it says\n").unwrap();
        assert!(look(&[path]).is_ok());
    }

    #[test]
    fn a_sink_that_has_nothing_shows_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (export, _) = export(3);
        let file = files(&directory, &export.records).remove(0);
        let empty = directory.path().join("empty.jsonl");
        std::fs::write(&empty, "").unwrap();
        let finding = found(&export, std::slice::from_ref(&empty));
        assert!(!finding.verified && finding.compared == Some(0));
        assert_eq!(finding.faults, [NOTHING_COMPARED]);
        // Beside one that has records it is a file that was begun.
        let finding = found(&export, &[file, empty]);
        assert!(
            finding.verified && finding.compared == Some(3),
            "{finding:?}"
        );
    }

    #[test]
    fn what_a_sink_is_told_after_the_log_was_asked_is_no_fault() {
        let directory = tempfile::tempdir().unwrap();
        let (export, _) = export(3);
        let files = files(&directory, &export.records);
        let kept = look(&files).unwrap();
        let more = [std::fs::read_to_string(&files[0]).unwrap(), line(3, "{}")].concat();
        std::fs::write(&files[0], more).unwrap();
        let finding = offline::verify(&export, None).unwrap();
        let finding = compare(&offline::leaves(&export), finding, &kept).unwrap();
        assert!(
            finding.verified && finding.compared == Some(3),
            "{finding:?}"
        );
    }
}
