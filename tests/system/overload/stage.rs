//! A node in this process, on a store that does what the test says.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use rookery::{
    config::Config,
    net::raise_descriptor_limit,
    node::{self, Listeners, Outside},
    protocol::{Event, EventId, Timestamp},
    store::{BatchOutcome, Store, StoreError, Wrapper},
    telemetry::LostLines,
    trace::Tracer,
};
use tokio::sync::{Semaphore, oneshot};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use common::{Client, watch};

/// A store that can be held up, slowed down, and made to fail.
pub struct Staged {
    inner: Box<dyn Store>,
    /// Batches that may be written.
    pub gate: Semaphore,
    /// What each event takes.
    each: Duration,
    /// A batch with this event fails.
    pub poison: Mutex<Option<EventId>>,
    /// A batch of more events is late.
    pub most: AtomicUsize,
    /// A batch with this event is a fault of the store's program.
    pub fatal: Mutex<Option<EventId>>,
    /// What it was given, batch by batch.
    pub batches: Mutex<Vec<Vec<EventId>>>,
    begun: AtomicUsize,
}

impl Staged {
    /// Lets everything pass, an event in that time.
    pub fn paced(inner: impl Store, each: Duration) -> Arc<Self> {
        Arc::new(Self {
            inner: Box::new(inner),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            each,
            poison: Mutex::default(),
            most: AtomicUsize::new(usize::MAX),
            fatal: Mutex::default(),
            batches: Mutex::default(),
            begun: AtomicUsize::new(0),
        })
    }

    /// Writes nothing before the gate has a permit for it.
    pub fn held(inner: impl Store) -> Arc<Self> {
        let mut staged = Self::paced(inner, Duration::ZERO);
        if let Some(staged) = Arc::get_mut(&mut staged) {
            staged.gate = Semaphore::new(0);
        }
        staged
    }

    /// Lets everything pass from now on.
    pub fn release(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Batches that it was given, those that it holds included.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Every event that it was given to write, each time.
    pub fn written(&self) -> Vec<EventId> {
        self.batches.lock().unwrap().concat()
    }
}

impl Wrapper for Staged {
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
            self.begun.fetch_add(1, Ordering::Relaxed);
            self.gate.acquire().await.unwrap().forget();
            tokio::time::sleep(self.each * batch.len() as u32).await;
            let ids: Vec<EventId> = batch.iter().map(|event| event.id()).collect();
            let fatal = *self.fatal.lock().unwrap();
            assert!(!fatal.is_some_and(|fatal| ids.contains(&fatal)), "a planted fault");
            let poison = *self.poison.lock().unwrap();
            self.batches.lock().unwrap().push(ids.clone());
            if poison.is_some_and(|poison| ids.contains(&poison)) {
                return Err(StoreError::Engine(Arc::new(std::io::Error::other("poison"))));
            }
            if batch.len() > self.most.load(Ordering::Relaxed) {
                return Err(StoreError::Late(Arc::new(std::io::Error::other("too much"))));
            }
            self.inner.write(batch, now, until).await
        })
    }
}

/// A running node; ends when dropped.
pub struct Node {
    pub address: SocketAddr,
    pub operators: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Node {
    pub fn start(store: &Arc<Staged>, settings: impl FnOnce(&mut Config)) -> Self {
        watch::begin();
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (clients, operators) = (bind(), bind());
        let address = clients.local_addr().unwrap();
        let listeners = Listeners { clients: Some(clients), operators };
        let operators = listeners.operators.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let mut config = Config::default();
        config.general.workers = 1;
        settings(&mut config);
        let store: Arc<dyn Store> = Arc::clone(store) as _;
        let thread = thread::spawn(move || {
            let shutdown = async {
                // Told, or the test is gone.
                let _ = ended.await;
            };
            let outside = Outside {
                listeners,
                descriptors: raise_descriptor_limit(),
                tracer: Tracer::default(),
                log: LostLines::default(),
                reload: None,
            };
            let run = node::run_on(store, config, outside, shutdown);
            actix::System::new().block_on(run).unwrap();
        });
        Self { address, operators, end: Some(end), thread: Some(thread) }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(format!("ws://{}", self.address).into_client_request().unwrap()).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let (Some(end), Some(thread)) = (self.end.take(), self.thread.take()) {
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}
