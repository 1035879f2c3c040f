//! Pictures as they go over the wire.

use std::io;

use jpeg_encoder::{ColorType, Encoder};

use super::source;
use super::{Mode, Pixels, Source, Spoil};

/// Positions of the moving bar: pictures are made once.
const POSITIONS: u16 = 4;

/// Luma of the ground, the bar (an eighth of the width) and a flash. All are brighter than slate.
const DARK: u8 = 80;
const BAR: u8 = 160;
const FLASH: u8 = 235;
/// Luma of black.
const BLACK: u8 = 16;

/// Quality of the compressed pictures.
const QUALITY: u8 = 60;

/// The pictures of one mode.
#[derive(Debug)]
pub(super) enum Pictures {
    Bar {
        dark: Vec<Vec<u8>>,
        flash: Vec<u8>,
    },
    /// These in a row, and again.
    Loop(Vec<Vec<u8>>),
}

impl Pictures {
    pub(super) fn new(source: &Source, mode: &Mode) -> io::Result<Pictures> {
        Ok(match source {
            Source::FlashAndBeep => Pictures::bar(mode),
            Source::Black => Pictures::Loop(vec![render(mode, &|_| BLACK)]),
            Source::Clip { pictures, .. } => Pictures::Loop(source::pictures(pictures, mode)?),
        })
    }

    fn bar(mode: &Mode) -> Pictures {
        let bar = |position: u16| {
            let left = mode.width / POSITIONS * position;
            render(mode, &|x| {
                if (left..left + mode.width / 8).contains(&x) {
                    BAR
                } else {
                    DARK
                }
            })
        };
        Pictures::Bar {
            dark: (0..POSITIONS).map(bar).collect(),
            flash: render(mode, &|_| FLASH),
        }
    }

    /// The picture with a number.
    pub(super) fn get(&self, number: u64, flashes: bool) -> &[u8] {
        match self {
            Pictures::Bar { flash, .. } if flashes => flash,
            Pictures::Bar { dark: pictures, .. } | Pictures::Loop(pictures) => {
                &pictures[number as usize % pictures.len()]
            }
        }
    }
}

fn render(mode: &Mode, luma: &dyn Fn(u16) -> u8) -> Vec<u8> {
    match mode.pixels {
        Pixels::Yuy2 => yuy2(mode, luma),
        Pixels::Nv12 => nv12(mode, luma),
        Pixels::Mjpeg => jpeg(mode, luma),
    }
}

fn yuy2(mode: &Mode, luma: &dyn Fn(u16) -> u8) -> Vec<u8> {
    let row: Vec<u8> = (0..mode.width).flat_map(|x| [luma(x), 128]).collect();
    row.repeat(usize::from(mode.height))
}

fn nv12(mode: &Mode, luma: &dyn Fn(u16) -> u8) -> Vec<u8> {
    let row: Vec<u8> = (0..mode.width).map(luma).collect();
    let mut bytes = row.repeat(usize::from(mode.height));
    bytes.resize(bytes.len() / 2 * 3, 128);
    bytes
}

/// A picture as it comes over a bad cable.
pub(super) fn spoilt(picture: &[u8], how: Spoil) -> Vec<u8> {
    let (first, second) = picture.split_at(picture.len() / 2);
    match how {
        Spoil::Truncated => first.into(),
        Spoil::Headless => second.into(),
        Spoil::Garbled => {
            let mut bytes = picture.to_vec();
            // No marker begins with it.
            bytes[first.len()..]
                .iter_mut()
                .take(64)
                .for_each(|byte| *byte = 0x5a);
            bytes
        }
    }
}

fn jpeg(mode: &Mode, luma: &dyn Fn(u16) -> u8) -> Vec<u8> {
    // In colour, as the sticks' pictures are: a grey JPEG is another format.
    let row: Vec<u8> = (0..mode.width).flat_map(|x| [luma(x), 128, 128]).collect();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, QUALITY);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_1);
    encoder
        .encode(
            &row.repeat(usize::from(mode.height)),
            mode.width,
            mode.height,
            ColorType::Ycbcr,
        )
        .expect("the rows have the size of the mode");
    bytes
}
