//! The page for the audience: a QR code of the watch page, and its address for those who type.

use std::time::Duration;

use embedded_graphics::pixelcolor::BinaryColor::{Off, On};
use qrcodegen::{QrCode, QrCodeEcc, QrSegment, Version};

use super::{
    Canvas, LAYOUT, blink, clock,
    text::{ADDRESS, fill, fits, font, text, width, wrap},
    typed, word,
};
use crate::status::{Network, State, Status};

/// Modules of light around a code, at least. ISO/IEC 18004 asks for 4, for which there is no room; readers make do with
/// less, and a module of two pixels helps them more.
const QUIET: i32 = 1;

pub(super) fn paint<C: Canvas>(canvas: &mut C, status: &Status, now: Duration) {
    let url = public(&status.network);
    let side = LAYOUT.height as i32;
    paint_code(canvas, url, side);

    let x = side + 4;
    let room = LAYOUT.width as i32 - x;
    text(canvas, "Watch", (x, 0), font::STATE, On);
    let lines = wrap(typed(url), fits(room, font::LIST), 4, &ADDRESS);
    for (row, line) in lines.iter().enumerate() {
        text(canvas, line, (x, 17 + 8 * row as i32), font::LIST, On);
    }
    paint_foot(canvas, status, now, x, room);
}

/// The watch page's address for others; empty while there is none.
pub(super) fn public(network: &Network) -> &str {
    if network.only_here {
        return "";
    }
    network.watch_url.trim()
}

/// The code of an address, or in its place why there is none.
pub(super) fn paint_code<C: Canvas>(canvas: &mut C, url: &str, side: i32) {
    let instead: &[&str] = match url {
        "" => &["No network", "yet"],
        _ if paint_modules(canvas, url, side) => &[],
        _ => &["address", "is too long", "for a code"],
    };
    for (row, line) in instead.iter().enumerate() {
        text(canvas, line, (0, 18 + 9 * row as i32), font::LIST, On);
    }
}

/// Light on dark as large as it goes; false if the address is too long.
fn paint_modules<C: Canvas>(canvas: &mut C, url: &str, side: i32) -> bool {
    // The largest version that has room beside its light; the crate raises the error correction as far as it is free.
    let largest = Version::new(((side - 2 * QUIET - 17) / 4).clamp(1, 40) as u8);
    let segments = QrSegment::make_segments(url);
    let Ok(code) = QrCode::encode_segments_advanced(
        &segments,
        QrCodeEcc::Low,
        Version::MIN,
        largest,
        None,
        true,
    ) else {
        return false;
    };
    let scale = side / (code.size() + 2 * QUIET);
    fill(canvas, (0, 0), (side, side), On);
    let margin = (side - scale * code.size()) / 2;
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|&x| code.get_module(x, y)) {
            fill(
                canvas,
                (margin + scale * x, margin + scale * y),
                (scale, scale),
                Off,
            );
        }
    }
    true
}

/// The state and the time on air, so that nobody has to leave the page to know.
fn paint_foot<C: Canvas>(canvas: &mut C, status: &Status, now: Duration, x: i32, room: i32) {
    let lit = match status.state {
        State::Live => true,
        State::Starting | State::Retrying { .. } => blink(now),
        State::Idle | State::Stopping => false,
    };
    let word = word(&status.state);
    let (badge, ink) = (width(word, font::BODY) + 3, if lit { Off } else { On });
    if lit {
        fill(canvas, (x, 52), (badge, 10), On);
    }
    text(
        canvas,
        word,
        (if lit { x + 2 } else { x }, 53),
        font::BODY,
        ink,
    );
    let left = room - badge - 2;
    if let Some(clock) = status
        .on_air_ms
        .map(clock)
        .filter(|clock| width(clock, font::SMALL) <= left)
    {
        text(canvas, &clock, (x + badge + 2, 54), font::SMALL, On);
    }
}
