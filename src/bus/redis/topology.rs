//! Which Redis server has which partition: one server, or the primaries of a Redis Cluster.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, bail};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    Value,
    aio::{AsyncPushSender, MultiplexedConnection},
    io::tcp::TcpSettings,
};
use tracing::warn;

use super::names::{PARTITIONS, Partition, control};

/// The primaries, and what each of them has.
#[derive(Debug)]
pub struct Topology {
    pub primaries: Vec<Primary>,
    is_cluster: bool,
}

/// One server that takes messages for some of the partitions.
#[derive(Debug)]
pub struct Primary {
    info: ConnectionInfo,
    pub partitions: Vec<Partition>,
}

/// Reads the addresses of a setting: URLs of any nodes, with credentials and TLS as they say.
///
/// # Errors
/// Names the URL that is not one. Never shows it: it may hold a password.
pub fn parse(urls: &[String]) -> anyhow::Result<Vec<ConnectionInfo>> {
    let parse = |(nth, url): (usize, &String)| {
        let info = url.as_str().into_connection_info();
        let info = info.with_context(|| format!("redis URL number {} is not valid", nth + 1))?;
        // Without a name, which takes a right of its own.
        let settings =
            info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        // A small message does not wait for the acknowledgement of the one before.
        let tcp = TcpSettings::default().set_nodelay(true);
        Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
    };
    urls.iter().enumerate().map(parse).collect()
}

impl Topology {
    /// Asks the servers one after the other, until one answers that is not cut off from its cluster.
    pub async fn discover(
        seeds: &[ConnectionInfo],
        prefix: &str,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let mut failed = None;
        for seed in seeds {
            match Self::ask(seed, prefix, patience).await {
                Ok(topology) => return Ok(topology),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => bail!("no Redis server is named"),
        }
    }

    async fn ask(seed: &ConnectionInfo, prefix: &str, patience: Duration) -> anyhow::Result<Self> {
        let mut connection = connect(seed, patience, None).await?;
        let all = (0..PARTITIONS).collect();
        let info: String = redis::cmd("INFO").arg("cluster").query_async(&mut connection).await?;
        if !info.contains("cluster_enabled:1") {
            let primaries = vec![Primary { info: seed.clone(), partitions: all }];
            return Ok(Self { primaries, is_cluster: false });
        }
        // One that is alone still names itself as primary of what others have taken over.
        let state: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await?;
        if !state.contains("cluster_state:ok") {
            bail!("the Redis Cluster is down, or a server is cut off from it");
        }
        let ranges: Vec<(u16, u16, Vec<Value>)> = slots(&mut connection).await?;
        let mut keyslots = redis::pipe();
        for partition in 0..PARTITIONS {
            keyslots.cmd("CLUSTER").arg("KEYSLOT").arg(control(prefix, partition, ""));
        }
        let keyslots: Vec<u16> = keyslots.query_async(&mut connection).await?;
        let mut primaries: Vec<Primary> = Vec::new();
        for (partition, slot) in (0..).zip(keyslots) {
            let Some((_, _, node)) = ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot))
            else {
                bail!("no Redis server has slot {slot}");
            };
            let info = address(seed, node)?;
            match primaries.iter_mut().find(|primary| primary.info.addr() == info.addr()) {
                Some(primary) => primary.partitions.push(partition),
                None => primaries.push(Primary { info, partitions: vec![partition] }),
            }
        }
        Ok(Self { primaries, is_cluster: true })
    }

    /// The one that has a partition.
    pub fn primary(&self, partition: Partition) -> anyhow::Result<&Primary> {
        let mut primaries = self.primaries.iter();
        primaries.find(|primary| primary.partitions.contains(&partition)).context("nobody has the partition")
    }

    /// Says in the log what is set in a way that loses messages.
    pub async fn warn_of_risks(&self, patience: Duration) -> anyhow::Result<()> {
        if self.is_cluster
            && let Some(primary) = self.primaries.first()
        {
            warn_of_risks(&mut connect(&primary.info, patience, None).await?).await;
        }
        Ok(())
    }
}

impl Primary {
    /// A connection to it. `pushes` takes what is not an answer.
    pub async fn connect(
        &self,
        patience: Duration,
        pushes: Option<impl AsyncPushSender>,
    ) -> anyhow::Result<MultiplexedConnection> {
        connect(&self.info, patience, pushes.map(|pushes| Box::new(pushes) as Box<dyn AsyncPushSender>)).await
    }
}

struct Pushes(Box<dyn AsyncPushSender>);

impl AsyncPushSender for Pushes {
    fn send(&self, info: redis::PushInfo) -> Result<(), redis::aio::SendError> {
        self.0.send(info)
    }
}

async fn connect(
    info: &ConnectionInfo,
    patience: Duration,
    pushes: Option<Box<dyn AsyncPushSender>>,
) -> anyhow::Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience));
    let config = match pushes {
        Some(pushes) => config.set_push_sender(Pushes(pushes)),
        None => config,
    };
    let client = Client::open(info.clone())?;
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

async fn slots(connection: &mut MultiplexedConnection) -> anyhow::Result<Vec<(u16, u16, Vec<Value>)>> {
    let rows: Vec<Vec<Value>> = redis::cmd("CLUSTER").arg("SLOTS").query_async(connection).await?;
    let read = |row: Vec<Value>| {
        let [first, last, primary, ..] = &row[..] else { bail!("CLUSTER SLOTS is not understood") };
        Ok((
            redis::from_redis_value_ref(first)?,
            redis::from_redis_value_ref(last)?,
            redis::from_redis_value_ref(primary)?,
        ))
    };
    rows.into_iter().map(read).collect()
}

/// The address of a node as the cluster names it, with the credentials and the TLS of the seed. A node
/// that does not know its own name is the one that was asked.
fn address(seed: &ConnectionInfo, node: &[Value]) -> anyhow::Result<ConnectionInfo> {
    let [host, port, ..] = node else { bail!("CLUSTER SLOTS is not understood") };
    let host: Option<String> = redis::from_redis_value_ref(host)?;
    let port: u16 = redis::from_redis_value_ref(port)?;
    let host = host.filter(|host| !host.is_empty());
    let addr = match (seed.addr(), host) {
        (ConnectionAddr::Tcp(own, _), host) => ConnectionAddr::Tcp(host.unwrap_or_else(|| own.clone()), port),
        (ConnectionAddr::TcpTls { host: own, insecure, tls_params, .. }, host) => ConnectionAddr::TcpTls {
            host: host.unwrap_or_else(|| own.clone()),
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => bail!("a Redis Cluster is reached by TCP"),
    };
    Ok(seed.clone().set_addr(addr))
}

/// A primary that is cut off from its cluster goes on serving subscribers unless it is told not to.
async fn warn_of_risks(connection: &mut MultiplexedConnection) {
    const SETTING: &str = "cluster-allow-pubsubshard-when-down";
    let settings: redis::RedisResult<HashMap<String, String>> =
        redis::cmd("CONFIG").arg("GET").arg(SETTING).query_async(connection).await;
    match settings.ok().and_then(|mut settings| settings.remove(SETTING)).as_deref() {
        Some("no") => {}
        Some(value) => {
            warn!("Redis has `{SETTING} {value}`: set it to `no`, so that a primary that is cut off says so");
        }
        None => warn!("Redis does not tell `{SETTING}`: make sure that it is `no`"),
    }
}
