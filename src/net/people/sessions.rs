//! `/v1/auth/sessions`, `/v1/auth/password` and `/v1/auth/socket`: what somebody does who is signed in about being so.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Data, Json},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{People, said::Said};
use crate::{
    account::{Password, SessionKey, SessionView, SignedIn},
    clock,
    net::{Problem, described::get},
    protocol::{Tags, Timestamp, kind},
};

/// Most characters of a challenge. Ours have 32.
const MAX_CHALLENGE: usize = 128;

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/auth/sessions", get().to(list))
        .route("/auth/sessions/{id}", web::delete().to(end))
        .route("/auth/password", web::put().to(change_password))
        .route("/auth/socket", web::post().to(socket));
}

/// Where somebody is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sessions {
    sessions: Vec<View>,
}

/// A browser or program that is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct View {
    id: String,
    /// What it says of itself.
    client: String,
    /// Since when it has been signed in, in seconds since 1970.
    since: Timestamp,
    /// When it was there last, about.
    seen: Timestamp,
    /// Whether it is the one that asks.
    current: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordChange {
    /// The one until now.
    #[schema(value_type = String, format = Password)]
    password: Password,
    #[schema(value_type = String, format = Password)]
    new_password: Password,
}

/// What a relay sends to a socket that has just been opened.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Challenge {
    challenge: String,
}

/// What answers it there.
#[derive(Debug, Serialize, ToSchema)]
pub struct Proof {
    /// An event of kind 22242, to be sent as `["AUTH", event]`.
    #[schema(value_type = Object)]
    event: Box<RawValue>,
}

/// Where somebody is signed in, those used last first.
#[utoipa::path(get, path = "/v1/auth/sessions", tag = "sessions", responses(
    (status = 200, body = Sessions),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(people: Data<People>, who: SignedIn) -> Result<Json<Sessions>, Problem> {
    let sessions = people.accounts.sessions(who.account).await?;
    let view = |SessionView { key, client, since, seen }| {
        let current = key == who.session;
        View { id: key.id(), client, since, seen, current }
    };
    Ok(Json(Sessions { sessions: sessions.into_iter().map(view).collect() }))
}

/// Ends a session of one's own: its token is good at no node any more, and its sockets close.
#[utoipa::path(delete, path = "/v1/auth/sessions/{id}", tag = "sessions", params(("id" = String, Path)), responses(
    (status = 204),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn end(
    people: Data<People>,
    who: SignedIn,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let unknown = || Problem::not_found("you have no such session");
    let session = SessionKey::of(who.account, &id).ok_or_else(unknown)?;
    match people.accounts.end_session(&session).await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(unknown()),
    }
}

/// Sets another password. All other sessions end.
#[utoipa::path(put, path = "/v1/auth/password", tag = "sessions", request_body = PasswordChange, responses(
    (status = 204),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json",
        description = "`wrong-password`: the one until now is another one"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn change_password(
    people: Data<People>,
    who: SignedIn,
    said: Said<PasswordChange>,
) -> Result<HttpResponse, Problem> {
    let Said(PasswordChange { password, new_password }) = said;
    people.accounts.change_password(&who, password, new_password).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Answers the challenge of a socket (NIP-42), in the name of whoever is signed in. The socket closes when the session
/// ends.
#[utoipa::path(post, path = "/v1/auth/socket", tag = "sessions", request_body = Challenge, responses(
    (status = 200, body = Proof),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn socket(
    people: Data<People>,
    request: HttpRequest,
    who: SignedIn,
    said: Said<Challenge>,
) -> Result<Json<Proof>, Problem> {
    let Said(Challenge { challenge }) = said;
    if challenge.len() > MAX_CHALLENGE || !challenge.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::unfit("this is no challenge of this relay").about("challenge"));
    }
    // It names this relay, whoever asks, so it is good at no other.
    let relay = match &people.url {
        Some(url) => url.to_string(),
        None => {
            let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
            format!("ws://{}/", host.unwrap_or_default())
        }
    };
    let keys = people.accounts.keypair(&who.account).await?;
    let session = who.session.id();
    let tags = Tags::from_iter([["relay", &*relay], ["challenge", &*challenge], ["session", &*session]]);
    let event = keys.sign(clock::now(), kind::AUTH, tags, "");
    let event = RawValue::from_string(event.json().to_owned()).map_err(Problem::unavailable)?;
    Ok(Json(Proof { event }))
}
