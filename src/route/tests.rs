//! The router between sessions and a bus of the tests' own.

use std::{
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::Mutex,
    time::Duration,
};

use actix::{AsyncContext, WrapFuture};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};

use super::{
    bus::{BusError, Changed, Publication},
    *,
};
use crate::{
    protocol::{PublicKey, Tags, sign::Keys},
    store::tap::Hearing,
};

/// A session that tells what it is told.
struct Ear {
    link: Arc<ClientLink>,
    heard: mpsc::UnboundedSender<Push>,
    /// Messages that may wait for it.
    mailbox: usize,
    /// It handles nothing.
    is_deaf: bool,
}

impl Actor for Ear {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.mailbox);
        if self.is_deaf {
            ctx.wait(std::future::pending::<()>().into_actor(self));
        }
    }
}

impl Handler<Push> for Ear {
    type Result = ();

    fn handle(&mut self, push: Push, _: &mut Self::Context) {
        if let Push::Deliver(Deliver { bytes, .. }) = &push {
            self.link.catch_up(*bytes);
        }
        self.heard.send(push).unwrap();
    }
}

/// A bus that acknowledges when it is told to.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<Vec<oneshot::Sender<()>>>,
    given_back: Mutex<Vec<RoutingKey>>,
}

impl Bus for Told {
    fn publish(&self, _: Publication) {}

    fn changed(&self, _: Changed) {}

    fn skip(&self) {}

    fn subscribe(&self, _: Vec<RoutingKey>) -> BoxFuture<'static, Result<(), BusError>> {
        let (acknowledge, acknowledged) = oneshot::channel();
        self.acknowledged.lock().unwrap().push(acknowledge);
        async move { acknowledged.await.map_err(|_| BusError::Timeout) }.boxed()
    }

    fn unsubscribe(&self, keys: Vec<RoutingKey>) {
        self.given_back.lock().unwrap().extend(keys);
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn hears(&self, authors: &[PublicKey]) -> Vec<Option<Hearing>> {
        vec![None; authors.len()]
    }

    fn leave(&self) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

struct Stage {
    router: RouterAddr,
    metrics: Arc<Metrics>,
}

/// A session on the stage: what it hears, and the other end of its socket.
struct Member {
    id: SessionId,
    heard: mpsc::UnboundedReceiver<Push>,
    client: UnixStream,
    _socket: UnixStream,
}

impl Stage {
    fn new(bus: Option<Arc<dyn Bus>>, max_lag_bytes: usize) -> Self {
        let metrics = Arc::new(Metrics::new("test"));
        let config = config::Session { max_lag_bytes, ..config::Session::default() };
        let router = SubscriptionRouter::new(&config, 0, bus, Arc::clone(&metrics));
        Self { router: RouterAddr::new(router.start(), Default::default()), metrics }
    }

    async fn join(&self, id: SessionId, mailbox: usize, is_deaf: bool) -> Member {
        let (heard, hears) = mpsc::unbounded_channel();
        let (socket, client) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        let link = Arc::new(ClientLink::new(socket.as_raw_fd()));
        let session = Ear { link: Arc::clone(&link), heard, mailbox, is_deaf }.start().recipient();
        self.router.send(Join { id, session, link }).await.unwrap();
        Member { id, heard: hears, client, _socket: socket }
    }

    async fn subscribe(&self, member: &Member, generation: Generation) -> Position {
        let subscribe = Subscribe {
            session: member.id,
            generation,
            filters: [Filter::default()].into(),
            whose: Whose::Client,
        };
        self.router.send(subscribe).await.unwrap()
    }

    async fn route(&self, event: &Arc<Event>, position: Option<Position>, last: bool) {
        let events = [Arc::clone(event)].into();
        self.router.send(Route { events, traced: Traced::default(), position, last }).await.unwrap();
    }
}

impl Member {
    /// The next delivery: for which subscriptions, and the position.
    async fn delivery(&mut self) -> (Vec<(Generation, Arc<Event>)>, Option<Position>) {
        match self.heard.recv().await.unwrap() {
            Push::Deliver(Deliver { events, position, .. }) => (events, position),
            _ => panic!("it is told something else"),
        }
    }

    fn is_shut(&self) -> bool {
        let read = std::io::Read::read(&mut &self.client, &mut [0]);
        matches!(read, Ok(0))
    }
}

fn event(content: &str) -> Arc<Event> {
    Arc::new(Keys::generate().sign(1, 1, Tags::default(), content))
}

#[actix::test]
async fn a_subscription_hears_what_is_routed_after_it_and_knows_what_was_before() {
    let stage = Stage::new(None, 1 << 20);
    let mut member = stage.join(1, 16, false).await;
    stage.route(&event("before"), Some(7), true).await;
    // Of a batch that is not whole, the position is not reached.
    stage.route(&event("of a batch"), Some(8), false).await;
    assert_eq!(stage.subscribe(&member, 1).await, 7);
    let after = event("after");
    stage.route(&after, Some(8), true).await;
    let (events, position) = member.delivery().await;
    assert_eq!((events.len(), events[0].0, events[0].1.id(), position), (1, 1, after.id(), Some(8)));
    assert!(member.heard.try_recv().is_err());
}

#[actix::test]
async fn what_is_routed_while_the_bus_is_asked_is_heard() {
    let bus = Arc::new(Told::default());
    let stage = Stage::new(Some(Arc::clone(&bus) as _), 1 << 20);
    let mut member = stage.join(1, 16, false).await;
    let mut subscribed = Box::pin(stage.subscribe(&member, 1));
    while bus.acknowledged.lock().unwrap().is_empty() {
        assert!(subscribed.as_mut().now_or_never().is_none(), "nobody has acknowledged it");
        actix::clock::sleep(Duration::from_millis(1)).await;
    }
    stage.route(&event("meanwhile"), Some(3), true).await;
    let acknowledge = bus.acknowledged.lock().unwrap().remove(0);
    acknowledge.send(()).unwrap();
    // What had been routed when it began; the rest comes live.
    assert_eq!(subscribed.await, 0);
    assert_eq!(member.delivery().await.1, Some(3));
    stage.router.send(Leave(1)).await.unwrap();
    assert_eq!(*bus.given_back.lock().unwrap(), [RoutingKey::All]);
}

#[actix::test]
async fn a_subscription_that_the_bus_does_not_acknowledge_stands_and_is_counted() {
    let bus = Arc::new(Told::default());
    let stage = Stage::new(Some(Arc::clone(&bus) as _), 1 << 20);
    let mut member = stage.join(1, 16, false).await;
    let refuse = async {
        while bus.acknowledged.lock().unwrap().is_empty() {
            actix::clock::sleep(Duration::from_millis(1)).await;
        }
        bus.acknowledged.lock().unwrap().clear();
    };
    futures_util::join!(stage.subscribe(&member, 1), refuse);
    assert_eq!(stage.metrics.bus_unacknowledged.get(), 1);
    stage.route(&event("all the same"), Some(1), true).await;
    assert_eq!(member.delivery().await.0.len(), 1);
}

#[actix::test]
async fn a_subscription_that_was_replaced_hears_nothing() {
    let stage = Stage::new(None, 1 << 20);
    let mut member = stage.join(1, 16, false).await;
    stage.subscribe(&member, 1).await;
    stage.router.send(Unsubscribe { session: 1, generation: 1 }).await.unwrap();
    stage.subscribe(&member, 2).await;
    // One that overtook its Subscribe takes nothing away.
    stage.router.send(Unsubscribe { session: 1, generation: 3 }).await.unwrap();
    stage.route(&event("once"), None, true).await;
    let (events, _) = member.delivery().await;
    assert_eq!(events.iter().map(|(generation, _)| *generation).collect::<Vec<_>>(), [2]);
    assert_eq!(stage.metrics.subscriptions.get(), 1);
}

#[actix::test]
async fn who_lags_by_too_many_bytes_or_events_is_evicted_and_nobody_else() {
    let stage = Stage::new(None, 2_000);
    let mut reader = stage.join(1, 16, false).await;
    let slow = stage.join(2, 16, true).await;
    let crowded = stage.join(3, 1, true).await;
    for member in [&reader, &slow, &crowded] {
        stage.subscribe(member, 1).await;
    }
    let large = event(&"x".repeat(900));
    for round in 1..=4 {
        stage.route(&large, None, true).await;
        assert_eq!(reader.delivery().await.0.len(), 1, "round {round}");
        assert!(round > 1 || !slow.is_shut() && !crowded.is_shut(), "neither is late yet");
    }
    assert!(slow.is_shut() && crowded.is_shut() && !reader.is_shut());
    assert_eq!((stage.metrics.evictions.get(), stage.metrics.subscriptions.get()), (2, 1));
}

#[actix::test]
async fn a_gap_is_told_to_those_who_subscribe_and_takes_the_deaf() {
    let stage = Stage::new(None, 1 << 20);
    let (mut subscribed, mut idle) = (stage.join(1, 16, false).await, stage.join(2, 16, false).await);
    let deaf = stage.join(3, 1, true).await;
    stage.subscribe(&subscribed, 1).await;
    stage.subscribe(&deaf, 1).await;
    for _ in 0..3 {
        stage.router.send(Gap).await.unwrap();
        assert!(matches!(subscribed.heard.recv().await, Some(Push::Missed)));
    }
    assert!(idle.heard.try_recv().is_err());
    assert!(deaf.is_shut());
    assert_eq!(stage.metrics.evictions.get(), 1);
}

#[actix::test]
async fn sessions_are_asked_to_go_one_after_the_other() {
    let stage = Stage::new(None, 1 << 20);
    let mut members = Vec::new();
    for id in 0..4 {
        members.push(stage.join(id, 16, false).await);
    }
    stage.router.send(Drain { spread: Duration::from_secs(8) }).await.unwrap();
    let mut moments = Vec::new();
    for member in &mut members {
        match member.heard.recv().await.unwrap() {
            Push::GoAway { after } => moments.push(after.as_secs()),
            _ => panic!("it is told something else"),
        }
    }
    moments.sort_unstable();
    assert_eq!(moments, [0, 2, 4, 6]);
}
