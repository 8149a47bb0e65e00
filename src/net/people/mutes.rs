//! `/v1/mutes`: whom an account does not want to hear of.

use actix_web::{
    HttpResponse,
    web::{self, Data},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    People,
    said::Said,
    shown::{Nothing, PersonView},
};
use crate::{
    account::SignedIn,
    feed::MuteWish,
    net::{Problem, described::get},
    protocol::PublicKey,
};

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/mutes", get().to(list))
        .route("/mutes/{user}", web::post().to(mute))
        .route("/mutes/{user}", web::delete().to(unmute));
}

/// Whom you have muted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Mutes {
    mutes: Vec<PersonView>,
}

/// Whom you have muted (NIP-51, kind 10000), of the part of the list that everybody may read.
#[utoipa::path(get, path = "/v1/mutes", tag = "mutes", responses(
    (status = 200, body = Mutes),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(people: Data<People>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let mutes = people.feed.mutes(who.account).await?;
    Ok(HttpResponse::Ok().json(Mutes { mutes: mutes.into_iter().map(PersonView::from).collect() }))
}

/// Mutes somebody: by name, npub or hexadecimal digits. What they say is in no answer of `/v1` any more that you did not
/// ask for by name. Everybody may read whom you have muted.
#[utoipa::path(post, path = "/v1/mutes/{user}", tag = "mutes", params(("user" = String, Path)), responses(
    (status = 200, body = PersonView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn mute(
    people: Data<People>,
    who: SignedIn,
    user: web::Path<String>,
    _: Said<Nothing>,
) -> Result<HttpResponse, Problem> {
    change(&people, &who, &user, MuteWish::Mute).await
}

/// Hears of somebody again.
#[utoipa::path(delete, path = "/v1/mutes/{user}", tag = "mutes", params(("user" = String, Path)), responses(
    (status = 200, body = PersonView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn unmute(
    people: Data<People>,
    who: SignedIn,
    user: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    change(&people, &who, &user, MuteWish::Unmute).await
}

async fn change(
    people: &People,
    who: &SignedIn,
    user: &str,
    wish: impl FnOnce(PublicKey) -> MuteWish,
) -> Result<HttpResponse, Problem> {
    let person = people.feed.person(user).await?;
    people.feed.mute(who.account, wish(person)).await?;
    let shown = people.feed.shown(vec![person]).await?.pop();
    let shown = shown.ok_or_else(|| Problem::not_found("nobody is called so"))?;
    Ok(HttpResponse::Ok().json(PersonView::from(shown)))
}
