//! What operators ask: is it alive, is it ready, what does it count.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, http::header, web};

use crate::telemetry::Metrics;

/// Whether the node wants new connections.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Serves `/health/live`, `/health/ready` and `/metrics`, on a thread of its own, so that they answer
/// whatever clients do.
///
/// # Errors
/// When the listener can not be used.
pub fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Arc<Metrics>,
) -> std::io::Result<ServerHandle> {
    let server = HttpServer::new(move || {
        let (readiness, metrics) = (readiness.clone(), Arc::clone(&metrics));
        App::new()
            .route("/health/live", web::get().to(|| async { HttpResponse::Ok().body("live\n") }))
            .route(
                "/health/ready",
                web::get().to(move || {
                    let ready = readiness.get();
                    async move {
                        match ready {
                            true => HttpResponse::Ok().body("ready\n"),
                            false => HttpResponse::ServiceUnavailable().body("not ready\n"),
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
