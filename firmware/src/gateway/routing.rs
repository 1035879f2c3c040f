//! `/routing/v1`: what this box knows of its own name, blocks and addresses, for nodes that ask by HTTP instead of the DHT
//! (<https://specs.ipfs.tech/routing/http-routing-v1/>). It looks nothing up for anybody.

use std::time::Instant;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use node::{Leaf, Name};
use serde_json::{Value, json};

use super::content::matches_etag;
use super::ipfs::parse_cid;
use super::{Gateway, header_value};

pub(crate) const IPNS_RECORD: &str = "application/vnd.ipfs.ipns-record";

/// Addresses change with the network; blocks come and go.
const KNOWN: &str = "public, max-age=15";

/// The signed record of the channel's name.
pub(crate) async fn ipns(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Ok(name) = name.parse::<Name>() else {
        return (StatusCode::BAD_REQUEST, "not an IPNS name\n").into_response();
    };
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let understood = accept.is_none_or(|accept| {
        [IPNS_RECORD, "*/*", "application/*"]
            .iter()
            .any(|kind| accept.contains(kind))
    });
    if !understood {
        let text = "a name's record is application/vnd.ipfs.ipns-record\n";
        return (StatusCode::NOT_ACCEPTABLE, text).into_response();
    }
    let mut found = record(&gateway, name, &headers);
    if found.status() == StatusCode::NOT_FOUND {
        // That there is none is an answer, too; its type tells it from a record (IPIP-513).
        *found.status_mut() = StatusCode::OK;
    }
    found
}

/// Answers with the record of a name.
pub(crate) fn record(gateway: &Gateway, name: Name, request: &HeaderMap) -> Response {
    let record = gateway.node.record().borrow().clone();
    let Some(record) = record.filter(|_| name == gateway.node.channel()) else {
        let wait = [(header::CACHE_CONTROL, "no-store")];
        let text = "this box has no record of that name\n";
        return (StatusCode::NOT_FOUND, wait, text).into_response();
    };
    gateway.asked.send_replace(Some(Instant::now()));
    let hash = node::file_cid(&Leaf::split(record.bytes.clone()));
    let etag = format!("\"{hash}\"");
    let mut fields = HeaderMap::new();
    let max_age = format!("public, max-age={}", node::TTL.as_secs());
    fields.insert(header::CACHE_CONTROL, header_value(&max_age));
    fields.insert(header::ETAG, header_value(&etag));
    fields.append(header::VARY, header_value("accept"));
    if matches_etag(request, &etag) {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    let file = format!("attachment; filename=\"{name}.ipns-record\"");
    fields.insert(header::CONTENT_TYPE, header_value(IPNS_RECORD));
    fields.insert(header::CONTENT_DISPOSITION, header_value(&file));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, header_value("nosniff"));
    (fields, record.bytes).into_response()
}

/// Who has a block: this box, or nobody that it knows of.
pub(crate) async fn providers(State(gateway): State<Gateway>, Path(cid): Path<String>) -> Response {
    let Some(cid) = parse_cid(&cid) else {
        return (StatusCode::BAD_REQUEST, "not a CID\n").into_response();
    };
    match gateway.node.has_block(cid).await {
        Ok(here) => answer("Providers", here.then(|| this_box(&gateway))),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Where a peer is: this box, or nobody that it knows of.
pub(crate) async fn peers(State(gateway): State<Gateway>, Path(id): Path<String>) -> Response {
    let Ok(peer) = id.parse::<Name>() else {
        return (StatusCode::BAD_REQUEST, "not a peer id\n").into_response();
    };
    let here = gateway
        .node
        .peer_id()
        .parse()
        .is_ok_and(|own: Name| own == peer);
    answer("Peers", here.then(|| this_box(&gateway)))
}

/// The peer schema of the specification.
fn this_box(gateway: &Gateway) -> Value {
    let addresses = gateway.node.listen();
    let addresses = addresses
        .iter()
        .map(|address| address.split("/p2p/").next().unwrap_or_default());
    json!({
        "Schema": "peer",
        "ID": gateway.node.peer_id(),
        "Addrs": addresses.collect::<Vec<_>>(),
        "Protocols": ["transport-bitswap"],
    })
}

fn answer(key: &str, found: Option<Value>) -> Response {
    let body = json!({ key: Vec::from_iter(found) });
    ([(header::CACHE_CONTROL, KNOWN)], axum::Json(body)).into_response()
}
