//! The files of the page: made from `web/` by its build, and a part of the program. Their names have a hash of what is in
//! them, so they are never asked for twice.

use std::{io::Write, sync::LazyLock};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderMap},
    web::{Data, Path},
};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

use super::{Page, egg::egg, elsewhere};
use crate::protocol::PublicKey;

/// A file of the page.
pub struct File {
    /// Its path on the relay.
    pub path: String,
    media_type: &'static str,
    bytes: &'static [u8],
    zipped: Vec<u8>,
}

pub struct Files {
    pub script: File,
    pub style: File,
    pub mark: File,
}

/// All there are.
pub static FILES: LazyLock<Files> = LazyLock::new(|| Files {
    script: File::new("app", "js", "text/javascript; charset=utf-8", include_bytes!("built/app.js")),
    style: File::new("app", "css", "text/css; charset=utf-8", include_bytes!("built/app.css")),
    mark: File::new("mark", "svg", "image/svg+xml", include_bytes!("built/mark.svg")),
});

/// What never changes may be kept for a year.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

impl File {
    fn new(name: &str, ending: &str, media_type: &'static str, bytes: &'static [u8]) -> Self {
        let hash = hex::encode(&Sha256::digest(bytes)[..8]);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Into memory: can not fail.
        let zipped = encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default();
        Self { path: format!("/page/{name}-{hash}.{ending}"), media_type, bytes, zipped }
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted =
        headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && weight.trim().replace(' ', "") != "q=0"
    })
}

/// `GET /page/{name}`.
pub async fn file(request: HttpRequest, page: Data<Page>) -> HttpResponse {
    let files = [&FILES.script, &FILES.style, &FILES.mark];
    let Some(file) = files.into_iter().find(|file| file.path == request.path()) else {
        return elsewhere(request, page).await;
    };
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, file.media_type))
        .insert_header((header::CACHE_CONTROL, FOR_EVER))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(("Cross-Origin-Resource-Policy", "same-origin"))
        .insert_header((header::VARY, "Accept-Encoding"));
    if takes_gzip(request.headers()) && !file.zipped.is_empty() {
        return response.insert_header((header::CONTENT_ENCODING, "gzip")).body(&file.zipped[..]);
    }
    response.body(file.bytes)
}

/// `GET /eggs/{key}.svg`.
pub async fn drawn(request: HttpRequest, key: Path<String>, page: Data<Page>) -> HttpResponse {
    match PublicKey::from_hex(&key) {
        Some(key) => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "image/svg+xml"))
            .insert_header((header::CACHE_CONTROL, FOR_EVER))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
            .insert_header(("Cross-Origin-Resource-Policy", "same-origin"))
            .body(egg(key)),
        None => elsewhere(request, page).await,
    }
}
