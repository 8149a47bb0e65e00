//! Writes batches: reads what has to be known of all events at once, decides in memory, then writes in an
//! order in which a node may die at any point.
//!
//! Rows first, then marks, then what they take away, then the commit marks. Only then versions get their
//! ranks, and what they supersede goes: until then the version before is served. What another node wrote
//! meanwhile is looked at again before anything is acknowledged.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::try_join;
use scylla::statement::prepared::PreparedStatement;
use tracing::{Instrument, Span};

use super::{
    batch::BatchId,
    cql::{Failure, Values, blob, kind as kind_column, stamp, time},
    decide::{Decided, decide},
    drafts::Drafts,
    hidden::Hidden,
    index::Accepted,
    key::{HashedAddress, Rank, written_at},
    known::{self, Known},
    log,
    positions::Positions,
    settled::Settled,
    sweep::Removable,
    tables::Tables,
};
use crate::{
    clock::Moment,
    protocol::{Event, EventId, Fields, PublicKey, Timestamp, kind},
    store::{BatchOutcome, Outcome, log::Sequence},
    trace::within,
};

pub struct Writer {
    pub tables: Arc<Tables>,
    pub hidden: Arc<Hidden>,
    pub positions: Arc<Positions>,
    pub log: Arc<log::OwnLog>,
    pub drafts: Arc<Drafts>,
    pub settled: Arc<Settled>,
    pub removable: Arc<Removable>,
    /// How long a batch may take.
    pub deadline: Duration,
}

/// A batch that is written.
pub struct Done {
    pub written: BatchOutcome,
    of: BatchId,
    /// Events that were refused as expired and of which something is left that can not be removed yet.
    later: HashSet<EventId>,
}

impl Writer {
    /// Ends a batch that is in the log, under a number that the others still look under.
    pub fn settled(&self, batch: &[Arc<Event>], done: Done) -> BatchOutcome {
        self.drafts.settle(done.of, batch, &done.later);
        self.log.tell();
        done.written
    }

    /// Notes that the batch failed, or was given up.
    pub fn failed(&self) {
        self.drafts.fail();
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// When the servers refuse; parts may be written then, and writing again completes them.
    pub async fn write(&self, batch: &[Arc<Event>], now: Timestamp) -> Result<Done, Failure> {
        self.log.be_listed().await?;
        let of = self.drafts.begin(batch);
        let mut known = Known::default();
        let lookups = batch.iter().flat_map(|event| known::lookups(event)).collect();
        let read = try_join(self.drafts.put(of, batch), known.load(&self.tables, lookups));
        read.instrument(span("read")).await?;
        if !self.log.be_listed().await? {
            return Err(Failure::Held);
        }
        let mut decided = decide(batch, now, &mut known);

        let stored = batch.iter().zip(&decided.outcomes).filter(|(_, outcome)| **outcome == Outcome::Stored);
        let head = self.positions.assign(stored.map(|(event, _)| event.id()));
        let add_swept = |event: Arc<Event>| {
            let swept = known.swept.get(&event.id()).copied().unwrap_or_default();
            (event, swept)
        };
        let insert: Vec<(Arc<Event>, i32)> =
            std::mem::take(&mut decided.insert).into_iter().map(add_swept).collect();

        let half_written = self.half_written(batch, &decided.outcomes);
        let accepted = Accepted { at: self.tables.cql.clock.millis(Moment::now()), batch: of };
        let again = self.unpublished(batch, &decided, &known, accepted.at).await?;
        let logged: Vec<Arc<Event>> = insert
            .iter()
            .map(|(event, _)| event)
            .chain(again.iter().map(|&place| &batch[place]))
            .cloned()
            .collect();
        let rows = try_join(self.log.append(&logged), self.tables.insert(&insert, accepted));
        let (sequence, ()) = rows.instrument(span("rows")).await?;
        self.mark(&decided).instrument(span("marks")).await?;
        let requests: Vec<Arc<Event>> =
            decided.requests.iter().filter(|request| request.kind() == kind::DELETION).cloned().collect();
        self.take(&mut decided, reachable(&self.tables, &requests).await?);
        let remove = std::mem::take(&mut decided.remove).into_iter().chain(half_written.refused);
        let expired = half_written.expired.into_iter().map(|event| {
            let swept = known.swept.get(&event.id()).copied().unwrap_or_default();
            (event, swept)
        });
        let expired = self.tables.sweep(expired.collect());
        try_join(self.tables.remove(remove.collect()), expired).instrument(span("removal")).await?;
        self.tables.commit(&insert, accepted).instrument(span("commit")).await?;
        self.rank(&decided, &known).instrument(span("ranks")).await?;
        let superseded = self.tables.remove(std::mem::take(&mut decided.superseded));
        let check = self.look_again(batch, insert, &mut decided);
        try_join(superseded, check).instrument(span("check")).await?;

        if decided.outcomes.contains(&Outcome::Stored) {
            self.positions.reach(head);
        }
        let Decided { outcomes, removed, .. } = decided;
        let written = BatchOutcome { outcomes, head: self.positions.head(), removed, sequence, again };
        Ok(Done { written, of, later: half_written.later })
    }

    /// What an earlier try of this node, or a process that is gone, may have left of events that are refused: whoever
    /// deleted them found nothing that was committed. What has expired is removed by clocks that agree, and tried again
    /// until then: it may be valid by the clock of its writer.
    fn half_written(&self, batch: &[Arc<Event>], outcomes: &[Outcome]) -> HalfWritten {
        let mut found = HalfWritten::default();
        for (event, outcome) in batch.iter().zip(outcomes) {
            if !self.drafts.is_unsettled(&event.id()) {
                continue;
            }
            match outcome {
                Outcome::Deleted | Outcome::Vanished | Outcome::Superseded => {
                    found.refused.push(Arc::clone(event));
                }
                Outcome::Expired if self.removable.has(event) => found.expired.push(Arc::clone(event)),
                Outcome::Expired => _ = found.later.insert(event.id()),
                Outcome::Stored | Outcome::Duplicate | Outcome::NoSpace(_) => {}
            }
        }
        found
    }

    /// Duplicates that may not have been published: their writers have not come to the end, as far as this node
    /// knows, and may never, or may not know that they are written. What is settled, its writer has published, or
    /// whoever finished it.
    async fn unpublished(
        &self,
        batch: &[Arc<Event>],
        decided: &Decided,
        known: &Known,
        now_millis: u64,
    ) -> Result<Vec<usize>, Failure> {
        let duplicates: Vec<(usize, EventId)> = batch
            .iter()
            .zip(&decided.outcomes)
            .enumerate()
            .filter(|(_, (_, outcome))| **outcome == Outcome::Duplicate)
            .map(|(place, (event, _))| (place, event.id()))
            .collect();
        let batches = duplicates.iter().filter_map(|(_, id)| known.batches.get(id).copied());
        let doubtful: Vec<BatchId> = batches.filter(|batch| !self.settled.covers(Some(*batch))).collect();
        self.settled.learn(&doubtful).await?;
        let was_accepted_within = |id: &EventId, time: Duration| {
            let since = now_millis.saturating_sub(time.as_millis() as u64);
            known.accepted_at.get(id).is_some_and(|accepted| *accepted >= since)
        };
        let is_doubtful = |id: &EventId| match known.batches.get(id) {
            Some(batch) => !self.settled.covers(Some(*batch)),
            // The event is from before batches had names: the time has to do.
            None => was_accepted_within(id, 2 * self.deadline),
        };
        // What is older was sent as a stored event by then to whoever asked, and sessions do not remember it.
        let may_be_unheard = |id: &EventId| {
            was_accepted_within(id, log::KEPT_FOR) && (is_doubtful(id) || self.drafts.is_unsettled(id))
        };
        let unpublished = duplicates.into_iter().filter(|(_, id)| may_be_unheard(id));
        Ok(unpublished.map(|(place, _)| place).collect())
    }

    /// Notes a batch that is written once more in the log.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn log_again(
        &self,
        batch: &[Arc<Event>],
        written: &BatchOutcome,
    ) -> Result<Option<Sequence>, Failure> {
        let stored = batch.iter().zip(&written.outcomes).filter(|(_, outcome)| **outcome == Outcome::Stored);
        let again = written.again.iter().map(|&place| &batch[place]);
        let events: Vec<Arc<Event>> = stored.map(|(event, _)| event).chain(again).cloned().collect();
        self.log.append(&events).await
    }

    /// Writes the winners of addresses. From here on they are served, and no older version is.
    async fn rank(&self, decided: &Decided, known: &Known) -> Result<(), Failure> {
        let cql = &self.tables.cql;
        let winners = decided.ranks.iter().filter_map(|address| Some((address, known.best.get(address)?)));
        let ranks = winners.map(|(address, best)| {
            let at = stamp(written_at(best.created_at));
            let rank = [vec![at, blob(best.to_bytes())], columns(address)].concat();
            cql.write(&cql.statements.put_best, rank)
        });
        let ranks: Vec<_> = ranks.collect();
        cql.all(ranks).await?;
        Ok(())
    }

    /// Writes the marks of requests.
    async fn mark(&self, decided: &Decided) -> Result<(), Failure> {
        let statements = &self.tables.cql.statements;
        let mut writes: Vec<(&PreparedStatement, Values)> = Vec::new();
        let mut vanishing: Vec<(PublicKey, Timestamp)> = Vec::new();
        for request in &decided.requests {
            let (author, created_at) = (request.pubkey(), request.created_at());
            let (at, until) = (stamp(written_at(created_at)), time(created_at));
            if request.kind() == kind::VANISH {
                let mark = vec![at.clone(), until.clone(), blob(author.0)];
                writes.push((&statements.mark_author, mark));
                writes.push((&statements.put_vanishing, vec![blob(author.0), until, at]));
                vanishing.push((author, created_at));
                continue;
            }
            let ids: BTreeSet<EventId> = request.tags().values("e").filter_map(EventId::from_hex).collect();
            for id in ids {
                let mark = vec![blob(id.0), blob(author.0), until.clone(), at.clone()];
                writes.push((&statements.mark_id, mark));
            }
            let addresses: BTreeSet<HashedAddress> = HashedAddress::named_by(request).collect();
            for address in addresses {
                let mark = [vec![at.clone(), until.clone()], columns(&address)].concat();
                writes.push((&statements.mark_address, mark));
            }
        }
        let cql = &self.tables.cql;
        let writes: Vec<_> =
            writes.into_iter().map(|(statement, values)| cql.write(statement, values)).collect();
        cql.all(writes).await?;
        if !vanishing.is_empty() {
            self.hidden.add(&vanishing);
        }
        Ok(())
    }

    /// Adds to what is taken away.
    fn take(&self, decided: &mut Decided, events: Vec<Arc<Event>>) {
        let known: HashSet<EventId> = decided.remove.iter().map(|event| event.id()).collect();
        for event in events {
            if !known.contains(&event.id()) {
                decided.removed.ids.push(event.id());
                decided.remove.push(event);
            }
        }
    }

    /// A mark, or a better version, may have come from another node after this one had looked. Whoever
    /// wrote it may have looked before our commit, so one of the two sees the other.
    async fn look_again(
        &self,
        batch: &[Arc<Event>],
        inserted: Vec<(Arc<Event>, i32)>,
        decided: &mut Decided,
    ) -> Result<(), Failure> {
        let mut lookups = BTreeSet::new();
        for (event, _) in &inserted {
            lookups.extend(known::marks(event));
            lookups.extend(HashedAddress::of(event).map(known::Lookup::Best));
        }
        let mut known = Known::default();
        known.load(&self.tables, lookups).await?;
        let mut withdrawn = Vec::new();
        for (event, _) in inserted {
            let refusal = known.refusal(&event);
            let superseded = known.is_superseded(&event).then_some(Outcome::Superseded);
            let Some(outcome) = refusal.or(superseded) else { continue };
            for (written, before) in batch.iter().zip(&mut decided.outcomes) {
                let is_told = matches!(before, Outcome::Stored | Outcome::Duplicate);
                if written.id() == event.id() && is_told {
                    *before = outcome;
                }
            }
            decided.removed.ids.push(event.id());
            withdrawn.push(event);
        }
        self.tables.remove(withdrawn).await
    }
}

/// Refused events of which something may be in the tables.
#[derive(Default)]
struct HalfWritten {
    refused: Vec<Arc<Event>>,
    expired: Vec<Arc<Event>>,
    later: HashSet<EventId>,
}

/// The span of a group of statements.
fn span(operation: &'static str) -> Span {
    within("cassandra", operation)
}

fn columns(address: &HashedAddress) -> Values {
    vec![blob(address.pubkey.0), kind_column(address.kind), blob(address.d)]
}

/// The events in the tables that these deletion requests take away.
///
/// # Errors
/// When the servers refuse.
async fn reachable(tables: &Tables, requests: &[Arc<Event>]) -> Result<Vec<Arc<Event>>, Failure> {
    let mut known = Known::default();
    known.load(tables, requests.iter().flat_map(|request| known::targets(request)).collect()).await?;
    let mut found: Vec<Arc<Event>> = Vec::new();
    for request in requests {
        let author = request.pubkey();
        let ids = request.tags().values("e").filter_map(EventId::from_hex);
        let by_id = ids.filter_map(|id| known.stored.get(&id)).filter(|event| event.is_deletable_by(&author));
        let winners = HashedAddress::named_by(request).filter_map(|address| known.best.get(&address));
        let covered = winners.filter(|best: &&Rank| best.created_at <= request.created_at());
        let by_address = covered.filter_map(|best| known.stored.get(&best.id()));
        found.extend(by_id.chain(by_address).cloned());
    }
    found.sort_by_key(|event| event.id());
    found.dedup_by_key(|event| event.id());
    Ok(found)
}
