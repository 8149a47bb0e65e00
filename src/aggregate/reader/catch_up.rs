//! What was missed: found by comparing (NIP-77), or by reading windows of time.

use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use super::{
    super::{flight::WindowId, progress::Window},
    Ended, Reader,
};
use crate::{
    client::{ClientError, Connection, Pages},
    clock,
    protocol::{
        Event, EventId, Filter, Timestamp,
        negentropy::{Key, KeySet},
    },
    store::keys,
};

/// Ids that an upstream may name before they are asked for.
const MOST_NEEDED: usize = 100_000;
/// The first window of time, in seconds, and how many events one should bring.
const FIRST_WINDOW: u64 = 60;
const FEW: usize = 250;
const MANY: usize = 2_000;
/// Between looks whether what is on its way has arrived.
const PAUSE: Duration = Duration::from_millis(200);

impl Reader {
    /// Reads what the upstream had at that moment and this relay has not.
    pub(super) async fn catch_up(&self, until: Timestamp) -> Result<(), Ended> {
        let mut connection = self.endpoint.connect_identified().await?;
        self.fetch_left_out(&mut connection).await?;
        match self.compare(&mut connection, until).await {
            Err(Ended::Client(ClientError::NoReconciliation(_) | ClientError::TooMany(_))) => {
                connection = self.walk(connection, until).await?;
            }
            compared => compared?,
        }
        connection.close().await;
        Ok(())
    }

    /// What was received once and not stored.
    async fn fetch_left_out(&self, connection: &mut Connection) -> Result<(), Ended> {
        let left_out = std::mem::take(&mut self.inner.lock().left_out);
        let ids: Vec<EventId> = left_out.iter().map(|key| key.id).collect();
        let fetched = connection.fetch(&ids, async |event| self.put(&event, None).await).await;
        if let Err(error) = fetched {
            self.inner.lock().left_out.extend(left_out);
            return Err(error.into());
        }
        Ok(())
    }

    /// Finds out what is missing (NIP-77), whenever it is dated, and fetches it.
    async fn compare(&self, connection: &mut Connection, until: Timestamp) -> Result<(), Ended> {
        let whole = Window { since: 0, until };
        let window = self.inner.lock().flight.begin(whole);
        for filter in &self.upstream.filters {
            let filter =
                Filter { until: Some(filter.until.map_or(until, |end| end.min(until))), ..filter.clone() };
            loop {
                let ours = self.keys(&filter).await?;
                let found = connection.reconcile(&filter, &ours, MOST_NEEDED).await?;
                let fetched =
                    connection.fetch(&found.need, async |event| self.put(&event, Some(window)).await).await?;
                if found.is_whole || fetched.events == 0 {
                    break;
                }
                // What is on its way would be named again.
                while !self.inner.lock().flight.is_empty() {
                    sleep(PAUSE).await;
                }
            }
        }
        self.end(window);
        Ok(())
    }

    /// The keys of what is stored here.
    async fn keys(&self, filter: &Filter) -> Result<KeySet, Ended> {
        let keys = keys(&*self.parts.store, filter.clone()).await?;
        let too_many = || ClientError::TooMany("more is stored here than is read at once".into());
        Ok(keys.ok_or_else(too_many)?)
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
            for filter in &self.upstream.filters {
                let part = Filter {
                    since: Some(filter.since.map_or(window.since, |begin| begin.max(window.since))),
                    until: Some(filter.until.map_or(window.until, |end| end.min(window.until))),
                    ..filter.clone()
                };
                let mut pages = Pages::on(connection, part);
                loop {
                    match pages.next_page().await {
                        Ok(Some(page)) => {
                            count += page.len();
                            for event in page {
                                self.put(&event, Some(id)).await;
                            }
                        }
                        Ok(None) => break,
                        Err(error @ ClientError::CrowdedSecond { .. }) => {
                            warn!(upstream = %self.upstream.url, "a hole stays: {error}");
                            break;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                connection = match pages.into_connection() {
                    Some(connection) => connection,
                    None => self.endpoint.connect_identified().await?,
                };
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

    /// Queues what was asked for, once there is room.
    async fn put(&self, event: &Event, window: Option<WindowId>) -> bool {
        self.counts.receive(event.json().len());
        let (received, key) = (clock::now(), Key { created_at: event.created_at(), id: event.id() });
        let (number, mut arrival) = {
            let mut inner = self.inner.lock();
            (inner.flight.take(received, key, window), inner.trace.arrival())
        };
        self.parts.queue.put(self.entry(number, event, received, &mut arrival)).await;
        self.parts.metrics.queue_published.inc();
        true
    }

    fn end(&self, window: WindowId) {
        let inner = &mut *self.inner.lock();
        inner.flight.end(window, &mut inner.progress);
    }
}
