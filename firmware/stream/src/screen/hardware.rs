//! The page for whoever asks what the machine itself is up to: encoder, heat, power, wear, clock, and what does not work.

use std::time::Duration;

use embedded_graphics::pixelcolor::BinaryColor::On;

use super::{
    Canvas, LAYOUT,
    details::paint_head,
    text::{WORDS, clip, fits, font, text, wrap},
};
use crate::encoder::{Choice, Reason};
use crate::health::Seen;
use crate::machine::{Clock, Machine, Spare, Storage};
use crate::status::Status;

const WIDTH: i32 = LAYOUT.width as i32;
const TOP: i32 = 12;
const ROW_HEIGHT: i32 = 7;
const VALUES: i32 = 26;

/// Below the rows.
const LINES: usize = 3;

/// Several faults take turns, and where there is none what is odd about the card; so do the parts of a long one.
const TURN: Duration = Duration::from_secs(4);

pub(super) fn paint<C: Canvas>(canvas: &mut C, status: &Status, now: Duration) {
    paint_head(canvas, "Hardware", status, now);
    let machine = &status.machine;
    let rows = [
        ("enc", encoder(status.encoder)),
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
    let faults = match status.hardware.as_slice() {
        [] => [&["all parts work".to_owned()], &*status.input.notes].concat(),
        faults => faults.to_vec(),
    };
    let turns = turns(&faults);
    let turn = now.as_secs() / TURN.as_secs() % turns.len().max(1) as u64;
    for (row, words) in turns
        .into_iter()
        .nth(turn as usize)
        .iter()
        .flatten()
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

/// The lines of each turn. What to do stands at the end of a fault, and some name devices, so nothing is cut.
fn turns(faults: &[String]) -> Vec<Vec<String>> {
    let fits = fits(WIDTH, font::SMALL);
    let parts = |fault: &String| -> Vec<Vec<String>> {
        let lines = wrap(fault, fits, usize::MAX, &WORDS);
        lines.chunks(LINES).map(<[_]>::to_vec).collect()
    };
    faults.iter().flat_map(parts).collect()
}

fn encoder(choice: Choice) -> String {
    let why = match choice.reason {
        Reason::Default => "",
        Reason::Configured => " set",
        Reason::Measured => " tried",
        Reason::Fallback => " 2nd",
    };
    format!("{}{why}", choice.encoder)
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
        Some(Spare::Urgent) => "replace",
        Some(Spare::Warning) => "ageing",
        Some(Spare::Normal) | None => "",
    };
    match (storage.worn_percent, spare) {
        (Some(worn), "") => format!("{worn}% worn"),
        (Some(worn), spare) => format!("{worn}% worn, {spare}"),
        (None, "") => "wear is not told".to_owned(),
        (None, spare) => spare.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::{Encoder, Preset};

    fn check(faults: &[&str], expected: &[&[&str]]) {
        let faults: Vec<String> = faults.iter().map(|&fault| fault.to_owned()).collect();
        assert_eq!(turns(&faults), expected);
    }

    #[test]
    fn a_fault_that_is_long_goes_on_in_the_next_turn() {
        check(
            &[
                "/dev/video0 and hw:CARD=MS2109 share no clock, so picture and sound would drift apart: \
                 take both from one card, or set [capture] separate_clocks = true",
                "the display hangs; check its wires",
                "",
            ],
            &[
                &[
                    "/dev/video0 and hw:CARD=MS2109",
                    "share no clock, so picture and",
                    "sound would drift apart: take",
                ],
                &[
                    "both from one card, or set",
                    "[capture] separate_clocks =",
                    "true",
                ],
                &["the display hangs; check its", "wires"],
            ],
        );
        check(&[], &[]);
        check(&[&"x".repeat(100)], &[&[&*"x".repeat(31); 3], &["xxxxxxx"]]);
    }

    #[test]
    fn no_row_is_cut_off() {
        let fits = fits(WIDTH - VALUES, font::LIST);
        let check = |row: String| assert!(row.len() <= fits, "{row}");
        let presets = Preset::ALL.map(Encoder::X264enc);
        for encoder in presets.into_iter().chain([Encoder::V4l2h264enc]) {
            for reason in [Reason::Configured, Reason::Measured, Reason::Fallback] {
                check(super::encoder(Choice { encoder, reason }));
            }
        }
        for spare in [None, Some(Spare::Urgent), Some(Spare::Warning)] {
            for worn_percent in [None, Some(100)] {
                check(storage(Storage {
                    worn_percent,
                    spare,
                }));
            }
        }
        for battery in [None, Some(false), Some(true)] {
            for synchronised in [None, Some(false), Some(true)] {
                check(clock(Clock {
                    battery,
                    synchronised,
                }));
            }
        }
        for seen in [Seen::Now, Seen::Past, Seen::Never] {
            for throttled in [None, Some(seen)] {
                check(heat(&Machine {
                    temperature_c: Some(100.0),
                    undervoltage: throttled.is_none().then_some(seen),
                    throttled,
                    ..Machine::default()
                }));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_of_a_fault_is_left_out(faults in proptest::collection::vec("[a-z;:.]{1,31}( [a-z;:.]{1,31}){0,40}", 0..4)) {
            let shown = turns(&faults);
            proptest::prop_assert!(shown.iter().all(|lines| (1..=LINES).contains(&lines.len())));
            proptest::prop_assert!(shown.iter().flatten().all(|line| line.len() <= 31));
            proptest::prop_assert_eq!(shown.concat().join(" "), faults.join(" "));
        }
    }
}
