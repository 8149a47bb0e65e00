//! The bus: publish and subscribe between nodes, over what can carry it ([`transport`]).
//!
//! An event is published under every routing key that it carries; a node is subscribed to the keys
//! that its clients want, and so receives nothing else. Messages come at most once, so every node
//! also sends numbered fences: one that arrives proves that all before it arrived. What may have been
//! missed is read from the log of the store.

pub mod channel;
mod clocks;
mod deliver;
mod echoes;
pub mod envelope;
mod interest;
pub mod origins;
mod receive;
mod recover;
pub mod redis;
pub mod transport;
#[cfg(test)]
mod world;

use std::{
    collections::HashSet,
    fmt::Display,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix::Arbiter;
use anyhow::{Context, anyhow};
use futures_util::{FutureExt, future::BoxFuture};
use smallvec::SmallVec;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Interval, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, info, warn};

use self::{
    channel::{Channel, channels},
    clocks::Clocks,
    echoes::Echoes,
    envelope::{Card, Envelope, Fence},
    interest::Interest,
    origins::{Origins, Times},
    transport::{Address, Incoming, Link, Transport},
};
use crate::{
    clock::{self, Moment, Standing},
    config::{self, BusReady},
    protocol::{EventId, PublicKey, verify::Verifier},
    route::{
        Gap, Routers,
        bus::{Bus, BusError, Publication},
        key::{RoutingKey, keys},
        seen::Seen,
    },
    store::{
        Identity, Store,
        feeds::{Authors, Hearing},
        log::{Log, Origin, Sequence},
    },
    telemetry::{BoundedQueue, Metrics, Stage, measure_lag},
    trace::Tracer,
};

/// What the bus works with.
pub struct Parts {
    pub routers: Routers,
    pub seen: Arc<Seen>,
    pub store: Arc<dyn Store>,
    /// That of the store.
    pub log: Option<Arc<dyn Log>>,
    /// To be told what other nodes stored.
    pub authors: Option<Arc<Authors>>,
    /// Whose keys a verifier keeps at hand.
    pub hot_authors: NonZeroUsize,
    /// How far clocks of nodes may be from each other.
    pub clock_tolerance: Duration,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
}

/// The bus. Its tasks run on a thread of their own and end when it is dropped.
pub struct PubSub {
    shared: Arc<Shared>,
    subscriptions: mpsc::Sender<Subscription>,
    outgoing: mpsc::Sender<Outgoing>,
    thread: Arbiter,
}

/// What the tasks of the bus share.
struct Shared {
    config: config::Bus,
    transport: Box<dyn Transport>,
    /// This process.
    origin: Origin,
    /// Where it stores events.
    store: Identity,
    /// Other stores that were told of.
    strangers: Mutex<HashSet<Identity>>,
    clocks: Mutex<Clocks>,
    interest: Mutex<Interest>,
    origins: Mutex<Origins>,
    /// Something may have been missed just now.
    in_doubt: Notify,
    /// The link is up and does not bring what it should.
    suspicion: Notify,
    /// Batches that were never published: nobody may rest on a fence.
    lost: AtomicU64,
    /// Whether the link carries something, and whether one ever did.
    carries: AtomicBool,
    has_carried: AtomicBool,
    /// Whether a message that is not understood was told of.
    puzzled: AtomicBool,
    parts: Parts,
}

/// Channels to be acknowledged, and who waits for it.
struct Subscription {
    channels: Vec<Channel>,
    done: oneshot::Sender<()>,
}

/// A link that is up.
struct Up {
    link: Box<dyn Link>,
    /// This node's own fences on it.
    echoes: Mutex<Echoes>,
}

impl Up {
    fn echoes(&self) -> MutexGuard<'_, Echoes> {
        // No step leaves it half done.
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Outgoing {
    Publication(Publication),
    /// The last word.
    Leave(oneshot::Sender<()>),
}

impl PubSub {
    /// Starts the thread of the bus. It connects on its own, and again when it has to.
    ///
    /// # Errors
    /// When the log of the store can not be read, or no link is made in the time that the configuration gives it.
    pub async fn start(
        transport: Box<dyn Transport>,
        config: &config::Bus,
        parts: Parts,
    ) -> anyhow::Result<Self> {
        let (subscriptions, receive_subscriptions) = mpsc::channel(config.subscribe_queue);
        let (outgoing, receive_outgoing) = mpsc::channel(config.publish_queue);
        let origin = parts.log.as_ref().map_or_else(rand::random, |log| log.origin());
        // Before anybody subscribes: what was written until then is stored.
        let asked = Moment::now();
        let beats = match &parts.log {
            Some(log) => Some(log.beats().await.context("cannot read the log of the store")?),
            None => None,
        };
        let times = Times {
            patience: config.patience(),
            settles_in: parts.log.as_ref().map(|log| log.settles_in()).unwrap_or_default(),
            kept_for: parts.log.as_ref().map(|log| log.kept_for()).unwrap_or_default(),
        };
        let shared = Arc::new(Shared {
            transport,
            origin,
            store: parts.store.identity(),
            strangers: Mutex::default(),
            clocks: Mutex::new(Clocks::new(parts.clock_tolerance, config.patience())),
            interest: Mutex::new(Interest::new(Duration::from_millis(config.linger_ms))),
            origins: Mutex::new(Origins::new(origin, times, beats.as_deref(), asked)),
            in_doubt: Notify::new(),
            suspicion: Notify::new(),
            lost: AtomicU64::new(0),
            carries: AtomicBool::new(false),
            has_carried: AtomicBool::new(false),
            puzzled: AtomicBool::new(false),
            config: config.clone(),
            parts,
        });
        let metrics = &shared.parts.metrics;
        metrics.bus_configured.set(1);
        metrics.watch(BoundedQueue::BusSubscribe, &subscriptions);
        metrics.watch(BoundedQueue::BusPublish, &outgoing);
        let run = run(Arc::clone(&shared), receive_subscriptions, Sender::new(receive_outgoing));
        let thread = Arbiter::new();
        let mut started = thread.spawn(run) && thread.spawn(recover::run(Arc::clone(&shared)));
        if let Some(log) = &shared.parts.log {
            started &= thread.spawn(recover::beat(Arc::clone(&shared), Arc::clone(log)));
        }
        anyhow::ensure!(started, "the thread of the bus is gone");
        let bus = Self { shared, subscriptions, outgoing, thread };
        bus.wait_for_link(Duration::from_secs(config.start_seconds)).await?;
        Ok(bus)
    }

    /// Waits for a link at the start of a node that is not to start without one.
    async fn wait_for_link(&self, patience: Duration) -> anyhow::Result<()> {
        /// How often it is looked at.
        const PAUSE: Duration = Duration::from_millis(20);
        if patience.is_zero() {
            return Ok(());
        }
        let linked = async {
            while !self.shared.has_carried.load(Ordering::Acquire) {
                sleep(PAUSE).await;
            }
        };
        let why =
            || format!("Redis can not be reached, for {patience:?} (bus.start_seconds); the log says why");
        timeout(patience, linked).await.with_context(why)
    }
}

impl Drop for PubSub {
    fn drop(&mut self) {
        self.thread.stop();
    }
}

impl Bus for PubSub {
    fn is_ready(&self) -> bool {
        match self.shared.config.ready {
            BusReady::Always => true,
            BusReady::Once => self.shared.has_carried.load(Ordering::Acquire),
            BusReady::While => self.shared.carries.load(Ordering::Acquire),
        }
    }

    fn hears(&self, authors: &[PublicKey]) -> Vec<Option<Hearing>> {
        let Some(certainty) = self.shared.origins().certainty() else {
            return vec![None; authors.len()];
        };
        let interest = self.shared.interest();
        let hears = |author: &PublicKey| {
            let channel = Channel::of(RoutingKey::By(*author), &EventId([0; 32]));
            Some((certainty, interest.acknowledgement(&channel)?))
        };
        authors.iter().map(hears).collect()
    }

    fn publish(&self, publication: Publication) {
        let ephemeral = publication.ephemeral;
        if self.outgoing.try_send(Outgoing::Publication(publication)).is_err() {
            self.shared.parts.metrics.bus_lost_batches.inc();
            self.shared.parts.metrics.queue_full.of(BoundedQueue::BusPublish).inc();
            if !ephemeral {
                self.skip();
            }
        }
    }

    fn skip(&self) {
        self.shared.lost.fetch_add(1, Ordering::Release);
    }

    fn subscribe(&self, keys: Vec<RoutingKey>) -> BoxFuture<'static, Result<(), BusError>> {
        let channels: Vec<Channel> = {
            let mut interest = self.shared.interest();
            let all = keys.into_iter().flat_map(channels);
            let missing = all.filter(|channel| interest.add(*channel)).collect();
            self.shared.parts.metrics.bus_channels.set(interest.len() as i64);
            missing
        };
        if channels.is_empty() {
            return std::future::ready(Ok(())).boxed();
        }
        let shared = Arc::clone(&self.shared);
        if !shared.origins().is_linked() {
            shared.go_on_without(&channels);
            return std::future::ready(Err(BusError::Away)).boxed();
        }
        let (done, acknowledged) = oneshot::channel();
        let queue = self.subscriptions.clone();
        let patience = Duration::from_millis(self.shared.config.acknowledge_ms);
        if queue.capacity() == 0 {
            self.shared.parts.metrics.queue_full.of(BoundedQueue::BusSubscribe).inc();
        }
        async move {
            let asked = async {
                queue.send(Subscription { channels: channels.clone(), done }).await.ok()?;
                acknowledged.await.ok()
            };
            match timeout(patience, asked).await {
                Ok(Some(())) => Ok(()),
                _ => {
                    shared.go_on_without(&channels);
                    Err(BusError::Timeout)
                }
            }
        }
        .boxed()
    }

    fn unsubscribe(&self, keys: Vec<RoutingKey>) {
        let now = Moment::now();
        let mut interest = self.shared.interest();
        for channel in keys.into_iter().flat_map(channels) {
            interest.remove(channel, now);
        }
    }

    fn leave(&self) -> BoxFuture<'static, ()> {
        let (done, left) = oneshot::channel();
        let outgoing = self.outgoing.clone();
        async move {
            if outgoing.send(Outgoing::Leave(done)).await.is_ok() {
                // The link may be down: then nobody hears it, and there is a gap.
                let _ = left.await;
            }
        }
        .boxed()
    }
}

impl Shared {
    fn interest(&self) -> MutexGuard<'_, Interest> {
        // No step leaves it half done.
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn origins(&self) -> MutexGuard<'_, Origins> {
        // No step leaves it half done.
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fence_interval(&self) -> Interval {
        let mut interval = interval(Duration::from_millis(self.config.fence_ms));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    }

    /// A subscription begins that these channels are not acknowledged for. What is committed from now on
    /// must not rest on fences.
    fn go_on_without(&self, channels: &[Channel]) {
        self.interest().give_up(channels);
        self.origins().doubt();
        self.in_doubt.notify_one();
    }

    /// Where nodes share a store, that compares them.
    fn compare_clocks(&self, card: &Card) {
        let Some(told) = card.at.filter(|_| self.parts.log.is_none() && card.origin != self.origin) else {
            return;
        };
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        let news = clocks.hear(card.origin, told, clock::millis(), Instant::now());
        self.parts.metrics.clock_ahead.set(clocks.standing().seconds_ahead());
        match news {
            Some(far @ Standing::Far(_)) => warn!("{far}: events expire here when they do not there"),
            Some(standing) => info!("{standing}"),
            None => {}
        }
    }

    /// A process says of itself who it is. One that has another store is not listened to, or clients would hear
    /// of events that nobody finds.
    fn meet(&self, card: &Card) {
        /// Other stores that are named.
        const MOST: usize = 100;
        let Some(store) = card.store.filter(|store| !self.store.meets(*store)) else {
            return self.compare_clocks(card);
        };
        self.parts.metrics.bus_strangers.inc();
        self.origins().estrange(card.origin, Moment::now());
        let mut named = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() < MOST && named.insert(store) {
            let own = self.store;
            match (own, store) {
                (Identity::Own(_), Identity::Shared(_)) => warn!(
                    "this node has a store of its own ({own}), and others on this Redis share one ({store}): it \
                     hears nothing of them, nor they of it. Name the shared store with --scylla and --keyspace, or \
                     choose another bus.prefix"
                ),
                _ => warn!(
                    "a node on this Redis has another store ({store}) than this one ({own}): neither hears of the \
                     other. Nodes that do not belong together need a bus.prefix each"
                ),
            }
        }
    }

    /// Something may have been missed.
    fn doubt(&self, why: &str) {
        warn!("events of other nodes may have been missed: {why}");
        self.parts.metrics.bus_gaps.inc();
        self.origins().doubt();
        self.in_doubt.notify_one();
    }

    /// A message of another node is not understood, nor what it was.
    fn miss_what_is_not_understood(&self, why: &dyn Display) {
        self.parts.metrics.bus_malformed.inc();
        self.puzzle(why);
        // The log is read when the next fence is due: others may follow.
        self.origins().doubt();
    }

    /// Something is wrong with the messages of another node: said once, as there may be many.
    fn puzzle(&self, why: &dyn Display) {
        if !self.puzzled.swap(true, Ordering::Relaxed) {
            warn!("a message of another node is not understood, and others may follow (said once): {why}");
        }
    }

    /// A link has brought something back, on every path.
    fn carries(&self, up: &Up) {
        if up.echoes().have_come() && !self.carries.swap(true, Ordering::AcqRel) {
            self.has_carried.store(true, Ordering::Release);
            self.parts.metrics.bus_connected.set(1);
        }
    }

    /// Verifies what comes, where that is wanted.
    fn verifier(&self) -> Option<Verifier> {
        self.config.verify.then(|| Verifier::new(self.parts.hot_authors))
    }

    /// Events that other nodes have published are not in the store. They may have been deleted or replaced since;
    /// or this node reads what is older, or another store.
    fn miss(&self, events: usize) {
        debug!(events, "not found in the store");
        self.parts.metrics.bus_unfetched.inc_by(events as u64);
        self.origins().doubt();
        self.in_doubt.notify_one();
    }

    /// Tells every router that events of other nodes were missed, and can not be found.
    async fn tell_of_gap(&self, why: &str) {
        warn!("subscriptions end, because events of other nodes may have been missed {why}");
        self.parts.metrics.bus_gaps_told.inc();
        for router in self.parts.routers.all() {
            // A router that is gone has no sessions.
            let _ = router.send(Gap).await;
        }
    }
}

/// Keeps a link up, one after the other, until the bus is dropped.
async fn run(shared: Arc<Shared>, mut subscriptions: mpsc::Receiver<Subscription>, mut sender: Sender) {
    actix::spawn(measure_lag(shared.parts.metrics.lag_of("bus")));
    let mut attempt = 0;
    loop {
        let (incoming, received) = mpsc::channel(shared.config.receive_queue);
        match establish(&shared, incoming).await {
            Ok(up) => {
                let paths = up.link.paths();
                info!(primaries = paths, "connected to Redis");
                shared.origins().link_up(paths, Moment::now());
                shared.in_doubt.notify_one();
                let ended = tokio::select! {
                    ended = sender.run(&shared, &up) => ended,
                    ended = keep_subscribed(&shared, &*up.link, &mut subscriptions) => ended,
                    ended = receive::run(&shared, &up, received) => ended,
                    () = shared.suspicion.notified() => Err(anyhow!("a node that lives is not heard")),
                };
                shared.parts.metrics.bus_connected.set(0);
                // One that only begins is no better than none: Redis takes the connection and nothing else.
                if shared.carries.swap(false, Ordering::AcqRel) {
                    attempt = 0;
                }
                shared.origins().link_down();
                match ended {
                    Ok(()) => return,
                    Err(error) => shared.doubt(&format!("the connection to Redis is lost: {error:#}")),
                }
            }
            Err(error) if attempt == 0 => warn!("Redis can not be reached: {error:#}"),
            Err(_) => {}
        }
        shared.interest().lose();
        sleep(backoff(&shared.config, attempt)).await;
        attempt = attempt.saturating_add(1);
    }
}

/// Twice as long each time, up to a bound, and a random part of it, so that nodes do not come at once.
fn backoff(config: &config::Bus, attempt: u32) -> Duration {
    let most = config.max_backoff_ms.min(config.min_backoff_ms << attempt.min(20));
    Duration::from_millis(most / 2 + rand::random_range(0..=most / 2))
}

/// Connects, and subscribes to all that is wanted.
async fn establish(shared: &Arc<Shared>, incoming: mpsc::Sender<Incoming>) -> anyhow::Result<Up> {
    let link = shared.transport.connect(incoming).await?;
    let echoes = Mutex::new(Echoes::new(link.paths(), Moment::now()));
    let missing = shared.interest().missing();
    subscribe(shared, &*link, &missing).await?;
    Ok(Up { link, echoes })
}

async fn subscribe(shared: &Shared, link: &dyn Link, channels: &[Channel]) -> anyhow::Result<()> {
    link.subscribe(channels).await?;
    shared.interest().acknowledge(channels);
    Ok(())
}

/// Subscribes to what comes to be wanted, and unsubscribes from what nobody has wanted for a while.
/// Ends with `Ok` when the bus is dropped.
async fn keep_subscribed(
    shared: &Shared,
    link: &dyn Link,
    subscriptions: &mut mpsc::Receiver<Subscription>,
) -> anyhow::Result<()> {
    /// Subscriptions that are sent to Redis together.
    const GATHERED: usize = 1_024;
    let mut ticks = interval(Duration::from_millis((shared.config.linger_ms / 4).max(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut gathered = Vec::new();
    loop {
        tokio::select! {
            count = subscriptions.recv_many(&mut gathered, GATHERED) => {
                if count == 0 {
                    return Ok(());
                }
                let mut channels = Vec::new();
                let waiting: Vec<_> = gathered
                    .drain(..)
                    .map(|Subscription { channels: wanted, done }| {
                        channels.extend(wanted);
                        done
                    })
                    .collect();
                subscribe(shared, link, &channels).await?;
                for done in waiting {
                    // Who waited may have given up.
                    let _ = done.send(());
                }
            }
            _ = ticks.tick() => {
                let given_up = shared.interest().given_up();
                if !given_up.is_empty() {
                    subscribe(shared, link, &given_up).await?;
                    shared.in_doubt.notify_one();
                }
                let left = shared.interest().take_left(Moment::now());
                if !left.is_empty() {
                    link.unsubscribe(&left).await?;
                    shared.parts.metrics.bus_channels.set(shared.interest().len() as i64);
                }
            }
        }
    }
}

/// What publishes. Outlives a link, with what the last one did not get through.
struct Sender {
    queue: mpsc::Receiver<Outgoing>,
    /// Taken out of the queue and not known to be published.
    unsent: Vec<Outgoing>,
    sequence: Sequence,
}

impl Sender {
    fn new(queue: mpsc::Receiver<Outgoing>) -> Self {
        Self { queue, unsent: Vec::new(), sequence: 0 }
    }

    /// Publishes batch after batch, and a fence every second. Ends with `Ok` when the bus is dropped or
    /// has left.
    async fn run(&mut self, shared: &Shared, up: &Up) -> anyhow::Result<()> {
        /// Batches that are published in one round trip.
        const GATHERED: usize = 16;
        let mut fences = shared.fence_interval();
        loop {
            let leaving = self.publish(shared, &*up.link).await?;
            if let Some(left) = leaving {
                self.fence(shared, up, true).await?;
                // Who waited may have given up.
                let _ = left.send(());
                return Ok(());
            }
            tokio::select! {
                count = self.queue.recv_many(&mut self.unsent, GATHERED) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
                _ = fences.tick() => self.fence(shared, up, false).await?,
            }
        }
    }

    /// Publishes what was taken out of the queue. Copies do no harm, so what is not known to have
    /// been published is published again.
    async fn publish(
        &mut self,
        shared: &Shared,
        link: &dyn Link,
    ) -> anyhow::Result<Option<oneshot::Sender<()>>> {
        if self.unsent.is_empty() {
            return Ok(None);
        }
        let mut messages = Vec::new();
        let (mut sequence, mut events) = (self.sequence, 0);
        for outgoing in &self.unsent {
            if let Outgoing::Publication(publication) = outgoing {
                sequence = sequence.max(publication.sequence.unwrap_or_default());
                events += publication.events.len();
                write_messages(shared, publication, &mut messages);
            }
        }
        let begun = Instant::now();
        link.publish(&messages).await?;
        self.sequence = sequence;
        let metrics = &shared.parts.metrics;
        metrics.stages.of(Stage::Publish).observe(begun.elapsed().as_secs_f64());
        metrics.bus_published.inc_by(events as u64);
        metrics.bus_messages.inc_by(messages.len() as u64);
        Ok(self.unsent.drain(..).fold(None, |leaving, outgoing| match outgoing {
            Outgoing::Publication(published) => {
                let Publication { traced, events, since, .. } = published;
                shared.parts.tracer.published(&traced, &events, since);
                leaving
            }
            Outgoing::Leave(left) => Some(left),
        }))
    }

    async fn fence(&self, shared: &Shared, up: &Up, leaving: bool) -> anyhow::Result<()> {
        let (origin, lost) = (shared.origin, shared.lost.load(Ordering::Acquire));
        let fence = Fence { origin, sequence: self.sequence, lost, leaving };
        let card = Card { origin, store: Some(shared.store), at: Some(clock::millis()) };
        up.echoes().send(Moment::now());
        up.link.fence(&fence.encode(), &card.encode()).await
    }
}

/// One message for each channel of each event, or one for all nodes.
fn write_messages(shared: &Shared, publication: &Publication, messages: &mut Vec<(Address, Arc<[u8]>)>) {
    let config = &shared.config;
    let published_at = clock::millis();
    let mut known: HashSet<Channel, foldhash::fast::RandomState> = HashSet::default();
    for event in &*publication.events {
        let id = event.id();
        known.clear();
        let channels = keys(event).map(|key| Channel::of(key, &id));
        let channels: SmallVec<[Channel; 8]> = channels.filter(|channel| known.insert(*channel)).collect();
        let few_keys = channels.len() <= config.inline_keys;
        let fits = few_keys && event.json().len() <= config.inline_bytes;
        let can_be_fetched = !publication.ephemeral && shared.parts.log.is_some();
        let whole = fits || !can_be_fetched;
        let envelope = Envelope {
            origin: shared.origin,
            sequence: publication.sequence.unwrap_or_default(),
            published_at,
            id,
            ephemeral: publication.ephemeral,
            trace: publication.traced.traceparent(&id).into(),
            store: Some(shared.store),
            body: whole.then_some(event.json()),
        };
        let payload: Arc<[u8]> = envelope.encode().into();
        // Ephemeral events under few keys go as ever: neighbouring versions listen to nothing else.
        match fits || can_be_fetched || publication.ephemeral && few_keys {
            true => {
                messages.extend(
                    channels.iter().map(|&channel| (Address::Channel(channel), Arc::clone(&payload))),
                );
            }
            false => messages.push((Address::Everybody, payload)),
        }
    }
}
