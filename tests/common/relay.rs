//! A relay in a process of its own, and what it has said.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::{Client, PATIENCE, TOKEN, eventually, relay_command, watch};

/// A running relay; killed when dropped.
pub struct Relay {
    pub process: Child,
    pub clients: SocketAddr,
    pub operators: SocketAddr,
    /// Goes after the process.
    pub data: TempDir,
}

impl Relay {
    /// Starts with an empty data folder and these further arguments.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_on(TempDir::new().unwrap(), arguments)
    }

    /// Starts on an existing data folder.
    pub fn start_on(data: TempDir, arguments: &[&str]) -> Self {
        Self::spawn(relay_command(data.path(), arguments), data)
    }

    /// Starts by a command.
    pub fn spawn(command: Command, data: TempDir) -> Self {
        let (process, clients, operators) = spawn(command);
        Self { process, clients, operators, data }
    }

    pub fn log(&self) -> Log {
        Log(self.clients)
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.clients)
    }

    /// Connects, and hears the AUTH challenge that every client is sent.
    pub async fn connect(&self) -> Client {
        Client::connect(self.url().into_client_request().unwrap()).await
    }

    /// `kill -9`, and a new process on the same folder.
    pub fn restart_after_kill(mut self, arguments: &[&str]) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let (process, clients, operators) = spawn(relay_command(self.data.path(), arguments));
        (self.process, self.clients, self.operators) = (process, clients, operators);
        self
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// The answer of the operations listener (or the clients' one) to a GET: status and body.
    pub fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// What operators' programs ask (`/v1`), with the token: status, media type and body.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String, Value) {
        use std::io::{Read, Write};
        let address = self.operators;
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let media_type =
            head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
        (status, media_type.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// The settings of a running node, as operators are told.
    pub fn settings(&self) -> String {
        Self::get(self.operators, "/v1/settings", &format!("Authorization: Bearer {TOKEN}\r\n")).1
    }

    /// What Prometheus would be told.
    pub fn metrics(&self) -> String {
        Self::get(self.operators, "/metrics", "").1
    }

    /// A metric's value by its full name, labels included.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What relays have said from their start on, by where they listen.
static LOGS: Mutex<BTreeMap<SocketAddr, Vec<String>>> = Mutex::new(BTreeMap::new());

/// What a relay has said from its start on, also before it listened.
pub struct Log(SocketAddr);

impl Log {
    /// The first line with this text, when it is there.
    pub async fn says(&self, text: &str) -> String {
        eventually(&format!("a line of the log with {text:?}"), || self.line(text).is_some()).await;
        self.line(text).unwrap()
    }

    /// The first line with this text, if it is there by now.
    pub fn line(&self, text: &str) -> Option<String> {
        LOGS.lock().unwrap().get(&self.0)?.iter().find(|line| line.contains(text)).cloned()
    }

    /// Forgets all lines.
    pub fn clear(&self) {
        LOGS.lock().unwrap().remove(&self.0);
    }
}

/// Starts the command and waits until it says where it listens. Its log goes on to ours.
pub fn spawn(mut command: Command) -> (Child, SocketAddr, SocketAddr) {
    watch::begin();
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in &mut lines {
        let line = line.unwrap();
        eprintln!("{line}");
        let entry: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the relay said: {line}"));
        if entry["message"] == "listening" {
            let address = |name: &str| entry[name].as_str().unwrap().parse().unwrap();
            // One that serves no clients is known by where it serves operators.
            let clients = if entry["address"].is_null() { "operators" } else { "address" };
            let addresses = (address(clients), address("operators"));
            said.push(line);
            LOGS.lock().unwrap().entry(addresses.0).or_default().append(&mut said);
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    eprintln!("{line}");
                    LOGS.lock().unwrap().entry(addresses.0).or_default().push(line);
                }
            });
            return (process, addresses.0, addresses.1);
        }
        said.push(line);
    }
    panic!("the relay ended: {:?}", process.wait());
}
