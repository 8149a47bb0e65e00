//! Other relays in, each event once, nothing missed.
//!
//! A reader for each upstream puts what it sends into a queue; a consumer publishes from there, through the door that
//! clients use. Only what is stored, or refused for good, moves the cursor of an upstream, and whatever breaks is read
//! again from there.

mod blame;
mod consumer;
mod counts;
mod cursor;
pub mod dead;
mod effort;
mod flight;
mod intake;
mod manager;
mod pace;
mod phantoms;
mod progress;
mod queue;
mod reader;
mod refused;
mod registry;
mod shown;
mod status;
mod suspects;
mod taken;
mod trust;
mod upstream;
mod upstreams;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use actix::{Actor, Arbiter};
use anyhow::{Context, bail};
use tokio::sync::Notify;

use self::{
    consumer::Consumer,
    dead::DeadLetters,
    manager::{All, Dialer, Manager},
    queue::{Queue, memory::Memory},
    registry::Registry,
    shown::show,
    upstream::Upstream,
    upstreams::Graveyard,
};
pub use self::{
    registry::Refused,
    status::{CatchUp, State},
    upstream::{BadUrl, RelayUrl, UpstreamId, UpstreamLimits},
    upstreams::{Addition, Change, DeadLetterPage, DeadLetterView, LastError, QueueView, Upstreams, View},
};
use crate::{
    client::Reach,
    clock,
    config::{self, Live},
    ingest::Admission,
    persist,
    seal::Keyring,
    store::Store,
    telemetry::Metrics,
    trace::Tracer,
};

/// What an aggregator works with.
pub struct Parts {
    pub events: Arc<persist::Queue>,
    pub store: Arc<dyn Store>,
    pub admission: Arc<Admission>,
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    /// Where this node listens: it does not read itself.
    pub own: Vec<SocketAddr>,
    /// What seals the keys of upstreams.
    pub keyring: Keyring,
    /// Where an upstream is noted whose event ends the process; `None`: nowhere.
    pub blame: Option<PathBuf>,
}

/// Reads other relays, on a thread of its own.
pub struct Aggregator {
    arbiter: Arbiter,
    upstreams: Arc<Upstreams>,
}

/// The relays that the configuration names.
///
/// # Errors
/// One of them is no relay.
pub fn upstreams(config: &config::Aggregator) -> anyhow::Result<Vec<Upstream>> {
    let mut upstreams: Vec<Upstream> = Vec::new();
    for (nth, text) in config.upstreams.iter().enumerate() {
        // Not the text: there may be a password in it.
        let url =
            RelayUrl::parse(text).with_context(|| format!("number {} of aggregator.upstreams", nth + 1))?;
        if upstreams.iter().any(|other| other.url == url) {
            bail!("aggregator.upstreams has {url} twice");
        }
        upstreams.push(Upstream::new(url));
    }
    Ok(upstreams)
}

impl Aggregator {
    /// Begins to read: what the configuration names, and what has a record.
    pub fn start(configured: Vec<Upstream>, config: &config::Aggregator, parts: Parts) -> Self {
        let arbiter = Arbiter::new();
        let queue: Arc<dyn Queue> = Arc::new(Memory::new(config.queue_bytes));
        let (all, changed) = (Arc::<All>::default(), Arc::<Notify>::default());
        let keyring = Arc::new(parts.keyring);
        let registry = Registry::new(Arc::clone(&parts.store));
        let dead = DeadLetters::new(Arc::clone(&parts.store), Arc::clone(&queue), config.dead_letters);
        let dead = Arc::new(dead);
        let readers = reader::Parts {
            queue: Arc::clone(&queue),
            store: parts.store,
            overlap: config.overlap_seconds,
            compare: Duration::from_secs(60 * config.compare_minutes),
            most_refused: config.refused,
            takeover: Duration::from_secs(config.takeover_seconds),
            max_event_bytes: parts.live.load().limits.max_message_bytes,
            metrics: Arc::clone(&parts.metrics),
            tracer: parts.tracer.clone(),
        };
        let reach = match config.allow_private {
            true => Reach::Anywhere,
            false => Reach::Public { but: parts.own },
        };
        let dialer = Arc::new(Dialer { reach, keyring: Arc::clone(&keyring) });
        let upstreams = Upstreams::new(
            registry.clone(),
            Arc::clone(&all),
            Arc::clone(&queue),
            Arc::clone(&changed),
            keyring,
            config.allow_private,
            Graveyard { dead: Arc::clone(&dead), dialer: Arc::clone(&dialer) },
        );
        let (shown, counted) = (Arc::clone(&all), Arc::clone(&all));
        show(move || shown.shown(), config.metrics_upstreams, &queue, &parts.metrics);
        let blamed = parts.blame.as_deref().map(|file| {
            blame::watch(file);
            blame::blamed(file, clock::now())
        });
        let look = Duration::from_secs(config.look_seconds);
        Manager::new(registry, configured, Arc::clone(&all), changed, readers, dialer)
            .leave_out(blamed.unwrap_or_default())
            .start(look, &arbiter);
        let of_consumers = consumer::Parts {
            queue,
            events: parts.events,
            admission: parts.admission,
            live: parts.live,
            counts: Arc::new(move |id| counted.get(id).map(|observed| Arc::clone(&observed.counts))),
            dead,
            attempts: config.attempts,
            apart: suspects::APART,
            verify_cores: config.verify_cores,
            names: Arc::new(move |id| all.get(id).map(|observed| Arc::clone(&observed.name))),
            metrics: parts.metrics,
            tracer: parts.tracer,
        };
        let window = config.window;
        Consumer::start_in_arbiter(&arbiter.handle(), move |_| Consumer::new(of_consumers, 0, window));
        Self { arbiter, upstreams: Arc::new(upstreams) }
    }

    /// What operators ask.
    pub fn upstreams(&self) -> Arc<Upstreams> {
        Arc::clone(&self.upstreams)
    }

    /// Reads no more. What is on its way is read again the next time.
    pub fn stop(&self) {
        self.arbiter.stop();
    }
}
