//! REQ and CLOSE: which subscriptions a connection has, and what of live events they get when.

use std::{sync::Arc, time::Instant};

use actix::{ActorFutureExt, AsyncContext, WrapFuture};

use super::{
    Context, Session,
    query::Work,
    subscription::{Phase, Reading, Subscription, wants_activity},
    watch::Verdict,
};
use crate::{
    config::Limits,
    protocol::{Event, Filter, Reason, RelayMessage, message::Quoted},
    route::{Deliver, Generation, Subscribe, Unsubscribe, Whose, key::cover},
    store::Position,
    telemetry::Stage,
    trace::Trace,
};

impl Session {
    pub(super) fn subscribe(
        &mut self,
        id: &str,
        filters: Vec<Filter>,
        bytes: usize,
        limits: &Limits,
        mut trace: Trace,
        ctx: &mut Context,
    ) {
        let keys = filters.iter().map(|filter| cover(filter).len()).sum();
        if let Err(reason) =
            self.check_filters(&filters, limits).and_then(|()| self.check_room(id, keys, bytes, limits))
        {
            trace.refuse(&reason);
            // The old subscription of that id ends too: the client has been told it is closed.
            return self.close_subscription(id, &reason);
        }
        self.drop_subscription(id);
        self.last_generation += 1;
        let generation = self.last_generation;
        let reading = Reading::new(&filters, limits, self.auth.viewer(), trace);
        let wants_activity = wants_activity(&filters);
        // Most connections have one.
        self.subscriptions.reserve_exact(1);
        self.subscriptions.push(Subscription {
            generation,
            id: id.into(),
            quoted: Quoted(id).to_string().into(),
            stored: self.shared.store.head(),
            keys,
            bytes,
            wants_activity,
            phase: Phase::Stored(Box::new(reading)),
        });
        let subscribe =
            Subscribe { session: self.id, generation, filters: filters.into(), whose: Whose::Client };
        let subscribed = self.router.send(subscribe);
        // Every future of an actor is polled whenever one is: many of them would hold up the thread.
        self.window.take();
        let begun = Instant::now();
        ctx.spawn(subscribed.into_actor(self).map(move |position, this, ctx| {
            this.window.give_back(1);
            this.shared.metrics.stages.of(Stage::Subscribe).observe(begun.elapsed().as_secs_f64());
            match position {
                Ok(position) => this.subscribed(generation, position, ctx),
                // The router is gone, and with it this worker.
                Err(_) => this.fail(generation, &Reason::error("the relay is restarting")),
            }
            this.finish_if_done(ctx);
        }));
        if wants_activity {
            self.want_circle();
            self.read_next(ctx);
        } else {
            self.end_watch_if_unwanted();
        }
    }

    /// The router holds the subscription: from here on nothing is missed, so the store may be read.
    fn subscribed(&mut self, generation: Generation, position: Position, ctx: &mut Context) {
        let Some(subscription) = self.subscription(generation) else {
            // Closed or replaced meanwhile; its Unsubscribe may have overtaken a parked Subscribe.
            return self.forget(generation);
        };
        if let Phase::Stored(reading) = &mut subscription.phase {
            reading.routed = position;
            reading.trace.lap("subscribe");
        }
        self.work.push_back(Work::Page(generation));
        self.read_next(ctx);
    }

    /// Ends the subscription of this id, if there is one.
    pub(super) fn unsubscribe(&mut self, id: &str) {
        self.drop_subscription(id);
        self.end_watch_if_unwanted();
    }

    fn drop_subscription(&mut self, id: &str) {
        if let Some(at) = self.subscriptions.iter().position(|subscription| &*subscription.id == id) {
            let generation = self.subscriptions.swap_remove(at).generation;
            self.work.retain(|work| !matches!(work, Work::Page(page) if *page == generation));
            self.forget(generation);
        }
    }

    /// Tells the client that there is no such subscription (any more), and why.
    pub(super) fn close_subscription(&mut self, id: &str, reason: &Reason) {
        self.unsubscribe(id);
        self.shared.metrics.subscriptions_closed.of(reason.prefix.into()).inc();
        self.outbox.text(&RelayMessage::Closed { subscription: id, reason }.to_string());
    }

    /// Ends a subscription that can not be kept.
    pub(super) fn fail(&mut self, generation: Generation, reason: &Reason) {
        if let Some(subscription) = self.subscription(generation) {
            let id = subscription.id.clone();
            self.close_subscription(&id, reason);
        }
    }

    pub(super) fn subscription(&mut self, generation: Generation) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| subscription.generation == generation)
    }

    /// Lets go of ids that can not come any more. Everything of this node up to that position is routed, if
    /// one is told.
    pub(super) fn forget_recent(&mut self, position: Option<Position>) {
        let since = self.shared.late_since();
        for subscription in &mut self.subscriptions {
            if let Phase::Live(recent) = &mut subscription.phase {
                recent.forget(position, since);
            }
        }
    }

    /// Takes a subscription out of the router.
    pub(super) fn forget(&self, generation: Generation) {
        let message = Unsubscribe { session: self.id, generation };
        #[expect(clippy::disallowed_methods, reason = "at most one for each subscription that was made")]
        self.router.do_send(message);
    }

    /// Whether the filters may be asked at all, for REQ and COUNT.
    pub(super) fn check_filters(&self, filters: &[Filter], limits: &Limits) -> Result<(), Reason> {
        self.may_use(limits)?;
        if filters.len() > limits.max_filters {
            return Err(Reason::invalid(format!("more than {} filters", limits.max_filters)));
        }
        if filters.iter().any(|filter| filter.values() > limits.max_filter_values) {
            return Err(Reason::invalid(format!(
                "more than {} values in a filter",
                limits.max_filter_values
            )));
        }
        let keys = self.auth.keys();
        if keys.is_empty() && filters.iter().any(Filter::needs_auth) {
            return Err(Reason::auth_required("these kinds are for those whom they concern"));
        }
        match filters.iter().any(|filter| filter.is_private() && !filter.may_concern(keys)) {
            true => Err(Reason::restricted("these events do not concern the keys you have proved")),
            false => Ok(()),
        }
    }

    /// Whether one more subscription fits, the one that it replaces aside.
    fn check_room(&self, id: &str, mut keys: usize, mut bytes: usize, limits: &Limits) -> Result<(), Reason> {
        let mut count = 0;
        for other in self.subscriptions.iter().filter(|subscription| &*subscription.id != id) {
            count += 1;
            keys += other.keys;
            bytes += other.bytes;
        }
        if count >= limits.max_subscriptions {
            return Err(Reason::rate_limited(format!(
                "more than {} subscriptions",
                limits.max_subscriptions
            )));
        }
        if bytes > limits.max_subscription_bytes {
            return Err(Reason::rate_limited(format!(
                "more than {} bytes in all subscriptions together",
                limits.max_subscription_bytes
            )));
        }
        if keys > limits.max_routing_keys {
            return Err(Reason::rate_limited(format!(
                "more than {} ids, authors, tags and kinds in all subscriptions together",
                limits.max_routing_keys
            )));
        }
        Ok(())
    }
}

impl Session {
    /// Events of other nodes may have been missed: whoever asks again misses nothing.
    pub(super) fn end_subscriptions(&mut self) {
        let reason = Reason::error("events of other nodes may have been missed; subscribe again");
        while let Some(subscription) = self.subscriptions.first() {
            let id = subscription.id.clone();
            self.close_subscription(&id, &reason);
        }
    }

    pub(super) fn deliver(&mut self, delivery: Deliver, ctx: &mut Context) {
        let Deliver { events, position, last, bytes, sent } = delivery;
        self.link.catch_up(bytes);
        for (generation, event) in events {
            if self.take_change(generation, &event) {
                continue;
            }
            let verdict = self.judge(&event);
            if verdict == Verdict::Hidden {
                continue;
            }
            // Not through `self`, which the outbox is borrowed from.
            let subscription = self.subscriptions.iter_mut().find(|s| s.generation == generation);
            let Some(subscription) = subscription else { continue };
            if position.is_some_and(|position| position <= subscription.stored) {
                continue;
            }
            match &mut subscription.phase {
                Phase::Live(recent) if recent.contains(&event.id()) => {}
                Phase::Live(_) if verdict == Verdict::Shown => {
                    self.outbox.event(&subscription.quoted, event.json());
                }
                Phase::Live(_) => self.hold_activity(generation, event),
                Phase::Stored(reading) => {
                    reading.held.bytes += event.json().len();
                    reading.held.events.push(event);
                    if reading.held.bytes > self.shared.live.load().session.max_held_bytes {
                        let reason = "too many live events while stored ones were sent; ask again";
                        self.fail(generation, &Reason::error(reason));
                    }
                }
            }
        }
        self.shared.metrics.stages.of(Stage::Deliver).observe(sent.elapsed().as_secs_f64());
        self.forget_recent(position.filter(|_| last));
        if self.watch.is_some() {
            self.read_next(ctx);
        }
    }

    /// Sends an event that was held back, if the client may see it.
    pub(super) fn send_live(&mut self, generation: Generation, event: Arc<Event>) {
        match self.judge(&event) {
            Verdict::Shown => {
                let subscription = self.subscriptions.iter().find(|other| other.generation == generation);
                if let Some(subscription) = subscription {
                    self.outbox.event(&subscription.quoted, event.json());
                }
            }
            Verdict::Hidden => {}
            Verdict::Undecided => self.hold_activity(generation, event),
        }
    }
}
