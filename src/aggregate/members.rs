//! Who is there to read upstreams, or to take from the queue: processes whose beats come, and what each of them has.
//!
//! Beats are in Redis, by its clock. Without it nobody takes anything over, and nobody gives anything up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use redis::{RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::bus::redis::{Partition, Servers};

/// The partition that has the beats.
const BEATS: Partition = 0;
/// Beats that fail to come until a process is taken for gone.
const FAIL: u32 = 3;

/// `KEYS`: beats by name, and since when there are any without a break. `ARGV`: name, milliseconds until one is gone.
/// Answers with those who are there, and for how many milliseconds there have been beats.
const BEAT: &str = "\
#!lua flags=allow-oom
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('SET', KEYS[2], now, 'NX')
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if newest[2] and now - newest[2] > tonumber(ARGV[2]) then redis.call('SET', KEYS[2], now) end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - ARGV[2]))
return {redis.call('ZRANGE', KEYS[1], 0, -1), now - redis.call('GET', KEYS[2])}";

/// Who is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct View {
    me: String,
    names: Vec<String>,
}

impl View {
    /// Whether something is this process's, by its number: each has what it draws the highest lot for.
    pub fn is_mine(&self, number: u64) -> bool {
        let lot = |name: &&String| xxh3_64_with_seed(name.as_bytes(), number);
        self.names.iter().max_by_key(lot).is_some_and(|name| *name == self.me)
    }

    pub fn is_alive(&self, name: &str) -> bool {
        self.names.iter().any(|other| other == name)
    }
}

/// The processes of a role.
pub struct Members {
    servers: Arc<Servers>,
    role: &'static str,
    name: String,
    gone: Duration,
    view: watch::Sender<Arc<View>>,
    has_left: AtomicBool,
}

impl Members {
    /// Beats from now on, in the runtime of the caller. `role` tells those apart who share different things.
    pub fn join(servers: Arc<Servers>, role: &'static str, node: &str, beat: Duration) -> Arc<Self> {
        // A process is another one each time that it is started.
        let name = format!("{node}-{:08x}", rand::random::<u32>());
        let (view, has_left) = (watch::Sender::default(), AtomicBool::new(false));
        let members = Arc::new(Self { servers, role, name, gone: beat * FAIL, view, has_left });
        tokio::spawn(Arc::clone(&members).beats(beat));
        members
    }

    /// Others need not wait until it is gone.
    pub async fn leave(&self) {
        self.has_left.store(true, Relaxed);
        // Nothing is this process's any more.
        self.view.send_replace(Arc::default());
        let left = async {
            let mut connection = self.servers.connect(BEATS).await?;
            let (key, _) = self.keys();
            let left: RedisResult<()> =
                redis::cmd("ZREM").arg(key).arg(&self.name).query_async(&mut connection).await;
            anyhow::Ok(left?)
        };
        // Else they wait.
        let _ = timeout(self.servers.patience(), left).await;
    }

    /// The beats, and since when there are any.
    fn keys(&self) -> (String, String) {
        let key = |what: &str| self.servers.key(BEATS, what);
        (key(self.role), key(&format!("{}-since", self.role)))
    }

    /// This process, among them.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Without beats for so long, a process is gone.
    pub fn gone(&self) -> Duration {
        self.gone
    }

    /// Who is there, as far as was heard.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Hears of changes.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Waits until it is so.
    pub async fn until(&self, is_so: impl Fn(&View) -> bool) {
        // It is never closed while this is.
        drop(self.view.subscribe().wait_for(|view| is_so(view)).await);
    }

    async fn beats(self: Arc<Self>, every: Duration) {
        let (mut connection, mut is_told) = (None, false);
        let mut beats = interval(every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.has_left.load(Relaxed) {
            beats.tick().await;
            match timeout(self.servers.patience(), self.beat(&mut connection)).await {
                Ok(Ok((names, age))) => {
                    is_told = false;
                    self.note(names, age);
                }
                failed => {
                    connection = None;
                    let error = match failed {
                        Ok(Err(error)) => format!("{error:#}"),
                        _ => "no answer in time".to_owned(),
                    };
                    if !std::mem::replace(&mut is_told, true) {
                        let role = self.role;
                        warn!("the {role} do not hear of each other, so nothing changes hands: {error}");
                    }
                }
            }
        }
    }

    /// Says that it is there: who is, and for how long there have been beats.
    async fn beat(
        &self,
        connection: &mut Option<MultiplexedConnection>,
    ) -> anyhow::Result<(Vec<String>, Duration)> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.servers.connect(BEATS).await?),
        };
        let (beats, since) = self.keys();
        let (names, age): (Vec<String>, u64) = redis::cmd("EVAL")
            .arg(BEAT)
            .arg(2)
            .arg(beats)
            .arg(since)
            .arg(&self.name)
            .arg(self.gone.as_millis() as u64)
            .query_async(connection)
            .await?;
        Ok((names, Duration::from_millis(age)))
    }

    /// Those are there. Not believed before all who are there have had the time to say so: Redis may have started anew.
    fn note(&self, mut names: Vec<String>, age: Duration) {
        if age < self.gone {
            return;
        }
        names.sort_unstable();
        self.view.send_if_modified(|view| {
            let is_new = view.names != names;
            if is_new {
                info!(members = names.len(), "these are the {}: {}", self.role, names.join(", "));
                *view = Arc::new(View { me: self.name.clone(), names });
            }
            is_new
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(me: &str, names: &[String]) -> View {
        View { me: me.to_owned(), names: names.to_vec() }
    }

    #[test]
    fn each_number_is_one_members_and_few_change_hands() {
        let names: Vec<String> = (0..4).map(|n| format!("node-{n}")).collect();
        let owner = |names: &[String], number| {
            let owners: Vec<_> = names.iter().filter(|name| view(name, names).is_mine(number)).collect();
            assert_eq!(owners.len(), 1);
            owners[0].clone()
        };
        let before: Vec<_> = (0..1_000).map(|number| owner(&names, number)).collect();
        for name in &names {
            let count = before.iter().filter(|owner| *owner == name).count();
            assert!((150..350).contains(&count), "{count}");
        }
        // What the one had that is gone is others', and nothing else.
        for (number, was) in before.iter().enumerate() {
            if *was != names[3] {
                assert_eq!(owner(&names[..3], number as u64), *was);
            }
        }
        assert!(!view("stranger", &names).is_mine(1) && !View::default().is_mine(1));
    }
}
