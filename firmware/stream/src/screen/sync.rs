//! The page of the sync self-test: where the flashing page is, then how far sound and picture are apart, and always what a
//! press of MODE does.

use std::time::Duration;

use embedded_graphics::pixelcolor::BinaryColor::{Off, On};

use super::{
    Canvas, LAYOUT, details,
    text::{ADDRESS, clip, fill, fits, font, text, text_right, width, wrap},
    typed, watch,
};
use crate::self_test::{Finding, Measurement};
use crate::status::{Status, Sync, SyncPress, SyncTest};

const WIDTH: i32 = LAYOUT.width as i32;
const PRESS_Y: i32 = 52;

pub(super) fn paint<C: Canvas>(canvas: &mut C, status: &Status, now: Duration) {
    let Some(test) = status.sync.test else {
        paint_address(canvas, status);
        return;
    };
    details::paint_head(canvas, "Sync test", status, now);
    match test.finding {
        Finding::Measured(measured) => paint_measured(canvas, &status.sync, test, measured),
        finding => {
            for (line, y) in finding.lines().into_iter().zip([14, 23]) {
                text(canvas, line, (0, y), font::BODY, On);
            }
            let url = page_url(status);
            let address = clip(typed(&url), fits(WIDTH, font::LIST));
            text(canvas, &address, (0, 38), font::LIST, On);
        }
    }
    let press = match status.sync.press() {
        SyncPress::Start => "MODE: start the test".to_owned(),
        SyncPress::Trim(ms) => format!("MODE: trim {ms:+} ms"),
        SyncPress::End => "MODE: end the test".to_owned(),
    };
    fill(
        canvas,
        (0, PRESS_Y),
        (width(&press, font::BODY) + 4, 10),
        On,
    );
    text(canvas, &press, (2, PRESS_Y), font::BODY, Off);
}

/// The address of the page that flashes, for a phone and for those who type.
fn paint_address<C: Canvas>(canvas: &mut C, status: &Status) {
    let url = page_url(status);
    let side = LAYOUT.height as i32;
    watch::paint_code(canvas, &url, side);
    let x = side + 4;
    let room = fits(WIDTH - x, font::LIST);
    text(canvas, "A/V", (x, 0), font::STATE, On);
    text(canvas, "sync", (x + 30, 4), font::BODY, On);
    let lines = wrap(typed(&url), room, 3, &ADDRESS);
    for (row, line) in lines.iter().enumerate() {
        text(canvas, line, (x, 17 + 8 * row as i32), font::LIST, On);
    }
    fill(canvas, (x, PRESS_Y), (WIDTH - x, 10), On);
    text(canvas, "MODE: start", (x + 2, PRESS_Y + 1), font::LIST, Off);
}

fn paint_measured<C: Canvas>(canvas: &mut C, sync: &Sync, test: SyncTest, measured: Measurement) {
    // Without it a small negative number would be -0.
    let left = test.left_ms.unwrap_or(measured.offset_ms).round() + 0.0;
    text(
        canvas,
        &clip(&format!("A/V {left:+} ms"), 11),
        (0, 10),
        font::STATE,
        On,
    );
    let sure = format!("\u{b1}{:.0}", measured.error_ms);
    text_right(canvas, &clip(&sure, 5), (WIDTH, 13), font::BODY, On);
    let words = if sync.in_sync() {
        "sound and picture fit".to_owned()
    } else if left > 0.0 {
        format!("sound is {left} ms late")
    } else {
        format!("sound is {} ms early", -left)
    };
    text(canvas, &clip(&words, 21), (0, 25), font::BODY, On);
    let drift = sync.drift_ppm.map_or("drift: wait".to_owned(), drift);
    text(canvas, &clip(&drift, 21), (0, 34), font::BODY, On);
    let trim = format!("trim {:+} ms, {} pairs", sync.trim_ms, measured.pairs);
    text(
        canvas,
        &clip(&trim, fits(WIDTH, font::LIST)),
        (0, 43),
        font::LIST,
        On,
    );
}

fn page_url(status: &Status) -> String {
    match watch::public(&status.network) {
        "" => String::new(),
        watch => format!("{}/sync", watch.strip_suffix('/').unwrap_or(watch)),
    }
}

/// `drift +3 ppm`.
pub(super) fn drift(ppm: f64) -> String {
    // Without it a small negative number would be -0.
    format!("drift {:+} ppm", ppm.round() + 0.0)
}
