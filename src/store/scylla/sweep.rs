//! What is done by and by: removes what has expired, what vanished, what was superseded and is still
//! there, and looks again at what deletion requests should have taken. Any node may do any of it, at the
//! same time too.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    cql::{Failure, blob, limit, stamp, time},
    hidden::{Hidden, vanishing},
    index::{self, Key},
    key::{self, inserted_at, removed_at},
    known::{self, Known},
    merge::{Body, Merge},
    tables::{self, SLOT_BITS, Tables},
    write::reachable,
};
use crate::protocol::{Event, EventId, PublicKey, Timestamp, kind};

/// Superseded versions that readers came across, and no more than so many.
const LEFTOVERS: usize = 1_000;
/// Batches of deletion requests that wait for their second look, and no more than so many.
const REQUESTS: usize = 10_000;
/// Slots of expirations that are looked at in one sweep.
const SLOTS: usize = 64;
/// Seconds after its end for which an empty slot stays listed: clocks of nodes differ.
const SLOT_KEPT: Timestamp = 24 * 60 * 60;

/// Events that readers found to be superseded.
#[derive(Default)]
pub struct Leftovers(Mutex<VecDeque<Arc<Event>>>);

impl Leftovers {
    pub fn add(&self, event: Arc<Event>) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() < LEFTOVERS {
            events.push_back(event);
        }
    }

    fn take(&self, most: usize) -> Vec<Arc<Event>> {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = most.min(events.len());
        events.drain(..count).collect()
    }
}

pub struct Sweeper {
    tables: Arc<Tables>,
    hidden: Arc<Hidden>,
    leftovers: Arc<Leftovers>,
    /// Deletion requests, and when they are due for a second look.
    requests: Mutex<VecDeque<(Instant, Vec<Arc<Event>>)>>,
    /// Requests to vanish of which nothing was left, and when they are due for a second look.
    vanished: Mutex<HashMap<(PublicKey, Timestamp), Instant>>,
    /// After this, a writer that had not seen a mark has finished or given up.
    deadline: Duration,
    /// Events that are removed at once.
    batch: usize,
}

impl Sweeper {
    pub fn new(
        tables: Arc<Tables>,
        hidden: Arc<Hidden>,
        leftovers: Arc<Leftovers>,
        deadline: Duration,
        batch: usize,
    ) -> Self {
        let (requests, vanished) = (Mutex::default(), Mutex::default());
        Self { tables, hidden, leftovers, requests, vanished, deadline, batch }
    }

    /// Notes deletion requests for a second look.
    pub fn note(&self, requests: Vec<Arc<Event>>) {
        let mut waiting = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if !requests.is_empty() && waiting.len() < REQUESTS {
            waiting.push_back((Instant::now() + 2 * self.deadline, requests));
        }
    }

    /// Does a bounded piece of work; `true`: there may be more.
    ///
    /// # Errors
    /// When the servers refuse; nothing is lost by it.
    pub async fn sweep(&self, now: Timestamp) -> Result<bool, Failure> {
        self.superseded().await?;
        self.deleted().await?;
        let expired = self.expired(now).await?;
        let vanished = self.vanished().await?;
        Ok(expired || vanished)
    }

    async fn superseded(&self) -> Result<(), Failure> {
        let events = self.leftovers.take(self.batch);
        self.tables.remove(events).await
    }

    /// A writer that died between its commit and its second look may have left what is deleted.
    async fn deleted(&self) -> Result<(), Failure> {
        let now = Instant::now();
        let due = {
            let mut waiting = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            let due = waiting.iter().take_while(|(at, _)| *at <= now).count().min(self.batch);
            waiting.drain(..due).flat_map(|(_, requests)| requests).collect::<Vec<_>>()
        };
        let found = reachable(&self.tables, &due).await?;
        let mut known = Known::default();
        known.load(&self.tables, found.iter().flat_map(|event| known::marks(event)).collect()).await?;
        self.tables.remove(found.into_iter().filter(|event| known.refusal(event).is_some()).collect()).await
    }

    async fn expired(&self, now: Timestamp) -> Result<bool, Failure> {
        let (cql, statements) = (&self.tables.cql, &self.tables.cql.statements);
        let slots: Vec<(i64,)> =
            cql.read(&statements.get_slots, vec![time(now >> SLOT_BITS), limit(SLOTS)]).await?;
        let mut swept = 0;
        for (slot,) in slots {
            let slot = key::seconds(slot);
            type Row = (i64, Vec<u8>, Option<i64>);
            let values = vec![time(slot), time(now), limit(self.batch - swept)];
            let rows: Vec<Row> = cql.read(&statements.get_expirations, values).await?;
            if rows.is_empty() && ((slot + 1) << SLOT_BITS) + SLOT_KEPT < now {
                cql.write(&statements.remove_slot, vec![time(slot)]).await?;
            }
            swept += rows.len();
            let rows = rows.into_iter().filter_map(|(at, id, created_at)| {
                Some((key::seconds(at), key::id(&id)?, key::seconds(created_at.unwrap_or_default())))
            });
            cql.all(rows.map(|(at, id, created_at)| self.expire(at, id, created_at))).await?;
            if swept >= self.batch {
                break;
            }
        }
        Ok(swept > 0)
    }

    async fn expire(&self, at: Timestamp, id: EventId, created_at: Timestamp) -> Result<(), Failure> {
        let found = self.tables.find(id).await?;
        match found.event {
            Some(event) => self.tables.sweep(event, found.swept).await,
            // Gone for another reason, or never committed.
            None => self.tables.forget_expiration(at, id, inserted_at(created_at, found.swept)).await,
        }
    }

    /// Carries a request to vanish on (NIP-62), and strikes it off the list when nothing is left and no
    /// writer is left that had not seen its mark.
    async fn vanished(&self) -> Result<bool, Failure> {
        let cql = &self.tables.cql;
        let listed: HashSet<_> = vanishing(cql).await?.into_iter().collect();
        let next = {
            let mut looked_at = self.looked_at();
            looked_at.retain(|request, _| listed.contains(request));
            let is_due = |due: Option<&Instant>| due.is_none_or(|due| *due <= Instant::now());
            listed.into_iter().find(|request| is_due(looked_at.get(request)))
        };
        let Some(request @ (author, until)) = next else { return Ok(false) };
        let mut kinds = index::kinds(cql, &author).await?;
        kinds.retain(|kind| *kind != kind::VANISH);
        let mut keys: Vec<Key> = kinds.into_iter().map(|kind| Key::Author(author, kind)).collect();
        keys.push(Key::tag(b'p', &author.to_hex()));
        let mut merge = Merge::new(cql, None, self.batch);
        merge.add(0, keys, (0, until), self.batch).await?;
        let mut found = Vec::new();
        while found.len() < self.batch {
            let rows = merge.take(self.batch).await?;
            if rows.is_empty() {
                break;
            }
            let events = rows.into_iter().map(|row| self.event(row.id, row.body));
            let events = cql.all(events).await?.into_iter().flatten();
            found.extend(events.filter(|event| event.vanishes_with(&author) && event.created_at() <= until));
        }
        if found.is_empty() && self.looked_at().remove(&request).is_none() {
            self.looked_at().insert(request, Instant::now() + 2 * self.deadline);
        } else if found.is_empty() {
            let strike = vec![stamp(removed_at(until)), blob(author.0)];
            cql.write(&cql.statements.remove_vanishing, strike).await?;
            self.hidden.forget();
        }
        self.tables.remove(found).await?;
        Ok(true)
    }

    fn looked_at(&self) -> MutexGuard<'_, HashMap<(PublicKey, Timestamp), Instant>> {
        self.vanished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The event of a row, where it may be a gift wrap or has its text.
    async fn event(&self, id: EventId, body: Body) -> Result<Option<Arc<Event>>, Failure> {
        match body {
            Body::Text { text, .. } => tables::parse(&text).map(Some),
            Body::Fields { kind, .. } if kind != kind::GIFT_WRAP => Ok(None),
            Body::Fields { .. } | Body::Unread => Ok(self.tables.find(id).await?.event),
        }
    }
}
