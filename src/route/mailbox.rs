//! The way to a router: its address, and how many messages wait for it, which actix does not tell.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use actix::{
    Actor, Addr, Handler, Message,
    dev::{Request, ToEnvelope},
};
use prometheus_client::metrics::counter::Counter;

use super::{Drain, Gap, Join, Leave, Route, Subscribe, SubscriptionRouter, Unsubscribe};

/// Messages that may wait for a router. Those who find it full wait: see the table of messages in
/// ARCHITECTURE.md.
pub const MAILBOX: usize = 1_024;

/// The address of a router.
#[derive(Clone)]
pub struct RouterAddr {
    addr: Addr<SubscriptionRouter>,
    waiting: Arc<AtomicUsize>,
    full: Counter,
}

/// A message on its way: it waits until it is handled, or dropped.
pub struct Sent<M> {
    message: M,
    place: Place,
}

struct Place(Arc<AtomicUsize>);

impl RouterAddr {
    /// `full` counts the messages that found the mailbox full.
    pub fn new(addr: Addr<SubscriptionRouter>, full: Counter) -> Self {
        Self { addr, waiting: Arc::default(), full }
    }

    /// Sends when there is room, and resolves to the answer.
    pub fn send<M>(&self, message: M) -> Request<SubscriptionRouter, Sent<M>>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        SubscriptionRouter: Handler<Sent<M>>,
        <SubscriptionRouter as Actor>::Context: ToEnvelope<SubscriptionRouter, Sent<M>>,
    {
        self.addr.send(self.enter(message))
    }

    /// Sends at once, whether there is room or not. Who calls it says by what it is bounded instead.
    pub fn do_send<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        SubscriptionRouter: Handler<Sent<M>>,
        <SubscriptionRouter as Actor>::Context: ToEnvelope<SubscriptionRouter, Sent<M>>,
    {
        #[expect(clippy::disallowed_methods, reason = "the caller says by what it is bounded")]
        self.addr.do_send(self.enter(message));
    }

    pub fn connected(&self) -> bool {
        self.addr.connected()
    }

    /// Messages that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn enter<M>(&self, message: M) -> Sent<M> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAILBOX {
            self.full.inc();
        }
        Sent { message, place: Place(Arc::clone(&self.waiting)) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<M: Message> Message for Sent<M> {
    type Result = M::Result;
}

/// A message that waited is handled like the message itself.
macro_rules! handled {
    ($($message:ty),*) => {$(
        impl Handler<Sent<$message>> for SubscriptionRouter {
            type Result = <Self as Handler<$message>>::Result;

            fn handle(&mut self, Sent { message, place }: Sent<$message>, ctx: &mut Self::Context) -> Self::Result {
                drop(place);
                self.handle(message, ctx)
            }
        }
    )*};
}

handled!(Join, Leave, Subscribe, Unsubscribe, Route, Gap, Drain);
