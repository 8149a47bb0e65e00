//! HAProxy in front of nodes that are made anew, and that die.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use rookery::protocol::sign::Keys;
use tempfile::TempDir;

use crate::deployment::{file, free, machine, node, node_like, publish, serves};
use common::{Relay, dns::Names};

/// The configurations.
const FILES: [&str; 2] = ["cluster/haproxy.cfg", "cluster/haproxy-tcp.cfg"];

/// A running HAProxy; killed when dropped.
struct Haproxy {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

/// With one of our configurations: clients connect to `address`, and nodes are at these addresses, with their operations
/// at these ports.
fn command(path: &Path, address: SocketAddr, nodes: &[(String, u16); 3]) -> Command {
    let mut command = Command::new("haproxy");
    command.arg("-f").arg(path).env("ROOKERY_BIND", address.to_string());
    for (nth, (clients, operators)) in nodes.iter().enumerate() {
        command.env(format!("ROOKERY_NODE_{}", nth + 1), clients);
        command.env(format!("ROOKERY_OPS_{}", nth + 1), operators.to_string());
    }
    command
}

impl Haproxy {
    /// In front of these nodes, which have names there.
    fn start(names: &Names, nodes: [(String, u16); 3]) -> Self {
        let folder = TempDir::new().unwrap();
        let config = fs::read_to_string(file(FILES[0])).unwrap();
        assert!(config.contains("    parse-resolv-conf\n"));
        let server = format!("    nameserver ours {}\n", names.server);
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, config.replace("    parse-resolv-conf\n", &server)).unwrap();
        let address = free();
        let started = command(&path, address, &nodes).stdout(Stdio::null()).spawn();
        let process = started.expect("haproxy is needed: cluster/test.sh installs it");
        Self { process, address, _folder: folder }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn it_accepts_its_configurations() {
    let nodes = [1, 2, 3].map(|node| (format!("127.0.0.1:{}", 7777 + node), 9777 + node));
    for name in FILES {
        let checked = command(&file(name), free(), &nodes).arg("-c").output();
        let checked = checked.expect("haproxy is needed: cluster/test.sh installs it");
        assert!(checked.status.success(), "{name}: {checked:?}");
    }
}

/// A node that is stopped has no name, and one that is made anew has another address.
#[tokio::test]
async fn it_starts_without_a_node_and_learns_the_address_of_a_new_one() {
    let (first, second) = (node(machine(1)), node(machine(2)));
    let names = Names::start();
    names.set("node-1.test", &[machine(1)]);
    let named = |nth: usize, node: &Relay| {
        (format!("node-{nth}.test:{}", node.clients.port()), node.operators.port())
    };
    let haproxy =
        Haproxy::start(&names, [named(1, &first), named(2, &second), ("node-3.test:7777".to_owned(), 9777)]);
    let keys = Keys::generate();
    serves(haproxy.address).await;
    publish(haproxy.address, &keys).await;
    // A name that was not known is learnt,
    names.set("node-1.test", &[]);
    names.set("node-2.test", &[machine(2)]);
    drop(first);
    serves(haproxy.address).await;
    publish(haproxy.address, &keys).await;
    assert_eq!(second.metric("rookery_connections_opened_total"), 1.0);
    // and so is another address.
    let third = node_like(&second, machine(3));
    names.set("node-2.test", &[machine(3)]);
    drop(second);
    serves(haproxy.address).await;
    publish(haproxy.address, &keys).await;
    assert_eq!(third.metric("rookery_connections_opened_total"), 1.0);
}

/// `kill -9`: whoever connects afterwards notices nothing, also before a health check does.
#[tokio::test]
async fn no_new_client_notices_that_a_node_has_died() {
    let mut nodes = [1, 2, 3].map(|x| node(machine(x)));
    let names = Names::start();
    let haproxy = Haproxy::start(
        &names,
        nodes.each_ref().map(|node| (node.clients.to_string(), node.operators.port())),
    );
    serves(haproxy.address).await;
    let keys = Keys::generate();
    for nth in 0..200 {
        if nth == 20 {
            assert!(nodes.iter().all(|node| node.metric("rookery_connections_opened_total") > 0.0));
            nodes[0].process.kill().unwrap();
            nodes[0].process.wait().unwrap();
        }
        publish(haproxy.address, &keys).await;
    }
}
