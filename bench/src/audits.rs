//! How fast an audit is verified, beside who only makes one digest of the same bytes.
//!
//! What is verified is an export, as `keywheel audit verify --file` has it once it is read: every record's leaf hash, the
//! tree over them, its root and the signature over that. Then the same in the journal's own file, with each tile's
//! checkpoint. The others read one file with the records' bytes, in turns with us; their start is in their time.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_core::id::DeploymentId;
use keywheel_engine::port::journal::{Journal as _, MAX_READ};
use keywheel_journal::offline::{Export, verify_export};
use keywheel_journal::{JournalOptions, SqliteJournal};
use keywheel_seal::SecretBytes;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::conformance::journal::decision;
use keywheel_tests::scratch::Scratch;

use crate::Line;

/// Records of one append, and appends.
const AT_ONCE: u64 = 1000;
const APPENDS: u64 = 100;
/// Verifications, each beside each of the others.
const ROUNDS: usize = 20;
const ORIGIN: &str = "keywheel.dev/bench";
/// Who digests the same bytes.
const OTHERS: [(&str, &[&str]); 2] = [("sha256sum", &[]), ("openssl", &["dgst", "-sha256"])];

fn key() -> Result<SigningKey> {
    Ok(SigningKey::from_seed_bytes(&SecretBytes::from(vec![
        7_u8;
        32
    ]))?)
}

/// A journal of audit records alone.
async fn filled(path: &Path) -> Result<SqliteJournal> {
    let options = JournalOptions {
        deployment: DeploymentId::from_bytes([1; 16]),
        source: "keywheel/bench/gateway".to_owned(),
        signing_key: key()?,
        origin: ORIGIN.to_owned(),
    };
    let journal = SqliteJournal::open(path, options).await?;
    for append in 0..APPENDS {
        let mut records = decision(append);
        records.events.clear();
        let first = append * AT_ONCE;
        let others = (first..first + AT_ONCE).flat_map(|n| decision(n).audit);
        records.audit = others.collect();
        journal.append(1, &[records]).await?;
    }
    Ok(journal)
}

async fn exported(journal: &SqliteJournal) -> Result<Export> {
    let head = journal.head().await?;
    let mut records = Vec::new();
    while (records.len() as u64) < head.audit_size {
        let page = journal.read_audit(records.len() as u64, MAX_READ).await?;
        ensure!(!page.is_empty(), "the journal ends too early");
        records.extend(page.into_iter().map(|leaf| leaf.bytes.to_vec()));
    }
    let public = key()?.verifying_key().to_bytes();
    Ok(Export::new(
        ORIGIN.to_owned(),
        public,
        head.checkpoint,
        records,
    ))
}

/// How long a program takes to digest a file; nothing where there is no such program.
fn digest((program, arguments): (&str, &[&str]), file: &Path) -> Result<Option<Duration>> {
    let begun = now();
    let mut command = Command::new(program);
    let ended = command
        .args(arguments)
        .arg(file)
        .stdout(Stdio::null())
        .status();
    match ended {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{program} was not run")),
        Ok(status) => {
            ensure!(status.success(), "{program}: {status}");
            Ok(Some(begun.elapsed()))
        }
    }
}

async fn measure(scratch: &Scratch) -> Result<Vec<Line>> {
    let journal = filled(&scratch.join("journal.sqlite")).await?;
    let export = exported(&journal).await?;
    let count = export.leaves.len() as f64;
    let file = scratch.join("records");
    fs::write(&file, export.leaves.concat())?;
    let (mut verified, mut whole) = (Samples::default(), Samples::default());
    let mut ratios = OTHERS.map(|_| Samples::default());
    for _ in 0..ROUNDS {
        let begun = now();
        let report = verify_export(&export)?;
        let ours = begun.elapsed();
        ensure!(
            report.records == export.leaves.len() as u64,
            "not all were verified"
        );
        verified.add(count / ours.as_secs_f64());
        for (other, ratio) in OTHERS.into_iter().zip(&mut ratios) {
            if let Some(theirs) = digest(other, &file)? {
                ratio.add(ours.as_secs_f64() / theirs.as_secs_f64());
            }
        }
        let begun = now();
        let found = journal.verify().await?;
        ensure!(found.faults.is_empty(), "{:?}", found.faults);
        whole.add(count / begun.elapsed().as_secs_f64());
    }
    let line = |key: String, what: String, samples, budget| Line {
        key,
        what,
        samples,
        budget,
    };
    let mut lines = vec![
        line(
            "audit_verified_per_s".to_owned(),
            "records a second, an export verified".to_owned(),
            verified,
            ">= 100000",
        ),
        line(
            "audit_journal_per_s".to_owned(),
            "records a second, the journal's file verified".to_owned(),
            whole,
            ">= 100000",
        ),
    ];
    for ((program, _), ratio) in OTHERS.into_iter().zip(ratios) {
        if ratio.count() > 0 {
            lines.push(line(
                format!("audit_over_{program}"),
                format!("an export verified, over {program} of its bytes"),
                ratio,
                "-",
            ));
        }
    }
    Ok(lines)
}

/// The audit's verification.
pub(crate) fn audits() -> Result<Vec<Line>> {
    let scratch = Scratch::make()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure(&scratch))
}
