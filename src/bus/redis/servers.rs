//! The servers for what is no publish and subscribe: a connection to whichever has a partition.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{ConnectionInfo, PushInfo, aio::MultiplexedConnection};
use tokio::sync::{Mutex, mpsc};

use super::{
    names::{self, Partition},
    topology::{self, Topology},
};

/// For so long it is believed which server has what: those who lost their connections together ask once.
const BELIEVED: Duration = Duration::from_secs(1);

/// One server, or the primaries of a Redis Cluster.
pub struct Servers {
    seeds: Vec<ConnectionInfo>,
    prefix: String,
    patience: Duration,
    known: Mutex<Option<(Instant, Arc<Topology>)>>,
}

impl Servers {
    /// `prefix`: of all names. `patience`: for any answer.
    ///
    /// # Errors
    /// Names the URL that is not one. Never shows it: it may hold a password.
    pub fn new(urls: &[String], prefix: &str, patience: Duration) -> anyhow::Result<Self> {
        let (seeds, prefix) = (topology::parse(urls)?, prefix.to_owned());
        Ok(Self { seeds, prefix, patience, known: Mutex::default() })
    }

    /// For how long any answer is awaited.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The key of something in a partition.
    pub fn key(&self, partition: Partition, what: &str) -> String {
        names::control(&self.prefix, partition, what)
    }

    /// A new connection to the server that has a partition.
    ///
    /// # Errors
    /// No server answers in time, or none has it.
    pub async fn connect(&self, partition: Partition) -> anyhow::Result<MultiplexedConnection> {
        let topology = self.topology().await?;
        topology.primary(partition)?.connect(self.patience, None::<mpsc::UnboundedSender<PushInfo>>).await
    }

    async fn topology(&self) -> anyhow::Result<Arc<Topology>> {
        let mut known = self.known.lock().await;
        if let Some((at, topology)) = &*known
            && at.elapsed() < BELIEVED
        {
            return Ok(Arc::clone(topology));
        }
        let topology = Arc::new(Topology::discover(&self.seeds, &self.prefix, self.patience).await?);
        *known = Some((Instant::now(), Arc::clone(&topology)));
        Ok(topology)
    }
}
