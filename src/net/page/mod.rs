//! The page: what a browser is shown at the relay's address, and at those of people and posts.
//!
//! The first answer holds what there is to read, so it is read without the script. The script (`web/`) takes over, and
//! hears what follows by a WebSocket of its own. Nothing is loaded from anywhere else, and nothing that came from the
//! network is anything but text.

mod egg;
mod files;
mod first;
mod read;
mod symbols;
mod view;
mod words;

use std::{
    net::IpAddr,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{self, HeaderMap},
    },
    web::{self, Data, Path, ServiceConfig},
};

use parking_lot::Mutex;

use self::{
    first::{Me, Relay, Screen},
    read::{Asking, Posts, Reader, Unread},
    view::{Document, Theme},
};
use super::{
    Problem,
    client::client_address,
    described::get,
    people::{self, FormFailed, People},
};
use crate::{
    clock,
    config::{self, Network, Public},
    protocol::{Filter, PublicKey, filter::sorted, kind, nip19},
    session::SessionParts,
};

/// What a document may do: run the files of this relay, ask this relay, and nothing else. No text can become markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      font-src 'none'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// How long a document is kept that is somebody's own, or may be soon.
const OWN: &str = "private, no-cache";

/// Screens that have a name: their paths. Links of invitations and of passwords to be set anew lead to two of them, with
/// the code behind a `#`, so that no log has it.
const NAMED: [&str; 7] = ["/sign-in", "/sign-up", "/join", "/reset", "/people", "/notices", "/settings"];

/// The cookie that says how the page looks.
const THEME: &str = "rookery-theme";

/// After how many seconds a browser asks again, where the store was late or the address asked too much.
const AGAIN: RangeInclusive<u64> = 2..=6;

/// What the page of a node needs.
pub struct Page {
    shared: Arc<SessionParts>,
    trusted_proxy: Vec<Network>,
    reader: Reader,
    public: Public,
    /// Where there are accounts.
    people: Option<People>,
    /// Who has one: read now and then, for the front page.
    accounts: Mutex<Option<(Instant, Arc<[PublicKey]>)>>,
}

impl Page {
    pub fn new(
        shared: Arc<SessionParts>,
        trusted_proxy: Vec<Network>,
        config: &config::Page,
        people: Option<People>,
    ) -> Self {
        let reader = Reader::new(Arc::clone(&shared.store));
        Self { shared, trusted_proxy, reader, public: config.public, people, accounts: Mutex::default() }
    }

    /// The document at the root: the feed of whoever is signed in, or what strangers see.
    pub async fn root(&self, request: &HttpRequest) -> HttpResponse {
        let seen = self.seen(request).await;
        let asking = self.asking(request);
        let screen = match (&seen.me, &seen.live) {
            (Some(me), _) => asking.home(me.key).await.map(Screen::Home),
            (None, Some(filters)) => match filters.first() {
                Some(filter) => asking.newest(filter.clone()).await.map(Screen::Landing),
                None => Ok(Screen::Landing(Posts::default())),
            },
            (None, None) => Ok(Screen::Landing(Posts::default())),
        };
        self.answer(request, &seen, screen, OWN)
    }

    /// The screens that have a name.
    async fn named(&self, request: &HttpRequest) -> HttpResponse {
        let seen = self.seen(request).await;
        let own = |title| if seen.me.is_some() { Screen::Own(title) } else { Screen::SignIn(None) };
        let screen = match request.path() {
            _ if self.people.is_none() => Screen::Missing("This relay keeps no accounts."),
            "/sign-in" => Screen::SignIn(None),
            "/sign-up" | "/join" => Screen::SignUp(None),
            "/reset" => Screen::Own("New password"),
            "/people" => own("People"),
            "/notices" => own("Notices"),
            _ => own("Settings"),
        };
        self.answer(request, &seen, Ok(screen), OWN)
    }

    /// An address where nothing is.
    async fn nowhere(&self, request: &HttpRequest) -> HttpResponse {
        let seen = self.seen(request).await;
        self.answer(request, &seen, Ok(Screen::Missing("There is nothing at this address.")), OWN)
    }

    /// The page again whose form has failed.
    pub fn failed(&self, request: &HttpRequest, problem: &Problem) -> HttpResponse {
        let screen = match request.path() {
            "/v1/auth/sign-up" => Screen::SignUp(Some(problem.clone())),
            "/v1/auth/sign-in" => Screen::SignIn(Some(problem.clone())),
            _ => Screen::Failed(problem.clone()),
        };
        let seen = Seen { me: None, live: None };
        let mut response = self.answer(request, &seen, Ok(screen), "no-store");
        *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
        response
    }

    async fn seen(&self, request: &HttpRequest) -> Seen {
        let me = match &self.people {
            Some(people) => people::by_cookie(request, people).await.and_then(Me::of),
            None => None,
        };
        Seen { me, live: self.live().await }
    }

    /// Whether nobody reads here without having signed in: the page is no way around that.
    fn is_closed(&self) -> bool {
        self.shared.live.load().limits.auth_required
    }

    /// What strangers see, as filters.
    async fn live(&self) -> Option<Vec<Filter>> {
        if self.is_closed() {
            return None;
        }
        let notes = Filter { kinds: Some([kind::NOTE].into()), ..Filter::default() };
        match (self.public, &self.people) {
            (Public::None, _) => None,
            (Public::All, _) | (Public::Accounts, None) => Some(vec![notes]),
            (Public::Accounts, Some(people)) => {
                let authors = self.authors(people).await;
                Some(vec![Filter { authors: Some(sorted(authors.to_vec())), ..notes }])
            }
        }
    }

    /// People with an account here, as many as a filter of the page names.
    async fn authors(&self, people: &People) -> Arc<[PublicKey]> {
        const MOST: usize = 200;
        const GOOD_FOR: Duration = Duration::from_secs(10);
        let known = self.accounts.lock().clone();
        if let Some((_, authors)) = known.as_ref().filter(|(read, _)| read.elapsed() < GOOD_FOR) {
            return Arc::clone(authors);
        }
        let authors: Arc<[PublicKey]> = match people.accounts.list("", None, MOST).await {
            Ok((accounts, _)) => {
                accounts.iter().filter(|account| !account.disabled).map(|account| account.key).collect()
            }
            // What was known is better than nothing.
            Err(_) => return known.map(|(_, authors)| authors).unwrap_or_default(),
        };
        *self.accounts.lock() = Some((Instant::now(), Arc::clone(&authors)));
        authors
    }

    /// A person or a post, by the code of its address.
    async fn code(&self, request: &HttpRequest, code: &str) -> HttpResponse {
        const KEEP: &str = "max-age=30";
        let seen = self.seen(request).await;
        let screen = if self.is_closed() && seen.me.is_none() {
            Ok(Screen::Missing("This relay shows posts to those who have signed in."))
        } else {
            self.found(&self.asking(request), code, seen.me.as_ref().map(|me| me.key)).await
        };
        // What somebody sees who is signed in is kept by nobody.
        let keep = if seen.me.is_some() { OWN } else { KEEP };
        self.answer(request, &seen, screen, keep)
    }

    async fn found(&self, asking: &Asking<'_>, code: &str, me: Option<PublicKey>) -> Result<Screen, Unread> {
        const NOBODY: Screen = Screen::Missing("Nobody is known here by this key.");
        const NOTHING: Screen = Screen::Missing("This post is not here.");
        const ERROR: Screen =
            Screen::Missing("This is no address of a person or a post: there is a typing error in it.");
        if let Ok(key) = nip19::read_public_key(code) {
            return Ok(asking.posts_of(key).await?.map_or(NOBODY, |posts| Screen::Person(key, posts)));
        }
        match nip19::read_event_id(code) {
            Ok(id) => Ok(asking.thread(id, me).await?.map_or(NOTHING, Screen::Thread)),
            Err(_) => Ok(ERROR),
        }
    }

    fn asking(&self, request: &HttpRequest) -> Asking<'_> {
        let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
        self.reader.asking(client_address(peer, request.headers(), &self.trusted_proxy))
    }

    fn relay(&self, request: &HttpRequest, live: Option<Vec<Filter>>) -> Relay {
        let host =
            request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let (address, host) = match &self.shared.url {
            Some(url) => {
                (url.as_str().trim_end_matches('/').to_owned(), url.host_str().unwrap_or_default().to_owned())
            }
            None => (format!("ws://{host}"), host.to_owned()),
        };
        Relay::of(&self.shared.live.load(), address, host, live)
    }

    fn answer(
        &self,
        request: &HttpRequest,
        seen: &Seen,
        screen: Result<Screen, Unread>,
        keep: &'static str,
    ) -> HttpResponse {
        let (status, screen) = match screen {
            Ok(screen @ Screen::Missing(_)) => (StatusCode::NOT_FOUND, screen),
            Ok(screen) => (StatusCode::OK, screen),
            Err(Unread::TooMuch) => (StatusCode::TOO_MANY_REQUESTS, Screen::Late),
            Err(Unread::Store) => (StatusCode::SERVICE_UNAVAILABLE, Screen::Late),
        };
        let theme = Theme::of(people::cookie(request, THEME));
        let relay = self.relay(request, seen.live.clone());
        let open = self.people.as_ref().map(|people| people.accounts.sign_up());
        let me = seen.me.as_ref();
        let document = Document { relay: &relay, screen: &screen, theme, me, open, now: clock::now() };
        let mut response = HttpResponse::build(status);
        if matches!(screen, Screen::Late) {
            // The browser asks again by itself, and not all of them at once.
            let seconds = rand::random_range(AGAIN).to_string();
            response
                .insert_header((header::RETRY_AFTER, seconds.clone()))
                .insert_header((header::REFRESH, seconds))
                .insert_header((header::CACHE_CONTROL, "no-store"));
        } else {
            response.insert_header((header::CACHE_CONTROL, keep));
        }
        response
            .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((header::REFERRER_POLICY, "no-referrer"))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header(("Cross-Origin-Opener-Policy", "same-origin"))
            .insert_header(("Cross-Origin-Resource-Policy", "same-origin"))
            .insert_header((header::VARY, "Accept, Cookie"))
            .body(document.render().into_string())
    }
}

/// Who looks, and what strangers see.
struct Seen {
    me: Option<Me>,
    live: Option<Vec<Filter>>,
}

/// Whether a browser asks for a document. Programs that take anything do not.
pub fn wants_page(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.to_ascii_lowercase().contains("text/html"))
}

/// What a form is answered that was not taken.
pub fn form_failed(page: Arc<Page>) -> FormFailed {
    Arc::new(move |request, problem| page.failed(request, problem))
}

/// All routes but the root, which has other meanings too.
pub fn routes(page: &Arc<Page>) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let page = Data::from(Arc::clone(page));
    move |config| {
        NAMED.iter().for_each(|path| {
            config.route(path, get().to(named));
        });
        config
            .app_data(page)
            .route("/page/{name}", get().to(files::file))
            .route("/eggs/{key}.svg", get().to(files::drawn))
            .route("/{code:(npub|nprofile|note|nevent)1[a-zA-Z0-9]+}", get().to(code))
            .default_service(web::to(elsewhere));
    }
}

async fn named(request: HttpRequest, page: Data<Page>) -> HttpResponse {
    page.named(&request).await
}

async fn code(request: HttpRequest, code: Path<String>, page: Data<Page>) -> HttpResponse {
    page.code(&request, &code).await
}

/// Whatever nothing else is at: a person is told so, and a program gets the status alone.
async fn elsewhere(request: HttpRequest, page: Data<Page>) -> HttpResponse {
    if matches!(*request.method(), Method::GET | Method::HEAD) && wants_page(request.headers()) {
        return page.nowhere(&request).await;
    }
    // It may be there after an upgrade.
    HttpResponse::NotFound()
        .insert_header((header::VARY, "Accept"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn a_browser_is_known_by_what_it_takes() {
        let wants = |accept: &'static str| {
            wants_page(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert!(wants("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"));
        assert!(!wants("*/*") && !wants("application/json") && !wants_page(&HeaderMap::new()));
    }
}
