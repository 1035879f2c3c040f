//! The panel as an image file: for the operator's page, for the README, and for tests whose pictures a person has looked at.

use stream::screen::{HEIGHT, Picture, WIDTH};

/// Dark glass, RGB.
const DARK: [u8; 3] = [6, 8, 12];
/// A lit pixel at full contrast, RGB: the light blue of the usual panels.
const LIT: [u8; 3] = [150, 215, 255];

/// PNG of a picture in which each pixel is a square of `scale` pixels (at least 1), coloured like an OLED.
///
/// Contrast is shown, but more gently than glass does it: a dimmed picture stays readable on a bright monitor.
pub fn encode(picture: &Picture, scale: u32) -> Vec<u8> {
    let scale = scale.max(1);
    let mut rows = Vec::new();
    for y in 0..HEIGHT {
        let mut row = vec![0_u8; (WIDTH * scale).div_ceil(8) as usize];
        for x in (0..WIDTH * scale).filter(|x| picture.frame.get(x / scale, y)) {
            row[x as usize / 8] |= 0x80 >> (x % 8);
        }
        for _ in 0..scale {
            rows.extend_from_slice(&row);
        }
    }

    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, WIDTH * scale, HEIGHT * scale);
    encoder.set_color(::png::ColorType::Indexed);
    encoder.set_depth(::png::BitDepth::One);
    encoder.set_palette([DARK, shade(picture.contrast)].concat());
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&rows))
        .expect("the rows have the size that the header says, and a Vec takes every byte");
    bytes
}

/// Colour of a lit pixel: two fifths of [`LIT`] at contrast 0, all of it from 0xcf on.
fn shade(contrast: u8) -> [u8; 3] {
    let share = 0.4 + 0.6 * (f32::from(contrast) / f32::from(0xcf_u8)).min(1.0);
    LIT.map(|channel| (f32::from(channel) * share) as u8)
}
