//! The mirror's status and recordings over HTTP, for its operator and for programs.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use node::Node;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::follow::Status;
use crate::console::same_origin;
use crate::listener::Limited;
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
        .route("/", get(status))
        .route("/api/v1/status", get(status))
        .route("/api/v1/recordings", get(list))
        .route("/api/v1/recordings/{id}/pin", post(pin))
        .route("/healthz", get(async || "ok\n"))
        .layer(middleware::from_fn(same_origin))
        .with_state(operator);
    axum::serve(Limited::new(listener, OPERATORS), router)
        .with_graceful_shutdown(cancel.cancelled_owned())
        .await
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
