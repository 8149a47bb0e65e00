//! What operators ask: is it alive, is it ready, what does it count.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, http::header, web};

use super::v1::{self, V1};
use crate::telemetry::Metrics;

/// Whether the node wants new connections.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Wanted>);

#[derive(Default)]
struct Wanted {
    wanted: AtomicBool,
    /// What else must hold, by name.
    needs: Vec<Need>,
}

/// Something that must hold, and what is said where it does not.
pub type Need = (&'static str, Box<dyn Fn() -> bool + Send + Sync>);

impl Readiness {
    /// What must hold besides, by name.
    pub fn new(needs: Vec<Need>) -> Self {
        Self(Arc::new(Wanted { wanted: AtomicBool::new(false), needs }))
    }

    pub fn set(&self, ready: bool) {
        self.0.wanted.store(ready, Ordering::Release);
    }

    /// What keeps the node from being ready, in words.
    fn check(&self) -> Result<(), &'static str> {
        if !self.0.wanted.load(Ordering::Acquire) {
            return Err("it starts or ends");
        }
        match self.0.needs.iter().find(|(_, holds)| !holds()) {
            Some((name, _)) => Err(name),
            None => Ok(()),
        }
    }
}

/// Serves `/health/live`, `/health/ready`, `/metrics` and `/v1`, on a thread of its own, so that they answer whatever
/// clients do.
///
/// # Errors
/// When the listener can not be used.
pub fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    v1: V1,
) -> std::io::Result<ServerHandle> {
    let server = HttpServer::new(move || {
        let (readiness, metrics) = (readiness.clone(), Arc::clone(&metrics));
        App::new()
            .service(v1::scope(&v1))
            .route("/health/live", web::get().to(|| async { HttpResponse::Ok().body("live\n") }))
            .route(
                "/health/ready",
                web::get().to(move || {
                    let ready = readiness.check();
                    async move {
                        match ready {
                            Ok(()) => HttpResponse::Ok().body("ready\n"),
                            Err(why) => {
                                HttpResponse::ServiceUnavailable().body(format!("not ready: {why}\n"))
                            }
                        }
                    }
                }),
            )
            .route(
                "/metrics",
                web::get().to(move || {
                    let text = metrics.render();
                    async move {
                        const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                        HttpResponse::Ok().insert_header((header::CONTENT_TYPE, TYPE)).body(text)
                    }
                }),
            )
    })
    .workers(1)
    .disable_signals()
    .listen(listener)?
    .run();
    let handle = server.handle();
    actix::spawn(server);
    Ok(handle)
}
