//! A session with an upstream, from its first message to its last.

use std::{convert::Infallible, sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::future::OptionFuture;
use tokio::{
    select,
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    super::{counts::connect_result, cursor::Kept, queue::Broken, status::State},
    Ended, LAST_WORDS, Reader, Silence, TICK,
};
use crate::{
    client::{ClientError, Connection},
    clock,
    telemetry::{CleanupResult, ConnectResult, Label},
};

/// For a goodbye at the end of a session.
const GOODBYE: Duration = Duration::from_secs(1);

/// A session that has begun.
struct Subscribed {
    connection: Connection,
    subscriptions: Vec<String>,
}

impl Reader {
    /// Reads until something is in the way.
    pub(super) async fn session(&self, kept: &mut Kept) -> Ended {
        self.inner.lock().trace = self.parts.tracer.upstream(&self.name);
        let begun = select! {
            begun = self.begin() => begun,
            () = self.told() => Err(Ended::Told),
        };
        // What came so far is what an upstream sends to everybody who asks.
        self.has_queued.store(false, Relaxed);
        let mut subscribed = match begun {
            Ok(subscribed) => subscribed,
            Err(ended) => {
                let result = match &ended {
                    Ended::Client(error) => connect_result(error),
                    Ended::Ourselves => ConnectResult::Forbidden,
                    _ => ConnectResult::Lost,
                };
                self.counts.connects.of(result).inc();
                let inner = &mut *self.inner.lock();
                if let Ended::Client(_) = &ended {
                    inner.silence.go_on(Instant::now());
                }
                inner.trace.failed(&ended);
                return ended;
            }
        };
        self.counts.connects.of(ConnectResult::Subscribed).inc();
        self.inner.lock().trace.connected();
        self.inner.lock().silence = Silence::default();
        let is_due = Notify::new();
        let ended = select! {
            read = self.read(&mut subscribed, &is_due) => read,
            kept = self.keep(kept, &is_due) => kept,
        };
        let ended = match ended {
            Ok(never) => match never {},
            Err(ended) => ended,
        };
        self.clean_up(subscribed, kept, &ended).await;
        ended
    }

    /// Connects and subscribes.
    async fn begin(&self) -> Result<Subscribed, Ended> {
        let mut connection = self.endpoint.connect().await?;
        if connection.store() == Some(self.parts.store.identity()) {
            connection.close().await;
            return Err(Ended::Ourselves);
        }
        connection.identify().await?;
        let subscriptions = self.subscribe(&mut connection).await?;
        Ok(Subscribed { connection, subscriptions })
    }

    /// Says goodbye where somebody hears it, lets go of what was not read to its end, and notes how far it came. What
    /// is in flight goes on by itself: whoever waits for the next session hears that it is finished.
    async fn clean_up(&self, subscribed: Subscribed, kept: &mut Kept, ended: &Ended) {
        let begun = Instant::now();
        let is_lost = matches!(ended, Ended::Client(ClientError::Lost(_) | ClientError::Silent(_)));
        let is_told = !is_lost && subscribed.end().await;
        let in_flight = {
            let mut inner = self.inner.lock();
            inner.flight.interrupt();
            inner.flight.len()
        };
        let result = match timeout(LAST_WORDS, self.save(kept)).await {
            Ok(Ok(())) if is_told => CleanupResult::Told,
            Ok(Ok(())) => CleanupResult::Lost,
            _ => CleanupResult::Unwritten,
        };
        self.counts.cleanups.of(result).inc();
        let trace = std::mem::take(&mut self.inner.lock().trace);
        trace.cleaned_up(begun.into_std(), result.name(), ended, in_flight);
    }

    /// Notes how far it is, whenever that is due. Beside what is read: the store may take its time.
    async fn keep(&self, kept: &mut Kept, is_due: &Notify) -> Result<Infallible, Ended> {
        loop {
            is_due.notified().await;
            self.save(kept).await?;
        }
    }

    async fn read(&self, subscribed: &mut Subscribed, is_due: &Notify) -> Result<Infallible, Ended> {
        let Subscribed { connection, subscriptions } = subscribed;
        // What the upstream had before is found by whoever catches up; what it has from now on comes.
        let since = clock::now();
        self.inner.lock().flight.live(Some(since));
        self.status.set(State::CatchingUp);
        let mut catching_up = Some(Box::pin(self.catch_up(since)));
        let mut compared = Instant::now();
        let (mut ticks, mut count) = (interval(TICK), 0);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                text = connection.receive() => {
                    self.hear(connection, subscriptions, &text?)?;
                    select! {
                        () = self.wait_for_pace() => {}
                        () = self.told() => return Err(Ended::Told),
                    }
                }
                words = self.parts.queue.words(self.id) => {
                    self.finish(words).map_err(|Broken| Ended::Broken)?;
                    if self.inner.lock().trust.is_lost() {
                        return Err(Ended::Distrusted);
                    }
                }
                caught_up = OptionFuture::from(catching_up.as_mut()), if catching_up.is_some() => {
                    caught_up.transpose()?;
                    catching_up = None;
                    compared = Instant::now();
                    self.status.set(State::Live);
                    // How far that is, is written soon.
                    count = self.save_every() - 1;
                }
                () = self.told() => return Err(Ended::Told),
                () = self.compare.notified(), if catching_up.is_none() => {
                    catching_up = Some(Box::pin(self.catch_up(clock::now())));
                }
                _ = ticks.tick() => {
                    if self.counts.is_full() {
                        return Err(Ended::DeadLettersFull);
                    }
                    if self.inner.lock().pace.is_spent(clock::now()) {
                        return Err(Ended::Spent);
                    }
                    if self.inner.lock().trust.is_lost() {
                        return Err(Ended::Distrusted);
                    }
                    self.follow();
                    if catching_up.is_none() && compared.elapsed() >= self.parts.compare {
                        catching_up = Some(Box::pin(self.catch_up(clock::now())));
                    }
                    count += 1;
                    if count % self.save_every() == 0 {
                        is_due.notify_one();
                    }
                }
            }
        }
    }
}

impl Subscribed {
    /// Ends the subscriptions and the connection; whether that was said.
    async fn end(mut self) -> bool {
        let end = async {
            for id in &self.subscriptions {
                self.connection.send(format!(r#"["CLOSE","{id}"]"#)).await?;
            }
            self.connection.close().await;
            Ok::<_, ClientError>(())
        };
        matches!(timeout(GOODBYE, end).await, Ok(Ok(())))
    }
}
