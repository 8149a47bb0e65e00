//! `/v1/notifications`: what concerns an account.

use actix_web::{
    HttpResponse,
    web::{self, Data},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    People,
    said::Said,
    shown::{PageView, Which, place},
};
use crate::{
    account::SignedIn,
    net::{Parameters, Problem, described::get},
};

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/notifications", get().to(list)).route("/notifications/read", web::post().to(have_read));
}

/// What concerns you.
#[derive(Debug, Serialize, ToSchema)]
pub struct Notices {
    #[serde(flatten)]
    page: PageView,
    /// Up to where you have read it, `<seconds>:<id>`.
    read: Option<String>,
}

/// Up to where something was read.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReadUpTo {
    /// `<seconds>:<id>`. It never goes back.
    read: String,
}

/// Who answered you, reposted you, reacted to you, and follows you.
#[utoipa::path(get, path = "/v1/notifications", tag = "notifications", params(Which), responses(
    (status = 200, body = Notices),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    people: Data<People>,
    who: SignedIn,
    Parameters(which): Parameters<Which>,
) -> Result<HttpResponse, Problem> {
    let page = people.feed.notices(who.account, which.span()?, which.limit()).await?;
    let read = people.feed.read_mark(who.account).await?.map(|place| place.to_string());
    Ok(HttpResponse::Ok().json(Notices { page: PageView::of(&people, page).await?, read }))
}

/// You have read it, up to there.
#[utoipa::path(post, path = "/v1/notifications/read", tag = "notifications", request_body = ReadUpTo, responses(
    (status = 200, body = ReadUpTo),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn have_read(
    people: Data<People>,
    who: SignedIn,
    said: Said<ReadUpTo>,
) -> Result<HttpResponse, Problem> {
    let place = people.feed.have_read(who.account, place("read", &said.0.read)?).await?;
    Ok(HttpResponse::Ok().json(ReadUpTo { read: place.to_string() }))
}
