//! What a node stands on, by its configuration: which store it keeps events in, who is told of them, and what carries
//! its bus. No other part of it names one of them.

use std::{path::Path, sync::Arc};

use crate::{
    bus::{redis::Redis, transport::Transport},
    config::Config,
    route::{bus::Bus, key::digests},
    store::{
        Store,
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

/// That in words, without secrets.
pub fn transport_in_words(config: &Config) -> String {
    match config.without_secrets().general.redis {
        urls if urls.is_empty() => "none".to_owned(),
        urls => format!("Redis at {}", urls.join(", ")),
    }
}

/// Who is told of what is stored.
pub fn taps(config: &Config, store: &Arc<dyn Store>, metrics: &Arc<Metrics>) -> Taps {
    // Where there is a log, all nodes share the store.
    let home = (config.feeds.max_bytes > 0 && store.log().is_some()).then(|| -> Arc<dyn Tap> {
        let (store, metrics) = (Arc::clone(store), Arc::clone(metrics));
        Arc::new(Home::new(store, config.feeds.clone(), config.bus.patience(), metrics))
    });
    home.into_iter().collect()
}

/// How the bus hears authors. It knows the taps, so they do not keep it; without it nobody is heard.
pub fn listener(bus: &Arc<dyn Bus>) -> Listener {
    let bus = Arc::downgrade(bus);
    Arc::new(move |authors| match bus.upgrade() {
        Some(bus) => bus.hears(authors),
        None => vec![None; authors.len()],
    })
}
