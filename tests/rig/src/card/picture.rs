//! What comes in at the HDMI socket.

use jpeg_encoder::{ColorType, Encoder};

use super::{Mode, Pixels};

/// Positions of the moving bar: pictures are made once.
const POSITIONS: u16 = 4;

/// Quality of the compressed pictures.
const QUALITY: u8 = 60;

/// The pictures of one mode as they go over the wire.
#[derive(Debug)]
pub(super) struct Pictures {
    dark: Vec<Vec<u8>>,
    flash: Vec<u8>,
}

impl Pictures {
    pub(super) fn new(mode: &Mode) -> Pictures {
        let render = |luma: &dyn Fn(u16) -> u8| match mode.pixels {
            Pixels::Yuy2 => yuy2(mode, luma),
            Pixels::Mjpeg => jpeg(mode, luma),
        };
        let bar = |position: u16| {
            let left = mode.width / POSITIONS * position;
            render(&|x| {
                if (left..left + mode.width / 8).contains(&x) {
                    160
                } else {
                    40
                }
            })
        };
        Pictures {
            dark: (0..POSITIONS).map(bar).collect(),
            flash: render(&|_| 235),
        }
    }

    /// The picture with a number.
    pub(super) fn get(&self, number: u64, flash: bool) -> &[u8] {
        if flash {
            &self.flash
        } else {
            &self.dark[number as usize % self.dark.len()]
        }
    }
}

fn yuy2(mode: &Mode, luma: &dyn Fn(u16) -> u8) -> Vec<u8> {
    let row: Vec<u8> = (0..mode.width).flat_map(|x| [luma(x), 128]).collect();
    row.repeat(usize::from(mode.height))
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
