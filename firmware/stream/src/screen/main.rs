//! The page that is shown unless somebody asks for another.
//!
//! ```text
//!   0 ┌──────────────────────────────┐
//!     │ state              time, hint│  lit while live, blinks on the way there
//!  14 ├──────────────────────────────┤
//!     │ input                 bitrate│
//!  24 │ L ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  |  clip│
//!     │ R ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒      |    │
//!  35 │ health                address│
//!     │ what is wrong                │  or the address, larger
//!  61 └ what to do ──────────────────┘
//! ```

use std::time::Duration;

use embedded_graphics::{
    Drawable,
    geometry::Point,
    pixelcolor::BinaryColor::{self, Off, On},
    primitives::{Circle, Primitive, PrimitiveStyle},
};

use super::{
    Canvas, LAYOUT, MeterReading, View, blink, clock, mode,
    text::{WORDS, clip, fill, fits, font, outline, text, text_right, width, wrap},
    typed, watch, word,
};
use crate::status::{Health, HealthWord, Signal, State, Status, VideoFormat};

const WIDTH: i32 = LAYOUT.width as i32;

const BAR_HEIGHT: i32 = 14;
const INPUT_Y: i32 = 14;
const METERS_Y: i32 = 24;
const HEALTH_Y: i32 = 35;
const LINES_Y: [i32; 2] = [44, 53];

pub(super) fn paint<C: Canvas>(canvas: &mut C, status: &Status, view: &View, now: Duration) {
    paint_state(canvas, status, now);
    paint_input(canvas, status, now);
    paint_meters(canvas, &view.meters);
    if status.audio.muted {
        paint_muted(canvas, now);
    }
    paint_health(canvas, status, now);
}

/// The bar at the top.
fn paint_state<C: Canvas>(canvas: &mut C, status: &Status, now: Duration) {
    let lit = match status.state {
        State::Live => true,
        State::Starting | State::Retrying { .. } => blink(now),
        State::Idle | State::Stopping => false,
    };
    let ink = if lit { Off } else { On };
    if lit {
        fill(canvas, (0, 0), (WIDTH, BAR_HEIGHT), On);
    } else {
        fill(canvas, (0, BAR_HEIGHT - 1), (WIDTH, 1), On);
    }

    let mut x = 2;
    if status.state == State::Live {
        let Ok(()) = Circle::new(Point::new(2, 3), 8)
            .into_styled(PrimitiveStyle::with_fill(ink))
            .draw(canvas);
        x += 10;
    }
    let word = word(&status.state);
    text(canvas, word, (x, 0), font::STATE, ink);
    x += width(word, font::STATE);

    let (beside, font) = match (&status.state, status.on_air_ms) {
        (State::Idle, _) => ("press GO LIVE".to_owned(), font::BESIDE),
        (_, Some(ms)) => (clock(ms), font::STATE),
        (
            State::Retrying {
                attempt: attempt @ 1..,
                ..
            },
            None,
        ) => (format!("try {attempt}"), font::BESIDE),
        (_, None) => return,
    };
    let room = WIDTH - 2 - x;
    let font = if width(&beside, font) < room {
        font
    } else {
        font::BESIDE
    };
    let y = if font == font::STATE { 0 } else { 1 };
    text_right(
        canvas,
        &clip(&beside, fits(room, font)),
        (WIDTH - 2, y),
        font,
        ink,
    );
}

/// What comes in, and how much goes out.
fn paint_input<C: Canvas>(canvas: &mut C, status: &Status, now: Duration) {
    let right = match status.bitrate_kbps {
        Some(kbps) => bitrate(kbps),
        None => clip(&status.input.source, 12),
    };
    text_right(canvas, &right, (WIDTH, INPUT_Y), font::BODY, On);

    let room = fits(WIDTH - width(&right, font::BODY) - 6, font::BODY);
    let (left, alarm) = match (status.input.signal, status.input.format) {
        (Signal::Ok, Some(format)) => (video_format(format), false),
        (Signal::Ok, None) => ("no video".to_owned(), false),
        (Signal::Lost, _) => ("NO SIGNAL".to_owned(), true),
        (Signal::None, _) => ("no input".to_owned(), false),
    };
    let left = clip(&left, room);
    if !alarm || blink(now) {
        text(canvas, &left, (0, INPUT_Y), font::BODY, On);
    }
}

/// `720p30`, `1080p59.94`.
fn video_format(format: VideoFormat) -> String {
    let fps = f64::from(format.fps_num) / f64::from(format.fps_den.max(1));
    let fps = format!("{fps:.2}");
    let fps = fps.trim_end_matches('0').trim_end_matches('.');
    format!("{}p{fps}", format.height)
}

fn bitrate(kbps: u32) -> String {
    match kbps {
        0..1000 => format!("{kbps} kb/s"),
        1000..100_000 => format!("{:.1} Mb/s", f64::from(kbps) / 1000.0),
        _ => format!("{} Mb/s", kbps / 1000),
    }
}

/// From -60 dBFS to full scale.
fn paint_meters<C: Canvas>(canvas: &mut C, meters: &[MeterReading; 2]) {
    const X: i32 = 7;
    const LENGTH: i32 = 110;
    const BOTTOM_DBFS: f32 = -60.0;
    let column =
        |dbfs: f32| ((1.0 - dbfs / BOTTOM_DBFS).clamp(0.0, 1.0) * LENGTH as f32).round() as i32;

    for (row, (meter, label)) in meters.iter().zip(["L", "R"]).enumerate() {
        let y = METERS_Y + 6 * row as i32;
        text(canvas, label, (0, y - 1), font::SMALL, On);
        let level = column(meter.level_dbfs);
        for x in (0..level).step_by(3) {
            fill(canvas, (X + x, y), ((level - x).min(2), 4), On);
        }
        // Dots show the way that is left, and where a silent meter is.
        for x in ((level + 2) / 3 * 3..LENGTH).step_by(6) {
            fill(canvas, (X + x, y + 2), (1, 1), On);
        }
        let hold = column(meter.hold_dbfs);
        if hold > 0 {
            fill(canvas, (X + hold - 1, y - 1), (1, 6), On);
        }
        if meter.clip {
            fill(
                canvas,
                (X + LENGTH + 2, y - 1),
                (WIDTH - X - LENGTH - 2, 6),
                On,
            );
        }
    }
}

/// Over the meters, which go on showing what comes in: a mute that is forgotten ruins a talk.
fn paint_muted<C: Canvas>(canvas: &mut C, now: Duration) {
    const WORD: &str = "MUTED";
    let (w, h) = (width(WORD, font::BODY) + 8, 11);
    let (x, y) = ((WIDTH - w) / 2, METERS_Y - 1);
    let lit = blink(now);
    fill(canvas, (x - 2, y), (w + 4, h), Off);
    if lit {
        fill(canvas, (x, y), (w, h), On);
    } else {
        outline(canvas, (x, y), (w, h));
    }
    text(
        canvas,
        WORD,
        (x + 4, y + 1),
        font::BODY,
        if lit { Off } else { On },
    );
}

/// The word, and below it what to do about it; where nothing is to be done, the event and its address.
fn paint_health<C: Canvas>(canvas: &mut C, status: &Status, now: Duration) {
    let lines = advice(&status.state, &status.health);
    let address = typed(watch::public(&status.network));

    let word = health_word(status.health.word);
    let badge = width(word, font::BODY) + 3;
    let loud = match status.health.word {
        HealthWord::Excellent | HealthWord::Good => false,
        HealthWord::Warning => true,
        HealthWord::Emergency | HealthWord::Dead => blink(now),
    };
    if loud {
        fill(canvas, (0, HEALTH_Y), (badge, 9), On);
        text(canvas, word, (2, HEALTH_Y), font::BODY, Off);
    } else {
        let x = if status.health.word >= HealthWord::Warning {
            2
        } else {
            0
        };
        text(canvas, word, (x, HEALTH_Y), font::BODY, On);
    }

    for (line, y) in lines.iter().zip(LINES_Y) {
        text(
            canvas,
            &clip(line, fits(WIDTH, font::BODY)),
            (0, y),
            font::BODY,
            On,
        );
    }
    let body = |line: &str| clip(line, fits(WIDTH, font::BODY));
    if lines.len() < 2 {
        text_right(canvas, mode(status.mode), (WIDTH, HEALTH_Y), font::BODY, On);
    }
    match lines.len() {
        0 => {
            text(canvas, &body(&status.name), (0, LINES_Y[0]), font::BODY, On);
            text(canvas, &body(address), (0, LINES_Y[1]), font::BODY, On);
        }
        1 => text(canvas, &body(address), (0, LINES_Y[1]), font::BODY, On),
        _ => {
            let small = clip(address, fits(WIDTH - badge - 3, font::SMALL));
            text_right(canvas, &small, (WIDTH, HEALTH_Y + 2), font::SMALL, On);
        }
    }
}

/// What to do; where health has nothing to say, the cause of the state.
fn advice(state: &State, health: &Health) -> Vec<String> {
    match state {
        _ if !health.action.is_empty() => health.action.iter().take(2).cloned().collect(),
        State::Retrying { cause, .. } => wrap(cause, fits(WIDTH, font::BODY), 2, &WORDS),
        State::Stopping => vec!["Finishing the stream".to_owned()],
        State::Idle | State::Starting | State::Live => Vec::new(),
    }
}

fn health_word(word: HealthWord) -> &'static str {
    match word {
        HealthWord::Excellent => "Excellent",
        HealthWord::Good => "Good",
        HealthWord::Warning => "WARNING",
        HealthWord::Emergency => "EMERGENCY",
        HealthWord::Dead => "DEAD",
    }
}

/// Covers the lower part while GO LIVE is held.
pub(super) fn paint_hold<C: Canvas>(canvas: &mut C, progress: f32) {
    let color: BinaryColor = Off;
    fill(
        canvas,
        (0, HEALTH_Y - 1),
        (WIDTH, LAYOUT.height as i32 - HEALTH_Y + 1),
        color,
    );
    let line = if progress < 1.0 {
        "Keep holding to stop"
    } else {
        "Stopping: let go"
    };
    text(
        canvas,
        line,
        ((WIDTH - width(line, font::BODY)) / 2, HEALTH_Y + 1),
        font::BODY,
        On,
    );
    let (y, height) = (HEALTH_Y + 13, 12);
    outline(canvas, (0, y), (WIDTH, height));
    let filled = (progress.clamp(0.0, 1.0) * (WIDTH - 4) as f32).round() as i32;
    fill(canvas, (2, y + 2), (filled, height - 4), On);
}
