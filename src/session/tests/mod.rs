//! Sessions between a store, a router and accounts of the tests' own: who is shown what others do.

mod audiences;
mod bounds;
mod lists;

use std::{
    collections::BTreeSet,
    future::ready,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use actix::{Addr, Message};
use actix_codec::Decoder;
use actix_http::ws::{Codec, Frame};
use actix_web::{error::PayloadError, web::Bytes};
use actix_web_actors::ws::WebsocketContext;
use bytes::BytesMut;
use futures_util::{StreamExt, future::BoxFuture, stream};
use serde_json::{Value, json};

use super::{
    frames::FrameBounds,
    guard::{Guard, Stop},
    *,
};
use crate::{
    clock, config,
    ingest::RecentIds,
    protocol::{
        Audience, Event, EventId, PublicKey, Tags, Timestamp, kind,
        negentropy::{KeySet, MIN_FRAME_BYTES},
        sign::Keys,
    },
    route::{Route, SubscriptionRouter},
    store::{Cursor, Page, Query, StoreError, Wrapper, memory::Memory},
    trace::Traced,
};

const HOST: &str = "127.0.0.1:7777";

/// A store whose follow lists can not be read when the test says so.
#[derive(Default)]
struct Shelf {
    inner: Memory,
    hides_lists: AtomicBool,
}

impl Wrapper for Shelf {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>> {
        let is_for_lists = query.filters.iter().any(|(filter, _)| filter.matches_kind(kind::FOLLOW_LIST));
        match is_for_lists && self.hides_lists.load(Ordering::Relaxed) {
            true => Box::pin(ready(Err(StoreError::Closed))),
            false => self.inner.query(query, cursor),
        }
    }
}

/// Accounts that let nobody see what they do; all others do.
#[derive(Default)]
struct Silent(Mutex<BTreeSet<PublicKey>>);

impl Reciprocity for Silent {
    fn shares(&self, key: PublicKey) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(ready(Ok(!self.0.lock().unwrap().contains(&key))))
    }
}

struct Stage {
    store: Arc<Shelf>,
    silent: Arc<Silent>,
    /// The number of the node's doubts.
    doubts: Arc<AtomicU64>,
    router: RouterAddr,
    parts: Arc<SessionParts>,
    now: Timestamp,
}

/// What a session does with a message of its client.
#[derive(Message)]
#[rtype(result = "()")]
struct Say(String);

impl Handler<Say> for Session {
    type Result = ();

    fn handle(&mut self, Say(text): Say, ctx: &mut Context) {
        self.receive(&text, ctx);
    }
}

struct Client {
    session: Addr<Session>,
    outbox: Outbox,
    bytes: BytesMut,
    codec: Codec,
    asked: usize,
}

impl Stage {
    fn new() -> Self {
        let store = Arc::new(Shelf::default());
        let (silent, doubts) = (Arc::new(Silent::default()), Arc::new(AtomicU64::new(0)));
        let metrics = Arc::new(Metrics::new("test"));
        let config = config::Config::default();
        let router = SubscriptionRouter::new(&config.session, 0, None, Arc::clone(&metrics));
        let heard = Arc::clone(&doubts);
        let listener =
            move |authors: &[PublicKey]| vec![Some((heard.load(Ordering::Relaxed), 1)); authors.len()];
        let parts = SessionParts {
            live: Live::new((&config).into()),
            max_sockets: 10,
            late: Duration::ZERO,
            url: None,
            store: Arc::clone(&store) as Arc<dyn Store>,
            admission: Arc::new(Admission::new(None, RecentIds::new(16), 16)),
            queue: Queue::new(&config.persister),
            workers: Workers::here(),
            rates: Rates::new(16),
            reconciliations: Room::new(&config.sync, &metrics),
            reciprocity: Arc::clone(&silent) as Arc<dyn Reciprocity>,
            listener: Some(Arc::new(listener)),
            metrics,
            tracer: Tracer::default(),
            accounts: None,
        };
        let router = RouterAddr::new(router.start(), Default::default());
        Self { store, silent, doubts, router, parts: Arc::new(parts), now: clock::now() }
    }

    fn connect(&self) -> Client {
        let config = self.parts.live.load();
        let address = IpAddr::from([127, 0, 0, 1]);
        let outbox = Outbox::default();
        let window = Window::new(100, &self.parts.metrics);
        let socket = Socket {
            id: rand::random(),
            address,
            told: false,
            own_host: Some(HOST.to_owned()),
            link: Arc::new(ClientLink::new(-1)),
            outbox: outbox.clone(),
            window: window.clone(),
            permit: Arc::new(Connections::default()).take(address, &config.limits).unwrap(),
            trace: trace::ConnectionTrace::default(),
            signed_in: None,
        };
        let bounds = FrameBounds { gathered: 1 << 20, passed_over: 1 << 20 };
        let incoming = Reassembly::new(Stop::default(), bounds);
        let session = Session::new(Arc::clone(&self.parts), self.router.clone(), socket, incoming);
        // Nothing comes by the socket: the test speaks to the session.
        let (silence, _) = Guard::new(stream::pending::<Result<Bytes, PayloadError>>(), window, bounds);
        let (session, frames) = WebsocketContext::create_with_addr(session, silence);
        actix::spawn(frames.for_each(|_| ready(())));
        let codec = Codec::new().client_mode().max_size(1 << 20);
        Client { session, outbox, bytes: BytesMut::new(), codec, asked: 0 }
    }

    /// A connection that has proved the key.
    async fn connect_as(&self, keys: &Keys) -> Client {
        let mut client = self.connect();
        client.authenticate(keys).await;
        client
    }

    /// Stores an event, and routes it as one of this node, or as one that came from another.
    async fn publish(&self, event: &Arc<Event>, is_here: bool) {
        self.store(event).await;
        let position = is_here.then(|| self.store.inner.head());
        let route =
            Route { events: [Arc::clone(event)].into(), traced: Traced::default(), position, last: true };
        self.router.send(route).await.unwrap();
    }

    async fn store(&self, event: &Arc<Event>) {
        let until = Instant::now() + Duration::from_secs(60);
        let batch = [Arc::clone(event)].into();
        Store::write(&*self.store, batch, self.now, until).await.unwrap();
    }

    fn event(&mut self, by: &Keys, kind: u16, tags: Tags) -> Arc<Event> {
        self.now += 1;
        Arc::new(by.sign(self.now, kind, tags, ""))
    }

    async fn note(&mut self, by: &Keys) -> Arc<Event> {
        let note = self.event(by, 1, Tags::default());
        self.publish(&note, true).await;
        note
    }

    fn list(&mut self, by: &Keys, whom: &[&Keys]) -> Arc<Event> {
        let tags = whom.iter().map(|keys| ["p".to_owned(), keys.public_key().to_hex()]).collect();
        self.event(by, kind::FOLLOW_LIST, tags)
    }

    async fn follow(&mut self, by: &Keys, whom: &[&Keys]) {
        let list = self.list(by, whom);
        self.publish(&list, true).await;
    }

    fn activity(&mut self, by: &Keys, audience: Audience) -> Arc<Event> {
        self.event(by, kind::ACTIVITY, Tags::from_iter([[Audience::TAG, audience.as_str()]]))
    }

    async fn act(&mut self, by: &Keys, audience: Audience) -> EventId {
        let event = self.activity(by, audience);
        self.publish(&event, true).await;
        event.id()
    }
}

impl Client {
    async fn say(&self, message: Value) {
        self.session.send(Say(message.to_string())).await.unwrap();
    }

    /// The next message.
    async fn next(&mut self) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            while let Some(piece) = self.outbox.take(usize::MAX) {
                self.bytes.extend_from_slice(&piece);
            }
            match self.codec.decode(&mut self.bytes).unwrap() {
                Some(Frame::Text(text)) => return serde_json::from_slice(&text).unwrap(),
                Some(_) => {}
                None => actix::clock::sleep(Duration::from_millis(1)).await,
            }
            assert!(Instant::now() < deadline, "nothing comes");
        }
    }

    async fn authenticate(&mut self, keys: &Keys) {
        let challenge = self.next().await;
        let url = format!("ws://{HOST}");
        let tags = Tags::from_iter([["challenge", challenge[1].as_str().unwrap()], ["relay", &url]]);
        let proof = keys.sign(clock::now(), kind::AUTH, tags, "");
        self.say(json!(["AUTH", serde_json::from_str::<Value>(proof.json()).unwrap()])).await;
        assert_eq!(self.next().await[2], true);
    }

    /// Subscribes: the stored events.
    async fn ask(&mut self, id: &str, filter: Value) -> Vec<EventId> {
        self.say(json!(["REQ", id, filter])).await;
        self.until("EOSE").await.0
    }

    async fn count(&mut self, filter: Value) -> u64 {
        self.say(json!(["COUNT", "count", filter])).await;
        self.until("COUNT").await.1[2]["count"].as_u64().unwrap()
    }

    /// What has come live: whatever was to be read for that is read before this is answered.
    async fn heard(&mut self) -> Vec<EventId> {
        self.asked += 1;
        self.say(json!(["COUNT", self.asked.to_string(), { "kinds": [9] }])).await;
        self.until("COUNT").await.0
    }

    /// Whether the set of that filter has the event.
    async fn has(&mut self, filter: Value, event: &EventId) -> bool {
        let nothing = hex::encode(KeySet::default().begin(MIN_FRAME_BYTES).unwrap());
        self.say(json!(["NEG-OPEN", "set", filter, nothing])).await;
        let (_, answer) = self.until("NEG-MSG").await;
        self.say(json!(["NEG-CLOSE", "set"])).await;
        answer[2].as_str().unwrap().contains(&event.to_hex())
    }

    /// The events that come before such a message, and that message.
    async fn until(&mut self, verb: &str) -> (Vec<EventId>, Value) {
        let mut events = Vec::new();
        loop {
            let message = self.next().await;
            match message[0].as_str() {
                Some("EVENT") => events.push(EventId::from_hex(message[2]["id"].as_str().unwrap()).unwrap()),
                Some(other) if other == verb => return (events, message),
                _ => panic!("{message}"),
            }
        }
    }
}
