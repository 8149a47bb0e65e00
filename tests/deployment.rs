//! The files with which nodes are run and seen are what those programs take that read them: Compose,
//! Kubernetes, HAProxy, nginx, Grafana. (cluster/up.sh runs in tests/cluster, Prometheus in tests/observability.)

mod common;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command},
};

use common::{Client, Relay, eventually, fresh};
use rookery::protocol::sign::Keys;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Set it to do without Node.js.
const SKIP: &str = "ROOKERY_TEST_WITHOUT_NODE";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Runs a check of `tests/schemas`, which must find something to check, and no fault.
fn check(script: &str, files: &[PathBuf]) {
    if std::env::var_os(SKIP).is_some_and(|value| value == "1") {
        return println!("skipped {script}: {SKIP} is 1");
    }
    let folder = file("tests/schemas");
    let is_there = folder.join("node_modules/ajv").is_dir();
    assert!(is_there, "schemas are missing: run `npm ci` in tests/schemas, or set {SKIP}=1");
    let checked = Command::new("node").arg(folder.join(script)).args(files).output();
    let checked = checked.unwrap_or_else(|error| panic!("can not run `node` ({error}); set {SKIP}=1"));
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    assert!(said.trim_end().ends_with(" 0 faults") && !said.starts_with("0 "), "{said}");
}

#[test]
fn compose_takes_its_file() {
    check("compose.mjs", &[file("docker-compose.yml")]);
}

#[test]
fn kubernetes_takes_the_manifests() {
    check("kubernetes.mjs", &[file("cluster/kubernetes/rookery.yaml")]);
}

#[test]
fn grafana_takes_the_dashboards() {
    let files = fs::read_dir(file("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path());
    check("grafana.mjs", &files.collect::<Vec<_>>());
}

/// A running nginx with our configuration; killed when dropped.
struct Nginx {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Nginx {
    /// In front of these nodes, of which there are three.
    fn start(nodes: [SocketAddr; 3]) -> Self {
        let folder = TempDir::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = fs::read_to_string(file("cluster/nginx.conf")).unwrap();
        for (n, node) in nodes.iter().enumerate() {
            config = config.replace(&format!("node-{}:7777", n + 1), &node.to_string());
        }
        let config = config.replace("listen 7777;", &format!("listen {address};"));
        assert!(config.contains(&address.to_string()) && !config.contains("node-"));
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
        drop(listener);
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

#[tokio::test]
async fn nginx_hands_clients_to_the_nodes_that_are_there() {
    // One connection of an address, unless it is loopback, from which nginx is asked here.
    let one = "limits.max_connections_per_address=1";
    let relay = Relay::start(&["--trusted-proxy", "127.0.0.1/32", "--set", one]);
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nginx = Nginx::start([free(), relay.clients, free()]);
    let address = nginx.address;
    eventually("nginx", || std::net::TcpStream::connect(address).is_ok()).await;
    let keys = Keys::generate();
    let mut clients = Vec::new();
    for n in 0..4 {
        let mut request = format!("ws://{address}").into_client_request().unwrap();
        // What a client says of its address is not believed.
        request.headers_mut().insert("X-Forwarded-For", "203.0.113.5".parse().unwrap());
        let mut client = Client::connect(request).await;
        assert!(client.publish(&fresh(&keys, &n.to_string())).await.0);
        clients.push(client);
    }
    assert_eq!(relay.metric("rookery_connections"), 4.0);
}

#[test]
fn haproxy_accepts_its_configuration() {
    let mut check = Command::new("haproxy");
    check.arg("-c").arg("-f").arg(file("cluster/haproxy.cfg")).env("ROOKERY_BIND", "127.0.0.1:7777");
    for node in 1..=3 {
        check.env(format!("ROOKERY_NODE_{node}"), format!("127.0.0.1:{}", 7777 + node));
        check.env(format!("ROOKERY_OPS_{node}"), (9777 + node).to_string());
    }
    let checked = check.output().expect("haproxy is needed: cluster/test.sh installs it");
    assert!(checked.status.success(), "{checked:?}");
}
