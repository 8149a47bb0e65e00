//! `/v1/profile`: what an account says of itself.

use actix_web::{
    HttpResponse,
    web::{self, Data},
};
use serde_json::{Map, Value};

use super::{People, said::Said};
use crate::{
    account::SignedIn,
    net::{Problem, described::get},
};

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/profile", get().to(show)).route("/profile", web::put().to(change));
}

/// What you say of yourself (kind 0).
#[utoipa::path(get, path = "/v1/profile", tag = "profile", responses(
    (status = 200, body = Object),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(people: Data<People>, who: SignedIn) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(people.feed.profile(who.account).await?))
}

/// Changes that: such as `name`, `about`, `picture`. What is `null` goes, what is not named stays.
#[utoipa::path(put, path = "/v1/profile", tag = "profile", request_body = Object, responses(
    (status = 200, body = Object),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn change(
    people: Data<People>,
    who: SignedIn,
    said: Said<Map<String, Value>>,
) -> Result<HttpResponse, Problem> {
    let mut changes = said.0;
    // Of a form: where to go.
    changes.remove("next");
    Ok(HttpResponse::Ok().json(people.feed.change_profile(who.account, &changes).await?))
}
