//! `/v1/accounts` and `/v1/invitations`: whose keys this relay keeps.

use actix_web::{
    HttpResponse,
    web::{self, Data},
};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::{IntoParams, ToSchema};

use crate::{
    account::{Account, Accounts, Activity, Invitation},
    net::{Parameters, Problem, described::get},
    protocol::{Timestamp, nip19},
};

const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// Where accounts are asked for.
#[derive(Clone)]
pub struct Keeper {
    /// `None`: this node keeps none.
    pub accounts: Option<Accounts>,
    /// Where its pages are.
    pub pages: Url,
}

type Here = Data<Keeper>;

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/accounts", get().to(list))
        .route("/accounts/{name}", web::delete().to(remove))
        .route("/accounts/{name}/disable", web::post().to(disable))
        .route("/accounts/{name}/enable", web::post().to(enable))
        .route("/accounts/{name}/reset-password", web::post().to(reset_password))
        .route("/invitations", web::post().to(invite));
}

impl Keeper {
    fn accounts(&self) -> Result<&Accounts, Problem> {
        self.accounts.as_ref().ok_or_else(|| Problem::not_found("this node keeps no accounts"))
    }

    /// A link to a page, with a code that no proxy and no log is told.
    fn link(&self, page: &str, code: &str) -> String {
        format!("{}{page}#{code}", self.pages)
    }
}

/// Which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Those whose names begin so.
    #[serde(default)]
    prefix: String,
    /// Those that follow: `next` of the answer before.
    after: Option<String>,
    /// At most so many, 100 where nothing is said.
    limit: Option<usize>,
}

/// Accounts, by name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AccountPage {
    pub accounts: Vec<AccountView>,
    /// After which name the list goes on.
    pub next: Option<String>,
}

/// An account. Its key and its password are told to nobody.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    #[schema(example = "quill")]
    pub name: String,
    pub npub: String,
    /// In seconds since 1970.
    pub created: Timestamp,
    pub activity: Activity,
    pub listed: bool,
    pub disabled: bool,
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        let Account { key, name, created, activity, listed, disabled, .. } = account;
        Self { name: name.into(), npub: nip19::npub(&key), created, activity, listed, disabled }
    }
}

/// Who is to be let in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Guests {
    /// Accounts that it is for.
    #[serde(default = "once")]
    pub uses: u32,
    /// Days for which it is good.
    #[serde(default = "week")]
    pub days: u64,
}

fn once() -> u32 {
    1
}

fn week() -> u64 {
    7
}

/// A code, and a link that has it. It is told once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CodeView {
    pub code: String,
    pub link: String,
}

/// Whose keys this relay keeps.
#[utoipa::path(get, path = "/v1/accounts", tag = "accounts", params(Which), responses(
    (status = 200, body = AccountPage),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "There are no accounts"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(here: Here, Parameters(which): Parameters<Which>) -> Result<HttpResponse, Problem> {
    let limit = which.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let (accounts, next) = here.accounts()?.list(&which.prefix, which.after.as_deref(), limit).await?;
    let accounts = accounts.into_iter().map(AccountView::from).collect();
    Ok(HttpResponse::Ok().json(AccountPage { accounts, next }))
}

/// Switches one off: it is signed out everywhere, and nobody signs in.
#[utoipa::path(post, path = "/v1/accounts/{name}/disable", tag = "accounts", params(("name" = String, Path)), responses(
    (status = 200, body = AccountView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn disable(here: Here, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let account = here.accounts()?.set_disabled(&name, true).await?;
    Ok(HttpResponse::Ok().json(AccountView::from(account)))
}

/// Switches one on again.
#[utoipa::path(post, path = "/v1/accounts/{name}/enable", tag = "accounts", params(("name" = String, Path)), responses(
    (status = 200, body = AccountView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn enable(here: Here, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let account = here.accounts()?.set_disabled(&name, false).await?;
    Ok(HttpResponse::Ok().json(AccountView::from(account)))
}

/// Makes a link by which somebody sets a password anew, once, within a day. The password of now is good until then.
#[utoipa::path(post, path = "/v1/accounts/{name}/reset-password", tag = "accounts", params(("name" = String, Path)),
    responses(
    (status = 201, body = CodeView),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn reset_password(here: Here, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let code = here.accounts()?.reset_code(&name).await?;
    Ok(HttpResponse::Created().json(CodeView { link: here.link("reset", &code), code }))
}

/// Removes one for good: its key is gone. What it has published stays. Nobody else is given its name for a while.
#[utoipa::path(delete, path = "/v1/accounts/{name}", tag = "accounts", params(("name" = String, Path)), responses(
    (status = 204),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn remove(here: Here, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    here.accounts()?.remove(&name).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Makes an invitation, by which somebody signs up where not everybody may.
#[utoipa::path(post, path = "/v1/invitations", tag = "accounts", request_body = Guests, responses(
    (status = 201, body = CodeView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "There are no accounts"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn invite(here: Here, guests: web::Json<Guests>) -> Result<HttpResponse, Problem> {
    let Invitation { code, .. } = here.accounts()?.invite(guests.uses, guests.days).await?;
    Ok(HttpResponse::Created().json(CodeView { link: here.link("join", &code), code }))
}
