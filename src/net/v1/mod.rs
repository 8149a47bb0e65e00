//! What operators' programs ask: `/v1` on the operators' listener, for whoever has the token.
//!
//! Described by `/v1/openapi.json`. What goes wrong is told as RFC 9457 says.

mod accounts;
mod dead_letters;
mod followed;
mod secrets;
mod settings;
mod token;
mod upstreams;

use std::sync::{Arc, LazyLock};

use actix_web::{
    Error, HttpRequest, HttpResponse, Scope,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::{Next, from_fn},
    web,
};
use utoipa::OpenApi;

pub use self::{
    accounts::{AccountPage, AccountView, CodeView, Guests, Keeper},
    followed::Follow,
    settings::{Ask, Asks, ChangeRefused, What},
    token::Token,
};
use super::{
    Problem,
    described::{Bearer, Description, get},
    people::bearer,
};
use crate::{
    aggregate::{Upstreams, follow::Following},
    store::secrets::Secrets,
};

/// Most bytes of a question.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// Whom questions go to.
#[derive(Clone)]
pub struct V1 {
    pub settings: Asks,
    pub upstreams: Arc<Upstreams>,
    pub following: Arc<Following>,
    pub accounts: Keeper,
    pub secrets: Arc<Secrets>,
    /// `None`: this node has none, and answers nobody.
    pub token: Option<Arc<Token>>,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Rookery", description = "What operators ask of a node."),
    paths(
        settings::show,
        settings::set,
        settings::unset,
        upstreams::list,
        upstreams::add,
        upstreams::show,
        upstreams::change,
        upstreams::remove,
        upstreams::pause,
        upstreams::resume,
        upstreams::reconcile,
        upstreams::hours,
        upstreams::queue,
        followed::list,
        followed::follow,
        followed::show,
        followed::unfollow,
        followed::plan,
        followed::plan_anew,
        dead_letters::list,
        dead_letters::show,
        dead_letters::replay,
        dead_letters::remove,
        accounts::list,
        accounts::disable,
        accounts::enable,
        accounts::reset_password,
        accounts::remove,
        accounts::invite,
        secrets::look,
        secrets::seal_anew,
    ),
    security(("token" = [])),
    modifiers(&Bearer)
)]
struct Described;

/// What describes the routes, made when it is first asked for.
static DESCRIPTION: LazyLock<Description> = LazyLock::new(Description::of::<Described>);

/// The routes.
pub fn scope(
    v1: &V1,
) -> Scope<
    impl actix_web::dev::ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    let token = v1.token.clone();
    let body = web::JsonConfig::default()
        .limit(MAX_BODY_BYTES)
        .content_type_required(false)
        .error_handler(|error, _| Problem::unfit(error).into());
    web::scope("/v1")
        .app_data(body)
        .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
        .app_data(web::Data::new(v1.settings.clone()))
        .app_data(web::Data::from(Arc::clone(&v1.upstreams)))
        .app_data(web::Data::from(Arc::clone(&v1.following)))
        .app_data(web::Data::new(v1.accounts.clone()))
        .app_data(web::Data::from(Arc::clone(&v1.secrets)))
        .configure(accounts::routes)
        .configure(secrets::routes)
        .configure(settings::routes)
        .configure(upstreams::routes)
        .configure(followed::routes)
        .configure(dead_letters::routes)
        .route("/openapi.json", get().to(|| async { DESCRIPTION.answer() }))
        .default_service(web::to(|request: HttpRequest| async move { DESCRIPTION.elsewhere(&request) }))
        .wrap(from_fn(move |request, next| check(token.clone(), request, next)))
}

/// Lets those pass who have the token (RFC 6750).
async fn check(
    token: Option<Arc<Token>>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let presented = bearer(request.request());
    let refused = match (&token, presented) {
        (None, _) => Some("this node has no token: name a file that holds one in ops_token_file"),
        (Some(_), None) => Some("a token is needed: Authorization: Bearer …, as in ops_token_file"),
        (Some(token), Some(presented)) => (!token.is(presented)).then_some("the token is another one"),
    };
    match refused {
        Some(why) => {
            Ok(request.into_response(HttpResponse::from(Problem::unauthorized(why))).map_into_right_body())
        }
        None => Ok(next.call(request).await?.map_into_left_body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_everything() {
        let document = serde_json::to_value(Described::openapi()).unwrap();
        for (path, method) in [
            ("/v1/settings", "get"),
            ("/v1/settings/{setting}", "put"),
            ("/v1/upstreams", "post"),
            ("/v1/upstreams/{id}", "patch"),
            ("/v1/upstreams/{id}/reconcile", "post"),
            ("/v1/queue", "get"),
            ("/v1/followed", "post"),
            ("/v1/followed/plan", "get"),
            ("/v1/accounts", "get"),
            ("/v1/accounts/{name}/reset-password", "post"),
            ("/v1/invitations", "post"),
            ("/v1/secrets/seal-anew", "post"),
            ("/v1/dead-letters", "get"),
            ("/v1/dead-letters/{upstream}/{event}/replay", "post"),
        ] {
            let operation = &document["paths"][path][method];
            assert!(operation["summary"].is_string(), "{method} {path}: {operation}");
            assert!(operation["responses"]["401"].is_object(), "{method} {path}: {operation}");
        }
        assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    }
}
