//! The listener for clients: WebSocket, NIP-11 and a page for browsers at one address, and what belongs to the page.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::Actor;
use actix_http::{HttpService, Protocol, error::DispatchError};
use actix_server::ServerHandle;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    dev::{AppConfig, Extensions},
    http::{
        Method, Version,
        header::{self, HeaderMap},
    },
    rt::net::TcpStream,
    web::{self, Data, Payload},
};
use socket2::SockRef;
use tokio::time::timeout;
use tracing::debug;
use url::Url;

use super::{
    Problem,
    client::{client_address, is_trusted, names},
    info,
    page::{self, Page},
    people::{self, People},
    proxy::{ProxyFault, read_header},
};
use crate::{
    config::{Config, Network},
    route::{ClientLink, RouterAddr, Routers, SessionId, SubscriptionRouter, bus::Bus},
    session::{Connections, Outbox, PIECE, Refusal, SessionParts, Socket, Window, upgrade},
    telemetry::{BoundedQueue, measure_lag},
};

/// A running server.
pub struct Server {
    handle: ServerHandle,
    pub address: SocketAddr,
    connections: Arc<Connections>,
}

impl Server {
    /// Closes the listener and turns away who was accepted before, with 503. Sessions go on, until
    /// they end or the process does. A paused server would leave its listener open: the kernel would
    /// go on taking connections that nobody serves.
    pub fn refuse(&self) {
        self.connections.close();
        // Resolves when every connection has ended; the node counts its sessions itself.
        drop(self.handle.stop(true));
    }
}

/// What the handlers of one worker thread have.
struct Worker {
    router: RouterAddr,
    node: Arc<NodeWide>,
    page: Option<Arc<Page>>,
}

struct NodeWide {
    shared: Arc<SessionParts>,
    connections: Arc<Connections>,
    trusted_proxy: Vec<Network>,
    last_session: AtomicU64,
}

/// What the listener does with a connection before HTTP begins.
struct Beginning {
    /// Whether connections of `trusted_proxy` begin with a PROXY header.
    proxy_protocol: bool,
    trusted_proxy: Vec<Network>,
    handshake: Duration,
}

/// What is noted of a socket when it is accepted.
#[derive(Clone, Copy)]
struct Accepted {
    fd: RawFd,
    /// The address of the listener that took it.
    local: SocketAddr,
    /// Who connected: a client, or a proxy.
    peer: SocketAddr,
}

/// Serves clients until the handle stops it. Every worker gets a router of its own.
///
/// # Errors
/// When the listener can not be used.
pub fn serve(
    listener: TcpListener,
    config: &Config,
    shared: Arc<SessionParts>,
    routers: Routers,
    bus: Option<Arc<dyn Bus>>,
    connections: Arc<Connections>,
    people: Option<People>,
) -> io::Result<Server> {
    /// Sockets that a worker holds beyond our own bound, to be answered 503. actix stops accepting
    /// silently at its bound.
    const REFUSED: usize = 1_024;
    /// How long a connection may take to end. No client need be waited for long.
    const DISCONNECT: Duration = Duration::from_secs(1);

    let address = listener.local_addr()?;
    let workers = match config.general.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let handshake = Duration::from_secs(config.session.handshake_seconds);
    let unacknowledged = Duration::from_secs(config.session.unacknowledged_seconds);
    let max_connections = shared.max_sockets.saturating_add(REFUSED);
    let drain_seconds = config.general.drain_seconds;
    let paths = shared.url.as_ref().map(paths).unwrap_or_default();
    let node = Arc::new(NodeWide {
        trusted_proxy: config.general.trusted_proxy.clone(),
        shared: Arc::clone(&shared),
        connections: Arc::clone(&connections),
        last_session: AtomicU64::new(0),
    });
    let beginning = Arc::new(Beginning {
        proxy_protocol: config.general.proxy_protocol,
        trusted_proxy: config.general.trusted_proxy.clone(),
        handshake,
    });
    let page = config.page.enabled.then(|| {
        let trusted = config.general.trusted_proxy.clone();
        Arc::new(Page::new(Arc::clone(&shared), trusted, &config.page, people.clone()))
    });
    let people = people.map(|people| People { form_failed: page.clone().map(page::form_failed), ..people });
    let session = config.session.clone();
    let started = Arc::new(AtomicUsize::new(0));
    let builder = actix_server::Server::build()
        .workers(workers)
        .max_concurrent_connections(max_connections)
        .shutdown_timeout(drain_seconds.saturating_add(1))
        .disable_signals();
    let draining = builder.graceful_shutdown_signal();
    // What actix-web's HttpServer does, but for the header that a proxy may send before HTTP.
    let worker = move || {
        let (shared, node, beginning) = (Arc::clone(&shared), Arc::clone(&node), Arc::clone(&beginning));
        let routed = shared.store.head();
        let metrics = Arc::clone(&shared.metrics);
        // A worker that is made anew takes the name of one that died.
        let worker = started.fetch_add(1, Ordering::Relaxed) % workers;
        shared.workers.add(worker);
        actix::spawn(measure_lag(metrics.lag_of(format!("worker-{worker}"))));
        let full = metrics.queue_full.of(BoundedQueue::Router).clone();
        let router = SubscriptionRouter::new(&session, routed, bus.clone(), metrics).start();
        let router = RouterAddr::new(router, full);
        routers.add(router.clone());
        let page = page.clone();
        let app = App::new()
            .configure(|config| page.iter().for_each(|page| page::routes(page)(config)))
            .app_data(Data::new(Worker { router, node, page }))
            .route("/", web::route().to(root));
        // A proxy may hand the path of the public URL on.
        let app = paths.iter().fold(app, |app, path| app.route(path, web::route().to(root)));
        let app = app.configure(|config| {
            if let Some(people) = &people {
                config.service(people::scope(people));
                people::serve_names(people, config);
            }
        });
        let draining = draining.clone();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let draining = draining.clone();
                async move { draining.notified().await }
            })
            .client_request_timeout(handshake)
            .client_disconnect_timeout(DISCONNECT)
            .h1_write_buffer_size(PIECE)
            .local_addr(address)
            .on_connect_ext(move |stream, data| note_connection(stream, data, unacknowledged))
            .finish(map_config(app.into_factory(), |()| AppConfig::default()));
        fn_service(move |stream| accept(stream, Arc::clone(&beginning), Arc::clone(&shared))).and_then(http)
    };
    let server = builder.listen("clients", listener, worker)?.run();
    let handle = server.handle();
    actix::spawn(server);
    Ok(Server { handle, address, connections })
}

/// The path of a URL as clients write it, with a slash at its end or without. None for the root, which is
/// served anyway.
fn paths(url: &Url) -> Vec<String> {
    match url.path().trim_end_matches('/') {
        "" => Vec::new(),
        path => vec![path.to_owned(), format!("{path}/")],
    }
}

/// What HTTP is told of a connection: the peer is whom a trusted proxy says.
async fn accept(
    mut stream: TcpStream,
    beginning: Arc<Beginning>,
    shared: Arc<SessionParts>,
) -> Result<(TcpStream, Protocol, Option<SocketAddr>), DispatchError> {
    // Refused, it costs time and nothing else.
    let _ = stream.set_nodelay(true);
    let mut peer = stream.peer_addr()?;
    if beginning.proxy_protocol && is_trusted(peer.ip(), &beginning.trusted_proxy) {
        // In a box, or every connection would keep the room that this takes.
        let header = Box::pin(timeout(beginning.handshake, read_header(&mut stream)));
        match header.await.unwrap_or(Err(ProxyFault::Late)) {
            Ok(source) => peer = source.unwrap_or(peer),
            Err(fault) => {
                if !matches!(fault, ProxyFault::Silence) {
                    shared.metrics.proxy_headers_refused.inc();
                    debug!(%peer, %fault, "a trusted proxy sent no PROXY header");
                }
                return Err(io::Error::other(fault).into());
            }
        }
    }
    Ok((stream, Protocol::Http1, Some(peer)))
}

fn note_connection(stream: &TcpStream, data: &mut Extensions, unacknowledged: Duration) {
    // The kernel ends a connection whose client takes nothing; without it, only the lag bound does.
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(unacknowledged));
    // A socket that has no addresses any more is closed, and is refused.
    if let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) {
        data.insert(Accepted { fd: stream.as_raw_fd(), local, peer });
    }
}

async fn root(request: HttpRequest, payload: Payload, worker: Data<Worker>) -> Result<HttpResponse, Error> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header(header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return connect(&request, payload, &worker).await;
    }
    let mut response = match *request.method() {
        Method::OPTIONS => HttpResponse::NoContent(),
        Method::GET | Method::HEAD => HttpResponse::Ok(),
        _ => HttpResponse::MethodNotAllowed(),
    };
    response
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, "*"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"));
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(response.finish());
    }
    // A cache must not give browsers the document, nor clients the word for browsers.
    response.insert_header((header::VARY, "Accept"));
    if wants_document(request.headers()) {
        response.insert_header((header::CONTENT_TYPE, "application/nostr+json"));
        return Ok(response.body(info::document(&worker.node.shared.live.load())));
    }
    // The page's own links begin at the root.
    if let Some(page) =
        worker.page.as_ref().filter(|_| request.path() == "/" && page::wants_page(request.headers()))
    {
        return Ok(page.root(&request).await);
    }
    response.insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8"));
    Ok(response.body("This is a Nostr relay. Point a Nostr client at this address, with ws:// or wss://.\n"))
}

/// What RFC 6455 (section 4.2.1) asks of a handshake, and the framework does not.
fn is_handshake(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    // HTTP/1.0 knows no upgrade.
    request.version() >= Version::HTTP_11
        && headers.contains_key(header::HOST)
        && key.is_none_or(|key| is_base64_of_16(key.as_bytes()))
}

/// Whether this is 16 bytes in base64.
fn is_base64_of_16(key: &[u8]) -> bool {
    let Some((digits, b"==")) = key.split_last_chunk::<2>() else { return false };
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    // The last digit stands for two bits of a byte, and four that are 0.
    digits.len() == 22
        && digits.iter().all(is_digit)
        && matches!(digits.last(), Some(b'A' | b'Q' | b'g' | b'w'))
}

/// Media types are the same in any case.
fn wants_document(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.to_ascii_lowercase().contains("application/nostr+json"))
}

async fn connect(request: &HttpRequest, payload: Payload, worker: &Worker) -> Result<HttpResponse, Error> {
    let node = &worker.node;
    if !is_handshake(request) {
        return Ok(HttpResponse::BadRequest().force_close().finish());
    }
    let (Some(peer), Some(&accepted)) = (request.peer_addr(), request.conn_data::<Accepted>()) else {
        return Ok(HttpResponse::InternalServerError().finish());
    };
    let settings = node.shared.live.load_full();
    let address = client_address(peer.ip(), request.headers(), &node.trusted_proxy);
    let permit = match node.connections.take(address, &settings.limits) {
        Ok(permit) => permit,
        Err(refusal) => {
            node.shared.metrics.refused.inc();
            let mut response = match refusal {
                Refusal::Node => HttpResponse::ServiceUnavailable(),
                Refusal::Address => HttpResponse::TooManyRequests(),
            };
            return Ok(response.force_close().insert_header((header::RETRY_AFTER, "10")).finish());
        }
    };
    // A cookie is nobody's word here: pages of others could open the connection.
    let signed_in = match (people::bearer(request), &node.shared.accounts) {
        (Some(token), Some(accounts)) => match accounts.check(token).await {
            Ok(signed_in) => Some(signed_in),
            Err(why) => return Ok(Problem::from(why).into()),
        },
        _ => None,
    };
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let traceparent = header("traceparent");
    let id: SessionId = node.last_session.fetch_add(1, Ordering::Relaxed) + 1;
    let direct = address == accepted.peer.ip();
    let own_host = header("host").filter(|host| direct && names(host, accepted.local));
    let socket = Socket {
        id,
        address,
        told: accepted.peer.ip() != address,
        own_host: own_host.map(str::to_owned),
        link: Arc::new(ClientLink::new(accepted.fd)),
        outbox: Outbox::default(),
        window: Window::new(settings.session.window, &node.shared.metrics),
        permit,
        trace: node.shared.tracer.connection(address, traceparent),
        signed_in,
    };
    upgrade(request, payload, Arc::clone(&node.shared), worker.router.clone(), socket)
}
