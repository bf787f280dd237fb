//! The journal over PostgreSQL: many gateways, one log.
//!
//! Invariants: an append locks the single row of the head, so appends happen in turn and numbers have
//! no gap; it is refused when the head is not where the decision saw it, and that one number stands for
//! the version of every aggregate that was read; nothing is kept in memory between appends, so a
//! process that was paused finds out at its next append. A COMMIT whose answer is lost is looked up by
//! its command under the same lock before anything is said about it.

mod bell;
mod deliveries;
pub(crate) mod fault;
mod lost;
mod removal;
#[cfg(test)]
mod tests;
mod turn;
mod write;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::{CommandId, SubscriptionId};
use keywheel_core::name::SubscriptionName;
use keywheel_engine::port::journal::{
    AuditLeaf, Decision, Head, Journal, Mark, OpenEffect, RecordedEvent, Turn, Verdict,
    Verification,
};
use keywheel_engine::port::subscriptions::{Subscription, Subscriptions, too_many, unknown};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_postgres::fault::{Fault, sort};
use keywheel_postgres::{Address, session};
use keywheel_schemas::event::subject;
use keywheel_seal::sign::VerifyingKey;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::batch::{Signer, Tail};
use crate::place::Place;
use crate::rows::Rows as _;
use crate::subscriptions::{self, Change, subscriptions_by_change};
use crate::tables::from_sql;
use crate::{JournalOptions, opening, read, retention, verify};
use lost::{Failure, Lost, Trace};

/// Where the tables are.
const SCHEMA: &str = "keywheel_journal";
/// One text per format of the tables.
const UPGRADES: [&str; 5] = [
    include_str!("0001_tables.sql"),
    include_str!("0002_subscriptions.sql"),
    include_str!("0003_subscription_ids.sql"),
    include_str!("0004_deliveries.sql"),
    include_str!("0005_removed_tiles.sql"),
];
/// How often, and how far apart, a lost COMMIT is looked up before the caller is told to ask again.
const SETTLE_TRIES: u32 = 10;
const SETTLE_PAUSE: Duration = Duration::from_millis(500);
/// How long an append or a read may take, longer than any wait for a lock: a server that vanished
/// without a word would else be waited for without end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most aggregates one query asks for.
const MAX_ASKED: usize = 64;

/// The log of record in a PostgreSQL database that several gateways share.
pub struct PostgresJournal {
    pool: PgPool,
    place: Place,
    signer: Signer,
    /// Tells this opening from every other, for its turn to publish.
    holder: Vec<u8>,
    bell: watch::Receiver<Mark>,
    ringing: JoinHandle<()>,
}

impl PostgresJournal {
    /// Opens a journal, or makes it in an empty database. Others may have it open too.
    ///
    /// # Errors
    /// `Denied` when it belongs to another deployment or key or the server is not fit, `Corrupt` when
    /// it is damaged, `Unavailable` when the server is away.
    pub async fn open(address: &Address, options: JournalOptions) -> Result<Self, PortError> {
        let (deployment, signer) = opening::signer(options)?;
        let place = Place::Server(address.name().to_owned());
        let pool = session::open(address, SCHEMA, &UPGRADES).await;
        let pool = pool.map_err(fault::opening)?;
        let failed = |source| place.failed(source);
        let mut transaction = pool.begin().await.map_err(failed)?;
        // One opener at a time makes the first rows.
        let lock = "LOCK TABLE log IN EXCLUSIVE MODE";
        let locked = sqlx::query(lock).execute(&mut *transaction).await;
        locked.map_err(failed)?;
        if transaction.owner().await.map_err(failed)?.is_none() {
            opening::begin(&mut *transaction, &place, deployment, &signer).await?;
        }
        opening::check_owner(&mut *transaction, &place, deployment, &signer).await?;
        let tail = locked_tail(&mut transaction, &place).await?;
        opening::check_tail(&mut *transaction, &place, &signer, &tail).await?;
        let holder = sqlx::query_scalar("SELECT uuid_send(gen_random_uuid())")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        let (sender, bell) = watch::channel(Mark {
            number: tail.number,
            audit_size: tail.frontier.size(),
        });
        let ringing = tokio::spawn(bell::ring(pool.clone(), sender));
        Ok(Self {
            pool,
            place,
            signer,
            holder,
            bell,
            ringing,
        })
    }

    /// The key whose public half verifies events and checkpoints.
    #[must_use]
    pub fn public_key(&self) -> VerifyingKey {
        self.signer.key.verifying_key()
    }

    /// Ends every connection in order. Dropping the journal is safe too.
    pub async fn close(self) {
        self.ringing.abort();
        self.pool.close().await;
    }

    /// Ends what takes too long.
    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, PortError>> + Send,
    ) -> Result<T, PortError> {
        let ended = tokio::time::timeout(PATIENCE, work).await;
        ended.unwrap_or_else(|_| {
            let text = format!(
                "the database {} did not answer in time; repeat the command with the same id: it is answered once",
                self.place
            );
            Err(PortError::new(ErrorKind::Unavailable, text))
        })
    }

    async fn append_now(
        &self,
        first: u64,
        decisions: &[Decision],
    ) -> Result<Vec<RecordedEvent>, PortError> {
        match self.transact(first, decisions).await {
            Ok(recorded) => Ok(recorded),
            Err(Failure::Before(error)) => Err(error),
            Err(Failure::AtCommit(lost)) => self.settle(lost).await,
        }
    }

    async fn connection(&self) -> Result<PoolConnection<Postgres>, PortError> {
        let connection = self.pool.acquire().await;
        connection.map_err(|source| self.place.failed(source))
    }

    async fn transact(
        &self,
        first: u64,
        decisions: &[Decision],
    ) -> Result<Vec<RecordedEvent>, Failure> {
        let failed = |source| Failure::Before(self.place.failed(source));
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let tail = locked_tail(&mut transaction, &self.place).await;
        let tail = tail.map_err(Failure::Before)?;
        let next = tail.number.saturating_add(1);
        if first != next {
            let text =
                format!("the next event of the log is number {next}, not {first}; read again");
            return Err(Failure::Before(PortError::new(ErrorKind::Conflict, text)));
        }
        let Some(command) = decisions.first().map(|decision| decision.command) else {
            return Ok(Vec::new());
        };
        let sequences = sequences_of(&mut transaction, decisions).await;
        let sequences = sequences.map_err(failed)?;
        let batch = self.signer.prepare(&tail, sequences, decisions);
        let batch = batch.map_err(Failure::Before)?;
        let (recorded, trace) = (batch.recorded(), Trace::of(&batch, command));
        let written = write::batch(&mut transaction, batch).await;
        written.map_err(failed)?;
        match transaction.commit().await {
            Ok(()) => Ok(recorded),
            Err(source) => match sort(&source) {
                Fault::Gone | Fault::Unknown => Err(Failure::AtCommit(Lost {
                    recorded,
                    trace,
                    source,
                })),
                _ => Err(failed(source)),
            },
        }
    }

    /// Whether an append whose answer is lost happened. The head's lock makes it wait until the server
    /// is done with the lost session.
    async fn happened(&self, trace: &Trace) -> Result<bool, PortError> {
        let failed = |source| self.place.failed(source);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        locked_tail(&mut transaction, &self.place).await?;
        trace.is_there(&mut transaction).await.map_err(failed)
    }

    /// Finds out how a COMMIT ended whose answer is lost.
    async fn settle(&self, lost: Lost) -> Result<Vec<RecordedEvent>, PortError> {
        for _ in 0..SETTLE_TRIES {
            match self.happened(&lost.trace).await {
                Ok(true) => return Ok(lost.recorded),
                Ok(false) => {
                    let text = format!(
                        "the connection to {} broke before the commit; read again",
                        self.place
                    );
                    return Err(PortError::caused(ErrorKind::Conflict, text, lost.source));
                }
                Err(error) => tracing::warn!(%error, "a lost commit is not found out yet"),
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        let text = format!(
            "the database {} broke off during a commit; repeat the command with the same id: it is answered once",
            self.place
        );
        Err(PortError::caused(ErrorKind::Unavailable, text, lost.source))
    }
}

impl PostgresJournal {
    async fn list_subscriptions(&self) -> Result<Vec<Subscription>, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            subscriptions::list(&mut *connection, &self.place).await
        };
        self.within(read).await
    }

    async fn change_subscription(
        &self,
        name: &SubscriptionName,
        change: Change,
    ) -> Result<Option<Subscription>, PortError> {
        let changed = async {
            let failed = |source| self.place.failed(source);
            let mut transaction = self.pool.begin().await.map_err(failed)?;
            // One at a time, or two would both find room for one more.
            let lock = "LOCK TABLE subscription IN SHARE ROW EXCLUSIVE MODE";
            let locked = sqlx::query(lock).execute(&mut *transaction).await;
            locked.map_err(failed)?;
            let written = subscriptions::write(&mut *transaction, name, change).await;
            let told = (name, change, written.map_err(failed)?);
            let outcome = subscriptions::outcome(&mut *transaction, &self.place, told).await?;
            transaction.commit().await.map_err(failed)?;
            Ok(outcome)
        };
        self.within(changed).await
    }
}

subscriptions_by_change!(PostgresJournal);

impl Drop for PostgresJournal {
    fn drop(&mut self) {
        self.ringing.abort();
    }
}

/// Checks a journal by the name and the key written in it, as `verify_file` does, while others may
/// append. Whose key that is, the caller compares with what he got elsewhere.
///
/// # Errors
/// When there is no journal or it cannot be read.
pub async fn verify_database(address: &Address) -> Result<(Verification, String), PortError> {
    let place = Place::Server(address.name().to_owned());
    let pool = session::connect(address, SCHEMA).await;
    let pool = pool.map_err(fault::opening)?;
    let verified = verify_over(&pool, &place).await;
    pool.close().await;
    verified
}

async fn verify_over(pool: &PgPool, place: &Place) -> Result<(Verification, String), PortError> {
    let failed = |source| place.failed(source);
    let mut snapshot = snapshot(pool, place).await?;
    let there: bool = sqlx::query_scalar("SELECT to_regclass('log') IS NOT NULL")
        .fetch_one(&mut *snapshot)
        .await
        .map_err(failed)?;
    let owner = match there {
        true => snapshot.owner().await.map_err(failed)?,
        false => None,
    };
    if owner.is_none() {
        let text = format!("there is no journal in {place}");
        return Err(PortError::new(ErrorKind::NotFound, text));
    }
    let (origin, key, verifier_key) = verify::named_owner(owner, place)?;
    let verification = verify::over(&mut *snapshot, place, &origin, &key).await?;
    Ok((verification, verifier_key))
}

/// A transaction that sees the log as it is now, holds no lock and may take its time.
async fn snapshot(
    pool: &PgPool,
    place: &Place,
) -> Result<Transaction<'static, Postgres>, PortError> {
    let failed = |source| place.failed(source);
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    let mut transaction = pool.begin_with(begin).await.map_err(failed)?;
    let patient =
        "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0";
    let set = sqlx::raw_sql(patient).execute(&mut *transaction).await;
    set.map_err(failed)?;
    Ok(transaction)
}

/// Where the log ends, locked until the transaction does.
async fn locked_tail(connection: &mut PgConnection, place: &Place) -> Result<Tail, PortError> {
    let lock = "SELECT 1 FROM head WHERE id = 1 FOR UPDATE";
    let locked = sqlx::query(lock).execute(&mut *connection).await;
    locked.map_err(|source| place.failed(source))?;
    // Read after the lock was granted: this sees what its last holder committed.
    read::tail(connection, place).await
}

/// Last sequences of every aggregate of a batch.
async fn sequences_of(
    connection: &mut PgConnection,
    decisions: &[Decision],
) -> Result<HashMap<String, u64>, sqlx::Error> {
    let events = decisions.iter().flat_map(|decision| &decision.events);
    let mut aggregates: Vec<String> = events.map(|(_, event)| subject(event)).collect();
    aggregates.sort_unstable();
    aggregates.dedup();
    let mut found = HashMap::new();
    for some in aggregates.chunks(MAX_ASKED) {
        let rows = connection.last_sequences(some).await?;
        found.extend(rows.into_iter().map(|(name, last)| (name, from_sql(last))));
    }
    Ok(found)
}

#[async_trait]
impl Journal for PostgresJournal {
    async fn append(
        &self,
        first: u64,
        decisions: &[Decision],
    ) -> Result<Vec<RecordedEvent>, PortError> {
        self.within(self.append_now(first, decisions)).await
    }

    async fn verdict(&self, command: CommandId) -> Result<Option<Verdict>, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            read::answer(&mut *connection, &self.place, command).await
        };
        self.within(read).await
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            read::event_rows(&mut *connection, &self.place, after, limit).await
        };
        self.within(read).await?.prove(&self.place)
    }

    async fn open_effects(&self) -> Result<Vec<OpenEffect>, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            read::open_effects(&mut *connection, &self.place).await
        };
        self.within(read).await
    }

    async fn read_audit(&self, from: u64, limit: usize) -> Result<Vec<AuditLeaf>, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            read::leaves(&mut *connection, &self.place, from, limit).await
        };
        self.within(read).await
    }

    async fn head(&self) -> Result<Head, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            read::head(&mut *connection, &self.place).await
        };
        self.within(read).await
    }

    async fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<[u8; 32]>, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            read::inclusion_proof(&mut *connection, &self.place, (index, size)).await
        };
        self.within(read).await
    }

    async fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<[u8; 32]>, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            read::consistency_proof(&mut *connection, &self.place, (old, new)).await
        };
        self.within(read).await
    }

    async fn audit_begins(&self) -> Result<u64, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            retention::begins(&mut *connection, &self.place).await
        };
        self.within(read).await
    }

    async fn removed_hashes(&self, from: u64, limit: usize) -> Result<Vec<[u8; 32]>, PortError> {
        let read = async {
            let mut connection = self.connection().await?;
            retention::hashes(&mut *connection, &self.place, (from, limit)).await
        };
        self.within(read).await
    }

    async fn remove_audit(&self, before: u64) -> Result<u64, PortError> {
        self.within(removal::records(&self.pool, &self.place, before))
            .await
    }

    async fn verify(&self) -> Result<Verification, PortError> {
        let mut snapshot = snapshot(&self.pool, &self.place).await?;
        let (origin, key) = (&self.signer.origin, self.public_key());
        verify::over(&mut *snapshot, &self.place, origin, &key).await
    }

    fn bell(&self) -> Option<watch::Receiver<Mark>> {
        Some(self.bell.clone())
    }

    async fn turn(&self, told: Option<Mark>, span: Duration) -> Result<Turn, PortError> {
        let taken = async {
            let mut connection = self.connection().await?;
            let turn = turn::take(&mut connection, &self.holder, told, span).await;
            turn.map_err(|source| self.place.failed(source))
        };
        self.within(taken).await
    }
}
