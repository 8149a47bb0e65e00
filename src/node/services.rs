//! What a node stands on, by its configuration: which store it keeps events in, who is told of them, and what carries
//! its bus. No other part of it names one of them.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tracing::{info, warn};

use crate::{
    account::{self, Accounts},
    bus::{
        redis::{Redis, Servers},
        transport::Transport,
    },
    config::{Config, QueueKind, SignUp},
    feed::Lists,
    route::{
        bus::{Bus, Changed},
        key::digests,
    },
    seal::Keyring,
    store::{
        Store,
        circle::{NobodyShares, Reciprocity},
        home::Home,
        lmdb::{Access, Lmdb},
        scylla::Scylla,
        tap::{Listener, Tap, Taps},
    },
    telemetry::Metrics,
};

/// Opens the cluster store where its servers are named, and else the embedded one.
pub async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    match data_folder(config) {
        Some(folder) => Ok(Arc::new(Lmdb::open(folder, &config.lmdb, Access::Exclusive)?)),
        None => Ok(Arc::new(Scylla::open(&config.scylla, digests).await?)),
    }
}

/// Where the store is, if it is on this machine.
pub fn data_folder(config: &Config) -> Option<&Path> {
    config.scylla.nodes.is_empty().then_some(&*config.general.data)
}

/// The store by its name in traces.
pub fn store_name(config: &Config) -> &'static str {
    if data_folder(config).is_some() { "lmdb" } else { "cassandra" }
}

/// The store in words.
pub fn store_in_words(config: &Config) -> String {
    match data_folder(config) {
        Some(folder) => format!("LMDB in {}", folder.display()),
        None => {
            let by = if config.scylla.tls { " by TLS" } else { "" };
            let nodes = config.scylla.nodes.join(", ");
            format!("CQL{by} at {nodes}, keyspace {}", config.scylla.keyspace)
        }
    }
}

/// What carries messages between nodes; a node alone has nothing.
///
/// # Errors
/// The addresses are none.
pub fn transport(config: &Config) -> anyhow::Result<Option<Box<dyn Transport>>> {
    match &config.general.redis[..] {
        [] => Ok(None),
        urls => Ok(Some(Box::new(Redis::new(urls, &config.bus)?))),
    }
}

/// Redis, where events of other relays wait there.
pub fn queue_servers(config: &Config) -> anyhow::Result<Option<Arc<Servers>>> {
    let patience = Duration::from_millis(config.bus.timeout_ms);
    match config.aggregator.queue {
        QueueKind::Memory => Ok(None),
        QueueKind::Redis => {
            let servers = Servers::new(&config.general.redis, &config.bus.prefix, patience)?;
            Ok(Some(Arc::new(servers)))
        }
    }
}

/// That in words, without secrets.
pub fn transport_in_words(config: &Config) -> String {
    match config.without_secrets().general.redis {
        urls if urls.is_empty() => "none".to_owned(),
        urls => format!("Redis at {}", urls.join(", ")),
    }
}

/// Who is told of what is stored.
pub fn taps(config: &Config, store: &Arc<dyn Store>, metrics: &Arc<Metrics>, lists: Option<Lists>) -> Taps {
    // Where there is a log, all nodes share the store.
    let feeds = config.feeds.of_node(lists.is_some());
    let home = (feeds.bytes() > 0 && store.log().is_some()).then(|| -> Arc<dyn Tap> {
        let (store, metrics) = (Arc::clone(store), Arc::clone(metrics));
        Arc::new(Home::new(store, feeds, config.bus.patience(), metrics))
    });
    let lists = lists.map(|lists| Arc::new(lists) as Arc<dyn Tap>);
    home.into_iter().chain(lists).collect()
}

/// The accounts, where there are any: the master key has to be at hand, and not in the folder of what it protects. A node
/// of a cluster that is given the key takes tokens, whether accounts are enabled there or not.
///
/// # Errors
/// The key is named and is none, accounts of the store are sealed under another one, or the store does not answer.
pub async fn accounts(
    config: &Config,
    store: &Arc<dyn Store>,
    keyring: &Keyring,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<Accounts>> {
    let (folder, is_named) = (data_folder(config), !config.general.master_key_file.as_os_str().is_empty());
    // A node of a cluster may carry the sockets of accounts and be asked for nothing else.
    let carries_sockets = folder.is_none() && is_named;
    if !config.accounts.enabled && !carries_sockets {
        return Ok(None);
    }
    if folder.is_none() && !is_named {
        info!("there are no accounts: master_key_file names no key that the nodes share");
        return Ok(None);
    }
    if let Some(file) = keyring.file()
        && folder.is_some_and(|folder| is_within(file, folder))
    {
        let file = file.display();
        warn!("there are no accounts: the master key {file} would be in the folder of what it protects");
        return Ok(None);
    }
    let is_there = keyring.file().is_some_and(Path::exists);
    let master = match keyring.keys(folder.is_some()) {
        Ok(keys) => keys,
        Err(error) if is_named => return Err(error.context("master_key_file, which accounts need")),
        Err(error) => {
            warn!("there are no accounts: {error:#}; master_key_file names another place for it");
            return Ok(None);
        }
    };
    if let Some(file) = keyring.file().filter(|_| !is_there) {
        info!(
            "the master key is made: {}; whoever loses it loses the accounts of this relay",
            file.display()
        );
    }
    let url = config.relay_url()?;
    let parts = account::Parts {
        store: Arc::clone(store),
        master,
        open: who_may_sign_up(config),
        config: config.accounts.clone(),
        url: url.map(Into::into),
        relay: config.info.name.clone(),
        metrics: Arc::clone(metrics),
    };
    Accounts::open(parts).await.map(Some).context("accounts")
}

/// Whether a file is in a folder, whatever they are called.
fn is_within(file: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let Ok(file) = std::path::absolute(file) else { return false };
    let above = file.ancestors().skip(1).find_map(|above| above.canonicalize().ok());
    above.is_some_and(|above| above.starts_with(folder))
}

/// On one's own machine whoever reaches the relay may sign up, and elsewhere whoever was invited.
fn who_may_sign_up(config: &Config) -> SignUp {
    let is_here = |url: &url::Url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let url = config.relay_url().ok().flatten();
    let is_own = config.general.listen.ip().is_loopback() && url.is_none_or(|url| is_here(&url));
    match config.accounts.open {
        SignUp::Auto if is_own => SignUp::Everybody,
        SignUp::Auto => SignUp::Invitation,
        open => open,
    }
}

/// Who lets others see what they do: nobody where there are no accounts.
pub fn reciprocity(accounts: Option<&Accounts>) -> Arc<dyn Reciprocity> {
    match accounts {
        Some(accounts) => Arc::new(accounts.clone()),
        None => Arc::new(NobodyShares),
    }
}

/// How accounts tell other nodes of changes.
pub fn teller(bus: &Arc<dyn Bus>) -> account::Teller {
    let bus = Arc::downgrade(bus);
    Box::new(move |kind, key, version| {
        if let Some(bus) = bus.upgrade() {
            bus.changed(Changed { kind, key, version });
        }
    })
}

/// How the bus hears authors. It knows the taps, so they do not keep it; without it nobody is heard.
pub fn listener(bus: &Arc<dyn Bus>) -> Listener {
    let bus = Arc::downgrade(bus);
    Arc::new(move |authors| match bus.upgrade() {
        Some(bus) => bus.hears(authors),
        None => vec![None; authors.len()],
    })
}
