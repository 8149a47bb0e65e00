//! `/v1/upstreams`: relays that are read.

use actix_web::{HttpResponse, http::header, web};

use super::Problem;
use crate::aggregate::{Addition, Change, Hour, QueueView, Refused, UpstreamId, Upstreams, View};
use crate::net::described::get;

/// What answers.
type Here = web::Data<Upstreams>;

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/upstreams", get().to(list))
        .route("/upstreams", web::post().to(add))
        .route("/upstreams/{id}", get().to(show))
        .route("/upstreams/{id}", web::patch().to(change))
        .route("/upstreams/{id}", web::delete().to(remove))
        .route("/upstreams/{id}/pause", web::post().to(pause))
        .route("/upstreams/{id}/resume", web::post().to(resume))
        .route("/upstreams/{id}/hours", get().to(hours))
        .route("/upstreams/{id}/reconcile", web::post().to(reconcile))
        .route("/queue", get().to(queue));
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match &refused {
            Refused::Url(_) | Refused::Unfit(_) => Self::unfit(refused),
            Refused::Unknown | Refused::NoLetter | Refused::NotFollowed => Self::not_found(refused),
            Refused::Exists(_)
            | Refused::Configured
            | Refused::NotRead
            | Refused::Paused
            | Refused::ForFollowed => Self::conflict(refused),
            Refused::NotSent(_) | Refused::Full => Self::unavailable(refused),
            Refused::Key(_) | Refused::Contended | Refused::Store(_) | Refused::Unreadable(_) => {
                Self::unavailable(refused)
            }
        }
    }
}

pub(super) fn number(id: &str) -> Result<UpstreamId, Problem> {
    id.parse().map_err(|_| Problem::not_found("the number of an upstream has 16 hexadecimal digits"))
}

/// All relays that are read, and how it stands with each.
#[utoipa::path(get, path = "/v1/upstreams", tag = "upstreams", responses(
    (status = 200, body = Vec<View>),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(here: Here) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(here.list().await?))
}

/// Has a relay be read. Saying so twice does nothing more.
#[utoipa::path(post, path = "/v1/upstreams", tag = "upstreams", request_body = Addition, responses(
    (status = 201, body = View, description = "It is read from now on"),
    (status = 200, body = View, description = "It was read before, as this says"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "It is read, and not as this says"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn add(here: Here, addition: web::Json<Addition>) -> Result<HttpResponse, Problem> {
    let (view, is_new) = here.add(addition.into_inner()).await?;
    let mut response = if is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(response.insert_header((header::LOCATION, format!("/v1/upstreams/{}", view.id))).json(view))
}

/// How it stands with one.
#[utoipa::path(get, path = "/v1/upstreams/{id}", tag = "upstreams", params(("id" = String, Path)), responses(
    (status = 200, body = View),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(here: Here, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(here.show(number(&id)?).await?))
}

/// Changes one: what is left out stays. It is read anew from where it was.
#[utoipa::path(patch, path = "/v1/upstreams/{id}", tag = "upstreams", params(("id" = String, Path)),
    request_body = Change, responses(
    (status = 200, body = View),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "The configuration of the node names it"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn change(
    here: Here,
    id: web::Path<String>,
    change: web::Json<Change>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(here.change(number(&id)?, &change).await?))
}

/// Removes one, and how far it was read. What is stored of it stays.
#[utoipa::path(delete, path = "/v1/upstreams/{id}", tag = "upstreams", params(("id" = String, Path)), responses(
    (status = 204),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "The configuration of the node names it"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn remove(here: Here, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    here.remove(number(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Reads one no more for now. What is missed meanwhile is read when it goes on.
#[utoipa::path(post, path = "/v1/upstreams/{id}/pause", tag = "upstreams", params(("id" = String, Path)), responses(
    (status = 200, body = View),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn pause(here: Here, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    set_paused(&here, &id, true).await
}

/// Reads one again, from where it was.
#[utoipa::path(post, path = "/v1/upstreams/{id}/resume", tag = "upstreams", params(("id" = String, Path)), responses(
    (status = 200, body = View),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn resume(here: Here, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    set_paused(&here, &id, false).await
}

async fn set_paused(here: &Upstreams, id: &str, paused: bool) -> Result<HttpResponse, Problem> {
    let change = Change { paused: Some(paused), ..Change::default() };
    Ok(HttpResponse::Ok().json(here.change(number(id)?, &change).await?))
}

/// What came of one in each hour of the last month in which something came, the oldest first.
#[utoipa::path(get, path = "/v1/upstreams/{id}/hours", tag = "upstreams", params(("id" = String, Path)), responses(
    (status = 200, body = Vec<Hour>),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn hours(here: Here, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(here.hours(number(&id)?).await?))
}

/// Compares one with what is stored here, now, whichever node reads it. The answer does not wait for it.
#[utoipa::path(post, path = "/v1/upstreams/{id}/reconcile", tag = "upstreams", params(("id" = String, Path)), responses(
    (status = 202, body = View),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "It is paused, or the configuration names it and this node does not read it"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn reconcile(here: Here, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Accepted().json(here.reconcile(number(&id)?).await?))
}

/// What waits for the store.
#[utoipa::path(get, path = "/v1/queue", tag = "upstreams", responses(
    (status = 200, body = QueueView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
))]
pub async fn queue(here: Here) -> HttpResponse {
    HttpResponse::Ok().json(here.queue())
}
