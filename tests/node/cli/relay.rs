//! A relay that does what a test says, over a real socket. Not a relay: it checks nothing and keeps
//! nothing but a record of what it was told.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use futures_util::{SinkExt, StreamExt};
use rookery::protocol::{ClientMessage, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        http::{HeaderName, HeaderValue},
    },
};

/// What the relay does about a message.
pub enum Do {
    Say(String),
    HangUp,
}

/// Is given the number of the connection, from 1, and a message; an empty one greets the client.
pub type Script = Box<dyn FnMut(usize, &str) -> Vec<Do> + Send>;

pub struct Relay {
    pub url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    /// Runs until the test ends.
    pub fn start(script: impl FnMut(usize, &str) -> Vec<Do> + Send + 'static) -> Self {
        Self::start_as(|_| None, script)
    }

    /// One that tells the connection of this number which store it has.
    pub fn start_as(
        store: impl Fn(usize) -> Option<&'static str> + Send + Sync + 'static,
        script: impl FnMut(usize, &str) -> Vec<Do> + Send + 'static,
    ) -> Self {
        Self::start_with(Character { store: Box::new(store), information: None }, script)
    }

    /// One that says this of itself (NIP-11).
    pub fn start_informing(
        information: impl Into<String>,
        script: impl FnMut(usize, &str) -> Vec<Do> + Send + 'static,
    ) -> Self {
        let information = Some(information.into());
        Self::start_with(Character { store: Box::new(|_| None), information }, script)
    }

    fn start_with(character: Character, script: impl FnMut(usize, &str) -> Vec<Do> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let heard = Arc::default();
        let relay = Self { url, heard: Arc::clone(&heard) };
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let character = Arc::new(character);
                let numbers = Arc::new(AtomicUsize::new(1));
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let character = Arc::clone(&character);
                    let numbers = Arc::clone(&numbers);
                    tokio::spawn(serve(stream, numbers, character, Arc::clone(&script), Arc::clone(&heard)));
                }
            });
        });
        relay
    }

    /// The messages of clients so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// How many of them begin with this verb.
    pub fn count(&self, verb: &str) -> usize {
        self.heard().iter().filter(|message| message.starts_with(&format!(r#"["{verb}""#))).count()
    }
}

/// What a relay says before anybody asks.
struct Character {
    store: Box<dyn Fn(usize) -> Option<&'static str> + Send + Sync>,
    information: Option<String>,
}

/// Answers a request that is no handshake; whether it was one.
async fn inform(stream: &mut tokio::net::TcpStream, information: Option<&str>) -> bool {
    let mut head = [0; 4_096];
    let mut length = 0;
    while !head[..length].ends_with(b"\r\n\r\n") {
        match stream.peek(&mut head).await {
            Ok(peeked) if peeked > 0 => length = peeked,
            _ => return true,
        }
        tokio::task::yield_now().await;
    }
    if String::from_utf8_lossy(&head[..length]).to_ascii_lowercase().contains("upgrade: websocket") {
        return false;
    }
    let _ = stream.read(&mut head).await;
    let (status, body) = information.map_or(("404 Not Found", ""), |information| ("200 OK", information));
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
    true
}

async fn serve(
    mut stream: tokio::net::TcpStream,
    numbers: Arc<AtomicUsize>,
    character: Arc<Character>,
    script: Arc<Mutex<Script>>,
    heard: Arc<Mutex<Vec<String>>>,
) {
    if inform(&mut stream, character.information.as_deref()).await {
        return;
    }
    let number = numbers.fetch_add(1, Ordering::Relaxed);
    let store = (character.store)(number);
    #[expect(clippy::result_large_err, reason = "the library's own")]
    let answer = |_: &Request, mut response: Response| {
        response.headers_mut().extend(
            store.map(|store| (HeaderName::from_static("rookery-store"), HeaderValue::from_static(store))),
        );
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(stream, answer).await else { return };
    let mut todo = (script.lock().unwrap())(number, "");
    loop {
        for next in todo.drain(..) {
            match next {
                Do::Say(text) => {
                    if socket.feed(Message::text(text)).await.is_err() {
                        return;
                    }
                }
                Do::HangUp => {
                    let _ = socket.flush().await;
                    return;
                }
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
        let Some(Ok(message)) = socket.next().await else { return };
        if let Message::Text(text) = message {
            heard.lock().unwrap().push(text.to_string());
            todo = (script.lock().unwrap())(number, &text);
        }
    }
}

pub fn say(text: impl Into<String>) -> Vec<Do> {
    vec![Do::Say(text.into())]
}

/// The id of the event in an EVENT or AUTH message; `None` for other messages.
pub fn event_id(message: &str) -> Option<String> {
    match ClientMessage::parse(message) {
        Ok(ClientMessage::Event(event) | ClientMessage::Auth(event)) => Some(event.id.to_hex()),
        _ => None,
    }
}

/// The id of the subscription that a REQ asks for.
pub fn subscription(message: &str) -> String {
    match ClientMessage::parse(message) {
        Ok(ClientMessage::Req { id, .. }) => id.to_string(),
        _ => panic!("no REQ: {message}"),
    }
}

pub fn ok(id: &str, accepted: bool, reason: &str) -> Vec<Do> {
    say(format!(r#"["OK","{id}",{accepted},"{reason}"]"#))
}

/// Accepts every event.
pub fn accept_all(message: &str) -> Vec<Do> {
    event_id(message).map_or(Vec::new(), |id| ok(&id, true, ""))
}

/// A relay that holds these events and sends at most `cap` at once; with `hints`, it says whether
/// that was all (NIP-67).
pub fn holds(mut events: Vec<Event>, cap: usize, hints: bool) -> impl Fn(&str) -> Vec<Do> {
    events.sort_by_key(|event| (std::cmp::Reverse(event.created_at()), event.id()));
    move |message| match ClientMessage::parse(message) {
        Ok(ClientMessage::Req { id, filters }) => {
            let filter = &filters[0];
            let all: Vec<&Event> = events.iter().filter(|event| filter.matches(*event)).collect();
            let sent = all.len().min(cap).min(filter.limit.unwrap_or(cap));
            let hint = if hints && sent == all.len() { r#",["finish"]"# } else { "" };
            let mut todo: Vec<Do> = all[..sent]
                .iter()
                .map(|event| Do::Say(format!(r#"["EVENT","{id}",{}]"#, event.json())))
                .collect();
            todo.push(Do::Say(format!(r#"["EOSE","{id}"{hint}]"#)));
            todo
        }
        Ok(ClientMessage::Count { id, .. }) => say(format!(r#"["CLOSED","{id}","unsupported: no"]"#)),
        _ => Vec::new(),
    }
}
