//! What was missed: found by comparing (NIP-77), or by reading windows of time.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tracing::{debug, warn};

use super::{
    super::{
        counts::Verdict,
        flight::{Asked, Number, WindowId},
        intake::judge_read,
        progress::{Progress, Window},
        refused::FilterId,
        registry::{Refused, Registry},
        status::CatchUp,
        upstream::{AUTHORS, Upstream, by},
    },
    Ended, Reader,
};
use crate::{
    client::{ClientError, Connection, Found, Pages},
    clock,
    protocol::{
        Event, EventId, Filter, Timestamp,
        negentropy::{Key, KeySet},
    },
    store::keys_and,
};

/// Ids that an upstream may name before they are asked for.
const MOST_NEEDED: usize = 100_000;
/// Ids in a row that it may have named and not send.
const MOST_PHANTOMS: usize = 1_000;
/// The first window of time, in seconds, and how many events one should bring.
const FIRST_WINDOW: u64 = 60;
const FEW: usize = 250;
const MANY: usize = 2_000;
/// Between looks whether what is on its way has arrived.
const PAUSE: Duration = Duration::from_millis(200);

/// What was received and waits for room in the queue. Where that ends, it is as if it had never come.
struct Unqueued<'r> {
    reader: &'r Reader,
    number: Number,
}

impl Drop for Unqueued<'_> {
    fn drop(&mut self) {
        self.reader.counts.give_up(1);
        self.reader.inner.lock().flight.forget(self.number);
    }
}

impl Reader {
    /// Reads what the upstream had at that moment and this relay has not.
    pub(super) async fn catch_up(&self, until: Timestamp) -> Result<(), Ended> {
        let begun = Instant::now();
        let before = self.put.load(Relaxed);
        let mut connection = self.endpoint.connect_identified().await?;
        self.fetch_left_out(&mut connection).await?;
        self.begin_anew_where_ahead(until);
        let whole = self.inner.lock().flight.begin(Window { since: 0, until });
        match self.compare(&mut connection, until, whole).await {
            Err(Ended::Client(
                error @ (ClientError::NoReconciliation(_)
                | ClientError::TooMany(_)
                | ClientError::NotReconciled(_)
                | ClientError::BadReconciliation(_)),
            )) => {
                debug!(upstream = %self.upstream.url, "read by windows of time: {error}");
                // Else nothing that comes live would move the cursor.
                self.inner.lock().flight.give_up(whole);
                connection = self.read_past_of_new(connection).await?;
                connection = self.walk(connection, until).await?;
            }
            compared => compared?,
        }
        connection.close().await;
        self.past_is_read().await?;
        self.status.caught_up(CatchUp {
            begun: until,
            seconds: begun.elapsed().as_secs(),
            events: self.put.load(Relaxed) - before,
        });
        Ok(())
    }

    /// How far a clock has come that was ahead says nothing of what was read.
    fn begin_anew_where_ahead(&self, now: Timestamp) {
        let progress = &mut self.inner.lock().progress;
        if progress.is_ahead(now) {
            warn!(
                upstream = %self.upstream.url,
                through = progress.through,
                "it was read by a clock that was ahead: it is read anew from the beginning"
            );
            *progress = Progress::default();
        }
    }

    /// What was received once and not stored. Each is remembered until it is on its way, or known to be nothing.
    async fn fetch_left_out(&self, connection: &mut Connection) -> Result<(), Ended> {
        let ids: Vec<EventId> = self.inner.lock().left_out.iter().map(|key| key.id).collect();
        let is_settled = |settled: &[EventId]| {
            self.inner.lock().left_out.retain(|key| !settled.contains(&key.id));
        };
        let take = async |found| {
            match found {
                Found::Event(event) => {
                    self.put(&event, Asked::default(), &self.filters).await;
                    is_settled(&[event.id()]);
                }
                Found::Nothing(ids) => is_settled(&ids),
            }
            true
        };
        connection.fetch(&ids, take).await?;
        Ok(())
    }

    /// Finds out what is missing (NIP-77), whenever it is dated, and fetches it.
    async fn compare(
        &self,
        connection: &mut Connection,
        until: Timestamp,
        window: WindowId,
    ) -> Result<(), Ended> {
        for filter in &self.filters {
            let asked = Asked { window: Some(window), compared: Some(filter.into()) };
            while !self.compare_some(connection, filter, until, asked).await? {
                // What is on its way would be named again.
                while self.inner.lock().flight.count_open(window) > 0 {
                    sleep(PAUSE).await;
                }
            }
        }
        self.end(window);
        Ok(())
    }

    /// Compares what a filter matches, and fetches what is missing: whether that is all of it.
    async fn compare_some(
        &self,
        connection: &mut Connection,
        filter: &Filter,
        until: Timestamp,
        asked: Asked,
    ) -> Result<bool, Ended> {
        let mut found = {
            let until = Some(filter.until.map_or(until, |end| end.min(until)));
            let part = Filter { until, ..filter.clone() };
            let ours = self.keys(&part, filter).await?;
            connection.reconcile(&part, &ours, MOST_NEEDED).await?
        };
        let now = clock::now();
        {
            let inner = self.inner.lock();
            found.need.retain(|id| !inner.phantoms.has(id, now));
        }
        let mut phantoms = 0;
        let take = async |found| {
            match found {
                Found::Event(event) => {
                    phantoms = 0;
                    self.put(&event, asked, std::slice::from_ref(filter)).await;
                }
                Found::Nothing(ids) => {
                    phantoms += ids.len();
                    self.counts.note_phantoms(ids.len());
                    self.inner.lock().phantoms.note(ids, now);
                }
            }
            phantoms < MOST_PHANTOMS
        };
        let is_in_vain = found.need.is_empty() && !found.is_whole;
        connection.fetch(&found.need, take).await?;
        match is_in_vain || phantoms >= MOST_PHANTOMS {
            true => Err(Ended::Phantoms),
            false => Ok(found.is_whole),
        }
    }

    /// The keys of what is stored here, or is not to be fetched: those of `part`, which is one of `filter`.
    async fn keys(&self, part: &Filter, filter: &Filter) -> Result<KeySet, Ended> {
        let mut refused = self.refused.keys(self.parts.store.records(), filter).await?;
        refused.retain(|key| {
            part.since.is_none_or(|since| since <= key.created_at)
                && part.until.is_none_or(|until| key.created_at <= until)
        });
        let keys = keys_and(&*self.parts.store, part.clone(), refused).await?;
        let too_many = || ClientError::TooMany("more is stored here than is read at once".into());
        Ok(keys.ok_or_else(too_many)?)
    }

    /// Reads what those have written of old who are followed now and were not: the windows up to here were read without
    /// them.
    async fn read_past_of_new(&self, mut connection: Connection) -> Result<Connection, Ended> {
        let (new, until) = {
            let inner = self.inner.lock();
            let progress = &inner.progress;
            (inner.new.clone(), progress.done.last().map_or(progress.through, |window| window.until))
        };
        if new.is_empty() || until == 0 {
            return Ok(connection);
        }
        // What others wrote may be on its way in the same time.
        let id = self.inner.lock().flight.begin_beside();
        for filter in new.chunks(AUTHORS).map(by) {
            let part = Filter { until: Some(until), ..filter.clone() };
            (connection, _) = self.read_pages(connection, part, &filter, id).await?;
        }
        self.end(id);
        // They are new until it is stored.
        while self.inner.lock().flight.count_open(id) > 0 {
            sleep(PAUSE).await;
        }
        Ok(connection)
    }

    /// Notes that the past has been read of those who were new when this reader began.
    async fn past_is_read(&self) -> Result<(), Ended> {
        let read = std::mem::take(&mut self.inner.lock().new);
        if read.is_empty() {
            return Ok(());
        }
        let change = |upstream: &mut Upstream| {
            if let Some(followed) = &mut upstream.followed {
                followed.new.retain(|person| !read.contains(person));
            }
            Ok(())
        };
        match Registry::new(Arc::clone(&self.parts.store)).change(self.id, change).await {
            // It is an upstream no more, or another reader notes it when it has read it once more.
            Ok(_) | Err(Refused::Unknown | Refused::Contended) => Ok(()),
            Err(error) => {
                self.inner.lock().new = read;
                Err(Ended::Noted(error))
            }
        }
    }

    /// Reads all pages that match `part`, which is one of `filter`: how many events they have.
    async fn read_pages(
        &self,
        connection: Connection,
        part: Filter,
        filter: &Filter,
        window: WindowId,
    ) -> Result<(Connection, usize), Ended> {
        let mut count = 0;
        let mut pages = Pages::on(connection, part);
        loop {
            match pages.next_page().await {
                Ok(Some(page)) => {
                    count += page.len();
                    let asked = Asked { window: Some(window), compared: None };
                    for event in page {
                        self.put(&event, asked, std::slice::from_ref(filter)).await;
                    }
                }
                Ok(None) => break,
                Err(error @ ClientError::CrowdedSecond { second, .. }) => {
                    warn!(upstream = %self.upstream.url, "a hole stays: {error}");
                    pages.pass_over(second);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let connection = match pages.into_connection() {
            Some(connection) => connection,
            None => self.endpoint.connect_identified().await?,
        };
        Ok((connection, count))
    }

    /// Reads windows of time, oldest first, each of which moves the cursor.
    async fn walk(&self, mut connection: Connection, until: Timestamp) -> Result<Connection, Ended> {
        let gap = self.inner.lock().progress.gap(until, self.parts.overlap);
        let Some(gap) = gap else { return Ok(connection) };
        let (mut since, mut span) = (gap.since, FIRST_WINDOW);
        while since <= until {
            let window = Window { since, until: since.saturating_add(span - 1).min(until) };
            let id = self.inner.lock().flight.begin(window);
            let mut count = 0;
            for filter in &self.filters {
                let part = Filter {
                    since: Some(filter.since.map_or(window.since, |begin| begin.max(window.since))),
                    until: Some(filter.until.map_or(window.until, |end| end.min(window.until))),
                    ..filter.clone()
                };
                let events;
                (connection, events) = self.read_pages(connection, part, filter, id).await?;
                count += events;
            }
            self.end(id);
            since = window.until.saturating_add(1);
            span = match count {
                ..FEW => span.saturating_mul(4),
                FEW..=MANY => span,
                _ => (span / 2).max(1),
            };
        }
        Ok(connection)
    }

    /// Queues what was asked for by these filters, once there is room and it may come.
    async fn put(&self, event: &Event, asked: Asked, filters: &[Filter]) {
        let (received, key) = (clock::now(), Key { created_at: event.created_at(), id: event.id() });
        if self.inner.lock().pace.is_spent(received) {
            // Until the session is over.
            return std::future::pending().await;
        }
        let bytes = event.json().len();
        self.counts.receive(bytes);
        self.inner.lock().pace.take(bytes, received, Instant::now());
        if let Err(refusal) = self.note(judge_read(event, self.parts.max_event_bytes, filters)) {
            return self.remember(asked.compared, key, Verdict::Refused(refusal));
        }
        let (number, mut arrival) = {
            let mut inner = self.inner.lock();
            (inner.flight.take(received, key, asked), inner.trace.arrival())
        };
        let unqueued = Unqueued { reader: self, number };
        self.parts.queue.put(self.entry(number, event, received, &mut arrival)).await;
        std::mem::forget(unqueued);
        self.parts.metrics.queue_published.inc();
        self.put.fetch_add(1, Relaxed);
        self.has_queued.store(true, Relaxed);
        self.wait_for_pace().await;
    }

    /// Remembers what has become of an event, if a comparison has brought it. Of what came otherwise the next comparison
    /// finds it out, but for a dead letter: it is not asked for again, by whatever filter.
    pub(super) fn remember(&self, compared: Option<FilterId>, key: Key, verdict: Verdict) {
        match compared {
            Some(filter) => self.refused.note(filter, key, verdict),
            None if verdict == Verdict::Dead => {
                self.filters.iter().for_each(|filter| self.refused.note(filter.into(), key, verdict));
            }
            None => {}
        }
    }

    fn end(&self, window: WindowId) {
        let inner = &mut *self.inner.lock();
        inner.flight.end(window, &mut inner.progress);
    }
}
