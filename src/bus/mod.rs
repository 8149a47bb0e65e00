//! The bus: publish and subscribe between nodes, over what can carry it ([`transport`]).
//!
//! An event is published under every routing key that it carries; a node is subscribed to the keys
//! that its clients want, and so receives nothing else. Messages come at most once, so every node
//! also sends numbered watermarks: one that arrives proves that all before it arrived. What may have been
//! missed is read from the log of the store.

pub mod channel;
mod clocks;
mod deliver;
mod echoes;
pub mod envelope;
mod interest;
mod links;
pub mod origins;
mod publish;
mod receive;
mod recover;
pub mod redis;
mod state;
pub mod transport;
mod up;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::Arbiter;
use anyhow::Context;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{sleep, timeout},
};

use self::{
    channel::{Channel, channels},
    clocks::Clocks,
    interest::Interest,
    origins::{Origins, Times},
    publish::BatchSender,
    state::BusState,
    transport::Transport,
};
use crate::{
    clock::Moment,
    config::{self, BusReady},
    protocol::{EventId, PublicKey},
    route::{
        Routers,
        bus::{Bus, BusError, Changed, Publication},
        key::RoutingKey,
        seen::Seen,
    },
    store::{
        Store,
        log::Log,
        tap::{Hearing, Taps},
    },
    telemetry::{BoundedQueue, Metrics},
    trace::Tracer,
    waits::Waits,
};

/// Is told which record may have changed, by kind and key; without, it may be any.
pub type RecordWatch = Arc<dyn Fn(Option<(&str, &str)>) + Send + Sync>;

/// What the bus works with.
pub struct BusParts {
    pub routers: Routers,
    pub seen: Arc<Seen>,
    pub store: Arc<dyn Store>,
    /// The log of the store, where it has one.
    pub log: Option<Arc<dyn Log>>,
    /// Told what other nodes stored, where all nodes share one store.
    pub taps: Taps,
    /// Of how many authors the verifier keeps the decoded keys.
    pub hot_authors: NonZeroUsize,
    /// Called when another node may have changed a record: it said so, or a link is new, and it may be any.
    pub records: RecordWatch,
    /// How far clocks of nodes may be from each other.
    pub clock_tolerance: Duration,
    /// How long clients wait for the store, as this node finds it and others tell.
    pub waits: Arc<Waits>,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
}

/// The bus. Its tasks run on a thread of their own and end when it is dropped.
pub struct PubSub {
    shared: Arc<BusState>,
    subscriptions: mpsc::Sender<ChannelRequest>,
    outgoing: mpsc::Sender<Outgoing>,
    thread: Arbiter,
}

/// Channels to be acknowledged, and who waits for it.
struct ChannelRequest {
    channels: Vec<Channel>,
    done: oneshot::Sender<()>,
}

enum Outgoing {
    Publication(Publication),
    Change(Changed),
    /// This node leaves: after its last watermark whoever waits for that is told.
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
        parts: BusParts,
    ) -> anyhow::Result<Self> {
        let (subscriptions, receive_subscriptions) = mpsc::channel(config.subscribe_queue);
        let (outgoing, receive_outgoing) = mpsc::channel(config.publish_queue);
        let origin = parts.log.as_ref().map_or_else(rand::random, |log| log.origin());
        // Asked before any client subscribes: what was written until now, clients find in the store.
        let asked = Moment::now();
        let heartbeats = match &parts.log {
            Some(log) => Some(log.heartbeats().await.context("cannot read the log of the store")?),
            None => None,
        };
        let times = Times {
            patience: config.patience(),
            settles_in: parts.log.as_ref().map(|log| log.settles_in()).unwrap_or_default(),
            kept_for: parts.log.as_ref().map(|log| log.kept_for()).unwrap_or_default(),
        };
        let shared = Arc::new(BusState {
            transport,
            origin,
            store: parts.store.identity(),
            strangers: Mutex::default(),
            clocks: Mutex::new(Clocks::new(parts.clock_tolerance, config.patience())),
            interest: Mutex::new(Interest::new(Duration::from_millis(config.linger_ms))),
            origins: Mutex::new(Origins::new(origin, times, heartbeats.as_deref(), asked)),
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
        let run = links::run(Arc::clone(&shared), receive_subscriptions, BatchSender::new(receive_outgoing));
        let thread = Arbiter::new();
        let mut started = thread.spawn(run) && thread.spawn(recover::run(Arc::clone(&shared)));
        if let Some(log) = &shared.parts.log {
            started &= thread.spawn(recover::send_heartbeats(Arc::clone(&shared), Arc::clone(log)));
        }
        anyhow::ensure!(started, "the thread of the bus is gone");
        let bus = Self { shared, subscriptions, outgoing, thread };
        bus.wait_for_link(Duration::from_secs(config.start_seconds)).await?;
        Ok(bus)
    }

    /// Waits for a link at the start of a node that is not to start without one.
    async fn wait_for_link(&self, patience: Duration) -> anyhow::Result<()> {
        /// Between two looks at whether there is a link.
        const PAUSE: Duration = Duration::from_millis(20);
        if patience.is_zero() {
            return Ok(());
        }
        let find_link = async {
            while !self.shared.has_carried.load(Ordering::Acquire) {
                sleep(PAUSE).await;
            }
        };
        let name = self.shared.transport.name();
        let why =
            || format!("{name} can not be reached, for {patience:?} (bus.start_seconds); the log says why");
        timeout(patience, find_link).await.with_context(why)
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
        let say_how = |author: &PublicKey| {
            let channel = Channel::of(RoutingKey::By(*author), &EventId([0; 32]));
            Some((certainty, interest.acknowledgement(&channel)?))
        };
        authors.iter().map(say_how).collect()
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

    fn changed(&self, change: Changed) {
        if self.outgoing.try_send(Outgoing::Change(change)).is_err() {
            self.shared.parts.metrics.queue_full.of(BoundedQueue::BusPublish).inc();
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
            let ask = async {
                queue.send(ChannelRequest { channels: channels.clone(), done }).await.ok()?;
                acknowledged.await.ok()
            };
            match timeout(patience, ask).await {
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
                // The link may be down: then the others do not hear that this node leaves, and find a gap.
                let _ = left.await;
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod world;
