//! A way to a CQL server on which statements, or the answers to them, can be held back, so that a test says in
//! which order things happen that several nodes do at once.
//!
//! Knows as much of the native protocol (version 4, not compressed) as tells which statement a frame is about.

#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    time::timeout,
};

use crate::PATIENCE;

pub struct Gate {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The statement itself: it has not happened yet.
    Request,
    /// Its answer: it has happened, and who asked does not know.
    Answer,
}

/// Frames that are held back from now on, until they are let go.
#[derive(Clone)]
pub struct Hold {
    way: Way,
    beginning: String,
    /// `None`: they are not held back any more.
    caught: watch::Sender<Option<Vec<Parcel>>>,
    /// Nothing more is held back.
    is_over: Arc<AtomicBool>,
}

/// A frame, and where it is to go.
type Parcel = (UnboundedSender<Vec<u8>>, Vec<u8>);

#[derive(Default)]
struct Shared {
    holds: Mutex<Vec<Hold>>,
    /// Statements that are refused: how they begin, and the answer.
    refusals: Mutex<Vec<(String, String)>>,
    /// Statements by the ids that the server gave them.
    prepared: Mutex<HashMap<Vec<u8>, String>>,
}

/// What the frames of one connection are about, by their streams.
type Asked = Arc<Mutex<HashMap<[u8; 2], String>>>;

impl Gate {
    /// Listens, and hands everything on to `server`.
    pub async fn start(server: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                serve(client, TcpStream::connect(server).await.unwrap(), &serving);
            }
        });
        Self { address, shared }
    }

    /// Answers statements that begin so, before the server sees them, as a server does that does not know them.
    pub fn refuse(&self, beginning: &str, answer: &str) {
        self.shared.refusals.lock().unwrap().push((beginning.to_owned(), answer.to_owned()));
    }

    /// Holds statements back that begin so, or the answers to them. Tables are named without their keyspace.
    pub fn hold(&self, way: Way, beginning: &str) -> Hold {
        let hold = Hold {
            way,
            beginning: beginning.to_owned(),
            caught: watch::Sender::new(Some(Vec::new())),
            is_over: Arc::default(),
        };
        self.shared.holds.lock().unwrap().push(hold.clone());
        hold
    }
}

impl Hold {
    /// Resolves when one is held back.
    pub async fn caught(&self) {
        let mut caught = self.caught.subscribe();
        let any = caught.wait_for(|caught| caught.as_ref().is_some_and(|caught| !caught.is_empty()));
        let any = timeout(PATIENCE, any).await;
        any.unwrap_or_else(|_| panic!("never sent: {} …", self.beginning)).unwrap();
    }

    /// Keeps what was held back so far, and lets go whatever else comes.
    pub fn let_others_pass(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Lets go what was held back and whatever else comes.
    pub fn release(self) {
        for (to, frame) in self.end() {
            // The connection may be gone.
            let _ = to.send(frame);
        }
    }

    /// Throws away what was held back, and lets go whatever else comes.
    pub fn discard(self) {
        self.end();
    }

    fn end(self) -> Vec<Parcel> {
        self.caught.send_replace(None).unwrap_or_default()
    }

    /// Takes a frame, unless it is none of those.
    fn catch(&self, way: Way, statement: &str, parcel: Parcel) -> Option<Parcel> {
        if self.way != way || !statement.starts_with(&self.beginning) || self.is_over.load(Ordering::Relaxed)
        {
            return Some(parcel);
        }
        let mut left = Some(parcel);
        self.caught.send_if_modified(|caught| match caught {
            Some(caught) => {
                caught.extend(left.take());
                true
            }
            None => false,
        });
        left
    }
}

impl Shared {
    /// What the client asks.
    fn request(&self, asked: &Asked, frame: &[u8]) -> Option<String> {
        const QUERY: u8 = 0x07;
        const PREPARE: u8 = 0x09;
        const EXECUTE: u8 = 0x0a;
        let (stream, opcode) = head(frame);
        let statement = match opcode {
            QUERY | PREPARE => without_keyspace(&String::from_utf8_lossy(long_text(&frame[HEAD..]))),
            EXECUTE => self.prepared.lock().unwrap()[short_bytes(&frame[HEAD..])].clone(),
            _ => return None,
        };
        asked.lock().unwrap().insert(stream, statement.clone());
        (opcode != PREPARE).then_some(statement)
    }

    /// What the server answers to.
    fn answer(&self, asked: &Asked, frame: &[u8]) -> Option<String> {
        const RESULT: u8 = 0x08;
        const PREPARED: [u8; 4] = [0, 0, 0, 4];
        let (stream, opcode) = head(frame);
        let statement = asked.lock().unwrap().remove(&stream)?;
        if opcode == RESULT && frame[HEAD..].starts_with(&PREPARED) {
            let id = short_bytes(&frame[HEAD + PREPARED.len()..]).to_vec();
            self.prepared.lock().unwrap().insert(id, statement);
            return None;
        }
        Some(statement)
    }

    /// The answer to a statement that is refused.
    fn refusal(&self, statement: &str, frame: &[u8]) -> Option<Vec<u8>> {
        const VERSION: u8 = 0x84;
        const INVALID: u32 = 0x2200;
        let refusals = self.refusals.lock().unwrap();
        let (_, answer) = refusals.iter().find(|(beginning, _)| statement.starts_with(beginning))?;
        let length = (answer.len() as u16).to_be_bytes();
        let body = [&INVALID.to_be_bytes()[..], &length, answer.as_bytes()].concat();
        let ([high, low], _) = head(frame);
        Some([&[VERSION, 0, high, low, 0], &(body.len() as u32).to_be_bytes()[..], &body].concat())
    }

    /// Hands a frame on, unless it is held back.
    fn pass(&self, way: Way, statement: Option<String>, parcel: Parcel) {
        let holds = self.holds.lock().unwrap().clone();
        let left = match statement {
            Some(statement) => {
                holds.iter().try_fold(parcel, |parcel, hold| hold.catch(way, &statement, parcel))
            }
            None => Some(parcel),
        };
        if let Some((to, frame)) = left {
            // The connection may be gone.
            let _ = to.send(frame);
        }
    }
}

/// What is held back of a connection may arrive when its client is gone: only the senders keep it open.
fn serve(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let asked = Asked::default();
    let sender = |to: OwnedWriteHalf| {
        let (sender, frames) = unbounded_channel();
        tokio::spawn(write(frames, to));
        sender
    };
    let (to_client, to_server) = (sender(to_client), sender(to_server));
    // Whoever asks must not be kept waiting for the end of a connection by whoever might answer.
    let back = to_client.downgrade();
    let pump = |way: Way, from: OwnedReadHalf, to: UnboundedSender<Vec<u8>>| {
        let (shared, asked, back) = (Arc::clone(shared), Arc::clone(&asked), back.clone());
        tokio::spawn(async move {
            let mut from = BufReader::new(from);
            while let Some(frame) = read(&mut from).await {
                let statement = match way {
                    Way::Request => shared.request(&asked, &frame),
                    Way::Answer => shared.answer(&asked, &frame),
                };
                let refused = statement.as_ref().filter(|_| way == Way::Request);
                match refused.and_then(|statement| shared.refusal(statement, &frame)).zip(back.upgrade()) {
                    Some((refusal, client)) => drop(client.send(refusal)),
                    None => shared.pass(way, statement, (to.clone(), frame)),
                }
            }
        });
    };
    pump(Way::Request, from_client, to_server);
    pump(Way::Answer, from_server, to_client);
}

async fn write(mut frames: UnboundedReceiver<Vec<u8>>, mut to: OwnedWriteHalf) {
    while let Some(frame) = frames.recv().await {
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Bytes of a frame before its body: version, flags, stream (2), opcode, length (4).
const HEAD: usize = 9;

async fn read(from: &mut BufReader<OwnedReadHalf>) -> Option<Vec<u8>> {
    let mut frame = vec![0; HEAD];
    from.read_exact(&mut frame).await.ok()?;
    let length = u32::from_be_bytes(frame[5..HEAD].try_into().unwrap());
    frame.resize(HEAD + length as usize, 0);
    from.read_exact(&mut frame[HEAD..]).await.ok()?;
    Some(frame)
}

/// Stream and opcode.
fn head(frame: &[u8]) -> ([u8; 2], u8) {
    const VERSION: u8 = 4;
    const COMPRESSED: u8 = 1;
    assert!(frame[0] & 0x7f == VERSION && frame[1] & COMPRESSED == 0, "another protocol: {frame:?}");
    ([frame[2], frame[3]], frame[4])
}

fn long_text(body: &[u8]) -> &[u8] {
    let length = u32::from_be_bytes(body[..4].try_into().unwrap());
    &body[4..4 + length as usize]
}

fn short_bytes(body: &[u8]) -> &[u8] {
    let length = u16::from_be_bytes(body[..2].try_into().unwrap());
    &body[2..2 + usize::from(length)]
}

fn without_keyspace(statement: &str) -> String {
    let words = statement.split(' ').map(|word| word.rsplit_once('.').map_or(word, |(_, table)| table));
    words.collect::<Vec<_>>().join(" ")
}
