//! The faults: of nodes, of Redis, of CQL servers, and of the ways to them.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use tokio::time::sleep;

use super::{NODES, World, node::Node};
use crate::clocks::Clock;
use common::{
    cassandra::Servers,
    proxy::{Flow, Proxy},
    redis::{Redis, RedisCluster},
};

/// Of whatever else the cluster is made.
async fn harm_nodes(nodes: &mut [Node], world: &World, random: &mut StdRng) -> String {
    let victim = random.random_range(0..nodes.len());
    let pause = Duration::from_millis(random.random_range(100..5_000));
    match random.random_range(0..5) {
        0 | 1 => {
            nodes[victim].restart(pause / 4).await;
            format!("node {victim} killed")
        }
        2 => {
            // Longer than the others wait before they take it for dead.
            let pause = pause + Duration::from_secs(5);
            nodes[victim].freeze(pause).await;
            format!("node {victim} frozen for {pause:?}")
        }
        3 if Clock::is_there() => {
            // Further behind, and it would refuse what is new as of the future.
            let ahead = random.random_range(-600..7_200);
            nodes[victim].clock.set(ahead);
            sleep(pause).await;
            nodes[victim].clock.set(0);
            format!("the clock of node {victim} {ahead} s ahead for {pause:?}")
        }
        _ => world.flood(random).await,
    }
}

/// Does harm, and mends it. Says what it did.
pub(super) trait Mischief {
    async fn once(&mut self, nodes: &mut [Node], world: &World, random: &mut StdRng) -> String;
}

fn pick<T: Copy>(random: &mut StdRng, of: &[T]) -> T {
    of[random.random_range(0..of.len())]
}

/// One server of each kind, to which every node has its own ways.
pub(super) struct OneOfEach {
    redis: Redis,
    pub(super) store: Servers,
    pub(super) to_redis: Vec<Proxy>,
    pub(super) to_store: Vec<Proxy>,
}

impl OneOfEach {
    pub(super) async fn start() -> Self {
        let (redis, store) = (Redis::start(), Servers::start(1));
        let (mut to_redis, mut to_store) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            to_redis.push(Proxy::start(format!("127.0.0.1:{}", redis.port)).await);
            to_store.push(Proxy::start(store.addresses()).await);
        }
        Self { redis, store, to_redis, to_store }
    }
}

impl Mischief for OneOfEach {
    async fn once(&mut self, nodes: &mut [Node], world: &World, random: &mut StdRng) -> String {
        let victim = random.random_range(0..nodes.len());
        let pause = Duration::from_millis(random.random_range(100..5_000));
        match random.random_range(0..12) {
            0..4 => harm_nodes(nodes, world, random).await,
            4 => {
                self.redis.stop();
                sleep(pause).await;
                self.redis.start_again();
                format!("Redis restarted empty after {pause:?}")
            }
            5 => {
                self.redis.signal("STOP");
                sleep(pause).await;
                self.redis.signal("CONT");
                format!("Redis frozen for {pause:?}")
            }
            6 => {
                // Dies with what Redis did not take.
                self.redis.signal("STOP");
                sleep(pause / 4).await;
                nodes[victim].kill();
                self.redis.signal("CONT");
                nodes[victim].restart(Duration::ZERO).await;
                format!("node {victim} killed before a frozen Redis")
            }
            7 => hold(&self.to_redis[victim], victim, "Redis", Flow::Cut, pause).await,
            8 => {
                let flow = pick(random, &[Flow::HoldsAll, Flow::HoldsAnswers, Flow::HoldsRequests]);
                hold(&self.to_redis[victim], victim, "Redis", flow, pause).await
            }
            9 => {
                let flow = pick(random, &[Flow::Cut, Flow::HoldsAll, Flow::HoldsAnswers]);
                hold(&self.to_store[victim], victim, "the store", flow, pause).await
            }
            10 => {
                self.store.kill(1);
                sleep(pause).await;
                tokio::task::block_in_place(|| self.store.up(1));
                format!("the CQL server killed for {pause:?}")
            }
            _ => {
                self.to_store.iter().for_each(|way| way.set(Flow::Cut));
                sleep(pause).await;
                self.to_store.iter().for_each(|way| way.set(Flow::Open));
                format!("the store away for {pause:?}")
            }
        }
    }
}

async fn hold(way: &Proxy, node: usize, to: &str, flow: Flow, pause: Duration) -> String {
    way.set(flow);
    sleep(pause).await;
    way.set(Flow::Open);
    format!("node {node} to {to}: {flow:?} for {pause:?}")
}

/// A Redis Cluster and three CQL servers, of which one at a time may be gone.
pub(super) struct ThreeOfEach {
    pub(super) redis: RedisCluster,
    pub(super) store: Servers,
}

impl Mischief for ThreeOfEach {
    async fn once(&mut self, nodes: &mut [Node], world: &World, random: &mut StdRng) -> String {
        let victim = random.random_range(0..nodes.len());
        let server = random.random_range(1..=self.store.count);
        let pause = Duration::from_millis(random.random_range(1_000..8_000));
        match random.random_range(0..10) {
            0 | 8 | 9 => harm_nodes(nodes, world, random).await,
            kind @ (1 | 2) => {
                // Its replica takes over after a second, and it comes back as a replica.
                let number = self.redis.primary(random);
                let primary = self.redis.node(number);
                if kind == 1 {
                    primary.stop();
                    sleep(pause).await;
                    primary.start_again();
                } else {
                    primary.signal("STOP");
                    sleep(pause).await;
                    primary.signal("CONT");
                }
                self.redis.mended().await;
                format!("primary {number} of Redis {} for {pause:?}", ["killed", "frozen"][kind - 1])
            }
            3 => {
                // No replica has what the primary was sent last.
                let number = self.redis.primary(random);
                let primary = self.redis.node(number);
                primary.signal("STOP");
                sleep(pause / 8).await;
                primary.signal("CONT");
                primary.stop();
                nodes[victim].restart(pause).await;
                self.redis.start_stopped();
                self.redis.mended().await;
                format!("primary {number} of Redis and node {victim} killed together")
            }
            4 => {
                // It serves whoever is connected to it, while its replica takes over.
                let number = self.redis.primary(random);
                self.redis.isolate(number);
                sleep(pause).await;
                self.redis.join();
                self.redis.mended().await;
                format!("primary {number} of Redis isolated for {pause:?}")
            }
            5 => {
                // The replica takes over with what it had before.
                let number = self.redis.primary(random);
                let replica = self.redis.replica_of(number);
                self.redis.node(replica).signal("STOP");
                sleep(pause / 2).await;
                self.redis.node(number).stop();
                self.redis.node(replica).signal("CONT");
                sleep(pause / 2).await;
                self.redis.start_stopped();
                self.redis.mended().await;
                format!("primary {number} of Redis killed, {pause:?} after its replica was cut off")
            }
            6 => {
                self.store.kill(server);
                sleep(pause).await;
                tokio::task::block_in_place(|| self.store.up(server));
                format!("CQL server {server} killed for {pause:?}")
            }
            _ => {
                self.store.signal(server, "STOP");
                sleep(pause).await;
                self.store.signal(server, "CONT");
                format!("CQL server {server} frozen for {pause:?}")
            }
        }
    }
}
