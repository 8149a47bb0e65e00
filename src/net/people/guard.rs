//! Who asks `/v1`, and whether a page of somebody else has them ask.
//!
//! A program shows a token. A browser keeps it in a cookie, which it sends along whoever's page has it ask; so what
//! changes something is taken from pages of this relay alone, and answers are for its own pages only: no header of CORS is
//! ever sent. And as a name of somebody else's may lead to this machine, requests are taken only for names that are ours.

use std::{net::IpAddr, time::Duration};

use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use futures_util::future::LocalBoxFuture;
use tokio::time::timeout;
use url::{Host, Url};

use super::{
    People,
    said::{Form, is_local_path},
};
use crate::{
    account::{Client, ClientKind, NotSignedIn, Refused, SignedIn, Token},
    clock,
    net::{Problem, client::client_address},
};

/// The header in which a program is given another token before its own is used up.
const NEW_TOKEN: HeaderName = HeaderName::from_static("rookery-token");

/// What a request is, as far as it can be told by its head.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    pub address: IpAddr,
    pub kind: ClientKind,
    /// Whether the browser reaches this machine without TLS, from itself.
    pub is_loopback: bool,
}

/// The token that a request was found signed in by.
struct Shown(String);

fn text<'r>(request: &'r HttpRequest, name: &str) -> Option<&'r str> {
    request.headers().get(name)?.to_str().ok()
}

/// The token that a program shows (RFC 6750).
pub fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = text(request, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

impl Asker {
    pub fn of(request: &HttpRequest, people: &People) -> Result<Self, Problem> {
        let peer = request.peer_addr().ok_or_else(|| Problem::unavailable("the connection is gone"))?;
        let address = client_address(peer.ip(), request.headers(), &people.trusted_proxy);
        let is_browser = text(request, "sec-fetch-site").is_some() || text(request, "origin").is_some();
        let kind = if is_browser { ClientKind::Browser } else { ClientKind::Program };
        let is_loopback = named(request).is_some_and(|url| is_loopback(&url));
        Ok(Self { address, kind, is_loopback })
    }

    /// The names of the cookies: of the token, of the mark by which the browser is known again, and of the secret that its
    /// challenge is for. A cookie that a browser keeps for hosts by TLS alone is set by no neighbour of theirs.
    fn cookies(self) -> [&'static str; 3] {
        match self.is_loopback {
            true => ["rookery", "rookery-known", "rookery-challenge"],
            false => ["__Host-rookery", "__Host-rookery-known", "__Host-rookery-challenge"],
        }
    }

    /// The cookie by which a browser shows that a challenge is its own.
    pub fn challenge_cookie(self, secret: &str, seconds: u64) -> String {
        self.cookie(self.cookies()[2], secret, seconds)
    }

    /// The secret of whoever answers a challenge. A program has none; a browser without one has not asked.
    pub fn challenged(self, request: &HttpRequest) -> Option<&str> {
        match self.kind {
            ClientKind::Program => Some(""),
            ClientKind::Browser => cookie(request, self.cookies()[2]).filter(|secret| !secret.is_empty()),
        }
    }

    /// Whoever signs in or up.
    ///
    /// # Errors
    /// It is a browser that would not keep the cookie: what other machines read without TLS is no place for it.
    pub fn client(self, request: &HttpRequest) -> Result<Client, Problem> {
        if !self.is_loopback && text(request, "origin").is_some_and(|origin| origin.starts_with("http://")) {
            let detail = "browsers sign in here by https alone, or on the machine of the relay";
            return Err(Problem::new(StatusCode::FORBIDDEN, "insecure", "not without TLS", detail));
        }
        let mark = cookie(request, self.cookies()[1]).map(str::to_owned);
        let says = text(request, "user-agent").unwrap_or_default().to_owned();
        Ok(Client { address: self.address, kind: self.kind, says, mark })
    }

    /// A cookie that no script reads, and that other sites' pages do not send along but where somebody follows a link.
    fn cookie(self, name: &str, value: &str, seconds: u64) -> String {
        let secure = if self.is_loopback { "" } else { "; Secure" };
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
    }

    /// The cookie that holds a token.
    pub fn token_cookie(self, token: &Token, now: u64) -> String {
        self.cookie(self.cookies()[0], &token.text, token.expires_at.saturating_sub(now))
    }

    /// The cookie by which the browser is known again.
    pub fn mark_cookie(self, mark: &str, seconds: u64) -> String {
        self.cookie(self.cookies()[1], mark, seconds)
    }

    /// What makes a browser forget the token.
    pub fn no_token_cookie(self) -> String {
        self.cookie(self.cookies()[0], "", 0)
    }
}

/// The value of a cookie. Ours need no quotes.
pub fn cookie<'r>(request: &'r HttpRequest, name: &str) -> Option<&'r str> {
    let headers = request.headers().get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
    let mut pairs = headers.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(its, _)| *its == name).map(|(_, value)| value)
}

/// What the Host header names.
fn named(request: &HttpRequest) -> Option<Url> {
    let host = text(request, "host")?;
    Url::parse(&format!("http://{host}/")).ok().filter(|url| {
        // Whatever else a URL has is none of a host's.
        url.username().is_empty() && url.path() == "/" && url.query().is_none() && url.fragment().is_none()
    })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        None => false,
    }
}

/// The URL of the relay as pages have it.
pub fn page_url(relay: &Url) -> Option<Url> {
    let rest = relay.as_str().split_once("://")?.1;
    let scheme = if relay.scheme() == "wss" { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{rest}")).ok()
}

/// Whether a Host header is one of ours: that of the relay's URL, one of this machine alone, or an address.
fn is_ours(host: &Url, relay: Option<&Url>) -> bool {
    let is_address = matches!(host.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)));
    let is_relays = relay.is_some_and(|relay| {
        let port = relay.port_or_known_default();
        relay.host_str() == host.host_str() && (host.port() == relay.port() || host.port() == port)
    });
    is_relays || is_address || is_loopback(host)
}

/// Whether an Origin header is that of our own pages, as reached by this Host.
fn is_own_origin(origin: &str, host: &Url, relay: Option<&Url>) -> bool {
    let Ok(origin) = Url::parse(origin) else { return false };
    if relay.and_then(page_url).is_some_and(|own| own.origin() == origin.origin()) {
        return true;
    }
    let is_literal = is_loopback(host) || matches!(host.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)));
    is_literal && origin.scheme() == "http" && origin.host() == host.host() && origin.port() == host.port()
}

/// Refuses what a page of somebody else has a browser ask, and names that are not ours.
fn check_origin(request: &HttpRequest, people: &People) -> Result<(), Problem> {
    let relay = people.url.as_ref();
    let host = named(request).filter(|host| is_ours(host, relay)).ok_or_else(|| {
        let detail = "this relay is not called so: it answers to the host of its `url`, and to addresses";
        Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "not here", detail)
    })?;
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let is_own = match (text(request, "sec-fetch-site"), text(request, "origin")) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => is_own_origin(origin, &host, relay),
        (None, None) => !request.headers().contains_key(header::COOKIE),
    };
    match is_own {
        true => Ok(()),
        false => {
            let detail = "this is taken from pages of this relay alone";
            Err(Problem::new(StatusCode::FORBIDDEN, "foreign", "not from there", detail))
        }
    }
}

/// Stands before every route.
pub async fn guard(
    people: Data<People>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if let Err(problem) = check_origin(request.request(), &people) {
        return Ok(request.into_response(HttpResponse::from(problem)));
    }
    let patience = Duration::from_secs(people.accounts.config().request_seconds);
    let Ok(response) = timeout(patience, next.call(request)).await else {
        let detail = "the request did not come, or was not answered, in time";
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "late", "too late", detail).into());
    };
    let mut response = response?.map_into_boxed_body();
    keep_secret(&mut response);
    // Not before: while the request is routed, it may have one holder alone.
    let asked = response.request().clone();
    hand_new_token(&people, &asked, &mut response).await;
    Ok(as_page(&people, &asked, response))
}

/// What is told to somebody is kept by no cache between.
fn keep_secret(response: &mut ServiceResponse) {
    let headers = response.headers_mut();
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// A token is renewed by being used: when half of its time is over, an answer brings another one.
async fn hand_new_token(people: &People, asked: &HttpRequest, response: &mut ServiceResponse) {
    let shown = asked.extensions_mut().remove::<Shown>();
    let Some(Shown(token)) = shown.filter(|_| response.status().is_success()) else { return };
    let Ok(Some(token)) = people.accounts.renew(&token).await else { return };
    let Ok(asker) = Asker::of(asked, people) else { return };
    let is_set = response.headers().contains_key(header::SET_COOKIE);
    if bearer(asked).is_some() {
        if let Ok(value) = HeaderValue::from_str(&token.text) {
            response.headers_mut().insert(NEW_TOKEN, value);
        }
    } else if !is_set {
        // Ours fit into a header.
        if let Ok(value) = HeaderValue::from_str(&asker.token_cookie(&token, clock::now())) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
}

/// A form is answered by a page.
fn as_page(people: &People, asked: &HttpRequest, response: ServiceResponse) -> ServiceResponse {
    let Some(Form { next }) = asked.extensions_mut().remove::<Form>() else { return response };
    if response.status().is_success() {
        let to = next.filter(|next| is_local_path(next)).unwrap_or_else(|| "/".to_owned());
        let mut page = HttpResponse::SeeOther();
        page.insert_header((header::LOCATION, to));
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            page.append_header((header::SET_COOKIE, cookie.clone()));
        }
        return ServiceResponse::new(asked.clone(), page.finish());
    }
    let problem = response.response().error().and_then(|error| error.as_error::<Problem>()).cloned();
    match people.form_failed.as_ref().zip(problem) {
        Some((form_failed, problem)) => ServiceResponse::new(asked.clone(), form_failed(asked, &problem)),
        None => response,
    }
}

/// Whoever a browser's cookie says is there; nobody where it is not good any more, or the store can not say so.
pub async fn by_cookie(request: &HttpRequest, people: &People) -> Option<SignedIn> {
    let token = cookie(request, Asker::of(request, people).ok()?.cookies()[0])?;
    people.accounts.check(token).await.ok()
}

impl FromRequest for SignedIn {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    /// Whoever shows a token, or has it in a cookie.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let people = request.app_data::<Data<People>>().ok_or_else(Problem::nobody)?;
            let token = match bearer(&request) {
                Some(token) => token.to_owned(),
                None => {
                    let name = Asker::of(&request, people)?.cookies()[0];
                    cookie(&request, name).ok_or_else(Problem::nobody)?.to_owned()
                }
            };
            let signed_in = people.accounts.check(&token).await?;
            people.feed.knock(signed_in.account)?;
            request.extensions_mut().insert(Shown(token));
            Ok(signed_in)
        })
    }
}

impl Problem {
    /// Whoever asks has to be signed in.
    pub fn nobody() -> Self {
        let detail = "sign in first, and show the token: Authorization: Bearer …";
        Self::new(StatusCode::UNAUTHORIZED, "signed-out", "not signed in", detail)
    }
}

impl From<NotSignedIn> for Problem {
    fn from(why: NotSignedIn) -> Self {
        match why {
            NotSignedIn::Token | NotSignedIn::SignedOut => {
                Self::new(StatusCode::UNAUTHORIZED, "signed-out", "not signed in", why)
            }
            NotSignedIn::Unavailable => Self::unavailable(why),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let new = |status, word, title| Self::new(status, word, title, &refused);
        match &refused {
            Refused::Unfit { field, .. } => Self::unfit(&refused).about(field),
            Refused::Taken { free, .. } => {
                let free = free.iter().map(ToString::to_string).collect();
                Self { free, ..new(StatusCode::CONFLICT, "taken", "taken").about("username") }
            }
            Refused::WrongPassword => new(StatusCode::UNAUTHORIZED, "wrong-password", "not signed in"),
            Refused::AnotherPassword => {
                new(StatusCode::UNAUTHORIZED, "wrong-password", "wrong password").about("password")
            }
            Refused::Challenge => new(StatusCode::UNAUTHORIZED, "unproved", "not signed in"),
            Refused::OwnKey => new(StatusCode::FORBIDDEN, "own-key", "you sign it yourself"),
            Refused::Closed => new(StatusCode::FORBIDDEN, "closed", "not allowed"),
            Refused::Invitation => {
                new(StatusCode::FORBIDDEN, "invitation", "not allowed").about("invitation")
            }
            Refused::Reset => new(StatusCode::FORBIDDEN, "reset", "not allowed").about("code"),
            Refused::Disabled => new(StatusCode::FORBIDDEN, "disabled", "not allowed"),
            Refused::Unknown => Self::not_found(&refused),
            Refused::Wait(wait) => {
                new(StatusCode::TOO_MANY_REQUESTS, "slow-down", "too often").after(wait.as_secs() + 1)
            }
            Refused::Busy => new(StatusCode::SERVICE_UNAVAILABLE, "busy", "not now").after(2),
            Refused::Contended => Self::conflict(&refused),
            Refused::Unavailable(_) | Refused::Sealed => Self::unavailable(&refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn names_of_others_that_lead_here_are_not_ours() {
        let relay = url("wss://relay.example.com");
        for (host, expected) in [
            ("relay.example.com", true),
            ("relay.example.com:443", true),
            ("relay.example.com:8443", false),
            ("evil.example.com", false),
            ("relay.example.com.evil.example", false),
            ("localhost:7777", true),
            ("127.0.0.1:7777", true),
            ("[::1]:7777", true),
            ("192.0.2.7", true),
        ] {
            assert_eq!(is_ours(&url(&format!("http://{host}/")), Some(&relay)), expected, "{host}");
        }
        assert!(!is_ours(&url("http://relay.example.com/"), None));
    }

    #[test]
    fn an_origin_is_ours_where_our_pages_are() {
        let relay = url("wss://relay.example.com");
        for (origin, host, expected) in [
            ("https://relay.example.com", "relay.example.com", true),
            ("http://relay.example.com", "relay.example.com", false),
            ("https://evil.example.com", "relay.example.com", false),
            ("null", "relay.example.com", false),
            ("http://localhost:7777", "localhost:7777", true),
            ("http://localhost:3000", "localhost:7777", false),
            ("http://127.0.0.1:7777", "localhost:7777", false),
            ("http://192.0.2.7:7777", "192.0.2.7:7777", true),
            ("https://relay.example.com", "127.0.0.1:7777", true),
        ] {
            let host = url(&format!("http://{host}/"));
            assert_eq!(is_own_origin(origin, &host, Some(&relay)), expected, "{origin} at {host}");
        }
    }
}
