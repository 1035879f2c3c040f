//! What is watched, measured and left out on the way through the capture pipeline.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;
use stream::input::RateMeter;
use stream::status::VideoFormat;
use stream::whole::{Coded, Wholeness};
use tokio::sync::mpsc;

use super::Counts;
use crate::matrix::{Matrix, Wanted};
use crate::slate::raw_video_caps;
use crate::{Config, Event};

/// Counts what goes into the decoder.
pub(super) fn count_coded(decode: &gst::Element, counts: &Arc<Counts>) -> Result<(), String> {
    let pad = decode.static_pad("sink").ok_or("no decoder's pad")?;
    let counts = counts.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counts.coded.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// What raw pictures become on their way to the conductor.
#[derive(Clone)]
pub(super) struct Raw {
    filter: gst::Element,
    config: Config,
    pub(super) wanted: Wanted,
}

impl Raw {
    pub(super) fn new(
        pipeline: &gst::Pipeline,
        config: &Config,
        wanted: &Wanted,
    ) -> Result<Raw, String> {
        Ok(Raw {
            filter: pipeline.by_name("raw").ok_or("element is missing")?,
            config: config.clone(),
            wanted: wanted.clone(),
        })
    }

    pub(super) fn set(&self, matrix: Matrix) {
        let caps: Result<gst::Caps, _> = raw_video_caps(&self.config, matrix).parse();
        // Even the same caps make all elements before it negotiate anew, and some of them then say their caps again, which leads here.
        if let Ok(caps) = caps
            && self.filter.property::<gst::Caps>("caps") != caps
        {
            self.filter.set_property("caps", caps);
        }
    }
}

/// Reports the picture format before any scaling.
pub(super) fn watch_format(
    pipeline: &gst::Pipeline,
    raw: &Raw,
    events: &mpsc::Sender<Event>,
) -> Result<(), String> {
    let (raw, events) = (raw.clone(), events.clone());
    let pad = pipeline
        .by_name("input")
        .and_then(|input| input.static_pad("sink"))
        .ok_or("no input pad")?;
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
            && let Some(format) = format_of(caps.caps())
        {
            raw.set((raw.wanted.get()).unwrap_or_else(|| Matrix::of(caps.caps())));
            let _ = events.try_send(Event::Format(format));
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Measures the rate before anything is lost: what a card says of its rate is what it can do, not what its source sends.
pub(super) fn measure_rate(
    pipeline: &gst::Pipeline,
    events: &mpsc::Sender<Event>,
) -> Result<(), String> {
    let pad = pipeline.by_name("card").and_then(|it| it.static_pad("src"));
    let (events, meter) = (events.clone(), Mutex::new((RateMeter::default(), None)));
    let probe = move |buffer: &gst::BufferRef| {
        let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
        let (meter, told) = &mut *meter;
        // v4l2src puts the driver's number of the picture there.
        let number = Some(buffer.offset());
        if let Some(at) = buffer.pts()
            && let Some(rate) = meter.push(at.into(), number)
            && *told != Some(rate)
            && events.try_send(Event::Rate(rate)).is_ok()
        {
            *told = Some(rate);
        }
    };
    pad.ok_or("no card's pad")?
        .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer() {
                probe(buffer);
            }
            gst::PadProbeReturn::Ok
        });
    Ok(())
}

/// Leaves out pictures that come broken while most are whole: the last one stays. A decoder would show the rest of one in grey.
pub(super) fn leave_out_broken(
    pipeline: &gst::Pipeline,
    events: &mpsc::Sender<Event>,
) -> Result<(), String> {
    let pad = pipeline.by_name("card").and_then(|it| it.static_pad("src"));
    let (events, wholeness) = (events.clone(), Mutex::new((Wholeness::default(), None)));
    let is_whole = move |pad: &gst::Pad, buffer: &gst::BufferRef| {
        let caps = pad.current_caps();
        let is_jpeg = caps.is_some_and(|caps| {
            (caps.structure(0)).is_some_and(|structure| structure.name() == "image/jpeg")
        });
        let bytes = is_jpeg.then(|| buffer.map_readable().ok()).flatten();
        let coded = Coded {
            marked: buffer.flags().contains(gst::BufferFlags::CORRUPTED),
            jpeg: bytes.as_ref().map(|bytes| bytes.as_slice()),
        };
        let mut wholeness = wholeness.lock().unwrap_or_else(PoisonError::into_inner);
        let (wholeness, told) = &mut *wholeness;
        let whole = wholeness.push(buffer.pts().unwrap_or_default().into(), coded);
        if let Some(share) = wholeness.share()
            && *told != Some(share)
            && events.try_send(Event::Broken(share)).is_ok()
        {
            *told = Some(share);
        }
        whole
    };
    pad.ok_or("no card's pad")?
        .add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            match info.buffer().is_none_or(|buffer| is_whole(pad, buffer)) {
                true => gst::PadProbeReturn::Ok,
                false => gst::PadProbeReturn::Drop,
            }
        });
    Ok(())
}

/// A card whose sound stalls has the kernel give up a read after 1.1 times the ring's length (EIO, `wait_for_avail` in
/// `sound/core/pcm_lib.c`), and alsasrc 1.22 then hands on what has lain in the ring: a scrap of old sound, again and again. What
/// comes after a pause longer than the ring does not go on from before anyhow.
pub(super) fn leave_out_old_sound(pipeline: &gst::Pipeline) -> Result<(), String> {
    let sound = pipeline.by_name("sound").ok_or("no card's sound")?;
    let pad = sound.static_pad("src").ok_or("no sound's pad")?;
    let (sound, last) = (sound.downgrade(), Mutex::new(None::<Instant>));
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let ring = sound
            .upgrade()
            .map(|sound| sound.property::<i64>("actual-buffer-time"))
            .and_then(|micros| u64::try_from(micros).ok())
            .map_or(Duration::MAX, Duration::from_micros);
        let now = Instant::now();
        let before = last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(now);
        match before {
            Some(before) if now - before > ring => gst::PadProbeReturn::Drop,
            _ => gst::PadProbeReturn::Ok,
        }
    });
    Ok(())
}

fn format_of(caps: &gst::CapsRef) -> Option<VideoFormat> {
    let structure = caps.structure(0)?;
    let rate = structure.get::<gst::Fraction>("framerate").ok();
    Some(VideoFormat {
        width: structure.get::<i32>("width").ok()?.try_into().ok()?,
        height: structure.get::<i32>("height").ok()?.try_into().ok()?,
        fps_num: rate.map_or(0, |rate| rate.numer()).max(0) as u32,
        fps_den: rate.map_or(1, |rate| rate.denom()).max(1) as u32,
    })
}
