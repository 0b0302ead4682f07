//! The dashboard: the files of `static/`, out of the binary (or off the disk in a development build).

use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    http::{Method, header},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rust_embed::RustEmbed;

use super::problem::Problem;

/// No inline script or style, nothing from other hosts, no frames: `'self'` covers the WebSocket as well.
const POLICY: &str = "default-src 'self'; connect-src 'self'; img-src 'self' data:; object-src 'none'; \
                      base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

#[derive(RustEmbed)]
#[folder = "static/"]
struct Static;

/// Answers what no route is for: with a file, or with 404.
pub async fn serve(request: HttpRequest) -> HttpResponse {
    let path = match request.path() {
        "/" => "index.html",
        path => path.trim_start_matches('/'),
    };
    let file = Some(path)
        .filter(|path| !path.starts_with("api/") && !path.split('/').any(|part| part.starts_with('.')))
        .and_then(Static::get);
    let Some(file) = file else {
        return Problem::not_found("there is nothing at this path").error_response();
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::method_not_allowed("GET, HEAD").error_response();
    }
    let tag = format!(
        "\"{}\"",
        URL_SAFE_NO_PAD.encode(&file.metadata.sha256_hash()[..18])
    );
    let is_known = request.headers().get_all(header::IF_NONE_MATCH).any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.split(',').any(|known| {
            let known = known.trim();
            known == "*" || known.trim_start_matches("W/") == tag
        })
    });
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::ETAG, tag))
        // Asked for each time, so that a page never meets a broker of another version; the answer is short.
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY));
    if is_known {
        return response.finish();
    }
    response.content_type(content_type(path));
    match file.data {
        std::borrow::Cow::Borrowed(bytes) => response.body(bytes),
        std::borrow::Cow::Owned(bytes) => response.body(bytes),
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" | "LICENSE" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
