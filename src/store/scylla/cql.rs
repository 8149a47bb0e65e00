//! The way to the servers: one session, every statement prepared once, many in flight but bounded, and
//! tried again until the caller's deadline. Knows statements and values, not events.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use scylla::{
    client::session::Session,
    deserialize::row::DeserializeRow,
    errors::ExecutionError,
    response::query_result::QueryResult,
    statement::prepared::PreparedStatement,
    value::{CqlTimestamp, CqlValue, Row},
};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::debug;

use super::{
    OpenError, consistency,
    dial::{connect, is_final},
    migrate, schema,
    server_clock::{ClockReading, ServerClock},
    statements::Statements,
};
use crate::{
    clock::Moment,
    config,
    protocol::Timestamp,
    store::{Identity, Load, StoreError},
};

/// What a statement is given, in the order of its question marks.
pub type Values = Vec<CqlValue>;

/// Pause before a statement is tried again: doubled each time, with jitter, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A connection to the cluster with everything prepared, and room in it: statements wait for each other only
/// where they go through the same one.
pub struct Cql {
    session: Arc<Session>,
    /// The identity of the tables.
    pub identity: Identity,
    pub statements: Arc<Statements>,
    pub clock: Arc<ServerClock>,
    /// Statements that may be in flight.
    gate: Semaphore,
    concurrency: usize,
    deadline: Duration,
    counters: Arc<Counters>,
    /// Statements of this room that were answered.
    answered: AtomicU64,
    /// Why a statement failed last, for whoever gives up.
    last: Mutex<Option<Arc<ExecutionError>>>,
}

/// Statements sent, of them those that were tried again, and rows that came back.
#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    retries: AtomicU64,
    rows: AtomicU64,
}

/// Why a statement has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The servers say that they never will answer.
    #[error("a statement was refused: {0}")]
    Refused(Box<ExecutionError>),
    /// The answer is not what the tables should give.
    #[error("an answer makes no sense: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
    /// Servers answer, but there was more to be done than fits into the time.
    #[error("not done within {} ms, though servers answer; the last error: {}", .waited.as_millis(), or_none(.last))]
    Late { waited: Duration, last: Option<Arc<ExecutionError>> },
    /// The statement was tried until the deadline, and servers do not answer.
    #[error("no answer within {} ms; the last error: {}", .waited.as_millis(), or_none(.last))]
    Away { waited: Duration, last: Option<Arc<ExecutionError>> },
    /// A conditional write may have been made, or may be yet.
    #[error("nobody says whether a conditional write was made: {0}")]
    Undecided(Arc<ExecutionError>),
    /// This process was stopped for so long that others may have taken the batch over.
    #[error("held up for so long that other nodes may have finished it")]
    Held,
    #[error("the store is closed")]
    Closed,
}

/// The answer to a conditional write does not say whether it was made.
#[derive(Debug, thiserror::Error)]
#[error("the answer to a conditional write does not say whether it was made")]
struct NotDecided;

/// A server does not say what its clock reads.
#[derive(Debug, thiserror::Error)]
#[error("a server does not say what its clock reads")]
struct NoClock;

fn or_none(error: &Option<Arc<ExecutionError>>) -> String {
    error.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
}

impl Failure {
    pub fn answer(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Answer(Box::new(error))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed => Self::Closed,
            late @ Failure::Late { .. } => Self::Late(Arc::new(late)),
            other => Self::Engine(Arc::new(other)),
        }
    }
}

impl Cql {
    /// Connects, checks that the keyspace is ours and safe with the configured consistencies, and
    /// prepares all statements.
    ///
    /// # Errors
    /// Says what is wrong, and what to do about it.
    pub async fn open(config: &config::Scylla) -> Result<Self, OpenError> {
        let session = connect(config, Duration::from_millis(config.request_timeout_ms)).await?;
        let versions = schema::check(&session, &config.keyspace).await?;
        consistency::check(&session, config).await?;
        let write = consistency::parse(&config.write_consistency)?;
        match versions.is_current() {
            true => migrate::take_conditions(&session, &config.keyspace).await?,
            false => migrate::migrate(&session, &config.keyspace, write).await?,
        }
        let identity = schema::identity(&session, &config.keyspace, write).await?;
        let statements = Statements::prepare(&session, &config.keyspace, write).await?;
        let cql = Self {
            session: Arc::new(session),
            identity,
            statements: Arc::new(statements),
            clock: Arc::default(),
            gate: Semaphore::new(config.concurrency),
            concurrency: config.concurrency,
            deadline: Duration::from_millis(config.deadline_ms),
            counters: Arc::default(),
            answered: AtomicU64::new(0),
            last: Mutex::new(None),
        };
        cql.within(cql.read_clock()).await.map_err(OpenError::Clock)?;
        Ok(cql)
    }

    /// The same connection with room of its own, for so many statements in flight.
    pub fn beside(&self, concurrency: usize, deadline: Duration) -> Self {
        Self {
            session: Arc::clone(&self.session),
            identity: self.identity,
            statements: Arc::clone(&self.statements),
            clock: Arc::clone(&self.clock),
            gate: Semaphore::new(concurrency),
            concurrency,
            deadline,
            counters: Arc::clone(&self.counters),
            answered: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// Writes; resolves when enough replicas have it.
    ///
    /// # Errors
    /// When it never will be. While servers are away it is tried for as long as the caller waits.
    pub async fn write(&self, statement: &PreparedStatement, values: Values) -> Result<(), Failure> {
        self.run(statement, values).await.map(drop)
    }

    /// Reads rows. How many there may be is for the statement to say.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn read<R>(&self, statement: &PreparedStatement, values: Values) -> Result<Vec<R>, Failure>
    where
        R: for<'f> DeserializeRow<'f, 'f>,
    {
        let result = self.run(statement, values).await?.into_rows_result().map_err(Failure::answer)?;
        self.counters.rows.fetch_add(result.rows_num() as u64, Ordering::Relaxed);
        let rows = result.rows::<R>().map_err(Failure::answer)?;
        rows.map(|row| row.map_err(Failure::answer)).collect()
    }

    /// Reads the one row that there may be.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn first<R>(&self, statement: &PreparedStatement, values: Values) -> Result<Option<R>, Failure>
    where
        R: for<'f> DeserializeRow<'f, 'f>,
    {
        Ok(self.read(statement, values).await?.into_iter().next())
    }

    /// Asks a server what its clock reads, and notes it.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn read_clock(&self) -> Result<ClockReading, Failure> {
        let before = Moment::now();
        let row: Option<(CqlTimestamp,)> = self.first(&self.statements.get_clock, Values::new()).await?;
        let (CqlTimestamp(millis),) = row.ok_or_else(|| Failure::answer(NoClock))?;
        let reading = ClockReading { at: super::key::seconds(millis), between: (before, Moment::now()) };
        self.clock.note(reading);
        Ok(reading)
    }

    /// Has a conditional write decided, and tries once: whether it was made. A failure does not say that it was not.
    ///
    /// # Errors
    /// What the servers say, or that they say nothing.
    pub async fn decide(
        &self,
        statement: &PreparedStatement,
        values: Vec<Option<CqlValue>>,
    ) -> Result<bool, Failure> {
        let _permit = self.gate.acquire().await.map_err(|_| Failure::Closed)?;
        self.counters.sent.fetch_add(1, Ordering::Relaxed);
        let result = match self.session.execute_unpaged(statement, &values).await {
            Ok(result) => result,
            Err(error) if is_final(&error) => return Err(Failure::Refused(Box::new(error))),
            Err(error) => {
                let error = Arc::new(error);
                *self.last.lock() = Some(Arc::clone(&error));
                return Err(Failure::Undecided(error));
            }
        };
        self.answered.fetch_add(1, Ordering::Relaxed);
        let rows = result.into_rows_result().map_err(Failure::answer)?;
        // Servers differ in which columns they send beside it.
        let place = rows.column_specs().iter().position(|column| column.name() == "[applied]");
        let row = rows.first_row::<Row>().map_err(Failure::answer)?;
        let applied = place.and_then(|place| row.columns.into_iter().nth(place)).flatten();
        applied.and_then(|applied| applied.as_boolean()).ok_or_else(|| Failure::answer(NotDecided))
    }

    async fn run(&self, statement: &PreparedStatement, values: Values) -> Result<QueryResult, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            let permit = self.gate.acquire().await.map_err(|_| Failure::Closed)?;
            self.counters.sent.fetch_add(1, Ordering::Relaxed);
            let error = match self.session.execute_unpaged(statement, &values).await {
                Ok(result) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    return Ok(result);
                }
                Err(error) => error,
            };
            drop(permit);
            if is_final(&error) {
                return Err(Failure::Refused(Box::new(error)));
            }
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
            debug!("trying again in about {} ms: {error}", pause.as_millis());
            *self.last.lock() = Some(Arc::new(error));
            sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Does many things at once; their results come in any order.
    ///
    /// # Errors
    /// The first one.
    pub async fn all<T, F>(&self, work: impl IntoIterator<Item = F>) -> Result<Vec<T>, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        stream::iter(work).buffer_unordered(self.concurrency).try_collect().await
    }

    /// How much of the room is taken, from 0 to 1.
    fn fill(&self) -> f64 {
        1.0 - self.gate.available_permits() as f64 / self.concurrency as f64
    }

    /// How busy the connection is, by this room and another one. It says nothing of the questions that wait.
    pub fn load(&self, other: &Self) -> Load {
        Load {
            questions: 0.0,
            statements: self.fill().max(other.fill()),
            sent: self.counters.sent.load(Ordering::Relaxed),
            retries: self.counters.retries.load(Ordering::Relaxed),
            rows: self.counters.rows.load(Ordering::Relaxed),
            ..Load::default()
        }
    }

    /// Gives up when the deadline is over.
    ///
    /// # Errors
    /// Those of the work, [`Failure::Late`] and [`Failure::Away`].
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, StoreError> {
        self.until(Instant::now() + self.deadline, work).await
    }

    /// As [`Self::within`], where the caller waits no longer than that.
    ///
    /// # Errors
    /// As [`Self::within`].
    pub async fn until<T>(
        &self,
        until: Instant,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, StoreError> {
        let waited = self.deadline.min(until.saturating_duration_since(Instant::now()));
        let count_answered = || self.answered.load(Ordering::Relaxed);
        let before = count_answered();
        match timeout(waited, work).await {
            Ok(done) => Ok(done?),
            Err(_) => {
                let last = self.last.lock().clone();
                // Where many wait for each other, servers are not away but have too much to do.
                Err(match count_answered() - before > self.concurrency as u64 {
                    true => Failure::Late { waited, last },
                    false => Failure::Away { waited, last },
                }
                .into())
            }
        }
    }
}

pub fn blob(bytes: impl AsRef<[u8]>) -> CqlValue {
    CqlValue::Blob(bytes.as_ref().to_vec())
}

pub fn text(text: impl Display) -> CqlValue {
    CqlValue::Text(text.to_string())
}

pub fn kind(kind: u16) -> CqlValue {
    CqlValue::Int(kind.into())
}

pub fn number(number: i32) -> CqlValue {
    CqlValue::Int(number)
}

/// A large number. Whatever is counted has 63 bits in the tables; the number of a process has the last one as its
/// sign.
pub fn large(number: u64) -> CqlValue {
    CqlValue::BigInt(number as i64)
}

pub fn limit(rows: usize) -> CqlValue {
    CqlValue::Int(rows.clamp(1, i32::MAX as usize) as i32)
}

/// A time in seconds.
pub fn time(seconds: Timestamp) -> CqlValue {
    CqlValue::BigInt(super::key::column(seconds))
}

/// The timestamp of a write, in microseconds.
pub fn stamp(micros: i64) -> CqlValue {
    CqlValue::BigInt(micros)
}
