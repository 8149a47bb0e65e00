//! What somebody takes along, and going.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CONTENT_DISPOSITION, SET_COOKIE},
    web::{self, Bytes, Data},
};
use futures_util::stream::try_unfold;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    People,
    guard::Asker,
    said::{Said, flag},
};
use crate::{
    account::{ClientKind, Password, SignedIn},
    feed::Place,
    net::{Problem, described::get},
    protocol::{Event, nip19},
};

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/me/key", web::post().to(key))
        .route("/me/export", get().to(export))
        .route("/me/leave", web::post().to(leave));
}

/// Shows that it is you, and says under which password the key is encrypted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyWanted {
    /// That of the account.
    #[schema(value_type = String, format = Password)]
    password: Password,
    /// Of at least 16 characters: whoever has the text may guess for ever.
    #[schema(value_type = String, format = Password)]
    key_password: Password,
}

/// A key that is taken along.
#[derive(Debug, Serialize, ToSchema)]
pub struct TakenKey {
    /// `ncryptsec1…` (NIP-49): other apps ask for its password.
    ncryptsec: String,
}

/// Shows that it is you, who goes.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Leaving {
    /// That of the account.
    #[schema(value_type = String, format = Password)]
    password: Password,
    /// Whether all relays are asked to remove what you have said (NIP-62). This one does.
    #[serde(default, deserialize_with = "flag")]
    vanish: Option<bool>,
}

/// Your key, encrypted under another password. With it you are the same everywhere, also when this relay is gone.
#[utoipa::path(post, path = "/v1/me/key", tag = "account", request_body = KeyWanted, responses(
    (status = 200, body = TakenKey),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json",
        description = "`wrong-password`: it is another one"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn key(
    people: Data<People>,
    who: SignedIn,
    said: Said<KeyWanted>,
) -> Result<HttpResponse, Problem> {
    let Said(KeyWanted { password, key_password }) = said;
    let ncryptsec = people.accounts.take_along(&who, password, key_password).await?;
    Ok(HttpResponse::Ok().json(TakenKey { ncryptsec }))
}

/// Everything that you have said, an event a line, newest first. Activity is not in it.
#[utoipa::path(get, path = "/v1/me/export", tag = "account", responses(
    (status = 200, body = String, content_type = "application/jsonl"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn export(people: Data<People>, who: SignedIn) -> Result<HttpResponse, Problem> {
    let account = who.account;
    let name = who.name.map_or_else(|| nip19::npub(&account), |name| name.to_string());
    // The first page now: if the store does not answer, that is what is told.
    let first = people.feed.said_by(account, None).await?;
    let pages = try_unfold((people, first), move |(people, page)| async move {
        let Some(last) = page.last().map(Place::of) else { return Ok::<_, Problem>(None) };
        let lines = lines(&page);
        let next = people.feed.said_by(account, Some(last)).await?;
        Ok(Some((lines, (people, next))))
    });
    Ok(HttpResponse::Ok()
        .content_type("application/jsonl")
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.jsonl\"")))
        .streaming(pages))
}

fn lines(events: &[Event]) -> Bytes {
    let mut lines = String::new();
    for event in events {
        lines.push_str(event.json());
        lines.push('\n');
    }
    lines.into()
}

/// Removes your account: its key is gone here, its sessions end, and nobody is given its name for a while. Take the key
/// along before.
#[utoipa::path(post, path = "/v1/me/leave", tag = "account", request_body = Leaving, responses(
    (status = 204),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json",
        description = "`wrong-password`: it is another one"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn leave(
    people: Data<People>,
    request: HttpRequest,
    who: SignedIn,
    said: Said<Leaving>,
) -> Result<HttpResponse, Problem> {
    let Said(Leaving { password, vanish }) = said;
    let asker = Asker::of(&request, &people)?;
    let vanishing = async {
        if vanish == Some(true) {
            people.feed.vanish(who.account).await?;
        }
        Ok::<_, Problem>(())
    };
    people.accounts.leave(&who, password, vanishing).await?;
    let mut response = HttpResponse::NoContent();
    if asker.kind == ClientKind::Browser {
        response.append_header((SET_COOKIE, asker.no_token_cookie()));
    }
    Ok(response.finish())
}
