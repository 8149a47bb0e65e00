//! A real Redis for tests.

use std::{
    collections::HashSet,
    net::{IpAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use rand::{Rng, RngExt};
use tempfile::TempDir;

use crate::{
    PATIENCE, eventually, free_port,
    proxy::{Flow, Proxy},
};

/// A running server; killed when dropped.
pub struct Redis {
    process: Child,
    pub port: u16,
    folder: TempDir,
    mode: Mode,
}

/// How clients reach it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    /// The same, and it writes down what is in it, once a second.
    Kept,
    /// By TLS, with a certificate of its own, and a password.
    Guarded,
    /// As a node of a Redis Cluster: its number there, its port for the others, and the one
    /// that they are told: a proxy.
    Clustered {
        number: usize,
        bus: u16,
        told: u16,
    },
}

const PASSWORD: &str = "a-password";

impl Redis {
    pub fn start() -> Self {
        Self::start_as(Mode::Plain)
    }

    /// With a file of what was written.
    pub fn start_kept() -> Self {
        Self::start_as(Mode::Kept)
    }

    /// With TLS and a password. Clients must trust [`Self::certificate`].
    pub fn start_guarded() -> Self {
        Self::start_as(Mode::Guarded)
    }

    fn start_as(mode: Mode) -> Self {
        let folder = TempDir::new().unwrap();
        if mode == Mode::Guarded {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
            std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        }
        Self::start_on(free_port(), folder, mode)
    }

    fn start_on(port: u16, folder: TempDir, mode: Mode) -> Self {
        let process = spawn(folder.path(), port, mode);
        let redis = Self { process, port, folder, mode };
        redis.wait();
        redis
    }

    pub fn url(&self) -> String {
        match self.mode {
            Mode::Plain | Mode::Kept | Mode::Clustered { .. } => format!("redis://127.0.0.1:{}", self.port),
            Mode::Guarded => format!("rediss://default:{PASSWORD}@localhost:{}", self.port),
        }
    }

    /// What a client must trust.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// Ends it at once; it keeps nothing, unless it writes down what is in it.
    pub fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it on the same port, with nothing in it but what it has written down.
    pub fn start_again(&mut self) {
        self.process = spawn(self.folder.path(), self.port, self.mode);
        self.wait();
    }

    /// What it has written down is lost.
    pub fn lose(&self) {
        // There is none at first.
        let _ = std::fs::remove_dir_all(self.folder.path().join("appendonlydir"));
    }

    /// Of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// `STOP` and `CONT` freeze it and let it go on.
    pub fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// With a user, who may do only this.
    pub fn url_as(&self, user: &str, rights: &[&str]) -> String {
        let password = ">user-password";
        let set = [&["acl", "setuser", user, "on", password, "resetchannels"], rights].concat();
        assert_eq!(self.ask(&set).trim(), "OK");
        format!("redis://{user}:user-password@127.0.0.1:{}", self.port)
    }

    /// What it answers to a command.
    pub fn ask(&self, command: &[&str]) -> String {
        let port = self.port.to_string();
        let answer = Command::new("redis-cli").args(["-p", &port]).args(command).output().unwrap();
        String::from_utf8(answer.stdout).unwrap()
    }

    fn wait(&self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "Redis does not start");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Three primaries with a replica each. What they say to each other goes through proxies.
pub struct RedisCluster {
    nodes: Vec<Redis>,
    /// The ways to the nodes.
    buses: Vec<Proxy>,
}

impl RedisCluster {
    pub const PRIMARIES: usize = 3;

    pub async fn start() -> Self {
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for number in 0..2 * Self::PRIMARIES {
            let port = free_port();
            let bus = free_port();
            let way = Proxy::start(format!("127.0.0.1:{bus}")).await;
            let mode = Mode::Clustered { number, bus, told: way.address.port() };
            nodes.push(Redis::start_on(port, TempDir::new().unwrap(), mode));
            buses.push(way);
        }
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "create"]);
        command.args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        command.args(["--cluster-replicas", "1", "--cluster-yes"]);
        // Not to be in the way of the proxies.
        let made = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(made.status.success(), "{made:?}");
        let cluster = Self { nodes, buses };
        cluster.mended().await;
        cluster
    }

    /// Some of its nodes, as an operator would name them.
    pub fn urls(&self) -> String {
        format!("{},{}", self.nodes[0].url(), self.nodes[2 * Self::PRIMARIES - 1].url())
    }

    /// Ends the first primary; its replica takes over in a second or two.
    pub fn kill_primary(&mut self) {
        self.nodes[0].stop();
    }

    /// Starts whatever has been stopped.
    pub fn start_stopped(&mut self) {
        for node in &mut self.nodes {
            if TcpStream::connect(("127.0.0.1", node.port)).is_err() {
                node.start_again();
            }
        }
    }

    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    pub fn node(&mut self, number: usize) -> &mut Redis {
        &mut self.nodes[number]
    }

    /// A node that is a primary now.
    pub fn primary(&self, random: &mut impl Rng) -> usize {
        let primaries: Vec<usize> = (0..self.nodes.len()).filter(|node| self.is_primary(*node)).collect();
        primaries[random.random_range(0..primaries.len())]
    }

    pub fn is_primary(&self, number: usize) -> bool {
        self.nodes[number].ask(&["role"]).starts_with("master")
    }

    /// The one that takes over when this primary dies.
    pub fn replica_of(&self, primary: usize) -> usize {
        let port = self.nodes[primary].port.to_string();
        let follows = |node: &Redis| {
            let role = node.ask(&["role"]);
            let mut lines = role.lines();
            lines.next() == Some("slave") && lines.nth(1) == Some(&port)
        };
        self.nodes.iter().position(follows).expect("every primary has a replica")
    }

    /// No other node hears of this one, nor it of them. Clients still reach it.
    pub fn isolate(&self, number: usize) {
        for (other, way) in self.buses.iter().enumerate() {
            match other == number {
                true => way.set(Flow::Cut),
                false => way.bar(HashSet::from([source(number)])),
            }
        }
    }

    /// All hear of each other again.
    pub fn join(&self) {
        for way in &self.buses {
            way.set(Flow::Open);
            way.bar(HashSet::new());
        }
    }

    /// Resolves when every primary has its replica, which could take over.
    pub async fn mended(&self) {
        eventually("the Redis Cluster", || self.is_whole()).await;
    }

    fn is_whole(&self) -> bool {
        self.nodes.iter().all(|node| {
            let ask = |what: &str| node.ask(&["cluster", what]);
            let replicas = ask("nodes").lines().filter(|line| line.contains("slave")).count();
            let replication = node.ask(&["info", "replication"]);
            ask("info").contains("cluster_state:ok")
                && replicas == Self::PRIMARIES
                && (replication.contains("connected_slaves:1") || replication.contains("link_status:up"))
        })
    }
}

/// From where a node talks to others, so that proxies know it.
fn source(number: usize) -> IpAddr {
    IpAddr::from([127, 0, 1, number as u8 + 1])
}

fn spawn(folder: &Path, port: u16, mode: Mode) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(folder);
    let port = port.to_string();
    match mode {
        Mode::Plain => command.args(["--port", &port]),
        Mode::Kept => command.args(["--port", &port, "--appendonly", "yes"]),
        Mode::Clustered { number, bus, told } => command
            .args(["--port", &port, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000"])
            .args(["--cluster-port", &bus.to_string(), "--cluster-announce-ip", "127.0.0.1"])
            .args(["--cluster-announce-bus-port", &told.to_string()])
            // By default only 127.0.0.1 may connect without a password.
            .args(["--bind-source-addr", &source(number).to_string(), "--protected-mode", "no"])
            .args(["--repl-diskless-sync-delay", "0", "--cluster-allow-pubsubshard-when-down", "no"]),
        Mode::Guarded => command
            .args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no", "--requirepass", PASSWORD])
            .args([
                "--tls-cert-file",
                "cert.pem",
                "--tls-key-file",
                "key.pem",
                "--tls-ca-cert-file",
                "cert.pem",
            ]),
    };
    command.stdout(Stdio::null()).spawn().expect("redis-server is needed: cluster/test.sh installs it")
}
