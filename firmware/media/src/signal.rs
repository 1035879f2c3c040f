//! A capture device for tests: a flash and a beep at the same instant, and everything that can go wrong with a card.
//!
//! **Test seam**: only tests and the bench make a [`Handle`], no setting of the box leads here. From its two appsrcs on, its
//! pictures and sound go the way of every other source.
//!
//! The device lives in true time, nanoseconds since the handle was made. Near each whole second one picture is the first of
//! a *flash*, and the beep begins with the sample that was captured at the very instant of that picture. A picture of the
//! flash says by its luma how many milliseconds after that instant it was captured ([`FLASH_LUMA`]), so that an encoder
//! that leaves pictures out does not look like sound that is early.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use tokio::sync::watch;

/// Luma of the first picture of a flash; each millisecond later is darker by one.
pub const FLASH_LUMA: u8 = 235;
/// Length of flash and beep, nanoseconds.
pub const FLASH: u64 = 100_000_000;
/// Luma of the moving picture between flashes: brighter than the slate, darker than a flash.
pub const PICTURE_LUMA: [u8; 2] = [90, 110];

const SECOND: u64 = 1_000_000_000;
/// Samples in a block of sound.
const BLOCK: u64 = 480;
const RATE: f64 = 48_000.0;
/// A picture is delivered this much after it was captured, as by a card that buffers one or two; sound at its block's end.
const VIDEO_LATENCY: u64 = 45_000_000;
/// Capture timestamps begin here, so that jitter leaves them positive.
const BASE: u64 = 20_000_000;

/// What the device does now.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Without it the device breaks with an error and cannot be opened.
    pub plugged: bool,
    /// Delivers pictures.
    pub video: bool,
    /// Delivers sound.
    pub audio: bool,
    /// Pixels, multiples of four. A change takes effect in the middle of the next second, as does the frame rate's.
    pub size: (u32, u32),
    /// What it says of its colours, as GStreamer writes that; changes as the size does.
    pub colorimetry: &'static str,
    /// Frames per second, numerator and denominator.
    pub fps: (u64, u64),
    /// How much faster the sound's crystal is than the clock of the timestamps, parts per million.
    pub ppm: f64,
    /// Greatest error of each timestamp.
    pub jitter: Duration,
    /// How much later than its picture the card stamps sound, milliseconds; negative: how much later it stamps pictures.
    pub sound_late_ms: i32,
    /// Raising it makes the device fail once; it can be opened again at once.
    pub failures: u64,
    /// Raising it makes the device's streams end once.
    pub ends: u64,
    /// Which timestamps lie.
    pub lies: Lies,
    /// What goes wrong in the encoder, and in which run's.
    pub encoder: Option<(u64, EncoderFault)>,
}

impl Default for Signal {
    fn default() -> Signal {
        Signal {
            plugged: true,
            video: true,
            audio: true,
            size: (320, 180),
            colorimetry: "bt709",
            fps: (30, 1),
            ppm: 0.0,
            jitter: Duration::ZERO,
            sound_late_ms: 0,
            failures: 0,
            ends: 0,
            lies: Lies::default(),
            encoder: None,
        }
    }
}

/// Timestamps that cannot be: anything from zero to some hundred years, another with each buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lies {
    pub video: bool,
    pub audio: bool,
}

/// What can become of a video encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderFault {
    /// It reports an error.
    Fails,
    /// It hangs, and so does whoever waits for it, until the fault is taken away.
    Hangs,
}

/// The device's controls. Clones control the same device.
#[derive(Debug, Clone)]
pub struct Handle {
    signal: Arc<watch::Sender<Signal>>,
    made: Instant,
}

impl PartialEq for Handle {
    fn eq(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.signal, &other.signal)
    }
}

impl Eq for Handle {}

impl Handle {
    pub fn new(signal: Signal) -> Handle {
        Handle {
            signal: Arc::new(watch::Sender::new(signal)),
            made: Instant::now(),
        }
    }

    /// Changes what the device does from now on; returns the device's true time.
    pub fn set(&self, change: impl FnOnce(&mut Signal)) -> Duration {
        self.signal.send_modify(change);
        self.made.elapsed()
    }

    /// Lets the tests break the video encoder of run `run`.
    pub(crate) fn break_encoder(&self, encoder: &gst::Element, run: u64) -> Result<(), String> {
        let pad = encoder.static_pad("src").ok_or("no pad")?;
        let (control, encoder) = (self.signal.subscribe(), encoder.downgrade());
        let fault = move || {
            let fault = control.borrow().encoder;
            fault.filter(|(of, _)| *of == run).map(|(_, fault)| fault)
        };
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            match (fault(), encoder.upgrade()) {
                (Some(EncoderFault::Fails), Some(encoder)) => {
                    gst::element_error!(encoder, gst::StreamError::Encode, ["broken on purpose"]);
                }
                (Some(EncoderFault::Hangs), _) => {
                    while fault() == Some(EncoderFault::Hangs) {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
        Ok(())
    }

    pub(crate) fn description() -> (&'static str, &'static str) {
        (
            "appsrc name=flash is-live=true format=time ! queue leaky=downstream max-size-buffers=5",
            "appsrc name=beep is-live=true format=time caps=audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved ! queue",
        )
    }

    /// Begins one life of the device; it ends with the pipeline.
    pub(crate) fn open(&self, pipeline: &gst::Pipeline) -> Result<(), String> {
        let signal = self.signal.borrow().clone();
        if !signal.plugged {
            return Err("the test signal is unplugged".into());
        }
        let source = |name: &str| -> Result<gst_app::AppSrc, String> {
            let element = pipeline.by_name(name).ok_or("no appsrc")?;
            element.downcast().map_err(|_| "not an appsrc".to_owned())
        };
        let start = self.made.elapsed().as_nanos() as u64;
        let device = Device {
            made: self.made,
            start,
            control: self.signal.subscribe(),
            failures: signal.failures,
            ends: signal.ends,
            pipeline: pipeline.downgrade(),
            video: source("flash")?,
            audio: source("beep")?,
            grid: Grid {
                start,
                fps: signal.fps,
            },
            size: signal.size,
            colorimetry: signal.colorimetry,
            picture: 0,
            block_start: start as f64,
            // Any number but zero.
            random: 0x9e37_79b9_7f4a_7c15,
        };
        let thread = std::thread::Builder::new().name("test-signal".into());
        thread
            .spawn(move || device.run())
            .map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// When pictures are captured, true time in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Grid {
    start: u64,
    fps: (u64, u64),
}

impl Grid {
    fn time(&self, picture: u64) -> u64 {
        let (num, den) = self.fps;
        self.start + (u128::from(picture * den) * u128::from(SECOND) / u128::from(num)) as u64
    }

    /// How long after the flash that begins in this second `at` is; `None` outside of it.
    fn since_flash(&self, at: u64) -> Option<u64> {
        let second = at / SECOND * SECOND;
        let (num, den) = self.fps;
        let from_start = second.checked_sub(self.start)?;
        let estimate = u128::from(from_start) * u128::from(num) / u128::from(SECOND * den);
        let mut first = estimate as u64;
        while self.time(first) < second {
            first += 1;
        }
        at.checked_sub(self.time(first)).filter(|it| *it < FLASH)
    }
}

struct Device {
    made: Instant,
    /// True time at which this life began.
    start: u64,
    control: watch::Receiver<Signal>,
    failures: u64,
    ends: u64,
    pipeline: glib::WeakRef<gst::Pipeline>,
    video: gst_app::AppSrc,
    audio: gst_app::AppSrc,
    grid: Grid,
    size: (u32, u32),
    colorimetry: &'static str,
    /// Number of the next picture on the grid.
    picture: u64,
    /// True time of the next block's first sample; a fraction, because the crystal's error is one.
    block_start: f64,
    random: u64,
}

impl Device {
    fn run(mut self) {
        self.set_caps();
        loop {
            let signal = self.control.borrow().clone();
            let block_end = self.block_start + BLOCK as f64 * self.sample_length(&signal);
            let video_due = self.grid.time(self.picture) + VIDEO_LATENCY;
            let is_video = video_due as f64 <= block_end;
            let due = if is_video {
                video_due
            } else {
                block_end as u64
            };
            let due = self.made + Duration::from_nanos(due);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.pipeline.upgrade().is_none() {
                return;
            }
            if !signal.plugged || signal.failures != self.failures {
                gst::element_error!(
                    self.video,
                    gst::ResourceError::Read,
                    ["the test signal failed"]
                );
                return;
            }
            if signal.ends != self.ends {
                let _ = self.video.end_of_stream();
                let _ = self.audio.end_of_stream();
                return;
            }
            let pushed = if is_video {
                self.push_picture(&signal)
            } else {
                self.push_block(&signal)
            };
            if pushed.is_err() {
                return;
            }
        }
    }

    /// Nanoseconds of true time.
    fn sample_length(&self, signal: &Signal) -> f64 {
        SECOND as f64 / (RATE * (1.0 + signal.ppm / 1e6))
    }

    fn set_caps(&self) {
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "NV12")
            .field("width", self.size.0 as i32)
            .field("height", self.size.1 as i32)
            .field(
                "framerate",
                gst::Fraction::new(self.grid.fps.0 as i32, self.grid.fps.1 as i32),
            )
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .field("colorimetry", self.colorimetry)
            .field("interlace-mode", "progressive")
            .build();
        self.video.set_caps(Some(&caps));
    }

    fn push_picture(&mut self, signal: &Signal) -> Result<(), gst::FlowError> {
        let at = self.grid.time(self.picture);
        let changed = (signal.size, signal.colorimetry, signal.fps)
            != (self.size, self.colorimetry, self.grid.fps);
        // Far from a flash, whose place depends on the grid.
        if changed && (400_000_000..600_000_000).contains(&(at % SECOND)) {
            (self.size, self.colorimetry) = (signal.size, signal.colorimetry);
            self.grid = Grid {
                start: at,
                fps: signal.fps,
            };
            self.picture = 0;
            self.set_caps();
        }
        self.picture += 1;
        if !signal.video {
            return Ok(());
        }
        let pts = self.timestamp(at, signal.jitter, -signal.sound_late_ms, signal.lies.video);
        let mut buffer = gst::Buffer::from_mut_slice(self.draw(at));
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(pts);
        }
        self.video.push_buffer(buffer).map(|_| ())
    }

    /// NV12: a flash, or a bar that moves over a darker picture.
    fn draw(&self, at: u64) -> Vec<u8> {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let mut picture = vec![128; width * height * 3 / 2];
        let luma = &mut picture[..width * height];
        match self.grid.since_flash(at) {
            Some(since) => luma.fill(FLASH_LUMA - (since as f64 / 1e6).round() as u8),
            None => {
                luma.fill(PICTURE_LUMA[0]);
                let bar = width / 8;
                let left = (at / 10_000_000) as usize * 4 % (width - bar);
                for row in luma.chunks_exact_mut(width) {
                    row[left..left + bar].fill(PICTURE_LUMA[1]);
                }
            }
        }
        picture
    }

    fn push_block(&mut self, signal: &Signal) -> Result<(), gst::FlowError> {
        let (start, length) = (self.block_start, self.sample_length(signal));
        self.block_start += BLOCK as f64 * length;
        if !signal.audio {
            return Ok(());
        }
        let mut block = Vec::with_capacity(BLOCK as usize * 4);
        for sample in 0..BLOCK {
            let at = (start + sample as f64 * length) as u64;
            let value = self.grid.since_flash(at).map_or(0, |since| {
                let phase = since as f64 / SECOND as f64 * 1000.0;
                (26_000.0 * (std::f64::consts::TAU * phase).sin()) as i16
            });
            block.extend_from_slice(&value.to_le_bytes());
            block.extend_from_slice(&value.to_le_bytes());
        }
        let pts = self.timestamp(
            start as u64,
            signal.jitter,
            signal.sound_late_ms,
            signal.lies.audio,
        );
        let mut buffer = gst::Buffer::from_mut_slice(block);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(pts);
        }
        self.audio.push_buffer(buffer).map(|_| ())
    }

    /// What the card says when this was captured. Xorshift: the same in every run.
    fn timestamp(&mut self, at: u64, jitter: Duration, late_ms: i32, lies: bool) -> gst::ClockTime {
        let late = u64::from(late_ms.max(0).unsigned_abs()) * 1_000_000;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if lies {
            // Of every size, not just of the largest.
            return gst::ClockTime::from_nseconds(self.random >> (self.random % 60 + 1));
        }
        let jitter = jitter.as_nanos() as u64;
        let error = self.random % (2 * jitter + 1);
        gst::ClockTime::from_nseconds(at - self.start + BASE + late + error - jitter)
    }
}
