//! Sizes: what rate control makes of the worst pictures, with ffprobe as the judge. Pictures come as fast as they are encoded,
//! so the results are the same on every machine.

mod two_videos;
mod v4l2;

use std::process::{Command, Stdio};

use stream::media::Rendition;
use stream::rate::{BOUND_PERCENT, SizeWatch};
use stream::segmenter::{Output, Segmenter, Settings};
use stream::timeline::EPOCH;

use super::*;

const FPS: u32 = 30;

/// Draws picture `number` into an I420 buffer that holds the one before; `width` is that of its luma.
type Pattern = fn(number: u64, width: usize, picture: &mut [u8]);

/// Xorshift, from a seed that may be any number.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for eight in bytes.chunks_mut(8) {
            eight.copy_from_slice(&self.next().to_le_bytes()[..eight.len()]);
        }
    }
}

/// Every pixel another in every picture.
fn noise(number: u64, _: usize, picture: &mut [u8]) {
    Random::new(number).fill(picture);
}

/// A thousand pieces of paper, elsewhere in every picture.
fn confetti(number: u64, width: usize, picture: &mut [u8]) {
    const SIDE: usize = 6;
    picture.fill(128);
    let height = picture.len() * 2 / 3 / width;
    let mut random = Random::new(number);
    for _ in 0..1000 {
        let place = random.next();
        let x = place as usize % (width - SIDE);
        let y = (place >> 24) as usize % (height - SIDE);
        for row in 0..SIDE {
            let start = (y + row) * width + x;
            picture[start..start + SIDE].fill((place >> 56) as u8);
        }
    }
}

/// A sharp picture that is another one every second, in the middle of the segments.
fn cuts(number: u64, _: usize, picture: &mut [u8]) {
    if number == 0 || number % u64::from(FPS) == u64::from(FPS) / 2 {
        Random::new(number).fill(picture);
    }
}

/// What was published of the video.
struct Published {
    /// Bytes and length of each segment.
    segments: Vec<(u64, Duration)>,
    inits: usize,
    /// Bytes of the pictures of each segment, as ffprobe counts them.
    judged: Vec<u64>,
}

/// Encodes `seconds` of a pattern; before each picture `each` may change something.
fn encode(
    config: &Config,
    seconds: u32,
    pattern: Pattern,
    each: impl Fn(u32, &Programme),
) -> Published {
    gst::init().unwrap();
    let (sender, mut events) = mpsc::channel(64);
    let mut programme = Programme::start(config, Matrix::default(), 1, &sender, || {}).unwrap();
    let mut segmenter = Some(Segmenter::new(Settings {
        segment: config.segment,
        part: config.segment / 4,
        frame: Duration::from_secs(1) / FPS,
        low: config.low.is_some(),
    }));
    let mut out = Vec::new();
    let mut take = |event: Event| {
        let cutter = segmenter.as_mut().expect("nothing comes after the end");
        match event {
            Event::VideoConfig {
                rendition, config, ..
            } => cutter.configure_video(rendition, config, &mut out),
            Event::AudioConfig { config, .. } => cutter.configure_audio(config, &mut out),
            Event::Video {
                rendition, unit, ..
            } => cutter.push_video(rendition, unit, &mut out),
            Event::Audio { frame, .. } => cutter.push_audio(frame, &mut out),
            Event::ProgrammeEnded { .. } => segmenter.take().unwrap().finish(&mut out),
            other => panic!("{other:?}"),
        }
        .expect("the segmenter takes what the programme makes");
        segmenter.is_some()
    };
    let (width, height) = (usize::from(config.width), usize::from(config.height));
    let mut picture = vec![128; width * height * 3 / 2];
    let per_segment = config.segment.as_secs() as u32 * FPS;
    for number in 0..seconds * FPS {
        each(number, &programme);
        let at = EPOCH + Duration::from_secs(number.into()) / FPS;
        let time = |duration: Duration| gst::ClockTime::from_nseconds(duration.as_nanos() as u64);
        if number % FPS == 0 {
            let mut second = gst::Buffer::from_slice(vec![0; SAMPLE_RATE as usize * 4]);
            second.get_mut().unwrap().set_pts(time(at));
            programme.push_audio(second);
        }
        pattern(number.into(), width, &mut picture);
        let mut buffer = gst::Buffer::from_slice(picture.clone());
        buffer.get_mut().unwrap().set_pts(time(at));
        programme.push_video(buffer, number % per_segment == 0);
        // Never so many that one would be left out.
        while programme.video.current_level_buffers() >= programme.queue / 4 {
            take(events.blocking_recv().expect("media go on"));
        }
    }
    programme.end();
    while take(events.blocking_recv().expect("media go on")) {}

    let mut published = Published {
        segments: Vec::new(),
        inits: 0,
        judged: Vec::new(),
    };
    let mut file = Vec::new();
    let mut bytes = 0;
    for output in out {
        match output {
            Output::Init(init) if init.rendition == Rendition::Video => {
                published.inits += 1;
                file.extend_from_slice(&init.bytes);
            }
            Output::Part(part) if part.rendition == Rendition::Video => {
                bytes += part.bytes.len() as u64;
                file.extend_from_slice(&part.bytes);
            }
            Output::Segment(segment) if segment.rendition == Rendition::Video => {
                let size = std::mem::take(&mut bytes);
                published.segments.push((size, segment.duration.duration()));
            }
            _ => {}
        }
    }
    published.judged = judge(&file);
    published
}

/// Sums of the packets from one keyframe to the next.
fn judge(file: &[u8]) -> Vec<u64> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    std::fs::write(&path, file).unwrap();
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_entries",
            "packet=size,flags",
            "-of",
            "csv=p=0",
        ])
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("ffprobe: {error}; run `make deps-test`"));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let mut sums = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut fields = line.split(',');
        let size: u64 = fields.next().unwrap().parse().unwrap();
        if fields.next().unwrap().starts_with('K') {
            sums.push(0);
        }
        *sums.last_mut().expect("a keyframe comes first") += size;
    }
    sums
}

fn config(size: (u16, u16), kbps: u32, segment: u64) -> Config {
    Config {
        name: "Sizes".into(),
        source: Source::Test,
        width: size.0,
        height: size.1,
        fps: FPS,
        video_bitrate_kbps: kbps,
        encoder: stream::encoder::Choice::default(),
        low: None,
        audio_bitrate_kbps: 128,
        segment: Duration::from_secs(segment),
        av_offset_ms: 0,
    }
}

/// Hundredths of the nominal size of a segment.
fn percent(bytes: u64, kbps: u32, segment: Duration) -> u64 {
    bytes * 800 / (u64::from(kbps) * segment.as_millis() as u64)
}

#[test]
fn no_segment_is_larger_than_promised_whatever_is_in_the_picture() {
    let patterns: [(&str, Pattern); 3] = [("noise", noise), ("confetti", confetti), ("cuts", cuts)];
    for (size, kbps, segment) in [
        ((1280, 720), 3000, 2),
        ((640, 360), 300, 1),
        ((640, 360), 8000, 1),
    ] {
        let config = config(size, kbps, segment);
        for (name, pattern) in patterns {
            let published = encode(&config, 6, pattern, |_, _| {});
            let mut watch = SizeWatch::new(config.segment, kbps);
            let shares: Vec<_> = (published.segments.iter())
                .map(|(bytes, _)| percent(*bytes, kbps, config.segment))
                .collect();
            for (bytes, duration) in &published.segments {
                assert_eq!(
                    watch.check(*bytes, *duration, true),
                    None,
                    "{name} {shares:?}"
                );
            }
            assert_eq!(published.judged.len(), published.segments.len());
            for bytes in &published.judged {
                let share = percent(*bytes, kbps, config.segment);
                assert!(share <= u64::from(BOUND_PERCENT), "{name}: {share} %");
            }
            // The test would prove nothing if the encoder had nothing to do.
            assert!(shares.iter().any(|share| *share > 60), "{name}: {shares:?}");
        }
    }
}

#[test]
fn a_bitrate_that_changes_keeps_the_init_segment_and_the_bound_within_a_segment() {
    let segment = Duration::from_secs(1);
    let config = config((640, 360), 2000, 1);
    // Picture, bitrate: at the start of a segment, in the middle of one, and to both ends of what may be asked for.
    let changes = [(60, 500), (135, 4000), (210, 100), (285, 20_000)];
    let published = encode(&config, 12, noise, |number, programme| {
        if let Some((_, kbps)) = changes.iter().find(|(at, _)| *at == number) {
            programme.set_video_bitrate(*kbps);
        }
    });
    assert_eq!(published.inits, 1, "the segmenter refuses another one");
    let mut watch = SizeWatch::new(segment, 2000);
    let mut kbps = 2000;
    for (i, (bytes, duration)) in published.segments.iter().enumerate() {
        let pictures = i as u32 * FPS..(i as u32 + 1) * FPS;
        let change = changes.iter().find(|(at, _)| pictures.contains(at));
        if let Some((_, to)) = change {
            kbps = *to;
            watch.set(kbps);
        }
        let share = percent(*bytes, kbps, segment);
        let found = watch.check(*bytes, *duration, true);
        let whole = change.is_none_or(|(at, _)| *at == pictures.start);
        if whole {
            assert_eq!(found, None, "segment {i}");
            assert!(
                share > 40 || kbps == 100,
                "segment {i} takes up what it may: {share} %"
            );
        }
    }
    assert_eq!(published.judged.len(), published.segments.len());
}
