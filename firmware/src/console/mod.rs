//! The operator over HTTP: the panel, the buttons, the status. Never shares a port with viewers.
//!
//! Until pairing exists, whoever reaches this port controls the box; it therefore listens on loopback unless told
//! otherwise. A page of another site open in the operator's browser must not reach it either: requests that change
//! something must come from this very origin, and the `Host` must be an address or this machine, so that a name that
//! somebody else's DNS points here is refused.

mod fingers;

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use board::sim::Front;
use node::Node;
use serde::Deserialize;
use stream::buttons::Button;
use stream::status::{MOST_TRIM_MS, Status, Tally};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::appliance::Command;
use crate::av_sync::SyncCommand;
use crate::config::{VIDEO_KBPS, VIDEO_KBPS_ACCEPTED};
use crate::listener::{self, Guests, Limited};
use crate::recordings::{self, Pin};
use crate::web;
use fingers::Move;

/// Connections at a time: a few pages, and what scrapes the metrics.
const OPERATORS: usize = 32;

/// A loop that says nothing for so long stands still.
const LOOP_STANDS: Duration = Duration::from_secs(3);

/// Pixels of the page's picture for one of the panel's.
const PICTURE_SCALE: u32 = 4;

#[derive(Clone)]
pub(crate) struct Console {
    status: watch::Receiver<Status>,
    commands: mpsc::Sender<Command>,
    front: Front,
    fingers: mpsc::Sender<(Button, Move)>,
    node: Node,
}

impl Console {
    pub(crate) fn new(
        status: watch::Receiver<Status>,
        commands: mpsc::Sender<Command>,
        front: Front,
        node: Node,
    ) -> Console {
        Console {
            status,
            commands,
            fingers: fingers::spawn(front.clone()),
            front,
            node,
        }
    }
}

/// Serves the operator until cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    console: Console,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    let listener = Limited::new(listener, Guests::new(OPERATORS));
    listener::serve(listener, router(console), cancel).await
}

fn router(console: Console) -> Router {
    Router::new()
        .route("/", get(async || web::page("console.html", "'none'", None)))
        .route("/assets/{*path}", get(web::asset))
        .route("/api/v1/status", get(status))
        .route("/api/v1/start", post(start))
        .route("/api/v1/stop", post(stop))
        .route("/api/v1/mute", post(mute))
        .route("/api/v1/bitrate", post(bitrate))
        .route("/api/v1/recordings", get(list_recordings))
        .route("/api/v1/recordings/{id}/pin", post(pin))
        .route("/api/v1/recordings/{id}/delete", post(delete))
        .route("/api/v1/button", post(button))
        .route(
            "/sync",
            get(async || web::page("sync.html", "'none'", None)),
        )
        .route("/api/v1/sync/start", post(sync_start))
        .route("/api/v1/sync/stop", post(sync_stop))
        .route("/api/v1/sync/take", post(sync_take))
        .route("/api/v1/sync/trim", post(sync_trim))
        .route("/api/v1/panel.png", get(picture))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .layer(middleware::from_fn(same_origin))
        .with_state(console)
}

pub(crate) async fn same_origin(request: Request, next: Next) -> Response {
    let refused = |why: &'static str| (StatusCode::FORBIDDEN, why).into_response();
    let host = header_text(request.headers(), header::HOST);
    let uname = rustix::system::uname();
    let own_name = uname.nodename().to_str().unwrap_or_default();
    if !host.is_some_and(|host| is_this_machine(host, own_name)) {
        return refused("open this page by the box's address\n");
    }
    if !request.method().is_safe() && !same_site(request.headers()) {
        return refused("this request comes from another site\n");
    }
    next.run(request).await
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// `Host` is an IP address, `localhost`, or this machine's own name in `.local`: anybody on the network can announce any
/// other name there.
fn is_this_machine(host: &str, own_name: &str) -> bool {
    let authority: Option<axum::http::uri::Authority> = host.parse().ok();
    let Some(authority) = authority else {
        return false;
    };
    let name = authority.host();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let own = format!("{own_name}.local");
    bare.parse::<IpAddr>().is_ok() || name == "localhost" || name.eq_ignore_ascii_case(&own)
}

/// Browsers say where a request comes from; tools that are not browsers say nothing, and no other site can use them.
fn same_site(headers: &HeaderMap) -> bool {
    let origin = header_text(headers, header::ORIGIN);
    let host = header_text(headers, header::HOST).unwrap_or_default();
    match origin {
        Some(origin) => origin
            .split_once("://")
            .is_some_and(|(_, from)| from == host),
        None => headers
            .get("sec-fetch-site")
            .is_none_or(|site| site == "same-origin" || site == "none"),
    }
}

async fn status(State(console): State<Console>) -> Response {
    let status = console.status.borrow().clone();
    ([(header::CACHE_CONTROL, "no-store")], Json(status)).into_response()
}

async fn start(State(console): State<Console>) -> Response {
    let why = "the last broadcast is still ending: start when the state is idle\n";
    answered(&console, Command::Start, why).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meant {
    /// [`Status::broadcast`], as it was when somebody decided to end it.
    broadcast: u64,
}

/// With a body of another type, without one, or with `null`: whichever broadcast there is.
async fn stop(
    State(console): State<Console>,
    meant: Result<Json<Option<Meant>>, JsonRejection>,
) -> Response {
    let meant = match meant {
        Ok(Json(meant)) => meant.map(|it| it.broadcast),
        Err(JsonRejection::MissingJsonContentType(_)) => None,
        Err(rejection) => return rejection.into_response(),
    };
    let why = "another broadcast has begun since: it was not ended\n";
    answered(&console, |answer| Command::Stop(meant, answer), why).await
}

/// Answered by the loop: a status may be older than a stop or a start that was just accepted.
async fn answered(
    console: &Console,
    wanted: impl FnOnce(oneshot::Sender<bool>) -> Command,
    refused: &'static str,
) -> Response {
    let (answer, answered) = oneshot::channel();
    let accepted = command(console, wanted(answer)).await;
    match answered.await {
        Ok(true) => accepted,
        Ok(false) => (StatusCode::CONFLICT, refused).into_response(),
        Err(_) => shutting_down(),
    }
}

async fn sync_start(State(console): State<Console>) -> Response {
    command(&console, Command::Sync(SyncCommand::Start)).await
}

async fn sync_stop(State(console): State<Console>) -> Response {
    command(&console, Command::Sync(SyncCommand::End)).await
}

/// Trims by what the self-test has measured.
async fn sync_take(State(console): State<Console>) -> Response {
    if console.status.borrow().sync.measured().is_none() {
        let why = "nothing is measured yet: start the self-test and let the sync page flash\n";
        return (StatusCode::CONFLICT, why).into_response();
    }
    command(&console, Command::Sync(SyncCommand::Take)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrimWanted {
    /// Milliseconds; `null` goes back to the configured ones.
    ms: Option<i32>,
}

async fn sync_trim(State(console): State<Console>, Json(wanted): Json<TrimWanted>) -> Response {
    let possible = -MOST_TRIM_MS..=MOST_TRIM_MS;
    if wanted.ms.is_some_and(|ms| !possible.contains(&ms)) {
        let why = format!(
            "ms must be {} to {}, or null\n",
            -MOST_TRIM_MS, MOST_TRIM_MS
        );
        return (StatusCode::UNPROCESSABLE_ENTITY, why).into_response();
    }
    command(&console, Command::Sync(SyncCommand::Trim(wanted.ms))).await
}

/// The answer is "accepted": what comes of it stands in the status.
async fn command(console: &Console, command: Command) -> Response {
    match console.commands.send(command).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(_) => shutting_down(),
    }
}

fn shutting_down() -> Response {
    let why = "the box is shutting down\n";
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mute {
    muted: bool,
}

/// Says what shall be, not what shall change: a repeated request does no harm.
async fn mute(State(console): State<Console>, Json(Mute { muted }): Json<Mute>) -> Response {
    command(&console, Command::Mute(muted)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bitrate {
    video_kbps: u32,
}

async fn bitrate(State(console): State<Console>, Json(wanted): Json<Bitrate>) -> Response {
    let kbps = wanted.video_kbps;
    if !VIDEO_KBPS.contains(&kbps) {
        let why = format!("video_kbps = {kbps}: must be {VIDEO_KBPS_ACCEPTED}\n");
        return (StatusCode::UNPROCESSABLE_ENTITY, why).into_response();
    }
    command(&console, Command::VideoBitrate(kbps)).await
}

/// Oldest first: in the order in which they are deleted.
async fn list_recordings(State(console): State<Console>) -> Response {
    recordings::answer(&console.node).await
}

/// Durable when it is answered.
async fn pin(
    State(console): State<Console>,
    Path(id): Path<u64>,
    Json(pin): Json<Pin>,
) -> Response {
    recordings::answer_pin(&console.node, id, pin).await
}

async fn delete(State(console): State<Console>, Path(id): Path<u64>) -> Response {
    recordings::answer_delete(&console.node, id).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ButtonEdge {
    button: Button,
    action: Move,
}

async fn button(State(console): State<Console>, Json(edge): Json<ButtonEdge>) -> Response {
    let _ = console.fingers.send((edge.button, edge.action)).await;
    StatusCode::ACCEPTED.into_response()
}

/// The very framebuffer that the display shows.
async fn picture(State(console): State<Console>) -> Response {
    let picture = console.front.picture().borrow().clone();
    let png = board::png::encode(&picture, PICTURE_SCALE);
    let fields = [
        (header::CONTENT_TYPE, "image/png"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (fields, png).into_response()
}

/// The process serves and its loop turns, which says how things are ten times a second: whether the stream is well stands in the status.
async fn healthz(State(console): State<Console>) -> (StatusCode, &'static str) {
    let mut status = console.status.clone();
    status.mark_unchanged();
    match tokio::time::timeout(LOOP_STANDS, status.changed()).await {
        Ok(Ok(())) => (StatusCode::OK, "ok\n"),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the box's loop stands still: restart it\n",
        ),
    }
}

/// Prometheus text format, version 0.0.4.
async fn metrics(State(console): State<Console>) -> Response {
    let status = console.status.borrow().clone();
    let live = u8::from(status.tally == Tally::On);
    let sync = status.sync;
    // A number that is not known is not there.
    let known = |name, help, value: Option<f64>| value.map(|value| (name, help, value));
    let known = [
        known(
            "podium_av_drift_ppm",
            "How much faster the sound's crystal is than the clock of the timestamps",
            sync.drift_ppm,
        ),
        known(
            "podium_av_error_seconds",
            "Sound published late against the picture in the last second",
            sync.error_ms.map(|ms| ms / 1e3),
        ),
        known(
            "podium_av_self_test_seconds",
            "Sound late against the picture at the input, as the self-test measures",
            sync.measured().map(|measured| measured.offset_ms / 1e3),
        ),
        known(
            "podium_uplink_used_ratio",
            "Of the cap on the uplink, over the last five seconds; above 1 viewers alone take more",
            status
                .uplink
                .used_percent
                .map(|percent| f64::from(percent) / 100.0),
        ),
        known(
            "podium_checks_passed",
            "Mirrors and gateways to be checked that had a new segment when they were asked last",
            status.outside.summary.map(|summary| summary.seen as f64),
        ),
        known(
            "podium_checks",
            "Mirrors and gateways to be checked",
            status.outside.summary.map(|summary| summary.of as f64),
        ),
        known(
            "podium_checks_behind_seconds",
            "Age of the segment that the slowest of them had, when it was had",
            (status.outside.summary)
                .and_then(|summary| summary.behind_ms)
                .map(|ms| ms as f64 / 1e3),
        ),
        known(
            "podium_name_record_age_seconds",
            "Since the record of the box's name was signed",
            status.outside.record.age_ms.map(|ms| ms as f64 / 1e3),
        ),
    ];
    let truth = |it: bool| f64::from(u8::from(it));
    let viewers = status.viewers;
    let rows: [(&str, &str, f64); 23] = [
        (
            "podium_av_trim_seconds",
            "Pictures shown later than captured",
            f64::from(sync.trim_ms) / 1e3,
        ),
        ("podium_live", "1 while on air", f64::from(live)),
        (
            "podium_health",
            "0 Excellent to 4 Dead",
            status.health.word as u8 as f64,
        ),
        (
            "podium_segments",
            "Segments of this broadcast",
            status.segments as f64,
        ),
        (
            "podium_unstored_segments",
            "Segments of this broadcast that are missing in the recording",
            status.unstored as f64,
        ),
        (
            "podium_store_refuses",
            "1 while the store takes nothing and the stream goes on from memory",
            truth(status.outage.is_some()),
        ),
        (
            "podium_runs_from_memory",
            "1 where the box could not begin on its disk, and nothing is kept",
            truth(status.disk_fault.is_some()),
        ),
        (
            "podium_dropped_units",
            "Pictures and AAC frames that could not be used since the start",
            status.dropped_units as f64,
        ),
        (
            "podium_segment_age_seconds",
            "Since the last segment was published; 0 off air",
            status.segment_age_ms.unwrap_or(0) as f64 / 1000.0,
        ),
        (
            "podium_bitrate_bits_per_second",
            "Of the last segment; 0 off air",
            f64::from(status.bitrate_kbps.unwrap_or(0)) * 1000.0,
        ),
        (
            "podium_peers",
            "Connected IPFS peers",
            f64::from(status.node.peers),
        ),
        (
            "podium_viewer_connections",
            "Connections to the viewers' port",
            f64::from(viewers.connections),
        ),
        (
            "podium_viewer_connections_max",
            "What is beyond is turned away",
            f64::from(viewers.max_connections),
        ),
        (
            "podium_name_listeners",
            "Peers that are told of each record over PubSub",
            status.outside.record.listeners as f64,
        ),
        (
            "podium_stored_bytes",
            "Bytes in the store",
            status.disk.stored_bytes as f64,
        ),
        (
            "podium_disk_free_bytes",
            "Free bytes on the disk",
            status.disk.free_bytes as f64,
        ),
        (
            "podium_audio_peak_dbfs",
            "Louder channel of the last 100 ms",
            f64::from(status.audio.peak_dbfs[0].max(status.audio.peak_dbfs[1])),
        ),
        (
            "podium_audio_muted",
            "1 while the operator has muted the programme",
            truth(status.audio.muted),
        ),
        (
            "podium_audio_silent",
            "1 while the input has been silent for ten seconds",
            truth(status.audio.silent),
        ),
        (
            "podium_input_black",
            "1 while the picture has been black for two seconds",
            truth(status.input.black),
        ),
        (
            "podium_input_frozen",
            "1 while the picture has stood still for two minutes",
            truth(status.input.frozen),
        ),
        (
            "podium_video_bitrate_target_bits_per_second",
            "What the video encoder is asked for",
            f64::from(status.video_kbps) * 1000.0,
        ),
        (
            "podium_segment_oversize_ratio",
            "A segment of the last half minute above 1.25 times its nominal size; 0 if there was none",
            status
                .oversize
                .map_or(0.0, |oversize| f64::from(oversize.percent) / 100.0),
        ),
    ];
    let gauges = rows.into_iter().chain(known.into_iter().flatten());
    let text: String = gauges
        .map(|row| metric("gauge", row))
        .chain(counters(&status).map(|row| metric("counter", row)))
        .collect();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text).into_response()
}

fn metric(kind: &str, (name, help, value): (&str, &str, f64)) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
}

/// What has happened since the box was started.
fn counters(
    Status {
        uplink, viewers, ..
    }: &Status,
) -> [(&'static str, &'static str, f64); 4] {
    [
        (
            "podium_viewer_connections_refused_total",
            "Connections to the viewers' port that were turned away",
            viewers.refused as f64,
        ),
        (
            "podium_peers_sent_bytes_total",
            "Bytes to IPFS peers over all transports, as their streams carry them",
            uplink.peers_bytes as f64,
        ),
        (
            "podium_viewers_sent_bytes_total",
            "Bytes to viewers over HTTP, but for those on the local network",
            uplink.viewers_bytes as f64,
        ),
        (
            "podium_local_viewers_sent_bytes_total",
            "Bytes to viewers on the local network over HTTP",
            uplink.local_bytes as f64,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_addresses_are_answered() {
        for (host, expected) in [
            ("127.0.0.1:8081", true),
            ("192.168.1.7", true),
            ("[::1]:8081", true),
            ("localhost:8081", true),
            ("podium-1a2b.local", true),
            ("PODIUM-1A2B.local:8081", true),
            ("evil.local:8081", false),
            ("podium-1a2b", false),
            ("evil.example", false),
            ("127.0.0.1.evil.example:8081", false),
            ("", false),
        ] {
            assert_eq!(is_this_machine(host, "podium-1a2b"), expected, "{host}");
        }
    }

    #[test]
    fn other_sites_cannot_press_buttons() {
        let check = |fields: &[(&'static str, &'static str)], expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert("host", "127.0.0.1:8081".parse().unwrap());
            for (name, value) in fields {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(same_site(&headers), expected, "{fields:?}");
        };
        check(&[], true);
        check(&[("origin", "http://127.0.0.1:8081")], true);
        check(&[("origin", "http://127.0.0.1:8080")], false);
        check(&[("origin", "null")], false);
        check(&[("origin", "http://evil.example")], false);
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("sec-fetch-site", "cross-site")], false);
        check(&[("sec-fetch-site", "same-site")], false);
    }
}
