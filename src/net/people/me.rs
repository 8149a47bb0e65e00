//! `/v1/me` and `/v1/settings`: what an account is, and what it chooses.

use actix_web::{
    HttpResponse,
    web::{self, Data},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    People,
    said::{Said, flag},
};
use crate::{
    account::{Account, Activity, Name, SignedIn},
    net::{Problem, described::get},
    protocol::{PublicKey, Timestamp, nip19},
};

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/me", get().to(me)).route("/settings", web::put().to(set));
}

/// An account, as it sees itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeView {
    /// The public key, in hexadecimal digits.
    user_id: String,
    /// Left out: you have a key of your own, and no account here.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    npub: String,
    activity: Activity,
    listed: bool,
    /// When the password was set anew by leave of whoever runs the relay, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_reset: Option<Timestamp>,
}

impl MeView {
    fn new(
        key: PublicKey,
        name: Option<&Name>,
        activity: Activity,
        listed: bool,
        reset: Option<Timestamp>,
    ) -> Self {
        let (user_id, username, npub) = (key.to_hex(), name.map(Name::to_string), nip19::npub(&key));
        Self { user_id, username, npub, activity, listed, password_reset: reset }
    }
}

impl From<Account> for MeView {
    fn from(account: Account) -> Self {
        let Account { key, name, activity, listed, reset_at, .. } = account;
        Self::new(key, Some(&name), activity, listed, reset_at)
    }
}

/// What an account chooses; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Choice {
    /// Who sees what it does.
    activity: Option<Activity>,
    /// Whether everybody here may find it.
    #[serde(default, deserialize_with = "flag")]
    listed: Option<bool>,
}

/// Whose token it is.
#[utoipa::path(get, path = "/v1/me", tag = "account", responses(
    (status = 200, body = MeView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn me(who: SignedIn) -> HttpResponse {
    HttpResponse::Ok().json(MeView::new(
        who.account,
        who.name.as_ref(),
        who.activity,
        who.listed,
        who.reset_at,
    ))
}

/// Chooses.
#[utoipa::path(put, path = "/v1/settings", tag = "account", request_body = Choice, responses(
    (status = 200, body = MeView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn set(people: Data<People>, who: SignedIn, said: Said<Choice>) -> Result<HttpResponse, Problem> {
    let Said(Choice { activity, listed }) = said;
    who.kept()?;
    let account = people.accounts.set(&who.account, activity, listed).await?;
    if activity == Some(Activity::Nobody) {
        people.feed.hush(who.account).await?;
    }
    Ok(HttpResponse::Ok().json(MeView::from(account)))
}
