//! `/ipfs` and `/ipns`: the path gateway for what this box holds (ipfs/specs, path gateway; IPIP-523 for `format`).

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use cid::Cid;
use node::{DirEntry, Name, ReadError, Resolved};
use serde::Deserialize;

use super::content::{Content, matches_etag, media_type};
use super::routing::{self, IPNS_RECORD};
use super::{Gateway, header_value};

/// Content under a CID never changes (path gateway specification, Cache-Control).
const IMMUTABLE: &str = "public, max-age=29030400, immutable";

/// What a name points to changes with every segment.
const NAMED: &str = "public, max-age=1";

const RAW: &str = "application/vnd.ipld.raw";

#[derive(Debug, Deserialize)]
pub(crate) struct Form {
    format: Option<String>,
}

/// What was asked for, whether by CID or by name.
struct Request {
    /// `/ipfs/<cid>` or `/ipns/<name>`.
    base: String,
    root: Cid,
    path: String,
    cache: &'static str,
    form: Wanted,
    trailing_slash: bool,
}

pub(crate) async fn root(
    gateway: State<Gateway>,
    Path(cid): Path<String>,
    form: Query<Form>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    path(gateway, Path((cid, String::new())), form, uri, headers).await
}

pub(crate) async fn path(
    State(gateway): State<Gateway>,
    Path((cid, path)): Path<(String, String)>,
    Query(form): Query<Form>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Ok(root) = cid.parse::<Cid>() else {
        return (StatusCode::BAD_REQUEST, "not a CID\n").into_response();
    };
    let request = Request {
        base: format!("/ipfs/{cid}"),
        root,
        path,
        cache: IMMUTABLE,
        form: wanted(&form, &headers),
        trailing_slash: uri.path().ends_with('/'),
    };
    answer(&gateway, request, &headers).await
}

pub(crate) async fn named_root(
    gateway: State<Gateway>,
    Path(name): Path<String>,
    form: Query<Form>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    named_path(gateway, Path((name, String::new())), form, uri, headers).await
}

/// The box's own name only; others would have to be looked up elsewhere.
pub(crate) async fn named_path(
    State(gateway): State<Gateway>,
    Path((name, path)): Path<(String, String)>,
    Query(form): Query<Form>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let form = wanted(&form, &headers);
    let own = name.parse::<Name>().ok();
    let own = own.filter(|own| *own == gateway.node.channel());
    if form == Wanted::Record {
        return match own {
            Some(own) if path.is_empty() => routing::record(&gateway, own, &headers),
            Some(_) => (
                StatusCode::BAD_REQUEST,
                "a name has a record, a path has none\n",
            )
                .into_response(),
            None => not_held(),
        };
    }
    let root = gateway.live.borrow().root;
    let (Some(root), Some(_)) = (root, own) else {
        return not_held();
    };
    // Segments and init segments under a name are what they were; only the playlists move on.
    let fixed = path.ends_with(".m4s") || path.ends_with(".mp4");
    let request = Request {
        base: format!("/ipns/{name}"),
        root,
        path,
        cache: if fixed { IMMUTABLE } else { NAMED },
        form,
        trailing_slash: uri.path().ends_with('/'),
    };
    answer(&gateway, request, &headers).await
}

fn not_held() -> Response {
    let text = "this box does not hold that name\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

/// The form in which content is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Files and directories.
    Plain,
    /// The block as it is hashed.
    Raw,
    /// The signed record of a name.
    Record,
    /// One that this gateway does not have.
    Other,
}

/// `format` in the query wins over `Accept`.
fn wanted(form: &Form, headers: &HeaderMap) -> Wanted {
    match form.format.as_deref() {
        Some("raw") => return Wanted::Raw,
        Some("ipns-record") => return Wanted::Record,
        Some(_) => return Wanted::Other,
        None => {}
    }
    let accepts = |kind: &str| {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .any(|accept| accept.to_str().is_ok_and(|accept| accept.contains(kind)))
    };
    if accepts(RAW) {
        Wanted::Raw
    } else if accepts(IPNS_RECORD) {
        Wanted::Record
    } else if accepts("application/vnd.ip") {
        Wanted::Other
    } else {
        Wanted::Plain
    }
}

async fn answer(gateway: &Gateway, request: Request, headers: &HeaderMap) -> Response {
    if request.form == Wanted::Record {
        let text = "content has no record: ask for that of a name, /ipns/<name>\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    if request.form == Wanted::Other {
        let text = "this gateway gives files, directories and format=raw\n";
        return (StatusCode::NOT_ACCEPTABLE, text).into_response();
    }
    let resolved = match gateway.node.resolve(request.root, &request.path).await {
        Ok(resolved) => resolved,
        Err(error) => return failure(&error),
    };
    let cid = match &resolved {
        Resolved::File { cid, .. } | Resolved::Directory { cid, .. } => *cid,
    };
    let mut response = if request.form == Wanted::Raw {
        raw_block(gateway, cid, headers, request.cache).await
    } else {
        match resolved {
            Resolved::File { cid, size } => {
                let kind = media_type(&request.path);
                let mut response =
                    Content::stored(&gateway.node, cid, kind, size).respond(headers, request.cache);
                // A path gateway shares one origin among all content: none of it may act as this page.
                response
                    .headers_mut()
                    .insert(header::CONTENT_SECURITY_POLICY, header_value("sandbox"));
                response
            }
            Resolved::Directory { .. } if !request.trailing_slash => {
                let location = join(&request.base, &request.path) + "/";
                let to = [(header::LOCATION, header_value(&location))];
                (StatusCode::MOVED_PERMANENTLY, to).into_response()
            }
            Resolved::Directory { cid, entries } => listing(&request, &cid, &entries, headers),
        }
    };
    let path = header_value(&join(&request.base, &request.path));
    let roots = header_value(&request.root.to_string());
    // The same address has another form for whoever accepts it.
    let accept = header_value("accept");
    response.headers_mut().append(header::VARY, accept);
    response.headers_mut().insert("x-ipfs-path", path);
    response.headers_mut().insert("x-ipfs-roots", roots);
    response
}

fn join(base: &str, path: &str) -> String {
    let path = path.trim_matches('/');
    if path.is_empty() {
        base.to_owned()
    } else {
        let encoded: Vec<_> = path.split('/').map(percent_encode).collect();
        format!("{base}/{}", encoded.join("/"))
    }
}

/// Names in a broadcast are plain, but a request may carry anything; a header may not.
fn percent_encode(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

fn failure(error: &ReadError) -> Response {
    let status = match error {
        ReadError::InvalidPath { .. } => StatusCode::BAD_REQUEST,
        ReadError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::NOT_FOUND,
    };
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    (status, no_store, format!("{error}\n")).into_response()
}

/// One block as it is hashed (trustless gateway specification, 3).
async fn raw_block(
    gateway: &Gateway,
    cid: Cid,
    headers: &HeaderMap,
    cache: &'static str,
) -> Response {
    let etag = format!("\"{cid}.raw\"");
    if matches_etag(headers, &etag) {
        let fields = [
            (header::ETAG, etag.as_str()),
            (header::CACHE_CONTROL, cache),
        ];
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    match gateway.node.block(cid).await {
        Ok(Some(block)) => {
            let name = format!("attachment; filename=\"{cid}.bin\"");
            let fields = [
                (header::CONTENT_TYPE, RAW.to_owned()),
                (header::CACHE_CONTROL, cache.to_owned()),
                (header::CONTENT_DISPOSITION, name),
                (header::ETAG, etag),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            ];
            (fields, block).into_response()
        }
        Ok(None) => (StatusCode::NOT_FOUND, "this box does not hold that block\n").into_response(),
        Err(error) => failure(&error),
    }
}

/// A plain list of links, for people.
fn listing(request: &Request, cid: &Cid, entries: &[DirEntry], headers: &HeaderMap) -> Response {
    let etag = format!("\"DirIndex-{cid}\"");
    let mut fields = HeaderMap::new();
    fields.insert(header::ETAG, header_value(&etag));
    fields.insert(header::CACHE_CONTROL, header_value(request.cache));
    if matches_etag(headers, &etag) {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    let mut html = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Directory</title><ul>\n",
    );
    for entry in entries {
        let name = escape(&entry.name);
        html += &format!(
            "<li><a href=\"{}\">{name}</a> {} bytes\n",
            percent_encode(&entry.name),
            entry.size
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
