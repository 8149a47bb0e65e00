//! What is done by and by: removes what has expired, what vanished, what was superseded and is still there.
//!
//! All of it goes on beside the batches of this node as it does beside those of others: what is taken away is
//! said by timestamps made from events, so nobody need be kept from writing. Each piece of work falls to one
//! node ([`Peers`]), is done in slices, and goes on where it stopped.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::try_join;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::{
    cql::{Failure, blob, limit, stamp, text, time},
    hidden::{Hidden, vanishing},
    index::{self, Key},
    key::{self, inserted_at, removed_at, written_at},
    merge::{Asked, Body, Merge, Row},
    peers::{Peers, Word},
    tables::{self, SLOT_BITS, Tables},
    writers,
};
use crate::{
    clock::{self, Moment, Standing},
    config,
    protocol::{Event, EventId, Fields, PublicKey, Timestamp, kind},
    store::{StoreError, log::Origin},
};

/// Superseded versions that readers came across, and no more than so many.
const LEFTOVERS: usize = 1_000;
/// Expirations are read in spans of so many seconds, as bits, and in longer ones where there are none: of a slot
/// that had very many, a server refuses to step over all that were removed.
const SPAN_BITS: u32 = 6;
/// A node that begins to remove what has expired begins so much before the place that was noted: clocks of
/// nodes differ.
const LOOK_BACK: Timestamp = 24 * 60 * 60;
/// The name in table `meta` of the place up to which what has expired was removed.
const PLACE: &str = "expired";

/// Events that readers found to be superseded.
#[derive(Default)]
pub struct Leftovers(Mutex<VecDeque<Arc<Event>>>);

impl Leftovers {
    pub fn add(&self, event: Arc<Event>) {
        let mut events = self.0.lock();
        if events.len() < LEFTOVERS {
            events.push_back(event);
        }
    }

    fn take(&self, most: usize) -> Vec<Arc<Event>> {
        let mut events = self.0.lock();
        let count = most.min(events.len());
        events.drain(..count).collect()
    }
}

/// What may be removed as expired: what had expired for long enough when the clocks of the nodes were last compared,
/// and agreed.
#[derive(Default)]
pub struct Removable {
    /// The first second that is too late; 0: nothing may.
    end: AtomicU64,
}

impl Removable {
    pub fn has(&self, event: &Event) -> bool {
        event.expiration().is_some_and(|at| at < self.end.load(Ordering::Relaxed))
    }

    fn set(&self, up_to: Option<Timestamp>) {
        self.end.store(up_to.map_or(0, |up_to| up_to + 1), Ordering::Relaxed);
    }
}

pub struct Sweeper {
    /// In room of their own.
    tables: Tables,
    hidden: Arc<Hidden>,
    leftovers: Arc<Leftovers>,
    removable: Arc<Removable>,
    peers: Peers,
    walks: Mutex<HashMap<Request, Walk>>,
    /// Where the removal of what has expired goes on; `None`: it is another node's, or has not begun.
    front: Mutex<Option<Front>>,
    bounds: SweepBounds,
}

/// How much is done at once.
#[derive(Debug, Clone, Copy)]
pub struct SweepBounds {
    /// Events that are removed before the place is noted.
    events: usize,
    /// Rows of one answer.
    rows: usize,
    /// After so long, others have their turn.
    slice: Duration,
    /// After this, a writer that had not seen a mark has finished or given up.
    deadline: Duration,
    /// How far clocks of nodes may be from each other.
    clocks: Duration,
}

impl From<&config::Scylla> for SweepBounds {
    fn from(config: &config::Scylla) -> Self {
        Self {
            events: config.sweep_batch,
            rows: config.sweep_rows,
            slice: Duration::from_millis(config.sweep_ms),
            deadline: Duration::from_millis(config.deadline_ms),
            clocks: Duration::from_secs(config.clock_tolerance_seconds),
        }
    }
}

/// Who vanishes, and up to which time.
type Request = (PublicKey, Timestamp);

/// How far a request to vanish is carried out.
#[derive(Debug, Clone, Copy)]
struct Walk {
    /// From then on nobody writes any more who had not seen the mark.
    settled_at: Instant,
    /// When this pass through the rows began; `None`: it is to begin.
    begun: Option<Instant>,
    /// The last row of the pass that was looked at.
    after: Option<(Timestamp, EventId)>,
    /// When it last had its turn.
    turn: Option<Instant>,
}

/// A place among the expirations: all before it are removed.
#[derive(Debug, Clone, Copy)]
struct Front {
    at: Timestamp,
    /// Of that second, the ids up to here are.
    after: Option<EventId>,
    /// How long the next span is.
    span_bits: u32,
    /// The second that was last noted in the tables.
    noted: Timestamp,
}

impl Sweeper {
    pub fn new(
        tables: Tables,
        hidden: Arc<Hidden>,
        leftovers: Arc<Leftovers>,
        removable: Arc<Removable>,
        own: Origin,
        bounds: SweepBounds,
    ) -> Self {
        let (walks, front) = (Mutex::default(), Mutex::default());
        let peers = Peers::new(own, bounds.clocks);
        Self { tables, hidden, leftovers, removable, peers, walks, front, bounds }
    }

    /// Does a bounded piece of work; `true`: there may be more. What fails holds up nothing else.
    ///
    /// # Errors
    /// When the servers refuse; nothing is lost by it.
    pub async fn sweep(&self, now: Timestamp) -> Result<bool, StoreError> {
        let cql = &self.tables.cql;
        cql.within(self.look_around()).await?;
        let done = [
            cql.within(self.superseded()).await,
            cql.within(self.expired(now)).await,
            cql.within(self.vanished()).await,
        ];
        done.into_iter().try_fold(false, |more, done| Ok(more | done?))
    }

    async fn look_around(&self) -> Result<(), Failure> {
        let before = Moment::now();
        if !self.peers.is_due(before) {
            return Ok(());
        }
        let cql = &self.tables.cql;
        let word = |told: writers::LastWord| Word {
            origin: told.heartbeat.origin,
            count: told.heartbeat.count,
            at: key::seconds(told.at) / 1_000,
        };
        let (words, server) = try_join(writers::words(cql), cql.read_clock()).await?;
        let words: Vec<Word> = words.into_iter().map(word).collect();
        match self.peers.meet(&words, server.at, (before, Moment::now()), clock::offset()) {
            Some(far @ Standing::Far(_)) => {
                warn!("{far}: it removes nothing as expired until it is right");
            }
            Some(standing) => info!("{standing}"),
            None => {}
        }
        Ok(())
    }

    /// What is known of this node's clock.
    pub fn clock(&self) -> Standing {
        self.peers.standing(clock::offset(), Moment::now())
    }

    async fn superseded(&self) -> Result<bool, Failure> {
        let events = self.leftovers.take(self.bounds.events);
        let more = events.len() == self.bounds.events;
        self.tables.remove(events).await?;
        Ok(more)
    }

    /// Removes what had expired by then, in the order in which it did.
    async fn expired(&self, now: Timestamp) -> Result<bool, Failure> {
        // By what the clock reads after `now` was read from it: if it was set just before, that shows.
        let agrees = self.clock() == Standing::Near;
        self.removable.set(agrees.then_some(now));
        if !agrees {
            return Ok(false);
        }
        if !self.peers.is_mine(PLACE.as_bytes(), Moment::now()) {
            *self.front.lock() = None;
            return Ok(false);
        }
        let until = Instant::now() + self.bounds.slice;
        let before = *self.front.lock();
        // A clock that was set back: what it now takes may be there again.
        let mut front = match before.filter(|front| front.at <= now + 1) {
            Some(front) => front,
            None => self.begin(now).await?,
        };
        while front.at <= now && Instant::now() < until {
            // If this one fails, shorter ones are next.
            *self.front.lock() = Some(Front { span_bits: SPAN_BITS, ..front });
            front = self.expire_from(front, now).await?;
            *self.front.lock() = Some(front);
        }
        if front.at >= front.noted + (1 << SPAN_BITS) {
            let place = vec![text(PLACE), text(front.at), stamp(written_at(front.at))];
            self.tables.cql.write(&self.tables.cql.statements.note_place, place).await?;
            *self.front.lock() = Some(Front { noted: front.at, ..front });
        }
        Ok(front.at <= now)
    }

    /// Where the last one stopped, or who came before there were places.
    async fn begin(&self, now: Timestamp) -> Result<Front, Failure> {
        let (cql, statements) = (&self.tables.cql, &self.tables.cql.statements);
        let place: Option<(Option<String>,)> = cql.first(&statements.get_place, vec![text(PLACE)]).await?;
        let noted = place.and_then(|(place,)| place?.parse::<Timestamp>().ok());
        let listed: Option<(i64,)> = cql.first(&statements.get_first_slot, Vec::new()).await?;
        let listed = listed.map(|(slot,)| key::seconds(slot) << SLOT_BITS);
        let from = noted.map(|noted| noted.min(now)).or(listed).unwrap_or(now).saturating_sub(LOOK_BACK);
        Ok(Front { at: from, after: None, span_bits: SPAN_BITS, noted: noted.unwrap_or_default() })
    }

    /// Removes some of what expired in the span of a place: where it goes on.
    async fn expire_from(&self, front: Front, now: Timestamp) -> Result<Front, Failure> {
        type Row = (i64, Vec<u8>, Option<i64>);
        let cql = &self.tables.cql;
        let last = now.min(front.at | ((1 << front.span_bits) - 1));
        let after = front.after.map_or(Vec::new(), |id| id.0.to_vec());
        let values = vec![
            time(front.at >> SLOT_BITS),
            time(front.at),
            blob(after),
            time(last),
            limit(self.bounds.events),
        ];
        let rows: Vec<Row> = cql.read(&cql.statements.get_expirations, values).await?;
        let is_full = rows.len() >= self.bounds.events;
        let rows = rows.into_iter().filter_map(|(at, id, created_at)| {
            Some((key::seconds(at), key::id(&id)?, key::seconds(created_at.unwrap_or_default())))
        });
        let rows: Vec<_> = rows.collect();
        let next = Front { at: last + 1, after: None, span_bits: SPAN_BITS, ..front };
        let next = match rows.last() {
            Some(&(at, id, _)) if is_full => Front { at, after: Some(id), ..next },
            Some(_) => next,
            None => Front { span_bits: (front.span_bits + 1).min(SLOT_BITS), ..next },
        };
        self.expire(rows).await?;
        Ok(next)
    }

    /// When they expire, their ids, and their own times.
    async fn expire(&self, rows: Vec<(Timestamp, EventId, Timestamp)>) -> Result<(), Failure> {
        let looked_up = rows.into_iter().map(async |row| Ok((row, self.tables.find(row.1).await?)));
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for ((at, id, created_at), found) in self.tables.cql.all(looked_up).await? {
            match found.event {
                Some(event) => there.push((event, found.swept)),
                // For another reason, or never committed.
                None => gone.push((at, id, inserted_at(created_at, found.swept))),
            }
        }
        self.tables.sweep(there).await?;
        let forgotten =
            gone.into_iter().map(|(at, id, micros)| self.tables.forget_expiration(at, id, micros));
        self.tables.cql.all(forgotten).await?;
        Ok(())
    }

    /// Carries requests to vanish out (NIP-62), the one whose turn was the longest ago first.
    async fn vanished(&self) -> Result<bool, Failure> {
        let cql = &self.tables.cql;
        let listed = vanishing(cql).await?;
        let Some((request @ (author, until), mut walk)) = self.next_walk(&listed) else { return Ok(false) };
        let mut kinds = index::kinds(cql, &author).await?;
        kinds.retain(|kind| *kind != kind::VANISH);
        let mut keys: Vec<Key> = kinds.into_iter().map(|kind| Key::Author(author, kind)).collect();
        keys.push(Key::tag(b'p', &author.to_hex()));
        let mut merge = Merge::new(cql, walk.after, self.bounds.rows);
        merge.add(vec![Asked { group: 0, keys, window: (0, until), wanted: self.bounds.rows }]).await?;
        let slice_ends = Instant::now() + self.bounds.slice;
        while Instant::now() < slice_ends {
            let rows = merge.take(self.bounds.rows).await?;
            if rows.is_empty() {
                self.end_pass(request, walk).await?;
                return Ok(true);
            }
            for some in split(rows, self.bounds.events) {
                let last = some.last().map(|row| (row.created_at, row.id));
                self.take_away(request, some).await?;
                walk.after = last.or(walk.after);
                self.walks.lock().insert(request, walk);
                if Instant::now() >= slice_ends {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// The request that is next of those that fall to this node and are not waiting.
    fn next_walk(&self, listed: &[Request]) -> Option<(Request, Walk)> {
        let now = Instant::now();
        let mut walks = self.walks.lock();
        walks.retain(|request, _| listed.contains(request));
        for &request in listed {
            walks.entry(request).or_insert(Walk {
                settled_at: now + 2 * self.bounds.deadline,
                begun: None,
                after: None,
                turn: None,
            });
        }
        let is_next = |(author, _): &Request, walk: &Walk| {
            let waits = walk.begun.is_none() && walk.turn.is_some() && walk.settled_at > now;
            !waits && self.peers.is_mine(&author.0, Moment::now())
        };
        let next = walks.iter_mut().filter(|(request, walk)| is_next(request, walk));
        let (request, walk) = next.min_by_key(|(_, walk)| walk.turn)?;
        walk.turn = Some(now);
        walk.begun.get_or_insert(now);
        Some((*request, *walk))
    }

    /// Strikes a request off the list when all was looked through since nobody is left that had not seen its
    /// mark. Else a writer that dies may have left something behind this pass.
    async fn end_pass(&self, request: Request, walk: Walk) -> Result<(), Failure> {
        let (author, until) = request;
        if walk.begun.is_none_or(|begun| begun < walk.settled_at) {
            self.walks.lock().insert(request, Walk { begun: None, after: None, ..walk });
            return Ok(());
        }
        let strike = vec![stamp(removed_at(until)), blob(author.0)];
        self.tables.cql.write(&self.tables.cql.statements.remove_vanishing, strike).await?;
        self.hidden.forget();
        Ok(())
    }

    /// Removes those of the rows that vanish.
    async fn take_away(&self, (author, until): Request, rows: Vec<Row>) -> Result<(), Failure> {
        let events = rows.into_iter().map(|row| self.event(row.id, row.body));
        let events = self.tables.cql.all(events).await?.into_iter().flatten();
        let vanishes = |event: &Arc<Event>| event.vanishes_with(&author, until);
        self.tables.remove(events.filter(vanishes).collect()).await
    }

    /// The event of a row, where it may be a gift wrap or has its text.
    async fn event(&self, id: EventId, body: Body) -> Result<Option<Arc<Event>>, Failure> {
        match body {
            Body::Text { text, .. } => tables::parse(&text).map(Some),
            body if !may_vanish(&body) => Ok(None),
            Body::Fields { .. } | Body::Unread => Ok(self.tables.find(id).await?.event),
        }
    }
}

/// Of what others wrote to somebody, gift wraps go with them; the rest stays.
fn may_vanish(body: &Body) -> bool {
    !matches!(body, Body::Fields { kind, .. } if *kind != kind::GIFT_WRAP)
}

/// In pieces of which at most so many rows may vanish: however few of very many do, they go together.
fn split(rows: Vec<Row>, most: usize) -> Vec<Vec<Row>> {
    let (mut pieces, mut candidates) = (vec![Vec::new()], 0);
    for row in rows {
        let counts = usize::from(may_vanish(&row.body));
        if candidates + counts > most {
            pieces.push(Vec::new());
            candidates = 0;
        }
        candidates += counts;
        if let Some(piece) = pieces.last_mut() {
            piece.push(row);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vanishes_goes_together_and_what_stays_costs_nothing() {
        let row = |kind| Row {
            created_at: 1,
            id: EventId([0; 32]),
            body: Body::Fields { kind, pubkey: PublicKey([0; 32]) },
        };
        let rows: Vec<Row> =
            (0..1_000).map(|nth| row(if nth % 50 == 0 { kind::GIFT_WRAP } else { 1 })).collect();
        let pieces = split(rows, 16);
        // Sixteen wraps and what stands between them, up to the seventeenth; then four.
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [800, 200]);
        let wraps = (0..35).map(|_| row(kind::GIFT_WRAP)).collect();
        assert_eq!(split(wraps, 16).iter().map(Vec::len).collect::<Vec<_>>(), [16, 16, 3]);
    }
}
