//! What people ask, by programs and by the page: `/v1` on the clients' listener, a file a subject.
//!
//! Described by `/v1/openapi.json`. What goes wrong is told as RFC 9457 says. It runs on the threads that serve sockets,
//! so nothing here blocks: passwords are hashed elsewhere.

mod auth;
mod failed;
mod feed;
mod friends;
mod guard;
mod leaving;
mod me;
mod mutes;
mod names;
mod notifications;
mod own_key;
mod posts;
mod profile;
mod said;
mod sessions;
mod shown;
mod users;

use std::sync::{Arc, LazyLock};

use actix_web::{
    Error, HttpRequest, HttpResponse, Scope,
    body::MessageBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    middleware::from_fn,
    web::{self, Data},
};
use url::Url;
use utoipa::OpenApi;

pub(super) use self::guard::{bearer, by_cookie, cookie};
pub use self::{guard::page_url, names::serve as serve_names};
use super::{
    Problem,
    described::{Bearer, Description, get},
};
use crate::{account::Accounts, aggregate::follow::Following, config::Network, feed::Feed};

/// Renders the page again whose form has failed.
pub type FormFailed = Arc<dyn Fn(&HttpRequest, &Problem) -> HttpResponse + Send + Sync>;

/// Whom questions of people go to.
#[derive(Clone)]
pub struct People {
    pub accounts: Accounts,
    /// What accounts say and see.
    pub feed: Feed,
    /// What is read of those whom they follow.
    pub following: Arc<Following>,
    /// The URL of the relay, where it is known.
    pub url: Option<Url>,
    pub trusted_proxy: Vec<Network>,
    /// What a form of a page without script is answered that has failed; `None`: as programs are.
    pub form_failed: Option<FormFailed>,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Rookery", description = "What people ask of a relay."),
    paths(
        auth::sign_up,
        auth::challenge,
        auth::sign_in,
        auth::sign_out,
        auth::reset,
        sessions::list,
        sessions::end,
        sessions::change_password,
        sessions::socket,
        me::me,
        me::set,
        leaving::key,
        leaving::export,
        leaving::leave,
        posts::publish,
        posts::delete,
        posts::thread,
        friends::list,
        friends::follow,
        friends::unfollow,
        friends::fetched,
        friends::history,
        friends::take_back,
        mutes::list,
        mutes::mute,
        mutes::unmute,
        feed::feed,
        notifications::list,
        notifications::have_read,
        users::find,
        users::show,
        users::posts,
        profile::show,
        profile::change,
    ),
    security(("token" = [])),
    modifiers(&Bearer)
)]
struct Described;

/// What describes the routes, made when it is first asked for.
static DESCRIPTION: LazyLock<Description> = LazyLock::new(Description::of::<Described>);

/// The routes.
pub fn scope(
    people: &People,
) -> Scope<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    let data = Data::new(people.clone());
    let guarding = data.clone();
    web::scope("/v1")
        .app_data(web::PayloadConfig::new(people.accounts.config().max_body_bytes))
        .app_data(data)
        .configure(auth::routes)
        .configure(sessions::routes)
        .configure(me::routes)
        .configure(leaving::routes)
        .configure(posts::routes)
        .configure(friends::routes)
        .configure(mutes::routes)
        .configure(feed::routes)
        .configure(notifications::routes)
        .configure(users::routes)
        .configure(profile::routes)
        .route("/openapi.json", get().to(|| async { DESCRIPTION.answer() }))
        .default_service(web::to(|request: HttpRequest| async move { DESCRIPTION.elsewhere(&request) }))
        .wrap(from_fn(move |request, next| guard::guard(guarding.clone(), request, next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_everything() {
        let document = serde_json::to_value(Described::openapi()).unwrap();
        for (path, method) in [
            ("/v1/auth/sign-up", "post"),
            ("/v1/auth/sign-in", "post"),
            ("/v1/me", "get"),
            ("/v1/settings", "put"),
            ("/v1/posts", "post"),
            ("/v1/posts/{id}/thread", "get"),
            ("/v1/friends/{user}", "delete"),
            ("/v1/friends/history/{version}", "post"),
            ("/v1/mutes/{user}", "delete"),
            ("/v1/feed", "get"),
            ("/v1/notifications/read", "post"),
            ("/v1/users/{user}/posts", "get"),
            ("/v1/profile", "put"),
        ] {
            let operation = &document["paths"][path][method];
            assert!(operation["summary"].is_string(), "{method} {path}: {operation}");
            assert!(operation["responses"]["503"].is_object(), "{method} {path}: {operation}");
        }
        assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    }
}
