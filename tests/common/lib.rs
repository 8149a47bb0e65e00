//! What black-box tests share: a relay in a process of its own, on ports that the system chose, and
//! a client that says and hears JSON.

pub mod ask;
pub mod cassandra;
pub mod dns;
pub mod gate;
pub mod haproxy;
pub mod page;
pub mod people;
pub mod proxy;
pub mod raw;
pub mod redis;
pub mod standstill;
pub mod tls;
pub mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::{OsStr, OsString},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, handshake::client::Request},
};

/// Longest that anything may take which is to happen at once.
pub const PATIENCE: Duration = Duration::from_secs(30);

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

/// The binary under test: cargo's, or another build (a release, say) that the environment names.
pub fn binary() -> OsString {
    env::var_os("ROOKERY_TEST_BINARY").unwrap_or_else(|| built().join("rookery").into())
}

/// Where cargo has put the program that goes with these tests: above the folder that they are in themselves.
fn built() -> PathBuf {
    env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// A folder for what tests keep while they run. It goes with the target folder.
pub fn scratch() -> PathBuf {
    let folder = built().with_file_name("tmp");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// The program with these arguments, and with nothing of the environment that could change what it does.
pub fn rookery(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let ours = |name: &OsStr| name == "RUST_LOG" || name.to_string_lossy().starts_with("ROOKERY_");
    env::vars_os().filter(|(name, _)| ours(name)).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.env("ROOKERY_OPS_TOKEN_FILE", token_file()).env("ROOKERY_MASTER_KEY_FILE", master_key_file());
    // Accounts would have it on, and a node would promise less of what others have stored.
    command.env("ROOKERY_FEEDS_MAX_BYTES", "0");
    command.args(arguments);
    command
}

/// What programs show to nodes of tests, and to whoever asks them by [`rookery`].
pub const TOKEN: &str = "only-for-tests-0123456789";

/// The file that holds it, made by the first test that needs it.
fn token_file() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| made("ops.token", TOKEN));
    &FILE
}

/// The file that holds the master key of all nodes of tests.
pub fn master_key_file() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| made("master.key", &"5e".repeat(32)));
    &FILE
}

/// A file that only its owner reads.
fn made(name: &str, text: &str) -> PathBuf {
    let folder = root().join("target/tmp");
    std::fs::create_dir_all(&folder).unwrap();
    let mut file = tempfile::NamedTempFile::new_in(&folder).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    let path = folder.join(name);
    // Of programs that make it at once, each makes the same.
    file.persist(&path).unwrap();
    path
}

/// A command as the last words of another one, such as of a shell that does something first; in its environment.
pub fn run_by(mut outer: Command, inner: &Command) -> Command {
    outer.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Starts `rookery aggregator`, which serves no clients, with these arguments.
pub fn start_aggregator(arguments: &[&str]) -> Relay {
    let data = TempDir::new().unwrap();
    let mut command = rookery(&["aggregator", "--ops-listen", "127.0.0.1:0", "--data"]);
    command.arg(data.path().join("relay")).args(arguments);
    Relay::spawn(command, data)
}

/// The command that starts a relay on ports of the system's choice.
pub fn relay_command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = rookery(&["relay", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data"]);
    command.arg(data.join("relay")).args(arguments);
    if !arguments.contains(&"--scylla") {
        // What a slow machine takes too long for is refused. Tests of that say themselves how long it may take.
        command.env("ROOKERY_PERSISTER_DEADLINE_MS", "20000");
    }
    command
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

/// A connection to a relay.
pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What the relay sent on connecting.
    pub challenge: String,
}

impl Client {
    pub async fn connect(request: Request) -> Self {
        watch::begin();
        // Without Nagle's algorithm, or a message after an unanswered one waits for 40 ms.
        let connected = tokio_tungstenite::connect_async_with_config(request, None, true);
        let (socket, _) = timeout(PATIENCE, connected).await.unwrap().unwrap();
        let mut client = Self { socket, challenge: String::new() };
        let auth = client.hear().await;
        assert_eq!(auth[0], "AUTH");
        client.challenge = auth[1].as_str().unwrap().to_owned();
        client
    }

    pub async fn say(&mut self, message: Value) {
        self.say_text(message.to_string()).await;
    }

    pub async fn say_text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    /// The next message of the relay.
    pub async fn hear(&mut self) -> Value {
        match self.hear_frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("a text message was expected, not {other:?}"),
        }
    }

    /// The next frame that is neither ping nor pong; `None` at the end of the connection.
    pub async fn hear_frame(&mut self) -> Option<Message> {
        // One for all that comes: pings come for ever.
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, self.socket.next()).await.expect("the relay says nothing")? {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return Some(message),
                Err(_) => return None,
            }
        }
    }

    /// The code of the close frame that ends the connection, whatever is said before.
    pub async fn hear_close(&mut self) -> u16 {
        loop {
            match self.hear_frame().await {
                Some(Message::Close(Some(frame))) => return frame.code.into(),
                Some(Message::Text(_)) => {}
                other => panic!("a close frame was expected, not {other:?}"),
            }
        }
    }

    /// Publishes and hears the OK: whether it was accepted, and the text.
    pub async fn publish(&mut self, event: &Event) -> (bool, String) {
        self.say_text(format!(r#"["EVENT",{}]"#, event.json())).await;
        self.hear_ok(&event.id().to_hex()).await
    }

    pub async fn hear_ok(&mut self, id: &str) -> (bool, String) {
        let ok = self.hear().await;
        assert_eq!((ok[0].as_str(), ok[1].as_str()), (Some("OK"), Some(id)), "{ok}");
        (ok[2].as_bool().unwrap(), ok[3].as_str().unwrap().to_owned())
    }

    /// Asks, and hears the stored events and the EOSE: ids in order, and the hint.
    pub async fn request(&mut self, id: &str, filters: &[Value]) -> (Vec<String>, Option<String>) {
        let mut message = vec![json!("REQ"), json!(id)];
        message.extend_from_slice(filters);
        self.say(Value::Array(message)).await;
        self.hear_stored(id).await
    }

    /// Hears the stored events of a subscription and the EOSE: ids in order, and the hint.
    pub async fn hear_stored(&mut self, id: &str) -> (Vec<String>, Option<String>) {
        let mut ids = Vec::new();
        loop {
            let message = self.hear().await;
            assert_eq!(message[1], id, "{message}");
            match message[0].as_str() {
                Some("EVENT") => ids.push(message[2]["id"].as_str().unwrap().to_owned()),
                Some("EOSE") => return (ids, message[2][0].as_str().map(str::to_owned)),
                _ => panic!("{message}"),
            }
        }
    }

    /// Proves a key (NIP-42).
    pub async fn authenticate(&mut self, keys: &Keys, relay: &str) -> (bool, String) {
        let tags = Tags::from_iter([["relay", relay], ["challenge", &self.challenge]]);
        let event = keys.sign(now(), 22_242, tags, "");
        self.say_text(format!(r#"["AUTH",{}]"#, event.json())).await;
        self.hear_ok(&event.id().to_hex()).await
    }
}

/// Waits until a condition holds of which nobody tells us.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < 2 * PATIENCE, "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// What an event was answered: no, for a reason that begins so.
#[track_caller]
pub fn refused((accepted, text): (bool, String), prefix: &str) {
    assert!(!accepted && text.starts_with(prefix), "{text}");
}

/// A text note without tags.
pub fn note(keys: &Keys, created_at: u64, content: &str) -> Event {
    keys.sign(created_at, 1, Tags::default(), content)
}

/// A text note of now, numbered: two of a second are two, though they say the same.
pub fn fresh(keys: &Keys, content: &str) -> Event {
    static MADE: AtomicU64 = AtomicU64::new(0);
    note(keys, now(), &format!("{content} {}", MADE.fetch_add(1, Ordering::Relaxed)))
}

/// A port that nobody listens on, and that no other test of this program is given. Somebody else could take it before it
/// is used; nobody does here.
pub fn free_port() -> u16 {
    /// From here on, Linux gives ports to connections of its own accord.
    const OF_CONNECTIONS: u16 = 32_768;
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() - 20_000;
        if port < OF_CONNECTIONS
            && std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
            && GIVEN.lock().unwrap().insert(port)
        {
            return port;
        }
    }
}
