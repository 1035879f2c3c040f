//! The time in the test picture, for programs: a strip of black and white cells along its top that says at which millisecond
//! the picture was made. Whoever sees the picture later knows how late it is, measured from the picture itself.
//!
//! The cells are 32 of equal width, from the left: 16 bits of the wall clock's milliseconds, the highest first, white for one; then
//! the same bits inverted, so that a damaged strip is noticed.

use std::time::{SystemTime, UNIX_EPOCH};

use gst::prelude::*;
use gst_video::prelude::*;

const BITS: usize = 16;

/// Rows of the picture for one row of cells: enough for the encoder to keep them apart from what lies below.
const SHARE: usize = 30;
const LEAST_ROWS: usize = 8;

/// Neither colour.
const GREY: u8 = 128;

/// Paints the time into every picture that leaves the element.
pub(crate) fn stamp(element: &gst::Element) -> Result<(), String> {
    let pad = element.static_pad("src").ok_or("no pad to stamp")?;
    pad.add_probe(gst::PadProbeType::BUFFER, |pad, info| {
        let picture = pad.current_caps();
        let picture = picture.and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok());
        if let (Some(picture), Some(buffer)) = (picture, info.buffer_mut()) {
            let frame =
                gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), &picture);
            if let Ok(mut frame) = frame {
                let (width, height) = (frame.width() as usize, frame.height() as usize);
                let [luma, blue, red] = [0, 1, 2].map(|plane: usize| {
                    let stride = frame.plane_stride().get(plane);
                    stride.map_or(0, |stride| stride.unsigned_abs() as usize)
                });
                if let Ok(samples) = frame.plane_data_mut(0) {
                    paint(samples, luma, width, height, milliseconds());
                }
                // I420: a plane of half the rows for each colour.
                for (plane, stride) in [(1, blue), (2, red)] {
                    if let Ok(samples) = frame.plane_data_mut(plane) {
                        for row in samples.chunks_mut(stride.max(1)).take(rows(height) / 2) {
                            row.fill(GREY);
                        }
                    }
                }
            }
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// The clock's milliseconds, as many as there is room for.
fn milliseconds() -> u16 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    (since.unwrap_or_default().as_millis() & u128::from(u16::MAX)) as u16
}

/// Rows of the strip, even.
fn rows(height: usize) -> usize {
    (height / SHARE).max(LEAST_ROWS).next_multiple_of(2)
}

fn paint(luma: &mut [u8], stride: usize, width: usize, height: usize, time: u16) {
    for row in luma.chunks_mut(stride.max(1)).take(rows(height)) {
        for (x, sample) in row.iter_mut().take(width).enumerate() {
            let cell = x * 2 * BITS / width;
            let bit = time >> (BITS - 1 - cell % BITS) & 1 == 1;
            // Video levels of black and white (BT.709).
            *sample = if bit == (cell < BITS) { 235 } else { 16 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the strip as another program would: the middle of each cell.
    fn read(luma: &[u8], stride: usize, width: usize) -> Option<u16> {
        let bit = |cell: usize| luma[3 * stride + (2 * cell + 1) * width / (4 * BITS)] > 126;
        let mut time = 0;
        for cell in 0..BITS {
            if bit(cell) == bit(cell + BITS) {
                return None;
            }
            time = time << 1 | u16::from(bit(cell));
        }
        Some(time)
    }

    #[test]
    fn the_time_is_read_back_from_pictures_of_every_size() {
        for (width, height) in [(160, 90), (640, 360), (1280, 720), (1918, 1080)] {
            for time in [0, 1, 0x8000, 0x5555, 0xffff, 12_345] {
                let stride = width + 26;
                let mut luma = vec![90; stride * height];
                paint(&mut luma, stride, width, height, time);
                assert_eq!(read(&luma, stride, width), Some(time), "{width}x{height}");
                assert_eq!(luma[stride - 1], 90, "nothing beside the picture");
                assert_eq!(luma[stride * (height - 1)], 90, "nothing below the strip");
            }
        }
    }

    #[test]
    fn a_picture_without_a_strip_says_nothing() {
        assert_eq!(read(&[90; 1280 * 8], 1280, 1280), None);
    }
}
