//! COUNT: how many events match (NIP-45).

use std::{sync::Arc, time::Instant};

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use tracing::error;

use super::{
    Context, Session, SessionParts,
    query::Work,
    subscription::{query, wants_activity},
};
use crate::{
    config::Limits,
    protocol::{Filter, PublicKey, Reason, RelayMessage, Viewer, hll::HyperLogLog},
    store::{Counted, Query, StoreError},
    telemetry::Stage,
};

impl Session {
    pub(super) fn count(
        &mut self,
        id: &str,
        filters: Vec<Filter>,
        bytes: usize,
        limits: &Limits,
        ctx: &mut Context,
    ) {
        if let Err(reason) =
            self.check_filters(&filters, limits).and_then(|()| self.check_waiting_counts(bytes, limits))
        {
            return self.refuse_count(id, &reason);
        }
        let query = Arc::new(query(&filters, limits, self.auth.viewer()));
        self.work.push_back(Work::Count { id: id.into(), query, bytes });
        self.read_next(ctx);
    }

    /// Counts wait like subscriptions do, and are bounded like them.
    fn check_waiting_counts(&self, bytes: usize, limits: &Limits) -> Result<(), Reason> {
        let (mut count, mut taken) = (0, bytes);
        for work in &self.work {
            if let Work::Count { bytes, .. } = work {
                count += 1;
                taken += bytes;
            }
        }
        if count >= limits.max_subscriptions {
            return Err(Reason::rate_limited(format!("more than {} counts wait", limits.max_subscriptions)));
        }
        if taken > limits.max_subscription_bytes {
            return Err(Reason::rate_limited("too many filters in all waiting counts together"));
        }
        Ok(())
    }

    pub(super) fn read_count(&mut self, id: Box<str>, query: Arc<Query>, ctx: &mut Context) {
        self.reading = true;
        let store = Arc::clone(&self.shared.store);
        let metrics = Arc::clone(&self.shared.metrics);
        let shared =
            wants_activity(query.filters.iter().map(|(filter, _)| filter)).then(|| Arc::clone(&self.shared));
        let count = async move {
            let begun = Instant::now();
            let counted = match shared {
                Some(shared) => store.count(knowing_circle(query, &shared).await?).await,
                None => store.count(query).await,
            };
            metrics.stages.of(Stage::Count).observe(begun.elapsed().as_secs_f64());
            counted
        };
        ctx.spawn(count.into_actor(self).map(move |counted, this, ctx| {
            this.reading = false;
            match counted {
                Ok(Counted { count, approximate, hll }) => {
                    let hll = hll.as_ref().map(HyperLogLog::to_hex);
                    let message = RelayMessage::Count { subscription: &id, count, approximate, hll };
                    this.outbox.text(&message.to_string());
                }
                Err(error) => {
                    this.count_store_error(&error);
                    error!("could not count: {}", error.detail());
                    this.refuse_count(&id, &Reason::error(error.to_string()));
                }
            }
            this.read_next(ctx);
        }));
    }

    /// A COUNT has ids of its own: no subscription ends with it.
    pub(super) fn refuse_count(&self, id: &str, reason: &Reason) {
        self.outbox.text(&RelayMessage::Closed { subscription: id, reason }.to_string());
    }
}

/// The same question, by somebody of whom it is known whose doings they may see.
async fn knowing_circle(query: Arc<Query>, shared: &SessionParts) -> Result<Arc<Query>, StoreError> {
    let mut query = Arc::unwrap_or_clone(query);
    let keys: Arc<[PublicKey]> = query.viewer.keys().into();
    let most = shared.live.load().limits.max_tags;
    let circle = shared.follow_lists().circle(&keys, most).await?;
    query.viewer = Viewer::Client { keys, circle: Some(Arc::new(circle)) };
    Ok(Arc::new(query))
}
