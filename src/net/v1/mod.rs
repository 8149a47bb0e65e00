//! What operators' programs ask: `/v1` on the operators' listener, for whoever has the token.
//!
//! Described by `/v1/openapi.json`. What goes wrong is told as RFC 9457 says.

mod dead_letters;
mod problem;
mod settings;
mod token;
mod upstreams;

use std::sync::Arc;

use actix_web::{
    Error, HttpResponse, Scope,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header,
    middleware::{Next, from_fn},
    web,
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

pub use self::{
    problem::Problem,
    settings::{Ask, Asks, ChangeRefused, What},
    token::Token,
};
use crate::aggregate::Upstreams;

/// Most bytes of a question.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// Whom questions go to.
#[derive(Clone)]
pub struct V1 {
    pub settings: Asks,
    pub upstreams: Arc<Upstreams>,
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
        upstreams::queue,
        dead_letters::list,
        dead_letters::show,
        dead_letters::replay,
        dead_letters::remove,
    ),
    security(("token" = [])),
    modifiers(&Bearer)
)]
struct Described;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

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
    let openapi = |_: ()| async { HttpResponse::Ok().json(Described::openapi()) };
    web::scope("/v1")
        .app_data(body)
        .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
        .app_data(web::Data::new(v1.settings.clone()))
        .app_data(web::Data::from(Arc::clone(&v1.upstreams)))
        .configure(settings::routes)
        .configure(upstreams::routes)
        .configure(dead_letters::routes)
        .route("/openapi.json", web::get().to(move || openapi(())))
        .default_service(web::to(|| async { HttpResponse::from(Problem::not_found("nothing is here")) }))
        .wrap(from_fn(move |request, next| check(token.clone(), request, next)))
}

/// Lets those pass who have the token (RFC 6750).
async fn check(
    token: Option<Arc<Token>>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let presented = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let refused = match (&token, presented) {
        (None, _) => Some("this node has no token: name a file that holds one in general.ops_token_file"),
        (Some(_), None) => Some("a token is needed: Authorization: Bearer …, as in general.ops_token_file"),
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
