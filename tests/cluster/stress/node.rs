//! Nodes on ports of their own, and the balancer in front of them.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::sleep;

use crate::{clocks::Clock, stored::Keyspace};
use common::Relay;

/// Those of a node for clients and for operators.
pub(super) type Ports = (u16, u16);

/// A node on ports of its own.
pub(super) struct Node {
    pub(super) relay: Option<Relay>,
    arguments: Vec<String>,
    pub(super) clock: Clock,
}

impl Node {
    pub(super) fn new(redis: &str, store: &str, keyspace: &Keyspace, ports: Ports) -> Self {
        let arguments = [
            ("--listen", format!("127.0.0.1:{}", ports.0)),
            ("--ops-listen", format!("127.0.0.1:{}", ports.1)),
            ("--redis", redis.to_owned()),
            ("--scylla", store.to_owned()),
            ("--keyspace", keyspace.name.clone()),
            ("--workers", "1".into()),
            ("--trusted-proxy", "127.0.0.0/8".into()),
        ];
        let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        let mut node = Self { relay: None, arguments, clock: Clock::new() };
        node.start();
        node
    }

    fn start(&mut self) {
        let data = TempDir::new().unwrap();
        let mut command = common::rookery(&["relay"]);
        command.args(&self.arguments).arg("--data").arg(data.path());
        self.clock.give(&mut command);
        self.relay = Some(Relay::spawn(command, data));
    }

    /// `kill -9`
    pub(super) fn kill(&mut self) {
        self.relay = None;
    }

    fn signal(&self, name: &str) {
        self.relay.as_ref().unwrap().signal(name);
    }

    /// Stands still for so long, as a machine that is suspended.
    pub(super) async fn freeze(&self, pause: Duration) {
        self.signal("STOP");
        sleep(pause).await;
        self.signal("CONT");
    }

    /// Killed, and after a while there again.
    pub(super) async fn restart(&mut self, pause: Duration) {
        self.kill();
        sleep(pause).await;
        tokio::task::block_in_place(|| self.start());
    }
}

/// HAProxy; killed when dropped.
pub(super) struct Balancer(Child);

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HAProxy as the cluster runs it.
pub(super) fn balance(front: u16, ports: &[Ports]) -> Balancer {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/haproxy.cfg");
    let mut command = Command::new("haproxy");
    command.args(["-f", file]).env("ROOKERY_BIND", format!("127.0.0.1:{front}"));
    for (nth, (clients, operators)) in (1..).zip(ports) {
        command.env(format!("ROOKERY_NODE_{nth}"), format!("127.0.0.1:{clients}"));
        command.env(format!("ROOKERY_OPS_{nth}"), operators.to_string());
    }
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Balancer(started.expect("haproxy is needed: cluster/test.sh installs it"))
}
