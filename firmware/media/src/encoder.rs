//! The encoders of the picture as GStreamer's elements, and what they can do on this machine.
//!
//! Trying them out may hang in a driver and takes processor time, so it is done by a process of its own: the binary's hidden
//! command, which calls [`try_out`].

use std::time::Duration;

use gst::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use stream::encoder::{Encoder, Job, Preset, V4L2_PROFILE, budget, v4l2_bitrate, v4l2_controls};

const V4L2: &str = "v4l2h264enc";

/// As long as this the hardware may take to give its first picture; one that hangs gives none.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(5);

/// The hardware's encoder; it keeps its own copy of each picture: pictures of USB cards are not contiguous, and the slate is not
/// the driver's either, so `dmabuf-import` could not take them (`facts/gstreamer`, 6).
pub(crate) fn v4l2(job: &Job) -> String {
    let controls: Vec<String> = v4l2_controls(job.kbps)
        .iter()
        .map(|(name, value)| format!("{name}=(int){value}"))
        .collect();
    format!(
        "{V4L2} output-io-mode=mmap capture-io-mode=mmap extra-controls=\"controls,{}\"",
        controls.join(",")
    )
}

/// While it runs: the element passes the structure on at once (gstv4l2object.c, `PROP_EXTRA_CONTROLS`).
pub(crate) fn set_v4l2_bitrate(encoder: &gst::Element, kbps: u32) {
    let (name, value) = v4l2_bitrate(kbps);
    let controls = gst::Structure::builder("controls").field(name, value);
    encoder.set_property("extra-controls", controls.build());
}

pub(crate) fn x264(job: &Job, preset: Preset, segment: Duration) -> String {
    // A segment is at most bitrate × (its length + this): 1.25 times its nominal size (measured, `facts/gstreamer`, 6).
    let vbv = segment.as_millis() / 4;
    format!(
        "x264enc tune=zerolatency speed-preset={} bitrate={} vbv-buf-capacity={vbv} key-int-max=100000 option-string=\"scenecut=0\"",
        preset.name(),
        job.kbps
    )
}

/// What comes out of the encoder. Without level and profile the hardware's element negotiates nothing (linux#3974,
/// firmware#1701).
pub(crate) fn caps(encoder: Encoder, job: &Job) -> String {
    let level = job.level();
    match encoder {
        Encoder::V4l2h264enc => {
            format!("video/x-h264,profile=(string){V4L2_PROFILE},level=(string){level}")
        }
        Encoder::X264enc(_) => format!("video/x-h264,level=(string){level}"),
    }
}

/// What is to be tried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// All videos; the best first.
    pub jobs: Vec<Job>,
    pub segment: Duration,
    /// Try the hardware's encoder.
    pub v4l2: bool,
    /// Measure x264's presets, where the hardware's encoder is not to be had.
    pub x264: bool,
    /// Cores of the machine: presets beyond what it can afford are not measured.
    pub cores: usize,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Why the hardware's encoder is not used; `None` if it encodes.
    pub v4l2: Option<String>,
    /// Seconds of processor time for a second of all videos together.
    pub x264: Vec<(Preset, f64)>,
}

/// Whether this machine has the hardware's encoder at all: the element registers only where there is a device.
pub fn v4l2_exists() -> bool {
    gst::init().is_ok() && gst::ElementFactory::find(V4L2).is_some()
}

/// Tries the encoders. Takes seconds, and for ever where a driver hangs.
///
/// # Errors
/// GStreamer does not start.
pub fn try_out(trial: &Trial) -> Result<Findings, String> {
    gst::init().map_err(|error| error.to_string())?;
    let v4l2 = try_v4l2(trial).err();
    let mut x264 = Vec::new();
    if trial.x264 && v4l2.is_some() {
        for preset in Preset::ALL {
            let cost = cost(trial, preset)?;
            x264.push((preset, cost));
            if cost > budget(trial.cores) {
                break;
            }
        }
    }
    Ok(Findings { v4l2, x264 })
}

fn try_v4l2(trial: &Trial) -> Result<(), String> {
    if !trial.v4l2 {
        return Err("not wanted".into());
    }
    if !v4l2_exists() {
        return Err("this machine has none".into());
    }
    if let Some(why) = trial.jobs.iter().find_map(Job::unfit_for_v4l2) {
        return Err(format!("it is not made for {why}"));
    }
    // All at once, as on air: they share the hardware and its memory (CMA, which two of 1080p may exhaust: linux#3171).
    std::thread::scope(|scope| {
        let one = |job| move || run(Encoder::V4l2h264enc, &v4l2(job), job, job.fps);
        let runs: Vec<_> = trial.jobs.iter().map(|job| scope.spawn(one(job))).collect();
        runs.into_iter().try_for_each(|run| {
            let ended = run.join();
            ended.unwrap_or_else(|_| Err("the trial broke".into()))
        })
    })
}

/// Seconds of processor time for a second of all videos, x264 alone.
fn cost(trial: &Trial, preset: Preset) -> Result<f64, String> {
    let mut sum = 0.0;
    for job in &trial.jobs {
        let element = x264(job, preset, trial.segment);
        let before = processor_time();
        run(Encoder::X264enc(preset), &element, job, job.fps)?;
        sum += (processor_time() - before).as_secs_f64();
    }
    Ok(sum)
}

/// Of all threads of this process: unlike the time on the wall it does not depend on what else the machine does.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Encodes so many pictures of a lively scene and wants as many access units, of which the first is a keyframe.
fn run(encoder: Encoder, element: &str, job: &Job, pictures: u32) -> Result<(), String> {
    let Job {
        width, height, fps, ..
    } = job;
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=in format=time max-bytes=0 caps=\"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1,pixel-aspect-ratio=1/1,colorimetry=bt709,interlace-mode=progressive\" \
         ! {element} ! {} ! h264parse ! video/x-h264,stream-format=avc,alignment=au ! appsink name=out sync=false",
        caps(encoder, job)
    ))
    .map_err(|error| error.message().to_owned())?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline".to_owned())?;
    let result = feed(&pipeline, job, pictures);
    // A driver that hangs here hangs this process and nobody else.
    let _ = pipeline.set_state(gst::State::Null);
    result
}

fn feed(pipeline: &gst::Pipeline, job: &Job, pictures: u32) -> Result<(), String> {
    let input = (pipeline.by_name("in"))
        .and_then(|element| element.downcast::<gst_app::AppSrc>().ok())
        .ok_or("no appsrc")?;
    let output = (pipeline.by_name("out"))
        .and_then(|element| element.downcast::<gst_app::AppSink>().ok())
        .ok_or("no appsink")?;
    let scene = scene(usize::from(job.width), usize::from(job.height));
    pipeline
        .set_state(gst::State::Playing)
        .map_err(|_| "it does not start".to_owned())?;
    let frame = gst::ClockTime::SECOND / u64::from(job.fps);
    for number in 0..pictures as usize {
        let mut buffer = scene[number % scene.len()].clone();
        let meta = buffer.make_mut();
        meta.set_pts(frame * number as u64);
        meta.set_duration(frame);
        input
            .push_buffer(buffer)
            .map_err(|_| "it takes no pictures".to_owned())?;
    }
    let _ = input.end_of_stream();
    for number in 0..pictures {
        let sample = output
            .try_pull_sample(PATIENCE)
            .ok_or_else(|| format!("it made {number} of {pictures} pictures"))?;
        let delta = gst::BufferFlags::DELTA_UNIT;
        if number == 0 && sample.buffer().is_none_or(|it| it.flags().contains(delta)) {
            return Err("it does not begin with a keyframe".into());
        }
    }
    Ok(())
}

/// Pictures that move: a texture that is pushed along, with some grain. Text and faces cost less, confetti costs more.
fn scene(width: usize, height: usize) -> Vec<gst::Buffer> {
    const PICTURES: usize = 8;
    const STEP: usize = 3;
    let hash = |x: usize, y: usize| {
        let mixed = ((x as u64 * 0x9e37_79b9) ^ (y as u64 * 0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35);
        (mixed >> 24) as u8
    };
    let picture = |number: usize| {
        let mut bytes = vec![128; width * height * 3 / 2];
        for (y, row) in bytes[..width * height].chunks_mut(width).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                let block = hash((x + number * STEP) / 16, y / 16) / 2;
                let grain = hash(x + number * 7919, y) / 16;
                *pixel = 16 + block + grain;
            }
        }
        gst::Buffer::from_slice(bytes)
    };
    (0..PICTURES).map(picture).collect()
}
