//! Removes what has expired, in the order in which it did.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use super::Sweeper;
use crate::{
    clock::{Moment, Standing},
    protocol::{Event, EventId, Timestamp},
    store::scylla::{
        cql::{Failure, blob, limit, stamp, text, time},
        key::{self, inserted_at, written_at},
        tables::SLOT_BITS,
    },
};

/// Expirations are read in spans of so many seconds, as bits, and in longer ones where there are none: of a slot
/// that had very many, a server refuses to step over all that were removed.
const SPAN_BITS: u32 = 6;
/// A node that begins to remove what has expired begins so much before the place that was noted: clocks of
/// nodes differ.
const LOOK_BACK: Timestamp = 24 * 60 * 60;
/// The name in table `meta` of the place up to which what has expired was removed.
const PLACE: &str = "expired";

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

/// A place among the expirations: all before it are removed.
#[derive(Debug, Clone, Copy)]
pub struct Front {
    at: Timestamp,
    /// Of that second, the ids up to here are.
    after: Option<EventId>,
    /// How long the next span is.
    span_bits: u32,
    /// The second that was last noted in the tables.
    noted: Timestamp,
}

impl Sweeper {
    /// Removes what had expired by then, in the order in which it did.
    pub async fn expired(&self, now: Timestamp) -> Result<bool, Failure> {
        // The clock is looked at after `now` was read from it: if it was set just before, that shows.
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
        // Where the clock was set back, events that it now takes may be there again.
        let mut front = match before.filter(|front| front.at <= now + 1) {
            Some(front) => front,
            None => self.begin(now).await?,
        };
        while front.at <= now && Instant::now() < until {
            // If this span fails, shorter ones are next.
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

    /// Where the node that swept last stopped; without a note of that, the first slot that is listed.
    async fn begin(&self, now: Timestamp) -> Result<Front, Failure> {
        let (cql, statements) = (&self.tables.cql, &self.tables.cql.statements);
        let place: Option<(Option<String>,)> = cql.first(&statements.get_place, vec![text(PLACE)]).await?;
        let noted = place.and_then(|(place,)| place?.parse::<Timestamp>().ok());
        let listed: Option<(i64,)> = cql.first(&statements.get_first_slot, Vec::new()).await?;
        let listed = listed.map(|(slot,)| key::seconds(slot) << SLOT_BITS);
        let from = noted.map(|noted| noted.min(now)).or(listed).unwrap_or(now).saturating_sub(LOOK_BACK);
        Ok(Front { at: from, after: None, span_bits: SPAN_BITS, noted: noted.unwrap_or_default() })
    }

    /// Removes some of the events that expired in the span of a place: where it goes on.
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

    /// Removes events that have expired, of which each row says when, the id, and the event's own time.
    async fn expire(&self, rows: Vec<(Timestamp, EventId, Timestamp)>) -> Result<(), Failure> {
        let looked_up = rows.into_iter().map(async |row| Ok((row, self.tables.find(row.1).await?)));
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for ((at, id, created_at), found) in self.tables.cql.all(looked_up).await? {
            match found.event {
                Some(event) => there.push((event, found.swept)),
                // It is gone for another reason, or was never committed.
                None => gone.push((at, id, inserted_at(created_at, found.swept))),
            }
        }
        self.tables.sweep(there).await?;
        let forgotten =
            gone.into_iter().map(|(at, id, micros)| self.tables.forget_expiration(at, id, micros));
        self.tables.cql.all(forgotten).await?;
        Ok(())
    }
}
