//! The stored events of a relay, page by page, newest first, each event once.
//!
//! `until` is the oldest second seen (NIP-67), whose events are remembered so that they are not
//! taken twice. A second with more events than the relay sends at once cannot be paged through;
//! that is an error, never a silent hole.

use std::{cmp::Reverse, collections::HashSet, num::NonZeroUsize};

use anyhow::{Context, bail};
use tokio::time::{sleep, timeout};

use super::{
    backoff::Backoff,
    client::{ANSWER_TIMEOUT, ClientError, Connection, Endpoint},
    holder::Holder,
    terminal::shown,
};
use crate::{
    protocol::{Event, EventId, Filter, Reply, Timestamp, message::Hint, reply, verify::Verifier},
    store::Identity,
};

/// Events asked for at once: what every relay bears.
pub const PAGE: usize = 500;
/// Events asked for where a page did not hold one second.
const WIDE_PAGE: usize = 5_000;
/// Most events taken as one page, and most bytes: a relay may send more than asked so that the last
/// second is whole, but not without end.
const MAX_PAGE_EVENTS: usize = 50_000;
const MAX_PAGE_BYTES: usize = 256 << 20;
/// Authors whose decoded keys are kept while verifying.
const HOT_AUTHORS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);
/// Failures in a row after which a relay counts as gone.
const MAX_ATTEMPTS: u32 = 8;
/// No relay in use sends fewer events than this in a page if it has more. A last page that is
/// smaller, all of one second, is therefore whole.
const SMALLEST_CAP: usize = 100;
/// How long a relay may think about a COUNT, on which nothing depends but certainty.
const COUNT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// The stored events of a relay that match a filter.
pub struct RelayPages {
    endpoint: Endpoint,
    /// What was asked for at first.
    wanted: Filter,
    /// What is still to come.
    filter: Filter,
    /// Events to ask for next.
    page: usize,
    verifier: Option<Verifier>,
    connection: Option<Connection>,
    /// Which store the relay has, where it has told.
    store: Option<Identity>,
    /// Whether the relay was ever reached: if not, the user mistyped, and trying again is no help.
    was_connected: bool,
    subscriptions: u64,
    /// The events already given of the second `filter.until`.
    boundary: HashSet<EventId>,
    /// The largest answer so far: what the relay is known to send at once.
    largest: usize,
    finished: bool,
    unusable: u64,
}

/// What the relay answered to one REQ.
#[derive(Default)]
struct Answer {
    events: Vec<Event>,
    /// How many events it sent, those included that cannot be used.
    sent: usize,
    hint: Option<Hint>,
}

impl RelayPages {
    /// `first` is how many events are asked for at first; should that not do, more follow.
    /// With `verify`, events whose id or signature is wrong are left out, and counted as unusable.
    pub fn new(endpoint: Endpoint, filter: Filter, first: usize, verify: bool) -> Self {
        Self {
            endpoint,
            finished: filter.is_never(),
            wanted: filter.clone(),
            filter,
            page: first,
            verifier: verify.then(|| Verifier::new(HOT_AUTHORS)),
            connection: None,
            store: None,
            was_connected: false,
            subscriptions: 0,
            boundary: HashSet::new(),
            largest: 0,
            unusable: 0,
        }
    }

    /// The same relay, asked for something else, over a connection of its own.
    pub fn again(&self, filter: Filter) -> Self {
        Self::new(self.endpoint.clone(), filter, PAGE, self.verifier.is_some())
    }

    /// Reaches the relay, and hears which store it has.
    pub async fn holder(&mut self) -> Result<Holder, ClientError> {
        self.connection().await?;
        Ok(Holder { name: self.endpoint.url.clone(), store: self.store })
    }

    pub fn unusable(&self) -> u64 {
        self.unusable
    }

    pub async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }

    /// The next events, newest first, ties by lowest id; `None` after the last.
    pub async fn next_page(&mut self) -> anyhow::Result<Option<Vec<Event>>> {
        if self.finished {
            return Ok(None);
        }
        let answer = self.ask(self.filter.clone(), self.page).await?;
        let limit = std::mem::replace(&mut self.page, PAGE);
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

    /// Everything received was known already: nothing is older, or the boundary second fills a whole
    /// page.
    async fn step_over(&mut self, sent: usize, limit: usize) -> anyhow::Result<Option<Vec<Event>>> {
        let Some(second) = self.filter.until else {
            bail!("the relay sends nothing that could be used, {sent} events at a time");
        };
        let mut older = Filter { until: second.checked_sub(1), ..self.filter.clone() };
        let answer = match older.until {
            Some(_) if !older.is_never() => self.ask(older.clone(), PAGE).await?,
            _ => Answer::default(),
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
    async fn rest_of(&mut self, second: Timestamp) -> anyhow::Result<Vec<Event>> {
        let known = self.boundary.len();
        let filter = Filter { since: Some(second), until: Some(second), ..self.filter.clone() };
        // A relay may refuse a limit as high as this; then the count has to tell.
        if let Ok(mut wide) = self.ask(filter.clone(), WIDE_PAGE).await {
            wide.events.retain(|event| !self.boundary.contains(&event.id()));
            if !wide.events.is_empty() || wide.hint == Some(Hint::Finish) {
                return Ok(wide.events);
            }
            // A relay that sends more than this at once did not hold anything back.
            if wide.sent == self.largest {
                let _ = self.ask(self.wanted.clone(), WIDE_PAGE).await;
            }
            if wide.sent < self.largest {
                return Ok(Vec::new());
            }
        }
        if self.count(filter).await == Some((known as u64, false)) {
            return Ok(Vec::new());
        }
        bail!(
            "the relay seems to hold more than {known} events of one second (created_at {second}), and sends \
             no more of them: they cannot be paged through. Take that second in parts, by --kind or --author, \
             or raise the relay's limit"
        )
    }

    /// About how many events there are, where the relay tells.
    pub async fn estimate(&mut self) -> Option<u64> {
        self.count(self.filter.clone()).await.map(|(count, _)| count)
    }

    /// The count and whether it is a guess (NIP-45); `None` where the relay does not tell.
    async fn count(&mut self, filter: Filter) -> Option<(u64, bool)> {
        let counting = async {
            let id = self.subscription_id();
            let request = format!(r#"["COUNT","{id}",{}]"#, serde_json::to_string(&filter).ok()?);
            let connection = self.connection().await.ok()?;
            connection.send(request).await.ok()?;
            loop {
                let text = connection.receive().await.ok()?;
                match Reply::parse(&text) {
                    Ok(Reply::Count { subscription, count, approximate }) if subscription == id => {
                        return Some((count, approximate));
                    }
                    Ok(Reply::Closed { subscription, .. }) if subscription == id => return None,
                    // Relays without COUNT say so in a notice, if at all.
                    Ok(Reply::Notice(_)) => return None,
                    _ => {}
                }
            }
        };
        timeout(COUNT_TIMEOUT, counting).await.ok().flatten()
    }

    /// Asks until there is a whole answer, on a new connection where the old one was lost.
    async fn ask(&mut self, mut filter: Filter, limit: usize) -> anyhow::Result<Answer> {
        filter.limit = Some(limit);
        let mut backoff = Backoff::default();
        loop {
            let error = match self.ask_once(&filter).await {
                Ok(answer) => {
                    self.largest = self.largest.max(answer.sent);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            self.connection = None;
            let passing = error.downcast_ref().is_some_and(ClientError::is_passing);
            if !passing || !self.was_connected || backoff.attempts() >= MAX_ATTEMPTS {
                return Err(error);
            }
            let wait = backoff.next();
            eprintln!("{error}; trying again in {:.1} s", wait.as_secs_f32());
            sleep(wait).await;
        }
    }

    async fn ask_once(&mut self, filter: &Filter) -> anyhow::Result<Answer> {
        let id = self.subscription_id();
        let request = format!(r#"["REQ","{id}",{}]"#, serde_json::to_string(filter)?);
        self.connection().await?;
        let connection = self.connection.as_mut().context("no connection")?;
        connection.send(request.as_str()).await?;
        let mut events: Vec<Event> = Vec::new();
        let (mut bytes, mut sent, mut authenticated) = (0, 0, false);
        let hint = loop {
            let text = timeout(ANSWER_TIMEOUT, connection.receive()).await;
            let text = text.map_err(|_| ClientError::Silent("finish its answer"))??;
            match connection.read(&text) {
                Some(Reply::Event { subscription, event }) if subscription == id => {
                    sent += 1;
                    let event = event.ok().and_then(|parsed| match &mut self.verifier {
                        Some(verifier) => verifier.verify(*parsed).ok(),
                        None => Some(parsed.trust()),
                    });
                    if let Some(event) = event.filter(|event| filter.matches(event)) {
                        bytes += event.json().len();
                        events.push(event);
                    }
                    if sent > MAX_PAGE_EVENTS || bytes > MAX_PAGE_BYTES {
                        bail!("the relay sends events without end, whatever the limit");
                    }
                }
                Some(Reply::Eose { subscription, hint }) if subscription == id => break hint,
                Some(Reply::Closed { subscription, reason }) if subscription == id => {
                    if reply::prefix(&reason) != "auth-required" || authenticated {
                        return Err(refusal(&reason));
                    }
                    connection.authenticate().await?;
                    authenticated = true;
                    events.clear();
                    (bytes, sent) = (0, 0);
                    connection.send(request.as_str()).await?;
                }
                _ => {}
            }
        };
        connection.send(format!(r#"["CLOSE","{id}"]"#)).await?;
        self.unusable += (sent - events.len()) as u64;
        if events.is_empty() && sent > 0 {
            bail!(
                "the relay ignores the filter: it sent {sent} events, and none that was asked for is valid"
            );
        }
        // Relays of the wild do not all keep the order, and some send an event twice.
        events.sort_unstable_by_key(|event| (Reverse(event.created_at()), event.id()));
        events.dedup_by_key(|event| event.id());
        Ok(Answer { events, sent, hint })
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

    fn subscription_id(&mut self) -> String {
        self.subscriptions += 1;
        format!("page{}", self.subscriptions)
    }
}

/// Whether asking again helps is for the relay to say: `error` and `rate-limited` pass.
fn refusal(reason: &str) -> anyhow::Error {
    let text = format!("the relay refused the query: {}", shown(reason));
    match reply::prefix(reason) {
        "error" | "rate-limited" => ClientError::Busy(text).into(),
        _ => anyhow::anyhow!(text),
    }
}
