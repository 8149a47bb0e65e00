//! `/v1/posts`: what an account says.

use actix_web::{
    HttpResponse,
    web::{self, Data},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    People,
    said::Said,
    shown::{PageView, raw},
};
use crate::{
    account::SignedIn,
    feed::{NewPost, Page},
    net::{Problem, described::get},
    protocol::nip19,
};

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/posts", web::post().to(publish))
        .route("/posts/{id}", web::delete().to(delete))
        .route("/posts/{id}/thread", get().to(thread));
}

/// What was said.
#[derive(Debug, Serialize, ToSchema)]
pub struct PostedView {
    #[schema(value_type = Object)]
    event: Option<Box<RawValue>>,
    /// Whether it was there before: the same was sent twice.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// Says something: a note (kind 1), a repost (6) or a reaction (7), as the event is without its signature. The same again
/// is answered 200, and is not said twice.
#[utoipa::path(post, path = "/v1/posts", tag = "posts", request_body = NewPost, responses(
    (status = 201, body = PostedView),
    (status = 200, body = PostedView, description = "It was there before"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json",
        description = "The relay does not take it, in its own words"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn publish(
    people: Data<People>,
    who: SignedIn,
    said: Said<NewPost>,
) -> Result<HttpResponse, Problem> {
    let posted = people.feed.post(who.account, said.0).await?;
    let mut response = match posted.is_duplicate {
        true => HttpResponse::Ok(),
        false => HttpResponse::Created(),
    };
    let event = raw(std::slice::from_ref(&posted.event)).pop();
    Ok(response.json(PostedView { event, duplicate: posted.is_duplicate }))
}

/// Takes back what you have said.
#[utoipa::path(delete, path = "/v1/posts/{id}", tag = "posts", params(("id" = String, Path)), responses(
    (status = 204),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "It is somebody else's"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(
    people: Data<People>,
    who: SignedIn,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = nip19::read_event_id(&id).map_err(|_| Problem::not_found("there is no such post"))?;
    people.feed.delete(who.account, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A post, what it answers, and what answers it.
#[utoipa::path(get, path = "/v1/posts/{id}/thread", tag = "posts", params(("id" = String, Path)), responses(
    (status = 200, body = PageView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn thread(
    people: Data<People>,
    who: SignedIn,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = nip19::read_event_id(&id).map_err(|_| Problem::not_found("there is no such post"))?;
    let events = people.feed.thread(who.account, id).await?;
    Ok(HttpResponse::Ok().json(PageView::of(&people, Page { events, next: None }).await?))
}
