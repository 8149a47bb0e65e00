//! The cluster store: ScyllaDB or Apache Cassandra, over CQL. Several nodes write to the same tables
//! without asking each other; nothing in a node is needed by another.
//!
//! Every write says its timestamp, made from the event, so whatever order writes arrive in, and however
//! often, the tables end in the same state. What needs servers runs on threads of this store, so no thread
//! that serves clients reads rows.

mod batch;
mod bucket;
mod chunk;
mod consistency;
mod cql;
mod decide;
mod declared;
mod dial;
mod drafts;
mod finish;
mod hidden;
mod index;
mod key;
mod known;
mod link;
mod log;
mod merge;
mod migrate;
mod open_error;
mod peers;
mod plan;
mod positions;
mod read;
mod records;
mod schema;
mod server_clock;
mod settled;
mod sieve;
mod statements;
mod sweep;
mod tables;
mod threads;
mod write;
mod writers;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::Mutex;

pub use declared::SCHEMA;
pub use link::Refusal;
pub use open_error::OpenError;
pub use schema::DEFAULT_REPLICATION;

use self::{
    bucket::Sampling,
    cql::Cql,
    drafts::Drafts,
    finish::Finisher,
    hidden::Hidden,
    log::CqlLog,
    positions::Positions,
    read::{QueryBounds, Reader},
    records::Recorder,
    settled::Settled,
    sweep::{Leftovers, Removable, Sweeper},
    tables::Tables,
    threads::Threads,
    write::Writer,
};
use super::{
    BatchOutcome, Counted, Cursor, Identity, Load, Page, Position, Query, Store, StoreError,
    door::{Cost, Door},
    log::{Digests, Log},
    records::Records,
};
use crate::{
    clock::Moment,
    config,
    protocol::{Event, Timestamp},
};

/// A connection to the servers, and the threads that serve it.
pub struct CqlConnection {
    threads: Threads,
    cql: Arc<Cql>,
}

/// The cluster store.
pub struct Scylla {
    connection: Arc<CqlConnection>,
    parts: Arc<Parts>,
    log: Arc<CqlLog>,
    door: Arc<Door>,
}

struct Parts {
    /// The room for statements of batches, and that for those of questions.
    writes: Arc<Cql>,
    questions: Arc<Cql>,
    writer: Writer,
    reader: Reader,
    sweeper: Sweeper,
    finisher: Finisher,
    recorder: Recorder,
    positions: Arc<Positions>,
    /// Batches take turns: what one writes is what the next decides by. Removals need none: what they take
    /// away is refused by its mark, its winner or its expiration, whoever writes meanwhile.
    turn: Mutex<()>,
    deadline: Duration,
}

impl CqlConnection {
    /// Connects and checks the keyspace.
    ///
    /// # Errors
    /// Says what is wrong, and what to do about it.
    pub async fn open(config: &config::Scylla) -> Result<Self, OpenError> {
        let threads = Threads::start(config.threads)?;
        let config = config.clone();
        let work = async move { Cql::open(&config).await };
        let cql = threads.run(work, || OpenError::Thread(std::io::ErrorKind::Interrupted.into())).await?;
        Ok(Self { threads, cql: Arc::new(cql) })
    }
}

/// Makes the keyspace and its tables as far as they are missing; `replication` is for a keyspace that
/// has to be made, in the syntax of CQL.
///
/// # Errors
/// Says what is wrong.
pub async fn apply_schema(config: &config::Scylla, replication: &str) -> Result<(), OpenError> {
    migrate::apply(config, replication).await
}

/// Migrates the tables of an earlier version. `last`: no program of an earlier version is to use them any more.
///
/// # Errors
/// Says what is wrong.
pub async fn migrate_schema(config: &config::Scylla, last: bool) -> Result<(), OpenError> {
    migrate::bring_up(config, last).await
}

impl Scylla {
    /// Opens the store.
    ///
    /// # Errors
    /// Says what is wrong, and what to do about it.
    pub async fn open(config: &config::Scylla, digests: Digests) -> Result<Self, OpenError> {
        Ok(Self::over(Arc::new(CqlConnection::open(config).await?), config, digests))
    }

    /// A store over a connection that is there. `digests`: what events are noted by in the log.
    pub fn over(connection: Arc<CqlConnection>, config: &config::Scylla, digests: Digests) -> Self {
        let deadline = Duration::from_millis(config.deadline_ms);
        // None waits for the statements of another, however many those are.
        let room = |concurrency| Arc::new(connection.cql.beside(concurrency, deadline));
        let (writes, questions) = (room(config.concurrency), room(config.concurrency));
        let tables = Tables::new(Arc::clone(&writes), Sampling::for_rows(config.partition_rows));
        let reading = Arc::new(tables.through(Arc::clone(&questions)));
        let sweeping = tables.through(room(config.sweep_concurrency));
        let (hidden, leftovers) = (Arc::<Hidden>::default(), Arc::<Leftovers>::default());
        let removable = Arc::<Removable>::default();
        let positions = Arc::new(Positions::new());
        let drafts = Arc::new(Drafts::new(Arc::clone(&writes)));
        let settled = Arc::new(Settled::new(Arc::clone(&questions), Arc::clone(&drafts)));
        let logging = room(config.concurrency);
        let written = Arc::new(log::OwnLog::new(Arc::clone(&logging), digests, Arc::clone(&drafts)));
        let finisher = Finisher::new(logging, Arc::clone(&drafts), Arc::clone(&written));
        let log =
            Arc::new(CqlLog { connection: Arc::clone(&connection), written: Arc::clone(&written), deadline });
        let sweeper = Sweeper::new(
            sweeping,
            Arc::clone(&hidden),
            Arc::clone(&leftovers),
            Arc::clone(&removable),
            written.origin(),
            sweep::SweepBounds::from(config),
        );
        let reader = Reader::new(
            reading,
            Arc::clone(&hidden),
            Arc::clone(&positions),
            leftovers,
            Arc::clone(&settled),
            QueryBounds::from(config),
        );
        let writer = Writer {
            tables: Arc::new(tables),
            hidden,
            positions: Arc::clone(&positions),
            log: written,
            drafts,
            settled,
            removable,
            deadline,
        };
        let recorder = Recorder::new(room(config.record_concurrency));
        let parts = Parts {
            writes,
            questions,
            writer,
            reader,
            sweeper,
            finisher,
            recorder,
            positions,
            turn: Mutex::new(()),
            deadline,
        };
        let patience = Duration::from_millis(config.question_wait_ms);
        let door = Door::new(config.max_queries, config.question_statements, BESIDE, patience);
        Self { connection, parts: Arc::new(parts), log, door: Arc::new(door) }
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        self.connection.threads.run(work, || StoreError::Closed).boxed()
    }

    /// Answers a question, when its turn has come.
    fn ask<T: Send + 'static>(
        &self,
        work: Cost,
        answer: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let door = Arc::clone(&self.door);
        self.run(async move {
            let _admitted = door.enter(work, statements(work)).await?;
            answer.await
        })
    }
}

/// How many questions of any size are under way together at least.
const BESIDE: usize = 2;

/// How many statements a question takes, about.
fn statements(work: Cost) -> usize {
    /// Rows of a page that name events to be read one by one, about: it ends by its bytes.
    const ROWS: usize = 300;
    work.ranges.saturating_mul(2) + work.rows.min(ROWS)
}

impl Parts {
    async fn write(
        &self,
        batch: &[Arc<Event>],
        now: Timestamp,
        until: Instant,
    ) -> Result<BatchOutcome, StoreError> {
        let begun = Moment::now();
        let mut done = self.writes.until(until, self.writer.write(batch, now)).await?;
        if begun.elapsed() >= self.deadline {
            // The batch was held up, and the others may have stopped looking under its number.
            done.written.sequence = self.writes.within(self.writer.log_again(batch, &done.written)).await?;
        }
        Ok(self.writer.settled(batch, done))
    }
}

impl Store for Scylla {
    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>> {
        let parts = Arc::clone(&self.parts);
        self.run(async move {
            let _turn = parts.turn.lock().await;
            let written = parts.write(&batch, now, until).await;
            if written.is_err() {
                parts.writer.failed();
            }
            written
        })
    }

    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>> {
        let parts = Arc::clone(&self.parts);
        let work = Cost::of(&query, Some(&cursor));
        self.ask(work, async move { parts.questions.within(parts.reader.page(&query, cursor)).await })
    }

    fn count(&self, query: Arc<Query>) -> BoxFuture<'_, Result<Counted, StoreError>> {
        let parts = Arc::clone(&self.parts);
        let work = Cost::of(&query, None);
        self.ask(work, async move { parts.questions.within(parts.reader.count(&query)).await })
    }

    fn maintain(&self, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        let parts = Arc::clone(&self.parts);
        self.run(async move { parts.sweeper.sweep(now).await })
    }

    fn abandoned(&self, tried_for: Duration) -> BoxFuture<'_, Result<Vec<Arc<Event>>, StoreError>> {
        let parts = Arc::clone(&self.parts);
        self.run(async move { parts.writes.within(parts.finisher.abandoned(tried_for)).await })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        let parts = Arc::clone(&self.parts);
        self.run(async move {
            let _turn = parts.turn.lock().await;
            parts.writes.within(parts.finisher.leave()).await
        })
    }

    fn head(&self) -> Position {
        self.parts.positions.head()
    }

    fn log(&self) -> Option<Arc<dyn Log>> {
        Some(Arc::clone(&self.log) as Arc<dyn Log>)
    }

    fn records(&self) -> &dyn Records {
        self
    }

    fn identity(&self) -> Identity {
        self.parts.writes.identity
    }

    fn load(&self) -> Load {
        let clock_ahead = self.parts.sweeper.clock().seconds_ahead();
        let stuck = self.connection.threads.pulse.age();
        let load = self.parts.writes.load(&self.parts.questions);
        Load { questions: self.door.fill(), clock_ahead, stuck, ..load }
    }
}
