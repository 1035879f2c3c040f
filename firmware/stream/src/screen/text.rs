//! Lines of text that stay where they belong.

use embedded_graphics::{
    Drawable,
    geometry::{Point, Size},
    mono_font::{MonoFont, MonoTextStyle},
    pixelcolor::BinaryColor,
    primitives::{Primitive, PrimitiveStyle, Rectangle},
    text::{Baseline, Text},
};

use super::Canvas;

/// The sizes in use, by what they are for. Latin 1, because names have accents; the rest of the world is a `?`.
pub(super) mod font {
    use embedded_graphics::mono_font::{MonoFont, iso_8859_1};

    /// State and time on air.
    pub(in crate::screen) const STATE: &MonoFont<'_> = &iso_8859_1::FONT_9X15_BOLD;
    /// What stands beside the state.
    pub(in crate::screen) const BESIDE: &MonoFont<'_> = &iso_8859_1::FONT_6X12;
    /// Most of the text: 21 characters a line.
    pub(in crate::screen) const BODY: &MonoFont<'_> = &iso_8859_1::FONT_6X9;
    /// Lists: 25 characters a line.
    pub(in crate::screen) const LIST: &MonoFont<'_> = &iso_8859_1::FONT_5X7;
    /// What may be missed: 31 characters a line.
    pub(in crate::screen) const SMALL: &MonoFont<'_> = &iso_8859_1::FONT_4X6;
}

/// Width of a text in pixels, without the space behind the last character.
pub(super) fn width(text: &str, font: &MonoFont<'_>) -> i32 {
    let advance = (font.character_size.width + font.character_spacing) as i32;
    text.chars().count() as i32 * advance - font.character_spacing as i32
}

/// How many characters fit in `width` pixels.
pub(super) fn fits(width: i32, font: &MonoFont<'_>) -> usize {
    let advance = (font.character_size.width + font.character_spacing) as i32;
    ((width + font.character_spacing as i32) / advance).max(0) as usize
}

/// Draws a line from its upper left corner. The caller has cut it to what fits.
pub(super) fn text<C: Canvas>(
    canvas: &mut C,
    text: &str,
    at: (i32, i32),
    font: &MonoFont<'_>,
    color: BinaryColor,
) {
    let style = MonoTextStyle::new(font, color);
    let Ok(_) =
        Text::with_baseline(text, Point::new(at.0, at.1), style, Baseline::Top).draw(canvas);
}

/// Like [`text`], from its upper right corner: `at.0` is the first column that stays free.
pub(super) fn text_right<C: Canvas>(
    canvas: &mut C,
    line: &str,
    at: (i32, i32),
    font: &MonoFont<'_>,
    color: BinaryColor,
) {
    text(canvas, line, (at.0 - width(line, font), at.1), font, color);
}

/// Fills a rectangle given by its corner and its size.
pub(super) fn fill<C: Canvas>(
    canvas: &mut C,
    (x, y): (i32, i32),
    (w, h): (i32, i32),
    color: BinaryColor,
) {
    let size = Size::new(w.max(0) as u32, h.max(0) as u32);
    let Ok(()) = Rectangle::new(Point::new(x, y), size)
        .into_styled(PrimitiveStyle::with_fill(color))
        .draw(canvas);
}

/// Outlines a rectangle given by its corner and its outer size.
pub(super) fn outline<C: Canvas>(canvas: &mut C, (x, y): (i32, i32), (w, h): (i32, i32)) {
    let Ok(()) = Rectangle::new(Point::new(x, y), Size::new(w as u32, h as u32))
        .into_styled(PrimitiveStyle::with_stroke(BinaryColor::On, 1))
        .draw(canvas);
}

/// Cuts a text to `chars` characters on one line; two dots stand for what is missing.
pub(super) fn clip(text: &str, chars: usize) -> String {
    let mut line: Vec<char> = text.trim().chars().map(printable).collect();
    if line.len() > chars {
        line.truncate(chars.saturating_sub(2));
        while line.last() == Some(&' ') {
            line.pop();
        }
        line.extend(['.', '.'].iter().take(chars));
    }
    line.into_iter().collect()
}

/// Like [`clip`], but cuts out of the middle: both ends of a hash tell it apart.
pub(super) fn clip_middle(text: &str, chars: usize) -> String {
    let line: Vec<char> = text.trim().chars().map(printable).collect();
    if line.len() <= chars || chars < 4 {
        return clip(text, chars);
    }
    let head = (chars - 2) / 2;
    let tail = chars - 2 - head;
    line[..head]
        .iter()
        .chain(&['.', '.'])
        .chain(&line[line.len() - tail..])
        .collect()
}

/// Where a text may be broken.
pub(super) struct Breaks {
    /// These end a line; a space that ends one is not shown.
    after: &'static [char],
    /// These begin a line.
    before: &'static [char],
}

/// Prose.
pub(super) const WORDS: Breaks = Breaks {
    after: &[' '],
    before: &[],
};

/// Addresses: the port and each step of the path begin a line of their own.
pub(super) const ADDRESS: Breaks = Breaks {
    after: &['.', '-'],
    before: &[':', '/'],
};

/// Breaks a text into at most `lines` lines of `chars` characters, where `breaks` allows it or else anywhere; what does not
/// fit is cut.
pub(super) fn wrap(text: &str, chars: usize, lines: usize, breaks: &Breaks) -> Vec<String> {
    let text: Vec<char> = text.trim().chars().map(printable).collect();
    let mut rest = text.as_slice();
    let mut wrapped = Vec::new();
    while !rest.is_empty() && wrapped.len() < lines {
        if wrapped.len() + 1 == lines || rest.len() <= chars {
            let last: String = rest.iter().collect();
            wrapped.push(clip(&last, chars));
            break;
        }
        let may_end = |&end: &usize| {
            breaks.after.contains(&rest[end - 1]) || breaks.before.contains(&rest[end])
        };
        // A space may be the first character that no longer fits.
        let longest = if rest[chars] == ' ' { chars + 1 } else { chars };
        let end = (1..=longest.min(rest.len() - 1))
            .rev()
            .find(may_end)
            .unwrap_or(chars);
        let (line, tail) = rest.split_at(end);
        wrapped.push(line.iter().collect::<String>().trim_end().to_owned());
        rest = tail;
    }
    wrapped
}

/// A line feed would start a line of its own in [`Text`], and a tab has no picture.
fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_and_wrapping() {
        assert_eq!(clip("short", 5), "short");
        assert_eq!(clip("longer", 5), "lon..");
        assert_eq!(clip("to be or", 6), "to b..");
        assert_eq!(clip("to  be", 5), "to..");
        assert_eq!(clip("a\nb", 5), "a b");
        assert_eq!(clip("abc", 1), ".");
        assert_eq!(clip("abc", 0), "");
        assert_eq!(clip_middle("k51qzi5uqu5d", 8), "k51..u5d");
        assert_eq!(wrap("a disk is full", 8, 2, &WORDS), ["a disk", "is full"]);
        assert_eq!(wrap("a disk is full", 6, 2, &WORDS), ["a disk", "is f.."]);
        assert_eq!(
            wrap("192.168.1.7:8080", 12, 3, &ADDRESS),
            ["192.168.1.7", ":8080"]
        );
        assert_eq!(
            wrap("averyveryverylongword", 8, 2, &WORDS),
            ["averyver", "yveryl.."]
        );
        assert_eq!(wrap("", 8, 2, &WORDS), Vec::<String>::new());
    }
}
