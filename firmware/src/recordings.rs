//! `podium list|pin|unpin|delete`, and the same over HTTP: what is recorded, what must never be deleted to make room, and what must go.
//!
//! One process owns the journal. While the box runs that is the box, and the commands ask it over its operator's port; while it
//! does not, they take the data directory's lock and open the journal themselves.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use node::{BroadcastId, Node, OpenError, StoreError};
use serde::{Deserialize, Serialize};

use crate::clock::{from_unix_ms, wall_now};
use crate::run::{configure, refuse, told};

/// Where the operator's port of the running box is.
const ADDRESS_FILE: &str = "operator-address";

const DELETED: &str =
    "deleted here; mirrors and others who have fetched it may keep it: ask them, too\n";

/// The box answers in milliseconds, but pinning waits for the disk.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// TOML file of the box.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the box's store is; overrides the config.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Chosen {
    /// Number of the recording, as `podium list` has it.
    id: u64,
    #[command(flatten)]
    place: Place,
}

/// A broadcast in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recording {
    pub(crate) id: u64,
    /// The event's name; empty where the journal was made again from the blocks.
    pub(crate) name: String,
    /// When it began, RFC 3339.
    pub(crate) started: Option<String>,
    /// CID of its directory; absent before the first segment.
    pub(crate) root: Option<String>,
    pub(crate) finished: bool,
    pub(crate) pinned: bool,
    pub(crate) bytes: u64,
}

/// What `POST /api/v1/recordings/{id}/pin` takes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    pub(crate) pinned: bool,
}

/// What a box and a mirror both keep of a broadcast.
#[derive(Debug, Deserialize)]
struct Label {
    name: String,
    started_ms: Option<u64>,
}

/// All that is recorded, oldest first: in the order in which it would be deleted.
pub(crate) async fn recordings(node: &Node) -> Result<Vec<Recording>, StoreError> {
    let stored = node.broadcasts().await?.into_iter();
    let recordings = stored.map(|stored| {
        let meta: Option<Label> = serde_json::from_slice(&stored.meta).ok();
        let started = meta.as_ref().and_then(|meta| meta.started_ms);
        Recording {
            id: stored.id.into(),
            started: started
                .map(|ms| humantime::format_rfc3339_seconds(from_unix_ms(ms)).to_string()),
            name: meta.map(|meta| meta.name).unwrap_or_default(),
            root: stored.root.map(|root| root.to_string()),
            finished: stored.finished,
            pinned: stored.pinned,
            bytes: stored.bytes,
        }
    });
    Ok(recordings.collect())
}

/// The list over HTTP, oldest first: in the order in which they are deleted.
pub(crate) async fn answer(node: &Node) -> Response {
    match recordings(node).await {
        Ok(recordings) => ([(header::CACHE_CONTROL, "no-store")], Json(recordings)).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// Pins or unpins; durable when it is answered.
pub(crate) async fn answer_pin(node: &Node, id: u64, Pin { pinned }: Pin) -> Response {
    done(node.pin(id.into(), pinned).await)
}

/// Deletes; in no list any more when it is answered.
pub(crate) async fn answer_delete(node: &Node, id: u64) -> Response {
    done(node.delete_by_hand(id.into()).await)
}

fn done(result: Result<(), StoreError>) -> Response {
    let Err(error) = result else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let status = match error {
        StoreError::UnknownBroadcast(_) => StatusCode::NOT_FOUND,
        StoreError::PinsFull { .. } | StoreError::Newest(_) | StoreError::Pinned(_) => {
            StatusCode::CONFLICT
        }
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{error}\n")).into_response()
}

/// Says where the operator's port is, for commands on this machine.
pub(crate) fn announce(data_dir: &Path, operator: SocketAddr) {
    if let Err(error) = std::fs::write(data_dir.join(ADDRESS_FILE), operator.to_string()) {
        tracing::warn!(%error, "podium list, pin, unpin and delete will not find this box");
    }
}

pub(crate) fn list(place: &Place) -> ExitCode {
    finish(
        open(place)
            .and_then(|store| store.list())
            .map(|it| table(&it)),
    )
}

pub(crate) fn pin(chosen: &Chosen, pinned: bool) -> ExitCode {
    let result = open(&chosen.place).and_then(|store| store.pin(chosen.id, pinned));
    finish(result.map(|()| String::new()))
}

pub(crate) fn delete(chosen: &Chosen) -> ExitCode {
    let result = open(&chosen.place).and_then(|store| store.delete(chosen.id));
    finish(result.map(|()| DELETED.to_owned()))
}

fn finish(result: Result<String>) -> ExitCode {
    match result {
        Ok(text) => crate::print(&text),
        Err(error) => refuse(&told(&error)),
    }
}

/// Who owns the journal.
enum Store {
    /// The box that runs, at this address.
    Box(SocketAddr),
    Here(tokio::runtime::Runtime, Node),
}

fn open(place: &Place) -> Result<Store> {
    let config = configure(place.config.as_deref(), place.data_dir.as_deref())?;
    let dir = &config.data_dir;
    if !node::has_store(dir) {
        return Err(OpenError::NoStore { dir: dir.clone() }.into());
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    // Nothing is deleted before it can be pinned.
    let allowance = config.store.allowance().without_deleting();
    match runtime.block_on(Node::offline(dir, allowance, wall_now)) {
        Ok((node, _)) => Ok(Store::Here(runtime, node)),
        Err(OpenError::InUse { .. }) => {
            let known = std::fs::read_to_string(dir.join(ADDRESS_FILE)).ok();
            let address = known.and_then(|address| address.trim().parse().ok());
            Ok(Store::Box(address.unwrap_or(config.operator.listen)))
        }
        Err(error) => Err(error.into()),
    }
}

impl Store {
    fn list(self) -> Result<Vec<Recording>> {
        match self {
            Store::Box(address) => {
                let answer = agent()
                    .get(format!("http://{address}/api/v1/recordings"))
                    .call();
                let mut answer = taken(address, answer)?;
                let listed = answer.body_mut().read_json();
                listed.map_err(|error| unanswered(address, &error))
            }
            Store::Here(runtime, node) => runtime.block_on(async {
                let recordings = recordings(&node).await;
                node.shutdown().await;
                Ok(recordings?)
            }),
        }
    }

    fn pin(self, id: u64, pinned: bool) -> Result<()> {
        match self {
            Store::Box(address) => {
                let url = format!("http://{address}/api/v1/recordings/{id}/pin");
                taken(address, agent().post(url).send_json(Pin { pinned })).map(drop)
            }
            Store::Here(runtime, node) => runtime.block_on(async {
                let result = node.pin(BroadcastId::from(id), pinned).await;
                node.shutdown().await;
                Ok(result?)
            }),
        }
    }

    fn delete(self, id: u64) -> Result<()> {
        match self {
            Store::Box(address) => {
                let url = format!("http://{address}/api/v1/recordings/{id}/delete");
                taken(address, agent().post(url).send_empty()).map(drop)
            }
            Store::Here(runtime, node) => runtime.block_on(async {
                let deleted = async {
                    node.delete_by_hand(BroadcastId::from(id)).await?;
                    node.deleted().await
                };
                let deleted = deleted.await;
                node.shutdown().await;
                ensure!(
                    deleted?,
                    "it is in no list any more, but the disk does not let all of it go: see podium fsck"
                );
                Ok(())
            }),
        }
    }
}

/// What the box says of a request that it can refuse.
fn taken(
    address: SocketAddr,
    answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<ureq::http::Response<ureq::Body>> {
    let mut answer = answer.map_err(|error| unanswered(address, &error))?;
    if !answer.status().is_success() {
        bail!("{}", answer.body_mut().read_to_string()?.trim());
    }
    Ok(answer)
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE));
    config.http_status_as_error(false).build().into()
}

fn unanswered(address: SocketAddr, error: &ureq::Error) -> anyhow::Error {
    anyhow!(
        "the box runs and does not answer at {address} ({error}): see its log, or stop it first"
    )
}

fn table(recordings: &[Recording]) -> String {
    let mut text = String::new();
    for it in recordings {
        let state = match (it.finished, it.pinned) {
            (false, _) => "unfinished",
            (true, true) => "pinned",
            (true, false) => "",
        };
        let started = it.started.as_deref().unwrap_or("-");
        let root = it.root.as_deref().unwrap_or("-");
        let mib = it.bytes.div_ceil(1 << 20);
        let _ = writeln!(
            text,
            "{:>5}  {started:<20}  {mib:>7} MiB  {state:<10}  {root}  {}",
            it.id,
            shown(&it.name)
        );
    }
    text
}

/// Characters of a name in the table.
const NAME: usize = 80;

/// A mirror keeps names that others chose: none of them may drive the terminal, forge a row, or turn one around.
fn shown(name: &str) -> String {
    let drives = |c: char| {
        c.is_control()
            || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let harmless = |c| {
        if drives(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut name = name.chars().map(harmless);
    let mut shown: String = name.by_ref().take(NAME).collect();
    if name.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_elsewhere_stays_in_its_row_and_moves_nothing() {
        for (name, expected) in [
            ("Žluťoučký kůň 🎥 会議", "Žluťoučký kůň 🎥 会議"),
            (
                "\u{1b}[2J\u{9b}2K\r\nrow",
                "\u{fffd}[2J\u{fffd}2K\u{fffd}\u{fffd}row",
            ),
            (
                "\u{202e}lanif\u{2066}\u{200f}\u{61c}\u{2028}",
                "\u{fffd}lanif\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            (&"a".repeat(NAME), &"a".repeat(NAME)),
            (&"ž".repeat(4096), &format!("{}…", "ž".repeat(NAME - 1))),
        ] {
            assert_eq!(shown(name), expected);
        }
    }

    #[test]
    fn the_list_is_a_line_each() {
        let recording = Recording {
            id: 7,
            name: "Conference".into(),
            started: Some("2026-11-22T09:00:00Z".into()),
            root: Some("bafyroot".into()),
            finished: true,
            pinned: true,
            bytes: 3 << 20,
        };
        let other = Recording {
            id: 8,
            name: "Elsewhere\n    9  forged".into(),
            started: None,
            root: None,
            finished: false,
            pinned: false,
            bytes: 1,
        };
        assert_eq!(
            table(&[recording, other]),
            "    7  2026-11-22T09:00:00Z        3 MiB  pinned      bafyroot  Conference\n    8  -                           1 MiB  unfinished  -  Elsewhere\u{fffd}    9  forged\n"
        );
    }
}
