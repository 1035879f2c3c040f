//! Reading the glass as a person does: by the shapes of the letters.

use embedded_graphics::Drawable as _;
use embedded_graphics::geometry::Point;
use embedded_graphics::mono_font::iso_8859_1::{FONT_4X6, FONT_5X7, FONT_6X9};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::{Baseline, Text};
use stream::screen::Frame;

/// Whether a line of text stands somewhere on a glass (rows of `#` and `.`), in the font of the panel's sentences, of its lists or of its small print.
pub(crate) fn reads(glass: &[String], line: &str) -> bool {
    [&FONT_6X9, &FONT_5X7, &FONT_4X6]
        .into_iter()
        .any(|font| reads_in(glass, line, font))
}

fn reads_in(glass: &[String], line: &str, font: &MonoFont<'_>) -> bool {
    let mut drawn = Frame::default();
    let style = MonoTextStyle::new(font, BinaryColor::On);
    let end = Text::with_baseline(line, Point::zero(), style, Baseline::Top)
        .draw(&mut drawn)
        .unwrap_or_else(|never| match never {});
    let width = end.x.unsigned_abs();
    let shape: Vec<String> = (0..font.character_size.height)
        .map(|y| {
            let pixel = |x| if drawn.get(x, y) { '#' } else { '.' };
            (0..width).map(pixel).collect()
        })
        .collect();
    let columns = glass.first().map_or(0, String::len);
    let stands = |rows: &[String], x: usize| {
        rows.iter()
            .zip(&shape)
            .all(|(row, shape)| row.get(x..x + shape.len()) == Some(shape.as_str()))
    };
    glass
        .windows(shape.len())
        .any(|rows| (0..columns).any(|x| stands(rows, x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_where_it_stands_and_no_other() {
        let mut frame = Frame::default();
        let style = MonoTextStyle::new(&FONT_6X9, BinaryColor::On);
        Text::with_baseline("Picture is lost", Point::new(3, 40), style, Baseline::Top)
            .draw(&mut frame)
            .unwrap();
        let pixel = |x, y| if frame.get(x, y) { '#' } else { '.' };
        let glass: Vec<String> = (0..64)
            .map(|y| (0..128).map(|x| pixel(x, y)).collect())
            .collect();
        for (line, expected) in [
            ("Picture is lost", true),
            ("is lost", true),
            ("Picture is black", false),
            ("Picture is lost in the dark", false),
        ] {
            assert_eq!(reads(&glass, line), expected, "{line}");
        }
    }
}
