//! `audit verify` of a running server: part by part, to the checkpoint, and the first bad record by its number.

use std::ops::Range;

use keywheel_journal::merkle::{self, Frontier, Hash};
use keywheel_schemas::api::{AUDIT_BEGINS, AuditExport, AuditProof};
use keywheel_seal::sign::SigningKey;

use super::*;
use crate::args::Format;
use crate::verbs::audit::offline;
use crate::verbs::audit::offline::tests::{export, signed, without};
use crate::verbs::audit::online::{Read, Wanted, verify};
use crate::verbs::audit::since::tests::answer as consistency;

/// Records of a part here.
const PART: u64 = 4;

/// What a server has.
struct Log {
    /// As they were logged, with the hashes that a server keeps of them, and the key.
    logged: AuditExport,
    key: SigningKey,
    /// What is there now, each with its number: somebody may have changed it.
    there: Vec<(u64, String)>,
    /// Records that it had when the checkpoint was signed first; each later look finds one more.
    size: usize,
    begins: u64,
    /// What it gives for its newest checkpoint, where that is another one.
    signs: Option<String>,
}

impl Log {
    fn new(count: usize) -> Self {
        let (logged, key) = export(count + 40);
        let there = (0..).zip(logged.records.clone()).collect();
        Self {
            logged,
            key,
            there,
            size: count,
            begins: 0,
            signs: None,
        }
    }

    /// The log when so many looks were on record.
    fn at(&self, looks: usize) -> AuditExport {
        let mut now = self.logged.clone();
        now.records.truncate(self.size + looks.min(40));
        now
    }

    fn leaves(&self, looks: usize) -> Vec<Hash> {
        let records = self.at(looks).records;
        let records = records.iter();
        records
            .map(|record| merkle::leaf_hash(record.as_bytes()))
            .collect()
    }

    fn proof(&self, index: usize, looks: usize) -> AuditProof {
        let leaves = self.leaves(looks);
        let at = |number: u64| usize::try_from(number).unwrap();
        let root = |range: Range<u64>| {
            let mut tree = Frontier::new();
            let own = &leaves[at(range.start)..at(range.end)];
            own.iter().for_each(|leaf| tree.push(*leaf));
            hexadecimal(&tree.root())
        };
        let ranges = merkle::inclusion_ranges(index as u64, leaves.len() as u64).unwrap();
        AuditProof {
            origin: self.logged.origin.clone(),
            public_key: self.logged.public_key.clone(),
            checkpoint: signed(&self.at(looks).records, &self.key),
            index: index as u64,
            record: self.there[index].1.clone(),
            path: ranges.into_iter().map(root).collect(),
        }
    }

    /// Headers and body for a path; nothing where there is none.
    fn answer(&self, path: &str, looks: usize) -> Option<(String, String)> {
        let json = |body: String| Some((String::new(), body));
        if let Some(size) = path.strip_prefix("/v1/audit/consistency/") {
            let size = size.parse().unwrap();
            let mut answer = consistency(&self.at(looks), &self.key, size);
            if let Some(other) = &self.signs {
                answer.checkpoint.clone_from(other);
            }
            return json(serde_json::to_string(&answer).unwrap());
        }
        if let Some(index) = path.strip_prefix("/v1/audit/proofs/") {
            let proof = self.proof(index.parse().unwrap(), looks);
            return json(serde_json::to_string(&proof).unwrap());
        }
        let query = path.strip_prefix("/v1/audit?after=")?;
        let (after, rest) = query.split_once("&limit=").unwrap();
        let (limit, rest) = rest.split_once('&').unwrap();
        assert_eq!(rest, "numbered=true");
        let after: u64 = after.parse().unwrap();
        let after = after.max(self.begins);
        let there = self.there.iter().filter(|(number, _)| *number >= after);
        let line = |(number, record): &(u64, String)| {
            format!("{{\"index\":{number},\"record\":{record}}}\n")
        };
        let limit = limit.parse().unwrap();
        let body = there.take(limit).map(line).collect();
        Some((format!("{AUDIT_BEGINS}: {}\r\n", self.begins), body))
    }
}

fn hexadecimal(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server of such a log; what was asked of it.
fn serve(name: &str, log: Log) -> (Desk, Seen) {
    let path = std::env::temp_dir().join(format!("keywheel-online-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let seen = Seen::default();
    let asked = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            while !text.contains("\r\n\r\n") {
                let mut piece = vec![0; 4096];
                let read = stream.read(&mut piece).await.unwrap();
                text.push_str(&String::from_utf8_lossy(&piece[..read]));
            }
            let path = text.split(' ').nth(1).unwrap().to_owned();
            let looks = asked.lock().unwrap().len();
            let found = log.answer(&path, looks);
            asked.lock().unwrap().push((path, String::new()));
            let status = if found.is_some() { 200 } else { 404 };
            let (headers, body) = found.unwrap_or_default();
            let reply = format!(
                "HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            // Who leaves in the middle has what they wanted.
            let _ = stream.write_all(reply.as_bytes()).await;
        }
    });
    let desk = Desk {
        client: Client::new(crate::address::Address::Unix(path), None).unwrap(),
        screen: Screen::of_terminal(Format::Json),
    };
    (desk, seen)
}

async fn read(name: &str, log: Log) -> (Read, usize) {
    let (desk, seen) = serve(name, log);
    let wanted = Wanted {
        part: PART,
        keeps_leaves: false,
    };
    let read = verify(&desk, None, wanted).await.unwrap().unwrap();
    let looks = seen.lock().unwrap().len();
    (read, looks)
}

#[tokio::test]
async fn a_log_of_several_parts_verifies_by_two_looks_though_it_grows_meanwhile() {
    for count in [1, 3, 4, 5, 15, 16, 17] {
        let log = Log::new(count);
        let mut wanted = log.at(0);
        wanted.leaf_hashes.truncate(count);
        wanted.checkpoint = signed(&wanted.records, &log.key);
        let (read, looks) = read(&format!("good-{count}"), log).await;
        let finding = read.finding;
        assert!(finding.verified, "{count}: {finding:?}");
        assert_eq!(finding.records, count, "to the checkpoint and no further");
        assert_eq!(looks, 2, "so many records of the audit");
        assert!(read.leaves.is_empty(), "nothing is kept of each record");
        // What is said of it is what is said of an export of it.
        assert_eq!(finding, offline::verify(&wanted, None).unwrap());
    }
}

#[tokio::test]
async fn the_first_record_that_was_changed_is_named_in_whatever_part_it_is() {
    for bad in [0, 1, 7, 8, 9, 10, 11, 12, 18] {
        let mut log = Log::new(19);
        log.there[bad].1.push(' ');
        // A later one as well: the first is the one that counts. Its neighbour's proof is another record's.
        if bad < 15 {
            log.there[bad + 3].1.push(' ');
        }
        let (read, looks) = read(&format!("changed-{bad}"), log).await;
        let finding = read.finding;
        assert!(!finding.verified && finding.root.is_empty(), "{finding:?}");
        assert_eq!(finding.first_bad_index, Some(bad as u64), "{finding:?}");
        let said = format!("audit record {bad} was edited");
        assert!(finding.faults[0].contains(&said), "{finding:?}");
        assert!(looks < 16, "{looks} looks for one record");
    }
}

#[tokio::test]
async fn where_no_proof_shows_which_record_it_is_none_is_accused() {
    let mut log = Log::new(19);
    // Its neighbour, whose proof would show it, was changed as well.
    log.there[8].1.push(' ');
    log.there[9].1.push(' ');
    let (read, _) = read("neighbours", log).await;
    assert_eq!(read.finding.first_bad_index, Some(8));
    let fault = &read.finding.faults[0];
    assert!(fault.contains("records 8 to 18 do not give"), "{fault}");
}

/// What a server does to the records that are there.
type Change = fn(&mut Vec<(u64, String)>);

#[tokio::test]
async fn a_server_that_gives_fewer_or_more_records_is_found() {
    let renumbered = |there: Vec<(u64, String)>| {
        let records = there.into_iter().map(|(_, record)| record);
        (0..).zip(records).collect::<Vec<_>>()
    };
    // One left out, the end cut off, one twice, one line that is none.
    let changes: [Change; 4] = [
        |there| drop(there.remove(9)),
        |there| there.truncate(9),
        |there| there.insert(9, there[8].clone()),
        |there| there[9].1 = "x\ny".to_owned(),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut log = Log::new(19);
        change(&mut log.there);
        let (read, _) = read(&format!("count-{n}"), log).await;
        assert!(!read.finding.verified, "change {n}");
        let first = read.finding.first_bad_index;
        assert_eq!(first, Some(9), "change {n}: {:?}", read.finding);
    }
    // The same with numbers that fit: one left out, and one put in.
    let changes: [Change; 2] = [
        |there| drop(there.remove(9)),
        |there| there.insert(9, (9, "{}".to_owned())),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut log = Log::new(19);
        change(&mut log.there);
        log.there = renumbered(log.there);
        let (read, _) = read(&format!("fitting-{n}"), log).await;
        assert!(!read.finding.verified, "change {n}");
        let first = read.finding.first_bad_index;
        assert_eq!(first, Some(9), "change {n}: {:?}", read.finding);
    }
}

#[tokio::test]
async fn another_key_or_checkpoint_is_found_before_any_record_is_asked_for() {
    let stranger = export(1).0.public_key;
    let (desk, seen) = serve("key", Log::new(9));
    let wanted = Wanted {
        part: PART,
        keeps_leaves: true,
    };
    let found = verify(&desk, Some(&stranger), wanted).await.unwrap();
    let finding = found.unwrap().finding;
    assert!(!finding.verified && finding.names_other_key && finding.key_pinned);
    assert_eq!(seen.lock().unwrap().len(), 1);
    let failure = verify(&desk, Some("no key"), wanted).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
}

#[tokio::test]
async fn a_checkpoint_without_its_signature_or_of_another_log_shows_nothing() {
    let changes: [fn(&mut Log); 3] = [
        |log| {
            let note = signed(&log.at(0).records, &log.key);
            let (text, _) = note.split_once("\n\n").unwrap();
            log.signs = Some(format!("{text}\n\n"));
        },
        |log| log.signs = Some(signed(&log.at(0).records, &export(1).1)),
        |log| log.logged.origin.push_str("-other"),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut log = Log::new(9);
        change(&mut log);
        let (read, looks) = read(&format!("checkpoint-{n}"), log).await;
        let finding = read.finding;
        assert!(!finding.verified && finding.root.is_empty(), "{finding:?}");
        assert!(finding.faults[0].contains("checkpoint"), "{finding:?}");
        assert_eq!((finding.records, looks), (0, 1), "change {n}");
    }
}

#[tokio::test]
async fn a_checkpoint_of_no_records_is_not_the_log_s_where_there_are_some() {
    let mut log = Log::new(9);
    log.signs = Some(signed(&[], &log.key));
    let (read, looks) = read("empty", log).await;
    let finding = read.finding;
    assert!(!finding.verified, "{finding:?}");
    let fault = &finding.faults[0];
    assert!(fault.contains("signed over no records"), "{fault}");
    assert_eq!((finding.first_bad_index, looks), (None, 6));
    // A log that has just begun has its first record by the next look.
    let (read, looks) = self::read("begun", Log::new(0)).await;
    assert!(read.finding.verified, "{:?}", read.finding);
    assert_eq!((read.finding.records, looks), (2, 4));
}

#[tokio::test]
async fn leaf_hashes_are_kept_where_they_are_to_be_compared() {
    let log = Log::new(9);
    let wanted = log.leaves(0);
    let (desk, _) = serve("leaves", log);
    let keeping = Wanted {
        part: PART,
        keeps_leaves: true,
    };
    let read = verify(&desk, None, keeping).await.unwrap().unwrap();
    assert!(read.finding.verified);
    assert_eq!(read.leaves, wanted);
}

/// A log whose first records are gone, and which says so, or does not.
fn shortened(is_said: bool) -> Log {
    let count = 12;
    let mut log = Log::new(count);
    let said = without(8, 8, true).records.pop().unwrap();
    if is_said {
        log.logged.records[10].clone_from(&said);
        log.there[10].1 = said;
    }
    log.there.iter_mut().take(8).for_each(|gone| gone.1.clear());
    log.begins = 8;
    log
}

#[tokio::test]
async fn a_log_whose_old_records_were_removed_verifies_by_the_proof_of_the_first_that_is_there() {
    let (read, looks) = read("removed", shortened(true)).await;
    let finding = read.finding;
    assert!(finding.verified, "{finding:?}");
    assert_eq!((finding.records, finding.removed), (4, Some(8)));
    assert_eq!(looks, 3);
    let (read, _) = self::read("unsaid", shortened(false)).await;
    assert!(!read.finding.verified);
    assert!(read.finding.faults[0].contains("are gone"));
    let mut changed = shortened(true);
    changed.there[9].1.push(' ');
    let (read, _) = self::read("removed-changed", changed).await;
    assert_eq!(read.finding.first_bad_index, Some(9), "{:?}", read.finding);
    // Hashes of what is gone are in an export alone.
    let (desk, _) = serve("removed-kept", shortened(true));
    let wanted = Wanted {
        part: PART,
        keeps_leaves: true,
    };
    assert!(verify(&desk, None, wanted).await.unwrap().is_none());
}
