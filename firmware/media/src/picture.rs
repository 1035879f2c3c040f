//! Looking at raw pictures, a sample here and there.

use gst_video::prelude::*;
use stream::picture::{LumaGrid, TILES};

/// Samples of a tile in each direction: 37 000 of a picture, whatever its size.
const SAMPLES: usize = 4;

/// Mean luma of each tile of a picture that begins with a plane of 8 bit luma (NV12, I420); `None` if it cannot be read.
/// Cheap enough for every picture.
pub fn luma_grid(buffer: &gst::BufferRef, info: &gst_video::VideoInfo) -> Option<LumaGrid> {
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).ok()?;
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let stride = usize::try_from(frame.plane_stride()[0]).ok()?;
    let luma = frame.plane_data(0).ok()?;
    if width == 0 || height == 0 || luma.len() < stride * (height - 1) + width {
        return None;
    }
    // The middle of each of `SAMPLES` equal pieces of each tile.
    let place = |tile: usize, sample: usize, tiles: usize, length: usize| {
        (2 * (tile * SAMPLES + sample) + 1) * length / (2 * tiles * SAMPLES)
    };
    Some(LumaGrid::new(|column, row| {
        let mut sum = 0;
        for j in 0..SAMPLES {
            let line = &luma[place(row, j, TILES.1, height) * stride..];
            for i in 0..SAMPLES {
                sum += u32::from(line[place(column, i, TILES.0, width)]);
            }
        }
        (sum / (SAMPLES * SAMPLES) as u32) as u8
    }))
}

/// What [`luma_grid`] needs to know of the pictures between capture and programme.
pub(crate) fn raw_video_info(width: u16, height: u16) -> Result<gst_video::VideoInfo, String> {
    gst_video::VideoInfo::builder(
        gst_video::VideoFormat::I420,
        u32::from(width),
        u32::from(height),
    )
    .build()
    .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of a pattern of GStreamer's.
    fn picture(pattern: &str, width: u16, height: u16) -> LumaGrid {
        gst::init().unwrap();
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc num-buffers=1 pattern={pattern} ! video/x-raw,format=I420,width={width},height={height} ! appsink name=sink"
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let sink = pipeline.by_name("sink").unwrap();
        let sink = sink.downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let sample = sink.pull_sample().unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        luma_grid(
            sample.buffer().unwrap(),
            &raw_video_info(width, height).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn the_luma_of_pictures_of_every_size_is_read() {
        // 162 is no multiple of a stride's alignment, 2 is less than the grid.
        for (width, height) in [(1280, 720), (1920, 1080), (162, 90), (320, 180), (2, 2)] {
            assert_eq!(picture("black", width, height).mean(), 16.0);
            assert_eq!(picture("white", width, height).mean(), 235.0);
        }
        let snow = picture("snow", 1280, 720).mean();
        assert!((100.0..150.0).contains(&snow), "{snow}");
    }

    #[test]
    fn a_buffer_that_is_too_small_is_not_read() {
        gst::init().unwrap();
        let buffer = gst::Buffer::with_size(100).unwrap();
        assert_eq!(luma_grid(&buffer, &raw_video_info(320, 180).unwrap()), None);
    }
}
