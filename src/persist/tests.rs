//! The persister between a store, sessions and a router of the tests' own.

use std::{collections::HashSet, sync::Mutex};

use actix::Addr;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::{
    protocol::{EventId, Tags, Timestamp, sign::Keys},
    route::{ClientLink, Join, Push, RouterAddr, Subscribe, SubscriptionRouter, Whose},
    store::{
        BatchOutcome, StoreError, Wrapper,
        log::{Heartbeat, Log, Logged, Origin, Sequence},
        memory::Memory,
    },
    trace::Trace,
};

/// Long for a machine that has other things to do, and short for whoever waits for tests.
const DEADLINE: Duration = Duration::from_millis(400);

/// A store that is held up, and fails, when the test says so.
struct Held {
    inner: Memory,
    /// Batches that may be written.
    gate: Semaphore,
    /// Batches with one of these events fail.
    failing: Mutex<HashSet<EventId>>,
    /// What it was given, batch by batch.
    batches: Mutex<Vec<Vec<EventId>>>,
    /// Whether others write to it too.
    is_shared: bool,
}

impl Held {
    fn new(is_shared: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: Memory::new(),
            gate: Semaphore::new(0),
            failing: Mutex::default(),
            batches: Mutex::default(),
            is_shared,
        })
    }

    fn release(&self) {
        self.gate.add_permits(1_000);
    }

    fn given(&self) -> Vec<usize> {
        self.batches.lock().unwrap().iter().map(Vec::len).collect()
    }
}

impl Wrapper for Held {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>> {
        async move {
            let ids: Vec<EventId> = batch.iter().map(|event| event.id()).collect();
            self.batches.lock().unwrap().push(ids.clone());
            self.gate.acquire().await.unwrap().forget();
            let fails = ids.iter().any(|id| self.failing.lock().unwrap().contains(id));
            match fails {
                true => Err(StoreError::Engine(Arc::new(std::io::Error::other("told to fail")))),
                false => self.inner.write(batch, now, until).await,
            }
        }
        .boxed()
    }

    fn log(&self) -> Option<Arc<dyn Log>> {
        self.is_shared.then(|| Arc::new(Empty) as Arc<dyn Log>)
    }
}

/// A log of which nobody writes anything.
struct Empty;

impl Log for Empty {
    fn origin(&self) -> Origin {
        1
    }

    fn send_heartbeat(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn heartbeats(&self) -> BoxFuture<'_, Result<Vec<Heartbeat>, StoreError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn read(&self, _: Origin, _: Sequence, _: Sequence) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn settles_in(&self) -> Duration {
        DEADLINE
    }

    fn kept_for(&self) -> Duration {
        DEADLINE
    }
}

/// Publishes and subscribes, and tells what it hears.
struct Client {
    answers: mpsc::UnboundedSender<(EventId, Answer)>,
    delivered: mpsc::UnboundedSender<EventId>,
}

impl Actor for Client {
    type Context = Context<Self>;
}

impl Handler<Written> for Client {
    type Result = ();

    fn handle(&mut self, Written(answers): Written, _: &mut Self::Context) {
        for (id, answer, _) in answers {
            self.answers.send((id, answer)).unwrap();
        }
    }
}

impl Handler<Push> for Client {
    type Result = ();

    fn handle(&mut self, push: Push, _: &mut Self::Context) {
        if let Push::Deliver(delivery) = push {
            delivery.events.iter().for_each(|(_, event)| self.delivered.send(event.id()).unwrap());
        }
    }
}

struct Stage {
    store: Arc<Held>,
    queue: Arc<Queue>,
    persister: Addr<Persister>,
    client: Addr<Client>,
    answers: mpsc::UnboundedReceiver<(EventId, Answer)>,
    /// What the router handed out, in its order.
    delivered: mpsc::UnboundedReceiver<EventId>,
    metrics: Arc<Metrics>,
    keys: Keys,
}

impl Stage {
    async fn new(store: Arc<Held>) -> Self {
        let config = config::Persister {
            deadline_ms: DEADLINE.as_millis() as u64,
            // A batch that hangs closes the door soon after.
            batch_ms: 100,
            ..config::Persister::default()
        };
        let metrics = Arc::new(Metrics::new("test"));
        let (answers, heard) = mpsc::unbounded_channel();
        let (delivered, routed) = mpsc::unbounded_channel();
        let client = Client { answers, delivered }.start();
        let router = SubscriptionRouter::new(&config::Session::default(), 0, None, Arc::clone(&metrics));
        let router = RouterAddr::new(router.start(), Default::default());
        let link = Arc::new(ClientLink::new(-1));
        router.send(Join { id: 1, session: client.clone().recipient(), link }).await.unwrap();
        let filters = [crate::protocol::Filter::default()].into();
        router.send(Subscribe { session: 1, generation: 1, filters, whose: Whose::Client }).await.unwrap();
        let routers = Routers::default();
        routers.add(router);
        let parts =
            PersisterParts { routers, ..PersisterParts::on(Arc::clone(&store) as _, &config, &metrics) };
        let (queue, persister) = (Arc::clone(&parts.queue), parts.start(config));
        // It has started when it answers.
        persister.send(Flush).await.unwrap();
        let keys = Keys::generate();
        Self { store, queue, persister, client, answers: heard, delivered: routed, metrics, keys }
    }

    fn event(&self, kind: u16, content: &str) -> Arc<Event> {
        Arc::new(self.keys.sign(clock::now(), kind, Tags::default(), content))
    }

    fn publisher(&self) -> Publisher {
        Publisher { id: 1, session: Arc::new(self.client.clone().recipient()) }
    }

    fn publish(&self, event: &Arc<Event>) {
        let place = self.queue.budget().take_stored(&Arc::default(), 7, 1, Instant::now()).unwrap();
        self.queue.store(Arc::clone(event), place, self.publisher(), Trace::default());
    }

    fn publish_ephemeral(&self, event: &Arc<Event>) {
        let place = self.queue.budget().take(1).unwrap();
        self.queue.route(Arc::clone(event), place, self.publisher(), Trace::default()).unwrap();
    }

    /// The store has been given so many batches.
    async fn given(&self, batches: usize) {
        while self.store.given().len() < batches {
            actix::clock::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn answer(&mut self) -> (EventId, String) {
        let (id, answer) = self.answers.recv().await.unwrap();
        let text = match answer {
            Answer::Outcome(outcome) => format!("{outcome:?}"),
            Answer::Routed => "Routed".into(),
            Answer::Failed(reason) => reason.to_string(),
            Answer::Overloaded => "Overloaded".into(),
        };
        (id, text)
    }
}

fn told(event: &Arc<Event>, text: &str) -> (EventId, String) {
    (event.id(), text.to_owned())
}

#[actix::test]
async fn what_comes_while_a_batch_is_written_is_the_next_and_is_routed_in_its_order() {
    let mut stage = Stage::new(Held::new(false)).await;
    let events = ["a", "b", "c"].map(|content| stage.event(1, content));
    stage.publish(&events[0]);
    stage.given(1).await;
    events[1..].iter().for_each(|event| stage.publish(event));
    stage.store.release();
    for event in &events {
        assert_eq!(stage.answer().await, told(event, "Stored"));
    }
    for event in &events {
        assert_eq!(stage.delivered.recv().await, Some(event.id()));
    }
    assert_eq!(stage.store.given(), [1, 2]);
    stage.publish(&events[0]);
    assert_eq!(stage.answer().await, told(&events[0], "Duplicate"));
    assert!(stage.delivered.try_recv().is_err());
}

#[actix::test]
async fn who_waits_longer_than_the_deadline_is_told_so_and_what_lands_later_is_routed() {
    let mut stage = Stage::new(Held::new(false)).await;
    let (slow, waiting) = (stage.event(1, "slow"), stage.event(1, "waiting"));
    let begun = Instant::now();
    stage.publish(&slow);
    stage.given(1).await;
    stage.publish(&waiting);
    // The one may be stored yet, the other never was given to the store.
    let answers = HashSet::from([stage.answer().await, stage.answer().await]);
    let late = "error: the store did not answer in time; try again";
    assert_eq!(answers, HashSet::from([told(&slow, late), told(&waiting, "Overloaded")]));
    assert!(begun.elapsed() >= DEADLINE);
    stage.store.release();
    assert_eq!(stage.delivered.recv().await, Some(slow.id()));
    stage.persister.send(Flush).await.unwrap();
    assert_eq!(stage.store.given(), [1]);
    assert!(stage.delivered.try_recv().is_err());
}

#[actix::test]
async fn what_failed_is_tried_again_where_others_write_too() {
    let mut stage = Stage::new(Held::new(true)).await;
    let event = stage.event(1, "fails once");
    stage.store.failing.lock().unwrap().insert(event.id());
    stage.store.release();
    stage.publish(&event);
    assert_eq!(stage.answer().await, told(&event, "error: the store failed"));
    assert_eq!(stage.metrics.unsettled.get(), 1);
    stage.store.failing.lock().unwrap().clear();
    assert_eq!(stage.delivered.recv().await, Some(event.id()));
    assert!(stage.answers.try_recv().is_err(), "it was answered");
    while stage.metrics.unsettled.get() > 0 {
        actix::clock::sleep(Duration::from_millis(1)).await;
    }
}

#[actix::test]
async fn what_failed_is_not_tried_again_where_nobody_else_writes() {
    let mut stage = Stage::new(Held::new(false)).await;
    let (bad, good) = (stage.event(1, "fails"), stage.event(1, "does not"));
    stage.store.failing.lock().unwrap().insert(bad.id());
    stage.store.release();
    stage.publish(&bad);
    assert_eq!(stage.answer().await, told(&bad, "error: the store failed"));
    stage.publish(&good);
    assert_eq!(stage.answer().await, told(&good, "Stored"));
    actix::clock::sleep(2 * DEADLINE).await;
    assert_eq!((stage.store.given(), stage.metrics.unsettled.get()), (vec![1, 1], 0));
}

#[actix::test]
async fn a_flush_ends_when_all_is_stored_and_routed() {
    let mut stage = Stage::new(Held::new(false)).await;
    let events = ["a", "b"].map(|content| stage.event(1, content));
    stage.publish(&events[0]);
    stage.given(1).await;
    stage.publish(&events[1]);
    let mut flushed = Box::pin(stage.persister.send(Flush));
    actix::clock::sleep(Duration::from_millis(5)).await;
    assert!(flushed.as_mut().now_or_never().is_none(), "nothing is stored yet");
    stage.store.release();
    flushed.await.unwrap();
    let routed = [stage.delivered.try_recv().ok(), stage.delivered.try_recv().ok()];
    assert_eq!(routed, events.map(|event| Some(event.id())));
}

#[actix::test]
async fn ephemeral_events_do_not_wait_for_the_store_and_keep_their_order() {
    let mut stage = Stage::new(Held::new(false)).await;
    let stored = stage.event(1, "stored");
    stage.publish(&stored);
    stage.given(1).await;
    let passing = ["a", "b", "c"].map(|content| stage.event(20_001, content));
    for event in passing.iter().chain(&passing[..1]) {
        stage.publish_ephemeral(event);
    }
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(stage.answer().await);
    }
    // The copy waited with the first, or came after it.
    let duplicates = answers.iter().filter(|(_, text)| text == "Duplicate").count();
    assert!(duplicates <= 1 && answers.iter().filter(|(_, text)| text == "Routed").count() == 4 - duplicates);
    for event in &passing {
        assert_eq!(stage.delivered.recv().await, Some(event.id()));
    }
    assert!(stage.delivered.try_recv().is_err());
    stage.store.release();
    assert_eq!(stage.answer().await, told(&stored, "Stored"));
}

#[actix::test]
async fn a_store_that_was_slow_is_given_no_more_than_it_takes_in_time() {
    let mut stage = Stage::new(Held::new(false)).await;
    let place =
        |stage: &Stage, rows| stage.queue.budget().take_stored(&Arc::default(), rows, 1, Instant::now());
    let both = |stage: &Stage, rows| {
        let first = place(stage, rows);
        first.is_some() && place(stage, rows).is_some()
    };
    assert!(both(&stage, 50_000), "nothing is known of it");
    let slow = stage.event(1, "slow");
    let place = place(&stage, 2_000).unwrap();
    stage.queue.store(Arc::clone(&slow), place, stage.publisher(), Trace::default());
    stage.given(1).await;
    // Some 2,500 rows a second, at the most.
    actix::clock::sleep(2 * DEADLINE).await;
    stage.store.release();
    assert_eq!(stage.delivered.recv().await, Some(slow.id()));
    stage.persister.send(Flush).await.unwrap();
    assert!(!both(&stage, 50_000), "it would take a second and more");
    assert!(both(&stage, 50), "it is asked for little, to find out");
}

#[test]
fn one_old_event_does_not_cut_the_time_of_a_young_batch_short() {
    const SECOND: Duration = Duration::from_secs(1);
    let now = Instant::now() + 60 * SECOND;
    let left = |ages: &[u32]| {
        let since = ages.iter().map(|age| now - *age * SECOND / 10).collect();
        left_to_most(since, 2 * SECOND, now).as_millis()
    };
    assert_eq!(left(&[19, 0, 0, 0]), 2_000);
    assert_eq!(left(&[19, 18, 17, 0]), 300);
    assert_eq!((left(&[19]), left(&[25]), left(&[])), (100, 0, 2_000));
}
