//! What the panel shows while there is no box that has a status: it starts, or cannot.

use embedded_graphics::pixelcolor::BinaryColor::On;

use super::{
    Canvas, LAYOUT,
    text::{WORDS, fits, font, text, wrap},
};

const TOP: i32 = 17;
const LINE_HEIGHT: i32 = 9;
const LINES: usize = 5;

pub(super) fn paint<C: Canvas>(canvas: &mut C, state: &str, why: &str) {
    text(canvas, state, (0, 0), font::STATE, On);
    let chars = fits(LAYOUT.width as i32, font::BODY);
    for (row, line) in wrap(why, chars, LINES, &WORDS).iter().enumerate() {
        let top = TOP + LINE_HEIGHT * row as i32;
        text(canvas, line, (0, top), font::BODY, On);
    }
}
