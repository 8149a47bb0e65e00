//! `/v1/followed`: people who are followed, and where they are read.

use actix_web::{HttpResponse, http::header, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Problem;
use crate::{
    aggregate::follow::{Followed, Following, PersonView, PlanView},
    net::described::get,
    protocol::{PublicKey, nip19},
};

/// What answers.
type Here = web::Data<Following>;

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/followed", get().to(list))
        .route("/followed", web::post().to(follow))
        .route("/followed/plan", get().to(plan))
        .route("/followed/plan", web::post().to(plan_anew))
        .route("/followed/{who}", get().to(show))
        .route("/followed/{who}", web::delete().to(unfollow));
}

/// Who is to be followed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// Public key: `npub1…`, or 64 hexadecimal digits.
    pub who: String,
    /// Whether those are followed, too, whom they follow.
    #[serde(default)]
    pub with_follows: bool,
}

fn key(who: &str) -> Result<PublicKey, Problem> {
    nip19::read_public_key(who)
        .map_err(|error| Problem::unfit(format!("{error}: npub1…, or 64 hexadecimal digits")))
}

/// Whom operators follow, in the order in which they were added.
#[utoipa::path(get, path = "/v1/followed", tag = "followed", responses(
    (status = 200, body = Vec<Followed>),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(here: Here) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(here.list().await?))
}

/// Follows somebody: they are read at the relays where they write. Saying so twice does nothing more.
#[utoipa::path(post, path = "/v1/followed", tag = "followed", request_body = Follow, responses(
    (status = 201, body = Followed, description = "They are followed from now on"),
    (status = 200, body = Followed, description = "They were followed before"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn follow(here: Here, follow: web::Json<Follow>) -> Result<HttpResponse, Problem> {
    let (followed, is_new) = here.follow(key(&follow.who)?, follow.with_follows).await?;
    let mut response = if is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(response.insert_header((header::LOCATION, format!("/v1/followed/{}", followed.who))).json(followed))
}

/// Where somebody is read who is followed, or whom somebody follows who is.
#[utoipa::path(get, path = "/v1/followed/{who}", tag = "followed", params(("who" = String, Path)), responses(
    (status = 200, body = PersonView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(here: Here, who: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(here.show(key(&who)?).await?))
}

/// Follows somebody no more. What is stored of them stays.
#[utoipa::path(delete, path = "/v1/followed/{who}", tag = "followed", params(("who" = String, Path)), responses(
    (status = 204),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn unfollow(here: Here, who: web::Path<String>) -> Result<HttpResponse, Problem> {
    here.unfollow(key(&who)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Which relays are read for those who are followed, and why not others.
#[utoipa::path(get, path = "/v1/followed/plan", tag = "followed", responses(
    (status = 200, body = PlanView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn plan(here: Here) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(here.plan().await?))
}

/// Has their lists be read again, and the plan be made anew. The answer does not wait for it.
#[utoipa::path(post, path = "/v1/followed/plan", tag = "followed", responses(
    (status = 202, body = PlanView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn plan_anew(here: Here) -> Result<HttpResponse, Problem> {
    here.plan_anew().await?;
    Ok(HttpResponse::Accepted().json(here.plan().await?))
}
