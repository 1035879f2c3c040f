//! The picture that stands in while the input is gone: the event's name, drawn once by GStreamer.

use gst::prelude::*;

use crate::Config;
use crate::matrix::Matrix;

/// Draws the slate in the programme's picture format. Its colours are so near to grey that both matrices make the same of them.
pub(crate) fn draw(config: &Config) -> Result<gst::Buffer, String> {
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=1 pattern=solid-color foreground-color=0xff1c2430 \
         ! video/x-raw,format=AYUV,width={},height={} \
         ! textoverlay name=name valignment=center halignment=center font-desc=\"Sans 28\" \
         ! textoverlay name=hint text=\"Back in a moment\" valignment=bottom halignment=center ypad={} font-desc=\"Sans 14\" \
         ! videoconvert ! {} ! appsink name=sink sync=false",
        config.width,
        config.height,
        config.height / 6,
        raw_video_caps(config, Matrix::Bt709),
    ))
    .map_err(|error| error.to_string())?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline".to_owned())?;
    let name = pipeline.by_name("name").ok_or("no overlay")?;
    // The overlay reads markup, and an event's name is not markup.
    name.set_property("text", gst::glib::markup_escape_text(&config.name));
    let sink = pipeline
        .by_name("sink")
        .and_then(|sink| sink.downcast::<gst_app::AppSink>().ok())
        .ok_or("no sink")?;
    let result = pipeline
        .set_state(gst::State::Playing)
        .map_err(|error| error.to_string())
        .and_then(|_| {
            let sample = sink.try_pull_sample(gst::ClockTime::from_seconds(10));
            sample
                .and_then(|sample| sample.buffer_owned())
                .ok_or_else(|| "no picture within 10 s".to_owned())
        })
        // The frame must not keep the pipeline's buffer pool alive.
        .and_then(|buffer| buffer.copy_deep().map_err(|error| error.to_string()));
    let _ = pipeline.set_state(gst::State::Null);
    result
}

/// Caps of the raw pictures between capture, conductor and programme. I420, because GStreamer has a short way to it from what cards
/// give: 1080p30 of YUY2 cost 0.9 % of a core, and 8.4 % to NV12 (`make bench-cost`). x264 takes both alike, and so does the Raspberry
/// Pi's encoder. Colours are always said: what a bridge (TC358743) claims of its own is nothing that encoder negotiates, and others
/// put `capssetter` before it for that (firmware#1885).
pub(crate) fn raw_video_caps(config: &Config, matrix: Matrix) -> String {
    format!(
        "video/x-raw,format=I420,width={},height={},pixel-aspect-ratio=1/1,colorimetry={},interlace-mode=progressive",
        config.width,
        config.height,
        matrix.colorimetry(),
    )
}
