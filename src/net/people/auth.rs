//! `/v1/auth`: signing up, in and out.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::header::SET_COOKIE,
    web::{self, Data},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    People,
    guard::Asker,
    own_key,
    said::{self, Body, Said, flag},
};
use crate::{
    account::{
        Activity, CHALLENGE_SECONDS, Challenge, ClientKind, Given, NewAccount, Password, Refused, SignedIn,
    },
    clock,
    feed::Deed,
    net::Problem,
    protocol::nip19,
};

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/auth/sign-up", web::post().to(sign_up))
        .route("/auth/challenge", web::post().to(challenge))
        .route("/auth/sign-in", web::post().to(sign_in))
        .route("/auth/sign-out", web::post().to(sign_out))
        .route("/auth/reset", web::post().to(reset));
}

/// Somebody new.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignUp {
    #[schema(example = "quill")]
    username: String,
    #[schema(value_type = String, format = Password)]
    password: Password,
    /// The same once more, where somebody has typed it twice.
    #[schema(value_type = Option<String>, format = Password)]
    password_confirm: Option<Password>,
    /// Who sees what this account does; nobody, where nothing is said.
    #[serde(default)]
    activity: Option<Activity>,
    /// Whether everybody here may find it.
    #[serde(default, deserialize_with = "flag")]
    listed: Option<bool>,
    /// The code of an invitation, where one is needed.
    invitation: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct SignIn {
    #[schema(example = "quill")]
    username: String,
    #[schema(value_type = String, format = Password)]
    password: Password,
}

/// Another password, for whoever was given a link by those who run the relay.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Reset {
    /// What stands in the link after `#`.
    code: String,
    #[schema(value_type = String, format = Password)]
    password: Password,
}

/// That somebody is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    #[schema(example = "token")]
    object: &'static str,
    /// To be shown as `Authorization: Bearer …`, by REST and when a WebSocket is opened. A browser gets it in a cookie, and
    /// never here.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The public key, in hexadecimal digits.
    #[serde(rename = "userId")]
    user_id: String,
    /// Left out: it is a key of your own, which has no account here.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    npub: String,
    /// In seconds since 1970.
    expires_at: u64,
    /// When the password was set anew by leave of whoever runs the relay, in seconds since 1970.
    #[serde(rename = "passwordReset", skip_serializing_if = "Option::is_none")]
    password_reset: Option<u64>,
}

/// Hands out what somebody has who has signed in: a browser gets the token in a cookie.
fn hand_out(asker: Asker, mut response: HttpResponseBuilder, given: Given) -> HttpResponse {
    let Given { token, account, name, mark, reset_at } = given;
    let is_browser = asker.kind == ClientKind::Browser;
    if is_browser {
        response.append_header((SET_COOKIE, asker.token_cookie(&token, clock::now())));
    }
    if let Some((mark, seconds)) = mark {
        response.append_header((SET_COOKIE, asker.mark_cookie(&mark, seconds)));
    }
    response.json(TokenView {
        object: "token",
        user_id: account.to_hex(),
        username: name.map(|name| name.to_string()),
        npub: nip19::npub(&account),
        expires_at: token.expires_at,
        token: (!is_browser).then_some(token.text),
        password_reset: reset_at,
    })
}

/// Makes an account, and signs it in.
#[utoipa::path(post, path = "/v1/auth/sign-up", tag = "sign-in", request_body = SignUp, security(()), responses(
    (status = 201, body = TokenView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json",
        description = "Nobody new is taken, or the invitation is not good"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "The name is taken; `free` are some that are not"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn sign_up(
    people: Data<People>,
    request: HttpRequest,
    said: Said<SignUp>,
) -> Result<HttpResponse, Problem> {
    let Said(SignUp { username, password, password_confirm, activity, listed, invitation }) = said;
    if password_confirm.is_some_and(|confirm| !confirm.is(&password)) {
        return Err(Problem::unfit("the two passwords differ").about("passwordConfirm"));
    }
    let asker = Asker::of(&request, &people)?;
    let (activity, listed) = (activity.unwrap_or_default(), listed.unwrap_or(false));
    // A form sends what was left empty, too.
    let invitation = invitation.filter(|code| !code.is_empty());
    let new = NewAccount { name: username, password, activity, listed, invitation };
    let given = people.accounts.make(new, &asker.client(&request)?).await?;
    if let Some(name) = &given.name {
        people.feed.introduce(given.account, name.as_str()).await;
    }
    Ok(hand_out(asker, HttpResponse::Created(), given))
}

/// What is to be signed with a key of one's own, and how.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChallengeView {
    /// For the tag `challenge`. It is good once.
    challenge: String,
    /// For the tag `u`.
    url: String,
    /// For the tag `method`.
    method: &'static str,
    /// In seconds since 1970.
    expires_at: u64,
}

/// Asks for what is to be signed in order to sign in by a key: an event of kind 27235 (NIP-98) with these tags, which goes
/// to `/v1/auth/sign-in` as `Authorization: Nostr <base64>`. A browser signs in with what it has asked for itself.
#[utoipa::path(post, path = "/v1/auth/challenge", tag = "sign-in", security(()), responses(
    (status = 200, body = ChallengeView),
    (status = 403, body = Problem, content_type = "application/problem+json",
        description = "The relay does not know its own URL"),
))]
pub async fn challenge(people: Data<People>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let asker = Asker::of(&request, &people)?;
    let url = own_key::address(&request, &people, "/v1/auth/sign-in")?;
    let is_browser = asker.kind == ClientKind::Browser;
    let secret = if is_browser { hex::encode(rand::random::<[u8; 16]>()) } else { String::new() };
    let Challenge { text, expires_at } = people.accounts.challenge(&secret);
    let mut response = HttpResponse::Ok();
    if is_browser {
        response.append_header((SET_COOKIE, asker.challenge_cookie(&secret, CHALLENGE_SECONDS)));
    }
    Ok(response.json(ChallengeView { challenge: text, url, method: "POST", expires_at }))
}

/// Signs somebody in: by name and password, or without a body by a key, in whose name a challenge was signed
/// (`Authorization: Nostr …`, see `/v1/auth/challenge`). The key of an account here signs into that; with another one
/// there is a session and no account: it reads, and signs itself what it says.
#[utoipa::path(post, path = "/v1/auth/sign-in", tag = "sign-in", request_body = SignIn, security(()), responses(
    (status = 200, body = TokenView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json",
        description = "The account is switched off"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn sign_in(
    people: Data<People>,
    request: HttpRequest,
    Body(body): Body,
) -> Result<HttpResponse, Problem> {
    let asker = Asker::of(&request, &people)?;
    let given = match own_key::header(&request) {
        Some(header) => sign_in_by_key(header, &request, &people, asker, &body).await?,
        None => {
            let SignIn { username, password } = said::read(&request, &body)?;
            people.accounts.sign_in(&username, password, &asker.client(&request)?).await?
        }
    };
    people.feed.warm(given.account);
    if let Some(name) = &given.name {
        people.feed.introduce_if_new(given.account, name.as_str()).await;
    }
    people.feed.tell(given.account, Deed::SignedIn).await;
    Ok(hand_out(asker, HttpResponse::Ok(), given))
}

async fn sign_in_by_key(
    header: &str,
    request: &HttpRequest,
    people: &People,
    asker: Asker,
    body: &[u8],
) -> Result<Given, Problem> {
    let client = asker.client(request)?;
    let own_key::Shown { key, challenge } = own_key::read(header, request, people, body)?;
    let secret = asker.challenged(request).ok_or(Refused::Challenge)?;
    Ok(people.accounts.sign_in_by_key(key, &challenge, secret, &client).await?)
}

/// Ends the session: its token is good at no node any more, and its sockets close.
#[utoipa::path(post, path = "/v1/auth/sign-out", tag = "sign-in", responses(
    (status = 204),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn sign_out(
    people: Data<People>,
    request: HttpRequest,
    who: SignedIn,
) -> Result<HttpResponse, Problem> {
    let asker = Asker::of(&request, &people)?;
    people.accounts.end_session(&who.session).await?;
    people.feed.tell(who.account, Deed::SignedOut).await;
    let mut response = HttpResponse::NoContent();
    if asker.kind == ClientKind::Browser {
        response.append_header((SET_COOKIE, asker.no_token_cookie()));
    }
    Ok(response.finish())
}

/// Sets another password by a link that was given by those who run the relay. All sessions of the account end.
#[utoipa::path(post, path = "/v1/auth/reset", tag = "sign-in", request_body = Reset, security(()), responses(
    (status = 204),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "The link is not good"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn reset(
    people: Data<People>,
    request: HttpRequest,
    said: Said<Reset>,
) -> Result<HttpResponse, Problem> {
    let Said(Reset { code, password }) = said;
    let address = Asker::of(&request, &people)?.address;
    people.accounts.reset_password(&code, password, address).await?;
    Ok(HttpResponse::NoContent().finish())
}
