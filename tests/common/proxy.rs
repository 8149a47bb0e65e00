//! A way to a server that can be cut, and held up in either direction.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
};

pub struct Proxy {
    pub address: SocketAddr,
    flow: watch::Sender<Flow>,
    barred: watch::Sender<HashSet<IpAddr>>,
    counts: Arc<Counts>,
}

/// What went through.
#[derive(Default)]
struct Counts {
    /// Both ways.
    bytes: AtomicU64,
    /// Connections that were ended because their clients read too slowly.
    evicted: AtomicUsize,
}

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Bytes go both ways.
    Open,
    /// All have ended, and each new one ends at once.
    Cut,
    /// What the client says is held back.
    HoldsRequests,
    /// What the server says is held back.
    HoldsAnswers,
    /// Both are.
    HoldsAll,
}

impl Proxy {
    /// Listens, and hands everything on to `server`.
    pub async fn start(server: String) -> Self {
        Self::start_with(server, None).await
    }

    /// One that ends a connection when so many bytes of the server's wait for the client to read.
    pub async fn start_impatient(server: String, unsent: usize) -> Self {
        Self::start_with(server, Some(unsent)).await
    }

    async fn start_with(server: String, unsent: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (flow, watch) = watch::channel(Flow::Open);
        let (bar, barred) = watch::channel(HashSet::new());
        let counts: Arc<Counts> = Arc::default();
        let counted = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((client, source)) = listener.accept().await {
                let mut barred = barred.clone();
                let way = serve(client, server.clone(), watch.clone(), unsent, Arc::clone(&counted));
                tokio::spawn(async move {
                    tokio::select! {
                        () = way => {}
                        _ = barred.wait_for(|barred| barred.contains(&source.ip())) => {}
                    }
                });
            }
        });
        Self { address, flow, barred: bar, counts }
    }

    /// Bytes that went either way.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Relaxed)
    }

    /// How many connections were ended because their clients read too slowly.
    pub fn evicted(&self) -> usize {
        self.counts.evicted.load(Relaxed)
    }

    /// Ends the connections of these clients, and takes no more of them.
    pub fn bar(&self, sources: HashSet<IpAddr>) {
        self.barred.send_replace(sources);
    }

    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

async fn serve(
    client: TcpStream,
    server: String,
    flow: watch::Receiver<Flow>,
    unsent: Option<usize>,
    counts: Arc<Counts>,
) {
    if *flow.borrow() == Flow::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let holds = |held: Flow| move |flow: &Flow| *flow == held || *flow == Flow::HoldsAll;
    let answers = async {
        let holds = holds(Flow::HoldsAnswers);
        match unsent {
            None => pump(from_server, to_client, flow.clone(), holds, &counts).await,
            Some(unsent) => pump_impatiently(from_server, to_client, unsent, &counts).await,
        }
    };
    let mut cut = flow.clone();
    tokio::select! {
        // Either way the connection is over.
        () = pump(from_client, to_server, flow.clone(), holds(Flow::HoldsRequests), &counts) => {}
        () = answers => {}
        _ = cut.wait_for(|flow| *flow == Flow::Cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    is_held: impl Fn(&Flow) -> bool,
    counts: &Counts,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let is_open = flow.wait_for(|flow| !is_held(flow)).await.is_ok();
        if !is_open || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        counts.bytes.fetch_add(count as u64, Relaxed);
    }
}

async fn pump_impatiently(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, most: usize, counts: &Counts) {
    let (unsent, (give, mut take)) = (AtomicUsize::new(0), mpsc::unbounded_channel::<Vec<u8>>());
    let read = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if unsent.fetch_add(count, Relaxed) + count > most {
                counts.evicted.fetch_add(1, Relaxed);
                return;
            }
            let _ = give.send(buffer[..count].to_vec());
        }
    };
    let write = async {
        while let Some(bytes) = take.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
            unsent.fetch_sub(bytes.len(), Relaxed);
            counts.bytes.fetch_add(bytes.len() as u64, Relaxed);
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}
