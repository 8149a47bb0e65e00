//! A real Prometheus that scrapes nodes of a test, with the configuration of a cluster.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::read;
use common::free_port;

/// Killed when dropped.
pub struct Prometheus {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Prometheus {
    pub fn start(nodes: &[SocketAddr]) -> Self {
        let folder = TempDir::new().unwrap();
        let targets: Vec<String> = nodes.iter().map(|node| format!("\"{node}\"")).collect();
        let config = read("cluster/prometheus.yml");
        let ours = config
            .replace("15s", "1s")
            .replace("\"node-1:9777\", \"node-2:9777\", \"node-3:9777\"", &targets.join(", "));
        assert_ne!(config.replace("15s", "1s"), ours);
        fs::write(folder.path().join("prometheus.yml"), ours).unwrap();
        fs::write(folder.path().join("alerts.yml"), read("cluster/alerts.yml")).unwrap();
        let port = free_port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is needed: cluster/test.sh installs it");
        Self { process, port, _folder: folder }
    }

    /// Whether an expression has an answer, and all of it are numbers.
    pub fn has_numbers(&self, expression: &str) -> bool {
        let answer = Command::new("curl")
            .args(["--silent", "--get", "--data-urlencode", &format!("query={expression}")])
            .arg(format!("http://127.0.0.1:{}/api/v1/query", self.port))
            .output()
            .unwrap();
        // Until it listens there is none.
        let Ok(answer) = serde_json::from_slice::<Value>(&answer.stdout) else { return false };
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let series = answer["data"]["result"].as_array().unwrap();
        let is_number = |series: &Value| series["value"][1].as_str().is_some_and(|value| value != "NaN");
        !series.is_empty() && series.iter().all(is_number)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
