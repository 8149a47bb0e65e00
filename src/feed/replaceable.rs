//! Replaceable events of accounts that are changed, and of which no change is lost: follow lists, profiles, mutes.
//!
//! Whoever changes such an event writes it anew, and of two who do so at once one would undo the other's change. So
//! there is a record of each. Whoever makes an event moves the record on first, by a conditional write, and sends the
//! event through the door after; whoever finds the record moved reads again. What was wished is in the record with the
//! event that has it: whoever finds that this is not stored makes one that has it too, dated after it, so that it does
//! no harm if it comes late.
//!
//! `docs/design/feed.md` draws the schedules.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::sleep;
use tracing::warn;

use super::{
    door::Door,
    error::FeedError,
    reading::{Place, Reader, Span, by, nobody, tagged},
};
use crate::{
    clock,
    protocol::{Event, Filter, Prefix, PublicKey, Tags, Timestamp, kind, sign::Keys},
    store::{
        Store,
        records::{Race, Record, RecordKind, Records, Version},
    },
};

/// How often a change is tried that others overtake.
pub const ATTEMPTS: usize = 16;
/// Wishes that no event is known to have that is stored, until it is taken that none will be.
pub const MOST_WISHES: usize = 100;

/// What the record of such an event says.
pub trait Ledger: Clone + Default + Serialize + DeserializeOwned {
    /// The event that was made last. It stands, or it is on its way into the store, or it never came there.
    fn made(&self) -> Option<Place>;

    fn set_made(&mut self, event: &Event);

    /// When events were made within the last minute.
    fn lately(&mut self) -> &mut Vec<Timestamp>;

    /// What was wished is over.
    fn forget_changes(&mut self);

    /// Whether the event that was made last need not be looked for any more: it stands, or another one has taken its
    /// place, before or after it was stored. In the latter case whoever made it is told so, and makes it anew.
    fn is_settled(&self, newest: Option<&Event>) -> bool {
        self.made().is_none_or(|made| made.is_settled(newest))
    }

    /// In how many seconds another event may be made, if not now.
    fn wait(&mut self, most: usize, now: Timestamp) -> Option<u64> {
        const MINUTE: u64 = 60;
        let lately = self.lately();
        // A node whose clock is ahead holds up nobody for longer.
        lately.retain(|at| at.abs_diff(now) < MINUTE);
        let oldest = *lately.iter().min()?;
        (lately.len() >= most).then(|| (oldest + MINUTE).saturating_sub(now).max(1))
    }
}

/// The record of an event of which no versions are kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pending<W> {
    /// As `<seconds>:<id>`.
    #[serde(default)]
    made: Option<String>,
    /// What the event that was made last has, and none has that is known to be stored.
    #[serde(default)]
    pub changes: W,
    #[serde(default)]
    lately: Vec<Timestamp>,
}

impl<W: Clone + Default + Serialize + DeserializeOwned> Pending<W> {
    /// Without what the event has that stands.
    pub fn unsettled(mut self, stands: Option<&Event>) -> Self {
        if self.is_settled(stands) {
            self.changes = W::default();
        }
        self
    }
}

impl<W: Clone + Default + Serialize + DeserializeOwned> Ledger for Pending<W> {
    fn made(&self) -> Option<Place> {
        self.made.as_deref().and_then(Place::parse)
    }

    fn set_made(&mut self, event: &Event) {
        self.made = Some(Place::of(event).to_string());
    }

    fn lately(&mut self) -> &mut Vec<Timestamp> {
        &mut self.lately
    }

    fn forget_changes(&mut self) {
        self.changes = W::default();
    }
}

/// An event that is to be made, and what its record says then.
pub struct Draft<L> {
    pub tags: Tags,
    pub content: String,
    pub ledger: L,
}

/// What is wished of an account's event of a kind.
pub(super) trait Change {
    /// The kind of the event.
    const EVENT: u16;
    /// That of its record.
    const RECORD: RecordKind;
    type Ledger: Ledger;

    /// What is to be made of the event that stands; `None`: it is as wished.
    async fn draft(
        &mut self,
        ledger: Self::Ledger,
        stands: Option<&Event>,
    ) -> Result<Option<Draft<Self::Ledger>>, FeedError>;

    /// The event is made, and nothing is written yet.
    fn made(&mut self, _ledger: &mut Self::Ledger, _event: &Event) -> Result<(), FeedError> {
        Ok(())
    }

    /// The record names the event, which is not sent yet.
    async fn noted(&mut self) -> Result<(), FeedError> {
        Ok(())
    }

    /// The event is stored.
    async fn stored(&mut self) {}

    /// The event is refused, and the record does not name it any more.
    async fn taken_back(&mut self) {}
}

/// What a change came to.
#[derive(Debug)]
pub struct Outcome {
    /// The event that stands; `None`: there is none.
    pub stands: Option<Event>,
    /// Whether it was otherwise before.
    pub was_otherwise: bool,
}

/// Has changes made.
#[derive(Clone)]
pub struct Changes {
    door: Arc<Door>,
    reader: Reader,
    /// Events of a kind that are made of an account within a minute, so that their dates stay near to now.
    per_minute: usize,
}

impl Changes {
    pub fn new(door: Arc<Door>, store: Arc<dyn Store>, per_minute: usize) -> Self {
        Self { door, reader: Reader::new(store), per_minute }
    }

    fn records(&self) -> &dyn Records {
        self.reader.store().records()
    }

    /// The event of an account that stands.
    ///
    /// # Errors
    /// The store fails.
    pub async fn standing(&self, account: PublicKey, kind: u16) -> Result<Option<Event>, FeedError> {
        Ok(self.reader.newest(by([account], &[kind]), &nobody()).await?)
    }

    /// Whether an event that was made, and does not stand, was deleted by its author: then it was there.
    async fn is_deleted(
        &self,
        account: PublicKey,
        kind: u16,
        made: Option<Place>,
    ) -> Result<bool, FeedError> {
        let Some(made) = made else { return Ok(false) };
        let requests = by([account], &[kind::DELETION]);
        let of = |letter, value| Filter { tags: tagged(letter, [value], &[]).tags, ..requests.clone() };
        let address = Filter { since: Some(made.at), ..of(b'a', format!("{kind}:{account}:")) };
        let wanted = [of(b'e', made.id.to_hex()), address];
        Ok(!self.reader.read(wanted, &nobody(), Span::default(), 1).await?.is_empty())
    }

    /// What the record says.
    ///
    /// # Errors
    /// The store fails.
    pub async fn ledger<L: Ledger>(
        &self,
        account: PublicKey,
        kind: RecordKind,
    ) -> Result<(Option<Version>, L), FeedError> {
        let record = self.records().get(kind, &account.to_hex()).await?;
        let ledger = record.as_ref().and_then(|Record { value, .. }| serde_json::from_slice(value).ok());
        Ok((record.map(|record| record.version), ledger.unwrap_or_default()))
    }

    /// Moves the record on, if it is that version.
    ///
    /// # Errors
    /// It does not fit.
    pub async fn put<L: Ledger>(
        &self,
        account: PublicKey,
        kind: RecordKind,
        expected: Option<Version>,
        ledger: &L,
    ) -> Result<Race, FeedError> {
        let value =
            serde_json::to_vec(ledger).map_err(|error| FeedError::unfit("record", error.to_string()))?;
        Ok(self.records().put(kind, &account.to_hex(), expected, value, None).await?)
    }

    /// Has a change made, once.
    ///
    /// # Errors
    /// It is not, or not known to be.
    pub(super) async fn make<C: Change>(&self, keys: &Keys, mut change: C) -> Result<Outcome, FeedError> {
        let account = keys.public_key();
        let mut was_otherwise = false;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                pause().await;
            }
            // In this order: what is read of the event is at least as new as what the record says of it.
            let (version, mut before) = self.ledger::<C::Ledger>(account, C::RECORD).await?;
            let stands = self.standing(account, C::EVENT).await?;
            if stands.is_none() && self.is_deleted(account, C::EVENT, before.made()).await? {
                before.forget_changes();
            }
            let Some(draft) = change.draft(before.clone(), stands.as_ref()).await? else {
                return Ok(Outcome { stands, was_otherwise });
            };
            let (Draft { tags, content, mut ledger }, now) = (draft, clock::now());
            if let Some(seconds) = ledger.wait(self.per_minute, now) {
                return Err(FeedError::TooFast { seconds });
            }
            let dates = [stands.as_ref().map(Event::created_at), before.made().map(|made| made.at)];
            let after = dates.into_iter().flatten().max().map_or(0, |at| at.saturating_add(1));
            let event = keys.sign(after.max(now), C::EVENT, tags, &content);
            ledger.set_made(&event);
            ledger.lately().push(now);
            change.made(&mut ledger, &event)?;
            // Before the record is moved: what the relay does not take is nothing that others need finish.
            let entering = self.door.admit_in_order(event.clone())?;
            let version = match self.put(account, C::RECORD, version, &ledger).await? {
                Race::Won(version) => version,
                Race::Overtaken(_) => continue,
                Race::Unknown(_) => return Err(FeedError::Unknown),
            };
            was_otherwise = true;
            let published = match change.noted().await {
                Ok(()) => entering.enter().await,
                Err(error) => Err(error),
            };
            match published {
                Ok(_) => {
                    change.stored().await;
                    return Ok(Outcome { stands: Some(event), was_otherwise });
                }
                // Another one came between. Perhaps it has what is wished.
                Err(FeedError::Refused(reason)) if reason.prefix == Prefix::Duplicate => {}
                Err(FeedError::Unknown) => return Err(FeedError::Unknown),
                Err(error) => {
                    // It will not come, so nobody need finish it.
                    match self.put(account, C::RECORD, Some(version), &before).await {
                        Ok(Race::Won(_)) => change.taken_back().await,
                        _ => warn!(
                            %account,
                            kind = C::EVENT,
                            "an event was refused that its record names: the next change has what it had"
                        ),
                    }
                    return Err(error);
                }
            }
        }
        Err(FeedError::Overloaded)
    }
}

/// Before something is tried again that somebody else was faster with.
pub async fn pause() {
    const LONGEST: u64 = 40;
    let wait = rand::rng().random_range(1..=LONGEST);
    sleep(Duration::from_millis(wait)).await;
}
