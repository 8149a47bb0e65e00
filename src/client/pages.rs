//! The stored events of a relay, page by page, newest first, each event once.
//!
//! `until` is the oldest second seen (NIP-67), whose events are remembered so that they are not
//! taken twice. A second with more events than the relay sends at once cannot be paged through;
//! that is an error, never a silent hole.

use std::{cmp::Reverse, collections::HashSet, time::Duration};

use tokio::time::{sleep, timeout};

use super::{Arrival, ClientError, Connection, Endpoint};
use crate::protocol::{Event, EventId, Filter, Identity, Timestamp, message::Hint};

/// Events asked for at once: what every relay bears.
pub const PAGE: usize = 500;
/// Events asked for where a page did not hold one second.
const WIDE_PAGE: usize = 5_000;
/// Most events taken as one page: a relay may send more than asked so that the last second is whole, but not without
/// end.
const MAX_PAGE_EVENTS: usize = 50_000;
/// By so much fewer events are asked for where a page has too many bytes.
const FEWER: usize = 8;
/// A page of which nothing can be used has no more events than this, or the relay ignores what it was asked for.
const MOST_UNUSABLE: usize = 10;
/// Failures in a row after which a relay counts as gone.
const MAX_ATTEMPTS: u32 = 8;
/// No relay in use sends fewer events than this in a page if it has more. A last page that is
/// smaller, all of one second, is therefore whole.
const SMALLEST_CAP: usize = 100;
/// How long a relay may think about a COUNT, on which nothing depends but certainty.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);

/// The stored events of a relay that match a filter. Opens connections as it needs them.
pub struct Pages {
    endpoint: Endpoint,
    /// What was asked for at first.
    wanted: Filter,
    /// What is still to come.
    filter: Filter,
    /// Events to ask for next.
    page: usize,
    connection: Option<Connection>,
    /// Which store the relay has, where it has told.
    store: Option<Identity>,
    /// Whether the relay was ever reached: if not, the user mistyped, and trying again is no help.
    was_connected: bool,
    /// The events already given of the second `filter.until`.
    boundary: HashSet<EventId>,
    /// The largest answer so far: what the relay is known to send at once.
    largest: usize,
    finished: bool,
    unusable: u64,
}

/// What the relay answered to one REQ.
#[derive(Default)]
struct StoredPage {
    events: Vec<Event>,
    /// How many events it sent, those included that cannot be used.
    sent: usize,
    hint: Option<Hint>,
}

impl Pages {
    /// `first` is how many events are asked for at first; should that not do, more follow. Where the endpoint says
    /// to verify, events whose id or signature is wrong are left out, and counted as unusable.
    pub fn new(endpoint: Endpoint, filter: Filter, first: usize) -> Self {
        let page = first.min(endpoint.manners.events);
        Self {
            endpoint,
            finished: filter.is_never(),
            wanted: filter.clone(),
            filter,
            page,
            connection: None,
            store: None,
            was_connected: false,
            boundary: HashSet::new(),
            largest: 0,
            unusable: 0,
        }
    }

    /// Over a connection that is open already.
    pub fn on(connection: Connection, filter: Filter) -> Self {
        let endpoint = connection.endpoint().clone();
        Self { connection: Some(connection), was_connected: true, ..Self::new(endpoint, filter, PAGE) }
    }

    fn page_size(&self) -> usize {
        PAGE.min(self.endpoint.manners.events)
    }

    /// The connection, if it is open.
    pub fn into_connection(self) -> Option<Connection> {
        self.connection
    }

    /// The same relay, asked for something else, over a connection of its own.
    pub fn again(&self, filter: Filter) -> Self {
        Self::new(self.endpoint.clone(), filter, PAGE)
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Reaches the relay, and hears which store it has, if it tells.
    ///
    /// # Errors
    /// Those of [`Endpoint::connect_identified`].
    pub async fn store(&mut self) -> Result<Option<Identity>, ClientError> {
        self.connection().await?;
        Ok(self.store)
    }

    /// How many events were left out so far: they are not valid, or nobody asked for them.
    pub fn unusable(&self) -> u64 {
        self.unusable
    }

    /// Says goodbye, if there is anybody to say it to.
    pub async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }

    /// The next events, newest first, ties by lowest id; `None` after the last.
    ///
    /// # Errors
    /// The relay was never reached, is away for long, refuses, or holds back what cannot be paged through.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Event>>, ClientError> {
        if self.finished {
            return Ok(None);
        }
        let answer = self.ask(self.filter.clone(), self.page).await?;
        let usual = self.page_size();
        let limit = std::mem::replace(&mut self.page, usual);
        self.finished = answer.hint == Some(Hint::Finish) || answer.sent == 0;
        let mut fresh = answer.events;
        fresh.retain(|event| !self.boundary.contains(&event.id()));
        let Some(oldest) = fresh.last().map(Event::created_at) else {
            return if self.finished { Ok(None) } else { self.step_over(answer.sent, limit).await };
        };
        if self.filter.until != Some(oldest) {
            self.boundary.clear();
        }
        self.filter.until = Some(oldest);
        self.boundary.extend(fresh.iter().filter(|event| event.created_at() == oldest).map(Event::id));
        Ok(Some(fresh))
    }

    /// Goes on below a second that can not be paged through ([`ClientError::CrowdedSecond`]).
    pub fn pass_over(&mut self, second: Timestamp) {
        self.boundary.clear();
        let older = Filter { until: second.checked_sub(1), ..self.filter.clone() };
        self.finished = older.until.is_none() || older.is_never();
        self.filter = older;
    }

    /// Everything received was known already: nothing is older, or the boundary second fills a whole
    /// page.
    async fn step_over(&mut self, sent: usize, limit: usize) -> Result<Option<Vec<Event>>, ClientError> {
        let second = self.filter.until.ok_or(ClientError::NothingUsable { sent })?;
        let mut older = Filter { until: second.checked_sub(1), ..self.filter.clone() };
        let answer = match older.until {
            Some(_) if !older.is_never() => self.ask(older.clone(), self.page_size()).await?,
            _ => StoredPage::default(),
        };
        // Were there room left in the page, the relay would have filled it with older events.
        let was_full = answer.sent > 0 || sent >= limit;
        let may_have_been_full = sent >= self.largest && sent >= SMALLEST_CAP;
        if was_full || may_have_been_full {
            let rest = self.rest_of(second).await?;
            if !rest.is_empty() {
                self.boundary.extend(rest.iter().map(Event::id));
                return Ok(Some(rest));
            }
        }
        self.finished = answer.hint == Some(Hint::Finish) || answer.sent == 0;
        older.until = answer.events.last().map(Event::created_at).or(older.until);
        let oldest = older.until;
        self.filter = older;
        let at_boundary = answer.events.iter().filter(|event| Some(event.created_at()) == oldest);
        self.boundary = at_boundary.map(Event::id).collect();
        Ok((!answer.events.is_empty()).then_some(answer.events))
    }

    /// The events of a second that did not fit into a page.
    ///
    /// # Errors
    /// There are none, and it cannot be shown that those given already are all of them.
    async fn rest_of(&mut self, second: Timestamp) -> Result<Vec<Event>, ClientError> {
        let known = self.boundary.len();
        let filter = Filter { since: Some(second), until: Some(second), ..self.filter.clone() };
        let widest = WIDE_PAGE.min(self.endpoint.manners.events);
        // A relay may refuse a limit as high as this; then the count has to tell.
        if let Ok(mut wide) = self.ask(filter.clone(), widest).await {
            wide.events.retain(|event| !self.boundary.contains(&event.id()));
            if !wide.events.is_empty() || wide.hint == Some(Hint::Finish) {
                return Ok(wide.events);
            }
            // A relay that sends more than this at once did not hold anything back.
            if wide.sent == self.largest {
                let _ = self.ask(self.wanted.clone(), widest).await;
            }
            if wide.sent < self.largest {
                return Ok(Vec::new());
            }
        }
        if self.count(filter).await == Some((known as u64, false)) {
            return Ok(Vec::new());
        }
        Err(ClientError::CrowdedSecond { known, second })
    }

    /// About how many events there are, where the relay tells.
    pub async fn estimate(&mut self) -> Option<u64> {
        self.count(self.filter.clone()).await.map(|(count, _)| count)
    }

    /// The count and whether it is a guess (NIP-45); `None` where the relay does not tell.
    async fn count(&mut self, filter: Filter) -> Option<(u64, bool)> {
        let counting = async { self.connection().await?.count(&filter).await };
        timeout(COUNT_TIMEOUT, counting).await.ok()?.ok()?
    }

    /// Asks until there is a whole answer, on a new connection where the old one was lost.
    async fn ask(&mut self, mut filter: Filter, limit: usize) -> Result<StoredPage, ClientError> {
        filter.limit = Some(limit);
        let mut backoff = self.endpoint.backoff();
        loop {
            let error = match self.ask_once(&filter).await {
                Ok(answer) => {
                    self.largest = self.largest.max(answer.sent);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            self.connection = None;
            if let (ClientError::Endless, Some(limit @ 2..)) = (&error, filter.limit) {
                filter.limit = Some((limit / FEWER).max(1));
                continue;
            }
            if !error.is_passing() || !self.was_connected || backoff.attempts() >= MAX_ATTEMPTS {
                return Err(error);
            }
            let wait = backoff.fail();
            self.endpoint.observer.retry(&error, wait);
            sleep(wait).await;
        }
    }

    async fn ask_once(&mut self, filter: &Filter) -> Result<StoredPage, ClientError> {
        let (patience, most_bytes) = (self.endpoint.bounds.answer, self.endpoint.bounds.page_bytes);
        let connection = self.connection().await?;
        let mut subscription = connection.subscribe(filter);
        let mut events: Vec<Event> = Vec::new();
        let (mut bytes, mut sent) = (0, 0);
        let hint = loop {
            let arrival = timeout(patience, subscription.next()).await;
            match arrival.map_err(|_| ClientError::Silent("finish its answer"))?? {
                Arrival::Event(event) => {
                    sent += 1;
                    bytes += event.json().len();
                    events.push(*event);
                }
                Arrival::Unusable => sent += 1,
                Arrival::Again => {
                    events.clear();
                    (bytes, sent) = (0, 0);
                }
                Arrival::EndOfStored(hint) => break hint,
            }
            if sent > MAX_PAGE_EVENTS || bytes > most_bytes {
                return Err(ClientError::Endless);
            }
        };
        subscription.close().await?;
        self.unusable += (sent - events.len()) as u64;
        // A few that are of no use are as good as none: what is older is asked for next.
        if events.is_empty() && sent > MOST_UNUSABLE {
            return Err(ClientError::FilterIgnored { sent });
        }
        // Relays of the wild do not all keep the order, and some send an event twice.
        events.sort_unstable_by_key(|event| (Reverse(event.created_at()), event.id()));
        events.dedup_by_key(|event| event.id());
        Ok(StoredPage { events, sent, hint })
    }

    async fn connection(&mut self) -> Result<&mut Connection, ClientError> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            empty => {
                let connection = self.endpoint.connect_identified().await?;
                // Pages of two stores are no whole.
                connection.note_store(&mut self.store)?;
                self.was_connected = true;
                Ok(empty.insert(connection))
            }
        }
    }
}
