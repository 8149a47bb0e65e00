//! `/v1/feed`: what those say and do whom an account follows.

use actix_web::{
    HttpResponse,
    web::{self, Data},
};

use super::{
    People,
    shown::{CountView, PageView, Which},
};
use crate::{
    account::SignedIn,
    feed::Counted,
    net::{Parameters, Problem, described::get},
};

/// Adds the routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/feed", get().to(feed));
}

/// Your feed: notes, reposts and activity, yours and of those whom you follow, newest first.
#[utoipa::path(get, path = "/v1/feed", tag = "feed", params(Which), responses(
    (status = 200, body = PageView),
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub async fn feed(
    people: Data<People>,
    who: SignedIn,
    Parameters(which): Parameters<Which>,
) -> Result<HttpResponse, Problem> {
    let span = which.span()?;
    let page = people.feed.feed(who.account, span, which.limit()).await?;
    let mut view = PageView::of(&people, page).await?;
    if which.is_counted() {
        let Counted { count, is_more } = people.feed.count(who.account, span).await?;
        view.count = Some(CountView { number: count, is_more });
    }
    Ok(HttpResponse::Ok().json(view))
}
