//! Nodes of the tests: each with a persister of its own, over one store that does what it is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::watch;

use super::{Bounds, Door, Follows, Lists, Ways, replaceable::Changes};
use crate::{
    config,
    persist::PersisterParts,
    protocol::{Event, Timestamp, sign::Keys},
    store::{
        BatchOutcome, Outcome, Shortage, Store, StoreError, Wrapper,
        lmdb::{Access, Lmdb},
        memory::Memory,
        tap::{Tap, Taps},
    },
    telemetry::Metrics,
    trace::Tracer,
};

/// A store as one node has it: its writes can be held up, and fail.
pub struct Gate {
    inner: Arc<dyn Store>,
    is_open: watch::Sender<bool>,
    pub fails: AtomicBool,
    pub is_full: AtomicBool,
}

impl Gate {
    fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        let (is_open, _) = watch::channel(true);
        Arc::new(Self { inner, is_open, fails: AtomicBool::new(false), is_full: AtomicBool::new(false) })
    }

    pub fn close(&self) {
        self.is_open.send_replace(false);
    }

    pub fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// Somebody waits before the closed gate.
    pub async fn is_waited_at(&self) {
        while self.is_open.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl Wrapper for Gate {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>> {
        Box::pin(async move {
            if !*self.is_open.borrow() {
                let mut opened = self.is_open.subscribe();
                let _ = opened.wait_for(|is_open| *is_open).await;
            }
            if self.fails.load(Relaxed) {
                return Err(StoreError::Engine(Arc::new(std::io::Error::other("told to fail"))));
            }
            if self.is_full.load(Relaxed) {
                let outcomes = vec![Outcome::NoSpace(Shortage::Disk); batch.len()];
                let head = self.inner.head();
                let removed = Default::default();
                return Ok(BatchOutcome { outcomes, head, removed, sequence: None, again: Vec::new() });
            }
            self.inner.write(batch, now, until).await
        })
    }
}

/// A node.
pub struct Node {
    pub gate: Arc<Gate>,
    pub door: Arc<Door>,
    pub changes: Changes,
    pub follows: Arc<Follows>,
}

/// A store that is empty, and what it lives in.
pub struct Home {
    pub store: Arc<dyn Store>,
    _folder: Option<TempDir>,
}

/// Every store that a process can have by itself.
pub fn homes() -> [Home; 2] {
    let folder = TempDir::new().unwrap();
    let lmdb = Lmdb::open(folder.path(), &config::Lmdb::default(), Access::Exclusive).unwrap();
    [
        Home { store: Arc::new(Memory::new()), _folder: None },
        Home { store: Arc::new(lmdb), _folder: Some(folder) },
    ]
}

impl Node {
    pub fn new(home: &Home, bounds: Bounds) -> Self {
        let gate = Gate::new(Arc::clone(&home.store));
        let (lists, told) = Lists::new();
        let taps: Taps = [Arc::new(lists) as Arc<dyn Tap>].into_iter().collect();
        let store = taps.on(Arc::clone(&gate) as Arc<dyn Store>);
        let metrics = Arc::new(Metrics::new("test"));
        let config = config::Persister::default();
        let deadline = config.deadline();
        let parts = PersisterParts::on(Arc::clone(&store), &config, &metrics);
        let (events, admission) = (Arc::clone(&parts.queue), Arc::clone(&parts.admission));
        parts.start(config);
        let live = config::Live::new((&config::Config::default()).into());
        let door = Arc::new(Door::new(Ways {
            events,
            admission,
            live,
            metrics,
            tracer: Tracer::default(),
            deadline,
        }));
        let changes = Changes::new(Arc::clone(&door), Arc::clone(&store), bounds.changes_per_minute);
        let follows = Arc::new(Follows::new(changes.clone(), store, bounds));
        actix::spawn(Arc::clone(&follows).keep_all(told, Arc::new(|_| Box::pin(async { Ok(true) }))));
        Self { gate, door, changes, follows }
    }
}

/// Events that other programs write, through a node's door.
pub async fn foreign(node: &Node, event: Event) {
    node.door.publish(event).await.unwrap();
}

/// Keys of people, and of the account.
pub fn keys<const N: usize>() -> [Keys; N] {
    [(); N].map(|()| Keys::generate())
}
