//! The hardware's encoder, played by a stand-in: a bin with x264 in it that has the properties and the tempers of
//! `v4l2h264enc` on a Raspberry Pi, as its driver's source and its bug reports tell them (`stream::encoder`).

use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, Once};

use gst::glib;
use gst::subclass::prelude::*;
use stream::encoder::{Choice, Encoder as Kind, Job, Preset, Reason, V4L2_PROFILE};

use super::*;
use crate::encoder::{Findings, Trial, try_out};
use crate::signal::{Handle, Signal};

/// A forced keyframe comes so many pictures late.
const LATE: u32 = 2;

/// A driver that is set to this bitrate, bit/s, is wedged: it takes pictures and gives none. A trial has nothing else to name one by.
const WEDGED: i32 = 666_000;
/// At this one it gives nothing more after ten pictures.
const STOPS: i32 = 667_000;
/// At this one it forgets its first picture, the keyframe, but for what the decoder has to know.
const LOSES_THE_FIRST: i32 = 668_000;

#[derive(Debug, Default)]
struct Driver {
    /// What was set, in this order.
    controls: Vec<(String, i32)>,
    io_modes: [String; 2],
    /// Pictures until the keyframe that was asked for.
    due: Option<u32>,
}

#[derive(Debug, Default)]
struct StandIn(Mutex<Driver>);

#[glib::object_subclass]
impl ObjectSubclass for StandIn {
    const NAME: &'static str = "StandInV4l2H264Enc";
    type Type = Object;
    type ParentType = gst::Bin;
}

glib::wrapper! {
    struct Object(ObjectSubclass<StandIn>) @extends gst::Bin, gst::Element, gst::Object;
}

impl ObjectImpl for StandIn {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: std::sync::OnceLock<Vec<glib::ParamSpec>> = std::sync::OnceLock::new();
        PROPERTIES.get_or_init(|| {
            vec![
                glib::ParamSpecBoxed::builder::<gst::Structure>("extra-controls").build(),
                glib::ParamSpecString::builder("output-io-mode").build(),
                glib::ParamSpecString::builder("capture-io-mode").build(),
            ]
        })
    }

    fn set_property(&self, _: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let text = || value.get::<String>().unwrap();
        match pspec.name() {
            "output-io-mode" => self.0.lock().unwrap().io_modes[0] = text(),
            "capture-io-mode" => self.0.lock().unwrap().io_modes[1] = text(),
            _ => self.control(&value.get::<gst::Structure>().unwrap()),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        // Another colorimetry than it was told of it does not negotiate (firmware#1885).
        let colours = gst::ElementFactory::make("capsfilter")
            .property_from_str("caps", "video/x-raw,colorimetry=bt709")
            .build()
            .unwrap();
        let x264 = gst::ElementFactory::make("x264enc")
            .name("x264")
            .property_from_str("tune", "zerolatency")
            .property_from_str("speed-preset", "ultrafast")
            .property("key-int-max", 100_000u32)
            .property_from_str("option-string", "scenecut=0")
            .build()
            .unwrap();
        let bin = self.obj();
        bin.add_many([&colours, &x264]).unwrap();
        colours.link(&x264).unwrap();
        for (element, name) in [(&colours, "sink"), (&x264, "src")] {
            let pad = gst::GhostPad::with_target(&element.static_pad(name).unwrap()).unwrap();
            bin.add_pad(&pad).unwrap();
        }
        self.be_late();
        self.hang();
    }
}

impl GstObjectImpl for StandIn {}
impl ElementImpl for StandIn {}
impl BinImpl for StandIn {}

impl StandIn {
    /// Sets the controls one by one, as the element does.
    fn control(&self, controls: &gst::Structure) {
        let mut driver = self.0.lock().unwrap();
        for (name, value) in controls.iter() {
            let value = value.get::<i32>().unwrap();
            match name.as_str() {
                // It falls through and overwrites the headers' setting.
                "video_bitrate_mode" => driver
                    .controls
                    .retain(|(name, _)| name != "repeat_sequence_header"),
                "video_bitrate" => {
                    let x264 = self.obj().by_name("x264").unwrap();
                    x264.set_property("bitrate", value as u32 / 1000);
                }
                _ => {}
            }
            driver.controls.push((name.to_string(), value));
        }
    }

    /// A request for a keyframe is obeyed late.
    fn be_late(&self) {
        let weak = self.obj().downgrade();
        let sink = self.obj().static_pad("sink").unwrap();
        let kinds = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER;
        sink.add_probe(kinds, move |pad, info| {
            let Some(encoder) = weak.upgrade() else {
                return gst::PadProbeReturn::Ok;
            };
            let mut driver = encoder.imp().0.lock().unwrap();
            let structure = info.event().and_then(|event| event.structure());
            let forced = structure.is_some_and(|it| it.name() == "GstForceKeyUnit");
            if forced {
                if driver.due.replace(LATE).is_none() {
                    info.data = None;
                    return gst::PadProbeReturn::Handled;
                }
                // It is our own.
                driver.due = None;
                return gst::PadProbeReturn::Ok;
            }
            if info.buffer().is_some() {
                match driver.due {
                    Some(0) => {
                        drop(driver);
                        let event = gst_video::DownstreamForceKeyUnitEvent::builder();
                        pad.send_event(event.all_headers(true).build());
                    }
                    Some(left) => driver.due = Some(left - 1),
                    None => {}
                }
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Too slow, too low a level, or a fault: it takes pictures and gives none, or not all.
    fn hang(&self) {
        let src = self.obj().static_pad("src").unwrap();
        let weak = self.obj().downgrade();
        let given = AtomicU32::new(0);
        src.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
            let Some(encoder) = weak.upgrade() else {
                return gst::PadProbeReturn::Ok;
            };
            let bitrate = control(&encoder.imp().0.lock().unwrap(), "video_bitrate");
            let number = given.fetch_add(1, Relaxed);
            let lost = match bitrate {
                Some(WEDGED) => true,
                Some(STOPS) => number >= 10,
                Some(LOSES_THE_FIRST) => number == 0,
                _ => false,
            };
            if lost {
                return gst::PadProbeReturn::Drop;
            }
            let caps = pad.current_caps().unwrap();
            let structure = caps.structure(0).unwrap();
            let level: f64 = structure.get::<&str>("level").unwrap().parse().unwrap();
            let rate = structure.get::<gst::Fraction>("framerate").unwrap();
            if level < 3.0 || rate.numer() < 9 * rate.denom() {
                return gst::PadProbeReturn::Drop;
            }
            gst::PadProbeReturn::Ok
        });
    }
}

/// Registers the stand-in for the tests of this process.
fn hardware() {
    static ONCE: Once = Once::new();
    gst::init().unwrap();
    ONCE.call_once(|| {
        gst::Element::register(None, "v4l2h264enc", gst::Rank::NONE, Object::static_type())
            .unwrap();
    });
}

fn on_hardware(config: Config) -> Config {
    Config {
        encoder: Choice {
            encoder: Kind::V4l2h264enc,
            reason: Reason::Measured,
        },
        ..config
    }
}

fn driver<T>(programme: &Programme, look: impl FnOnce(&Driver) -> T) -> T {
    let element = programme.encoder.downcast_ref::<Object>().unwrap();
    look(&element.imp().0.lock().unwrap())
}

fn control(driver: &Driver, name: &str) -> Option<i32> {
    let mut set = driver.controls.iter().rev();
    set.find(|(it, _)| it == name).map(|(_, value)| *value)
}

#[test]
fn keyframes_that_come_late_make_segments_that_are_whole() {
    hardware();
    let config = on_hardware(config((640, 360), 1000, 1));
    let published = encode(&config, 6, confetti, |number, programme| {
        let kbps = [(90, 2000)].into_iter().find(|(at, _)| *at == number);
        if let Some((_, kbps)) = kbps {
            programme.set_video_bitrate(kbps);
        }
        let expected = if number < 90 { 1_000_000 } else { 2_000_000 };
        driver(programme, |driver| {
            assert_eq!(control(driver, "video_bitrate"), Some(expected));
            assert_eq!(control(driver, "repeat_sequence_header"), Some(1));
            // No keyframes of its own, and B-frames are never asked for: they would have to be put in order.
            assert_eq!(control(driver, "h264_i_frame_period"), Some(100_000));
            assert_eq!(control(driver, "video_b_frames"), None);
            // It keeps its own least, which bounds how large a picture becomes.
            assert_eq!(control(driver, "h264_minimum_qp_value"), None);
            assert_eq!(driver.io_modes, ["mmap", "mmap"]);
        });
    });
    // A bitrate that changes keeps the init segment.
    assert_eq!(published.inits, 1);
    // Its first picture is a keyframe anyway, and the one that was asked for at the start comes late.
    assert_eq!(published.judged.len(), 6 + 1);
    assert_eq!(published.segments.len(), 6);
    let total: Duration = published.segments.iter().map(|(_, length)| *length).sum();
    // Each is rounded to nanoseconds.
    assert!(total.abs_diff(Duration::from_secs(6)) < Duration::from_micros(1));
    let late = Duration::from_secs(LATE.into()) / FPS;
    for (number, (_, length)) in published.segments.iter().enumerate() {
        let expected = match number {
            0 => config.segment + late,
            5 => config.segment - late,
            _ => config.segment,
        };
        let off = length.abs_diff(expected);
        assert!(off < Duration::from_millis(1), "{number}: {length:?}");
    }
}

#[test]
fn an_encoder_is_taken_only_if_it_encodes() {
    hardware();
    let check = |width, height, fps, v4l2, expected: Option<&str>| {
        let job = Job {
            width,
            height,
            fps,
            kbps: 500,
        };
        let trial = Trial {
            jobs: vec![job],
            segment: Duration::from_secs(1),
            v4l2,
            x264: false,
            cores: 1,
        };
        let Findings { v4l2, x264 } = try_out(&trial).unwrap();
        assert_eq!(v4l2.as_deref(), expected, "{width}x{height} at {fps}");
        assert_eq!(x264, []);
    };
    check(320, 180, 9, true, None);
    check(320, 180, 9, false, Some("not wanted"));
    check(
        330,
        180,
        9,
        true,
        Some("it is not made for a width that is no multiple of 32"),
    );
    let above = "it is not made for more than level 4: 1080p30";
    check(1920, 1080, 60, true, Some(above));
}

#[test]
fn an_encoder_that_gives_too_little_is_refused_with_what_it_gave() {
    hardware();
    let check = |bitrate: i32, expected| {
        let job = |kbps| Job {
            width: 320,
            height: 180,
            fps: 30,
            kbps,
        };
        let trial = Trial {
            // One of two is enough.
            jobs: vec![job(500), job(bitrate as u32 / 1000)],
            segment: Duration::from_secs(1),
            v4l2: true,
            x264: false,
            cores: 1,
        };
        assert_eq!(try_out(&trial).unwrap().v4l2.as_deref(), Some(expected));
    };
    check(WEDGED, "it made 0 of 30 pictures");
    check(STOPS, "it made 10 of 30 pictures");
    check(LOSES_THE_FIRST, "it does not begin with a keyframe");
}

/// A programme on the hardware, with a picture and a second of sound in it.
fn start(config: Config, matrix: Matrix) -> (Programme, mpsc::Receiver<Event>) {
    hardware();
    let (sender, events) = mpsc::channel(256);
    let mut programme =
        Programme::start(&on_hardware(config.clone()), matrix, 1, &sender, || {}).unwrap();
    let size = usize::from(config.width) * usize::from(config.height) * 3 / 2;
    let mut picture = gst::Buffer::from_slice(vec![128; size]);
    picture.make_mut().set_pts(gst::ClockTime::ZERO);
    programme.push_video(picture, true);
    (programme, events)
}

#[test]
fn a_hardware_that_is_insisted_on_gets_what_it_is_not_rated_for() {
    let config = Config {
        fps: 60,
        ..config((1920, 1080), 6000, 1)
    };
    let (programme, mut events) = start(config, Matrix::Bt709);
    let made = loop {
        match events.blocking_recv().expect("media go on") {
            Event::VideoConfig { config, .. } => break config,
            Event::ProgrammeFailed { why, .. } => panic!("{why}"),
            _ => {}
        }
    };
    assert_eq!((made.width, made.height), (1920, 1080));
    // AVCLevelIndication (ISO/IEC 14496-15, 5.3.3.1.2).
    assert_eq!(made.avcc[3], 42);
    let caps = programme.encoder.static_pad("src").unwrap().current_caps();
    let caps = caps.unwrap();
    let negotiated = caps.structure(0).unwrap();
    assert_eq!(negotiated.get("level"), Ok("4.2"));
    assert_eq!(negotiated.get("profile"), Ok(V4L2_PROFILE));
}

#[test]
fn pictures_in_bt601_are_brought_into_what_the_hardware_negotiates() {
    // It would not take them as they are.
    let (_programme, mut events) = start(config((320, 180), 300, 1), Matrix::Bt601);
    match events.blocking_recv().expect("media go on") {
        Event::ProgrammeFailed { why, .. } => {
            assert_eq!(why, "Internal data stream error. (video-feed)");
        }
        other => panic!("{other:?}"),
    }
    let signal = Handle::new(Signal {
        colorimetry: Matrix::Bt601.colorimetry(),
        ..Signal::default()
    });
    let config = Config {
        source: Source::Signal(signal),
        ..on_hardware(config((320, 180), 300, 1))
    };
    let (sender, mut events) = mpsc::channel(256);
    let media = crate::Media::start(config, sender).unwrap();
    let mut next = || events.blocking_recv().expect("media go on");
    // From then on the conductor knows how they come.
    while !matches!(next(), Event::Picture(_)) {}
    media.start_programme(1);
    loop {
        match next() {
            Event::Video { .. } => break,
            Event::ProgrammeFailed { why, .. } => panic!("{why}"),
            _ => {}
        }
    }
    drop(events);
    media.shutdown();
}

#[test]
fn presets_are_measured_until_one_is_too_dear() {
    hardware();
    let job = Job {
        width: 160,
        height: 90,
        fps: 10,
        kbps: 200,
    };
    let trial = |cores| Trial {
        jobs: vec![job, job],
        segment: Duration::from_secs(1),
        v4l2: false,
        x264: true,
        cores,
    };
    // All of them, where there is room.
    let all = try_out(&trial(1000)).unwrap().x264;
    let presets: Vec<Preset> = all.iter().map(|(preset, _)| *preset).collect();
    assert_eq!(presets, Preset::ALL);
    assert!(all.iter().all(|(_, cost)| *cost > 0.0), "{all:?}");
    // None but the first, where there is none.
    let one = try_out(&trial(0)).unwrap().x264;
    assert_eq!(one.len(), 1);
}

#[test]
fn a_hardware_that_gives_nothing_on_air_is_replaced() {
    hardware();
    let (sender, mut events) = mpsc::channel(256);
    // At eight pictures a second it hangs, and a trial would have said so.
    let config = Config {
        fps: 8,
        ..on_hardware(config((320, 180), 300, 1))
    };
    let media = crate::Media::start(config, sender).unwrap();
    let mut choices = Vec::new();
    media.start_programme(1);
    loop {
        match events.blocking_recv().expect("media go on") {
            Event::Encoder(choice) => choices.push(choice.reason),
            // The second one had more time.
            Event::ProgrammeFailed { run, why } if run <= 2 => {
                assert_eq!(why, "video stuck");
                media.start_programme(run + 1);
            }
            Event::Video { run, .. } => {
                assert_eq!(run, 3);
                break;
            }
            _ => {}
        }
    }
    // It was told at once, whichever event came first.
    while choices.len() < 2 {
        if let Event::Encoder(choice) = events.blocking_recv().expect("media go on") {
            choices.push(choice.reason);
        }
    }
    assert_eq!(choices, [Reason::Measured, Reason::Fallback]);
    drop(events);
    media.shutdown();
}
