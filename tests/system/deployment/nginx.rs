//! nginx in front of nodes that come and go.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::{Child, Command},
};

use rookery::protocol::sign::Keys;
use tempfile::TempDir;

use crate::deployment::{file, machine, node, node_like, publish, serves};
use common::{dns::Names, eventually, haproxy::free};

/// A running nginx with our configuration.
struct Nginx {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Nginx {
    /// In front of nodes at this port, whose addresses are those of `nodes` there.
    fn start(names: &Names, port: u16) -> Self {
        let (folder, address) = (TempDir::new().unwrap(), free());
        let mut config = fs::read_to_string(file("cluster/nginx.conf")).unwrap();
        for (old, new) in [
            ("resolver 127.0.0.11 ", format!("resolver {} ", names.server)),
            ("nodes:7777;", format!("nodes:{port};")),
            ("listen 7777;", format!("listen {address};")),
            // Each remembers for a second by itself what names were.
            ("worker_processes auto;", "worker_processes 1;".into()),
        ] {
            assert_eq!(config.matches(old).count(), 1, "{old}");
            config = config.replace(old, &new);
        }
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config).unwrap();
        let nginx = || {
            let mut command = Command::new("nginx");
            command.arg("-p").arg(folder.path()).arg("-c").arg(&path).args(["-e", "stderr"]);
            let pid = folder.path().join("pid").display().to_string();
            command.args(["-g", &format!("daemon off; pid {pid};")]);
            command
        };
        let checked = nginx().arg("-t").output().expect("nginx is needed: cluster/test.sh installs it");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        Self { process: nginx().spawn().unwrap(), address, _folder: folder }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = self.process.id().to_string();
        // Its workers end with it only when it is asked.
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.process.wait();
    }
}

/// As with Docker: the name is that of all nodes which run.
#[tokio::test]
async fn it_hands_clients_to_the_nodes_that_are_there() {
    let names = Names::start();
    let first = node(machine(1));
    let nginx = Nginx::start(&names, first.clients.port());
    let address = nginx.address;
    // It starts without any,
    eventually("nginx", || TcpStream::connect(address).is_ok()).await;
    // hands clients on from one that does not answer,
    names.set("nodes", &[machine(4), machine(1), machine(5)]);
    serves(address).await;
    let keys = Keys::generate();
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(publish(address, &keys).await);
    }
    assert_eq!(first.metric("rookery_connections"), 8.0);
    // and learns of another.
    let second = node_like(&first, machine(2));
    names.set("nodes", &[machine(2)]);
    drop(first);
    serves(address).await;
    publish(address, &keys).await;
    assert_eq!(second.metric("rookery_connections_opened_total"), 1.0);
}
