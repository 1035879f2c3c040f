//! One picture of the panel in memory.

use std::{convert::Infallible, fmt};

use embedded_graphics::{
    Pixel,
    draw_target::DrawTarget,
    geometry::{OriginDimensions, Size},
    pixelcolor::BinaryColor,
};

/// Width of the glass in pixels.
pub const WIDTH: u32 = 128;
/// Height of the glass in pixels.
pub const HEIGHT: u32 = 64;

const BYTES: usize = (WIDTH * HEIGHT / 8) as usize;

/// 128×64 pixels of one bit, lit or dark. Drawing outside it has no effect.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Box<[u8; BYTES]>,
}

impl Frame {
    /// Whether a pixel is lit; outside it is dark.
    pub fn get(&self, x: u32, y: u32) -> bool {
        Self::position(x, y).is_some_and(|(byte, mask)| self.bytes[byte] & mask != 0)
    }

    /// The picture as an SSD1306 takes it in horizontal addressing mode (datasheet, 8.7): 8 pages of 128 bytes, a byte is
    /// a column of 8 pixels, its lowest bit the upper one.
    pub fn as_bytes(&self) -> &[u8; BYTES] {
        &self.bytes
    }

    fn position(x: u32, y: u32) -> Option<(usize, u8)> {
        (x < WIDTH && y < HEIGHT).then(|| ((y / 8 * WIDTH + x) as usize, 1 << (y % 8)))
    }
}

impl Default for Frame {
    /// All dark.
    fn default() -> Frame {
        Frame {
            bytes: Box::new([0; BYTES]),
        }
    }
}

impl fmt::Debug for Frame {
    /// Two rows of pixels in a line of half blocks: a failed test shows the picture.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Frame")?;
        for y in (0..HEIGHT).step_by(2) {
            let line: String = (0..WIDTH)
                .map(|x| match (self.get(x, y), self.get(x, y + 1)) {
                    (false, false) => ' ',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (true, true) => '█',
                })
                .collect();
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl OriginDimensions for Frame {
    fn size(&self) -> Size {
        Size::new(WIDTH, HEIGHT)
    }
}

impl DrawTarget for Frame {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(point, color) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y)) else {
                continue;
            };
            if let Some((byte, mask)) = Self::position(x, y) {
                match color {
                    BinaryColor::On => self.bytes[byte] |= mask,
                    BinaryColor::Off => self.bytes[byte] &= !mask,
                }
            }
        }
        Ok(())
    }
}
