//! `/v1/users`: people, those with an account here and others.

use actix_web::{
    HttpResponse,
    web::{self, Data},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    People,
    shown::{FriendView, PageView, Which},
};
use crate::{
    account::SignedIn,
    net::{Parameters, Problem, described::get},
};

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/users", get().to(find))
        .route("/users/{user}", get().to(show))
        .route("/users/{user}/posts", get().to(posts));
}

/// Who is looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// How the name of the account begins, or an npub. Nothing: everybody who wants to be found.
    #[serde(default)]
    q: String,
    /// At most so many: 20 where nothing is said, 100 at most.
    limit: Option<usize>,
}

/// People.
#[derive(Debug, Serialize, ToSchema)]
pub struct Users {
    users: Vec<FriendView>,
}

/// Somebody.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserView {
    #[serde(flatten)]
    user: FriendView,
    /// Whether you follow them.
    followed: bool,
}

/// Finds people with an account here who want to be found.
#[utoipa::path(get, path = "/v1/users", tag = "people", params(Wanted), responses(
    (status = 200, body = Users),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn find(
    people: Data<People>,
    who: SignedIn,
    Parameters(wanted): Parameters<Wanted>,
) -> Result<HttpResponse, Problem> {
    const PAGE: usize = 20;
    const MOST: usize = 100;
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, MOST);
    let found = people.feed.find(&wanted.q, limit).await?;
    let users = people.feed.as_friends(who.account, found).await?;
    Ok(HttpResponse::Ok().json(Users { users: users.into_iter().map(FriendView::from).collect() }))
}

/// Somebody: by name, npub or hexadecimal digits.
#[utoipa::path(get, path = "/v1/users/{user}", tag = "people", params(("user" = String, Path)), responses(
    (status = 200, body = UserView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(
    people: Data<People>,
    who: SignedIn,
    user: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let person = people.feed.person(&user).await?;
    let user = FriendView::of(&people, &who, person).await?;
    let followed = people.feed.is_followed(who.account, person).await?;
    Ok(HttpResponse::Ok().json(UserView { user, followed }))
}

/// What somebody has said, newest first.
#[utoipa::path(get, path = "/v1/users/{user}/posts", tag = "people", params(("user" = String, Path), Which),
    responses(
    (status = 200, body = PageView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn posts(
    people: Data<People>,
    who: SignedIn,
    user: web::Path<String>,
    Parameters(which): Parameters<Which>,
) -> Result<HttpResponse, Problem> {
    let person = people.feed.person(&user).await?;
    let page = people.feed.posts_of(who.account, person, which.span()?, which.limit()).await?;
    Ok(HttpResponse::Ok().json(PageView::of(&people, page).await?))
}
