//! `/v1/secrets`: what the store holds sealed, and under which master key.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{self, Data},
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    net::{Parameters, Problem, described::get},
    store::secrets::{Found, Secrets, Stopped},
};

type Here = Data<Secrets>;

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/secrets", get().to(look)).route("/secrets/seal-anew", web::post().to(seal_anew));
}

/// Which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Begin {
    /// Those that follow: `next` of the answer before.
    after: Option<String>,
}

impl From<Stopped> for Problem {
    fn from(stopped: Stopped) -> Self {
        match &stopped {
            Stopped::NoKey(_) => Self::not_found(&stopped),
            Stopped::NowhereToGoOn => Self::unfit(&stopped).about("after"),
            Stopped::Contended => Self::conflict(&stopped),
            Stopped::Unfit(_) | Stopped::Unwritable(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", "the store does not take it", &stopped)
            }
            Stopped::Store(_) => Self::unavailable(&stopped),
        }
    }
}

/// Tells under which master key some secrets are sealed: keys of accounts and of upstreams.
#[utoipa::path(get, path = "/v1/secrets", tag = "secrets", params(Begin), responses(
    (status = 200, body = Found),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json",
        description = "This node has no master key"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn look(here: Here, Parameters(from): Parameters<Begin>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(here.look(from.after.as_deref(), false).await?))
}

/// Seals some of them anew, those that are under another master key than that of now. What was done stays done when it is
/// asked for again.
#[utoipa::path(post, path = "/v1/secrets/seal-anew", tag = "secrets", params(Begin), responses(
    (status = 200, body = Found),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json",
        description = "This node has no master key"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn seal_anew(here: Here, Parameters(from): Parameters<Begin>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(here.look(from.after.as_deref(), true).await?))
}
