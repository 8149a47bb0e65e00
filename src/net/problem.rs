//! What goes wrong, as RFC 9457 has it told.

use std::fmt;

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error of `/v1`, as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Which kind it is, for programs: `urn:rookery:problem:` and a word that stays.
    #[serde(rename = "type")]
    #[schema(example = "urn:rookery:problem:not-found")]
    pub kind: String,
    /// The kind, for people.
    pub title: String,
    /// The status of HTTP.
    pub status: u16,
    /// What happened.
    pub detail: String,
    /// Which part of what was said it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub field: Option<Box<str>>,
    /// What could be said instead.
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub free: Box<[String]>,
    /// Seconds after which it may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

impl Problem {
    /// One of the kind that the word stands for.
    pub fn new(status: StatusCode, word: &str, title: &str, detail: impl ToString) -> Self {
        let (kind, title, detail) =
            (format!("urn:rookery:problem:{word}"), title.to_owned(), detail.to_string());
        Self {
            kind,
            title,
            status: status.as_u16(),
            detail,
            field: None,
            free: Box::default(),
            seconds: None,
        }
    }

    /// The word of its kind.
    pub fn word(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }

    /// The same, about a part of what was said.
    pub fn about(self, field: &str) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// The same, to be tried again so much later.
    pub fn after(self, seconds: u64) -> Self {
        Self { seconds: Some(seconds.try_into().unwrap_or(u32::MAX)), ..self }
    }

    /// Who asks has not shown that they may.
    pub fn unauthorized(detail: impl ToString) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "not allowed", detail)
    }

    /// What is asked for can not be.
    pub fn unfit(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unfit", "it can not be so", detail)
    }

    pub fn not_found(detail: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "not found", detail)
    }

    /// It is otherwise already, or it is changed elsewhere.
    pub fn conflict(detail: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "it is otherwise", detail)
    }

    /// It could be so, but not now.
    pub fn unavailable(detail: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "not now", detail)
    }
}

impl From<Problem> for HttpResponse {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Self::build(status);
        response.insert_header((header::CONTENT_TYPE, "application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, r#"Bearer realm="rookery""#));
        }
        if let Some(seconds) = problem.seconds {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        response.body(serde_json::to_vec(&problem).unwrap_or_default())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

impl actix_web::ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.clone().into()
    }
}
