//! `/ipfs` and `/ipns`: the path gateway and the trustless gateway for what this box holds
//! (<https://specs.ipfs.tech/http-gateways/>). It fetches nothing for anybody.

mod listing;
mod wanted;

use std::pin::pin;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use cid::Cid;
use futures::{Stream, StreamExt as _, stream};
use node::{CarOptions, DagScope, DirEntry, Name, ReadError, Resolved, uplink};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::content::{
    Content, OCTETS, SNIFFED, known_media_type, looks_like_text, matches_etag, media_type,
};
use super::routing;
use super::subdomain::Subdomain;
use super::{Gateway, header_value};
use listing::listing;
pub(crate) use wanted::Form;
use wanted::{Car, Wanted, wanted};

/// Content under a CID never changes (path gateway specification, Cache-Control).
const IMMUTABLE: &str = "public, max-age=29030400, immutable";

/// What a name points to changes with every segment.
const NAMED: &str = "public, max-age=1";

const RAW: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car";
const JSON: &str = "application/json";

/// CARs without duplicates at a time: each keeps 32 bytes for every block that it has sent, 10 MB for a day's broadcast.
static CARS_WITHOUT_DUPLICATES: Semaphore = Semaphore::const_new(4);

/// What was asked for, whether by CID or by name.
struct Request<'a> {
    /// `/ipfs/<cid>` or `/ipns/<name>`.
    namespace: String,
    /// `ipfs://<cid>` or `ipns://<name>`, in the one form that both have.
    authority: String,
    root: Cid,
    /// Without dots.
    path: String,
    cache: &'static str,
    wanted: Wanted,
    form: Form,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    /// Where the request came to a host name of the content's own.
    subdomain: Option<Subdomain>,
}

impl Request<'_> {
    /// What stands before the path in a URL: nothing where the host name says it.
    fn base(&self) -> &str {
        match self.subdomain {
            Some(_) => "",
            None => &self.namespace,
        }
    }

    /// The slash at the end, where there is one.
    fn slash(&self) -> &'static str {
        match self.uri.path().ends_with('/') {
            true => "/",
            false => "",
        }
    }

    /// Where other content has its address: at the gateway's own host name.
    fn gateway(&self) -> String {
        let host = self.subdomain.as_ref();
        host.map_or_else(String::new, |Subdomain { gateway }| format!("//{gateway}"))
    }

    /// As it was asked for, decoded.
    fn content_path(&self) -> String {
        let path = self.path.trim_matches('/');
        let between = if path.is_empty() { "" } else { "/" };
        format!("{}{between}{path}{}", self.namespace, self.slash())
    }
}

type Host = Option<Extension<Subdomain>>;

pub(crate) async fn root(
    gateway: State<Gateway>,
    Path(cid): Path<String>,
    form: Query<Form>,
    host: Host,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    path(
        gateway,
        Path((cid, String::new())),
        form,
        host,
        uri,
        headers,
    )
    .await
}

/// A CID and nothing else: the crate's parser takes whatever text there is before an `/ipfs/`, too, and the text is shown again.
pub(crate) fn parse_cid(text: &str) -> Option<Cid> {
    text.parse().ok().filter(|_| !text.contains('/'))
}

pub(crate) async fn path(
    State(gateway): State<Gateway>,
    Path((cid, path)): Path<(String, String)>,
    Query(form): Query<Form>,
    host: Host,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(root) = parse_cid(&cid) else {
        return bad_request(&format!("invalid path \"/ipfs/{cid}\": not a CID"));
    };
    let wanted = match wanted(&form, &headers) {
        Ok(wanted) => wanted,
        Err(why) => return bad_request(&why),
    };
    let canonical = root.into_v1().unwrap_or(root);
    let request = Request {
        namespace: format!("/ipfs/{cid}"),
        authority: format!("ipfs://{canonical}"),
        root,
        path: without_dots(&path),
        cache: IMMUTABLE,
        wanted,
        form,
        uri: &uri,
        headers: &headers,
        subdomain: host.map(|Extension(host)| host),
    };
    answer(&gateway, request).await
}

pub(crate) async fn named_root(
    gateway: State<Gateway>,
    Path(name): Path<String>,
    form: Query<Form>,
    host: Host,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    named_path(
        gateway,
        Path((name, String::new())),
        form,
        host,
        uri,
        headers,
    )
    .await
}

/// The box's own name only; others would have to be looked up elsewhere.
pub(crate) async fn named_path(
    State(gateway): State<Gateway>,
    Path((name, path)): Path<(String, String)>,
    Query(form): Query<Form>,
    host: Host,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let wanted = match wanted(&form, &headers) {
        Ok(wanted) => wanted,
        Err(why) => return bad_request(&why),
    };
    let parsed = name.parse::<Name>().ok();
    if let Some(canonical) = parsed.map(|parsed| parsed.to_string())
        && canonical != name
        && host.is_none()
    {
        // One spelling for all, which a host name can carry, too. An address has it as it was asked for, not decoded.
        let address = uri.path_and_query().map_or("", |it| it.as_str());
        let rest = address.splitn(3, '/').nth(2).unwrap_or_default();
        let rest = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
        let to = [(
            header::LOCATION,
            header_value(&format!("/ipns/{canonical}{rest}")),
        )];
        return (StatusCode::FOUND, to).into_response();
    }
    let Some(own) = parsed.filter(|own| *own == gateway.node.channel()) else {
        return not_here(&headers, "this box does not hold that name\n");
    };
    if wanted == Wanted::Record {
        return match path.is_empty() {
            true => {
                let mut response = routing::record(&gateway, own, &headers);
                if let Some(name) = form.filename
                    && response.status() == StatusCode::OK
                {
                    save_as(&mut response, &name);
                }
                response
            }
            false => bad_request("a name has a record, a path has none"),
        };
    }
    let Some(root) = gateway.live.borrow().root else {
        return not_here(&headers, "nothing is published under that name yet\n");
    };
    // Segments and init segments under a name are what they were; only the playlists move on.
    let fixed = wanted == Wanted::Plain && (path.ends_with(".m4s") || path.ends_with(".mp4"));
    let request = Request {
        namespace: format!("/ipns/{name}"),
        authority: format!("ipns://{own}"),
        root,
        path: without_dots(&path),
        cache: if fixed { IMMUTABLE } else { NAMED },
        wanted,
        form,
        uri: &uri,
        headers: &headers,
        subdomain: host.map(|Extension(host)| host),
    };
    answer(&gateway, request).await
}

#[derive(Debug, Deserialize)]
pub(crate) struct Protocol {
    uri: Option<String>,
}

/// `/ipfs/?uri=ipfs://<cid>/…`: where a browser leads that has been told to open such addresses here (registerProtocolHandler).
pub(crate) async fn protocol(Query(Protocol { uri }): Query<Protocol>) -> Response {
    let uri = uri.unwrap_or_default();
    let path = ["ipfs", "ipns"].iter().find_map(|namespace| {
        let path = uri.strip_prefix(namespace)?.strip_prefix("://")?;
        Some(format!("/{namespace}/{path}"))
    });
    match path.filter(|path| path.bytes().all(|byte| byte.is_ascii_graphic())) {
        Some(path) => {
            let to = [(header::LOCATION, header_value(&path))];
            (StatusCode::MOVED_PERMANENTLY, to).into_response()
        }
        None => bad_request("uri is an address that begins with ipfs:// or ipns://"),
    }
}

async fn answer(gateway: &Gateway, request: Request<'_>) -> Response {
    let headers = request.headers;
    let refused = match request.wanted {
        // It would act for every other content of the namespace (path gateway specification, Service-Worker).
        _ if request.subdomain.is_none()
            && request.path.is_empty()
            && headers
                .get("service-worker")
                .is_some_and(|it| it == "script") =>
        {
            Some("a service worker may not be registered for the root of a namespace")
        }
        Wanted::Record => Some("content has no record: ask for that of a name, /ipns/<name>"),
        _ => None,
    };
    if let Some(why) = refused {
        return bad_request(why);
    }
    if request.wanted == Wanted::Other {
        return not_acceptable();
    }
    let resolved = match request.wanted {
        // A block is asked for, whatever it is.
        Wanted::Raw
        | Wanted::Car(Car {
            scope: DagScope::Block,
            ..
        }) => {
            let way = gateway.node.way(request.root, &request.path).await;
            way.map(|way| (None, way))
        }
        _ => {
            let resolved = gateway.node.resolve_with_way(request.root, &request.path);
            resolved.await.map(|(resolved, way)| (Some(resolved), way))
        }
    };
    let (resolved, way) = match resolved {
        Ok(resolved) => resolved,
        Err(error) => return failure(&error, headers),
    };
    let cid = way.last().copied().unwrap_or(request.root);
    let mut response = match (request.wanted, resolved) {
        (Wanted::Car(asked), _) => car(gateway, &way, asked, &request),
        (_, None) => raw_block(gateway, cid, &request).await,
        (_, Some(Resolved::File { cid, size })) => {
            let kind = kind_of_file(gateway, cid, size, &request).await;
            file(Content::stored(&gateway.node, cid, kind, size), &request)
        }
        (Wanted::Json, Some(Resolved::Directory { .. })) => return not_acceptable(),
        (_, Some(Resolved::Directory { cid, entries })) => {
            directory(gateway, cid, &entries, &request).await
        }
    };
    if matches!(request.wanted, Wanted::Car(_) | Wanted::Raw) {
        response = response.map(held_back);
    }
    let roots: Vec<_> = way.iter().map(Cid::to_string).collect();
    let roots = header_value(&roots.join(","));
    let uri = join(&request.authority, &request.path) + request.slash();
    let headers = response.headers_mut();
    // The same address has another form for whoever accepts it.
    headers.append(header::VARY, HeaderValue::from_static("accept"));
    headers.insert("ipfs-uri", header_value(&uri));
    // A path that no header can carry is left out (path gateway specification, X-Ipfs-Path): `Ipfs-Uri` says it in ASCII.
    let path = request.content_path();
    if path.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        headers.insert("x-ipfs-path", header_value(&path));
    }
    headers.insert("x-ipfs-roots", roots);
    response
}

/// Who asks for blocks is a node, and has what viewers and peers leave of the uplink, a twentieth at least.
fn held_back(body: Body) -> Body {
    let pieces = body.into_data_stream().flat_map(|piece| {
        let rest = piece.map(|bytes| (!bytes.is_empty()).then_some(bytes));
        stream::try_unfold(rest, async |rest| {
            let Some(mut rest) = rest? else {
                return Ok(None);
            };
            let piece = rest.split_to(uplink::wait_for_room(rest.len()).await);
            Ok::<_, axum::Error>(Some((piece, Ok((!rest.is_empty()).then_some(rest)))))
        })
        .boxed()
    });
    Body::from_stream(pieces)
}

/// By its name; without one that says it, as what it looks like.
async fn kind_of_file(gateway: &Gateway, cid: Cid, size: u64, request: &Request<'_>) -> String {
    let name = request.form.filename.as_ref().unwrap_or(&request.path);
    if let Some(kind) = known_media_type(name) {
        return kind;
    }
    let mut head = Vec::new();
    let mut pieces = pin!(gateway.node.read(cid, 0..SNIFFED.min(size)));
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => head.extend_from_slice(&piece),
            // A range further behind may be here all the same.
            Err(_) => return OCTETS.to_owned(),
        }
    }
    match looks_like_text(&head) {
        // Asked for by that type, and not named as something else.
        true if request.wanted == Wanted::Json && head.starts_with(b"{") => JSON.to_owned(),
        true => "text/plain; charset=utf-8".to_owned(),
        false => OCTETS.to_owned(),
    }
}

fn file(content: Content, request: &Request<'_>) -> Response {
    let mut response = content.respond(request.headers, request.cache);
    if request.subdomain.is_none() {
        // A path gateway shares one origin among all content: none of it may act as another, and a player may play.
        response.headers_mut().insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("sandbox allow-scripts"),
        );
    }
    let attached = request.form.download.as_deref() == Some("true");
    if attached || request.form.filename.is_some() {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let name = request.form.filename.as_deref().unwrap_or(name);
        let value = disposition(if attached { "attachment" } else { "inline" }, name);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_DISPOSITION, header_value(&value));
    }
    response
}

/// `index.html` where there is one, else a list; always below an address that ends in a slash.
async fn directory(
    gateway: &Gateway,
    cid: Cid,
    entries: &[DirEntry],
    request: &Request<'_>,
) -> Response {
    if request.slash().is_empty() {
        let query = request.uri.query().map(|query| format!("?{query}"));
        let path = join(request.base(), &request.path);
        let location = format!("{path}/{}", query.unwrap_or_default());
        let to = [(header::LOCATION, header_value(&location))];
        return (StatusCode::MOVED_PERMANENTLY, to).into_response();
    }
    if let Some(index) = entries.iter().find(|entry| entry.name == "index.html") {
        return match gateway.node.resolve(index.cid, "").await {
            Ok(Resolved::File { cid: page, size }) => {
                let kind = media_type("index.html");
                // The address is the directory's, and so is the tag.
                let page = Content::stored(&gateway.node, page, kind, size).tagged(cid);
                file(page, request)
            }
            Ok(Resolved::Directory { .. }) => listing(request, &cid, entries),
            Err(error) => failure(&error, request.headers),
        };
    }
    listing(request, &cid, entries)
}

/// RFC 6266: the name in ASCII for old programs, and as it is.
fn disposition(kind: &str, name: &str) -> String {
    let plain = |c: char| {
        let plain = c.is_ascii_alphanumeric() || " -._()".contains(c);
        if plain { c } else { '_' }
    };
    let ascii: String = name.chars().map(plain).collect();
    let encoded = percent_encode(name);
    format!("{kind}; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
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

/// RFC 3986 section 5.2.4, after decoding: an encoded slash separates, and encoded dots are dots (path gateway specification,
/// Ipfs-Uri).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    for piece in path.split('/') {
        match piece {
            "." => {}
            ".." => drop(kept.pop()),
            piece => kept.push(piece),
        }
    }
    kept.join("/")
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

fn not_acceptable() -> Response {
    let text = "this gateway gives files, directories, and format=raw, car and ipns-record\n";
    (StatusCode::NOT_ACCEPTABLE, text).into_response()
}

fn bad_request(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response()
}

/// 404, or 412 for who wants only what needs no fetching (path gateway specification, only-if-cached).
fn not_here(headers: &HeaderMap, why: &str) -> Response {
    let asked = headers.get_all(header::CACHE_CONTROL).iter();
    let mut asked = asked.filter_map(|value| value.to_str().ok());
    let status = match asked.any(|value| value.contains("only-if-cached")) {
        true => StatusCode::PRECONDITION_FAILED,
        false => StatusCode::NOT_FOUND,
    };
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    (status, no_store, why.to_owned()).into_response()
}

fn failure(error: &ReadError, headers: &HeaderMap) -> Response {
    let status = match error {
        ReadError::Missing { .. } => return not_here(headers, &format!("{error}\n")),
        ReadError::InvalidPath { .. } => StatusCode::BAD_REQUEST,
        ReadError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::NOT_FOUND,
    };
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    (status, no_store, format!("{error}\n")).into_response()
}

/// One block as it is hashed (trustless gateway specification, 3).
async fn raw_block(gateway: &Gateway, cid: Cid, request: &Request<'_>) -> Response {
    match gateway.node.block(cid).await {
        Ok(Some(block)) => {
            let content = Content::memory(format!("{cid}.raw"), RAW, vec![block]);
            let mut response = content.respond(request.headers, request.cache);
            attach(&mut response, request, &format!("{cid}.bin"));
            response
        }
        Ok(None) => failure(&ReadError::Missing { cid }, request.headers),
        Err(error) => failure(&error, request.headers),
    }
}

/// Blocks as they are read (trustless gateway specification, 5). One that is missing cuts the answer off.
fn car(gateway: &Gateway, way: &[Cid], asked: Car, request: &Request<'_>) -> Response {
    let permit = match asked.dups {
        Some(true) => None,
        dups => match CARS_WITHOUT_DUPLICATES.try_acquire() {
            Ok(permit) => Some(permit),
            // Who does not say gets none, as the specification wants it, as long as that does not send him away.
            Err(_) if dups.is_none() => None,
            Err(_) => {
                let wait = [
                    (header::RETRY_AFTER, "10"),
                    (header::CACHE_CONTROL, "no-store"),
                ];
                let text = "too many of these at a time: come back later, or ask with dups=y\n";
                return (StatusCode::SERVICE_UNAVAILABLE, wait, text).into_response();
            }
        },
    };
    let options = CarOptions {
        scope: asked.scope,
        bytes: asked.bytes,
        dups: permit.is_none(),
    };
    // All that the answer depends on, and weak because another order of the blocks would do.
    let what = format!("{way:?} {options:?}");
    let hash = node::file_cid(&node::Leaf::split(what.into()));
    let root = way.last().unwrap_or(&request.root);
    let etag = format!("\"{root}.car.{hash}\"");
    let mut fields = HeaderMap::new();
    fields.insert(header::ETAG, header_value(&format!("W/{etag}")));
    fields.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static(request.cache),
    );
    if matches_etag(request.headers, &etag) {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    let dups = if options.dups { "y" } else { "n" };
    let kind = format!("{CAR}; version=1; order=dfs; dups={dups}");
    fields.insert(header::CONTENT_TYPE, header_value(&kind));
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    let nosniff = HeaderValue::from_static("nosniff");
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    let blocks = gateway.node.car(way, options);
    let mut response = (fields, Body::from_stream(holding(permit, blocks))).into_response();
    let name = match request.path.rsplit('/').find(|name| !name.is_empty()) {
        Some(name) => format!("{}_{name}.car", request.root),
        None => format!("{}.car", request.root),
    };
    attach(&mut response, request, &name);
    response
}

/// The same stream, which keeps something for as long as it lives.
fn holding<S: Stream + Send, H: Send + 'static>(
    held: H,
    stream: S,
) -> impl Stream<Item = S::Item> + Send {
    stream.map(move |item| {
        let _ = &held;
        item
    })
}

/// Not to be shown but saved, by the name that was asked for.
fn attach(response: &mut Response, request: &Request<'_>, name: &str) {
    save_as(response, request.form.filename.as_deref().unwrap_or(name));
}

fn save_as(response: &mut Response, name: &str) {
    let value = header_value(&disposition("attachment", name));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_DISPOSITION, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_resolved_before_content_is_sought() {
        for (path, expected) in [
            ("", ""),
            ("video/", "video/"),
            ("a/../plain.txt", "plain.txt"),
            ("./a/./b/../c", "a/c"),
            ("../../a", "a"),
            ("a/..", ""),
            ("a/...", "a/..."),
        ] {
            assert_eq!(without_dots(path), expected, "{path}");
        }
    }

    #[test]
    fn names_of_files_cannot_break_out_of_a_header() {
        assert_eq!(
            disposition("inline", "a\"b\r\nX: é.txt"),
            "inline; filename=\"a_b__X_ _.txt\"; filename*=UTF-8''a%22b%0D%0AX%3A%20%C3%A9.txt"
        );
    }
}
