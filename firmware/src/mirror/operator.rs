//! The mirror's status, as a page for its operator and as JSON for programs, and its recordings.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use node::Node;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::follow::Status;
use crate::console::same_origin;
use crate::listener::{self, Guests, Limited};
use crate::recordings::{self, Pin};

const OPERATORS: usize = 32;

#[derive(Clone)]
pub(super) struct Operator {
    pub(super) status: watch::Receiver<Status>,
    pub(super) node: Node,
}

/// Serves the operator until cancelled.
pub(super) async fn serve(
    listener: TcpListener,
    operator: Operator,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(page))
        .route("/api/v1/status", get(status))
        .route("/api/v1/recordings", get(list))
        .route("/api/v1/recordings/{id}/pin", post(pin))
        .route("/healthz", get(async || "ok\n"))
        .layer(middleware::from_fn(same_origin))
        .with_state(operator);
    let listener = Limited::new(listener, Guests::new(OPERATORS));
    listener::serve(listener, router, cancel).await
}

/// A table without a script, which loads itself again.
async fn page(State(operator): State<Operator>) -> Response {
    let status = operator.status.borrow().clone();
    let rows: String = (status.lines().iter())
        .map(|(what, is)| format!("<tr><th>{what}<td>{}\n", escaped(is)))
        .collect();
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>\n\
         <meta name=viewport content=\"width=device-width\"><title>Mirror</title>\n\
         <style>body{{font:1rem sans-serif;margin:1rem}}th{{text-align:left;padding-right:1rem}}\
         td{{overflow-wrap:anywhere}}</style>\n\
         <h1>Mirror</h1><p>of {}<table>\n{rows}</table>\n\
         <p><a href=/api/v1/status>all of it as JSON</a>\n",
        escaped(&status.name)
    );
    ([(header::CACHE_CONTROL, "no-store")], Html(page)).into_response()
}

/// What others have said may be among it.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

async fn status(State(operator): State<Operator>) -> Response {
    let status = operator.status.borrow().clone();
    ([(header::CACHE_CONTROL, "no-store")], Json(status)).into_response()
}

async fn list(State(operator): State<Operator>) -> Response {
    recordings::answer(&operator.node).await
}

async fn pin(
    State(operator): State<Operator>,
    Path(id): Path<u64>,
    Json(pin): Json<Pin>,
) -> Response {
    recordings::answer_pin(&operator.node, id, pin).await
}
