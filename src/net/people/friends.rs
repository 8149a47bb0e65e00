//! `/v1/friends`: whom an account follows.

use actix_web::{
    HttpResponse,
    web::{self, Data},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    People,
    said::Said,
    shown::{FriendView, Nothing},
};
use crate::{
    account::SignedIn,
    aggregate::follow::Fetched,
    feed::{Changed, Confirmed, Version},
    net::{Parameters, Problem, described::get},
    protocol::{EventId, PublicKey},
};

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/friends", get().to(list))
        .route("/friends/fetched", get().to(fetched))
        .route("/friends/history", get().to(history))
        .route("/friends/history/{version}", web::post().to(take_back))
        .route("/friends/{user}", web::post().to(follow))
        .route("/friends/{user}", web::delete().to(unfollow));
}

/// Whom an account follows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Friends {
    friends: Vec<FriendView>,
    /// The id of the follow list that stands.
    version: Option<String>,
}

/// A follow list was changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct FriendChanged {
    friend: FriendView,
    /// The id of the follow list that stands.
    version: Option<String>,
}

/// The lists that an account has had.
#[derive(Debug, Serialize, ToSchema)]
pub struct History {
    /// The newest first.
    versions: Vec<VersionView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionView {
    /// The id of the list.
    version: String,
    /// In seconds since 1970.
    created_at: u64,
    people: usize,
    /// Whether another program wrote it.
    is_foreign: bool,
    /// Whether it is the one that stands.
    stands: bool,
}

/// That a change goes on from a list that is a lot shorter than the last one.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Confirm {
    /// The id of the list that stands, or `none`, as the answer 409 names it.
    confirm: Option<String>,
}

impl Confirm {
    fn read(&self) -> Result<Option<Confirmed>, Problem> {
        match self.confirm.as_deref() {
            None => Ok(None),
            Some("none") => Ok(Some(Confirmed(None))),
            Some(id) => match EventId::from_hex(id) {
                Some(id) => Ok(Some(Confirmed(Some(id)))),
                None => Err(Problem::unfit("it is the id of a follow list, or none").about("confirm")),
            },
        }
    }
}

/// Whom you follow.
#[utoipa::path(get, path = "/v1/friends", tag = "friends", responses(
    (status = 200, body = Friends),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(people: Data<People>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let (friends, list) = people.feed.friends(who.account).await?;
    let friends = friends.into_iter().map(FriendView::from).collect();
    Ok(HttpResponse::Ok().json(Friends { friends, version: list.map(EventId::to_hex) }))
}

/// Follows somebody: by name, npub or hexadecimal digits.
#[utoipa::path(post, path = "/v1/friends/{user}", tag = "friends", params(("user" = String, Path), Confirm),
    responses(
    (status = 200, body = FriendChanged),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "Your list is a lot shorter than it was: nothing was written"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn follow(
    people: Data<People>,
    who: SignedIn,
    user: web::Path<String>,
    Parameters(confirm): Parameters<Confirm>,
    _: Said<Nothing>,
) -> Result<HttpResponse, Problem> {
    let person = people.feed.person(&user).await?;
    let changed = people.feed.follow(who.account, person, confirm.read()?).await?;
    told(&people, &who, person, changed).await
}

/// Follows somebody no more.
#[utoipa::path(delete, path = "/v1/friends/{user}", tag = "friends", params(("user" = String, Path), Confirm),
    responses(
    (status = 200, body = FriendChanged),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "Your list is a lot shorter than it was: nothing was written"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn unfollow(
    people: Data<People>,
    who: SignedIn,
    user: web::Path<String>,
    Parameters(confirm): Parameters<Confirm>,
) -> Result<HttpResponse, Problem> {
    let person = people.feed.person(&user).await?;
    let changed = people.feed.unfollow(who.account, person, confirm.read()?).await?;
    told(&people, &who, person, changed).await
}

async fn told(
    people: &People,
    who: &SignedIn,
    person: PublicKey,
    changed: Changed,
) -> Result<HttpResponse, Problem> {
    let friend = FriendView::of(people, who, person).await?;
    Ok(HttpResponse::Ok().json(FriendChanged { friend, version: changed.list.map(EventId::to_hex) }))
}

/// How many of those whom you follow are read at other relays, and at how many.
#[utoipa::path(get, path = "/v1/friends/fetched", tag = "friends", responses(
    (status = 200, body = Fetched),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn fetched(people: Data<People>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let (friends, _) = people.feed.friends(who.account).await?;
    let keys: Vec<PublicKey> = friends.iter().map(|friend| friend.key).collect();
    Ok(HttpResponse::Ok().json(people.following.fetched(&keys).await?))
}

/// The last lists that you had, also those that other programs wrote.
#[utoipa::path(get, path = "/v1/friends/history", tag = "friends", responses(
    (status = 200, body = History),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn history(people: Data<People>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let stands = people.feed.standing(who.account).await?;
    let versions = people.feed.versions(who.account).await?;
    let view = |Version { id, created_at, people, is_foreign, .. }: Version| VersionView {
        version: id.to_hex(),
        created_at,
        people,
        is_foreign,
        stands: Some(id) == stands,
    };
    Ok(HttpResponse::Ok().json(History { versions: versions.into_iter().map(view).collect() }))
}

/// Takes one of them back: the list is as it was then.
#[utoipa::path(post, path = "/v1/friends/history/{version}", tag = "friends",
    params(("version" = String, Path), Confirm), responses(
    (status = 200, body = Friends),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "It is a lot shorter than the list that stands: nothing was written"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn take_back(
    people: Data<People>,
    who: SignedIn,
    version: web::Path<String>,
    Parameters(confirm): Parameters<Confirm>,
    _: Said<Nothing>,
) -> Result<HttpResponse, Problem> {
    let version =
        EventId::from_hex(&version).ok_or_else(|| Problem::not_found("there is no such version"))?;
    people.feed.take_back(who.account, version, confirm.read()?).await?;
    list(people, who).await
}
