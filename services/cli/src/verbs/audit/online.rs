//! `audit verify` of a running server: the signed checkpoint once, then every record as it comes, and no answer that has
//! all of them.
//!
//! What a success shows is what an export's shows: the records up to the checkpoint give the root that it names. Of them
//! no more is kept than the tree's right edge, one for each part of the log, and their leaf hashes where somebody else's
//! records are held against them. Where the root is another one, consistency proofs lead to the first record that is not
//! the one that was signed; nothing is asked for that otherwise, so a look at a sound log is two records of the audit.

use keywheel_journal::checkpoint::Checkpoint;
use keywheel_journal::merkle::{self, Frontier, Hash};
use keywheel_journal::offline::{Difference, ExportError, ExportedProof, verify_record};
use keywheel_journal::retention;
use keywheel_schemas::api::{AuditConsistency, AuditProof, AuditRetentionView};
use keywheel_seal::sign::VerifyingKey;

use super::offline::{
    Finding, hexadecimal, is_other_key, named, parse_hash, parse_key, pinned_key,
};
use super::{Desk, RETENTION};
use crate::client::Lines;
use crate::exit::{Exit, Failure};
use crate::output::progress::{Progress, Standing};

/// Records of a part: so many are read a second time to find the bad one among them, and shown as one step.
pub(super) const PART_RECORDS: u64 = 65_536;
/// So often it is begun again since records left by their age while it read.
const MAX_TRIES: u32 = 3;

/// Where a checkpoint is of no records, and there are some.
const NOT_EMPTY: &str =
    "the checkpoint is signed over no records, and the log has some, of which it shows nothing";

/// The first bad record where one is named, and what is wrong.
type Fault = (Option<u64>, String);

/// How it is read.
#[derive(Debug, Clone, Copy)]
pub(in crate::verbs) struct Wanted {
    /// Records of a part.
    pub(in crate::verbs) part: u64,
    /// Whether the leaf hashes are kept, to be compared: 32 bytes a record.
    pub(in crate::verbs) keeps_leaves: bool,
}

/// What was read.
#[derive(Debug)]
pub(in crate::verbs) struct Read {
    /// What was found.
    pub(in crate::verbs) finding: Finding,
    /// Leaf hashes of all records that were read, where they were to be kept.
    pub(in crate::verbs) leaves: Vec<Hash>,
}

/// Reads the log to the checkpoint that the server signs now, and verifies it; nothing where leaf hashes were to be kept
/// also of records that are gone, which an export alone has, or where the server is older than the question.
pub(in crate::verbs) async fn verify(
    desk: &Desk,
    key: Option<&str>,
    wanted: Wanted,
) -> Result<Option<Read>, Failure> {
    let pinned = key.map(pinned_key).transpose()?;
    let mut tries = 0;
    loop {
        tries += 1;
        let now: Result<AuditConsistency, Failure> = desk.client.read(&consistency(0)).await;
        let now = match now {
            Err(failure) if failure.exit == Exit::NotFound => return Ok(None),
            now => now?,
        };
        let mut walk = Walk::new(wanted);
        let checked = match Log::of(&now, pinned) {
            Ok(log) => walk.check(desk, &log).await?,
            Err(fault) => Checked::Bad(fault),
        };
        let fault = match checked {
            Checked::Moved(_) if tries < MAX_TRIES => continue,
            Checked::Unkept => return Ok(None),
            Checked::Good => None,
            Checked::Moved(fault) | Checked::Bad(fault) => Some(fault),
        };
        let public_key = key.unwrap_or(&now.public_key).trim().to_owned();
        let other = is_other_key(pinned, &now.public_key);
        let key = (public_key, pinned.is_some(), other);
        return Ok(Some(walk.finish(&now.origin, key, fault)));
    }
}

fn consistency(size: u64) -> String {
    format!("/v1/audit/consistency/{size}")
}

/// Some records with their numbers.
async fn records(desk: &Desk, from: u64, limit: u64) -> Result<Lines, Failure> {
    let path = format!("/v1/audit?after={from}&limit={limit}&numbered=true");
    desk.client.lines(&path).await
}

fn hashes(texts: &[String]) -> Option<Vec<Hash>> {
    texts.iter().map(|text| parse_hash(text)).collect()
}

/// Number and bytes of a record, as a line has them.
fn numbered(line: &[u8]) -> Option<(u64, &[u8])> {
    let rest = line.strip_prefix(b"{\"index\":")?.strip_suffix(b"}")?;
    let at = rest.iter().position(|byte| *byte == b',')?;
    let (number, rest) = rest.split_at_checked(at)?;
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some((number, rest.strip_prefix(b",\"record\":")?))
}

/// What the server signed before anything was read.
struct Log<'a> {
    origin: &'a str,
    key: VerifyingKey,
    signed: Checkpoint,
}

impl<'a> Log<'a> {
    fn of(now: &'a AuditConsistency, pinned: Option<[u8; 32]>) -> Result<Self, Fault> {
        let key = pinned.map_or_else(|| parse_key(&now.public_key), Ok);
        let key = key.map_err(|why| (None, format!("the answer's public key {why}")))?;
        let key = VerifyingKey::from_bytes(key).map_err(|bad| named(&ExportError::Key(bad)))?;
        let signed = Checkpoint::verify(&now.checkpoint, &now.origin, &key)
            .map_err(|bad| named(&ExportError::Checkpoint(bad)))?;
        Ok(Self {
            origin: &now.origin,
            key,
            signed,
        })
    }

    /// Whether a proof shows that these records are the first of what is signed.
    fn holds(&self, tree: &Frontier, proof: &AuditConsistency) -> bool {
        let now = Checkpoint::verify(&proof.checkpoint, self.origin, &self.key);
        let (Ok(now), Some(path)) = (now, hashes(&proof.path)) else {
            return false;
        };
        merkle::verify_consistency((tree.size(), &tree.root()), (now.size, &now.root), &path)
    }

    async fn is_proven(&self, desk: &Desk, tree: &Frontier) -> bool {
        // Of a damaged log a server may have no proof; then nothing is shown.
        let proof: Result<AuditConsistency, Failure> =
            desk.client.read(&consistency(tree.size())).await;
        proof.is_ok_and(|proof| self.holds(tree, &proof))
    }

    /// The path of a record that is proven, and the size of the tree that it is proven in.
    fn path(&self, proof: &AuditProof, index: u64) -> Option<(Vec<Hash>, u64)> {
        let path = hashes(&proof.path)?;
        let (log, record) = ((self.origin, &self.key), proof.record.as_bytes());
        let place = ExportedProof { index, path };
        let signed = verify_record(log, &proof.checkpoint, record, &place).ok()?;
        Some((place.path, signed.size))
    }

    /// The tree of the records before the first that is there: the path of that one has it.
    fn before(&self, first: u64, proof: &AuditProof) -> Result<Frontier, Fault> {
        let tree = self.path(proof, first).and_then(|(path, size)| {
            let ranges = merkle::inclusion_ranges(first, size)?;
            let sides = ranges.iter().zip(&path);
            let left = sides.filter(|(range, _)| range.end <= first);
            let mut nodes: Vec<Hash> = left.map(|(_, root)| *root).collect();
            // The path begins at the leaf, the tree with its largest part.
            nodes.reverse();
            Frontier::from_bytes(first, &nodes.concat())
        });
        tree.ok_or_else(|| named(&ExportError::Proof { index: first }))
    }

    /// Whether a record is shown to be another one than what was signed: its neighbour's proof begins with its hash.
    async fn is_other(&self, desk: &Desk, index: u64, leaf: &Hash) -> bool {
        let neighbour = index ^ 1;
        let asked = format!("/v1/audit/proofs/{neighbour}");
        let proof: Result<AuditProof, Failure> = desk.client.read(&asked).await;
        let proven = proof.ok().and_then(|proof| self.path(&proof, neighbour));
        proven.is_some_and(|(path, size)| {
            index < size && path.first().is_some_and(|signed| signed != leaf)
        })
    }
}

/// How it ended.
enum Checked {
    Good,
    /// Leaf hashes are wanted that this does not read.
    Unkept,
    /// It may be that records left by their age meanwhile.
    Moved(Fault),
    Bad(Fault),
}

/// Where a bad record is looked for.
enum Narrowed {
    /// It is this one.
    At(u64),
    /// All before this one are right, and nothing shows which of the others is not.
    From(u64),
}

/// How far it is read.
struct Walk {
    wanted: Wanted,
    tree: Frontier,
    /// The tree at the beginning of each part.
    marks: Vec<Frontier>,
    /// Number of the first record that is there.
    begins: u64,
    /// Up to where the audit itself says that records left.
    claimed: u64,
    leaves: Vec<Hash>,
}

impl Walk {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            tree: Frontier::new(),
            marks: Vec::new(),
            begins: 0,
            claimed: 0,
            leaves: Vec::new(),
        }
    }

    async fn check(&mut self, desk: &Desk, log: &Log<'_>) -> Result<Checked, Failure> {
        let size = log.signed.size;
        // Of an empty log one record is asked for: a checkpoint over nothing fits whatever there is.
        let mut lines = records(desk, 0, size.max(1)).await?;
        if size == 0 && lines.next().await.map_err(again)?.is_some() {
            // The first may just have come; so the next checkpoint has it.
            return Ok(Checked::Moved((None, NOT_EMPTY.to_owned())));
        }
        // More may have left than there was when the checkpoint was signed.
        self.begins = lines.begins().min(size);
        if self.begins > 0 && self.wanted.keeps_leaves {
            return Ok(Checked::Unkept);
        }
        if self.begins > 0 {
            let asked = format!("/v1/audit/proofs/{}", self.begins);
            let proof: Result<AuditProof, Failure> = desk.client.read(&asked).await;
            let proof = match proof {
                Err(failure) if failure.exit == Exit::NotFound => {
                    let index = self.begins;
                    return Ok(Checked::Moved(named(&ExportError::Proof { index })));
                }
                proof => proof?,
            };
            match log.before(self.begins, &proof) {
                Ok(tree) => self.tree = tree,
                Err(fault) => return Ok(Checked::Bad(fault)),
            }
        }
        self.marks.push(self.tree.clone());
        if let Some(difference) = self.read(desk, &mut lines, size).await? {
            return self.short(desk, log, difference).await;
        }
        if self.tree.root() != log.signed.root {
            let first = match self.narrow(desk, log).await {
                Narrowed::At(index) => return Ok(Checked::Bad(edited(index))),
                Narrowed::From(first) => first,
            };
            let last = size.saturating_sub(1).max(first);
            return Ok(Checked::Bad(named(&ExportError::Range { first, last })));
        }
        Ok(self.recorded())
    }

    /// Reads records up to a size; how the first differs that is not the next one.
    async fn read(
        &mut self,
        desk: &Desk,
        lines: &mut Lines,
        size: u64,
    ) -> Result<Option<Difference>, Failure> {
        let is_long = size.saturating_sub(self.begins) > self.wanted.part;
        let mut shown = (is_long && desk.screen.live).then(|| Progress::begin(desk.screen));
        let mut since_mark = 0;
        while self.tree.size() < size {
            let next = self.tree.size();
            let Some(line) = lines.next().await.map_err(again)? else {
                return Ok(Some(Difference::Removed));
            };
            match numbered(&line) {
                Some((number, record)) if number == next => self.take(record),
                Some((number, _)) if number > next => return Ok(Some(Difference::Removed)),
                Some(_) => return Ok(Some(Difference::Moved)),
                None => return Ok(Some(Difference::Edited)),
            }
            since_mark += 1;
            if since_mark == self.wanted.part {
                since_mark = 0;
                self.marks.push(self.tree.clone());
                if let Some(shown) = &mut shown {
                    shown.say(Standing {
                        headline: format!("{} of {size} audit records read", self.tree.size()),
                        rows: Vec::new(),
                    });
                }
            }
        }
        Ok(None)
    }

    fn take(&mut self, record: &[u8]) {
        let leaf = merkle::leaf_hash(record);
        self.tree.push(leaf);
        if self.begins > 0 {
            self.claimed = retention::let_go(self.claimed, record);
        }
        if self.wanted.keeps_leaves {
            self.leaves.push(leaf);
        }
    }

    /// A record is not there, or what is in its place is none: it is the first bad one, where none before it is shown to be.
    async fn short(
        &self,
        desk: &Desk,
        log: &Log<'_>,
        difference: Difference,
    ) -> Result<Checked, Failure> {
        let index = self.tree.size();
        let fault = named(&ExportError::Record { index, difference });
        let view: Result<AuditRetentionView, Failure> = desk.client.read(RETENTION).await;
        if view.is_ok_and(|view| view.begins > index) {
            return Ok(Checked::Moved(fault));
        }
        if index == self.begins || log.is_proven(desk, &self.tree).await {
            return Ok(Checked::Bad(fault));
        }
        Ok(Checked::Bad(match self.narrow(desk, log).await {
            Narrowed::At(first) => edited(first),
            Narrowed::From(_) => fault,
        }))
    }

    /// Looks for the first bad one among what was read, of which not all is proven: first for its part.
    async fn narrow(&self, desk: &Desk, log: &Log<'_>) -> Narrowed {
        let (mut good, mut bad) = (0, self.marks.len());
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            let Some(mark) = self.marks.get(middle) else {
                break;
            };
            match log.is_proven(desk, mark).await {
                true => good = middle,
                false => bad = middle,
            }
        }
        let end = self.marks.get(bad).map_or(self.tree.size(), Frontier::size);
        match self.marks.get(good) {
            Some(start) => narrow_part(desk, log, start, end).await,
            None => Narrowed::From(self.begins),
        }
    }

    /// Records may be gone where the audit says so, and nowhere else.
    fn recorded(&self) -> Checked {
        match self.begins.checked_sub(1) {
            Some(last) if self.claimed <= last => {
                let first = self.claimed;
                Checked::Moved(named(&ExportError::Unrecorded { first, last }))
            }
            _ => Checked::Good,
        }
    }

    fn finish(
        self,
        origin: &str,
        (public_key, key_pinned, names_other_key): (String, bool, bool),
        fault: Option<Fault>,
    ) -> Read {
        let records = self.tree.size().saturating_sub(self.begins);
        let root = match fault {
            None => hexadecimal(&self.tree.root()),
            Some(_) => String::new(),
        };
        let (first_bad_index, faults) = match fault {
            None => (None, Vec::new()),
            Some((index, text)) => (index, vec![text]),
        };
        let finding = Finding {
            verified: faults.is_empty(),
            records: usize::try_from(records).unwrap_or(usize::MAX),
            origin: origin.to_owned(),
            root,
            public_key,
            key_pinned,
            names_other_key,
            first_bad_index,
            faults,
            compared: None,
            compared_from: None,
            part: None,
            removed: usize::try_from(self.begins).ok().filter(|gone| *gone > 0),
            since: None,
        };
        Read {
            finding,
            leaves: self.leaves,
        }
    }
}

/// A look that broke off begins anew.
fn again(failure: Failure) -> Failure {
    match failure.exit {
        Exit::Unavailable => failure.with_next(
            "repeat the command when keywheel is up again; nothing was found wrong so far",
        ),
        _ => failure,
    }
}

fn edited(index: u64) -> Fault {
    let difference = Difference::Edited;
    named(&ExportError::Record { index, difference })
}

/// Looks for the first bad record of a part, whose beginning is proven; its records are read once more.
async fn narrow_part(desk: &Desk, log: &Log<'_>, start: &Frontier, end: u64) -> Narrowed {
    let first = start.size();
    // That something is wrong is known: what does not come now only leaves open which record it is.
    let Ok(mut lines) = records(desk, first, end.saturating_sub(first)).await else {
        return Narrowed::From(first);
    };
    let mut leaves = Vec::new();
    for wanted in first..end {
        let line = lines.next().await.ok().flatten();
        match line.as_deref().and_then(numbered) {
            Some((number, record)) if number == wanted => leaves.push(merkle::leaf_hash(record)),
            _ => break,
        }
    }
    let tree = |count: usize| {
        let mut tree = start.clone();
        leaves.iter().take(count).for_each(|leaf| tree.push(*leaf));
        tree
    };
    let (mut good, mut bad) = (0, leaves.len());
    while bad.saturating_sub(good) > 1 {
        let middle = good + (bad - good) / 2;
        match log.is_proven(desk, &tree(middle)).await {
            true => good = middle,
            false => bad = middle,
        }
    }
    let index = first.saturating_add(good as u64);
    let Some(leaf) = leaves.get(good) else {
        return Narrowed::From(index);
    };
    match log.is_other(desk, index, leaf).await {
        true => Narrowed::At(index),
        false => Narrowed::From(index),
    }
}
