//! Sessions between a store, a router and accounts of the tests' own: who is shown what others do.

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

/// Readers, whether they share what they do, and what for friends and for followers they are shown.
const TABLE: [(&str, bool, [bool; 2]); 12] = [
    ("author", true, [true, true]),
    ("author", false, [true, true]),
    ("stranger", true, [false, false]),
    ("stranger", false, [false, false]),
    ("follower", true, [false, true]),
    ("follower", false, [false, false]),
    ("friend", true, [true, true]),
    ("friend", false, [false, false]),
    // Who follows the author no more, and whom the author follows no more.
    ("once a friend", true, [false, false]),
    ("once a friend", false, [false, false]),
    ("no friend of theirs", true, [false, true]),
    ("no friend of theirs", false, [false, false]),
];

#[actix::test]
async fn what_somebody_does_is_shown_to_those_whom_they_have_chosen() {
    for (reader, shares, expected) in TABLE {
        let mut stage = Stage::new();
        let [author, other] = [(); 2].map(|()| Keys::generate());
        let who = if reader == "author" { author.clone() } else { other };
        if !shares {
            stage.silent.0.lock().unwrap().insert(who.public_key());
        }
        if matches!(reader, "friend" | "once a friend" | "no friend of theirs") {
            stage.follow(&author, &[&who]).await;
        }
        if matches!(reader, "follower" | "friend" | "once a friend" | "no friend of theirs") {
            stage.follow(&who, &[&author]).await;
        }
        match reader {
            "once a friend" => stage.follow(&who, &[]).await,
            "no friend of theirs" => stage.follow(&author, &[]).await,
            _ => {}
        }
        let note = stage.note(&author).await.id();
        for (audience, expected) in [Audience::Friends, Audience::Followers].into_iter().zip(expected) {
            let told = format!("{reader}, shares: {shares}, {audience:?}");
            let shown = |id: EventId| if expected { vec![id] } else { Vec::new() };
            let event = stage.activity(&author, audience);
            stage.store(&event).await;
            let id = event.id();
            let named = json!({ "kinds": [kind::ACTIVITY], "ids": [id.to_hex()] });
            let mut client = stage.connect_as(&who).await;
            // Stored, by every filter that may find it and those that may not.
            assert_eq!(client.ask("named", named.clone()).await, shown(id), "{told}");
            let by_author =
                json!({ "kinds": [kind::ACTIVITY], "authors": [author.public_key().to_hex()], "limit": 1 });
            assert_eq!(client.ask("by author", by_author).await, shown(id), "{told}");
            assert_eq!(client.ask("by id", json!({ "ids": [id.to_hex()] })).await, [], "{told}");
            let everything = client.ask("all", json!({})).await;
            assert!(everything.contains(&note) && !everything.contains(&id), "{told}");
            // Counted.
            assert_eq!(client.count(named.clone()).await, u64::from(expected), "{told}");
            assert_eq!(client.count(json!({ "ids": [id.to_hex()] })).await, 0, "{told}");
            // Reconciled.
            assert!(client.has(json!({}), &note).await, "{told}");
            for filter in [json!({}), named, json!({ "kinds": [1, kind::ACTIVITY] })] {
                assert!(!client.has(filter, &id).await, "{told}");
            }
            // Live, by this node and by another; subscriptions that do not name it get nothing.
            client.say(json!(["CLOSE", "named"])).await;
            client.say(json!(["CLOSE", "by author"])).await;
            client.ask("live", json!({ "kinds": [kind::ACTIVITY], "limit": 0 })).await;
            for is_here in [true, false] {
                let event = stage.activity(&author, audience);
                stage.publish(&event, is_here).await;
                assert_eq!(client.heard().await, shown(event.id()), "{told}, here: {is_here}");
            }
        }
    }
}

#[actix::test]
async fn without_a_proved_key_nobody_is_shown_anything() {
    let mut stage = Stage::new();
    let author = Keys::generate();
    stage.act(&author, Audience::Followers).await;
    let mut client = stage.connect();
    client.next().await;
    for kinds in [json!([kind::ACTIVITY]), json!([4, kind::ACTIVITY])] {
        for verb in ["REQ", "COUNT"] {
            client.say(json!([verb, "x", { "kinds": kinds }])).await;
            let refused = client.next().await;
            assert_eq!(refused[0], "CLOSED");
            assert!(refused[2].as_str().unwrap().starts_with("auth-required: "), "{refused}");
        }
    }
    assert_eq!(client.ask("both", json!({ "kinds": [1, kind::ACTIVITY] })).await, []);
    assert_eq!(client.count(json!({ "kinds": [1, kind::ACTIVITY] })).await, 0);
    stage.act(&author, Audience::Followers).await;
    let note = stage.note(&author).await.id();
    assert_eq!(client.heard().await, [note]);
}

/// Whoever proves a key while subscribed is shown from then on what the key may see.
#[actix::test]
async fn a_key_that_is_proved_later_counts_for_what_comes_then() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    stage.follow(&reader, &[&author]).await;
    let mut client = stage.connect();
    let challenge = client.next().await;
    assert_eq!(client.ask("x", json!({ "kinds": [1, kind::ACTIVITY] })).await, []);
    client.outbox.text(&challenge.to_string());
    client.authenticate(&reader).await;
    let event = stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, [event]);
}

#[actix::test]
async fn follows_and_unfollows_count_at_once() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    let mut client = stage.connect_as(&reader).await;
    client.ask("x", json!({ "kinds": [kind::ACTIVITY] })).await;
    let deleted = format!("3:{}:", author.public_key());
    type Change<'a> = (&'a Keys, u16, Vec<&'a Keys>, [bool; 2]);
    let changes: [Change<'_>; 9] = [
        (&reader, kind::FOLLOW_LIST, vec![], [false, false]),
        (&reader, kind::FOLLOW_LIST, vec![&author], [false, true]),
        (&author, kind::FOLLOW_LIST, vec![&reader], [true, true]),
        (&author, kind::FOLLOW_LIST, vec![], [false, true]),
        (&author, kind::FOLLOW_LIST, vec![&reader], [true, true]),
        (&author, kind::DELETION, vec![], [false, true]),
        (&reader, kind::FOLLOW_LIST, vec![], [false, false]),
        (&reader, kind::FOLLOW_LIST, vec![&author], [false, true]),
        (&reader, kind::VANISH, vec![], [false, false]),
    ];
    for (nth, (who, kind, whom, expected)) in changes.into_iter().enumerate() {
        let change = match kind {
            kind::FOLLOW_LIST => stage.list(who, &whom),
            kind => stage.event(who, kind, Tags::from_iter([["a", &deleted], ["relay", "ALL_RELAYS"]])),
        };
        stage.publish(&change, true).await;
        // What is done right after it is judged by it, though the lists have not been read again yet.
        let mut shown = BTreeSet::new();
        for (audience, is_shown) in [Audience::Friends, Audience::Followers].into_iter().zip(expected) {
            let id = stage.act(&author, audience).await;
            shown.extend(is_shown.then_some(id));
        }
        assert_eq!(client.heard().await.into_iter().collect::<BTreeSet<_>>(), shown, "change {nth}");
    }
}

/// Between nodes, a change may be missed. After that nothing is shown by what was known before.
#[actix::test]
async fn after_a_doubt_the_lists_are_read_anew() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    stage.follow(&reader, &[&author]).await;
    stage.follow(&author, &[&reader]).await;
    let mut client = stage.connect_as(&reader).await;
    client.ask("x", json!({ "kinds": [kind::ACTIVITY] })).await;
    let shown = stage.act(&author, Audience::Friends).await;
    assert_eq!(client.heard().await, [shown]);
    let unheard = stage.list(&author, &[]);
    stage.store(&unheard).await;
    stage.doubts.fetch_add(1, Ordering::Relaxed);
    stage.act(&author, Audience::Friends).await;
    let shown = stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, [shown]);
    let unheard = stage.list(&reader, &[]);
    stage.store(&unheard).await;
    stage.doubts.fetch_add(1, Ordering::Relaxed);
    stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, []);
}

#[actix::test]
async fn what_is_not_known_is_not_shown() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    stage.follow(&reader, &[&author]).await;
    let mut client = stage.connect_as(&reader).await;
    stage.store.hides_lists.store(true, Ordering::Relaxed);
    let stored = stage.act(&author, Audience::Followers).await;
    let named = json!({ "kinds": [kind::ACTIVITY] });
    assert_eq!(client.ask("x", named.clone()).await, []);
    stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, []);
    client.say(json!(["COUNT", "count", named.clone()])).await;
    assert_eq!(client.next().await[0], "CLOSED");
    // It is read again for the next one that comes, and for the next question.
    stage.store.hides_lists.store(false, Ordering::Relaxed);
    let shown = stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, [shown]);
    assert!(client.ask("y", named).await.contains(&stored));
}

/// What a session has of its own for this goes with the last subscription that wants it.
#[actix::test]
async fn nothing_stays_of_a_subscription_that_ended() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    stage.follow(&reader, &[&author]).await;
    let mut client = stage.connect_as(&reader).await;
    let metrics = Arc::clone(&stage.parts.metrics);
    let held = || (metrics.subscriptions.get(), metrics.routing_keys.get());
    client.ask("note", json!({ "kinds": [1] })).await;
    assert_eq!(held(), (1, 1));
    for _ in 0..2 {
        client.ask("x", json!({ "kinds": [kind::ACTIVITY] })).await;
        assert_eq!(held(), (2, 4), "with the lists of the reader and of the author");
    }
    client.say(json!(["CLOSE", "x"])).await;
    client.ask("note", json!({ "kinds": [1] })).await;
    assert_eq!(held(), (1, 1));
    stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, []);
}

/// They are not the client's: it has as many as it may have, and is told of no more.
#[actix::test]
async fn what_a_session_has_of_its_own_takes_no_room_of_the_client() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    stage.follow(&reader, &[&author]).await;
    let mut client = stage.connect_as(&reader).await;
    let mut config = config::Config::default();
    (config.limits.max_subscriptions, config.limits.max_routing_keys) = (2, 2);
    stage.parts.live.replace((&config).into());
    for id in ["x", "y"] {
        client.ask(id, json!({ "kinds": [kind::ACTIVITY] })).await;
    }
    assert_eq!(stage.parts.metrics.subscriptions.get(), 2);
    client.say(json!(["REQ", "z", { "kinds": [1] }])).await;
    assert_eq!(client.next().await[0], "CLOSED");
}
