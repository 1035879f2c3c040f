//! The pages, embedded in the binary, and what both listeners share.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use stream::publication::File;

/// Built by Vite before cargo (`make web`).
#[derive(rust_embed::RustEmbed)]
#[folder = "web/dist"]
struct Pages;

/// Only what comes from the box itself; what a page fetches and plays may come from more ([`page`]).
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; worker-src 'self' blob:; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; object-src 'none'";

/// The player that lies in every broadcast's directory, by its name and as what opens with the directory. It is one block,
/// stored once for all broadcasts.
pub(crate) fn player() -> Vec<File> {
    let page = Pages::get("player.html").map(|page| match page.data {
        Cow::Borrowed(page) => Bytes::from_static(page),
        Cow::Owned(page) => Bytes::from(page),
    });
    let file = |path: &str, page: &Bytes| File {
        path: path.to_owned(),
        parts: vec![page.clone()],
    };
    let both = ["player.html", "index.html"];
    (page.iter())
        .flat_map(|page| both.map(|path| file(path, page)))
        .collect()
}

/// Serves a page. Who may show it in a frame depends on the page. With a subdomain gateway what it fetches below `/ipfs` and `/ipns`
/// is led to a host name below `gateway_host`, and browsers hold the policy against where they are led: `'self'` is not that.
pub(crate) fn page(name: &str, frame_ancestors: &str, gateway_host: Option<&str>) -> Response {
    let mut response = file(name, "no-cache");
    let policy = policy(frame_ancestors, gateway_host);
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn policy(frame_ancestors: &str, gateway_host: Option<&str>) -> String {
    // A proxy may have another port than the box.
    let content = gateway_host.map(|host| format!(" *.ipfs.{host}:* *.ipns.{host}:*"));
    let content = content.unwrap_or_default();
    // Media plays from memory (`blob:`), which is how hls.js feeds a player.
    format!(
        "{CONTENT_SECURITY_POLICY}; connect-src 'self'{content}; media-src 'self' blob:{content}; frame-ancestors {frame_ancestors}"
    )
}

/// `/assets/…`: names carry a hash of their content, so they never change.
pub(crate) async fn asset(uri: Uri) -> Response {
    file(
        uri.path().trim_start_matches('/'),
        "public, max-age=31536000, immutable",
    )
}

fn file(name: &str, cache: &'static str) -> Response {
    let Some(file) = Pages::get(name) else {
        return (StatusCode::NOT_FOUND, "no such page\n").into_response();
    };
    let mut headers = HeaderMap::new();
    let mime = mime_guess::from_path(name).first_or_octet_stream();
    if let Ok(mime) = HeaderValue::from_str(mime.as_ref()) {
        headers.insert(header::CONTENT_TYPE, mime);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    (headers, Body::from(file.data.into_owned())).into_response()
}
