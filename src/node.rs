//! A node: wires the parts together, runs them, and shuts them down in order.

use std::{
    future::Future,
    io::IsTerminal,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, Arbiter};
use anyhow::Context;
use rustix::fs::statvfs;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::{
    bus::{self, PubSub, redis::Redis},
    clock::Steady,
    config::Config,
    ingest::{Admission, Policy, Recent},
    net::{Descriptors, Need, Readiness, serve, serve_ops},
    persist::{self, Flush, Others, Persister, Queue, Sweeps, Workers},
    protocol::PublicKey,
    route::{Drain, Routers, bus::Bus, key::digests, seen::Seen},
    session::{Connections, Rates, Shared},
    store::{
        Store,
        feeds::{Authors, Feeds},
        lmdb::{Access, Lmdb},
        scylla::Scylla,
    },
    telemetry::{BoundedQueue, Lost, Metrics},
    trace::Tracer,
};

/// The sockets that a node listens on, bound by whoever starts it.
pub struct Listeners {
    pub clients: TcpListener,
    pub operators: TcpListener,
}

/// What a node finds in its process.
pub struct Outside {
    pub listeners: Listeners,
    pub descriptors: Descriptors,
    pub tracer: Tracer,
    pub log: Lost,
}

impl Listeners {
    /// Binds the addresses of the configuration.
    ///
    /// # Errors
    /// Says which address, and what to do.
    pub fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = |address, flag: &str| {
            TcpListener::bind(address)
                .with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
        };
        Ok(Self {
            clients: bind(config.general.listen, "--listen")?,
            operators: bind(config.general.ops_listen, "--ops-listen")?,
        })
    }
}

/// Runs a node until `shutdown` resolves. Must be called in an actix system. By when the process is to have ended.
///
/// # Errors
/// When the node can not start.
pub async fn run(
    config: Config,
    outside: Outside,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<Instant> {
    let store = open_store(&config).await?;
    run_on(store, config, outside, shutdown).await
}

/// As [`run`], on a store that is open.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    mut store: Arc<dyn Store>,
    mut config: Config,
    outside: Outside,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<Instant> {
    let Outside { listeners, descriptors, tracer, log } = outside;
    let node_id = id(&config);
    let metrics = Arc::new(Metrics::new(&node_id));
    config.limits.max_connections = config.limits.max_connections.min(descriptors.sockets);
    info!(
        node = node_id,
        file_descriptors = descriptors.limit,
        max_connections = config.limits.max_connections,
        "starting"
    );
    let url = config.relay_url()?;
    if url.is_none() && is_public(&config) {
        warn!(
            "no url is set: AUTH is refused to all who do not connect to an address of this machine themselves; \
             set the URL that clients use, such as --url wss://relay.example.com"
        );
    }
    let admission = Arc::new(Admission::new(
        Policy::new(&config.limits, url.clone()),
        Recent::new(config.persister.recent_ids),
        config.persister.hot_authors,
    ));
    let routers = Routers::default();
    let mut needs: Vec<Need> = Vec::new();
    let others = match &config.general.redis[..] {
        [] => None,
        urls => {
            let seen = Arc::new(Seen::new(config.bus.seen_ids));
            // Where there is a log, all nodes share the store.
            let authors = (config.feeds.max_bytes > 0 && store.log().is_some()).then(|| {
                Arc::new(Authors::new(config.feeds.clone(), config.bus.patience(), Arc::clone(&metrics)))
            });
            let parts = bus::Parts {
                routers: routers.clone(),
                seen: Arc::clone(&seen),
                store: Arc::clone(&store),
                log: store.log(),
                authors: authors.clone(),
                hot_authors: NonZeroUsize::new(config.persister.hot_authors).unwrap_or(NonZeroUsize::MIN),
                clock_tolerance: Duration::from_secs(config.scylla.clock_tolerance_seconds),
                metrics: Arc::clone(&metrics),
                tracer: tracer.clone(),
            };
            let transport = Box::new(Redis::new(urls, &config.bus)?);
            let bus: Arc<dyn Bus> = Arc::new(PubSub::start(transport, &config.bus, parts).await?);
            let (on, carries) = ("Redis carries nothing (bus.ready)", Arc::clone(&bus));
            needs.push((on, Box::new(move || carries.is_ready())));
            if let Some(authors) = authors {
                let listener = {
                    let bus = Arc::clone(&bus);
                    Arc::new(move |authors: &[PublicKey]| bus.hears(authors))
                };
                store = Arc::new(Feeds::new(store, authors, listener, &config.feeds, Arc::clone(&metrics)));
            }
            Some(Others { bus, seen })
        }
    };
    let bus: Option<Arc<dyn Bus>> = others.as_ref().map(|others| Arc::clone(&others.bus));
    let queue = Queue::new(&config.persister);
    let workers = Workers::here();
    let parts = persist::Parts {
        queue: Arc::clone(&queue),
        workers: workers.clone(),
        store: Arc::clone(&store),
        admission: Arc::clone(&admission),
        routers: routers.clone(),
        others,
        metrics: Arc::clone(&metrics),
        tracer: tracer.clone(),
    };
    let stuck = Duration::from_secs(config.general.stuck_seconds);
    needs.extend(progress(&queue, &store, stuck));
    metrics.before_scrapes(move |metrics| {
        let lost = &metrics.log_lost;
        lost.inc_by(log.count().saturating_sub(lost.get()));
    });
    watch(&metrics, &config, &queue, &store, &routers);
    if config.scylla.nodes.is_empty() {
        watch_disk(&metrics, config.general.data.clone());
    }
    let sweeps = Sweeps::from(&config.store);
    let persister_config = config.persister.clone();
    let arbiter = Arbiter::new();
    let persister = Persister::start_in_arbiter(&arbiter.handle(), move |_| {
        Persister::new(parts, persister_config, sweeps)
    });
    let connections =
        Connections::new(config.limits.max_connections, config.limits.max_connections_per_address);
    let shared = Arc::new(Shared {
        rates: Rates::new(config.rate.clone()),
        config,
        url,
        store: Arc::clone(&store),
        admission,
        queue,
        workers,
        metrics: Arc::clone(&metrics),
        tracer,
        clock: Steady::begin(),
    });
    let readiness = Readiness::new(needs);
    let operators = listeners.operators.local_addr().context("the operators' listener")?;
    let ops =
        serve_ops(listeners.operators, readiness.clone(), metrics).context("the operators' listener")?;
    let server =
        serve(listeners.clients, Arc::clone(&shared), routers.clone(), bus.clone(), Arc::clone(&connections))
            .context("the clients' listener")?;
    readiness.set(true);
    tell_start(&shared.config, server.address, operators);

    shutdown.await;

    let countdown = Countdown::start(Duration::from_secs(shared.config.general.drain_seconds));
    info!(connections = connections.open(), "shutting down");
    shared.metrics.draining.set(1);
    readiness.set(false);
    server.refuse();
    if timeout(countdown.until(Phase::Stored), persister.send(Flush)).await.is_err() {
        warn!("events were still waiting to be stored; their publishers have no OK");
    }
    if let Some(bus) = bus
        && timeout(countdown.until(Phase::Told), bus.leave()).await.is_err()
    {
        warn!("Redis is away: other nodes take it that this one has died");
    }
    let closed = async {
        for router in routers.all() {
            // A router that is gone has no sessions.
            let _ = router.send(Drain { spread: countdown.until(Phase::Asked) }).await;
        }
        while connections.open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(countdown.until(Phase::Closed), closed).await.is_err() {
        warn!(connections = connections.open(), "clients that did not close in time are cut off");
    }
    let left = async {
        // What came while the sockets were closed.
        let _ = persister.send(Flush).await;
        store.leave().await
    };
    match timeout(countdown.until(Phase::Left), left).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!("other nodes look for what this one has left: {}", error.detail()),
        Err(_) => warn!("the store did not answer in time: other nodes look for what this one has left"),
    }
    ops.stop(false).await;
    arbiter.stop();
    info!("stopped");
    Ok(countdown.end())
}

/// What a shutdown does, one after the other: all of it has one time, and each phase ends by its part of that,
/// whenever it began, and earlier if it can.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// What waits is stored.
    Stored,
    /// Other nodes know that this one leaves.
    Told,
    /// Sockets are asked to close.
    Asked,
    Closed,
    /// The store has nothing left for other nodes. What is over is for the last spans.
    Left,
}

struct Countdown {
    begun: Instant,
    whole: Duration,
}

impl Countdown {
    fn start(whole: Duration) -> Self {
        Self { begun: Instant::now(), whole }
    }

    /// How long a phase may take that begins now.
    fn until(&self, phase: Phase) -> Duration {
        self.left(phase, self.begun.elapsed())
    }

    fn left(&self, phase: Phase, spent: Duration) -> Duration {
        let sixteenths = match phase {
            Phase::Stored => 8,
            Phase::Told => 10,
            // Over half of the time at most, so that a shutdown with nothing to store is no longer for it.
            Phase::Asked => return self.left_of(12, spent).min(self.whole / 2),
            Phase::Closed => 14,
            Phase::Left => 15,
        };
        self.left_of(sixteenths, spent)
    }

    fn left_of(&self, sixteenths: u32, spent: Duration) -> Duration {
        (self.whole * sixteenths / 16).saturating_sub(spent)
    }

    /// By when the process has ended.
    fn end(&self) -> Instant {
        self.begun + self.whole
    }
}

/// Whether others than this machine may connect.
fn is_public(config: &Config) -> bool {
    !config.general.listen.ip().is_loopback() || !config.general.trusted_proxy.is_empty()
}

/// What a stranger must know: in words on a terminal, else for programs.
fn tell_start(config: &Config, address: SocketAddr, operators: SocketAddr) {
    let version = env!("CARGO_PKG_VERSION");
    let store = match &config.scylla.nodes[..] {
        [] => format!("LMDB in {}", config.general.data.display()),
        nodes => {
            let by = if config.scylla.tls { " by TLS" } else { "" };
            format!("CQL{by} at {}, keyspace {}", nodes.join(", "), config.scylla.keyspace)
        }
    };
    let bus = match config.without_secrets().general.redis {
        urls if urls.is_empty() => "none".to_owned(),
        urls => format!("Redis at {}", urls.join(", ")),
    };
    let url = if config.general.url.is_empty() { "none" } else { &config.general.url };
    if std::io::stderr().is_terminal() {
        eprintln!(
            "Rookery {version} listens at ws://{address} (operators: http://{operators}). Store: {store}; bus: {bus}; \
             URL: {url}. Ctrl-C ends it; in another terminal, try `rookery watch --relay ws://{address}`"
        );
    } else {
        info!(%address, %operators, version, store, bus, url, "listening");
    }
}

/// Who must get on, or the node is not ready: within so much time.
fn progress(queue: &Arc<Queue>, store: &Arc<dyn Store>, within: Duration) -> Vec<Need> {
    let (persister, batch) = (Arc::clone(queue), Arc::clone(queue));
    // Not to keep the store open.
    let store = Arc::downgrade(store);
    vec![
        ("the persister does nothing", Box::new(move || persister.silence() < within)),
        ("the store does not finish a batch", Box::new(move || batch.age_of_batch() < within)),
        (
            "a thread of the store does not get on",
            Box::new(move || store.upgrade().is_none_or(|store| store.load().stuck < within)),
        ),
    ]
}

/// Has those looked at who do not report by themselves.
fn watch(metrics: &Metrics, config: &Config, queue: &Arc<Queue>, store: &Arc<dyn Store>, routers: &Routers) {
    let window = config.session.window as f64;
    // Not to keep the store open.
    let (queue, store, routers) = (Arc::downgrade(queue), Arc::downgrade(store), routers.clone());
    metrics.before_scrapes(move |metrics| {
        let (Some(queue), Some(store)) = (queue.upgrade(), store.upgrade()) else { return };
        let load = store.load();
        let windows = metrics.connections.get().max(1) as f64 * window;
        for (name, ratio) in [
            (BoundedQueue::Persister, queue.fill()),
            (BoundedQueue::Router, routers.fill()),
            (BoundedQueue::SessionWindow, metrics.awaited.get() as f64 / windows),
            (BoundedQueue::Query, load.questions),
            (BoundedQueue::Statement, load.statements),
        ] {
            metrics.queue_fill.of(name).set(ratio);
        }
        if store.log().is_some() {
            metrics.clock_ahead.set(load.clock_ahead);
        }
        for (counter, count) in [
            (&metrics.store_statements, load.sent),
            (&metrics.store_retries, load.retries),
            (&metrics.store_rows, load.rows),
        ] {
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    });
}

/// Has the disk of the data folder looked at.
fn watch_disk(metrics: &Metrics, folder: PathBuf) {
    metrics.before_scrapes(move |metrics| {
        let Ok(disk) = statvfs(&folder) else { return };
        let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX);
        metrics.disk_free.set(bytes(disk.f_bavail));
        metrics.disk_size.set(bytes(disk.f_blocks));
    });
}

/// The embedded store, unless servers are named.
async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    match config.scylla.nodes.is_empty() {
        true => Ok(Arc::new(Lmdb::open(&config.general.data, &config.store, Access::Exclusive)?)),
        false => Ok(Arc::new(Scylla::open(&config.scylla, digests).await?)),
    }
}

/// The name of this node.
pub fn id(config: &Config) -> String {
    match config.general.node_id.as_str() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        id => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Phase; 5] = [Phase::Stored, Phase::Told, Phase::Asked, Phase::Closed, Phase::Left];

    #[test]
    fn a_shutdown_has_one_time_however_long_its_phases_take() {
        let countdown = Countdown::start(Duration::from_secs(16));
        // Each takes all that it may.
        let mut spent = Duration::ZERO;
        let ends = ALL.map(|phase| {
            // Sockets are waited for when they were asked.
            let is_waited_for = !matches!(phase, Phase::Asked);
            let left = countdown.left(phase, spent);
            spent += if is_waited_for { left } else { Duration::ZERO };
            (left.as_secs(), spent.as_secs())
        });
        assert_eq!(ends, [(8, 8), (2, 10), (2, 10), (4, 14), (1, 15)]);
        // None takes anything.
        let at_once = ALL.map(|phase| countdown.left(phase, Duration::ZERO).as_secs());
        assert_eq!(at_once, [8, 10, 8, 14, 15]);
        let too_late = ALL.map(|phase| countdown.left(phase, Duration::from_secs(20)));
        assert_eq!(too_late, [Duration::ZERO; 5]);
    }
}
