//! Carries requests to vanish out (NIP-62): removes what is of their authors, and gift wraps to them.

use std::{sync::Arc, time::Instant};

use super::Sweeper;
use crate::{
    clock::Moment,
    protocol::{Event, EventId, Fields, PublicKey, Timestamp, kind},
    store::scylla::{
        chunk::{Body, Row},
        cql::{Failure, blob, stamp},
        hidden::vanishing,
        index::{self, Key},
        key::removed_at,
        merge::{Asked, Merge},
        tables,
    },
};

/// Who vanishes, and up to which time.
pub type Request = (PublicKey, Timestamp);

/// How far a request to vanish is carried out.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// From then on no process writes any more that had not seen the mark.
    settled_at: Instant,
    /// When this pass through the rows began; `None`: it is to begin.
    begun: Option<Instant>,
    /// The last row of the pass that was looked at.
    after: Option<(Timestamp, EventId)>,
    /// When the request last had its turn.
    turn: Option<Instant>,
}

impl Sweeper {
    /// Carries requests to vanish out (NIP-62), the one whose turn was the longest ago first.
    pub async fn vanished(&self) -> Result<bool, Failure> {
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

    /// The event of a row, where that has its text or may be of a gift wrap.
    async fn event(&self, id: EventId, body: Body) -> Result<Option<Arc<Event>>, Failure> {
        match body {
            Body::Text { text, .. } => tables::parse(&text).map(Some),
            body if !may_vanish(&body) => Ok(None),
            Body::Fields { .. } | Body::Unread => Ok(self.tables.find(id).await?.event),
        }
    }
}

/// Whether the event of a row may vanish: of what others wrote to somebody gift wraps do, and the rest stays.
fn may_vanish(body: &Body) -> bool {
    !matches!(body, Body::Fields { kind, .. } if *kind != kind::GIFT_WRAP)
}

/// Splits rows into pieces of which at most so many may vanish: however few of very many do, they go together.
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
