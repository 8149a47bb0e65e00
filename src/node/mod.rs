//! A node: wires the parts together, runs them, and shuts them down in order.

mod file;
mod live;
mod services;
mod shared;
mod shutdown;
mod told;
mod watch;

use std::{
    future::Future,
    net::TcpListener,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, Arbiter};
use anyhow::Context;
use tokio::{sync::Notify, time::timeout};
use tracing::{info, warn};

pub use self::{live::Reload, services::store_name};
use self::{
    live::SettingsKeeper,
    services::{data_folder, listener, open_store, taps, transport},
    shared::SharedSettings,
    shutdown::{Countdown, ShutdownPhase},
    told::{is_public, tell_start},
    watch::{progress, watch, watch_disk},
};
use crate::{
    aggregate::{self, Aggregator},
    bus::{self, PubSub},
    config::Config,
    ingest::{Admission, RecentIds},
    net::{Descriptors, Need, Readiness, Token, V1, serve, serve_ops},
    persist::{self, Flush, Others, Persister, Queue, Sweeps, Workers},
    route::{Drain, Routers, bus::Bus, seen::Seen},
    seal::{Keyring, MasterKey},
    session::{Connections, Rates, Room, SessionParts},
    store::Store,
    telemetry::{LostLines, Metrics},
    trace::Tracer,
};

/// The sockets that a node listens on, bound by whoever starts it.
pub struct Listeners {
    pub clients: TcpListener,
    pub operators: TcpListener,
}

/// What the process gives a node: its sockets, its tracer, its log, and where its settings come from.
pub struct Outside {
    pub listeners: Listeners,
    pub descriptors: Descriptors,
    pub tracer: Tracer,
    pub log: LostLines,
    /// Where settings come from, to be read again while the node runs; `None`: they come from no file and no flag.
    pub reload: Option<Reload>,
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

/// Runs a node until `shutdown` resolves. Must be called in an actix system. Returns the moment by which the process is
/// to have ended.
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
    store: Arc<dyn Store>,
    config: Config,
    outside: Outside,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<Instant> {
    let Outside { listeners, descriptors, tracer, log, reload } = outside;
    let node_id = id(&config);
    let metrics = Arc::new(Metrics::new(&node_id));
    let (mut keeper, asks) = SettingsKeeper::new(&config, reload, descriptors.sockets)?;
    let live = keeper.live();
    info!(
        node = node_id,
        file_descriptors = descriptors.limit,
        max_connections = live.load().limits.max_connections,
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
        url.clone(),
        RecentIds::new(config.persister.recent_ids),
        config.persister.hot_authors,
    ));
    let routers = Routers::default();
    let changed = Arc::new(Notify::new());
    let mut needs: Vec<Need> = Vec::new();
    let taps = taps(&config, &store, &metrics);
    let others = match transport(&config)? {
        None => None,
        Some(transport) => {
            let seen = Arc::new(Seen::new(config.bus.seen_ids));
            let parts = bus::BusParts {
                routers: routers.clone(),
                seen: Arc::clone(&seen),
                store: Arc::clone(&store),
                log: store.log(),
                taps: taps.clone(),
                records: Arc::clone(&changed),
                hot_authors: NonZeroUsize::new(config.persister.hot_authors).unwrap_or(NonZeroUsize::MIN),
                clock_tolerance: Duration::from_secs(config.scylla.clock_tolerance_seconds),
                metrics: Arc::clone(&metrics),
                tracer: tracer.clone(),
            };
            let bus: Arc<dyn Bus> = Arc::new(PubSub::start(transport, &config.bus, parts).await?);
            let (on, carries) = ("the bus carries nothing (bus.ready)", Arc::clone(&bus));
            needs.push((on, Box::new(move || carries.is_ready())));
            taps.listen(&listener(&bus));
            Some(Others { bus, seen })
        }
    };
    let store = taps.on(store);
    let bus: Option<Arc<dyn Bus>> = others.as_ref().map(|others| Arc::clone(&others.bus));
    let mut neighbours =
        live::Neighbours { shared: SharedSettings::new(Arc::clone(&store)), bus: bus.clone(), changed };
    keeper.begin(&mut neighbours).await?;
    let queue = Queue::new(&config.persister);
    let workers = Workers::here();
    let parts = persist::PersisterParts {
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
    if let Some(folder) = data_folder(&config) {
        watch_disk(&metrics, folder.to_owned());
    }
    let sweeps = Sweeps::from(&config.store);
    let persister_config = config.persister.clone();
    let arbiter = Arbiter::new();
    let persister = Persister::start_in_arbiter(&arbiter.handle(), move |_| {
        Persister::new(parts, persister_config, sweeps)
    });
    let upstreams = aggregate::upstreams(&config.aggregator)?;
    let parts = aggregate::Parts {
        events: Arc::clone(&queue),
        store: Arc::clone(&store),
        admission: Arc::clone(&admission),
        live: Arc::clone(&live),
        metrics: Arc::clone(&metrics),
        tracer: tracer.clone(),
        own: [&listeners.clients, &listeners.operators]
            .iter()
            .filter_map(|own| own.local_addr().ok())
            .collect(),
        keyring: keyring(&config),
        blame: data_folder(&config).map(|folder| folder.join("upstreams.blamed")),
    };
    let aggregator = Aggregator::start(upstreams, &config.aggregator, parts);
    let connections = Arc::new(Connections::default());
    let shared = Arc::new(SessionParts {
        rates: Rates::new(config.rate.max_addresses),
        reconciliations: Room::new(&config.sync, &metrics),
        live,
        max_sockets: descriptors.sockets,
        late: Duration::from_secs(config.bus.late_seconds),
        url,
        store: Arc::clone(&store),
        admission,
        queue,
        workers,
        metrics: Arc::clone(&metrics),
        tracer,
    });
    let readiness = Readiness::new(needs);
    let operators = listeners.operators.local_addr().context("the operators' listener")?;
    let v1 = V1 { settings: asks, upstreams: aggregator.upstreams(), token: token(&config)? };
    let ops =
        serve_ops(listeners.operators, readiness.clone(), metrics, v1).context("the operators' listener")?;
    let server = serve(
        listeners.clients,
        &config,
        Arc::clone(&shared),
        routers.clone(),
        bus.clone(),
        Arc::clone(&connections),
    )
    .context("the clients' listener")?;
    let keeper = actix::spawn(keeper.run(neighbours));
    readiness.set(true);
    tell_start(&config, server.address, operators);

    shutdown.await;

    let countdown = Countdown::start(Duration::from_secs(config.general.drain_seconds));
    keeper.abort();
    aggregator.stop();
    info!(connections = connections.open(), "shutting down");
    shared.metrics.draining.set(1);
    readiness.set(false);
    server.refuse();
    if timeout(countdown.until(ShutdownPhase::Stored), persister.send(Flush)).await.is_err() {
        warn!("events were still waiting to be stored, and may not be; nobody was told that they are");
    }
    if let Some(bus) = bus
        && timeout(countdown.until(ShutdownPhase::Told), bus.leave()).await.is_err()
    {
        warn!("the bus is away: other nodes take it that this one has died");
    }
    let closed = async {
        for router in routers.all() {
            // A router that is gone has no sessions.
            let _ = router.send(Drain { spread: countdown.until(ShutdownPhase::Asked) }).await;
        }
        while connections.open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(countdown.until(ShutdownPhase::Closed), closed).await.is_err() {
        warn!(connections = connections.open(), "clients that did not close in time are cut off");
    }
    let left = async {
        // What came while the sockets were closed.
        let _ = persister.send(Flush).await;
        store.leave().await
    };
    match timeout(countdown.until(ShutdownPhase::Left), left).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!("other nodes look for what this one has left: {}", error.detail()),
        Err(_) => warn!("the store did not answer in time: other nodes look for what this one has left"),
    }
    ops.stop(false).await;
    arbiter.stop();
    info!("stopped");
    Ok(countdown.end())
}

/// Where the key is that seals what is secret in the store. The nodes of a cluster are given theirs.
fn keyring(config: &Config) -> Keyring {
    let named = &config.general.master_key_file;
    let file = match named.as_os_str().is_empty() {
        true => MasterKey::default_file(|name| std::env::var(name).ok()),
        false => Some(named.clone()),
    };
    Keyring::new(file, data_folder(config).is_some())
}

/// What programs of operators have to show.
///
/// # Errors
/// It is named and can not be read, or can not be made.
fn token(config: &Config) -> anyhow::Result<Option<Arc<Token>>> {
    let named = &config.general.ops_token_file;
    let token = match data_folder(config) {
        _ if !named.as_os_str().is_empty() => Token::open(named, false),
        Some(folder) => Token::open(&Token::default_file(folder), true),
        None => return Ok(None),
    };
    Ok(Some(Arc::new(token.context("general.ops_token_file")?)))
}

/// The name of this node.
pub fn id(config: &Config) -> String {
    match config.general.node_id.as_str() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        id => id.to_owned(),
    }
}
