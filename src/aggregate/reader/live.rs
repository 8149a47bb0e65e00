//! What comes live.

use std::sync::atomic::Ordering::Relaxed;

use super::{
    super::{
        cursor::MAX_LATE,
        dead::{Address, is_dead},
        flight::Asked,
        intake::judge,
        queue::Full,
    },
    Ended, Reader,
};
use crate::{
    client::{ClientError, Connection},
    clock,
    protocol::{Event, EventId, Filter, Reply, negentropy::Key},
};

impl Reader {
    /// Subscribes to what comes from now on, and waits until the upstream has said so of every subscription.
    pub(super) async fn subscribe(&self, connection: &mut Connection) -> Result<Vec<String>, Ended> {
        let mut subscriptions = Vec::new();
        let filters = &self.filters;
        let most = self.endpoint.manners.subscriptions;
        for filters in filters.chunks(filters.len().div_ceil(most).max(1)) {
            let id = format!("{:016x}", rand::random::<u64>());
            // One stored event: not every relay takes none for a limit.
            let ask = |filter: &Filter| Filter { limit: Some(1), ..filter.clone() }.to_string();
            let asked: Vec<String> = filters.iter().map(ask).collect();
            connection.send(format!(r#"["REQ","{id}",{}]"#, asked.join(","))).await?;
            subscriptions.push(id);
        }
        let mut missing: Vec<String> = subscriptions.clone();
        let answered = async {
            while !missing.is_empty() {
                let text = connection.receive().await?;
                match Reply::parse(&text) {
                    Ok(Reply::Eose { subscription, .. }) => missing.retain(|id| *id != subscription),
                    // It is sent whenever the upstream is asked, and may do harm each time.
                    Ok(Reply::Event { event: Ok(event), .. }) if self.is_dead(event.id).await? => continue,
                    _ => {}
                }
                match self.hear(connection, &subscriptions, &text) {
                    // What is stored there is found by whoever catches up.
                    Err(Ended::Behind) => {}
                    heard => heard?,
                }
            }
            Ok::<_, Ended>(())
        };
        let patience = self.endpoint.bounds.answer;
        tokio::time::timeout(patience, answered)
            .await
            .map_err(|_| ClientError::Silent("answer a subscription"))??;
        Ok(subscriptions)
    }

    async fn is_dead(&self, event: EventId) -> Result<bool, Ended> {
        Ok(is_dead(self.parts.store.records(), Address { upstream: self.id, event }).await?)
    }

    /// A message of the live connection.
    pub(super) fn hear(
        &self,
        connection: &mut Connection,
        subscriptions: &[String],
        text: &str,
    ) -> Result<(), Ended> {
        match connection.read(text) {
            Some(Reply::Event { subscription, event })
                if subscriptions.iter().any(|id| *id == subscription) =>
            {
                self.counts.receive(text.len());
                match self.note(judge(event, self.parts.max_event_bytes, &self.filters)) {
                    Ok(event) => self.offer(&event),
                    Err(_) => Ok(()),
                }
            }
            Some(Reply::Closed { subscription, reason })
                if subscriptions.iter().any(|id| *id == subscription) =>
            {
                Err(ClientError::Ended(reason.into_owned()).into())
            }
            _ => Ok(()),
        }
    }

    /// Queues what came live.
    fn offer(&self, event: &Event) -> Result<(), Ended> {
        let (received, key) = (clock::now(), Key { created_at: event.created_at(), id: event.id() });
        let inner = &mut *self.inner.lock();
        let mut arrival = inner.trace.arrival();
        let is_late = inner.flight.is_late(received, key);
        let ended = if inner.pace.is_spent(received) {
            Ended::Spent
        } else if is_late && inner.flight.count_late() + inner.left_out.len() >= MAX_LATE {
            self.counts.give_up(1);
            arrival.fail("too many old events are in flight");
            return Err(Ended::Behind);
        } else {
            let number = inner.flight.take(received, key, Asked::default());
            match self.parts.queue.offer(self.entry(number, event, received, &mut arrival)) {
                Ok(()) => {
                    self.parts.metrics.queue_published.inc();
                    inner.pace.take(event.json().len(), received, std::time::Instant::now());
                    self.has_queued.store(true, Relaxed);
                    return Ok(());
                }
                Err(Full) => inner.flight.forget(number),
            }
            Ended::Behind
        };
        // No window will bring it again.
        if is_late && inner.left_out.len() < MAX_LATE {
            inner.left_out.push(key);
        }
        self.counts.give_up(1);
        arrival.fail(match ended {
            Ended::Spent => "as much came as may come today",
            _ => "the queue is full",
        });
        Err(ended)
    }
}
