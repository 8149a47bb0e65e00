//! A way to a server that can be cut, and held up in either direction.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

pub struct Proxy {
    pub address: SocketAddr,
    flow: watch::Sender<Flow>,
    barred: watch::Sender<HashSet<IpAddr>>,
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (flow, watch) = watch::channel(Flow::Open);
        let (bar, barred) = watch::channel(HashSet::new());
        tokio::spawn(async move {
            while let Ok((client, source)) = listener.accept().await {
                let mut barred = barred.clone();
                let way = serve(client, server.clone(), watch.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = way => {}
                        _ = barred.wait_for(|barred| barred.contains(&source.ip())) => {}
                    }
                });
            }
        });
        Self { address, flow, barred: bar }
    }

    /// Ends the connections of these clients, and takes no more of them.
    pub fn bar(&self, sources: HashSet<IpAddr>) {
        self.barred.send_replace(sources);
    }

    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

async fn serve(client: TcpStream, server: String, mut flow: watch::Receiver<Flow>) {
    if *flow.borrow() == Flow::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let holds = |held: Flow| move |flow: &Flow| *flow == held || *flow == Flow::HoldsAll;
    tokio::select! {
        // Either way the connection is over.
        () = pump(from_client, to_server, flow.clone(), holds(Flow::HoldsRequests)) => {}
        () = pump(from_server, to_client, flow.clone(), holds(Flow::HoldsAnswers)) => {}
        _ = flow.wait_for(|flow| *flow == Flow::Cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    is_held: impl Fn(&Flow) -> bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let is_open = flow.wait_for(|flow| !is_held(flow)).await.is_ok();
        if !is_open || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
