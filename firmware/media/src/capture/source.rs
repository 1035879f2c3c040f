//! What captures as GStreamer describes it: the source's pipeline, and which of a card's formats it takes.

use std::sync::{Mutex, PoisonError};

use gst::prelude::*;
use stream::input::{self, Pixels};

use super::element;
use crate::cards::{self, Bridge, Card};
use crate::jpeg;
use crate::matrix::Matrix;
use crate::signal::Handle;
use crate::slate::raw_video_caps;
use crate::{Config, Source};

/// The pipeline from the source to the two appsinks, before it is told of files and devices. A card's sound may be left out.
pub(super) fn description(config: &Config, sound: bool) -> String {
    let (width, height, fps) = (config.width, config.height, config.fps);
    // A card sets the pace, and what nobody takes is lost; a file waits for the clock. A card whose picture is missing from the
    // start must not hold up its sound: without async=false the sound waited for the first picture and then came all at
    // once (measured).
    let sync = matches!(config.source, Source::File(_));
    let drop = !sync;
    let video = format!(
        "identity name=input ! videorate drop-only=true max-rate={fps} ! videoconvert ! videoscale add-borders=true ! capsfilter name=raw caps=\"{}\" \
         ! appsink name=video max-buffers=3 drop={drop} sync={sync} async={sync}",
        raw_video_caps(config, Matrix::default())
    );
    let audio = format!(
        "audioconvert ! audioresample ! audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved \
         ! level interval=100000000 ! appsink name=audio max-buffers=200 drop={drop} sync={sync} async={sync}"
    );
    match &config.source {
        Source::Test => {
            let (big, small) = (height / 12, height / 24);
            format!(
                "videotestsrc is-live=true pattern=smpte horizontal-speed=2 \
                 ! video/x-raw,format=I420,width={width},height={height},framerate={fps}/1,colorimetry=bt709 \
                 ! identity name=stamp ! clockoverlay time-format=\"%H:%M:%S\" halignment=center valignment=center shaded-background=true font-desc=\"Monospace {big}px\" \
                 ! timeoverlay halignment=center valignment=bottom shaded-background=true font-desc=\"Monospace {small}px\" \
                 ! {video} \
                 audiotestsrc is-live=true wave=ticks sine-periods-per-tick=100 freq=1000 volume=0.5 samplesperbuffer=480 \
                 ! audio/x-raw,rate=48000,channels=2 ! {audio}"
            )
        }
        Source::File(_) => format!(
            "filesrc name=file ! decodebin name=decode \
             queue name=video-in ! {video} \
             queue name=audio-in ! {audio}"
        ),
        Source::Signal(_) => {
            let (flash, beep) = Handle::description();
            format!("{flash} ! {video} {beep} ! {audio}")
        }
        // On the machine's own clock: the sound's stands still where the sound does, and pictures with it. The timestamps of both are the
        // kernel's.
        Source::Card(_) => {
            let picture = format!(
                "v4l2src name=card ! capsfilter name=format ! decodebin name=decode queue name=video-in ! {video}"
            );
            match sound {
                true => format!(
                    "{picture} alsasrc name=sound provide-clock=false queue name=sound-in ! {audio}"
                ),
                false => picture,
            }
        }
    }
}

/// Opens the card, asks what it has, and settles on a format. It stays open for the pipeline: a stick takes its time to tell its table.
pub(super) fn settle_picture(
    pipeline: &gst::Pipeline,
    config: &Config,
    card: &Card,
) -> Result<(), String> {
    let source = element(pipeline, "card")?;
    source.set_property("device", card.video.to_string_lossy().as_ref());
    let offered = opened_caps(&source);
    let offers = offered.map(|caps| cards::offers(&caps)).unwrap_or_default();
    let format: gst::Caps = (card.bridge.as_ref())
        .map_or_else(
            || input_caps(config, &offers, jpeg::hardware()),
            bridged_caps,
        )
        .parse()
        .map_err(|_| "the card's format has no name")?;
    element(pipeline, "format")?.set_property("caps", format);
    Ok(())
}

/// Likewise of its sound.
pub(super) fn settle_sound(pipeline: &gst::Pipeline, card: &Card) -> Result<(), String> {
    let (sound, queue) = (element(pipeline, "sound")?, element(pipeline, "sound-in")?);
    sound.set_property("device", &card.audio);
    let linked = if opened_caps(&sound).is_some_and(|caps| cards::is_stereo_called_mono(&caps)) {
        tracing::info!("the card calls its sound 96 kHz mono; it is 48 kHz stereo");
        let fix = gst::parse::bin_from_description(STEREO_CALLED_MONO, true)
            .map_err(|error| error.message().to_owned())?;
        pair_samples(&fix.static_pad("sink").ok_or("no sound's pad")?);
        pipeline
            .add(&fix)
            .and_then(|()| gst::Element::link_many([&sound, fix.upcast_ref(), &queue]))
    } else {
        sound.link(&queue)
    };
    linked.map_err(|error| error.to_string())
}

/// Gives sound that a card calls mono at twice its rate its true name.
const STEREO_CALLED_MONO: &str = "capsfilter caps=audio/x-raw,format=S16LE,rate=96000,channels=1 ! capssetter join=false \
     caps=\"audio/x-raw,format=S16LE,layout=interleaved,rate=48000,channels=2,channel-mask=(bitmask)3\"";

/// Bytes of such sound: of a sample, and of a pair, left first.
const SAMPLE: usize = 2;
const PAIR: usize = 2 * SAMPLE;

/// Puts the samples of one life of such sound into pairs: its first is left out, and what is half a pair waits for the next buffer.
///
/// An MS2109 begins with a right sample that has no left one: `R LR LR …` (ToadKing/mono-to-stereo, issue 2). Linux leaves it out for
/// the two chips that it knows by their numbers (sound/usb/quirks.c, `stream_offset_adj`), and those say stereo by the time that they
/// come here. What still says mono is most likely the same chip whose EEPROM has other numbers, so the same is the best guess, though
/// issue 4 there tells of cards whose sides are swapped by it. The sound does not tell: sides a sample apart are also two microphones at
/// 7 mm from each other.
///
/// What is lost on the way keeps the sides, so nothing begins anew at a DISCONT, which does not come for all of it anyhow: alsasrc takes up
/// an overrun without a word. Lost are whole segments, of 10 ms by alsasrc's default and so of 960 samples, or in the kernel all up to a
/// packet's beginning, and packets are pairs moved by one sample (board/README.md says how that is checked).
#[derive(Debug, Default)]
struct Pairs {
    begun: bool,
    /// What came and is no whole pair yet.
    rest: Vec<u8>,
}

impl Pairs {
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        if !self.begun && self.rest.len() >= SAMPLE {
            self.begun = true;
            self.rest.drain(..SAMPLE);
        }
        let whole = self.rest.len() / PAIR * PAIR;
        let rest = self.rest.split_off(whole);
        std::mem::replace(&mut self.rest, rest)
    }
}

/// Has [`Pairs`] put what comes through a pad in order.
fn pair_samples(pad: &gst::Pad) {
    let pairs = Mutex::new(Pairs::default());
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(buffer) = info.buffer_mut() else {
            return gst::PadProbeReturn::Ok;
        };
        let Ok(bytes) = buffer.map_readable() else {
            return gst::PadProbeReturn::Drop;
        };
        let mut pairs = pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut paired = gst::Buffer::from_mut_slice(pairs.push(&bytes));
        drop(bytes);
        // All of it but its length: half a pair is ten microseconds.
        let about = gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::FLAGS;
        match (paired.get_mut()).map(|paired| buffer.copy_into(paired, about, ..)) {
            Some(Ok(())) => *buffer = paired,
            _ => return gst::PadProbeReturn::Drop,
        }
        gst::PadProbeReturn::Ok
    });
}

/// Which of the card's formats to take, as caps: the best that it offers, or what it likes where it does not say.
fn input_caps(config: &Config, offers: &[input::Offer], hardware_jpeg: bool) -> String {
    let (width, height, fps) = (config.width.into(), config.height.into(), config.fps.into());
    let Some(best) = input::choose(offers, width, height, fps, hardware_jpeg) else {
        return "video/x-raw;image/jpeg".into();
    };
    tracing::info!(?best, "input format");
    let name = match best.pixels {
        Pixels::Nv12 => "video/x-raw,format=NV12",
        Pixels::Raw => "video/x-raw",
        Pixels::Mjpeg => "image/jpeg",
    };
    let rate = (best.fps * 1000.0).round() as i32;
    // Rates are fractions in the card's own words, so they are given as a range around the one that was chosen.
    format!(
        "{name},width={},height={},framerate=[{}/1000,{}/1000]",
        best.width,
        best.height,
        (rate - 20).max(1),
        rate + 20
    )
}

/// Raw pictures in V4L2's names and in GStreamer's: packed as the usual bus does it, or as another driver can.
const RAW: [(&str, &str); 5] = [
    ("UYVY", "UYVY"),
    ("YUYV", "YUY2"),
    ("NV12", "NV12"),
    ("BGR3", "BGR"),
    ("RGB3", "RGB"),
];

/// What a bridge gives is what it was set to.
fn bridged_caps(bridge: &Bridge) -> String {
    let node = bridge.format.as_ref();
    let (width, height) = (bridge.width, bridge.height);
    let formats: String = RAW
        .iter()
        .filter(|(pixels, _)| node.is_none_or(|node| node.pixels == *pixels))
        .map(|(_, format)| format!("video/x-raw,format={format},width={width},height={height};"))
        .collect();
    // A node that was told its format has the colours that one asks it for, and GStreamer would guess them by the size.
    let colours = match node.and_then(|node| node.colorspace.as_deref()) {
        Some("smpte170m") => "bt601",
        Some("rec709") => "bt709",
        _ => return formats,
    };
    formats.replace(';', &format!(",colorimetry={colours};")) + &formats
}

/// Opens a source's device, and what it can do then, from its driver. A device that cannot be opened says why when the pipeline starts.
fn opened_caps(source: &gst::Element) -> Option<gst::Caps> {
    source.set_state(gst::State::Ready).ok()?;
    source.static_pad("src").map(|pad| pad.query_caps(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::launch;
    use crate::cards::NodeFormat;

    #[test]
    fn a_bridge_s_node_is_asked_for_what_it_was_set_to() {
        gst::init().unwrap();
        let check = |format: Option<(&str, &str)>, expected: &[&str]| {
            let bridge = Bridge {
                device: "/dev/v4l-subdev2".into(),
                width: 1280,
                height: 720,
                rate: 60_000,
                format: format.map(|(pixels, colorspace)| NodeFormat {
                    pixels: pixels.into(),
                    colorspace: Some(colorspace.into()),
                }),
            };
            let caps: gst::Caps = bridged_caps(&bridge).parse().unwrap();
            let found: Vec<_> = caps
                .iter()
                .map(|caps| {
                    let format: &str = caps.get("format").unwrap();
                    let colours: &str = caps.get("colorimetry").unwrap_or("any");
                    format!("{format} {colours}")
                })
                .collect();
            assert_eq!(found, expected);
        };
        check(
            None,
            &["UYVY any", "YUY2 any", "NV12 any", "BGR any", "RGB any"],
        );
        check(Some(("UYVY", "smpte170m")), &["UYVY bt601", "UYVY any"]);
        check(Some(("RGB3", "srgb")), &["RGB any"]);
    }

    /// Buffers of a card, each with the time that it has, and what becomes of them.
    #[test]
    fn sound_that_is_called_mono_gets_its_true_name_and_its_pairs() {
        gst::init().unwrap();
        let fix = gst::parse::bin_from_description(STEREO_CALLED_MONO, true).unwrap();
        pair_samples(&fix.static_pad("sink").unwrap());
        let pipeline = launch(
            "appsrc name=in format=time caps=audio/x-raw,format=S16LE,rate=96000,channels=1,layout=interleaved \
             appsink name=out sync=false",
        )
        .unwrap();
        let element = |name| pipeline.by_name(name).unwrap();
        pipeline.add(&fix).unwrap();
        gst::Element::link_many([&element("in"), fix.upcast_ref(), &element("out")]).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let source: gst_app::AppSrc = element("in").downcast().unwrap();
        let sink: gst_app::AppSink = element("out").downcast().unwrap();
        // Right samples are negative, and the first has no left one. Each is its number, and after the third buffer a segment is lost.
        let segment = |millis: u64| {
            let first = 960 * (millis / 10) as i16 - 960;
            (first..first + 960)
                .map(|n| if n % 2 == 0 { -n } else { n })
                .flat_map(i16::to_le_bytes)
                .collect::<Vec<u8>>()
        };
        let mut given: Vec<i16> = Vec::new();
        let came = [10, 20, 30, 50, 60];
        for millis in came {
            let mut buffer = gst::Buffer::from_mut_slice(segment(millis));
            let at = gst::ClockTime::from_mseconds(millis);
            buffer.get_mut().unwrap().set_pts(at);
            if millis == 50 {
                buffer
                    .get_mut()
                    .unwrap()
                    .set_flags(gst::BufferFlags::DISCONT);
            }
            source.push_buffer(buffer).unwrap();
            let sample = sink.pull_sample().unwrap();
            let is = sample.caps().unwrap().structure(0).unwrap();
            assert_eq!(is.get::<i32>("rate"), Ok(48_000));
            assert_eq!(is.get::<i32>("channels"), Ok(2));
            let buffer = sample.buffer().unwrap();
            assert_eq!(buffer.pts(), Some(at));
            let map = buffer.map_readable().unwrap();
            let (pairs, []) = map.as_chunks::<PAIR>() else {
                panic!("{} bytes", map.len());
            };
            assert!(pairs.len() >= 479, "{}", pairs.len());
            let samples = pairs.as_flattened().as_chunks::<SAMPLE>().0;
            given.extend(samples.iter().map(|&sample| i16::from_le_bytes(sample)));
        }
        // All but the first, and the last, which has no right one yet, in their order: left, right, left, right.
        let all: Vec<u8> = came.into_iter().flat_map(segment).collect();
        let all = all.as_chunks::<SAMPLE>().0;
        let all: Vec<i16> = all.iter().map(|&it| i16::from_le_bytes(it)).collect();
        assert_eq!(given, all[1..all.len() - 1]);
        assert!((given.chunks(2)).all(|pair| pair[0] > 0 && pair[1] < 0));
        pipeline.set_state(gst::State::Null).unwrap();
    }

    #[test]
    fn pairs_are_whole_wherever_buffers_end() {
        // The stray sample, and pairs that say their number and their side.
        let pairs: Vec<u8> = (0..=u8::MAX).flat_map(|n| [n, b'l', n, b'r']).collect();
        let came = [&[b'?'; SAMPLE], &pairs[..]].concat();
        for size in [1, 2, 3, 4, 5, 7, 962, came.len()] {
            let mut taken = Pairs::default();
            let mut given = Vec::new();
            for bytes in came.chunks(size) {
                let out = taken.push(bytes);
                assert_eq!(out.len() % PAIR, 0, "{size}");
                given.extend(out);
            }
            assert_eq!(given, pairs, "{size}");
        }
    }
}
