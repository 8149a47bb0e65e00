//! From events to the sessions that want them.
//!
//! One [`SubscriptionRouter`] a worker thread holds the subscriptions of that thread's sessions, so
//! that delivery stays on it. It never touches a socket, but for shutting down that of a client that
//! does not read: such a session is not polled any more and can not do it itself.

pub mod bus;
pub mod index;
pub mod key;
mod link;
mod mailbox;
mod push;
pub mod seen;

use std::{collections::HashMap, sync::Arc, time::Instant};

use actix::{Actor, Context, Handler, Message, Recipient, ResponseFuture};
use parking_lot::RwLock;
use smallvec::SmallVec;
use tracing::debug;

use self::{
    bus::Bus,
    index::{Index, Slot},
    key::{RoutingKey, cover},
    mailbox::MAILBOX,
};
pub use self::{
    link::ClientLink,
    mailbox::RouterAddr,
    push::{Deliver, Push},
};
use crate::{
    config,
    protocol::{Event, Filter},
    store::Position,
    telemetry::{BoundedQueue, Metrics},
    trace::Traced,
};

/// Names a session on its node.
pub type SessionId = u64;

/// Names a subscription of a session; never used twice, so that a message about one that was
/// replaced is recognised.
pub type Generation = u32;

/// Routes events to the sessions of one worker thread.
pub struct SubscriptionRouter {
    index: Index<(SessionId, Generation)>,
    sessions: HashMap<SessionId, Member, foldhash::fast::RandomState>,
    /// Every event up to here has been handed to the sessions that wanted it then.
    routed: Position,
    max_lag_bytes: usize,
    bus: Option<Arc<dyn Bus>>,
    metrics: Arc<Metrics>,
}

struct Member {
    session: Recipient<Push>,
    link: Arc<ClientLink>,
    subscriptions: SmallVec<[Held; 1]>,
    /// Events of the batch that is being routed; they are sent as one message.
    pending: Vec<(Generation, Arc<Event>)>,
    pending_bytes: usize,
}

/// A subscription of a session.
struct Held {
    generation: Generation,
    slot: Slot,
    whose: Whose,
}

/// The routers of all workers.
#[derive(Clone, Default)]
pub struct Routers(Arc<RwLock<Vec<RouterAddr>>>);

impl Routers {
    /// A worker has started. A router whose worker died is forgotten.
    pub fn add(&self, router: RouterAddr) {
        let mut routers = self.0.write();
        routers.retain(|router| router.connected());
        routers.push(router);
    }

    pub fn all(&self) -> Vec<RouterAddr> {
        self.0.read().clone()
    }

    /// How full the mailboxes of all routers are together, from 0 to 1.
    pub fn fill(&self) -> f64 {
        let routers = self.0.read();
        let waiting: usize = routers.iter().map(RouterAddr::waiting).sum();
        waiting as f64 / (routers.len().max(1) * MAILBOX) as f64
    }
}

/// A session begins.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Join {
    pub id: SessionId,
    pub session: Recipient<Push>,
    pub link: Arc<ClientLink>,
}

/// A session ends, with all its subscriptions.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave(pub SessionId);

/// A subscription begins. The answer is the position up to which events had been routed: what comes
/// after it reaches the session live, what came before it is in the store.
#[derive(Message)]
#[rtype(result = "Position")]
pub struct Subscribe {
    pub session: SessionId,
    pub generation: Generation,
    pub filters: Box<[Filter]>,
    pub whose: Whose,
}

/// Who has asked for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Client,
    /// The session itself, to follow lists.
    Session,
}

/// A subscription ends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Unsubscribe {
    pub session: SessionId,
    pub generation: Generation,
}

/// Committed (or ephemeral) events, for the sessions that want them.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct Route {
    pub events: Arc<[Arc<Event>]>,
    pub traced: Traced,
    /// Where the store stood when the batch that they are of was committed; `None` for ephemeral ones.
    pub position: Option<Position>,
    /// Whether these are the last of their batch: everything up to the position is routed then.
    pub last: bool,
}

/// Events of other nodes may have been missed: every subscription ends, so that nobody goes on without
/// knowing.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub struct Gap;

/// The node shuts down: every session is closed at a moment of its own within `spread`.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub struct Drain {
    pub spread: std::time::Duration,
}

impl SubscriptionRouter {
    pub fn new(
        config: &config::Session,
        routed: Position,
        bus: Option<Arc<dyn Bus>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            index: Index::default(),
            sessions: HashMap::default(),
            routed,
            max_lag_bytes: config.max_lag_bytes,
            bus,
            metrics,
        }
    }

    fn unsubscribe(&mut self, session: SessionId, generation: Generation) {
        let Some(member) = self.sessions.get_mut(&session) else { return };
        if let Some(at) = member.subscriptions.iter().position(|held| held.generation == generation) {
            let held = member.subscriptions.swap_remove(at);
            self.let_go(&held);
        }
    }

    fn leave(&mut self, session: SessionId) {
        let Some(member) = self.sessions.remove(&session) else { return };
        member.subscriptions.iter().for_each(|held| self.let_go(held));
    }

    fn let_go(&mut self, held: &Held) {
        let keys = self.index.remove(held.slot);
        if held.whose == Whose::Client {
            self.metrics.subscriptions.dec();
        }
        self.metrics.routing_keys.dec_by(keys.len() as i64);
        if let Some(bus) = &self.bus {
            bus.unsubscribe(keys);
        }
    }

    /// Ends a session whose client does not read.
    fn evict(&mut self, session: SessionId) {
        if let Some(member) = self.sessions.get(&session) {
            debug!(session, "evicted: the client does not read");
            self.metrics.evictions.inc();
            self.metrics.queue_full.of(BoundedQueue::SessionLag).inc();
            member.link.shut_down();
        }
        self.leave(session);
    }
}

impl Actor for SubscriptionRouter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Join> for SubscriptionRouter {
    type Result = ();

    fn handle(&mut self, Join { id, session, link }: Join, _: &mut Self::Context) {
        let member =
            Member { session, link, subscriptions: SmallVec::new(), pending: Vec::new(), pending_bytes: 0 };
        self.sessions.insert(id, member);
    }
}

impl Handler<Leave> for SubscriptionRouter {
    type Result = ();

    fn handle(&mut self, Leave(session): Leave, _: &mut Self::Context) {
        self.leave(session);
    }
}

impl Handler<Subscribe> for SubscriptionRouter {
    type Result = ResponseFuture<Position>;

    fn handle(&mut self, message: Subscribe, _: &mut Self::Context) -> Self::Result {
        let Subscribe { session, generation, filters, whose } = message;
        let mut acknowledged = None;
        // A session that has left (or was evicted) has nobody to deliver to.
        if let Some(member) = self.sessions.get_mut(&session) {
            let keys: Vec<RoutingKey> = filters.iter().flat_map(cover).collect();
            self.metrics.routing_keys.inc_by(keys.len() as i64);
            if let Some(bus) = &self.bus {
                acknowledged = Some(bus.subscribe(keys));
            }
            let slot = self.index.insert((session, generation), filters);
            member.subscriptions.push(Held { generation, slot, whose });
            if whose == Whose::Client {
                self.metrics.subscriptions.inc();
            }
        }
        let (routed, metrics) = (self.routed, Arc::clone(&self.metrics));
        Box::pin(async move {
            if let Some(acknowledged) = acknowledged
                && acknowledged.await.is_err()
            {
                // Stored events and those of this node are served all the same.
                metrics.bus_unacknowledged.inc();
            }
            routed
        })
    }
}

impl Handler<Unsubscribe> for SubscriptionRouter {
    type Result = ();

    fn handle(&mut self, message: Unsubscribe, _: &mut Self::Context) {
        self.unsubscribe(message.session, message.generation);
    }
}

impl Handler<Route> for SubscriptionRouter {
    type Result = ();

    fn handle(&mut self, Route { events, traced, position, last }: Route, _: &mut Self::Context) {
        let Self { index, sessions, .. } = self;
        let mut touched = Vec::new();
        for event in &*events {
            let mut handed = 0;
            let counted = !traced.is_empty();
            index.matches(event, |&(session, generation)| {
                let Some(member) = sessions.get_mut(&session) else { return };
                if counted && !member.pending.last().is_some_and(|(_, last)| Arc::ptr_eq(last, event)) {
                    handed += 1;
                }
                if member.pending.is_empty() {
                    touched.push(session);
                }
                member.pending_bytes += event.json().len();
                member.pending.push((generation, Arc::clone(event)));
            });
            traced.count(&event.id(), handed);
        }
        if let (Some(position), true) = (position, last) {
            self.routed = self.routed.max(position);
        }
        let (mut delivered, mut most_lag, sent) = (0, 0, Instant::now());
        for session in touched {
            let Some(member) = self.sessions.get_mut(&session) else { continue };
            let events = std::mem::take(&mut member.pending);
            let bytes = std::mem::take(&mut member.pending_bytes);
            delivered += events.len() as u64;
            let lag = member.link.lag(bytes);
            most_lag = most_lag.max(lag);
            let taken =
                member.session.try_send(Push::Deliver(Deliver { events, position, last, bytes, sent }));
            if lag > self.max_lag_bytes || taken.is_err() {
                self.evict(session);
            }
        }
        self.metrics.deliveries.inc_by(delivered);
        let lag_ratio = most_lag as f64 / self.max_lag_bytes.max(1) as f64;
        self.metrics.queue_fill.of(BoundedQueue::SessionLag).set(lag_ratio);
    }
}

impl Handler<Gap> for SubscriptionRouter {
    type Result = ();

    fn handle(&mut self, _: Gap, _: &mut Self::Context) {
        let told = |(&id, member): (&SessionId, &Member)| {
            let told = member.subscriptions.is_empty() || member.session.try_send(Push::Missed).is_ok();
            (!told).then_some(id)
        };
        let deaf: Vec<SessionId> = self.sessions.iter().filter_map(told).collect();
        for session in deaf {
            self.evict(session);
        }
    }
}

impl Handler<Drain> for SubscriptionRouter {
    type Result = ();

    fn handle(&mut self, Drain { spread }: Drain, _: &mut Self::Context) {
        let count = self.sessions.len().max(1) as u32;
        for (nth, (&id, member)) in (0u32..).zip(&self.sessions) {
            let after = spread * nth / count;
            // A session that can not even take this does not read: its socket goes with the process.
            if member.session.try_send(Push::GoAway { after }).is_err() {
                debug!(session = id, "could not be asked to close");
            }
        }
    }
}

#[cfg(test)]
mod tests;
