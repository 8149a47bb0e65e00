//! `/v1/dead-letters`: events of upstreams that the store has not taken, though it took others.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Problem, upstreams::number};
use crate::aggregate::{DeadLetterPage, DeadLetterView, Upstreams, dead::Address};
use crate::net::{Parameters, described::get};

/// What answers.
type Here = web::Data<Upstreams>;
type At = web::Path<(String, String)>;

/// Most of them in an answer.
const MAX_PAGE: usize = 1_000;
const PAGE: usize = 100;

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/dead-letters", get().to(list))
        .route("/dead-letters/{upstream}/{event}", get().to(show))
        .route("/dead-letters/{upstream}/{event}", web::delete().to(remove))
        .route("/dead-letters/{upstream}/{event}/replay", web::post().to(replay));
}

/// Which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Of one upstream: its number.
    upstream: Option<String>,
    /// Those that follow: `next` of the answer before.
    after: Option<String>,
    /// At most so many, 100 where nothing is said.
    limit: Option<usize>,
}

fn address(text: &str) -> Result<Address, Problem> {
    Address::parse(text).ok_or_else(|| {
        Problem::not_found("a dead letter is named by an upstream's number, a slash and an id")
    })
}

fn at(path: &At) -> Result<Address, Problem> {
    address(&format!("{}/{}", path.0, path.1))
}

/// Dead letters, by upstream and id. Fewer than asked for where they are long.
#[utoipa::path(get, path = "/v1/dead-letters", tag = "dead letters", params(Which), responses(
    (status = 200, body = DeadLetterPage),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(here: Here, Parameters(which): Parameters<Which>) -> Result<HttpResponse, Problem> {
    let upstream = which.upstream.as_deref().map(number).transpose()?;
    let after = which.after.as_deref().map(address).transpose()?;
    let limit = which.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    Ok(HttpResponse::Ok().json(here.dead_letters(upstream, after, limit).await?))
}

/// One of them.
#[utoipa::path(get, path = "/v1/dead-letters/{upstream}/{event}", tag = "dead letters",
    params(("upstream" = String, Path), ("event" = String, Path)), responses(
    (status = 200, body = DeadLetterView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(here: Here, path: At) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(here.dead_letter(at(&path)?).await?))
}

/// Tries to store one again. The answer does not wait for it: it is there until it is stored or refused.
#[utoipa::path(post, path = "/v1/dead-letters/{upstream}/{event}/replay", tag = "dead letters",
    params(("upstream" = String, Path), ("event" = String, Path)), responses(
    (status = 202),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json",
        description = "Too much waits, or it was not kept whole and the upstream does not send it"),
))]
pub async fn replay(here: Here, path: At) -> Result<HttpResponse, Problem> {
    here.replay(at(&path)?).await?;
    Ok(HttpResponse::Accepted().finish())
}

/// Lets go of one. Its event is not asked for again.
#[utoipa::path(delete, path = "/v1/dead-letters/{upstream}/{event}", tag = "dead letters",
    params(("upstream" = String, Path), ("event" = String, Path)), responses(
    (status = 204),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn remove(here: Here, path: At) -> Result<HttpResponse, Problem> {
    here.drop_dead_letter(at(&path)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
