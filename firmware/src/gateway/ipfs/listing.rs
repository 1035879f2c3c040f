//! A directory for people.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cid::Cid;
use node::DirEntry;

use super::{IMMUTABLE, Request, join, percent_encode};
use crate::gateway::content::matches_etag;
use crate::gateway::header_value;

/// A list whose look may change where its content does not.
const LISTING: &str = "public, max-age=604800, stale-while-revalidate=2678400";

/// A plain list of links, for people.
pub(super) fn listing(request: &Request<'_>, cid: &Cid, entries: &[DirEntry]) -> Response {
    let look = env!("CARGO_PKG_VERSION");
    let etag = format!("\"DirIndex-{look}_CID-{cid}\"");
    let mut fields = HeaderMap::new();
    let cache = if request.cache == IMMUTABLE {
        LISTING
    } else {
        request.cache
    };
    fields.insert(header::ETAG, header_value(&etag));
    fields.insert(header::CACHE_CONTROL, header_value(cache));
    // Who knows the directory knows what is listed.
    let known = [etag, format!("\"{cid}\"")];
    if known.iter().any(|etag| matches_etag(request.headers, etag)) {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    let title = escape(&request.content_path());
    let gateway = escape(&request.gateway());
    // As Kubo's gateway writes them, and the conformance suite has it: the way from the root, and addresses from the host's root on,
    // so that a name with a colon is no address of another scheme.
    let path = request.path.trim_matches('/');
    let (namespace, root) = request.namespace.split_at("/ipfs/".len());
    let mut at = request.namespace.clone();
    let crumb = |at: &str, name: &str| {
        let (at, name) = (escape(at), escape(name));
        format!("<a href=\"{gateway}{at}\">{name}</a>")
    };
    let mut crumbs = format!("{namespace}{}", crumb(&at, root));
    for name in path.split('/').filter(|name| !name.is_empty()) {
        at = join(&at, name);
        crumbs += &format!("/{}", crumb(&at, name));
    }
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Index of {title}</title><h1>Index of {crumbs}</h1><ul>\n"
    );
    let here = escape(&join(request.base(), path));
    if !path.is_empty() {
        html += &format!("<li><a href=\"{here}/..\">..</a>\n");
    }
    for DirEntry { name, cid, size } in entries {
        let address = percent_encode(name);
        // The name is encoded twice there, too: who opens it is shown it encoded once.
        let twice = percent_encode(&address);
        let name = escape(name);
        html += &format!(
            "<li><a href=\"{here}/{address}\">{name}</a> <a class=\"ipfs-hash\" translate=\"no\" href=\"{gateway}/ipfs/{cid}?filename={twice}\">{cid}</a> {size} bytes\n"
        );
    }
    html += "</ul></html>\n";
    fields.insert(
        header::CONTENT_TYPE,
        header_value("text/html; charset=utf-8"),
    );
    fields.insert(header::CONTENT_SECURITY_POLICY, header_value("sandbox"));
    (fields, html).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
