//! The page for whoever asks what the machine itself is up to: encoder, heat, power, wear, clock, and what does not work.

use std::time::Duration;

use embedded_graphics::pixelcolor::BinaryColor::On;

use super::{
    Canvas, LAYOUT,
    details::paint_head,
    text::{WORDS, clip, fits, font, text, wrap},
};
use crate::encoder::Reason;
use crate::health::Seen;
use crate::machine::{Clock, Machine, Spare, Storage};
use crate::status::Status;

const WIDTH: i32 = LAYOUT.width as i32;
const TOP: i32 = 12;
const ROW_HEIGHT: i32 = 7;
const VALUES: i32 = 26;

/// Several faults take turns, and where there is none what is odd about the card.
const TURN: Duration = Duration::from_secs(4);

pub(super) fn paint<C: Canvas>(canvas: &mut C, status: &Status, now: Duration) {
    paint_head(canvas, "Hardware", status, now);
    let machine = &status.machine;
    let rows = [
        ("enc", encoder(status)),
        ("heat", heat(machine)),
        ("card", storage(machine.storage)),
        ("time", clock(machine.clock)),
    ];
    let line = |row: usize| TOP + ROW_HEIGHT * row as i32;
    for (row, (label, value)) in rows.iter().enumerate() {
        text(canvas, label, (0, line(row)), font::LIST, On);
        let value = clip(value, fits(WIDTH - VALUES, font::LIST));
        text(canvas, &value, (VALUES, line(row)), font::LIST, On);
    }
    let turn = now.as_secs() / TURN.as_secs();
    let faults: Vec<&str> = match status.hardware.as_slice() {
        [] => std::iter::once("all parts work")
            .chain(status.input.notes.iter().map(String::as_str))
            .collect(),
        faults => faults.iter().map(String::as_str).collect(),
    };
    let words = faults[(turn % faults.len() as u64) as usize];
    for (row, words) in wrap(words, fits(WIDTH, font::SMALL), 3, &WORDS)
        .iter()
        .enumerate()
    {
        text(
            canvas,
            words,
            (0, line(rows.len()) + 1 + 6 * row as i32),
            font::SMALL,
            On,
        );
    }
}

fn encoder(status: &Status) -> String {
    let why = match status.encoder.reason {
        Reason::Configured => "set",
        Reason::Default => "default",
        Reason::Measured => "tried",
        Reason::Fallback => "instead",
    };
    format!("{} {why}", status.encoder.encoder)
}

fn heat(machine: &Machine) -> String {
    let degrees = machine.temperature_c.map(|c| format!("{c:.0} C"));
    let power = match (machine.undervoltage, machine.throttled) {
        (Some(Seen::Now), _) => "weak power",
        (_, Some(Seen::Now)) => "slowed",
        (Some(Seen::Past), _) => "was weak",
        (_, Some(Seen::Past)) => "was slowed",
        (None, None) => "",
        _ => "power ok",
    };
    let text = format!("{} {power}", degrees.as_deref().unwrap_or("-"));
    text.trim_end().to_owned()
}

fn storage(storage: Storage) -> String {
    let spare = match storage.spare {
        Some(Spare::Urgent) => ", replace it",
        Some(Spare::Warning) => ", ageing",
        Some(Spare::Normal) | None => "",
    };
    match storage.worn_percent {
        Some(worn) => format!("{worn}% worn{spare}"),
        None => "does not tell its wear".to_owned(),
    }
}

fn clock(clock: Clock) -> String {
    let network = match clock.synchronised {
        Some(true) => "network",
        Some(false) => "not set",
        None => "-",
    };
    let battery = match clock.battery {
        Some(true) => "",
        Some(false) => ", RTC empty",
        None => ", no RTC",
    };
    format!("{network}{battery}")
}
