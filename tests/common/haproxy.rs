//! HAProxy in front of three nodes, with the configuration that is delivered.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{Relay, root};

/// Where a node is: its clients' listener, and the port of its operations.
pub type Place = (String, u16);

/// A running HAProxy; killed when dropped.
pub struct Haproxy {
    process: Child,
    pub address: SocketAddr,
    _folder: TempDir,
}

/// The program with a configuration: clients connect to `address`.
pub fn command(path: &Path, address: SocketAddr, nodes: &[Place; 3]) -> Command {
    let mut command = Command::new("haproxy");
    command.arg("-f").arg(path).env("ROOKERY_BIND", address.to_string());
    for (nth, (clients, operators)) in nodes.iter().enumerate() {
        command.env(format!("ROOKERY_NODE_{}", nth + 1), clients);
        command.env(format!("ROOKERY_OPS_{}", nth + 1), operators.to_string());
    }
    command
}

/// An address on which nobody listens.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Where that node is.
pub fn place(node: &Relay) -> Place {
    (node.clients.to_string(), node.operators.port())
}

impl Haproxy {
    /// There, in front of these nodes. Their names are asked of that server, where one is given.
    pub fn start(address: SocketAddr, nodes: &[Place; 3], server: Option<SocketAddr>) -> Self {
        let folder = TempDir::new().unwrap();
        let mut config = fs::read_to_string(root().join("cluster/haproxy.cfg")).unwrap();
        if let Some(server) = server {
            let system = "    parse-resolv-conf\n";
            assert!(config.contains(system));
            config = config.replace(system, &format!("    nameserver ours {server}\n"));
        }
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, config).unwrap();
        let started = command(&path, address, nodes).stdout(Stdio::null()).spawn();
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
