//! What a request says: JSON, or a form of a page without script.

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, http::header, web::Bytes};
use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use crate::net::Problem;

/// What a request says. Members that nobody asked for are passed over.
pub struct Said<T>(pub T);

/// That a request is a form, and where to go when it is done.
pub struct Form {
    pub next: Option<String>,
}

impl<T: DeserializeOwned + 'static> FromRequest for Said<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, body) = (request.clone(), Body::from_request(request, payload));
        Box::pin(async move { read(&request, &body.await?.0).map(Self) })
    }
}

/// What a request says, as it is.
pub struct Body(pub Bytes);

impl FromRequest for Body {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = Bytes::from_request(request, payload);
        Box::pin(async move { body.await.map(Self).map_err(Problem::unfit) })
    }
}

/// Reads it.
///
/// # Errors
/// It is no form, no JSON, or not as it should be.
pub fn read<T: DeserializeOwned>(request: &HttpRequest, body: &[u8]) -> Result<T, Problem> {
    // Errors tell where, and never what: it may be a password.
    if is_form(request, body) {
        let next = form::<Next>(body).ok().and_then(|form| form.next);
        request.extensions_mut().insert(Form { next });
        return form(body).map_err(|_| Problem::unfit("the form is not as it should be"));
    }
    if !may_be_json(request) {
        return Err(Problem::unfit("JSON is taken from pages as application/json alone"));
    }
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = match error.classify() {
            serde_json::error::Category::Data => "what it says is not as it should be",
            _ => "it is no JSON",
        };
        Problem::unfit(format!("{what}: line {line}, column {column}"))
    })
}

/// Where a form leads to.
#[derive(Deserialize)]
struct Next {
    next: Option<String>,
}

fn form<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_urlencoded::de::Error> {
    serde_urlencoded::from_bytes(body)
}

/// Programs often call JSON a form, as curl does. What begins with a brace is none.
fn is_form(request: &HttpRequest, body: &[u8]) -> bool {
    request.content_type() == "application/x-www-form-urlencoded"
        && body.trim_ascii_start().first() != Some(&b'{')
}

/// From a browser, JSON has to call itself so: then no page of somebody else sends it unasked.
fn may_be_json(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let is_of_browser = [header::COOKIE, header::ORIGIN].iter().any(|name| headers.contains_key(name))
        || headers.contains_key("sec-fetch-site");
    request.content_type() == "application/json"
        || headers.contains_key(header::AUTHORIZATION)
        || !is_of_browser
}

/// Whether it is a path of this relay, and leads nowhere else.
pub fn is_local_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

/// `true` of JSON, and what a form sends of a box that is ticked.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Text(String),
    }
    Ok(Option::<Flag>::deserialize(deserializer)?.map(|flag| match flag {
        Flag::Bool(flag) => flag,
        Flag::Text(text) => ["on", "true", "1", "yes"].contains(&text.as_str()),
    }))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Asked {
        name: String,
        #[serde(default, deserialize_with = "flag")]
        listed: Option<bool>,
    }

    #[test]
    fn a_form_is_a_form_and_json_is_json() {
        let json = br#"{"name": "a", "listed": true, "gender": "x"}"#;
        let asked = |listed| Asked { name: "a".into(), listed };
        let form_type = ("content-type", "application/x-www-form-urlencoded");
        let curl = TestRequest::post().insert_header(form_type).to_http_request();
        assert_eq!(read::<Asked>(&curl, json).unwrap(), asked(Some(true)));
        assert!(curl.extensions().get::<Form>().is_none());
        assert_eq!(read::<Asked>(&curl, b"name=a&listed=on&next=%2Fp").unwrap(), asked(Some(true)));
        assert_eq!(curl.extensions().get::<Form>().unwrap().next.as_deref(), Some("/p"));
        assert_eq!(read::<Asked>(&curl, b"name=a").unwrap(), asked(None));
        let page = || TestRequest::post().insert_header(("origin", "http://127.0.0.1"));
        assert!(
            read::<Asked>(&page().insert_header(("content-type", "text/plain")).to_http_request(), json)
                .is_err()
        );
        let right = page().insert_header(("content-type", "application/json")).to_http_request();
        assert!(read::<Asked>(&right, json).is_ok());
        let refused = read::<Asked>(&right, br#"{"name": ["secret"]}"#).unwrap_err().detail;
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[test]
    fn a_form_leads_to_pages_of_this_relay() {
        for path in ["/", "/settings?a=b", "/npub1x"] {
            assert!(is_local_path(path), "{path}");
        }
        for path in ["", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nSet-Cookie: x"] {
            assert!(!is_local_path(path), "{path}");
        }
    }
}
