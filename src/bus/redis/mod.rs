//! Redis as what carries the messages: sharded publish and subscribe (Redis 7), on one server or a Redis Cluster.

mod link;
pub mod names;
mod servers;
mod topology;

use std::time::Duration;

use ::redis::ConnectionInfo;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::mpsc;

use self::topology::Topology;
pub use self::{names::Partition, servers::Servers};
use super::transport::{Incoming, Link, Transport};
use crate::config;

/// The servers, and how they are spoken to.
pub struct Redis {
    seeds: Vec<ConnectionInfo>,
    config: config::Bus,
}

impl Redis {
    /// # Errors
    /// Names the URL that is not one. Never shows it: it may hold a password.
    pub fn new(urls: &[String], config: &config::Bus) -> anyhow::Result<Self> {
        Ok(Self { seeds: topology::parse(urls)?, config: config.clone() })
    }
}

impl Transport for Redis {
    fn name(&self) -> &'static str {
        "Redis"
    }

    fn connect(&self, incoming: mpsc::Sender<Incoming>) -> BoxFuture<'_, anyhow::Result<Box<dyn Link>>> {
        async move {
            let patience = Duration::from_millis(self.config.timeout_ms);
            let topology = Topology::discover(&self.seeds, &self.config.prefix, patience).await?;
            topology.warn_of_risks(patience).await?;
            let link = link::connect(&topology, &self.config, &incoming).await?;
            Ok(Box::new(link) as Box<dyn Link>)
        }
        .boxed()
    }
}
