//! The journal over SQLite: one connection that writes, two that read, and the tail in memory.
//!
//! Invariants: the tail is taken out while an append runs and comes back only after its commit, so
//! an append that was dropped half way is found out by reading the file again; after a failed write
//! nothing more is written (rule E9).

mod deliveries;
mod removal;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use keywheel_core::id::{CommandId, DeploymentId, SubscriptionId};
use keywheel_core::name::SubscriptionName;
use keywheel_engine::port::journal::{
    AuditLeaf, Class, Decision, Head, Journal, OpenEffect, RecordedEvent, Verdict, Verification,
};
use keywheel_engine::port::subscriptions::{Subscription, Subscriptions, too_many, unknown};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::event::subject;
use keywheel_seal::sign::{SigningKey, VerifyingKey};
use sqlx::SqliteConnection;
use tokio::sync::{Mutex, MutexGuard};

use crate::batch::{Batch, Signer, Tail};
use crate::fault::{self, Beneath};
use crate::lock::OwnerLock;
use crate::place::Place;
use crate::reserve::Reserve;
use crate::rows::Rows as _;
use crate::subscriptions::{self, Change, subscriptions_by_change};
use crate::tables::from_sql;
use crate::{file, opening, read, retention, script, verify};

/// Most aggregates whose last sequence is kept in memory; beyond it the memory starts anew.
const MAX_KEPT_SEQUENCES: usize = 65_536;
/// Most aggregates one query asks for.
const MAX_ASKED: usize = 64;

/// What a journal is opened with.
#[derive(Debug)]
pub struct JournalOptions {
    /// The installation; a journal belongs to one for ever.
    pub deployment: DeploymentId,
    /// `source` of every event: `keywheel/<deployment>/gateway`.
    pub source: String,
    /// Signs events and checkpoints; a journal has one for ever.
    pub signing_key: SigningKey,
    /// Name of the audit log and of its key in checkpoints.
    pub origin: String,
}

/// The log of record in one SQLite file. Dropping it frees the file at once; [`Self::close`] also
/// moves the write-ahead log into it.
pub struct SqliteJournal {
    path: PathBuf,
    place: Place,
    signer: Signer,
    writer: Mutex<Writer>,
    reader: Mutex<SqliteConnection>,
    /// Answers to commands, so that no command waits behind readers of the log.
    answers: Mutex<SqliteConnection>,
    reserve_in_use: Arc<AtomicBool>,
    _lock: OwnerLock,
}

pub(crate) struct Writer {
    connection: SqliteConnection,
    /// `None` while an append runs and after one that did not end in a commit.
    tail: Option<Tail>,
    sequences: HashMap<String, u64>,
    reserve: Reserve,
    /// Set by a failed write; nothing is written afterwards.
    stopped: bool,
    /// Whether the write-ahead log may still hold what a letter held that is gone.
    has_remains: bool,
}

impl SqliteJournal {
    /// Opens a journal or makes it. The directory is made if need be.
    ///
    /// # Errors
    /// `Conflict` when another process owns it, `Denied` when it belongs to another deployment or
    /// key, `Corrupt` when it is damaged, `Unavailable` when it cannot be kept there.
    pub async fn open(path: &Path, options: JournalOptions) -> Result<Self, PortError> {
        let (deployment, signer) = opening::signer(options)?;
        if let Some(directory) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            file::secure_directory(directory)?;
        }
        let lock = OwnerLock::take(path)?;
        let (connection, tail) = file::open_writer(path, deployment, &signer).await?;
        let reader = file::open_reader(path).await?;
        let answers = file::open_reader(path).await?;
        let reserve = Reserve::open(path)?;
        let reserve_in_use = reserve.flag();
        let writer = Writer {
            connection,
            tail: Some(tail),
            sequences: HashMap::new(),
            reserve,
            stopped: false,
            // Of the process before.
            has_remains: true,
        };
        Ok(Self {
            path: path.to_owned(),
            place: Place::file(path),
            signer,
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            answers: Mutex::new(answers),
            reserve_in_use,
            _lock: lock,
        })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The connection that writes, once nobody else has it.
    pub(crate) async fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().await
    }

    /// The key whose public half verifies events and checkpoints.
    #[must_use]
    pub fn public_key(&self) -> VerifyingKey {
        self.signer.key.verifying_key()
    }

    /// Whether the disk is full and the reserve in use: revocations and audit records are still made
    /// durable, new work is refused.
    #[must_use]
    pub fn is_reserve_in_use(&self) -> bool {
        self.reserve_in_use.load(Ordering::Relaxed)
    }

    /// Takes the reserve again once there is room. An append does so too; this is for the time when
    /// nobody appends.
    pub async fn restore_reserve(&self) {
        if self.is_reserve_in_use() {
            self.writer.lock().await.reserve.restore();
        }
    }

    /// One attempt; after a full disk the next one reads the tail again.
    async fn append_once(
        &self,
        writer: &mut Writer,
        first: u64,
        decisions: &[Decision],
    ) -> Result<Vec<RecordedEvent>, PortError> {
        let tail = writer.take_tail(&self.path).await?;
        let next = tail.number.saturating_add(1);
        if first != next {
            writer.tail = Some(tail);
            let text =
                format!("the next event of the log is number {next}, not {first}; read again");
            return Err(PortError::new(ErrorKind::Conflict, text));
        }
        if decisions.is_empty() {
            writer.tail = Some(tail);
            return Ok(Vec::new());
        }
        let sequences = writer.sequences_of(&self.path, decisions).await?;
        let batch = self.signer.prepare(&tail, sequences, decisions)?;
        writer.commit(&self.path, batch).await
    }

    /// Runs a statement over the connection that writes.
    #[cfg(test)]
    pub(crate) async fn on_writer(&self, sql: &'static str) {
        let mut writer = self.writer.lock().await;
        sqlx::raw_sql(sql)
            .execute(&mut writer.connection)
            .await
            .unwrap();
    }

    /// Ends all connections in order; the write-ahead log moves into the file.
    ///
    /// # Errors
    /// When SQLite could not; nothing is lost, the next open does it.
    pub async fn close(self) -> Result<(), PortError> {
        file::close(&self.path, self.answers.into_inner()).await?;
        file::close(&self.path, self.reader.into_inner()).await?;
        file::close(&self.path, self.writer.into_inner().connection).await
    }
}

impl SqliteJournal {
    async fn list_subscriptions(&self) -> Result<Vec<Subscription>, PortError> {
        subscriptions::list(&mut *self.reader.lock().await, &self.place).await
    }

    async fn change_subscription(
        &self,
        name: &SubscriptionName,
        change: Change,
    ) -> Result<Option<Subscription>, PortError> {
        let mut writer = self.writer.lock().await;
        // Whatever an append left open is ended first.
        let tail = writer.take_tail(&self.path).await?;
        writer.tail = Some(tail);
        let written = subscriptions::write(&mut writer.connection, name, change).await;
        let went = written.map_err(|error| writer.failed(&self.path, error))?;
        let told = (name, change, went);
        subscriptions::outcome(&mut writer.connection, &self.place, told).await
    }
}

subscriptions_by_change!(SqliteJournal);

impl Writer {
    /// A statement outside an append failed: what is no lack of room or turn ends all writing.
    fn failed(&mut self, path: &Path, error: sqlx::Error) -> PortError {
        let is_fatal = matches!(
            fault::classify(&error),
            Beneath::Unwritable | Beneath::Unknown
        );
        self.stopped |= is_fatal;
        let error = fault::port(path, error);
        let kind = if is_fatal {
            ErrorKind::Corrupt
        } else {
            error.kind
        };
        PortError { kind, ..error }
    }

    /// The tail; read from the file when the last append did not end in a commit.
    async fn take_tail(&mut self, path: &Path) -> Result<Tail, PortError> {
        if self.stopped {
            let text = format!(
                "the journal {} stopped after a failed write; restart",
                path.display()
            );
            return Err(PortError::new(ErrorKind::Corrupt, text));
        }
        if let Some(tail) = self.tail.take() {
            return Ok(tail);
        }
        self.sequences.clear();
        self.roll_back(path).await?;
        read::tail(&mut self.connection, &Place::file(path)).await
    }

    /// Ends an open transaction, if there is one.
    async fn roll_back(&mut self, path: &Path) -> Result<(), PortError> {
        let done = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
        match done {
            Err(error) if !is_no_transaction(&error) => {
                self.stopped = true;
                Err(fault::port(path, error))
            }
            _ => Ok(()),
        }
    }

    /// Last sequences of every aggregate of a batch.
    async fn sequences_of(
        &mut self,
        path: &Path,
        decisions: &[Decision],
    ) -> Result<HashMap<String, u64>, PortError> {
        let mut found = HashMap::new();
        let mut unknown = Vec::new();
        for (_, event) in decisions.iter().flat_map(|decision| &decision.events) {
            let aggregate = subject(event);
            match self.sequences.get(&aggregate) {
                Some(last) => drop(found.insert(aggregate, *last)),
                None if !unknown.contains(&aggregate) => unknown.push(aggregate),
                None => {}
            }
        }
        for some in unknown.chunks(MAX_ASKED) {
            let rows = self.connection.last_sequences(some).await;
            let rows = rows.map_err(|source| fault::port(path, source))?;
            found.extend(
                rows.into_iter()
                    .map(|(aggregate, last)| (aggregate, from_sql(last))),
            );
        }
        Ok(found)
    }

    /// Writes a batch and takes over its tail.
    async fn commit(&mut self, path: &Path, batch: Batch) -> Result<Vec<RecordedEvent>, PortError> {
        let recorded = batch.recorded();
        let (tail, sequences) = (batch.tail.clone(), batch.sequences.clone());
        if let Err(error) = script::of_batch(batch).run(&mut self.connection).await {
            match fault::classify(&error) {
                Beneath::Full | Beneath::Taken | Beneath::Busy => self.roll_back(path).await?,
                Beneath::Unwritable | Beneath::Unknown => self.stopped = true,
            }
            let kind = if self.stopped {
                Some(ErrorKind::Corrupt)
            } else {
                None
            };
            let error = fault::port(path, error);
            return Err(PortError {
                kind: kind.unwrap_or(error.kind),
                ..error
            });
        }
        self.tail = Some(tail);
        if self.sequences.len() > MAX_KEPT_SEQUENCES {
            self.sequences.clear();
        }
        self.sequences.extend(sequences);
        Ok(recorded)
    }
}

fn is_no_transaction(error: &sqlx::Error) -> bool {
    let message = error
        .as_database_error()
        .map(|error| error.message().to_owned());
    message.is_some_and(|message| message.contains("no transaction is active"))
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(
        &self,
        first: u64,
        decisions: &[Decision],
    ) -> Result<Vec<RecordedEvent>, PortError> {
        let mut writer = self.writer.lock().await;
        let class = decisions.iter().map(|decision| decision.class).min();
        let class = class.unwrap_or(Class::Fact);
        if !writer.reserve.admits(class) {
            return Err(fault::full(&self.path));
        }
        match self.append_once(&mut writer, first, decisions).await {
            Err(error) if fault::is_full(&error) && writer.reserve.helps(class) => {
                self.append_once(&mut writer, first, decisions).await
            }
            done => done,
        }
    }

    async fn verdict(&self, command: CommandId) -> Result<Option<Verdict>, PortError> {
        read::answer(&mut *self.answers.lock().await, &self.place, command).await
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, PortError> {
        let mut reader = self.reader.lock().await;
        let rows = read::event_rows(&mut *reader, &self.place, after, limit).await;
        drop(reader);
        rows?.prove(&self.place)
    }

    async fn open_effects(&self) -> Result<Vec<OpenEffect>, PortError> {
        read::open_effects(&mut *self.reader.lock().await, &self.place).await
    }

    async fn read_audit(&self, from: u64, limit: usize) -> Result<Vec<AuditLeaf>, PortError> {
        read::leaves(&mut *self.reader.lock().await, &self.place, from, limit).await
    }

    async fn head(&self) -> Result<Head, PortError> {
        read::head(&mut *self.reader.lock().await, &self.place).await
    }

    async fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<[u8; 32]>, PortError> {
        let mut reader = self.reader.lock().await;
        read::inclusion_proof(&mut *reader, &self.place, (index, size)).await
    }

    async fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<[u8; 32]>, PortError> {
        let mut reader = self.reader.lock().await;
        read::consistency_proof(&mut *reader, &self.place, (old, new)).await
    }

    async fn audit_begins(&self) -> Result<u64, PortError> {
        retention::begins(&mut *self.reader.lock().await, &self.place).await
    }

    async fn removed_hashes(&self, from: u64, limit: usize) -> Result<Vec<[u8; 32]>, PortError> {
        let mut reader = self.reader.lock().await;
        retention::hashes(&mut *reader, &self.place, (from, limit)).await
    }

    async fn remove_audit(&self, before: u64) -> Result<u64, PortError> {
        self.remove_records(before).await
    }

    async fn verify(&self) -> Result<Verification, PortError> {
        verify::run(&self.path, &self.signer.origin, self.public_key()).await
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::event::Event;
    use keywheel_core::id::SecretId;
    use keywheel_core::secret;
    use keywheel_testkit::conformance::journal::decision;

    use super::*;
    use crate::tests::open;

    /// A decision about a secret of its own.
    fn about(number: u64, secret: u64) -> Decision {
        let mut made = decision(number);
        let mut id = [7; 16];
        id[8..].copy_from_slice(&secret.to_be_bytes());
        let event = secret::Event::VersionPromoted { version: number };
        made.events[0].1 = Event::Secret(SecretId::from_bytes(id), event);
        made
    }

    #[tokio::test]
    async fn more_aggregates_than_one_query_asks_for_keep_their_sequences() {
        let many = MAX_ASKED as u64 + 1;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.db");
        for round in 0..2 {
            // Reopened, it knows no sequence and asks for all of them.
            let journal = open(&path).await;
            let first = round * many + 1;
            let batch: Vec<Decision> = (0..many).map(|n| about(first + n, n)).collect();
            journal.append(first, &batch).await.unwrap();
            let verified = journal.verify().await.unwrap();
            assert_eq!(verified.faults, Vec::<String>::new());
            assert_eq!(verified.events, (round + 1) * many);
            journal.close().await.unwrap();
        }
    }

    #[tokio::test]
    async fn sequences_in_memory_are_bounded_and_read_again_when_they_went() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(&directory.path().join("journal.db")).await;
        journal
            .append(1, &[about(1, 1), about(2, 2)])
            .await
            .unwrap();
        let mut writer = journal.writer.lock().await;
        let others = (0..MAX_KEPT_SEQUENCES).map(|n| (format!("other/{n}"), 1));
        writer.sequences.extend(others);
        drop(writer);
        journal.append(3, &[about(3, 1)]).await.unwrap();
        assert_eq!(journal.writer.lock().await.sequences.len(), 1);
        journal.append(4, &[about(4, 2)]).await.unwrap();
        assert_eq!(journal.verify().await.unwrap().faults, Vec::<String>::new());
    }

    #[tokio::test]
    async fn an_answer_is_looked_up_although_somebody_reads_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(&directory.path().join("journal.db")).await;
        let made = about(1, 1);
        journal
            .append(1, std::slice::from_ref(&made))
            .await
            .unwrap();
        // As long as a reader of the log has its turn.
        let _reading = journal.reader.lock().await;
        let found = journal.verdict(made.command).await.unwrap();
        assert_eq!(found, Some(made.verdict));
    }
}
