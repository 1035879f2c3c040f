//! The only user of GStreamer: from the capture card to encoded pictures and sound.
//!
//! Two pipelines and a conductor between them (`DESIGN`, decision 1). *Capture* is restartable and ends in two appsinks with
//! raw video and audio on one clock. The *conductor*, a thread, places both on the programme's timeline
//! ([`stream::timeline`]) and fills what is missing. *Programme* encodes and never stops while on air. A dead card, a
//! change of resolution or a stall is an event in the conductor, not a broken pipeline.

mod capture;
pub mod cards;
mod closing;
mod conductor;
mod encoded;
pub mod encoder;
mod jpeg;
mod matrix;
mod observer;
pub mod picture;
mod programme;
pub mod signal;
mod slate;
mod timecode;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use gst::prelude::*;
use stream::encoder::Choice;
use stream::media::{AccessUnit, AudioConfig, AudioFrame, Rendition, VideoConfig};
use stream::picture::LumaGrid;
use stream::self_test::Observation;
use stream::status::{NoCard, Signal, VideoFormat};
use tokio::sync::mpsc;

/// What the box captures.
#[derive(Debug, Clone)]
pub enum Source {
    /// A moving test picture with a running clock, also for programs, and a beep every second.
    Test,
    /// A recording, played in a loop in real time.
    File(PathBuf),
    /// A capture card, looked for whenever capturing begins anew.
    Card(cards::Finder),
    /// A flash and a beep, under a test's control. No setting of the box leads here.
    Signal(signal::Handle),
}

#[derive(Debug, Clone)]
pub struct Config {
    /// The event's name, for the slate.
    pub name: String,
    pub source: Source,
    /// Pixels, even.
    pub width: u16,
    /// Pixels, even.
    pub height: u16,
    /// Frames per second.
    pub fps: u32,
    /// kbit/s.
    pub video_bitrate_kbps: u32,
    /// Until [`Media::set_encoder`].
    pub encoder: Choice,
    /// Encode the same pictures once more, smaller.
    pub low: Option<LowVideo>,
    /// kbit/s.
    pub audio_bitrate_kbps: u32,
    /// Distance of forced keyframes.
    pub segment: Duration,
    /// How much later than captured pictures are shown against the sound, for a card whose sound is late; negative: earlier.
    pub av_offset_ms: i32,
}

/// The smaller of two videos. It has the frame rate of the other, so that both have a picture wherever a segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowVideo {
    /// Pixels, even.
    pub width: u16,
    /// Pixels, even.
    pub height: u16,
    /// kbit/s.
    pub bitrate_kbps: u32,
}

/// What happens in the media pipelines, in order. `run` is the number given to [`Media::start_programme`].
#[derive(Debug)]
pub enum Event {
    /// Format of the picture at the input.
    Format(VideoFormat),
    /// How many pictures a second the card captures, by its own timestamps: once that is known, and when it has changed.
    Rate(f64),
    /// How many of a hundred pictures come broken, when that has changed, and of each life of a card as soon as it is known; 0 where it
    /// is not worth a word.
    Broken(u32),
    /// Levels of 100 ms, left and right, dBFS.
    Levels {
        peak: [f32; 2],
        rms: [f32; 2],
    },
    Signal(Signal),
    /// The picture at the input, ten times a second while there is one.
    Picture(LumaGrid),
    /// The card that is captured from now on.
    Card(cards::Card),
    /// What is done to a card that is there and gives no pictures; `None` when it gives some again.
    Reviving(Option<String>),
    /// Why a card's sound is left out, and what to do: its pictures go on without it. `None` when it is captured.
    NoSound(Option<String>),
    /// The capture broke and is being restarted.
    CaptureFailed {
        why: String,
        /// Where there is no card to capture from; then `why` says what to do.
        no_card: Option<NoCard>,
    },
    VideoConfig {
        run: u64,
        rendition: Rendition,
        config: VideoConfig,
    },
    AudioConfig {
        run: u64,
        config: AudioConfig,
    },
    Video {
        run: u64,
        rendition: Rendition,
        unit: AccessUnit,
    },
    Audio {
        run: u64,
        frame: AudioFrame,
    },
    /// All frames have been delivered after [`Media::end_programme`].
    ProgrammeEnded {
        run: u64,
    },
    /// The encoder's pipeline failed or got stuck, and is gone.
    ProgrammeFailed {
        run: u64,
        why: String,
    },
    /// The encoder made something that does not say where it belongs.
    Unplaceable {
        run: u64,
    },
    /// What encodes the picture from the next programme on.
    Encoder(Choice),
    /// So many pictures were left out because the encoder did not keep up.
    PicturesDropped(u64),
    /// How sound and picture go together, once a second.
    Sync(Sync),
    /// What was seen and heard, while the self-test asks for it.
    Observed(Observation),
}

/// How well the clocks of sound and picture go together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sync {
    /// See [`stream::clock::SampleClock::drift_ppm`].
    pub drift_ppm: Option<f64>,
    /// On air only, see [`stream::timeline::Timeline::placement_error`].
    pub error_ms: Option<f64>,
}

/// Why the media pipelines cannot be started at all. One line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("GStreamer does not start: {0}; reinstall libgstreamer1.0-0")]
    Init(String),
    #[error("GStreamer element {element} is missing: install {package}")]
    MissingElement {
        element: &'static str,
        package: &'static str,
    },
    #[error("clip {}: {why}; name a recording with video in [capture] file", path.display())]
    Clip { path: PathBuf, why: String },
    #[error("the slate cannot be drawn: {0}")]
    Slate(String),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Commands to the conductor.
#[derive(Debug)]
enum Control {
    Start {
        run: u64,
    },
    End,
    Drop,
    Mute(bool),
    VideoBitrate {
        kbps: u32,
    },
    Encoder(Choice),
    /// The programme with this number ended or failed by itself.
    Gone {
        run: u64,
    },
    Trim {
        ms: i32,
    },
    Observe(bool),
}

/// Whether this recording could take a card's place; `encoded` is one for [`Media::start_encoded`]. It is played to its first picture.
pub fn check_recording(file: &Path, encoded: bool) -> Result<(), StartError> {
    gst::init().map_err(|error| StartError::Init(error.to_string()))?;
    if !encoded {
        return capture::check_clip(file);
    }
    check(&[("qtdemux", GOOD), ("h264parse", BAD), ("aacparse", GOOD)])?;
    encoded::check(file).map_err(|why| StartError::Clip {
        path: file.into(),
        why,
    })
}

/// Inputs that wait for the conductor: half a second of video and audio together. More waiting means that it hangs,
/// and then pictures are worth nothing.
const CONDUCTOR_QUEUE: usize = 64;

/// Handle of the running capture and conductor. Dropping it without [`shutdown`](Self::shutdown) leaves the threads to the
/// end of the process.
#[derive(Debug)]
pub struct Media {
    control: Sender<Control>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Media {
    /// Checks that all elements and the clip are there, then starts capturing. Events go to `events`, which is bounded: a
    /// receiver that does not keep up holds the encoder back and the conductor drops pictures.
    pub fn start(config: Config, events: mpsc::Sender<Event>) -> Result<Media, StartError> {
        gst::init().map_err(|error| StartError::Init(error.to_string()))?;
        check_elements(&config)?;
        if let Source::File(path) = &config.source {
            check_recording(path, false)?;
        }
        let slate = slate::draw(&config).map_err(StartError::Slate)?;
        let info =
            picture::raw_video_info(config.width, config.height).map_err(StartError::Slate)?;
        let (control, commands) = channel();
        let (captured, inputs) = sync_channel(CONDUCTOR_QUEUE);
        let stop = Arc::new(AtomicBool::new(false));
        let wanted = matrix::Wanted::default();
        let capture = {
            let (config, wanted) = (config.clone(), wanted.clone());
            let (captured, events, stop) = (captured.clone(), events.clone(), stop.clone());
            std::thread::Builder::new()
                .name("capture".into())
                .spawn(move || capture::run(&config, &wanted, &captured, &events, &stop))?
        };
        let conductor = {
            let (control, stop) = (control.clone(), stop.clone());
            // A capture that dies is an input that is missing: slate goes on.
            std::thread::Builder::new()
                .name("conductor".into())
                .spawn(move || {
                    conductor::Conductor::new(config, slate, info, wanted, control, events)
                        .run(&commands, &inputs, &stop);
                    drop(captured);
                })?
        };
        Ok(Media {
            control,
            stop,
            threads: vec![capture, conductor],
        })
    }

    /// In place of [`start`](Self::start): publishes an MP4 as it is encoded, in real time, from its beginning with each programme.
    /// H.264 without B-frames and with a keyframe wherever a segment shall begin, and AAC-LC, 48 kHz stereo.
    pub fn start_encoded(file: &Path, events: mpsc::Sender<Event>) -> Result<Media, StartError> {
        check_recording(file, true)?;
        let (control, commands) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (file, stop) = (file.to_owned(), stop.clone());
            std::thread::Builder::new()
                .name("encoded".into())
                .spawn(move || encoded::run(&file, &commands, &events, &stop))?
        };
        Ok(Media {
            control,
            stop,
            threads: vec![thread],
        })
    }

    /// Builds the programme pipeline and starts a timeline. One that runs is dropped.
    pub fn start_programme(&self, run: u64) {
        self.command(Control::Start { run });
    }

    /// Lets the programme deliver what it has; [`Event::ProgrammeEnded`] follows.
    pub fn end_programme(&self) {
        self.command(Control::End);
    }

    /// Ends the programme without waiting for what it still holds.
    pub fn drop_programme(&self) {
        self.command(Control::Drop);
    }

    /// Puts silence in the place of the sound, with a short fade, or takes it away; holds for all programmes that follow.
    pub fn mute(&self, muted: bool) {
        self.command(Control::Mute(muted));
    }

    /// Another bitrate for the picture, with the same init segment, from one of the next pictures on; holds for all
    /// programmes that follow.
    pub fn set_video_bitrate(&self, kbps: u32) {
        self.command(Control::VideoBitrate { kbps });
    }

    /// Another encoder, from the next programme on.
    pub fn set_encoder(&self, choice: Choice) {
        self.command(Control::Encoder(choice));
    }

    /// Changes [`Config::av_offset_ms`], on air without a step.
    pub fn trim(&self, ms: i32) {
        self.command(Control::Trim { ms });
    }

    /// Begins or ends [`Event::Observed`].
    pub fn observe(&self, wanted: bool) {
        self.command(Control::Observe(wanted));
    }

    fn command(&self, control: Control) {
        let _ = self.control.send(control);
    }

    /// Stops both pipelines and waits for the threads.
    pub fn shutdown(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.control);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

const BASE: &str = "gstreamer1.0-plugins-base";
const GOOD: &str = "gstreamer1.0-plugins-good";
const BAD: &str = "gstreamer1.0-plugins-bad";

/// Elements by source with the Debian package that has them.
fn check_elements(config: &Config) -> Result<(), StartError> {
    let mut needed = vec![
        ("appsrc", BASE),
        ("videoconvert", BASE),
        ("videoscale", BASE),
        ("videorate", BASE),
        ("videotestsrc", BASE),
        ("audioconvert", BASE),
        ("audioresample", BASE),
        ("level", GOOD),
        ("textoverlay", "gstreamer1.0-x"),
        ("x264enc", "gstreamer1.0-plugins-ugly"),
        ("h264parse", BAD),
        ("aacparse", GOOD),
    ];
    match config.source {
        Source::Test => needed.extend([("audiotestsrc", BASE), ("clockoverlay", "gstreamer1.0-x")]),
        Source::Signal(_) => {}
        Source::File(_) => needed.push(("decodebin", BASE)),
        Source::Card(_) => needed.extend([
            ("v4l2src", GOOD),
            ("alsasrc", "gstreamer1.0-alsa"),
            ("capssetter", GOOD),
            ("decodebin", BASE),
        ]),
    }
    check(&needed)?;
    if programme::AacEncoder::find().is_none() {
        return Err(StartError::MissingElement {
            element: "avenc_aac",
            package: "gstreamer1.0-libav",
        });
    }
    Ok(())
}

/// Whether there is such an element. It is loaded now, not at GO LIVE: from a slow card that takes a while. One that is there and does
/// not load is none.
fn is_there(element: &str) -> bool {
    gst::ElementFactory::find(element).is_some_and(|factory| factory.load().is_ok())
}

fn check(needed: &[(&'static str, &'static str)]) -> Result<(), StartError> {
    let missing = |(element, _): &&(&str, _)| !is_there(element);
    match needed.iter().find(missing) {
        Some(&(element, package)) => Err(StartError::MissingElement { element, package }),
        None => Ok(()),
    }
}
