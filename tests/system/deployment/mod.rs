//! The files with which nodes are run and seen are what those programs take that read them: Compose,
//! Kubernetes, HAProxy, nginx, Grafana. (cluster/dev/up.sh runs in tests/cluster, Prometheus in tests/observability.)

mod haproxy;
mod nginx;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use common::{Client, Relay, eventually, fresh, rookery};
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
    let names = ["rookery.yaml", "ingress.yaml", "aggregator.yaml"];
    check("kubernetes.mjs", &names.map(|name| file("cluster/kubernetes").join(name)));
}

#[test]
fn grafana_takes_the_dashboards() {
    let files = fs::read_dir(file("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path());
    check("grafana.mjs", &files.collect::<Vec<_>>());
}

/// 127.0.0.x: an address of a machine of its own, as far as a balancer knows.
fn machine(x: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, x)
}

/// A node there, on ports of the system's choice.
fn node(at: Ipv4Addr) -> Relay {
    node_on((at, 0).into(), (at, 0).into())
}

/// A node in place of another, at another address.
fn node_like(other: &Relay, at: Ipv4Addr) -> Relay {
    let move_to = |address: SocketAddr| (at, address.port()).into();
    node_on(move_to(other.clients), move_to(other.operators))
}

/// It trusts the balancers, which are on this machine. One connection of an address is allowed, unless that is loopback.
fn node_on(clients: SocketAddr, operators: SocketAddr) -> Relay {
    let data = TempDir::new().unwrap();
    let mut command =
        rookery(&["relay", "--listen", &clients.to_string(), "--ops-listen", &operators.to_string()]);
    command.args(["--trusted-proxy", "127.0.0.0/8", "--set", "limits.max_connections_per_address=1"]);
    command.arg("--data").arg(data.path().join("relay"));
    Relay::spawn(command, data)
}

/// Through the balancer there is a relay.
async fn serves(balancer: SocketAddr) {
    eventually("the balancer", || TcpStream::connect(balancer).is_ok()).await;
    eventually("a relay behind the balancer", || Relay::get(balancer, "/", "").0 == 200).await;
}

/// Publishes on a new connection. What a client says of its address is not believed, or it would be refused.
async fn publish(balancer: SocketAddr, keys: &Keys) -> Client {
    let mut request = format!("ws://{balancer}").into_client_request().unwrap();
    request.headers_mut().insert("X-Forwarded-For", "203.0.113.5".parse().unwrap());
    let mut client = Client::connect(request).await;
    assert_eq!(client.publish(&fresh(keys, "")).await, (true, String::new()));
    client
}
