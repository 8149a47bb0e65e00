//! What describes the routes of `/v1` (OpenAPI), with what all of them have in common; and what is answered where there
//! is none.

use std::fmt::Write;

use actix_web::{
    HttpRequest, HttpResponse, Route, guard,
    http::{StatusCode, header},
    web::{self, Bytes},
};
use serde_json::{Value, json};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::Problem;

/// `GET`, and `HEAD`, whose answer goes without its body (RFC 9110, 9.3.2).
pub fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// A token in `Authorization` (RFC 6750).
pub struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The description of a scope.
pub struct Description {
    document: Value,
    bytes: Bytes,
}

impl Description {
    /// Completes what stands at the routes: each has a name of its own, each answer says what its status means, and what
    /// any question may be answered is there.
    pub fn of<D: OpenApi>() -> Self {
        let mut document = serde_json::to_value(D::openapi()).unwrap_or_default();
        for (path, methods) in document["paths"].as_object_mut().into_iter().flatten() {
            for (method, operation) in methods.as_object_mut().into_iter().flatten() {
                complete(path, method, operation);
            }
        }
        let bytes = serde_json::to_vec(&document).unwrap_or_default().into();
        Self { document, bytes }
    }

    /// The document.
    pub fn answer(&self) -> HttpResponse {
        HttpResponse::Ok().content_type("application/json").body(self.bytes.clone())
    }

    /// What is answered to a question that no route takes: there is nothing, or it is asked by another method.
    pub fn elsewhere(&self, request: &HttpRequest) -> HttpResponse {
        let mut allowed = String::new();
        let is_there = |template: &str| {
            let (mut asked, mut template) = (request.path().split('/'), template.split('/'));
            loop {
                match (asked.next(), template.next()) {
                    (None, None) => return true,
                    (Some(asked), Some(part))
                        if part == asked || part.starts_with('{') && !asked.is_empty() => {}
                    _ => return false,
                }
            }
        };
        for (path, methods) in self.document["paths"].as_object().into_iter().flatten() {
            if is_there(path) {
                for method in methods.as_object().into_iter().flatten().map(|(method, _)| &method[..]) {
                    let also = if method == "get" { ", HEAD" } else { "" };
                    let separator = if allowed.is_empty() { "" } else { ", " };
                    // Into memory: can not fail.
                    let _ = write!(allowed, "{separator}{}{also}", method.to_ascii_uppercase());
                }
            }
        }
        if allowed.is_empty() {
            return Problem::not_found("nothing is here").into();
        }
        let detail = format!("here it is {allowed}");
        let problem =
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "another method", detail);
        let mut response = HttpResponse::from(problem);
        if let Ok(allowed) = header::HeaderValue::from_str(&allowed) {
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        response
    }
}

fn complete(path: &str, method: &str, operation: &mut Value) {
    let words = path.trim_start_matches("/v1/").replace(['/', '-'], "_").replace(['{', '}'], "");
    operation["operationId"] = json!(format!("{method}_{words}"));
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    let problem =
        json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    for status in ["400", "408", "429", "503"] {
        responses.entry(status).or_insert_with(|| json!({ "content": problem }));
    }
    for (status, response) in responses {
        let is_described = response["description"].as_str().is_some_and(|text| !text.is_empty());
        let status: Option<StatusCode> = status.parse().ok();
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or("Answer");
        if !is_described {
            response["description"] = json!(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_name_and_every_answer_words() {
        #[derive(OpenApi)]
        #[openapi(paths(list, show))]
        struct Described;

        #[utoipa::path(get, path = "/v1/things", responses((status = 200)))]
        #[expect(dead_code, reason = "only described")]
        fn list() {}

        #[utoipa::path(delete, path = "/v1/things/{id}", params(("id" = String, Path)), responses((status = 204)))]
        #[expect(dead_code, reason = "only described")]
        fn show() {}

        let description = Description::of::<Described>();
        let [list, show] = [("/v1/things", "get"), ("/v1/things/{id}", "delete")]
            .map(|(path, method)| &description.document["paths"][path][method]);
        assert_eq!(
            (&list["operationId"], &show["operationId"]),
            (&json!("get_things"), &json!("delete_things_id"))
        );
        assert_eq!(show["responses"]["204"]["description"], "No Content");
        assert_eq!(list["responses"]["400"]["description"], "Bad Request");
    }
}
