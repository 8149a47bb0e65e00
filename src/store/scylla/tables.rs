//! An event in all the tables that it has rows in: put there, committed, taken away. Decides nothing.

use std::sync::Arc;

use super::{
    batch::BatchId,
    bucket::Sampling,
    cql::{Cql, Failure, Values, blob, number, stamp, text, time},
    index::{self, Accepted, Indexes, Key, Places},
    key::{self, inserted_at, removed_at},
};
use crate::protocol::{Event, EventId, ParsedEvent, Timestamp};

/// Seconds of a slot of `by_expiration`, as bits.
pub const SLOT_BITS: u32 = 12;

pub struct Tables {
    pub cql: Arc<Cql>,
    indexes: Arc<Indexes>,
}

/// What the table of events says of an id.
#[derive(Debug, Clone, Default)]
pub struct FoundEvent {
    /// The event, if it is committed.
    pub event: Option<Arc<Event>>,
    /// When a node accepted it, in milliseconds since 1970 by the clock of the servers.
    pub accepted_at: u64,
    /// How often the event was swept.
    pub swept: i32,
    /// The batch that committed it.
    pub batch: Option<BatchId>,
}

impl Tables {
    pub fn new(cql: Arc<Cql>, sampling: Sampling) -> Self {
        Self { cql, indexes: Arc::new(Indexes::new(sampling)) }
    }

    /// The same tables, whose statements go through other room.
    pub fn through(&self, cql: Arc<Cql>) -> Self {
        Self { cql, indexes: Arc::clone(&self.indexes) }
    }

    /// Looks an event up by its id.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn find(&self, id: EventId) -> Result<FoundEvent, Failure> {
        type Row = (Option<String>, Option<i64>, Option<i32>, Option<Vec<u8>>);
        let row: Option<Row> = self.cql.first(&self.cql.statements.get_event, vec![blob(id.0)]).await?;
        let (text, accepted_at, swept, batch) = row.unwrap_or_default();
        let event = text.as_deref().map(parse).transpose()?;
        let accepted_at = key::seconds(accepted_at.unwrap_or_default());
        let batch = batch.as_deref().and_then(BatchId::parse);
        Ok(FoundEvent { event, accepted_at, swept: swept.unwrap_or_default(), batch })
    }

    /// Writes all rows but the commit mark. Readers of indexes come across the event from here on, and pass
    /// over it until it is committed.
    ///
    /// # Errors
    /// When the servers refuse; some rows may be there then.
    pub async fn insert(&self, events: &[(Arc<Event>, i32)], accepted: Accepted) -> Result<(), Failure> {
        let rows = events.iter().flat_map(|(event, swept)| {
            let at = inserted_at(event.created_at(), *swept);
            Key::of(event).into_iter().map(move |key| (key, Arc::clone(event), at))
        });
        // Owned, so that the future borrows nothing of the events.
        let rows: Vec<_> = rows.collect();
        self.cql
            .all(
                rows.into_iter()
                    .map(|(key, event, at)| self.indexes.put(&self.cql, key, event, accepted, at)),
            )
            .await?;
        let expiring: Vec<_> =
            events.iter().filter(|(event, _)| event.expiration().is_some()).cloned().collect();
        self.cql.all(expiring.into_iter().map(|(event, swept)| self.put_expiration(event, swept))).await?;
        Ok(())
    }

    /// Writes the commit marks.
    ///
    /// # Errors
    /// When the servers refuse; some may be there then.
    pub async fn commit(&self, events: &[(Arc<Event>, i32)], accepted: Accepted) -> Result<(), Failure> {
        let values: Vec<Values> = events
            .iter()
            .map(|(event, swept)| {
                let at = stamp(inserted_at(event.created_at(), *swept));
                let batch = blob(accepted.batch.to_bytes());
                let (created_at, accepted_at) = (time(event.created_at()), time(accepted.at));
                vec![at, text(event.json()), created_at, accepted_at, batch, blob(event.id().0)]
            })
            .collect();
        let put = &self.cql.statements.put_event;
        self.cql.all(values.into_iter().map(|values| self.cql.write(put, values))).await?;
        Ok(())
    }

    /// Takes events away for good: their rows can not come back, because nothing of their second is
    /// written later than this.
    ///
    /// # Errors
    /// When the servers refuse; some rows may be gone then.
    pub async fn remove(&self, events: Vec<Arc<Event>>) -> Result<(), Failure> {
        let places = &Places::of(&self.cql, events.iter().map(|event| &**event)).await?;
        self.cql.all(events.into_iter().map(|event| self.remove_one(event, places))).await?;
        Ok(())
    }

    async fn remove_one(&self, event: Arc<Event>, places: &Places) -> Result<(), Failure> {
        let at = removed_at(event.created_at());
        self.remove_rows(&event, places, at).await?;
        self.cql.write(&self.cql.statements.remove_event, vec![stamp(at), blob(event.id().0)]).await?;
        self.remove_expiration(&event, at).await
    }

    /// Takes events away that have expired; of each, how often it was swept before. Where clocks differ one may come
    /// again, so what is written then must be later than this.
    ///
    /// # Errors
    /// When the servers refuse; they are found again then.
    pub async fn sweep(&self, events: Vec<(Arc<Event>, i32)>) -> Result<(), Failure> {
        let places = &Places::of(&self.cql, events.iter().map(|(event, _)| &**event)).await?;
        self.cql.all(events.into_iter().map(|(event, swept)| self.sweep_one(event, swept, places))).await?;
        Ok(())
    }

    async fn sweep_one(&self, event: Arc<Event>, swept: i32, places: &Places) -> Result<(), Failure> {
        let at = inserted_at(event.created_at(), swept);
        let next = inserted_at(event.created_at(), swept + 1);
        self.remove_rows(&event, places, at).await?;
        let id = event.id().0;
        self.cql
            .write(&self.cql.statements.note_swept, vec![stamp(next), number(swept + 1), blob(id)])
            .await?;
        self.cql.write(&self.cql.statements.sweep_event, vec![stamp(at), blob(id)]).await?;
        self.remove_expiration(&event, at).await
    }

    async fn remove_rows(&self, event: &Arc<Event>, places: &Places, at: i64) -> Result<(), Failure> {
        let keys = Key::of(event).into_iter();
        let removals = keys.map(|key| {
            let event = Arc::clone(event);
            async move { index::remove(&self.cql, &key, &event, places, at).await }
        });
        self.cql.all(removals).await?;
        Ok(())
    }

    async fn put_expiration(&self, event: Arc<Event>, swept: i32) -> Result<(), Failure> {
        let Some(expiration) = sweepable(&event) else { return Ok(()) };
        let created_at = event.created_at();
        let at = inserted_at(created_at, swept);
        let slot = time(expiration >> SLOT_BITS);
        let values = vec![slot, time(expiration), blob(event.id().0), time(created_at), stamp(at)];
        self.cql.write(&self.cql.statements.put_expiration, values).await
    }

    async fn remove_expiration(&self, event: &Event, at: i64) -> Result<(), Failure> {
        match sweepable(event) {
            Some(expiration) => self.forget_expiration(expiration, event.id(), at).await,
            None => Ok(()),
        }
    }

    /// Takes a row of `by_expiration` away.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn forget_expiration(&self, at: Timestamp, id: EventId, micros: i64) -> Result<(), Failure> {
        let values = vec![stamp(micros), time(at >> SLOT_BITS), time(at), blob(id.0)];
        self.cql.write(&self.cql.statements.remove_expiration, values).await
    }
}

/// When an event is to be swept. Times that nobody will see are not listed.
fn sweepable(event: &Event) -> Option<Timestamp> {
    const FAR: Timestamp = 1 << 40;
    event.expiration().filter(|at| *at < FAR)
}

/// Reads an event that was admitted before it was stored.
///
/// # Errors
/// When the text is none of ours.
pub fn parse(text: &str) -> Result<Arc<Event>, Failure> {
    let parsed: ParsedEvent<'_> = serde_json::from_str(text).map_err(Failure::answer)?;
    Ok(Arc::new(parsed.trust()))
}

/// The time of an event by its id; `None` where none is committed.
///
/// # Errors
/// When the servers refuse.
pub async fn created_at(cql: &Cql, id: EventId) -> Result<Option<Timestamp>, Failure> {
    let row: Option<(Option<i64>,)> = cql.first(&cql.statements.get_time, vec![blob(id.0)]).await?;
    Ok(row.and_then(|(created_at,)| created_at).map(key::seconds))
}
