//! The page for whoever looks after the box: sound against picture, addresses, peers, disk.

use std::time::Duration;

use embedded_graphics::pixelcolor::BinaryColor::{Off, On};

use super::{
    Canvas, LAYOUT, blink, mode,
    text::{clip, clip_middle, fill, fits, font, text, text_right, width},
    typed, word,
};
use crate::status::{Disk, State, Status, Sync};

const WIDTH: i32 = LAYOUT.width as i32;
const HEAD_HEIGHT: i32 = 10;
const ROW_HEIGHT: i32 = 8;

pub(super) fn paint<C: Canvas>(canvas: &mut C, status: &Status, now: Duration) {
    paint_head(canvas, &status.name, status, now);

    let mode = mode(status.mode);
    let operator = typed(&status.network.operator_url);
    let rows: [(&str, String); 6] = [
        ("sync", clocks(&status.sync)),
        (
            if status.network.operator_open {
                "OPEN!"
            } else {
                "admin"
            },
            operator.to_owned(),
        ),
        ("ipfs", peers(status)),
        ("ipns", status.node.ipns.clone()),
        (
            if status.node.root_is_vod {
                "vod"
            } else {
                "root"
            },
            status.node.root.clone().unwrap_or_else(|| "-".to_owned()),
        ),
        ("free", disk(status.disk)),
    ];
    for (row, (label, value)) in rows.iter().enumerate() {
        let y = HEAD_HEIGHT + 2 + ROW_HEIGHT * row as i32;
        let x = 30;
        text(canvas, label, (0, y), font::LIST, On);
        let room = fits(WIDTH - x, font::LIST);
        let value = if matches!(*label, "ipns" | "root" | "vod") {
            clip_middle(value, room)
        } else {
            clip(value, room)
        };
        text(canvas, &value, (x, y), font::LIST, On);
        if *label == "ipfs" {
            text_right(canvas, mode, (WIDTH, y), font::LIST, On);
        }
    }
}

/// A name at the left, and the state, so that nobody has to leave the page to know.
pub(super) fn paint_head<C: Canvas>(canvas: &mut C, name: &str, status: &Status, now: Duration) {
    let word = word(&status.state);
    let badge = width(word, font::BODY) + 3;
    let lit = match status.state {
        State::Live => true,
        State::Starting | State::Retrying { .. } => blink(now),
        State::Idle | State::Stopping => false,
    };
    if lit {
        fill(canvas, (WIDTH - badge, 0), (badge, HEAD_HEIGHT - 1), On);
    }
    text(
        canvas,
        word,
        (WIDTH - badge + 2, 0),
        font::BODY,
        if lit { Off } else { On },
    );
    text(
        canvas,
        &clip(name, fits(WIDTH - badge - 3, font::BODY)),
        (0, 0),
        font::BODY,
        On,
    );
    fill(canvas, (0, HEAD_HEIGHT - 1), (WIDTH, 1), On);
}

/// How many of the mirrors and gateways to be checked have the newest segment, `seen 2/3, 8s`, or else who is connected.
fn peers(status: &Status) -> String {
    let Some(seen) = status.outside.summary else {
        return format!("{} peers", status.node.peers);
    };
    let behind = seen.behind_ms.map(|ms| format!(", {}s", ms / 1000));
    format!(
        "seen {}/{}{}",
        seen.seen,
        seen.of,
        behind.unwrap_or_default()
    )
}

/// What is left on air, and what is followed.
fn clocks(sync: &Sync) -> String {
    let drift = sync.drift_ppm.map(super::sync::drift);
    let error = sync.error_ms.map(|ms| format!("{:+} ms", ms.round() + 0.0));
    let known: Vec<String> = error.into_iter().chain(drift).collect();
    if known.is_empty() {
        return "-".to_owned();
    }
    known.join(" ")
}

/// Free and stored bytes, in the units that cards are sold in.
fn disk(disk: Disk) -> String {
    let gb = |bytes: u64| {
        let gb = bytes as f64 / 1e9;
        if gb < 10.0 {
            format!("{gb:.1}")
        } else {
            format!("{gb:.0}")
        }
    };
    format!("{} GB, used {}", gb(disk.free_bytes), gb(disk.stored_bytes))
}
