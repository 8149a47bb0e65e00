//! A node: wires the parts together, runs them, and shuts them down in order.

mod file;
mod live;
mod secrets;
mod services;
mod shared;
mod shutdown;
mod told;
mod watch;

use std::{
    future::Future,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, Arbiter};
use anyhow::Context;
use tokio::{sync::Notify, time::timeout};
use tracing::{info, warn};
use url::Url;

pub use self::{live::Reload, services::store_name};
use self::{
    live::SettingsKeeper,
    secrets::{keyring, token},
    services::{
        accounts, data_folder, listener, open_store, queue_servers, reciprocity, taps, teller, transport,
    },
    shared::SharedSettings,
    shutdown::{Countdown, ShutdownPhase},
    told::{is_public, tell_start},
    watch::{progress, watch, watch_disk},
};
use crate::{
    account::Accounts,
    aggregate::{self, Aggregator, RelayUrl},
    bus::{self, PubSub, RecordWatch},
    config::Config,
    feed::{self, Feed, Lists},
    ingest::{Admission, RecentIds},
    net::{Descriptors, Keeper, Need, People, Readiness, V1, page_url, serve, serve_ops},
    persist::{self, Flush, Others, Persister, Queue, Sweeps, Workers},
    route::{Drain, Routers, bus::Bus, seen::Seen},
    session::{Connections, Rates, Room, SessionParts},
    store::{Store, records::RecordKind, secrets::Secrets},
    telemetry::{LostLines, Metrics},
    trace::Tracer,
};

/// The sockets that a node listens on, bound by whoever starts it.
pub struct Listeners {
    /// `None`: it serves none.
    pub clients: Option<TcpListener>,
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
        let clients = Some(listen(config.general.listen, "--listen")?);
        Ok(Self { clients, ..Self::bind_for_operators(config)? })
    }

    /// The same, without that for clients.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_for_operators(config: &Config) -> anyhow::Result<Self> {
        Ok(Self { clients: None, operators: listen(config.general.ops_listen, "--ops-listen")? })
    }
}

fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
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
    if url.is_none() && listeners.clients.is_some() && is_public(&config) {
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
    let queue = Queue::new(&config.persister);
    let changed = Arc::new(Notify::new());
    let keyring = Arc::new(keyring(&config));
    let accounts = accounts(&config, &store, &keyring, &metrics).await?;
    let mut needs: Vec<Need> = Vec::new();
    let (lists, told) = Lists::new();
    let taps = taps(&config, &store, &metrics, accounts.is_some().then_some(lists));
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
                records: record_watch(&changed, accounts.as_ref()),
                hot_authors: NonZeroUsize::new(config.persister.hot_authors).unwrap_or(NonZeroUsize::MIN),
                clock_tolerance: Duration::from_secs(config.scylla.clock_tolerance_seconds),
                waits: Arc::clone(queue.waits()),
                metrics: Arc::clone(&metrics),
                tracer: tracer.clone(),
            };
            let bus: Arc<dyn Bus> = Arc::new(PubSub::start(transport, &config.bus, parts).await?);
            let (on, carries) = ("the bus carries nothing (bus.ready)", Arc::clone(&bus));
            needs.push((on, Box::new(move || carries.is_ready())));
            taps.listen(&listener(&bus));
            if let Some(accounts) = &accounts {
                accounts.tell_by(teller(&bus));
            }
            Some(Others { bus, seen })
        }
    };
    let store = taps.on(store);
    let bus: Option<Arc<dyn Bus>> = others.as_ref().map(|others| Arc::clone(&others.bus));
    let mut neighbours =
        live::Neighbours { shared: SharedSettings::new(Arc::clone(&store)), bus: bus.clone(), changed };
    keeper.begin(&mut neighbours).await?;
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
    let upstreams = aggregate::relays("aggregator.upstreams", &config.aggregator.upstreams)?;
    let parts = aggregate::AggregatorParts {
        events: Arc::clone(&queue),
        store: Arc::clone(&store),
        admission: Arc::clone(&admission),
        live: Arc::clone(&live),
        metrics: Arc::clone(&metrics),
        tracer: tracer.clone(),
        own: listeners
            .clients
            .iter()
            .chain([&listeners.operators])
            .filter_map(|own| own.local_addr().ok())
            .collect(),
        keyring: Arc::clone(&keyring),
        servers: queue_servers(&config)?,
        node: node_id,
        follow: config.follow.clone(),
        indexers: aggregate::relays("follow.indexers", &config.follow.indexers)?,
        own_url: url.as_ref().and_then(|url| RelayUrl::parse(url.as_str()).ok()),
        blame: data_folder(&config).map(|folder| folder.join("upstreams.blamed")),
    };
    let aggregator = Aggregator::start(upstreams, &config.aggregator, parts);
    let connections = Arc::new(Connections::default());
    let shared = Arc::new(SessionParts {
        rates: Rates::new(config.rate.max_addresses),
        reconciliations: Room::new(&config.sync, &metrics),
        reciprocity: reciprocity(accounts.as_ref()),
        listener: bus.as_ref().map(listener),
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
        accounts: accounts.clone(),
    });
    let keeper_of_accounts =
        Keeper { accounts: accounts.clone(), pages: pages(&config, listeners.clients.as_ref())? };
    let warming = |bus| feed::Warming::new(bus, config.bus.patience());
    let feed = accounts.clone().map(|accounts| {
        let parts = feed::Parts {
            accounts,
            store: Arc::clone(&store),
            events: Arc::clone(&shared.queue),
            admission: Arc::clone(&shared.admission),
            live: Arc::clone(&shared.live),
            metrics: Arc::clone(&metrics),
            tracer: shared.tracer.clone(),
            deadline: config.persister.deadline(),
            url: shared.url.as_ref().map(Url::to_string),
            bounds: feed::Bounds {
                changes_per_minute: config.accounts.follow_changes_per_minute,
                versions: config.accounts.follow_versions,
            },
            warming: bus.clone().filter(|_| config.feeds.of_node(true).bytes() > 0).map(warming),
        };
        Feed::start(parts, told)
    });
    let people = accounts.zip(feed).filter(|_| config.accounts.enabled).map(|(accounts, feed)| People {
        accounts,
        feed,
        following: aggregator.following(),
        url: shared.url.clone(),
        trusted_proxy: config.general.trusted_proxy.clone(),
        form_failed: None,
    });
    let readiness = Readiness::new(needs);
    let operators = listeners.operators.local_addr().context("the operators' listener")?;
    let v1 = V1 {
        settings: asks,
        upstreams: aggregator.upstreams(),
        following: aggregator.following(),
        accounts: keeper_of_accounts,
        secrets: Arc::new(Secrets::new(Arc::clone(&store), keyring)),
        token: token(&config)?,
    };
    let ops =
        serve_ops(listeners.operators, readiness.clone(), metrics, v1).context("the operators' listener")?;
    let serve = |clients| {
        let (shared, connections) = (Arc::clone(&shared), Arc::clone(&connections));
        serve(clients, &config, shared, routers.clone(), bus.clone(), connections, people)
            .context("the clients' listener")
    };
    let server = listeners.clients.map(serve).transpose()?;
    let keeper = actix::spawn(keeper.run(neighbours));
    readiness.set(true);
    tell_start(&config, server.as_ref().map(|server| server.address), operators);

    shutdown.await;

    let countdown = Countdown::start(Duration::from_secs(config.general.drain_seconds));
    keeper.abort();
    aggregator.stop().await;
    info!(connections = connections.open(), "shutting down");
    shared.metrics.draining.set(1);
    readiness.set(false);
    if let Some(server) = &server {
        server.refuse();
    }
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

/// Where the relay's pages are, for links.
fn pages(config: &Config, clients: Option<&TcpListener>) -> anyhow::Result<Url> {
    let url = match (config.relay_url()?.as_ref().and_then(page_url), clients) {
        (Some(url), _) => url.into(),
        (None, Some(clients)) => {
            format!("http://{}", clients.local_addr().context("the clients' listener")?)
        }
        (None, None) => format!("http://{}", config.general.listen),
    };
    Ok(Url::parse(&(url.trim_end_matches('/').to_owned() + "/"))?)
}

/// Who is told when another node may have changed a record.
fn record_watch(settings: &Arc<Notify>, accounts: Option<&Accounts>) -> RecordWatch {
    let (settings, accounts) = (Arc::clone(settings), accounts.cloned());
    Arc::new(move |changed| {
        let kind = changed.and_then(|(kind, _)| RecordKind::named(kind));
        if changed.is_none() || kind == Some(RecordKind::Setting) {
            settings.notify_one();
        }
        match (&accounts, changed.zip(kind)) {
            (Some(accounts), Some(((_, key), kind))) => accounts.changed(kind, key),
            (Some(accounts), None) if changed.is_none() => accounts.changed_all(),
            _ => {}
        }
    })
}

/// The name of this node.
pub fn id(config: &Config) -> String {
    match config.general.node_id.as_str() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        id => id.to_owned(),
    }
}
