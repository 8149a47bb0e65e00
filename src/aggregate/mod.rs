//! Other relays in, each event once, nothing missed.
//!
//! A reader for each upstream puts what it sends into a queue; a consumer publishes from there, through the door that
//! clients use. Only what is stored, or refused for good, moves the cursor of an upstream, and whatever breaks is read
//! again from there.

mod consumer;
mod counts;
mod cursor;
pub mod dead;
mod flight;
mod intake;
mod phantoms;
mod progress;
mod queue;
mod reader;
mod refused;
mod shown;
mod status;
mod suspects;
mod upstream;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use actix::{Actor, Arbiter};
use anyhow::{Context, bail};

use self::{
    consumer::Consumer,
    counts::Counts,
    dead::DeadLetters,
    queue::{Queue, memory::Memory},
    reader::Reader,
    shown::{Shown, show},
    status::Status,
    upstream::{RelayUrl, Upstream, UpstreamId},
};
use crate::{
    client::{Endpoint, Observer, Reach},
    config::{self, Live},
    ingest::Admission,
    persist,
    protocol::Filter,
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
}

/// Reads other relays, on a thread of its own.
pub struct Aggregator {
    arbiter: Arbiter,
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
        upstreams.push(Upstream { url, filters: vec![Filter::default()] });
    }
    Ok(upstreams)
}

impl Aggregator {
    /// Begins to read.
    pub fn start(upstreams: Vec<Upstream>, config: &config::Aggregator, parts: Parts) -> Self {
        let arbiter = Arbiter::new();
        let queue: Arc<dyn Queue> = Arc::new(Memory::new(config.queue_bytes));
        let counts: HashMap<UpstreamId, Arc<Counts>> =
            upstreams.iter().map(|upstream| (upstream.url.id(), Arc::default())).collect();
        let names: HashMap<UpstreamId, Arc<str>> =
            upstreams.iter().map(|upstream| (upstream.url.id(), upstream.url.shown().into())).collect();
        let dead = DeadLetters::new(Arc::clone(&parts.store), Arc::clone(&queue), config.dead_letters);
        let of_readers = reader::Parts {
            queue: Arc::clone(&queue),
            store: parts.store,
            overlap: config.overlap_seconds,
            compare: Duration::from_secs(60 * config.compare_minutes),
            most_refused: config.refused,
            max_event_bytes: parts.live.load().limits.max_message_bytes,
            metrics: Arc::clone(&parts.metrics),
            tracer: parts.tracer.clone(),
        };
        let reach = match config.allow_private {
            true => Reach::Anywhere,
            false => Reach::Public { but: parts.own },
        };
        let mut all = Vec::new();
        for upstream in upstreams {
            let url = upstream.url.as_str();
            // Whoever stores an event checks it.
            let of_this = Arc::clone(&counts[&upstream.url.id()]);
            let observer = Arc::clone(&of_this) as Arc<dyn Observer>;
            let reach = reach.clone();
            let endpoint = Endpoint { verify: false, reach, observer, ..Endpoint::new(url) };
            let status = Arc::<Status>::default();
            let (counts, shown) = (Arc::clone(&of_this), Arc::clone(&status));
            all.push(Shown { name: upstream.url.shown().into(), counts, status: shown });
            let reader = Reader::new(of_readers.clone(), upstream, endpoint, of_this, status);
            arbiter.spawn_fn(move || {
                actix::spawn(reader.run());
            });
        }
        show(move || all.clone(), config.metrics_upstreams, &queue, &parts.metrics);
        let of_consumers = consumer::Parts {
            queue,
            events: parts.events,
            admission: parts.admission,
            live: parts.live,
            counts: Arc::new(move |id| counts.get(&id).cloned()),
            dead: Arc::new(dead),
            attempts: config.attempts,
            apart: suspects::APART,
            names: Arc::new(move |id| names.get(&id).cloned()),
            metrics: parts.metrics,
            tracer: parts.tracer,
        };
        let window = config.window;
        Consumer::start_in_arbiter(&arbiter.handle(), move |_| Consumer::new(of_consumers, 0, window));
        Self { arbiter }
    }

    /// Reads no more. What is on its way is read again the next time.
    pub fn stop(&self) {
        self.arbiter.stop();
    }
}
