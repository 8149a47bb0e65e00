//! What operators ask of the settings of a running node: `/v1/settings` on the operators' listener.
//!
//! Only from the machine of the node itself, wherever that listener is reached from: there is no password yet.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HOST, HeaderMap, ORIGIN},
    web,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// A question to whoever keeps the settings.
pub struct Ask {
    pub what: What,
    pub answer: oneshot::Sender<Result<String, ChangeRefused>>,
}

pub enum What {
    /// All of them, and where each comes from.
    Show,
    /// Change one for all nodes of the store: to what the text says, or back to what each node has.
    Change { setting: String, text: Option<String> },
}

/// Why a setting is not changed.
pub enum ChangeRefused {
    /// It can not be so.
    Unfit(String),
    /// It could be, but the store has failed.
    Failed(String),
}

/// Where questions go.
pub type Asks = mpsc::Sender<Ask>;

/// Adds the routes.
pub fn routes(asks: &Asks) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
    let asks = asks.clone();
    move |config: &mut web::ServiceConfig| {
        config
            .app_data(web::Data::new(asks))
            .route("/v1/settings", web::get().to(show))
            .route("/v1/settings/{setting}", web::put().to(set))
            .route("/v1/settings/{setting}", web::delete().to(unset));
    }
}

async fn show(request: HttpRequest, asks: web::Data<Asks>) -> HttpResponse {
    ask(&request, &asks, What::Show).await
}

async fn set(
    request: HttpRequest,
    setting: web::Path<String>,
    text: String,
    asks: web::Data<Asks>,
) -> HttpResponse {
    ask(&request, &asks, What::Change { setting: setting.into_inner(), text: Some(text) }).await
}

async fn unset(request: HttpRequest, setting: web::Path<String>, asks: web::Data<Asks>) -> HttpResponse {
    ask(&request, &asks, What::Change { setting: setting.into_inner(), text: None }).await
}

async fn ask(request: &HttpRequest, asks: &Asks, what: What) -> HttpResponse {
    /// How long the store may take.
    const PATIENCE: Duration = Duration::from_secs(10);
    if !is_from_here(request) {
        return HttpResponse::Forbidden()
            .body("settings are asked for from the machine of the node itself\n");
    }
    let (answer, answered) = oneshot::channel();
    let asked = async {
        asks.send(Ask { what, answer }).await.ok()?;
        answered.await.ok()
    };
    match timeout(PATIENCE, asked).await {
        Ok(Some(Ok(text))) => HttpResponse::Ok().body(text),
        Ok(Some(Err(ChangeRefused::Unfit(why)))) => HttpResponse::BadRequest().body(why),
        Ok(Some(Err(ChangeRefused::Failed(why)))) => HttpResponse::ServiceUnavailable().body(why),
        Ok(None) => HttpResponse::ServiceUnavailable().body("the node ends"),
        Err(_) => HttpResponse::ServiceUnavailable()
            .body("the store does not answer; `rookery config running` tells what is in force"),
    }
}

/// Whether a program of this machine asks, by itself: not a page in a browser here, under whatever name it has found
/// this address, and not somebody else through a proxy.
fn is_from_here(request: &HttpRequest) -> bool {
    let is_local = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    is_local && is_by_itself(request.headers())
}

fn is_by_itself(headers: &HeaderMap) -> bool {
    const BY_OTHERS: [&str; 4] = ["sec-fetch-site", "x-forwarded-for", "forwarded", "via"];
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let is_loopback = name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    is_loopback && !headers.contains_key(ORIGIN) && !BY_OTHERS.iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_programs_of_this_machine_may_ask() {
        let asks = |peer: &str, headers: &[(&str, &str)]| {
            let request = TestRequest::default().peer_addr(peer.parse().unwrap());
            let add = |request: TestRequest, header: &(&str, &str)| request.insert_header(*header);
            is_from_here(&headers.iter().fold(request, add).to_http_request())
        };
        let here = "127.0.0.1:5000";
        for host in ["127.0.0.1:9777", "localhost:9777", "localhost", "[::1]:9777"] {
            assert!(asks(here, &[("host", host)]), "{host}");
        }
        assert!(asks("[::1]:5000", &[("host", "[::1]:9777")]));
        assert!(!asks("192.0.2.1:5000", &[("host", "127.0.0.1:9777")]));
        for host in ["", "evil.example.com:9777", "192.0.2.1:9777", "localhost.evil.example.com"] {
            assert!(!asks(here, &[("host", host)]), "{host}");
        }
        for header in ["origin", "sec-fetch-site", "x-forwarded-for", "forwarded"] {
            assert!(!asks(here, &[("host", "127.0.0.1:9777"), (header, "x")]), "{header}");
        }
    }
}
