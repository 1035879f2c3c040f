//! The mirror's status, as a page for its operator and as JSON for programs, and its recordings.

use axum::extract::{Path, State};
use axum::http::header::{self, HeaderValue};
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
        .route("/icon.svg", get(icon))
        .route("/api/v1/status", get(status))
        .route("/api/v1/recordings", get(list))
        .route("/api/v1/recordings/{id}/pin", post(pin))
        .route("/api/v1/recordings/{id}/delete", post(delete))
        .route("/healthz", get(async || "ok\n"))
        .layer(middleware::from_fn(same_origin))
        .with_state(operator);
    let listener = Limited::new(listener, Guests::new(OPERATORS));
    listener::serve(listener, router, cancel).await
}

const ICON: &str = include_str!("../../web/src/icon.svg");

async fn icon() -> Response {
    let kind = HeaderValue::from_static("image/svg+xml");
    ([(header::CONTENT_TYPE, kind)], ICON).into_response()
}

/// Puts what is new into the page, which stays as it is: what somebody reads or marks must not jump. A machine
/// that is gone refuses nothing: without a timeout old numbers stand there as new ones for as long as TCP hopes.
const RENEW: &str = r"
const renew = async () => {
  try {
    const page = new DOMParser().parseFromString(await (await fetch('/', {signal: AbortSignal.timeout(5000)})).text(), 'text/html');
    page.querySelectorAll('td').forEach((td, i) => {
      const old = document.querySelectorAll('td')[i];
      if (old && old.textContent !== td.textContent) old.textContent = td.textContent;
    });
    const rows = document.querySelectorAll('tr').length;
    if (page.querySelectorAll('tr').length !== rows) document.querySelector('table').replaceWith(page.querySelector('table'));
    document.body.className = '';
  } catch {
    document.body.className = 'silent';
  }
  setTimeout(renew, 2000);
};
setTimeout(renew, 2000);
";

/// The colours and measures of the other pages (`web/src/base.css`).
const STYLE: &str = "
:root{color-scheme:dark light;--ground:#0b0d10;--surface:#14171c;--line:#2a3038;--text:#eef1f4;--quiet:#a6b0bb;--accent:#8cc2ff;--bad:#ff7a5c}
@media(prefers-color-scheme:light){:root{--ground:#f4f5f7;--surface:#fff;--line:#dde1e6;--text:#14181d;--quiet:#56606b;--accent:#0b5cc4;--bad:#bf3413}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:52rem;background:var(--ground);color:var(--text);font:1rem/1.5 system-ui,sans-serif}
h1{margin:0;font-size:1.375rem;line-height:1.2}
h1 img{width:1.75rem;height:1.75rem;margin-right:.6rem;vertical-align:-.4rem}
p{margin:.5rem 0 1rem;color:var(--quiet);overflow-wrap:anywhere}
a{color:var(--accent)}
table{width:100%;border-collapse:separate;background:var(--surface);border:1px solid var(--line);border-radius:14px;border-spacing:0}
th,td{padding:.5rem 1rem;border-top:1px solid var(--line);text-align:left;vertical-align:top;overflow-wrap:anywhere}
tr:first-child>*{border-top:0}
th{width:38%;font-weight:400;color:var(--quiet)}
td{font-variant-numeric:tabular-nums}
#silent{display:none;color:var(--bad);font-weight:600}
.silent #silent{display:block}
.silent table{opacity:.45}
";

/// A table that keeps itself up to date.
async fn page(State(operator): State<Operator>) -> Response {
    let status = operator.status.borrow().clone();
    let rows: String = (status.lines().iter())
        .map(|(what, is)| format!("<tr><th>{what}<td>{}\n", escaped(is)))
        .collect();
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\"><title>Podium mirror</title>\n\
         <link rel=icon href=/icon.svg type=image/svg+xml>\n\
         <style>{STYLE}</style><noscript><meta http-equiv=refresh content=10></noscript>\n\
         <body><h1><img src=/icon.svg alt=\"\">Podium mirror</h1><p>of {}\n\
         <p id=silent role=alert>The mirror does not answer. What you see is old. Does it run?\n\
         <table>\n{rows}</table>\n\
         <p><a href=/api/v1/status>All of it as JSON</a>\n\
         <script>{RENEW}</script>\n",
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

async fn delete(State(operator): State<Operator>, Path(id): Path<u64>) -> Response {
    recordings::answer_delete(&operator.node, id).await
}
