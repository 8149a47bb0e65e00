//! `/v1/settings`: the settings of a running node.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::Problem;
use crate::net::described::get;

/// A question to whoever keeps the settings.
pub struct Ask {
    pub what: What,
    pub answer: oneshot::Sender<Result<String, ChangeRefused>>,
}

pub enum What {
    /// All of them, and where each comes from.
    Show,
    /// Change one for all nodes of the store: to what the text says, or back to what each node has.
    Change { setting: String, text: Option<String> },
}

/// Why a setting is not changed.
pub enum ChangeRefused {
    /// It can not be so.
    Unfit(String),
    /// It could be, but the store has failed.
    Failed(String),
}

/// Where questions go.
pub type Asks = mpsc::Sender<Ask>;

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/settings", get().to(show))
        .route("/settings/{setting}", web::put().to(set))
        .route("/settings/{setting}", web::delete().to(unset));
}

/// All settings, and where each comes from.
#[utoipa::path(get, path = "/v1/settings", tag = "settings", responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn show(asks: web::Data<Asks>) -> Result<HttpResponse, Problem> {
    ask(&asks, What::Show).await
}

/// Changes a setting for all nodes of the store; the body is the value, as in a file.
#[utoipa::path(put, path = "/v1/settings/{setting}", tag = "settings", params(("setting" = String, Path)),
    request_body(content = String, content_type = "text/plain"), responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn set(
    setting: web::Path<String>,
    text: String,
    asks: web::Data<Asks>,
) -> Result<HttpResponse, Problem> {
    ask(&asks, What::Change { setting: setting.into_inner(), text: Some(text) }).await
}

/// Takes a change back: each node has what its own file, variables and flags say.
#[utoipa::path(delete, path = "/v1/settings/{setting}", tag = "settings", params(("setting" = String, Path)), responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn unset(setting: web::Path<String>, asks: web::Data<Asks>) -> Result<HttpResponse, Problem> {
    ask(&asks, What::Change { setting: setting.into_inner(), text: None }).await
}

async fn ask(asks: &Asks, what: What) -> Result<HttpResponse, Problem> {
    /// How long the store may take.
    const PATIENCE: Duration = Duration::from_secs(10);
    let (answer, answered) = oneshot::channel();
    let asked = async {
        asks.send(Ask { what, answer }).await.ok()?;
        answered.await.ok()
    };
    match timeout(PATIENCE, asked).await {
        Ok(Some(Ok(text))) => Ok(HttpResponse::Ok().body(text)),
        Ok(Some(Err(ChangeRefused::Unfit(why)))) => Err(Problem::unfit(why)),
        Ok(Some(Err(ChangeRefused::Failed(why)))) => Err(Problem::unavailable(why)),
        Ok(None) => Err(Problem::unavailable("the node ends")),
        Err(_) => Err(Problem::unavailable(
            "the store does not answer; `rookery config running` tells what is in force",
        )),
    }
}
