//! Other relays in, each event once, nothing missed.
//!
//! A reader for each upstream puts what it sends into a queue; a consumer publishes from there, through the door that
//! clients use. Only what is stored, or refused for good, moves the cursor of an upstream, and whatever breaks is read
//! again from there.

mod blame;
mod consumer;
mod counts;
mod courtesy;
mod cursor;
pub mod dead;
mod effort;
mod flight;
pub mod follow;
mod hours;
mod intake;
mod ledger;
mod manager;
mod members;
mod pace;
mod phantoms;
mod progress;
mod queue;
mod read_for;
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
use futures_util::future::join_all;
use tokio::{sync::Notify, time::timeout};

use self::{
    consumer::{Consumer, ConsumerParts},
    dead::DeadLetters,
    follow::{Following, Planner},
    hours::Hours,
    ledger::Ledger,
    manager::{All, Dialer, Manager, Share},
    members::Members,
    queue::{
        Queue,
        memory::Memory,
        streams::{Layout, Streams},
    },
    reader::ReaderParts,
    registry::Registry,
    shown::show,
    upstream::Upstream,
    upstreams::Graveyard,
};
pub use self::{
    cursor::Lease,
    hours::Hour,
    registry::Refused,
    status::{CatchUp, State},
    upstream::{BadUrl, RelayUrl, UpstreamId, UpstreamLimits},
    upstreams::{Addition, Change, DeadLetterPage, DeadLetterView, LastError, QueueView, Upstreams, View},
};
use crate::{
    bus::redis::Servers,
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

/// For the counts of the hour, at the end.
const LAST_COUNTS: Duration = Duration::from_secs(2);

/// What an aggregator works with.
pub struct AggregatorParts {
    pub events: Arc<persist::Queue>,
    pub store: Arc<dyn Store>,
    pub admission: Arc<Admission>,
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    /// Where this node listens: it does not read itself.
    pub own: Vec<SocketAddr>,
    /// What seals the keys of upstreams.
    pub keyring: Arc<Keyring>,
    /// Redis, where events wait there.
    pub servers: Option<Arc<Servers>>,
    /// What this node is called.
    pub node: String,
    /// Where people are looked for who are followed, and within what bounds.
    pub follow: config::Follow,
    pub indexers: Vec<RelayUrl>,
    /// Where clients reach this relay, where that is known.
    pub own_url: Option<RelayUrl>,
    /// Where an upstream is noted whose event ends the process; `None`: nowhere.
    pub blame: Option<PathBuf>,
}

/// Reads other relays, on a thread of its own.
pub struct Aggregator {
    arbiter: Arbiter,
    upstreams: Arc<Upstreams>,
    following: Arc<Following>,
    hours: Arc<Hours>,
    /// Those that this process is one of.
    members: Vec<Arc<Members>>,
}

/// The relays that a setting names.
///
/// # Errors
/// One of them is no relay.
pub fn relays(setting: &str, urls: &[String]) -> anyhow::Result<Vec<RelayUrl>> {
    let mut relays: Vec<RelayUrl> = Vec::new();
    for (nth, text) in urls.iter().enumerate() {
        // Not the text: there may be a password in it.
        let url = RelayUrl::parse(text).with_context(|| format!("number {} of {setting}", nth + 1))?;
        if relays.contains(&url) {
            bail!("{setting} has {url} twice");
        }
        relays.push(url);
    }
    Ok(relays)
}

impl Aggregator {
    /// Begins to read: what the configuration names, and what has a record.
    pub fn start(configured: Vec<RelayUrl>, config: &config::Aggregator, parts: AggregatorParts) -> Self {
        let arbiter = Arbiter::new();
        let (all, changed) = (Arc::<All>::default(), Arc::<Notify>::default());
        let keyring = parts.keyring;
        let registry = Registry::new(Arc::clone(&parts.store));
        let dead = Arc::new(DeadLetters::new(Arc::clone(&parts.store), config.dead_letters));
        let ledger = Arc::new(Ledger::new(Arc::clone(&all), Arc::clone(&dead)));
        let (beat, node) = (Duration::from_millis(config.beat_ms), &parts.node);
        let join = |servers: &Arc<Servers>, role| Members::join(Arc::clone(servers), role, node, beat);
        let redis = parts.servers.as_ref();
        let consumers = redis.filter(|_| config.role.consumes()).map(|servers| join(servers, "consumers"));
        let readers = redis.filter(|_| config.role.reads()).map(|servers| join(servers, "readers"));
        let members = readers.iter().chain(&consumers).cloned().collect();
        let queue: Arc<dyn Queue> = match redis {
            Some(servers) => {
                let (servers, layout) = (Arc::clone(servers), Layout::from(config));
                Arc::new(Streams::start(servers, layout, ledger, consumers, &parts.metrics))
            }
            None => Arc::new(Memory::new(config.queue_bytes, ledger)),
        };
        let gone = readers.as_ref().map(|members| members.gone());
        let share = match (readers, config.role.reads()) {
            (Some(members), _) => Share::Among(members),
            (None, true) => Share::All,
            (None, false) => Share::Nothing,
        };
        let readers = ReaderParts {
            queue: Arc::clone(&queue),
            store: Arc::clone(&parts.store),
            overlap: config.overlap_seconds,
            compare: Duration::from_secs(60 * config.compare_minutes),
            most_refused: config.refused,
            takeover: Duration::from_secs(config.takeover_seconds),
            gone,
            node: parts.node.as_str().into(),
            max_event_bytes: parts.live.load().limits.max_message_bytes,
            metrics: Arc::clone(&parts.metrics),
            tracer: parts.tracer.clone(),
        };
        let reach = |allow_private| match allow_private {
            true => Reach::Anywhere,
            false => Reach::Public { but: parts.own.clone() },
        };
        let dialer = Arc::new(Dialer {
            reach: reach(config.allow_private),
            reach_of_followed: reach(parts.follow.allow_private),
            indexers: parts.indexers,
            max_event_bytes: readers.max_event_bytes,
            keyring: Arc::clone(&keyring),
        });
        let upstreams = Upstreams::new(
            registry.clone(),
            Arc::clone(&all),
            Arc::clone(&queue),
            Arc::clone(&changed),
            keyring,
            config.allow_private,
            Graveyard { dead: Arc::clone(&dead), dialer: Arc::clone(&dialer) },
        );
        let follow_changed = Arc::<Notify>::default();
        let following = Following::new(registry.clone(), Arc::clone(&follow_changed));
        let shown = Arc::clone(&all);
        show(move || shown.shown(), config.metrics_upstreams, &queue, &parts.metrics);
        let blamed = parts.blame.as_deref().map(|file| {
            blame::watch(file);
            blame::blamed(file, clock::now())
        });
        let hours = Arc::new(Hours::new(Arc::clone(&all), Arc::clone(&parts.store)));
        let look = Duration::from_secs(config.look_seconds);
        if config.role.reads() {
            hours.start(Duration::from_secs(config.count_seconds), &arbiter);
            let planner = Planner {
                registry: registry.clone(),
                store: parts.store,
                dialer: Arc::clone(&dialer),
                config: parts.follow,
                configured: configured.clone(),
                own_url: parts.own_url,
                changed: follow_changed,
                upstreams: Arc::clone(&changed),
            };
            planner.start(look, &arbiter);
        }
        let configured = configured.into_iter().map(Upstream::new).collect();
        Manager::new(registry, share, configured, Arc::clone(&all), changed, readers, dialer)
            .leave_out(blamed.unwrap_or_default())
            .start(look, &arbiter);
        let of_consumers = ConsumerParts {
            queue,
            events: parts.events,
            admission: parts.admission,
            live: parts.live,
            dead,
            attempts: config.attempts,
            apart: suspects::APART,
            verify_cores: config.verify_cores,
            clients_wait: config.clients_wait,
            least_per_second: config.least_per_second,
            names: Arc::new(move |id| all.get(id).map(|observed| Arc::clone(&observed.name))),
            metrics: parts.metrics,
            tracer: parts.tracer,
        };
        if config.role.consumes() {
            let window = config.window;
            Consumer::start_in_arbiter(&arbiter.handle(), move |_| Consumer::new(of_consumers, 0, window));
        }
        Self { arbiter, upstreams: Arc::new(upstreams), following: Arc::new(following), hours, members }
    }

    /// What operators ask of the people who are followed.
    pub fn following(&self) -> Arc<Following> {
        Arc::clone(&self.following)
    }

    /// What operators ask.
    pub fn upstreams(&self) -> Arc<Upstreams> {
        Arc::clone(&self.upstreams)
    }

    /// Reads no more. What is on its way is read again the next time.
    pub async fn stop(&self) {
        // What can not be written now is missing in the counts of the hour.
        let _ = timeout(LAST_COUNTS, self.hours.write()).await;
        self.arbiter.stop();
        join_all(self.members.iter().map(|members| members.leave())).await;
    }
}
