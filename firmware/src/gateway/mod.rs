//! Viewers over HTTP: pages, playlists, segments and what the store holds. Read-only, no cookies, local only: an address
//! that the box does not hold is a 404 at once, never a fetch for a stranger.

mod content;
mod ipfs;
mod origin;
mod routing;
mod subdomain;

use std::time::Instant;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use node::{Node, Resolved, uplink};
use stream::media::Rendition;
use stream::publication::{Inits, PartName, segment_path};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;

use crate::listener::{self, Guests, Limited};
use crate::live::Live;
use crate::web;
use content::Content;
pub(crate) use routing::IPNS_RECORD;

pub(crate) const PLAYLIST: &str = "application/vnd.apple.mpegurl";

/// A segment's name and bytes never change.
const SEGMENT_CACHE: &str = "public, max-age=31536000, immutable";

/// What scripts of other origins may do, send and read. Names are written as people know them: there are those who compare them so,
/// the conformance suite of gateways among them.
const METHODS: &str = "GET, HEAD, OPTIONS";
const SENT: &str =
    "Cache-Control, Content-Type, If-None-Match, Range, User-Agent, X-Requested-With";
const READ: &str = "Content-Length, Content-Range, ETag, Date, X-Chunked-Output, X-Stream-Output, X-Ipfs-Path, X-Ipfs-Roots, Ipfs-Uri";

#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) node: Node,
    pub(crate) live: watch::Receiver<Live>,
    /// When somebody last asked for the name's record.
    pub(crate) asked: watch::Sender<Option<Instant>>,
    /// Below it each content has a subdomain of its own.
    pub(crate) host: Option<String>,
}

/// Serves viewers until cancelled. `counts_neighbours`: as `[node] uplink_counts_local`.
pub(crate) async fn serve(
    listener: TcpListener,
    guests: Guests,
    gateway: Gateway,
    counts_neighbours: bool,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    let listener =
        Limited::new(listener, guests).counting(uplink::count_viewers, counts_neighbours);
    let router = match gateway.host.clone() {
        Some(host) => subdomain::serve(host, router(gateway)),
        None => router(gateway),
    };
    let router = router.layer(from_fn(share));
    listener::serve(listener, router, cancel).await
}

fn router(gateway: Gateway) -> Router {
    let content = Router::new()
        .route("/ipfs/", get(ipfs::protocol))
        .route("/ipns/", get(ipfs::protocol))
        .route("/ipfs/{cid}", get(ipfs::root))
        .route("/ipfs/{cid}/", get(ipfs::root))
        .route("/ipfs/{cid}/{*path}", get(ipfs::path))
        .route("/ipns/{name}", get(ipfs::named_root))
        .route("/ipns/{name}/", get(ipfs::named_root))
        .route("/ipns/{name}/{*path}", get(ipfs::named_path))
        .layer(map_response(say_what_is_allowed));
    let page = |name: &'static str, frame_ancestors: &'static str| {
        get(async move |State(gateway): State<Gateway>| {
            web::page(name, frame_ancestors, gateway.host.as_deref())
        })
    };
    Router::new()
        .route("/", page("watch.html", "'self'"))
        .route("/embed", page("embed.html", "*"))
        // For a phone at the venue, which does not reach the operator's page: it only flashes and beeps.
        .route("/sync", page("sync.html", "'none'"))
        .route("/assets/{*path}", get(web::asset))
        .route("/api/v1/public", get(public))
        .route("/live/{name}", get(playlist))
        .route("/live/{rendition}/{file}", get(segment))
        .merge(content)
        .route("/routing/v1/ipns/{name}", get(routing::ipns))
        .route("/routing/v1/providers/{cid}", get(routing::providers))
        .route("/routing/v1/peers/{id}", get(routing::peers))
        .layer(CompressionLayer::new().compress_when(is_text))
        .with_state(gateway)
}

/// With every answer about content, as the gateways' conformance suite wants it, and not to a preflight only.
async fn say_what_is_allowed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(METHODS),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(SENT),
    );
    response
}

/// All that is here is public: every origin may read it, redirects and refusals included, and a preflight is answered at once.
async fn share(request: Request, next: Next) -> Response {
    let mut response = match *request.method() {
        Method::OPTIONS => say_what_is_allowed(StatusCode::OK.into_response()).await,
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(READ),
    );
    response
}

/// Playlists and pages shrink to a fifth; media does not. What offers ranges is sent as it is ([`Content`]): compressed, it would have
/// none.
fn is_text(
    _: StatusCode,
    _: axum::http::Version,
    headers: &HeaderMap,
    _: &axum::http::Extensions,
) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    !headers.contains_key(header::ACCEPT_RANGES)
        && (kind.starts_with(PLAYLIST)
            || kind.starts_with("text/")
            || kind.starts_with("application/json")
            || kind.starts_with("image/svg"))
}

async fn public(State(gateway): State<Gateway>) -> Response {
    let public = gateway.live.borrow().public.clone();
    let cache = [(header::CACHE_CONTROL, "no-store")];
    (cache, axum::Json(public)).into_response()
}

/// `/live/index.m3u8`, `/live/video.m3u8`, `/live/audio.m3u8`, `/live/low.m3u8`.
async fn playlist(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    origin::playlist(gateway.live, &name, &query, &headers).await
}

/// `/live/video/12.m4s`, `/live/video/init-0.mp4`, `/live/video/part-0-12-3.m4s`: from memory if it is new, else from the
/// store.
async fn segment(
    State(gateway): State<Gateway>,
    Path((rendition, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let Some(rendition) = Rendition::from_name(&rendition) else {
        return origin::missing();
    };
    if let Some(name) = PartName::parse(&file) {
        return origin::part(gateway.live, rendition, name, &headers).await;
    }
    // Playlists lie in the same directory, and they change.
    let number = |prefix: &str, suffix: &str| -> Option<u64> {
        file.strip_prefix(prefix)?
            .strip_suffix(suffix)?
            .parse()
            .ok()
    };
    let paths = if let Some(number) = number("", ".m4s") {
        vec![segment_path(rendition, number)]
    } else if let Some(run) = number("init-", ".mp4") {
        Inits::ALL.map(|it| it.path(rendition, run)).into()
    } else {
        return origin::missing();
    };
    let (recent, root) = {
        let live = gateway.live.borrow();
        (paths.iter().find_map(|path| live.recent(path)), live.root)
    };
    let kind = content::media_type(&file);
    if let Some(recent) = recent {
        return Content::memory(recent.cid, kind, recent.parts.clone())
            .respond(&headers, SEGMENT_CACHE);
    }
    let Some(root) = root else {
        return origin::missing();
    };
    for path in &paths {
        if let Ok(Resolved::File { cid, size }) = gateway.node.resolve(root, path).await {
            return Content::stored(&gateway.node, cid, kind, size)
                .respond(&headers, SEGMENT_CACHE);
        }
    }
    origin::missing()
}

fn header_value(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
