//! What those have left who are gone.

use std::{collections::HashSet, time::Duration};

use anyhow::Context as _;
use redis::{RedisResult, Value, aio::MultiplexedConnection};

use super::{
    super::entry::{DEATHS, Element, GROUP},
    Source,
};
use crate::{aggregate::blame::at_work, protocol::ParsedEvent};

/// Entries that are looked at at once.
const LEFT: usize = 100;
/// After so long an entry is taken from one whose beats come.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// So many processes, beside the first, end at an entry before it is a dead letter without being looked at.
const DEATHS_BEFORE: u32 = 3;
const DEATHS_LAST: Duration = Duration::from_secs(86_400);

/// Counts a process that may end. Also where Redis has no memory left, as this goes before what gives some back.
const DIE: &str = "\
#!lua flags=allow-oom
local deaths = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return deaths";

impl Source {
    /// Takes what processes have taken that are gone, one entry after the other: one of them may be why they are gone.
    pub(super) async fn take_what_is_left(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> anyhow::Result<()> {
        let gone = self.members.gone();
        let view = self.members.view();
        let mut those_gone = HashSet::new();
        // One's own are among them where the store is slow.
        let mut from = "-".to_owned();
        let mut left = Vec::new();
        while left.len() < LEFT {
            let pending: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
                .arg(self.key())
                .arg(GROUP)
                .arg("IDLE")
                .arg(gone.as_millis() as u64)
                .arg(&from)
                .arg("+")
                .arg(LEFT)
                .query_async(connection)
                .await?;
            let is_last = pending.len() < LEFT;
            if let Some((last, ..)) = pending.last() {
                from = format!("({last}");
            }
            left.extend(pending.into_iter().filter(|(_, name, idle, _)| {
                let is_forgotten = Duration::from_millis(*idle) >= FORGOTTEN;
                name != self.members.name() && (!view.is_alive(name) || is_forgotten)
            }));
            if is_last {
                break;
            }
        }
        for (id, name, ..) in left {
            let claimed: Value = redis::cmd("XCLAIM")
                .arg(self.key())
                .arg(GROUP)
                .arg(self.members.name())
                .arg(gone.as_millis() as u64)
                .arg(&id)
                .query_async(connection)
                .await?;
            for element in Element::read_all(&claimed)? {
                self.metrics.upstream_queue_redelivered.inc();
                let is_deadly = !self.look_at(connection, &element).await?;
                self.hand_on(connection, &element, is_deadly).await?;
            }
            those_gone.insert(name);
        }
        for name in those_gone.iter().filter(|name| !view.is_alive(name)) {
            self.forget(connection, name).await?;
        }
        Ok(())
    }

    /// Looks at an entry as whoever stores it will, and notes that before and after; whether that may be done.
    async fn look_at(
        &self,
        connection: &mut MultiplexedConnection,
        element: &Element,
    ) -> anyhow::Result<bool> {
        let (key, id) = (self.servers.key(self.partition, DEATHS), element.id.to_string());
        let before: u32 = redis::cmd("EVAL")
            .arg(DIE)
            .arg(1)
            .arg(&key)
            .arg(&id)
            .arg(DEATHS_LAST.as_secs())
            .query_async(connection)
            .await?;
        if before > DEATHS_BEFORE {
            return Ok(false);
        }
        if let Ok(entry) = element.entry(self.partition) {
            at_work(entry.upstream, || {
                if let Ok(parsed) = serde_json::from_str::<ParsedEvent<'_>>(&entry.text) {
                    // What comes of it is found once more by whoever stores it.
                    drop(parsed.identify());
                }
            });
        }
        let noted: RedisResult<u64> = redis::cmd("HDEL").arg(&key).arg(&id).query_async(connection).await;
        Ok(noted.map(|_| true)?)
    }

    /// A name that has nothing any more, and does not come again.
    async fn forget(&self, connection: &mut MultiplexedConnection, name: &str) -> anyhow::Result<()> {
        let left: Vec<Value> = redis::cmd("XPENDING")
            .arg(self.key())
            .arg(GROUP)
            .arg("-")
            .arg("+")
            .arg(1)
            .arg(name)
            .query_async(connection)
            .await?;
        if left.is_empty() {
            let removed: RedisResult<u64> = redis::cmd("XGROUP")
                .arg("DELCONSUMER")
                .arg(self.key())
                .arg(GROUP)
                .arg(name)
                .query_async(connection)
                .await;
            removed.context("cannot remove a consumer")?;
        }
        Ok(())
    }
}
