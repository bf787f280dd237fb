//! Whether a log is older than what a sink kept of it, and what is known of the time it lost.
//!
//! Pure but for the records it reads. Invariant: of what a record of that time may mean for a version, it is taken for
//! the one that keeps more of them dead.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use keywheel_audit_sink::KeptRecords;
use keywheel_core::audit::{Outcome, Record};
use keywheel_core::id::{ApprovalId, TokenId};
use keywheel_core::name::{HostName, SecretName, TokenName};
use keywheel_engine::port::journal::{AuditLeaf, Journal, MAX_READ};
use keywheel_gateway::admission::identity;
use keywheel_journal::merkle::{Hash, leaf_hash};
use keywheel_journal::{records_of_file, removed_hashes_of_file};
use keywheel_schemas::wire::audit_record_from_json;

/// Most that is said of what broken glass was about, in characters.
const MAX_GLASS_CHARS: usize = 120;

/// How a log stands to a sink's copy of its audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The sink kept nothing that the log has not.
    Fits,
    /// The sink kept more.
    Older {
        /// Records the sink kept.
        kept: u64,
        /// Records the log has.
        here: u64,
        /// The first that the sink kept: of what is before it nothing is known there.
        begins: u64,
    },
    /// From this record on they are two logs.
    Other {
        /// The first that differs, or that is known to.
        index: u64,
    },
}

/// The log that is compared.
pub(crate) enum Log<'l> {
    /// One that is open.
    Open(&'l dyn Journal),
    /// One that nobody has open.
    File(&'l Path),
}

impl Log<'_> {
    async fn records(&self, from: u64, limit: usize) -> Result<Vec<AuditLeaf>, String> {
        let read = match self {
            Self::Open(journal) => journal.read_audit(from, limit).await,
            Self::File(path) => records_of_file(path, from, limit).await,
        };
        read.map_err(|error| keywheel_daemon::chain(&error))
    }

    /// Leaf hashes of records that were removed by their age.
    async fn removed(&self, from: u64, limit: usize) -> Result<Vec<Hash>, String> {
        let read = match self {
            Self::Open(journal) => journal.removed_hashes(from, limit).await,
            Self::File(path) => removed_hashes_of_file(path, from, limit).await,
        };
        read.map_err(|error| keywheel_daemon::chain(&error))
    }

    /// Compares the last record that both have: a log that is cut or put back goes on differently.
    pub(crate) async fn stands(
        &self,
        here: u64,
        sink: &mut KeptRecords,
    ) -> Result<Standing, String> {
        let common = here.min(sink.size());
        self.compare((here, common.saturating_sub(1)..common), sink)
            .await
    }

    /// Compares all records that both have.
    pub(crate) async fn stands_wholly(
        &self,
        here: u64,
        sink: &mut KeptRecords,
    ) -> Result<Standing, String> {
        let common = here.min(sink.size());
        self.compare((here, 0..common), sink).await
    }

    async fn compare(
        &self,
        (here, range): (u64, Range<u64>),
        sink: &mut KeptRecords,
    ) -> Result<Standing, String> {
        // A copy that was begun when older records had been removed has none of these.
        let mut from = range.start.max(sink.begins());
        while from < range.end {
            let left = usize::try_from(range.end.saturating_sub(from)).unwrap_or(MAX_READ);
            let limit = left.min(MAX_READ);
            let theirs = sink.read(from, limit).await;
            let theirs = theirs.map_err(|error| keywheel_daemon::chain(&error))?;
            let compared = match self.first_other((from, limit), &theirs).await? {
                Ok(compared) => compared,
                Err(index) => return Ok(Standing::Other { index }),
            };
            if compared == 0 {
                return Ok(Standing::Other { index: from });
            }
            from = from.saturating_add(compared);
        }
        let (kept, begins) = (sink.size(), sink.begins());
        Ok(match kept > here {
            true => Standing::Older { kept, here, begins },
            false => Standing::Fits,
        })
    }

    /// Compares records of a sink with ours of the same numbers, or with the hashes of those that were removed here;
    /// how many are the same, or the first that is another one.
    async fn first_other(
        &self,
        (from, limit): (u64, usize),
        theirs: &[AuditLeaf],
    ) -> Result<Result<u64, u64>, String> {
        let ours = self.records(from, limit).await?;
        if ours.first().is_some_and(|first| first.index == from) {
            let pairs = ours.iter().zip(theirs);
            let mut others = pairs.clone().filter(|(ours, theirs)| ours != theirs);
            return Ok(match others.next() {
                Some((other, _)) => Err(other.index),
                None => Ok(pairs.count() as u64),
            });
        }
        let removed = self.removed(from, limit).await?;
        let pairs = (from..).zip(removed.iter().zip(theirs));
        let is_other = |(index, (hash, theirs)): &(u64, (&Hash, &AuditLeaf))| {
            theirs.index != *index || leaf_hash(&theirs.bytes) != **hash
        };
        let mut others = pairs.clone().filter(is_other);
        Ok(match others.next() {
            Some((index, _)) => Err(index),
            None => Ok(pairs.count() as u64),
        })
    }
}

/// What became of one secret's versions in the time that a log lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The highest number that is named.
    pub(crate) highest: u64,
    /// Versions that died.
    pub(crate) dead: BTreeSet<u64>,
    /// Every version below it died.
    pub(crate) dead_below: u64,
    /// Whether all that were known at some time died.
    pub(crate) all_died: bool,
    /// Whether a store said that it had made something unusable.
    pub(crate) store_said: bool,
    /// What became current in that time, and was not revoked in it.
    pub(crate) current: Option<u64>,
}

/// Of every secret.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LostTime {
    /// By the secret's name.
    pub(crate) secrets: BTreeMap<SecretName, Lost>,
    /// Tokens that were revoked, by their names.
    pub(crate) tokens: BTreeSet<TokenName>,
    /// People all of whose tokens were.
    pub(crate) owners: BTreeSet<String>,
    /// How often uses were taken out of a token's limit.
    pub(crate) taken: BTreeMap<TokenId, u64>,
    /// Hosts that were evicted, by their names.
    pub(crate) hosts: BTreeSet<HostName>,
    /// Requests whose glass was broken, and that nobody reviewed: what for, and by whom.
    pub(crate) glass: BTreeMap<ApprovalId, String>,
    /// Records that were looked at.
    pub(crate) records: u64,
    /// Records that this build does not understand.
    pub(crate) unread: u64,
    /// Records of that time which the copy never had, since it begins behind them.
    pub(crate) missing: Range<u64>,
}

impl LostTime {
    /// Nothing yet, from an index on, of a copy that begins at another one.
    fn of_copy(from: u64, begins: u64) -> Self {
        Self {
            missing: from..begins.max(from),
            ..Self::default()
        }
    }

    /// Reads what a sink kept from an index on.
    pub(crate) async fn read(sink: &mut KeptRecords, from: u64) -> Result<Self, String> {
        let mut lost = Self::of_copy(from, sink.begins());
        let mut next = from;
        loop {
            let page = sink.read(next, MAX_READ).await;
            let page = page.map_err(|error| keywheel_daemon::chain(&error))?;
            let Some(last) = page.last() else {
                return Ok(lost);
            };
            next = last.index.saturating_add(1);
            for leaf in &page {
                lost.note(&leaf.bytes);
            }
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.records = self.records.saturating_add(1);
        match audit_record_from_json(bytes) {
            Ok(record) => self.note_record(&record),
            Err(_) => self.unread = self.unread.saturating_add(1),
        }
    }

    fn note_record(&mut self, record: &Record) {
        self.note_token(record);
        self.note_host(record);
        self.note_glass(record);
        let name = record.object.strip_prefix("secret/");
        let name = name.and_then(|name| SecretName::parse(name).ok());
        let (Some(name), Outcome::Allowed) = (name, record.outcome) else {
            return;
        };
        let lost = self.secrets.entry(name).or_default();
        lost.highest = lost.highest.max(record.version.unwrap_or(0));
        match (record.verb.as_str(), record.version) {
            // One that waited for a replacement counts as one that did not.
            (
                "revoke"
                | "revoke-in-emergency"
                | "revoke-and-replace"
                | "revoke-and-replace-in-emergency",
                version,
            ) => match version {
                Some(version) => {
                    lost.dead.insert(version);
                    lost.current = lost.current.filter(|current| *current != version);
                }
                None => {
                    lost.all_died = true;
                    lost.current = None;
                    lost.dead_below = lost.dead_below.max(lost.highest.saturating_add(1));
                }
            },
            ("roll-back-version", Some(version)) => {
                lost.dead.insert(version);
            }
            // Whether the store did it or not: they were dead before it was asked.
            ("revoke-old-version", Some(version)) => {
                lost.dead_below = lost.dead_below.max(version);
            }
            ("revoke-at-store", _) => lost.store_said = true,
            ("promote-version", Some(version)) => lost.current = Some(version),
            _ => {}
        }
    }
}

impl LostTime {
    fn note_token(&mut self, record: &Record) {
        match (record.verb.as_str(), record.outcome) {
            ("revoke-token", Outcome::Allowed) => {
                let name = record.object.strip_prefix("token/");
                self.tokens
                    .extend(name.and_then(|name| TokenName::parse(name).ok()));
            }
            ("revoke-tokens", Outcome::Allowed) => {
                let owner = record.object.strip_prefix("owner/");
                self.owners.extend(owner.map(str::to_owned));
            }
            ("count-token-uses", Outcome::Allowed) => {
                let id = record.object.strip_prefix("token/");
                if let Some(id) = id.and_then(|id| TokenId::parse(id).ok()) {
                    let times = self.taken.entry(id).or_default();
                    *times = times.saturating_add(1);
                }
            }
            _ => {}
        }
    }

    fn note_glass(&mut self, record: &Record) {
        let Some(said) = record.object.strip_prefix("approval/") else {
            return;
        };
        // Behind the id comes what the request is about.
        let id = said.split_once(' ').map_or(said, |(id, _)| id);
        let (Ok(id), Outcome::Allowed) = (ApprovalId::parse(id), record.outcome) else {
            return;
        };
        match record.verb.as_str() {
            "break-glass" => {
                let said: String = said.chars().take(MAX_GLASS_CHARS).collect();
                let by = identity(&record.principal);
                self.glass.insert(id, format!("{said} ({by})"));
            }
            "review-break-glass" => {
                self.glass.remove(&id);
            }
            _ => {}
        }
    }

    fn note_host(&mut self, record: &Record) {
        if (record.verb.as_str(), record.outcome) == ("evict", Outcome::Allowed) {
            let name = record.object.strip_prefix("host/");
            self.hosts
                .extend(name.and_then(|name| HostName::parse(name).ok()));
        }
    }
}

impl Lost {
    /// Whether a version that was alive when the log was copied died afterwards.
    pub(crate) fn died(&self, version: u64, is_revoked_here: bool) -> bool {
        // A playbook's revocation names no version: what its store says is all there is.
        let unnamed = self.store_said && !is_revoked_here && self.dead.is_empty();
        self.all_died || unnamed || version < self.dead_below || self.dead.contains(&version)
    }
}

#[cfg(test)]
mod tests;
